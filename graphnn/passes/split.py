"""split_products: a product of which only slices are read becomes one product for each slice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from graphnn.ir.program import Instruction, Kind, Program, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.elementwise import Elementwise, Where
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Op
from graphnn.ops.shape import Slice
from graphnn.passes.bodies import rewrite_bodies

NARROWEST = 16  # columns of a product: with fewer, one product and a copy of its columns is the quicker way
LONGEST = 8  # elementwise instructions between a product and its slices

Range = tuple[int, int]


def split_products(program: Program) -> Program:
    """The program with (a @ b + c)[:, i:j] as a @ b[:, i:j] + c[:, i:j], also inside of loops.

    Done where slices of the last axis are all that is read of a product, or of what elementwise instructions make of
    it, and where they do not overlap. So the gates of an LSTM are never joined only to be cut again; the slices of
    weights move out of the loop (see `hoist`). The same sums, but a backend may round narrower products in another way.
    """
    return _split(rewrite_bodies(program, _split))


def _split(program: Program) -> Program:
    return _Splitting(program).run()


@dataclass(frozen=True, eq=False)
class _Cut:
    """A slice of the last axis: the instruction, and its range."""

    instruction: Instruction
    bounds: Range


class _Splitting:
    """Walks from the end to the start, so that the slices of a value are known when its maker is met."""

    def __init__(self, program: Program):
        self._program = program
        self._maker = {value: i for i in program.instructions for value in i.outputs}
        self._count: dict[Value, int] = {}  # readers
        for instruction in program.instructions:
            for value in set(instruction.inputs):
                self._count[value] = self._count.get(value, 0) + 1
        self._cuts: dict[Value, list[_Cut]] = {}
        self._whole: set[Value] = set(program.results)  # read otherwise than by slices
        self._reversed: list[Instruction] = []
        self._dropped: set[Instruction] = set()

    def run(self) -> Program:
        """The new program; as it is where nothing can be split."""
        for instruction in reversed(self._program.instructions):
            value = instruction.outputs[0]
            if value in self._cuts and value not in self._whole and self._can_split(value):
                self._replace(instruction)
            else:
                self._keep(instruction)
        if not self._dropped:
            return self._program
        return replace(self._program, instructions=tuple(i for i in reversed(self._reversed) if i not in self._dropped))

    def _keep(self, instruction: Instruction) -> None:
        self._reversed.append(instruction)
        bounds = last_axis_range(instruction)
        if bounds is None:
            self._whole.update(instruction.inputs)
        else:
            self._cuts.setdefault(instruction.inputs[0], []).append(_Cut(instruction, bounds))

    def _can_split(self, value: Value) -> bool:
        bounds = sorted(cut.bounds for cut in self._cuts[value])
        apart = all(first[1] <= second[0] for first, second in pairwise(bounds))
        wide = all(stop - start >= NARROWEST for start, stop in bounds)
        return apart and wide and self._comes_from_product(value)

    def _comes_from_product(self, value: Value) -> bool:
        """Whether a chain of elementwise instructions, each with one reader, leads from a product to the value."""
        for _ in range(LONGEST):
            maker = self._maker.get(value)
            if maker is None or isinstance(maker.op, MatMul):
                return maker is not None
            inner = [v for v in maker.inputs if self._count[v] == 1 and v in self._maker and v.spec == value.spec]
            if not isinstance(maker.op, Elementwise | Where) or not inner:
                return False
            value = next((v for v in inner if isinstance(self._maker[v].op, MatMul)), inner[0])
        return False

    def _replace(self, instruction: Instruction) -> None:
        """One instruction for each range, and slices of what it reads."""
        columns: dict[tuple[Value, Range], Value] = {}
        for cut in self._cuts[instruction.outputs[0]]:
            self._dropped.add(cut.instruction)
            inputs = tuple(
                self._part(instruction, place, cut.bounds, columns) for place in range(len(instruction.inputs))
            )
            self._reversed.append(replace(instruction, inputs=inputs, outputs=cut.instruction.outputs))
        for (source, bounds), part in columns.items():
            self._keep(Instruction(_slice(source, bounds), (source,), (part,), instruction.origin))

    def _part(
        self, instruction: Instruction, place: int, bounds: Range, columns: dict[tuple[Value, Range], Value]
    ) -> Value:
        """What stands at input `place` in the product, or elementwise instruction, of one range."""
        source, width = instruction.inputs[place], instruction.outputs[0].spec.shape[-1]
        is_left = isinstance(instruction.op, MatMul) and place == 0
        if is_left or not source.spec.shape or source.spec.shape[-1] != width:
            self._whole.add(source)
            return source
        spec = TensorSpec((*source.spec.shape[:-1], bounds[1] - bounds[0]), source.spec.dtype)
        name = f"{source.name}_{bounds[0]}"
        return columns.setdefault((source, bounds), Value(name, spec, Kind.INTERMEDIATE))


def last_axis_range(instruction: Instruction) -> Range | None:
    """Start and stop, where an instruction takes neighbours along the last axis and everything of the others."""
    op = instruction.op
    if not isinstance(op, Slice) or not op.steps or max(op.steps) > 1:
        return None
    shape = instruction.inputs[0].spec.shape
    if any(op.starts[:-1]) or op.stops[:-1] != shape[:-1]:
        return None
    start, stop = (size.__index__() for size in (op.starts[-1], op.stops[-1]))
    return start, stop


def _slice(source: Value, bounds: Range) -> Op:
    shape = source.spec.shape
    return Slice((0,) * (len(shape) - 1) + bounds[:1], (*shape[:-1], bounds[1]), (1,) * len(shape))
