"""Layers of torch that hold the weights of a graphnn model, in the layouts in which torch is fastest.

torch is an optional package: it is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from graphnn.errors import ParameterError

Tensor: TypeAlias = Any  # torch.Tensor
Layer: TypeAlias = Any  # torch.nn.Module


class TorchLayers:
    """Makes layers from parameters by path; each parameter belongs to one layer.

    Args:
        arrays: parameters of a graphnn model by path.

    Attributes:
        parameters: what the optimizer steps on.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self._arrays = dict(arrays)
        self.parameters: list[Tensor] = []

    def check_all_used(self) -> None:
        """Raise ParameterError where a parameter belongs to no layer."""
        if self._arrays:
            raise ParameterError("the twin lacks parameters", where="torch", got=", ".join(self._arrays))

    def parameter(self, path: str) -> Tensor:
        """A parameter as it is."""
        import torch

        self.parameters.append(torch.nn.Parameter(self._take(path)))
        return self.parameters[-1]

    def linear(self, *paths: str) -> Layer:
        """Linear; several paths are those of layers on one input, whose outputs then lie side by side."""
        import torch

        weight = torch.cat([self._take(f"{path}/W").T for path in paths])
        bias = torch.cat([self._take(f"{path}/b") for path in paths])
        return self._load(torch.nn.Linear(weight.shape[1], weight.shape[0]), weight=weight, bias=bias)

    def conv2d(self, path: str, stride: int = 1, padding: int = 0, dilation: Any = 1) -> Layer:
        """Conv2d in the channels_last memory format; the weight of a Conv1D becomes one of a single row."""
        import torch

        weight = self._take(f"{path}/W")
        weight = weight[None] if weight.ndim == 3 else weight
        rows, cols, n_in, n_out = weight.shape
        layer: Layer = torch.nn.Conv2d(n_in, n_out, (rows, cols), stride, padding, dilation)
        layer = layer.to(memory_format=torch.channels_last)
        return self._load(layer, weight=weight.permute(3, 2, 0, 1), bias=self._take(f"{path}/b"))

    def batch_norm(self, path: str) -> Layer:
        """BatchNorm2d while training."""
        import torch

        scaler, intercept = self._take(f"{path}/scaler"), self._take(f"{path}/intercept")
        return self._load(torch.nn.BatchNorm2d(len(scaler), eps=1e-5, momentum=0.1), weight=scaler, bias=intercept)

    def layer_norm(self, path: str) -> Layer:
        """LayerNorm over the last axis."""
        import torch

        scaler, intercept = self._take(f"{path}/scaler"), self._take(f"{path}/intercept")
        return self._load(torch.nn.LayerNorm(len(scaler), eps=1e-5), weight=scaler, bias=intercept)

    def bidirectional_lstm(self, path: str) -> Layer:
        """A bidirectional LSTM of one layer; of torch's two biases one is zero and stays so: graphnn has one."""
        import torch

        n_in, width = self._arrays[f"{path}/cell_fwd/W"].shape
        layer = torch.nn.LSTM(n_in, width // 4, batch_first=True, bidirectional=True)
        for cell, ending in (("cell_fwd", ""), ("cell_bwd", "_reverse")):
            for theirs, ours in (("weight_ih", "W"), ("weight_hh", "U"), ("bias_ih", "b")):
                value = self._take(f"{path}/{cell}/{ours}")
                getattr(layer, f"{theirs}_l0{ending}").data.copy_(value.T if value.ndim == 2 else value)
            fixed = getattr(layer, f"bias_hh_l0{ending}")
            fixed.data.zero_()
            fixed.requires_grad_(False)
        return self._load(layer)

    def _take(self, path: str) -> Tensor:
        import torch

        if path not in self._arrays:
            raise ParameterError(
                "the model lacks a parameter of its twin", where=path, expected=", ".join(self._arrays)
            )
        return torch.from_numpy(np.array(self._arrays.pop(path)))

    def _load(self, layer: Layer, **values: Tensor) -> Layer:
        for name, value in values.items():
            getattr(layer, name).data.copy_(value)
        self.parameters += [parameter for parameter in layer.parameters() if parameter.requires_grad]
        return layer
