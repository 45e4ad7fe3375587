"""Memory of parameters and runs: aligned, at different places of a page, given back, private to a process."""

import os

import numpy as np
import pytest

import graphnn as gnn
from graphnn import layers, losses
from graphnn.backends.cpu.memory import LARGE, aligned_array, allocate
from graphnn.errors import BackendError
from graphnn.plan.plan import ALIGNMENT

FLOAT = np.dtype("float32")
posix = pytest.mark.skipif(os.name != "posix", reason="large arrays have no pages of their own here")


@pytest.mark.parametrize("shape", [(), (0,), (3,), (7, 5), (LARGE // 4,), (LARGE // 4 + 1,), (300, 1001)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_arrays_begin_with_a_cache_line(shape, dtype):
    array = aligned_array(shape, np.dtype(dtype), zeros=True)
    assert array.ctypes.data % ALIGNMENT == 0
    assert (array.shape, array.dtype.name) == (shape, dtype)
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert not array.any()


def test_parameters_states_and_moments_begin_with_a_cache_line():
    x = gnn.Input(("batch", 5), name="x")
    graph = gnn.Graph(x, layers.Linear(3, name="out")(layers.BatchNorm()(layers.Linear(70_001, name="wide")(x))))
    trainer = gnn.Trainer(gnn.Model(graph, device="cpu"), losses.SquaredError(), "adam")
    trainer.train_step(np.ones((4, 5), "float32"), np.zeros((4, 3), "float32"))
    model = trainer.model
    for store in (model.parameters, model.states, model.gradients, trainer.memory):
        assert {array.ctypes.data % ALIGNMENT for array in store.values()} == {0}


@pytest.mark.parametrize("nbytes", [10**15, 2**63, 10**20])
def test_more_than_there_is_is_a_typed_error(nbytes):
    with pytest.raises(BackendError, match="more memory than there is"):
        allocate(nbytes)


@posix
def test_large_arrays_of_one_size_begin_at_different_places_of_a_page():
    arrays = [aligned_array((1024, 1024), FLOAT) for _ in range(6)]
    assert len({array.ctypes.data % 4096 for array in arrays}) > 3


@posix
def test_large_arrays_go_back_to_the_system():
    resident = "/proc/self/statm"
    if not os.path.exists(resident):
        pytest.skip("no such file here")

    def pages() -> int:
        with open(resident) as file:
            return int(file.read().split()[1])

    before = pages()
    arrays = [allocate(8 << 20) for _ in range(8)]
    for array in arrays:
        array[...] = 1
    held = pages() - before
    del array
    arrays.clear()
    assert held > 15_000  # of 4 KiB, in 64 MiB
    assert pages() - before < held // 4


@posix
def test_a_forked_child_has_arrays_of_its_own():
    array = aligned_array((LARGE,), FLOAT, zeros=True)
    child = os.fork()
    if not child:
        array[...] = 1
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert not array.any()
