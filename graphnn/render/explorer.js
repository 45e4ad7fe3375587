"use strict";
/* The explorer: one page, no network. Places of boxes inside each module come from Python; this script puts modules
   into modules, draws, and answers the reader. All text is set by textContent, so that a name cannot become markup.

   A "place" is the position of a node in data.nodes; place 0 is the graph itself. A "layout" has the places of one
   module's boxes with all modules in it closed. */

const SVG = "http://www.w3.org/2000/svg";
const FRAME = { side: 14, top: 48, bottom: 18 };
const MARGIN = 24;
const ZOOM = { least: 0.02, most: 4, step: 1.25, readable: 0.75 };
const PAN_STEP = 60;
const SAMPLES = 8; // points on each piece of a curve that is bent around an open module
const MOST_RESULTS = 40;
const MOST_ROWS = 200; // of a table on a card
const CLICK_RADIUS = 4;
const CLEARANCE = 6; // between an edge and an open module that it passes
const MOST_OBSTACLES = 300; // boxes that each edge looks out for
const SHORT = 70; // edges between neighbouring rows go down by less than this

const data = JSON.parse(document.getElementById("data").textContent);
const nodes = data.nodes;
const byId = (id) => document.getElementById(id);
const state = {
  open: new Set([0]),
  selected: 0,
  trace: { before: false, after: false },
  view: data.view,
  camera: { x: 0, y: 0, scale: 1 },
  spots: new Map(), // place -> rectangle of what is drawn for it
  elements: new Map(), // place -> its focusable element
  size: { width: 0, height: 0 }, // of the whole drawing
  area: null, // of the screen that shows it
};

/* ---- the graph as data ---------------------------------------------------------------------------------------- */

const isModule = (place) => nodes[place].layout !== undefined;
const layoutOf = (place) => data.layouts[nodes[place].layout];
const plural = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** Number of modules around each node. */
const levels = nodes.map(() => 0);
nodes.forEach((node, place) => {
  if (place > 0) levels[place] = node.parent > 0 ? levels[node.parent] + 1 : 0;
});

/** The node that a value really comes from: the output box inside, if the source is a module. */
function trueSource(place, output) {
  const node = nodes[place];
  return isModule(place) ? node.first + node.count - node.outputs.length + output : place;
}

/** The node that a value really goes to: the input box inside, if the target is a module. */
const trueTarget = (place, input) => (isModule(place) ? nodes[place].first + input : place);

/** For each node the nodes before it and after it, through all modules. */
function neighbours() {
  const before = nodes.map(() => []);
  const after = nodes.map(() => []);
  nodes.forEach((node, place) => {
    if (!isModule(place)) return;
    for (const [source, output, target, input] of layoutOf(place).links) {
      const [from, to] = [trueSource(node.first + source, output), trueTarget(node.first + target, input)];
      after[from].push(to);
      before[to].push(from);
    }
  });
  return { before, after };
}
const reach = neighbours();

/** All nodes inside a module at any depth; of another node, itself. */
function contents(place) {
  const found = [];
  const stack = [place];
  while (stack.length) {
    const next = stack.pop();
    if (!isModule(next)) found.push(next);
    else for (let index = nodes[next].count - 1; index >= 0; index--) stack.push(nodes[next].first + index);
  }
  return found;
}

/** What can be reached from a node along "before" or "after", without the node itself. */
function traced(place, direction) {
  const start = contents(place);
  const seen = new Set(start);
  const stack = [...start];
  while (stack.length) {
    for (const next of reach[direction][stack.pop()]) {
      if (!seen.has(next)) {
        seen.add(next);
        stack.push(next);
      }
    }
  }
  start.forEach((own) => seen.delete(own));
  return seen;
}

/** The set together with the modules around its members. */
function withModules(places) {
  const all = new Set(places);
  for (const place of places) {
    for (let up = nodes[place].parent; up > 0 && !all.has(up); up = nodes[up].parent) all.add(up);
  }
  return all;
}

/** The node that is drawn for a place: itself, or the outermost closed module around it. */
function drawnFor(place) {
  let drawn = place;
  for (let up = nodes[place].parent; up > 0; up = nodes[up].parent) if (!state.open.has(up)) drawn = up;
  return drawn;
}

/* ---- modules in modules: lengths are stretched where one is open ------------------------------------------------- */

/** A growing function that adds at least `extra` between `from` and `to` for each gap, and nothing elsewhere. */
function stretching(gaps) {
  if (!gaps.length) return (value) => value;
  const knots = [...new Set(gaps.flatMap((gap) => [gap.from, gap.to]))].sort((a, b) => a - b);
  const shifts = new Map();
  const ending = new Map(knots.map((knot) => [knot, []]));
  for (const gap of gaps) ending.get(gap.to).push(gap);
  let shift = 0;
  for (const knot of knots) {
    for (const gap of ending.get(knot)) shift = Math.max(shift, shifts.get(gap.from) + gap.extra);
    shifts.set(knot, shift);
  }
  return (value) => value + interpolated(knots, shifts, value);
}

function interpolated(knots, shifts, value) {
  if (value <= knots[0]) return 0;
  let [low, high] = [0, knots.length - 1];
  if (value >= knots[high]) return shifts.get(knots[high]);
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (knots[middle] <= value) low = middle;
    else high = middle;
  }
  const share = (value - knots[low]) / (knots[high] - knots[low]);
  return shifts.get(knots[low]) * (1 - share) + shifts.get(knots[high]) * share;
}

