"""render, summary, explain, diff: what a network is."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from graphnn.cli import main
from graphnn.cli.target import load_graph, load_model
from graphnn.graph.diff import diff

# -- summary and render ------------------------------------------------------------------------------------------------


def test_summary_prints_the_table_or_json(capsys):
    assert main(["summary", "net.py:graph"]) == 0
    assert "67 trainable" in capsys.readouterr().out
    assert main(["summary", "net.py:graph", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trainable"] == 67
    assert main(["summary", "net.py:model"]) == 0
    assert "27 trainable, 40 frozen" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["svg", "html", "dot"])
def test_a_picture_in_a_file_and_on_stdout_agree(ending, capsys, run):
    assert main(["render", "net.py:graph", "-o", f"net.{ending}"]) == 0
    size = Path(f"net.{ending}").stat().st_size
    assert capsys.readouterr().out == f"net.{ending}: {size:,} bytes\n"
    code, out, err = run("render", "net.py:graph", "-o", "-", "--format", ending)
    assert (code, err) == (0, "")
    assert out == Path(f"net.{ending}").read_bytes()


def test_render_says_what_it_wrote(capsys):
    assert main(["render", "net.py:graph", "-o", "net.svg", "--view", "backward", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data == {"file": "net.svg", "format": "svg", "view": "backward", "bytes": Path("net.svg").stat().st_size}


def test_options_reach_the_drawing(capsys):
    assert main(["render", "net.py:graph", "-o", "-", "--direction", "right", "--theme", "dark"]) == 0
    printed = capsys.readouterr().out
    assert printed == load_graph("net.py:graph").to_svg(direction="right", theme="dark")
    assert printed != load_graph("net.py:graph").to_svg()


def test_what_is_shown_on_nodes_takes_sizes_and_a_device(capsys):
    shown = ["--show", "flops", "--show", "memory", "--show", "device", "--size", "batch=2", "--device", "reference"]
    for target in ("net.py:graph", "net.py:model"):
        assert main(["render", target, "-o", "-", *shown]) == 0
        printed = capsys.readouterr().out
        assert all(text in printed for text in ("144 FLOP forward", "160 B parameters", "on reference"))  # of `dense`


RUN_VIEWS = [("profile", of) for of in ("seconds", "flops", "bytes")] + [
    ("values", of) for of in ("outputs", "gradients")
]


@pytest.mark.parametrize(("view", "of"), RUN_VIEWS)
def test_numbers_of_a_run_lie_over_the_picture(view, of, capsys):
    for target in ("net.py:graph", "net.py:model"):
        how = ["--view", view, "--of", of, "--size", "batch=4", "--device", "reference"]
        assert main(["render", target, "-o", "-", *how]) == 0
        printed = capsys.readouterr().out
        assert ElementTree.fromstring(printed).tag.endswith("svg")
        assert 'data-heat="' in printed


@pytest.mark.parametrize(("view", "of"), [("profile", "bytes"), ("values", "gradients")])
def test_a_page_has_the_numbers_of_a_run(view, of, capsys):
    for target in ("net.py:graph", "net.py:model"):
        how = ["--view", view, "--of", of, "--size", "batch=4", "--device", "reference"]
        assert main(["render", target, "-o", "net.html", *how]) == 0
        assert capsys.readouterr().out.startswith("net.html: ")
        (payload,) = re.findall(r'id="data">(.*?)</script>', Path("net.html").read_text(encoding="utf-8"))
        titles = [overlay["title"] for overlay in json.loads(payload)["overlays"]]
        first = {
            "bytes": "bytes read and written of forward and backward",
            "gradients": "largest gradient by magnitude",
        }
        assert titles[0] == first[of]
        assert len(titles) == {"profile": 3, "values": 2}[view]


def test_a_model_of_a_file_is_drawn_with_its_own_numbers(capsys):
    how = ["-o", "-", "--view", "values", "--size", "batch=4"]
    assert main(["render", "net.py:model", *how, "--device", "reference"]) == 0
    printed = capsys.readouterr().out
    assert printed == load_model("net.py:model", device="reference").to_svg("values", sizes={"batch": 4})
    assert printed != load_graph("net.py:graph").to_svg("values", sizes={"batch": 4}, device="reference")


def test_programs_plans_and_their_memory_are_views_too(capsys):
    pictures = []
    for view in ("program", "plan", "memory"):
        for more in ([], ["--part", "training"], ["--size", "batch=64"], ["--stage", "kernels"]):
            assert main(["render", "net.py:graph", "-o", "-", "--view", view, *more]) == 0
            pictures.append(capsys.readouterr().out)
            assert ElementTree.fromstring(pictures[-1]).tag.endswith("svg")
    assert len(set(pictures)) == 12
    assert main(["render", "net.py:graph", "-o", "net.html", "--view", "memory"]) == 1
    assert "expected: .svg\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "net.png"], "the file ending names no format"),
        (["-o", "net.svg", "--depth", "-1"], "not a depth"),
        (["-o", "missing/net.svg"], "No such file or directory: 'missing/net.svg'"),
        (["-o", "net.svg", "--part", "training"], "with one of the views memory, program, plan"),
    ],
)
def test_a_picture_that_cannot_be_made(arguments, words, capsys):
    assert main(["render", "net.py:graph", *arguments]) == 1
    assert words in capsys.readouterr().err
    assert not list(Path().glob("net.svg"))


def test_a_target_that_cannot_be_connected_is_drawn_so_far(capsys):
    text = Path("net.py").read_text(encoding="utf-8") + "layers.Add(name='join')(x, hidden)\n"
    Path("bad.py").write_text(text, encoding="utf-8")
    assert main(["render", "bad.py:graph", "-o", "bad.svg", "--theme", "dark"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "bad.svg: the graph so far" in captured.err
    assert "join: Add needs inputs of equal shape" in captured.err
    roles = [part.get("data-role") for part in ElementTree.parse("bad.svg").iter() if part.get("data-role")]
    assert roles == ["input", "layer", "layer", "failure"]
    assert main(["render", "bad.py:graph", "-o", "bad.dot"]) == 1
    assert not Path("bad.dot").exists()


@pytest.mark.parametrize(("option", "value"), [("--view", "inside"), ("--of", "money"), ("--theme", "pink")])
def test_a_choice_that_there_is_not_is_a_usage_error(option, value, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["render", "net.py:graph", "-o", "net.svg", option, value])
    assert caught.value.code == 2
    assert f"invalid choice: {value!r}" in capsys.readouterr().err


@pytest.mark.parametrize("view", ["memory", "program", "plan"])
def test_pictures_of_programs_have_themes_too(view, capsys):
    arguments = ["render", "net.py:graph", "-o", "-", "--view", view, "--theme", "dark"]
    assert main(arguments) == 0
    assert "prefers-color-scheme" not in capsys.readouterr().out
    assert main(["diff", "net.py:graph", "net.py:other", "-o", "-", "--theme", "dark"]) == 0
    assert capsys.readouterr().out == diff(load_graph("net.py:graph"), load_graph("net.py:other")).to_svg("dark")


# -- explain -----------------------------------------------------------------------------------------------------------


def test_explain_prints_program_and_plan(capsys):
    assert main(["explain", "net.py:graph", "--size", "batch=5"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("graph tiny with batch=5\n")
    assert "float32[5, 8] = MatMul()(%0, %1)  # dense" in out
    assert "5 steps, 10 buffers, arena" in out
    assert main(["explain", "net.py:graph", "--plan"]) == 0
    assert "program {" not in capsys.readouterr().out
    assert main(["explain", "net.py:graph", "--program"]) == 0
    assert "arena" not in capsys.readouterr().out


def test_explain_as_json_is_the_plan_itself(capsys):
    assert main(["explain", "net.py:graph", "--json", "--input", "x=2,4"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["sizes"] == {"batch": 2}
    plan = data["plan"]
    assert [step["path"] for step in plan["steps"]] == ["dense", "dense", "tanh", "logits", "logits"]
    ends = [b["offset"] + b["bytes"] for b in plan["buffers"] if b["offset"] is not None]
    assert max(ends) <= plan["arena_bytes"]
    assert plan["buffers"][0]["spec"] == "float32[2, 4]"


def test_explain_with_gradients_has_the_backward_ops(capsys):
    assert main(["explain", "net.py:graph", "--program", "--gradients"]) == 0
    assert "(backward)" in capsys.readouterr().out
    assert main(["explain", "net.py:graph", "--program", "--gradients", "--raw", "--training"]) == 0
    assert "(backward)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "batch"], "not a name with a value"),
        (["--size", "batch=many"], "not a size"),
        (["--size", "time=3"], "no such dimension"),
        (["--input", "z=3,4"], "no such input"),
        (["--input", "x=3"], "another number of axes"),
        (["--input", "x=3,5"], "the shape does not fit"),
        (["--input", "x=3,4", "--size", "batch=2"], "two sizes for `batch`"),
    ],
)
def test_sizes_that_make_no_sense(arguments, words, capsys):
    assert main(["explain", "net.py:graph", *arguments]) == 1
    assert words in capsys.readouterr().err


# -- diff --------------------------------------------------------------------------------------------------------------


def test_diff_prints_text_json_or_a_picture(capsys):
    found = diff(load_graph("net.py:graph"), load_graph("net.py:other"))
    pair = ["net.py:graph", "net.py:other"]
    assert main(["diff", *pair]) == 0
    assert capsys.readouterr().out == f"{found}\n"
    assert main(["diff", *pair, "--json", "-o", "diff.svg"]) == 0
    assert json.loads(capsys.readouterr().out) == found.to_dict()
    assert Path("diff.svg").read_text(encoding="utf-8") == found.to_svg()
    assert main(["diff", *pair, "-o", "-"]) == 0
    assert ElementTree.fromstring(capsys.readouterr().out).tag.endswith("svg")


def test_diff_exits_with_1_for_differences_where_asked(capsys):
    assert main(["diff", "net.py:graph", "net.py:other", "--exit-code"]) == 1
    assert main(["diff", "net.py:graph", "net.py:build", "--exit-code"]) == 0
    assert capsys.readouterr().out.endswith("tiny -> tiny: no differences\n")


@pytest.mark.parametrize(("variable", "value", "is_coloured"), [("TERM", "xterm", True), ("NO_COLOR", "1", False)])
def test_colour_is_for_terminals_without_no_color(variable, value, is_coloured, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["diff", "net.py:graph", "net.py:other"]) == 0
    assert ("\033[32m  +  added" in capsys.readouterr().out) == is_coloured
