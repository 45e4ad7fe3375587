"""train and predict: data files in, weights and histories out; interruptions and divergence lose nothing."""

import csv
import io
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from graphnn.cli import main
from graphnn.cli.data import hold_out, split_inputs
from graphnn.cli.target import load_graph
from graphnn.cli.train import Saving
from graphnn.errors import FileFormatError, OptionError
from graphnn.files.npz import load_arrays
from graphnn.model import Model
from graphnn.training.trainer import Trainer

TRAIN = ["train", "net.py:graph", "--data", "data.npz", "--loss", "cross_entropy"]
TWO_OUTPUTS = """
import graphnn as gnn
from graphnn import layers

x, z = gnn.Input(("batch", 4), name="x"), gnn.Input(("batch", 4), name="z", optional=True)
graph = gnn.Graph([x, z], {"a": layers.Linear(3, name="a")(x), "b": layers.Linear(1, name="b")(x + z)}, name="two")
"""


@pytest.fixture
def two():
    Path("two.py").write_text(TWO_OUTPUTS, encoding="utf-8")
    x = np.random.default_rng(1).normal(size=(40, 4)).astype("float32")
    arrays = {"x": x, "z": 2 * x, "y/a": x[:, :3].argmax(axis=1), "y/b": x[:, :1]}
    np.savez("two.npz", **arrays)
    return arrays


def rows(path):
    return list(csv.DictReader(Path(path).read_text(encoding="utf-8").splitlines()))


def records(path):
    """Rows of a JSONL file without what a clock and a signal say."""
    found = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [{name: cell for name, cell in row.items() if name not in ("seconds", "status")} for row in found]


def assert_same_training(first, second, epochs):
    one, two = load_arrays(f"{first}.npz"), load_arrays(f"{second}.npz")
    assert list(one) == list(two)
    assert all(np.array_equal(one[path], two[path]) for path in one)
    assert records(f"{first}.jsonl") == records(f"{second}.jsonl")
    assert len(records(f"{first}.jsonl")) == epochs


LONG = '\nx = gnn.Input(("batch", 4), name="x")\nd = layers.Dropout(0.3, name="drop")(layers.Linear(64, name="a")(x))\n'
LONG += 'deep = gnn.Graph(x, layers.Linear(3, name="b")(layers.BatchNorm(name="norm")(d)), name="deep")\n'


@pytest.fixture
def deep():
    """A network with a state and random masks, and options of a training of it."""
    with open("net.py", "a", encoding="utf-8") as file:
        file.write(LONG)
    options = ["--data", "data.npz", "--loss", "cross_entropy", "--batch-size", "7", "--device", "reference"]
    return ["train", "net.py:deep", *options]


def files(name):
    return ["--weights", f"{name}.npz", "--history", f"{name}.jsonl", "--checkpoint", f"{name}_run.npz"]


# -- train -------------------------------------------------------------------------------------------------------------


