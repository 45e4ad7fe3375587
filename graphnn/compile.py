"""From a Graph to Executables: the only file that knows every stage.

lower -> differentiate -> passes -> plan -> backend. What comes out is called with arrays; nothing is traced again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from graphnn.autodiff import append_gradients
from graphnn.backends.executable import Backend, Executable
from graphnn.errors import GradientError, GraphnnError
from graphnn.graph.flatten import FlatGraph
from graphnn.graph.graph import Graph
from graphnn.graph.lower import Lowered, lower
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Instruction, Kind, Origin, Phase, Program, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Tensor
from graphnn.passes.pipeline import run_passes
from graphnn.plan.memory import make_plan

if TYPE_CHECKING:
    from graphnn.losses import Loss
    from graphnn.metrics import Metric
    from graphnn.optimizers import Optimizer

LEARNING_RATE, STEP = "step:learning_rate", "step:number"  # no name of a node or input holds a colon


@dataclass(frozen=True)
class Signature:
    """What a compilation depends on, beside the graph.

    Args:
        inputs: (name, integer spec) of every graph input.
        training: mode of the layers.
        dtype: floating-point type of parameters.
        frozen: paths of frozen leaf nodes.
        fixed: paths of parameters that get no gradient.
    """

    inputs: tuple[tuple[str, TensorSpec], ...]
    training: bool
    dtype: str
    frozen: frozenset[str]
    fixed: frozenset[str]


@dataclass(frozen=True, eq=False)
class Compiled:
    """An Executable with names for its inputs and outputs.

    Args:
        executable: the planned program on a backend.
        inputs: name or path of each input, in call order.
        outputs: key of each output, in order.
    """

    executable: Executable
    program: Program
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __call__(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Run with arrays by name; returns outputs by key."""
        results = self.executable([arrays[name] for name in self.inputs])
        return dict(zip(self.outputs, results, strict=True))


def compile_program(builder: ProgramBuilder, outputs: Mapping[str, Value], backend: Backend) -> Compiled:
    """Rewrite, plan and bind the program in `builder`; inputs that nothing needs are left out of the call."""
    keys, values = tuple(outputs), tuple(outputs.values())
    program = run_passes(builder.build(values))
    used = {value for instruction in program.instructions for value in instruction.inputs} | set(program.results)
    used |= {old for old, _ in program.updates}
    program = Program(
        tuple(v for v in program.inputs if v in used), program.instructions, program.outputs, program.updates
    )  # fmt: skip
    input_names = tuple(value.name for value in program.inputs)
    return Compiled(backend.compile(make_plan(backend.rewrite(program))), program, input_names, keys)


def lower_with(graph: Graph, flat: FlatGraph, signature: Signature) -> Lowered:
    """The graph's forward instructions for a signature."""
    return lower(
        graph, dict(signature.inputs), training=signature.training, dtype=signature.dtype,
        is_frozen=signature.frozen.__contains__, flat=flat,
    )  # fmt: skip


# -- forward and backward as two programs -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ForwardBackward:
    """A forward program that also returns what its backward program needs.

    Args:
        forward: outputs "output:<i>", "node:<path>:<i>" for retained nodes, and "residual:<i>".
        backward: made for a set of given output gradients; inputs "residual:<i>", "cotangent:<i>" and parameters.
    """

    forward: Compiled
    backward: Callable[[tuple[int, ...]], Compiled]


