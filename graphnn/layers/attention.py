"""Attention: scaled dot product attention as a small graph, and embeddings of positions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from graphnn.errors import DTypeError, OptionError, ShapeError
from graphnn.graph.layer import Layer, SymbolicTensor
from graphnn.graph.module import Module
from graphnn.graph.scope import Scope
from graphnn.initializers import Initializer, initializer
from graphnn.ir.dimension import Shape, Size, is_known
from graphnn.layers.arithmetic import MatMul
from graphnn.layers.dropout import Dropout
from graphnn.ops.elementwise import cos, exp, floor, sin, where
from graphnn.ops.linalg import swap_last
from graphnn.ops.op import Tensor
from graphnn.ops.reduction import softmax

MASK_AXES = ("batch_key", "query_key", "batch_query_key")


@final
@dataclass(frozen=True, eq=False)
class AttentionWeights(Layer):
    """w = softmax(q @ k^T / sqrt(d)) over the keys; q (..., n_q, d), k (..., n_k, d), w (..., n_q, n_k).

    A third input is a mask of bools: True where a query may attend to a key. A query that may attend to nothing has the
    weights 0, and no gradient flows through it.

    Args:
        scale: divide by sqrt(d).
        causal: query i attends to the keys 0..i only. First query and first key stand at the same time, also where
            n_q and n_k differ.
        mask_axes: what the axes of the mask are: "batch_key" (batch, n_k), "query_key" (n_q, n_k) or "batch_query_key"
            (batch, n_q, n_k), where an axis may have size 1. The mask is the same for all heads.
    """

    category = "attention"
    scale: bool = True
    causal: bool = False
    mask_axes: str = "batch_query_key"

    def lower(self, scope: Scope, q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
        if q.rank < 3 or q.rank != k.rank or q.shape[-1] != k.shape[-1] or q.shape[:-2] != k.shape[:-2]:
            expected = "q (batch, ..., n_q, d), k (batch, ..., n_k, d)"
            raise ShapeError("queries and keys do not fit", expected=expected, got=f"q {q.spec}, k {k.spec}")
        scores = q @ swap_last(k)
        if self.scale and is_known(q.shape[-1]):  # at declaration d may be a name: then only the shape counts
            scores = scores * (1.0 / math.sqrt(max(q.shape[-1], 1)))
        allowed = self._allowed(scope, scores, mask)
        return softmax(scores if allowed is None else where(allowed, scores, scores.lift(-math.inf)), -1)

    def _allowed(self, scope: Scope, scores: Tensor, mask: Tensor | None) -> Tensor | None:
        """Where a query may attend to a key, broadcast to the scores; None: everywhere."""
        given = None if mask is None else mask.reshape(self._mask_shape(scores, mask))
        if not self.causal:
            return given
        past = scope.iota(scores.shape[-2:], 0) >= scope.iota(scores.shape[-2:], 1)
        return past if given is None else past & given

    def _mask_shape(self, scores: Tensor, mask: Tensor) -> Shape:
        """The mask's shape with size 1 for the axes that it has not."""
        if self.mask_axes not in MASK_AXES:
            raise OptionError("unknown axes of a mask", expected=", ".join(MASK_AXES), got=repr(self.mask_axes))
        if mask.dtype != "bool":
            raise DTypeError("an attention mask says True or False", expected="bool", got=mask.spec, fix="True: attend")
        batch, n_q, n_k = scores.shape[0], *scores.shape[-2:]
        sizes = {"batch_key": (batch, n_k), "query_key": (n_q, n_k), "batch_query_key": (batch, n_q, n_k)}[
            self.mask_axes
        ]
        if mask.rank != len(sizes) or any(a not in (b, 1) for a, b in zip(mask.shape, sizes, strict=True)):
            expected = f"({', '.join(map(str, sizes))}) for {self.mask_axes}"
            raise ShapeError("the mask does not fit", expected=expected, got=mask.spec)
        first, middle = (1,) * (scores.rank - 3), mask.shape
        if self.mask_axes == "query_key":
            return (1, *first, *middle)
        return (middle[0], *first, *(middle[1:] if self.mask_axes == "batch_query_key" else (1, middle[1])))


