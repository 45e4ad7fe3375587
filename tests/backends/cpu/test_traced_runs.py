"""What the workers write down during a traced run, what a refused run leaves behind, and the memory that is told."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from graphnn.backends.cpu import executable as engine
from graphnn.backends.cpu.backend import CpuBackend, shared_engine
from graphnn.backends.cpu.threads import Pool
from graphnn.backends.cpu.timing import Log
from graphnn.errors import OptionError
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops import gather, tanh
from graphnn.ops.op import Tensor
from graphnn.plan.memory import make_plan
from graphnn.plan.plan import aligned

ROWS = TensorSpec((512, 2048))  # enough to be shared


@cache
def backend(workers: int) -> CpuBackend:
    return CpuBackend(Pool(workers, shared_engine().code))


def executable(program: Program, workers: int):
    made = backend(workers)
    return made.compile(make_plan(made.rewrite(program)))


def tiled_program() -> Program:
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", ROWS))
    return builder.build([tanh(tanh(x) * 2.0).sum().value])


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_run_of_a_kernel_is_written_down_by_the_worker_that_made_it(workers):
    made = executable(tiled_program(), workers)
    for _ in range(3):
        _, runs = made.run_traced([np.ones(ROWS.shape, "float32")])
        assert len(runs) == sum(call.runs for call in made.calls)
        assert {run.worker for run in runs} == set(range(workers))
        assert {run.call for run in runs} == set(made.calls)
        for worker in range(workers):
            own = [run for run in runs if run.worker == worker]
            assert all(a.begin + a.seconds <= b.begin + 1e-9 for a, b in pairwise(own))


def test_nothing_is_written_down_behind_a_traced_run(monkeypatch):
    logs: list[Log] = []

    class KeptLog(Log):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            logs.append(self)

    monkeypatch.setattr(engine, "Log", KeptLog)
    made, x = executable(tiled_program(), 2), np.ones(ROWS.shape, "float32")
    made.run_traced([x])
    before = [log.words.copy() for log in logs]
    for log in logs:
        log.words[:, 0] = 0  # a run that is written down would start at the first entry
    made([x])
    assert any(words[:, 0].any() for words in before)
    for log, words in zip(logs, before, strict=True):
        np.testing.assert_array_equal(log.words[:, 1:], words[:, 1:])
        assert not log.words[:, 0].any()


@pytest.mark.parametrize("is_first", [True, False])
def test_a_refused_run_changes_no_parameter(is_first):
    """Wherever the update stands in the program, also where it could be written in place."""
    builder = ProgramBuilder()
    p = Tensor(builder, builder.input("p", TensorSpec((64, 64)), Kind.PARAMETER))
    x = Tensor(builder, builder.input("x", TensorSpec((4, 3))))
    indices = Tensor(builder, builder.input("i", TensorSpec((2,), "int64")))
    if is_first:
        new = tanh(p) + 1.0
        found = gather(x, indices)
    else:
        found = gather(x, indices)
        new = tanh(p) + 1.0
    builder.update(p.value, new.value)
    made = executable(builder.build([found.value]), 2)
    parameter = np.zeros((64, 64), "float32")
    numbers = np.ones((4, 3), "float32")
    with pytest.raises(OptionError, match="out of range"):
        made([parameter, numbers, np.array([0, 4])])
    assert not parameter.any()
    made([parameter, numbers, np.array([0, 3])])
    assert (parameter == 1.0).all()


def test_the_memory_that_is_told_holds_the_copies_of_parameters_that_replace_each_other():
    spec = TensorSpec((100,))
    builder = ProgramBuilder()
    p, q = (builder.input(name, spec, Kind.PARAMETER) for name in "pq")
    builder.update(p, q)
    builder.update(q, p)
    plan = make_plan(builder.build([]))
    made = backend(1).compile(plan)
    assert made.memory["arena"] == plan.arena_bytes + 2 * aligned(spec.nbytes)