def test_training_equals_the_same_training_in_python(capsys):
    files = ["--weights", "w", "--history", "h.jsonl"]
    options = ["--learning-rate", "0.05", "--batch-size", "16", "--epochs", "3", "--metric", "accuracy", "--seed", "4"]
    assert main([*TRAIN, *options, *files, "--json"]) == 0
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert captured.err.count("epoch ") == 3
    model = Model(load_graph("net.py:graph"), seed=4)
    trainer = Trainer(model, "cross_entropy", {"optimizer": "adam", "learning_rate": 0.05}, ["accuracy"])
    data = load_arrays("data.npz")
    history = trainer.fit((data["x"], data["y"]), epochs=3, batch_size=16, seed=4, progress=False)
    for path, array in load_arrays("w.npz").items():
        np.testing.assert_array_equal(array, model.parameters[path])
    written = [json.loads(line) for line in Path("h.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["loss"] for row in written] == history["loss"]
    assert printed["last"]["accuracy"] == history["accuracy"][-1]
    assert (printed["status"], printed["epochs"], printed["steps"]) == ("completed", 3, 24)
    assert printed["files"] == {"weights": "w.npz", "history": "h.jsonl"}


def test_resume_goes_on_from_the_weights_of_a_file():
    assert main([*TRAIN, "--weights", "first.npz", "--epochs", "2", "--quiet"]) == 0
    still = ["--resume", "first.npz", "--weights", "second.npz", "--optimizer", "sgd", "--learning-rate", "0"]
    assert main([*TRAIN, *still, "--quiet"]) == 0
    first, second = load_arrays("first.npz"), load_arrays("second.npz")
    assert all(np.array_equal(first[path], second[path]) for path in first)
    assert any(array.any() for array in first.values())


@pytest.mark.parametrize("device", ["reference", "cpu"])
def test_a_training_that_is_resumed_is_the_one_that_never_stopped_bit_for_bit(deep, device):
    deep = [*deep, "--device", device, "--quiet"]
    assert main([*deep, "--epochs", "4", *files("whole")]) == 0
    assert main([*deep, "--epochs", "2", *files("parts")]) == 0
    assert main([*deep, "--epochs", "4", *files("parts"), "--resume", "parts_run.npz"]) == 0
    assert_same_training("whole", "parts", 4)
    assert main([*deep, "--epochs", "4", "--resume", "parts_run.npz", *files("again")]) == 0  # nothing is left to do
    assert_same_training("whole", "again", 4)


def test_a_checkpoint_of_another_training_is_refused(deep, capsys):
    assert main([*deep, "--quiet", *files("one")]) == 0
    assert main([*deep, "--optimizer", "sgd", "--resume", "one_run.npz"]) == 1
    assert "of another optimizer" in capsys.readouterr().err
    assert main([*TRAIN, "--resume", "one_run.npz"]) == 1
    assert "do not fit the model" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals between processes")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_what_a_signal_ends_goes_on_bit_for_bit(number, code, deep, begin):
    """After SIGINT at the batch behind the last one; after SIGKILL from the last files, which are whole."""
    process = begin(*deep, "--epochs", "1000000", *files("cut"))
    while not Path("cut_run.npz").exists():
        assert process.poll() is None
        process.stderr.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert "\r" not in errors
    assert "\x1b" not in errors
    assert records("cut.jsonl")
    done = json.loads(load_arrays("cut_run.npz")["training.json"].tobytes())
    epochs = len(done["history"]) + 1
    assert main([*deep, "--epochs", str(epochs), *files("cut"), "--resume", "cut_run.npz", "--quiet"]) == 0
    assert main([*deep, "--epochs", str(epochs), *files("whole"), "--quiet"]) == 0
    assert_same_training("whole", "cut", epochs)


@pytest.mark.parametrize("validation", ["0.25", "data.npz"])
def test_validation_by_a_share_or_a_file(validation, capsys):
    assert main([*TRAIN, "--validation", validation, "--history", "h.csv", "--quiet"]) == 0
    assert float(rows("h.csv")[0]["val_loss"]) > 0
    assert int(rows("h.csv")[0]["step"]) == -(-(90 if validation == "0.25" else 120) // 32)
    captured = capsys.readouterr()
    assert captured.err == "note: the trained weights are not kept; give --weights FILE\n"
    assert captured.out.startswith("completed: 1 epoch, ")


def test_several_outputs_have_losses_by_name(two, capsys):
    names = ["--loss", "a=cross_entropy", "--loss", "b=squared_error", "--metric", "a=accuracy"]
    assert main(["train", "two.py:graph", "--data", "two.npz", *names, "--history", "h.svg", "--quiet"]) == 0
    assert "a/accuracy" in capsys.readouterr().out
    assert Path("h.svg").read_text(encoding="utf-8").startswith("<svg")
    assert main(["train", "two.py:graph", "--data", "two.npz", "--loss", "cross_entropy"]) == 1
    assert "a=cross_entropy, b=cross_entropy" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--loss", "cross_entrpy"], "unknown loss"),
        (["--optimizer", "adm"], "unknown optimizer"),
        (["--history", "h.txt"], "the ending names no format"),
        (["--history", "no/h.csv"], "there is no folder"),
        (["--weights", "no/w.npz"], "there is no folder"),
        (["--validation", "1.5"], "nothing is left"),
        (["--resume", "data.npz"], "the arrays do not fit the model"),
        (["--data", "none.npz"], "none.npz"),
        (["--learning-rate", "-1"], "`learning_rate` does not fit"),
    ],
)
def test_what_cannot_be_trained_says_why_at_once(arguments, words, capsys):
    assert main([*TRAIN, *arguments, "--epochs", "1000000"]) == 1
    assert words in capsys.readouterr().err
    assert not list(Path().glob("h.*"))


def test_divergence_exits_with_3_and_keeps_what_was_good(capsys):
    data = load_arrays("data.npz")
    data["x"][5, 0] = np.nan
    np.savez("nan.npz", **data)
    assert main([*TRAIN, "--data", "nan.npz", "--weights", "w.npz", "--history", "h.csv", "--quiet"]) == 3
    captured = capsys.readouterr()
    assert "the loss is not finite" in captured.err
    assert not captured.out
    assert not Path("w.npz").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals between processes")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_training_and_keeps_weights_and_history(number, code, begin):
    process = begin(*TRAIN, "--epochs", "1000000", "--weights", "w.npz", "--history", "h.csv")
    assert process.stderr.readline().startswith("epoch 1/1000000")
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert out.startswith("interrupted: ")
    found = rows("h.csv")
    assert [row["status"] for row in found] == ["completed"] * (len(found) - 1) + ["interrupted"]
    Model(load_graph("net.py:graph")).load_weights("w.npz")
    assert not [name for name in os.listdir() if name.endswith(".tmp")]


def test_files_are_written_on_the_way_but_not_all_the_time():
    now = [0.0]
    saving = Saving("w.npz", "h.csv", clock=lambda: now[0])
    data = load_arrays("data.npz")
    trainer = Trainer(Model(load_graph("net.py:graph")), "cross_entropy")
    for seconds, written in ((0.0, 1), (0.5, 1), (1.2, 3)):
        now[0] = seconds
        trainer.fit((data["x"], data["y"]), callbacks=[saving], progress=False)
        assert len(rows("h.csv")) == written
    np.testing.assert_array_equal(load_arrays("w.npz")["dense/W"], trainer.model.parameters["dense/W"])


# -- predict -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def model():
    model = Model(load_graph("net.py:graph"), seed=9)
    model.save_weights("w.npz")
    return model


def test_predict_gives_what_the_model_gives(model, capsys, run):
    arguments = ["predict", "net.py:graph", "--data", "data.npz", "--weights", "w.npz", "--batch-size", "50"]
    expected = model.forward(load_arrays("data.npz")["x"])
    assert main([*arguments, "-o", "out"]) == 0
    assert capsys.readouterr().out == "y: float32[120, 3]\noutputs: out.npz\n"
    np.testing.assert_allclose(load_arrays("out.npz")["y"], expected, rtol=1e-6, atol=1e-6)
    assert main([*arguments, "-o", "-", "--json"]) == 0
    np.testing.assert_allclose(json.loads(capsys.readouterr().out)["y"], expected, rtol=1e-6, atol=1e-6)
    code, out, err = run(*arguments, "-o", "-")
    assert (code, err) == (0, "")
    np.testing.assert_allclose(np.load(io.BytesIO(out))["y"], expected, rtol=1e-6, atol=1e-6)


def test_outputs_have_their_names(two, capsys):
    assert main(["predict", "two.py:graph", "--data", "two.npz", "-o", "out.npz", "--json"]) == 0
    captured = capsys.readouterr()
    assert list(json.loads(captured.out)["outputs"]) == list(load_arrays("out.npz")) == ["a", "b"]
    assert "no --weights are given" in captured.err


# -- data files --------------------------------------------------------------------------------------------------------


def test_arrays_are_told_apart_by_name(two):
    graph = load_graph("two.py:graph")
    inputs, targets = split_inputs(graph, "two.npz", needs_targets=True)
    assert (list(inputs), list(targets)) == (["x", "z"], ["a", "b"])
    np.savez("less.npz", x=two["x"])
    assert split_inputs(graph, "less.npz", needs_targets=False)[1] is None


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"z": 1, "y/a": 1}, "an input is missing"),
        ({"x": 1}, "there are no targets"),
        ({"x": 1, "y": 1}, "an array belongs to nothing"),
        ({"x": 1, "y/c": 1}, "an array belongs to nothing"),
        ({"x": 1, "labels": 1}, "expected: x, z, y/a, y/b"),
    ],
)
def test_files_that_do_not_fit(two, arrays, words):
    np.savez("wrong.npz", **{name: np.zeros((3, 4)) for name in arrays})
    with pytest.raises(FileFormatError) as caught:
        split_inputs(load_graph("two.py:graph"), "wrong.npz", needs_targets=True)
    assert words in str(caught.value)


def test_held_out_examples_are_no_others_and_depend_on_the_seed():
    x, y = {"x": np.arange(50)}, np.arange(50) * 2
    (kept, kept_y), (out, out_y) = hold_out(x, y, 0.2, seed=1)
    assert len(out["x"]) == 10
    assert sorted([*kept["x"], *out["x"]]) == list(range(50))
    assert np.array_equal(2 * kept["x"], kept_y)
    assert np.array_equal(2 * out["x"], out_y)
    assert not np.array_equal(hold_out(x, y, 0.2, seed=2)[1][1], out_y)
    with pytest.raises(OptionError, match="nothing is left"):
        hold_out(x, y, 0.001, seed=1)