def compile_forward_backward(
    graph: Graph, flat: FlatGraph, signature: Signature, retain: frozenset[str], backend: Backend, keep_residuals: bool
) -> ForwardBackward:
    """Compile the forward program, and the backward program when it is first asked for.

    Args:
        graph: what to compile.
        flat: its flattened form.
        signature: sizes, mode, frozen nodes.
        retain: paths of nodes whose values (and gradients) are wanted.
        backend: where to run.
        keep_residuals: False for inference: nothing is kept for a backward program.
    """
    lowered = lower_with(graph, flat, signature)
    lowered.context.finish()
    builder = lowered.builder
    forward_count = len(builder.instructions)
    outputs = {f"output:{i}": t.value for i, t in enumerate(lowered.outputs)}
    for path in filter(retain.__contains__, lowered.nodes):
        outputs |= {f"node:{path}:{i}": t.value for i, t in enumerate(lowered.nodes[path])}
    residuals = _residuals(lowered, signature, retain) if keep_residuals else []
    outputs |= {f"residual:{i}": value for i, value in enumerate(residuals)}
    forward = compile_program(builder, outputs, backend)

    cache: dict[tuple[int, ...], Compiled] = {}

    def backward(given: tuple[int, ...]) -> Compiled:
        if given not in cache:
            cache[given] = _compile_backward(lowered, signature, retain, given, residuals, forward_count, backend)
        return cache[given]

    return ForwardBackward(forward, backward)


def wanted_gradients(lowered: Lowered, signature: Signature, retain: frozenset[str]) -> dict[str, Value]:
    """Values whose gradients the backward program returns: inputs, trained parameters, retained nodes."""
    wanted = {f"input:{name}": t.value for name, t in lowered.inputs.items() if t.spec.is_float}
    wanted |= {f"parameter:{path}": value for path, value in trained_parameters(lowered, signature).items()}
    for path in filter(retain.__contains__, lowered.nodes):
        wanted |= {f"node:{path}:{i}": t.value for i, t in enumerate(lowered.nodes[path]) if t.spec.is_float}
    return wanted


def trained_parameters(lowered: Lowered, signature: Signature) -> dict[str, Value]:
    """Parameters that get gradients, by path, in declaration order."""
    declarations = lowered.context.declarations.values()
    paths = [d.path for d in declarations if d.kind is Kind.PARAMETER and d.path not in signature.fixed]
    return {path: lowered.context.values[path] for path in paths}


def _differentiate(
    lowered: Lowered, signature: Signature, retain: frozenset[str], given: Sequence[int], forward_count: int
) -> tuple[ProgramBuilder, dict[str, Value], list[Value]]:
    """A builder with forward and backward instructions, gradients by key, and the cotangent inputs."""
    start = Program(tuple(lowered.builder.inputs), tuple(lowered.builder.instructions[:forward_count]), ())
    builder = ProgramBuilder(start)
    wanted = wanted_gradients(lowered, signature, retain)
    cotangents, seeds = [], {}
    for index in given:
        value = lowered.outputs[index].value
        cotangents.append(builder.input(f"cotangent:{index}", value.spec))
        seed = Tensor(builder, cotangents[-1])
        seeds[value] = seeds[value] + seed if value in seeds else seed
    found = append_gradients(builder, seeds, wanted.values(), forward_count)
    gradients = {key: found[value].value for key, value in wanted.items() if value in found}
    return builder, gradients, cotangents


def _residuals(lowered: Lowered, signature: Signature, retain: frozenset[str]) -> list[Value]:
    """Forward values that the backward instructions read, for gradients of all outputs."""
    given = [i for i, tensor in enumerate(lowered.outputs) if tensor.spec.is_float]
    count = len(lowered.builder.instructions)
    builder, gradients, _ = _differentiate(lowered, signature, retain, given, count)
    forward = {v for instruction in builder.instructions[:count] for v in instruction.outputs}
    needed: dict[Value, None] = {}
    live = set(gradients.values())
    for instruction in reversed(builder.instructions[count:]):
        if any(value in live for value in instruction.outputs):
            live.update(instruction.inputs)
    for value in builder.inputs:
        if value in live and value.kind in (Kind.INPUT, Kind.STATE) and not value.name.startswith("cotangent:"):
            needed[value] = None
    for instruction in builder.instructions[:count]:
        needed.update((v, None) for v in instruction.outputs if v in live and v in forward)
    return list(needed)


