"use strict";
// Polls the summary and shows it.

const SMALL = 1000;
const FAST_MS = 2000;
const SLOW_MS = 5000;
const ANSWER_MS = 15000;

const element = (id) => document.getElementById(id);
const model = new Model();
const details = new Details(element("details"), element("details-name"), element("facts"), element("charts"));
const table = new Table(element("grid"), element("head"), element("body"), (one) => details.open(one));
const ended = new Ended(element("ended"));
let timer = 0;
let last = null;

function say(text, bad) {
  const status = element("status");
  if (status.textContent !== text) status.textContent = text;
  status.classList.toggle("bad", bad);
  document.body.classList.toggle("stale", bad);
}

function showLogin(why) {
  element("login").hidden = false;
  element("containers").hidden = true;
  element("totals").hidden = true;
  element("ended").hidden = true;
  element("login-error").textContent = why;
  say("Not logged in.", false);
}

async function reason(answer) {
  return shown((await answer.text()).slice(0, 200).trim()) || answer.statusText;
}

async function poll() {
  clearTimeout(timer);
  if (document.hidden) return;
  let pause = model.containers.size > SMALL ? SLOW_MS : FAST_MS;
  try {
    const answer = await fetch("/v1/summary", { signal: AbortSignal.timeout(ANSWER_MS), credentials: "same-origin" });
    if (answer.status === 401) {
      details.close();
      showLogin(last === null ? "" : "The login has ended: log in again.");
      return;
    }
    if (answer.ok) {
      show(await answer.json());
    } else {
      pause = Math.max(pause, 1000 * Number(answer.headers.get("Retry-After") || 0));
      say("No new numbers: " + (await reason(answer)), true);
    }
  } catch (error) {
    const when = last === null ? "" : " Last answer at " + new Date(last).toLocaleTimeString() + ".";
    say((error.name === "TimeoutError" ? "No answer in time." : "No connection.") + when, true);
  }
  timer = setTimeout(poll, pause);
}

function show(summary) {
  last = Date.now();
  model.update(summary);
  const containers = [...model.containers.values()];
  element("login").hidden = true;
  element("containers").hidden = false;
  element("totals").hidden = false;
  element("logout").hidden = summary.account === undefined;
  const nodes = model.nodes;
  const away = nodes.filter((node) => node.error);
  element("where").textContent = summary.account === undefined
    ? nodes.map((node) => shown(node.hostname)).join(", ")
    : "account " + shown(summary.account) + ", " + nodes.length + (nodes.length === 1 ? " node" : " nodes");
  table.set(containers);
  ended.set(model.ended);
  details.update();
  setFacts(element("totals"), totals(containers, nodes));
  showNodes(nodes);
  const text = containers.length + (containers.length === 1 ? " container" : " containers");
  if (away.length) say(text + ". Not answering: " + away.map((node) => shown(node.hostname + ": " + node.error)).join("; "), true);
  else say(text + ".", false);
}

function totals(containers, nodes) {
  const machines = nodes.map((node) => node.machine).filter(Boolean);
  const pairs = [["Containers", String(containers.length)]];
  const cpus = machines.reduce((sum, machine) => sum + machine.cpus, 0);
  const memory = machines.reduce((sum, machine) => sum + machine.memory_bytes, 0);
  pairs.push(["CPU in use", cores(model.total("cpu")) + (cpus ? " of " + cpus : "")]);
  pairs.push(["Memory", bytes(model.total("memory")) + (memory ? " of " + bytes(memory) : "")]);
  pairs.push(["Network", bytesPerSecond(model.total("receive")) + " in, " + bytesPerSecond(model.total("transmit")) + " out"]);
  pairs.push(["Block devices", bytesPerSecond(model.total("read")) + " read, " + bytesPerSecond(model.total("write")) + " written"]);
  if (machines.length === 1) pairs.push(["Load", machines[0].load.map((value) => value.toFixed(2)).join(" ")]);
  return pairs;
}

function showNodes(nodes) {
  const lines = [];
  for (const node of nodes) {
    const failing = Object.entries(node.collectors || {}).filter(([, good]) => !good).map(([name]) => name);
    if (failing.length) lines.push(shown(node.hostname) + ": collectors that failed: " + shown(failing.join(", ")));
  }
  const section = element("nodes");
  section.hidden = lines.length === 0;
  section.replaceChildren(...lines.map((line) => {
    const paragraph = document.createElement("p");
    paragraph.textContent = line;
    return paragraph;
  }));
}

function configuration() {
  const proxy = document.body.dataset.of === "proxy";
  const scheme = location.protocol.replace(":", "");
  const lines = ["scrape_configs:", "- job_name: pymon", "  scheme: " + scheme];
  if (proxy) {
    lines.push(
      "  authorization:", "    credentials_file: /etc/prometheus/pymon-token",
      "  http_sd_configs:", "  - url: " + location.origin + "/v1/sd",
      "    authorization:", "      credentials_file: /etc/prometheus/pymon-token",
    );
  } else {
    lines.push("  static_configs:", "  - targets: ['" + location.host + "']");
  }
  return lines.join("\n") + "\n";
}

async function login(event) {
  event.preventDefault();
  const token = element("token");
  element("login-error").textContent = "";
  try {
    const answer = await fetch("/v1/login", {
      method: "POST", headers: { Authorization: "Bearer " + token.value.trim() }, signal: AbortSignal.timeout(ANSWER_MS),
    });
    if (!answer.ok) {
      element("login-error").textContent = answer.status === 401 ? "No account has this token, or it has expired." : await reason(answer);
      return;
    }
  } catch {
    element("login-error").textContent = "The proxy did not answer, or the token has characters that none has.";
    return;
  }
  token.value = "";
  poll();
}

element("search").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  table.search(words);
  ended.search(words);
});
element("close").addEventListener("click", () => { details.close(); element("grid").focus(); });
element("login").addEventListener("submit", login);
element("logout").addEventListener("click", async () => {
  await fetch("/v1/logout", { method: "POST" }).catch(() => null);
  location.reload();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && event.target.tagName !== "INPUT") {
    event.preventDefault();
    element("search").focus();
  } else if (event.key === "Escape" && !element("details").hidden) {
    details.close();
    element("grid").focus();
  }
});
document.addEventListener("visibilitychange", poll);
element("config").textContent = configuration();
poll();
