"""The workloads in jax: functions of parameters by path, in graphnn's own layout, channels last.

A twin takes the parameters and the inputs by name, and a dict into which it puts the new running statistics. jax is an
optional package: it is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from graphnn.bench.workloads import DILATIONS, ENCODER_LAYERS, HEADS

Array: TypeAlias = Any  # jax.Array
Parameters: TypeAlias = Mapping[str, Array]
States: TypeAlias = dict[str, Array]
Twin: TypeAlias = Callable[[Parameters, Mapping[str, Array], States], Any]
MOMENTUM, EPSILON = 0.9, 1e-5


# -- layers ------------------------------------------------------------------------------------------------------------


def relu(x: Array) -> Array:
    """jax's own, whose gradient is a selection."""
    import jax

    return jax.nn.relu(x)


def linear(p: Parameters, path: str, x: Array) -> Array:
    """x @ W + b."""
    return x @ p[f"{path}/W"] + p[f"{path}/b"]


def convolve(p: Parameters, path: str, x: Array, pad: Any, stride: int = 1, dilation: int = 1) -> Array:
    """A convolution over the axes between batch and channels."""
    from jax import lax

    layout = {3: ("NHC", "HIO", "NHC"), 4: ("NHWC", "HWIO", "NHWC")}[x.ndim]
    steps, rates = (stride,) * (x.ndim - 2), (dilation,) * (x.ndim - 2)
    y = lax.conv_general_dilated(x, p[f"{path}/W"], steps, pad, rhs_dilation=rates, dimension_numbers=layout)
    return y + p[f"{path}/b"]


def batch_norm(p: Parameters, path: str, x: Array, states: States) -> Array:
    """By the statistics of the batch; moves the running ones."""
    from jax import lax

    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axes), x.var(axes)
    for name, value in (("running_mean", mean), ("running_var", variance)):
        key = f"{path}/{name}"
        states[key] = states[key] * MOMENTUM + value * (1.0 - MOMENTUM)
    return (x - mean) * (p[f"{path}/scaler"] * lax.rsqrt(variance + EPSILON)) + p[f"{path}/intercept"]


def layer_norm(p: Parameters, path: str, x: Array) -> Array:
    """Over the last axis."""
    from jax import lax

    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + EPSILON) * p[f"{path}/scaler"] + p[f"{path}/intercept"]


# -- dense -------------------------------------------------------------------------------------------------------------


def mlp(p: Parameters, x: Mapping[str, Array], states: States) -> Array:
    """Linear, ReLU, Linear, ReLU, Linear."""
    return linear(p, "logits", relu(linear(p, "hidden_1", relu(linear(p, "hidden_0", x["x"])))))


# -- sequences by convolution ------------------------------------------------------------------------------------------


def residual_block(p: Parameters, path: str, dilation: int, main: Array, skip: Array | None) -> tuple[Array, Array]:
    """(new main, new skip)."""
    import jax
    from jax import numpy as jnp

    h = convolve(p, f"{path}/conv_dilation", main, [(dilation, 0)], dilation=dilation)
    out = convolve(p, f"{path}/conv_1x1", jnp.tanh(h) * jax.nn.sigmoid(h), "VALID")
    return main + out, out if skip is None else skip + out


def wavenet(p: Parameters, x: Mapping[str, Array], states: States) -> Array:
    """The stack of blocks."""
    main, skip = convolve(p, "front", x["x"], [(1, 0)]), None
    for dilation in DILATIONS:
        main, skip = residual_block(p, f"block_{dilation}", dilation, main, skip)
    return convolve(p, "head", relu(skip), "VALID")


def wavenet_residual(p: Parameters, x: Mapping[str, Array], states: States) -> dict[str, Array]:
    """One block."""
    main, skip = residual_block(p, "block", 4, x["x_main"], x["x_skip"])
    return {"y_main": main, "y_skip": skip}


# -- images ------------------------------------------------------------------------------------------------------------


