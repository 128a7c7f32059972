"""LLVM code that appends to the stream: lines, constants, guards.

Each is one function in the module that is compiled, inlined where it is used; what happens rarely (a full chunk, a new
constant) is kept out of line.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from . import stream
from .types import F64, I64

I8, I32 = ir.IntType(8), ir.IntType(32)


def _word(builder: ir.IRBuilder, k: int) -> ir.Value:
    """The place of a word of the stream."""
    module = builder.module
    words = module.globals.get(stream.SYMBOL)
    if words is None:
        words = ir.GlobalVariable(module, ir.ArrayType(I64, stream.N_WORDS), stream.SYMBOL)
    return builder.gep(words, [I32(0), I32(k)], inbounds=True)


def _at(builder: ir.IRBuilder, k: int, index: ir.Value, kind: ir.Type, size: int) -> ir.Value:
    """The place of element `index` of the array whose address is in word k."""
    start = builder.load(_word(builder, k))
    where = builder.add(start, builder.mul(index, I64(size)) if size > 1 else index)
    return builder.inttoptr(where, kind.as_pointer())


def _function(module: ir.Module, name: str, result: ir.Type, arguments: list[ir.Type], inline: bool,
              body: Any) -> ir.Function:
    """The module's own function of that name, written by `body(builder, *arguments)` when first asked for."""
    found = module.globals.get(name)
    if found is None:
        found = ir.Function(module, ir.FunctionType(result, arguments), name)
        found.linkage = "internal"
        found.attributes.add("alwaysinline" if inline else "noinline")
        body(ir.IRBuilder(found.append_basic_block("entry")), *found.args)
    return found


def _full(builder: ir.IRBuilder, what: int) -> ir.Value:
    """Call refill; its status."""

    def body(b: ir.IRBuilder, asked: ir.Value) -> None:
        kind = ir.FunctionType(I32, [I32]).as_pointer()
        b.ret(b.call(b.inttoptr(b.load(_word(b, stream.REFILL)), kind), [asked]))

    function = _function(builder.module, "distdiff.full", I32, [I32], False, body)
    return builder.call(function, [I32(what)])


