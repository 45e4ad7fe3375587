"""Runs: their state is their own, whatever happens between forward and backward."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings

from graphnn import layers
from graphnn.errors import StateError
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input, Layer
from graphnn.initializers import initializer
from graphnn.model import Model
from module_cases import SMALL, flat_outputs, seeds_of
from random_graphs import graphs

EPSILON = 1e-5


def inputs_of(graph, batch=2, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    specs = {node.name: node.spec.bind({"batch": batch}) for node in graph.inputs}
    return {
        name: rng.normal(size=spec.shape).astype(dtype)
        if spec.is_float
        else rng.integers(-3, 3, spec.shape, spec.dtype)
        for name, spec in specs.items()
    }


def by_name(gradients, inputs):
    return gradients if isinstance(gradients, dict) else {next(iter(inputs)): gradients}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_gradients_of_modules_agree_with_differences(case, training):
    """Along random directions of inputs and of parameters, through the compiled forward and backward programs."""
    model, inputs = Model(case.graph, dtype="float64"), case.arrays("float64")
    rng = np.random.default_rng(2)
    run = model.run(**inputs, training=training)
    seeds = seeds_of(run.outputs)
    gradients = by_name(run.backward(*seeds), inputs)
    start = {path: array.copy() for path, array in model.parameters.items()}
    moves = {name: rng.normal(size=x.shape) for name, x in inputs.items()}
    turns = {path: rng.normal(size=array.shape) for path, array in start.items()}

    def value_at(distance):
        model.step = run.step  # the same dropout masks
        model.parameters.update({path: array + distance * turns[path] for path, array in start.items()})
        outputs = model.forward(
            **{n: x + distance * moves[n] for n, x in inputs.items()}, training=training, keep=False
        )
        return sum(float((y * dy).sum()) for y, dy in zip(flat_outputs(outputs), seeds, strict=True))

    analytic = sum(float((gradients[n] * moves[n]).sum()) for n in inputs)
    analytic += sum(float((model.gradients[p] * turns[p]).sum()) for p in start)
    numeric = (value_at(EPSILON) - value_at(-EPSILON)) / (2 * EPSILON)
    assert abs(analytic - numeric) <= 1e-6 * max(1.0, abs(numeric))


@settings(max_examples=40)
@given(graphs())
def test_gradients_add_up_over_any_subset_of_outputs(graph):
    """Backward from two outputs is the sum of backward from each alone; a missing gradient counts as zero."""
    inputs, model = inputs_of(graph), Model(graph, dtype="float64")
    run = model.run(**inputs, training=True)
    seeds = seeds_of(run.outputs)
    floats = [index for index, seed in enumerate(seeds) if seed is not None]

    def gradients(chosen):
        model.cleargrads()
        given = [seed if index in chosen else None for index, seed in enumerate(seeds)]
        found = by_name(run.backward(*given), inputs)
        return [np.array(g) for g in (*found.values(), *model.gradients.values())]

    alone = {index: gradients([index]) for index in floats}
    for count in range(1, len(floats) + 1):
        for chosen in itertools.combinations(floats, count):
            for actual, *parts in zip(gradients(chosen), *(alone[index] for index in chosen), strict=True):
                np.testing.assert_allclose(actual, sum(parts), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", SMALL, ids=str)
@pytest.mark.parametrize("first", [0, 1])
def test_interleaved_runs_are_as_apart(case, first):
    def one(model, seed):
        return model.run(**case.arrays(seed=seed), training=True)

    def gradients(model, run):
        found = run.backward(*seeds_of(run.outputs))
        return [np.array(g) for g in found.values()] if isinstance(found, dict) else [np.array(found)]

    apart = []
    model = Model(case.graph)
    for seed in (1, 2):
        run = one(model, seed)
        apart.append([*flat_outputs(run.outputs), *gradients(model, run)])
    total = {path: np.array(g) for path, g in model.gradients.items()}
    model = Model(case.graph)
    runs = [one(model, 1), one(model, 2)]
    found = {index: gradients(model, runs[index]) for index in (first, 1 - first)}
    for index in (0, 1):
        together = [*flat_outputs(runs[index].outputs), *found[index]]
        assert [a.tobytes() for a in together] == [a.tobytes() for a in apart[index]]
    for path, gradient in model.gradients.items():
        assert gradient.tobytes() == total[path].tobytes()


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_nothing_the_caller_does_with_arrays_reaches_a_run(case):
    """Inputs, outputs, retained values and gradients of outputs are the caller's; so are earlier results."""
    model, inputs = Model(case.graph), case.arrays()
    before = {name: x.copy() for name, x in inputs.items()}
    untouched = model.run(**inputs, training=True, retain=True)
    seeds = seeds_of(untouched.outputs)
    wanted = untouched.backward(*seeds, accumulate=False)
    model.step = 0
    run = model.run(**inputs, training=True, retain=True)
    kept = [y.copy() for y in flat_outputs(run.outputs)]
    assert all(x.tobytes() == before[name].tobytes() for name, x in inputs.items())
    for array in (*inputs.values(), *flat_outputs(run.outputs), *run.derived_variables.values()):
        array[...] = 0
    found = run.backward(*seeds, accumulate=False)
    for name, gradient in by_name(found, inputs).items():
        assert gradient.tobytes() == by_name(wanted, inputs)[name].tobytes()
        gradient[...] = 0
    again = run.backward(*seeds, accumulate=False)
    for name, gradient in by_name(again, inputs).items():
        assert gradient.tobytes() == by_name(wanted, inputs)[name].tobytes()
    model.step = 0
    model.run(**before, training=True)
    assert [y.tobytes() for y in flat_outputs(untouched.outputs)] == [y.tobytes() for y in kept]


