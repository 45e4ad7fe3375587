"""partition: the same numbers in tiles, whatever is cut; one loop for a whole training step."""

import importlib
import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphnn as gnn
from graphnn import layers, losses, optimizers
from graphnn.autodiff import differentiate
from graphnn.graph.scope import RANDOM_INPUT
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.text import to_text
from graphnn.ir.verify import verify
from graphnn.ops import iota, random_bits, tanh, where
from graphnn.ops.convolution import ConvolutionOp
from graphnn.ops.evaluate import evaluate
from graphnn.ops.indexing import Gather, ScatterAdd
from graphnn.ops.linalg import MatMul
from graphnn.ops.op import Op, Tensor
from graphnn.ops.random import seed_words
from graphnn.ops.shape import Pad, Reshape, Slice
from graphnn.passes.partition import partition, sharded_inputs
from graphnn.passes.pipeline import run_passes
from graphnn.scan import Scan, scan
from graphnn.tiled import Tiled
from module_cases import SMALL, ModuleCase, module_programs, numbers_for
from ops.helpers import gradient_program, program_of
from ops.op_cases import CASES
from random_programs import arrays_for, programs

HEAVY = (MatMul, ConvolutionOp, Scan, Gather, ScatterAdd)


def loops(program):
    return [i.op for i in program.instructions if isinstance(i.op, Tiled)]


def outside(program):
    return [i.op for i in program.instructions if not isinstance(i.op, Tiled)]


def results(program, arrays):
    values = evaluate(np, program, arrays)
    return [values[value] for value in program.results]


def check(program, arrays, tiles, sharded, tolerance=1e-12):
    """The partitioned program, after a comparison: errors in units of the largest magnitude of an array."""
    tiled = verify(partition(program, tiles, sharded))
    for op in loops(tiled):
        verify(op.body)
    assert [value.spec for value in tiled.results] == [value.spec for value in program.results]
    assert tiled.inputs == program.inputs
    for actual, wanted in zip(results(tiled, arrays), results(program, arrays), strict=True):
        scale = max(1.0, np.abs(wanted[np.isfinite(wanted)]).max(initial=0)) if wanted.dtype.kind == "f" else 0
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance * scale)
    return tiled


def traced(function, *shapes, dtype="float64"):
    builder = ProgramBuilder()
    inputs = [Tensor(builder, builder.input(f"x{i}", TensorSpec(shape, dtype))) for i, shape in enumerate(shapes)]
    return verify(builder.build([tensor.value for tensor in function(*inputs)]))


# -- every op ----------------------------------------------------------------------------------------------------------

WITHOUT_RULE = {"opaque", "opaque_gradient"}
WITHOUT_CUT_INPUT = {"fill", "iota", "random_bits", "fused", "tiled"}


def all_cuts(program, most=4):
    """Every way to cut some of the inputs along one axis each."""
    inputs = program.inputs[:most]
    for axes in itertools.product(*([None, *range(value.spec.rank)] for value in inputs)):
        yield {value: axis for value, axis in zip(inputs, axes, strict=True) if axis is not None}


def whole_program(case):
    """One op with all of its outputs; `program_of` leaves integers out."""
    builder = ProgramBuilder()
    inputs = [builder.input(f"x{i}", TensorSpec(x.shape, x.dtype.name)) for i, x in enumerate(case.make())]
    return builder.build(builder.emit(case.op, inputs))


def test_every_op_in_tiles_however_its_inputs_are_cut():
    tiled = Counter()
    for case in CASES:
        program, arrays = whole_program(case), case.make()
        for cut, tiles in itertools.product(all_cuts(program), (2, 3, 4, 5)):
            tiled[case.op.name] += len(loops(check(program, arrays, tiles, cut)))
    names = {case.op.name for case in CASES}
    assert {name for name in names if not tiled[name]} - WITHOUT_RULE - WITHOUT_CUT_INPUT <= {
        "reshape",
        "pad",
        "is_nan",
        "is_inf",
    }
    assert not any(tiled[name] for name in WITHOUT_RULE)


def test_gradients_of_every_op_in_tiles():
    for case in CASES:
        if not case.gradient or not program_of(case.op, case.make()).outputs:
            continue
        program, rng = program_of(case.op, case.make()), np.random.default_rng(1)
        arrays = [*case.make(), *(rng.normal(size=value.spec.shape) for value in program.outputs)]
        backward = gradient_program(program)
        for tiles in (2, 3):
            for axis in range(2):
                fitting = [value for value in backward.inputs if value.spec.rank > axis]
                check(backward, arrays, tiles, dict.fromkeys(fitting, axis))


