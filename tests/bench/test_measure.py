"""Processes of contenders, turns, and what is made of them."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from graphnn.bench import measure as measuring
from graphnn.bench.measure import CHECKED_STEPS, ROUNDS, Settings, check_peers, compare, measure
from graphnn.bench.process import PAUSES, Entry, Process
from graphnn.bench.workloads import WORKLOADS
from graphnn.errors import BackendError, OptionError


class Recorded:
    """A process that makes no step, but notes who was asked, and answers that a step takes `seconds`."""

    def __init__(self, name, seconds, notes):
        self.name, self.seconds, self.notes = name, seconds, notes

    def run(self, steps):
        self.notes.append((self.name, steps))
        return [99.0, *[self.seconds] * (steps - 1)]


def entry(folder, **changes):
    return Entry(**{
        "contender": "graphnn", "workload": "mlp_small", "threads": 1, "device": "reference",
        "arrays": "", "cache": str(folder), **changes,
    })  # fmt: skip


def stands_still(pid):
    """Whether it stops; the signal is on its way for a moment."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "T":
            return True
        time.sleep(0.01)
    return False


def test_contenders_take_turns_of_equal_length(monkeypatch):
    monkeypatch.setattr(measuring, "WARM_UP_SECONDS", 0.0)
    notes = []
    processes = [Recorded("slow", 0.25, notes), Recorded("fast", 0.125, notes)]
    times = measure(processes, seconds=ROUNDS * 1.0)
    turns = notes[2:]  # behind the warming up
    assert turns == [("slow", 5), ("fast", 9)] * ROUNDS
    assert times == [[[0.25] * 4] * ROUNDS, [[0.125] * 8] * ROUNDS]  # the first step of a turn does not count


def test_a_process_answers_and_stands_still_in_between(tmp_path):
    with Process(entry(tmp_path)) as process:
        process.run(CHECKED_STEPS - 1)
        assert len(process.losses) == CHECKED_STEPS
        assert process.start_seconds > 0
        assert all(seconds > 0 for seconds in process.run(4))
        assert len(process.losses) == CHECKED_STEPS + 4
        if sys.platform == "linux" and PAUSES:
            assert stands_still(process.pid)
            assert 0 < process.peak_memory < 2**30
    assert not Path(f"/proc/{process.pid}").exists()


def test_a_process_that_fails_says_why(tmp_path):
    with pytest.raises(BackendError, match=r"(?s)graphnn on nowhere: a contender failed.*there is no such workload"):
        Process(entry(tmp_path, workload="nowhere"))


def test_peers_are_known_and_installed(monkeypatch):
    with pytest.raises(OptionError, match="numpy"):
        check_peers(["numpy"])
    monkeypatch.setattr(measuring, "installed_peers", lambda: ("torch", "compile"))
    assert check_peers(["compile", "torch", "torch"]) == ("torch", "compile")
    with pytest.raises(BackendError, match=r"expected: jax"):
        check_peers(["jax"])


@pytest.mark.peers
def test_a_comparison_has_all_numbers():
    said = []
    settings = Settings(("torch",), threads=1, seconds=0.2, device="reference", warm=True)
    comparison = compare(WORKLOADS["mlp_small"], settings, said.append)
    assert [result.contender for result in comparison.results] == ["graphnn", "torch"]
    ours, theirs = comparison.results
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-4)
    for result in comparison.results:
        assert len(result.rounds) == ROUNDS
        assert 0 < result.best <= result.seconds < 1
        assert min(result.cold, result.warm) > 0
    assert comparison.ratios() == {"torch": theirs.seconds / ours.seconds}
    assert said[0] == "mlp_small: starting graphnn"
