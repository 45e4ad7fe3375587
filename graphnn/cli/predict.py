"""graphnn predict: the outputs of a network for arrays from a file."""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphnn.cli.data import LAYOUT, TARGET, split_inputs
from graphnn.cli.output import STDOUT, check_folder, emit, note, write
from graphnn.cli.target import add_device, add_target, load_model
from graphnn.files.npz import npz_path, save_arrays
from graphnn.model import Model
from graphnn.training.data import Batches


def add(commands: Any, common: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The options."""
    parser = commands.add_parser(
        "predict", parents=[common], help="compute a network's outputs for arrays from a file",
        description="Compute outputs in batches and write them to an npz file: by name, or as y where the network has "
        f"one unnamed output. In the data, {LAYOUT}; targets are not read.",
    )  # fmt: skip
    add_target(parser)
    parser.add_argument("--data", required=True, metavar="FILE", help="npz file with arrays by input name")
    parser.add_argument("--weights", metavar="FILE", help="npz file of weights")
    text = "npz file to write; - prints it, as JSON numbers with --json"
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=text)
    parser.add_argument("--batch-size", type=int, default=256, metavar="N", help="examples at once (default: 256)")
    add_device(parser)
    return parser


def run(options: argparse.Namespace) -> int:
    """Load, compute, write."""
    check_folder(options.output)
    model = load_model(options.target, device=options.device)
    if options.weights:
        model.load_weights(options.weights)
    else:
        note("note: no --weights are given, so these are the weights that the target has or starts with")
    inputs, _ = split_inputs(model.graph, options.data, needs_targets=False)
    outputs = predict(model, inputs, options.batch_size)
    shapes = {name: {"shape": list(array.shape), "dtype": str(array.dtype)} for name, array in outputs.items()}
    if options.output != STDOUT:
        save_arrays(options.output, outputs)
        path = str(npz_path(options.output))
        rows = [f"{name}: {array.dtype}{list(array.shape)}" for name, array in outputs.items()]
        emit(options, {"file": path, "outputs": shapes}, "\n".join([*rows, f"outputs: {path}"]))
    elif options.json:
        emit(options, {name: array.tolist() for name, array in outputs.items()}, "")
    else:
        file = io.BytesIO()
        np.savez(file, **outputs)  # pyright: ignore[reportArgumentType] (its flag is no name of an output)
        write(STDOUT, file.getvalue())
    return 0


def predict(model: Model, inputs: Mapping[str, np.ndarray], batch_size: int) -> dict[str, np.ndarray]:
    """Outputs by name, computed in batches."""
    names = model.graph.output_names or (TARGET,)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for batch, _ in Batches((dict(inputs), None), batch_size, shuffle=False):
        found = model.run(keep=False, **batch).outputs
        values = found.values() if isinstance(found, dict) else found if isinstance(found, tuple) else [found]
        for name, value in zip(names, values, strict=True):
            parts[name].append(model.to_host(value))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}
