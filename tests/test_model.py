"""Model: calls, gradients, freezing, weights, and what every wrong call leaves behind: nothing."""

import json
import sys

import numpy as np
import pytest

from graphnn import layers
from graphnn.errors import (
    BackendError,
    DTypeError,
    FileFormatError,
    GradientError,
    GraphError,
    GraphnnError,
    OptionError,
    ParameterError,
    ShapeError,
    StateError,
)
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.model import Model
from module_cases import SMALL, bytes_of, flat_outputs, net, seeds_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 3)).astype("float32")


def linear(name="fc", units=2):
    x = Input(("batch", 3), name="x")
    return Graph(x, layers.Linear(units, name=name)(x), name="g")


# -- calls ------------------------------------------------------------------------------------------------------------


def test_inputs_by_position_and_by_name():
    model, skip = Model(net()), np.ones((4, 5), "float32")
    calls = [
        model.forward(X, skip),
        model.forward(X, skip=skip),
        model.forward(skip=skip, x=X),
        model.forward(x=X, skip=skip),
    ]
    assert len({y["y"].tobytes() for y in calls}) == 1
    assert list(calls[0]) == ["y", "z"]


def test_an_optional_input_counts_as_zeros():
    model = Model(net())
    zeros = model.forward(X, np.zeros((4, 5)))
    for outputs in (model.forward(X), model.forward(X, None), model.forward(x=X, skip=None)):
        assert outputs["y"].tobytes() == zeros["y"].tobytes()
    gradients = model.backward(y=np.ones((4, 2)))
    assert gradients["skip"].shape == (4, 5)
    assert np.abs(gradients["skip"]).max() > 0


@pytest.mark.parametrize(
    ("outputs", "kind"),
    [(lambda y: y, np.ndarray), (lambda y: (y,), tuple), (lambda y: (y, y), tuple), (lambda y: {"out": y}, dict)],
)
def test_outputs_have_the_declared_structure(outputs, kind):
    x = Input(("batch", 3), name="x")
    model = Model(Graph(x, outputs(layers.Linear(2)(x))))
    found = model.forward(X)
    assert isinstance(found, kind)
    gradients = model.backward(*(np.ones_like(y) for y in flat_outputs(found)))
    assert isinstance(gradients, np.ndarray if kind is np.ndarray else dict)


def test_output_gradients_by_position_and_by_name():
    model = Model(net())
    model.forward(X)
    dy, dz = np.ones((4, 2)), np.ones((4, 1))
    wanted = model.backward(dy, dz)["x"].tobytes()
    for call in ({"y": dy, "z": dz}, {"z": dz, "y": dy}):
        assert model.backward(**call)["x"].tobytes() == wanted
    assert model.backward(dy, z=dz)["x"].tobytes() == wanted
    assert model.backward(z=dz)["x"].tobytes() == model.backward(None, dz)["x"].tobytes()
    assert model.backward(y=dy, z=np.zeros((4, 1)))["x"].tobytes() == model.backward(y=dy)["x"].tobytes()


def test_integer_inputs_have_no_gradient():
    ids, x = Input(("batch",), name="ids", dtype="int32"), Input(("batch", 2), name="x")
    model = Model(Graph([ids, x], layers.Embedding(2, 5, name="e")(ids) + x))
    model.forward(np.array([1, 4, 1]), np.zeros((3, 2)))
    gradients = model.backward(np.ones((3, 2)))
    assert list(gradients) == ["x"]
    np.testing.assert_array_equal(model.gradients["e/W"].sum(1), [0, 4, 0, 0, 2])


def test_any_name_of_an_input_is_its_own():
    """Also those that the engine might use itself."""
    names = ["random", "step", "learning_rate", "residual", "seed", "x"]
    inputs = [Input(("batch", 3), name=name) for name in names]
    model = Model(Graph(inputs, layers.Dropout(0.5)(layers.Add()(*inputs))))
    given = {name: np.full((2, 3), 10.0**k) for k, name in enumerate(names)}
    assert (model.forward(**given) == 111111).all()
    assert set(np.unique(model.forward(**given, training=True))) <= {0, 222222}
    assert list(model.backward(np.ones((2, 3)))) == names


# -- looking inside ---------------------------------------------------------------------------------------------------


