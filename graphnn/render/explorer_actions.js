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
  const [right, bottom] = [left + Math.min(spot.width, 200) * scale, top + 30 * scale];
  if (left < 0 || top < 0 || right > width || bottom > height) centre(place);
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
  redraw();
  say(`${view} view: numbers are steps in ${view} order`);
}

function switchTheme() {
  const root = document.documentElement;
  const preferred = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const isDark = (root.dataset.theme || preferred) === "dark";
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
  n: nextOverlay,
  f: nextFlag,
  t: switchTheme,
  Escape: () => select(0),
};

function pressed(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const { target } = event;
  if (target === byId("search")) return searchKey(event);
  if (target.matches("input, select") && (event.key.startsWith("Arrow") || target.type !== "checkbox")) return;
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
  const name = (category) => (category === "module" ? "closed module" : category);
  const entries = [...kinds].map(([category, role]) => entry(name(category), role, category));
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
  const on = (target, handlers) => {
    for (const [name, act] of Object.entries(handlers)) target.addEventListener(name, act);
  };
  on(document, { keydown: pressed });
  on(window, { beforeprint: beforePrint, afterprint: afterPrint });
  on(drawing, { pointerdown: down, pointermove: moved, pointerup: up, pointercancel: up });
  on(drawing, { click: clicked, focusin: focused });
  new ResizeObserver(measure).observe(drawing);
  drawing.addEventListener("wheel", wheel, { passive: false });
  on(byId("search"), { input: showMatches, focus: showMatches, blur: hideMatches });
  on(byId("depth"), { input: () => openTo(Number(byId("depth").value)) });
  on(byId("open"), { click: () => openTo(data.deepest) });
  on(byId("close"), { click: () => openTo(0) });
  on(byId("view"), { change: () => setView(byId("view").value) });
  on(byId("overlay"), { change: () => setOverlay(Number(byId("overlay").value)) });
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
  byId("overlay").append(...data.overlays.map(({ title }, index) => new Option(title, index)));
  byId("overlay").value = state.overlay;
  byId("numbers").hidden = !data.overlays.length;
  showDepth(); // so that the bar has its height before anything is measured
  measure();
  listen();
  openTo(data.depth);
  if (data.open.length) openOnly(data.open);
  showCard();
  say("");
  document.documentElement.dataset.ready = "true";
}

begin();
