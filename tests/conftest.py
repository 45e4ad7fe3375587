"""Settings of the whole suite: Hypothesis profiles, optional parts (`peers`, `gpu`, `browser`) and their report."""

import atexit
import functools
import importlib.util
import os
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Under `python -O` the asserts of test modules still run, because pytest rewrites them. Helper modules beside this file
# are rewritten only if asked for, by each name under which they can be imported.
for helper in sorted(Path(__file__).parent.glob("*.py")):
    if not helper.stem.startswith(("conftest", "test_")):
        pytest.register_assert_rewrite(helper.stem, f"tests.{helper.stem}")

# One and the same set of examples in each run, so that a failure is never a matter of luck; more of them and new ones
# with `pytest --hypothesis-profile=thorough`.
settings.register_profile("suite", deadline=None, max_examples=25, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=200, print_blob=True)
settings.load_profile("suite")

# Machine code that tests make is kept apart from the user's; the processes of one run (they inherit the variable) share
# it, so that each kernel is compiled once.
if "GRAPHNN_CACHE_DIR" not in os.environ:
    _cache = tempfile.mkdtemp(prefix="graphnn-tests-")
    os.environ["GRAPHNN_CACHE_DIR"] = _cache
    atexit.register(shutil.rmtree, _cache, ignore_errors=True)


@functools.cache
def why_no_peers() -> str | None:
    return None if importlib.util.find_spec("torch") else "torch is not installed (extra: peers)"


@functools.cache
def why_no_gpu() -> str | None:
    if importlib.util.find_spec("cupy") is None:
        return "cupy is not installed (extras: cuda12, cuda13)"
    with warnings.catch_warnings(action="ignore"):  # cupy warns about a missing toolkit; here that is a finding
        try:
            import cupy

            devices = cupy.cuda.runtime.getDeviceCount()
        except Exception as error:  # a missing driver, toolkit or device each raise something else
            return f"cupy finds no CUDA device: {error}"
    return None if devices else "cupy finds no CUDA device"


@functools.cache
def why_no_browser() -> str | None:
    import browser  # not at the top: its asserts are to be rewritten first

    return None if browser.program() else f"no Chromium is on the PATH ({', '.join(browser.NAMES)})"


@dataclass(frozen=True)
class Part:
    """A part of the suite that needs what not every machine has; its tests carry the marker of the same name."""

    marker: str
    package: str
    why_missing: Callable[[], str | None]

    @property
    def switch(self) -> str:
        return f"GRAPHNN_REQUIRE_{self.marker.upper()}"

    @property
    def is_required(self) -> bool:
        return os.environ.get(self.switch, "0") not in ("", "0")


PARTS = (
    Part("peers", "torch", why_no_peers),
    Part("gpu", "cupy", why_no_gpu),
    Part("browser", "chromium", why_no_browser),
)
PROPERTY = "optional part"  # the key under which a test report names its part; it survives the way from a worker


def pytest_configure() -> None:
    for part in PARTS:
        if part.is_required and (why := part.why_missing()):
            raise pytest.UsageError(f"{part.switch}=1, but the tests marked {part.marker} cannot run: {why}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for part in PARTS:
            if item.get_closest_marker(part.marker):
                item.user_properties.append((PROPERTY, part.marker))
                if why := part.why_missing():
                    item.add_marker(pytest.mark.skip(reason=why))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Turn the skip of a required test into a failure, whatever asked for the skip."""
    report: Any = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        for part in PARTS:
            if part.is_required and item.get_closest_marker(part.marker):
                report.outcome = "failed"
                report.longrepr = f"{item.nodeid} was skipped under {part.switch}=1: {report.longrepr[2]}"
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many tests of each optional part ran, and loudly which part did not."""
    ran = Counter(name for state in ("passed", "failed") for name in _parts(terminalreporter, state))
    skipped = Counter(name for name in _parts(terminalreporter, "skipped"))
    for part in PARTS:
        if count := ran[part.marker]:
            terminalreporter.write_line(f"optional part {part.marker}: {count} ran")
        if count := skipped[part.marker]:
            why = part.why_missing() or "each skip has its own reason (pytest -rs)"
            text = f"DID NOT RUN: {count} {'test' if count == 1 else 'tests'} marked {part.marker}: {why}"
            terminalreporter.write_sep("!", text, red=True, bold=True)


def _parts(terminalreporter: Any, state: str) -> Iterator[str]:
    """The part of each report in `state`; a module that skipped itself counts as one test of the part it lacks."""
    for report in terminalreporter.stats.get(state, ()):
        if isinstance(report, pytest.CollectReport):
            yield from (part.marker for part in PARTS if f"'{part.package}'" in str(report.longrepr))
        else:
            yield from (value for key, value in report.user_properties if key == PROPERTY)
