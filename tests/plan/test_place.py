"""Places of blocks in the arena: never two at one place, and close to the most that is alive at once."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from graphnn.plan import place as place_file
from graphnn.plan.place import Block, live_peak, place
from graphnn.plan.plan import ALIGNMENT

LINE = 64


def blocks_of(*rows):
    return [Block(nbytes, first, last, False) for nbytes, first, last in rows]


def alive_at_once(blocks):
    steps = range(min((b.first for b in blocks), default=0), max((b.last for b in blocks), default=0) + 1)
    lines = [sum(-(-b.nbytes // LINE) for b in blocks if b.first <= step <= b.last) for step in steps]
    return LINE * max(lines, default=0)


def assert_apart(blocks, size):
    for i, a in enumerate(blocks):
        assert a.offset is not None
        assert a.offset % ALIGNMENT == 0
        assert 0 <= a.offset <= a.offset + a.nbytes <= size
        for b in blocks[:i]:
            apart = a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset
            assert apart or a.last < b.first or b.last < a.first


LISTS = st.lists(
    st.tuples(st.integers(0, 40).map(lambda n: 37 * n), st.integers(-1, 30), st.integers(0, 12)).map(
        lambda t: (t[0], t[1], t[1] + t[2])
    ),
    max_size=40,
)


@settings(max_examples=100)
@given(LISTS)
@example([])
@example([(0, 0, 0)])
@example([(1, 0, 1), (64, 1, 2), (65, 2, 3)])
def test_blocks_alive_together_lie_apart(rows):
    for limit in (place_file.SMALL, 0):  # 0: the sweep alone, as for large programs
        blocks = blocks_of(*rows)
        before, place_file.SMALL = place_file.SMALL, limit
        try:
            size = place(blocks)
        finally:
            place_file.SMALL = before
        assert_apart(blocks, size)
        needed = alive_at_once(blocks)
        assert live_peak(blocks) == needed
        assert size >= needed
        assert limit == 0 or size <= 1.05 * needed


def test_a_case_in_which_first_come_first_served_is_not_enough():
    """The best places leave a gap below a block that comes early, for one that comes late."""
    rows = [(1600, 0, 6), (12800, 0, 4), (3200, 4, 5), (3200, 5, 10), (12800, 6, 8), (3200, 8, 9)]
    blocks = blocks_of(*rows)
    assert place(blocks) == alive_at_once(blocks) == 3200 + 12800 + 3200


def test_neighbouring_gaps_become_one(monkeypatch):
    """Two small blocks between two large ones, of which the lower is free first; also backward in time."""
    monkeypatch.setattr(place_file, "SMALL", 0)
    assert place(blocks_of((128, 0, 0), (64, 1, 1), (64, 1, 2), (128, 3, 3))) == 128
    assert place(blocks_of((128, 0, 0), (64, 1, 2), (64, 1, 1), (128, 3, 3))) == 128


def test_the_same_blocks_get_the_same_places():
    rows = [(64 * (7 * n % 11 + 1), n, n + 5 * n % 7) for n in range(60)]
    first, second = blocks_of(*rows), blocks_of(*rows)
    assert place(first) == place(second)
    assert [block.offset for block in first] == [block.offset for block in second]
