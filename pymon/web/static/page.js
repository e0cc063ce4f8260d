"use strict";
// Polls the summary and shows it.

const SMALL = 1000;
const FAST_MS = 2000;
const SLOW_MS = 5000;
const ANSWER_MS = 15000;
const MOST_NODES = 8;
const NONE_RUN = {
  agent: "The agent recognises no running container on this node. There, “pymon doctor” says which runtimes it can read; "
    + "“pymon agent --container.all” measures every control group.",
  proxy: "No running container belongs to this account. Whose a container is, the operator of its node decides; "
    + "there, “pymon containers --explain NAME” says why.",
};

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
  for (const id of ["containers", "totals", "none", "nodes"]) element(id).hidden = true;
  element("search").parentNode.hidden = true;
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
  element("search").parentNode.hidden = false;
  element("totals").hidden = false;
  element("logout").hidden = summary.account === undefined;
  const nodes = model.nodes;
  const away = nodes.filter((node) => node.error);
  element("containers").hidden = containers.length === 0;
  element("none").hidden = containers.length > 0 || away.length > 0;
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
  for (const node of nodes.filter((one) => one.collectors)) {
    const all = Object.entries(node.collectors);
    const failing = all.filter(([, good]) => !good).map(([name]) => name);
    if (!failing.length && nodes.length > MOST_NODES) continue;
    const of = failing.length ? "failed: " + failing.join(", ") : "all " + all.length + " that found something went well";
    lines.push([shown(node.hostname + ": " + (node.source || "source unknown") + "; collectors: " + of), failing.length > 0]);
  }
  const section = element("nodes");
  section.hidden = lines.length === 0;
  const list = section.querySelector("ul");
  if (list.textContent === lines.map(([line]) => line).join("")) return; // it stays, as its text may be selected
  list.replaceChildren(...lines.map(([line, bad]) => {
    const item = document.createElement("li");
    item.textContent = line;
    item.classList.toggle("hot", bad);
    return item;
  }));
}

function configuration() {
  const proxy = document.body.dataset.of === "proxy";
  const scheme = location.protocol.replace(":", "");
  const lines = ["scrape_configs:", "- job_name: pymon", "  scheme: " + scheme];
  if (proxy) {
    lines.push(
      "  authorization:", "    credentials_file: /etc/prometheus/pymon-token",
      "  http_sd_configs:", "  - url: " + location.origin + "/v1/sd?via=path",
      "    authorization:", "      credentials_file: /etc/prometheus/pymon-token",
      "# Where the proxy's authority is not one that this machine trusts, both need it:",
      "#   tls_config: {ca_file: /etc/prometheus/pymon-ca.pem}",
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
element("none").textContent = NONE_RUN[document.body.dataset.of];
poll();
