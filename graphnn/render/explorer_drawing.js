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
  rank();
  byId("world").replaceChildren(list(composed));
  mark();
  showDepth();
  showScale();
}

/** Draw anew without letting go of what has the focus. */
function redraw() {
  const held = document.activeElement.closest(".node");
  draw();
  if (held) focus(Number(held.dataset.place));
}

/** The content of a module: its edges, then its nodes as a list in forward order. */
function list(composed) {
  const { place, layout, inner } = composed;
  const edges = element("g", { "aria-hidden": "true" });
  for (const edge of layout.edges) {
    for (const pairs of strands(composed, edge)) edges.append(strand(composed, edge, pairs));
  }
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
  const spot = state.spots.get(place);
  button.append(...outlines(box.role, box.category, spot, box), ...captions(box, spot), ...amount(place, box, spot));
  button.append(...badge(place, spot), ...warning(place, spot.x + spot.width / 2, spot.y + spot.height));
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
  const bar = { x: spot.x + 6, y: spot.y + 5, width: titleWidth(place), height: 20 };
  button.append(rectangle(bar, `bar ${shade}`, 4), text(titleOf(place), bar.x + 6, bar.y + 14, "name"));
  button.append(...badge(place, spot));
  return element("g", { role: "listitem" }, back, ends, button, list(composed));
}

/** What the reader can focus and click for a node. */
function control(place, isOpen = false) {
  const made = element("g", { role: "button", tabindex: "0", class: "node", "aria-label": label(place) });
  made.dataset.place = place;
  made.dataset.path = nodes[place].path;
  if (isModule(place)) made.setAttribute("aria-expanded", String(isOpen));
  paint(made, place);
  state.elements.set(place, made);
  return made;
}

function label(place) {
  const node = nodes[place];
  const outputs = (node.outputs || []).map(([name, shape, dtype]) => [name, shape, dtype].filter(Boolean).join(" "));
  const step = steps(place) ? `step ${steps(place)} ${state.view}` : "";
  const facts = [`${node.kind} ${node.path}`, outputs.join("; "), node.counts, step, stops(place) ? "no gradient" : ""];
  return [...facts, ...told(place)].filter(Boolean).join(", ");
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

const head = (line) => element("path", { class: "tip", d: arrowHead(line) });

/** Arrow heads only where the line ends at a box; at an open module, the lines inside have them. */
function heads(composed, edge, line) {
  const isBack = state.view === "backward";
  const end = edge.ends[isBack ? 0 : 1];
  return composed.inner.has(end) ? [] : [head(isBack ? [...line].reverse() : line)];
}

/** The pairs of nodes that an edge really connects; the label of an edge from afar says where it comes from. */
function trueEnds(composed, edge) {
  const { first } = nodes[composed.place];
  const [from, to] = edge.ends.map((index) => composed.layout.boxes[index]);
  const pair = ([source, output, target, input]) => [
    trueSource(first + source, output),
    trueTarget(first + target, input),
  ];
  if (from.from) {
    const sources = new Set(from.from);
    return linksInto(composed.layout, to.node).filter(([source]) => sources.has(source)).map(pair);
  }
  if (from.node < 0 || to.node < 0) return [];
  return edge.ports.map(([output, input]) => pair([from.node, output, to.node, input]));
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
    for (const [place, pairs] of byPill) {
      made.append(lead(composed.spots[index], state.spots.get(place), pairs, end === 1));
    }
  }
  return made;
}

/** A straight line, from above behind the title of the frame. */
function lead(spot, pill, pairs, isIncoming) {
  const x = pill.x + pill.width / 2;
  const [from, to] = isIncoming ? [[x, spot.y], [x, pill.y]] : [[x, pill.y + pill.height], [x, spot.y + spot.height]];
  const made = connection(pairs, `M${xy(from)}L${xy(to)}`);
  const isBack = state.view === "backward";
  if (isIncoming !== isBack) made.append(head(isBack ? [to, from] : [from, to]));
  return made;
}
