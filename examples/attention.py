"""Causal and masked attention on one text: predict the byte that follows, and restore bytes that were blotted out.

Run:  python examples/attention.py
The text is the Python language reference that ships with CPython. The same encoder is trained twice: with causal
attention as a language model, which must beat bigram counts, and with a padding mask on lines of unequal length, where
every seventh byte or so is blotted out and must be told from both sides, which must beat bigram counts from the left.
"""

import argparse
import math
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

import graphnn as gnn
from graphnn import layers, losses, modules, optimizers, schedules
from graphnn.ops.random import RandomStream

LENGTH, IGNORED, BLOT = 64, -1, 0


class EncoderBlock(gnn.Module):
    """x + attention(norm(x)), then x + dense(norm(x)): the pre-norm block of Xiong et al. 2020."""

    def __init__(self, d: int, n_heads: int, causal: bool, name: str | None = None):
        super().__init__(name=name)
        self.norm_1, self.norm_2 = layers.LayerNorm(), layers.LayerNorm()
        self.attention = modules.MultiHeadedAttentionModule(n_heads, causal=causal)
        self.wide = layers.Linear(4 * d, act_fn="gelu")
        self.narrow = layers.Linear(d)

    def forward(self, x, mask=None):
        """One block; the mask tells real positions from padding."""
        x = x + self.attention(self.norm_1(x), mask=mask)
        return x + self.narrow(self.wide(self.norm_2(x)))


def build(causal: bool, d: int = 64, n_heads: int = 4, blocks: int = 2) -> gnn.Graph:
    """Bytes (batch, time), and a mask (batch, time) unless causal -> logits (batch, time, 256)."""
    ids = gnn.Input(("batch", "time"), dtype="int64", name="bytes")
    mask = None if causal else gnn.Input(("batch", "time"), dtype="bool", name="is_text")
    h = layers.PositionalEmbedding(name="positions")(layers.Embedding(d, 256, name="embedding")(ids))
    for index in range(blocks):
        h = EncoderBlock(d, n_heads, causal, name=f"block_{index + 1}")(h, mask)
    logits = layers.Linear(256, name="logits")(layers.LayerNorm(name="norm")(h))
    return gnn.Graph([ids] if causal else [ids, mask], logits, name="causal" if causal else "masked")


def bigram_log2(train: np.ndarray) -> np.ndarray:
    """log2 p(next | byte) from counts, smoothed by the frequency of single bytes."""
    counts = np.zeros((256, 256))
    np.add.at(counts, (train[:-1], train[1:]), 1)
    single = (np.bincount(train, minlength=256) + 0.1) / (len(train) + 25.6)
    return np.log2((counts + single) / (counts.sum(1, keepdims=True) + 1))


def pieces(data: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` random pieces of LENGTH bytes, and the bytes that follow each."""
    starts = (RandomStream(seed, "pieces").uniform((count,)) * (len(data) - LENGTH - 1)).astype(int)
    windows = data[starts[:, None] + np.arange(LENGTH + 1)]
    return windows[:, :-1], windows[:, 1:]


def blotted(data: np.ndarray, count: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """`count` lines with some bytes blotted out; the targets are those bytes, all others are ignored."""
    lines = [line[:LENGTH] for line in data.astype("uint8").tobytes().split(b"\n") if len(line) >= 20]
    stream = RandomStream(seed, "blots")
    ids = np.zeros((count, LENGTH), "int64")
    is_text = np.zeros((count, LENGTH), bool)
    for row, pick in enumerate((stream.uniform((count,)) * len(lines)).astype(int)):
        ids[row, : len(lines[pick])] = list(lines[pick])
        is_text[row, : len(lines[pick])] = True
    blots = is_text & (stream.uniform(ids.shape) < 1 / 7)
    blots[:, 0] = False  # the bigram model needs a byte to the left
    return {"bytes": np.where(blots, BLOT, ids), "is_text": is_text}, np.where(blots, ids, IGNORED)


def train(graph: gnn.Graph, data: tuple, test: tuple, options: argparse.Namespace) -> float:
    """Train on `data`; returns bits per byte of the test part."""
    print(graph.summary())
    graph.render(options.out / f"attention_{graph.name}.svg", depth=1)
    steps = options.epochs * math.ceil(len(data[1]) / 32)
    rate = schedules.WarmUp(schedules.Cosine(3e-3, steps), 30)
    model = gnn.Model(graph, seed=0)
    trainer = gnn.Trainer(model, losses.CrossEntropy(ignore_label=IGNORED), optimizers.Adam(rate, clip_norm=1.0))
    trainer.fit(data, options.epochs, batch_size=32, seed=0, steps=options.steps)
    return trainer.evaluate(test, batch_size=64)["loss"] / math.log(2)


def main() -> None:
    """Train both models and compare each with bigram counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--steps", type=int, help="stop each training after this many steps")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    text = np.frombuffer("\n\n".join(topics[key] for key in sorted(topics)).encode(), "uint8").astype("int64")
    cut = len(text) * 9 // 10
    first, last = text[:cut], text[cut:]
    bigram = bigram_log2(first)

    x_test, y_test = pieces(last, 400, seed=1)
    bits = train(build(causal=True), pieces(first, 8000, seed=0), (x_test, y_test), options)
    baseline = -bigram[x_test, y_test].mean()
    print(f"next byte: {bits:.3f} bits with causal attention, {baseline:.3f} by bigram counts")

    inputs, targets = blotted(last, 800, seed=1)
    bits = train(build(causal=False), blotted(first, 8000, seed=0), (inputs, targets), options)
    wanted = targets != IGNORED
    left = np.where(wanted, targets, inputs["bytes"])[:, :-1]  # the bigram model may see the true byte to the left
    baseline = -bigram[left, np.maximum(targets, 0)[:, 1:]][wanted[:, 1:]].mean()
    print(f"blotted byte: {bits:.3f} bits with masked attention, {baseline:.3f} by bigram counts from the left")


if __name__ == "__main__":
    main()
