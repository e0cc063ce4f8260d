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

function named(row, columns) {
  const raw = {};
  columns.forEach((name, index) => { raw[name] = row[index]; });
  return raw;
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
    this.before = null;
    this.time = 0;
    for (const name of SERIES) this[name] = null;
  }

  // Take in a row of the summary. time: of its node's reading, in seconds.
  update(row, columns, time, node) {
    const raw = named(row, columns);
    this.node = node;
    this.raw = raw;
    this.name = shown(raw.name);
    this.image = shown(raw.image);
    this.text = searched(raw, node);
    if (time === this.time) return;
    const again = this.before !== null && this.before.start_seconds !== raw.start_seconds;
    const seconds = time - this.time;
    const known = this.before !== null && !again && seconds > 0 && seconds < GAP_SECONDS;
    for (const [name, counter] of Object.entries(RATES)) {
      const now = raw[counter];
      const then = known ? this.before[counter] : null;
      // A counter that fell was reset: there is no rate.
      this[name] = now === null || then === null || now < then ? null : (now - then) / seconds;
    }
    this.memory = raw.memory_bytes;
    this.before = raw;
    this.time = time;
    const at = this.points % POINTS;
    this.times[at] = time;
    SERIES.forEach((name, index) => { this.history[index * POINTS + at] = this[name] === null ? NaN : this[name]; });
    this.points += 1;
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

  get limit() {
    const limit = this.raw.memory_limit_bytes;
    return limit && this.memory !== null ? this.memory / limit : null;
  }
}

class Model {
  constructor() {
    this.containers = new Map();
    this.ended = []; // those that have ended: { raw, node, text }
    this.nodes = [];
  }

  update(summary) {
    const there = new Set();
    const end = summary.columns.indexOf("end_seconds");
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
        if (end >= 0 && row[end] !== null) {
          const raw = named(row, summary.columns);
          ended.push({ raw, node, text: searched(raw, node) });
          continue;
        }
        there.add(key);
        let one = this.containers.get(key);
        if (one === undefined) this.containers.set(key, one = new Container(key));
        one.update(row, summary.columns, node.time, node);
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
