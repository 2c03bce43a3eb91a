"use strict";
// Asks for the state of the cells every few seconds and changes what has changed. Texts of cells are set as text only,
// never as markup.
const EVERY = 3000; // milliseconds between two questions
const DRAWN = 60; // cells at most whose curves are asked for at once
const STATES = ["running", "failed", "broken", "interrupted", "collapsed", "stopped", "pruned", "finished", "new"]; // as they sort
const COUNTED = ["finished", "collapsed", "stopped", "pruned", "failed", "broken", "running", "interrupted", "new"];
const GOES_ON = ["running", "interrupted", "new"];
const pick = (selector) => document.querySelector(selector);
const span = (seconds) =>
  seconds < 90 ? `${Math.round(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
const percent = (share) => (100 * share).toFixed(1);
const nameOf = (row) => `${row.method} ${row.label} ${row.name}`;

// What a row shows: a name, what it sorts by, and how it fills its cell of the table.
const text = (write) => (node, row) => { node.textContent = write(row) ?? ""; };
const withCurve = (write) => (node, row) => {
  const spark = node.querySelector("svg");
  node.textContent = write(row) ?? "";
  if (spark && row.state === "running") node.append(spark);
};
const COLUMNS = [
  { name: "cell", key: nameOf, fill: (node, row) => {
    const now = [row.method, row.label, row.reason].join("\n");
    if (node.dataset.shown === now) return; // a focus on it, or a selection in it, stays
    node.dataset.shown = now;
    node.replaceChildren(element("button", row.method, "open"), " ", element("span", row.label, "settings"));
    if (row.reason) node.append(element("div", row.reason, "reason"));
  } },
  { name: "state", key: (row) => STATES.indexOf(row.state), fill: (node, row) => node.replaceChildren(element("span", row.state)) },
  { name: "epochs", key: (row) => row.epoch, fill: (node, row) => {
    node.replaceChildren();
    if (row.epoch === null || row.epochs === null) return;
    node.append(`${Math.floor(row.epoch)} of ${row.epochs}`);
    if (!GOES_ON.includes(row.state)) return;
    const bar = element("progress");
    [bar.max, bar.value] = [row.epochs, row.epoch];
    bar.setAttribute("aria-label", "epochs trained");
    node.append(bar);
  } },
  { name: "loss", number: true, key: (row) => row.loss, fill: withCurve((row) => row.loss === null ? null : short(row.loss)) },
  { name: "kNN % (validation)", title: "20 nearest neighbours, on the validation split, while it trains", number: true, key: (row) => row.knn, fill: withCurve((row) => row.knn === null ? null : percent(row.knn)) },
  { name: "linear % (validation)", title: "linear probe, on the validation split, at its end", number: true, key: (row) => row.linear, fill: text((row) => row.linear === null ? null : percent(row.linear)) },
  { name: "time", number: true, key: (row) => row.left ?? row.took, fill: text((row) =>
    row.evaluates ? "evaluation" : row.left !== null ? `${span(row.left)} left` : row.took !== null ? span(row.took) : null) },
  { name: "where", key: (row) => row.where || null, fill: text((row) => row.where) },
];

let state = { cells: [], commands: {} };
let order = { column: COLUMNS[1], sign: 1 };
const chosen = new Set(); // states that are shown; all where it is empty
const rows = new Map(); // name of a cell -> its row, what it shows, its opened part
const body = pick("tbody");

const compare = (one, other) => {
  const [a, b] = [order.column.key(one), order.column.key(other)];
  if (a === null || b === null) return (a === null) - (b === null);
  const way = typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
  return order.sign * way || nameOf(one).localeCompare(nameOf(other), undefined, { numeric: true });
};
const arrange = () => {
  const words = pick("input[type=search]").value.toLowerCase().split(/\s+/).filter(Boolean);
  let last = null;
  for (const cell of [...state.cells].sort(compare)) {
    const { row, detail } = rows.get(cell.name);
    const all = `${nameOf(cell)} ${cell.state} ${cell.reason} ${cell.where}`.toLowerCase();
    row.hidden = (chosen.size > 0 && !chosen.has(cell.state)) || !words.every((word) => all.includes(word));
    for (const node of [row, detail]) {
      if (!node) continue;
      if (node === detail) node.hidden = row.hidden;
      // What stands where it should is not touched: a click or a selection in it goes on.
      if ((last ? last.nextSibling : body.firstChild) !== node) body.insertBefore(node, last ? last.nextSibling : body.firstChild);
      last = node;
    }
  }
};

const fill = (cell) => {
  let known = rows.get(cell.name);
  if (!known) {
    known = { row: element("tr"), shown: "", drawn: "", curves: null, detail: null };
    for (const { name, number } of COLUMNS) {
      const node = known.row.insertCell();
      node.className = `${name.split(" ")[0]}${number ? " number" : ""}`;
      node.dataset.name = name;
    }
    known.row.dataset.cell = cell.name;
    rows.set(cell.name, known);
  }
  const now = JSON.stringify(cell);
  if (now === known.shown) return;
  [known.shown, known.cell] = [now, cell];
  known.row.dataset.state = cell.state;
  COLUMNS.forEach((column, i) => column.fill(known.row.cells[i], cell));
  mark(known);
};
const mark = (known) => {
  const opened = known.detail !== null;
  known.row.classList.toggle("opened", opened);
  known.row.querySelector(".open").setAttribute("aria-expanded", String(opened));
};

const show = (answer) => {
  state = answer;
  const names = new Set(state.cells.map((cell) => cell.name));
  for (const [name, { row, detail }] of rows) {
    if (names.has(name)) continue;
    row.remove();
    detail?.remove();
    rows.delete(name);
  }
  state.cells.forEach(fill);
  arrange();
  summarise();
};
const summarise = () => {
  const counts = new Map();
  for (const word of COUNTED) {
    const count = state.cells.filter((cell) => cell.state === word).length;
    if (count) counts.set(word, count);
  }
  const all = state.cells.length;
  const ended = state.cells.filter((cell) => !GOES_ON.includes(cell.state)).length;
  document.title = `${ended}/${all} · ${state.title}`;
  pick("h1").textContent = `Sweep: ${state.title}`;
  const rest = state.left !== null ? `, about ${span(state.left)} left` : "";
  const idle = !counts.has("running") && ended < all ? ["; none runs: ", element("code", state.commands.resume), " goes on"] : [];
  pick(".verdict").replaceChildren(`${ended} of ${all} cell${all === 1 ? "" : "s"} ended${rest}`, ...idle);
  pick(".share").replaceChildren(...[...counts].map(([word, count]) => {
    const part = element("span");
    part.dataset.state = word;
    part.style.flexGrow = count;
    return part;
  }));
  for (const button of pick(".states").children) {
    const word = button.dataset.state;
    button.querySelector("b").textContent = counts.get(word) ?? 0;
    button.hidden = !counts.has(word) && !chosen.has(word);
  }
  const report = pick(".report");
  if (state.report !== null) {
    const link = element("a", "The report");
    link.href = "report/report.html";
    report.replaceChildren(link, ` of ${new Date(1000 * state.report).toLocaleString()}; `, element("code", state.commands.report), " makes it anew");
  } else report.replaceChildren("No report yet: ", element("code", state.commands.report), " makes one");
  pick(".none").hidden = all > 0;
  pick(".cells").hidden = all === 0;
};
const tell = (news) => {
  const node = pick(".news");
  if (node.textContent !== news) node.textContent = news;
  node.hidden = !news;
};

const draw = (known) => {
  const { cell, row, detail } = known;
  const { loss, accuracy } = known.curves ?? { loss: [], accuracy: [] };
  for (const [name, points] of [["loss", loss], ["kNN", accuracy]]) {
    const node = row.querySelector(`td.${name}`);
    node.querySelector("svg")?.remove();
    if (cell.state === "running" && points.length > 1) node.append(spark(points));
  }
  if (!detail) return;
  const pairs = element("div", undefined, "pairs");
  pairs.append(
    curve("Loss", loss, cell.epochs, short),
    curve("kNN on the validation split, %", accuracy.map(([at, share]) => [at, 100 * share]), cell.epochs, (value) => value.toFixed(1)),
  );
  const more = element("p");
  more.append(element("code", cell.name));
  if (["finished", "failed", "collapsed", "stopped", "pruned"].includes(cell.state)) {
    const link = element("a", "its record");
    link.href = `${encodeURIComponent(cell.name)}/record.json`;
    more.append(" · ", link);
  }
  detail.cells[0].replaceChildren(pairs, more);
};
const drawCurves = async () => {
  const due = [...rows.values()].filter((known) => {
    const { cell, detail, row } = known;
    known.due = `${cell.state} ${cell.epoch} ${cell.loss} ${cell.knn}`;
    return known.due !== known.drawn && (detail || (cell.state === "running" && !row.hidden && cell.epochs));
  }).sort((one, other) => (one.detail === null) - (other.detail === null)).slice(0, DRAWN);
  if (!due.length) return;
  const query = due.map(({ cell }) => `cell=${encodeURIComponent(cell.name)}`).join("&");
  const curves = await ask(`curves.json?${query}`);
  for (const known of due) {
    [known.curves, known.drawn] = [curves[known.cell.name] ?? null, known.due];
    draw(known);
  }
};

// Questions.
let asked = false;
let timer;
let since = new Date();
const ask = async (path) => {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
};
const poll = async () => {
  if (asked) return;
  asked = true;
  clearTimeout(timer);
  try {
    show(await ask("state.json"));
    await drawCurves();
    since = new Date();
    tell(state.news && `${state.news}; what stands here is from the folder alone`);
    pick(".made").textContent = `${state.folder}, as it was at ${since.toLocaleTimeString()}`;
  } catch (error) {
    tell(`No answer since ${since.toLocaleTimeString()}: what stands here is from then (${String(error.message).trim()})`);
  }
  asked = false;
  if (!document.hidden) timer = setTimeout(poll, EVERY);
};
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });

// What a person does.
const header = pick("thead tr");
for (const column of COLUMNS) {
  const node = element("th", undefined, column.number ? "number" : "");
  node.scope = "col";
  if (column.title) node.title = column.title;
  node.append(element("button", column.name));
  node.addEventListener("click", () => {
    // Numbers from the largest first, but for losses.
    const usual = column.number && column.name !== "loss" ? -1 : 1;
    order = { column, sign: order.column === column && node.hasAttribute("aria-sort") ? -order.sign : usual };
    for (const other of header.cells) other.removeAttribute("aria-sort");
    node.setAttribute("aria-sort", order.sign > 0 ? "ascending" : "descending");
    arrange();
  });
  header.append(node);
}
pick("input[type=search]").addEventListener("input", arrange);
for (const word of COUNTED) {
  const button = element("button");
  button.dataset.state = word;
  button.append(element("b"), ` ${word}`);
  button.addEventListener("click", () => {
    if (!chosen.delete(word)) chosen.add(word);
    button.setAttribute("aria-pressed", String(chosen.has(word)));
    arrange();
  });
  pick(".states").append(button);
}
body.addEventListener("click", (event) => {
  const known = rows.get(event.target.closest("tr")?.dataset.cell);
  if (!known || String(getSelection()) !== "") return;
  if (known.detail) {
    known.detail.remove();
    known.detail = null;
  } else {
    known.detail = element("tr", undefined, "detail");
    known.detail.insertCell().colSpan = COLUMNS.length;
    known.drawn = "";
    draw(known);
  }
  mark(known);
  arrange();
  drawCurves().catch(() => poll());
});
poll();