def _constant_number(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The number -1-k of a constant."""

    def new(b: ir.IRBuilder, value: ir.Value, bits: ir.Value, slot: ir.Value) -> None:
        k = b.load(_word(b, stream.CONST_NEXT))
        b.store(value, _at(b, stream.CONST, k, F64, 8))
        b.store(b.add(k, I64(1)), _word(b, stream.CONST_NEXT))
        number = b.sub(I64(-1), k)
        b.store(bits, b.gep(slot, [I64(0)]))
        b.store(number, b.gep(slot, [I64(1)]))
        b.ret(number)

    def body(b: ir.IRBuilder, value: ir.Value) -> None:
        bits = b.bitcast(value, I64)
        place = b.lshr(b.mul(bits, I64(-7046029254386353131)), I64(64 - stream.TABLE_BITS))  # Fibonacci hashing
        slot = _at(b, stream.TABLE, place, I64, 16)
        number = b.load(b.gep(slot, [I64(1)]))
        known = b.and_(b.icmp_signed("==", b.load(slot), bits), b.icmp_signed("<", number, I64(0)))
        with b.if_then(known, likely=True):
            b.ret(number)
        function = _function(b.module, "distdiff.new_constant", I64, [F64, I64, I64.as_pointer()], False, new)
        b.ret(b.call(function, [value, bits, slot]))

    return builder.call(_function(builder.module, "distdiff.constant", I64, [F64], False, body), [value])


def line(context: Any, builder: ir.IRBuilder, code: int, operands: list[tuple[ir.Value, ir.Value]],
         value: ir.Value) -> ir.Value:
    """Append a line of operation `code`; the mark of its node (0 where all operands are constants: no line)."""
    binary = len(operands) == 2

    def body(b: ir.IRBuilder, code: ir.Value, value: ir.Value, *flat: ir.Value) -> None:
        marks = flat[1::2]
        some = b.or_(*marks) if binary else marks[0]
        with b.if_then(b.icmp_signed("==", some, I64(0)), likely=False):
            b.ret(I64(0))
        with b.if_then(b.icmp_signed("==", b.load(_word(b, stream.NEXT)), b.load(_word(b, stream.END))), likely=False):
            status = _full(b, stream.LINES_FULL)
            with b.if_then(b.icmp_signed("!=", status, I32(0))):
                b.ret(I64(-1))
        names = [b.trunc(_named(b, v, m), I32) for v, m in zip(flat[::2], marks)]
        mark = b.load(_word(b, stream.NEXT))
        b.store(code, _at(b, stream.OP, mark, I8, 1))
        b.store(names[0], _at(b, stream.A, mark, I32, 4))
        b.store(names[-1], _at(b, stream.B, mark, I32, 4))
        b.store(value, _at(b, stream.VALUE, mark, F64, 8))
        b.store(b.add(mark, I64(1)), _word(b, stream.NEXT))
        b.ret(mark)

    flat = [part for operand in operands for part in operand]
    function = _function(builder.module, f"distdiff.line{len(operands)}", I64, [I8, F64] + [F64, I64] * len(operands),
                         True, body)
    mark = builder.call(function, [I8(code), value, *flat])
    stop_if(context, builder, builder.icmp_signed("<", mark, I64(0)))
    return mark


def _named(b: ir.IRBuilder, value: ir.Value, mark: ir.Value) -> ir.Value:
    """How a line names an operand: its node, or its number as a constant."""
    node = b.sub(mark, I64(1))
    before = b.block
    with b.if_then(b.icmp_signed("==", mark, I64(0)), likely=False):
        number = _constant_number(b, value)
        inside = b.block
    name = b.phi(I64)
    name.add_incoming(node, before)
    name.add_incoming(number, inside)
    return name


def guard(context: Any, builder: ir.IRBuilder, value: ir.Value, mark: ir.Value, site: str) -> None:
    """The trace holds only where this node has this value; nothing for a constant."""

    def body(b: ir.IRBuilder, value: ir.Value, mark: ir.Value, site: ir.Value) -> None:
        with b.if_then(b.icmp_signed("==", mark, I64(0))):
            b.ret(I32(0))
        with b.if_then(b.icmp_signed("==", b.load(_word(b, stream.GUARD_NEXT)), b.load(_word(b, stream.GUARD_END))),
                       likely=False):
            status = _full(b, stream.GUARDS_FULL)
            with b.if_then(b.icmp_signed("!=", status, I32(0))):
                b.ret(status)
        k = b.load(_word(b, stream.GUARD_NEXT))
        b.store(b.sub(mark, I64(1)), _at(b, stream.GUARD_NODE, k, I64, 8))
        b.store(value, _at(b, stream.GUARD_VALUE, k, F64, 8))
        b.store(site, _at(b, stream.GUARD_SITE, k, I64, 8))
        b.store(b.add(k, I64(1)), _word(b, stream.GUARD_NEXT))
        b.ret(I32(0))

    text = context.insert_const_string(builder.module, site)
    function = _function(builder.module, "distdiff.guard", I32, [F64, I64, I64], True, body)
    status = builder.call(function, [value, mark, builder.ptrtoint(text, I64)])
    stop_if(context, builder, builder.icmp_signed("!=", status, I32(0)))


def at_line(context: Any, builder: ir.IRBuilder, site: str) -> None:
    """Say at which line of the user's code the lines that follow are made."""
    text = context.insert_const_string(builder.module, site)
    builder.store(builder.ptrtoint(text, I64), _word(builder, stream.SITE))


def stop_if(context: Any, builder: ir.IRBuilder, condition: ir.Value) -> None:
    """Leave the compiled function where a refill failed."""
    with builder.if_then(condition, likely=False):
        context.call_conv.return_user_exc(builder, stream.Stopped, ())
