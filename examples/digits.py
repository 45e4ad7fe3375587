"""A residual convolutional network on scikit-learn's digits: declared, drawn, trained, tested, saved and loaded again.

Run:  python examples/digits.py            (under two minutes on two cores; files go to out/)
"""

import argparse
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import graphnn as gnn
from graphnn import layers, losses, modules, optimizers, schedules


def build() -> gnn.Graph:
    """8x8 grey images -> 10 logits: two skip modules between a first convolution and a dense layer."""
    image = gnn.Input(("batch", 8, 8, 1), name="image")
    h = layers.Conv2D(16, kernel_shape=3, pad="same", act_fn="relu", name="stem")(image)
    h = modules.SkipConnectionIdentityModule(16, 3, 3, act_fn="relu", name="identity")(h)
    h = modules.SkipConnectionConvModule(
        32,
        32,
        3,
        3,
        kernel_shape_skip=1,
        pad1="same",
        pad2="same",
        stride1=2,
        stride_skip=2,
        act_fn="relu",
        name="halve",
    )(h)
    h = layers.GlobalAveragePool(name="pool")(h)
    return gnn.Graph(image, layers.Linear(10, name="logits")(h), name="digits")


def load() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Two thirds of the 1,797 digits for training, one third held out; pixels scaled to 0..1."""
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1).astype("float32") / 16
    x, x_test, y, y_test = train_test_split(images, labels, test_size=1 / 3, random_state=0, stratify=labels)
    return (x, y), (x_test, y_test)


def main() -> None:
    """Declare, print, draw, train, plot, test, save, load."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--steps", type=int, help="stop after this many steps")
    parser.add_argument("--out", type=Path, default=Path("out"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    graph = build()
    print(graph.summary())
    graph.render(options.out / "digits.svg")

    train, test = load()
    model = gnn.Model(graph, seed=0)
    batch_size = 64
    steps = options.epochs * -(-len(train[0]) // batch_size)
    adam = optimizers.Adam(schedules.Cosine(3e-3, steps))
    trainer = gnn.Trainer(model, losses.CrossEntropy(), adam, metrics=["accuracy"])
    history = trainer.fit(train, options.epochs, batch_size, validation=test, seed=0, steps=options.steps)
    history.plot(options.out / "digits_loss.svg")

    result = trainer.evaluate(test)
    print(f"test accuracy {result['accuracy']:.2%}, test loss {result['loss']:.4f}")

    model.save_weights(options.out / "digits.npz")
    twin = gnn.Model(graph, seed=1)
    twin.load_weights(options.out / "digits.npz")
    same = np.array_equal(twin.forward(test[0][:100]), model.forward(test[0][:100]))
    print(
        f"wrote {options.out}/digits.svg, digits_loss.svg and digits.npz; reloaded weights give equal outputs: {same}"
    )


if __name__ == "__main__":
    main()
