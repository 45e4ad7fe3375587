"""The CPU engine as a whole: every op, module and random program, with several numbers of workers, in junk memory."""

import threading
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graphnn as gnn
from graphnn import layers
from graphnn.autodiff import append_gradients
from graphnn.backends.cpu import backend as whole_backend
from graphnn.backends.cpu import executable as engine
from graphnn.backends.cpu.executable import Interpreted
from graphnn.errors import BackendError, OptionError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.model import Model
from graphnn.ops import gather, tanh
from graphnn.ops.elementwise import Elementwise
from graphnn.ops.op import Op, Tensor, spec_of
from graphnn.passes.pipeline import run_passes
from graphnn.plan.memory import make_plan
from graphnn.scan import scan
from guarded_runs import backend, results_of, wanted_of
from module_cases import SMALL, flat_outputs, module_programs, numbers_for, seeds_of
from ops.op_cases import CASES
from random_programs import arrays_for, programs

PYTHON_ONLY = {"opaque", "opaque_gradient"}  # a user's functions


def run(program: Program, arrays, workers: int, runs: int = 2):
    """Results of several runs in guarded memory, with all that is behind the passes."""
    made = backend(workers).compile(make_plan(backend(workers).rewrite(program)))
    return results_of(made, program, arrays, runs)


def assert_close(got, wanted, rtol: float, label: str = "") -> None:
    """Equal to `rtol` times the largest number of the array; integers and bools exactly."""
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        finite = b[np.isfinite(b)] if b.dtype.kind == "f" else b
        scale = float(np.abs(finite).max()) if finite.size and b.dtype.kind == "f" else 0.0
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale, equal_nan=True, err_msg=label)


def one_op(case, dtype: str) -> tuple[Program, list[np.ndarray]]:
    arrays = [np.asarray(array, order="C") for array in case.make(dtype)]
    builder = ProgramBuilder()
    inputs = [builder.input(f"x{n}", spec_of(array)) for n, array in enumerate(arrays)]
    return builder.build(builder.emit(case.op, inputs)), arrays


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_op_has_a_kernel_that_agrees_with_its_reference(case, dtype):
    if dtype not in case.dtypes:
        pytest.skip("the op has no case of this dtype")
    program, arrays = one_op(case, dtype)
    made = backend(2).compile(make_plan(backend(2).rewrite(program)))
    interpreted = [s.step.op.name for s in made.assembled.segments if isinstance(s, Interpreted)]
    assert set(interpreted) <= PYTHON_ONLY, f"no kernel for {interpreted}"
    wanted = wanted_of(program, arrays)
    rtol = case.tolerance * float(np.finfo(dtype).eps)
    assert_close(run(program, arrays, 2), wanted, rtol)


@pytest.mark.parametrize("case", [case for case in CASES if not hasattr(case.op, "body")], ids=str)
def test_every_op_of_float16_has_a_kernel(case):
    """Ops with a body have its dtypes; how float16 rounds is tested with the kernels."""
    with np.errstate(over="ignore"):
        program, arrays = one_op(case, "float16")
    made = backend(2).compile(make_plan(backend(2).rewrite(program)))
    interpreted = {s.step.op.name for s in made.assembled.segments if isinstance(s, Interpreted)}
    assert interpreted <= PYTHON_ONLY
    if not interpreted:
        assert_close(made(arrays), case_results(case, arrays), 4 * float(np.finfo("float16").eps))


def case_results(case, arrays) -> list[np.ndarray]:
    with np.errstate(all="ignore"):
        results = case.op.reference(np, *arrays)
    return list(results) if isinstance(results, tuple) else [results]


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_programs_agree_with_the_reference(workers, data):
    program = data.draw(programs(max_instructions=12, sizes=(0, 1, 3, 8, 20), dtype="float64", smooth=True))
    arrays = arrays_for(program)
    assert_close(run(program, arrays, workers), wanted_of(program, arrays), 1e-10)


