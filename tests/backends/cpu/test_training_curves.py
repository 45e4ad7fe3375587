"""Training on the native engine and on the reference: the same curves."""

import numpy as np
import pytest

import graphnn as gnn
from example_cases import MAKERS
from graphnn import losses, optimizers

STEPS = 4


def curve(graph: gnn.Graph, x, y, device: str, dtype: str) -> list[float]:
    model = gnn.Model(graph, seed=0, device=device, dtype=dtype)
    optimizer = optimizers.SGD(0.02, momentum=0.9, clip_norm=1.0)  # Adam would blow up the rounding of zero gradients
    trainer = gnn.Trainer(model, losses.CrossEntropy(ignore_label=-1), optimizer)
    return [trainer.train_step(x, y) for _ in range(STEPS)]


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-9), ("float32", 1e-3)])
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_the_examples_train_as_on_the_reference(make, dtype, rtol):
    graph, x, y = make()
    native, reference = (curve(graph, x, y, device, dtype) for device in ("cpu", "reference"))
    np.testing.assert_allclose(native, reference, rtol=rtol)
    assert reference[-1] < reference[0]
