"""hoist and split_products: what leaves a loop, what stays, and the same numbers."""

import numpy as np
import pytest
from hypothesis import given, settings

from graphnn.autodiff import differentiate
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.verify import verify
from graphnn.ops import concatenate, gather, sigmoid, tanh
from graphnn.ops.evaluate import evaluate
from graphnn.ops.op import Tensor
from graphnn.passes.dead import remove_dead
from graphnn.passes.fuse import LOOP_PASSES
from graphnn.passes.hoist import hoist
from graphnn.passes.pipeline import run_passes
from graphnn.passes.reuse import reuse_turns
from graphnn.passes.split import split_products
from graphnn.scan import Scan, scan
from module_cases import SMALL, module_programs, numbers_for
from random_programs import arrays_for, programs

BATCH, WIDTH = 4, 16


def program_of(body, length=5, gradients=False):
    """A loop over (length, batch, 4 * width) from a state (batch, width), with a weight (width, 4 * width)."""
    builder = ProgramBuilder()
    shapes = {"h": (BATCH, WIDTH), "xs": (length, BATCH, 4 * WIDTH), "w": (WIDTH, 4 * WIDTH)}
    specs = {name: TensorSpec(shape, "float64") for name, shape in shapes.items()}
    h, xs, w = (Tensor(builder, builder.input(name, spec)) for name, spec in specs.items())
    last, steps = scan(lambda c, s, k: body(c[0], s[0], k[0]), [h], [xs], [w])
    loss = sum((tensor.sum() for tensor in steps), start=last[0].sum())
    program = builder.build([loss.value])
    return run_passes(differentiate(program, [h.value, xs.value, w.value]) if gradients else program)


def loops(program):
    return [i.op for i in program.instructions if isinstance(i.op, Scan)]


def inside(program):
    return [i.op.name for op in loops(program) for i in op.body.instructions]


def outside(program):
    return [i.op.name for i in program.instructions if not isinstance(i.op, Scan)]


def check(program, passes=(hoist,)):
    rewritten = run_passes(program, passes)
    for op in loops(rewritten):
        verify(op.body)
    arrays = [np.random.default_rng(i).standard_normal(value.spec.shape) for i, value in enumerate(program.inputs)]
    wanted, found = evaluate(np, program, arrays), evaluate(np, rewritten, arrays)
    for old, new in zip(program.results, rewritten.results, strict=True):
        np.testing.assert_allclose(found[new], wanted[old], rtol=1e-12, atol=1e-12)
    return remove_dead(rewritten)


@pytest.mark.parametrize("length", [0, 1, 5])
def test_what_depends_on_constants_moves(length):
    def body(h, x, w):
        return [tanh(h + x @ (w.transpose((1, 0)) * 2.0))], []

    rewritten = check(program_of(body, length))
    assert inside(rewritten) == ["add", "tanh"]
    assert outside(rewritten)[:4] == ["transpose", "fill", "multiply", "matmul"]  # one product for all turns
    assert loops(rewritten)[0].n_sequences == 1


def test_what_costs_nothing_stays():
    def body(h, x, w):
        return [h * 2.0 + w.slice(1, 0, WIDTH).sum(0).broadcast_to((BATCH, WIDTH))], []

    assert sorted(inside(check(program_of(body)))) == ["add", "broadcast_to", "fill", "multiply"]


def test_what_may_fail_stays():
    def body(h, x, w):
        rows = w.fill(99, (BATCH,), "int64")
        return [h + gather(w, rows).slice(1, 0, WIDTH)], []

    rewritten = check(program_of(body, 0))  # no turn, no error
    assert "gather" in inside(rewritten)


def test_loops_in_loops_give_to_the_outermost():
    def body(h, x, w):
        (last,), _ = scan(
            lambda c, s, k: ([c[0] + s[0] @ k[0].transpose((1, 0))], []), [h], [x.reshape((1, *x.shape))], [w]
        )
        return [last], []

    rewritten = check(program_of(body))
    assert "transpose" in outside(rewritten)
    assert "transpose" not in inside(rewritten)


def gates(h, x, w):
    joined = x + h @ w
    parts = [joined.slice(1, k * WIDTH, (k + 1) * WIDTH) for k in range(4)]
    c = sigmoid(parts[0]) * h + sigmoid(parts[1]) * tanh(parts[2])
    return [sigmoid(parts[3]) * tanh(c)], [c]


@pytest.mark.parametrize("gradients", [False, True])
def test_gates_are_products_of_their_own(gradients):
    rewritten = check(program_of(gates, gradients=gradients), LOOP_PASSES)
    assert "slice" not in inside(rewritten)
    assert inside(rewritten).count("matmul") == (5 if gradients else 4)  # in backward: the gradient of the state alone
    assert all(v.spec.shape[-1] == WIDTH for i in loops(rewritten)[0].body.instructions for v in i.outputs)


def test_the_gradient_reads_the_gates_of_the_loop():
    program = program_of(gates, gradients=True)
    without = [rewrite for rewrite in LOOP_PASSES if rewrite is not reuse_turns]
    assert outside(check(program, without)).count("matmul") == 4 + 1  # the states times w once more; the gradient of w
    rewritten = check(program, LOOP_PASSES)
    assert outside(rewritten).count("matmul") == 1
    assert not {"tanh", "sigmoid"} & set(outside(rewritten))


@pytest.mark.parametrize("start", [0, 8])
def test_slices_that_overlap_are_left(start):
    def body(h, x, w):
        product = h @ w
        return [product.slice(1, start, start + WIDTH) + product.slice(1, 0, WIDTH)], []

    assert "slice" in inside(check(program_of(body), [split_products]))


def test_what_is_read_whole_is_left():
    def body(h, x, w):
        product = h @ w
        return [product.slice(1, 0, WIDTH)], [product]

    assert inside(check(program_of(body), [split_products])).count("slice") == 1


def test_narrow_products_stay_together():
    def body(h, x, w):
        product = h @ w
        return [concatenate([product.slice(1, k, k + 1) for k in range(WIDTH)])], []

    program = program_of(body)
    assert inside(check(program, [split_products])) == inside(program)


@settings(max_examples=60, deadline=None)
@given(programs(dtype="float64"))
def test_random_programs(program):
    rewritten = run_passes(program, LOOP_PASSES)
    arrays = arrays_for(program)
    wanted, found = evaluate(np, program, arrays), evaluate(np, rewritten, arrays)
    for old, new in zip(program.results, rewritten.results, strict=True):
        np.testing.assert_allclose(found[new], wanted[old], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "program"), [case for case in module_programs(SMALL) if "lstm" in case[0]])
def test_modules(name, program):
    program = run_passes(program)
    arrays = numbers_for(program)
    rewritten = run_passes(program, LOOP_PASSES)
    wanted, found = evaluate(np, program, arrays), evaluate(np, rewritten, arrays)
    for old, new in zip(program.results, rewritten.results, strict=True):
        np.testing.assert_allclose(found[new], wanted[old], rtol=1e-4, atol=1e-5)
