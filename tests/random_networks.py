"""Random networks of all layers and modules, with numbers to run them on; a number gives a network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphnn import layers, losses, metrics, modules, optimizers
from graphnn.errors import GraphnnError
from graphnn.graph.collect import collect_reachable
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input, SymbolicTensor

BATCHES = (1, 2, 3, 5, 7, 12, 16)
WIDTHS = (1, 2, 3, 5, 7, 8, 16, 17, 19, 33)
LENGTHS = (1, 2, 3, 4, 5, 8, 9, 17)
SIDES = (1, 2, 3, 4, 5, 7)
ACTIVATIONS = (
    "relu", "leaky_relu", "elu", "selu", "gelu", "tanh", "sigmoid", "hard_sigmoid", "soft_plus", "swish", "identity",
    "affine",
)  # fmt: skip
LARGEST = 3000  # elements of a value, for each example
VOCABULARY = 6


@dataclass(frozen=True, eq=False)
class Network:
    """A graph and what it is trained on.

    Args:
        graph: outputs are named y0, y1...
        arrays: inputs by name, floats as float64.
        targets, losses, metrics: by output name.
        optimizer: of the training.
        frozen: paths of nodes.
        retained: paths of nodes whose values are asked for.
    """

    graph: Graph
    arrays: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]
    losses: dict[str, losses.Loss]
    metrics: dict[str, list[metrics.Metric]]
    optimizer: optimizers.Optimizer
    frozen: tuple[str, ...]
    retained: tuple[str, ...]

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in self.arrays.items())
        how = f"{self.losses} {self.metrics} {self.optimizer} frozen={self.frozen} retained={self.retained}"
        return f"{self.graph.summary()}\n{shapes}\n{how}"


class Maker:
    """Draws a network layer by layer; `rng` alone decides."""

    def __init__(self, seed: int, nodes: int):
        self.rng = np.random.default_rng(seed)
        self.batch = self.pick(BATCHES)
        self.inputs: dict[str, SymbolicTensor] = {}
        self.pool: list[SymbolicTensor] = []
        self.shared: dict[tuple[int, ...], Any] = {}
        self.nodes = nodes

    # -- drawing ------------------------------------------------------------------------------------------------------

    def pick(self, options):
        return options[int(self.rng.integers(len(options)))]

    def chance(self, p: float = 0.5) -> bool:
        return bool(self.rng.random() < p)

    def act(self) -> str | None:
        return self.pick(ACTIVATIONS) if self.chance() else None

    def input(self, shape: tuple, dtype: str | None = None) -> SymbolicTensor:
        name = f"x{len(self.inputs)}"
        self.inputs[name] = Input(("batch", *shape), name=name, **({"dtype": dtype} if dtype else {}))
        return self.inputs[name]

    def fresh(self) -> SymbolicTensor:
        """A new float input of rank 2 to 4."""
        width, rank = self.pick(WIDTHS), self.pick((2, 3, 3, 4, 4))
        sizes = {2: (width,), 3: (self.pick(LENGTHS), width), 4: (self.pick(SIDES), self.pick(SIDES), width)}[rank]
        return self.input(sizes)

    def add(self, made: Any) -> None:
        """Put what a layer made into the pool, unless it is too large."""
        outputs = list(made.values()) if isinstance(made, dict) else list(made) if isinstance(made, tuple) else [made]
        sizes = [np.prod([int(size) for size in tensor.shape[1:]], dtype=int) for tensor in outputs]
        self.pool += [tensor for tensor, size in zip(outputs, sizes, strict=True) if size <= LARGEST]

    def one(self, *ranks: int) -> SymbolicTensor | None:
        """A tensor of the pool of one of the ranks, later ones more often."""
        fitting = [t for t in self.pool if not ranks or len(t.shape) in ranks]
        return fitting[max(self.rng.integers(len(fitting)), self.rng.integers(len(fitting)))] if fitting else None

    def like(self, x: SymbolicTensor) -> SymbolicTensor:
        return self.pick([t for t in self.pool if t.shape == x.shape])

    def step(self) -> None:
        kind = self.pick(KINDS)
        before = dict(self.inputs)
        try:
            kind(self)
        except GraphnnError:  # the layer does not take this shape
            self.inputs = before

    # -- the whole ----------------------------------------------------------------------------------------------------

    def make(self) -> Network:
        for _ in range(self.pick((1, 1, 2, 3))):
            self.pool.append(self.fresh())
        starts = len(self.pool)
        while len(self.pool) < starts + self.nodes:
            self.step()
        ends = self.pool[-1:] + [self.one() for _ in range(self.pick((0, 0, 1, 2)))]
        given = self.inputs.values()
        ends = [layers.Identity()(end) if end in given else end for end in dict.fromkeys(ends)]
        outputs = {f"y{number}": end for number, end in enumerate(ends)}
        graph = Graph(collect_reachable(ends), outputs, name="net")
        return self.finish(graph)

    def finish(self, graph: Graph) -> Network:
        arrays = {node.name: self.array(node.spec.bind({"batch": self.batch})) for node in graph.inputs}
        targets, chosen, read = {}, {}, {}
        for name, spec in zip(graph.output_names, graph.output_specs, strict=True):
            shape = spec.bind({"batch": self.batch}).shape
            chosen[name], targets[name], read[name] = self.objective(shape)
        paths = [node.name for node in graph.nodes]
        frozen = tuple(p for p in paths if self.chance(0.3)) if self.chance(0.3) else ()
        retained = tuple(p for p in paths if self.chance(0.3)) if self.chance(0.4) else ()
        return Network(graph, arrays, targets, chosen, read, self.optimizer(), frozen, retained)

    def array(self, spec) -> np.ndarray:
        if spec.dtype == "bool":
            return self.rng.random(spec.shape) < 0.7
        if not spec.is_float:
            return self.rng.integers(0, VOCABULARY if len(spec.shape) > 1 else 5, spec.shape).astype(spec.dtype)
        return self.rng.normal(size=spec.shape)

    def objective(self, shape):
        """A loss, its targets, and metrics."""
        reduction = self.pick(losses.REDUCTIONS)
        if self.chance(0.4) and len(shape) > 1 and shape[-1] > 1:
            smoothing, ignored = self.pick((0.0, 0.1)), self.pick((None, 0))
            if self.chance(0.3):
                target = self.rng.random(shape)
                loss = losses.CrossEntropy(label_smoothing=smoothing, reduction=reduction)
                return loss, target, [metrics.Accuracy()]
            loss = losses.CrossEntropy(label_smoothing=smoothing, ignore_label=ignored, reduction=reduction)
            read = [metrics.Accuracy(ignored), metrics.TopKAccuracy(ignored, k=min(2, shape[-1]))]
            return loss, self.rng.integers(0, shape[-1], shape[:-1]), read
        kind = self.pick((losses.SquaredError, losses.AbsoluteError, losses.Huber, losses.BinaryCrossEntropy))
        read = [metrics.MeanSquaredError(), metrics.MeanAbsoluteError(), metrics.BinaryAccuracy()]
        return kind(reduction=reduction), self.rng.random(shape), read[: int(self.rng.integers(4))]

    def optimizer(self) -> optimizers.Optimizer:
        clips = {"clip_norm": self.pick((None, None, 0.5)), "clip_value": self.pick((None, None, 0.05))}
        decay = self.pick((0.0, 0.1))
        kind = self.pick(("sgd", "sgd", "sgd", "adam", "adamw", "adagrad", "rmsprop"))
        if kind == "sgd":
            momentum = self.pick((0.0, 0.9))
            return optimizers.SGD(0.01, momentum, bool(momentum) and self.chance(), decay, **clips)
        if kind == "adagrad":
            return optimizers.AdaGrad(0.01, epsilon=0.1, weight_decay=decay, initial_sum=self.pick((0.0, 0.1)), **clips)
        if kind == "rmsprop":
            momentum = self.pick((0.0, 0.9))
            options = {"momentum": momentum, "centered": self.chance(), "epsilon": 0.1, "weight_decay": decay}
            return optimizers.RMSProp(0.01, **options, **clips)
        make = optimizers.Adam if kind == "adam" else optimizers.AdamW
        return make(0.01, epsilon=0.1, weight_decay=decay, amsgrad=self.chance(), **clips)  # 1e-8 blows rounding up


# -- kinds of steps ---------------------------------------------------------------------------------------------------


def linear(m: Maker) -> None:
    x = m.one()
    m.add(layers.Linear(m.pick(WIDTHS), m.act(), m.chance(0.8))(x))


def shared(m: Maker) -> None:
    x = m.one()
    key = (len(x.shape), x.shape[-1])
    if key not in m.shared:
        m.shared[key] = layers.Linear(x.shape[-1], m.act())
    m.add(m.shared[key](x))


def activation(m: Maker) -> None:
    x = m.one()
    m.add(layers.activation(m.pick(ACTIVATIONS))(x))


def softmax(m: Maker) -> None:
    x = m.one()
    axis = int(m.rng.integers(1, len(x.shape)))
    m.add(m.pick((layers.Softmax, layers.LogSoftmax))(axis)(x))


def exponential(m: Maker) -> None:
    x = m.one()
    m.add(layers.Exponential()(layers.Tanh()(x)))


def convolution_options(m: Maker, x: SymbolicTensor, rank: int, pads: tuple) -> dict[str, Any]:
    channels = int(x.shape[-1])
    groups = m.pick([g for g in (1, 1, 1, 2, 3, channels or 1) if channels % g == 0])
    out = groups * m.pick((1, 2, 3, 5, 8) if groups > 1 else WIDTHS)
    each = (lambda *o: tuple(m.pick(o) for _ in range(rank))) if rank > 1 and m.chance() else (lambda *o: m.pick(o))
    kernel = "kernel_shape" if rank > 1 else "kernel_width"
    return {
        "out_ch": out, kernel: each(1, 1, 2, 3, 3, 5), "pad": m.pick(pads), "stride": each(1, 1, 2, 3),
        "dilation": each(1, 1, 1, 2, 3), "act_fn": m.act(), "bias": m.chance(0.8), "groups": groups,
    }  # fmt: skip


def convolution1(m: Maker) -> None:
    if (x := m.one(3)) is not None:
        kind = m.pick((layers.Conv1D, layers.Conv1D, layers.Deconv1D))
        m.add(kind(**convolution_options(m, x, 1, (0, 1, 2, (1, 0), "same", "causal", "valid")))(x))


def convolution2(m: Maker) -> None:
    if (x := m.one(4)) is not None:
        kind = m.pick((layers.Conv2D, layers.Conv2D, layers.Deconv2D))
        m.add(kind(**convolution_options(m, x, 2, (0, 1, (1, 2), (0, 1, 1, 0), "same", "valid", "same")))(x))


def pooling(m: Maker) -> None:
    if (x := m.one(3, 4)) is None:
        return
    if m.chance(0.2):
        return m.add(m.pick((layers.GlobalAveragePool, layers.GlobalMaxPool))()(x))
    kind = layers.Pool1D if len(x.shape) == 3 else layers.Pool2D
    mode = m.pick(("max", "average"))
    m.add(kind(m.pick((1, 2, 3)), m.pick((None, 1, 2, 3)), m.pick((0, 1, "same", "valid")), mode, m.chance())(x))
    return None


def norm(m: Maker) -> None:
    x = m.one()
    axes = m.pick([-1, *range(1, len(x.shape)), tuple(range(1, len(x.shape)))])
    m.add(layers.BatchNorm(m.pick((0.9, 0.5)))(x) if m.chance() else layers.LayerNorm(axes=axes)(x))


def recurrent(m: Maker) -> None:
    if (x := m.one(3)) is None:
        return
    n = m.pick((1, 3, 5, 8, 16, 17))
    options = {"return_sequences": m.chance(0.7), "reverse": m.chance(), "return_state": m.chance(0.3)}
    given = [m.input((), "int64")] if m.chance(0.3) else []
    kind = m.pick((layers.LSTM, layers.GRU, layers.RNN))
    states = [layers.Linear(n)(m.one(2)) for _ in kind.states] if m.one(2) is not None and m.chance(0.3) else []
    act = m.pick(("tanh", "tanh", "sigmoid", "relu", "soft_plus"))
    m.add(kind(n, act, **options)(x, *given, *states))


def cell(m: Maker) -> None:
    if (x := m.one(2)) is None:
        return
    n = m.pick((1, 3, 5, 17))
    h, c = layers.Linear(n)(x), layers.Linear(n, "tanh")(x)
    m.add(m.pick((layers.GRUCell, layers.RNNCell))(n)(x, h) if m.chance() else layers.LSTMCell(n)(x, h, c))


def bidirectional(m: Maker) -> None:
    if (x := m.one(3)) is None:
        return
    merge = m.pick(("sum", "multiply", "concat", "average"))
    layout = m.pick(("batch_time_feature", "batch_time_feature", "batch_feature_time"))
    given = [m.input((), "int64")] if m.chance(0.3) else []
    m.add(modules.BidirectionalLSTM(m.pick((1, 3, 8)), merge_mode=merge, layout=layout)(x, *given))


def attention(m: Maker) -> None:
    if (x := m.one(3)) is None:
        return
    time, width = int(x.shape[1]), int(x.shape[2])
    heads = m.pick([h for h in (1, 2, 4) if width % h == 0])
    masks = {0: None, 1: (time,), 2: (time, time), 3: (1, time)}[m.pick((0, 0, 1, 2, 3))]
    mask = [] if masks is None else [m.input(masks, "bool")]
    dropout, causal = m.pick((0.0, 0.0, 0.3)), m.chance()
    if m.chance():
        y = modules.MultiHeadedAttentionModule(heads, dropout, causal=causal)
        return m.add(y(x, None, None, *mask) if mask else y(x))
    y = layers.DotProductAttention(m.chance(0.8), dropout, causal, heads if m.chance() else None)
    m.add(y(x, m.like(x), m.like(x), *mask))
    return None


def embedding(m: Maker) -> None:
    ids = m.input(m.pick(((), (3,), (5,), (2, 3))), m.pick(("int64", "int32")))
    pool = m.pick((None, "sum", "mean")) if len(ids.shape) > 1 else None
    m.add(layers.Embedding(m.pick(WIDTHS), VOCABULARY, pool)(ids))


def positions(m: Maker) -> None:
    if (x := m.one(3)) is not None:
        m.add(layers.PositionalEmbedding(m.pick((None, 20)))(x))


def dropout(m: Maker) -> None:
    x = m.one()
    m.add(layers.Dropout(m.pick((0.0, 0.2, 0.5)))(x))


def join(m: Maker) -> None:
    x = m.one()
    others = [m.like(x) for _ in range(m.pick((1, 1, 2)))]
    kind = m.pick((layers.Add, layers.Multiply, layers.Average))
    m.add(kind(m.act())(x, *others))


def residual(m: Maker) -> None:
    x = m.one()
    inner = layers.Linear(x.shape[-1], m.act())(layers.activation(m.pick(ACTIVATIONS))(x))
    m.add(layers.Add()(x, layers.Dropout(0.2)(inner) if m.chance(0.3) else inner))


def pair(m: Maker) -> None:
    x = m.one()
    y = m.like(x)
    m.add(layers.Subtract()(x, y) if m.chance() else layers.Divide()(x, layers.ScalarAdd(1.5)(layers.Sigmoid()(y))))


def scalar(m: Maker) -> None:
    x = m.one()
    kind = m.pick((layers.ScalarAdd, layers.ScalarSubtract, layers.ScalarMultiply))
    m.add(kind(m.pick((0.5, -1.0, 0.0, 1.0)), **({"reverse": True} if kind is layers.ScalarSubtract else {}))(x))


def product(m: Maker) -> None:
    if (x := m.one(3, 4)) is not None:
        order = (0, 2, 1) if len(x.shape) == 3 else (0, 1, 3, 2)
        m.add(layers.MatMul()(x, layers.Transpose(order)(m.like(x))))


def concatenate(m: Maker) -> None:
    x = m.one()
    axis = int(m.rng.integers(1, len(x.shape)))
    rest = [t for t in m.pool if len(t.shape) == len(x.shape)]
    fitting = [
        t for t in rest if all(a == b for i, (a, b) in enumerate(zip(t.shape, x.shape, strict=True)) if i != axis)
    ]
    others = [m.pick(fitting) for _ in range(m.pick((1, 2)))]
    m.add(layers.Concatenate(axis)(x, *others))


def reshape(m: Maker) -> None:
    x = m.one()
    total = int(np.prod([int(s) for s in x.shape[1:]]))
    divisors = [d for d in range(1, total + 1) if total % d == 0] or [1]
    d = m.pick(divisors)
    shapes = [(0, -1), (0, d, -1), (0, -1, d, 1), (0, 1, d, -1)]
    m.add(layers.Flatten()(x) if m.chance(0.2) else layers.Reshape(m.pick(shapes))(x))


def transpose(m: Maker) -> None:
    x = m.one(3, 4)
    if x is not None:
        m.add(layers.Transpose((0, *(1 + m.rng.permutation(len(x.shape) - 1)).tolist()))(x))


def padding(m: Maker) -> None:
    x = m.one()
    widths = ((0, 0), *((m.pick((0, 0, 1, 2)), m.pick((0, 1, 3))) for _ in x.shape[1:]))
    m.add(layers.Pad(widths, m.pick((0.0, 1.5, -2.0)))(x))


def cut(m: Maker) -> None:
    x = m.one()
    axis = int(m.rng.integers(1, len(x.shape)))
    size = int(x.shape[axis])
    start = int(m.rng.integers(size))
    m.add(layers.Slice(axis, start, int(m.rng.integers(start, size)) + 1, m.pick((1, 1, 2, 3)))(x))


def zeros(m: Maker) -> None:
    x = m.one()
    m.add(layers.Add()(layers.Zeros()(x), x))


def wavenet(m: Maker) -> None:
    if (x := m.one(3)) is not None:
        width = int(x.shape[-1])
        gates = m.chance()
        block = modules.WavenetResidualModule(width, m.pick((1, 4, 17)), m.pick((1, 2)), 2, separate_gates=gates)
        skip = m.like(x)
        m.add(block(x, skip) if m.chance() else block(x))


def skip_connection(m: Maker) -> None:
    if (x := m.one(4)) is not None:
        act, order = m.pick(("relu", "tanh", None)), m.pick(("activation_first", "norm_first"))
        if m.chance():
            block = modules.SkipConnectionIdentityModule(m.pick((1, 3, 8)), 3, m.pick((1, 3)), act_fn=act, order=order)
            return m.add(block(x))
        s = m.pick((1, 2))
        block = modules.SkipConnectionConvModule(
            m.pick((2, 8)), m.pick((3, 8)), 3, 3, 1, "same", "same", s, 1, act, stride_skip=s, order=order
        )
        m.add(block(x))
    return None


def regroup(m: Maker) -> None:
    """Examples and places together, and back."""
    if (x := m.one(3, 4)) is None:
        return
    flat = layers.Linear(m.pick(WIDTHS), m.act())(layers.Flatten("last")(x))
    if m.chance(0.3):
        flat = layers.Softmax(0)(flat)
    m.add(layers.Reshape((-1, *(int(size) for size in x.shape[1:-1]), int(flat.shape[-1])))(flat))


def among_examples(m: Maker) -> None:
    """Examples that attend to each other."""
    if (x := m.one(2)) is None:
        return
    keys = m.like(x)
    turned = layers.Transpose((1, 0))(keys) if m.chance() else layers.Reshape((int(x.shape[1]), -1))(keys)
    weights = layers.MatMul()(x, turned)
    m.add(layers.MatMul()(layers.Softmax(m.pick((0, 1)))(weights) if m.chance(0.7) else weights, m.like(x)))


def mean_of_examples(m: Maker) -> None:
    """The numbers of all examples in one."""
    if (x := m.one(2)) is not None:
        rows = layers.Reshape((int(x.shape[1]), -1))(x)
        pooled = layers.GlobalMaxPool() if m.chance() else layers.GlobalAveragePool()
        whole = pooled(layers.Reshape((1, -1, int(x.shape[1])))(x))
        m.add(layers.MatMul()(layers.MatMul()(x, rows), layers.MatMul()(x, layers.Reshape((-1, 1))(whole))))


def another_input(m: Maker) -> None:
    m.pool.append(m.fresh())


KINDS: tuple[Callable[[Maker], None], ...] = (
    linear, linear, shared, activation, softmax, exponential, convolution1, convolution1, convolution2, convolution2,
    pooling, pooling, norm, norm, recurrent, recurrent, cell, bidirectional, attention, attention, embedding, positions,
    dropout, join, join, residual, pair, scalar, product, concatenate, reshape, transpose, padding, cut, zeros, wavenet,
    skip_connection, another_input, regroup, among_examples, mean_of_examples,
)  # fmt: skip


def network(seed: int, nodes: int = 6) -> Network:
    """The network of this number."""
    return Maker(seed, nodes).make()
