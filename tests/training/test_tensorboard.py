import struct
import sys

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers


def make_trainer():
    x = gnn.Input(("batch", 3), name="x")
    return gnn.Trainer(gnn.Model(gnn.Graph(x, layers.Linear(2)(x))), "cross_entropy", "sgd", metrics=["accuracy"])


def scalars(path):
    """{(tag, step): value} of an event file: records of a length, its checksum, an Event, and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data, at, found = path.read_bytes(), 0, {}
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        at += 12 + length + 4
    return found


def test_event_files_hold_the_numbers_of_each_epoch(tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: pip install -e .[test]")
    trainer, callback = make_trainer(), gnn.TensorBoard(tmp_path / "runs")
    data = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 2
    for epochs in (2, 1):
        trainer.fit(data, epochs, batch_size=16, validation=data, callbacks=[callback], progress=False)
    files = list((tmp_path / "runs").iterdir())
    assert len(files) == 2
    found = {key: value for file in files for key, value in scalars(file).items()}
    columns = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
    assert set(found) == {(column, step) for column in columns for step in (3, 6, 9)}
    for row in trainer.history.rows:
        for column in columns:
            assert found[column, row["step"]] == np.float32(row[column])


def test_a_missing_package_is_a_typed_error(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)  # as if it were not installed
    with pytest.raises(gnn.BackendError, match=r"need tensorboardX[\s\S]*fix: pip install"):
        gnn.TensorBoard(tmp_path)
    assert list(tmp_path.iterdir()) == []