def kept_for_backward(graph: Graph, flat: FlatGraph, signature: Signature) -> dict[str, tuple[str, ...]]:
    """What a forward run keeps for its backward run: for each node or input by path, which values of it."""
    lowered = lower_with(graph, flat, signature)
    lowered.context.finish()
    makers = {value: made.origin.path for made in lowered.builder.instructions for value in made.outputs}
    results = {tensor.value: None for tensors in lowered.nodes.values() for tensor in tensors}
    kept: dict[str, tuple[str, ...]] = {}
    for value in _residuals(lowered, signature, frozenset()):
        path = makers.get(value, value.name)
        text = "output" if value in results else "a value inside" if value in makers else "input"
        kept[path] = (*kept.get(path, ()), f"{text}, {value.spec.dtype}")
    return kept


def _compile_backward(
    lowered: Lowered,
    signature: Signature,
    retain: frozenset[str],
    given: tuple[int, ...],
    residuals: Sequence[Value],
    forward_count: int,
    backend: Backend,
) -> Compiled:
    """The backward instructions alone; residuals become inputs."""
    builder, gradients, cotangents = _differentiate(lowered, signature, retain, given, forward_count)
    backward = ProgramBuilder()
    table: dict[Value, Value] = {}
    for index, value in enumerate(residuals):
        table[value] = backward.input(f"residual:{index}", value.spec)
    for value in builder.inputs:
        if value.kind is Kind.PARAMETER or value in cotangents:
            table[value] = backward.input(value.name, value.spec, value.kind)
    for instruction in builder.instructions[forward_count:]:
        if not all(value in table for value in instruction.inputs):
            continue  # reads a forward value that no wanted gradient depends on, so it is dead
        _copy_instruction(backward, instruction, table)
    missing = [key for key, value in gradients.items() if value not in table]
    if missing:
        raise GradientError("a gradient depends on a value that was not kept", got=missing[0], fix="report this")
    return compile_program(backward, {key: table[value] for key, value in gradients.items()}, backend)


def _copy_instruction(builder: ProgramBuilder, instruction: Instruction, table: dict[Value, Value]) -> None:
    with builder.at(instruction.origin):
        outputs = builder.emit(instruction.op, [table[value] for value in instruction.inputs])
    table.update(zip(instruction.outputs, outputs, strict=True))


# -- a whole training step as one program -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Objective:
    """What a Trainer minimises and reports.

    Args:
        losses: loss by output name ("" for the one unnamed output).
        metrics: metrics by output name.
        optimizer: None for evaluation.
    """

    losses: Mapping[str, Loss]
    metrics: Mapping[str, tuple[Metric, ...]]
    optimizer: Optimizer | None


@dataclass(frozen=True, eq=False)
class CompiledStep:
    """A training or evaluation step, and the optimizer states that it declares."""

    compiled: Compiled
    memory: Mapping[str, TensorSpec]
    initial: Mapping[str, float]


def compile_step(
    graph: Graph,
    flat: FlatGraph,
    signature: Signature,
    targets: Mapping[str, TensorSpec],
    objective: Objective,
    backend: Backend,
) -> CompiledStep:
    """Forward, loss, metrics and, with an optimizer, backward, clipping and updates: one program, one call.

    Inputs beside the graph's: "target:<output>", "step:learning_rate", "step:number". Outputs: "loss", "metric:<name>".
    """
    lowered = lower_with(graph, flat, signature)
    builder = lowered.builder
    loss, outputs = _append_losses(lowered, graph, targets, objective)
    lowered.context.finish()
    memory = _OptimizerMemory(builder)
    if objective.optimizer is not None:
        with builder.at(Origin("loss", Phase.BACKWARD)):
            seeds = {loss.value: loss.fill(1.0, ())}
        parameters = trained_parameters(lowered, signature)
        found = append_gradients(builder, seeds, parameters.values())
        gradients = {path: found[value] for path, value in parameters.items() if value in found}
        _append_updates(builder, objective.optimizer, lowered, gradients, memory)
    compiled = compile_program(builder, {"loss": loss.value, **outputs}, backend)
    return CompiledStep(compiled, memory.specs, memory.initial)


