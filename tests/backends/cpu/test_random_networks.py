"""Random networks of all layers on the native engine and on the reference: the same numbers, in junk memory."""

from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

import graphnn as gnn
from cpu_kernels import avx2
from graphnn import layers
from graphnn.backends.cpu import memory as run_memory
from graphnn.backends.cpu.backend import CpuBackend, Engine, shared_engine
from graphnn.backends.cpu.bound import BoundRun
from graphnn.backends.cpu.threads import Pool
from graphnn.errors import GraphnnError
from graphnn.ir.program import Program
from graphnn.passes import native, partition_features, partition_weights
from graphnn.passes.partition_state import Decided
from graphnn.passes.partition_updates import partition_updates
from random_networks import Network, network

MARGIN = 4096  # bytes around the memory of a run
JUNK = 0xFF  # NaN as a float, -1 as an integer
STEPS = 3
TOLERANCES = {"float64": 1e-9, "float32": 2e-3, "float16": 0.06}


@cache
def engine(narrow: bool) -> Engine:
    return Engine(avx2()) if narrow else shared_engine()


@cache
def backend(workers: int, narrow: bool = False) -> CpuBackend:
    return CpuBackend(Pool(workers, engine(narrow).code), engine(narrow))


class Junk:
    """All memory of runs filled with junk before each of them; margins that nobody may touch, parameters too."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.blocks: list[np.ndarray] = []
        outputs = BoundRun.outputs

        def filled(run: Any) -> list[np.ndarray]:
            run.memory.arena[...] = JUNK
            found = outputs(run)
            for array in found:
                array.reshape(-1).view("uint8")[...] = JUNK
            return found

        patch.setattr(run_memory, "allocate", self.allocate)
        patch.setattr(BoundRun, "outputs", filled)

    def allocate(self, nbytes: int, zeros: bool = False) -> np.ndarray:
        raw = np.full(nbytes + 2 * MARGIN + 64, JUNK, "uint8")
        self.blocks.append(raw)
        start = MARGIN + (-raw.ctypes.data - MARGIN) % 64
        raw[start : start + nbytes] *= not zeros
        return raw[start : start + nbytes]

    def check(self) -> None:
        for raw in self.blocks:
            assert {*raw[:MARGIN], *raw[-MARGIN:]} == {JUNK}, "written outside of the memory"
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
    "training": training,
    "use": use,
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


def cut_small_programs(patch: pytest.MonkeyPatch) -> None:
    """Every batch and every parameter is cut, where otherwise a small one is not."""
    patch.setattr(native, "choose_tiles", lambda batch, *_: most_parts(batch))
    patch.setattr(native, "partition_updates", partial(partition_updates, least=2))
    patch.setattr(partition_weights, "LEAST_PRODUCTS", 1)
    patch.setattr(partition_weights, "_bytes_by_rows", lambda product, workers: -1)


def most_parts(batch: int) -> int:
    """The largest number of equal parts with more than one example, or with one."""
    return max((parts for parts in range(2, batch) if batch % parts == 0), default=batch)


def check(net: Network, part: str, variant: tuple[int, bool], dtype: str, patch: pytest.MonkeyPatch) -> None:
    junk = Junk(patch)
    wanted = results(net, part, dtype, None)
    got = results(net, part, dtype, backend(*variant))
    assert not differences(got, wanted, TOLERANCES[dtype]), net
    junk.check()


@pytest.mark.parametrize("seed", range(20))
def test_random_networks_agree_with_the_reference(seed, monkeypatch):
    net, part = network(seed, nodes=1 + seed % 6), [*PARTS, "training"][seed % 5]
    dtype = ("float64", "float64", "float32", "float64", "float16")[seed // 5 % 5]
    if seed % 2:
        cut_small_programs(monkeypatch)
    check(net, part, VARIANTS[seed % 7 % 5], dtype, monkeypatch)


# -- chains of dense layers, cut by features ---------------------------------------------------------------------------

BETWEEN = [None, None, None, None, None, layers.BatchNorm, layers.LayerNorm, lambda: layers.Dropout(0.3)]
ACTIVATIONS = ["relu", "tanh", "gelu", "sigmoid", None]


def chain(seed: int) -> Network:
    """Dense layers in a row, some with something between them, some joined to what was before."""
    rng = np.random.default_rng(seed)
    x = gnn.Input(("batch", int(rng.integers(1, 20))), name="x")
    hidden, ends = [x], {}
    for number in range(rng.integers(2, 7)):
        h, size = hidden[-1], int(rng.choice([6, 12, 30, 60, 7]))
        between, act = BETWEEN[rng.integers(len(BETWEEN))], ACTIVATIONS[rng.integers(len(ACTIVATIONS))]
        h = layers.Linear(size, bias=bool(rng.integers(4)), act_fn=act, name=f"d{number}")(h)
        h = between()(h) if between is not None else h
        alike = [before for before in hidden if before.shape == h.shape]
        hidden.append(layers.Add()(h, alike[0]) if alike and not rng.integers(3) else h)
    ends["y"] = layers.Linear(4, name="y")(hidden[-1])
    if not rng.integers(4):
        ends["z"] = hidden[int(rng.integers(1, len(hidden)))]
    graph, batch = gnn.Graph([x], ends, name="net"), int(rng.choice([6, 12, 30]))
    targets = {name: rng.normal(size=(batch, int(end.shape[-1]))) for name, end in ends.items()}
    frozen, optimizer = (f"d{rng.integers(2)}",) if not rng.integers(5) else (), OPTIMIZERS[rng.integers(5)]
    if any(node.layer.kind == "BatchNorm" for node in graph.nodes):
        optimizer = gnn.optimizers.SGD(
            0.01
        )  # shifts in front of it have gradients of noise, which Adam would make large
    return Network(
        graph, {"x": rng.normal(size=(batch, int(x.shape[-1])))}, targets,
        dict.fromkeys(ends, gnn.losses.SquaredError()), {}, optimizer, frozen, (),
    )  # fmt: skip


OPTIMIZERS = [
    gnn.optimizers.SGD(0.01), gnn.optimizers.Adam(0.01), gnn.optimizers.AdamW(0.01, weight_decay=0.1),
    gnn.optimizers.SGD(0.01, momentum=0.9), gnn.optimizers.Adam(0.01, clip_norm=1.0),
]  # fmt: skip


def cut_by_features(patch: pytest.MonkeyPatch) -> list[int]:
    """Layers are cut by features wherever they can be; how many pairs there were in each program."""
    found: list[int] = []

    def counted(program: Program, batch: int, workers: int) -> Decided:
        decided = partition_features.by_features(program, batch, workers)
        found.append(len(decided.recut))
        return decided

    patch.setattr(native, "choose_tiles", lambda batch, workers, *_: workers if batch % workers == 0 else 1)
    patch.setattr(native, "by_features", counted)
    patch.setattr(partition_features, "RUN", 1)
    patch.setattr(partition_features, "LINE", 1)
    patch.setattr(partition_features, "_is_worth_it", lambda pair: True)
    return found


@pytest.mark.parametrize("seed", range(24))
def test_layers_that_are_cut_by_features_agree_with_the_reference(seed, monkeypatch):
    cut_by_features(monkeypatch)
    check(chain(seed), "training", VARIANTS[1 + seed % 4], "float64" if seed % 4 else "float32", monkeypatch)


def test_chains_have_layers_that_are_cut_by_features(monkeypatch):
    found = cut_by_features(monkeypatch)
    for seed in range(24):
        results(chain(seed), "training", "float64", backend(2))
    assert sum(map(bool, found)) > 12
    assert max(found) > 2


@pytest.mark.parametrize("kind", ["empty", "nan", "subnormal", "huge"])
@pytest.mark.parametrize("seed", [0, 1])
def test_unusual_numbers_go_the_way_of_the_reference(kind, seed, monkeypatch):
    """But for padding, which convolutions do not multiply: there, NaN times 0 is no NaN."""
    net, part = network(200 + seed, nodes=3), list(PARTS)[seed]
    arrays = {name: unusual(array, kind) for name, array in net.arrays.items()}
    targets = {name: array[:0] if kind == "empty" else array for name, array in net.targets.items()}
    check(replace(net, arrays=arrays, targets=targets), part, VARIANTS[seed], "float64", monkeypatch)


def unusual(array: np.ndarray, kind: str) -> np.ndarray:
    if kind == "empty":
        return array[:0]
    if array.dtype.kind != "f":
        return array
    changed = array * {"subnormal": 1e-310, "huge": 1e30, "nan": 1.0}[kind]
    if kind == "nan":
        changed.flat[changed.size // 2] = np.nan
    return changed


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("pool", [layers.GlobalMaxPool(), layers.Pool2D(2, 2)], ids=lambda layer: layer.kind)
def test_a_maximum_is_found_where_its_numbers_are_computed_again(pool, narrow, monkeypatch):
    """Its gradient goes to the numbers equal to it: an fma in one of the two kernels only would leave none."""
    for width in (3, 5):
        x = gnn.Input(("batch", 4, 6, width), name="x")
        scaled = layers.BatchNorm()(x)
        ends = {"y": pool(scaled), "z": pool(layers.Add()(layers.Tanh()(scaled), layers.Multiply()(scaled, x)))}
        rng = np.random.default_rng(width)
        targets = {name: rng.normal(size=[6, *map(int, y.shape[1:])]) for name, y in ends.items()}
        net = Network(
            gnn.Graph([x], ends, name="net"), {"x": rng.normal(size=(6, 4, 6, width))}, targets,
            dict.fromkeys(ends, gnn.losses.SquaredError()), {}, gnn.optimizers.SGD(0.1), (), (),
        )  # fmt: skip
        check(net, "training", (2, narrow), "float64", monkeypatch)