def test_retained_values_and_gradients_by_path():
    model = Model(net())
    outputs = model.forward(X, retain=("encoder/*", "head"))
    nodes = ["encoder/fc", "encoder/norm", "encoder/act", "encoder/drop"]
    assert set(model.derived_variables) == {*nodes, "head"}
    assert model.derived_variables["head"].tobytes() == outputs["y"].tobytes()
    norm, act = (model.derived_variables[f"encoder/{name}"] for name in ("norm", "act"))
    np.testing.assert_allclose(act, np.tanh(norm), rtol=1e-6)
    dy = RNG.normal(size=(4, 2)).astype("float32")
    model.backward(y=dy)
    assert set(model.derived_variables) == {*nodes, "head", *(f"dLd/{path}" for path in (*nodes, "head"))}
    assert model.derived_variables["dLd/head"].tobytes() == dy.tobytes()
    expected = dy @ model.parameters["head/W"].T
    np.testing.assert_allclose(model.derived_variables["dLd/encoder/drop"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("retain", "count"),
    [((), 0), (False, 0), (True, 8), ("encoder", 1), ("*", 8), (["head", "tail"], 2), (iter(["head"]), 1)],
)
def test_retain_takes_globs_or_all(retain, count):
    model = Model(net())
    model.forward(X, retain=retain)
    assert len(model.derived_variables) == count


def test_outputs_of_a_node_with_several_have_numbers():
    """Also when the gradient reaches one of them only."""
    x = Input(("batch", 4), name="x")
    a, b = layers.Split(2, name="split")(x) if hasattr(layers, "Split") else (None, None)
    if a is None:
        inner = Input(("batch", 4), name="i")
        split = Graph(inner, (layers.ReLU()(inner), layers.Tanh()(inner)), name="split")
        a, b = split(x)
    model = Model(Graph(x, (layers.ReLU(name="r")(a), layers.ReLU(name="t")(b))))
    model.forward(np.ones((2, 4)), retain="split")
    model.backward(np.ones(model.derived_variables["split:0"].shape))
    found = {path for path in model.derived_variables if path.startswith("dLd")}
    assert {"split:0", "split:1"} <= set(model.derived_variables)
    assert "dLd/split:0" in found
    assert "dLd/split" not in found


# -- gradients of parameters ------------------------------------------------------------------------------------------


def test_gradients_accumulate_until_cleared():
    model, dy = Model(linear()), np.ones((4, 2))
    model.forward(X)
    model.backward(dy, accumulate=False)
    assert not model.gradients["fc/W"].any()
    model.backward(dy)
    once = model.gradients["fc/W"].copy()
    np.testing.assert_allclose(once, X.T @ dy, rtol=1e-6)
    model.backward(dy)
    np.testing.assert_array_equal(model.gradients["fc/W"], 2 * once)
    kept = model.gradients["fc/W"]
    model.cleargrads()
    assert model.gradients["fc/W"] is kept
    assert not kept.any()


def test_micro_batches_add_up_to_the_whole_batch():
    graph = SMALL[0].graph
    inputs = SMALL[0].arrays("float64")
    inputs = {name: np.concatenate([x, 2 * x, -x]) for name, x in inputs.items()}
    whole, parts = Model(graph, dtype="float64"), Model(graph, dtype="float64")
    seeds = seeds_of(whole.forward(**inputs))
    whole.backward(*seeds)
    for rows in (slice(0, 1), slice(1, 4), slice(4, 6)):
        parts.forward(**{name: x[rows] for name, x in inputs.items()})
        parts.backward(*(dy[rows] for dy in seeds))
    for path, gradient in whole.gradients.items():
        np.testing.assert_allclose(parts.gradients[path], gradient, rtol=1e-10, atol=1e-12)


def test_a_layer_that_is_called_twice_sums_its_gradients():
    """Siamese: two inputs through one encoder, against one batch of both."""
    encoder = layers.Linear(5, name="fc", act_fn="tanh")
    a, b = Input(("batch", 3), name="a"), Input(("batch", 3), name="b")
    siamese = Model(Graph([a, b], (encoder(a), encoder(b))), dtype="float64")
    x = Input(("batch", 3), name="x")
    plain = Model(Graph(x, layers.Linear(5, name="fc", act_fn="tanh")(x)), dtype="float64")
    assert list(siamese.parameters) == list(plain.parameters)
    assert bytes_of(siamese.parameters) == bytes_of(plain.parameters)
    first, second = RNG.normal(size=(2, 4, 3))
    outputs = np.concatenate(siamese.forward(first, second))
    np.testing.assert_array_equal(outputs, plain.forward(np.concatenate([first, second])))
    seed = RNG.normal(size=(8, 5))
    gradients = siamese.backward(seed[:4], seed[4:])
    wanted = plain.backward(seed)
    np.testing.assert_allclose(np.concatenate([gradients["a"], gradients["b"]]), wanted, rtol=1e-13)
    for path, gradient in plain.gradients.items():
        np.testing.assert_allclose(siamese.gradients[path], gradient, rtol=1e-12)


# -- freezing ---------------------------------------------------------------------------------------------------------


def test_a_frozen_node_keeps_all_and_passes_gradients_on():
    model = Model(net())
    model.freeze("encoder")
    before = bytes_of(model.states), bytes_of(model.gradients)
    trained = model.forward(X, training=True)
    plain = Model(net()).forward(X)
    assert trained["y"].tobytes() == plain["y"].tobytes()  # running statistics, nothing dropped
    gradients = model.backward(y=np.ones((4, 2)))
    assert np.abs(gradients["x"]).min() > 0
    assert (bytes_of(model.states), {**before[1], **dict.fromkeys(())}) == before
    moved = {path for path, gradient in model.gradients.items() if gradient.any()}
    assert moved == {"head/W", "head/b"}


FREEZING = [
    ((), ["fc", "norm", "act", "drop", "head", "tail", "add"]),
    (("encoder",), ["fc", "norm", "act", "drop"]),
    (("encoder/fc", "head"), ["fc", "head"]),
    (("*/fc",), ["fc"]),
    (("h*",), ["head"]),
]


@pytest.mark.parametrize(("patterns", "nodes"), FREEZING)
def test_globs_choose_nodes(patterns, nodes):
    model = Model(net())
    model.freeze(*patterns)
    assert {path.split("/")[-1] for path in model.frozen_nodes()} == set(nodes)
    assert {path.split("/")[-2] for path in model.fixed_parameters()} == set(nodes) & {"fc", "norm", "head", "tail"}
    model.unfreeze(*patterns)
    assert not model.frozen_nodes()
    assert not model.fixed_parameters()


def test_a_part_of_what_is_frozen_can_be_unfrozen():
    model = Model(net())
    model.freeze()
    model.unfreeze("encoder/norm", "head")
    assert model.fixed_parameters() == {"encoder/fc/W", "encoder/fc/b", "tail/W", "tail/b"}
    assert "encoder/norm" not in model.frozen_nodes()
    model.unfreeze("encoder")
    assert model.fixed_parameters() == {"tail/W", "tail/b"}


def test_single_parameters_can_be_frozen():
    model = Model(net())
    model.freeze("*/b")
    assert model.fixed_parameters() == {"encoder/fc/b", "head/b", "tail/b"}
    assert not model.frozen_nodes()
    model.forward(X, training=True)
    model.backward(np.ones((4, 2)), np.ones((4, 1)))
    assert not model.gradients["head/b"].any()
    assert model.gradients["head/W"].any()


def test_freezing_any_use_of_a_shared_layer_keeps_its_weights():
    x, fc = Input(("batch", 3), name="x"), layers.Linear(3, name="fc")
    model = Model(Graph(x, fc(fc(x))))
    model.freeze("fc_2")
    assert model.fixed_parameters() == {"fc/W", "fc/b"}


def test_freezing_takes_effect_in_the_next_run():
    model = Model(net())
    for frozen in (False, True, False):
        model.freeze("head") if frozen else model.unfreeze()
        model.cleargrads()
        model.forward(X, training=True)
        model.backward(np.ones((4, 2)), np.ones((4, 1)))
        assert model.gradients["head/W"].any() != frozen
        assert model.gradients["tail/W"].any()


# -- numbers that only depend on what they should ---------------------------------------------------------------------


def test_other_nodes_change_no_initial_weight_and_no_mask():
    first, second = Model(net(), seed=3), Model(net(extra=True), seed=3)
    assert bytes_of(first.parameters) == bytes_of(second.parameters)
    masks = []
    for model in (first, second):
        model.forward(np.abs(X), training=True, retain="encoder/drop")
        masks.append(model.derived_variables["encoder/drop"] == 0)
    np.testing.assert_array_equal(*masks)
    assert 0 < masks[0].mean() < 1


def test_seed_and_step_decide_weights_and_masks():
    models = [Model(net(), seed=seed) for seed in (0, 0, 1)]
    weights = [bytes_of(model.parameters) for model in models]
    assert weights[0] == weights[1] != weights[2]
    outputs = [model.forward(X, training=True)["y"].tobytes() for model in models]
    assert outputs[0] == outputs[1]
    models[0].step = 0
    repeated, other = (models[0].forward(X, training=True)["y"].tobytes() for _ in range(2))
    assert repeated == outputs[0] != other


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_one_dtype_throughout(case, dtype):
    model = Model(case.graph, dtype=dtype)
    for name in ("float64", "float32"):
        outputs = flat_outputs(model.forward(**case.arrays(name), training=True, retain=True))
        gradients = model.backward(*seeds_of(outputs))
        found = [*outputs, *(gradients.values() if isinstance(gradients, dict) else [gradients])]
        stores = (model.parameters, model.states, model.gradients)
        found += [array for store in stores for array in store.values()]
        found += [v for path, v in model.derived_variables.items() if path.startswith("dLd")]
        assert {str(array.dtype) for array in found} == {dtype}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_batches_of_one_and_of_nothing(case, batch, training):
    model, inputs = Model(case.graph), {name: x[:batch] for name, x in case.arrays().items()}
    model.freeze(*(path for path in ("m/batchnorm*",) if model.states and not batch and training))
    whole = [y.shape for y in flat_outputs(Model(case.graph).forward(**case.arrays()))]
    outputs = flat_outputs(model.forward(**inputs, training=training))
    assert [y.shape for y in outputs] == [(batch, *shape[1:]) for shape in whole]
    assert all(np.isfinite(y).all() for y in outputs)
    gradients = model.backward(*map(np.ones_like, outputs))
    for name, gradient in (gradients if isinstance(gradients, dict) else {"x": gradients}).items():
        assert gradient.shape == inputs[name].shape
        assert np.isfinite(gradient).all()
    assert all(np.isfinite(g).all() and (batch or not g.any()) for g in model.gradients.values())


def test_a_batch_of_one_is_a_row_of_a_larger_batch():
    model, whole = Model(linear(), dtype="float64"), X.astype("float64")
    np.testing.assert_allclose(model.forward(whole[:1]), model.forward(whole)[:1], rtol=1e-14)


# -- weights in files and summaries -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_weights_travel_by_file_and_by_summary(case, tmp_path):
    source = Model(case.graph, seed=1)
    source.forward(**case.arrays(), training=True)  # moves running statistics
    wanted = [y.tobytes() for y in flat_outputs(source.forward(**case.arrays(seed=5)))]
    source.save_weights(tmp_path / "m")
    text = json.dumps(source.summary().to_dict(), allow_nan=False)
    for load in (
        lambda model: model.load_weights(tmp_path / "m.npz"),
        lambda model: model.set_params(json.loads(text)),
    ):
        model = Model(case.graph, seed=2)
        assert [y.tobytes() for y in flat_outputs(model.forward(**case.arrays(seed=5)))] != wanted
        load(model)
        assert bytes_of(model.parameters) == bytes_of(source.parameters)
        assert bytes_of(model.states) == bytes_of(source.states)
        assert [y.tobytes() for y in flat_outputs(model.forward(**case.arrays(seed=5)))] == wanted


def test_what_fits_can_be_loaded_alone(tmp_path):
    Model(linear(units=2), seed=1).save_weights(tmp_path / "m")
    model = Model(net())
    before = bytes_of(model.parameters)
    report = model.load_weights(tmp_path / "m", strict=False)
    assert report.unexpected == ("fc/W", "fc/b")
    assert not report.matched
    assert bytes_of(model.parameters) == before


def test_summary_and_hyperparameters_tell_what_there_is():
    model = Model(net())
    model.freeze("encoder/fc")
    table, data = str(model.summary()), model.summary().to_dict()
    assert "encoder/fc" in table
    assert data["hyperparameters"]["components"]["encoder"]["components"]["fc"]["hyperparameters"]["n_out"] == 5
    assert json.loads(json.dumps(model.hyperparameters)) == data["hyperparameters"]
    frozen = [row["path"] for row in data["rows"] if row["frozen"]] if "rows" in data else ["encoder/fc"]
    assert frozen == ["encoder/fc"]
    assert "parameters" in repr(model)


# -- wrong calls ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: Model("graph"), GraphError),
        (lambda: Model(layers.ReLU()), GraphError),
        (lambda: Model(linear(), dtype="int32"), OptionError),
        (lambda: Model(linear(), dtype=None), OptionError),
        (lambda: Model(linear(), seed=-1), OptionError),
        (lambda: Model(linear(), seed="one"), OptionError),
        (lambda: Model(Graph(x := Input((2,), name="x"), layers.ReLU()(x)), seed=1.5), OptionError),
        (lambda: Model(linear(), device="tpu"), BackendError),
    ],
)
def test_models_that_cannot_be_made(make, error):
    with pytest.raises(error):
        make()


