"""Measuring: contenders side by side, a short turn each, round after round."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from graphnn.bench.child import COMPILED, JAX, OURS, TORCH
from graphnn.bench.graphnn_contender import batch_of, model_of, trainer_of
from graphnn.bench.process import Entry, Process, cache_of, warm_start
from graphnn.bench.workload import Workload
from graphnn.errors import BackendError, GradientError, OptionError
from graphnn.files.npz import save_arrays
from graphnn.plan.cost import cost_of_step
from graphnn.plans import plans_of

PEERS = {TORCH: "torch", COMPILED: "torch", JAX: "jax"}  # by name on the command line: the package that it needs
CHECKED_STEPS = 3
FIRST_TOLERANCE, TOLERANCE = 1e-5, 5e-3  # later steps: Adam's first ones are of equal size for tiny gradients too
ROUNDS = 7
WARM_UP_SECONDS = 0.2
Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Args:
        peers: names in PEERS.
        threads: threads of every contender.
        seconds: for each contender on each workload, over all rounds.
        device: of graphnn.
        warm: whether each contender is started a second time, with the cache that it left.
    """

    peers: tuple[str, ...]
    threads: int
    seconds: float
    device: str = "cpu"
    warm: bool = True


@dataclass(frozen=True)
class Result:
    """One contender on one workload.

    Args:
        contender: its name.
        rounds: the median seconds of a step in each round.
        best: the shortest step.
        steps: number of measured steps.
        cold: seconds from the imported library to the end of the first step, with an empty cache.
        warm: the same in a second process; None: not measured.
        memory: bytes that steps add at most to what was resident after the imports; None: unknown.
        losses: of the first steps.
    """

    contender: str
    rounds: tuple[float, ...]
    best: float
    steps: int
    cold: float
    warm: float | None
    memory: int | None
    losses: tuple[float, ...]

    @property
    def seconds(self) -> float:
        """The median over rounds."""
        return median(self.rounds)

    @property
    def spread(self) -> float:
        """The slowest round over the fastest one: far above 1 where other programs were running."""
        return max(self.rounds) / min(self.rounds)


@dataclass(frozen=True)
class Comparison:
    """All contenders on one workload.

    Args:
        workload: what was run.
        flops: operations of graphnn's program, by the conventions of `graphnn.plan.cost`.
        results: graphnn first.
    """

    workload: Workload
    flops: int
    results: tuple[Result, ...]

    @property
    def ours(self) -> Result:
        """That of graphnn."""
        return self.results[0]

    def ratios(self) -> dict[str, float]:
        """How many times as long as graphnn each peer takes."""
        return {result.contender: result.seconds / self.ours.seconds for result in self.results[1:]}


def installed_peers() -> tuple[str, ...]:
    """Names of the peers whose packages, and for torch.compile a C++ compiler, are there."""
    compilers = [os.environ.get("CXX", ""), "g++", "clang++"]
    compiles = any(shutil.which(compiler) for compiler in compilers if compiler)
    found = (name for name, package in PEERS.items() if importlib.util.find_spec(package))
    return tuple(name for name in found if compiles or name != COMPILED)


