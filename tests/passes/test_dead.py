"""remove_dead: what no result needs goes away, and nothing else. Scans: tests/test_scan.py."""

from hypothesis import given

from graphnn.ir.builder import ProgramBuilder
from graphnn.ir.program import Kind, Program, Value
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ir.text import to_text
from graphnn.ir.verify import verify
from graphnn.ops import exp, log, tanh, top_k
from graphnn.ops.op import Tensor
from graphnn.passes.dead import remove_dead
from graphnn.scan import Scan
from random_programs import programs

BEFORE = """program {
  input %0: float32[2, 3]  # x
  parameter %1: float32[2, 3]  # p
  %2: float32[2, 3] = Exp()(%0)
  %3: float32[2, 3] = Log()(%2)
  %4: float32[2, 3] = Tanh()(%2)
  %5: float32[2, 3] = Add()(%1, %0)
  update %1 <- %5
  return %4
}"""
AFTER = """program {
  input %0: float32[2, 3]  # x
  parameter %1: float32[2, 3]  # p
  %2: float32[2, 3] = Exp()(%0)
  %3: float32[2, 3] = Tanh()(%2)
  %4: float32[2, 3] = Add()(%1, %0)
  update %1 <- %4
  return %3
}"""


def test_text_before_and_after():
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", TensorSpec((2, 3))))
    p = Tensor(builder, builder.input("p", TensorSpec((2, 3)), Kind.PARAMETER))
    e = exp(x)
    log(e)
    y = tanh(e)
    builder.update(p.value, (p + x).value)
    program = builder.build([y.value])
    assert to_text(program) == BEFORE
    assert to_text(remove_dead(program)) == AFTER
    assert to_text(program) == BEFORE


def test_an_instruction_with_one_live_output_stays_whole():
    builder = ProgramBuilder()
    x = Tensor(builder, builder.input("x", TensorSpec((5,))))
    values, indices = top_k(x, 2)
    program = remove_dead(builder.build([indices.value]))
    assert program.instructions[0].outputs == (values.value, indices.value)


def needed(program: Program) -> set[Value]:
    """By going back from each result, one value at a time."""
    maker = {value: instruction for instruction in program.instructions for value in instruction.outputs}
    found: set[Value] = set()
    waiting = list(program.results)
    while waiting:
        value = waiting.pop()
        if value not in found:
            found.add(value)
            waiting += maker[value].inputs if value in maker else ()
    return found


@given(programs())
def test_exactly_what_is_needed_stays(program):
    smaller, alive = verify(remove_dead(program)), needed(program)
    assert smaller.inputs == program.inputs
    kept = [i.outputs for i in program.instructions if any(value in alive for value in i.outputs)]
    trimmed = [tuple(v for v in outputs if v in alive) for outputs in kept]
    for instruction, outputs, live in zip(smaller.instructions, kept, trimmed, strict=True):
        if isinstance(instruction.op, Scan):
            assert set(live) <= set(instruction.outputs) <= set(outputs)
        else:
            assert instruction.outputs == outputs
    assert to_text(remove_dead(smaller)) == to_text(smaller)