def skip_block(p: Parameters, path: str, x: Array, states: States) -> Array:
    """A residual block; one with a convolution in its shortcut halves the image."""
    halves = f"{path}/conv_skip/W" in p
    around = [(1, 1), (1, 1)]
    main = relu(convolve(p, f"{path}/conv1", x, around, 2 if halves else 1))
    main = convolve(p, f"{path}/conv2", batch_norm(p, f"{path}/batchnorm1", main, states), around)
    main = batch_norm(p, f"{path}/batchnorm2", main, states)
    if halves:
        x = batch_norm(p, f"{path}/batchnorm_skip", convolve(p, f"{path}/conv_skip", x, "VALID", 2), states)
    return relu(x + main)


def resnet(p: Parameters, x: Mapping[str, Array], states: States) -> Array:
    """Stem, six blocks, mean, logits."""
    h = relu(convolve(p, "stem", x["x"], "SAME"))
    for path in (f"block_{ch}_{part}" for ch in (16, 32, 64) for part in "ab"):
        h = skip_block(p, path, h, states)
    return linear(p, "logits", h.mean((1, 2)))


def skip_module(p: Parameters, x: Mapping[str, Array], states: States) -> Array:
    """One block."""
    return skip_block(p, "block", x["x"], states)


# -- recurrent ---------------------------------------------------------------------------------------------------------


def lstm(p: Parameters, path: str, x: Array, reverse: bool) -> Array:
    """A scan over time behind one product for all steps: (time, batch, n_in) -> (time, batch, n_out)."""
    import jax
    from jax import lax
    from jax import numpy as jnp

    u = p[f"{path}/U"]

    def step(carry: tuple[Array, Array], z: Array) -> tuple[tuple[Array, Array], Array]:
        h, c = carry
        i, f, g, o = jnp.split(z + h @ u, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((x.shape[1], u.shape[0]), x.dtype)
    return lax.scan(step, (zeros, zeros), linear(p, path, x), reverse=reverse)[1]


def bidirectional_lstm(p: Parameters, x: Mapping[str, Array], states: States) -> Array:
    """Both directions, side by side."""
    from jax import numpy as jnp

    steps = x["x"].transpose(1, 0, 2)
    both = [lstm(p, f"bilstm/{cell}", steps, cell == "cell_bwd") for cell in ("cell_fwd", "cell_bwd")]
    return jnp.concatenate(both, -1).transpose(1, 0, 2)


def bilstm(p: Parameters, x: Mapping[str, Array], states: States) -> Array:
    """Logits for each step."""
    return linear(p, "logits", bidirectional_lstm(p, x, states))


# -- attention ---------------------------------------------------------------------------------------------------------


def multi_head_attention(p: Parameters, path: str, x: Array) -> Array:
    """jax's own attention between the projections."""
    import jax

    batch, time, size = x.shape
    q, k, v = (linear(p, f"{path}/{name}", x).reshape(batch, time, HEADS, size // HEADS) for name in "QKV")
    return linear(p, f"{path}/O", jax.nn.dot_product_attention(q, k, v).reshape(batch, time, size))


def transformer(p: Parameters, x: Mapping[str, Array], states: States) -> Array:
    """Positions, encoder layers, mean, logits."""
    h = x["x"] + p["positions/P"]
    for path in (f"encoder_{number}" for number in range(ENCODER_LAYERS)):
        h = layer_norm(p, f"{path}/norm1", h + multi_head_attention(p, f"{path}/attention", h))
        wide = relu(linear(p, f"{path}/wide", h))
        h = layer_norm(p, f"{path}/norm2", h + linear(p, f"{path}/narrow", wide))
    return linear(p, "logits", h.mean(1))


def attention(p: Parameters, x: Mapping[str, Array], states: States) -> Array:
    """Self-attention."""
    return multi_head_attention(p, "attention", x["x"])


TWINS: dict[str, Twin] = {
    "mlp_small": mlp,
    "mlp_large": mlp,
    "wavenet": wavenet,
    "resnet": resnet,
    "bilstm": bilstm,
    "transformer": transformer,
    "wavenet_residual": wavenet_residual,
    "skip_identity": skip_module,
    "skip_conv": skip_module,
    "bidirectional_lstm": bidirectional_lstm,
    "attention": attention,
    "attention_long": attention,
}