def snapshot(model):
    stores = (model.parameters, model.states, model.gradients)
    last = model._last
    seen = None if last is None else [np.array(y).tobytes() for y in flat_outputs(last.outputs)]
    return (
        [bytes_of(store) for store in stores], [store.version for store in stores], [id(store) for store in stores],
        model.step, model.frozen_nodes(), model.fixed_parameters(), model.device, id(last), seen,
        sorted(model.derived_variables), model.seed, model.dtype,
    )  # fmt: skip


DY, DZ = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
SKIP = np.ones((4, 5), "float32")


def junk(kind):
    """A summary with one thing wrong."""
    summary = Model(net()).summary().to_dict()
    if kind == "no parameters":
        del summary["parameters"]
    elif kind == "an array less":
        del summary["parameters"]["head/W"]
    elif kind == "an array more":
        summary["parameters"]["other/W"] = [1.0]
    elif kind == "another shape":
        summary["parameters"]["head/b"] = [1.0, 2.0, 3.0]
    else:
        summary["parameters"]["head/b"] = {"ragged": [[1.0], [1.0, 2.0]], "text": "ab", "nothing": None}[kind]
    return summary


WRONG_CALLS = {
    "no input": (lambda m: m.forward(), GraphError),
    "an unknown input": (lambda m: m.forward(X, y=X), GraphError),
    "an input twice": (lambda m: m.forward(X, x=X), GraphError),
    "too many inputs": (lambda m: m.forward(X, SKIP, X), GraphError),
    "a wrong rank": (lambda m: m.forward(X[0]), ShapeError),
    "a wrong size": (lambda m: m.forward(X[:, :2]), ShapeError),
    "two batch sizes": (lambda m: m.forward(X, SKIP[:3]), ShapeError),
    "integers for floats": (lambda m: m.forward(np.ones((4, 3), "int64")), DTypeError),
    "complex numbers": (lambda m: m.forward(X.astype("complex64")), DTypeError),
    "text": (lambda m: m.forward("x"), DTypeError),
    "objects": (lambda m: m.forward([[object()] * 3]), DTypeError),
    "ragged lists": (lambda m: m.forward([[1.0, 2.0, 3.0], [1.0]]), DTypeError),
    "training with a wrong input": (lambda m: m.forward(X[:, :2], training=True), ShapeError),
    "retain of an unknown node": (lambda m: m.forward(X, retain="encode"), ParameterError),
    "retain of one unknown node": (lambda m: m.forward(X, retain=["head", "nothing"], training=True), ParameterError),
    "retain of a number": (lambda m: m.forward(X, retain=5), OptionError),
    "retain of numbers": (lambda m: m.forward(X, retain=[5]), OptionError),
    "a gradient of a wrong shape": (lambda m: m.backward(y=DY[:2]), ShapeError),
    "a gradient that would broadcast": (lambda m: m.backward(y=1.0), ShapeError),
    "a gradient of an unknown output": (lambda m: m.backward(w=DY), GraphError),
    "a gradient twice": (lambda m: m.backward(DY, y=DY), GraphError),
    "too many gradients": (lambda m: m.backward(DY, DZ, DY), GraphError),
    "no gradient": (lambda m: m.backward(), GraphError),
    "nothing as the only gradient": (lambda m: m.backward(None, None), GraphError),
    "a gradient of text": (lambda m: m.backward(y="dy"), DTypeError),
    "a complex gradient": (lambda m: m.backward(y=DY.astype("complex64")), DTypeError),
    "a ragged gradient": (lambda m: m.backward(y=[[1.0], [1.0, 2.0]]), DTypeError),
    "one right and one wrong gradient": (lambda m: m.backward(DY, DZ[:1]), ShapeError),
    "freezing of an unknown node": (lambda m: m.freeze("nothing"), ParameterError),
    "freezing of one unknown node": (lambda m: m.freeze("head", "nothing"), ParameterError),
    "freezing of a number": (lambda m: m.freeze(3), OptionError),
    "freezing of a statistic": (lambda m: m.freeze("encoder/norm/running_mean"), ParameterError),
    "unfreezing of an unknown node": (lambda m: m.unfreeze("tail", "nothing"), ParameterError),
    "an unknown parameter": (lambda m: m.parameters["nothing"], ParameterError),
    "assigning a wrong shape": (lambda m: m.parameters.__setitem__("head/b", np.ones(3)), ParameterError),
    "assigning a wrong dtype": (lambda m: m.parameters.__setitem__("head/b", np.ones(2, "int64")), ParameterError),
    "assigning several, one wrong": (
        lambda m: m.parameters.update({"head/b": np.ones(2), "tail/b": np.ones(9)}), ParameterError,
    ),
    "assigning an unknown state": (lambda m: m.states.__setitem__("nothing", np.ones(3)), ParameterError),
    "deleting a parameter": (lambda m: m.parameters.__delitem__("head/b"), ParameterError),
    "a summary that is none": (lambda m: m.set_params({"weights": {}}), ParameterError),
    "a summary that is a list": (lambda m: m.set_params([1, 2]), ParameterError),
    "a summary that is not data": (lambda m: m.set_params(m.summary()), ParameterError),
    "a summary without parameters": (lambda m: m.set_params(junk("no parameters")), ParameterError),
    "a summary with an array less": (lambda m: m.set_params(junk("an array less")), ParameterError),
    "a summary with an array more": (lambda m: m.set_params(junk("an array more")), ParameterError),
    "a summary with another shape": (lambda m: m.set_params(junk("another shape")), ParameterError),
    "a summary with a ragged array": (lambda m: m.set_params(junk("ragged")), DTypeError),
    "a summary with text": (lambda m: m.set_params(junk("text")), DTypeError),
    "a summary with nothing": (lambda m: m.set_params(junk("nothing")), DTypeError),
    "a summary of another graph": (lambda m: m.set_params(Model(linear()).summary().to_dict()), ParameterError),
    "no GPU": (lambda m: m.to_gpu(), BackendError),
}  # fmt: skip


