"""Trainer: one compiled call per step, and the loop around it."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from graphnn.arrays import ArrayStore, as_array, check_array
from graphnn.backends.compilations import Compilations
from graphnn.backends.reference import array_module_of
from graphnn.compile import (
    LEARNING_RATE,
    STEP,
    Compiled,
    CompiledStep,
    Objective,
    Signature,
    compile_step,
    optimizer_dtype,
)
from graphnn.errors import GraphError, OptionError, ParameterError
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.losses import Loss
from graphnn.losses import loss as loss_of
from graphnn.metrics import Metric
from graphnn.metrics import metric as metric_of
from graphnn.model import Model
from graphnn.ops.op import spec_of
from graphnn.optimizers import Optimizer
from graphnn.optimizers import optimizer as optimizer_of
from graphnn.schedules import schedule
from graphnn.training.callbacks import Callback
from graphnn.training.data import Batches, count_examples
from graphnn.training.history import History
from graphnn.training.interrupt import Interrupt
from graphnn.training.loop import Loop
from graphnn.training.means import Means, Position
from graphnn.training.prepared import PreparedStep, mode_of

PREPARED_KEPT = 8  # sorts of batches: full ones and last ones, of training and of evaluation
Targets = Any  # an array, or a dict of arrays by output name


class Trainer:
    """Trains a model: forward, loss, backward, clipping and update are one program, run by one call per batch.

    Args:
        model: changed in place.
        loss: a Loss or its name; a dict by output name for several outputs.
        optimizer: an Optimizer or its name.
        metrics: Metrics or names ("accuracy"); a dict of such lists by output name for several outputs.

    Attributes:
        history: rows of all `fit` calls so far.
        steps: optimizer steps done.
        stop_requested: set it (in a callback) to end `fit` after the step at hand.
        cut: how far the last epoch came where it was cut off; a checkpoint keeps it.
        begin: where the next epoch begins, if not with its first batch: what a checkpoint kept.

    Raises:
        OptionError, GraphError: unknown names, or losses for outputs that do not exist.
    """

    def __init__(
        self,
        model: Model,
        loss: Loss | str | Mapping[str, Loss | str],
        optimizer: Optimizer | str = "adam",
        metrics: Sequence[Metric | str] | Mapping[str, Sequence[Metric | str]] = (),
    ):
        if not isinstance(model, Model):
            raise GraphError("a trainer trains a Model", expected="gnn.Model(graph)", got=type(model).__name__)
        self.model = model
        self.optimizer = optimizer_of(optimizer)
        self.losses = {name: loss_of(value) for name, value in self._by_output(loss, "loss").items()}
        chosen = self._by_output(metrics, "metrics") if metrics else {}
        self.metrics = {name: tuple(metric_of(value) for value in values) for name, values in chosen.items()}
        self.history = History()
        self.steps = 0
        self._memory = ArrayStore({})
        self.stop_requested = False
        self.cut: Position | None = None
        self.begin: Position | None = None
        self._schedule = schedule(self.optimizer.learning_rate)
        self._compiled: Compilations[CompiledStep] = Compilations()
        self._prepared: list[PreparedStep] = []  # the newest first

    def _by_output(self, value: Any, what: str) -> dict[str, Any]:
        names: tuple[str, ...] = self.model.graph.output_names or ("",)
        if not isinstance(value, Mapping):
            if len(names) != 1:
                raise GraphError(f"the graph has several outputs, so give {what} as a dict", expected=names, got=value)
            return {names[0]: value}
        if unknown := set(value) - set(names):
            raise GraphError(f"{what} for an output that does not exist", expected=names, got=sorted(unknown))
        return dict(value)

    # -- one step -----------------------------------------------------------------------------------------------------

    def train_step(self, x: Any, y: Targets) -> float:
        """One optimizer step on one batch: a single compiled call.

        Args:
            x: array, tuple of arrays in input order, or dict by input name.
            y: target array, or dict by output name.

        Returns:
            The loss before the update.

        Raises:
            GraphnnError: arrays do not fit; nothing has changed.
        """
        return self.train_batch(x, y)["loss"]

    def train_batch(self, x: Any, y: Targets) -> dict[str, float]:
        """Like `train_step`; returns the loss and all metrics."""
        results = self._call(x, y, True, self._schedule(self.steps))
        self.steps += 1
        self.model.step += 1
        self.model.parameters.version += 1
        return results

    @property
    def memory(self) -> ArrayStore:
        """Optimizer states by path ("conv/W/m"), kept over freezing and unfreezing; assigning copies arrays."""
        return self._memory

    @memory.setter
    def memory(self, arrays: Mapping[str, Any]) -> None:
        to_device = self.model.backend.to_device
        self._memory = ArrayStore({path: to_device(as_array(array, path)) for path, array in arrays.items()})

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self._schedule(step)

    def _call(self, x: Any, y: Targets, training: bool, rate: float = 0.0) -> dict[str, float]:
        """The loss and all metrics; what was looked up for an earlier batch of the same specs is used again."""
        model, mode = self.model, mode_of(self.model, training)
        for known in self._prepared:
            if known.mode == mode and (batch := known.take(x, y)) and known.is_current(model, self.memory):
                return known.run(batch, rate, self.steps + 1, model.step)
        compiled, arrays = self.prepare(x, y, training, rate)
        results = compiled(arrays)
        self._keep(compiled, arrays, mode, x, y)
        return {key.removeprefix("metric:"): float(value) for key, value in results.items()}

    def _keep(self, compiled: Compiled, arrays: Mapping[str, Any], mode: Hashable, x: Any, y: Targets) -> None:
        """Prepare for more batches like this one, if its arrays could be used as they are."""
        targets = y if isinstance(y, Mapping) else {next(iter(self.losses)): y}
        batch = {**self._named(x), **{f"target:{name}": array for name, array in targets.items()}}
        if any(type(array) is not np.ndarray or arrays.get(name, array) is not array for name, array in batch.items()):
            return
        new = PreparedStep(compiled, arrays, self.model, self.memory, mode, x, y, batch)
        kept = [step for step in self._prepared if step.is_current(self.model, self.memory)]
        self._prepared = [new, *kept][:PREPARED_KEPT]

    def prepare(self, x: Any, y: Targets, training: bool = True, rate: float = 0.0) -> tuple[Compiled, dict[str, Any]]:
        """The compiled step for a batch, and the arrays that it is called with, by name; nothing is run.

        Args:
            x: as for `train_step`.
            y: as for `train_step`.
            training: False for the step of `evaluate`.
            rate: the learning rate of the step.
        """
        model = self.model
        arrays, signature = model.bind((), self._named(x), training)
        targets = self._bind_targets(y)
        step = self._compile(signature, {name: spec_of(array) for name, array in targets.items()})
        self._complete_memory(step)
        given = arrays | {f"target:{name}": array for name, array in targets.items()} | dict(self.memory)
        dtype = optimizer_dtype(model.dtype)
        given[LEARNING_RATE] = model.to_device(np.asarray(rate), dtype)
        given[STEP] = model.to_device(np.asarray(self.steps + 1), dtype)
        return step.compiled, model.call_arrays(given, step.compiled.inputs, model.step)

    def _complete_memory(self, step: CompiledStep) -> None:
        """Check the optimizer states that there are, and make those that a step needs besides."""
        for path, spec in step.memory.items():
            if path in self.memory and (found := spec_of(self.memory[path])) != spec:
                raise ParameterError("an optimizer state does not fit", where=path, expected=spec, got=found)
        new = {path: spec for path, spec in step.memory.items() if path not in self.memory}
        if new:
            made = {path: self._filled(spec, step.initial[path]) for path, spec in new.items()}
            self._memory = ArrayStore({**self.memory, **made})

    def _filled(self, spec: TensorSpec, initial: float) -> Any:
        array = self.model.backend.zeros(tuple(map(int, spec.shape)), spec.dtype)
        if initial:
            array[...] = initial
        return array

    def _bind_targets(self, y: Targets) -> dict[str, Any]:
        names = list(self.losses)
        given = dict(y) if isinstance(y, Mapping) else {names[0]: y}
        if set(given) != set(names) or (not isinstance(y, Mapping) and len(names) > 1):
            raise GraphError("targets do not match the losses", where="y", expected=names, got=sorted(given))
        return {name: self._bind_target(name, array) for name, array in given.items()}

    def _bind_target(self, name: str, array: Any) -> Any:
        array = array if hasattr(array, "dtype") and hasattr(array, "shape") else np.asarray(array)
        dtype = {"f": self.model.dtype, "i": "int64", "u": "int64", "b": "bool"}.get(array.dtype.kind, "")
        if not dtype:
            raise OptionError(
                "targets are numbers", where=f"y {name}".strip(), expected="integers or floats", got=array.dtype
            )
        spec = TensorSpec(tuple(array.shape), dtype)
        return self.model.to_device(check_array(array, spec, self.model.dtype, "y"), dtype)

    def _compile(self, signature: Signature, targets: Mapping[str, TensorSpec]) -> CompiledStep:
        key = (signature, tuple(targets.items()), self.model.device)

        def make() -> CompiledStep:
            self._check_targets(signature, targets)
            objective = Objective(self.losses, self.metrics, self.optimizer if signature.training else None)
            return compile_step(self.model.graph, self.model.flat, signature, targets, objective, self.model.backend)

        return self._compiled.get(key, make)

    def _check_targets(self, signature: Signature, targets: Mapping[str, TensorSpec]) -> None:
        sizes = {spec.shape[0] for _, spec in signature.inputs if spec.rank} | {
            s.shape[0] for s in targets.values() if s.rank
        }
        if len(sizes) > 1:
            specs = [f"{name or 'y'}: {spec}" for name, spec in (*signature.inputs, *targets.items())]
            raise GraphError("inputs and targets differ in batch size", where="y", got=", ".join(specs))

    # -- loops --------------------------------------------------------------------------------------------------------

    def fit(
        self,
        data: Any,
        epochs: int = 1,
        batch_size: int = 32,
        validation: Any = None,
        callbacks: Sequence[Callback] = (),
        seed: int = 0,
        shuffle: bool = True,
        steps: int | None = None,
        progress: bool = True,
        on_interrupt: str = "stop",
    ) -> History:
        """Train on `data`.

        Args:
            data: (x, y), or an iterable of (x, y) batches that can be gone through again.
            epochs: passes over the data.
            batch_size: examples per step, where `data` is (x, y).
            validation: (x, y), evaluated after every epoch.
            callbacks: called with this trainer; see `graphnn.Callback`.
            seed: of the order of examples; the order of epoch e, counted over all fits, depends on (seed, e) alone.
            shuffle: False keeps the order of the data.
            steps: stop after this many steps, wherever the epochs stand.
            progress: a progress line on a terminal, one plain line per epoch elsewhere.
            on_interrupt: "stop": the first Ctrl-C ends training after the step at hand and returns, the second raises;
                "raise": KeyboardInterrupt as usual.

        Returns:
            The history of all fits of this trainer; `status` is "completed", "stopped" or "interrupted".

        Raises:
            DivergenceError: the loss is NaN or infinite; says at which step, whose update has been made already.
            GraphnnError: the data do not fit; nothing was trained.
        """
        _check_fit(epochs, steps, callbacks, on_interrupt)
        batches = self._batches(data, batch_size, seed, shuffle)
        checked = None if validation is None else self._batches(validation, max(batch_size, 256), 0, False)
        if checked is not None and checked.examples:  # what does not fit shall not be found after an epoch's work
            self.prepare(*next(iter(checked)), training=False)
        self.stop_requested = False
        with Interrupt(on_interrupt == "stop") as interrupt:
            loop = Loop(self, batches, checked, steps, epochs, progress, tuple(callbacks), interrupt)
            loop.run()
        return self.history

    def explain(
        self,
        x: Any,
        y: Targets,
        training: bool = True,
        step: str | int | None = None,
        ir: bool = False,
        assembly: bool = False,
    ) -> Any:
        """What `train_step` (or, with `training=False`, `evaluate`) runs: `print` it. See `graphnn.explain`."""
        from graphnn.explanation import explain

        return explain(self, x, y, training=training, step=step, ir=ir, assembly=assembly)

    def evaluate(self, data: Any, batch_size: int = 256) -> dict[str, float]:
        """Loss and metrics over `data`, each batch weighted by its number of examples; nothing changes."""
        return self.evaluate_batches(self._batches(data, batch_size, 0, False))

    def evaluate_batches(self, batches: Batches) -> dict[str, float]:
        """`evaluate` on data that is cut into batches already."""
        means = Means()
        for x, y in batches:
            means.add(self._call(x, y, training=False), count_examples(x))
        return means.values()

    def predict(self, x: Any, batch_size: int = 256) -> Any:
        """Outputs for all of `x`, computed in batches; the structure of `Model.forward`."""
        parts = []
        for batch, _ in self._batches((x, None), batch_size, 0, False):
            parts.append(self.model.run(keep=False, **self._named(batch)).outputs)
        return _join(parts)

    # -- files ---------------------------------------------------------------------------------------------------------

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write weights, optimizer states, counters and history to one npz file, all or nothing."""
        from graphnn.training.checkpoint import save_checkpoint

        save_checkpoint(self, path)

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Go on from where `save_checkpoint` was called: `fit` with the same data and seed then gives the same numbers.

        An epoch that was cut off is taken up at the batch behind the last one. Nothing changes unless all fits.

        Raises:
            FileFormatError, ParameterError, OptionError: it is damaged, or of another network or optimizer.
        """
        from graphnn.training.checkpoint import load_checkpoint

        load_checkpoint(self, path)

    # -- pictures ------------------------------------------------------------------------------------------------------

    def to_svg(self, view: str = "forward", depth: int | None = None, **options: Any) -> str:
        """As `Model.to_svg`; views of a run are those of a training step, and need `inputs` and `targets`."""
        from graphnn.model_views import draw

        return draw(self, view, depth, options)

    def render(self, path: str | os.PathLike[str], view: str = "forward", depth: int | None = None, **how: Any) -> None:
        """Write the drawing, as `to_svg` makes it, to `path`: .svg, .html or .dot."""
        from graphnn.model_views import write

        write(self, path, view, depth, how)

    def _batches(self, data: Any, batch_size: int, seed: int, shuffle: bool) -> Batches:
        if isinstance(data, Batches):
            return data
        if isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], tuple):
            data = (self._named(data[0]), data[1])
        return Batches(data, batch_size, shuffle=shuffle, seed=seed)

    def _named(self, x: Any) -> dict[str, Any]:
        """One array, a tuple in input order, or a dict by name -> arrays by input name."""
        if isinstance(x, Mapping):
            return dict(x)
        given = x if isinstance(x, tuple) else (x,)
        names = [node.name for node in self.model.graph.inputs]
        if len(given) > len(names):
            raise GraphError("too many inputs", where="x", expected=names, got=f"{len(given)} arrays")
        return dict(zip(names, given, strict=False))


def _check_fit(epochs: int, steps: int | None, callbacks: Sequence[Callback], on_interrupt: str) -> None:
    for name, count in (("epochs", epochs), ("steps", 0 if steps is None else steps)):
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0:
            raise OptionError(f"`{name}` does not fit", where="fit", expected="an integer >= 0", got=repr(count))
    if on_interrupt not in ("stop", "raise"):
        raise OptionError("unknown `on_interrupt`", where="fit", expected="'stop' or 'raise'", got=repr(on_interrupt))
    if not isinstance(callbacks, list | tuple) or not all(isinstance(c, Callback) for c in callbacks):
        raise OptionError("`callbacks` does not fit", where="fit", expected="a list of Callbacks", got=repr(callbacks))


def _join(parts: list[Any]) -> Any:
    first = parts[0]
    if isinstance(first, Mapping):
        return {key: _join([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple):
        return tuple(_join([part[index] for part in parts]) for index in range(len(first)))
    return array_module_of(first).concatenate(parts)
