"""Multi-head attention: several scaled dot products side by side, between linear projections."""

from __future__ import annotations

from functools import partial
from typing import Any, final

from graphnn.errors import OptionError, ShapeError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import SymbolicTensor
from graphnn.graph.module import Module
from graphnn.initializers import Initializer
from graphnn.ir.dimension import is_known
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.layers.attention import DotProductAttention
from graphnn.layers.linear import Linear


@final
class MultiHeadedAttentionModule(Module):
    """y = O(join(head_1, ..., head_n)), where head_i attends with the i-th part of Q(q), K(k) and V(v).

    q: (batch, n_q, d), k and v: (batch, n_k, ...), y: (batch, n_q, d). Q, K, V and O are Linear nodes with d outputs.
    The weights of all heads are the node `attention/weights`, (batch, n_heads, n_q, n_k). Vaswani et al. 2017,
    "Attention is all you need", section 3.2.

    Args:
        n_heads: number of heads; divides d.
        dropout_p: probability that an attention weight is dropped while training, after the softmax.
        init: initial values of the weights.
        causal: query i attends to the keys 0..i only.
        name: node name.
    """

    def __init__(
        self,
        n_heads: int = 8,
        dropout_p: float = 0.0,
        init: Initializer | str = "glorot_uniform",
        causal: bool = False,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if n_heads < 1:
            raise OptionError("attention needs a head", where=self.default_name, expected="n_heads >= 1", got=n_heads)
        self.n_heads = n_heads
        self.Q: Linear | None = None  # `expand` makes the four; here they get their place among the components
        self.K: Linear | None = None
        self.V: Linear | None = None
        self.attention = DotProductAttention(dropout_p=dropout_p, causal=causal, n_heads=n_heads)
        self.O: Linear | None = None
        self._make = partial(Linear, init=init)
        self._projections: dict[int, dict[str, Linear]] = {}

    def expand(self, specs: tuple[TensorSpec | None, ...]) -> Graph:
        """The projections need the size of the queries: four are made for each size that occurs."""
        d = self._size(specs[0])
        if d not in self._projections:
            self._projections[d] = {name: self._make(d) for name in "QKVO"}
        for name, linear in self._projections[d].items():
            setattr(self, name, linear)
        return super().expand(specs)

    def _size(self, q: TensorSpec | None) -> int:
        expected = f"(batch, n_q, d) with an integer d, a multiple of n_heads={self.n_heads}"
        if q is None or q.rank != 3 or not is_known(q.shape[-1]) or q.shape[-1] % self.n_heads or q.shape[-1] == 0:
            raise ShapeError("the queries do not fit", where="q", expected=expected, got=q)
        return q.shape[-1].__index__()

    def forward(
        self,
        q: SymbolicTensor,
        k: SymbolicTensor | None = None,
        v: SymbolicTensor | None = None,
        mask: SymbolicTensor | None = None,
    ) -> SymbolicTensor:
        """The attended values, (batch, n_q, d).

        Args:
            q: queries.
            k: keys; the queries by default: self-attention.
            v: values, one for each key; the keys by default.
            mask: bools, True where a query may attend to a key: (batch, n_k), (n_q, n_k) or (batch, n_q, n_k). A query
                that may attend to nothing gets y = b of O.

        Raises:
            ShapeError: the inputs do not fit each other, or d is no multiple of n_heads.
        """
        k = q if k is None else k
        v = k if v is None else v
        layers: dict[str, Any] = self._projections[q.shape[-1].__index__()]
        projected = [layers[name](x) for name, x in zip("QKV", (q, k, v), strict=True)]
        return layers["O"](self.attention(*projected, mask))
