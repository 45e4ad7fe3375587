"""Tiles that cut arrays across their rows: products read and write their part where it is, all others a copy of it."""

import numpy as np
import pytest

from graphnn.backends.cpu.backend import CpuBackend, Engine, shared_engine
from graphnn.backends.cpu.kernels import contraction_group
from graphnn.backends.cpu.table import Call, Tiles
from graphnn.backends.cpu.target import host_target
from graphnn.backends.cpu.threads import Pool
from graphnn.backends.reference import ReferenceBackend
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops import tanh
from graphnn.ops.op import Tensor
from graphnn.ops.shape import Slice
from graphnn.passes.fuse import fuse
from graphnn.plan.memory import make_plan
from graphnn.tiled import Tiled

SIZES = [(64, 12, 10), (7, 20, 33), (130, 6, 1), (3, 4, 5)]  # examples, columns of x, of dy


def product(x, dy):
    return x.transpose((1, 0)) @ dy


def tanh_of_product(x, dy):
    return tanh(x.transpose((1, 0)) @ dy)


def product_and_its_root(x, dy):
    y = x.transpose((1, 0)) @ dy
    return y * 2.0 - tanh(y)


def twice(x, dy):
    return (x.transpose((1, 0)) @ dy) + (x.transpose((1, 0)) @ tanh(dy))


def not_only_products(x, dy):
    return x.transpose((1, 0)) @ dy + tanh(x).sum((0,)).reshape((x.shape[1], 1))


BODIES = {product: 0, tanh_of_product: 0, product_and_its_root: 0, twice: 0, not_only_products: 1}  # copies of parts


def tiled(body, examples: int, rows: int, columns: int, tiles: int) -> Program:
    """The body on parts of the columns of x; parts of its result's rows are joined."""
    inside = ProgramBuilder()
    x, dy = (
        Tensor(inside, inside.input(name, TensorSpec((examples, size), "float32")))
        for name, size in (("x", rows // tiles), ("dy", columns))
    )
    made = body(x, dy)
    outside = ProgramBuilder()
    given = [outside.input("x", TensorSpec((examples, rows))), outside.input("dy", TensorSpec((examples, columns)))]
    op = Tiled(fuse(inside.build([made.value])), tiles, (1, None), (0,))
    return outside.build(list(outside.emit(op, given)))


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
@pytest.mark.parametrize(("examples", "rows", "columns"), SIZES, ids=str)
def test_products_read_parts_of_columns_where_they_are(body, examples, rows, columns):
    program = tiled(body, examples, rows, columns, 2)
    made = CpuBackend(Pool(2, shared_engine().code)).compile(make_plan(program))
    (tiles,) = [row for row in made.assembled.segments[0] if isinstance(row, Tiles)]
    copies = [row for row in tiles.first if isinstance(row, Call) and isinstance(row.op, Slice)]
    assert len(copies) == BODIES[body]
    random = np.random.default_rng(0)
    arrays = [random.normal(size=value.spec.shape).astype("float32") for value in program.inputs]
    (wanted,) = ReferenceBackend().compile(make_plan(program))(arrays)
    for _ in range(2):
        np.testing.assert_allclose(made(arrays)[0], wanted, rtol=1e-5, atol=1e-4)


# -- results that are cut across their rows ----------------------------------------------------------------------------


def columns(x, w):
    return x @ w


def tanh_of_columns(x, w):
    return tanh(x @ w)


def columns_and_their_sum(x, w):
    y = tanh(x @ w)
    return y, y.sum((0,))


def columns_and_a_product(x, w):
    y = tanh(x @ w)
    return y, y.transpose((1, 0)) @ x


def no_product(x, w):
    return tanh(w)


RESULTS = {columns: 0, tanh_of_columns: 0, columns_and_their_sum: 1, columns_and_a_product: 0, no_product: 1}


@pytest.mark.parametrize("body", RESULTS, ids=lambda body: body.__name__)
@pytest.mark.parametrize(("examples", "depth", "size"), [(64, 12, 128), (7, 20, 34), (5, 5, 2), (130, 3, 8)], ids=str)
def test_products_write_parts_of_columns_where_they_belong(body, examples, depth, size):
    inside, outside = ProgramBuilder(), ProgramBuilder()
    x = Tensor(inside, inside.input("x", TensorSpec((examples, depth))))
    made = body(x, Tensor(inside, inside.input("w", TensorSpec((depth, size // 2)))))
    values = [y.value for y in (made if isinstance(made, tuple) else (made,))]
    given = [outside.input("x", TensorSpec((examples, depth))), outside.input("w", TensorSpec((depth, size)))]
    axes = (1, 0)[: len(values)]
    program = outside.build(list(outside.emit(Tiled(fuse(inside.build(values)), 2, (None, 1), axes), given)))
    check(program, RESULTS[body], into=True)


def updated(examples: int, depth: int, size: int, tiles: int) -> Program:
    """A weight (depth, size) and what becomes of it with a gradient of x and dy, by its columns."""
    inside, outside = ProgramBuilder(), ProgramBuilder()
    x = Tensor(inside, inside.input("x", TensorSpec((examples, depth))))
    dy = Tensor(inside, inside.input("dy", TensorSpec((examples, size // tiles))))
    old = Tensor(inside, inside.input("old", TensorSpec((depth, size // tiles))))
    new = old * 0.5 - x.transpose((1, 0)) @ dy
    shapes = {"x": (examples, depth), "dy": (examples, size)}
    given = [outside.input(name, TensorSpec(shape)) for name, shape in shapes.items()]
    weight = outside.input("w", TensorSpec((depth, size)), Kind.PARAMETER)
    op = Tiled(fuse(inside.build([new.value])), tiles, (None, 1, 1), (1,))
    outside.update(weight, outside.emit(op, [*given, weight])[0])
    return outside.build([])


@pytest.mark.parametrize("tiles", [2, 3])
def test_a_weight_is_updated_by_its_columns_where_it_lies(tiles):
    program = updated(9, 11, 30, tiles)
    plan = make_plan(program)
    assert all(plan.buffers[new].shares == old for old, new in plan.updates)
    check(program, 0, into=True, workers=tiles)


def check(program: Program, copies: int, into: bool, workers: int = 2) -> None:
    """So many copies of parts, and what the reference makes of the same arrays, twice in turn."""
    made = CpuBackend(Pool(workers, shared_engine().code)).compile(make_plan(program))
    (tiles,) = [row for row in made.assembled.segments[0] if isinstance(row, Tiles)]
    moved = [row for row in tiles.first if isinstance(row, Call) and isinstance(row.op, Slice)]
    assert sum(row.arguments[into].strided for row in moved) == copies
    random = np.random.default_rng(0)
    arrays = [random.normal(size=value.spec.shape).astype("float32") for value in program.inputs]
    copied, reference = [array.copy() for array in arrays], ReferenceBackend().compile(make_plan(program))
    for _ in range(2):
        for found, wanted in zip([*made(arrays), *arrays], [*reference(copied), *copied], strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


def test_what_is_written_in_place_is_known_to_be_where_parts_are_strided_too(monkeypatch):
    """So that it is asked for once, with the intent to write."""
    seen = []
    emit = contraction_group.emit_contraction
    monkeypatch.setattr(
        contraction_group, "emit_contraction", lambda problem, target: seen.append(problem) or emit(problem, target)
    )
    CpuBackend(Pool(2, Engine(host_target()).code), Engine(host_target())).compile(make_plan(updated(9, 11, 32, 2)))
    assert seen[-1].epilogue.over == ((0, 0),)
    assert seen[-1].epilogue.outputs[0].strides == (32,)
