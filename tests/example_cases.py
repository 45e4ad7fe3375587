"""The networks of the examples, each with a small batch of the data that it is trained on."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> ModuleType:
    """The module of an example."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digits():
    (x, y), _ = example("digits").load()
    return example("digits").build(), x[:64], y[:64]


def wavenet():
    module = example("wavenet")
    return (module.build(), *next(iter(module.batches(module.read_text(None), 1, 4, seed=0))))


def bilstm():
    module = example("bilstm")
    images = np.random.default_rng(0).random((20, 8, 8))
    return (module.build(), *module.stack(images, np.arange(20) % 10, 30, seed=0))


def causal():
    module = example("attention")
    return (module.build(causal=True), *module.pieces(np.arange(9999) % 251, 16, seed=0))


def masked():
    module = example("attention")
    text = np.frombuffer(b"a line of some text that is long enough\n" * 99, "uint8").astype("int64")
    return (module.build(causal=False), *module.blotted(text, 16, seed=0))


MAKERS: tuple[Callable[[], tuple[Any, Any, Any]], ...] = (digits, wavenet, bilstm, causal, masked)  # graph, x, y
