"""fuse: the same bits from fewer kernels and fewer bytes moved; groups without cycles; results written in place."""

import numpy as np
import pytest
from hypothesis import given, settings

import graphnn as gnn
from graphnn import layers, losses, optimizers
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Origin, Phase
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.text import to_text
from graphnn.ir.verify import verify
from graphnn.ops import gather, matmul, tanh, where
from graphnn.ops.evaluate import evaluate
from graphnn.ops.fused import Fused
from graphnn.ops.op import Tensor
from graphnn.ops.random import random_keep_mask
from graphnn.passes.fuse import FUSING_PASSES, contraction_of, fuse, unfuse
from graphnn.passes.loop_nest import analyse
from graphnn.passes.pipeline import run_passes
from graphnn.plan.cost import cost_of
from graphnn.plan.memory import make_plan
from graphnn.scan import scan
from module_cases import SMALL, module_programs, numbers_for
from random_programs import arrays_for, programs, run_in_junk


def specs(values):
    return [value.spec for value in values]


def bytes_moved(program):
    costs = [cost_of(i.op, specs(i.inputs), specs(i.outputs)) for i in program.instructions]
    return sum(cost.bytes_read + cost.bytes_written for cost in costs)


def groups(program):
    return [i for i in program.instructions if isinstance(i.op, Fused)]


def names(body):
    return [i.op.name for i in body.instructions]


def bodies(program):
    """Bodies of all groups, also of those inside of loops."""
    for i in program.instructions:
        body = getattr(i.op, "body", None)
        if isinstance(i.op, Fused):
            yield body
        elif body is not None:
            yield from bodies(body)


def check(program, arrays):
    """Bit for bit the same values, planned too; every group is what the pass promises."""
    fused = verify(fuse(program))
    for body in bodies(fused):
        verify(body)
        assert not any(i.op.may_fail or i.op.name == "scan" for i in body.instructions)
        root = contraction_of(body)
        if root is None:
            assert len(body.instructions) == 1 or analyse(body) is not None
        else:
            others = [i for i in body.instructions if i is not root and i.op.name not in ("transpose", "fill")]
            assert all(i.outputs[0].spec.shape == root.outputs[0].spec.shape for i in others)
    wanted, found = evaluate(np, program, arrays), evaluate(np, fused, arrays)
    planned = run_in_junk(make_plan(fused), arrays)
    for old, new, actual in zip(program.results, fused.results, planned, strict=True):
        np.testing.assert_array_equal(found[new], wanted[old])
        np.testing.assert_array_equal(actual, wanted[old])
    return fused


@settings(max_examples=120, deadline=None)
@given(programs(max_instructions=40))
def test_random_programs(program):
    fused = check(program, arrays_for(program))
    assert to_text(fuse(program)) == to_text(fused)
    assert len(fuse(fused).instructions) <= len(fused.instructions)


@pytest.mark.parametrize(("name", "program"), list(module_programs(SMALL)))
def test_modules(name, program):
    program = run_passes(program)
    fused = check(program, numbers_for(program))
    if name.endswith("training") and not name.startswith("lstm"):  # there, nearly all is in the loops
        assert bytes_moved(fused) < 0.6 * bytes_moved(program)


@pytest.mark.parametrize("name", ["lstm-training", "attention-training"])
def test_all_fusing_passes_keep_the_numbers(name):
    program = run_passes(dict(module_programs(SMALL))[name])
    arrays = numbers_for(program)
    fused = run_passes(program, FUSING_PASSES)
    wanted, found = evaluate(np, program, arrays), evaluate(np, fused, arrays)
    for old, new in zip(program.results, fused.results, strict=True):
        np.testing.assert_allclose(found[new], wanted[old], rtol=1e-4, atol=1e-5)


def network(optimizer="adam"):
    x = gnn.Input(("batch", 64), name="x")
    h = layers.Linear(48, act_fn="relu", name="a")(x)
    h = layers.Linear(32, act_fn="tanh", name="b")(h)
    graph = gnn.Graph(x, layers.Linear(10, name="c")(h))
    rng = np.random.default_rng(0)
    trainer = gnn.Trainer(gnn.Model(graph, device="reference"), losses.CrossEntropy(), optimizer)
    compiled, given = trainer.prepare(rng.normal(size=(24, 64)).astype("float32"), rng.integers(0, 10, 24))
    return compiled.program, [np.array(given[name]) for name in compiled.inputs]