/** Size of an open module and what is in it. */
function compose(place) {
  const layout = layoutOf(place);
  const inner = new Map();
  const [columns, rows] = [[], []];
  layout.boxes.forEach((box, index) => {
    const child = nodes[place].first + box.node;
    if (box.node < 0 || !isModule(child) || !state.open.has(child)) return;
    const composed = compose(child);
    inner.set(index, composed);
    const [x, y, width, height] = box.place;
    columns.push({ from: x, to: x + width, extra: Math.max(0, composed.width - width) });
    rows.push({ from: y, to: y + height, extra: Math.max(0, composed.height - height) });
  });
  const [mapX, mapY] = [stretching(columns), stretching(rows)];
  const content = { width: mapX(layout.width), height: mapY(layout.height) };
  const least = (nodes[place].title_width || 0) + 40;
  const width = place ? Math.max(content.width, least) + 2 * FRAME.side : content.width;
  const height = place ? content.height + FRAME.top + FRAME.bottom : content.height;
  return { place, layout, inner, mapX, mapY, content, width, height, isBent: inner.size > 0 };
}

/** Give everything inside a module its rectangle on the drawing, given that of the module. */
function settle(composed, spot) {
  const { layout, inner, mapX, mapY, place } = composed;
  composed.x = spot.x + (spot.width - composed.content.width) / 2;
  composed.y = spot.y + (place ? FRAME.top + (spot.height - composed.height) / 2 : 0);
  composed.spots = layout.boxes.map((box, index) => {
    const [x, y, width, height] = box.place;
    const room = { x: composed.x + mapX(x), y: composed.y + mapY(y) };
    room.width = composed.x + mapX(x + width) - room.x;
    room.height = composed.y + mapY(y + height) - room.y;
    const settled = inner.has(index) ? room : centred(room, width, height);
    if (box.node >= 0) state.spots.set(nodes[place].first + box.node, settled);
    if (inner.has(index)) settle(inner.get(index), settled);
    return settled;
  });
}

const centred = (room, width, height) => ({
  x: room.x + (room.width - width) / 2,
  y: room.y + (room.height - height) / 2,
  width,
  height,
});

/* ---- curves ------------------------------------------------------------------------------------------------------ */

const points = (numbers) => numbers.flatMap((x, index) => (index % 2 ? [] : [[x, numbers[index + 1]]]));
const bezier = (a, b, c, d, t) =>
  a * (1 - t) ** 3 + 3 * b * t * (1 - t) ** 2 + 3 * c * t ** 2 * (1 - t) + d * t ** 3;
const xy = ([x, y]) => `${+x.toFixed(1)} ${+y.toFixed(1)}`;

/** Points along a curve given as a point, three for each Bezier piece, and the tip. */
function sampled(curve) {
  const result = [curve[0]];
  for (let at = 0; at + 3 < curve.length - 1; at += 3) {
    const piece = curve.slice(at, at + 4);
    for (let step = 1; step <= SAMPLES; step++) {
      result.push([0, 1].map((axis) => bezier(...piece.map((point) => point[axis]), step / SAMPLES)));
    }
  }
  return [...result, curve[curve.length - 1]];
}

/** How far an end of an edge (0: source, 1: target) has moved: with its box, or to the border of an open module, straight
    above the input or below the output inside that it belongs to. */
function shift(composed, edge, pair, end, [x, y]) {
  const index = edge.ends[end];
  const spot = composed.spots[index];
  if (composed.inner.has(index)) {
    const pill = pair ? state.spots.get(pair[end]) : spot;
    return [pill.x + pill.width / 2 - x, spot.y + (end ? 0 : spot.height) - y];
  }
  const [left, top, width, height] = composed.layout.boxes[index].place;
  return [spot.x + (spot.width - width) / 2 - left, spot.y + (spot.height - height) / 2 - top];
}

const mixed = (a, b, share) => [a[0] * (1 - share) + b[0] * share, a[1] * (1 - share) + b[1] * share];
const plus = (a, b) => [a[0] + b[0], a[1] + b[1]];
const minus = (a, b) => [a[0] - b[0], a[1] - b[1]];

/** The line of an edge on the drawing: `path` for SVG, and its points from source to target. `pair` has the nodes that it
    really connects, where these lie in an open module. */
function routed(composed, edge, pair) {
  const curve = points(edge.curve);
  const [first, tip] = [curve[0], curve[curve.length - 1]];
  const shifts = [shift(composed, edge, pair, 0, first), shift(composed, edge, pair, 1, tip)];
  if (!composed.isBent) {
    const line = curve.map((point) => plus(point, shifts[0]));
    return { path: curved(line), line };
  }
  const direct = bow(plus(first, shifts[0]), plus(tip, shifts[1]));
  const isShort = Math.abs(tip[1] - first[1]) <= SHORT;
  if (isShort && !hits(composed, edge, sampled(direct))) return { path: curved(direct), line: direct };
  const all = ways(composed, sampled(curve), shifts);
  const line = (all.find((way) => !hits(composed, edge, way())) || all[all.length - 1])();
  return { path: smooth(line), line };
}

/** Ways around what is open, the roundest first; the last keeps the most to the stretched plane, on which nothing that
    was apart can meet. */
