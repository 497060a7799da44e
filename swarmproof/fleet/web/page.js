// The live page: asks for /swarmproof/live once a second and draws it. All texts from outside become text nodes.
"use strict";

const EVERY_MS = 1000;
const ANSWER_WITHIN_MS = 8000; // a busy generator answers late, and is not gone
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

let data = null; // the last answer
let cursor = null; // index of the moment that is read off
let lost = 0; // questions in a row without an answer

// ---- theme: Locust keeps it in localStorage.theme -------------------------------------------------------------

function storedTheme() {
  try {
    return localStorage.theme;
  } catch {
    return undefined;
  }
}

function applyTheme() {
  const stored = storedTheme();
  const dark = stored === "dark" || (stored !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").setAttribute("aria-pressed", String(dark));
}

$("theme").addEventListener("click", () => {
  try {
    localStorage.theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  } catch {
    return;
  }
  applyTheme();
});
addEventListener("storage", applyTheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);
applyTheme();

// ---- words and numbers ----------------------------------------------------------------------------------------

function grouped(number) {
  return Math.round(number).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1000) return `${(value / 1000).toFixed(2)} s`;
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)} ms`;
}

function seconds(value) {
  return value === null || value === undefined ? "" : `${value.toFixed(2)} s`;
}

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text; // an unchanged live region must stay silent
}

// ---- drawing --------------------------------------------------------------------------------------------------

const LEFT = 64, RIGHT = 12;

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function frame(svg) {
  const box = svg.getBoundingClientRect();
  svg.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
  const t = data.series.t, half = data.series.width / 2;
  const from = 0, to = Math.max(10, data.state === "running" || data.state === "spawning" ? data.now : 0,
    t.length ? t[t.length - 1] + half : 0);
  const x = (at) => LEFT + ((Math.min(Math.max(at, from), to) - from) / (to - from)) * (box.width - LEFT - RIGHT);
  const now = Math.min(to, Math.max(data.now, t.length ? t[t.length - 1] + half : 0)); // what goes on is drawn up to here
  return { width: box.width, height: box.height, from, to, now, x };
}

function timeAxis(parts, f, bottom) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200];
  const step = steps.find((s) => ((f.width - LEFT) / (f.to - f.from)) * s >= 70) || 14400;
  for (let at = 0; at <= f.to; at += step) {
    const label = at >= 120 && step >= 60 ? `${at / 60} min` : `${at} s`;
    parts.push(shape("line", { class: "grid", x1: f.x(at), x2: f.x(at), y1: bottom, y2: bottom + 4 }));
    parts.push(shape("text", { x: f.x(at), y: bottom + 17, "text-anchor": "middle" }, label));
  }
}

function bands(parts, f, top, bottom) {
  let labelEnd = -1, row = 0;
  for (const fault of data.faults) {
    if (fault.pending || fault.at > f.to + 1) continue;
    const begin = f.x(fault.at);
    if (fault.took_effect) {
      const end = f.x(fault.until === null ? f.now : fault.until);
      parts.push(shape("rect", { class: "band", x: begin, y: top, width: Math.max(2, end - begin), height: bottom - top }));
      const first = fault.figures.first_ack_s;
      if (first !== null)
        parts.push(shape("rect", { class: "outage", x: begin, y: top,
          width: Math.max(2, f.x(fault.at + first) - begin), height: bottom - top }));
    }
    parts.push(shape("line", { class: fault.took_effect ? "strike" : "strike none", x1: begin, x2: begin, y1: top, y2: bottom }));
    const text = `${fault.kind} ${fault.target}`;
    row = begin < labelEnd ? (row + 1) % 3 : 0;
    const anchor = begin > f.width - 120 ? "end" : "start";
    parts.push(shape("text", { class: "label", x: begin + (anchor === "end" ? -4 : 4), y: top + 12 + 14 * row, "text-anchor": anchor }, text));
    labelEnd = begin + 8 * text.length;
  }
}

function ribbon(parts, f, top) {
  const clusters = [...new Set(data.leaders.map((change) => change.cluster))];
  const names = [...new Set(data.leaders.map((change) => change.name).filter((name) => name))].sort();
  clusters.forEach((cluster, lane) => {
    const changes = data.leaders.filter((change) => change.cluster === cluster);
    const y = top + lane * 26;
    parts.push(shape("text", { x: LEFT - 8, y: y + 15, "text-anchor": "end" }, clusters.length > 1 ? cluster : "leader"));
    changes.forEach((change, number) => {
      const next = changes[number + 1];
      if (next && next.at <= f.from) return;
      const begin = f.x(change.at), end = f.x(next ? Math.min(next.at, f.now) : f.now);
      if (end - begin < 0.5) return;
      const kind = change.name === null ? "nobody" : `term${names.indexOf(change.name) % 5}`;
      const rect = shape("rect", { class: `term ${kind}`, x: begin, y, width: end - begin, height: 21 });
      rect.append(shape("title", {}, change.name === null ? "nobody leads" : `${change.name} leads term ${change.term}`));
      parts.push(rect);
      const label = change.name === null ? "" : end - begin > 84 ? `${change.name}, term ${change.term}` : end - begin > 26 ? change.name : "";
      if (label) parts.push(shape("text", { class: "led", x: (begin + end) / 2, y: y + 15, "text-anchor": "middle" }, label));
    });
  });
  return clusters.length * 26;
}

function drawResponse() {
  const svg = $("response"), f = frame(svg), parts = [], s = data.series;
  const lanes = new Set(data.leaders.map((change) => change.cluster)).size;
  const marks = data.violations.marks.length ? 18 : 0;
  const top = 8, bottom = f.height - 24 - lanes * 26 - marks - 4;
  const values = [...s.p50, ...s.max].filter((value) => value !== null && value > 0);
  const low = Math.floor(Math.log10(Math.min(1, ...values))), high = Math.ceil(Math.log10(Math.max(10, ...values) * 1.05));
  const y = (value) => bottom - ((Math.log10(Math.max(value, 10 ** low)) - low) / (high - low)) * (bottom - top);
  for (let power = low; power <= high; power += 1) {
    const value = 10 ** power;
    const label = value >= 1000 ? `${value / 1000} s` : value >= 1 ? `${value} ms` : `${Math.round(value * 1000)} µs`;
    parts.push(shape("line", { class: "grid", x1: LEFT, x2: f.width - RIGHT, y1: y(value), y2: y(value) }));
    parts.push(shape("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, label));
  }
  bands(parts, f, top, bottom);
  for (const name of ["max", "p99", "p50"]) {
    let path = "", open = false;
    s.t.forEach((at, place) => {
      const value = s[name][place];
      if (value !== null) path += `${open ? "L" : "M"}${f.x(at).toFixed(1)} ${y(value).toFixed(1)}`;
      const alone = value !== null && !open && (place + 1 === s.t.length || s[name][place + 1] === null);
      if (alone) parts.push(shape("circle", { class: `dot ${name}`, cx: f.x(at), cy: y(value), r: 2.5 }));
      open = value !== null;
    });
    if (path) parts.push(shape("path", { class: `line ${name}`, d: path }));
  }
  timeAxis(parts, f, bottom);
  for (const mark of data.violations.marks) {
    const x = f.x(mark.at), middle = bottom + 30;
    const diamond = shape("path", { class: "mark", d: `M${x} ${middle - 6}l6 6l-6 6l-6-6z` });
    diamond.append(shape("title", {}, `${mark.kind} at ${mark.at.toFixed(1)} s`));
    parts.push(diamond);
  }
  ribbon(parts, f, bottom + 24 + marks);
  if (!s.t.length) parts.push(shape("text", { x: f.width / 2, y: (top + bottom) / 2, "text-anchor": "middle" }, noData()));
  drawCursor(parts, f, top, bottom);
  svg.replaceChildren(...parts);
  svg.setAttribute("aria-label", `Response time: ${describe()}`);
}

function drawRate() {
  const svg = $("rate"), f = frame(svg), parts = [], s = data.series;
  const top = 8, bottom = f.height - 24;
  const stack = ["ok", "unknown", "failed", "dropped"];
  const totals = s.t.map((_, place) => stack.reduce((sum, name) => sum + s[name][place], 0));
  const most = nice(Math.max(1, ...totals));
  const y = (value) => bottom - (value / most) * (bottom - top);
  for (const value of [0, most / 2, most]) {
    parts.push(shape("line", { class: value ? "grid" : "zero", x1: LEFT, x2: f.width - RIGHT, y1: y(value), y2: y(value) }));
    parts.push(shape("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, `${grouped(value)}/s`));
  }
  const half = s.width / 2;
  s.t.forEach((at, place) => {
    let below = 0;
    const begin = f.x(at - half), width = Math.max(1, f.x(at + half) - begin - 1);
    for (const name of stack) {
      const value = s[name][place];
      // A single failure beside a thousand successes must still be seen.
      const height = value ? Math.max(name === "ok" ? 0.5 : 2, y(0) - y(value)) : 0;
      if (height) parts.push(shape("rect", { class: name, x: begin, y: y(below) - height, width, height }));
      below += value;
    }
  });
  bands(parts, f, top, bottom);
  timeAxis(parts, f, bottom);
  if (!s.t.length) parts.push(shape("text", { x: f.width / 2, y: (top + bottom) / 2, "text-anchor": "middle" }, noData()));
  drawCursor(parts, f, top, bottom);
  svg.replaceChildren(...parts);
  svg.setAttribute("aria-label", `Rate: ${describe()}`);
}

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 8, 10].map((factor) => factor * power).find((top) => top >= value * 1.02) || 20 * power;
}

function noData() {
  return data.run ? "nothing has ended yet" : "no test has been started yet: start one in Locust";
}

function describe() {
  const t = data.total;
  if (!t.count) return noData();
  return `${grouped(t.count)} operations in ${data.now.toFixed(0)} s, p50 ${ms(t.p50)}, p99 ${ms(t.p99)}, ` +
    `${t.failed} failed, ${t.unknown} unknown, ${data.faults.length} faults`;
}

function drawCursor(parts, f, top, bottom) {
  if (cursor === null || cursor >= data.series.t.length) return;
  const x = f.x(data.series.t[cursor]);
  parts.push(shape("line", { class: "cursor", x1: x, x2: x, y1: top, y2: bottom }));
}

function readOff() {
  const s = data.series;
  if (cursor === null || cursor >= s.t.length) return;
  const faults = data.faults.filter((fault) => fault.took_effect && fault.at <= s.t[cursor] + s.width / 2 &&
    (fault.until === null || fault.until >= s.t[cursor] - s.width / 2)).map((fault) => `${fault.kind} ${fault.target}`);
  setText($("readout"), `${s.t[cursor].toFixed(0)} s: p50 ${ms(s.p50[cursor])}, p99 ${ms(s.p99[cursor])}, max ${ms(s.max[cursor])}; ` +
    `${grouped(s.ok[cursor])} ok, ${grouped(s.failed[cursor])} failed, ${grouped(s.unknown[cursor])} unknown, ` +
    `${grouped(s.dropped[cursor])} dropped a second${faults.length ? `; during ${faults.join(", ")}` : ""}`);
}

function draw() {
  drawResponse();
  drawRate();
  readOff();
}

for (const id of ["response", "rate"]) {
  const svg = $(id);
  svg.addEventListener("pointermove", (event) => {
    if (!data || !data.series.t.length) return;
    const f = frame(svg), box = svg.getBoundingClientRect();
    const at = f.from + ((event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT)) * (f.to - f.from);
    const t = data.series.t;
    cursor = t.reduce((best, value, place) => (Math.abs(value - at) < Math.abs(t[best] - at) ? place : best), 0);
    draw();
  });
  svg.addEventListener("keydown", (event) => {
    if (!data || !data.series.t.length) return;
    const last = data.series.t.length - 1, from = cursor === null ? last : cursor;
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    cursor = Math.min(last, Math.max(0, to));
    draw();
  });
}
addEventListener("resize", () => data && draw());

// ---- tables and tiles -------------------------------------------------------------------------------------------

function table(id, columns, rows, empty) {
  const key = JSON.stringify([columns, rows]);
  const node = $(id);
  if (node.dataset.key === key) return; // what is selected or read aloud stays as it is
  node.dataset.key = key;
  const head = element("thead", {}, element("tr", {}, ...columns.map((title) => element("th", { scope: "col" }, title))));
  const body = element("tbody");
  for (const row of rows) body.append(element("tr", {}, ...row.map((cell) => cell && cell.badge
    ? element("td", {}, element("span", { class: `badge ${cell.badge}` }, cell.text))
    : element("td", String(cell).length > 60 ? { class: "wide" } : {}, String(cell ?? "")))));
  if (!rows.length) body.append(element("tr", {}, element("td", { colspan: String(columns.length) }, empty)));
  node.replaceChildren(head, body);
}

function tiles() {
  const t = data.total, last = data.series.ok.length - 1;
  const rate = last >= 0 ? data.series.ok[last] + data.series.failed[last] + data.series.unknown[last] : 0;
  const shown = [["State", data.state], ["Time", `${Math.max(0, data.now).toFixed(0)} s`], ["Users", grouped(data.users)],
    ["Rate", `${grouped(rate)}/s`], ["p50", ms(t.count ? t.p50 : null)], ["p99", ms(t.count ? t.p99 : null)],
    ["Failed", grouped(t.failed)], ["Unknown", grouped(t.unknown)], ["Dropped", grouped(t.dropped)],
    ["Leader", data.leader ? `${data.leader.name}, term ${data.leader.term}` : data.nodes.some((n) => n.role) ? "nobody" : "–"]];
  const box = $("tiles");
  if (box.children.length !== shown.length)
    box.replaceChildren(...shown.map(([name]) => element("div", {}, element("dt", {}, name), element("dd"))));
  shown.forEach(([, value], place) => setText(box.children[place].lastChild, value));
}

function tables() {
  table("nodes", ["Name", "Kind", "Role", "Term", "State", "Pid", "Address"], data.nodes.map((row) =>
    [row.name, row.kind, row.role || "–", row.term ?? "–", row.state, row.pid ?? "–", row.address]), data.supervisor.reason || "no targets");
  table("faults", ["At", "Fault", "Target", "What was seen", "Detected after", "New leader after", "First ack after", "Back to baseline after", "Healed after"],
    [...data.faults].reverse().map((fault) => [`${fault.at.toFixed(1)} s`, fault.kind, fault.target,
      fault.pending ? "under way" : fault.took_effect ? fault.seen : `did not take effect: ${fault.error || fault.seen}`,
      seconds(fault.figures.detection_s), seconds(fault.figures.new_leader_s), seconds(fault.figures.first_ack_s),
      seconds(fault.figures.back_to_baseline_s), seconds(fault.figures.healed_s) || (fault.took_effect ? "not yet" : "")]), "no fault has struck yet");
  const checks = data.standing.checks.map(([name, says, because, kind]) => [name, { badge: kind, text: says }, because]);
  const broken = data.violations.kinds.map(([kind, operation, number, badge]) => ["replies", { badge, text: "seen" }, `${number} × ${kind} in ${operation}`]);
  table("checks", ["Check", "Says", "Because"], [...checks, ...broken], "nothing to check yet");
}

// ---- the buttons ------------------------------------------------------------------------------------------------

function isCluster() {
  return data.nodes.some((row) => row.role || ["raft", "etcd", "pysyncobj"].includes(row.kind));
}

function targets() {
  const names = data.nodes.filter((row) => row.state !== undefined).map((row) => row.name);
  const wanted = [...(isCluster() ? ["leader", "follower", "majority"] : []), ...names];
  const select = $("target"), chosen = select.value;
  if (select.dataset.key === wanted.join()) return;
  select.dataset.key = wanted.join();
  select.replaceChildren(...wanted.map((name) => element("option", { value: name }, name)));
  if (wanted.includes(chosen)) select.value = chosen;
}

// An answer may come late once on a busy generator. Nothing is asked of a person on that account.
function isLost() {
  return lost > 1;
}

// `aria-disabled` instead of `disabled`: a button that is off for a moment keeps the focus of who uses a keyboard.
function isOff(button) {
  return button.getAttribute("aria-disabled") === "true";
}

function buttons() {
  const s = data.supervisor, idle = !["running", "spawning"].includes(data.state);
  const why = isLost() ? "The web UI does not answer." : !s.available ? s.reason
    : idle ? "No test is running, so nothing is to be broken: start one in Locust."
    : s.links ? "" : !isCluster() ? "Partition is for clusters: there is one server only of each kind here." : "Partition needs links between the nodes: set `links = true` in the plan's [[target]].";
  setText($("why-not"), why && why[0].toUpperCase() + why.slice(1) + (why.endsWith(".") ? "" : "."));
  for (const button of document.querySelectorAll("[data-action]")) {
    const able = !isLost() && s.available && (button.dataset.action === "heal" ? !idle || s.active.length > 0
      : !idle && (button.dataset.action !== "partition" || s.links));
    button.setAttribute("aria-disabled", String(!able));
  }
  for (const select of [$("target"), $("heal-after")]) select.disabled = isLost() || !s.available || idle;
}

const MEANS = {
  kill: "SIGKILL: the process is gone at once; it is started again when healed.",
  pause: "SIGSTOP: the process stands still with its connections open, and goes on when healed.",
  partition: "It is cut off from the other nodes, in both directions, until healed.",
  heal: "Everything that is broken is put right: started again, continued, connected.",
};

let answered = null; // of the dialog that is open

function confirmed(title, text, yes) {
  const dialog = $("confirm");
  // The last one's `close` comes a frame late, perhaps when this one is open already.
  answered?.(!dialog.open && dialog.returnValue === "yes");
  setText($("confirm-title"), title);
  setText($("confirm-text"), text);
  setText($("confirm-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => { answered = resolve; });
}

$("confirm").addEventListener("close", ({ target }) => {
  if (target.open) return;
  answered?.(target.returnValue === "yes");
  answered = null;
});

async function act(action, label) {
  const target = $("target").value, after = $("heal-after");
  const who = target === "leader" && data.leader ? `the leader (now ${data.leader.name})` : target;
  const title = action === "heal" ? "Heal all?" : `${label} ${who}?`;
  const until = after.value ? ` Healed after ${after.selectedOptions[0].text}.` : " Until Heal is pressed.";
  if (!(await confirmed(title, MEANS[action] + (action === "heal" ? "" : until), label))) return;
  const body = action === "heal" ? { action } : { action, target, heal_after: after.value || null };
  setText($("said"), action === "heal" ? "healing …" : `${action} ${target} …`);
  try {
    const answer = await fetch("./swarmproof/act", { method: "POST", body: JSON.stringify(body), credentials: "same-origin",
      headers: { "Content-Type": "application/json", "X-Swarmproof": "1" } });
    const said = await answer.json();
    setText($("said"), said.said || said.error || "no answer");
  } catch {
    setText($("said"), "The answer was lost: whether it was done stands in the table of faults.");
  }
}

for (const button of document.querySelectorAll("[data-action]"))
  button.addEventListener("click", () => {
    if (isOff(button)) setText($("said"), $("why-not").textContent);
    else act(button.dataset.action, button.textContent.split(" ")[0]);
  });
$("act").addEventListener("submit", (event) => event.preventDefault());

// ---- asking -----------------------------------------------------------------------------------------------------

function show() {
  setText($("title"), data.title || data.run);
  document.title = `swarmproof: ${data.standing.verdict}${data.leader ? `, ${data.leader.name} leads` : ""}`;
  const badge = $("verdict");
  badge.className = `badge ${data.standing.class}`;
  setText(badge, data.standing.verdict);
  setText($("summary"), data.problem || data.standing.summary);
  $("counterexample").hidden = !data.standing.counterexample;
  setText($("counterexample"), data.standing.counterexample ? `Counterexample: ${data.standing.counterexample}` : "");
  $("report").hidden = !data.report;
  tiles();
  draw();
  tables();
  targets();
}

function say(...children) {
  $("lost").hidden = !children.length;
  if (children.length && $("lost").textContent === "") $("lost").replaceChildren(...children);
  if (!children.length) $("lost").replaceChildren();
}

async function ask() {
  let isNew = false;
  try {
    const answer = await fetch("./swarmproof/live", { credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
    const kind = answer.headers.get("Content-Type") || "";
    if (!kind.includes("json")) {
      lost = Math.max(lost, 1) + 1; // this is sure the first time
      say("You are signed out. ", element("a", { href: "./login" }, "Sign in again"));
    } else {
      const found = await answer.json();
      if (found.error) throw new Error(found.error);
      data = found;
      lost = 0;
      isNew = true;
    }
  } catch {
    lost += 1;
    if (isLost()) say("The web UI does not answer: it has ended, or the network is away. Reconnecting … what is shown is the last that was known.");
  }
  setTimeout(ask, EVERY_MS);
  if (isNew) say();
  if (data) buttons();
  if (isNew) show();
}

ask();
