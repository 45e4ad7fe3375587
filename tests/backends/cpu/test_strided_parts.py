"""Tiles that cut an input across its rows: products read their part where it is, all others a copy of it."""

import numpy as np
import pytest

from graphnn.backends.cpu.backend import CpuBackend, shared_engine
from graphnn.backends.cpu.table import Call, Tiles
from graphnn.backends.cpu.threads import Pool
from graphnn.backends.reference import ReferenceBackend
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Program
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
