"""The commands on docs/command_line.md work as written."""

import shlex
from pathlib import Path

import pytest

from graphnn.cli import main
from graphnn.cli.command import COMMANDS, EPILOG
from pages import ROOT, blocks, run_page

PAGE = ROOT / "docs" / "command_line.md"


@pytest.fixture
def files(folder):
    """What a reader has who followed the page."""
    declaration = next(block for block in blocks(PAGE) if block.is_run)
    Path("residual.py").write_text(declaration.text, encoding="utf-8")
    run_page(PAGE, folder)


def test_the_commands_of_the_page_run(files, capsys):
    lines = [line for block in blocks(PAGE) if block.language == "console" for line in block.text.splitlines()]
    assert len(lines) >= 10
    for line in lines:
        program, *arguments = shlex.split(line.partition(" > ")[0])
        assert (program, main(arguments)) == ("graphnn", 0), capsys.readouterr().err
    for name in ("residual.svg", "diff.svg", "residual.npz", "history.csv", "run.npz", "run.jsonl", "outputs.npz"):
        assert Path(name).stat().st_size > 0


def test_the_page_lists_all_commands_and_exit_codes():
    text = PAGE.read_text(encoding="utf-8")
    for module in COMMANDS:
        assert f"\n| `{module.__name__.rpartition('.')[2]}` | " in text
    for code in (0, 1, 2, 3, 130, 143):
        assert f"\n| {code} | " in text
        assert f"{code} " in EPILOG