MODULE_PROGRAMS = list(module_programs(SMALL))


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_modules_of_float16_are_native_and_agree_with_the_reference(case, monkeypatch):
    """Sums of gradients whose terms cancel differ more than their own size tells, hence the scale of the largest."""
    native = []

    def watched(plan, assembler, assemble=engine.assemble):
        native.append(assemble(plan, assembler))
        return native[-1]

    monkeypatch.setattr(whole_backend, "assemble", watched)
    found = []
    for device in ("cpu", "reference"):
        model = Model(case.graph, seed=1, dtype="float16", device=device)
        outputs = flat_outputs(model.forward(**case.arrays("float16"), training=True, retain=True))
        model.backward(*seeds_of(outputs))
        found.append([*outputs, *(np.array(array) for array in model.gradients.values())])
    assert native
    assert not [s for made in native for s in made.segments if isinstance(s, Interpreted)]
    largest = max(float(np.abs(array.astype("float64")).max()) for array in found[1])
    for got, wanted in zip(*found, strict=True):
        np.testing.assert_allclose(got.astype("float64"), wanted.astype("float64"), rtol=1e-2, atol=2e-3 * largest)


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize(("name", "program"), MODULE_PROGRAMS, ids=[name for name, _ in MODULE_PROGRAMS])
def test_modules_agree_with_the_reference(name, program, workers):
    arrays = numbers_for(program)
    assert_close(run(program, arrays, workers), wanted_of(program, arrays), 2e-5, name)


def small_program(function, *specs: TensorSpec, kinds=()) -> Program:
    builder = ProgramBuilder()
    kinds = (*kinds, *[Kind.INPUT] * len(specs))
    tensors = [Tensor(builder, builder.input(f"x{n}", spec, kinds[n])) for n, spec in enumerate(specs)]
    outputs, updates = function(*tensors)
    for position, new in updates.items():
        builder.update(tensors[position].value, new.value)
    return builder.build([tensor.value for tensor in outputs])


def test_parameters_that_replace_each_other_are_all_read_before_one_is_written():
    row = TensorSpec((5,))
    program = small_program(lambda p, q: ([p], {0: q, 1: p}), row, row, kinds=(Kind.PARAMETER, Kind.STATE))
    p, q = np.arange(5, dtype="float32"), np.arange(5, 10, dtype="float32")
    made = backend(2).compile(make_plan(backend(2).rewrite(program)))
    given_arrays = [p.copy(), q.copy()]
    (output,) = made(given_arrays)
    np.testing.assert_array_equal(output, p)
    np.testing.assert_array_equal(given_arrays[0], q)
    np.testing.assert_array_equal(given_arrays[1], p)


def test_an_index_out_of_range_is_a_typed_error_and_changes_nothing():
    program = small_program(
        lambda p, i: ([gather(p, i)], {0: p + 1.0}), TensorSpec((4, 3)), TensorSpec((2,), "int64"),
        kinds=(Kind.PARAMETER,),
    )  # fmt: skip
    made = backend(2).compile(make_plan(backend(2).rewrite(program)))
    p = np.ones((4, 3), "float32")
    with pytest.raises(OptionError, match="out of range"):
        made([p, np.array([1, 4])])
    np.testing.assert_array_equal(p, np.ones((4, 3)))
    made([p, np.array([1, 3])])  # and it goes on
    np.testing.assert_array_equal(p, np.full((4, 3), 2.0))


@pytest.mark.parametrize("formula", ["", "atan(x0)"], ids=["no formula", "an unknown function"])
def test_an_op_that_no_kernel_can_be_made_of_runs_by_its_reference(formula, monkeypatch):
    monkeypatch.setattr(Op, "registry", dict(Op.registry))  # other tests go through all ops

    @dataclass(frozen=True)
    class ArcTan(Elementwise):
        name = "arctan_of_a_test"
        ufunc = "arctan"
        expression = formula

    program = small_program(lambda x: ([ArcTan()(tanh(x)) * 2.0], {}), TensorSpec((4, 3)))
    made = backend(2).compile(make_plan(backend(2).rewrite(program)))
    x = np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)
    np.testing.assert_allclose(made([x])[0], np.arctan(np.tanh(x)) * 2, rtol=1e-5)


