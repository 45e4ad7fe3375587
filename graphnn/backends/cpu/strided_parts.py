"""InPlace: parts of arrays whose rows lie apart, read and written where they are instead of copied.

A kernel of a matrix product takes operands of any strides. So it is told that it reads the first columns of the whole
array, or writes these, and given the address of its part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from graphnn.backends.cpu.kernel import Kernel, Specs
from graphnn.ir.program import Instruction, Kind, Origin, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.fused import Fused, as_group
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Op
from graphnn.ops.shape import Slice
from graphnn.passes.fuse import contraction_of
from graphnn.plan.plan import Plan, Step


@dataclass(frozen=True)
class Work:
    """What a kernel is made for.

    Args:
        op: what it computes. Of an output that is larger than what `op` makes, the beginning is written.
        inputs: specs of its inputs.
        outputs: specs of its outputs.
    """

    op: Op
    inputs: Specs
    outputs: Specs


class InPlace:
    """The steps of a plan, as kernels do them.

    Args:
        plan: of the body of a loop over tiles, or any other.
        kernel_of: (op, input specs, output specs) -> Kernel, or None.
    """

    def __init__(self, plan: Plan, kernel_of: Callable[[Op, Specs, Specs], Kernel | None]):
        self.plan, self._kernel_of = plan, kernel_of
        self._returned = Counter(plan.outputs)
        self._readers: dict[int, list[Step]] = {}
        for step in plan.steps:
            for number in dict.fromkeys(step.inputs):
                self._readers.setdefault(number, []).append(step)
        self._makers = {number: step for step in plan.steps for number in step.outputs}
        self._changed: dict[tuple[int, ...], Work] = {}  # by the outputs of a step

    def of(self, step: Step) -> Work:
        """What the kernel of a step is made for."""
        if step.outputs in self._changed:
            return self._changed[step.outputs]
        read, made = (tuple(self.plan.buffers[n].spec for n in numbers) for numbers in (step.inputs, step.outputs))
        return Work(step.op, read, made)

    def readers(self, number: int) -> Sequence[Step]:
        """The steps that read a buffer."""
        return self._readers.get(number, ())

    def maker_of_result(self, number: int) -> Step | None:
        """The step that makes an output which is returned once, and which no step reads."""
        alone = self._returned[number] == 1 and not self.readers(number)
        return self._makers.get(number) if alone else None

    def take(self, number: int, whole: TensorSpec) -> bool:
        """Let an input or an output be the beginning of `whole`; False where others than products touch it.

        Args:
            number: its buffer; its shape is at most that of the whole in every axis.
            whole: the spec that it shall have for kernels.
        """
        maker = self._makers.get(number)
        if self._returned[number] > (0 if maker is None else 1):
            return False
        changes = {
            step.outputs: _reading(self.of(step), _places(step.inputs, number), whole) for step in self.readers(number)
        }
        if maker is not None:
            changes[maker.outputs] = _writing(self.of(maker), _places(maker.outputs, number), whole)
        known = {key: work for key, work in changes.items() if work is not None}
        if len(known) < len(changes) or not all(map(self._has_kernel, known.values())):
            return False
        self._changed |= known
        return True

    def _has_kernel(self, work: Work) -> bool:
        return self._kernel_of(work.op, work.inputs, work.outputs) is not None


def _places(numbers: Sequence[int], number: int) -> list[int]:
    return [place for place, found in enumerate(numbers) if found == number]


def _with(specs: Specs, places: Sequence[int], whole: TensorSpec) -> Specs:
    return tuple(whole if place in places else spec for place, spec in enumerate(specs))


def _reading(work: Work, places: Sequence[int], whole: TensorSpec) -> Work | None:
    """The same with inputs cut out of the whole inside of the group."""
    group = _as_group(work)
    if group is None:
        return None
    inside, table, cuts = list(group.body.inputs), dict[Value, Value](), list[Instruction]()
    for place in places:
        old = inside[place]
        inside[place] = replace(old, spec=whole)
        table[old] = replace(old, kind=Kind.INTERMEDIATE)
        cuts.append(Instruction(_beginning(old.spec), (inside[place],), (table[old],), _origin_of(group)))
    moved = [replace(i, inputs=tuple(table.get(v, v) for v in i.inputs)) for i in group.body.instructions]
    body = replace(group.body, inputs=tuple(inside), instructions=(*cuts, *moved))
    return Work(replace(group, body=body), _with(work.inputs, places, whole), work.outputs)


def _writing(work: Work, places: Sequence[int], whole: TensorSpec) -> Work | None:
    """The same with the whole as an output: the group still makes the part."""
    group = _as_group(work)
    product = contraction_of(group.body) if group is not None else None
    if group is None or product is None or not isinstance(product.op, MatMul):
        return None
    return Work(group, work.inputs, _with(work.outputs, places, whole))


def _as_group(work: Work) -> Fused | None:
    """The group that it is; a product by itself becomes one."""
    return as_group(work.op, work.inputs, work.outputs) if isinstance(work.op, Fused | MatMul) else None


def _origin_of(group: Fused) -> Origin:
    return group.body.instructions[0].origin


def _beginning(part: TensorSpec) -> Op:
    return Slice((0,) * part.rank, part.shape, (1,) * part.rank)
