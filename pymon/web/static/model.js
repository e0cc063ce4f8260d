"use strict";
// What the summaries told: the last one, rates between two, and the last minutes of each container.

const POINTS = 120;
const GAP_SECONDS = 60;
const SERIES = ["cpu", "memory", "receive", "transmit", "read", "write", "throttled", "cpuWaiting", "memoryWaiting", "ioWaiting"];
const RATES = {
  cpu: "cpu_seconds", receive: "receive_bytes", transmit: "transmit_bytes", read: "read_bytes", write: "write_bytes",
  throttled: "throttled_seconds", cpuWaiting: "cpu_waiting_seconds", memoryWaiting: "memory_waiting_seconds",
  ioWaiting: "io_waiting_seconds",
};

// The items of a row, by name.
class Columns {
  constructor(names) {
    this.names = names;
    this.at = Object.fromEntries(names.map((name, index) => [name, index]));
    this.rates = SERIES.map((name) => (name in RATES ? this.at[RATES[name]] : null));
  }

  named(row) {
    return Object.fromEntries(this.names.map((name, index) => [name, row[index]]));
  }
}

// What a search looks in.
function searched(raw, node) {
  return (raw.name + " " + raw.image + " " + raw.uuid + " " + raw.owner + " " + node.hostname).toLowerCase();
}

class Container {
  constructor(key) {
    this.key = key;
    this.points = 0;
    this.times = new Float64Array(POINTS);
    this.history = new Float32Array(POINTS * SERIES.length);
    this.row = null;
    this.columns = null;
    this.time = 0;
    for (const name of SERIES) this[name] = null;
  }

  // Take in a row of the summary. time: of its node's reading, in seconds. It makes no object: there may be thousands of rows.
  update(row, columns, time, node) {
    const at = columns.at;
    const before = this.columns === columns ? this.row : null;
    const same = before !== null && before[at.name] === row[at.name] && before[at.image] === row[at.image]
      && before[at.owner] === row[at.owner] && this.node.hostname === node.hostname;
    this.row = row;
    this.columns = columns;
    this.node = node;
    if (!same) {
      this.name = shown(row[at.name]);
      this.image = shown(row[at.image]);
      this.text = searched(this.raw, node);
    }
    this.processes = row[at.processes];
    const limit = row[at.memory_limit_bytes];
    this.limit = limit && row[at.memory_bytes] !== null ? row[at.memory_bytes] / limit : null;
    if (time === this.time) return;
    const again = before !== null && before[at.start_seconds] !== row[at.start_seconds];
    const seconds = time - this.time;
    const known = before !== null && !again && seconds > 0 && seconds < GAP_SECONDS;
    const point = this.points % POINTS;
    for (let index = 0; index < SERIES.length; index += 1) {
      const counter = columns.rates[index];
      let value;
      if (counter === null) {
        value = row[at.memory_bytes];
      } else {
        // A counter that fell was reset: there is no rate.
        const now = row[counter];
        const then = known ? before[counter] : null;
        value = now === null || then === null || now < then ? null : (now - then) / seconds;
      }
      this[SERIES[index]] = value;
      this.history[index * POINTS + point] = value === null ? NaN : value;
    }
    this.time = time;
    this.times[point] = time;
    this.points += 1;
  }

  // The row as an object.
  get raw() {
    return this.columns.named(this.row);
  }

  // The last minutes of a series: [times, values], oldest first, null where there was no value.
  series(name) {
    const index = SERIES.indexOf(name);
    const length = Math.min(this.points, POINTS);
    const times = [];
    const values = [];
    for (let step = this.points - length; step < this.points; step += 1) {
      const value = this.history[index * POINTS + (step % POINTS)];
      times.push(this.times[step % POINTS]);
      values.push(Number.isNaN(value) ? null : value);
    }
    return [times, values];
  }
}

class Model {
  constructor() {
    this.containers = new Map();
    this.ended = []; // those that have ended: { raw, node, text }
    this.nodes = [];
    this.columns = null;
  }

  update(summary) {
    const there = new Set();
    if (this.columns === null || this.columns.names.join() !== summary.columns.join()) this.columns = new Columns(summary.columns);
    const columns = this.columns;
    const end = columns.at.end_seconds;
    const ended = [];
    this.nodes = summary.nodes;
    for (const node of summary.nodes) {
      if (node.error) {
        // What an absent node had stays, without rates.
        for (const [key, one] of this.containers) if (one.node.uuid === node.uuid) there.add(key);
        ended.push(...this.ended.filter((one) => one.node.uuid === node.uuid));
        continue;
      }
      for (const row of node.containers) {
        const key = row[0];
        if (end !== undefined && row[end] !== null) {
          const raw = columns.named(row);
          ended.push({ raw, node, text: searched(raw, node) });
          continue;
        }
        there.add(key);
        let one = this.containers.get(key);
        if (one === undefined) this.containers.set(key, one = new Container(key));
        one.update(row, columns, node.time, node);
      }
    }
    this.ended = ended.sort((one, other) => other.raw.end_seconds - one.raw.end_seconds);
    for (const key of this.containers.keys()) if (!there.has(key)) this.containers.delete(key);
  }

  total(name) {
    let sum = null;
    for (const one of this.containers.values()) if (one[name] !== null) sum = (sum || 0) + one[name];
    return sum;
  }
}
