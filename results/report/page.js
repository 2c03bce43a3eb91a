"use strict";
// Sorts tables, opens the settings behind a number, draws a figure when it comes into view. Texts of records are set
// as text only, never as markup.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const made = (tag, text, name) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  return node;
};

// A cell's own number, else the number that its text begins with, else the text; what is empty comes last.
const keyOf = (cell) => {
  if (cell === undefined) return null;
  const given = cell.dataset.v ?? cell.textContent.trim();
  if (given === "" || given === "–") return null;
  const number = cell.dataset.v !== undefined ? Number(given) : Number((/^[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?/i.exec(given) ?? [NaN])[0].toString().replaceAll(",", ""));
  return Number.isNaN(number) ? given : number;
};
const compare = (one, other) => {
  if (typeof one === "number" && typeof other === "number") return one - other;
  if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
  return one.localeCompare(other, undefined, { numeric: true });
};
const sort = (table, column) => {
  const header = table.tHead.rows[0].cells[column];
  const keys = new Map([...table.tBodies[0].rows].map((row) => [row, keyOf(row.cells[column])]));
  const first = [...keys.values()].find((key) => key !== null);
  // Numbers from the largest first: that is what a table of accuracies is read for.
  const usual = typeof first === "number" ? "descending" : "ascending";
  const now = header.getAttribute("aria-sort");
  const order = now === null ? usual : now === "ascending" ? "descending" : "ascending";
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...keys.keys()].sort((a, b) => {
    const [one, other] = [keys.get(a), keys.get(b)];
    if (one === null || other === null) return (one === null) - (other === null);
    return sign * compare(one, other);
  });
  table.tBodies[0].append(...rows);
};
for (const table of document.querySelectorAll("table.sorts")) {
  table.tHead.addEventListener("click", (event) => {
    const header = event.target.closest("th");
    if (header) sort(table, header.cellIndex);
  });
}
// On a narrow screen the best row stands first, with its accuracy beside its name; the rest is to the right.
const ranked = document.querySelector("table.opens");
const name = ranked?.querySelector(".open")?.closest("td").cellIndex;
if (name !== undefined && matchMedia("(max-width: 640px)").matches) {
  const headers = [...ranked.tHead.rows[0].cells].map((header) => header.textContent);
  const at = headers.findIndex((header) => header.startsWith("linear"));
  if (at > name) {
    const columns = [name, at, ...(headers[at + 1] === "rank" ? [at + 1] : [])];
    for (const row of ranked.rows) row.prepend(...columns.map((column) => row.cells[column]));
    ranked.classList.remove("grouped");
    ranked.classList.add("narrow");
    sort(ranked, 1);
  }
}
document.querySelector("input[type=search]")?.addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of document.querySelectorAll(".opens tbody tr")) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
});

// The settings and cells of a configuration.
const dialog = document.querySelector("dialog");
let known;
const list = (pairs, own) => {
  const node = made("dl");
  for (const [name, value] of pairs) {
    const mark = own?.has(name) ? "own" : "";
    node.append(made("dt", name, mark), made("dd", value === null ? "–" : String(value), mark));
  }
  return node;
};
const open = (number) => {
  known ??= read("cells");
  const one = known.configurations[number];
  if (!one) return;
  const body = dialog.querySelector("div");
  const settings = { ...known.common, ...one.settings };
  const names = Object.keys(settings).sort();
  body.replaceChildren(made("h3", one.label), made("h4", "Cells"));
  const table = made("table");
  const head = table.createTHead().insertRow();
  for (const name of known.columns) head.append(made("th", name));
  const rows = table.createTBody();
  for (const cell of one.cells) {
    const row = rows.insertRow();
    cell.forEach((value, i) => {
      const at = row.insertCell();
      if (known.columns[i] === "folder" && value !== null) {
        const link = made("a", value);
        link.href = known.base + value.split("/").map(encodeURIComponent).join("/") + "/record.json";
        at.append(link);
      } else at.textContent = value === null ? "–" : String(known.words[known.columns[i]]?.[value] ?? value);
      if (String(at.textContent).length > 40) at.className = "long";
    });
  }
  const wide = made("div", undefined, "wide");
  wide.append(table);
  body.append(wide, made("h4", "Settings (bold: not the same in all configurations)"));
  body.append(list(names.map((name) => [name, settings[name]]), new Set(Object.keys(one.settings))));
  dialog.showModal();
  dialog.scrollTop = 0;
};
for (const table of document.querySelectorAll("table.opens")) {
  table.tBodies[0].addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && String(getSelection()) === "") open(row.dataset.row);
  });
}
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

// Figures.
const figures = read("figures");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const themed = (layout) => {
  const axis = { gridcolor: colour("--grid"), linecolor: colour("--line"), zerolinecolor: colour("--grid") };
  const whole = { ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: "zoom" };
  whole.modebar = { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: colour("--text") };
  whole.font = { family: "system-ui, sans-serif", size: 12, color: colour("--text") };
  for (const name of ["xaxis", "yaxis", "yaxis2"]) if (layout[name]) whole[name] = { ...axis, ...layout[name] };
  return whole;
};
// plotly.js makes style elements, which the page's policy takes from its scripts alone.
const create = document.createElement.bind(document);
document.createElement = (tag, ...more) => {
  const node = create(tag, ...more);
  if (String(tag).toLowerCase() === "style") node.nonce = document.querySelector("style").nonce;
  return node;
};
let library;
const load = async () => {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = made("script", await new Response(stream).text());
  document.head.append(script);
};
const draw = async (node) => {
  try {
    await (library ??= load());
  } catch {
    node.textContent = "Nothing can be drawn here; the figures stand beside this page as files.";
    return;
  }
  const choices = figures[node.dataset.figure];
  const { data, layout } = choices[node.dataset.choice ?? 0];
  const options = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "resetScale2d"]] };
  await Plotly.react(node, structuredClone(data), themed(structuredClone(layout)), options);
  if (!node.dataset.drawn) {
    node.on("plotly_click", ({ points }) => {
      const row = points[0]?.customdata;
      if (row !== undefined && row !== null && row >= 0) open(row);
    });
  }
  node.dataset.drawn = "yes";
};
const drawn = () => document.querySelectorAll(".plot[data-drawn]");
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    draw(entry.target);
  }
}, { rootMargin: "400px" });
for (const button of document.querySelectorAll("[data-choice]")) {
  button.addEventListener("click", () => {
    const figure = button.closest("figure");
    for (const one of figure.querySelectorAll("[data-choice]:not(.plot)")) one.setAttribute("aria-pressed", String(one === button));
    figure.querySelectorAll("figcaption").forEach((one, i) => { one.hidden = String(i) !== button.dataset.choice; });
    const node = figure.querySelector(".plot");
    node.dataset.choice = button.dataset.choice;
    draw(node);
  });
}
// After the first view: what is above the figures should not wait for them.
addEventListener("load", () => setTimeout(() => { for (const node of document.querySelectorAll(".plot")) seen.observe(node); }, 50));
addEventListener("beforeprint", () => { for (const node of document.querySelectorAll(".plot:not([data-drawn])")) draw(node); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn().forEach(draw));
