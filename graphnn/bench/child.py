"""One contender on one workload in a process of its own: `python -m graphnn.bench.child OPTIONS`, a JSON object.

Each line on stdin is a command, a JSON object with the number of steps to make; each line on stdout its answer. What
libraries print goes to stderr. The end of stdin ends the process.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from graphnn.backends.choose import backend_for, set_num_threads
from graphnn.bench.graphnn_contender import GraphnnContender
from graphnn.bench.jax_contender import JaxContender
from graphnn.bench.packed import packed
from graphnn.bench.torch_contender import TorchContender
from graphnn.bench.workloads import find

OURS, TORCH, COMPILED, JAX = "graphnn", "torch", "compile", "jax"
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # see proc(5): resets VmHWM
PR_SET_PDEATHSIG = 1  # see prctl(2)


class Contender(Protocol):
    """What can make a training step."""

    def step(self) -> float:
        """One step; the loss before the update."""
        ...


def main() -> None:
    """Answer commands until stdin ends."""
    options = json.loads(sys.argv[1])
    _die_with_parent()
    answers = _own_stdout()
    _import(options["contender"], options["device"])
    for answer in answer_all(options):
        print(json.dumps(answer), file=answers, flush=True)


def answer_all(options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The first answer is that to the start: seconds to the end of the first step, and its loss."""
    resident = memory("VmRSS")
    begin = time.perf_counter()
    contender = make(options)
    loss = contender.step()
    yield {"start_seconds": time.perf_counter() - begin, "loss": loss, "memory_before": resident}
    for line in sys.stdin:
        _reset_peak()
        seconds, losses = run(contender, json.loads(line)["steps"])
        yield {"seconds": packed(seconds), "losses": packed(losses), "peak_memory": memory("VmHWM")}


def run(contender: Contender, steps: int) -> tuple[array[float], array[float]]:
    """(seconds, loss) of each of so many steps."""
    seconds, losses = array("d"), array("d")
    for _ in range(steps):
        begin = time.perf_counter()
        losses.append(contender.step())
        seconds.append(time.perf_counter() - begin)
    return seconds, losses


def make(options: dict[str, Any]) -> Contender:
    """The contender that the options name, on their workload, starting from the arrays in their file."""
    workload, name = find(options["workload"]), options["contender"]
    if name == OURS:
        if options["device"] == "cpu":
            set_num_threads(options["threads"])
        return GraphnnContender(workload, options["device"])
    with np.load(options["arrays"], allow_pickle=False) as file:
        groups: dict[str, dict[str, np.ndarray]] = {"parameters": {}, "states": {}}
        for key in file.files:
            group, _, path = key.partition("/")
            groups[group][path] = file[key]
    if name == JAX:
        return JaxContender(workload, groups["parameters"], groups["states"])
    return TorchContender(workload, groups["parameters"], options["threads"], compiles=name == COMPILED)


def memory(what: str) -> int | None:
    """Bytes of a line of /proc/self/status: VmRSS is what is resident, VmHWM the most since the last reset."""
    try:
        text = STATUS.read_text(encoding="ascii")
    except OSError:
        return None
    found = [line.split()[1] for line in text.splitlines() if line.startswith(f"{what}:")]
    return int(found[0]) * 1024 if found else None


def _reset_peak() -> None:
    """From here on the largest memory is that of steps, without that of compiling."""
    try:
        CLEAR.write_text(RESET_PEAK, encoding="ascii")
    except OSError:
        return  # not Linux: the peak of the whole process is not asked for either


def _die_with_parent() -> None:
    """Go when the parent goes, also while stopped, where the system can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _own_stdout() -> IO[str]:
    """The real stdout; whoever else prints does so on stderr."""
    own = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return own


def _import(contender: str, device: str) -> None:
    """Before the clock runs: how long a library takes to load is not asked."""
    if contender == OURS:
        backend_for(device)
    elif contender == JAX:
        import jax

        jax.devices()
    else:
        import torch

        torch.zeros(1)


if __name__ == "__main__":
    main()