@final
@dataclass(frozen=True, eq=False)
class SplitHeads(Layer):
    """(batch, n, n_heads * d) -> (batch, n_heads, n, d): head i takes the i-th part of the last axis."""

    category = "shape"
    n_heads: int

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        if x.rank != 3 or not is_known(x.shape[-1]) or x.shape[-1] % self.n_heads:
            expected = f"(batch, n, a multiple of {self.n_heads})"
            raise ShapeError("the last axis does not divide into the heads", expected=expected, got=x.spec)
        batch, n, d = x.shape
        return x.reshape((batch, n, self.n_heads, d // self.n_heads)).transpose((0, 2, 1, 3))


@final
class MergeHeads(Layer):
    """(batch, n_heads, n, d) -> (batch, n, n_heads * d): the inverse of SplitHeads."""

    category = "shape"

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        if x.rank != 4:
            raise ShapeError("there are no heads to merge", expected="(batch, n_heads, n, d)", got=x.spec)
        batch, heads, n, d = x.shape
        return x.transpose((0, 2, 1, 3)).reshape((batch, n, heads * d))


@final
class DotProductAttention(Module):
    """y = dropout(softmax(q @ k^T / sqrt(d))) @ v; q (batch, n_q, d), k (batch, n_k, d), v (batch, n_k, d_v).

    Between batch and n there may be further axes, such as heads. The attention weights are the node `weights` inside,
    (batch, ..., n_q, n_k). Vaswani et al. 2017, "Attention is all you need", section 3.2.

    Args:
        scale: divide by sqrt(d).
        dropout_p: probability that a weight is dropped while training, after the softmax.
        causal: query i attends to the keys 0..i only.
        n_heads: split the last axis of q, k and v into so many parts, attend with each alone, and join the results.
        name: node name.
    """

    def __init__(
        self,
        scale: bool = True,
        dropout_p: float = 0.0,
        causal: bool = False,
        n_heads: int | None = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        check_dropout(dropout_p)
        self.scale, self.causal, self.n_heads = scale, causal, n_heads
        self.dropout = Dropout(dropout_p)

    def forward(
        self, q: SymbolicTensor, k: SymbolicTensor, v: SymbolicTensor, mask: SymbolicTensor | None = None
    ) -> SymbolicTensor:
        """The values that the queries attend to, (batch, ..., n_q, d_v).

        Args:
            q: queries.
            k: keys.
            v: values, one for each key.
            mask: bools, True where a query may attend to a key: (batch, n_k), (n_q, n_k) or (batch, n_q, n_k).

        Raises:
            ShapeError: the mask is (n, n_k) and n is both the number of queries and of examples.
        """
        axes = mask_axes_of(q, mask)
        weigh = AttentionWeights(self.scale, self.causal, axes, name="weights")
        if self.n_heads is not None:
            q, k, v = (SplitHeads(self.n_heads, name=f"split_{n}")(x) for n, x in zip("qkv", (q, k, v), strict=True))
        weights = weigh(q, k) if mask is None else weigh(q, k, mask)
        if self.dropout.p > 0.0:
            weights = self.dropout(weights)
        y = MatMul(name="output")(weights, v)
        return y if self.n_heads is None else MergeHeads(name="merge")(y)


def mask_axes_of(q: SymbolicTensor, mask: SymbolicTensor | None) -> str:
    """What the axes of a mask are, by the sizes at declaration."""
    if mask is None or len(mask.shape) != 2:
        return "batch_query_key"
    batch, n_q, first = q.shape[0], q.shape[-2], mask.shape[0]
    if first == batch and first == n_q and first != 1:
        raise ShapeError(
            "there are as many queries as examples, so a mask of rank 2 has two meanings", where="mask",
            expected=f"({batch}, 1, n_k) for padding, or (1, {n_q}, n_k)", got=mask.spec,
        )  # fmt: skip
    return "batch_key" if first == batch else "query_key"


def check_dropout(p: float) -> None:
    """Raise OptionError unless 0 <= p < 1."""
    if not 0.0 <= p < 1.0:
        raise OptionError("the dropout probability is out of range", expected="0 <= p < 1", got=p)


@final
@dataclass(frozen=True, eq=False)
class PositionalEmbedding(Layer):
    """y[b, t] = x[b, t] + P[t]; x and y (batch, time, d). Without it attention does not see the order of its inputs.

    By default P[t, 2i] = sin(t / 10000**(2i / d)) and P[t, 2i + 1] = cos(t / 10000**(2i / d)), of any length (Vaswani
    et al. 2017, section 3.5). With `max_length` P is a parameter (max_length, d).

    Args:
        max_length: longest sequence for which there are learned positions; None: sines and cosines.
        init: initial values of the learned P.
    """

    category = "embedding"
    max_length: int | None = None
    init: Initializer | str = "glorot_uniform"

    def lower(self, scope: Scope, x: Tensor) -> Tensor:
        if x.rank != 3:
            raise ShapeError("positions belong to sequences", expected="(batch, time, d)", got=x.spec)
        _, time, d = x.shape
        if self.max_length is None:
            return x + sinusoids(scope, time, d).cast(x.dtype)
        if is_known(time) and time > self.max_length:
            raise ShapeError("the sequence is too long", expected=f"at most max_length={self.max_length}", got=x.spec)
        return x + scope.parameter("P", (self.max_length, d), initializer(self.init)).slice(0, 0, time)


def sinusoids(scope: Scope, time: Size, d: Size) -> Tensor:
    """P of PositionalEmbedding (time, d), in float64: float32 would blur the angles of late steps."""
    steps, column = scope.iota((time, 1), 0, "float64"), scope.iota((1, d), 1, "float64")
    pair = floor(column * 0.5)
    width = d.__index__() if is_known(d) else 1  # at declaration a size may be a name: then only the shape counts
    angle = steps * exp(pair * (-2.0 * math.log(10000.0) / max(width, 1)))
    return where(column > pair * 2.0, cos(angle), sin(angle))
