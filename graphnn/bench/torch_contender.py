"""A training step in torch, eager or by torch.compile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphnn.bench.torch_layers import Tensor, TorchLayers
from graphnn.bench.torch_twins import TWINS, Function
from graphnn.bench.workload import LEARNING_RATE, Arrays, Workload, make_inputs, make_targets


class TorchContender:
    """One step: gradients set to None, loss, backward, fused Adam.

    Args:
        workload: what to train on.
        arrays: the initial parameters by path.
        threads: of torch.
        compiles: whether forward, loss and (by them) backward go through torch.compile.
    """

    def __init__(self, workload: Workload, arrays: Arrays, threads: int, compiles: bool = False):
        import torch

        torch.set_num_threads(threads)
        layers = TorchLayers(arrays)
        function = TWINS[workload.name](layers)
        layers.check_all_used()
        objective = _objective(function, workload.loss)
        self._objective = torch.compile(objective) if compiles else objective
        self._inputs, self._targets = _tensors(make_inputs(workload)), _tensors(make_targets(workload))
        # Of torch's Adams the fused one is the fastest on all workloads, also beside torch.compile of the others.
        self._optimizer = torch.optim.Adam(layers.parameters, lr=LEARNING_RATE, fused=True)

    def step(self) -> float:
        """The loss before the update."""
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._objective(self._inputs, self._targets)
        loss.backward()
        self._optimizer.step()
        return loss.item()


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    import torch

    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _objective(function: Function, loss: str) -> Any:
    """(inputs, targets) -> the sum of the losses of all outputs."""
    from torch.nn import functional

    def squared_error(y: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(y, target)

    def cross_entropy(y: Tensor, target: Tensor) -> Tensor:
        return functional.cross_entropy(y.flatten(0, -2), target.flatten())

    of_output = {"squared_error": squared_error, "cross_entropy": cross_entropy}[loss]

    def run(inputs: dict[str, Tensor], targets: dict[str, Tensor]) -> Tensor:
        outputs = function(inputs)
        named = outputs if isinstance(outputs, dict) else {"": outputs}
        losses = [of_output(y, targets[name]) for name, y in named.items()]
        return losses[0] if len(losses) == 1 else losses[0] + losses[1]

    return run
