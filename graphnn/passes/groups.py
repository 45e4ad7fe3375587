"""Groups: instructions gathered step by step into groups whose graph stays free of cycles."""

from __future__ import annotations

from collections.abc import Iterable

SEARCH_LIMIT = 512  # groups that one question may look at: beyond, the answer is "no", so that time stays linear


class Groups:
    """A partition of instructions, given by their numbers, into groups that can run one after the other.

    Each group has a level above the levels of all groups that it reads. So a path from one group to another leads
    upwards only, and groups of one level never depend on each other.
    """

    def __init__(self) -> None:
        self.members: dict[int, list[int]] = {}
        self._group: dict[int, int] = {}
        self._level: dict[int, int] = {}
        self._before: dict[int, set[int]] = {}
        self._behind: dict[int, set[int]] = {}

    def add(self, number: int, before: Iterable[int]) -> int:
        """A new group of one instruction, which reads what the instructions `before` make; its name."""
        groups = {self._group[instruction] for instruction in before}
        self.members[number], self._group[number] = [number], number
        self._before[number], self._behind[number] = groups, set()
        self._level[number] = 1 + max((self._level[group] for group in groups), default=-1)
        for group in groups:
            self._behind[group].add(number)
        return number

    def of(self, number: int) -> int:
        """The group that an instruction is in."""
        return self._group[number]

    def can_join(self, a: int, b: int) -> bool:
        """Whether no third group stands on a path between the two; also False where finding that out takes long."""
        low, high = (a, b) if self._level[a] <= self._level[b] else (b, a)
        return not self._leads(low, high) and self._risen(low, high) is not None

    def join(self, a: int, b: int) -> int:
        """One group of both; its name. `can_join` must hold."""
        low, high = (a, b) if self._level[a] <= self._level[b] else (b, a)
        self._level.update(self._risen(low, high) or {})
        small, large = (a, b) if len(self._behind[a]) < len(self._behind[b]) else (b, a)
        self._level[large] = max(self._level[a], self._level[b])
        self.members[large] = sorted(self.members[large] + self.members[small])
        self._group.update(dict.fromkeys(self.members.pop(small), large))
        self._redirect(small, large)
        return large

    def _redirect(self, small: int, large: int) -> None:
        for group in self._before.pop(small):
            self._behind[group].discard(small)
            if group != large:
                self._behind[group].add(large)
                self._before[large].add(group)
        for group in self._behind.pop(small):
            self._before[group].discard(small)
            if group != large:
                self._before[group].add(large)
                self._behind[large].add(group)
        del self._level[small]

    def _leads(self, low: int, high: int) -> bool:
        """Whether a path leads from one to the other through a third group, or that is not found out."""
        ceiling = self._level[high]
        waiting = [group for group in self._behind[low] if group != high and self._level[group] < ceiling]
        seen = set(waiting)
        while waiting:
            behind = self._behind[waiting.pop()]
            if high in behind or len(seen) > SEARCH_LIMIT:
                return True
            new = [group for group in behind if group not in seen and self._level[group] < ceiling]
            seen.update(new)
            waiting += new
        return False

    def _risen(self, low: int, high: int) -> dict[int, int] | None:
        """The new levels of what reads `low` once that has the level of `high`; None where these are too many."""
        risen: dict[int, int] = {}
        waiting = [(group, self._level[high] + 1) for group in self._behind[low] if group != high]
        for _ in range(SEARCH_LIMIT):
            if not waiting:
                return risen
            group, level = waiting.pop()
            if max(self._level[group], risen.get(group, 0)) < level:
                risen[group] = level
                waiting += [(behind, level + 1) for behind in self._behind[group]]
        return None if waiting else risen
