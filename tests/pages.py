"""Pages: the Markdown files of the project, the code blocks in them, and a way to run those of one page as written."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
END_OF_BLOCK = "-- end of block --"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Args:
        language: the word behind the fence.
        text: its lines, without the fences.
        first: line of the opening fence, counted from 0.
        last: line of the closing fence.
        mark: the text of an HTML comment in the line before the fence, such as "ci:main".
    """

    language: str
    text: str
    first: int
    last: int
    mark: str

    @property
    def is_run(self) -> bool:
        """Python, and no quotation of a file."""
        return self.language == "python" and not self.mark.startswith("from ")


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    fences = [index for index, line in enumerate(lines) if line.startswith("```")]
    if len(fences) % 2:
        raise ValueError(f"{page}: a fence is not closed")
    return [_block(lines, first, last) for first, last in zip(fences[::2], fences[1::2], strict=True)]


def _block(lines: list[str], first: int, last: int) -> Block:
    comment = re.fullmatch(r"<!-- (.*) -->", lines[first - 1]) if first else None
    text = "\n".join(lines[first + 1 : last])
    return Block(lines[first].strip("`").strip(), text, first, last, comment[1] if comment else "")


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for block in blocks(page):
        lines[block.first : block.last + 1] = [""] * (block.last + 1 - block.first)
    return "\n".join(lines)


def script_of(page: Path, until: str = "") -> str:
    """The Python blocks of a page as one script with the line numbers of the page; it marks the end of each block.

    Args:
        page: a Markdown file.
        until: the last block is the first one in which this text occurs; "" for all blocks.
    """
    length = len(page.read_text(encoding="utf-8").splitlines())
    lines = [""] * length
    for block in filter(lambda block: block.is_run, blocks(page)):
        lines[block.first + 1 : block.last] = block.text.splitlines()
        lines[block.last] = f"print({END_OF_BLOCK!r})"
        if until and until in block.text:
            break
    return "\n".join(lines) + "\n"


def run_page(page: Path, folder: Path, until: str = "") -> list[str]:
    """Run the Python blocks of a page in order, in one process of its own whose folder is `folder`.

    Warnings are errors, as for the tests. For `until` see script_of.

    Returns:
        What each block printed.
    """
    script = folder / f"{page.stem}.py"
    script.write_text(script_of(page, until), encoding="utf-8")
    command = [sys.executable, "-W", "error", str(script)]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]  # this checkout, wherever `folder` lies
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{page.relative_to(ROOT)} does not run:\n{done.stderr}")
    return done.stdout.split(END_OF_BLOCK + "\n")[:-1]


def expected_outputs(page: Path) -> list[str | None]:
    """For each Python block that is run: the `text` block right behind it, which shows what it prints."""
    found, result = blocks(page), []
    for index, block in enumerate(found):
        if block.is_run:
            after = found[index + 1] if index + 1 < len(found) else None
            shown = after is not None and after.language == "text" and after.first <= block.last + 2
            result.append(after.text if after is not None and shown else None)
    return result


def is_shown(expected: str, printed: str) -> bool:
    """Whether `printed` is what the page shows; `...` stands for anything, spaces at line ends do not count."""
    want, got = (text.rstrip("\n") + "\n" for text in (expected, _without_trailing_spaces(printed)))
    return doctest.OutputChecker().check_output(want, got, doctest.ELLIPSIS)


def _without_trailing_spaces(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines())
