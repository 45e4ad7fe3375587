"""Embedding: rows of a learned table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from graphnn.errors import OptionError, ShapeError
from graphnn.graph.layer import Layer
from graphnn.graph.scope import Scope
from graphnn.initializers import Initializer, initializer
from graphnn.ops.indexing import gather
from graphnn.ops.op import Tensor
from graphnn.ops.reduction import mean


@final
@dataclass(frozen=True, eq=False)
class Embedding(Layer):
    """y[..., t, :] = W[ids[..., t]], or the sum or mean of these rows over the last axis of ids.

    ids: integers (batch, ..., length), 0 <= id < vocab_size; W: (vocab_size, n_out);
    y: (batch, ..., length, n_out), pooled (batch, ..., n_out).

    Args:
        n_out: length of a row.
        vocab_size: number of rows.
        pool: None, "sum" or "mean" over the last axis of ids.
        init: initial values of W.
    """

    category = "embedding"
    n_out: int
    vocab_size: int
    pool: str | None = None
    init: Initializer | str = "glorot_uniform"

    def lower(self, scope: Scope, ids: Tensor) -> Tensor:
        if self.pool not in (None, "sum", "mean"):
            raise OptionError("unknown pooling of an embedding", expected='None, "sum" or "mean"', got=repr(self.pool))
        if self.pool is not None and ids.rank < 2:
            raise ShapeError("there is no axis to pool over", expected="(batch, ..., length)", got=ids.spec)
        w = scope.parameter("W", (self.vocab_size, self.n_out), initializer(self.init))
        rows = gather(w, ids, axis=0)
        if self.pool is None:
            return rows
        return rows.sum(-2) if self.pool == "sum" else mean(rows, -2)
