"""analyse: whether a Program can run as one loop nest, and how."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from graphnn.ir.program import Instruction, Program, Value
from graphnn.ops.creation import Iota
from graphnn.ops.random import RandomBits
from graphnn.ops.reduction import Reduction
from graphnn.passes.loop_axes import Atoms, ValueAxes

Axes = tuple[int, ...]  # numbers of loops of the nest, outermost first


@dataclass(frozen=True, eq=False)
class LoopNest:
    """One loop per domain axis; the innermost ones (the row) are swept once per stage.

    For each element of the outer axes: sweep the row and compute the values of stage 0 and the reductions over them;
    with the results sweep it again for stage 1, and so on. A value of stage s that a later sweep needs is computed
    again or kept in a buffer of one row. Folds are accumulated over all rows. Then the epilogue runs, on fold results.

    Args:
        body: what the nest computes; without the epilogue.
        sizes: of the domain axes.
        outer: number of outer axes; the rest are the row.
        layout: domain axes of each value's own axes, joined: in memory it is an array in C order over them.
        depends: domain axes that change the value; fewer than in `layout` where it is broadcast.
        counters: for values made from an index, the axes over which they count in C order.
        stage: number of row reductions in sequence before the value is known.
        rows: reductions over exactly the row.
        folds: reductions over outer axes, or over outer axes and the row; their results are outputs of `body` only.
        epilogue: what is computed from fold results, none of it larger than they are.
    """

    body: Program
    sizes: tuple[int, ...]
    outer: int
    layout: Mapping[Value, Axes]
    depends: Mapping[Value, Axes]
    counters: Mapping[Value, Axes]
    stage: Mapping[Value, int]
    rows: tuple[Instruction, ...]
    folds: tuple[Instruction, ...]
    epilogue: LoopNest | None = None

    @property
    def row_axes(self) -> Axes:
        """The innermost axes."""
        return tuple(range(self.outer, len(self.sizes)))

    @property
    def stages(self) -> int:
        """Number of sweeps over each row."""
        return 1 + max(self.stage.values(), default=0)

    def may_overwrite(self, output: Value, given: Value) -> bool:
        """Whether the memory of input `given` may become that of `output`.

        Both must be of one spec and one layout, that of the domain or of its outer axes: then an element is read for
        the last time before, or when, it is written. (What the epilogue reads has another layout: it is smaller.)
        """
        everything, outer = tuple(range(len(self.sizes))), tuple(range(self.outer))
        if output not in self.body.outputs or any(output in fold.outputs for fold in self.folds):
            return False
        axes = self.layout[output]
        return output.spec == given.spec and axes == self.layout.get(given) and axes in (everything, outer)


def analyse(body: Program) -> LoopNest | None:
    """The one loop nest that computes `body`; None where there is none.

    Allowed are elementwise ops (those with an `expression`), Fill, Iota, RandomBits, BroadcastTo, StopGradient, Reshape
    and Sum, Max, Min, under these rules:

    - axes: following each instruction, all axes of all values are matched with each other, and split where a reshape
      says so. One value must have all the axes (the domain), and each other value some of them in the same order.
      So a reshape may join, split, add and drop axes, but not regroup them across each other; a tensor cannot be used
      along two axes of the domain (x[i] * x[j]); and parts that share no value cannot stand in one nest.
    - row reductions: over all of the innermost axes; one choice of these axes in a nest. Their results may be used
      again at every size (softmax, layer norm).
    - folds: all other reductions: over any outer axes (column sums), or over outer axes and the whole row (total
      sums), of a value that has all axes of the domain, or exactly all outer axes. Their results may be outputs and may
      be used in elementwise ops no larger than they are (a mean, running statistics), not in anything larger.
    - a domain without elements may have results with elements only from reductions over it.
    - no updates.
    """
    if body.updates or not body.instructions:
        return None
    domain = _domain(body)
    if domain is None:
        return None
    nests = (_nest(body, domain, outer) for outer in _row_starts(domain))
    return next((nest for nest in nests if nest), None)


@dataclass(frozen=True, eq=False)
class _Domain:
    """All that holds wherever the row begins; see LoopNest for the fields."""

    sizes: tuple[int, ...]
    layout: Mapping[Value, Axes]
    depends: Mapping[Value, Axes]
    counters: Mapping[Value, Axes]
    reduced: Mapping[Value, Axes]  # by result; only reductions that reduce anything


def _domain(body: Program) -> _Domain | None:
    """The axes of all values as numbers of loops; None where the values do not share one domain."""
    axes = ValueAxes(body)
    if not axes.consistent:
        return None
    layout = {value: axes.flat(value) for value in axes.of}
    domain = max(layout.values(), key=len, default=())
    if len(set(domain)) < len(domain) or not all(_is_subsequence(atoms, domain) for atoms in layout.values()):
        return None
    counters = {i.outputs[0]: _counter(axes, i) for i in body.instructions if isinstance(i.op, Iota | RandomBits)}
    reduced = {i.outputs[0]: _missing(layout, i) for i in body.instructions if isinstance(i.op, Reduction)}
    kept_apart = [layout[value] for value in (*body.inputs, *body.outputs) if value in layout]
    kept_apart += [*counters.values(), *reduced.values()]
    group, sizes = _merge(domain, axes.matching.sizes, kept_apart)

    def numbers(table: Mapping[Value, Atoms]) -> dict[Value, Axes]:
        return {value: tuple(dict.fromkeys([group[atom] for atom in atoms])) for value, atoms in table.items()}

    layout, counters, reduced = numbers(layout), numbers(counters), numbers(reduced)
    reduced = {value: over for value, over in reduced.items() if over}
    return _Domain(sizes, layout, _dependence(body, layout, counters, reduced), counters, reduced)


def _is_subsequence(atoms: Atoms, domain: Atoms) -> bool:
    rest = iter(domain)
    return all(atom in rest for atom in atoms)


def _counter(axes: ValueAxes, instruction: Instruction) -> Atoms:
    op, result = instruction.op, instruction.outputs[0]
    return axes.axis(result, op.axis) if isinstance(op, Iota) else axes.flat(result)


def _missing(layout: Mapping[Value, Atoms], reduction: Instruction) -> Atoms:
    kept = layout[reduction.outputs[0]]
    return tuple(atom for atom in layout[reduction.inputs[0]] if atom not in kept)


def _merge(domain: Atoms, sizes: Sequence[int], sets: Sequence[Atoms]) -> tuple[dict[int, int], tuple[int, ...]]:
    """Neighbouring loops that stand together, or not at all, in each of `sets` become one: (its number, sizes)."""
    group: dict[int, int] = {}
    merged: list[int] = []
    previous = None
    for atom in domain:
        signature = [atom in members for members in sets]
        if signature == previous:
            merged[-1] *= sizes[atom]
        else:
            merged.append(sizes[atom])
        group[atom] = len(merged) - 1
        previous = signature
    return group, tuple(merged)


def _dependence(
    body: Program, layout: Mapping[Value, Axes], counters: Mapping[Value, Axes], reduced: Mapping[Value, Axes]
) -> dict[Value, Axes]:
    depends = {value: layout[value] for value in body.inputs if value in layout}
    for instruction in body.instructions:
        (result,) = instruction.outputs
        over = {axis for value in instruction.inputs for axis in depends.get(value, ())}
        depends[result] = counters.get(result) or tuple(sorted(over - set(reduced.get(result, ()))))
    return depends


def _row_starts(domain: _Domain) -> list[int]:
    """Where the row may begin: shortest rows first."""
    rank = len(domain.sizes)
    suffixes = {rank - len(over) for over in domain.reduced.values() if over[-1] == rank - 1}
    return sorted({max(rank - 1, 0), *suffixes}, reverse=True)


def _nest(body: Program, domain: _Domain, outer: int) -> LoopNest | None:
    """The nest whose row are the axes from `outer` on, if the rules hold for it."""
    row = tuple(range(outer, len(domain.sizes)))
    fold_results = {value for value, over in domain.reduced.items() if over != row}
    late = _dependents(body, fold_results)
    if fold_results & late:
        return None
    main = _cut(body, [v for v in body.outputs if v not in late] + _reached(body, fold_results, late), ())
    rows = tuple(i for i in main.instructions if domain.reduced.get(i.outputs[0]) == row)
    folds = tuple(i for i in main.instructions if i.outputs[0] in fold_results)
    if not all(_can_fold(domain, fold, row) for fold in folds) or not _elements_fit(main, domain, outer, folds):
        return None
    epilogue = None
    if results := [value for value in body.outputs if value in late]:
        epilogue = _epilogue(body, results, fold_results, domain)
        if epilogue is None:
            return None
    stage = _stages(main, rows)
    return LoopNest(
        main, domain.sizes, outer, domain.layout, domain.depends, domain.counters, stage, rows, folds, epilogue
    )


def _dependents(body: Program, values: set[Value]) -> set[Value]:
    """What is computed from `values`; of themselves, those that are computed from others of them."""
    late: set[Value] = set()
    for instruction in body.instructions:
        if any(value in values or value in late for value in instruction.inputs):
            late.update(instruction.outputs)
    return late


def _reached(body: Program, folds: set[Value], late: set[Value]) -> list[Value]:
    """Fold results that late values read."""
    read = (value for i in body.instructions if i.outputs[0] in late for value in i.inputs)
    return [value for value in dict.fromkeys(read) if value in folds]


def _cut(body: Program, results: Sequence[Value], given: Iterable[Value]) -> Program:
    """The instructions that `results` need, where the values `given` are inputs."""
    wanted, given = set(results), tuple(given)
    kept: list[Instruction] = []
    for instruction in reversed(body.instructions):
        if instruction.outputs[0] in wanted and instruction.outputs[0] not in given:
            kept.append(instruction)
            wanted.update(instruction.inputs)
    return Program((*body.inputs, *given), tuple(reversed(kept)), tuple(dict.fromkeys(results)))


def _can_fold(domain: _Domain, fold: Instruction, row: Axes) -> bool:
    over, axes = domain.reduced[fold.outputs[0]], domain.layout[fold.inputs[0]]
    everything = tuple(range(len(domain.sizes)))
    if axes == everything:
        return set(row).isdisjoint(over) or set(row) < set(over)
    return axes == everything[: len(everything) - len(row)] and set(row).isdisjoint(over)


def _elements_fit(main: Program, domain: _Domain, outer: int, folds: Sequence[Instruction]) -> bool:
    """Each result with elements is written by some turn of the loops, also where the domain has no elements."""
    if all(domain.sizes):
        return True
    folded = {fold.outputs[0] for fold in folds}
    stored = [value for value in main.outputs if value not in folded and value.spec.size]
    inside = any(axis >= outer for value in stored for axis in domain.layout[value])
    return not stored or (math.prod(domain.sizes[:outer]) > 0 and not inside)


def _epilogue(body: Program, results: list[Value], folds: set[Value], domain: _Domain) -> LoopNest | None:
    given = [i.outputs[0] for i in body.instructions if i.outputs[0] in folds]
    late = _cut(body, results, given)
    largest = max(value.spec.size for value in given)
    small = all(i.outputs[0].spec.size <= largest and i.outputs[0] not in domain.reduced for i in late.instructions)
    return analyse(late) if small else None


def _stages(main: Program, rows: Sequence[Instruction]) -> dict[Value, int]:
    sums = {reduction.outputs[0] for reduction in rows}
    stage: dict[Value, int] = dict.fromkeys(main.inputs, 0)
    for instruction in main.instructions:
        (result,) = instruction.outputs
        stage[result] = max((stage[value] for value in instruction.inputs), default=0) + (result in sums)
    return stage
