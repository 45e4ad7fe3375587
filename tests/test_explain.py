"""Explanations: formulas that say what is computed, every value in its place, every kernel at its step."""

import json

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers, losses
from graphnn.backends.calls import Inspectable
from graphnn.plan.outline import outline
from graphnn.plans import parts_of

X, LABELS = np.random.default_rng(0).normal(size=(8, 6)).astype("float32"), np.arange(8) % 3


def network():
    x = gnn.Input(("batch", 6), name="x")
    h = layers.Linear(16, act_fn="relu", name="hidden")(x)
    return gnn.Graph(x, layers.Linear(3, name="logits")(h), name="net")


def trainer(device="cpu"):
    return gnn.Trainer(gnn.Model(network(), device=device), losses.CrossEntropy(), "adam")


def entries_of(explanation):
    return [entry for section in explanation.sections for top in section.entries for entry in top.walk()]


def test_a_dense_layer_reads_as_its_formula():
    text = str(gnn.Model(network()).explain(X))
    assert "hidden = relu(x @ W + b)" in text
    assert "logits = hidden @ W + b" in text
    assert text.startswith("net: forward, inference on cpu\n")


def test_a_training_step_names_gradients_and_new_values():
    text = str(trainer().explain(X, LABELS))
    for line in ("d_W = hidden.T @ ", "d_b = sum(", "m' = m * 0.9 + d_W * 0.1", "W' = W - m' * "):
        assert line in text, line
    assert "state, in place" in text
    assert "parameter, in place" in text
    assert "t1 = max(logits, axis=1)" in text
    assert "NumPy" not in text  # every step has a kernel


def test_formulas_compute_what_the_plan_computes():
    """Those of a group of elementwise ops, read as Python, give the outputs of its reference."""
    functions = {name: getattr(np, name) for name in ("sqrt", "expm1", "exp", "log", "where", "tanh")}
    functions |= {"sigmoid": lambda x: 1 / (1 + np.exp(-x)), "relu": lambda x: np.maximum(x, 0)}
    checked = 0
    for entry in entries_of(gnn.explain(trainer(), X, LABELS)):
        if entry.step.op.name != "fused" or any("axis" in line or "sum" in line for line in entry.formulas):
            continue
        given = [np.abs(np.random.default_rng(1).normal(size=o.spec.shape)).astype("float32") for o in entry.reads]
        known = dict(zip([name_in(entry, o) for o in entry.reads], given, strict=True))
        for line in entry.formulas:
            name, _, expression = line.partition(" = ")
            known[name.replace("'", "_new")] = run(expression.replace("'", "_new"), known | functions)
        for operand, expected in zip(entry.writes, entry.step.op.reference(np, *given), strict=True):
            np.testing.assert_allclose(known[name_in(entry, operand).replace("'", "_new")], expected, rtol=1e-4)
            checked += 1
    assert checked > 10


def name_in(entry, operand):
    last = operand.name.rpartition("/")[2]
    names = {o.name for o in (*entry.reads, *entry.writes)}
    return last if sum(name.rpartition("/")[2] == last for name in names) == 1 else operand.name


def run(expression, names):
    """A formula, which is Python."""
    return eval(expression, {}, names)


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_every_buffer_that_a_step_reads_was_written_or_given_before(device):
    """By name: a name stands for one value; nothing is read that nobody has made."""
    target = trainer(device)
    (part,) = parts_of(target, (X, LABELS), {})
    plan = part.compiled.executable.plan
    made = {operand.name for operand in outline(plan)[0].reads} | {value.name for value in plan.inputs}
    made |= {"step", "learning_rate", "target"}
    for top in outline(plan, part.compiled.outputs):
        for entry in top.walk():
            assert all(o.name in made for o in entry.reads), (entry.number, [o.name for o in entry.reads])
            made |= {o.name for o in entry.writes}
    numbers = [entry.number for top in outline(plan) for entry in top.walk()]
    assert len(set(numbers)) == len(numbers)


def test_every_kernel_stands_at_its_step():
    """All calls of the executable are found: at a step, or among the kernels that no step asked for."""
    explanation = gnn.explain(trainer(), X, LABELS)
    (section,) = explanation.sections
    assert isinstance(section.executable, Inspectable)
    assert set(section.kernels.values()) == {c for c in section.executable.calls if c.step is not None}
    assert all(c.notes or c.runs for c in section.executable.calls)
    leaves = [e for e in entries_of(explanation) if not e.entries and not e.is_view]
    assert all(entry.number in section.kernels for entry in leaves)


def test_loops_say_how_often_they_turn():
    x = gnn.Input(("batch", 5, 4), name="x")
    model = gnn.Model(gnn.Graph(x, layers.LSTM(3, name="cell")(x)))
    text = str(model.explain(np.ones((2, 5, 4))))
    assert "5 turns" in text
    assert "carried on" in text
    assert "slice of" in text


def test_the_code_of_one_step_on_request():
    found = gnn.Model(network()).explain(
        X, ir=True, assembly=True, step=entries_of(gnn.explain(trainer(), X, LABELS))[0].number
    )
    assert "define i64 @" in str(found)
    assert "ret" in str(found)
    assert "define" not in str(gnn.Model(network()).explain(X))
    with pytest.raises(gnn.OptionError, match="no such step"):
        gnn.Model(network()).explain(X, step="99")


def test_the_data_is_json_and_the_text_has_no_long_lines():
    for found in (
        gnn.explain(trainer(), X, LABELS),
        gnn.Model(network(), device="reference").explain(X, training=True),
    ):
        data = json.loads(json.dumps(found.to_dict()))
        assert [s["name"] for s in data["programs"]] == [s.name for s in found.sections]
        assert data["programs"][0]["steps"][0]["op"]
        assert max(map(len, str(found).splitlines())) <= 130


def test_nothing_is_run_and_nothing_changes():
    target = trainer()
    before = {path: array.copy() for path, array in target.model.parameters.items()}
    target.explain(X, LABELS)
    assert target.steps == 0
    assert all(np.array_equal(before[path], array) for path, array in target.model.parameters.items())
