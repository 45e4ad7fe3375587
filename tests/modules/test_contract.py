"""What every module promises when a Model runs it; each test names the fault of the original that it excludes."""

import copy
import json

import numpy as np
import pytest

from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.model import Model
from graphnn.modules import SkipConnectionConvModule, SkipConnectionIdentityModule, WavenetResidualModule
from peers import normal

MODULES = {
    "wavenet": (lambda: WavenetResidualModule(3, 4, 2, 3, name="m"), (2, 6, 3)),
    "identity": (lambda: SkipConnectionIdentityModule(4, 3, 2, act_fn="relu", name="m"), (2, 6, 5, 3)),
    "conv": (lambda: SkipConnectionConvModule(4, 5, 3, 3, 1, 1, "same", 2, stride_skip=2, name="m"), (2, 6, 5, 3)),
}


@pytest.fixture(params=MODULES)
def case(request):
    """A graph of one module, and an input for it."""
    make, shape = MODULES[request.param]
    x = Input(("batch", *shape[1:]), name="x")
    return Graph(x, make()(x)), normal(*shape, dtype="float32")


def outputs_of(model, x, **options):
    outputs = model.forward(x, **options)
    return list(outputs.values()) if isinstance(outputs, dict) else [outputs]


def equal(some, others):
    return all(np.array_equal(a, b) for a, b in zip(some, others, strict=True))


def parameters(model):
    return {path: np.array(array) for path, array in model.parameters.items()}


def test_inference_leaves_nothing_behind(case):
    """A4, A8, A34: the same input gives the same output, whatever ran in between, in every batch size."""
    graph, x = case
    model = Model(graph)
    before, states = outputs_of(model, x), {path: np.array(state) for path, state in model.states.items()}
    for _ in range(2):
        outputs_of(model, np.concatenate([x, 2 * x]))
    assert equal(outputs_of(model, x, keep=False), before)
    assert all(np.array_equal(state, states[path]) for path, state in model.states.items())


def test_runs_go_backward_in_any_order(case):
    """A9: each with its own input; gradients of parameters add up."""
    graph, x = case
    model = Model(graph, dtype="float64")
    runs = {factor: model.run(factor * x) for factor in (1.0, 3.0)}

    def gradients(run):
        model.cleargrads()
        outputs = run.outputs.values() if isinstance(run.outputs, dict) else [run.outputs]
        run.backward(*(np.ones_like(y) for y in outputs))
        return [np.array(gradient) for gradient in model.gradients.values()]

    first, second = gradients(runs[1.0]), gradients(runs[3.0])
    assert equal(gradients(runs[1.0]), first)
    assert not equal(first, second)


def test_gradients_are_added_up_only_when_asked(case):
    """A15."""
    graph, x = case
    model = Model(graph)
    seeds = [np.ones_like(y) for y in outputs_of(model, x)]
    model.backward(*seeds, accumulate=False)
    assert all(not np.array(g).any() for g in model.gradients.values())
    model.backward(*seeds)
    once = {path: np.array(g) for path, g in model.gradients.items()}
    model.backward(*seeds)
    assert all(np.array_equal(g, 2 * once[path]) for path, g in model.gradients.items())


def test_what_is_frozen_before_the_first_run_stays_frozen(case):
    """A12, A16, A34: no gradient, no moved statistic; the gradient of the input is as before."""
    graph, x = case
    model = Model(graph)
    model.freeze()
    states = {path: np.array(state) for path, state in model.states.items()}
    outputs = outputs_of(model, x, training=True)
    gradient = model.backward(*(np.ones_like(y) for y in outputs))
    assert np.abs(gradient["x"] if isinstance(gradient, dict) else gradient).max() > 0
    assert all(not np.array(g).any() for g in model.gradients.values())
    assert all(np.array_equal(state, states[path]) for path, state in model.states.items())


def test_a_partly_frozen_module_trains_the_rest(case):
    """A17."""
    graph, x = case
    model = Model(graph)
    frozen = next(iter(model.parameters)).rsplit("/", 1)[0]
    model.freeze(frozen)
    model.backward(*(normal(*y.shape, dtype="float32") for y in outputs_of(model, x, training=True)))
    moved = {path for path, gradient in model.gradients.items() if np.array(gradient).any()}
    weights = {path for path in model.parameters if path.endswith("/W")}
    assert moved & weights == {path for path in weights if not path.startswith(frozen + "/")}


def test_a_summary_goes_into_a_fresh_model(case):
    """A20, A21, A22, A23, A24: through JSON; before that model ever ran; and the summary stays as it was."""
    graph, x = case
    trained = Model(graph, seed=1)
    outputs_of(trained, x, training=True)
    summary = json.loads(json.dumps(trained.summary().to_dict()))
    kept = copy.deepcopy(summary)
    fresh = Model(graph, seed=2)
    assert not equal(outputs_of(Model(graph, seed=2), x), outputs_of(trained, x))
    fresh.set_params(summary)
    assert equal(outputs_of(fresh, x), outputs_of(trained, x))
    assert summary == kept


def test_a_summary_is_a_copy(case):
    """A23: what is done to it does not reach the model."""
    graph, _ = case
    model = Model(graph)
    before = parameters(model)
    summary = model.summary().to_dict()
    for path in summary["parameters"]:
        summary["parameters"][path] = None
    assert all(np.array_equal(array, before[path]) for path, array in parameters(model).items())


def test_hyperparameters_are_json(case):
    """A24, A32."""
    graph, _ = case
    assert json.loads(json.dumps(Model(graph).hyperparameters))


def test_float32_stays_float32(case):
    """A33: also for input of another float dtype."""
    graph, x = case
    model = Model(graph)
    outputs = outputs_of(model, x.astype("float64"), training=True)
    model.backward(*outputs)
    arrays = [*outputs, *model.gradients.values(), *model.parameters.values(), *model.states.values()]
    assert {str(array.dtype) for array in arrays} == {"float32"}
