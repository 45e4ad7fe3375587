"""The reference backend: who owns which memory, threads, devices that are missing."""

import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from graphnn.backends.reference import ReferenceBackend, array_module, array_module_of
from graphnn.errors import BackendError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops import tanh
from graphnn.ops.op import Tensor
from graphnn.plan.memory import make_plan

ROW = TensorSpec((4,))
X = np.arange(4, dtype="float32")


def executable_of(function, xp=np):
    """Of a function of an input x, a parameter p and a state s; p and s may be updated by a dict of results."""
    builder = ProgramBuilder()
    tensors = {
        name: Tensor(builder, builder.input(name, ROW, kind))
        for name, kind in (("x", Kind.INPUT), ("p", Kind.PARAMETER), ("s", Kind.STATE))
    }
    outputs, updates = function(**tensors)
    for name, new in updates.items():
        builder.update(tensors[name].value, new.value)
    return ReferenceBackend(xp).compile(make_plan(builder.build([tensor.value for tensor in outputs])))


def test_outputs_belong_to_the_caller_each_on_its_own():
    """An input, a parameter and a value that are returned, one of them twice; changed one by one."""

    def function(x, p, s):
        y = tanh(x)
        return [y, y, x, p, p], {}

    run = executable_of(function)
    given = [X.copy(), X + 1, X + 2]
    first = run(given)
    wanted = [np.tanh(X), np.tanh(X), X, X + 1, X + 1]
    for index, output in enumerate(first):
        np.testing.assert_array_equal(output, wanted[index])
        output[...] = -7.0
        assert all(not np.shares_memory(output, other) for other in (*given, *first[:index]))
    second = run(given)
    for index, output in enumerate(second):
        np.testing.assert_array_equal(output, wanted[index])
        np.testing.assert_array_equal(first[index], np.full(4, -7.0))


def test_updates_change_the_callers_arrays_in_place_and_outputs_show_the_old_ones():
    run = executable_of(lambda x, p, s: ([p, s], {"p": p + x, "s": p}))
    p, s = X + 1, X + 2
    old_p, old_s = run([X, p, s])
    np.testing.assert_array_equal(old_p, X + 1)
    np.testing.assert_array_equal(old_s, X + 2)
    np.testing.assert_array_equal(p, X + 1 + X)
    np.testing.assert_array_equal(s, X + 1)


def test_inputs_may_be_read_only():
    x = X.copy()
    x.flags.writeable = False
    (y,) = executable_of(lambda x, p, s: ([(x + x) * x], {}))([x, X, X])
    np.testing.assert_array_equal(y, 2 * X * X)


def test_threads_do_not_disturb_each_other():
    def function(x, p, s):
        for _ in range(40):
            x = tanh(x.reshape((2, 2)).transpose((1, 0)).reshape((4,)) + p)
        return [x], {}

    run = executable_of(function)
    inputs = [np.full(4, n, "float32") for n in range(8)]
    alone = [run([x, X, X])[0].tobytes() for x in inputs]
    together: dict[int, set[bytes]] = {n: set() for n in range(8)}

    def work(n):
        for _ in range(20):
            together[n].add(run([inputs[n], X, X])[0].tobytes())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == {n: {alone[n]} for n in range(8)}


def test_too_little_memory_is_said_with_the_size():
    class FullNumpy:
        __name__ = "numpy"

        def empty(self, shape, dtype):
            raise MemoryError

    run = executable_of(lambda x, p, s: ([tanh(x + x).sum()], {}), FullNumpy())
    with pytest.raises(BackendError, match="more memory") as caught:
        run([X, X, X])
    assert "MiB" in caught.value.expected


def test_infinities_and_nan_are_values():
    (y,) = executable_of(lambda x, p, s: ([(x - x) / (p - p), x / 0.0], {}))([X, X, X])[1:]
    np.testing.assert_array_equal(y, [np.nan, np.inf, np.inf, np.inf])


def test_moved_arrays_are_contiguous_copies():
    backend = ReferenceBackend()
    turned = np.arange(6.0).reshape(2, 3).T
    for moved in (backend.to_device(turned), backend.to_host(turned)):
        np.testing.assert_array_equal(moved, turned)
        assert not np.shares_memory(moved, turned)
    assert backend.to_device(turned).flags.c_contiguous
    assert backend.name == "reference (numpy)"


def test_arrays_of_a_device_are_fetched():
    assert ReferenceBackend().to_host(SimpleNamespace(get=lambda: X)) is X


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_the_cpu_computes_with_numpy(device):
    assert array_module(device) is np
    assert array_module_of(X) is np


def test_an_unknown_device_is_refused():
    with pytest.raises(BackendError, match="unknown device") as caught:
        array_module("tpu")
    assert "cuda" in caught.value.expected


def fake_cupy(monkeypatch, devices):
    """A module named cupy that is numpy, with `devices` GPUs, or an error in place of the number."""

    class CUDARuntimeError(RuntimeError):
        pass

    def count():
        if isinstance(devices, str):
            raise CUDARuntimeError(devices)
        return devices

    cupy = ModuleType("cupy")
    cupy.__dict__.update({name: getattr(np, name) for name in np.__all__ if not name.startswith("__")})
    cupy.cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=count, CUDARuntimeError=CUDARuntimeError))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return cupy


def test_without_cupy_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match="needs CuPy") as caught:
        array_module("cuda")
    assert "graphnn[cuda" in caught.value.fix


@pytest.mark.parametrize(("devices", "message"), [(0, "no GPU"), ("driver too old", "no usable GPU")])
def test_without_a_gpu_the_error_says_so(monkeypatch, devices, message):
    fake_cupy(monkeypatch, devices)
    with pytest.raises(BackendError, match=message) as caught:
        array_module("cuda")
    assert "cpu" in caught.value.fix


def test_with_a_gpu_the_module_is_cupy(monkeypatch):
    cupy = fake_cupy(monkeypatch, 1)
    assert array_module("cuda") is cupy
    assert ReferenceBackend(cupy).name == "reference (cupy)"
    (y,) = executable_of(lambda x, p, s: ([tanh(x)], {}), cupy)([X, X, X])
    np.testing.assert_array_equal(y, np.tanh(X))
