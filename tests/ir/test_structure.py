"""Programs that compute the same thing have one structure, others do not."""

from dataclasses import dataclass

import pytest

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Program
from graphnn.ir.structure import operation_key, structure
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops import tanh
from graphnn.ops.op import Tensor


@dataclass(frozen=True)
class Attributed:
    """Stands for an op with any attribute."""

    attribute: object


def program_of(name: str = "x", size: int = 3, outputs: tuple[int, ...] = (0, 1), second: int = 1) -> Program:
    """y = tanh(x); z = tanh of one of the two."""
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input(name, TensorSpec((size,))))
    values = [x, tanh(x)]
    values.append(tanh(values[second]))
    return builder.build([values[1 + number].value for number in outputs])


def test_names_do_not_count():
    assert structure(program_of("a")) == structure(program_of("b"))
    assert hash(structure(program_of("a"))) == hash(structure(program_of("b")))


@pytest.mark.parametrize("other", [{"size": 4}, {"outputs": (1, 0)}, {"outputs": (0,)}, {"second": 0}], ids=str)
def test_specs_wiring_and_outputs_count(other):
    assert structure(program_of()) != structure(program_of(**other))


@pytest.mark.parametrize(
    ("left", "right"),
    [(0.0, -0.0), (1, True), (1, 1.0), ((0.0,), (-0.0,)), ((1,), (True,)), (program_of(), program_of(size=4))],
    ids=str,
)
def test_attributes_that_compare_equal_may_differ(left, right):
    assert operation_key(Attributed(left)) != operation_key(Attributed(right))


def test_nan_is_one_attribute():
    assert operation_key(Attributed(float("nan"))) == operation_key(Attributed(float("nan")))
