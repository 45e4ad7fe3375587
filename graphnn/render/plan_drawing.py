"""A plan as a table, in text and as a picture: each step with what it reads, what it writes, and where that lies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphnn.plan.lifetimes import producers
from graphnn.plan.outline import Entry, Operand, has_groups, outline, paths_text, phases_text, short_names, work_of
from graphnn.plan.plan import Plan, Step
from graphnn.render.memory import STYLES
from graphnn.render.palette import CATEGORIES, FONT, Rule, base, style_sheet
from graphnn.render.text import identifier, plural, shorten, text_width, xml
from graphnn.render.units import bytes_text

HEADER = ("step", "node", "phase", "op", "reads", "writes", "bytes", "place in the arena", "until")
RIGHT_ALIGNED = (0, 6)
MOST_ROWS = 400  # of a picture; of a longer plan half of them from its beginning, half from its end
WIDEST = 260  # pixels of a column
MOST_READ = 6  # values listed of what a step of several nodes reads
ROW, TEXT, GAP, LEFT, TOP = 18, 11, 16, 16, 84


@dataclass(frozen=True)
class Row:
    """One output of a step, or a step without any: `cells` as in HEADER."""

    step: int
    phase: str
    cells: tuple[str, ...]


def plan_text(plan: Plan) -> str:
    """All steps as a table in plain text; buffers are called by number, inputs by name."""
    rows = [HEADER, *(row.cells for row in plan_rows(plan))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [_line(row, widths) for row in rows]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([_title(plan), rule, lines[0], rule, *lines[1:]])


def _title(plan: Plan) -> str:
    return f"plan of {plural(len(plan.steps), 'step')}, arena {bytes_text(plan.arena_bytes)}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    texts = [
        cell.rjust(width) if column in RIGHT_ALIGNED else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(texts).rstrip()


def plan_rows(plan: Plan) -> list[Row]:
    """What the table says, a row for each output of each step; the steps inside of a loop stand below it."""
    if has_groups(plan):
        return [row for entry in outline(plan) for row in _entry_rows(plan, entry)]
    updated = {new: plan.inputs[old].name for old, new in plan.updates}
    made = producers(plan)
    return [
        _row(plan, number, step, output, made, updated)
        for number, step in enumerate(plan.steps)
        for output in step.outputs
    ]


def _entry_rows(plan: Plan, entry: Entry) -> Iterator[Row]:
    """Rows of a step that does the work of several nodes, or of one inside of it: with names and formulas."""
    if entry.is_view:
        return
    top = int(entry.number.partition(".")[0])
    phase = next((origin.phase.value for origin in entry.origins), "forward")
    about = (entry.number, paths_text(entry.origins), phases_text(entry.origins))
    names = list(dict.fromkeys(operand.name for operand in entry.reads))
    reads = ", ".join(names[:MOST_READ]) + (f" and {len(names) - MOST_READ} more" if len(names) > MOST_READ else "")
    for position, operand in enumerate(entry.writes):
        first = position == 0
        what = work_of(entry.step) if entry.entries else _formula_of(entry, operand)
        yield Row(
            top, phase,
            (
                *(about if first else ("",) * 3), what if first or not entry.entries else "", reads if first else "",
                f"{operand.name}: {operand.spec}", f"{operand.spec.nbytes:,}", operand.place,
                _until(plan, entry, position),
            ),
        )  # fmt: skip
    for inner in entry.entries:
        yield from _entry_rows(plan, inner)


def _formula_of(entry: Entry, operand: Operand) -> str:
    """The right side of the formula of one output."""
    short = short_names([each.name for each in (*entry.reads, *entry.writes)])[operand.name]
    found = next((line for line in entry.formulas if line.startswith(f"{short} = ")), "")
    return found.removeprefix(f"{short} = ") or entry.step.op.name


def _until(plan: Plan, entry: Entry, position: int) -> str:
    if entry.within:
        return ""
    last = plan.buffers[entry.step.outputs[position]].last_step
    return "end" if last >= len(plan.steps) else f"{last:,}"


def _row(
    plan: Plan, number: int, step: Step, output: int, made: dict[int, tuple[int, Step]], updated: dict[int, str]
) -> Row:
    buffer = plan.buffers[output]
    reads = ", ".join(_name(plan, i) for i in step.inputs)
    is_first = output == step.outputs[0]
    until = "end" if buffer.last_step >= len(plan.steps) else f"{buffer.last_step:,}"
    cells = (
        *((f"{number:,}", step.origin.path, step.origin.phase.value, step.op.name, reads) if is_first else ("",) * 5),
        f"{_name(plan, output)}: {buffer.spec}",
        f"{buffer.spec.nbytes:,}",
        _place(plan, step, output, updated),
        until,
    )
    return Row(number, step.origin.phase.value, cells)


def _name(plan: Plan, number: int) -> str:
    return plan.inputs[number].name.removesuffix(":") if number < len(plan.inputs) else f"#{number}"


def _place(plan: Plan, step: Step, output: int, updated: dict[int, str]) -> str:
    """Its offset; whose memory it continues to use; or that it belongs to the caller."""
    buffer = plan.buffers[output]
    at = "" if buffer.offset is None else f"{buffer.offset:,}"
    if buffer.shares is not None:
        how = "view of" if step.op.is_view else "over"
        return f"{at} {how} {_name(plan, buffer.shares)}".strip()
    if output in plan.outputs:
        return "returned"
    return f"{at}, then into {updated[output]}".strip(", ") if output in updated else at


# -- the picture -------------------------------------------------------------------------------------------------------


def plan_svg(plan: Plan, title: str = "plan", theme: str = "auto") -> str:
    """The table as SVG text; steps have the colour of their phase, and its name.

    Of a very long plan the first and the last steps are drawn, and the picture says how many are not.

    Args:
        plan: of a model (`plans_of`) or of a program (`make_plan`).
        title: above the table.
        theme: "light", "dark", or "auto" for what the reader's system prefers.
    """
    return "\n".join(_figure(plan, title, theme)) + "\n"


def _figure(plan: Plan, title: str, theme: str) -> Iterator[str]:
    rows = plan_rows(plan)
    hidden = max(0, len(rows) - MOST_ROWS)
    head, tail = (rows[: MOST_ROWS // 2], rows[len(rows) - MOST_ROWS // 2 :]) if hidden else (rows, [])
    columns = _columns([*head, *tail])
    width = columns[-1] + LEFT - GAP
    height = TOP + ROW * (len(head) + len(tail) + bool(hidden)) + LEFT
    yield from _opening(plan, title, (width, height), hidden, theme)
    for text, x in zip(HEADER, columns, strict=False):
        yield f'<text class="gnn-b" x="{x:g}" y="{TOP - 10}">{text}</text>'
    yield f'<path class="gnn-axis" d="M{LEFT} {TOP - 4}H{width - LEFT:g}"/>'
    y = TOP
    for index, row in enumerate([*head, *tail]):
        if hidden and index == len(head):
            yield f'<text class="gnn-f" x="{columns[1]:g}" y="{y + 13}">… {plural(hidden, "row")} not drawn …</text>'
            y += ROW
        yield from _drawn(row, columns, y, width)
        y += ROW
    yield "</svg>"


def _columns(rows: Sequence[Row]) -> list[float]:
    """The left edge of each column, and behind them the right edge of the table."""
    edges = [float(LEFT + 10)]
    for column, name in enumerate(HEADER):
        texts = [shorten(row.cells[column], TEXT, WIDEST) for row in rows]
        widest = max([text_width(name, TEXT, bold=True), *(text_width(text, TEXT) for text in texts)])
        edges.append(round(edges[-1] + widest + GAP))
    return edges


def _opening(plan: Plan, title: str, size: tuple[float, float], hidden: int, theme: str) -> Iterator[str]:
    width, height = size
    name = "plan-" + identifier(title)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="gnn" role="img" aria-labelledby="title-{name} desc-{name}" '
        f'viewBox="0 0 {width:g} {height:g}" width="100%" style="max-width:{width:g}px">'
    )
    subtitle = f"{_title(plan).removeprefix('plan of ')}, most alive at once {bytes_text(plan.peak_bytes)}"
    subtitle += f" · {plural(hidden, 'row')} not drawn" if hidden else ""
    yield f'<title id="title-{name}">{xml(title)}</title><desc id="desc-{name}">{xml(subtitle)}</desc>'
    yield f'<style>{_css(theme)}</style><rect class="gnn-paper" width="{width:g}" height="{height:g}"/>'
    yield f'<text class="gnn-h" x="16" y="28">{xml(shorten(title, 16, width - 32, bold=True))}</text>'
    yield f'<text x="16" y="48">{xml(subtitle)}</text>'


def _drawn(row: Row, columns: Sequence[float], y: float, width: float) -> Iterator[str]:
    yield f'<g class="gnn-row" data-step="{row.step}"><title>{xml(" · ".join(filter(None, row.cells)))}</title>'
    yield f'<rect class="gnn-{row.phase}" x="{LEFT}" y="{y}" width="{width - 2 * LEFT:g}" height="{ROW - 1}"/>'
    for column, cell in enumerate(row.cells):
        if cell:
            text = xml(shorten(cell, TEXT, WIDEST))
            right = column in RIGHT_ALIGNED
            x = columns[column + 1] - GAP if right else columns[column]
            anchor = ' text-anchor="end"' if right else ""
            yield f'<text{anchor} x="{x:g}" y="{y + 13}">{text}</text>'
    yield "</g>"


def _css(theme: str) -> str:
    rules = [
        base(".gnn text", FONT + f";font-size:{TEXT}px", fill="ink"),
        base(".gnn .gnn-h", "font-size:16px;font-weight:700"),
        base(".gnn .gnn-b", "font-weight:700"),
        base(".gnn .gnn-f", fill="faint"),
        base(".gnn-paper", fill="paper"),
        base(".gnn-axis", "fill:none", stroke="line"),
    ]
    for phase in ("forward", "backward", "update"):
        fill, _ = CATEGORIES[STYLES[phase][0]]
        rules.append(Rule(f".gnn-{phase}", {"fill": (f"{phase}-fill", fill)}))
    return style_sheet(rules, theme)
