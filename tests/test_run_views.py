"""Every view of a graph, a model and a trainer: one way in, drawn from what is run."""

from xml.etree import ElementTree

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers
from graphnn.model_views import ALL_VIEWS
from graphnn.plans import plans_of, programs_of
from graphnn.render.memory import memory_svg
from graphnn.render.plan_drawing import plan_svg
from graphnn.render.program_drawing import program_svg
from graphnn.tiled import Tiled

X = np.random.default_rng(0).normal(size=(6, 5, 3))
Y = np.arange(6) % 4


@pytest.fixture(scope="module")
def trainer():
    x = gnn.Input(("batch", 5, 3), name="x")
    h = layers.Conv1D(8, kernel_width=2, pad="causal", act_fn="tanh", name="conv")(x)
    graph = gnn.Graph(x, layers.Linear(4, name="logits")(layers.Flatten(name="flat")(h)), name="net")
    return gnn.Trainer(gnn.Model(graph, device="reference"), "cross_entropy", "adam")


def how(target, view):
    """What a view of this target needs."""
    if view in ("forward", "backward", "schedule"):
        return {}
    return {"inputs": X, "targets": Y} if isinstance(target, gnn.Trainer) else {"sizes": {"batch": 6}}


@pytest.mark.parametrize("view", ALL_VIEWS)
def test_every_view_of_every_target_is_drawn_and_written(view, trainer, tmp_path):
    for target in (trainer, trainer.model, trainer.model.graph):
        svg = target.to_svg(view, **how(target, view))
        assert ElementTree.fromstring(svg).get("viewBox")
        target.render(tmp_path / "net.svg", view=view, **how(target, view))
        if view != "profile":  # whose times differ
            assert (tmp_path / "net.svg").read_text(encoding="utf-8") == svg


def test_views_of_programs_and_plans_draw_what_is_run(trainer):
    step = {"inputs": X, "targets": Y}
    program, plan = programs_of(trainer, X, Y)["step"], plans_of(trainer, X, Y)["step"]
    assert trainer.to_svg("program", **step) == program_svg(program, "net: program of a training step")
    assert trainer.to_svg("plan", **step) == plan_svg(plan, "net: plan of a training step")
    assert trainer.to_svg("memory", **step) == memory_svg(plan, "net: memory of a training step")
    plans = plans_of(trainer.model, X)
    for part in ("forward", "backward"):
        svg = trainer.model.to_svg("memory", part=part, inputs=X)
        assert svg == memory_svg(plans[part], f"net: memory of {part}")
    both = trainer.model.graph.to_svg("memory", part="training", sizes={"batch": 6})
    assert "kept for backward" in both


def test_sizes_stand_for_arrays_of_these_sizes(trainer):
    graph = trainer.model.graph
    for view in ("memory", "program", "plan"):
        assert graph.to_svg(view, sizes={"batch": 6}) == graph.to_svg(view, inputs=X) == graph.to_svg(view, inputs=(X,))
        assert graph.to_svg(view, sizes={"batch": 7}) != graph.to_svg(view, sizes={"batch": 6})


def test_numbers_on_the_nodes_are_those_of_the_profile_and_of_the_values(trainer):
    flops = gnn.profile(trainer, X, Y, runs=1).overlay("flops")
    assert trainer.to_svg("profile", of="flops", runs=1, inputs=X, targets=Y) == trainer.to_svg(overlay=flops)
    values = gnn.inspect_values(trainer.model, X, training=True).overlay()
    assert trainer.to_svg("values", inputs=X, targets=Y) == trainer.model.to_svg(overlay=values)


def test_gradients_of_a_trainer_are_those_of_its_loss(trainer):
    logits = trainer.model.run(X, keep=False).outputs
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    by_hand = (shares / shares.sum(axis=1, keepdims=True) - np.eye(4)[Y]) / len(Y)
    expected = gnn.inspect_values(trainer.model, X, output_gradients=by_hand.astype("float32"), training=True)
    found = trainer.to_svg("values", of="gradients", inputs=X, targets=Y)
    for node in ("flat", "conv"):  # not the logits: the mean of their gradients is 0 but for rounding
        assert expected.overlay("gradients").text(node) in found


def test_kernels_show_what_is_fused(trainer):
    how = {"part": "training", "sizes": {"batch": 64}}
    ops, kernels = (trainer.model.graph.to_svg("program", stage=stage, **how) for stage in ("ops", "kernels"))
    assert ">fused</text>" in kernels
    assert ">fused</text>" not in ops
    assert "kernels on cpu" in kernels
    for view in ("plan", "memory"):
        ops, kernels = (trainer.model.graph.to_svg(view, stage=stage, **how) for stage in ("ops", "kernels"))
        assert "kernels on cpu" in kernels
        assert kernels != ops


def test_of_tiles_one_is_drawn():
    x = gnn.Input(("batch", 64), name="x")
    graph = gnn.Graph(x, layers.Linear(512, name="b")(layers.Linear(512, act_fn="tanh", name="a")(x)), name="net")
    model = gnn.Model(graph)
    backend = model.backend
    program = programs_of(model, np.zeros((4096, 64)))["forward"]
    loops = [i.op for i in backend.rewrite(program).instructions if isinstance(i.op, Tiled)]
    svg = model.to_svg("program", stage="kernels", sizes={"batch": 4096})
    assert (f": one of {loops[0].tiles} tiles" if loops else "net: program") in svg
    assert ">fused</text>" in svg


def test_the_model_stays_as_it_is(trainer):
    before = {path: array.copy() for path, array in trainer.model.parameters.items()}
    for view in ALL_VIEWS:
        trainer.to_svg(view, **how(trainer, view))
    assert (trainer.steps, trainer.model.step) == (0, 0)
    assert all(np.array_equal(before[path], array) for path, array in trainer.model.parameters.items())


@pytest.mark.parametrize(
    ("view", "options", "words"),
    [
        ("memory", {}, r"no size of batch[\s\S]*give sizes={'batch': 16}, or inputs="),
        ("values", {}, "no size of batch"),
        ("inside", {}, r"no such view[\s\S]*forward, .*memory, program, plan, profile, values"),
        ("plan", {"depth": 1}, "has no depth"),
        ("plan", {"theme": "dark", "sizes": {"batch": 2}}, r"no option of the view plan[\s\S]*theme"),
        ("plan", {"part": "half", "sizes": {"batch": 2}}, r"no such choice[\s\S]*training"),
        ("program", {"stage": "x", "sizes": {"batch": 2}}, "no such choice"),
        ("profile", {"of": "money", "sizes": {"batch": 2}}, "no such number"),
        ("values", {"of": "money", "sizes": {"batch": 2}}, "no such values"),
    ],
)
def test_what_is_missing_or_wrong_is_named(view, options, words, trainer):
    with pytest.raises(gnn.OptionError, match=words):
        trainer.model.graph.to_svg(view, **options)


def test_a_trainer_says_that_it_needs_a_batch(trainer, tmp_path):
    with pytest.raises(gnn.OptionError, match=r"needs a batch[\s\S]*inputs=x, targets=y"):
        trainer.to_svg("plan", inputs=X)
    with pytest.raises(gnn.OptionError, match=r"another format[\s\S]*\.svg"):
        trainer.render(tmp_path / "plan.html", view="plan", inputs=X, targets=Y)
