"""Views of what a network becomes and does: memory, program, plan, profile, values; all need arrays, or sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from graphnn.autodiff import differentiate
from graphnn.compile import lower_with
from graphnn.errors import GraphnnError, OptionError
from graphnn.graph.graph import Graph
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Program
from graphnn.model import Model
from graphnn.ops.evaluate import evaluate
from graphnn.ops.op import Tensor, spec_of
from graphnn.ops.random import RandomStream
from graphnn.passes.pipeline import run_passes
from graphnn.plan.memory import make_plan
from graphnn.plans import parts_of
from graphnn.profiler import QUANTITIES, profile
from graphnn.render.memory import memory_svg
from graphnn.render.options import DIRECTIONS, Options
from graphnn.render.overlay import Overlay
from graphnn.render.palette import THEMES
from graphnn.render.plan_drawing import plan_svg
from graphnn.render.program_drawing import program_svg
from graphnn.tiled import Tiled
from graphnn.training.trainer import Trainer
from graphnn.values import OVERLAYS, Values, inspect_values

COMMON = ("inputs", "sizes", "targets", "training", "device")
LOWERED = {  # views of programs and plans: the options that each takes beside COMMON
    "memory": ("part", "stage", "theme"),
    "program": ("part", "stage", "theme", "direction", "expand"),
    "plan": ("part", "stage", "theme"),
}
MEASURED = {"profile": ("of", "runs"), "values": ("of",)}  # numbers over the nodes; the drawing's options too
PARTS, STAGES = ("forward", "backward", "training"), ("ops", "kernels")
NUMBERS = ("seconds", "flops", "bytes", "outputs", "gradients")


@dataclass(frozen=True)
class Request:
    """What is run, or made for a run.

    Args:
        inputs: an array, a tuple in input order, or a dict by input name.
        targets: of a trainer, as for `Trainer.train_step`.
        sizes: of named dimensions, in place of `inputs`: random numbers of these sizes are taken.
        training: mode of the layers.
        device: on which a graph is run; a model has one.
        part: of a model: "forward", "backward", or "training" for both in one program. A trainer has one step.
        stage: "ops" as the passes leave them on every device, or "kernels": what the device makes of them.
        theme: of memory, program and plan: "auto", "light" or "dark".
        direction: of a program: "down" or "right", where values flow to.
        expand: of a program: glob of the nodes whose ops are shown.
        of: which numbers: "seconds", "flops", "bytes" of a profile; "outputs", "gradients" of values.
        runs: how often a profile measures.

    Raises:
        OptionError: no such part, stage, theme or direction.
    """

    inputs: Any = None
    targets: Any = None
    sizes: Mapping[str, int] | None = None
    training: bool = True
    device: str = "cpu"
    part: str = "forward"
    stage: str = "ops"
    theme: str = "auto"
    direction: str = "down"
    expand: str | None = None
    of: str = ""
    runs: int = 5

    def __post_init__(self) -> None:
        allowed_by_name = {"part": PARTS, "stage": STAGES, "theme": THEMES, "direction": DIRECTIONS}
        for name, allowed in allowed_by_name.items():
            if (given := getattr(self, name)) not in allowed:
                raise OptionError("there is no such choice", where=name, expected=", ".join(allowed), got=repr(given))


def split_options(view: str, options: Mapping[str, Any]) -> tuple[Request, dict[str, Any]]:
    """The request in the options of a view, and the options of the drawing.

    Raises:
        OptionError: an option that the view does not take; names those that it does.
    """
    own = (*COMMON, *LOWERED.get(view, ()), *MEASURED.get(view, ()))
    rest = {name: value for name, value in options.items() if name not in own}
    if view in LOWERED and rest:
        raise OptionError(f"no option of the view {view}", expected=", ".join(own), got=next(iter(rest)))
    names = {field.name for field in fields(Request)}
    return Request(**{name: options[name] for name in own if name in options and name in names}), rest


def check_view_of(view: str, options: Mapping[str, Any]) -> None:
    """An option that only other views take is refused by the name of those.

    Raises:
        OptionError: there is one.
    """
    drawn = {field.name for field in fields(Options)}
    for name in (name for name in options if name not in drawn):
        views = [other for other, own in (LOWERED | MEASURED).items() if name in (*COMMON, *own)]
        if views:
            counted = ', or what show="flops" and show="memory" count' if name in COMMON else ""
            expected = f"with one of the views {', '.join(views)}{counted}"
            raise OptionError(f"no option of the view {view}", where=name, expected=expected, got=repr(options[name]))


def lowered_svg(target: Graph | Model | Trainer, view: str, request: Request) -> str:
    """A program, or a plan as a table or as memory over steps.

    Raises:
        OptionError: sizes are missing; says which. GraphnnError: arrays do not fit.
    """
    program, words = _program(target, request)
    if request.stage == "kernels":
        model = model_of(target, request)
        program, words = model.backend.rewrite(program), f"{words}, kernels on {model.device}"
    title = f"{_graph_of(target).default_name}: {view} of {words}"
    if view == "program":
        program, title = _inside_of_tiles(program, title)
        return program_svg(program, title, request.expand, request.direction, request.theme)
    return (memory_svg if view == "memory" else plan_svg)(make_plan(program), title, request.theme)


def overlays_of(target: Graph | Model | Trainer, view: str, request: Request, every: bool) -> list[Overlay]:
    """The numbers of a profile or of values that are asked for, to be laid over the nodes.

    Args:
        target: what is run.
        view: "profile" or "values".
        request: how, and which numbers.
        every: then follow all other numbers that the same run gives.

    Raises:
        OptionError: sizes are missing; says which. GraphnnError: arrays do not fit.
    """
    if view == "profile":
        arrays, named = _call(target, request)
        runner = target if isinstance(target, Trainer) else model_of(target, request)
        found = profile(runner, *arrays, runs=request.runs, training=request.training, **named)
        return [found.overlay(of) for of in _chosen(request.of, tuple(QUANTITIES), every)]
    return _values(target, request, every)


def _chosen(of: str, known: tuple[str, ...], every: bool) -> list[str]:
    """What is asked for, by default the first that is known; with `every` the others too."""
    first = of or known[0]
    return list(dict.fromkeys((first, *known))) if every else [first]


def random_inputs(graph: Graph, sizes: Mapping[str, int], seed: int = 0, dtype: str = "float32") -> dict[str, Any]:
    """Normal numbers for floats; 0 and 1 for integers, which are valid indices almost everywhere."""
    arrays = {}
    for node in graph.inputs:
        spec, stream = node.spec.bind(sizes), RandomStream(seed, f"input {node.name}")
        shape = tuple(map(int, spec.shape))
        numbers = stream.normal(shape) if spec.is_float else stream.uniform(shape) < 0.5
        arrays[node.name] = numbers.astype(dtype if spec.is_float else spec.dtype)
    return arrays


def _graph_of(target: Graph | Model | Trainer) -> Graph:
    return target if isinstance(target, Graph) else target.graph if isinstance(target, Model) else target.model.graph


def model_of(target: Graph | Model | Trainer, request: Request) -> Model:
    """For a graph a new model, whose weights do not matter for most views."""
    if isinstance(target, Graph):
        return Model(target, device=request.device)
    return target.model if isinstance(target, Trainer) else target


# -- arrays ------------------------------------------------------------------------------------------------------------


def arrays_of(graph: Graph, request: Request) -> dict[str, Any]:
    """Inputs by name, as given or random."""
    given, names = request.inputs, [node.name for node in graph.inputs]
    if isinstance(given, Mapping):
        return dict(given)
    if given is not None:
        return dict(zip(names, given if isinstance(given, tuple) else (given,), strict=False))
    sizes = dict(request.sizes or {})
    needed = dict.fromkeys(name for node in graph.inputs for name in sorted(node.spec.names))
    if missing := [name for name in needed if name not in sizes]:
        example = ", ".join(f"{name!r}: 16" for name in needed)
        raise OptionError(
            "the size of every named dimension is needed", where="sizes",
            expected=", ".join(needed), got=f"no size of {', '.join(missing)}",
            fix=f"give sizes={{{example}}}, or inputs= with arrays",
        )  # fmt: skip
    return random_inputs(graph, sizes)


def _call(target: Graph | Model | Trainer, request: Request) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """(x, y) for a trainer; inputs by name for a model."""
    if not isinstance(target, Trainer):
        return (), arrays_of(_graph_of(target), request)
    if request.targets is None or request.inputs is None:
        got = ", ".join(name for name in COMMON[:3] if getattr(request, name) is not None) or "neither"
        fix = "give inputs=x, targets=y as for train_step, or draw trainer.model"
        raise OptionError("the view of a trainer needs a batch", expected="inputs and targets", got=got, fix=fix)
    return (arrays_of(target.model.graph, request), request.targets), {}


# -- programs ----------------------------------------------------------------------------------------------------------


def _program(target: Graph | Model | Trainer, request: Request) -> tuple[Program, str]:
    """A program after the passes that are the same on every device, and what it is in words."""
    arrays, named = _call(target, request)
    if isinstance(target, Trainer):
        (step,) = parts_of(target, arrays, named, request.training)
        return step.compiled.program, "a training step" if request.training else "an evaluation step"
    model = model_of(target, replace(request, device="reference"))  # nothing is run
    if request.part == "training":
        return _forward_and_backward(model, named), "forward and backward"
    parts = {part.name: part for part in parts_of(model, arrays, named, request.training)}
    if request.part not in parts:
        raise OptionError("no gradient visits this network", where="part", expected="forward", got=request.part)
    return parts[request.part].compiled.program, request.part


def _forward_and_backward(model: Model, named: Mapping[str, Any]) -> Program:
    """Outputs and the gradients of trained parameters in one program, as in a training step."""
    _, signature = model.bind((), named, True)
    lowered = lower_with(model.graph, model.flat, signature)
    lowered.context.finish()
    program = lowered.builder.build([tensor.value for tensor in lowered.outputs])
    trained = [v for v in program.inputs if v.kind is Kind.PARAMETER and v.name not in signature.fixed]
    floats = [value for value in program.outputs if value.spec.is_float]
    return run_passes(differentiate(program, trained, floats))


def _inside_of_tiles(program: Program, title: str) -> tuple[Program, str]:
    """Of a program that is cut into tiles that of one tile: it has the kernels that do the work."""
    loops = [i.op for i in program.instructions if isinstance(i.op, Tiled)]
    if not loops:
        return program, title
    largest = max(loops, key=lambda loop: len(loop.body.instructions))
    return largest.body, f"{title}: one of {largest.tiles} tiles"


# -- values ------------------------------------------------------------------------------------------------------------


def _values(target: Graph | Model | Trainer, request: Request, every: bool) -> list[Overlay]:
    """A network that has no gradients, or a trainer without targets, has the outputs alone."""
    wanted = _chosen(request.of, OVERLAYS, every)
    try:
        found = _inspected(target, request, "gradients" in wanted)
    except GraphnnError:
        if wanted[0] == "gradients" or len(wanted) == 1:
            raise
        wanted = wanted[:1]
        found = _inspected(target, request, False)
    return [found.overlay(of) for of in wanted]


def _inspected(target: Graph | Model | Trainer, request: Request, with_gradients: bool) -> Values:
    model, given = model_of(target, request), None
    arrays = arrays_of(model.graph, request)
    if with_gradients:
        outputs = {n: a for n, a in _outputs(model, arrays, request.training).items() if a.dtype.kind == "f"}
        by_name = _loss_gradients(target, outputs, request) if isinstance(target, Trainer) else _ones(outputs)
        given = by_name.get("", by_name)
    return inspect_values(model, output_gradients=given, training=request.training, **arrays)


def _outputs(model: Model, arrays: Mapping[str, Any], training: bool) -> dict[str, np.ndarray]:
    """By name, "" for the one unnamed output; the model stays as it is."""
    forward = next(part for part in parts_of(model, (), arrays, training) if part.name == "forward")
    found = forward.compiled(dict(forward.arrays))
    names = model.graph.output_names or ("",)
    return {name: model.to_host(found[f"output:{index}"]) for index, name in enumerate(names)}


def _ones(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.ones_like(array) for name, array in outputs.items()}


def _loss_gradients(trainer: Trainer, outputs: Mapping[str, np.ndarray], request: Request) -> dict[str, np.ndarray]:
    """Of the loss by each output that has one."""
    targets = _call(trainer, request)[0][1]
    given = targets if isinstance(targets, Mapping) else {next(iter(trainer.losses)): targets}
    return {name: _loss_gradient(trainer, name, outputs[name], np.asarray(given[name])) for name in trainer.losses}


def _loss_gradient(trainer: Trainer, name: str, output: np.ndarray, target: np.ndarray) -> np.ndarray:
    builder = ProgramBuilder()
    target = target.astype({"f": output.dtype.name, "i": "int64", "u": "int64"}.get(target.dtype.kind, "bool"))
    values = [builder.input(name, spec_of(array)) for name, array in (("output", output), ("target", target))]
    loss = trainer.losses[name].lower(*(Tensor(builder, value) for value in values))
    program = differentiate(builder.build([loss.value]), values[:1])
    return evaluate(np, program, [output, target, np.ones((), output.dtype)])[program.outputs[-1]]
