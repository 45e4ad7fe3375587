"""Training steps as programs, for the tests of passes."""

from collections.abc import Sequence

import numpy as np

import graphnn as gnn
from graphnn import losses
from graphnn.ir.program import Program


def classifying_step(
    graph: gnn.Graph,
    shape: tuple[int, int],
    classes: int,
    optimizer: gnn.optimizers.Optimizer | str = "adam",
    freeze: Sequence[str] = (),
    dtype: str = "float64",
) -> tuple[Program, list[np.ndarray]]:
    """A step on a batch of this shape with a cross-entropy, and the arrays that it is called with."""
    model = gnn.Model(graph, dtype=dtype, device="reference")
    if freeze:
        model.freeze(*freeze)
    trainer = gnn.Trainer(model, losses.CrossEntropy(), optimizer)
    data = np.random.default_rng(0).normal(size=shape)
    compiled, given = trainer.prepare(data, np.arange(shape[0]) % classes)
    return compiled.program, [np.array(given[name]) for name in compiled.inputs]
