"""Every view of a graph, a model and a trainer: one way in, drawn from what is run."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers
from graphnn.model_views import ALL_VIEWS
from graphnn.plans import plans_of, programs_of
from graphnn.render.memory import memory_svg
from graphnn.render.palette import BASE, THEMES
from graphnn.render.plan_drawing import plan_svg
from graphnn.render.program_drawing import program_svg
from graphnn.run_views import LOWERED
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


def page_of(target, folder, view, **options):
    """The data of a page, and what its overlays have by title and path."""
    target.render(folder / "net.html", view=view, **options)
    (payload,) = re.findall(r'id="data">(.*?)</script>', (folder / "net.html").read_text(encoding="utf-8"))
    data = json.loads(payload)
    paths = [node["path"] for node in data["nodes"]]
    return data, {
        overlay["title"]: {paths[int(place)]: found for place, found in overlay["nodes"].items()}
        for overlay in data["overlays"]
    }


def test_the_page_of_a_profile_has_all_its_numbers_those_that_are_asked_for_first(trainer, tmp_path):
    data, overlays = page_of(trainer, tmp_path, "profile", of="flops", runs=1, inputs=X, targets=Y)
    found = gnn.profile(trainer, X, Y, runs=1)
    titles = ["operations", "time", "bytes read and written"]
    assert list(overlays) == [f"{title} of one training step" for title in titles]
    for of, title in (("flops", "operations"), ("bytes", "bytes read and written")):
        expected, shown = found.overlay(of), overlays[f"{title} of one training step"]
        assert {path: node["value"] for path, node in shown.items() if "value" in node} == expected.values
        assert shown["conv"]["text"] == expected.text("conv")
        assert [tuple(row) for row in shown["conv"]["rows"]] == list(expected.details.rows["conv"])
    (conv,) = [node for node in data["nodes"] if node["path"] == "conv"]
    assert any(line.endswith("forward") for line in conv["facts"])
    assert "on reference" in conv["facts"]
    graph = page_of(trainer.model.graph, tmp_path, "profile", runs=1, sizes={"batch": 6}, device="reference")[0]
    assert not any("on reference" in node.get("facts", ()) for node in graph["nodes"])


def test_the_page_of_values_has_outputs_and_gradients(trainer, tmp_path):
    outputs, gradients = "largest value by magnitude", "largest gradient by magnitude"
    expected = gnn.inspect_values(trainer.model, X, training=True).overlay()
    _, overlays = page_of(trainer, tmp_path, "values", inputs=X, targets=Y)
    assert list(overlays) == [outputs, gradients]
    for path in ("x", "conv", "flat", "logits"):
        assert overlays[outputs][path]["text"] == expected.text(path)
        assert [tuple(row) for row in overlays[outputs][path]["rows"]] == list(expected.details.rows[path])
    svg = trainer.to_svg("values", of="gradients", inputs=X, targets=Y)
    assert all(overlays[gradients][path]["text"] in svg for path in ("conv", "flat"))
    assert list(page_of(trainer, tmp_path, "values", of="gradients", inputs=X, targets=Y)[1]) == [gradients, outputs]
    assert list(page_of(trainer, tmp_path, "values", inputs=X)[1]) == [outputs]  # without targets there is no loss


def test_the_page_of_a_network_without_gradients_has_outputs_alone(tmp_path):
    x = gnn.Input(("batch", 3), dtype="int64", name="x")
    graph = gnn.Graph(x, layers.Reshape((3, -1), name="turn")(x), name="net")
    how = {"sizes": {"batch": 2}, "device": "reference"}
    assert list(page_of(graph, tmp_path, "values", **how)[1]) == ["largest value by magnitude"]
    with pytest.raises(gnn.GraphError, match="needs the gradient of an output"):
        page_of(graph, tmp_path, "values", of="gradients", **how)
    with pytest.raises(gnn.OptionError, match="no such values"):
        page_of(graph, tmp_path, "values", of="money", **how)


def test_the_first_bad_node_is_the_first_flag_of_the_page(trainer, tmp_path):
    model = gnn.Model(trainer.model.graph, device="reference")
    model.parameters["conv/W"][0, 0, 0] = np.nan
    data, overlays = page_of(model, tmp_path, "values", inputs=X)
    assert [data["nodes"][place]["path"] for place in data["overlays"][0]["flagged"]] == ["conv", "flat", "logits"]
    assert overlays["largest value by magnitude"]["conv"]["flag"] == "first NaN in W"
    before = (tmp_path / "net.html").read_bytes()
    page_of(model, tmp_path, "values", inputs=X)
    assert (tmp_path / "net.html").read_bytes() == before  # the same numbers, the same page


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


@pytest.mark.parametrize("view", LOWERED)
def test_each_view_has_both_themes_or_one_of_them(view, trainer):
    auto, light, dark = (trainer.to_svg(view, theme=theme, **how(trainer, view)) for theme in THEMES)
    assert "prefers-color-scheme" in auto
    ink = BASE["ink"]
    for svg, kept, other in ((light, ink.light, ink.dark), (dark, ink.dark, ink.light)):
        assert kept in svg
        assert other not in svg
        assert "prefers-color-scheme" not in svg


def test_a_program_may_flow_to_the_right(trainer):
    heights, widths = [], []
    for direction in ("down", "right"):
        root = ElementTree.fromstring(trainer.model.to_svg("program", direction=direction, sizes={"batch": 2}))
        _, _, width, height = map(float, root.get("viewBox").split())
        widths.append(width)
        heights.append(height)
    assert widths[1] > widths[0]
    assert heights[1] < heights[0]


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
        ("plan", {"direction": "right", "sizes": {"batch": 2}}, r"no option of the view plan[\s\S]*direction"),
        ("plan", {"theme": "pink", "sizes": {"batch": 2}}, r"theme: there is no such choice[\s\S]*auto, light, dark"),
        (
            "program",
            {"direction": "up", "sizes": {"batch": 2}},
            r"direction: there is no such choice[\s\S]*down, right",
        ),
        ("backward", {"part": "training"}, r"part: no option of the view backward[\s\S]*memory, program, plan\n"),
        ("profile", {"stage": "ops", "sizes": {"batch": 2}}, r"stage: no option of the view profile"),
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