def check_peers(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once, in the order of PEERS.

    Raises:
        OptionError: a name is unknown. BackendError: its package is missing.
    """
    if unknown := [name for name in names if name not in PEERS]:
        raise OptionError("there is no such peer", where="--peers", expected=", ".join(PEERS), got=", ".join(unknown))
    if missing := [name for name in names if name not in installed_peers()]:
        expected, got = ", ".join(dict.fromkeys(PEERS[name] for name in missing)), ", ".join(missing)
        fix = "pip install 'graphnn[peers]'; torch.compile also needs a C++ compiler"
        raise BackendError("a peer cannot run here", where="--peers", expected=expected, got=got, fix=fix)
    return tuple(name for name in PEERS if name in names)


def compare(workload: Workload, settings: Settings, say: Say) -> Comparison:
    """Check that all contenders compute the same, then measure them.

    Args:
        workload: what to run.
        settings: how.
        say: gets lines about the progress.

    Raises:
        BackendError: a contender failed. GradientError: its losses are not those of graphnn's reference.
    """
    with tempfile.TemporaryDirectory(prefix="graphnn-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        entries = _entries(workload, settings, folder)
        processes = []
        for entry in entries:
            say(f"{workload.name}: starting {entry.contender}")
            processes.append(stack.enter_context(Process(entry)))
            processes[-1].run(CHECKED_STEPS - 1)
        check_losses(workload, {process.entry.contender: process.losses for process in processes})
        say(f"{workload.name}: measuring")
        times = measure(processes, settings.seconds)
        results = [_result(process, rounds) for process, rounds in zip(processes, times, strict=True)]
        for process in processes:
            process.close()
        if settings.warm:
            results = [_with_warm_start(result, entry, say) for result, entry in zip(results, entries, strict=True)]
    return Comparison(workload, count_flops(workload), tuple(results))


def _entries(workload: Workload, settings: Settings, folder: Path) -> list[Entry]:
    model = model_of(workload, "reference")
    arrays = {f"parameters/{path}": array for path, array in model.parameters.items()}
    arrays |= {f"states/{path}": array for path, array in model.states.items()}
    file = str(folder / "arrays.npz")
    save_arrays(file, arrays)
    return [
        Entry(name, workload.name, settings.threads, settings.device, file, cache_of(folder, name, workload.name))
        for name in (OURS, *settings.peers)
    ]


def check_losses(workload: Workload, losses: Mapping[str, Sequence[float]]) -> None:
    """Equal initial weights and data give equal losses, up to the rounding of float32.

    Raises:
        GradientError: they do not; names the contender.
    """
    trainer, (x, y) = trainer_of(workload, "reference"), batch_of(workload)
    expected = [trainer.train_step(x, y) for _ in range(CHECKED_STEPS)]
    for contender, found in losses.items():
        for number, (ours, theirs) in enumerate(zip(expected, found, strict=True)):
            tolerance = TOLERANCE if number else FIRST_TOLERANCE
            if not abs(theirs - ours) <= tolerance * max(abs(ours), 1e-3):
                where, what = f"{contender} on {workload.name}", f"the loss of step {number + 1} differs"
                raise GradientError(what, where=where, expected=f"{ours:.7g}", got=f"{theirs:.7g}")


def measure(processes: Sequence[Process], seconds: float) -> list[list[list[float]]]:
    """For each process and round, the seconds of each step; one process at a time, in turn."""
    counts = [_steps_of_turn(process, seconds / ROUNDS) for process in processes]
    times: list[list[list[float]]] = [[] for _ in processes]
    for _ in range(ROUNDS):
        for process, count, rounds in zip(processes, counts, times, strict=True):
            rounds.append(process.run(count + 1)[1:])  # the first step finds the caches full of another's numbers
    return times


def _steps_of_turn(process: Process, seconds: float) -> int:
    """How many steps fill a turn, known after some that warm up."""
    times, begin = [], time.perf_counter()
    while not times or time.perf_counter() - begin < WARM_UP_SECONDS:
        times += process.run(2)
    return max(1, round(seconds / min(times)))


def _result(process: Process, rounds: Sequence[Sequence[float]]) -> Result:
    medians = tuple(median(steps) for steps in rounds)
    return Result(
        process.entry.contender,
        medians,
        min(map(min, rounds)),
        sum(map(len, rounds)),
        process.start_seconds,
        None,
        process.peak_memory,
        tuple(process.losses[:CHECKED_STEPS]),
    )


def _with_warm_start(result: Result, entry: Entry, say: Say) -> Result:
    say(f"{entry.workload}: starting {entry.contender} again")
    return replace(result, warm=warm_start(entry))


def count_flops(workload: Workload) -> int:
    """Operations of one training step, as graphnn's passes leave it."""
    x, y = batch_of(workload)
    plan = plans_of(trainer_of(workload, "reference"), x, y)["step"]
    return sum(cost_of_step(plan, step).flops or 0 for step in plan.steps)
