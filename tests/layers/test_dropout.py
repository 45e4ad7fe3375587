"""Dropout."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphnn.errors import DTypeError, OptionError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.layers import Dropout
from graphnn.model import Model
from peers import graph_of, normal, run

SHAPE = (64, 250)


def outcome_of(p, seed=(1, 0, 0, 0), dtype="float64", x=None, **options):
    x = np.ones(SHAPE, dtype) if x is None else x
    return run(graph_of(Dropout(p, name="drop"), x), {"x": x}, {}, dtype=dtype, random=seed, **options)


@given(st.floats(0.01, 0.99))
def test_elements_are_dropped_at_the_rate_and_the_rest_is_scaled(p):
    """B5: so the expected value stays; the count lies within five standard deviations of a binomial one."""
    y = outcome_of(p).outputs["y"]
    kept = y != 0
    np.testing.assert_allclose(y[kept], 1.0 / (1.0 - p), rtol=1e-12)
    assert abs(kept.mean() - (1.0 - p)) < 5.0 * np.sqrt(p * (1.0 - p) / kept.size)


def test_the_mask_has_no_pattern():
    """Rows, columns and neighbours are dropped independently."""
    kept = outcome_of(0.5).outputs["y"] != 0
    centred = kept - 0.5
    for shift in ((0, 1), (1, 0), (1, 1), (0, 4), (8, 0)):
        correlation = (centred * np.roll(centred, shift, (0, 1))).mean() / 0.25
        assert abs(correlation) < 5.0 / np.sqrt(kept.size), shift
    assert abs(centred.mean(0)).max() < 5.0 * 0.5 / np.sqrt(SHAPE[0])
    assert abs(centred.mean(1)).max() < 5.0 * 0.5 / np.sqrt(SHAPE[1])


def test_the_gradient_passes_the_same_mask():
    """B3: and leaves what it was given as it was."""
    x, seed = normal(*SHAPE), normal(*SHAPE, seed=3)
    given_seed = seed.copy()
    outcome = outcome_of(0.3, x=x, seeds={"y": seed})
    np.testing.assert_allclose(outcome.gradients["x"], np.where(outcome.outputs["y"] != 0, seed / 0.7, 0.0), rtol=1e-12)
    np.testing.assert_array_equal(seed, given_seed)


@pytest.mark.parametrize("options", [{"training": False}, {"frozen": ["drop"]}])
def test_evaluation_and_freezing_make_it_the_identity(options):
    """B4, B5."""
    x, seed = normal(*SHAPE), normal(*SHAPE, seed=3)
    outcome = outcome_of(0.9, x=x, seeds={"y": seed}, **options)
    np.testing.assert_array_equal(outcome.outputs["y"], x)
    np.testing.assert_array_equal(outcome.gradients["x"], seed)


def test_the_mask_is_a_function_of_seed_step_and_path():
    """Equal keys give equal masks in every dtype; another seed, step or node gives another mask."""
    masks = [outcome_of(0.5, (s, 0, step, 0)).outputs["y"] != 0 for s, step in ((1, 0), (1, 0), (2, 0), (1, 1))]
    np.testing.assert_array_equal(masks[0], masks[1])
    np.testing.assert_array_equal(masks[0], outcome_of(0.5, dtype="float32").outputs["y"] != 0)
    for other in masks[2:]:
        assert 0.45 < (masks[0] == other).mean() < 0.55


def test_two_nodes_of_one_layer_draw_two_masks():
    x, drop = Input(("batch", 250), name="x"), Dropout(0.5, name="drop")
    graph = Graph(x, [drop(x), drop(x)])
    outputs = run(graph, {"x": np.ones(SHAPE)}, {}).outputs
    assert 0.45 < (outputs["0"] == outputs["1"]).mean() < 0.55


def test_float32_stays_float32():
    """A33."""
    outcome = outcome_of(0.5, dtype="float32")
    assert outcome.outputs["y"].dtype == outcome.gradients["x"].dtype == "float32"


@pytest.mark.parametrize("p", [1.0, -0.1, 2, float("nan")])
def test_other_probabilities_are_refused(p):
    """B6: p = 1 would divide by 0."""
    with pytest.raises(OptionError, match="0 <= p < 1"):
        Dropout(p)(Input((2, 3)))


def test_integers_are_refused():
    with pytest.raises(DTypeError, match="floating-point"):
        Dropout(0.5)(Input((2, 3), dtype="int64"))


def test_no_probability_needs_no_random_numbers():
    x = Input((2, 3), name="x")
    y = run(Graph(x, Dropout(0.0)(x)), {"x": normal(2, 3)}, {}).outputs["y"]
    np.testing.assert_array_equal(y, normal(2, 3))


def test_a_model_draws_a_new_mask_at_each_training_step():
    """And repeats all of them from the same seed; the evaluations in between change nothing."""

    def masks(seed):
        x, model = np.ones(SHAPE, "float32"), Model(graph_of(Dropout(0.5), np.ones(SHAPE)), seed=seed)
        drawn = []
        for _ in range(3):
            drawn.append(np.array(model.forward(x, training=True)) != 0)
            np.testing.assert_array_equal(model.backward(x), 2.0 * drawn[-1])
            np.testing.assert_array_equal(model.forward(x), x)
        return drawn

    first, other = masks(1), masks(2)
    np.testing.assert_array_equal(first, masks(1))
    for a, b in ((first[0], first[1]), (first[1], first[2]), (first[0], other[0])):
        assert 0.45 < (a == b).mean() < 0.55
