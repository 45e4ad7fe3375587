"""The workloads in torch: the same mathematics on the same parameters, written as torch is fastest.

A twin makes its layers and returns a function from inputs by name to the output, or to outputs by name. Inputs and
outputs have graphnn's layout, channels last; a view of other strides, which costs nothing, is torch's channels_last
format. Convolutions over time are written as those of images of one row: torch has no channels-last format for Conv1d,
with which one takes about twice as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from graphnn.bench.torch_layers import Layer, Tensor, TorchLayers
from graphnn.bench.workloads import DILATIONS, ENCODER_LAYERS, HEADS

Function: TypeAlias = Callable[[Mapping[str, Tensor]], Any]
Twin: TypeAlias = Callable[[TorchLayers], Function]


# -- dense -------------------------------------------------------------------------------------------------------------


def mlp(make: TorchLayers) -> Function:
    """Linear, ReLU, Linear, ReLU, Linear."""
    first, second, last = make.linear("hidden_0"), make.linear("hidden_1"), make.linear("logits")
    return lambda x: last(second(first(x["x"]).relu()).relu())


# -- sequences by convolution ------------------------------------------------------------------------------------------


def row_of(x: Tensor) -> Tensor:
    """(batch, time, ch) as images of one row (batch, ch, 1, time)."""
    return x.unsqueeze(1).permute(0, 3, 1, 2)


def sequence_of(x: Tensor) -> Tensor:
    """The inverse of `row_of`."""
    return x.permute(0, 2, 3, 1).squeeze(1)


def causal(layer: Layer, x: Tensor, dilation: int) -> Tensor:
    """A convolution of width 2 that sees no later input."""
    from torch.nn import functional

    return layer(functional.pad(x, (dilation, 0)))


def residual_block(make: TorchLayers, path: str, dilation: int) -> Callable[[Tensor, Tensor | None], tuple[Any, Any]]:
    """(main, skip) -> (new main, new skip)."""
    dilated = make.conv2d(f"{path}/conv_dilation", dilation=(1, dilation))
    mix = make.conv2d(f"{path}/conv_1x1")

    def run(main: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor]:
        h = causal(dilated, main, dilation)
        out = mix(h.tanh() * h.sigmoid())
        return main + out, out if skip is None else skip + out

    return run


def wavenet(make: TorchLayers) -> Function:
    """The stack of blocks."""
    front, head = make.conv2d("front"), make.conv2d("head")
    blocks = [residual_block(make, f"block_{dilation}", dilation) for dilation in DILATIONS]

    def run(x: Mapping[str, Tensor]) -> Tensor:
        main, skip = causal(front, row_of(x["x"]), 1), None
        for block in blocks:
            main, skip = block(main, skip)
        return sequence_of(head(skip.relu())) if skip is not None else main

    return run


def wavenet_residual(make: TorchLayers) -> Function:
    """One block."""
    block = residual_block(make, "block", 4)

    def run(x: Mapping[str, Tensor]) -> dict[str, Tensor]:
        main, skip = block(row_of(x["x_main"]), row_of(x["x_skip"]))
        return {"y_main": sequence_of(main), "y_skip": sequence_of(skip)}

    return run


# -- images ------------------------------------------------------------------------------------------------------------


def image_of(x: Tensor) -> Tensor:
    """(batch, rows, cols, ch) as (batch, ch, rows, cols)."""
    return x.permute(0, 3, 1, 2)


def skip_block(make: TorchLayers, path: str, halves: bool = False) -> Callable[[Tensor], Tensor]:
    """A residual block; one that halves the image has a convolution in its shortcut."""
    conv1 = make.conv2d(f"{path}/conv1", stride=2 if halves else 1, padding=1)
    norm1, conv2 = make.batch_norm(f"{path}/batchnorm1"), make.conv2d(f"{path}/conv2", padding=1)
    norm2 = make.batch_norm(f"{path}/batchnorm2")
    shortcut = make.conv2d(f"{path}/conv_skip", stride=2) if halves else None
    norm_skip = make.batch_norm(f"{path}/batchnorm_skip") if halves else None

    def run(x: Tensor) -> Tensor:
        main = norm2(conv2(norm1(conv1(x).relu())))
        return (main + (x if shortcut is None or norm_skip is None else norm_skip(shortcut(x)))).relu()

    return run


def resnet(make: TorchLayers) -> Function:
    """Stem, six blocks, mean, logits."""
    stem, logits = make.conv2d("stem", padding=1), make.linear("logits")
    blocks = [skip_block(make, f"block_{ch}_{part}", ch > 16 and part == "a") for ch in (16, 32, 64) for part in "ab"]

    def run(x: Mapping[str, Tensor]) -> Tensor:
        h = stem(image_of(x["x"])).relu()
        for block in blocks:
            h = block(h)
        return logits(h.mean((2, 3)))

    return run


def skip_module(make: TorchLayers, halves: bool) -> Function:
    """One block."""
    block = skip_block(make, "block", halves)
    return lambda x: block(image_of(x["x"])).permute(0, 2, 3, 1)


# -- recurrent ---------------------------------------------------------------------------------------------------------


def bilstm(make: TorchLayers) -> Function:
    """torch's own LSTM, and logits for each step."""
    lstm, logits = make.bidirectional_lstm("bilstm"), make.linear("logits")
    return lambda x: logits(lstm(x["x"])[0])


