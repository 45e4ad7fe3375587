"""What an installed graphnn promises to pip, to type checkers and to the command line."""

import importlib.metadata
import importlib.resources
import importlib.util
import tomllib
from pathlib import Path

import pytest

import graphnn

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture
def installed() -> importlib.metadata.Distribution:
    try:
        return importlib.metadata.distribution("graphnn")
    except importlib.metadata.PackageNotFoundError:
        pytest.fail("graphnn is not installed here: run `python -m pip install -e .[test]`")


def test_version_is_the_same_everywhere(installed):
    assert installed.version == PROJECT["version"], (
        "pyproject.toml has changed since graphnn was installed: reinstall it"
    )
    assert graphnn.__version__ == PROJECT["version"]


def test_changelog_knows_the_version():
    changelog = (Path(__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{PROJECT['version']}]" in changelog, "CHANGELOG.md has no section for the version in pyproject.toml"


def test_types_are_shipped():
    assert importlib.resources.files("graphnn").joinpath("py.typed").is_file()


def test_console_script_can_be_called(installed):
    scripts = {entry.name: entry for entry in installed.entry_points if entry.group == "console_scripts"}
    assert set(scripts) == {"graphnn"}
    assert callable(scripts["graphnn"].load())


def test_graphnn_runs_as_a_module():
    assert importlib.util.find_spec("graphnn.__main__"), "`python -m graphnn` has no graphnn/__main__.py to run"


def test_extras_are_those_of_the_documentation(installed):
    expected = {"cuda12", "cuda13", "examples", "lint", "notebook", "peers", "tensorboard", "test"}
    assert set(PROJECT["optional-dependencies"]) == expected
    assert set(installed.metadata.get_all("Provides-Extra")) == expected, "graphnn was installed before: reinstall it"


def test_core_dependencies_have_lower_bounds_only():
    bounds = [requirement.partition(";")[0] for requirement in PROJECT["dependencies"]]
    assert bounds
    assert [bound for bound in bounds if ">=" not in bound or set(bound) & set("<~=!") != {"="}] == []


def test_a_failing_assert_fails_even_without_debug_code():
    """Under `python -O` the suite would pass whatever happened, did pytest not rewrite the asserts of its tests."""
    value = 1
    with pytest.raises(AssertionError):
        assert value == 2
