"""The passes inside of loops."""

import numpy as np

from graphnn.autodiff import differentiate
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.verify import verify
from graphnn.ops import tanh
from graphnn.ops.evaluate import evaluate
from graphnn.ops.op import Tensor
from graphnn.passes.bodies import rewrite_bodies
from graphnn.passes.pipeline import clean_bodies, run_passes
from graphnn.scan import Scan, scan


def cells(x, wasteful=True):
    """Running sums of x, cut in halves and joined; the body has something for every pass."""

    def body(carries, slices, constants):
        (total,) = carries
        new = (total + slices[0]) * 1.0 if wasteful else total + slices[0]
        bent = tanh(new)
        left, right = bent.slice(0, 0, 2), bent.slice(0, 2, 4)
        return [new], [left * right + left * right + 0.0]

    return scan(body, [x.fill(0.0, (4,))], [x])[1][0]


def program_of(function):
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", TensorSpec((3, 4), "float64")))
    return differentiate(builder.build([function(x).value]), [x.value])


def bodies(program):
    for instruction in program.instructions:
        if isinstance(instruction.op, Scan):
            yield instruction.op.body
            yield from bodies(instruction.op.body)


def names(program):
    return [i.op.name for body in bodies(program) for i in body.instructions]


def numbers(program):
    arrays = [np.random.default_rng(i).standard_normal(value.spec.shape) for i, value in enumerate(program.inputs)]
    found = evaluate(np, program, arrays)
    return [found[value] for value in program.outputs]


def test_bodies_are_simplified_and_merged_and_keep_their_numbers():
    program = program_of(cells)
    clean = verify(clean_bodies(program))
    assert len(names(clean)) < len(names(program)) - 4
    assert names(clean).count("fill") == 1  # the 1 in the gradient of tanh
    for actual, expected in zip(numbers(clean), numbers(program), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_gradients_of_slices_are_joined_in_loops():
    assert "pad" in names(program_of(cells))
    found = names(run_passes(program_of(cells)))
    assert "concatenate" in found
    assert "pad" not in found


def test_loops_in_loops_are_reached():
    def outer(x):
        def body(carries, slices, constants):
            return list(carries), [cells(slices[0])]

        return scan(body, [x.fill(0.0, ())], [x.reshape((1, 3, 4))])[1][0].reshape((3, 2))

    seen = []
    rewrite_bodies(program_of(outer), lambda body: seen.append(body) or body)
    assert (
        len(seen) == 5
    )  # the loop in a loop; its gradient, in which the inner one runs again, and that one's gradient