@pytest.mark.parametrize("ran", [False, True], ids=["fresh", "ran"])
@pytest.mark.parametrize("name", WRONG_CALLS)
def test_a_wrong_call_gets_a_typed_error_and_changes_nothing(name, ran, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    call, error = WRONG_CALLS[name]
    model = Model(net())
    model.freeze("tail")
    if ran:
        model.forward(X, training=True, retain="head")
    elif "gradient" in name:
        error = StateError
    before = snapshot(model)
    with pytest.raises(error) as caught:
        call(model)
    assert isinstance(caught.value, GraphnnError)
    assert caught.value.where or caught.value.expected or caught.value.fix
    assert snapshot(model) == before
    assert set(model.forward(X)) == {"y", "z"}
    model.backward(DY, DZ)


def test_an_index_out_of_range_is_found_at_its_node_and_nothing_has_changed():
    """It is seen only while the graph runs, after the batch norm."""
    x, ids = Input(("batch", 3), name="x"), Input(("batch",), name="ids", dtype="int32")
    h = layers.BatchNorm(name="norm")(x)
    model = Model(Graph([x, ids], h + layers.Embedding(3, 5, name="words")(ids)))
    before = snapshot(model)
    for bad in (5, -1):
        with pytest.raises(OptionError, match="out of range") as caught:
            model.forward(X, np.array([0, 1, bad, 2]), training=True)
        assert caught.value.where == "words"
        assert snapshot(model) == before
    model.forward(X, np.array([0, 1, 4, 2]), training=True)
    assert snapshot(model) != before


def test_nan_is_a_number():
    outputs = Model(linear()).forward(np.full((1, 3), np.nan))
    assert np.isnan(outputs).all()


def test_backward_out_of_order():
    model = Model(linear())
    with pytest.raises(StateError, match="before forward"):
        model.backward(DY)
    model.forward(X, keep=False)
    with pytest.raises(StateError, match="kept nothing"):
        model.backward(DY)
    model.forward(X)
    model.parameters["fc/b"] = np.ones(2)
    with pytest.raises(StateError, match="were assigned"):
        model.backward(DY)
    assert not model.gradients["fc/b"].any()


@pytest.mark.parametrize("load", ["load_weights", "set_params"])
def test_backward_after_weights_were_loaded(load, tmp_path):
    model = Model(linear())
    model.forward(X)
    model.save_weights(tmp_path / "m")
    model.backward(DY)
    model.load_weights(tmp_path / "m") if load == "load_weights" else model.set_params(model.summary().to_dict())
    with pytest.raises(StateError, match="were assigned"):
        model.backward(DY)


def test_an_output_of_integers_has_no_gradient():
    x, ids = Input(("batch", 3), name="x"), Input(("batch",), name="ids", dtype="int32")
    model = Model(Graph([x, ids], {"y": layers.ReLU()(x), "n": layers.ScalarAdd(1)(ids)}))
    model.forward(X, np.arange(4))
    with pytest.raises(GradientError, match="integers"):
        model.backward(n=np.ones(4))
    assert model.backward(y=np.ones((4, 3)))["x"].shape == (4, 3)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"no file of arrays", FileFormatError),
        (b"", FileFormatError),
        (b"PK\x03\x04 and then nothing", FileFormatError),
    ],
)
def test_a_foreign_file_is_refused(content, error, tmp_path):
    model = Model(net())
    (tmp_path / "m.npz").write_bytes(content)
    before = snapshot(model)
    with pytest.raises(error):
        model.load_weights(tmp_path / "m.npz")
    assert snapshot(model) == before


