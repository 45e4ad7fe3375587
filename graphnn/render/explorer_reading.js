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
    const isOn = (way) => made.ends.some((pair) => isOnWay(pair, own, found[way]));
    made.dataset.trace = ["before", "after"].filter(isOn).join(" ");
  }
  const total = [...found.before, ...found.after].filter((place) => !isPill(place)).length;
  byId("traced").textContent = isTracing ? `${plural(total, "node")} traced` : "";
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
    ...(place ? [] : overview()),
    ...allMeasured(place, true),
    section("Step", orders(place)),
    section("Outputs", (node.outputs || []).map(([name, ...cells]) => [name || "output", ...cells])),
    section("Inputs", place ? connections(place, "before") : rootEnds("Input")),
    section(place ? "Read by" : "Outputs", place ? connections(place, "after") : rootEnds("Output")),
    section("Hyper-parameters", node.hyperparameters || []),
    section("Parameters", [...(node.parameters || []), ...(node.counts ? [["together", node.counts]] : [])]),
    section("States", node.states || []),
    section("Work and memory", (node.facts || []).map((line) => ["", line])),
    section("Kept for backward", kept(place)),
    ...allMeasured(place, false),
    section(node.optional ? "If not given" : "Training", training(node)),
    section("Shares its parameters with", (node.shared || []).map((other) => ["", link(other)])),
    section("Declared at", node.declared ? [["", node.declared]] : []),
  ].filter(Boolean);
}

/** What a forward run keeps of a node and, for a module, of all inside it. */
function kept(place) {
  const all = place ? contents(place) : [];
  return all.flatMap((own) => (nodes[own].kept || []).map((line) => ["", ...(own === place ? [] : [link(own)]), line]));
}

function training(node) {
  if (node.frozen) return [["", "frozen: not trained"]];
  if (node.optional) return [["", "zeros"]];
  return node.parameters || node.shared ? [["", "trained"]] : [];
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
    const [from, to] = [first + source, first + target];
    if (way === "before" && to === place) found.push([inputName(place, input), link(from, output)]);
    if (way === "after" && from === place) found.push(["", link(to)]);
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

/** A headed table; a row is a name and cells of text, or a link to another node. Columns with nothing in them are left
    out, with their heads. */
function section(heading, rows, columns = []) {
  if (!rows.length) return null;
  const title = html("h3");
  title.textContent = heading;
  const table = html("table");
  const isFull = (_, index) => rows.some((row) => row[index + 1]);
  if (columns.length) {
    const heads = columns.filter(isFull).map((name) => html("th", { scope: "col" }, name));
    table.append(html("tr", {}, html("td"), ...heads));
    table.className = "numbers";
  }
  for (const [name, ...cells] of rows.slice(0, MOST_ROWS)) {
    const head = html("th", { scope: "row" });
    head.textContent = name;
    table.append(html("tr", {}, head, ...cells.filter(isFull).map((cell) => html("td", {}, cell))));
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