function ways(composed, line, shifts) {
  const move = ([x, y]) => [composed.x + composed.mapX(x), composed.y + composed.mapY(y)];
  const [first, tip] = [line[0], line[line.length - 1]];
  const drifts = [minus(plus(first, shifts[0]), move(first)), minus(plus(tip, shifts[1]), move(tip))];
  const share = (index) => index / (line.length - 1);
  const even = () => line.map((point, index) => plus(move(point), mixed(...drifts, share(index))));
  const close = () =>
    line.map((point, index) => {
      const [near, far] = [Math.max(0, 1 - 4 * share(index)), Math.max(0, 4 * share(index) - 3)];
      return plus(move(point), plus(mixed([0, 0], drifts[0], near), mixed([0, 0], drifts[1], far)));
    });
  const round = () => even().map(([, y], index) => [line[index][0] + mixed(...shifts, share(index))[0], y]);
  return composed.spots.length > MOST_OBSTACLES ? [close] : [round, even, close];
}

/** Whether a line runs into a box that is not at its end. */
function hits(composed, edge, line) {
  if (composed.spots.length > MOST_OBSTACLES) return false;
  return composed.spots.some((spot, index) => !edge.ends.includes(index) && line.some((point) => isWithin(spot, point)));
}

const isWithin = ({ x, y, width, height }, [px, py]) =>
  px > x - CLEARANCE && px < x + width + CLEARANCE && py > y - CLEARANCE && py < y + height + CLEARANCE;

/** A curve from the lower border of a box to the upper border of one in the next row. */
function bow(from, to) {
  const middle = (from[1] + to[1]) / 2;
  return [from, [from[0], middle], [to[0], middle], [to[0], to[1] - 1], to];
}

/** SVG for a point, three for each Bezier piece, and the tip of an arrow. */
function curved(points) {
  return `M${xy(points[0])}C${points.slice(1, -1).map(xy).join(" ")}L${xy(points[points.length - 1])}`;
}

/** A path through the middles of the pieces of a line, rounded at its corners. */
function smooth(line) {
  let path = `M${xy(line[0])}`;
  for (let index = 1; index < line.length - 1; index++) {
    const [a, b] = [line[index], line[index + 1]];
    const middle = index === line.length - 2 ? b : [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];
    path += `Q${xy(a)} ${xy(middle)}`;
  }
  return path;
}

/** The head of an arrow at the end of a line. */
function arrowHead(line) {
  const tip = line[line.length - 1];
  const from = line.findLast((point) => Math.hypot(tip[0] - point[0], tip[1] - point[1]) >= 6) || line[0];
  const length = Math.hypot(tip[0] - from[0], tip[1] - from[1]) || 1;
  const [dx, dy] = [(tip[0] - from[0]) / length, (tip[1] - from[1]) / length];
  const back = [tip[0] - 9 * dx, tip[1] - 9 * dy];
  return `M${xy([back[0] - 3.5 * dy, back[1] + 3.5 * dx])}L${xy(tip)}L${xy([back[0] + 3.5 * dy, back[1] - 3.5 * dx])}Z`;
}

/* ---- drawing ----------------------------------------------------------------------------------------------------- */

