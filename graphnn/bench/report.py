"""What was measured, as tables for people and as plain data."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from graphnn.bench.measure import Comparison, Result, Settings
from graphnn.bench.workload import MODULES, SIX

GROUPS = (SIX, MODULES)
NOTHING = "-"
WIDTH = 110
NOISE = 1.5  # slowest round over fastest
NOTES = """\
ms: medians of {rounds} rounds, in turn; in brackets how many times as long as graphnn. best: of the peers.
peak: share of {peak} GFLOP/s, the FMA peak of {threads}. GFLOP: of graphnn's plan; a multiply-add counts 2.
memory: what steps add at most to what is resident after the imports.
cold, warm: seconds of making and compiling the model and of its first step, with an empty cache, and in a
second process with the cache of the first."""


@dataclass(frozen=True)
class Report:
    """All comparisons of one call.

    Args:
        settings: how it was measured.
        peak: FLOP/s of multiply-adds on registers; None: not measured.
        comparisons: one for each workload.
        versions: of packages, and the processor.
    """

    settings: Settings
    peak: float | None
    comparisons: tuple[Comparison, ...]
    versions: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able copy."""
        return {
            "settings": asdict(self.settings),
            "versions": dict(self.versions),
            "peak_flops_per_second": self.peak,
            "workloads": [self._data(comparison) for comparison in self.comparisons],
            "geometric_means": self.means(),
        }

    def _data(self, comparison: Comparison) -> dict[str, Any]:
        workload = comparison.workload
        results = [{**asdict(result), "seconds": result.seconds} for result in comparison.results]
        return {
            "name": workload.name, "title": workload.title, "group": workload.group, "flops": comparison.flops,
            "share_of_peak": self.share(comparison), "ratios": comparison.ratios(), "results": results,
        }  # fmt: skip

    def share(self, comparison: Comparison) -> float | None:
        """Of the peak, reached by graphnn."""
        return comparison.flops / comparison.ours.seconds / self.peak if self.peak else None

    def means(self) -> dict[str, dict[str, float]]:
        """By group, the geometric means of the ratios: by peer, and "best" of the fastest peer of each workload."""
        found: dict[str, dict[str, float]] = {}
        for group in GROUPS:
            ratios = [c.ratios() for c in self.comparisons if c.workload.group == group]
            if ratios and ratios[0]:
                columns = {peer: [row[peer] for row in ratios] for peer in ratios[0]}
                columns["best"] = [min(row.values()) for row in ratios]
                found[group] = {name: geometric_mean(numbers) for name, numbers in columns.items()}
        return found

    def __str__(self) -> str:
        return "\n".join(_text(self))


def geometric_mean(numbers: Iterable[float]) -> float:
    """The root of the product."""
    return float(np.exp(np.mean(np.log(list(numbers)))))


# -- tables ------------------------------------------------------------------------------------------------------------


def _text(report: Report) -> Iterator[str]:
    yield from _table(_times(report))
    yield ""
    yield from _table(_costs(report))
    yield ""
    threads = f"{report.settings.threads} thread" + ("s" if report.settings.threads > 1 else "")
    peak = f"{report.peak / 1e9:.0f}" if report.peak else NOTHING
    rounds = len(report.comparisons[0].ours.rounds) if report.comparisons else 0
    yield NOTES.format(rounds=rounds, peak=peak, threads=threads)
    yield ", ".join(f"{name} {text}" for name, text in report.versions.items() if name != "on")
    yield f"on {report.versions.get('on', NOTHING)}"
    if noisy := _noisy(report.comparisons):
        text = f"NOISE: rounds differ by more than {NOISE:g} times, so measure again on a quiet machine: {noisy}"
        yield from textwrap.wrap(text, WIDTH)
        yield "The shortest step of each, which others disturb least:"
        yield from _table(_times(shortest(report)))


def shortest(report: Report) -> Report:
    """The same with the shortest step of each contender in place of its median."""
    comparisons = (
        replace(c, results=tuple(replace(result, rounds=(result.best,)) for result in c.results))
        for c in report.comparisons
    )
    return replace(report, comparisons=tuple(comparisons))


def _noisy(comparisons: Sequence[Comparison]) -> str:
    found = {c.workload.name: max(result.spread for result in c.results) for c in comparisons}
    return ", ".join(f"{name} ({spread:.1f})" for name, spread in found.items() if spread > NOISE)


def _times(report: Report) -> Iterator[Sequence[str]]:
    """One row for each workload, then the means of each group."""
    peers = report.settings.peers
    yield ("training step", "GFLOP", "graphnn ms", *(f"{peer} ms" for peer in peers), "best", "GFLOP/s", "peak")
    for comparison in report.comparisons:
        ratios, ours, share = comparison.ratios(), comparison.ours, report.share(comparison)
        yield (
            comparison.workload.name,
            f"{comparison.flops / 1e9:.3g}",
            _ms(ours.seconds),
            *(f"{_ms(result.seconds)} ({ratios[result.contender]:.2f})" for result in comparison.results[1:]),
            f"{min(ratios.values()):.2f}" if ratios else NOTHING,
            f"{comparison.flops / ours.seconds / 1e9:.0f}",
            f"{share:.0%}" if share else NOTHING,
        )
    for group, means in report.means().items():
        yield (f"mean of {group}", "", "", *(f"({means[peer]:.2f})" for peer in peers), f"{means['best']:.2f}", "", "")


def _costs(report: Report) -> Iterator[Sequence[str]]:
    """Memory and start of every contender."""
    yield ("memory MiB, cold s, warm s", "graphnn", *report.settings.peers)
    for comparison in report.comparisons:
        yield (comparison.workload.name, *map(_cost, comparison.results))


def _cost(result: Result) -> str:
    memory = NOTHING if result.memory is None else f"{result.memory / 2**20:.0f}"
    warm = NOTHING if result.warm is None else f"{result.warm:.2f}"
    return f"{memory} {result.cold:6.2f} {warm:>5}"


def _ms(seconds: float) -> str:
    """Three digits."""
    ms = 1e3 * seconds
    return f"{ms:.3f}" if ms < 1 else f"{ms:.2f}" if ms < 10 else f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"


def _table(rows: Iterator[Sequence[str]]) -> Iterator[str]:
    lines = list(rows)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    texts = [
        "  ".join(t.rjust(w) if c else t.ljust(w) for c, (t, w) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines
    ]
    rule = "-" * max(map(len, texts))
    yield from (texts[0], rule, *texts[1:])
