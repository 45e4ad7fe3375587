"""A bidirectional LSTM tags the rows of stacked digits.

Run:  python examples/bilstm.py
Each sequence is one to four of scikit-learn's digits, one under the other: 8 to 32 rows of 8 pixels. Every row is to be
tagged with the digit that it is part of. One row alone rarely tells (a classifier of single rows is trained beside it
for comparison); the first rows of a digit need what comes after them, the last ones what came before.
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import graphnn as gnn
from graphnn import layers, losses, metrics, modules, optimizers
from graphnn.ops.random import RandomStream

ROWS, MOST = 8, 4  # rows of a digit, digits in a sequence
IGNORED = -1


def build() -> gnn.Graph:
    """Rows (batch, time, 8) and lengths (batch,) -> logits (batch, time, 10)."""
    rows = gnn.Input(("batch", "time", 8), name="rows")
    lengths = gnn.Input(("batch",), dtype="int64", name="lengths")
    h = modules.BidirectionalLSTM(48, merge_mode="concat", name="bilstm")(rows, lengths)
    return gnn.Graph([rows, lengths], layers.Linear(10, name="tags")(h), name="tagger")


def stack(images: np.ndarray, labels: np.ndarray, count: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """`count` sequences of random digits, a tag for each row; rows behind the end are zero and their tag is ignored."""
    stream = RandomStream(seed, "stack")
    digits = 1 + (stream.uniform((count,)) * MOST).astype(int)
    picks = (stream.uniform((count, MOST)) * len(images)).astype(int)
    rows = images[picks].reshape(count, MOST * ROWS, 8).astype("float32")
    tags = np.repeat(labels[picks], ROWS, axis=1)
    behind = np.arange(MOST * ROWS) >= (digits * ROWS)[:, None]
    rows[behind], tags[behind] = 0, IGNORED
    return {"rows": rows, "lengths": digits * ROWS}, tags


def main() -> None:
    """Make sequences, train, compare with a classifier of single rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, help="stop after this many steps")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, ROWS, 8) / 16
    images, images_test, labels, labels_test = train_test_split(images, labels, test_size=1 / 3, random_state=0)
    train, test = stack(images, labels, 3000, seed=0), stack(images_test, labels_test, 600, seed=1)

    graph = build()
    print(graph.summary())
    graph.render(options.out / "bilstm.svg")
    model = gnn.Model(graph, seed=0)
    trainer = gnn.Trainer(
        model,
        losses.CrossEntropy(ignore_label=IGNORED),
        optimizers.Adam(5e-3, clip_norm=1.0),
        metrics=[metrics.Accuracy(ignore_label=IGNORED)],
    )
    trainer.fit(train, options.epochs, batch_size=50, validation=test, seed=0, steps=options.steps)

    result = trainer.evaluate(test)
    single = LogisticRegression(max_iter=300).fit(images.reshape(-1, 8), np.repeat(labels, ROWS))
    alone = single.score(images_test.reshape(-1, 8), np.repeat(labels_test, ROWS))
    print(f"rows of held-out digits tagged rightly: {result['accuracy']:.1%}; one row at a time: {alone:.1%}")


if __name__ == "__main__":
    main()
