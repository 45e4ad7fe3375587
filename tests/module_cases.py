"""Graphs of all seed modules, small and of realistic size, and the program of a whole training step of each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnn import layers, modules
from graphnn.autodiff import append_gradients
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.graph.lower import lower
from graphnn.graph.module import Module
from graphnn.graph.scope import RANDOM_INPUT
from graphnn.ir.program import Kind, Origin, Phase, Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Tensor
from graphnn.ops.random import seed_words


def wavenet(c, length):
    x, skip = Input(("batch", length, c), name="x_main"), Input(("batch", length, c), name="x_skip", optional=True)
    return Graph([x, skip], modules.WavenetResidualModule(c, 2 * c, 4, 2, name="m")(x, skip))


def identity(c, size):
    x = Input(("batch", size, size, c), name="x")
    return Graph(x, modules.SkipConnectionIdentityModule(c + 1, 3, 3, act_fn="relu", name="m")(x))


def conv(c, size):
    x = Input(("batch", size, size, c), name="x")
    module = modules.SkipConnectionConvModule(
        c + 1, 2 * c, 3, 3, 1, 1, "same", 2, stride_skip=2, act_fn="relu", name="m"
    )
    return Graph(x, module(x))


def lstm(c, length):
    x = Input(("batch", length, c), name="x")
    return Graph(x, modules.BidirectionalLSTM(2 * c, name="m")(x))


def attention(c, length):
    x = Input(("batch", length, c), name="x")
    return Graph(x, modules.MultiHeadedAttentionModule(2, dropout_p=0.2, name="m")(x))


@dataclass(frozen=True)
class ModuleCase:
    """A graph of one module, and the size of the batch."""

    name: str
    graph: Graph
    batch: int

    def __str__(self) -> str:
        return self.name

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """Integer specs of the inputs."""
        return {node.name: node.spec.bind({"batch": self.batch}) for node in self.graph.inputs}

    def arrays(self, dtype: str = "float32", seed: int = 0) -> dict[str, np.ndarray]:
        """Gaussian inputs by name."""
        rng = np.random.default_rng(seed)
        return {name: rng.normal(size=spec.shape).astype(dtype) for name, spec in self.specs.items()}


SMALL = [
    ModuleCase("wavenet", wavenet(3, 9), 2),
    ModuleCase("identity", identity(3, 6), 2),
    ModuleCase("conv", conv(3, 6), 2),
    ModuleCase("lstm", lstm(3, 5), 2),
    ModuleCase("attention", attention(4, 5), 2),
]
REALISTIC = [
    ModuleCase("wavenet", wavenet(64, 256), 16),
    ModuleCase("identity", identity(47, 28), 16),
    ModuleCase("conv", conv(32, 28), 16),
    ModuleCase("lstm", lstm(32, 50), 16),
    ModuleCase("attention", attention(64, 60), 16),
]


def forward_program(case: ModuleCase, training: bool) -> Program:
    """The lowered graph; while training, running statistics are updated."""
    lowered = lower(case.graph, case.specs, training=training)
    lowered.context.finish()
    return lowered.builder.build([tensor.value for tensor in lowered.outputs])


def training_program(case: ModuleCase) -> Program:
    """Forward, the sum of squares of all outputs, backward by everything, and p <- p - 0.01 dp."""
    lowered = lower(case.graph, case.specs, training=True)
    builder, loss = lowered.builder, None
    for output in lowered.outputs:
        term = (output * output).sum()
        loss = term if loss is None else loss + term
    lowered.context.finish()
    inputs = [tensor.value for tensor in lowered.inputs.values()]
    parameters = [value for value in lowered.context.values.values() if value.kind is Kind.PARAMETER]
    found = append_gradients(builder, {loss.value: loss.fill(1.0, ())}, [*inputs, *parameters])
    with builder.at(Origin("optimizer", Phase.UPDATE)):
        for value in parameters:
            builder.update(value, (Tensor(builder, value) - found[value] * 0.01).value)
    return builder.build([loss.value, *(found[value].value for value in inputs)])


def module_programs(cases: list[ModuleCase]) -> Iterator[tuple[str, Program]]:
    """(name, program): evaluation, training forward and whole training step of each module."""
    for case in cases:
        yield f"{case}-evaluation", forward_program(case, False)
        yield f"{case}-forward", forward_program(case, True)
        yield f"{case}-training", training_program(case)


def numbers_for(program: Program, seed: int = 0) -> list[np.ndarray]:
    """Gaussian numbers for a module's program; variances are positive, random words are words."""
    rng, arrays = np.random.default_rng(seed), []
    for value in program.inputs:
        if value.name == RANDOM_INPUT:
            arrays.append(seed_words(seed, 3))
        elif value.name.endswith("running_var"):
            arrays.append(rng.uniform(0.5, 2.0, value.spec.shape).astype(value.spec.dtype))
        else:
            arrays.append(0.3 * rng.normal(size=value.spec.shape).astype(value.spec.dtype))
    return [np.ascontiguousarray(array, value.spec.dtype) for array, value in zip(arrays, program.inputs, strict=True)]


def flat_outputs(outputs: Any) -> list[np.ndarray]:
    """Outputs of a model, whatever structure they have."""
    if isinstance(outputs, dict):
        return list(outputs.values())
    return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]


def seeds_of(outputs: Any, seed: int = 1) -> list[np.ndarray | None]:
    """Gaussian gradients for them; None for integers."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=y.shape).astype(y.dtype) if y.dtype.kind == "f" else None for y in flat_outputs(outputs)]


def bytes_of(store: Mapping[str, Any]) -> dict[str, bytes]:
    """All arrays of a store, to compare bit for bit."""
    return {path: np.array(array).tobytes() for path, array in store.items()}


class Encoder(Module):
    """A dense layer, batch norm, an activation and dropout."""

    def __init__(self, units=5):
        super().__init__()
        self.fc = layers.Linear(units)
        self.norm = layers.BatchNorm()
        self.act = layers.Tanh()
        self.drop = layers.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.act(self.norm(self.fc(x))))


def net(extra: bool = False) -> Graph:
    """x, optional skip -> {"y", "z"}; with `extra` there is one more node between the inputs and the encoder."""
    x, skip = Input(("batch", 3), name="x"), Input(("batch", 5), name="skip", optional=True)
    h = layers.ReLU(name="extra")(x) if extra else x
    e = Encoder()(h) + skip
    return Graph([x, skip], {"y": layers.Linear(2, name="head")(e), "z": layers.Linear(1, name="tail")(e)}, name="net")