# (shape, axis, new shape, whether two tiles can keep it cut)
RESHAPES = [
    ((4, 3), 0, (12,), True),
    ((12,), 0, (4, 3), True),
    ((3, 4), 1, (12,), True),
    ((3, 4, 5), 1, (12, 5), True),
    ((3, 4, 5), 1, (3, 20), True),
    ((3, 4, 5), 1, (60,), True),
    ((4, 3), 0, (1, 4, 1, 3), True),
    ((6, 2), 0, (3, 4), False),
    ((2, 6), 1, (3, 4), False),
    ((3, 4), 1, (2, 6), False),
    ((4, 0), 0, (0, 4), False),
]


@pytest.mark.parametrize(("shape", "axis", "new", "stays"), RESHAPES)
def test_reshapes_stay_in_tiles_where_each_part_is_regular(shape, axis, new, stays):
    program = traced(lambda x: [tanh(tanh(x).reshape(new)), tanh(x).reshape(new).reshape(shape) * 2.0], shape)
    tiled = check(program, arrays_for(program), 2, {program.inputs[0]: axis})
    assert any(isinstance(i.op, Reshape) for op in loops(tiled) for i in op.body.instructions) is stays
    assert stays is not any(isinstance(op, Op) and op.name == "tanh" for op in outside(tiled))


def test_pads_and_slices_off_the_cut_axis():
    def function(x):
        return [Pad((0, 1), (0, 2), (0, 1), 5.0)(x), x.slice(1, 1, 3), Pad((1, 0), (0, 0), (0, 0))(x), x.slice(0, 1, 3)]

    program = traced(function, (4, 3))
    tiled = check(program, arrays_for(program), 2, {program.inputs[0]: 0})
    assert Counter(type(i.op) for i in loops(tiled)[0].body.instructions) == {Pad: 1, Slice: 1}
    assert Counter(map(type, outside(tiled))) == {Pad: 1, Slice: 1}


@given(programs(sizes=(1, 4, 8), dtype="float64"), st.sampled_from([2, 4]), st.data())
def test_random_programs(program, tiles, data):
    axes = {value: data.draw(st.sampled_from([0, 1, None])) for value in program.inputs}
    sharded = {value: axis for value, axis in axes.items() if axis is not None}
    last = [value for i in program.instructions[-8:] for value in i.outputs]
    program = replace(program, outputs=(*program.outputs, *last))
    check(program, arrays_for(program), tiles, sharded, 1e-9)  # sums of sums of products


# -- networks ----------------------------------------------------------------------------------------------------------

TRAINED = [(name, run_passes(p)) for name, p in module_programs([ModuleCase(c.name, c.graph, 12) for c in SMALL])]


@pytest.mark.parametrize(("name", "program"), TRAINED, ids=[name for name, _ in TRAINED])
def test_modules(name, program):
    for tiles in (1, 2, 3, 4, 12):
        tiled = check(program, numbers_for(program), tiles, sharded_inputs(program, 12), 2e-5)
        assert bool(loops(tiled)) is (tiles > 1)
        assert not [op for op in outside(tiled) if tiles > 1 and isinstance(op, HEAVY)]
        if tiles > 1 and not name.startswith(("identity", "conv")):  # these two have batch statistics
            assert len(loops(tiled)) == 1


def step_program(graph, x, y, loss=None, optimizer=None):
    """The program of a training step in float64, and its inputs."""
    model = gnn.Model(graph, dtype="float64", device="reference")
    optimizer = optimizers.SGD(0.1) if optimizer is None else optimizer
    compiled, given_arrays = gnn.Trainer(model, loss or losses.CrossEntropy(), optimizer).prepare(x, y)
    return compiled.program, [np.array(given_arrays[name]) for name in compiled.inputs]


def mlp():
    x = gnn.Input(("batch", 7))
    h = layers.Dropout(0.3)(layers.ReLU()(layers.Linear(9)(x)))
    rng = np.random.default_rng(0)
    return gnn.Graph(x, layers.Linear(5)(h)), rng.normal(size=(12, 7)), rng.integers(0, 5, 12)


EXAMPLES = importlib.import_module("plan.test_examples")


@pytest.mark.parametrize("make", [mlp, EXAMPLES.wavenet, EXAMPLES.bilstm, EXAMPLES.masked])
def test_a_training_step_is_one_loop_from_the_input_to_the_gradients(make):
    program, arrays = step_program(*make(), losses.CrossEntropy(ignore_label=-1))
    batch = next(v.spec.shape[0] for v in program.inputs if v.kind is Kind.INPUT and v.spec.rank > 1)
    tiled = check(program, arrays, 2, sharded_inputs(program, batch), 1e-11)
    assert len(loops(tiled)) == 1
    assert not [op for op in outside(tiled) if isinstance(op, HEAVY)]
    assert to_text(tiled) == to_text(partition(program, 2, sharded_inputs(program, batch)))