def bidirectional_lstm(make: TorchLayers) -> Function:
    """torch's own LSTM."""
    lstm = make.bidirectional_lstm("bilstm")
    return lambda x: lstm(x["x"])[0]


# -- attention ---------------------------------------------------------------------------------------------------------


def multi_head_attention(make: TorchLayers, path: str) -> Callable[[Tensor], Tensor]:
    """One product for queries, keys and values, then torch's fused attention."""
    joined, last = make.linear(*(f"{path}/{name}" for name in "QKV")), make.linear(f"{path}/O")

    def run(x: Tensor) -> Tensor:
        from torch.nn import functional

        batch, time, size = x.shape
        q, k, v = joined(x).view(batch, time, 3, HEADS, size // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        heads = functional.scaled_dot_product_attention(q, k, v)
        return last(heads.transpose(1, 2).reshape(batch, time, size))

    return run


def encoder_layer(make: TorchLayers, path: str) -> Callable[[Tensor], Tensor]:
    """Attention, then two dense layers, each with a residual and a norm."""
    attend = multi_head_attention(make, f"{path}/attention")
    norm1, norm2 = make.layer_norm(f"{path}/norm1"), make.layer_norm(f"{path}/norm2")
    wide, narrow = make.linear(f"{path}/wide"), make.linear(f"{path}/narrow")

    def run(x: Tensor) -> Tensor:
        h = norm1(x + attend(x))
        return norm2(h + narrow(wide(h).relu()))

    return run


def transformer(make: TorchLayers) -> Function:
    """Positions, encoder layers, mean, logits."""
    positions, logits = make.parameter("positions/P"), make.linear("logits")
    encoders = [encoder_layer(make, f"encoder_{number}") for number in range(ENCODER_LAYERS)]

    def run(x: Mapping[str, Tensor]) -> Tensor:
        h = x["x"] + positions
        for encoder in encoders:
            h = encoder(h)
        return logits(h.mean(1))

    return run


def attention(make: TorchLayers) -> Function:
    """Self-attention."""
    attend = multi_head_attention(make, "attention")
    return lambda x: attend(x["x"])


TWINS: dict[str, Twin] = {
    "mlp_small": mlp,
    "mlp_large": mlp,
    "wavenet": wavenet,
    "resnet": resnet,
    "bilstm": bilstm,
    "transformer": transformer,
    "wavenet_residual": wavenet_residual,
    "skip_identity": partial(skip_module, halves=False),
    "skip_conv": partial(skip_module, halves=True),
    "bidirectional_lstm": bidirectional_lstm,
    "attention": attention,
    "attention_long": attention,
}
