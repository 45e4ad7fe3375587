/* ---- numbers over the nodes: an overlay colours what is drawn, and writes on it ----------------------------------- */

const MOST_LISTED = 6; // of the largest numbers, and of the flags

const overlay = () => data.overlays[state.overlay];

/** What the overlay that is shown has for a node. */
const numberOf = (place) => overlay()?.nodes[place] || {};

const written = (place) => numberOf(place).number ?? numberOf(place).text;

/** Find what is drawn as a box and has a number, the largest first; the scale goes from the last to the first. */
function rank() {
  const boxes = [...state.spots.keys()].filter((place) => !state.open.has(place));
  const value = (place) => numberOf(place).value;
  state.ranked = boxes.filter((place) => value(place) !== undefined).sort((a, b) => value(b) - value(a) || a - b);
}

/** The step of the scale for a node: 0 is the least. */
function heat(place) {
  const [most, least] = [state.ranked[0], state.ranked[state.ranked.length - 1]].map((end) => numberOf(end).value);
  if (most <= least) return data.heats - 1;
  return Math.min(data.heats - 1, Math.floor(((numberOf(place).value - least) / (most - least)) * data.heats));
}

/** The line with the number of a box, below its other lines. */
function amount(place, { lines }, spot) {
  const { line, text: words } = numberOf(place);
  return words ? [text(line ?? words, spot.x + spot.width / 2, spot.y + 19 + 15 * lines.length, "amount")] : [];
}

/** A colour for the number of a node, unless it is open, and a red frame for its flag. */
function paint(made, place) {
  const { value, flag } = numberOf(place);
  if (value !== undefined && !state.open.has(place)) made.dataset.heat = heat(place);
  if (flag) made.dataset.flag = flag;
}

/** The flag of a node in words, across the border of its box. */
function warning(place, x, y) {
  const { flag, mark: short } = numberOf(place);
  if (!flag) return [];
  const content = `! ${short ?? flag}`;
  const width = 6.2 * content.length + 10;
  const back = { x: x - width / 2, y: y - 6, width, height: 16 };
  return [rectangle(back, "badge warning", 8), text(content, x, y + 6, "step")];
}

/** The title of an open module, whose nodes have their flags in words. */
function titleOf(place) {
  const { line, text: words, flag } = numberOf(place);
  return [`▾ ${nodes[place].title}`, line ?? words, flag && "!"].filter(Boolean).join(" · ");
}

/** In words, for the label of a node. */
function told(place) {
  const { text: words, flag } = numberOf(place);
  return [words ? `${overlay().title} ${words}` : "", flag ? `flag ${flag}` : ""];
}

/* The scale in the corner, and what the panel says */

/** Colours with the numbers at both ends, and a button to the flags. */
function showScale() {
  const shown = overlay();
  byId("scale").hidden = !shown;
  if (!shown) return;
  const title = html("b");
  title.textContent = shown.title;
  byId("scale").replaceChildren(title, ...swatches(), ...flagButton());
}

function swatches() {
  const { ranked } = state;
  if (!ranked.length) return [];
  const ends = [ranked[ranked.length - 1], ranked[0]].map((place) => html("span", {}, written(place)));
  const colours = element("svg", { width: 20 * data.heats, height: 14, "aria-hidden": "true" });
  for (let step = 0; step < data.heats; step++) {
    const colour = rectangle({ x: 20 * step, y: 0, width: 20, height: 14 }, "box", 0);
    colours.append(element("g", { "data-heat": step }, colour));
  }
  return [html("p", {}, ends[0], " ", colours, " ", ends[1])];
}

function flagButton() {
  const { flagged, nodes: found } = overlay();
  if (!flagged.length) return [];
  const button = html("button", { type: "button", class: "flag" });
  const more = flagged.length > 1 ? ` (and ${flagged.length - 1} more)` : "";
  button.textContent = `! ${nodes[flagged[0]].path}: ${found[flagged[0]].flag}${more}`;
  button.addEventListener("click", nextFlag);
  return [button];
}

/** Jump to the first flagged node, or to the one after that which is selected. */
function nextFlag() {
  const flagged = overlay()?.flagged || [];
  if (!flagged.length) return say("no node has a flag");
  const next = flagged[(flagged.indexOf(state.selected) + 1) % flagged.length];
  jump(next);
  say(`flag ${flagged.indexOf(next) + 1} of ${flagged.length}: ${nodes[next].path}, ${numberOf(next).flag}`);
}

function setOverlay(index) {
  state.overlay = index;
  byId("overlay").value = index;
  redraw();
  showCard();
  say(overlay() ? `numbers: ${overlay().title}` : data.overlays.length ? "no numbers" : "this page has no numbers");
}

const nextOverlay = () => setOverlay(state.overlay + 1 < data.overlays.length ? state.overlay + 1 : -1);

/** Of the whole: notes, the largest numbers that are drawn, the flags. */
function overview() {
  const shown = overlay();
  if (!shown) return [];
  const largest = state.ranked.slice(0, MOST_LISTED).map((place) => ["", link(place), written(place)]);
  const flags = shown.flagged.slice(0, MOST_LISTED).map((place) => ["", link(place), shown.nodes[place].flag]);
  const inside = data.deepest ? [`on closed modules: ${shown.combine} of all inside`] : [];
  return [
    section(shown.title, [...shown.notes, ...inside].map((note) => ["", note])),
    section(shown.flagged.length > MOST_LISTED ? `The first of ${shown.flagged.length} flags` : "Flags", flags),
    section("Largest of what is drawn", largest),
  ];
}

/** What an overlay says of a node: its flag, and its details or else its number. */
function measured(place, { title, table, nodes: found }) {
  const { text: words, flag, rows } = found[place] || {};
  if (!rows && !words && !flag) return [];
  const [heading, ...columns] = rows ? table : [title];
  const made = section(heading, rows || [["", words || "no number"]], columns);
  if (flag) made.firstChild.after(html("p", { class: "flag" }, `! ${flag}`));
  return [made];
}

/** First the overlay that is shown, or the others. */
const allMeasured = (place, isShown) =>
  data.overlays.flatMap((each, index) => ((index === state.overlay) === isShown ? measured(place, each) : []));