def test_batch_statistics_part_a_step_into_phases():
    program, arrays = step_program(*EXAMPLES.digits())
    tiled = check(program, arrays, 4, sharded_inputs(program, 64), 1e-9)
    assert 2 < len(loops(tiled)) <= 17
    assert not [op for op in outside(tiled) if isinstance(op, HEAVY)]


def test_a_weight_used_twice_has_one_sum():
    def function(x, w):
        return [tanh(tanh(x @ w) @ w).sum(), w]

    program = traced(function, (6, 3), (3, 3))
    both = run_passes(differentiate(program, [program.inputs[1]], program.outputs[:1]))
    tiled = check(both, [*arrays_for(program), np.array(1.0)], 3, {both.inputs[0]: 0})
    (op,) = loops(tiled)
    assert op.output_axes == ("sum", "sum")  # the loss, and the gradient of both uses together


@pytest.mark.parametrize("shape", [(6, 3), (6, 5, 7), (6,), (12, 1)])
@pytest.mark.parametrize("tiles", [2, 3, 6])
def test_a_tile_draws_the_bits_of_the_whole(shape, tiles):
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", TensorSpec(shape, "uint32")))
    words = Tensor(builder, builder.input(RANDOM_INPUT, TensorSpec((4,), "uint32")))
    program = builder.build([(x + random_bits(words, shape, 7)).value])
    arrays = [np.zeros(shape, "uint32"), seed_words(5, 6)]
    tiled = check(program, arrays, tiles, {x.value: 0}, 0)
    assert loops(tiled)[0].with_index
    assert not [op for op in outside(tiled) if not isinstance(op, Tiled)]


def test_values_that_are_made_for_the_batch_are_made_in_the_tile():
    program = traced(lambda x, w: [x + (w * 2.0).broadcast_to((8, 3)) * x.fill(3.0, (8, 3)), x * w], (8, 3), (3,))
    tiled = check(program, arrays_for(program), 2, {program.inputs[0]: 0})
    (op,) = loops(tiled)
    assert all(value.spec.size < 24 for value in op.body.inputs)
    assert all(value.spec.size < 24 for i in tiled.instructions if i.op is not op for value in i.outputs)


def test_a_constant_of_the_size_of_the_batch_is_cut():
    program = traced(lambda x, c: [(x * c).sum(0)], (8, 3), (8, 1))
    assert loops(check(program, arrays_for(program), 4, {program.inputs[0]: 0}))[0].input_axes == (0, 0)


def test_what_a_later_phase_uses_waits_for_it():
    def function(x, y, w):
        total = (x @ w).sum(0)
        return [(x - total) * tanh(y * 2.0)]  # tanh(y) could be had before the sum, but would have to be kept

    program = traced(function, (4, 3), (4, 3), (3, 3))
    first, second = loops(check(program, arrays_for(program), 2, dict.fromkeys(program.inputs[:2], 0)))
    assert [i.op.name for i in first.body.instructions] == ["matmul", "sum"]
    assert Counter(second.input_axes) == {0: 2, None: 1}


def test_statistics_of_the_inputs_alone_come_first():
    def function(x, labels):
        count = (labels > 0.0).cast("float64").sum()
        return [(tanh(x) * (1.0 / count)).sum(), tanh(x).sum(0)]

    program = traced(function, (8, 3), (8,))
    tiled = check(program, arrays_for(program), 2, dict.fromkeys(program.inputs, 0))
    assert len(loops(tiled)) == 1


# -- loops -------------------------------------------------------------------------------------------------------------


def recurrent(h, n, x, w):
    """A cut state, a counter that is whole, and a weight whose gradient adds up in the loop."""

    def body(carries, slices, constants):
        (h, n), (x,), (w,) = carries, slices, constants
        new = tanh(h * w + x * n)
        return [new, n + 1.0], [new * 2.0, n]

    (h, n), (ys, ns) = scan(body, [h, n], [x], [w])
    return [h, n, ys, ns]


@pytest.mark.parametrize("cut", [{0: 0, 2: 1}, {2: 1}, {0: 0}, {0: 1, 2: 2, 3: 0}])
def test_scans_are_cut_beside_time(cut):
    program = traced(recurrent, (4, 2), (), (5, 4, 2), (2,))
    gradient = differentiate(program, [program.inputs[i] for i in (0, 2, 3)], [program.outputs[0], program.outputs[2]])
    gradient = run_passes(gradient)
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=value.spec.shape) for value in gradient.inputs]
    tiled = check(gradient, arrays, 2, {gradient.inputs[i]: axis for i, axis in cut.items()})
    assert not [op for op in outside(tiled) if isinstance(op, Scan)]


