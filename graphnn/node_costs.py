"""What `show=` adds to the nodes of a picture and is known without a run: operations, bytes, device."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from graphnn.backends.reference import ReferenceBackend
from graphnn.compile import Signature, compile_forward_backward
from graphnn.errors import OptionError
from graphnn.graph.graph import Graph
from graphnn.graph.lower import bind_names
from graphnn.graph.summary import walk
from graphnn.ir.program import Program
from graphnn.ir.tensor_spec import ITEM_BYTES, TensorSpec
from graphnn.model import Model
from graphnn.plan.cost import cost_of
from graphnn.render.describe import and_above, parameters_by_path
from graphnn.render.options import COUNTED, never
from graphnn.render.units import bytes_text, flops_text
from graphnn.run_views import Request, arrays_of, model_of
from graphnn.training.trainer import Trainer


@dataclass(frozen=True)
class Bytes:
    """Of the parameters whose first use is at or inside a node, and of what comes out of the node."""

    parameters: int
    outputs: int


def counted_words(show: str | Collection[str]) -> tuple[str, ...]:
    """Those words of the option `show` that `facts_of` knows."""
    return tuple(word for word in COUNTED if word in ([show] if isinstance(show, str) else show))


def facts_of(target: Graph | Model | Trainer, words: Collection[str], request: Request) -> dict[str, tuple[str, ...]]:
    """Lines for each node at every depth by path; "" has the totals, without a run and without a compiled kernel.

    Args:
        target: a graph, which has no device; of a trainer, its model.
        words: of COUNTED.
        request: sizes or inputs, for "flops" and "memory" of a graph with named dimensions.

    Raises:
        OptionError: sizes are missing, or the device of a graph is asked for; says what to give.
    """
    if "device" in words and isinstance(target, Graph):
        fix = "draw a Model of it, or leave `device` out"
        raise OptionError("a graph is on no device", where="show", expected="a Model", got="a Graph", fix=fix)
    model = model_of(target, replace(request, device="reference"))
    lines: dict[str, list[str]] = {"": [], **{path: [] for path, _, _ in walk(model.graph)}}
    if {"flops", "memory"} & set(words):
        _, signature = model.bind((), arrays_of(model.graph, request), request.training)
        _add(lines, _sized_lines(model, signature, words))
    if "device" in words:
        _add(lines, ((path, f"on {model.device}") for path in list(lines)))
    return {path: tuple(found) for path, found in lines.items()}


def _add(lines: dict[str, list[str]], more: Iterator[tuple[str, str]]) -> None:
    for path, line in more:
        lines[path].append(line)


def _sized_lines(model: Model, signature: Signature, words: Collection[str]) -> Iterator[tuple[str, str]]:
    if "flops" in words:
        for path, count in flops_by_path(model.graph, forward_program(model, signature)).items():
            text = "an unknown number of FLOP" if count is None else flops_text(count)
            yield path, f"{text} forward" if path else f"forward: {text} in all"
    if "memory" in words:
        for path, found in bytes_by_path(model.graph, signature).items():
            parts = [f"{bytes_text(found.parameters)} parameters"] if found.parameters else []
            of = "output" if path else "outputs of layers"
            yield path, " · ".join([*parts, f"{bytes_text(found.outputs)} {of}"])


def forward_program(model: Model, signature: Signature) -> Program:
    """The ops of a forward run that keeps nothing, after the passes that are the same on every device."""
    backend = ReferenceBackend()
    return compile_forward_backward(model.graph, model.flat, signature, frozenset(), backend, False).forward.program


def flops_by_path(graph: Graph, program: Program) -> dict[str, int | None]:
    """Operations of each node with all inside it, and of the program by ""; None where nobody can know them.

    The conventions are those of `graphnn.plan.cost`.
    """
    result: dict[str, int | None] = {"": 0, **{path: 0 for path, _, _ in walk(graph)}}
    for i in program.instructions:
        flops = cost_of(i.op, [v.spec for v in i.inputs], [v.spec for v in i.outputs]).flops
        for path in filter(result.__contains__, and_above(i.origin.path)):
            known = result[path]
            result[path] = None if known is None or flops is None else known + flops
    return result


def bytes_by_path(graph: Graph, signature: Signature) -> dict[str, Bytes]:
    """Of each node at every depth; "" has all parameters, and the outputs of all layers."""
    sizes, dtype = bind_names(graph, dict(signature.inputs)), signature.dtype
    owned = {path: counts.owned * ITEM_BYTES[dtype] for path, counts in parameters_by_path(graph, never).items()}
    outputs = {path: sum(_nbytes(spec, sizes, dtype) for spec in node.specs) for path, _, node in walk(graph)}
    outputs[""] = sum(outputs[path] for path, _, node in walk(graph) if node.graph is None)
    return {path: Bytes(owned[path], outputs[path]) for path in owned}


def _nbytes(spec: TensorSpec, sizes: Mapping[str, int], dtype: str) -> int:
    bound = spec.bind(sizes)
    return (bound.with_dtype(dtype) if spec.is_float else bound).nbytes
