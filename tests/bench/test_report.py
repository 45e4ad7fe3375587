"""Tables and data from made-up numbers."""

import json
from dataclasses import replace

import pytest

from graphnn.bench.measure import Comparison, Result, Settings
from graphnn.bench.report import Report, geometric_mean, shortest
from graphnn.bench.workload import SIX
from graphnn.bench.workloads import WORKLOADS

PEERS = ("torch", "compile", "jax")


def result(name, milliseconds, **changes):
    seconds = milliseconds / 1e3
    made = Result(name, (seconds,) * 7, seconds * 0.9, 700, 123.456, 12.345, 1234 * 2**20, (2.0, 1.9, 1.8))
    return replace(made, **changes)


def report(**changes):
    """graphnn takes 2 ms; peers 2, 4 and 8 times as long, or the other way round; on modules twice that."""
    settings = Settings(PEERS, threads=2, seconds=3.0)
    comparisons = []
    for index, workload in enumerate(WORKLOADS.values()):
        scale = 2 if workload.group == SIX else 4
        factors = (2, 4, 8) if index % 2 else (8, 4, 2)
        peers = (result(name, scale * factor) for name, factor in zip(PEERS, factors, strict=True))
        comparisons.append(Comparison(workload, 200_000_000, (result("graphnn", 2.0), *peers)))
    versions = {"graphnn": "0.1.0", "torch": "2.13.0+cpu", "on": "a processor, 2 cores"}
    return replace(Report(settings, 400e9, tuple(comparisons), versions), **changes)


def test_means_are_geometric_and_by_group():
    means = report().means()
    assert set(means) == {"networks", "modules"}
    assert means["networks"] == pytest.approx({"torch": 4.0, "compile": 4.0, "jax": 4.0, "best": 2.0})
    assert means["modules"] == pytest.approx({"torch": 8.0, "compile": 8.0, "jax": 8.0, "best": 4.0})
    assert geometric_mean([1.0, 100.0]) == pytest.approx(10.0)


def test_the_tables_fit_and_hold_the_numbers():
    lines = str(report()).splitlines()
    assert max(map(len, lines)) <= 110
    row = next(line for line in lines if line.startswith("mlp_small"))
    assert " ".join(row.split()) == "mlp_small 0.2 2.00 16.0 (8.00) 8.00 (4.00) 4.00 (2.00) 2.00 100 25%"
    costs = [line for line in lines if line.startswith("mlp_small")][1]
    assert costs.split() == ["mlp_small", *["1234", "123.46", "12.35"] * 4]
    assert "share of 400 GFLOP/s, the FMA peak of 2 threads" in str(report())
    assert "NOISE" not in str(report())


def test_noise_is_told():
    first = report().comparisons[0]
    uneven = replace(first, results=(result("graphnn", 2.0, rounds=(0.002, 0.002, 0.004)), *first.results[1:]))
    text = str(report(comparisons=(uneven,) * 20))
    assert "mlp_small (2.0)" in text
    assert max(map(len, text.splitlines())) <= 110


def test_the_shortest_steps_can_be_compared_too():
    best = shortest(report())
    assert best.means()["networks"] == pytest.approx(
        report().means()["networks"]
    )  # in these numbers each is 0.9 times its median
    assert best.comparisons[0].ours.seconds == pytest.approx(0.0018)


def test_without_peers_memory_and_peak_there_are_dashes():
    alone = Comparison(WORKLOADS["resnet"], 10**9, (result("graphnn", 5.0, memory=None, warm=None),))
    text = str(report(settings=Settings((), 1, 1.0), peak=None, comparisons=(alone,)))
    rows = [line.split() for line in text.splitlines() if line.startswith("resnet")]
    assert rows == [["resnet", "1", "5.00", "-", "200", "-"], ["resnet", "-", "123.46", "-"]]


def test_the_data_are_json_and_complete():
    data = json.loads(json.dumps(report().to_dict(), allow_nan=False))
    assert data["peak_flops_per_second"] == 400e9
    first = data["workloads"][0]
    assert first["share_of_peak"] == pytest.approx(0.25)
    assert first["ratios"] == {"torch": 8.0, "compile": 4.0, "jax": 2.0}
    assert [entry["contender"] for entry in first["results"]] == ["graphnn", *PEERS]
    assert first["results"][0]["seconds"] == 0.002