def test_a_scan_whose_time_is_cut_stays_outside():
    program = traced(recurrent, (4, 2), (), (6, 4, 2), (2,))
    tiled = check(program, arrays_for(program), 2, {program.inputs[2]: 0})
    assert [type(op) for op in outside(tiled)].count(Scan) == 1


def test_a_sum_over_the_batch_in_a_loop_that_feeds_back_keeps_it_outside():
    program = traced(lambda h, x: scan(lambda c, s, k: ([tanh(c[0] + s[0].sum(0))], []), [h], [x])[0], (3,), (5, 4, 3))
    tiled = check(program, arrays_for(program), 2, {program.inputs[1]: 1})
    assert [type(op) for op in outside(tiled)].count(Scan) == 1


# -- limits ------------------------------------------------------------------------------------------------------------


def test_nothing_to_cut():
    program = traced(lambda x: [tanh(x)], (5, 3))
    assert partition(program, 2, {program.inputs[0]: 0}) is program  # 5 examples are no 2 tiles
    assert partition(program, 1, {program.inputs[0]: 0}) is program
    assert partition(program, 2, {}) is program


def test_sharded_inputs_are_those_of_the_batch():
    builder = ProgramBuilder()
    specs = {"x": (4, 2), "y": (4,), RANDOM_INPUT: (4,), "rate": (), "z": (2, 4)}
    values = {name: builder.input(name, TensorSpec(shape, "uint32")) for name, shape in specs.items()}
    builder.input("w", TensorSpec((4, 4)), Kind.PARAMETER)
    assert sharded_inputs(builder.build([]), 4) == {values["x"]: 0, values["y"]: 0}


def test_long_programs_at_the_default_recursion_limit():
    def function(x, w):
        for _ in range(3000):
            w = tanh(w)  # whole, and could be made in the tile
            x = x + w
        return [x, x.sum(0)]

    program = traced(function, (4, 3), (4, 3))
    tiled = check(program, arrays_for(program), 2, {program.inputs[0]: 0}, 1e-9)
    assert len(loops(tiled)) == 1


# -- positions ---------------------------------------------------------------------------------------------------------

X = [np.random.default_rng(0).normal(size=(12, 6))]


def positions_of(function, shape=(12, 6), dtype="float64"):
    """A program of x and of what the function makes of positions along both axes."""
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", TensorSpec(shape, dtype)))
    rows, columns = (iota(builder, shape, axis) for axis in (0, 1))
    made = function(x, rows, columns)
    return builder.build([y.value for y in (made if isinstance(made, tuple) else (made,))])


def causal(x, rows, columns):
    return tanh(where(rows >= columns, x, x.lift(-1.0)))


def moved_on(x, rows, columns):
    return where((rows + columns).cast("float64") < 9.0, x * 2.0, x)


def mask_twice(x, rows, columns):
    return where(rows >= columns, x, x * 0.5) + (rows >= columns).cast("float64")


@pytest.mark.parametrize("function", [causal, moved_on, mask_twice], ids=lambda function: function.__name__)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("tiles", [2, 3])
def test_masks_of_positions_are_made_in_the_tile(function, axis, tiles):
    program = positions_of(function)
    made = check(program, X, tiles, {program.inputs[0]: axis})
    (loop,) = [i for i in made.instructions if isinstance(i.op, Tiled)]
    assert all(value.spec.dtype == "float64" for value in loop.inputs)


@pytest.mark.parametrize("returned", [False, True])
def test_a_mask_that_all_examples_share_is_made_once_where_it_is_a_result(returned):
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", TensorSpec((12, 6, 6), "float64")))
    allowed = iota(builder, (6, 6), 0) >= iota(builder, (6, 6), 1)
    y = where(allowed, x, x.lift(-1.0))
    program = builder.build([y.value, *([allowed.value] if returned else [])])
    (op,) = loops(check(program, [np.random.default_rng(0).normal(size=(12, 6, 6))], 3, {x.value: 0}))
    assert returned != any(i.op.name == "greater_equal" for i in op.body.instructions)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_positions_as_floats_are_rounded_once(dtype):
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", TensorSpec((4102, 2), dtype)))
    program = builder.build([(x + iota(builder, (4102, 2), 0, dtype)).value])
    check(program, [np.zeros((4102, 2), dtype)], 2, {x.value: 0}, 0.0)


@pytest.mark.parametrize("more", [lambda y, columns: y + columns, lambda y, columns: y + y], ids=["chain", "doubled"])
def test_long_sums_of_positions_take_no_time(more):
    """Neither the stack nor the number of ways through them, which is astronomic, sets a limit."""

    def function(x, rows, columns):
        for _ in range(400):
            rows = more(rows, columns)
        return where(rows < columns, x, x * 2.0)

    program = positions_of(function)
    with np.errstate(over="ignore"):
        check(program, X, 3, {program.inputs[0]: 0})
