"use strict";
// The containers that have ended lately, the last one first.

const MOST_ENDED = 200;
const ENDED_COLUMNS = [
  ["Container", ({ raw }) => shown(raw.name)],
  ["Image", ({ raw }) => shown(raw.image) || NONE],
  ["Account", ({ raw }) => shown(raw.owner) || "none"],
  ["Node", ({ node }) => shown(node.hostname)],
  ["Ended", ({ raw }) => since(raw.end_seconds)],
  ["Ran for", ({ raw }) => (raw.start_seconds === null ? NONE : span(raw.end_seconds - raw.start_seconds))],
  ["Exit code", ({ raw }) => exitCode(raw.exit_code), ({ raw }) => raw.exit_code > 0],
  ["Killed for want of memory", ({ raw }) => count(raw.oom_kills), ({ raw }) => raw.oom_kills > 0],
  ["CPU time", ({ raw }) => span(raw.cpu_seconds)],
];

class Ended {
  // section: with a heading, and a table with one empty row in its head.
  constructor(section) {
    this.section = section;
    this.title = section.querySelector("h2");
    this.body = section.querySelector("tbody");
    this.words = [];
    this.all = [];
    this.drawn = "";
    section.querySelector("thead tr").append(...ENDED_COLUMNS.map(([title]) => {
      const head = document.createElement("th");
      head.scope = "col";
      head.textContent = title;
      return head;
    }));
  }

  set(all) {
    this.all = all;
    this.draw();
  }

  search(words) {
    this.words = words;
    this.draw();
  }

  draw() {
    const found = this.all.filter((one) => this.words.every((word) => one.text.includes(word)));
    this.section.hidden = this.all.length === 0;
    // A table that stays is not made again: it may be scrolled, or its text selected.
    const now = found.map(({ raw }) => raw.uuid + " " + raw.end_seconds + " " + raw.exit_code).join();
    if (now === this.drawn) return;
    this.drawn = now;
    this.title.textContent = found.length + " ended" + (found.length > MOST_ENDED ? ", the last " + MOST_ENDED + " of them:" : "");
    this.body.replaceChildren(...found.slice(0, MOST_ENDED).map((one) => {
      const row = document.createElement("tr");
      row.append(...ENDED_COLUMNS.map(([, text, hot], index) => {
        const cell = document.createElement("td");
        const inner = index === 0 ? cell.appendChild(document.createElement("bdi")) : cell;
        inner.textContent = text(one);
        if (hot) cell.classList.toggle("hot", hot(one));
        return cell;
      }));
      return row;
    }));
  }
}
