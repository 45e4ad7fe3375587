"""graphnn bench: options, tables, files."""

import json
from pathlib import Path

import pytest

from graphnn.bench.workload import SIX
from graphnn.bench.workloads import WORKLOADS
from graphnn.cli import bench, main
from graphnn.cli.command import make_parser

QUICK = ("--device", "reference", "--seconds", "0.1", "--no-warm", "--threads", "1")


def test_a_short_run_prints_a_table_and_writes_numbers_and_a_trace(run):
    more = ("--peers", "none", "-o", "numbers.json", "--profile", "--trace", "%s.json")
    code, out, err = run("bench", "mlp_small", *QUICK, *more)
    assert code == 0, err
    lines = out.decode().splitlines()
    assert lines[0].startswith("training step")
    assert any(line.startswith("hidden_0 ") for line in lines)
    assert "mlp_small: measuring" in err
    numbers = json.loads(Path("numbers.json").read_text(encoding="utf-8"))
    assert numbers["workloads"][0]["results"][0]["contender"] == "graphnn"
    assert numbers["peak_flops_per_second"] > 1e8
    assert json.loads(Path("mlp_small.json").read_text(encoding="utf-8"))["traceEvents"]


def test_json_alone_is_on_stdout(run):
    code, out, err = run("bench", "mlp_small", *QUICK, "--peers", "none", "--json", "--profile")
    assert code == 0, err
    assert json.loads(out)["workloads"][0]["name"] == "mlp_small"
    assert "hidden_0" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mlp"], "there is no such workload"),
        (["--peers", "numpy"], "there is no such peer"),
        (["--seconds", "0"], "there is nothing to measure"),
        (["--threads", "0"], "there is nothing to measure"),
        (["mlp_small", "mlp_large", "--trace", "one.json"], "several traces, one file"),
        (["-o", "no/such/folder.json"], "there is no folder"),
    ],
)
def test_mistakes_are_found_before_anything_runs(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(bench, "peak", lambda threads: pytest.fail("it began to measure"))
    assert main(["bench", *arguments]) == 1
    assert message in capsys.readouterr().err


class Empty:
    def to_dict(self):
        return {}


def test_the_six_are_meant_where_nothing_is_named(monkeypatch):
    chosen = []
    monkeypatch.setattr(bench, "peak", lambda threads: 1e9)
    monkeypatch.setattr(bench, "compare", lambda workload, settings, say: chosen.append(workload))
    monkeypatch.setattr(bench, "Report", lambda *parts: Empty())
    monkeypatch.setattr(bench, "write", lambda path, content: None)
    for names, expected in (([], [w for w in WORKLOADS.values() if w.group == SIX]), (["all"], [*WORKLOADS.values()])):
        chosen.clear()
        options = make_parser().parse_args(["bench", *names, "--peers", "none", "-o", "-"])
        assert bench.run(options) == 0
        assert chosen == expected
