"""plans_of, programs_of: what a model or a trainer runs for given arrays, to be read, drawn and measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphnn.compile import Compiled, compile_forward_backward
from graphnn.errors import OptionError
from graphnn.ir.program import Program
from graphnn.model import Model
from graphnn.plan.plan import Plan
from graphnn.training.trainer import Trainer


@dataclass(frozen=True, eq=False)
class Part:
    """One program of a model or a trainer, and the arrays by name that it is called with, as far as they are known.

    Args:
        name: "forward", "backward" or "step".
        compiled: the program, its plan and its names.
        arrays: those of a backward part lack the residuals, which forward computes, and the cotangents.
    """

    name: str
    compiled: Compiled
    arrays: Mapping[str, Any]


def parts_of(
    target: Model | Trainer, inputs: tuple[Any, ...], named: Mapping[str, Any], training: bool = True, keep: bool = True
) -> list[Part]:
    """Forward and backward of a model, or the one step of a trainer; compiled for these arrays, and not run.

    Args:
        target: a model, or a trainer.
        inputs: those of the model by position; for a trainer (x, y).
        named: inputs of the model by name.
        training: mode of the layers; for a trainer, whether the step updates.
        keep: of a model: False for forward alone, which keeps nothing for backward.

    Raises:
        OptionError: neither a model nor a trainer, or a trainer without x and y.
    """
    if isinstance(target, Model):
        return _parts_of_model(target, inputs, named, training, keep)
    if not isinstance(target, Trainer):
        raise OptionError("there is nothing to compile", expected="a Model or a Trainer", got=type(target).__name__)
    if len(inputs) != 2 or named:
        raise OptionError("a trainer needs a batch", expected="x, y", got=f"{len(inputs)} arrays, {list(named)}")
    compiled, arrays = target.prepare(*inputs, training=training, rate=target.learning_rate(target.steps))
    return [Part("step", compiled, arrays)]


def _parts_of_model(
    model: Model, inputs: tuple[Any, ...], named: Mapping[str, Any], training: bool, keep: bool
) -> list[Part]:
    given, signature = model.bind(inputs, named, training)
    programs = compile_forward_backward(model.graph, model.flat, signature, frozenset(), model.backend, keep)
    parts = [Part("forward", programs.forward, model.call_arrays(given, programs.forward.inputs, model.step))]
    outputs = zip(programs.forward.outputs, programs.forward.program.outputs, strict=True)
    specs = {key.removeprefix("output:"): value.spec for key, value in outputs if key.startswith("output:")}
    floats = tuple(int(index) for index, spec in specs.items() if spec.is_float)
    if floats and keep:
        backward = programs.backward(floats)
        arrays = {name: model.parameters[name] for name in backward.inputs if name in model.parameters}
        parts.append(Part("backward", backward, arrays))
    return parts


def plans_of(target: Model | Trainer, /, *inputs: Any, training: bool = True, **named: Any) -> dict[str, Plan]:
    """{"forward": Plan, "backward": Plan} of a model, {"step": Plan} of a trainer, for arrays of these sizes.

    Args:
        target: a model, or a trainer.
        inputs: as for `Model.forward`; for a trainer, x and y as for `Trainer.train_step`.
        training: mode of the layers; for a trainer, False for the step of `evaluate`.
        named: inputs of a model by name.

    Raises:
        GraphnnError: arrays do not fit.
    """
    parts = parts_of(target, inputs, named, training)
    return {part.name: part.compiled.executable.plan for part in parts}


def programs_of(target: Model | Trainer, /, *inputs: Any, training: bool = True, **named: Any) -> dict[str, Program]:
    """The programs behind `plans_of`, after all passes; the arguments are the same."""
    return {part.name: part.compiled.program for part in parts_of(target, inputs, named, training)}