def test_threads_take_turns():
    program = small_program(lambda x: ([tanh(x) * 2.0 + x], {}), TensorSpec((64, 33)))
    made = backend(3).compile(make_plan(backend(3).rewrite(program)))
    faults: list[str] = []

    def work(seed: int) -> None:
        x = np.random.default_rng(seed).normal(size=(64, 33)).astype("float32")
        for _ in range(50):
            fits = np.allclose(made([x])[0], np.tanh(x) * 2 + x, rtol=1e-5, atol=1e-6)
            faults.extend([] if fits else [f"seed {seed}"])

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_more_memory_than_there_is_is_a_typed_error():
    rows = TensorSpec((2**31, 2**12))
    program = small_program(lambda x: ([(tanh(x.broadcast_to(rows.shape)).sum())], {}), TensorSpec((1, 2**12)))
    plan = make_plan(program)  # not rewritten: the broadcast is stored
    made = backend(1).compile(plan)
    with pytest.raises(BackendError, match="more memory than there is"):
        made([np.zeros((1, 2**12), "float32")])


def loops(depth: int, x: Tensor) -> Tensor:
    """So many loops in each other over the leading axes, forwards and backwards in turn, each with stacked results."""
    if depth == 0:
        return tanh(x)

    def body(carries, slices, constants):
        inner = loops(depth - 1, slices[0] * constants[0])
        return [carries[0] * 0.5 + inner.sum()], [inner + carries[0]]

    first = x.fill(0.5, ())
    last, (stacked,) = scan(body, [first], [x], [x.fill(1.5, ())], reverse=depth % 2 == 0)
    return stacked + last[0]


@pytest.mark.parametrize(("depth", "interpreted"), [(1, 0), (2, 0), (3, 1)])
@pytest.mark.parametrize("workers", [1, 3])
def test_loops_in_loops(workers, depth, interpreted):
    """Two are native; a third one around them runs by the reference."""
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", TensorSpec((6, 5, 4, 3), "float64")))
    loss = loops(depth, x).sum()
    gradients = append_gradients(builder, {loss.value: loss.fill(1.0, ())}, [x.value])
    program = run_passes(builder.build([loss.value, gradients[x.value].value]))
    arrays = [np.random.default_rng(0).normal(size=(6, 5, 4, 3))]
    made = backend(workers).compile(make_plan(backend(workers).rewrite(program)))
    found = [s for s in made.assembled.segments if isinstance(s, Interpreted)]
    assert bool(found) == bool(interpreted)
    assert_close(run(program, arrays, workers), wanted_of(program, arrays), 1e-12)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_run_that_fails_changes_no_state_of_another_branch(workers):
    """The new statistics have nothing in common with the index that is out of range."""
    x, ids = gnn.Input(("batch", 6), name="x"), gnn.Input(("batch",), name="ids", dtype="int64")
    ends = {"y": layers.BatchNorm(name="bn")(x), "e": layers.Embedding(4, 7, name="emb")(ids)}
    model = gnn.Model(gnn.Graph([x, ids], ends), device="cpu")
    model._backend = backend(workers)
    rows, good = np.random.default_rng(0).normal(size=(5, 6)).astype("float32"), np.arange(5)
    model.run(x=rows, ids=good, training=True)
    before = {path: array.copy() for path, array in model.states.items()}
    for wrong in (0, 4):
        with pytest.raises(OptionError, match="out of range"):
            model.run(x=3 * rows, ids=np.where(good == wrong, 50, good), training=True)
        for path, array in model.states.items():
            np.testing.assert_array_equal(array, before[path])
