"use strict";
// One container: its facts and its charts.

// Steps of an axis of bytes.
const POWERS = Array.from({ length: 60 }, (_, power) => 2 ** power);
const CHARTS = [
  { title: "CPU cores", text: cores, lines: [["cpu", "in use"], ["throttled", "throttled"]] },
  { title: "Memory", text: bytes, incrs: POWERS, lines: [["memory", "working set"]] },
  { title: "Network", text: bytesPerSecond, incrs: POWERS, lines: [["receive", "receive"], ["transmit", "transmit"]] },
  { title: "Block devices", text: bytesPerSecond, incrs: POWERS, lines: [["read", "read"], ["write", "write"]] },
  { title: "Time some task waited", text: percent, lines: [["cpuWaiting", "for a CPU"], ["memoryWaiting", "for memory"], ["ioWaiting", "for I/O"]] },
];
const COLOURS = ["#3b82f6", "#e8710a", "#1e9e5a"];

class Details {
  constructor(section, name, facts, charts) {
    this.section = section;
    this.name = name;
    this.facts = facts;
    this.charts = charts;
    this.one = null;
    this.plots = [];
    this.latency = new Latency(charts, () => this.size());
    new ResizeObserver(() => {
      this.plots.forEach((plot) => plot.setSize(this.size()));
      this.latency.resize();
    }).observe(charts);
  }

  size() {
    const columns = getComputedStyle(this.charts).gridTemplateColumns.split(" ").length || 1;
    return { width: Math.max(200, Math.floor(this.charts.clientWidth / columns) - 16), height: 180 };
  }

  open(one) {
    this.close();
    this.one = one;
    this.section.hidden = false;
    const axis = chartAxis();
    for (const chart of CHARTS) {
      const figure = document.createElement("figure");
      const caption = document.createElement("figcaption");
      const values = chart.lines.map(([, label], index) => {
        const value = document.createElement("span");
        const key = document.createElement("i");
        key.className = "key";
        key.style.background = COLOURS[index];
        caption.append(index ? ", " : chart.title + ": ", ...(chart.lines.length > 1 ? [key] : []), label + " ", value);
        return value;
      });
      figure.append(caption);
      this.charts.append(figure);
      const plot = new uPlot({
        ...this.size(),
        legend: { show: false },
        cursor: { y: false },
        axes: [timeAxis(axis), { ...axis, incrs: chart.incrs, size: 80, values: (_, ticks) => ticks.map((value) => chart.text(value)) }],
        scales: { y: { range: (_, low, high) => [0, high || 1] } },
        series: [{}, ...chart.lines.map(([, label], index) => ({ label, stroke: COLOURS[index], width: 2, spanGaps: false }))],
      }, [[], ...chart.lines.map(() => [])], figure);
      plot.root.setAttribute("aria-hidden", "true");
      plot.values = values;
      plot.chart = chart;
      this.plots.push(plot);
    }
    this.draw();
    this.latency.look(one);
    this.name.focus({ preventScroll: true });
    this.section.scrollIntoView();
  }

  close() {
    this.one = null;
    this.plots.forEach((plot) => plot.destroy());
    this.plots = [];
    this.latency.close();
    this.charts.replaceChildren();
    this.section.hidden = true;
  }

  // Show what the last summary told.
  update() {
    if (this.one === null) return;
    this.draw();
    this.latency.look(this.one);
  }

  draw() {
    const one = this.one;
    const ended = model.ended.find(({ raw: { uuid } }) => uuid === one.key);
    const raw = ended === undefined ? one.raw : ended.raw;
    this.name.textContent = one.name;
    setFacts(this.facts, [
      ["UUID", raw.uuid], ["Image", one.image || NONE], ["Runtime", raw.runtime], ["State", shown(raw.state) || NONE],
      ["Health", shown(raw.health) || NONE], ["Account", shown(raw.owner) || "none"], ["Node", shown(one.node.hostname)],
      ["Started", since(raw.start_seconds)], ["Memory limit", bytes(raw.memory_limit_bytes)], ["Swap", bytes(raw.swap_bytes)],
      ["Killed for want of memory", count(raw.oom_kills)], ["Processes", count(raw.processes)],
      ...(ended === undefined ? [] : [["Ended", since(raw.end_seconds)], ["Exit code", exitCode(raw.exit_code)]]),
    ]);
    for (const plot of this.plots) {
      const found = plot.chart.lines.map(([name]) => one.series(name));
      plot.setData([found[0][0], ...found.map((pair) => pair[1])]);
      plot.values.forEach((value, index) => { value.textContent = plot.chart.text(one[plot.chart.lines[index][0]]); });
    }
  }
}

function chartAxis() {
  const line = { stroke: "rgba(128,128,128,0.25)" };
  return { stroke: () => getComputedStyle(document.body).color, grid: line, ticks: line };
}

function timeAxis(axis) {
  const text = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hourCycle: "h23" });
  return { ...axis, size: 30, space: 66, values: (_, times) => times.map(text) };
}

// Fill a definition list with pairs of a term and a text.
function setFacts(list, pairs) {
  list.replaceChildren(...pairs.map(([term, text]) => {
    const box = document.createElement("div");
    const title = document.createElement("dt");
    const value = document.createElement("dd");
    title.textContent = term;
    value.textContent = text;
    box.append(title, value);
    return box;
  }));
}
