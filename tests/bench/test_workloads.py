"""The workloads are what their titles say, and the same in every process."""

import numpy as np
import pytest

from graphnn.bench.measure import count_flops
from graphnn.bench.workload import MODULES, SIX, make_inputs, make_targets
from graphnn.bench.workloads import WORKLOADS, find
from graphnn.errors import OptionError
from graphnn.model import Model

# GFLOP of a step by hand: 6 for each weight and each place where it is used (forward, and both gradients), without the
# gradient of the inputs of the first layer; 12 * batch * time**2 * d for attention; the gradient of an LSTM makes the
# products of its steps once more.
BY_HAND = {
    "mlp_small": 6 * 64 * 17_024 - 2 * 64 * 8192,
    "mlp_large": 6 * 256 * 1_861_632 - 2 * 256 * 802_816,
    "wavenet": 6 * 16_384 * (6 * 12_288 + 192) - 2 * 16_384 * 128,
    "resnet": 6 * 32 * 26_600_000,
    "bilstm": 6 * 2048 * (2 * 98_304 + 2560) - 2 * 2048 * 65_536 + 2 * 2048 * 131_072,
    "transformer": 6 * 1024 * 2 * 786_432 + 2 * 12 * 8 * 128 * 128 * 256,
}


def test_there_are_six_networks_and_all_modules():
    groups = [workload.group for workload in WORKLOADS.values()]
    assert (groups.count(SIX), groups.count(MODULES)) == (6, 6)
    assert [name for name, workload in WORKLOADS.items() if workload.group == SIX] == list(BY_HAND)
    with pytest.raises(OptionError, match="mlp_small"):
        find("mlp")


@pytest.mark.parametrize("name", BY_HAND)
def test_operations_are_those_of_the_title(name):
    """What is not a product (activations, norms, Adam) adds a few per cent."""
    assert 1.0 <= count_flops(WORKLOADS[name]) / BY_HAND[name] < 1.16


@pytest.mark.parametrize("name", WORKLOADS)
def test_arrays_are_the_same_each_time_and_fit_the_graph(name):
    workload = WORKLOADS[name]
    once, again = ({**make_inputs(workload), **make_targets(workload)} for _ in range(2))
    assert all(np.array_equal(once[key], again[key]) for key in once)
    graph = workload.build()
    assert [node.name for node in graph.inputs] == list(workload.inputs)
    assert (list(graph.output_names) or [""]) == list(workload.targets)
    assert workload.build().to_json() == graph.to_json()
    for targets in make_targets(workload).values():
        assert targets.dtype == ("float32" if workload.classes is None else "int64")
        assert workload.classes is None or 0 <= targets.min() < targets.max() < workload.classes


def test_different_arrays_differ():
    x = make_inputs(WORKLOADS["wavenet_residual"])
    assert not np.array_equal(x["x_main"], x["x_skip"])


def test_models_have_the_same_weights_each_time():
    one, two = (Model(WORKLOADS["mlp_small"].build(), device="reference").parameters for _ in range(2))
    assert all(np.array_equal(one[path], two[path]) for path in one)