def _append_losses(
    lowered: Lowered, graph: Graph, targets: Mapping[str, TensorSpec], objective: Objective
) -> tuple[Tensor, dict[str, Value]]:
    builder = lowered.builder
    names = graph.output_names or ("",)
    predictions = dict(zip(names, lowered.outputs, strict=True))
    total: Tensor | None = None
    outputs: dict[str, Value] = {}
    for name, spec in targets.items():
        target = Tensor(builder, builder.input(f"target:{name}", spec))
        try:
            with builder.at(Origin(f"loss/{name}" if name else "loss")):
                value = objective.losses[name].lower(predictions[name], target)
                total = value if total is None else total + value
                for metric in objective.metrics.get(name, ()):
                    key = f"{name}/{metric.name}" if name else metric.name
                    outputs[f"metric:{key}"] = metric.lower(predictions[name], target).value
        except GraphnnError as error:
            raise error.locate(f"loss of output {name or 0!r}") from None
    if total is None:
        raise GradientError("there is no target, so there is no loss", expected=", ".join(names))
    return total, outputs


def optimizer_dtype(dtype: str) -> str:
    """The type that updates of parameters of `dtype` are computed and remembered in.

    float32 for float16, whose least number is above Adam's epsilon and which counts steps to 2048 only.
    """
    return "float32" if dtype == "float16" else dtype


def _append_updates(
    builder: ProgramBuilder,
    optimizer: Optimizer,
    lowered: Lowered,
    gradients: Mapping[str, Tensor],
    memory: _OptimizerMemory,
) -> None:
    if not gradients:
        return
    dtype = optimizer_dtype(lowered.context.dtype)
    rate = Tensor(builder, builder.input(LEARNING_RATE, TensorSpec((), dtype)))
    step = Tensor(builder, builder.input(STEP, TensorSpec((), dtype)))
    gradients = {path: gradient.cast(dtype) for path, gradient in gradients.items()}
    with builder.at(Origin("optimizer/clip", Phase.UPDATE)):
        clipped = dict(zip(gradients, optimizer.clip(list(gradients.values())), strict=True))
    for path, gradient in clipped.items():
        parameter = Tensor(builder, lowered.context.values[path])
        with builder.at(Origin(path, Phase.UPDATE)):
            memory.enter(path, parameter.spec.with_dtype(dtype))
            new = optimizer.update(memory, parameter.cast(dtype), gradient, rate, step)
            builder.update(parameter.value, new.cast(parameter.dtype).value)
    memory.finish()


class _OptimizerMemory:
    """States of the optimizer, one set per parameter path: nothing is shared between parameters."""

    def __init__(self, builder: ProgramBuilder):
        self._builder = builder
        self._path, self._spec = "", TensorSpec(())
        self._values: dict[str, Value] = {}
        self._new: dict[str, Tensor] = {}
        self.specs: dict[str, TensorSpec] = {}
        self.initial: dict[str, float] = {}

    def enter(self, path: str, spec: TensorSpec) -> None:
        self._path, self._spec = path, spec

    def get(self, name: str, initial: float = 0.0) -> Tensor:
        """The state `name` of the parameter at hand."""
        path = f"{self._path}/{name}"
        if path not in self._values:
            self._values[path] = self._builder.input(path, self._spec, Kind.STATE)
            self.specs[path], self.initial[path] = self._spec, initial
        return self._new.get(path, Tensor(self._builder, self._values[path]))

    def set(self, name: str, new: Tensor) -> None:
        """Its value after the step."""
        self._new[f"{self._path}/{name}"] = new

    def finish(self) -> None:
        for path, new in self._new.items():
            self._builder.update(self._values[path], new.value)
