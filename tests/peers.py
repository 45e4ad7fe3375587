"""Twins: the same network written with torch, on the same arrays, gives the same outputs, gradients and statistics.

A twin is a function of the inputs and of `Arrays`, the parameters and states by path, all as float64 tensors in the
layout of graphnn: so torch's gradients come in that layout too, and its optimizers can step on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnn import optimizers
from graphnn.autodiff import differentiate
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input, flatten_structure
from graphnn.graph.lower import Lowered, bind_names, lower
from graphnn.graph.scope import RANDOM_INPUT
from graphnn.ir.program import Kind, Program, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.losses import SquaredError
from graphnn.model import Model
from graphnn.training.trainer import Trainer

TOLERANCE = 1e-9  # times max(1, the largest magnitude): float64 sums in another order
Pads = Sequence[tuple[int, int]]
Seeds = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]  # cotangents from outputs


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one run gives, by name or path.

    Args:
        outputs: the graph's outputs; the one unnamed output is called "y".
        gradients: of inputs (by name) and parameters (by path).
        states: new values of the states that changed.
    """

    outputs: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    states: dict[str, np.ndarray]


class Arrays(dict):
    """torch tensors by path; a twin puts the new values of states into `updates`."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.updates: dict[str, Any] = {}


Twin = Callable[[Mapping[str, Any], Arrays], Any]


# -- graphs and arrays -------------------------------------------------------------------------------------------------


def graph_of(layer: Any, *arrays: np.ndarray) -> Graph:
    """A layer or module on inputs x (or x_0, x_1...) like the arrays, all of whose axes but the last are named."""
    names = ["x"] if len(arrays) == 1 else [f"x_{index}" for index in range(len(arrays))]
    inputs = [symbolic(name, x) for name, x in zip(names, arrays, strict=True)]
    return Graph(inputs, layer(*inputs))


def symbolic(name: str, x: np.ndarray) -> Any:
    """An Input like x; equal names of axes in several inputs mean equal sizes."""
    axes = {3: ("batch", "time"), 4: ("batch", "rows", "cols")}.get(x.ndim, ("batch", "a", "b", "c", "d")[: x.ndim - 1])
    return Input((*axes, x.shape[-1]), name=name, dtype="float32" if x.dtype.kind == "f" else str(x.dtype))


def normal(*shape: int, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    """Gaussian numbers, the same in each run."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


# -- running a graph without a Model -----------------------------------------------------------------------------------


def random_arrays(graph: Graph, inputs: Mapping[str, np.ndarray], dtype: str = "float64") -> dict[str, np.ndarray]:
    """A random array for each parameter and state: zeros and ones would hide mistakes. Variances are positive."""
    rng = np.random.default_rng(1)
    lowered = lower(graph, input_specs(inputs), dtype=dtype)
    return {path: draw(rng, path, d.spec.shape, dtype) for path, d in lowered.context.declarations.items()}


def draw(rng: np.random.Generator, path: str, shape: Sequence[int], dtype: str) -> np.ndarray:
    """Numbers around 0, or from 0.5 to 2 for a running variance."""
    values = rng.uniform(0.5, 2.0, shape) if path.endswith("running_var") else 0.5 * rng.normal(size=shape)
    return values.astype(dtype)


