"""The workloads: six networks of everyday kinds, and each module alone."""

from __future__ import annotations

from graphnn import layers
from graphnn.bench.workload import MODULES, SIX, Workload
from graphnn.errors import OptionError
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input, SymbolicTensor
from graphnn.graph.module import Module
from graphnn.modules import (
    BidirectionalLSTM,
    MultiHeadedAttentionModule,
    SkipConnectionConvModule,
    SkipConnectionIdentityModule,
    WavenetResidualModule,
)

CLASSES = 10
DILATIONS = (1, 2, 4, 8, 16, 32)
RESIDUAL_CHANNELS = 64
ENCODER_LAYERS, MODEL_SIZE, FEED_FORWARD, HEADS, POSITIONS = 2, 256, 1024, 8, 128


# -- six networks ------------------------------------------------------------------------------------------------------


def mlp(n_in: int, hidden: tuple[int, ...], name: str) -> Graph:
    """Dense layers with ReLU between them: (batch, n_in) -> logits (batch, CLASSES)."""
    x = Input(("batch", n_in), name="x")
    h = x
    for number, size in enumerate(hidden):
        h = layers.Linear(size, act_fn="relu", name=f"hidden_{number}")(h)
    return Graph(x, layers.Linear(CLASSES, name="logits")(h), name=name)


def mlp_small() -> Graph:
    """Almost nothing to compute: what counts is the price of a call."""
    return mlp(64, (128, 64), "mlp_small")


def mlp_large() -> Graph:
    """Matrix products, and an optimizer with as many bytes to move."""
    return mlp(784, (1024, 1024), "mlp_large")


def wavenet() -> Graph:
    """A sound wave (batch, time, 1) -> a number for each of its steps, after a stack of gated dilated convolutions."""
    x = Input(("batch", "time", 1), name="x")
    h = layers.Conv1D(RESIDUAL_CHANNELS, kernel_width=2, pad="causal", name="front")(x)
    skip = None
    for dilation in DILATIONS:
        block = WavenetResidualModule(
            RESIDUAL_CHANNELS, RESIDUAL_CHANNELS, dilation, kernel_width=2, name=f"block_{dilation}"
        )
        outputs = block(h) if skip is None else block(h, skip)
        h, skip = outputs["y_main"], outputs["y_skip"]
    y = layers.Conv1D(1, kernel_width=1, name="head")(layers.ReLU(name="relu")(skip))
    return Graph(x, y, name="wavenet")


def resnet() -> Graph:
    """Images (batch, 32, 32, 3) -> logits: a convolution, six residual blocks in three sizes, a mean, a dense layer."""
    x = Input(("batch", 32, 32, 3), name="x")
    h = layers.Conv2D(16, kernel_shape=3, pad="same", act_fn="relu", name="stem")(x)
    for channels in (16, 32, 64):
        if channels == 16:
            h = SkipConnectionIdentityModule(channels, 3, 3, act_fn="relu", name="block_16_a")(h)
        else:
            halve = SkipConnectionConvModule(
                channels, channels, 3, 3, 1, pad1=1, pad2=1, stride1=2, stride_skip=2, act_fn="relu",
                name=f"block_{channels}_a",
            )  # fmt: skip
            h = halve(h)
        h = SkipConnectionIdentityModule(channels, 3, 3, act_fn="relu", name=f"block_{channels}_b")(h)
    return Graph(x, layers.Linear(CLASSES, name="logits")(layers.GlobalAveragePool(name="pool")(h)), name="resnet")


def bilstm() -> Graph:
    """Sequences (batch, time, 64) -> logits for each step: a tagger."""
    x = Input(("batch", "time", 64), name="x")
    h = BidirectionalLSTM(128, name="bilstm")(x)
    return Graph(x, layers.Linear(CLASSES, name="logits")(h), name="bilstm")


class EncoderLayer(Module):
    """y = norm2(h + W2(relu(W1(h)))), h = norm1(x + attention(x)); Vaswani et al. 2017, section 3.1."""

    def __init__(self, name: str):
        super().__init__(name=name)
        self.attention = MultiHeadedAttentionModule(HEADS)
        self.norm1, self.norm2 = layers.LayerNorm(), layers.LayerNorm()
        self.wide = layers.Linear(FEED_FORWARD, act_fn="relu")
        self.narrow = layers.Linear(MODEL_SIZE)

    def forward(self, x: SymbolicTensor) -> SymbolicTensor:
        """(batch, time, MODEL_SIZE) -> the same."""
        h = self.norm1(x + self.attention(x))
        return self.norm2(h + self.narrow(self.wide(h)))


def transformer() -> Graph:
    """Sequences (batch, time, 256) -> logits: learned positions, encoder layers, a mean over time, a dense layer."""
    x = Input(("batch", "time", MODEL_SIZE), name="x")
    h = layers.PositionalEmbedding(max_length=POSITIONS, name="positions")(x)
    for number in range(ENCODER_LAYERS):
        h = EncoderLayer(name=f"encoder_{number}")(h)
    pooled = layers.GlobalAveragePool(name="pool")(h)
    return Graph(x, layers.Linear(CLASSES, name="logits")(pooled), name="transformer")


