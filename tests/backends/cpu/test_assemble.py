"""Steps as rows of the driver's table, at the limits of what the table can hold."""

import numpy as np
import pytest

from graphnn.backends.cpu.backend import CpuBackend
from graphnn.backends.cpu.executable import Interpreted
from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops import concatenate
from graphnn.ops.op import Tensor
from graphnn.plan.memory import make_plan


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
