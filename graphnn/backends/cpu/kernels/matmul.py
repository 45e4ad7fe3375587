"""Matrix products as contractions, with operands in any order of axes whose strides say where the elements are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from graphnn.backends.cpu.contraction import Axis, Compute, Contraction, Depth, Epilogue, Place, Segment, fold, plain
from graphnn.backends.cpu.contraction_nest import emit_contraction
from graphnn.backends.cpu.emit import Function
from graphnn.backends.cpu.kernel import Kernel, Specs
from graphnn.backends.cpu.target import Target
from graphnn.ir.tensor_spec import ITEM_BYTES, TensorSpec
from graphnn.ops.op import Op

DTYPES = ("float32", "float64")
# Sums are cut into blocks of k where A lies across them (a weight gradient), or where there are very many k.
ACROSS, ALONG = (512, 128), (4096, 512)  # k from which on, and k of a block
SMALL = 1 << 20  # bytes of a product whose partial sums may go through memory


@dataclass(frozen=True)
class Operand:
    """A tensor in memory: its pointer, and a shape with the strides of its axes in elements."""

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Tensors:
    """What the epilogue reads and writes: tensors that broadcast to the output's shape, and their dtypes.

    Args:
        inputs: operands of `compute`.
        outputs: where its results go; without `compute` the sum is stored in the only one.
        compute: see `contraction.Compute`.
        weight: rough number of vector instructions of `compute`.
        over: see `contraction.Epilogue`.
    """

    inputs: tuple[tuple[Operand, str], ...]
    outputs: tuple[tuple[Operand, str], ...]
    compute: Compute | None = None
    weight: int = 0
    over: tuple[tuple[int, int], ...] = ()

    @property
    def all(self) -> tuple[tuple[Operand, str], ...]:
        """Inputs, then outputs."""
        return (*self.inputs, *self.outputs)

    def epilogue(self, strides: Iterable[tuple[int, ...]], columns: Iterable[int]) -> Epilogue:
        """What is done with the sums.

        Args:
            strides: of each tensor, inputs first, along the axes of the contraction's batch and rows.
            columns: elements of each tensor from a column to the next.
        """
        places = [
            Place(operand.pointer, dtype, along, column)
            for (operand, dtype), along, column in zip(self.all, strides, columns, strict=True)
        ]
        split = len(self.inputs)
        return Epilogue(tuple(places[:split]), tuple(places[split:]), self.compute, self.weight, self.over)


def dense(pointer: int, spec: TensorSpec) -> Operand:
    """A contiguous tensor."""
    shape = tuple(size.__index__() for size in spec.shape)
    return Operand(pointer, shape, tuple(math.prod(shape[i + 1 :]) for i in range(len(shape))))


def broadcast_strides(operand: Operand, shape: Sequence[int]) -> tuple[int, ...]:
    """Strides that repeat an operand up to `shape`."""
    missing = len(shape) - len(operand.shape)
    pairs = zip(operand.shape, operand.strides, shape[missing:], strict=True)
    return (0,) * missing + tuple(0 if size == 1 else stride for size, stride, _ in pairs)


def empty_kernel(target: Target) -> Kernel:
    """For outputs without elements."""
    return Kernel(Function(target).finish())


def emit_matmul(op: Op, inputs: Specs, outputs: Specs, target: Target) -> Kernel | None:
    """`MatMul` of two float tensors."""
    if inputs[0].dtype not in DTYPES:
        return None
    if not outputs[0].size:
        return empty_kernel(target)
    tensors = Tensors((), ((dense(2, outputs[0]), outputs[0].dtype),))
    return emit_contraction(matmul_problem(dense(0, inputs[0]), dense(1, inputs[1]), inputs[0].dtype, tensors), target)


def matmul_problem(a: Operand, b: Operand, dtype: str, tensors: Tensors) -> Contraction:
    """y[..., i, j] = epilogue(sum over k of a[..., i, k] * b[..., k, j]) for operands with any strides."""
    (_, depth), columns, shape = a.shape[-2:], b.shape[-1], tensors.outputs[0][0].shape
    moves_a, moves_b = broadcast_strides(a, (*shape[:-1], depth)), broadcast_strides(b, (*shape[:-2], depth, columns))
    lead = zip(shape[:-2], moves_a, moves_b, strict=False)
    axes = [plain(size, x, y) for size, x, y in lead] + [plain(shape[-2], moves_a[-2])]
    k = Depth(depth, a.strides[-1], b.strides[-2])
    moves = [broadcast_strides(operand, shape) for operand, _ in tensors.all]
    axes, rows = _simplest(axes, [move[:-1] for move in moves])
    matrix = _Matrix(axes, rows, [move[-1] for move in moves], columns, b.strides[-1], k)
    return _blocked(_contraction(_turned(matrix), a.pointer, b.pointer, dtype, tensors))


def _simplest(axes: list[Axis], moves: list[tuple[int, ...]]) -> tuple[list[Axis], list[tuple[int, ...]]]:
    """Those of one index left out, neighbours folded, and those along which B moves first; at least one it does not."""
    kept = [i for i, axis in enumerate(axes) if axis.longest != 1]
    axes, moves = fold([axes[i] for i in kept], [tuple(move[i] for i in kept) for move in moves])
    if all(axis.b for axis in axes):
        axes, moves = [*axes, plain(1)], [(*move, 0) for move in moves]
    order = sorted(range(len(axes)), key=lambda i: axes[i].b == 0)
    return [axes[i] for i in order], [tuple(move[i] for i in order) for move in moves]


@dataclass(frozen=True)
class _Matrix:
    """Loops of m with the strides of all tensors, the columns, and k."""

    axes: list[Axis]
    moves: list[tuple[int, ...]]  # for each tensor of the epilogue one number per axis
    column_moves: list[int]
    columns: int
    b_column: int
    depth: Depth
    swapped: bool = False


def _turned(matrix: _Matrix) -> _Matrix:
    """A and B exchanged where the product has one row or one column, and vectors run better along the other side."""
    rows, row = matrix.axes[-1].longest, matrix.axes[-1]
    one_column = matrix.columns == 1 and row.a == 1 and rows > 1
    one_row = rows == 1 and matrix.b_column != 1
    if not (one_column or one_row) or any(move[-1] > 1 for move in matrix.moves):
        return matrix
    axes = [plain(axis.longest, axis.b, axis.a) for axis in matrix.axes[:-1]]
    axes.append(plain(matrix.columns, matrix.b_column))
    moves = [(*move[:-1], column) for move, column in zip(matrix.moves, matrix.column_moves, strict=True)]
    depth = Depth(matrix.depth.extent, matrix.depth.b, matrix.depth.a)
    columns = [move[-1] for move in matrix.moves]
    return _Matrix(axes, moves, columns, rows, row.a, depth, not matrix.swapped)


def _contraction(matrix: _Matrix, a: int, b: int, dtype: str, tensors: Tensors) -> Contraction:
    axes, moves = _simplest(matrix.axes, matrix.moves)
    epilogue = tensors.epilogue(moves, matrix.column_moves)
    batch = tuple(axis for axis in axes[:-1] if axis.b)
    a, b = (b, a) if matrix.swapped else (a, b)
    return Contraction(
        dtype, a, b, batch, (), tuple(axes[len(batch) :]), (matrix.depth,), matrix.columns, matrix.b_column, 0,
        epilogue, pointer_count(a, b, tensors),
    )  # fmt: skip


def pointer_count(a: int, b: int, tensors: Tensors) -> int:
    """Inputs and outputs of the kernel."""
    return 1 + max(a, b, *(operand.pointer for operand, _ in tensors.all))


def _blocked(problem: Contraction) -> Contraction:
    """A small product of long matrices is summed by blocks of k that stay in the cache."""
    (k,), item = problem.depth, ITEM_BYTES[problem.dtype]
    least, block = ALONG if k.a == 1 else ACROSS
    if k.extent < least or problem.dots or problem.batch or problem.row_count * problem.columns * item > SMALL:
        return problem
    sliding = Axis((Segment(0, 1, 0, 0, k.extent),), extent_k=k.extent, a_k=k.a, b_k=k.b)
    epilogue = problem.epilogue
    inputs, outputs = (
        [replace(p, strides=(0, *p.strides)) for p in side] for side in (epilogue.inputs, epilogue.outputs)
    )
    epilogue = replace(epilogue, inputs=tuple(inputs), outputs=tuple(outputs))
    return replace(problem, rows=(sliding, *problem.rows), depth=(), epilogue=epilogue, block=block)