# -- modules alone -----------------------------------------------------------------------------------------------------


def wavenet_residual() -> Graph:
    """One block with both inputs and both outputs."""
    x_main, x_skip = (Input(("batch", "time", 64), name=name) for name in ("x_main", "x_skip"))
    block = WavenetResidualModule(64, 64, dilation=4, kernel_width=2, name="block")
    return Graph([x_main, x_skip], block(x_main, x_skip), name="wavenet_residual")


def skip_identity() -> Graph:
    """A residual block that keeps the size of the image."""
    x = Input(("batch", 32, 32, 16), name="x")
    return Graph(x, SkipConnectionIdentityModule(32, 3, 3, act_fn="relu", name="block")(x), name="skip_identity")


def skip_conv() -> Graph:
    """A residual block that halves the image."""
    x = Input(("batch", 32, 32, 16), name="x")
    block = SkipConnectionConvModule(
        32, 32, 3, 3, 1, pad1=1, pad2=1, stride1=2, stride_skip=2, act_fn="relu", name="block"
    )
    return Graph(x, block(x), name="skip_conv")


def bidirectional_lstm() -> Graph:
    """Both directions, side by side."""
    x = Input(("batch", "time", 32), name="x")
    return Graph(x, BidirectionalLSTM(64, name="bilstm")(x), name="bidirectional_lstm")


def attention() -> Graph:
    """Self-attention."""
    x = Input(("batch", "time", 128), name="x")
    return Graph(x, MultiHeadedAttentionModule(8, name="attention")(x), name="attention")


# -- the table ---------------------------------------------------------------------------------------------------------

_ALL = (
    Workload(
        "mlp_small", "MLP 64-128-64-10, batch 64", SIX, mlp_small, {"x": (64, 64)}, {"": (64,)}, CLASSES,
    ),
    Workload(
        "mlp_large", "MLP 784-1024-1024-10, batch 256", SIX, mlp_large, {"x": (256, 784)}, {"": (256,)}, CLASSES,
    ),
    Workload(
        "wavenet", "WaveNet, 6 residual blocks, 64 channels, batch 4 x 4096", SIX, wavenet,
        {"x": (4, 4096, 1)}, {"": (4, 4096, 1)},
    ),
    Workload(
        "resnet", "ResNet, 16/32/64 channels, batch 32 x 32x32x3", SIX, resnet,
        {"x": (32, 32, 32, 3)}, {"": (32,)}, CLASSES,
    ),
    Workload(
        "bilstm", "BiLSTM 64 -> 128, batch 32 x 64 steps", SIX, bilstm, {"x": (32, 64, 64)}, {"": (32, 64)}, CLASSES,
    ),
    Workload(
        "transformer", "Transformer encoder, 2 layers, d 256, 8 heads, batch 8 x 128", SIX, transformer,
        {"x": (8, 128, MODEL_SIZE)}, {"": (8,)}, CLASSES,
    ),
    Workload(
        "wavenet_residual", "WavenetResidualModule, 64 channels, batch 8 x 1024", MODULES, wavenet_residual,
        {"x_main": (8, 1024, 64), "x_skip": (8, 1024, 64)}, {"y_main": (8, 1024, 64), "y_skip": (8, 1024, 64)},
    ),
    Workload(
        "skip_identity", "SkipConnectionIdentityModule, 16-32-16 channels, batch 32 x 32x32", MODULES, skip_identity,
        {"x": (32, 32, 32, 16)}, {"": (32, 32, 32, 16)},
    ),
    Workload(
        "skip_conv", "SkipConnectionConvModule, 16-32 channels, batch 32 x 32x32", MODULES, skip_conv,
        {"x": (32, 32, 32, 16)}, {"": (32, 16, 16, 32)},
    ),
    Workload(
        "bidirectional_lstm", "BidirectionalLSTM 32 -> 64, batch 16 x 32 steps", MODULES, bidirectional_lstm,
        {"x": (16, 32, 32)}, {"": (16, 32, 128)},
    ),
    Workload(
        "attention", "MultiHeadedAttentionModule, d 128, 8 heads, batch 8 x 64", MODULES, attention,
        {"x": (8, 64, 128)}, {"": (8, 64, 128)},
    ),
    Workload(
        "attention_long", "MultiHeadedAttentionModule, d 128, 8 heads, batch 1 x 2048", MODULES, attention,
        {"x": (1, 2048, 128)}, {"": (1, 2048, 128)},
    ),
)  # fmt: skip
WORKLOADS = {workload.name: workload for workload in _ALL}


def find(name: str) -> Workload:
    """The workload of that name.

    Raises:
        OptionError: there is none.
    """
    if name not in WORKLOADS:
        raise OptionError("there is no such workload", expected=", ".join(WORKLOADS), got=repr(name))
    return WORKLOADS[name]
