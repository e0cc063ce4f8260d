"use strict";
// The table of containers. Only the rows in view are elements.

const OVERSCAN = 6;
const COLUMNS = [
  { id: "name", title: "Container", value: (one) => one.name, text: (one) => one.name },
  { id: "cpu", title: "CPU", about: "CPU cores in use", value: (one) => one.cpu, text: (one) => cores(one.cpu) },
  { id: "spark", title: "Last minutes", about: "CPU of the last minutes", wide: true, spark: true, value: (one) => one.cpu },
  { id: "memory", title: "Memory", about: "Working set", value: (one) => one.memory, text: (one) => bytes(one.memory) },
  { id: "limit", title: "Of limit", about: "Memory of its limit", wide: true, value: (one) => one.limit, text: (one) => percent(one.limit), hot: 0.9 },
  { id: "throttled", title: "Throttled", about: "Time throttled by its CPU quota", wide: true, value: (one) => one.throttled, text: (one) => percent(one.throttled), hot: 0.1 },
  { id: "receive", title: "Receive", wide: true, value: (one) => one.receive, text: (one) => bytesPerSecond(one.receive) },
  { id: "transmit", title: "Transmit", wide: true, value: (one) => one.transmit, text: (one) => bytesPerSecond(one.transmit) },
  { id: "read", title: "Read", wide: true, value: (one) => one.read, text: (one) => bytesPerSecond(one.read) },
  { id: "write", title: "Write", wide: true, value: (one) => one.write, text: (one) => bytesPerSecond(one.write) },
  { id: "cpuWaiting", title: "Wait CPU", about: "Time some task waited for a CPU", wide: true, value: (one) => one.cpuWaiting, text: (one) => percent(one.cpuWaiting), hot: 0.2 },
  { id: "memoryWaiting", title: "Wait mem", about: "Time some task waited for memory", wide: true, value: (one) => one.memoryWaiting, text: (one) => percent(one.memoryWaiting), hot: 0.1 },
  { id: "ioWaiting", title: "Wait I/O", about: "Time some task waited for I/O", wide: true, value: (one) => one.ioWaiting, text: (one) => percent(one.ioWaiting), hot: 0.2 },
  { id: "processes", title: "Processes", wide: true, value: (one) => one.processes, text: (one) => count(one.processes) },
];

