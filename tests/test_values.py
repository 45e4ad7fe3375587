"""Values: statistics as NumPy has them, and the first bad node found wherever it is."""

import json
import math

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers
from graphnn.values import Values, inspect_values, statistics_of

X = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
DEPTH = 4


def chain():
    x = gnn.Input(("batch", 4), name="x")
    h = x
    for index in range(DEPTH):
        h = layers.Tanh(name=f"tanh_{index}")(layers.Linear(4, name=f"linear_{index}")(h))
    return gnn.Model(gnn.Graph(x, h, name="chain"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("index", range(DEPTH))
def test_a_bad_weight_in_layer_k_flags_layer_k(index, bad):
    model = chain()
    model.parameters[f"linear_{index}/W"][0, 0] = bad
    values = inspect_values(model, X)
    assert values.first_bad is not None
    assert (values.first_bad.node, values.first_bad.name) == (f"linear_{index}", f"linear_{index}/W")
    flags = values.overlay().flags
    assert flags[f"linear_{index}"] == f"first {'NaN' if math.isnan(bad) else 'Inf'} in W"
    assert not any(path in flags for before in range(index) for path in (f"linear_{before}", f"tanh_{before}"))
    assert f"at linear_{index}: linear_{index}/W has 1 {'NaN' if math.isnan(bad) else 'Inf'}" in str(values)


def test_a_bad_input_is_found_before_all_nodes():
    x = X.copy()
    x[2, 1] = np.nan
    values = inspect_values(chain(), x)
    assert values.first_bad == values["x"]
    assert values["linear_0"].nan == 4
    assert values.overlay().flags["x"] == "first NaN"


def test_a_node_that_overflows_is_flagged_itself():
    x = gnn.Input(("batch", 4), name="x")
    h = layers.Exponential(name="exp")(layers.ScalarMultiply(1000, name="grow")(x))
    values = inspect_values(gnn.Model(gnn.Graph(x, layers.ReLU(name="relu")(h))), np.abs(X) + 1)
    assert values.first_bad == values["exp"]
    assert values["exp"].inf == 20
    assert values["exp"].largest is None
    assert list(values.overlay().flags) == ["exp", "relu"]


def test_a_bad_gradient_is_found_in_backward_order():
    gradient = np.ones((5, 4), "float32")
    gradient[0, 0] = np.inf
    values = inspect_values(chain(), X, output_gradients=gradient)
    assert values.first_bad == values[f"dLd/tanh_{DEPTH - 1}"]
    assert values.overlay().flags == {}
    assert values.overlay("gradients").flags[f"tanh_{DEPTH - 1}"] == "first Inf"
    with pytest.raises(gnn.OptionError, match="outputs or gradients"):
        values.overlay("weights")


def test_what_was_bad_first_is_flagged_beside_the_gradients_that_it_spoils():
    model = chain()
    model.parameters["linear_1/W"][0, 0] = np.nan
    overlay = inspect_values(model, X, output_gradients=np.ones((5, 4), "float32")).overlay("gradients")
    assert overlay.flags["linear_1"] == "first NaN in W"
    assert overlay.flags["linear_2"] == "NaN"
    assert sum(flag.startswith("first") for flag in overlay.flags.values()) == 1


def test_the_line_on_a_node_has_the_share_of_zeros_where_there_are_some():
    x = gnn.Input(("batch", 4), name="x")
    numbers = np.array([[-1, -2, 0.5, 3], [-1, 1, 2, 4]], "float32")
    texts = inspect_values(gnn.Model(gnn.Graph(x, layers.ReLU(name="relu")(x))), numbers).overlay().texts
    assert texts == {"x": "-2 … 0.812 … 4", "relu": "0 … 1.31 … 4 · 37.5% zeros"}


def test_rows_are_what_the_model_computes():
    model = chain()
    ones = np.ones((5, 4), "float32")
    values = inspect_values(model, x=X, output_gradients=ones)
    model.forward(X, retain=True)
    dx = model.backward(ones)
    derived = {**model.derived_variables, **{f"dLd/{path}": array for path, array in model.gradients.items()}}
    expected = {"x": X, "dLd/x": dx, **derived, **model.parameters}
    assert {row.name for row in values.rows} == set(expected)
    for name, array in expected.items():
        row = values[name]
        assert row == statistics_of(name, row.kind, row.node, array)
        assert row.mean == pytest.approx(float(array.astype("float64").mean()))
        assert (row.least, row.largest) == (array.min(), array.max())
    order = [row.name for row in values.rows]
    assert order.index("linear_0/W") < order.index("linear_0") < order.index("tanh_0") < order.index("dLd/tanh_0")
    assert order.index("dLd/tanh_0") < order.index("dLd/linear_0") < order.index("dLd/linear_0/W")
    assert json.loads(json.dumps(values.to_dict()))["first_bad"] is None
    assert str(values).endswith("all values are finite")


def test_the_model_stays_as_it_is():
    x = gnn.Input(("batch", 4), name="x")
    h = layers.Dropout(0.5, name="drop")(layers.BatchNorm1D(name="norm")(layers.Linear(4, name="linear")(x)))
    model = gnn.Model(gnn.Graph(x, h))
    model.forward(X, training=True)
    model.backward(np.ones((5, 4)))
    stores = (model.parameters, model.states, model.gradients)
    before = [array.tobytes() for store in stores for array in store.values()], model.step
    values = inspect_values(model, X, training=True, output_gradients=np.ones((5, 4)))
    assert values["drop"].zeros > 0
    assert ([array.tobytes() for store in stores for array in store.values()], model.step) == before


def test_details_are_the_rows_of_a_node():
    model = chain()
    model.parameters["linear_1/W"][0, 0] = np.nan
    values = inspect_values(model, X, output_gradients=np.ones((5, 4), "float32"))
    for of in ("outputs", "gradients"):
        details = values.overlay(of).details
        assert details.columns == ("least", "mean", "largest", "zeros", "bad")
        assert details.title == f"{'values' if of == 'outputs' else 'gradients'} of this run"
        rows = [(row.node, row.kind) for row in values.rows if (row.kind == "gradient") == (of == "gradients")]
        assert sum(map(len, details.rows.values())) == len(rows)
        assert sorted(name for name, *_ in details.rows["linear_1"]) == ["W", "b", "output"]
        assert [name for name, *_ in details.rows["x"]] == ["output"]
    bad = {name: cells for name, *cells in values.overlay().details.rows["linear_1"]}
    assert bad["W"][-1] == "1 NaN"
    least, mean, largest, zeros, _ = bad["output"]
    row = values["linear_1"]
    assert (least, mean, largest) == tuple(f"{number:.3g}" for number in (row.least, row.mean, row.largest))
    assert zeros == f"{row.zeros:.1%}"


def test_details_tell_several_outputs_apart():
    values = Values("net", tuple(statistics_of(name, "output", "lstm", X) for name in ("lstm:0", "lstm:1")))
    assert [row[0] for row in values.overlay().details.rows["lstm"]] == ["output 0", "output 1"]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        ([1.0, np.nan, -3.0, 0.0], (-3.0, -2 / 3, 1.0, 0.25, 1, 0)),
        ([np.inf, -np.inf], (None, None, None, 0.0, 0, 2)),
        ([], (None, None, None, 0.0, 0, 0)),
        ([3, 0, 0, 5], (0, 2.0, 5, 0.5, 0, 0)),
        ([True, False], (0, 0.5, 1, 0.5, 0, 0)),
    ],
)
def test_statistics(array, expected):
    row = statistics_of("a", "output", "a", np.array(array))
    assert (row.least, row.mean, row.largest, row.zeros, row.nan, row.inf) == pytest.approx(expected)


def test_half_precision_does_not_overflow():
    assert statistics_of("a", "output", "a", np.full(100, 6e4, "float16")).mean == 6e4 // 32 * 32


def test_a_shared_layer_has_its_parameters_once():
    x = gnn.Input(("batch", 4), name="x")
    twice = layers.Linear(4, name="twice")
    model = gnn.Model(gnn.Graph(x, layers.Add(name="add")(twice(x), twice(layers.Tanh(name="tanh")(x)))))
    names = [row.name for row in inspect_values(model, X, output_gradients=np.ones((5, 4))).rows]
    assert names.count("twice/W") == names.count("dLd/twice/W") == 1
    assert names.index("dLd/twice/W") > names.index("dLd/twice")  # when all uses have added to it
    assert len(names) == len(set(names))