def random_seeds(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A random cotangent for each output."""
    rng = np.random.default_rng(2)
    return {name: rng.normal(size=y.shape).astype(y.dtype) for name, y in outputs.items()}


def run(
    graph: Graph,
    inputs: Mapping[str, np.ndarray],
    arrays: Mapping[str, np.ndarray],
    *,
    training: bool = True,
    dtype: str = "float64",
    frozen: Sequence[str] = (),
    seeds: Mapping[str, np.ndarray] | Seeds = random_seeds,
    random: Sequence[int] = (0, 0, 0, 0),
) -> Outcome:
    """Outputs, gradients and new states of one run on NumPy; also checks the declared shapes against the real ones."""
    specs = input_specs(inputs)
    lowered = lower(graph, specs, training=training, dtype=dtype, is_frozen=lambda path: path in frozen)
    check_declared_shapes(graph, specs, lowered)
    wrt = [v for v in lowered.builder.inputs if v.spec.is_float and v.kind is not Kind.STATE]
    lowered.context.finish()
    forward = lowered.builder.build([tensor.value for tensor in lowered.outputs])
    names = output_names(graph)
    given = {**inputs, **arrays, RANDOM_INPUT: np.array(random, "uint32")}
    outputs = dict(zip(names, evaluate(forward, given)[: len(names)], strict=True))
    cotangents = seeds(outputs) if callable(seeds) else seeds
    given |= {f"cotangent_{index}": cotangents[name] for index, name in enumerate(names)}
    both = differentiate(forward, wrt)
    results = evaluate(both, given)[len(names) :]
    states = {old.name: new for (old, _), new in zip(both.updates, results[len(wrt) :], strict=True)}
    return Outcome(outputs, dict(zip([v.name for v in wrt], results, strict=False)), states)


def evaluate(program: Program, given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Every result of a Program, from arrays by the names of its inputs."""
    values: dict[Value, Any] = {value: given[value.name] for value in program.inputs}
    for value in program.inputs:
        assert values[value].shape == value.spec.shape, value
        assert values[value].dtype == value.spec.dtype, value
    for instruction in program.instructions:
        results = instruction.op.reference(np, *(values[value] for value in instruction.inputs))
        results = results if isinstance(results, tuple) else (results,)
        values.update(zip(instruction.outputs, map(np.asarray, results), strict=True))
    return [values[value] for value in program.results]


def input_specs(inputs: Mapping[str, np.ndarray]) -> dict[str, TensorSpec]:
    """The specs that the arrays have."""
    return {name: TensorSpec(x.shape, str(x.dtype)) for name, x in inputs.items()}


def output_names(graph: Graph) -> tuple[str, ...]:
    """Names of the outputs; "y" for the one that has none."""
    return graph.output_names or ("y",)


def check_declared_shapes(graph: Graph, specs: Mapping[str, TensorSpec], lowered: Lowered) -> None:
    """Every leaf's declared shape, with the names replaced by sizes, is the shape it really has."""
    sizes = bind_names(graph, specs)
    for leaf in flatten(graph).leaves:
        declared = [spec.bind(sizes).shape for spec in leaf.specs]
        assert declared == [tensor.shape for tensor in lowered.nodes[leaf.path]], leaf.path


# -- comparing with torch ----------------------------------------------------------------------------------------------


def compare(
    graph: Graph,
    twin: Twin,
    inputs: Mapping[str, np.ndarray],
    *,
    training: bool = True,
    tolerance: float = TOLERANCE,
) -> None:
    """Outputs, all gradients and the new states of `graph` and `twin` agree, on random parameters."""
    arrays = random_arrays(graph, inputs)
    plain = run(graph, inputs, arrays, training=training)
    theirs = run_twin(twin, inputs, arrays, random_seeds(plain.outputs))
    for ours in (plain, run_model(graph, inputs, arrays, training=training)):
        assert_close(ours.outputs, theirs.outputs, tolerance)
        assert_close(ours.gradients, theirs.gradients, tolerance)
        assert_close(ours.states, theirs.states, tolerance)


def run_model(
    graph: Graph, inputs: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray], *, training: bool = True
) -> Outcome:
    """The same as `run`, by a Model: so through all passes and a planned arena."""
    return step_model(model_with(graph, arrays), inputs, random_seeds, training=training)


def model_with(graph: Graph, arrays: Mapping[str, np.ndarray]) -> Model:
    """A float64 model whose parameters and states are the given arrays."""
    model = Model(graph, device="reference", dtype="float64")
    for path, array in arrays.items():
        (model.states if path in model.states else model.parameters)[path] = array
    return model


def step_model(model: Model, inputs: Mapping[str, np.ndarray], seeds: Seeds, *, training: bool = True) -> Outcome:
    """Forward and backward of a model that may have run before; which states changed is read off them."""
    before = {path: np.array(state) for path, state in model.states.items()}
    model.cleargrads()
    structure = model.forward(**inputs, training=training)
    outputs = named(structure)
    found = model.backward(*seeds(outputs).values())
    gradients = found if isinstance(found, dict) else {next(iter(inputs)): found} if found is not None else {}
    states = {path: np.array(state) for path, state in model.states.items() if not np.array_equal(state, before[path])}
    return Outcome(outputs, {**gradients, **{p: np.array(g) for p, g in model.gradients.items()}}, states)


