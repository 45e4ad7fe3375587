"""What the peers run is the same network: equal weights and data give equal losses, before and after steps of Adam."""

from dataclasses import replace

import numpy as np
import pytest

from graphnn.bench import jax_twins, torch_twins
from graphnn.bench.graphnn_contender import GraphnnContender, trainer_of
from graphnn.bench.jax_contender import JaxContender
from graphnn.bench.measure import CHECKED_STEPS, check_losses
from graphnn.bench.torch_contender import TorchContender
from graphnn.bench.torch_layers import TorchLayers
from graphnn.bench.workloads import WORKLOADS
from graphnn.errors import GradientError, ParameterError

STEPS = {"wavenet": 40, "wavenet_residual": 9, "bilstm": 5, "bidirectional_lstm": 5}
STEPS |= {"attention": 7, "attention_long": 9}
NAMES = [name for name in WORKLOADS if name != "mlp_large"]  # it is mlp_small with other sizes
COMPILED_BY_JAX = (
    "mlp_small",
    "wavenet",
    "resnet",
    "bilstm",
    "transformer",
    "wavenet_residual",
)  # has each of its layers


def small(name):
    """A batch of 3, and fewer steps in time where the network takes any number of them."""
    workload = WORKLOADS[name]

    def cut(shape):
        time = [min(size, STEPS.get(name, size)) for size in shape[1:2]]
        return (3, *(time if name in STEPS else shape[1:2]), *shape[2:])

    inputs, targets = ({key: cut(shape) for key, shape in of.items()} for of in (workload.inputs, workload.targets))
    return replace(workload, inputs=inputs, targets=targets)


def arrays_of(store):
    return {path: np.array(array) for path, array in store.items()}


def losses_of(contender):
    return [contender.step() for _ in range(CHECKED_STEPS)]


def test_every_workload_has_its_twins():
    assert list(jax_twins.TWINS) == list(torch_twins.TWINS) == list(WORKLOADS)


@pytest.mark.peers
@pytest.mark.parametrize("name", NAMES)
def test_torch(name):
    workload = small(name)
    contender = TorchContender(workload, arrays_of(trainer_of(workload, "reference").model.parameters), threads=1)
    check_losses(workload, {"torch": losses_of(contender)})


@pytest.mark.peers
@pytest.mark.parametrize("name", COMPILED_BY_JAX)
def test_jax(name):
    pytest.importorskip("jax")
    workload = small(name)
    model = trainer_of(workload, "reference").model
    contender = JaxContender(workload, arrays_of(model.parameters), arrays_of(model.states))
    check_losses(workload, {"jax": losses_of(contender)})


@pytest.mark.peers
def test_a_wrong_weight_is_found_and_the_contender_named():
    workload = small("mlp_small")
    arrays = arrays_of(trainer_of(workload, "reference").model.parameters)
    arrays["logits/b"][0] += 0.1
    with pytest.raises(GradientError, match=r"torch on mlp_small: the loss of step 1 differs"):
        check_losses(workload, {"torch": losses_of(TorchContender(workload, arrays, threads=1))})


@pytest.mark.peers
def test_a_parameter_without_a_layer_is_found():
    layers = TorchLayers({"a/W": np.ones((2, 3), "float32"), "a/b": np.ones(3, "float32"), "rest": np.ones(1)})
    layers.linear("a")
    with pytest.raises(ParameterError, match="rest"):
        layers.check_all_used()
    with pytest.raises(ParameterError, match="b/W"):
        layers.linear("b")


def test_every_step_counts_and_nan_never_passes():
    workload = small("mlp_small")
    contender = GraphnnContender(workload, "reference")
    losses = losses_of(contender)
    check_losses(workload, {"graphnn": losses})
    for number in range(CHECKED_STEPS):
        for wrong in (losses[number] * 1.02, float("nan")):
            found = [*losses[:number], wrong, *losses[number + 1 :]]
            with pytest.raises(GradientError, match=f"the loss of step {number + 1} differs"):
                check_losses(workload, {"graphnn": losses, "other": found})
