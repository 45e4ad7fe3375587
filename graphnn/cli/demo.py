"""graphnn demo: a small network for handwritten digits: drawn, trained and tested in under a minute."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from graphnn.cli.output import emit, note
from graphnn.cli.predict import predict
from graphnn.cli.target import add_device
from graphnn.errors import BackendError
from graphnn.files.npz import save_arrays
from graphnn.graph.graph import Graph
from graphnn.graph.layer import Input
from graphnn.layers.convolution import Conv2D
from graphnn.layers.linear import Linear
from graphnn.layers.pooling import GlobalAveragePool
from graphnn.model import Model
from graphnn.modules.skip_connection import SkipConnectionIdentityModule
from graphnn.ops.random import RandomStream
from graphnn.optimizers import Adam
from graphnn.render.text import plural
from graphnn.schedules import Cosine
from graphnn.training.trainer import Trainer

BATCH_SIZE = 64
TEST_SHARE = 1 / 3


def add(commands: Any, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options."""
    parser = commands.add_parser(
        "demo", parents=[common], help="draw, train and test a small network on handwritten digits",
        description="Draw, train and test a small network on the 1,797 digits that come with scikit-learn, and leave "
        "all files behind to try the other commands on.",
    )  # fmt: skip
    parser.add_argument("--out", default="graphnn-demo", metavar="FOLDER", help="default: graphnn-demo")
    parser.add_argument("--epochs", type=int, default=6, help="passes over the data (default: 6)")
    add_device(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Declare, draw, train, test, write."""
    train, test = load_digits()
    folder = Path(options.out)
    folder.mkdir(parents=True, exist_ok=True)
    graph = build()
    if not options.json:
        print(graph.summary(), flush=True)
    graph.render(str(folder / "digits.svg"))
    (folder / "digits.json").write_text(graph.to_json(), encoding="utf-8")
    for name, (x, y) in (("train", train), ("test", test)):
        save_arrays(folder / f"{name}.npz", {"image": x, "y": y})
    trainer = _train(graph, train, test, options)
    trainer.model.save_weights(folder / "weights.npz")
    trainer.history.to_csv(folder / "history.csv")
    if len(trainer.history):
        trainer.history.plot(folder / "history.svg")
    data, text = _result(trainer, test, folder)
    emit(options, data, text)
    return 130 if trainer.history.status == "interrupted" else 0


def build() -> Graph:
    """8x8 grey images -> 10 logits: a convolution, a residual block, a mean over all pixels and a dense layer."""
    image = Input(("batch", 8, 8, 1), name="image")
    h = Conv2D(16, kernel_shape=3, pad="same", act_fn="relu", name="stem")(image)
    h = SkipConnectionIdentityModule(16, 3, 3, act_fn="relu", name="block")(h)
    h = Conv2D(32, kernel_shape=3, stride=2, act_fn="relu", name="halve")(h)
    return Graph(image, Linear(10, name="logits")(GlobalAveragePool(name="pool")(h)), name="digits")


def load_digits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """((images, labels) to train on, those to test with); pixels lie within 0 and 1.

    Raises:
        BackendError: scikit-learn, which has the digits, is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise BackendError(
            "the digits come with scikit-learn, which is not installed", where="graphnn demo",
            expected="the package scikit-learn", got=str(error), fix="pip install scikit-learn",
        ) from None  # fmt: skip
    pixels, labels = load(return_X_y=True)
    images = pixels.reshape(-1, 8, 8, 1).astype("float32") / 16
    order = RandomStream(0, "digits").permutation(len(images))
    test, train = np.split(order, [round(len(order) * TEST_SHARE)])
    return (images[train], labels[train]), (images[test], labels[test])


def _train(graph: Graph, train: Any, test: Any, options: argparse.Namespace) -> Trainer:
    steps = max(options.epochs, 1) * -(-len(train[0]) // BATCH_SIZE)
    trainer = Trainer(
        Model(graph, seed=0, device=options.device or "cpu"), "cross_entropy", Adam(Cosine(5e-3, steps)), ["accuracy"]
    )
    note(f"training on {len(train[0]):,} digits, testing on {len(test[0]):,}")
    trainer.fit(train, options.epochs, BATCH_SIZE, validation=test, seed=0)
    return trainer


def _result(trainer: Trainer, test: Any, folder: Path) -> tuple[dict[str, Any], str]:
    images, labels = test
    result = trainer.evaluate(test)
    found = predict(trainer.model, {"image": images}, 256)["y"].argmax(axis=1)
    pairs, counts = np.unique(np.stack([labels, found])[:, found != labels], axis=1, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:3]
    confused = [{"digit": int(pairs[0, i]), "read_as": int(pairs[1, i]), "times": int(counts[i])} for i in order]
    files = sorted(path.name for path in folder.iterdir() if path.is_file())
    data = {
        "accuracy": result["accuracy"], "loss": result["loss"], "epochs": len(trainer.history),
        "seconds": sum(trainer.history["seconds"]) if trainer.history.rows else 0.0,
        "confused": confused, "folder": str(folder), "files": files,
    }  # fmt: skip
    most = (
        ", ".join(f"{c['digit']} read as {c['read_as']} ({plural(c['times'], 'time')})" for c in confused) or "nothing"
    )
    lines = [
        f"test accuracy {result['accuracy']:.2%}, test loss {result['loss']:.4f}, {data['seconds']:.1f} s of training",
        f"most often confused: {most}",
        f"{folder}: {', '.join(files)}",
        "next, try:",
        f"  graphnn render {folder / 'digits.json'} -o {folder / 'digits.html'}",
        f"  graphnn explain {folder / 'digits.json'} --size batch=64",
        f"  graphnn predict {folder / 'digits.json'} --weights {folder / 'weights.npz'} "
        f"--data {folder / 'test.npz'} -o {folder / 'outputs.npz'}",
    ]
    return data, "\n".join(lines)
