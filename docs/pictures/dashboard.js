"use strict";
// Draws what dashboard.py gives, much as Grafana would.

// One for each container of scene.py, each far from the others.
const COLOURS = ["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#3274d9", "#b877d9", "#2d7a2d", "#ffa6b0", "#5fe0d8",
  "#e040b0", "#a87850", "#8a8f9c", "#ffffff"];
const HEAT_ROWS = 12;
const HEAT_COLUMN_SECONDS = 4;
const HEIGHT = 170;
const BINARY = { bytes, Bps: bytesPerSecond };
const POWERS = Array.from({ length: 60 }, (_, power) => 2 ** power);
const UNITS = {
  percentunit: (value) => (value * 100).toFixed(value === 0 || value >= 0.1 ? 0 : value >= 0.01 ? 1 : 2) + "\u00a0%",
  ...BINARY, s: duration,
  pps: (value) => value.toFixed(0) + "\u00a0p/s",
};
const plain = (value) => value.toFixed(value < 10 ? 1 : 0);

function draw(dashboard) {
  document.querySelector("h1").textContent = dashboard.title;
  for (const panel of dashboard.panels) {
    const element = document.createElement(panel.type === "row" ? "h2" : "section");
    document.querySelector("main").append(element);
    if (panel.type === "row") {
      element.textContent = panel.title;
      continue;
    }
    element.style.gridColumn = "span " + panel.width;
    element.append(Object.assign(document.createElement("h3"), { textContent: panel.title }));
    const text = UNITS[panel.unit] || plain;
    const line = { stroke: "rgba(204,204,220,0.12)", width: 1 };
    const axis = { stroke: "#a3a8b3", grid: line, ticks: { ...line, size: 4 }, font: "12px sans-serif" };
    const shared = {
      width: element.clientWidth - 20, height: HEIGHT, legend: { show: false }, cursor: { show: false },
      padding: [8, 28, 0, 0],
      axes: [{ ...axis, size: 26, values: (_, times) => times.map((at) => new Date(at * 1000).toTimeString().slice(0, 5 + 3 * (at % 60 > 0))) },
        { ...axis, size: 72, incrs: panel.unit in BINARY ? POWERS : undefined, values: (_, values) => values.map(text) }],
    };
    const x = { range: () => [dashboard.from, dashboard.to] };
    if (panel.type === "heatmap") heat(panel, element, shared, x);
    else curves(panel, element, shared, x);
  }
}

function curves(panel, element, shared, x) {
  const times = [...new Set(panel.series.flatMap(([, points]) => points.map(([at]) => at)))].sort((one, other) => one - other);
  const values = panel.series.map(([, points]) => {
    const known = new Map(points);
    return times.map((at) => (Number.isNaN(known.get(at)) ? null : known.get(at) ?? null));
  });
  new uPlot({
    ...shared,
    scales: { x, y: { range: (_, low, high) => [0, panel.limit ?? 1.08 * (high || 1)] } },
    series: [{}, ...panel.series.map((_, index) => ({ stroke: COLOURS[index % COLOURS.length], width: 1.5, points: { show: false } }))],
  }, [times, ...values], element);
  const names = [...new Set(panel.series.map(([name]) => name))];
  const list = element.appendChild(document.createElement("ul"));
  names.forEach((name, index) => {
    const item = list.appendChild(document.createElement("li"));
    item.style.color = COLOURS[index % COLOURS.length];
    item.appendChild(document.createElement("span")).textContent = name;
  });
}

// How many series have which value.
function heat(panel, element, shared, x) {
  const points = panel.series.flatMap(([, found]) => found).filter(([, value]) => !Number.isNaN(value));
  const top = Math.max(...points.map(([, value]) => value)) || 1;
  const cells = new Map();
  for (const [at, value] of points) {
    const column = Math.floor(at / HEAT_COLUMN_SECONDS) * HEAT_COLUMN_SECONDS;
    const key = column + " " + Math.min(HEAT_ROWS - 1, Math.floor((value / top) * HEAT_ROWS));
    cells.set(key, (cells.get(key) || 0) + 1);
  }
  const most = Math.max(...cells.values());
  const paint = (plot) => {
    const pen = plot.ctx;
    for (const [key, count] of cells) {
      const [at, row] = key.split(" ").map(Number);
      const left = Math.max(plot.bbox.left, plot.valToPos(at, "x", true));
      const right = plot.valToPos(at + HEAT_COLUMN_SECONDS, "x", true);
      const bottom = plot.valToPos((row / HEAT_ROWS) * top, "y", true);
      const height = bottom - plot.valToPos(((row + 1) / HEAT_ROWS) * top, "y", true);
      pen.fillStyle = "rgba(255,152,48," + (0.15 + 0.85 * Math.sqrt(count / most)) + ")";
      pen.fillRect(left, bottom - height + 1, right - left - 1, height - 1);
    }
  };
  new uPlot({
    ...shared, height: HEIGHT + 54, scales: { x, y: { range: () => [0, top] } }, series: [{}, {}], hooks: { draw: [paint] },
  }, [points.map(([at]) => at).sort((one, other) => one - other), points.map(() => null)], element);
}
