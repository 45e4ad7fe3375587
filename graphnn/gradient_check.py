"""check_gradients: each node's gradient against finite differences, alone, so that the node at fault is named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnn.autodiff import differentiate
from graphnn.errors import GradientError
from graphnn.graph.flatten import Leaf
from graphnn.graph.layer import flatten_structure
from graphnn.graph.lower import bind_names
from graphnn.graph.scope import RANDOM_INPUT, Context, Scope
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.model import Model
from graphnn.ops.evaluate import evaluate
from graphnn.ops.op import Tensor
from graphnn.ops.random import RandomStream, seed_words

STEP = 1e-6  # of central differences in float64: truncation and rounding are both near 1e-10
DIRECTIONS = 3  # random directions per node


@dataclass(frozen=True)
class NodeCheck:
    """The largest relative error found at one node; `inputs` counts its differentiable inputs and parameters."""

    path: str
    layer: str
    inputs: int
    error: float


@dataclass(frozen=True)
class GradientReport:
    """One entry per leaf node, in forward order."""

    nodes: tuple[NodeCheck, ...]

    def __str__(self) -> str:
        width = max((len(node.path) for node in self.nodes), default=4)
        return "\n".join(f"{node.path.ljust(width)}  {node.layer:<20} {node.error:.1e}" for node in self.nodes)


def check_gradients(
    model: Model, *inputs: Any, tolerance: float = 1e-5, training: bool = False, seed: int = 0, **named: Any
) -> GradientReport:
    """Compare each node's own gradient with central differences along random directions, in float64.

    Every node is lowered alone and fed the values that it sees in the whole graph, so an error at one node shows at
    that node and nowhere else. The model and its arrays stay as they are.

    Args:
        model: its parameters, converted to float64, are used.
        inputs: as for `Model.forward`.
        tolerance: largest relative error allowed.
        training: mode of the layers.
        seed: of the directions.
        named: inputs by name.

    Returns:
        The error of every node.

    Raises:
        GradientError: names the nodes at fault, with both numbers.
    """
    twin = _float64_twin(model)
    run = twin.run(*inputs, training=training, retain=True, keep=False, **named)
    arrays, _ = twin.bind(inputs, named, training)
    values: dict[tuple[str, int], Any] = {(name, 0): array for name, array in arrays.items()}
    for path in (leaf.path for leaf in twin.flat.leaves):
        values |= {(path, index): array for index, array in _outputs_at(run.derived_variables, path)}
    checks, faults = [], []
    for leaf in twin.flat.leaves:
        check, fault = _check_leaf(twin, leaf, values, training, RandomStream(seed, leaf.path), tolerance)
        checks.append(check)
        faults += fault
    if faults:
        raise GradientError(
            "gradients disagree with finite differences", where=", ".join(dict.fromkeys(name for name, _ in faults)),
            expected=f"relative error below {tolerance:g}", got="; ".join(text for _, text in faults),
            fix="mend the gradient rule of this layer (its `backward`, or the `vjp` of an op that it uses)",
        )  # fmt: skip
    return GradientReport(tuple(checks))


def _float64_twin(model: Model) -> Model:
    twin = Model(model.graph, model.seed, "reference", "float64")
    for source, target in ((model.parameters, twin.parameters), (model.states, twin.states)):
        for path, array in source.items():
            target[path] = model.to_host(array).astype("float64")
    twin.step = model.step
    return twin


def _outputs_at(derived: Mapping[str, Any], path: str) -> list[tuple[int, Any]]:
    if path in derived:
        return [(0, derived[path])]
    found, index = [], 0
    while f"{path}:{index}" in derived:
        found.append((index, derived[f"{path}:{index}"]))
        index += 1
    return found


def _check_leaf(
    model: Model,
    leaf: Leaf,
    values: Mapping[tuple[str, int], Any],
    training: bool,
    stream: RandomStream,
    tolerance: float,
) -> tuple[NodeCheck, list[tuple[str, str]]]:
    arrays = [_value_of(source, values, model) for source in leaf.inputs]
    program = _alone(leaf, arrays, training)
    given = [*arrays, *(_called(model, value.name) for value in program.inputs[len(arrays) :])]
    variables = [index for index, value in enumerate(program.inputs) if value.spec.is_float]
    outputs = [value for value in program.outputs if value.spec.is_float]
    worst, faults = 0.0, []
    for _ in range(DIRECTIONS if variables and outputs else 0):
        analytic, numeric = _directional(program, outputs, variables, given, stream)
        error = abs(analytic - numeric) / max(1.0, abs(analytic), abs(numeric))
        worst = max(worst, error)
        if not error <= tolerance:
            faults.append((leaf.path, f"{leaf.path}: {analytic:.8g} by its gradient, {numeric:.8g} by differences"))
    return NodeCheck(leaf.path, leaf.layer.kind, len(variables), worst), faults[:1]


def _value_of(source: Any, values: Mapping[tuple[str, int], Any], model: Model) -> Any:
    if isinstance(source, TensorSpec):  # zeros, for an optional input that is not given
        specs = {n.name: TensorSpec(tuple(values[n.name, 0].shape)) for n in model.graph.inputs}
        return np.zeros(source.bind(bind_names(model.graph, specs)).shape, "float64")
    return values[source.name, source.index]


def _alone(leaf: Leaf, arrays: Sequence[Any], training: bool) -> Program:
    context = Context(ProgramBuilder(), training, "float64")
    specs = [TensorSpec(tuple(array.shape), str(array.dtype)) for array in arrays]
    tensors = [Tensor(context.builder, context.builder.input(f"in_{i}", spec)) for i, spec in enumerate(specs)]
    outputs, _ = flatten_structure(leaf.layer.lower(Scope(context, leaf.path, leaf.owner), *tensors))
    return context.builder.build([tensor.value for tensor in outputs])


def _called(model: Model, name: str) -> Any:
    if name == RANDOM_INPUT:
        return seed_words(model.seed, model.step)
    return model.parameters[name] if name in model.parameters else model.states[name]


def _directional(
    program: Program, outputs: Sequence[Any], variables: Sequence[int], arrays: Sequence[Any], stream: RandomStream
) -> tuple[float, float]:
    """(w . J v by the gradient, the same by central differences) for random v, w of unit size."""
    weights = [stream.normal(value.spec.shape) / max(1, value.spec.size) ** 0.5 for value in outputs]
    moves = {i: stream.normal(arrays[i].shape) for i in variables}
    backward = differentiate(program, [program.inputs[i] for i in variables], outputs)
    result = evaluate(np, backward, [*arrays, *weights])
    gradients = [result[value] for value in backward.outputs[len(program.outputs) :]]
    analytic = sum(float((g * moves[i]).sum()) for g, i in zip(gradients, variables, strict=True))

    def value_at(distance: float) -> float:
        moved = [array + distance * moves[i] if i in moves else array for i, array in enumerate(arrays)]
        found = evaluate(np, program, moved)
        return sum(float((found[v] * w).sum()) for v, w in zip(outputs, weights, strict=True))

    return analytic, (value_at(STEP) - value_at(-STEP)) / (2 * STEP)
