"use strict";
// How long one container's tasks and requests wait: histograms of its metrics, as heat maps over time.

const WAITS = [
  { family: "container_cpu_run_delay_seconds", title: "Waits for a CPU" },
  { family: "container_io_latency_seconds", title: "Requests to block devices" },
];
const LATENCY_BYTES = 256 * 1024;
const LATENCY_PAUSE_MS = 10000;
const SAMPLE = /^([a-z_]+)_bucket\{(.*)\} (\d+)$/;
const LABEL = /([A-Za-z_]\w*)="((?:[^"\\]|\\.)*)",?/y;

// The histograms of an exposition by family: [bound in seconds, count] by rising bound, summed over other labels.
function histograms(text) {
  const found = new Map(WAITS.map(({ family }) => [family, new Map()]));
  for (const line of text.split("\n")) {
    const sample = SAMPLE.exec(line);
    const counts = sample && found.get(sample[1]);
    if (!counts) continue;
    LABEL.lastIndex = 0;
    for (let label = LABEL.exec(sample[2]); label; label = LABEL.exec(sample[2])) {
      if (label[1] !== "le") continue;
      const bound = label[2] === "+Inf" ? Infinity : Number(label[2]);
      counts.set(bound, (counts.get(bound) || 0) + Number(sample[3]));
    }
  }
  return new Map([...found].map(([family, counts]) => [family, [...counts].sort((one, other) => one[0] - other[0])]));
}

// The text of an answer. Throws if it is longer than LATENCY_BYTES.
async function bounded(answer) {
  const decoder = new TextDecoder();
  const reader = answer.body.getReader();
  let text = "";
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return text;
    length += value.length;
    if (length > LATENCY_BYTES) {
      await reader.cancel();
      throw new Error("more than " + bytes(LATENCY_BYTES));
    }
    text += decoder.decode(value, { stream: true });
  }
}

// One heat map. A column is the time between two answers, a row the times up to a bound, longer than the one below.
class HeatMap {
  constructor(title, bounds, charts, size) {
    this.title = title;
    this.bounds = bounds;
    this.columns = [];
    this.before = null;
    this.figure = document.createElement("figure");
    this.figure.className = "heat";
    this.caption = document.createElement("figcaption");
    this.figure.append(this.caption);
    charts.append(this.figure);
    const axis = chartAxis();
    this.plot = new uPlot({
      ...size,
      legend: { show: false },
      cursor: { show: false },
      scales: { y: { range: () => [0, bounds.length] } },
      axes: [timeAxis(axis), {
        ...axis,
        size: 80,
        splits: () => bounds.map((_, row) => row + 1).filter((row) => row % 3 === 1 && row < bounds.length),
        values: (_, rows) => rows.map((row) => duration(bounds[row - 1])),
      }],
      series: [{}, {}],
      hooks: { draw: [() => this.paint()] },
    }, [[], []], this.figure);
    this.plot.root.setAttribute("aria-hidden", "true");
  }

  // counts: of each bound and those below it. time: in seconds.
  add(time, counts) {
    const before = this.before;
    const seconds = before && time - before.time;
    this.before = { time, counts };
    if (!before || seconds <= 0 || seconds > GAP_SECONDS) {
      this.say("waiting for the next numbers");
      return;
    }
    const grown = counts.map((count, row) => count - before.counts[row]);
    // Counters that fell were reset: what was counted since is not known.
    if (grown.some((count) => count < 0)) return;
    const rates = grown.map((count, row) => (count - (row ? grown[row - 1] : 0)) / seconds);
    this.columns.push({ from: before.time, to: time, rates });
    if (this.columns.length > POINTS) this.columns.shift();
    const all = grown[grown.length - 1];
    const within = (part) => duration(this.bounds[grown.findIndex((count) => count >= all * part)]);
    this.say(all ? "half within " + within(0.5) + ", 99\u00a0% within " + within(0.99) + ", " + perSecond(all / seconds) : "none");
    this.plot.setData([[this.columns[0].from, ...this.columns.map((column) => column.to)], [null, ...this.columns.map(() => null)]]);
  }

