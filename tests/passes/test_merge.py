"""merge_common: equal computations become one."""

import numpy as np
import pytest
from hypothesis import given

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Program
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.text import to_text
from graphnn.ir.verify import verify
from graphnn.ops import exp, fill, random_bits, tanh, top_k
from graphnn.ops.evaluate import evaluate
from graphnn.ops.op import Tensor
from graphnn.passes.merge import merge_common
from module_cases import SMALL, module_programs, numbers_for
from random_programs import arrays_for, programs


def build(function, *specs) -> Program:
    builder = ProgramBuilder()
    tensors = [Tensor(builder, builder.input(f"x{i}", spec)) for i, spec in enumerate(specs)]
    return verify(builder.build([tensor.value for tensor in function(*tensors)]))


PAIR = TensorSpec((2, 3))

BEFORE = """program {
  input %0: float32[2, 3]  # x0
  %1: float32[2, 3] = Tanh()(%0)
  %2: float32[2, 3] = Tanh()(%0)
  %3: float32[2, 3] = Multiply()(%1, %2)
  %4: float32[2, 3] = Multiply()(%2, %1)
  %5: float32[2, 3] = Add()(%3, %4)
  return %5
}"""
AFTER = """program {
  input %0: float32[2, 3]  # x0
  %1: float32[2, 3] = Tanh()(%0)
  %2: float32[2, 3] = Multiply()(%1, %1)
  %3: float32[2, 3] = Add()(%2, %2)
  return %3
}"""


def test_text_before_and_after():
    def function(x):
        a, b = tanh(x), tanh(x)
        return [a * b + b * a]

    program = build(function, PAIR)
    assert to_text(program) == BEFORE
    assert to_text(merge_common(program)) == AFTER
    assert to_text(program) == BEFORE


DIFFERENT = {
    "other attributes": lambda x: [x.sum(0), x.sum(1)],
    "other inputs": lambda x: [tanh(x), tanh(exp(x))],
    "exchanged inputs": lambda x: [x - exp(x), exp(x) - x],
    "signs of zero": lambda x: [fill(x.builder, 0.0, (2,)), fill(x.builder, -0.0, (2,))],
    "other streams of random bits": lambda x: [random_bits(words(x), (2,), 1), random_bits(words(x), (2,), 2)],
}


def words(x):
    return x.reshape((6,)).slice(0, 0, 4).cast("uint32")


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_stays_apart(name):
    merged = merge_common(build(DIFFERENT[name], PAIR))
    first, second = merged.outputs
    assert first is not second


def test_equal_draws_of_random_bits_are_one():
    """They depend on seed, step and stream alone."""
    merged = merge_common(
        build(lambda x: [random_bits(x, (2,), 1), random_bits(x, (2,), 1)], TensorSpec((4,), "uint32"))
    )
    assert len(merged.instructions) == 1
    assert merged.outputs[0] is merged.outputs[1]


def test_all_outputs_of_an_instruction_are_merged():
    merged = merge_common(build(lambda x: [*top_k(x, 2), *top_k(x, 2)], PAIR))
    assert len(merged.instructions) == 1
    assert merged.outputs[:2] == merged.outputs[2:]


@given(programs())
def test_random_programs_keep_their_bytes(program):
    merged, arrays = verify(merge_common(program)), arrays_for(program)
    found, wanted = evaluate(np, merged, arrays), evaluate(np, program, arrays)
    assert [found[v].tobytes() for v in merged.results] == [wanted[v].tobytes() for v in program.results]
    keys = [(i.op, i.inputs) for i in merged.instructions]
    assert len({(repr(op), op, inputs) for op, inputs in keys}) == len(keys)


@pytest.mark.parametrize("program", [pytest.param(program, id=name) for name, program in module_programs(SMALL)])
def test_modules_keep_their_bytes(program):
    merged, arrays = verify(merge_common(program)), numbers_for(program)
    found, wanted = evaluate(np, merged, arrays), evaluate(np, program, arrays)
    assert [found[v].tobytes() for v in merged.results] == [wanted[v].tobytes() for v in program.results]
