"""Trainer: steps, loops, freezing, interruption; the twins in tests/modules compare its steps with torch's."""

import signal

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers, losses, modules, optimizers, schedules
from graphnn.errors import DivergenceError, GraphError, GraphnnError, OptionError, ParameterError, ShapeError
from graphnn.ops.random import RandomStream


def normal(*shape, seed=0):
    return RandomStream(seed, "data").normal(shape)


def classifier(dropout=0.0):
    x = gnn.Input(("batch", 6), name="x")
    h = layers.Linear(8, act_fn="tanh", name="hidden")(x)
    h = layers.BatchNorm(name="norm")(h)
    h = layers.Dropout(dropout, name="drop")(h) if dropout else h
    return gnn.Graph(x, layers.Linear(3, name="logits")(h))


def data(count=50, seed=0):
    x = normal(count, 6, seed=seed).astype("float32")
    return x, (x[:, :3]).argmax(1)


def trainer_of(model, learning_rate=0.05, **options):
    return gnn.Trainer(model, losses.CrossEntropy(), optimizers.Adam(learning_rate, **options), metrics=["accuracy"])


def snapshot(model):
    return {path: array.copy() for path, array in {**model.parameters, **model.states}.items()}


def assert_same(left, right):
    assert left.keys() == right.keys()
    for path in left:
        np.testing.assert_array_equal(left[path], right[path], err_msg=path)


def test_a_step_returns_the_loss_before_the_update():
    model, (x, y) = gnn.Model(classifier()), data()
    logits = model.forward(x, training=True).astype("float64")
    expected = -(logits - np.log(np.exp(logits).sum(1, keepdims=True)))[np.arange(50), y].mean()
    assert trainer_of(gnn.Model(classifier())).train_step(x, y) == pytest.approx(expected, rel=1e-5)