  remove() {
    this.plot.destroy();
    this.figure.remove();
  }

  say(text) {
    this.caption.textContent = this.title + ": " + text;
  }

  paint() {
    const { ctx: pen, bbox } = this.plot;
    const most = Math.max(...this.columns.map((column) => Math.max(...column.rates)));
    pen.save();
    pen.beginPath();
    pen.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    pen.clip();
    pen.fillStyle = getComputedStyle(this.figure).color;
    for (const { from, to, rates } of this.columns) {
      const left = Math.floor(this.plot.valToPos(from, "x", true));
      const right = Math.ceil(this.plot.valToPos(to, "x", true));
      rates.forEach((rate, row) => {
        if (rate <= 0) return;
        const top = Math.round(this.plot.valToPos(row + 1, "y", true));
        const bottom = Math.round(this.plot.valToPos(row, "y", true));
        pen.globalAlpha = 0.15 + 0.85 * Math.sqrt(rate / most);
        pen.fillRect(left, top, Math.max(1, right - left - 1), Math.max(1, bottom - top - 1));
      });
    }
    pen.restore();
  }
}

// The heat maps of the container whose details are open. There are none where nothing counts.
class Latency {
  // size: returns width and height of a chart.
  constructor(charts, size) {
    this.charts = charts;
    this.size = size;
    this.note = document.createElement("p");
    this.close();
  }

  close() {
    this.asking?.abort();
    this.maps?.forEach((map) => map.remove());
    this.maps = new Map();
    this.note.textContent = "";
    this.asking = null;
    this.none = false;
    this.notBefore = 0;
  }

  resize() {
    this.maps.forEach((map) => map.plot.setSize(this.size()));
  }

  // Ask for the numbers of `one`, unless an answer is awaited or there are none.
  async look(one) {
    const collectors = one.node.collectors;
    if (this.asking || this.none || Date.now() < this.notBefore || (collectors && !collectors.container_latency)) return;
    const asking = this.asking = new AbortController();
    const query = WAITS.map(({ family }) => "name[]=" + family).join("&");
    try {
      const answer = await fetch("/v1/" + encodeURIComponent(one.raw.uuid) + "/metrics?" + query, {
        headers: { Accept: "text/plain;version=0.0.4" }, credentials: "same-origin",
        signal: AbortSignal.any([asking.signal, AbortSignal.timeout(ANSWER_MS)]),
      });
      const text = await bounded(answer);
      if (asking.signal.aborted) return;
      if (answer.ok) this.show(histograms(text));
      else this.fail(shown(text.slice(0, 200).trim()) || answer.statusText, 1000 * Number(answer.headers.get("Retry-After") || 0));
    } catch (error) {
      if (asking.signal.aborted) return;
      this.fail(error.name === "TimeoutError" ? "no answer in time" : error.message, 0);
    }
    this.asking = null;
  }

  show(found) {
    const time = (performance.timeOrigin + performance.now()) / 1000;
    this.none = [...found.values()].every((buckets) => buckets.length === 0);
    this.note.remove();
    for (const { family, title } of WAITS) {
      const buckets = found.get(family);
      if (buckets.length === 0) continue;
      let map = this.maps.get(family);
      if (map && map.bounds.length !== buckets.length) {
        map.remove(); // another version of the agent has other buckets
        map = null;
      }
      if (!map) this.maps.set(family, map = new HeatMap(title, buckets.map(([bound]) => bound), this.charts, this.size()));
      map.add(time, buckets.map(([, count]) => count));
    }
  }

  // The columns that are there stay; the time until the next answer is none.
  fail(why, pause) {
    this.notBefore = Date.now() + Math.max(pause, LATENCY_PAUSE_MS);
    if (this.maps.size === 0) {
      this.note.textContent = "Waiting times: no numbers: " + why;
      this.charts.append(this.note);
    }
    this.maps.forEach((map) => {
      map.before = null;
      map.say("no numbers: " + why);
    });
  }
}
