"""Properties that every registered op must have, from the one table of cases."""

import importlib
import math
import pkgutil
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import graphnn.ops
from graphnn.errors import DTypeError, OptionError, ShapeError
from graphnn.ops.comparison import Comparison
from graphnn.ops.elementwise import Elementwise, Where
from graphnn.ops.op import Op
from ops.case import spec
from ops.helpers import assert_close, check_gradient, check_value, gradient_program, program_of, run_op, spec_of
from ops.op_cases import CASES

RUNS = [pytest.param(case, dtype, id=f"{case}-{dtype}") for case in CASES for dtype in case.dtypes]
SMOOTH = [case for case in CASES if case.gradient and program_of(case.op, case.make()).outputs]
REFUSED = [pytest.param(case.op, texts, id=f"{case}({'; '.join(texts)})") for case in CASES for texts in case.wrong]
FIRST = {case.op.name: case for case in reversed(CASES)}
BROADCASTING = [case for case in FIRST.values() if isinstance(case.op, Elementwise | Where)]


def registered() -> dict[str, type[Op]]:
    """All ops of the package, whatever was imported before; not those that tests define."""
    for module in pkgutil.iter_modules(graphnn.ops.__path__, "graphnn.ops."):
        importlib.import_module(module.name)
    return {name: op for name, op in Op.registry.items() if op.__module__.startswith("graphnn.")}


def test_every_op_has_a_case():
    assert {case.op.name for case in CASES} == set(registered())


def test_cases_are_told_apart_by_their_labels():
    assert [name for name, count in Counter(map(str, CASES)).items() if count > 1] == []


def test_ops_with_inputs_refuse_some():
    missing = {case.op.name for case in CASES if case.inputs} - {case.op.name for case in CASES if case.wrong}
    assert missing <= {"cast", "stop_gradient"}  # which take whatever there is


@pytest.mark.parametrize(("case", "dtype"), RUNS)
def test_value_is_the_expected_one(case, dtype):
    check_value(case, case.make(dtype))


@pytest.mark.parametrize(("case", "dtype"), RUNS)
def test_infer_tells_shape_and_dtype(case, dtype):
    arrays = case.make(dtype)
    assert case.op.infer(*map(spec_of, arrays)) == tuple(map(spec_of, run_op(case.op, arrays)))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_inputs_are_left_alone_and_may_lie_anyhow_in_memory(case):
    arrays = case.make()
    plain, strided = run_op(case.op, arrays), [spread_out(x) for x in arrays]
    for x in strided:
        x.flags.writeable = False  # a write raises
    for actual, wanted in zip(run_op(case.op, strided), plain, strict=True):
        assert_close(actual, wanted, case.tolerance)


def spread_out(x: np.ndarray) -> np.ndarray:
    """The same array with its axes in reverse order in memory, and gaps between the elements."""
    memory = np.zeros([2 * n for n in reversed(x.shape)], x.dtype)
    view = memory[(*[slice(None, None, 2)] * x.ndim, ...)].T
    view[...] = x
    return view


@pytest.mark.parametrize("case", CASES, ids=str)
def test_op_is_a_value(case):
    assert case.op in {case.op}
    assert case.op == type(case.op)(**vars(case.op))


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_first_gradient_agrees_with_differences(case):
    check_gradient(program_of(case.op, case.make()), case.make())


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_second_gradient_agrees_with_differences(case):
    program, rng = program_of(case.op, case.make()), np.random.default_rng(1)
    cotangents = [rng.normal(size=value.spec.shape) for value in program.outputs]
    check_gradient(gradient_program(program), [*case.make(), *cotangents])


@pytest.mark.parametrize(("op", "texts"), REFUSED)
def test_wrong_inputs_are_refused_with_a_typed_error(op, texts):
    with pytest.raises((ShapeError, DTypeError, OptionError)):
        op.infer(*map(spec, texts))


@pytest.mark.parametrize("case", BROADCASTING, ids=str)
@given(data=st.data())
def test_elementwise_ops_take_all_shapes_that_broadcast(case, data):
    shapes = data.draw(mutually_broadcastable_shapes(num_shapes=len(case.inputs), max_dims=3, max_side=3, min_side=0))
    rng = np.random.default_rng(0)
    arrays = [make(rng, "float64", shape) for make, shape in zip(case.inputs, shapes.input_shapes, strict=True)]
    check_value(case, arrays)
    program = program_of(case.op, arrays)
    if program.outputs:
        check_gradient(program, arrays)


@pytest.mark.parametrize("case", [case for case in CASES if case.op.ufunc], ids=str)
def test_ufunc_writes_the_value_into_a_given_array(case):
    arrays = case.make()
    (wanted,) = run_op(case.op, arrays)
    out = np.empty(wanted.shape, wanted.dtype)
    getattr(np, case.op.ufunc)(*arrays, out=out)
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize("case", [case for case in CASES if case.op.is_view], ids=str)
def test_view_ops_keep_the_bytes(case):
    arrays = case.make()
    assert run_op(case.op, arrays)[0].tobytes() == arrays[0].tobytes()


SCALAR_FUNCTIONS = {
    **{name: getattr(np, name) for name in ("abs", "where", "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos")},
    **{name: getattr(np, name) for name in ("tanh", "floor", "ceil", "rint", "maximum", "minimum")},
    "pow": np.power,
    "erf": np.vectorize(math.erf, otypes=["float64"]),
    "sigmoid": lambda x: 0.5 + 0.5 * np.tanh(0.5 * x),
    "INFINITY": math.inf,
}


@pytest.mark.parametrize("case", [case for case in CASES if case.op.expression], ids=str)
def test_expression_means_the_same_as_the_reference(case):
    arrays = case.make()
    (wanted,) = run_op(case.op, arrays)
    names = {f"x{index}": x for index, x in enumerate(arrays)}
    text = case.op.expression.replace("!x", "~x")  # the one sign that Python writes in another way
    working = arrays[0].dtype if isinstance(case.op, Comparison) else wanted.dtype
    actual = eval(text, {"T": working.type, **SCALAR_FUNCTIONS, **names})
    assert_close(np.asarray(actual), wanted, 16.0)