def compare_training(
    graph: Graph,
    twin: Twin,
    inputs: Mapping[str, np.ndarray],
    name: str,
    options: Mapping[str, float],
    steps: int = 5,
    tolerance: float = TOLERANCE,
) -> None:
    """Parameters and states agree after each of some optimizer steps towards a random target, three ways.

    A Trainer, whose step is one program with graphnn's optimizer; a Model's backward under torch's optimizer, where
    what differs would be a gradient or a state that a run left behind; and torch.

    Args:
        graph: module under test, with `twin` its torch form on `inputs`.
        name: class of the optimizer, in torch.optim and graphnn.optimizers.
        options: its arguments, in torch's words.
    """
    from torch import optim

    arrays = random_arrays(graph, inputs)
    model, trained = model_with(graph, arrays), model_with(graph, arrays)
    ours, theirs = (Trained(arrays, lambda tensors: getattr(optim, name)(tensors, **options)) for _ in range(2))
    targets = random_seeds(run(graph, inputs, arrays).outputs)
    towards, trainer = towards_targets(targets), trainer_with(trained, name, options)
    for _ in range(steps):
        ours.step(step_model(model, inputs, towards))
        for path in model.parameters:
            model.parameters[path] = ours.arrays[path]
        outputs = run_twin(twin, inputs, theirs.arrays, {}).outputs
        theirs.step(run_twin(twin, inputs, theirs.arrays, towards(outputs)))
        trainer.train_step(dict(inputs), targets if graph.output_names else targets["y"])
        assert_close({**model.parameters, **model.states}, theirs.arrays, tolerance)
        assert_close({**trained.parameters, **trained.states}, theirs.arrays, tolerance)


def trainer_with(model: Model, name: str, options: Mapping[str, float]) -> Trainer:
    """Minimises the mean squared distance of each output, with torch's options under graphnn's names."""
    rest = {key: value for key, value in options.items() if key != "lr"}
    optimizer = getattr(optimizers, name)(options["lr"], **rest)
    names = model.graph.output_names
    return Trainer(model, dict.fromkeys(names, SquaredError()) if names else SquaredError(), optimizer)


class Trained:
    """Arrays that a torch optimizer steps on, and the states beside them."""

    def __init__(self, arrays: Mapping[str, np.ndarray], make_optimizer: Callable[[list[Any]], Any]):
        import torch

        self.tensors = {path: torch.tensor(array) for path, array in arrays.items()}
        self.optimizer = make_optimizer([tensor for path, tensor in self.tensors.items() if not is_state(path)])

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Copies by path."""
        return {path: tensor.numpy().copy() for path, tensor in self.tensors.items()}

    def step(self, outcome: Outcome) -> None:
        """Take the new states, and move the parameters against their gradients."""
        import torch

        for path, state in outcome.states.items():
            self.tensors[path].copy_(torch.tensor(state))
        for path, tensor in self.tensors.items():
            if not is_state(path):
                tensor.grad = torch.tensor(outcome.gradients[path])
        self.optimizer.step()


def towards_targets(targets: Mapping[str, np.ndarray]) -> Seeds:
    """The gradient of the mean squared distance from the targets, as a function of the outputs."""
    return lambda outputs: {name: 2 * (outputs[name] - target) / target.size for name, target in targets.items()}


def descend(
    graph: Graph, inputs: Mapping[str, np.ndarray], targets: Mapping[str, np.ndarray], rate: float, steps: int = 100
) -> tuple[list[float], dict[str, np.ndarray]]:
    """The loss (mean squared distance from the targets) before each step of plain gradient descent; the last arrays."""
    arrays, losses = random_arrays(graph, inputs), []
    for _ in range(steps):
        outcome = run(graph, inputs, arrays, seeds=towards_targets(targets))
        losses.append(sum(float(((outcome.outputs[name] - y) ** 2).mean()) for name, y in targets.items()))
        arrays = {path: array - rate * outcome.gradients.get(path, 0.0) for path, array in arrays.items()}
        arrays |= outcome.states
    return losses, arrays


def run_twin(
    twin: Twin, inputs: Mapping[str, np.ndarray], arrays: Mapping[str, np.ndarray], seeds: Mapping[str, np.ndarray]
) -> Outcome:
    """The same run with torch."""
    import torch

    leaves = {name: torch.tensor(x, requires_grad=x.dtype.kind == "f") for name, x in {**inputs, **arrays}.items()}
    p = Arrays({name: leaves[name] for name in arrays})
    outputs = named(twin({name: leaves[name] for name in inputs}, p))
    if seeds:
        torch.autograd.backward([outputs[name] for name in seeds], [torch.tensor(seed) for seed in seeds.values()])
    wanted = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad and not is_state(name)}
    gradients = {n: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for n, leaf in wanted.items()}
    return Outcome(*({n: t.detach().numpy() for n, t in part.items()} for part in (outputs, gradients, p.updates)))


def named(outputs: Any) -> dict[str, Any]:
    """Outputs by name; "y" for one that has none."""
    values, names = flatten_structure(outputs)
    return dict(zip(names or ("y",), values, strict=True))


def is_state(path: str) -> bool:
    """Whether an array is moved by runs and not by gradients."""
    return path.rpartition("/")[2] in ("running_mean", "running_var")


def assert_close(ours: Mapping[str, Any], theirs: Mapping[str, Any], tolerance: float = TOLERANCE) -> None:
    """Equal names, shapes and, up to the tolerance, numbers."""
    assert sorted(ours) == sorted(theirs)
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape, name
        error = np.abs(ours[name] - expected).max(initial=0.0)
        assert error <= tolerance * max(1.0, np.abs(expected).max(initial=0.0)), f"{name}: error {error}"


# -- layers in torch, channels last ------------------------------------------------------------------------------------


def conv(x: Any, w: Any, b: Any, pads: Pads, stride: Any = 1, dilation: Any = 1, groups: int = 1) -> Any:
    """torch's convolution of x (batch, *spatial, in) with w (*kernel, in / groups, out) on explicit paddings."""
    from torch.nn import functional

    function = {3: functional.conv1d, 4: functional.conv2d}[x.ndim]
    weight = w.movedim(-1, 0).movedim(-1, 1)
    y = function(pad(x, pads).movedim(-1, 1), weight, b, stride=stride, dilation=dilation, groups=groups)
    return y.movedim(1, -1)