class Table {
  // open: called with the container that is chosen.
  constructor(grid, head, body, open) {
    this.grid = grid;
    this.body = body;
    this.open = open;
    this.sort = "cpu";
    this.down = true;
    this.words = [];
    this.all = [];
    this.list = [];
    this.active = null;
    this.rows = [];
    this.makeHead(head);
    grid.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()), { passive: true });
    grid.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(grid);
  }

  makeHead(head) {
    const row = document.createElement("div");
    row.className = "row";
    row.setAttribute("role", "row");
    this.titles = COLUMNS.map((column) => {
      const cell = document.createElement("div");
      cell.setAttribute("role", "columnheader");
      if (column.wide) cell.className = "wide";
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = column.title;
      if (column.about) button.title = column.about;
      button.addEventListener("click", () => {
        this.down = this.sort === column.id ? !this.down : column.id !== "name";
        this.sort = column.id;
        this.order();
      });
      cell.append(button);
      row.append(cell);
      return cell;
    });
    head.append(row);
  }

  set(containers) {
    this.all = containers;
    this.order();
  }

  search(words) {
    this.words = words;
    this.order();
  }

  order() {
    const column = COLUMNS.find((one) => one.id === this.sort);
    const sign = this.down ? -1 : 1;
    const found = this.words.length
      ? this.all.filter((one) => this.words.every((word) => one.text.includes(word)))
      : this.all.slice();
    // Containers without a value come last in both directions.
    found.sort((first, second) => {
      const a = column.value(first);
      const b = column.value(second);
      if (a === b || (a === null && b === null)) return first.key < second.key ? -1 : 1;
      if (a === null) return 1;
      if (b === null) return -1;
      return (a < b ? -1 : 1) * sign;
    });
    this.list = found;
    COLUMNS.forEach((one, index) => {
      const state = one.id === this.sort ? (this.down ? "descending" : "ascending") : "none";
      this.titles[index].setAttribute("aria-sort", state);
    });
    this.grid.setAttribute("aria-rowcount", String(found.length + 1));
    this.draw();
  }

  // Of a row, in pixels: 2rem in the style sheet.
  get height() {
    return 2 * parseFloat(getComputedStyle(document.documentElement).fontSize);
  }

  draw() {
    const height = this.height;
    const ink = getComputedStyle(this.grid).color;
    this.body.style.height = this.list.length * height + "px";
    const first = Math.max(0, Math.floor(this.grid.scrollTop / height) - OVERSCAN);
    const last = Math.min(this.list.length, Math.ceil((this.grid.scrollTop + this.grid.clientHeight) / height) + OVERSCAN);
    while (this.rows.length < last - first) this.rows.push(this.makeRow());
    this.rows.forEach((row, index) => {
      const at = first + index;
      if (at >= last) {
        row.element.hidden = true;
        row.one = null;
        return;
      }
      this.fill(row, this.list[at], at, height, ink);
    });
    const active = this.rows.find((row) => row.one !== null && row.one.key === this.active);
    if (active) this.grid.setAttribute("aria-activedescendant", active.element.id);
    else this.grid.removeAttribute("aria-activedescendant");
  }

  makeRow() {
    const element = document.createElement("div");
    element.className = "row";
    element.id = "row-" + this.rows.length;
    element.setAttribute("role", "row");
    const row = { element, one: null, cells: [] };
    for (const column of COLUMNS) {
      const cell = document.createElement("div");
      cell.setAttribute("role", "gridcell");
      if (column.wide) cell.className = "wide";
      let inner = cell;
      if (column.id === "name") inner = cell.appendChild(document.createElement("bdi"));
      if (column.spark) {
        inner = cell.appendChild(document.createElement("canvas"));
        inner.className = "spark";
        inner.setAttribute("aria-hidden", "true");
      }
      row.cells.push(inner);
      element.append(cell);
    }
    element.addEventListener("click", () => {
      if (row.one === null) return;
      this.active = row.one.key;
      this.draw();
      this.open(row.one);
    });
    this.body.append(element);
    return row;
  }

  fill(row, one, at, height, ink) {
    const element = row.element;
    element.hidden = false;
    row.one = one;
    element.style.transform = "translateY(" + at * height + "px)";
    element.setAttribute("aria-rowindex", String(at + 2));
    element.classList.toggle("active", one.key === this.active);
    element.setAttribute("aria-selected", String(one.key === this.active));
    COLUMNS.forEach((column, index) => {
      const cell = row.cells[index];
      if (column.spark) {
        drawSpark(cell, one.series("cpu")[1], ink);
        return;
      }
      const text = column.text(one);
      if (cell.textContent !== text) cell.textContent = text;
      if (column.id === "name") cell.parentNode.title = one.name + "\n" + one.image;
      if (column.hot) cell.classList.toggle("hot", column.value(one) >= column.hot);
    });
  }

  key(event) {
    if (event.target !== this.grid) return;
    const at = this.list.findIndex((one) => one.key === this.active);
    const page = Math.max(1, Math.floor(this.grid.clientHeight / this.height) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps && this.list.length) {
      const next = Math.min(this.list.length - 1, Math.max(0, at + steps[event.key]));
      this.active = this.list[next].key;
      const top = next * this.height;
      const view = this.grid.clientHeight - this.grid.firstElementChild.offsetHeight;
      if (top < this.grid.scrollTop) this.grid.scrollTop = top;
      else if (top + this.height > this.grid.scrollTop + view) this.grid.scrollTop = top + this.height - view;
      this.draw();
    } else if (event.key === "Enter" && at >= 0) {
      this.open(this.list[at]);
    } else {
      return;
    }
    event.preventDefault();
  }
}

function drawSpark(canvas, values, ink) {
  const scale = window.devicePixelRatio || 1;
  const width = Math.round(88 * scale);
  const height = Math.round(20 * scale);
  if (canvas.width !== width) {
    canvas.width = width;
    canvas.height = height;
  }
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  const top = Math.max(...values.filter((value) => value !== null), 0.01);
  pen.strokeStyle = ink;
  pen.lineWidth = scale;
  pen.beginPath();
  let drawn = false;
  values.forEach((value, index) => {
    if (value === null) {
      drawn = false;
      return;
    }
    const x = width - ((values.length - 1 - index) * width) / (POINTS - 1) - scale;
    const y = height - scale - (value / top) * (height - 2 * scale);
    if (drawn) pen.lineTo(x, y);
    else pen.moveTo(x, y);
    drawn = true;
  });
  pen.stroke();
}
