"use strict";
// Numbers and names as text.

const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb]/g;

// A tenant's text, with characters that cannot be seen, or that turn the text around, as escapes.
function shown(text) {
  return text.replace(HIDDEN, (one) => "\\u" + one.charCodeAt(0).toString(16).padStart(4, "0"));
}

function scaled(value, base, units) {
  let index = 0;
  while (value >= base && index < units.length - 1) {
    value /= base;
    index += 1;
  }
  return (index === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)) + "\u00a0" + units[index];
}

const NONE = "–";
const bytes = (value) => (value === null ? NONE : scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]));
const bytesPerSecond = (value) => (value === null ? NONE : bytes(value) + "/s");
const cores = (value) => (value === null ? NONE : value.toFixed(value >= 10 ? 1 : 2));
const percent = (value) => (value === null ? NONE : (value * 100).toFixed(1) + "\u00a0%");
const count = (value) => (value === null ? NONE : String(value));
const duration = (seconds) => (seconds === Infinity ? "∞" : scaled(seconds * 1e6, 1000, ["µs", "ms", "s"]));
const perSecond = (value) => value.toFixed(value >= 100 ? 0 : 1) + " a second";
const span = (seconds) => {
  if (seconds === null) return NONE;
  if (seconds < 60) return seconds.toFixed(1) + "\u00a0s";
  const units = [[86400, "d"], [3600, "h"], [60, "min"]];
  const [length, unit] = units.find(([one]) => seconds >= one);
  return (seconds / length).toFixed(1) + "\u00a0" + unit;
};
// 128 and the number of a signal is how a runtime tells that a signal ended the container.
const exitCode = (code) => (code > 128 && code <= 192 ? code + " (signal " + (code - 128) + ")" : count(code));
const since = (seconds) => (seconds ? new Date(seconds * 1000).toLocaleString() : NONE);
