"""Layouts: no transpose is left behind a product that can be turned, or written in another order; the numbers stay."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpu_kernels import avx2, check_kernel, host
from graphnn.backends.cpu.kernels.registry import emit_kernel
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.verify import verify
from graphnn.ops import tanh
from graphnn.ops.evaluate import evaluate
from graphnn.ops.fused import Fused
from graphnn.ops.op import Tensor
from graphnn.passes.accumulate import accumulating
from graphnn.passes.fuse import fuse
from graphnn.passes.layouts import FEWEST_COLUMNS, turn_products, write_as_read
from graphnn.tiled import Tiled

TARGETS = {"host": host(), "avx2": avx2()}
ROWS = FEWEST_COLUMNS


def program_of(function, *shapes: tuple[int, ...], dtype: str = "float64") -> Program:
    builder = ProgramBuilder()
    given = [Tensor(builder, builder.input(f"x{n}", TensorSpec(shape, dtype))) for n, shape in enumerate(shapes)]
    made = function(*given)
    return builder.build([y.value for y in (made if isinstance(made, tuple) else (made,))])


def arrays_for(program: Program) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.normal(size=v.spec.shape).astype(v.spec.dtype) for v in program.inputs]


def same_numbers(before: Program, after: Program) -> None:
    arrays = arrays_for(before)
    wanted, made = evaluate(np, before, arrays), evaluate(np, verify(after), arrays)
    for old, new in zip(before.results, after.results, strict=True):
        assert old.spec == new.spec
        np.testing.assert_allclose(made[new], wanted[old], rtol=1e-12, atol=1e-12)


def ops_of(program: Program) -> list[str]:
    return [i.op.name for i in program.instructions]


# -- the way round -----------------------------------------------------------------------------------------------------


def read_transposed(a, b):
    return tanh((a @ b).transpose((1, 0)))


def read_transposed_twice(a, b):
    turned = (a @ b).transpose((1, 0))
    return turned * 2.0, tanh((a @ b).transpose((1, 0)))


def of_transposed_operands(a, b):
    return tanh((b.transpose((1, 0)) @ a.transpose((1, 0))).transpose((1, 0)))


def read_both_ways(a, b):
    y = a @ b
    return tanh(y), tanh(y.transpose((1, 0)))


def a_result_too(a, b):
    y = a @ b
    return y, tanh(y.transpose((1, 0)))


def not_read(a, b):
    return a @ b


SHAPES = {True: ((ROWS, 5), (5, 7)), False: ((ROWS - 1, 5), (5, 7))}
# transposes that are left where there are enough rows
LEFT = {read_transposed: 2, read_transposed_twice: 4, read_both_ways: 1, a_result_too: 1, not_read: 0}


@pytest.mark.parametrize("enough", SHAPES, ids=["enough rows", "too few"])
@pytest.mark.parametrize("function", LEFT, ids=lambda function: function.__name__)
def test_a_product_that_all_read_transposed_is_turned(function, enough):
    program = program_of(function, *SHAPES[enough])
    turned = turn_products(program)
    same_numbers(program, turned)
    is_turned = enough and function in (read_transposed, read_transposed_twice)
    assert (turned.instructions == program.instructions) != is_turned
    if is_turned:
        product = next(i for i in turned.instructions if i.op.name == "matmul")
        assert product.outputs[0].spec.shape == (7, ROWS)
        assert ops_of(turned).count("transpose") == LEFT[function]


def test_what_was_transposed_before_is_not_transposed_again():
    """b.T @ a.T, read transposed, becomes a @ b."""
    program = program_of(of_transposed_operands, (3, 5), (5, ROWS))
    turned = turn_products(program)
    same_numbers(program, turned)
    assert ops_of(turned) == ["matmul", "tanh"]


@given(
    rank=st.integers(2, 4), data=st.data(), wide=st.booleans(), rows=st.sampled_from([1, 3, ROWS, ROWS + 5]),
)  # fmt: skip
def test_any_order_of_axes(rank, data, wide, rows):
    lead = tuple(data.draw(st.integers(1, 3)) for _ in range(rank - 2))
    orders = [tuple(data.draw(st.permutations(range(rank)))) for _ in range(2)]
    first, second = (*lead, rows, 4), ((*lead, 4, 3) if wide else (4, 3))

    def both(a, b):
        y = a @ b
        return tuple(tanh(y.transpose(order)) for order in orders)

    program = program_of(both, first, second)
    turned = turn_products(program)
    same_numbers(program, turned)
    wanted = rows >= ROWS and all(order[-1] == rank - 2 for order in orders)
    assert wanted == (turned.instructions != program.instructions)


def test_inside_of_loops():
    body = program_of(read_transposed, (ROWS, 5), (5, 7))
    builder = ProgramBuilder()
    given = [builder.input(f"x{n}", TensorSpec(shape, "float64")) for n, shape in enumerate([(2 * ROWS, 5), (5, 7)])]
    program = builder.build(list(builder.emit(Tiled(body, 2, (0, None), (1,)), given)))
    turned = turn_products(program)
    same_numbers(program, turned)
    assert ops_of(turned.instructions[0].op.body).index("matmul") == 2  # behind the transposes of its operands


# -- the order of axes -------------------------------------------------------------------------------------------------


def heads_behind(a, b):
    return (a @ b).transpose((1, 0, 2))


def heads_of_tanh(a, b):
    return tanh(a @ b).transpose((1, 0, 2))


def with_another_result(a, b):
    y = a @ b
    return y.transpose((1, 0, 2)) * 2.0, tanh(y)


def columns_move(a, b):
    return (a @ b).transpose((0, 2, 1))


def read_twice(a, b):
    y = (a @ b) * 2.0
    return y.transpose((1, 0, 2)), y.transpose((1, 0, 2)) + y.transpose((1, 0, 2))


WRITTEN = {heads_behind: 0, heads_of_tanh: 0, with_another_result: 1, columns_move: 1, read_twice: 3}


@pytest.mark.parametrize("function", WRITTEN, ids=lambda function: function.__name__)
def test_a_product_is_written_in_the_order_of_its_reader(function):
    program = program_of(function, (3, 6, 5), (3, 5, 7))
    fused = fuse(program)
    written = write_as_read(fused)
    same_numbers(program, written)
    assert ops_of(written).count("transpose") == WRITTEN[function]


CASES = [((3, 6, 5), (3, 5, 7)), ((1, 40, 3), (3, 33)), ((2, 1, 4), (2, 4, 1)), ((5, 9, 20), (20, 16))]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("shapes", CASES, ids=str)
@pytest.mark.parametrize("function", [heads_behind, heads_of_tanh], ids=lambda function: function.__name__)
def test_kernels_write_in_that_order(function, shapes, target, dtype):
    """Also where they add to what is there, a sum over tiles."""
    program = write_as_read(fuse(program_of(function, *shapes, dtype=dtype)))
    (instruction,) = program.instructions
    op, arrays = instruction.op, arrays_for(program)
    assert isinstance(op, Fused)
    bound = {"float32": 1e-4, "float64": 1e-11}[dtype]
    check_kernel(emit_kernel, op, *arrays, target=target, rtol=bound, atol=bound)
    specs = [value.spec for value in program.inputs], [value.spec for value in program.outputs]
    adding = accumulating(op, *specs, [0])
    total = np.random.default_rng(1).normal(size=program.outputs[0].spec.shape).astype(dtype)
    check_kernel(emit_kernel, adding, *arrays, total, target=target, rtol=bound, atol=bound)
    check_kernel(emit_kernel, adding, *arrays, total, target=target, rtol=bound, atol=bound, over={0: len(arrays)})
