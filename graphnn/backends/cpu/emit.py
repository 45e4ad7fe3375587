"""Writing LLVM IR: functions, counted loops, vector loads and stores. No knowledge of ops."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from llvmlite import ir

from graphnn.backends.cpu.target import Target

Value: TypeAlias = Any  # ir.Value: llvmlite ships no types
I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
POINTER = ir.PointerType()
ENTRY = "kernel"
FIRST_LEVEL, SECOND_LEVEL = 3, 2  # caches, as LLVM counts how near a line shall be
TYPES: dict[str, Any] = {
    "float16": ir.HalfType(), "float32": ir.FloatType(), "float64": ir.DoubleType(),
    "int8": I8, "int16": ir.IntType(16), "int32": I32, "int64": I64,
    "uint8": I8, "uint16": ir.IntType(16), "uint32": I32, "uint64": I64, "bool": I8,
}  # fmt: skip


def const(number: int) -> Value:
    """A 64-bit integer constant, the type of all sizes and indices."""
    return I64(number)


class Loop:
    """A counted loop that is being written; `carried` holds the values that go from one turn to the next."""

    def __init__(self, index: Value, carried: list[Value]):
        self.index = index
        self.carried = carried  # at the start of a turn; after the loop: the last values
        self.results: Sequence[Value] = ()  # set in the body: the values for the next turn


class Function:
    """`i64 kernel(ptr* pointers, i64* sizes)`: the one form of all kernels.

    `pointers` are the inputs, the outputs and the scratch memory of the step, in this order; `sizes` are the numbers
    that the kernel leaves open. Returns 0, or what went wrong.
    """

    def __init__(self, target: Target, name: str = ENTRY, arguments: Sequence[Any] = (POINTER, POINTER)):
        self.target = target
        self.module = ir.Module(name)
        self.module.triple = target.triple
        self.function = ir.Function(self.module, ir.FunctionType(I64, list(arguments)), name)
        # Otherwise LLVM makes calls of memset from loops. llvmlite knows no attributes in quotes, hence set.add.
        set.add(self.function.attributes, '"no-builtins"')
        for argument in self.function.args:
            if argument.type == POINTER:
                argument.add_attribute("noalias")
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))

    def pointer(self, position: int) -> Value:
        """Address of argument `position`."""
        slot = self.builder.gep(self.function.args[0], [const(position)], source_etype=POINTER)
        return self.builder.load(slot, typ=POINTER, align=8)

    def size(self, position: int) -> Value:
        """The number `sizes[position]`."""
        slot = self.builder.gep(self.function.args[1], [const(position)], source_etype=I64)
        return self.builder.load(slot, typ=I64, align=8)

    def finish(self, status: Value | None = None) -> str:
        """Return from the kernel; the IR text."""
        self.builder.ret(const(0) if status is None else status)
        text = str(self.module)
        _take_apart(self.module)
        return text

    # -- loops --------------------------------------------------------------------------------------------------------

    @contextmanager
    def loop(
        self, count: Value | int, carried: Sequence[Value] = (), start: Value | int = 0, step: int = 1
    ) -> Generator[Loop]:
        """for index in range(start, count, step); nothing where that is empty.

        Set `loop.results` in the body to the next values of `loop.carried`; behind the loop `loop.carried` holds the
        last ones.
        """
        b = self.builder
        start, count = _index(start), _index(count)
        before = b.block
        head, body, behind = (b.append_basic_block(name) for name in ("head", "body", "behind"))
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(I64)
        index.add_incoming(start, before)
        phis = [b.phi(value.type) for value in carried]
        for phi, value in zip(phis, carried, strict=True):
            phi.add_incoming(value, before)
        b.cbranch(b.icmp_signed("<", index, count), body, behind)
        b.position_at_end(body)
        loop = Loop(index, list(phis))
        yield loop
        for phi, value in zip(phis, loop.results, strict=True):
            phi.add_incoming(value, b.block)
        index.add_incoming(b.add(index, const(step)), b.block)
        b.branch(head)
        b.position_at_end(behind)
        loop.carried = list(phis)

    @contextmanager
    def when(self, condition: Value) -> Generator[None]:
        """The body runs where `condition` holds."""
        body, behind = self.builder.append_basic_block("then"), self.builder.append_basic_block("behind")
        self.builder.cbranch(condition, body, behind)
        self.builder.position_at_end(body)
        yield
        self.builder.branch(behind)
        self.builder.position_at_end(behind)

    # -- memory -------------------------------------------------------------------------------------------------------

    def at(self, base: Value, index: Value | int, dtype: str) -> Value:
        """Address of element `index` of an array of `dtype`."""
        return self.builder.gep(base, [_index(index)], source_etype=TYPES[dtype])

    def load(self, base: Value, index: Value | int, dtype: str) -> Value:
        """One element."""
        return self.builder.load(self.at(base, index, dtype), typ=TYPES[dtype], align=_alignment(dtype))

    def store(self, value: Value, base: Value, index: Value | int, dtype: str) -> None:
        """Write one element."""
        self.builder.store(value, self.at(base, index, dtype), align=_alignment(dtype))

    def load_vector(self, base: Value, index: Value | int, dtype: str, lanes: int) -> Value:
        """`lanes` neighbouring elements from `index` on, at any alignment."""
        kind = ir.VectorType(TYPES[dtype], lanes)
        return self.builder.load(self.at(base, index, dtype), typ=kind, align=_alignment(dtype))

    def store_vector(self, value: Value, base: Value, index: Value | int, dtype: str) -> None:
        """Write neighbouring elements from `index` on, at any alignment."""
        self.builder.store(value, self.at(base, index, dtype), align=_alignment(dtype))

    def tail_mask(self, count: Value, lanes: int) -> Value:
        """<lanes x i1>: true in the first `count` lanes."""
        numbers = ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))
        return self.builder.icmp_signed("<", numbers, self.splat(count, lanes))

    def load_masked(self, base: Value, index: Value | int, dtype: str, mask: Value) -> Value:
        """Elements where the mask is true, zeros elsewhere; nothing is read there."""
        kind = ir.VectorType(TYPES[dtype], mask.type.count)
        function = self._masked("load", kind, mask.type)
        zeros = ir.Constant(kind, None)
        return self.builder.call(function, [self.at(base, index, dtype), I32(_alignment(dtype)), mask, zeros])

    def store_masked(self, value: Value, base: Value, index: Value | int, dtype: str, mask: Value) -> None:
        """Write the elements where the mask is true."""
        function = self._masked("store", value.type, mask.type)
        self.builder.call(function, [value, self.at(base, index, dtype), I32(_alignment(dtype)), mask])

    def _masked(self, what: str, kind: Any, mask: Any) -> Value:
        suffix = f"v{kind.count}{_short(kind.element)}"
        if what == "load":
            return self.intrinsic(f"llvm.masked.load.{suffix}.p0", kind, [POINTER, I32, mask, kind])
        return self.intrinsic(f"llvm.masked.store.{suffix}.p0", ir.VoidType(), [kind, POINTER, I32, mask])

    # -- arithmetic ---------------------------------------------------------------------------------------------------

    def intrinsic(self, name: str, result: Any, arguments: Sequence[Any]) -> Value:
        """The declaration of an LLVM intrinsic."""
        found = self.module.globals.get(name)
        return found or ir.Function(self.module, ir.FunctionType(result, list(arguments)), name)

    def prefetch(self, address: Value, level: int, writes: bool = False) -> None:
        """Ask for the line of an address, which need not exist, into the caches from FIRST_LEVEL or SECOND_LEVEL on."""
        ask = self.intrinsic("llvm.prefetch.p0", ir.VoidType(), [POINTER, I32, I32, I32])
        self.builder.call(ask, [address, I32(int(writes)), I32(level), I32(1)])  # 1: data, not code

    def splat(self, scalar: Value, lanes: int) -> Value:
        """The scalar in all lanes."""
        kind = ir.VectorType(scalar.type, lanes)
        if isinstance(scalar, ir.Constant):
            return ir.Constant(kind, [scalar.constant] * lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, scalar, I32(0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, lanes), None))

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """A * b + c, rounded once."""
        return self.builder.call(self.intrinsic(f"llvm.fma.{type_suffix(a.type)}", a.type, [a.type] * 3), [a, b, c])


def _take_apart(module: ir.Module) -> None:
    """Undo the cycles of references in a module that nobody needs any more: its objects go at once."""
    for function in module.functions:
        for block in function.blocks:
            for instruction in block.instructions:
                instruction.operands = []
                getattr(instruction, "incomings", []).clear()
            block.instructions.clear()
        function.blocks.clear()
    module.globals.clear()


def type_suffix(kind: Any) -> str:
    """The name of a type in an intrinsic's name: `v16f32`."""
    return f"v{kind.count}{_short(kind.element)}" if isinstance(kind, ir.VectorType) else _short(kind)


def _short(kind: Any) -> str:
    names = {"half": "f16", "float": "f32", "double": "f64"}
    return names.get(str(kind), str(kind))


def _alignment(dtype: str) -> int:
    return (
        TYPES[dtype].width // 8 if isinstance(TYPES[dtype], ir.IntType) else {"float16": 2, "float32": 4}.get(dtype, 8)
    )


def _index(number: Value | int) -> Value:
    return const(number) if isinstance(number, int) else number