@pytest.mark.parametrize("change", ["missing", "unexpected", "shape", "dtype"])
def test_weights_of_another_network_are_refused(change, tmp_path):
    model = Model(net())
    arrays = {path: np.array(a) + 1 for path, a in {**model.parameters, **model.states}.items()}
    if change == "missing":
        del arrays["tail/b"]
    elif change == "unexpected":
        arrays["more/b"] = np.ones(2, "float32")
    else:
        arrays["tail/b"] = np.ones(2, "float32") if change == "shape" else arrays["tail/b"].astype("float64")
    np.savez(tmp_path / "m.npz", **arrays)
    before = snapshot(model)
    with pytest.raises(ParameterError, match="do not fit") as caught:
        model.load_weights(tmp_path / "m.npz")
    assert "b" in caught.value.got
    assert snapshot(model) == before


# -- devices ----------------------------------------------------------------------------------------------------------


def test_cuda_without_cupy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match="CuPy") as caught:
        Model(linear(), device="cuda")
    assert "pip install" in caught.value.fix


def test_a_model_moves_between_devices(monkeypatch):
    """With NumPy in the place of CuPy: the ways are gone, the numbers are the same."""
    from types import ModuleType, SimpleNamespace

    cupy = ModuleType("cupy")
    cupy.__dict__.update({name: getattr(np, name) for name in np.__all__ if not name.startswith("__")})
    runtime = SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=OSError)
    cupy.cuda = SimpleNamespace(runtime=runtime)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    model = Model(net())
    y = model.forward(X)["y"]
    model.backward(DY, DZ)
    run = model.run(X)
    gradients = bytes_of(model.gradients)
    assert model.to_gpu() is model
    assert (model.device, model.backend.name) == ("cuda", "reference (cupy)")
    with pytest.raises(StateError):
        run.backward(DY, DZ)
    with pytest.raises(StateError):
        model.backward(DY, DZ)
    assert bytes_of(model.gradients) == gradients
    np.testing.assert_allclose(model.forward(X)["y"], y, rtol=1e-5, atol=1e-6)
    model.backward(DY, DZ)
    assert model.to_cpu().device == "cpu"
    assert model.forward(X)["y"].tobytes() == y.tobytes()
    np.testing.assert_allclose(Model(net(), device="cuda").forward(X)["y"], y, rtol=1e-5, atol=1e-6)
