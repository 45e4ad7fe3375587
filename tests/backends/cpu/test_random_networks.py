"""Random networks of all layers on the native engine and on the reference: the same numbers, in junk memory."""

from functools import cache
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from cpu_kernels import avx2
from graphnn.backends.cpu import executable
from graphnn.backends.cpu.backend import CpuBackend, Engine, shared_engine
from graphnn.backends.cpu.threads import Pool
from graphnn.errors import GraphnnError
from random_networks import Network, network

MARGIN = 4096  # bytes around the memory of a run
JUNK = 0xFF  # NaN as a float, -1 as an integer
STEPS = 3


@cache
def engine(narrow: bool) -> Engine:
    return Engine(avx2()) if narrow else shared_engine()


@cache
def backend(workers: int, narrow: bool = False) -> CpuBackend:
    return CpuBackend(Pool(workers, engine(narrow).code), engine(narrow))


class Junk:
    """All memory of runs filled with junk before each of them, between margins that nobody may touch."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.blocks: list[np.ndarray] = []
        bind, outputs = executable._Memory.bind, executable._outputs

        def filled(memory: Any, arrays: Any, results: Any) -> None:
            memory.arena[...] = JUNK
            for array in results:
                array.reshape(-1).view("uint8")[...] = JUNK
            bind(memory, arrays, results)

        patch.setattr(executable, "_allocate", self.allocate)
        patch.setattr(executable._Memory, "bind", filled)
        patch.setattr(executable, "_outputs", lambda plan: [array.copy() for array in outputs(plan)])

    def allocate(self, nbytes: int) -> np.ndarray:
        raw = np.full(nbytes + 2 * MARGIN + 64, JUNK, "uint8")
        self.blocks.append(raw)
        start = MARGIN + (-raw.ctypes.data - MARGIN) % 64
        return raw[start : start + nbytes]

    def check(self) -> None:
        for raw in self.blocks:
            assert (raw[:MARGIN] == JUNK).all() and (raw[-MARGIN:] == JUNK).all(), "written outside of the memory"
        self.blocks.clear()


def model_of(net: Network, dtype: str, native: CpuBackend | None) -> gnn.Model:
    model = gnn.Model(net.graph, seed=1, device="cpu" if native else "reference", dtype=dtype)
    if native:
        model._backend = native
    rng = np.random.default_rng(0)
    for path in model.parameters:  # biases that are not 0
        model.parameters[path] = model.parameters[path] + 0.1 * rng.normal(size=model.parameters[path].shape)
    if net.frozen:
        model.freeze(*net.frozen)
    return model


def passes(net: Network, model: gnn.Model, training: bool) -> dict[str, np.ndarray]:
    """What a forward and a backward pass give: outputs, retained values, all gradients, states."""
    run = model.run(**net.arrays, training=training, retain=net.retained)
    rng = np.random.default_rng(2)
    seeds = {name: rng.normal(size=y.shape) for name, y in run.outputs.items()}
    found = run.backward(**{name: seed for number, (name, seed) in enumerate(seeds.items()) if number != 1})
    gradients = {f"gradient {path}": array.copy() for path, array in model.gradients.items()}
    return {
        **run.outputs,
        **run.derived_variables,
        **{f"d{k}": v for k, v in found.items()},
        **gradients,
        **states(model),
    }


def states(model: gnn.Model) -> dict[str, np.ndarray]:
    return {f"state {path}": array.copy() for path, array in model.states.items()}


def training(net: Network, model: gnn.Model) -> dict[str, np.ndarray]:
    """What some steps of training give."""
    trainer = gnn.Trainer(model, net.losses, net.optimizer, net.metrics)
    found: dict[str, Any] = {}
    for step in range(STEPS):
        found |= {f"step {step} {k}": v for k, v in trainer.train_batch(net.arrays, net.targets).items()}
    found |= {f"parameter {path}": array.copy() for path, array in model.parameters.items()} | states(model)
    found |= {f"memory {path}": array.copy() for path, array in trainer.memory.items()}
    return found


def use(net: Network, model: gnn.Model) -> dict[str, Any]:
    """Means over batches of several sizes, and predictions."""
    trainer = gnn.Trainer(model, net.losses, net.optimizer, net.metrics)
    means = trainer.evaluate((net.arrays, net.targets), batch_size=4)
    return means | {f"predicted {k}": v for k, v in trainer.predict(net.arrays, batch_size=5).items()}


PARTS = {
    "evaluation": lambda net, model: passes(net, model, False),
    "forward and backward": lambda net, model: passes(net, model, True),
    "training": lambda net, model: training(net, model),
    "use": lambda net, model: use(net, model),
}


def results(net: Network, part: str, dtype: str, native: CpuBackend | None) -> dict[str, np.ndarray]:
    """Those of one of the parts; a typed error is a result, too."""
    try:
        return {name: np.asarray(array) for name, array in PARTS[part](net, model_of(net, dtype, native)).items()}
    except GraphnnError as error:
        return {type(error).__name__: np.zeros(0)}


def differences(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray], rtol: float) -> list[str]:
    """Where they differ by more than `rtol` of the largest number of an array, or of 1."""
    if got.keys() != wanted.keys():
        return [f"other results: {sorted(got.keys() ^ wanted.keys())}"]
    found = []
    for name, b in wanted.items():
        a = got[name]
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            found.append(f"{name}: {a.shape} {a.dtype} in place of {b.shape} {b.dtype}")
            continue
        finite = np.abs(b[np.isfinite(b)])
        scale = max(1.0, float(finite.max(initial=0.0)))
        wrong = ~np.isclose(a, b, rtol=rtol, atol=rtol * scale, equal_nan=True)
        if wrong.any():
            error = float(np.max(np.abs(a - b)[wrong]))
            found.append(f"{name} {b.shape}: {int(wrong.sum())} differ, by {error:.3g} of {scale:.3g}")
    return found


VARIANTS = [(1, False), (2, False), (3, False), (5, False), (2, True)]


@pytest.mark.parametrize("seed", range(40))
def test_random_networks_agree_with_the_reference(seed, monkeypatch):
    net, part = network(seed, nodes=1 + seed % 6), [*PARTS, "training"][seed % 5]
    dtype, rtol = ("float32", 2e-3) if seed % 4 == 3 else ("float64", 1e-9)
    junk = Junk(monkeypatch)
    wanted = results(net, part, dtype, None)
    got = results(net, part, dtype, backend(*VARIANTS[seed % len(VARIANTS)]))
    assert not differences(got, wanted, rtol), net
    junk.check()