def test_runs_before_an_assignment_cannot_go_backward():
    x = Input(("batch", 3), name="x")
    model = Model(Graph(x, layers.Linear(2, name="fc")(x)))
    run = model.run(np.ones((1, 3)))
    run.backward(np.ones((1, 2)))
    model.parameters["fc/b"] = np.ones(2)
    with pytest.raises(StateError, match="parameters were assigned"):
        run.backward(np.ones((1, 2)))
    model.run(np.ones((1, 3))).backward(np.ones((1, 2)))


@dataclass(frozen=True, eq=False)
class Counted(Layer):
    """y = x * (number of training runs before)."""

    def lower(self, scope, x):
        count = scope.state("count", (), initializer("zeros"))
        if scope.training:
            scope.update_state("count", count + 1.0)
        return x * count


def test_a_run_goes_backward_with_the_states_that_it_saw():
    x = Input(("batch", 3), name="x")
    model = Model(Graph(x, Counted(name="c")(x)))
    runs = [model.run(np.ones((1, 3)), training=True) for _ in range(3)]
    model.states["c/count"] = 9.0
    assert [run.outputs[0, 0] for run in runs] == [0, 1, 2]
    assert [run.backward(np.ones((1, 3)))[0, 0] for run in runs] == [0, 1, 2]


def test_each_run_knows_the_step_of_its_masks():
    x = Input(("batch", 64), name="x")
    model = Model(Graph(x, layers.Dropout(0.5)(x)))
    runs = [model.run(np.ones((1, 64)), training=True) for _ in range(3)]
    assert [run.step for run in runs] == [0, 1, 2]
    assert len({run.outputs.tobytes() for run in runs}) == 3
    for run in reversed(runs):
        np.testing.assert_array_equal(run.backward(np.ones((1, 64))), run.outputs)
    assert model.run(np.ones((1, 64))).step == 3
    assert model.step == 3


@settings(max_examples=40)
@given(graphs())
def test_every_node_can_be_looked_at(graph):
    """Retaining changes no number; each retained gradient is what flows into the node's outputs."""
    model, inputs = Model(graph, dtype="float64"), inputs_of(graph)
    plain, run = model.run(**inputs), model.run(**inputs, retain=True)
    assert [y.tobytes() for y in flat_outputs(plain.outputs)] == [y.tobytes() for y in flat_outputs(run.outputs)]
    flat = flatten(graph)
    paths = {leaf.path: len(leaf.specs) for leaf in flat.leaves} | {path: len(s) for path, s in flat.groups.items()}
    names = {p if n == 1 else f"{p}:{i}" for p, n in paths.items() for i in range(n)}
    assert set(run.derived_variables) == names
    for leaf in flat.leaves:
        for index, spec in enumerate(leaf.specs):
            value = run.derived_variables[leaf.path if len(leaf.specs) == 1 else f"{leaf.path}:{index}"]
            assert value.shape == spec.bind({"batch": 2, "n": 2}).shape
    run.backward(*seeds_of(run.outputs))
    gradients = {n.removeprefix("dLd/"): g for n, g in run.derived_variables.items() if n.startswith("dLd/")}
    assert set(gradients) <= names
    assert all(gradients[n].shape == run.derived_variables[n].shape for n in gradients)
    sums = {leaf.path for leaf in flat.leaves if leaf.layer.kind == "ReLU" and leaf.path in gradients}
    for leaf in flat.leaves:
        (source, *others) = leaf.inputs
        if leaf.path in sums and not others and f"{source}" in gradients:
            users = [u for u in flat.leaves if source in u.inputs]
            if len(users) == 1 and source not in flat.outputs:
                passed = gradients[leaf.path] * (run.derived_variables[str(source)] > 0)
                np.testing.assert_allclose(gradients[str(source)], passed, atol=1e-15)