function element(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function html(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function text(content, x, y, style) {
  const made = element("text", { x, y, class: style });
  made.textContent = content;
  return made;
}

const rectangle = ({ x, y, width, height }, style, rx) => element("rect", { x, y, width, height, rx, class: style });

/** Lay out and draw everything anew for the modules that are open now. */
function draw() {
  state.spots.clear();
  state.elements.clear();
  const composed = compose(0);
  settle(composed, { x: 0, y: 0, width: composed.width, height: composed.height });
  state.size = { width: composed.width, height: composed.height };
  byId("world").replaceChildren(list(composed));
  mark();
  showDepth();
}

/** The content of a module: its edges, then its nodes as a list in forward order. */
function list(composed) {
  const { place, layout, inner } = composed;
  const edges = element("g", { "aria-hidden": "true" });
  for (const edge of layout.edges) edges.append(...strands(composed, edge).map((pairs) => strand(composed, edge, pairs)));
  const items = element("g", { role: "list", "aria-label": place ? `inside ${nodes[place].path}` : data.name });
  const order = layout.boxes.map((_, index) => index);
  order.sort((a, b) => layout.boxes[a].node - layout.boxes[b].node);
  for (const index of order) {
    if (layout.boxes[index].node < 0) edges.append(drawnBox(layout.boxes[index], composed.spots[index]));
    else if (inner.has(index)) items.append(frame(inner.get(index), leads(composed, index)));
    else items.append(item(nodes[place].first + layout.boxes[index].node, layout.boxes[index]));
  }
  return element("g", {}, edges, items);
}

function item(place, box) {
  const button = control(place);
  button.append(...outlines(box.role, box.category, state.spots.get(place), box));
  button.append(...captions(box, state.spots.get(place)), ...badge(place, state.spots.get(place)));
  return element("g", { role: "listitem" }, button);
}

/** An open module: a frame with a title that closes it, the ends of edges from outside, and its content. */
function frame(composed, ends) {
  const { place } = composed;
  const spot = state.spots.get(place);
  const shade = levels[place] % 2 ? "odd" : "even";
  const back = rectangle(spot, `group ${shade}${nodes[place].frozen ? " frozen" : ""}`, 8);
  back.dataset.place = place;
  const button = control(place, true);
  const bar = { x: spot.x + 6, y: spot.y + 5, width: nodes[place].title_width + 30, height: 20 };
  button.append(rectangle(bar, `bar ${shade}`, 4), text(`▾ ${nodes[place].title}`, bar.x + 6, bar.y + 14, "name"));
  button.append(...badge(place, spot));
  return element("g", { role: "listitem" }, back, ends, button, list(composed));
}

/** What the reader can focus and click for a node. */
function control(place, isOpen = false) {
  const made = element("g", { role: "button", tabindex: "0", class: "node", "aria-label": label(place) });
  made.dataset.place = place;
  made.dataset.path = nodes[place].path;
  if (isModule(place)) made.setAttribute("aria-expanded", String(isOpen));
  state.elements.set(place, made);
  return made;
}

function label(place) {
  const node = nodes[place];
  const outputs = (node.outputs || []).map(([name, shape, dtype]) => [name, shape, dtype].filter(Boolean).join(" "));
  const step = steps(place) ? `step ${steps(place)} ${state.view}` : "";
  const facts = [`${node.kind} ${node.path}`, outputs.join("; "), node.counts, step, stops(place) ? "no gradient" : ""];
  return facts.filter(Boolean).join(", ");
}

function drawnBox(box, spot) {
  return element("g", {}, ...outlines(box.role, box.category, spot, box), ...captions(box, spot));
}

/** The frame of a box: its corners tell the role, dashes a frozen one, a second frame a closed module. */
function outlines(role, category, spot, { frozen } = {}) {
  const radius = { input: 16, output: 16, reference: 9 }[role] || 4;
  const dots = role === "reference" || role === "omission" ? " dots" : "";
  const style = `box${frozen ? " frozen" : ""}${dots}`;
  const made = [rectangle(spot, style, Math.min(radius, spot.height / 2))];
  if (role === "module" || role === "output") {
    const within = { x: spot.x + 3, y: spot.y + 3, width: spot.width - 6, height: spot.height - 6 };
    made.push(rectangle(within, style, Math.max(Math.min(radius, spot.height / 2) - 3, 2)));
  }
  for (const outline of made) outline.dataset.category = category;
  return frozen ? [...made, lock(spot.x + spot.width - 17, spot.y + 5)] : made;
}

function lock(x, y) {
  const shackle = element("path", { class: "shackle", d: `M${x + 2.5} ${y + 5}v-2a2.5 2.5 0 0 1 5 0v2` });
  return element("g", {}, shackle, rectangle({ x, y: y + 5, width: 10, height: 7 }, "lock", 1.5));
}

function captions(box, spot) {
  return box.lines.map((line, index) => {
    const y = spot.y + 8 + 15 * index + (index ? 11 : 12);
    return text(line, spot.x + spot.width / 2, y, index === 0 ? "kind" : index === 1 ? "name" : "fact");
  });
}

/** First and last step of a node in the view. */
function steps(place) {
  const range = nodes[place][state.view];
  return range && (range[0] === range[1] ? String(range[0]) : `${range[0]}–${range[1]}`);
}

/** Whether the gradient passes by a layer. */
const stops = (place) =>
  state.view === "backward" && !["Input", "Output"].includes(nodes[place].kind) && !nodes[place].backward;

function badge(place, spot) {
  const content = stops(place) ? "no gradient" : steps(place);
  if (!content) return [];
  const width = 6 * content.length + 8;
  const back = { x: spot.x - Math.min(width - 8, 16), y: spot.y - 9, width, height: 15 };
  return [rectangle(back, "badge", 7), text(content, back.x + width / 2, back.y + 11, "step")];
}

/* Edges */

/** The connections of an edge, in one list for each line that is drawn: those that meet at both ends share one. */
function strands(composed, edge) {
  const isOpen = edge.ends.map((index) => composed.inner.has(index));
  const lines = new Map();
  for (const pair of trueEnds(composed, edge)) {
    const key = pair.map((place, end) => isOpen[end] && place).join();
    lines.set(key, [...(lines.get(key) || []), pair]);
  }
  return lines.size ? [...lines.values()] : [[]];
}

function strand(composed, edge, pairs) {
  const { path, line } = routed(composed, edge, pairs[0]);
  const made = connection(pairs, path);
  made.append(...heads(composed, edge, line));
  if (pairs.length > 1) made.append(...count(pairs.length, line[line.length >> 1]));
  return made;
}

/** A line for connections between these pairs of nodes. */
function connection(pairs, path) {
  const made = element("g", { class: "edge" }, element("path", { class: "line", d: path }));
  made.ends = pairs;
  if (isIdle(pairs)) made.classList.add("idle");
  return made;
}

/** Arrow heads only where the line ends at a box; at an open module, the lines inside have them. */
function heads(composed, edge, line) {
  const isBack = state.view === "backward";
  const end = edge.ends[isBack ? 0 : 1];
  return composed.inner.has(end) ? [] : [element("path", { class: "tip", d: arrowHead(isBack ? line.toReversed() : line) })];
}

/** The pairs of nodes that an edge really connects; the label of an edge from afar says where it comes from. */
function trueEnds(composed, edge) {
  const { first } = nodes[composed.place];
  const [from, to] = edge.ends.map((index) => composed.layout.boxes[index]);
  const pair = ([source, output, target, input]) => [trueSource(first + source, output), trueTarget(first + target, input)];
  if (from.from) {
    const sources = new Set(from.from);
    return linksInto(composed.layout, to.node).filter(([source]) => sources.has(source)).map(pair);
  }
  return from.node < 0 || to.node < 0 ? [] : edge.ports.map(([output, input]) => pair([from.node, output, to.node, input]));
}

/** The connections that end at a node, from a table made at the first question. */
function linksInto(layout, node) {
  if (!layout.byTarget) {
    layout.byTarget = layout.boxes.map(() => []);
    for (const link of layout.links) (layout.byTarget[link[2]] ||= []).push(link);
  }
  return layout.byTarget[node] || [];
}

/** Whether no gradient comes back along an edge. */
const isIdle = (ends) => state.view === "backward" && ends.every(([from, to]) => !isVisited(from) || !isVisited(to));

function isVisited(place) {
  const { kind, outputs } = nodes[place];
  return kind === "Input" || kind === "Output" ? outputs[0][2].startsWith("float") : Boolean(nodes[place].backward);
}

function count(number, [x, y]) {
  const content = `×${number}`;
  const width = 8 + 6 * content.length;
  const back = { x: x + 5, y: y - 9, width, height: 15 }; // beside the line, whose head it would hide
  return [rectangle(back, "badge", 7), text(content, back.x + width / 2, y + 2, "step")];
}

/** Lines between the border of an open module and its inputs and outputs. */
function leads(composed, index) {
  const made = element("g", { "aria-hidden": "true" });
  for (const end of [0, 1]) {
    const byPill = new Map();
    for (const edge of composed.layout.edges.filter(({ ends }) => ends[end] === index)) {
      for (const pair of trueEnds(composed, edge)) byPill.set(pair[end], [...(byPill.get(pair[end]) || []), pair]);
    }
    for (const [place, pairs] of byPill) made.append(lead(composed.spots[index], state.spots.get(place), pairs, end === 1));
  }
  return made;
}

/** A straight line, from above behind the title of the frame. */
function lead(spot, pill, pairs, isIncoming) {
  const x = pill.x + pill.width / 2;
  const [from, to] = isIncoming ? [[x, spot.y], [x, pill.y]] : [[x, pill.y + pill.height], [x, spot.y + spot.height]];
  const made = connection(pairs, `M${xy(from)}L${xy(to)}`);
  const isBack = state.view === "backward";
  if (isIncoming !== isBack) made.append(element("path", { class: "tip", d: arrowHead(isBack ? [to, from] : [from, to]) }));
  return made;
}

/* ---- selection and trace ----------------------------------------------------------------------------------------- */

/** Show the selection and the trace on what is drawn. */
function mark() {
  const isTracing = state.selected > 0 && (state.trace.before || state.trace.after);
  const found = Object.fromEntries(
    ["before", "after"].map((way) => [way, isTracing && state.trace[way] ? traced(state.selected, way) : new Set()]),
  );
  const own = new Set(state.selected > 0 ? contents(state.selected) : []);
  const shown = { before: withModules(found.before), after: withModules(found.after) };
  byId("world").classList.toggle("tracing", isTracing);
  for (const [place, made] of state.elements) {
    made.toggleAttribute("aria-current", place === state.selected);
    if (place === state.selected) made.setAttribute("aria-current", "true");
    made.dataset.trace = traceOf(place, own, shown);
  }
  for (const made of byId("world").querySelectorAll(".edge")) {
    made.dataset.trace = ["before", "after"].filter((way) => made.ends.some((pair) => isOnWay(pair, own, found[way]))).join(" ");
  }
  const total = plural([...found.before, ...found.after].filter((place) => nodes[place].hyperparameters || !isPill(place)).length, "node");
  byId("traced").textContent = isTracing ? `${total} traced` : "";
}

const isPill = (place) => ["Input", "Output"].includes(nodes[place].kind);

function traceOf(place, own, shown) {
  if (place === state.selected || own.has(place)) return "own";
  return ["before", "after"].filter((way) => shown[way].has(place)).join(" ");
}

/** Whether both ends of a connection lie on a way that the trace found. */
const isOnWay = (pair, own, way) =>
  way.size > 0 && pair.every((place) => own.has(place) || way.has(place)) && pair.some((place) => way.has(place));

function select(place) {
  state.selected = place;
  mark();
  showCard();
}

/** Select a node, open what hides it, and bring it into sight. */
function jump(place) {
  for (let up = nodes[place].parent; up > 0; up = nodes[up].parent) state.open.add(up);
  draw();
  select(place);
  centre(place);
  focus(place);
  if (!state.spots.has(place)) say(`${nodes[place].path} is not drawn: the graph is too large`);
}

function focus(place) {
  const made = state.elements.get(place);
  if (made) made.focus({ preventScroll: true });
}

function toggle(place) {
  const before = state.spots.get(place);
  if (!state.open.delete(place)) state.open.add(place);
  draw();
  const after = state.spots.get(place);
  const { camera } = state;
  camera.x += (before.x + before.width / 2 - after.x - after.width / 2) * camera.scale;
  camera.y += (before.y - after.y) * camera.scale;
  look();
  select(place);
  focus(place);
  say(`${nodes[place].path} ${state.open.has(place) ? "opened" : "closed"}`);
}

/** Open all modules down to a depth, and close those below. */
function openTo(depth) {
  openOnly(nodes.flatMap((_, place) => (place > 0 && isModule(place) && levels[place] < depth ? [place] : [])));
  if (state.selected > 0) select(drawnFor(state.selected));
  say(depth ? `modules open to depth ${depth}` : "all modules closed");
}

/** Open just these modules, and those around them as far as they are among them. */
function openOnly(places) {
  state.open = new Set([0, ...places]);
  draw();
  start();
}

/** The slider follows when modules are opened one by one: it shows the depth down to which all is open. */
function showDepth() {
  let depth = data.deepest;
  nodes.forEach((_, place) => {
    if (place > 0 && isModule(place) && !state.open.has(place)) depth = Math.min(depth, levels[place]);
  });
  byId("depth").value = depth;
  byId("depth-shown").textContent = `${depth} of ${data.deepest}`;
}

/* ---- the card ---------------------------------------------------------------------------------------------------- */

function showCard() {
  const node = nodes[state.selected];
  const title = html("h2");
  title.textContent = state.selected ? node.kind : data.name;
  const path = html("p", { class: "path" });
  path.textContent = state.selected ? node.path : data.subtitle;
  byId("card").replaceChildren(title, path, ...facts(state.selected));
  for (const way of ["before", "after"]) byId(way).disabled = !state.selected;
}

function facts(place) {
  const node = nodes[place];
  return [
    section("Step", orders(place)),
    section("Outputs", (node.outputs || []).map(([name, ...cells]) => [name || "output", ...cells])),
    section("Inputs", place ? connections(place, "before") : rootEnds("Input")),
    section(place ? "Read by" : "Outputs", place ? connections(place, "after") : rootEnds("Output")),
    section("Hyper-parameters", node.hyperparameters || []),
    section("Parameters", [...(node.parameters || []), ...(node.counts ? [["together", node.counts]] : [])]),
    section("States", node.states || []),
    section("Training", training(node)),
    section("Shares its parameters with", (node.shared || []).map((other) => ["", link(other)])),
    section("Declared at", node.declared ? [["", node.declared]] : []),
  ].filter(Boolean);
}

function training(node) {
  if (node.frozen) return [["", "frozen: not trained"]];
  return node.parameters || node.shared ? [["", "trained"]] : node.optional ? [["", "optional: zeros if not given"]] : [];
}

function orders(place) {
  const found = [];
  for (const view of ["forward", "backward"]) {
    const range = nodes[place][view];
    if (place && range) found.push([view, `${[...new Set(range)].join(" to ")} of ${data.steps[view]}`]);
  }
  if (place && !isPill(place) && !nodes[place].backward) found.push(["backward", "no gradient comes here"]);
  return found;
}

const rootEnds = (kind) =>
  nodes.flatMap((node, place) => (place && node.parent === 0 && node.kind === kind ? [["", link(place)]] : []));

/** The nodes beside a node, as written where it was declared: one row for each connection. */
function connections(place, way) {
  const { parent } = nodes[place];
  const { first } = nodes[parent];
  const found = [];
  for (const [source, output, target, input] of layoutOf(parent).links) {
    if (way === "before" && first + target === place) found.push([inputName(place, input), link(first + source, output)]);
    if (way === "after" && first + source === place) found.push(["", link(first + target)]);
  }
  return [...found, ...throughFrame(place, way)];
}

/** What an input or output box of a module is connected with outside. */
function throughFrame(place, way) {
  const { parent, kind } = nodes[place];
  const isHere = parent > 0 && kind === (way === "before" ? "Input" : "Output");
  return isHere ? reach[way][place].map((other) => ["outside", link(other)]) : [];
}

const inputName = (place, input) => (isModule(place) ? nodes[nodes[place].first + input].name : String(input));

/** A headed table; a row is a name and cells of text, or a link to another node. */
function section(heading, rows) {
  if (!rows.length) return null;
  const title = html("h3");
  title.textContent = heading;
  const table = html("table");
  for (const [name, ...cells] of rows.slice(0, MOST_ROWS)) {
    const head = html("th", { scope: "row" });
    head.textContent = name;
    table.append(html("tr", {}, head, ...cells.map((cell) => html("td", {}, cell))));
  }
  return html("section", {}, title, table);
}

function link(place, output = -1) {
  const button = html("button", { type: "button", class: "link" });
  const name = output >= 0 && (nodes[place].outputs || []).length > 1 ? `${nodes[place].outputs[output][0]} of ` : "";
  button.textContent = name + nodes[place].path;
  button.addEventListener("click", () => jump(place));
  return button;
}

/* ---- the camera -------------------------------------------------------------------------------------------------- */

function look() {
  const { x, y, scale } = state.camera;
  byId("world").setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${scale.toFixed(4)})`);
}

const viewport = () => state.area;

/** Remember where the drawing is on the screen: to ask again after each change would lay out all text again. */
function measure() {
  state.area = byId("drawing").getBoundingClientRect();
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function fittingScale() {
  const { width, height } = viewport();
  const room = Math.min((width - 2 * MARGIN) / state.size.width, (height - 2 * MARGIN) / state.size.height);
  return clamp(room, ZOOM.least, 1);
}

/** Show the whole drawing. */
function fit() {
  const { width, height } = viewport();
  const scale = fittingScale();
  state.camera = { scale, x: (width - state.size.width * scale) / 2, y: (height - state.size.height * scale) / 2 };
  look();
}

/** Show the whole drawing, or its beginning where the whole would be too small to read. */
function start() {
  fit();
  if (state.camera.scale >= ZOOM.readable) return;
  const scale = ZOOM.readable;
  state.camera = { scale, x: (viewport().width - state.size.width * scale) / 2, y: MARGIN };
  const first = state.spots.get(nodes[0].first);
  if (state.size.width * scale > viewport().width && first) {
    state.camera.x = viewport().width / 2 - (first.x + first.width / 2) * scale;
  }
  look();
}

/** Zoom so that the point under the cursor, or the middle, stays. */
function zoom(factor, point) {
  const { camera } = state;
  const { left, top, width, height } = viewport();
  const [x, y] = point ? [point.clientX - left, point.clientY - top] : [width / 2, height / 2];
  const scale = clamp(camera.scale * factor, ZOOM.least, ZOOM.most);
  camera.x = x - ((x - camera.x) * scale) / camera.scale;
  camera.y = y - ((y - camera.y) * scale) / camera.scale;
  camera.scale = scale;
  look();
}

function pan(dx, dy) {
  state.camera.x += dx;
  state.camera.y += dy;
  look();
}

function centre(place) {
  const spot = state.spots.get(place);
  if (!spot) return;
  const { width, height } = viewport();
  const scale = Math.max(state.camera.scale, ZOOM.readable);
  const top = height / 2 - Math.min(spot.height / 2, height / 3 / scale) * scale;
  state.camera = { scale, x: width / 2 - (spot.x + spot.width / 2) * scale, y: top - spot.y * scale };
  look();
}

/** Bring a node into sight that keyboard focus has reached outside of it. */
function reveal(place) {
  const spot = state.spots.get(place);
  const { width, height } = viewport();
  const { x, y, scale } = state.camera;
  const [left, top] = [x + spot.x * scale, y + spot.y * scale];
  if (left < 0 || top < 0 || left + Math.min(spot.width, 200) * scale > width || top + 30 * scale > height) centre(place);
}

/* ---- search ------------------------------------------------------------------------------------------------------ */

/** Places whose path or kind has all words, those whose name begins with the text first. */
function matches(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const found = nodes.flatMap(({ path, kind, name }, place) => {
    const line = `${path} ${kind}`.toLowerCase();
    return place && words.every((word) => line.includes(word)) ? [{ place, name: name.toLowerCase() }] : [];
  });
  const rank = ({ name }) => (name === words[0] ? 0 : name.startsWith(words[0]) ? 1 : 2);
  return found.sort((a, b) => rank(a) - rank(b) || a.place - b.place).map(({ place }) => place);
}

function showMatches() {
  const found = matches(byId("search").value);
  const options = found.slice(0, MOST_RESULTS).map((place, index) => option(place, index));
  byId("results").replaceChildren(...options);
  byId("results").hidden = !options.length;
  byId("search").setAttribute("aria-expanded", String(options.length > 0));
  const more = found.length > MOST_RESULTS ? `, the first ${MOST_RESULTS} are listed` : "";
  say(byId("search").value ? plural(found.length, "match").replace("matchs", "matches") + more : "");
  activate(0);
}

function option(place, index) {
  const made = html("li", { role: "option", id: `result-${index}` });
  const [path, kind] = [html("b"), html("span")];
  path.textContent = nodes[place].path;
  kind.textContent = nodes[place].kind;
  made.append(path, " ", kind);
  made.dataset.place = place;
  made.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    choose(place);
  });
  return made;
}

function activate(index) {
  const options = [...byId("results").children];
  options.forEach((made, at) => made.setAttribute("aria-selected", String(at === index)));
  if (options[index]) {
    byId("search").setAttribute("aria-activedescendant", options[index].id);
    options[index].scrollIntoView({ block: "nearest" });
  } else byId("search").removeAttribute("aria-activedescendant");
}

function choose(place) {
  hideMatches();
  jump(place);
}

function hideMatches() {
  byId("results").hidden = true;
  byId("search").setAttribute("aria-expanded", "false");
}

function searchKey(event) {
  const options = [...byId("results").children];
  const at = options.findIndex((made) => made.getAttribute("aria-selected") === "true");
  const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (move && options.length) activate((at + move + options.length) % options.length);
  else if (event.key === "Enter" && options[at]) choose(Number(options[at].dataset.place));
  else if (event.key === "Escape") {
    hideMatches();
    byId("search").blur();
  } else return;
  event.preventDefault();
}

/* ---- what the reader does ---------------------------------------------------------------------------------------- */

function say(message) {
  byId("status").textContent = message;
}

function setTrace(way, isOn) {
  state.trace[way] = isOn;
  byId(way).checked = isOn;
  mark();
}

function setView(view) {
  state.view = view;
  byId("view").value = view;
  draw();
  say(`${view} view: numbers are steps in ${view} order`);
}

function switchTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
}

/** The next drawn node along an edge, for Shift and an arrow key. */
function follow(way) {
  const focused = document.activeElement.closest?.(".node");
  const place = focused ? Number(focused.dataset.place) : state.selected;
  const ends = isModule(place) ? contents(place) : [place];
  const inside = new Set(ends);
  const next = ends.flatMap((end) => reach[way][end]).find((other) => !inside.has(other) && drawnFor(other) !== place);
  if (next === undefined) return;
  select(drawnFor(next));
  focus(drawnFor(next));
}

const KEYS = {
  "/": () => byId("search").select(),
  "+": () => zoom(ZOOM.step),
  "=": () => zoom(ZOOM.step),
  "-": () => zoom(1 / ZOOM.step),
  0: fit,
  ArrowLeft: () => pan(PAN_STEP, 0),
  ArrowRight: () => pan(-PAN_STEP, 0),
  ArrowUp: () => pan(0, PAN_STEP),
  ArrowDown: () => pan(0, -PAN_STEP),
  "Shift+ArrowUp": () => follow("before"),
  "Shift+ArrowDown": () => follow("after"),
  i: () => setTrace("before", !state.trace.before),
  o: () => setTrace("after", !state.trace.after),
  b: () => setView(state.view === "forward" ? "backward" : "forward"),
  t: switchTheme,
  Escape: () => select(0),
};

function pressed(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const { target } = event;
  if (target === byId("search")) return searchKey(event);
  if (target.matches("input, select, textarea") && (event.key.startsWith("Arrow") || target.type !== "checkbox")) return;
  const node = target.closest?.(".node");
  if (node && (event.key === "Enter" || event.key === " ")) activateNode(Number(node.dataset.place));
  else {
    const name = event.shiftKey && event.key.startsWith("Arrow") ? `Shift+${event.key}` : event.key;
    if (!KEYS[name]) return;
    KEYS[name]();
  }
  event.preventDefault();
}

function activateNode(place) {
  if (isModule(place)) toggle(place);
  else select(place);
}

/** Dragging moves the drawing, two fingers zoom; a press that stays where it was is a click. */
const fingers = new Map();
let travelled = 0;

function down(event) {
  if (event.button !== 0) return;
  if (!fingers.size) travelled = 0;
  fingers.set(event.pointerId, event);
}

function moved(event) {
  const last = fingers.get(event.pointerId);
  if (!last) return;
  const [dx, dy] = [event.clientX - last.clientX, event.clientY - last.clientY];
  travelled += Math.hypot(dx, dy);
  if (travelled > CLICK_RADIUS) {
    byId("drawing").setPointerCapture(event.pointerId);
    if (fingers.size === 2) pinch(event, last);
    else pan(dx, dy);
  }
  fingers.set(event.pointerId, event);
}

function pinch(event, last) {
  const other = [...fingers.values()].find(({ pointerId }) => pointerId !== event.pointerId);
  const distance = (finger) => Math.hypot(finger.clientX - other.clientX, finger.clientY - other.clientY) || 1;
  zoom(distance(event) / distance(last), other);
}

function up(event) {
  fingers.delete(event.pointerId);
}

function clicked(event) {
  if (travelled > CLICK_RADIUS) return;
  const target = event.target.closest("[data-place]");
  if (!target) select(0);
  else if (target.matches(".node")) activateNode(Number(target.dataset.place));
  else select(Number(target.dataset.place));
}

function wheel(event) {
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 16 : 1;
  zoom(Math.exp(clamp(-event.deltaY * lines, -240, 240) / 400), event);
}

function focused(event) {
  const node = event.target.closest(".node");
  if (!node || !node.matches(":focus-visible")) return;
  reveal(Number(node.dataset.place));
  if (Number(node.dataset.place) !== state.selected) select(Number(node.dataset.place));
}

/** On paper the whole drawing fits the page. */
function beforePrint() {
  const { width, height } = state.size;
  byId("drawing").setAttribute("viewBox", `${-MARGIN} ${-MARGIN} ${width + 2 * MARGIN} ${height + 2 * MARGIN}`);
  byId("world").removeAttribute("transform");
}

function afterPrint() {
  byId("drawing").removeAttribute("viewBox");
  look();
}

/* ---- legend and start -------------------------------------------------------------------------------------------- */

function legend() {
  const boxes = data.layouts.flatMap((layout) => layout.boxes).filter((box) => box.node >= 0);
  const kinds = new Map(boxes.map((box) => [box.category, box.role]));
  const entries = [...kinds].map(([category, role]) => entry(category === "module" ? "closed module" : category, role, category));
  if (boxes.some((box) => box.frozen)) entries.push(entry("frozen: not trained", "layer", "other", true));
  if (boxes.some((box) => box.shared)) entries.push(entry("= path: has the parameters of that node"));
  return entries;
}

function entry(content, role, category, frozen = false) {
  const made = html("li");
  if (role) {
    const picture = element("svg", { width: 26, height: 18, "aria-hidden": "true" });
    picture.append(...outlines(role, category, { x: 2, y: 2, width: 22, height: 14 }, { frozen }).slice(0, 2));
    made.append(picture, " ");
  }
  made.append(content);
  return made;
}

function listen() {
  const drawing = byId("drawing");
  const on = (target, handlers) => Object.entries(handlers).forEach(([name, act]) => target.addEventListener(name, act));
  on(document, { keydown: pressed });
  on(window, { beforeprint: beforePrint, afterprint: afterPrint });
  on(drawing, { pointerdown: down, pointermove: moved, pointerup: up, pointercancel: up, click: clicked, focusin: focused });
  new ResizeObserver(measure).observe(drawing);
  drawing.addEventListener("wheel", wheel, { passive: false });
  on(byId("search"), { input: showMatches, focus: showMatches, blur: hideMatches });
  on(byId("depth"), { input: () => openTo(Number(byId("depth").value)) });
  on(byId("open"), { click: () => openTo(data.deepest) });
  on(byId("close"), { click: () => openTo(0) });
  on(byId("view"), { change: () => setView(byId("view").value) });
  on(byId("before"), { change: () => setTrace("before", byId("before").checked) });
  on(byId("after"), { change: () => setTrace("after", byId("after").checked) });
  on(byId("theme"), { click: switchTheme });
  on(byId("fit"), { click: fit });
  on(byId("larger"), { click: () => zoom(ZOOM.step) });
  on(byId("smaller"), { click: () => zoom(1 / ZOOM.step) });
}

function begin() {
  byId("app").hidden = false;
  byId("legend").append(...legend());
  byId("depth").max = data.deepest;
  byId("levels").hidden = !data.deepest;
  byId("view").value = data.view;
  measure();
  listen();
  openTo(data.depth);
  if (data.open.length) openOnly(data.open);
  showCard();
  say("");
  document.documentElement.dataset.ready = "true";
}

begin();
