"""Steps as rows of the driver's table, at the limits of what the table can hold."""

import numpy as np
import pytest

from graphnn.backends.cpu.backend import CpuBackend, shared_engine
from graphnn.backends.cpu.executable import Interpreted
from graphnn.backends.cpu.threads import Pool
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops import concatenate, tanh
from graphnn.ops.op import Tensor
from graphnn.plan.memory import make_plan
from graphnn.tiled import Tiled


@pytest.mark.parametrize(("count", "native"), [(40, True), (255, False), (3000, False)])
def test_an_op_of_more_arrays_than_a_row_can_name_runs_by_its_reference(count, native):
    builder = ProgramBuilder()
    tensors = [Tensor(builder, builder.input(f"x{number}", TensorSpec((2, 3)))) for number in range(count)]
    program = builder.build([concatenate(tensors, 1).value])
    backend = CpuBackend()
    made = backend.compile(make_plan(backend.rewrite(program)))
    arrays = [np.full((2, 3), number, "float32") for number in range(count)]
    np.testing.assert_array_equal(made(arrays)[0], np.concatenate(arrays, 1))
    assert native != any(isinstance(segment, Interpreted) for segment in made.assembled.segments)


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize("columns", [100, 163, 400])
def test_sums_over_tiles_of_many_elements(workers, columns):
    """Large ones are added up by all workers, each its share of the elements; what does not divide by one."""
    builder = ProgramBuilder()
    x, dy = (
        Tensor(builder, builder.input(name, TensorSpec((600, size)))) for name, size in (("x", 101), ("dy", columns))
    )
    w = x.transpose((1, 0)) @ tanh(dy)
    program = builder.build([w.value])
    backend = CpuBackend(Pool(workers, shared_engine().code))
    plan = make_plan(backend.rewrite(program))
    assert workers == 1 or any(isinstance(step.op, Tiled) and "sum" in step.op.output_axes for step in plan.steps)
    random = np.random.default_rng(0)
    arrays = [random.normal(size=value.spec.shape).astype("float32") for value in program.inputs]
    wanted = arrays[0].T.astype("float64") @ np.tanh(arrays[1].astype("float64"))
    made = backend.compile(plan)
    for _ in range(3):
        np.testing.assert_allclose(made(arrays)[0], wanted, rtol=1e-4, atol=2e-4)
