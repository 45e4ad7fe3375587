"""Compilations: each is made once, those used last are kept, and Python is left as it was."""

import gc
import threading

import pytest

from graphnn.backends.compilations import NEVER, PROGRAMS_KEPT, Compilations


def test_each_is_made_once_and_those_used_last_are_kept():
    kept, made = Compilations[int](), list[int]()

    def make(number: int):
        return lambda: made.append(number) or number

    for number in range(PROGRAMS_KEPT):
        assert kept.get(number, make(number)) == number
    assert kept.get(0, make(0)) == 0
    kept.get(PROGRAMS_KEPT, make(PROGRAMS_KEPT))
    assert made == list(range(PROGRAMS_KEPT + 1))
    assert 0 in kept.values()
    assert 1 not in kept.values()


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("runs", [True, False])
def test_the_collector_is_as_it_was_when_something_has_been_made(runs, fails):
    was, thresholds = gc.isenabled(), gc.get_threshold()
    seen = []

    def make() -> int:
        seen.append((gc.isenabled(), gc.get_threshold()))
        return 1 // (not fails)

    try:
        (gc.enable if runs else gc.disable)()
        kept = Compilations[int]()
        if fails:
            with pytest.raises(ZeroDivisionError):
                kept.get("key", make)
        else:
            kept.get("key", make)
        assert (gc.isenabled(), gc.get_threshold()) == (runs, thresholds)
        assert seen == [(runs, (*thresholds[:2], NEVER))]
    finally:
        (gc.enable if was else gc.disable)()


def test_two_threads_that_compile_at_once_leave_the_collector_as_it_was():
    """Each begins before the other has ended; whichever ends last must not keep what the other one had set."""
    thresholds, inside, go_on = gc.get_threshold(), threading.Event(), threading.Event()
    kept = Compilations[int]()

    def waits() -> int:
        inside.set()
        assert go_on.wait(10)
        return 1

    def ends_after_the_first() -> int:
        go_on.set()
        first.join(10)
        return 2

    first = threading.Thread(target=lambda: kept.get("first", waits))
    first.start()
    assert inside.wait(10)
    kept.get("second", ends_after_the_first)
    assert sorted(kept.values()) == [1, 2]
    assert gc.get_threshold() == thresholds
