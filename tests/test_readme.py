"""The README and all other pages keep what they show: each Python block runs as written and prints what is shown."""

import inspect
import re
import shlex
import tomllib

import pytest

from graphnn import initializers, layers, losses, metrics, modules, optimizers, schedules
from graphnn.graph.layer import Layer
from pages import PAGES, ROOT, blocks, expected_outputs, is_shown, run_page

README = ROOT / "README.md"
RUN = [page for page in PAGES if any(block.is_run for block in blocks(page))]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_runs_and_prints_what_it_shows(page, tmp_path):
    printed = run_page(page, tmp_path)
    for expected, got in zip(expected_outputs(page), printed, strict=True):
        assert expected is None or is_shown(expected, got), f"the page shows\n{expected}\nbut the block prints\n{got}"


def test_some_pages_show_what_they_print():
    shown = [text for page in RUN for text in expected_outputs(page) if text is not None]
    assert len(shown) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_quoted_code_stands_in_the_file_it_comes_from(page):
    for block in blocks(page):
        if block.mark.startswith("from "):
            source = (ROOT / block.mark.removeprefix("from ")).read_text(encoding="utf-8")
            assert f"\n{block.text}\n" in f"\n{source}", (
                f"{block.mark} has changed: bring line {block.first + 1} up to date"
            )


# -- the commands ------------------------------------------------------------------------------------------------------


def command(name: str) -> str:
    (found,) = (block.text for block in blocks(README) if block.mark == f"ci:{name}")
    return found


@pytest.mark.parametrize(
    ("name", "extra", "job"), [("main", "examples", "examples/digits.py"), ("test", "test", "-m pytest -q -n 2")]
)
def test_one_command_installs_and_does_the_job(name, extra, job):
    """With nothing but Python and pip: it installs the extra that has what the job needs, then runs the job."""
    install, run = command(name).split(" && ")
    assert shlex.split(install) == ["python", "-m", "pip", "install", "-e", f".[{extra}]"]
    assert run == f"python {job}"
    assert (
        extra
        in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    )
    assert not job.startswith("examples") or (ROOT / job).is_file()


# -- the tables --------------------------------------------------------------------------------------------------------


def listed(heading: str) -> set[str]:
    """All names in backticks in the table rows under a heading."""
    section = README.read_text(encoding="utf-8").split(f"\n### {heading}\n")[1].split("\n#")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def concrete(module: object, base: type) -> set[str]:
    classes = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, base)]
    return {kind.__name__ for kind in classes if not inspect.isabstract(kind)}


def registered(base: type) -> set[str]:
    return {name for name, kind in base.registry.items() if not inspect.isabstract(kind) and is_own(kind)}


def is_own(kind: type) -> bool:
    return kind.__module__.startswith("graphnn.")


def test_tables_list_all_there_is():
    assert listed("Layers") == concrete(layers, Layer)
    assert listed("Modules") == concrete(modules, Layer)
    training = {
        *registered(losses.Loss),
        *registered(metrics.Metric),
        *registered(optimizers.Optimizer),
        *registered(schedules.Schedule),
        *registered(initializers.Initializer),
    }
    assert listed("For training") == training
