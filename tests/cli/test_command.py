"""The command as a whole: exit codes, help, errors, and what goes to which stream."""

import argparse
import os

import pytest

from graphnn.cli import main
from graphnn.cli.command import COMMANDS, make_parser

NAMES = ("render", "summary", "explain", "check", "diff", "train", "predict", "demo", "doctor", "bench")


def commands():
    (action,) = [a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return action.choices


def test_the_commands_are_these_and_each_can_print_json():
    assert tuple(commands()) == NAMES
    assert len(COMMANDS) == len(NAMES)
    for parser in commands().values():
        assert {"--json", "--traceback"} <= set(parser._option_string_actions)


@pytest.mark.parametrize("name", NAMES)
def test_help_explains_every_option_in_lines_that_fit(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    captured = capsys.readouterr()
    assert not captured.err
    assert max(map(len, captured.out.splitlines())) <= 80
    assert all(action.help for action in commands()[name]._actions)


def test_without_a_command_help_goes_to_stderr_and_the_code_is_2(run):
    code, out, err = run()
    assert (code, out) == (2, b"")
    assert all(name in err for name in NAMES)
    assert max(map(len, err.splitlines())) <= 80


@pytest.mark.parametrize("arguments", [["paint"], ["summary"], ["train", "net.py:graph"], ["render", "net.py:graph"]])
def test_usage_errors_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    captured = capsys.readouterr()
    assert "usage: graphnn" in captured.err
    assert not captured.out


def test_results_go_to_stdout_and_nothing_else_does(run):
    code, out, err = run("summary", "net.py:graph")
    assert (code, err) == (0, "")
    assert b"dense" in out


def test_failures_are_one_message_on_stderr(run):
    code, out, err = run("summary", "net.py:number")
    assert (code, out) == (1, b"")
    assert err.startswith("graphnn: net.py:number: the name is no graph")
    assert "Traceback" not in err
    code, out, err = run("summary", "net.py:number", "--traceback")
    assert (code, out) == (1, b"")
    assert "Traceback" in err


def test_mistakes_of_graphnn_itself_are_reported_too(monkeypatch, capsys):
    monkeypatch.setattr("graphnn.cli.summary.load_target", lambda target: 1 / 0)
    assert main(["summary", "net.py:graph"]) == 1
    assert "unexpected ZeroDivisionError: division by zero" in capsys.readouterr().err


def test_ctrl_c_exits_with_130(monkeypatch, capsys):
    def interrupt(target):
        raise KeyboardInterrupt

    monkeypatch.setattr("graphnn.cli.summary.load_target", interrupt)
    assert main(["summary", "net.py:graph"]) == 130
    assert capsys.readouterr().err == "graphnn: interrupted\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signal between processes")
def test_sigterm_exits_with_143(begin):
    process = begin("demo", "--epochs", "100000")
    assert process.stderr.readline().startswith("training on")
    process.terminate()
    assert process.wait(60) == 143


def test_a_reader_that_leaves_early_is_no_error(begin):
    process = begin("explain", "net.py:graph", "--json")
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == ""
