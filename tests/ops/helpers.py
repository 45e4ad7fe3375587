"""Run a Program as it stands, and compare its gradients with differences of its values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from graphnn.autodiff import differentiate
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Program
from graphnn.ir.tensor_spec import FLOATS, TensorSpec
from graphnn.ir.verify import verify
from graphnn.ops.evaluate import evaluate as interpret
from graphnn.ops.op import Op, Tensor, emit
from ops.case import Case

STEP = 1e-5  # of central differences in float64: the error of the formula and that of rounding are about equal


def spec_of(array: np.ndarray) -> TensorSpec:
    """Shape and dtype of an array."""
    return TensorSpec(tuple(np.shape(array)), np.asarray(array).dtype.name)


def run_op(op: Op, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """The outputs of an op's reference on NumPy."""
    outputs = op.reference(np, *arrays)
    return tuple(map(np.asarray, outputs if isinstance(outputs, tuple) else (outputs,)))


def assert_close(actual: np.ndarray, expected: object, tolerance: float = 16.0) -> None:
    """Equal shapes; integers and bools equal; floats within `tolerance` machine epsilons of the largest magnitude."""
    expected = np.asarray(expected)
    if actual.shape != expected.shape:  # NumPy's own comparisons would broadcast
        raise AssertionError(f"shape {actual.shape} where {expected.shape} was expected")
    if actual.dtype.name not in FLOATS:
        np.testing.assert_array_equal(actual, expected)
        return
    finite = np.abs(expected[np.isfinite(expected)])
    error = tolerance * np.finfo(actual.dtype).eps * max(1.0, finite.max(initial=0.0))
    np.testing.assert_allclose(actual.astype("float64"), expected.astype("float64"), rtol=0, atol=error)


def check_value(case: Case, arrays: Sequence[np.ndarray]) -> None:
    """The op's outputs have the expected values, and the shapes and dtypes that `infer` tells."""
    exact = case.expected(*(x.astype("float64") if x.dtype.name in FLOATS else x for x in arrays))
    outputs, expected = run_op(case.op, arrays), exact if isinstance(exact, tuple) else (exact,)
    for actual, wanted in zip(outputs, expected, strict=True):
        assert_close(actual, wanted, case.tolerance)
    if tuple(map(spec_of, outputs)) != (inferred := case.op.infer(*map(spec_of, arrays))):
        raise AssertionError(f"infer tells {inferred} of outputs {tuple(map(spec_of, outputs))}")


def trace(function: Callable[..., Tensor | tuple[Tensor, ...]], arrays: Sequence[np.ndarray]) -> Program:
    """The program of a function of Tensors, for inputs like `arrays`; only its float outputs are returned."""
    builder = ProgramBuilder()
    inputs = [Tensor(builder, builder.input(f"x{i}", spec_of(array))) for i, array in enumerate(arrays)]
    outputs = function(*inputs)
    tensors = outputs if isinstance(outputs, tuple) else (outputs,)
    return verify(builder.build([y.value for y in tensors if y.spec.is_float]))


def program_of(op: Op, arrays: Sequence[np.ndarray]) -> Program:
    """The program that is one call of `op`; also for an op without inputs."""
    if arrays:
        return trace(op, arrays)
    builder = ProgramBuilder()
    return verify(builder.build([y.value for y in emit(op, (), builder) if y.spec.is_float]))


def call(function: Callable[..., Tensor], *arrays: object) -> np.ndarray:
    """The value of a function of Tensors with one float output; numbers and lists are float64."""
    inputs = [np.asarray(x, None if isinstance(x, np.ndarray) else "float64") for x in arrays]
    return evaluate(trace(function, inputs), inputs)[0]


def gradients(function: Callable[..., Tensor], *arrays: object, cotangent: object = 1.0) -> list[np.ndarray]:
    """The gradients of a function of Tensors by all its inputs, for one cotangent of its one output."""
    inputs = [np.asarray(x, None if isinstance(x, np.ndarray) else "float64") for x in arrays]
    program = trace(function, inputs)
    (output,) = program.outputs
    return evaluate(gradient_program(program), [*inputs, np.broadcast_to(cotangent, output.spec.shape)])


def evaluate(program: Program, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a program by the plain interpreter on NumPy: no plan, no passes."""
    values = interpret(np, program, arrays)
    return [values[value] for value in program.outputs]


def gradient_program(program: Program) -> Program:
    """The gradients alone of all outputs by all float inputs; the cotangents are further inputs."""
    wrt = [value for value in program.inputs if value.spec.is_float]
    both = verify(differentiate(program, wrt))
    return Program(both.inputs, both.instructions, both.outputs[len(program.outputs) :])


def check_gradient(program: Program, arrays: Sequence[np.ndarray], seed: int = 0, tolerance: float = 1e-6) -> None:
    """Compare <c, J v> for random c and v, from the gradients and from central differences, for each float input.

    Raises:
        AssertionError: they differ by more than `tolerance` of the sum of the magnitudes added up.
    """
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=value.spec.shape) for value in program.outputs]
    gradients = iter(evaluate(gradient_program(program), [*arrays, *weights]))
    for index, value in enumerate(program.inputs):
        if not value.spec.is_float:
            continue
        direction, gradient = rng.normal(size=value.spec.shape), next(gradients)
        ends = [[*arrays[:index], arrays[index] + h * direction, *arrays[index + 1 :]] for h in (STEP, -STEP)]
        high, low = (evaluate(program, end) for end in ends)
        terms = [w * (a - b) / (2 * STEP) for w, a, b in zip(weights, high, low, strict=True)]
        numeric, analytic = sum(float(np.sum(term)) for term in terms), float(np.sum(gradient * direction))
        scale = 1.0 + sum(float(np.sum(np.abs(term))) for term in terms)
        if not abs(numeric - analytic) <= tolerance * scale:
            raise AssertionError(f"gradient by {value!r}: {analytic} where differences give {numeric}")


def check_transpose(program: Program, arrays: Sequence[np.ndarray], seed: int = 0) -> None:
    """<y, c> = sum of <x, dx> for a program that is linear in all of its inputs together: exact, no differences."""
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=value.spec.shape) for value in program.outputs]
    backward = evaluate(gradient_program(program), [*arrays, *weights])
    left = [np.sum(y * c) for y, c in zip(evaluate(program, arrays), weights, strict=True)]
    right = [np.sum(x * dx) for x, dx in zip(arrays, backward, strict=True)]
    np.testing.assert_allclose(sum(left), sum(right), rtol=0, atol=1e-12 * (1 + np.sum(np.abs([*left, *right]))))
