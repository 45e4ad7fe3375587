"use strict";
/* The explorer: one page, no network. Places of boxes inside each module come from Python; this script puts modules
   into modules, draws, and answers the reader. All text is set by textContent, so that a name cannot become markup. The
   files explorer_*.js are one script on the page, in the order graph, places, drawing, numbers, reading, actions.

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
  overlay: data.overlays.length ? 0 : -1, // of the numbers that are shown; -1 for none
  ranked: [], // places of the boxes with a number, the largest first
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
