"""graphnn explain --native."""

import json

from graphnn.cli.command import main


def test_native_steps_and_their_code(capsys):
    assert main(["explain", "net.py:graph", "--native", "--size", "batch=5"]) == 0
    text = capsys.readouterr().out
    assert "inference on cpu" in text
    assert "@ W + b" in text
    assert main(["explain", "net.py:graph", "--native", "--training", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [program["name"] for program in data["programs"]] == ["forward", "backward"]
    assert main(["explain", "net.py:graph", "--native", "--step", "0", "--ir"]) == 0
    assert "define i64" in capsys.readouterr().out


def test_code_is_asked_for_with_native(capsys):
    assert main(["explain", "net.py:graph", "--ir"]) == 1
    assert "--native" in capsys.readouterr().err


def test_parts_of_the_other_explanation_are_refused_beside_native(capsys):
    for option in ("--program", "--plan", "--raw"):
        assert main(["explain", "net.py:graph", "--native", option]) == 1
        assert "fix: leave out --native" in capsys.readouterr().err