@pytest.mark.parametrize(
    "optimizer", ["adam", "sgd", optimizers.AdamW(clip_norm=0.1), optimizers.RMSProp(momentum=0.5)]
)
def test_the_step_of_a_network(optimizer):
    program, arrays = network(optimizer)
    fused = check(program, arrays)
    steps = [i for i in fused.instructions if not i.op.is_view]
    products = [i.op.body for i in groups(fused) if contraction_of(i.op.body)]
    assert len(products) == 8  # 3 forward, 3 of weights, 2 of inputs; each with what follows
    assert len(steps) <= 8 + 6 + 2 * 6 + 6  # products, updates, norms, bias sums, the loss
    assert bytes_moved(fused) < 0.6 * bytes_moved(program)


def test_products_take_bias_activation_and_its_derivative_in():
    fused = fuse(network()[0])
    found = {(i.origin.path, i.origin.phase): names(i.op.body) for i in groups(fused) if contraction_of(i.op.body)}
    assert found["a", Phase.FORWARD] == ["matmul", "add", "fill", "less_equal", "where"]
    assert found["b", Phase.FORWARD] == ["matmul", "add", "tanh"]
    backward = [names(i.op.body) for i in groups(fused) if i.origin.phase is Phase.BACKWARD]
    assert ["transpose", "matmul", "fill", "less_equal", "where"] in backward  # the mask comes from the output
    assert any("transpose" in body and body[-1] == "multiply" for body in backward)
    assert not any(v.spec.dtype == "bool" for i in fused.instructions for v in i.outputs)


def test_one_group_updates_each_parameter_in_place():
    fused = fuse(network()[0])
    new = {new for _, new in fused.updates}
    updates = [i for i in groups(fused) if not new.isdisjoint(i.outputs)]
    assert len(updates) == 6
    assert all(new.issuperset(i.outputs) and len(i.outputs) == 3 for i in updates)
    assert all("expm1" not in names(i.op.body) for i in updates)  # the bias correction is computed once
    gradients = [i.origin.phase for i in updates if contraction_of(i.op.body)]
    assert gradients == [Phase.BACKWARD] * 3  # of the weights: they are never stored
    plan = make_plan(fused)
    assert all(plan.buffers[new].shares is not None for _, new in plan.updates)  # p, m and v lie where they lay


def builder_with(**shapes):
    builder = ProgramBuilder()
    return builder, [Tensor(builder, builder.input(name, TensorSpec(shape))) for name, shape in shapes.items()]


def test_a_group_never_leads_out_and_back_in():
    builder, (x, w) = builder_with(x=(4, 4), w=(4, 4))
    a = tanh(x)
    program = builder.build([(a + matmul(a, w) * 2.0).value])
    fused = check(program, arrays_for(program))
    assert [names(i.op.body) if isinstance(i.op, Fused) else [i.op.name] for i in fused.instructions] == [
        ["tanh"], ["matmul", "fill", "multiply", "add"]
    ]  # fmt: skip


def test_groups_that_read_the_same_are_one():
    builder, (x, y) = builder_with(x=(32, 8), y=(32, 8))
    program = builder.build([(x * y).sum(0).value, tanh(x).value, x.sum(0).value])
    assert len(check(program, arrays_for(program)).instructions) == 1


def test_a_mask_alone_does_not_make_two_groups_one():
    builder, (x, y, m) = builder_with(x=(32, 8), y=(32, 8), m=(32, 1))
    mask = m > 0.0
    program = builder.build([mask.value, where(mask, x, x.lift(0.0)).value, where(mask, y, y.lift(0.0)).value])
    check(program, arrays_for(program))


def test_a_layer_norm_and_its_gradient_read_once():
    x = gnn.Input(("batch", 16), name="x")
    model = gnn.Model(gnn.Graph(x, layers.LayerNorm(name="norm")(layers.Linear(16, name="fc")(x))), device="reference")
    trainer = gnn.Trainer(model, losses.SquaredError(), "sgd")
    compiled, given = trainer.prepare(np.ones((8, 16), "float32"), np.ones((8, 16), "float32"))
    fused = check(compiled.program, [np.array(given[name]) for name in compiled.inputs])
    kernels = [i for i in fused.instructions if not i.op.is_view and i.outputs[0].spec.shape not in [(16,), (16, 16)]]
    products = [i for i in groups(fused) if contraction_of(i.op.body)]
    assert len(products) == 2
    assert len(kernels) <= 5


