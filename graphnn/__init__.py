"""graphnn: neural networks declared as graphs; seen, differentiated, planned and run.

See README.md for a first example and docs/architecture.md for the way of a batch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from graphnn import initializers, layers, losses, metrics, modules, ops, optimizers, schedules
from graphnn.backends.choose import num_threads, set_num_threads
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

if TYPE_CHECKING:
    from graphnn.explanation import explain
    from graphnn.gradient_check import check_gradients
    from graphnn.graph.diff import GraphDiff, diff
    from graphnn.plans import plans_of, programs_of
    from graphnn.profiler import profile
    from graphnn.render.plan_drawing import plan_text
    from graphnn.training.live import LiveCurve
    from graphnn.training.tensorboard import TensorBoard
    from graphnn.values import inspect_values

__version__ = "0.1.0"  # that of pyproject.toml, as a test checks; reading package metadata takes 40 ms

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
    "GraphDiff",
    "GraphError",
    "GraphnnError",
    "History",
    "Input",
    "Layer",
    "LiveCurve",
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
    "TensorBoard",
    "TensorSpec",
    "Trainer",
    "check_gradients",
    "diff",
    "explain",
    "initializers",
    "inspect_values",
    "layers",
    "losses",
    "metrics",
    "modules",
    "num_threads",
    "ops",
    "optimizers",
    "plan_text",
    "plans_of",
    "profile",
    "programs_of",
    "schedules",
    "set_num_threads",
]

# Not every program looks into what it builds, and these bring the drawings with them: loaded on first use.
_LOADED_ON_FIRST_USE = {
    "explain": "graphnn.explanation",
    "check_gradients": "graphnn.gradient_check",
    "GraphDiff": "graphnn.graph.diff",
    "diff": "graphnn.graph.diff",
    "plans_of": "graphnn.plans",
    "programs_of": "graphnn.plans",
    "profile": "graphnn.profiler",
    "plan_text": "graphnn.render.plan_drawing",
    "LiveCurve": "graphnn.training.live",
    "TensorBoard": "graphnn.training.tensorboard",
    "inspect_values": "graphnn.values",
}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_ON_FIRST_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_LOADED_ON_FIRST_USE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LOADED_ON_FIRST_USE})
