"""Model: a Graph, its parameter arrays by path, and its compiled Executables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphnn.arrays import ArrayStore, as_array, bind_inputs, check_expressions, check_keywords, store
from graphnn.backends.choose import backend_for
from graphnn.backends.compilations import Compilations
from graphnn.backends.executable import Backend
from graphnn.backends.reference import array_module
from graphnn.compile import ForwardBackward, Signature, compile_forward_backward
from graphnn.errors import GraphError, OptionError, ParameterError, StateError
from graphnn.graph.flatten import flatten
from graphnn.graph.graph import Graph
from graphnn.graph.scope import RANDOM_INPUT
from graphnn.ir.program import Kind
from graphnn.ir.tensor_spec import FLOATS, TensorSpec
from graphnn.model_paths import ancestors, declarations_of, initial_array, match_all
from graphnn.model_summary import ModelSummary, hyperparameters, summarize_model
from graphnn.ops.op import Array
from graphnn.ops.random import seed_words
from graphnn.render.mime import bundle
from graphnn.run import Run

if TYPE_CHECKING:
    from graphnn.files.npz import MatchReport


class Model:
    """What a user holds: a graph with numbers.

    Args:
        graph: the declared network.
        seed: of initial weights and dropout masks; the same on every device, whatever else is in the graph.
        device: "cpu", "cuda" (CuPy) or "reference".
        dtype: floating-point type of inputs and parameters.

    Raises:
        GraphError, OptionError, BackendError: not a graph, an unknown dtype, a missing device.
    """

    parameters: ArrayStore = store("parameters", "Trained arrays by path, in definition order.")
    states: ArrayStore = store("states", "Running statistics by path.")
    gradients: ArrayStore = store("gradients", "What backward calls have added up since the last `cleargrads`.")

    def __init__(self, graph: Graph, seed: int = 0, device: str = "cpu", dtype: str = "float32"):
        if not isinstance(graph, Graph):
            raise GraphError(
                "a model is made of a Graph", expected="gnn.Graph(inputs, outputs)", got=type(graph).__name__
            )
        if dtype not in FLOATS:
            raise OptionError("unknown dtype of a model", expected=", ".join(FLOATS), got=repr(dtype))
        check_keywords(graph)
        self.graph = graph
        seed_words(seed, 0)  # refuses what is no seed
        self.seed = seed
        self.dtype = dtype
        self.device = device
        self.step = 0  # training runs so far; part of the key of every random mask
        self._flat = flatten(graph)
        self._backend: Backend = backend_for(device)
        self._declarations = declarations_of(self._flat.leaves, dtype)
        self._parameters, self._states = self._initial(Kind.PARAMETER), self._initial(Kind.STATE)
        self._gradients = ArrayStore({path: self._zeros(array) for path, array in self._parameters.items()})
        self._frozen_nodes: frozenset[str] = frozenset()  # only looked up in, never gone through
        self._fixed_parameters: frozenset[str] = frozenset()
        self._compiled: Compilations[ForwardBackward] = Compilations()
        self._last: Run | None = None

    def _initial(self, kind: Kind) -> ArrayStore:
        """One after the other: no second copy of all is in memory."""
        chosen = {path: d for path, d in self._declarations.items() if d.kind is kind}
        return ArrayStore({path: self._backend.to_device(initial_array(d, self.seed)) for path, d in chosen.items()})

    def _zeros(self, array: Array) -> Array:
        return self._backend.zeros(array.shape, array.dtype.name)

    # -- running ------------------------------------------------------------------------------------------------------

    def forward(
        self,
        /,
        *inputs: Any,
        training: bool = False,
        retain: Iterable[str] | str | bool = (),
        keep: bool = True,
        **named: Any,
    ) -> Any:
        """Run the graph.

        Args:
            inputs: arrays in the order of the graph's inputs, or by name. Floats are converted to the model's dtype.
            training: True for batch statistics and dropout; running statistics are then updated.
            retain: node paths (globs), or True for all, whose values `derived_variables` shall have.
            keep: False for inference only: nothing is kept for `backward`.
            named: arrays by input name; optional inputs may be missing.

        Returns:
            An array, or a tuple or dict of arrays: the structure that the graph was declared with.

        Raises:
            GraphError, ShapeError, DTypeError: arrays do not fit; nothing was run.
        """
        self._last = self.run(*inputs, training=training, retain=retain, keep=keep, **named)
        return self._last.outputs

    def run(
        self,
        /,
        *inputs: Any,
        training: bool = False,
        retain: Iterable[str] | str | bool = (),
        keep: bool = True,
        **named: Any,
    ) -> Run:
        """Like `forward`, but the state of the run is an object of its own: runs may be interleaved."""
        arrays, signature = self.bind(inputs, named, bool(training))
        retained = self._match_nodes(retain)
        program = self._program(signature, retained, bool(keep))
        step = self.step
        results = program.forward(self.call_arrays(arrays, program.forward.inputs, step))
        self.step += signature.training  # last of all: a run that fails changes nothing
        return Run(self, program if keep else None, arrays, results, step)

    def backward(self, /, *gradients: Any, accumulate: bool = True, **named: Any) -> Any:
        """Gradients of the last `forward`: given those of outputs, returns those of inputs.

        Args:
            gradients: of the outputs, by position or name; missing ones count as zero.
            accumulate: add to `gradients` of parameters.
            named: by output name.

        Returns:
            {input name: array}; the array alone for a graph with one unnamed output and one input.

        Raises:
            StateError: there was no forward, it kept nothing, or parameters were assigned since.
        """
        if self._last is None:
            raise StateError("backward came before forward", fix="call model.forward first")
        return self._last.backward(*gradients, accumulate=accumulate, **named)

    @property
    def derived_variables(self) -> Mapping[str, Any]:
        """Retained values of the last forward by path and, after backward, their gradients as "dLd/<path>"."""
        return self._last.derived_variables if self._last else {}

    def bind(
        self, positional: tuple[Any, ...], named: Mapping[str, Any], training: bool
    ) -> tuple[dict[str, Any], Signature]:
        """Check a call's arrays and move them to the device; the signature says what to compile for."""
        given, sizes = bind_inputs(self.graph, positional, named, self.dtype)
        check_expressions(self.graph, given, sizes)
        specs, arrays = [], {}
        for node in self.graph.inputs:
            spec = TensorSpec(node.spec.bind(sizes).shape, self.dtype if node.spec.is_float else node.spec.dtype)
            array = given.get(node.name)
            arrays[node.name] = self.to_device(np.zeros(spec.shape, spec.dtype) if array is None else array, spec.dtype)
            specs.append((node.name, spec))
        frozen = self.frozen_nodes()
        return arrays, Signature(tuple(specs), training, self.dtype, frozen, self.fixed_parameters())

    def to_device(self, array: Any, dtype: str) -> Any:
        """A contiguous array of `dtype` on the model's device; not copied where it already is one."""
        xp = array_module(self.device)
        if xp is np and not isinstance(array, np.ndarray) and hasattr(array, "get"):
            array = array.get()
        return xp.asarray(array, dtype=dtype, order="C")

    def call_arrays(self, arrays: Mapping[str, Any], names: Iterable[str], step: int) -> dict[str, Any]:
        """Arrays for an Executable's inputs: given ones, parameters, states and the random key."""
        result: dict[str, Any] = {}
        for name in names:
            if name in arrays:
                result[name] = arrays[name]
            elif name == RANDOM_INPUT:
                result[name] = self.to_device(seed_words(self.seed, step), "uint32")
            else:
                result[name] = self.parameters[name] if name in self.parameters else self.states[name]
        return result

    def _program(self, signature: Signature, retain: frozenset[str], keep: bool) -> ForwardBackward:
        key = (signature, retain, keep, self.device)
        return self._compiled.get(
            key, lambda: compile_forward_backward(self.graph, self._flat, signature, retain, self._backend, keep)
        )

    def _match_nodes(self, retain: Iterable[str] | str | bool) -> frozenset[str]:
        paths = [leaf.path for leaf in self._flat.leaves] + list(self._flat.groups)
        if isinstance(retain, bool):
            return frozenset(paths if retain else ())
        patterns = [retain] if isinstance(retain, str) else retain
        return frozenset(match_all(patterns, paths, "node"))

    # -- freezing -----------------------------------------------------------------------------------------------------

    def freeze(self, *patterns: str) -> None:
        """Keep nodes or parameters whose path matches a glob ("conv_*", "encoder", "*/b") as they are; all by default.

        A frozen node keeps its weights, statistics and optimizer moments bit for bit: BatchNorm uses its running
        statistics, Dropout drops nothing. Gradients still pass through it.

        Raises:
            ParameterError: a pattern matches nothing; nothing was frozen.
        """
        nodes, parameters = self._freezable(patterns)
        self._frozen_nodes |= nodes
        self._fixed_parameters |= parameters

    def unfreeze(self, *patterns: str) -> None:
        """Undo `freeze` for what matches and for all inside of it; all by default.

        Raises:
            ParameterError: a pattern matches nothing; nothing was unfrozen.
        """
        nodes, parameters = self._freezable(patterns)
        self._frozen_nodes -= nodes
        self._fixed_parameters -= parameters

    def _freezable(self, patterns: Sequence[str]) -> tuple[set[str], set[str]]:
        """Leaf nodes that match, themselves or by a node around them; their parameters, and those that match."""
        paths = [*self._flat.groups, *(leaf.path for leaf in self._flat.leaves), *self.parameters]
        chosen = set(match_all(patterns or ("*",), paths, "node or parameter"))
        leaves = [leaf for leaf in self._flat.leaves if not chosen.isdisjoint(ancestors(leaf.path))]
        owned = {leaf.owner + declaration.path for leaf in leaves for declaration in leaf.declarations}
        return {leaf.path for leaf in leaves}, {path for path in self.parameters if path in owned | chosen}

    def frozen_nodes(self) -> frozenset[str]:
        """Paths of all leaf nodes that are frozen, themselves or through a node around them."""
        return self._frozen_nodes

    def fixed_parameters(self) -> frozenset[str]:
        """Paths of parameters that are not trained."""
        return self._fixed_parameters

    # -- parameters ---------------------------------------------------------------------------------------------------

    def cleargrads(self) -> None:
        """Set all parameter gradients to zero."""
        for array in self.gradients.values():
            array[...] = 0

    def to_gpu(self) -> Model:
        """Move parameters, states and gradients to the GPU; returns the model."""
        return self._move("cuda")

    def to_cpu(self) -> Model:
        """Move parameters, states and gradients to the CPU; returns the model."""
        return self._move("cpu")

    def _move(self, device: str) -> Model:
        target = backend_for(device)
        stores = [
            ArrayStore({path: target.to_device(self._backend.to_host(array)) for path, array in store.items()})
            for store in (self.parameters, self.states, self.gradients)
        ]
        for old, new in zip((self.parameters, self.states, self.gradients), stores, strict=True):
            new.version = old.version + 1  # runs from before the move cannot go backward
        self._parameters, self._states, self._gradients = stores
        self._backend, self.device, self._last = target, device, None
        return self

    @property
    def backend(self) -> Backend:
        """Where the model runs."""
        return self._backend

    @property
    def flat(self) -> Any:
        """The graph's leaves."""
        return self._flat

    def to_host(self, array: Array) -> np.ndarray:
        """A NumPy copy of a device array."""
        return self._backend.to_host(array)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write parameters and states to an npz file, all or nothing; the model stays where it is.

        "m" and "m.npz" mean the same file.
        """
        from graphnn.files.npz import save_arrays

        arrays = {**self.parameters, **self.states}
        save_arrays(path, {name: self.to_host(array) for name, array in arrays.items()})

    def load_weights(self, path: str | os.PathLike[str], strict: bool = True) -> MatchReport:
        """Read parameters and states; nothing is assigned unless all fit.

        Args:
            path: what `save_weights` wrote.
            strict: False assigns what fits and reports the rest.

        Raises:
            FileFormatError: the file is damaged. ParameterError: arrays are missing, unknown or of another shape.
        """
        from graphnn.files.npz import load_arrays

        found = load_arrays(path)
        return self._assign(found, strict, where=os.fspath(path))

    def _assign(self, found: Mapping[str, np.ndarray], strict: bool, where: str) -> MatchReport:
        from graphnn.files.npz import match

        expected = {p: (tuple(map(int, d.spec.shape)), d.spec.dtype) for p, d in self._declarations.items()}
        report = match(expected, found, strict=strict, where=where)
        for name in report.matched:
            store = self.parameters if name in self.parameters else self.states
            store[name] = self.to_device(found[name], self.dtype)
        return report

    # -- reading ------------------------------------------------------------------------------------------------------

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Layer, name and arguments of every node, nested as the graph is; plain data."""
        return hyperparameters(self.graph)

    def to_svg(self, view: str = "forward", depth: int | None = None, **options: Any) -> str:
        """As `Graph.to_svg`, with frozen nodes marked; the backward view also marks what is kept for it."""
        from graphnn.model_views import draw

        return draw(self, view, depth, options)

    def render(self, path: str | os.PathLike[str], view: str = "forward", depth: int | None = None, **how: Any) -> None:
        """Write the drawing, as `to_svg` makes it, to `path`: .svg, .html or .dot."""
        from graphnn.model_views import write

        write(self, path, view, depth, how)

    def summary(self) -> ModelSummary:
        """A printable table; `.to_dict()` is a detached JSON-able copy with all numbers, for `set_params`."""
        return summarize_model(self)

    def explain(
        self,
        *inputs: Any,
        training: bool = False,
        step: str | int | None = None,
        ir: bool = False,
        assembly: bool = False,
        **named: Any,
    ) -> Any:
        """What runs for inputs of these sizes, step by step: `print` it. See `graphnn.explain`; nothing is run."""
        from graphnn.explanation import explain

        return explain(self, *inputs, training=training, step=step, ir=ir, assembly=assembly, **named)

    def set_params(self, summary: Mapping[str, Any]) -> None:
        """Take parameters and states from `summary().to_dict()`; the dict stays as it is.

        Raises:
            ParameterError: it was made by another graph, or arrays are missing or of another shape.
        """
        try:
            given = {**summary["parameters"], **summary["states"]}
        except (KeyError, TypeError):
            got = f"keys {', '.join(map(str, summary))}" if isinstance(summary, Mapping) else type(summary).__name__
            raise ParameterError(
                "not a model summary", expected='a dict with "parameters" and "states"', got=got
            ) from None
        arrays = {name: as_array(value, f"summary, {name}").astype(self.dtype) for name, value in given.items()}
        empty = {p: d.spec.shape for p, d in self._declarations.items() if 0 in d.spec.shape}
        arrays |= {
            name: arrays[name].reshape(empty[name]) for name in arrays.keys() & empty.keys() if not arrays[name].size
        }
        self._assign(arrays, True, where="summary")

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        return bundle(str(self.summary()), self.to_svg)

    def __repr__(self) -> str:
        count = sum(int(np.prod(array.shape)) for array in self.parameters.values())
        return f"Model({self.graph!r}, {count:,} parameters, device={self.device!r}, dtype={self.dtype!r})"
