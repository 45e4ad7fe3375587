"""Where the time of a step goes: spans, the Chrome trace, the roofline."""

import json
from itertools import pairwise

import numpy as np
import pytest

from graphnn.bench.graphnn_contender import batch_of, trainer_of
from graphnn.bench.roofline import Machine, bandwidth, roofline_text, rows_of
from graphnn.bench.trace import Span, to_json, trace
from graphnn.bench.workloads import WORKLOADS
from graphnn.plans import parts_of, plans_of
from graphnn.profiler import Profile, Row


def span(name, begin, seconds, worker=0, flops=0, nbytes=0, phase="forward"):
    return Span(name, phase, "add", begin, seconds, worker, flops, nbytes)


def test_a_trace_has_every_step_and_changes_nothing():
    trainer, (x, y) = trainer_of(WORKLOADS["mlp_small"], "reference"), batch_of(WORKLOADS["mlp_small"])
    before = {path: np.array(array) for path, array in trainer.model.parameters.items()}
    spans = trace(trainer, x, y, runs=2)
    assert [s.op for s in spans] == [step.op.name for step in plans_of(trainer, x, y)["step"].steps]
    assert all(now.begin + now.seconds <= later.begin + 1e-12 for now, later in pairwise(spans))
    assert all(np.array_equal(before[path], array) for path, array in trainer.model.parameters.items())
    assert trainer.steps == 0
    fresh = trainer_of(WORKLOADS["mlp_small"], "reference")
    assert trainer.train_step(x, y) == fresh.train_step(x, y)


@pytest.mark.parametrize("name", ["mlp_small", "bidirectional_lstm"])
def test_a_native_trace_has_every_run_of_every_kernel(name):
    """A worker does one thing at a time; both together do all runs that the plan asks for; the step is what it was."""
    trainer, (x, y) = trainer_of(WORKLOADS[name], "cpu"), batch_of(WORKLOADS[name])
    spans = trace(trainer, x, y, runs=2)
    (part,) = parts_of(trainer, (x, y), {})
    assert len(spans) == sum(call.runs for call in part.compiled.executable.calls)
    assert {s.worker for s in spans} <= set(range(part.compiled.executable.workers))
    for worker in {s.worker for s in spans}:
        mine = [s for s in spans if s.worker == worker]
        assert all(now.begin + now.seconds <= later.begin + 1e-12 for now, later in pairwise(mine))
        assert min(s.begin for s in mine) >= 0
    assert {s.phase for s in spans} == {"forward", "backward", "update"}
    assert trainer.train_step(x, y) == trainer_of(WORKLOADS[name], "cpu").train_step(x, y)


def test_the_json_is_a_chrome_trace():
    data = json.loads(to_json([span("a", 0.0, 1e-3, flops=7), span("b", 1e-3, 2e-3, worker=1)], "title"))
    names = [event["args"]["name"] for event in data["traceEvents"] if event["ph"] == "M"]
    assert names == ["title", "worker 0", "worker 1"]
    a, b = (event for event in data["traceEvents"] if event["ph"] == "X")
    assert (a["name"], a["ts"], a["dur"], a["tid"], a["args"]["flops"]) == ("a", 0.0, 1000.0, 0, 7)
    assert (b["name"], b["ts"], b["dur"], b["tid"], b["cat"]) == ("b", 1000.0, 2000.0, 1, "forward")


def made(*rows):
    return Profile("net", "one training step", "cpu, 2 workers", 5, 0, rows)


def test_the_roofline_is_the_longer_of_operations_and_bytes():
    machine = Machine(flops=100.0, bandwidth=10.0)
    profile = made(
        Row("add", "Add", "forward", seconds=2.0, flops=1, bytes_read=6, bytes_written=4, steps=1),
        Row("dense", "Linear", "backward", seconds=4.0, flops=200, bytes_read=1, bytes_written=1, steps=2),
    )
    dense, add = rows_of(profile, machine)
    assert (dense.name, dense.phase, dense.steps, dense.seconds) == ("dense", "backward", 2, 4.0)
    assert (dense.roof, add.roof, add.bytes) == (0.5, 0.5, 10)
    assert "66.7%" in roofline_text("title", profile, machine)


def test_long_tables_are_cut_and_say_so():
    name = "encoder_{}/attention/a_rather_long_name"
    rows = (Row(name.format(n), "Linear", "backward", 1.0, 10**12, 10**12, 10**12, 10) for n in range(40))
    lines = roofline_text("title", made(*rows), Machine(1e12, 1e11)).splitlines()
    assert max(map(len, lines)) <= 110
    assert lines[-2] == "and 10 more, 10 s in all"


def test_bandwidth_is_one_of_this_world():
    assert 1e8 < bandwidth(1) < 1e13
