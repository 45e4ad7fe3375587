"""A byte-level WaveNet (van den Oord et al. 2016) on real text or sound.

Run:  python examples/wavenet.py                      the Python language reference that ships with CPython
      python examples/wavenet.py --text FILE          your own text
      python examples/wavenet.py --wav FILE           your own sound, as 8-bit mu-law
It reports bits per byte on a held-out tenth, beside the bigram model that it must beat, and continues a prompt.
"""

import argparse
import math
import time
import wave
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np

import graphnn as gnn
from graphnn import layers, losses, modules, optimizers, schedules
from graphnn.ops.random import RandomStream

LENGTH = 256  # bytes per training sequence


def build(ch: int = 48, blocks: int = 10) -> gnn.Graph:
    """Byte ids (batch, time) -> logits (batch, time, 256) of the byte that follows each."""
    ids = gnn.Input(("batch", "time"), dtype="int64", name="bytes")
    main, skip = layers.Embedding(ch, 256, name="embedding")(ids), None
    for index in range(blocks):
        block = modules.WavenetResidualModule(
            ch, ch, dilation=2 ** (index % 8), kernel_width=2, separate_gates=True, name=f"block_{index + 1}"
        )
        outputs = block(main, skip)
        main, skip = outputs["y_main"], outputs["y_skip"]
    h = layers.ReLU(name="relu_1")(skip)
    h = layers.Conv1D(2 * ch, kernel_width=1, act_fn="relu", name="conv_1")(h)
    return gnn.Graph(ids, layers.Conv1D(256, kernel_width=1, name="conv_2")(h), name="wavenet")


def read_text(path: Path | None) -> np.ndarray:
    """The bytes of a file, or of CPython's language reference."""
    text = path.read_bytes() if path else "\n\n".join(topics[key] for key in sorted(topics)).encode()
    return np.frombuffer(text, "uint8").astype("int64")


def read_wav(path: Path) -> np.ndarray:
    """The first channel of a 16-bit wave file as 8-bit mu-law (ITU-T G.711's curve, mu = 255)."""
    with wave.open(str(path)) as file:
        if file.getsampwidth() != 2:
            raise SystemExit(f"{path}: expected 16-bit samples, got {8 * file.getsampwidth()}-bit")
        samples = (
            np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())[:, 0] / 32768
        )
    curved = np.sign(samples) * np.log1p(255 * np.abs(samples)) / math.log(256)
    return np.minimum((curved + 1) * 128, 255).astype("int64")


def bigram_bits(train: np.ndarray, test: np.ndarray) -> float:
    """Bits per byte of the held-out part under bigram counts with one added to each (the best of a few smoothings)."""
    counts = np.zeros((256, 256))
    np.add.at(counts, (train[:-1], train[1:]), 1)
    unigram = (np.bincount(train, minlength=256) + 0.1) / (len(train) + 25.6)
    best = math.inf
    for weight in (0.1, 1.0, 10.0, 100.0):
        p = (counts + weight * unigram) / (counts.sum(1, keepdims=True) + weight)
        best = min(best, float(-np.log2(p[test[:-1], test[1:]]).mean()))
    return best


def batches(data: np.ndarray, count: int, batch_size: int, seed: int):
    """`count` random pieces of the data with the bytes that follow; each piece a function of the seed."""
    stream = RandomStream(seed, "pieces")
    starts = (stream.uniform((count, batch_size)) * (len(data) - LENGTH - 1)).astype("int64")
    for row in starts:
        pieces = data[row[:, None] + np.arange(LENGTH + 1)]
        yield pieces[:, :-1], pieces[:, 1:]


def held_out(data: np.ndarray, receptive: int) -> tuple[np.ndarray, np.ndarray]:
    """Sequences over the held-out bytes; targets without full context are ignored (-1), so each byte counts once."""
    step = LENGTH - receptive
    starts = np.arange(0, len(data) - LENGTH - 1, step)
    pieces = data[starts[:, None] + np.arange(LENGTH + 1)]
    targets = pieces[:, 1:].copy()
    targets[1:, :receptive] = -1
    return pieces[:, :-1], targets


def continue_prompt(model: gnn.Model, prompt: bytes, count: int, temperature: float = 0.6) -> bytes:
    """`count` bytes drawn one after the other; the window has a fixed length, so one compiled program serves all."""
    window = np.full(LENGTH, 10, "int64")
    window[-len(prompt) :] = list(prompt)
    stream, text = RandomStream(0, "sampling"), bytearray()
    for _ in range(count):
        logits = model.forward(window[None], keep=False)[0, -1].astype("float64") / temperature
        p = np.exp(logits - logits.max())
        byte = int(np.searchsorted(np.cumsum(p / p.sum()), stream.uniform(())))
        text.append(min(byte, 255))
        window = np.append(window[1:], text[-1])
    return bytes(text)


def main() -> None:
    """Read, declare, train until the time is up, compare with the bigram model, continue a prompt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path)
    parser.add_argument("--wav", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0, help="training time")
    parser.add_argument("--steps", type=int, help="stop after this many steps")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    data = read_wav(options.wav) if options.wav else read_text(options.text)
    cut = len(data) * 9 // 10
    train, test = data[:cut], data[cut:]
    baseline = bigram_bits(train, test)
    print(f"{len(data):,} bytes; held out {len(test):,}; bigram model {baseline:.3f} bits per byte")

    graph = build()
    graph.render(options.out / "wavenet.svg", depth=1)
    model = gnn.Model(graph, seed=0)
    rate = schedules.WarmUp(schedules.Constant(2e-3), 50)
    trainer = gnn.Trainer(model, losses.CrossEntropy(ignore_label=-1), optimizers.Adam(rate, clip_norm=1.0))
    deadline, every = time.monotonic() + 60 * options.minutes, 100
    x_test, y_test = held_out(test, receptive=LENGTH // 2)
    while time.monotonic() < deadline and (options.steps is None or trainer.steps < options.steps):
        left = every if options.steps is None else min(every, options.steps - trainer.steps)
        trainer.fit(list(batches(train, left, options.batch, seed=trainer.steps)), progress=False)
        bits = trainer.history["loss"][-1] / math.log(2)
        print(f"step {trainer.steps:5d}  training {bits:.3f} bits per byte", flush=True)

    bits = trainer.evaluate((x_test, y_test), batch_size=16)["loss"] / math.log(2)
    better = "beats" if bits < baseline else "does not beat"
    print(f"held out: {bits:.3f} bits per byte; {better} the bigram model's {baseline:.3f}")
    model.save_weights(options.out / "wavenet.npz")
    if not options.wav:
        prompt = b'The "while" statement is used for '
        print((prompt + continue_prompt(model, prompt, 200 if options.steps is None else 8)).decode(errors="replace"))


if __name__ == "__main__":
    main()
