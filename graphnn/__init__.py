"""graphnn: neural networks declared as graphs; seen, differentiated, planned and run.

See README.md for a first example and docs/architecture.md for the way of a batch.
"""

from importlib.metadata import PackageNotFoundError, version

from graphnn import initializers, layers, losses, metrics, modules, ops, optimizers, schedules
from graphnn.errors import (
    BackendError,
    DimensionError,
    DivergenceError,
    DTypeError,
    FileFormatError,
    GradientError,
    GraphError,
    GraphnnError,
    OptionError,
    ParameterError,
    PassError,
    ShapeError,
    StateError,
)
from graphnn.gradient_check import check_gradients
from graphnn.graph.graph import Edge, Graph, Node
from graphnn.graph.layer import Input, Layer, SymbolicTensor
from graphnn.graph.module import Module
from graphnn.ir.dimension import Dimension
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.layers.numeric import NumericLayer
from graphnn.model import Model
from graphnn.training.callbacks import Callback, EarlyStopping
from graphnn.training.history import History
from graphnn.training.trainer import Trainer

try:
    __version__ = version("graphnn")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "0+unknown"

__all__ = [
    "BackendError",
    "Callback",
    "DTypeError",
    "Dimension",
    "DimensionError",
    "DivergenceError",
    "EarlyStopping",
    "Edge",
    "FileFormatError",
    "GradientError",
    "Graph",
    "GraphError",
    "GraphnnError",
    "History",
    "Input",
    "Layer",
    "Model",
    "Module",
    "Node",
    "NumericLayer",
    "OptionError",
    "ParameterError",
    "PassError",
    "ShapeError",
    "StateError",
    "SymbolicTensor",
    "TensorSpec",
    "Trainer",
    "check_gradients",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "modules",
    "ops",
    "optimizers",
    "schedules",
]