def test_training_learns_and_evaluate_agrees_with_predict():
    trainer, (x, y) = trainer_of(gnn.Model(classifier())), data(120)
    history = trainer.fit((x, y), epochs=15, batch_size=32, validation=data(60, seed=1), progress=False)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert len(history) == 15
    assert history["step"][-1] == 15 * 4
    accuracy = (trainer.predict(x, batch_size=7).argmax(1) == y).mean()
    assert trainer.evaluate((x, y), batch_size=11)["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert history["val_accuracy"][-1] > 0.6


MODULES = {
    "wavenet": (lambda: modules.WavenetResidualModule(4, 6, 2, 2), ("batch", "time", 4), (4, 9, 4)),
    "identity": (
        lambda: modules.SkipConnectionIdentityModule(4, 3, 3, act_fn="relu"),
        ("batch", 5, 5, 3),
        (4, 5, 5, 3),
    ),
    "conv": (
        lambda: modules.SkipConnectionConvModule(4, 5, 3, 3, 1, pad1=1, pad2=1, act_fn="tanh"),
        ("batch", 5, 5, 3),
        (4, 5, 5, 3),
    ),
    "bilstm": (lambda: modules.BidirectionalLSTM(5), ("batch", "time", 3), (4, 6, 3)),
    "attention": (lambda: modules.MultiHeadedAttentionModule(2, causal=True), ("batch", "time", 6), (4, 7, 6)),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_hundred_steps_on_every_module(name):
    """A1: upstream's modules fail at the second step."""
    make, shape, size = MODULES[name]
    x = gnn.Input(shape, name="x")
    outputs = make()(x)
    graph = gnn.Graph(x, outputs["y_main"] if isinstance(outputs, dict) else outputs)
    model = gnn.Model(graph, seed=1)
    given = normal(*size).astype("float32")
    target = 0.5 * np.tanh(normal(*model.forward(given).shape, seed=2)).astype("float32")
    trainer = gnn.Trainer(model, losses.SquaredError(), optimizers.Adam(0.02))
    found = [trainer.train_step(given, target) for _ in range(100)]
    assert np.isfinite(found).all()
    assert found[-1] < 0.6 * found[0]
    assert trainer.steps == 100


def test_same_seeds_give_the_same_bits_and_order_of_data():
    models = [gnn.Model(classifier(dropout=0.3), seed=3) for _ in range(2)]
    for model in models:
        trainer_of(model).fit(data(), epochs=3, batch_size=8, seed=5, progress=False)
    assert_same(snapshot(models[0]), snapshot(models[1]))
    other = gnn.Model(classifier(dropout=0.3), seed=3)
    trainer_of(other).fit(data(), epochs=3, batch_size=8, seed=6, progress=False)
    assert not np.array_equal(other.parameters["hidden/W"], models[0].parameters["hidden/W"])


def test_two_fits_go_on_where_one_would():
    whole, parts = (trainer_of(gnn.Model(classifier(dropout=0.2))) for _ in range(2))
    whole.fit(data(), epochs=2, batch_size=16, seed=3, progress=False)
    for _ in range(2):
        parts.fit(data(), epochs=1, batch_size=16, seed=3, progress=False)
    assert_same(snapshot(whole.model), snapshot(parts.model))
    assert whole.history["epoch"] == parts.history["epoch"] == [1, 2]


def test_frozen_nodes_keep_weights_statistics_and_moments_bit_for_bit():
    model = gnn.Model(classifier())
    trainer, batch = trainer_of(model, weight_decay=0.1), data()
    for _ in range(3):
        trainer.train_step(*batch)
    model.freeze("hidden", "norm")
    before, memory = snapshot(model), {path: array.copy() for path, array in trainer.memory.items()}
    for _ in range(3):
        trainer.train_step(*batch)
    after = snapshot(model)
    frozen = {path for path in before if path.startswith(("hidden/", "norm/"))}
    assert_same({p: before[p] for p in frozen}, {p: after[p] for p in frozen})
    moments = {path for path in memory if path.startswith(("hidden/", "norm/"))}
    assert moments
    assert_same({p: memory[p] for p in moments}, {p: trainer.memory[p] for p in moments})
    assert not np.array_equal(before["logits/W"], after["logits/W"])
    model.unfreeze()
    trainer.train_step(*batch)
    assert not np.array_equal(model.parameters["hidden/W"], after["hidden/W"])


def test_gradients_pass_through_frozen_nodes():
    model = gnn.Model(classifier())
    model.freeze("logits", "norm")
    before = model.parameters["hidden/W"].copy()
    trainer_of(model).train_step(*data())
    assert not np.array_equal(before, model.parameters["hidden/W"])


def test_everything_frozen_leaves_the_model_alone():
    model = gnn.Model(classifier())
    model.freeze()
    before, trainer = snapshot(model), trainer_of(model)
    assert trainer.train_step(*data()) == trainer.train_step(*data())
    assert_same(before, snapshot(model))


def test_several_outputs_by_name():
    x = gnn.Input(("batch", 6), name="x")
    h = layers.Linear(8, act_fn="tanh", name="trunk")(x)
    outputs = {"kind": layers.Linear(3, name="kind")(h), "size": layers.Linear(1, name="size")(h)}
    model = gnn.Model(gnn.Graph(x, outputs))
    trainer = gnn.Trainer(
        model, {"kind": "cross_entropy", "size": losses.SquaredError()}, "adam", metrics={"kind": ["accuracy"]}
    )
    given, labels = data()
    targets = {"kind": labels, "size": given[:, :1]}
    first = trainer.evaluate((given, targets))
    assert set(first) == {"loss", "kind/accuracy"}
    assert trainer.fit((given, targets), epochs=20, progress=False)["loss"][-1] < first["loss"]
    assert set(trainer.predict(given)) == {"kind", "size"}
    with pytest.raises(GraphError, match="targets do not match"):
        trainer.train_step(given, {"kind": labels})


def test_the_schedule_gives_the_rate_of_each_step():
    model = gnn.Model(classifier())
    trainer = gnn.Trainer(model, "cross_entropy", optimizers.SGD(schedules.Step(1.0, (1,), 1e-30)))
    start = model.parameters["logits/W"].copy()
    trainer.train_step(*data())
    moved = model.parameters["logits/W"].copy()
    trainer.train_step(*data())
    assert not np.array_equal(start, moved)
    np.testing.assert_array_equal(moved, model.parameters["logits/W"])


def test_steps_bounds_a_fit_and_batches_may_come_ready_made():
    trainer = trainer_of(gnn.Model(classifier()))
    trainer.fit(data(), epochs=10, batch_size=10, steps=7, progress=False)
    assert trainer.steps == 7
    x, y = data()
    trainer.fit([(x[:9], y[:9]), (x[9:], y[9:])], epochs=2, progress=False)
    assert trainer.steps == 11


class Recorder(gnn.Callback):
    def __init__(self, stop_at=None):
        self.events, self.stop_at = [], stop_at

    def on_train_begin(self, trainer):
        self.events.append("begin")

    def on_epoch_begin(self, trainer, epoch):
        self.events.append(f"epoch {epoch}")

    def on_batch_end(self, trainer, step, values):
        self.events.append(f"batch {step}")
        trainer.stop_requested = len(self.events) == self.stop_at

    def on_epoch_end(self, trainer, row):
        self.events.append(f"row {row['epoch']}")

    def on_train_end(self, trainer):
        self.events.append("end")


def test_callbacks_come_in_order_and_may_stop_the_training():
    recorder = Recorder()
    trainer_of(gnn.Model(classifier())).fit(data(), 2, 25, callbacks=[recorder], progress=False)
    epoch = ["batch 0", "batch 1"]
    assert recorder.events == ["begin", "epoch 0", *epoch, "row 1", "epoch 1", *epoch, "row 2", "end"]
    recorder = Recorder(stop_at=3)
    history = trainer_of(gnn.Model(classifier())).fit(data(), 2, 25, callbacks=[recorder], progress=False)
    assert recorder.events == ["begin", "epoch 0", "batch 0", "row 1", "end"]
    assert history.status == "stopped"


class StopsAtOnce(gnn.Callback):
    def on_train_begin(self, trainer):
        trainer.stop_requested = True


def test_a_callback_may_stop_before_the_first_epoch():
    trainer = trainer_of(gnn.Model(classifier()))
    assert len(trainer.fit(data(), 3, callbacks=[StopsAtOnce()], progress=False)) == 0
    trainer.fit(data(), 1, progress=False)
    assert trainer.fit(data(), 3, callbacks=[StopsAtOnce()], progress=False).status == "completed"


class PressesCtrlC(gnn.Callback):
    def __init__(self, times):
        self.times = times

    def on_batch_end(self, trainer, step, values):
        for _ in range(self.times):
            signal.raise_signal(signal.SIGINT)


def test_the_first_interrupt_ends_after_the_step_and_the_second_raises(capsys):
    handler = signal.getsignal(signal.SIGINT)
    trainer = trainer_of(gnn.Model(classifier()))
    history = trainer.fit(data(), 5, 10, callbacks=[PressesCtrlC(1)], progress=False)
    assert trainer.steps == 1
    assert history.status == "interrupted"
    assert "Ctrl-C" in capsys.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(data(), 5, 10, callbacks=[PressesCtrlC(2)], progress=False)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(data(), 5, 10, callbacks=[PressesCtrlC(1)], progress=False, on_interrupt="raise")
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_loss_that_is_no_number_stops_the_training():
    x, y = data()
    x[:, 0] = np.nan
    with pytest.raises(DivergenceError, match=r"step 1: the loss is not finite[\s\S]*fix:"):
        trainer_of(gnn.Model(classifier())).fit((x, y), progress=False)


def test_the_log_of_a_file_has_no_control_characters(capsys):
    trainer_of(gnn.Model(classifier())).fit(data(), epochs=2)
    log = capsys.readouterr().err
    assert log.count("\n") == 2
    assert "\r" not in log
    assert "\x1b" not in log


def test_the_log_counts_epochs_as_the_history_does(capsys):
    trainer = trainer_of(gnn.Model(classifier()))
    for _ in range(2):
        trainer.fit(data(), epochs=2)
    log = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in log] == ["epoch 1/2", "epoch 2/2", "epoch 3/4", "epoch 4/4"]
    assert trainer.history["epoch"] == [1, 2, 3, 4]


X, Y = data()
BAD = {
    "rank of x": (lambda t: t.train_step(X[0], Y), ShapeError, "x"),
    "width of x": (lambda t: t.train_step(X[:, :5], Y), ShapeError, "float32"),
    "unknown input": (lambda t: t.train_step({"z": X}, Y), GraphError, "z"),
    "too many inputs": (lambda t: t.train_step((X, X), Y), GraphError, "too many"),
    "batch sizes": (lambda t: t.train_step(X, Y[:-1]), GraphError, "batch size"),
    "labels of rank 3": (lambda t: t.train_step(X, Y[:, None, None]), GraphnnError, "target"),
    "text targets": (lambda t: t.train_step(X, ["a"] * len(X)), OptionError, "numbers"),
    "lengths of data": (lambda t: t.fit((X, Y[:-1])), ShapeError, "differ"),
    "no data": (lambda t: t.fit((X[:0], Y[:0])), ShapeError, "no examples"),
    "batch size 0": (lambda t: t.fit((X, Y), batch_size=0), OptionError, "batch_size"),
    "labels out of range": (lambda t: t.train_step(X, Y + 1), OptionError, "loss: .* out of range"),
    "epochs": (lambda t: t.fit((X, Y), epochs=-1), OptionError, "epochs"),
    "half an epoch": (lambda t: t.fit((X, Y), epochs=1.5), OptionError, "epochs"),
    "steps": (lambda t: t.fit((X, Y), steps=-1), OptionError, "steps"),
    "callbacks": (lambda t: t.fit((X, Y), callbacks=[print]), OptionError, "callbacks"),
    "validation data": (lambda t: t.fit((X, Y), validation=(X[:, :5], Y)), ShapeError, "float32"),
    "validation labels": (lambda t: t.fit((X, Y), validation=(X, Y[:, None, None])), GraphnnError, "target"),
    "on_interrupt": (lambda t: t.fit((X, Y), on_interrupt="ignore"), OptionError, "on_interrupt"),
    "no batches": (lambda t: t.fit("data"), OptionError, "data"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_calls_say_why_and_change_nothing(name):
    call, kind, text = BAD[name]
    model = gnn.Model(classifier())
    trainer, before = trainer_of(model), snapshot(model)
    with pytest.raises(kind, match=text):
        call(trainer)
    assert_same(before, snapshot(model))
    assert (trainer.steps, model.step, len(trainer.history)) == (0, 0, 0)
    trainer.train_step(X, Y)
    assert trainer.steps == 1


@pytest.mark.parametrize(
    ("loss", "metrics", "text"),
    [
        ("cross", (), "cross_entropy"),
        ({"y": "cross_entropy"}, (), "does not exist"),
        ("cross_entropy", ["exactness"], "accuracy"),
    ],
)
def test_unknown_names_are_found_at_once(loss, metrics, text):
    with pytest.raises(GraphnnError, match=text):
        gnn.Trainer(gnn.Model(classifier()), loss, "adam", metrics)


def test_a_whole_step_is_one_planned_program():
    """Weights and moments are written in place; statistics are not, as the loss comes later and may refuse labels."""
    model = gnn.Model(classifier())
    trainer = trainer_of(model)
    trainer.train_step(*data())
    (step,) = trainer._compiled.values()
    plan = step.compiled.executable.plan
    assert {p.name for p in plan.inputs} >= {*model.parameters, *trainer.memory}
    copied = [plan.inputs[old].name for old, new in plan.updates if plan.buffers[new].shares != old]
    assert sorted(copied) == ["norm/running_mean", "norm/running_var"]


class Faulty(gnn.NumericLayer):
    """Passes all on, and fails on the way back where a gradient is asked for while `broken`."""

    broken = False

    def output_spec(self, x):
        return x

    def forward(self, xp, x):
        return x

    def backward(self, xp, inputs, outputs, cotangents):
        if type(self).broken:
            raise ZeroDivisionError("no gradient today")
        return cotangents[0]


def test_a_step_that_fails_on_the_way_back_changes_nothing(monkeypatch):
    """Weights behind the layer have their gradients by then, and could have been updated in place."""
    x = gnn.Input(("batch", 6), name="x")
    h = Faulty(name="faulty")(layers.Linear(8, name="first")(x))
    h = layers.Linear(300, name="large")(h)  # so large that its gradient had better not wait for the others
    model = gnn.Model(gnn.Graph(x, layers.Linear(3, name="last")(h)))
    trainer = trainer_of(model)
    trainer.train_step(X, Y)
    before, memory = snapshot(model), {path: array.copy() for path, array in trainer.memory.items()}
    monkeypatch.setattr(Faulty, "broken", True)
    with pytest.raises(ZeroDivisionError, match="no gradient today") as caught:
        trainer.train_step(X, Y)
    assert caught.value.__notes__ == ["while 'faulty' ran (backward)"]
    assert_same(before, snapshot(model))
    assert_same(memory, trainer.memory)
    assert (trainer.steps, model.step) == (1, 1)


@pytest.mark.parametrize("rule", [optimizers.Adam(1e-2), optimizers.AdaGrad(1e-2), optimizers.RMSProp(1e-2)])
def test_half_precision_learns(rule):
    """float16 knows no 1e-8: the updates are computed in float32."""
    model, (x, y) = gnn.Model(classifier(), dtype="float16"), data()
    trainer = gnn.Trainer(model, losses.CrossEntropy(), rule)
    numbers = [trainer.train_step(x, y) for _ in range(60)]
    assert numbers[-1] < 0.5 * numbers[0]
    assert {array.dtype.name for array in model.parameters.values()} == {"float16"}
    assert {array.dtype.name for array in trainer.memory.values()} == {"float32"}


def test_programs_for_many_batch_sizes_do_not_pile_up(monkeypatch):
    """Each holds an arena; what is needed again later is made again, and gives the same."""
    monkeypatch.setattr("graphnn.backends.compilations.PROGRAMS_KEPT", 3)
    model, (x, y) = gnn.Model(classifier()), data(20)
    trainer, first = trainer_of(model), model.forward(x[:1])
    run = model.run(x[:2])
    for size in range(1, 15):
        model.forward(x[:size])
        trainer.evaluate((x[:size], y[:size]))
    assert (len(model._compiled.values()), len(trainer._compiled.values())) == (3, 3)
    assert run.backward(np.ones((2, 3))).shape == (2, 6)  # an open run keeps its program
    np.testing.assert_array_equal(model.forward(x[:1]), first)


def test_a_trainer_needs_a_model():
    with pytest.raises(GraphError, match=r"gnn\.Model"):
        gnn.Trainer(classifier(), losses.CrossEntropy())


def test_optimizer_states_are_assigned_like_parameters():
    """The steps go on with the same arrays; what does not fit changes nothing."""
    runs = []
    for assigned in (False, True):
        trainer, (x, y) = trainer_of(gnn.Model(classifier())), data()
        trainer.train_step(x, y)
        kept, store = {path: array.copy() for path, array in trainer.memory.items()}, trainer.memory
        trainer.train_step(x, y)
        if assigned:
            trainer.memory.update(kept)
            with pytest.raises(ParameterError, match="another shape"):
                trainer.memory[next(iter(kept))] = np.zeros(7, "float32")
            assert_same(kept, trainer.memory)
        runs.append([trainer.train_step(x, y), trainer.train_step(x, y)])
        assert trainer.memory is store
    assert runs[0][0] == runs[1][0]  # the loss before the update
    assert runs[0][1] != runs[1][1]