def deconv(
    x: Any, w: Any, b: Any, pads: Pads, stride: Any = 1, dilation: Any = 1, extra: Any = 0, groups: int = 1
) -> Any:
    """torch's transposed convolution with w (*kernel, in, out / groups), then `pads` cut off."""
    from torch.nn import functional

    function = {3: functional.conv_transpose1d, 4: functional.conv_transpose2d}[x.ndim]
    weight = w.movedim(-2, 0).movedim(-1, 1)
    y = function(x.movedim(-1, 1), weight, b, stride=stride, dilation=dilation, groups=groups, output_padding=extra)
    y = y.movedim(1, -1)
    return y[(slice(None), *(slice(low, n - high) for n, (low, high) in zip(y.shape[1:], pads, strict=False)))]


def pool(x: Any, window: Any, stride: Any, pads: Pads, mode: str) -> Any:
    """torch's pooling on explicit paddings."""
    from torch.nn import functional

    name = f"{'max' if mode == 'max' else 'avg'}_pool{x.ndim - 2}d"
    padded = pad(x, pads, -math.inf if mode == "max" else 0.0)
    return getattr(functional, name)(padded.movedim(-1, 1), window, stride=stride).movedim(1, -1)


def batch_norm(
    x: Any, p: Arrays, path: str, momentum: float = 0.9, epsilon: float = 1e-5, training: bool = True
) -> Any:
    """torch's batch norm. Its own running variance is the unbiased one, so the statistics are moved here."""
    import torch
    from torch.nn import functional

    mean, var = p[f"{path}/running_mean"], p[f"{path}/running_var"]
    if training:
        axes = tuple(range(x.ndim - 1))
        with torch.no_grad():
            p.updates[f"{path}/running_mean"] = momentum * mean + (1 - momentum) * x.mean(axes)
            p.updates[f"{path}/running_var"] = momentum * var + (1 - momentum) * x.var(axes, unbiased=False)
    slope, intercept = p[f"{path}/scaler"], p[f"{path}/intercept"]
    statistics = (None, None) if training else (mean.detach(), var.detach())
    return functional.batch_norm(x.movedim(-1, 1), *statistics, slope, intercept, training, 0.0, epsilon).movedim(1, -1)


def pad(x: Any, pads: Pads, value: float = 0.0) -> Any:
    """x with (low, high) places around each spatial axis."""
    from torch.nn import functional

    widths = [width for low_high in reversed(pads) for width in low_high]
    return functional.pad(x, (0, 0, *widths), value=value)
