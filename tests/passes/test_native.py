"""What decides into how many tiles a program is cut."""

import pytest

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops import tanh
from graphnn.ops.op import Tensor
from graphnn.passes.native import batch_of, most_alive, tiles_of


def program_of(*shapes: tuple[int, ...], kind: Kind = Kind.INPUT, length: int = 1) -> Program:
    """Chains of `tanh`, one for each input."""
    builder = ProgramBuilder()
    ends = [Tensor(builder, builder.input(f"x{n}", TensorSpec(shape), kind)) for n, shape in enumerate(shapes)]
    for _ in range(length):
        ends = [tanh(end) for end in ends]
    return builder.build([end.value for end in ends])


@pytest.mark.parametrize(
    ("shapes", "batch"),
    [([], 0), ([()], 0), ([(8, 4)], 8), ([(8, 4), (5, 10), (8, 4)], 8), ([(8, 4), (5, 10)], 5), ([(3,), (2, 9)], 2)],
)
def test_the_batch_is_the_size_that_most_bytes_of_inputs_begin_with(shapes, batch):
    assert batch_of(program_of(*shapes)) == batch
    assert batch_of(program_of(*shapes, kind=Kind.PARAMETER)) == 0


@pytest.mark.parametrize(("length", "rows"), [(1, 1), (2, 2), (9, 2)])
def test_a_chain_has_two_values_alive_at_once(length, rows):
    assert most_alive(program_of((10, 10), length=length)) == rows * 400


@pytest.mark.parametrize("batch", [0, 1])
def test_what_cannot_be_cut_is_one_tile(batch):
    assert tiles_of(program_of((batch, 2**22)), batch, workers=4, l2_bytes=2**20) == 1


def test_a_program_that_leaves_the_cache_is_cut():
    assert tiles_of(program_of((64, 2**16)), 64, workers=2, l2_bytes=2**20) > 2
