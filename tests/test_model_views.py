"""Pictures of a model: its graph with what is frozen and what is kept."""

import pytest

import graphnn as gnn
from graphnn import layers, model_views
from graphnn.model_views import kept_values


def model() -> gnn.Model:
    x = gnn.Input(("batch", 4), name="x")
    y = layers.Tanh(name="tanh")(layers.Linear(4, name="linear")(x))
    return gnn.Model(gnn.Graph(x, layers.Linear(2, name="last")(y), name="net"))


def test_what_is_kept_follows_from_what_is_trained():
    net = model()
    assert kept_values(net) == {"x": ("input, float32",), "tanh": ("output, float32",)}
    net.freeze("linear")
    assert "x" not in kept_values(net)  # only the gradient of linear/W needs it


def test_where_the_size_does_not_fit_nothing_is_marked(monkeypatch):
    monkeypatch.setattr(model_views, "ANY_SIZE", -1)
    net = model()
    assert kept_values(net) == {}
    assert 'data-badge="kept"' not in net.to_svg("backward")


@pytest.mark.parametrize("ending", ["svg", "dot", "html"])
@pytest.mark.parametrize("view", ["forward", "backward"])
def test_a_model_is_drawn_into_each_kind_of_file_with_its_frozen_nodes(tmp_path, ending, view):
    net = model()
    net.freeze("linear")
    path = tmp_path / f"net.{ending}"
    net.render(path, view=view)
    assert "frozen" in path.read_text(encoding="utf-8")
    assert net.to_svg(view, theme="dark", direction="right") != net.graph.to_svg(view, theme="dark", direction="right")
