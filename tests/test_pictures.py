"""The pictures of the pages are made by the code on the pages.

After a change of drawing, `python tests/test_pictures.py` makes them anew.
"""

import importlib.util
import shutil
import tempfile
from pathlib import Path

import pytest

from graphnn.cli import main
from pages import ROOT, blocks, run_page

PICTURES = ROOT / "docs" / "pictures"
ON_PICTURES = (
    "encoder.svg",
    "backward.svg",
    "schedule.svg",
    "overlay.svg",
    "failure.svg",
    "flops.svg",
    "memory.svg",
    "layer_ops.svg",
)
MADE_BY = {  # the page whose code writes a file of this name
    "residual.svg": ROOT / "README.md",
    "residual-dark.svg": ROOT / "README.md",
    "diff.svg": ROOT / "docs" / "command_line.md",
    **dict.fromkeys(ON_PICTURES, ROOT / "docs" / "pictures.md"),
}
WHY = "the `dot` of this machine may place boxes a little otherwise than pygraphviz's Graphviz"


def make_all(folder: Path) -> None:
    """Run each page up to the block that makes its last picture."""
    last = {page: name for name, page in MADE_BY.items()}
    for page, name in last.items():
        run_page(page, folder, until=name)


needs_its_graphviz = pytest.mark.skipif(importlib.util.find_spec("pygraphviz") is None, reason=WHY)


@needs_its_graphviz
def test_pictures_are_what_the_pages_make(tmp_path):
    make_all(tmp_path)
    for name in MADE_BY:
        made, kept = (tmp_path / name).read_bytes(), (PICTURES / name).read_bytes()
        assert made == kept, f"docs/pictures/{name} is out of date: run `python tests/test_pictures.py`"


@needs_its_graphviz
def test_the_command_of_the_readme_draws_the_same(tmp_path):
    declaration = next(block for block in blocks(ROOT / "README.md") if block.is_run)
    (tmp_path / "residual.py").write_text(declaration.text, encoding="utf-8")
    target, picture = f"{tmp_path / 'residual.py'}:graph", tmp_path / "residual.svg"
    assert main(["render", target, "-o", str(picture), "--theme", "light"]) == 0
    assert (tmp_path / "residual.svg").read_bytes() == (PICTURES / "residual.svg").read_bytes()


def test_each_picture_has_a_page_that_makes_it_and_one_that_shows_it():
    assert {path.name for path in PICTURES.iterdir()} == set(MADE_BY)
    for name, page in MADE_BY.items():
        assert any(name in block.text for block in blocks(page))
        text = page.read_text(encoding="utf-8")
        assert f"pictures/{name})" in text or f'docs/pictures/{name}"' in text


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        make_all(Path(scratch))
        for picture in MADE_BY:
            shutil.copyfile(Path(scratch) / picture, PICTURES / picture)