def test_scalar_work_is_not_repeated_for_each_element():
    builder, (x, s) = builder_with(x=(64,), s=())
    program = builder.build([(x * tanh(s)).value])
    fused = check(program, arrays_for(program))
    assert [i.op.name for i in fused.instructions] == ["tanh", "multiply"]


def test_what_is_smaller_is_not_computed_for_each_row():
    builder, (x, b) = builder_with(x=(64, 8), b=(8,))
    program = builder.build([(x * tanh(b)).value])
    assert len(check(program, arrays_for(program)).instructions) == 2


def test_masks_are_drawn_again_in_backward():
    builder, (x, dy) = builder_with(x=(64, 8), dy=(64, 8))
    random = Tensor(builder, builder.input("random", TensorSpec((4,), "uint32")))
    mask = random_keep_mask(random, (64, 8), 7, 0.5)
    y = where(mask, tanh(x), x.lift(0.0))
    with builder.at(Origin("", Phase.BACKWARD)):
        dx = where(mask, dy, dy.lift(0.0))
    program = builder.build([y.value, dx.value])
    fused = check(program, [np.ones((64, 8), "float32"), np.ones((64, 8), "float32"), np.arange(4, dtype="uint32")])
    assert [names(i.op.body).count("random_bits") for i in groups(fused)] == [1, 1]


def test_what_may_fail_stays_alone():
    builder, (x,) = builder_with(x=(4, 8))
    rows = Tensor(builder, builder.input("rows", TensorSpec((3,), "int64")))
    program = builder.build([tanh(gather(tanh(x), rows, 0) * 2.0).value])
    fused = check(program, [np.ones((4, 8), "float32"), np.array([1, 1, 0])])
    assert [i.op.name for i in fused.instructions] == ["tanh", "gather", "fused"]


def test_bodies_of_loops_are_fused():
    builder, (h, xs, w) = builder_with(h=(4, 8), xs=(5, 4, 8), w=(8, 8))
    (last,), _ = scan(lambda c, s, k: ([tanh(c[0] @ k[0] + s[0])], []), [h], [xs], [w])
    program = builder.build([last.value])
    (body,) = bodies(check(program, arrays_for(program)))
    assert names(body) == ["matmul", "add", "tanh"]


def test_unfuse_takes_groups_apart_again():
    program, arrays = network()
    apart = verify(unfuse(fuse(program), lambda instruction: False))
    assert not groups(apart)
    wanted, found = evaluate(np, program, arrays), evaluate(np, apart, arrays)
    for old, new in zip(program.results, apart.results, strict=True):
        np.testing.assert_array_equal(found[new], wanted[old])
    kept = unfuse(fuse(program), lambda instruction: contraction_of(instruction.op.body) is not None)
    assert all(contraction_of(i.op.body) for i in groups(kept))


def test_a_group_costs_its_flops_and_the_bytes_of_its_ends():
    builder, (x, w, b) = builder_with(x=(8, 4), w=(4, 16), b=(16,))
    (group,) = fuse(builder.build([tanh(x @ w + b).value])).instructions
    cost = cost_of(group.op, specs(group.inputs), specs(group.outputs))
    assert cost.flops == 2 * 8 * 4 * 16 + 2 * 8 * 16
    assert (cost.bytes_read, cost.bytes_written) == (4 * (8 * 4 + 4 * 16 + 16), 4 * 8 * 16)


def test_equal_groups_have_equal_text():
    builder, (x, y, w) = builder_with(x=(8, 4), y=(8, 4), w=(4, 4))
    first, last = tanh(x * 2.0), None
    with builder.at(Origin("elsewhere", Phase.BACKWARD)):
        last = tanh((y @ w).reshape((4, 8)).transpose((1, 0)) * 2.0)
    fused = groups(fuse(builder.build([first.value, last.value])))
    assert [repr(i.op) for i in fused] == ["Fused(fill, multiply, tanh)"] * 2
    text, other = (to_text(i.op.body).replace("  # elsewhere (backward)", "") for i in fused)
    assert text == other


def test_updates_wait_for_other_readers():
    builder = ProgramBuilder()
    p, q = (Tensor(builder, builder.input(name, TensorSpec((8,)), Kind.PARAMETER)) for name in "pq")
    builder.update(p.value, (p + q).value)
    builder.update(q.value, (q - p).value)
    program = builder.build([])
    arrays = arrays_for(program)
    check(program, arrays)


def test_a_program_of_nothing_stays():
    program = ProgramBuilder().build([])
    assert fuse(program).instructions == ()
