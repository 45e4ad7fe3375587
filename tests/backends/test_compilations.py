"""Compilations: each is made once, those used last are kept, and Python is left as it was."""

import gc

import pytest

from graphnn.backends.compilations import PROGRAMS_KEPT, Compilations


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
def test_the_collector_rests_while_something_is_made_and_then_is_as_it_was(runs, fails):
    def make() -> bool:
        if fails:
            raise ZeroDivisionError
        return gc.isenabled()

    was = gc.isenabled()
    try:
        (gc.enable if runs else gc.disable)()
        kept = Compilations[bool]()
        if fails:
            with pytest.raises(ZeroDivisionError):
                kept.get("key", make)
        else:
            assert kept.get("key", make) is False
        assert gc.isenabled() == runs
    finally:
        (gc.enable if was else gc.disable)()
