"""A training step of graphnn, by its public interface."""

from __future__ import annotations

import numpy as np

from graphnn.bench.workload import LEARNING_RATE, Workload, make_inputs, make_targets
from graphnn.model import Model
from graphnn.optimizers import Adam
from graphnn.training.trainer import Trainer


def model_of(workload: Workload, device: str) -> Model:
    """The model whose initial parameters all contenders start from."""
    return Model(workload.build(), seed=0, device=device)


def trainer_of(workload: Workload, device: str) -> Trainer:
    """Its trainer: the workload's loss for every output, and Adam."""
    model = model_of(workload, device)
    losses = dict.fromkeys(model.graph.output_names, workload.loss) or workload.loss
    return Trainer(model, losses, Adam(LEARNING_RATE))


def batch_of(workload: Workload) -> tuple[dict[str, np.ndarray], np.ndarray | dict[str, np.ndarray]]:
    """(x, y) as `Trainer.train_step` takes them."""
    targets = make_targets(workload)
    return make_inputs(workload), targets.get("", targets)


class GraphnnContender:
    """One step: `Trainer.train_step` on arrays.

    Args:
        workload: what to train on.
        device: as for `Model`.
    """

    def __init__(self, workload: Workload, device: str):
        self.trainer = trainer_of(workload, device)
        self.x, self.y = batch_of(workload)

    def step(self) -> float:
        """The loss before the update."""
        return self.trainer.train_step(self.x, self.y)
