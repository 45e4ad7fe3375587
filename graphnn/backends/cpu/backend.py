"""CpuBackend: from a Program to one native call, on all cores that this process may use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable
from functools import cache

import numpy as np

from graphnn.backends.cpu.assemble import Assembler
from graphnn.backends.cpu.cache import Cache
from graphnn.backends.cpu.driver import MOST_ARGUMENTS
from graphnn.backends.cpu.executable import CpuExecutable, assemble, link
from graphnn.backends.cpu.jit import Code
from graphnn.backends.cpu.kernel import Kernel, Specs
from graphnn.backends.cpu.kernel_cache import KernelCache
from graphnn.backends.cpu.kernels.registry import emit_kernel, emit_part_copy
from graphnn.backends.cpu.memory import aligned_array
from graphnn.backends.cpu.target import Target, host_target
from graphnn.backends.cpu.threads import Pool, Pools
from graphnn.backends.executable import Backend
from graphnn.backends.fork_lock import ForkLock
from graphnn.ir.program import Instruction, Program
from graphnn.ir.structure import operation_key
from graphnn.ir.tensor_spec import TensorSpec
from graphnn.ops.op import Array, Op
from graphnn.passes.native import native_passes
from graphnn.passes.pipeline import run_passes
from graphnn.plan.cost import cost_of
from graphnn.plan.plan import Plan
from graphnn.tiled import Tiled

MEMO = 4096  # kernels whose IR is remembered
WORTH_SHARING = 4_000_000  # operations: about 20 us of one core; below, what cores tell each other takes as long


class Engine:
    """Kernels by op and specs, their machine code, and the workers; shared by all models of a process."""

    def __init__(self, target: Target, cache: Cache | None = None):
        self.target = target
        self.cache = cache
        self.code = Code(target, cache, tell_progress)
        self.pools = Pools(self.code)
        self.alone = Pool(1, self.code)  # for what one worker does
        self._kept = KernelCache(cache, target) if cache else None
        self._known: dict[Hashable, Kernel | None] = {}
        self._lock = ForkLock()

    def of(self, op: Op, inputs: Specs, outputs: Specs) -> Kernel | None:
        """The kernel of a step, or None where there is none for it."""
        if len(inputs) + len(outputs) + 1 > MOST_ARGUMENTS:  # 1: scratch memory
            return None
        return self._remember(
            (operation_key(op), inputs, outputs), lambda: emit_kernel(op, inputs, outputs, self.target)
        )

    def part_copy(self, whole: TensorSpec, axis: int, parts: int, into_whole: bool) -> Kernel | None:
        """The kernel that copies one part along an axis out of a whole array, or into it."""
        key = ("part", whole, axis, parts, into_whole)
        return self._remember(key, lambda: emit_part_copy(whole, axis, parts, into_whole, self.target))

    def _remember(self, key: Hashable, make: Callable[[], Kernel | None]) -> Kernel | None:
        with self._lock.own:
            if key in self._known:
                return self._known[key]
        made = self._kept.get(key, make) if self._kept else make()
        with self._lock.own:
            if len(self._known) >= MEMO:
                self._known.clear()
            self._known[key] = made
        return made


@cache
def shared_engine() -> Engine:
    """That of this machine's CPU."""
    return Engine(host_target(), Cache())


class CpuBackend(Backend):
    """Native code through LLVM.

    Args:
        pool: the workers that share all work; if not given, those of `graphnn.set_num_threads` share what is worth it.
        engine: where kernels come from; the process's own if not given.
    """

    name = "cpu"

    def __init__(self, pool: Pool | None = None, engine: Engine | None = None):
        self._given = pool
        self._engine = engine

    @property
    def engine(self) -> Engine:
        """Where kernels come from."""
        return self._engine or shared_engine()

    @property
    def pool(self) -> Pool:
        """The workers that plans are made for from now on."""
        return self._given or self.engine.pools.get()

    def rewrite(self, program: Program) -> Program:
        """Cut along the batch for the workers, if there is enough for them to do, and fused."""
        shared = self._given is not None or _operations(program) >= WORTH_SHARING
        workers = self.pool.workers if shared else 1
        passes = native_passes(workers, self.engine.target.l2_bytes, self._has_kernel)
        return run_passes(program, passes)

    def _has_kernel(self, instruction: Instruction) -> bool:
        inputs, outputs = (tuple(v.spec for v in values) for values in (instruction.inputs, instruction.outputs))
        return isinstance(instruction.op, Op) and self.engine.of(instruction.op, inputs, outputs) is not None

    def compile(self, plan: Plan) -> CpuExecutable:
        """A table of native kernels; nothing is allocated before the first run."""
        engine = self.engine
        shared = any(isinstance(step.op, Tiled) for step in plan.steps)
        pool = self.pool if shared else engine.alone
        assembled = assemble(plan, Assembler(engine.of, engine.part_copy, pool.workers))
        return link(plan, assembled, engine.code, pool)

    def to_device(self, array: Array) -> Array:
        """A contiguous copy that begins with a cache line, so that no vector, and no worker's part, shares one."""
        copied = aligned_array(array.shape, array.dtype)
        copied[...] = array
        return copied

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """See Backend."""
        return aligned_array(shape, np.dtype(dtype), zeros=True)

    def to_host(self, array: Array) -> Array:
        """A copy."""
        return array.copy()


def _operations(program: Program) -> int:
    """Floating-point operations, as far as they are known."""
    specs = (
        (i.op, *([value.spec for value in values] for values in (i.inputs, i.outputs))) for i in program.instructions
    )
    return sum(cost_of(op, inputs, outputs).flops or 0 for op, inputs, outputs in specs)


def tell_progress(done: int, total: int) -> None:
    """One line on a terminal, which goes when all is compiled."""
    if sys.stderr.isatty():
        text = f"\rcompiling kernels: {done} of {total}" if done < total else "\r" + " " * 50 + "\r"
        print(text, end="", file=sys.stderr, flush=True)
