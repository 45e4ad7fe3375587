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
  const least = titleWidth(place) + 10;
  const width = place ? Math.max(content.width, least) + 2 * FRAME.side : content.width;
  const height = place ? content.height + FRAME.top + FRAME.bottom : content.height;
  return { place, layout, inner, mapX, mapY, content, width, height, isBent: inner.size > 0 };
}

/** Of the title bar of an open module, with room for its number. */
const titleWidth = (place) => (nodes[place].title_width || 0) + 30 + (data.room && data.room + 24);

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

/** How far an end of an edge (0: source, 1: target) has moved: with its box, or to the border of an open module,
    straight above the input or below the output inside that it belongs to. */
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

/** The line of an edge on the drawing: `path` for SVG, and its points from source to target. `pair` has the nodes
    that it really connects, where these lie in an open module. */
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
  const others = composed.spots.filter((_, index) => !edge.ends.includes(index));
  return others.some((spot) => line.some((point) => isWithin(spot, point)));
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
