"use strict";
// Curves as SVG: small ones in a row of the table, large ones with axes where a row is opened.
const SVG = "http://www.w3.org/2000/svg";
const element = (tag, text, name) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (name) node.className = name;
  return node;
};
const shape = (tag, attributes, text) => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
const short = (value) => Number(value.toPrecision(4)).toString();

const spark = (points) => {
  const svg = shape("svg", { class: "spark", viewBox: "0 0 92 20", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(line(points, ranges(points), 92, 20, { left: 0, right: 0, top: 2, bottom: 2 }));
  return svg;
};
const range = (values) => [Math.min(...values), Math.max(...values)];
const ranges = (points) => ({ x: range(points.map(([x]) => x)), y: range(points.map(([, y]) => y)) });
const place = (value, [low, high], from, to) => from + (high > low ? (value - low) / (high - low) : 0.5) * (to - from);
const line = (points, { x, y }, width, height, edge) => shape("polyline", {
  points: points.map(([a, b]) =>
    `${place(a, x, edge.left, width - edge.right).toFixed(1)},${place(b, y, height - edge.bottom, edge.top).toFixed(1)}`).join(" "),
});
const curve = (title, points, epochs, write) => {
  const figure = element("figure");
  figure.append(element("h3", title));
  if (points.length < 2) {
    figure.append(element("p", points.length ? `${write(points[0][1])} so far` : "none yet", "hint"));
    return figure;
  }
  const [width, height, edge] = [460, 170, { left: 44, right: 44, top: 12, bottom: 22 }];
  const { x, y } = ranges(points);
  const axes = { x: [0, Math.max(epochs ?? 0, x[1])], y };
  const svg = shape("svg", { class: "curve", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}, ${write(points.at(-1)[1])} at last` });
  const base = height - edge.bottom;
  svg.append(shape("line", { x1: edge.left, x2: width - edge.right, y1: base, y2: base }));
  svg.append(shape("line", { x1: edge.left, x2: edge.left, y1: edge.top, y2: base }));
  for (const value of new Set(y)) {
    svg.append(shape("text", { x: edge.left - 6, y: place(value, y, base, edge.top) + 4, "text-anchor": "end" }, write(value)));
  }
  for (const value of axes.x) {
    svg.append(shape("text", { x: place(value, axes.x, edge.left, width - edge.right), y: height - 6, "text-anchor": "middle" }, value === 0 ? "0 epochs" : short(value)));
  }
  svg.append(line(points, axes, width, height, edge));
  const [at, value] = points.at(-1);
  const end = { x: place(at, axes.x, edge.left, width - edge.right), y: place(value, y, base, edge.top) };
  svg.append(shape("circle", { cx: end.x, cy: end.y, r: 3 }), shape("text", { x: end.x + 6, y: end.y + 4 }, write(value)));
  figure.append(svg);
  return figure;
};
