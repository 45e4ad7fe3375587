"""Kernel: native code of one step, before it is compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeAlias

from graphnn.backends.cpu.target import Target
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Op

Specs: TypeAlias = tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Unwritten:
    """LLVM IR that is known by its digest; `str` writes it. Nobody needs it while its machine code is at hand.

    Args:
        digest: `digest_of` the text.
        write: makes the text.
    """

    digest: str
    write: Callable[[], str] = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.write()


Text: TypeAlias = str | Unwritten


def digest_of(text: Text) -> str:
    """Names the text; equal for equal texts, written or not."""
    return text.digest if isinstance(text, Unwritten) else blake2b(text.encode(), digest_size=20).hexdigest()


@dataclass(frozen=True)
class Kernel:
    """`i64 kernel(ptr* pointers, i64* sizes)` as LLVM IR; steps with equal IR share the compiled function.

    The pointers are those of the step's inputs, of its outputs, and of scratch memory where any is asked for. An output
    may lie exactly over an input where `op.may_write_input`; apart from that no two overlap. Buffers are aligned to
    their element size only. The function returns 0, or another number if the inputs are not acceptable (an index out of
    range): then `op.reference` is run to raise the error.

    Args:
        ir: text of a module with the function `kernel`.
        sizes: the numbers that this step passes to it.
        scratch_bytes: private memory of a run, aligned to 64 bytes; its content is undefined.
        notes: what a reader of `explain` should know: tiles, passes over memory.
    """

    ir: Text
    sizes: tuple[int, ...] = ()
    scratch_bytes: int = 0
    notes: str = ""


Emitter: TypeAlias = Callable[[Op, Specs, Specs, Target], "Kernel | None"]  # None: this case is not covered
