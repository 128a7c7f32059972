"""Traced scalars: what an element of a traced array, or a float argument, is while the function runs.

A scalar is an id and a value.  Every operation appends (op, a, b) to the recorder's open run, a flat list of
integers that is packed into typed arrays; nothing else of it lives on.  A loop of a million lines is limited
by how fast Python makes the result object, so the classes are made once a trace, around the run they append
to (their state is in closure cells), and the four arithmetic operators are written out from one template
instead of sharing a helper.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np

from ..ops import BY_NAME, Op
from ..tape import RUN_LINES
from .callers import (
    CUT,
    PLAIN,
    called,
    makes_numbers,
    plain_number,
    refuse_as_key,
    refuse_pickling,
    remedy_for,
    stores,
    twin,
)
from .operators import CODE, METHODS, OPS_BY_NAME, asking, numpy_divide
from .recorder import Located, Recorder
from .slots import no_sequence
from .text import text_of


class TracedScalar:
    """A traced float: `i` is its node, `v` its value."""

    __slots__ = ("i", "v")
    rec: Recorder
    general: Callable[..., Any]  # (op, *operands) with any operands: arrays, other scalars, constants
    as_array: Callable[..., Any]  # this scalar as a traced array of shape ()

    ndim = 0
    shape = ()
    size = 1
    dtype = np.dtype(np.float64)
    itemsize, nbytes = 8, 8
    __array_priority__ = 1000.0
    __hash__ = refuse_as_key  # NumPy's numbers may be keys, so `except TypeError` would go another way than with them

    @property
    def __class__(self) -> type:  # isinstance(t, float) holds, as for the elements of an array
        return np.float64

    # -- operators beyond the four of the template -------------------------------------------------------------

    def __pow__(self, other: Any) -> Any:
        if type(other) is int or type(other) is float:
            if other == 2:
                return self.rec.scalar_op(_SQUARE, (self,))
            if other == 1:
                return self
            if other == 0:
                return np.float64(1.0)
        return self.general(_POWER, self, other)

    def __rpow__(self, other: Any) -> Any:
        return self.general(_POWER, other, self)

    def __neg__(self) -> Any:
        return self.rec.scalar_op(_NEGATIVE, (self,))

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self.rec.scalar_op(_ABSOLUTE, (self,))

    def __mod__(self, other: Any) -> Any:
        return self.general(_REMAINDER, self, other)

    def __rmod__(self, other: Any) -> Any:
        return self.general(_REMAINDER, other, self)

    def __floordiv__(self, other: Any) -> Any:
        return self.general(_FLOOR_DIVIDE, self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self.general(_FLOOR_DIVIDE, other, self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    # -- decisions: the value decides what the program does, so the trace is guarded ----------------------------

    def __bool__(self) -> bool:
        return bool(self != 0.0)

    def __int__(self) -> int:
        return self._whole("trunc")

    __trunc__ = __int__

    def __floor__(self) -> int:
        return self._whole("floor")

    def __ceil__(self) -> int:
        return self._whole("ceil")

    def _whole(self, how: str) -> int:
        whole = self.rec.scalar_op(BY_NAME[how], (self,))
        if not math.isfinite(whole.v):
            self.rec.failed()
            return int(whole.v)  # raises what int(nan) and int(inf) raise
        self.rec.guard_scalar(whole.i, whole.v)
        return int(whole.v)

    def __round__(self, digits: int | None = None) -> Any:
        if digits is None:
            return self._whole("rint")
        return self.rec.scalar_op(BY_NAME["rint"], (self * 10.0**digits,)) / 10.0**digits

    # -- what would lose the derivative ----------------------------------------------------------------------------

    def __float__(self) -> NoReturn:
        frame = self.rec.user_frame()
        if stores(frame):
            self.rec.unsupported("a traced value was put into a plain array", PLAIN)
        self.rec.unsupported(f"{called()}a traced value was turned into a plain float", plain_number(frame))

    def as_integer_ratio(self) -> NoReturn:
        self.rec.unsupported("a traced value was turned into a fraction", f"{CUT}. {twin(self.rec.user_frame())}")

    def hex(self) -> NoReturn:
        self.rec.unsupported("a traced value was asked for its digits", "use distdiff.numpy.value(x) to look at it")

    def __complex__(self) -> NoReturn:
        if stores(self.rec.user_frame()):
            self.rec.unsupported("a traced value was put into a plain complex array", PLAIN)
        self.rec.unsupported(
            f"{called()}a traced value was turned into a plain complex number",
            f"{CUT}. Write x + 1j * y; an array for it is made inside the function, np.zeros(n, dtype=complex) or "
            "np.array(a, dtype=complex)",
        )

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        frame = self.rec.user_frame()
        if makes_numbers(frame):
            self.rec.unsupported("a traced value was turned into a plain number", plain_number(frame))
        self.rec.unsupported(
            f"{called()}a traced value was put into a plain array",
            remedy_for(frame, f"{CUT}: {PLAIN}; compiled code can't be traced, and lists of traced "
                       "values want np.array first"),
        )

    __reduce_ex__ = refuse_pickling

    # -- a float that knows what NumPy's floats know -------------------------------------------------------------

    def __repr__(self) -> str:
        return text_of(repr(self.v))

    def __str__(self) -> str:
        return text_of(str(self.v))

    def __format__(self, spec: str) -> str:
        return text_of(format(self.v, spec))

    def __getitem__(self, index: Any) -> Any:  # x[()] and x[..., None], as NumPy's floats have them
        return self.as_array(self)[index]

    def __copy__(self) -> TracedScalar:
        return self

    def __deepcopy__(self, memo: Any) -> TracedScalar:
        return self

    def conjugate(self) -> TracedScalar:
        return self

    def item(self) -> TracedScalar:
        return self

    def is_integer(self) -> bool:
        return bool(self.general(BY_NAME["floor"], self) == self)

    @property
    def real(self) -> TracedScalar:
        return self

    @property
    def imag(self) -> float:
        return 0.0

    T = real

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(self.__class__, name):
            raise AttributeError(f"a traced scalar has no attribute {name!r}")
        found = getattr(self.as_array(self), name)  # sum, mean, reshape, clip, ... as numpy.float64 has them
        if callable(found):
            return lambda *args, **kwargs: _number(found(*args, **kwargs))
        return found


def _number(x: Any) -> Any:
    """What a method gives that is an array without axes, as a number."""
    return x[()] if isinstance(x, np.ndarray) and not x.ndim else x


_POWER, _SQUARE, _NEGATIVE, _ABSOLUTE, _REMAINDER, _FLOOR_DIVIDE = (
    BY_NAME[name] for name in ("power", "square", "negative", "absolute", "remainder", "floor_divide")
)


class TracedBool:
    """What sets a comparison apart from a number: asking for its truth is a decision."""

    __slots__ = ()
    dtype, itemsize, nbytes = np.dtype(bool), 1, 1

    @property
    def __class__(self) -> type:
        return np.bool_

    def __bool__(self) -> bool:
        self.rec.guard_scalar(self.i, self.v)
        return self.v != 0.0

    def __int__(self) -> int:
        return int(bool(self))

    def __hash__(self) -> int:  # one of two keys: which is a decision
        return hash(bool(self))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """plain[x > 0] is a mask of no axes, as with NumPy's truth values, which are no whole numbers either: with an
        `__index__` it would be element 0 or 1."""
        return np.array(bool(self), dtype)

    def __float__(self) -> float:
        return float(bool(self))

    def __repr__(self) -> str:
        return text_of(str(self.v != 0.0))

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return text_of(format(self.v != 0.0, spec))

    def __invert__(self) -> Any:
        return self.rec.scalar_op(BY_NAME["logical_not"], (self,))

    def __abs__(self) -> Any:
        return np.absolute(self)

    def __neg__(self) -> Any:
        return np.negative(self)

    def __pos__(self) -> Any:
        return np.positive(self)

    def __pow__(self, other: Any) -> Any:
        return np.power(self, other)

    def __round__(self, digits: int | None = None) -> NoReturn:
        raise TypeError(f"type {np.bool_.__name__} doesn't define __round__ method")


def _of_truth(ufunc: np.ufunc, reflected: bool) -> Callable[[Any, Any], Any]:
    return (lambda self, other: ufunc(other, self)) if reflected else (lambda self, other: ufunc(self, other))


for _name, _ufunc in (("and", np.bitwise_and), ("or", np.bitwise_or), ("xor", np.bitwise_xor),
                      ("lshift", np.left_shift), ("rshift", np.right_shift)):
    for _reflected in (False, True):
        setattr(TracedBool, f"__{'r' * _reflected}{_name}__", _of_truth(_ufunc, _reflected))


for _name, _op in METHODS:  # a comparison in arithmetic is a number, and two of them want the general way's care
    if _name.startswith("__r"):
        setattr(TracedBool, _name, lambda self, other, op=_op: self.general(op, other, self))
    else:
        setattr(TracedBool, _name, lambda self, other, op=_op: self.general(op, self, other))


class TracedCount:
    """What sets a sum of answers apart from other numbers, np.sum(x > 0): it is whole, and may say how many elements
    there are or which one is meant, where it decides (`x[:k]`, `range(k)`)."""

    __slots__ = ()
    dtype = np.dtype(np.int64)

    @property
    def __class__(self) -> type:
        return np.int64

    def __index__(self) -> int:
        return int(self)

    def __hash__(self) -> int:
        return hash(int(self))

    def __float__(self) -> float:
        return float(int(self))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(int(self), dtype)

    def __repr__(self) -> str:
        return text_of(str(int(self.v)))

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return text_of(format(int(self.v), spec))

    def __neg__(self) -> Any:
        result = self.rec.scalar_op(_NEGATIVE, (self,))
        return self.rec.count(result.i, result.v)

    def __abs__(self) -> Any:
        result = self.rec.scalar_op(_ABSOLUTE, (self,))
        return self.rec.count(result.i, result.v)

    def __floordiv__(self, other: Any) -> Any:
        return self._by(_FLOOR_DIVIDE, other)

    def __mod__(self, other: Any) -> Any:
        return self._by(_REMAINDER, other)

    def _by(self, op: Op, other: Any) -> Any:
        """Divided by a whole number: whole."""
        result = self.general(op, self, other)
        whole = isinstance(other, (int, np.integer)) and not isinstance(other, TracedScalar) and other
        return self.rec.count(result.i, result.v) if whole else result


def _whole_with(op: Op, first: Any, second: Any) -> Any:
    """op of answers, counts and whole numbers, which is a count again; of one and anything else the general way's."""
    mine, other = (first, second) if isinstance(first, (TracedBool, TracedCount)) else (second, first)
    result = mine.general(op, first, second)
    whole = isinstance(other, (int, np.integer, np.bool_, TracedBool, TracedCount))
    return mine.rec.count(result.i, result.v) if whole and type(result) is mine.rec.scalar_type else result


def _bits(function: Callable[[Any, Any], Any], reflected: bool) -> Callable[[Any, Any], Any]:
    """Bits of a count, which is decided."""
    def of_bits(self: Any, other: Any) -> Any:
        mine, other = np.int64(int(self)), int(other) if isinstance(other, TracedCount) else other
        return function(other, mine) if reflected else function(mine, other)

    return of_bits


for _name in ("and", "or", "xor", "lshift", "rshift"):
    for _reflected in (False, True):
        setattr(TracedCount, f"__{'r' * _reflected}{_name}__", _bits(getattr(operator, f"__{_name}__"), _reflected))
TracedCount.__invert__ = lambda self: ~np.int64(int(self))

for _name, _op in METHODS:
    if _op.name in ("add", "subtract", "multiply"):
        for _kind in (TracedBool, TracedCount):
            if _name.startswith("__r"):
                setattr(_kind, _name, lambda self, other, op=_op: _whole_with(op, other, self))
            else:
                setattr(_kind, _name, lambda self, other, op=_op: _whole_with(op, self, other))


BOOLEAN_OPS = frozenset(
    BY_NAME[name]
    for name in (
        "greater",
        "greater_equal",
        "less",
        "less_equal",
        "equal",
        "not_equal",
        "logical_and",
        "logical_or",
        "logical_xor",
        "logical_not",
        "isfinite",
        "isnan",
        "isinf",
        "signbit",
    )
)


def attach(rec: Recorder, general: Callable[..., Any], as_array: Callable[..., Any]) -> None:
    """Give a recorder its scalar types: rec.scalar(i, v), rec.boolean(i, v), rec.count(i, v), and what makes lines of
    them, rec.scalar_op(op, operands)."""
    names: dict[str, Any] = {  # the globals of the operators' code
        **OPS_BY_NAME,
        "extend": rec.run.extend,
        "lookup": rec.constants.get,
        "constant": rec.constant,
        "new": object.__new__,
        "general": general,
        "divide": numpy_divide,
    }

    nothing = iter(()).__next__

    def restart() -> None:
        """The next id is another than the one after the last: the next line has to ask for it."""
        names["next_id"] = nothing
        rec.counting = False

    def retire() -> None:
        """The trace is over: an operator that records a line refuses, with no test while there was one."""
        names["extend"] = lambda line: rec.over()

    def pack() -> int:
        """The node of the last line, where ids run out: at the first line of a run, and at the one that fills it."""
        if len(rec.run) >= 3 * RUN_LINES:
            rec.filled()
        last = rec.n + len(rec.run) // 3 - 1
        ids = range(last + 1, last + RUN_LINES - len(rec.run) // 3)
        names["next_id"] = (iter(ids) if rec.target is None else _watch(rec, ids)).__next__
        rec.counting = True
        if last == rec.target:
            raise Located(rec.tape.sites[rec.site()])
        return last

    def scalar(i: int, v: float) -> TracedScalar:
        result = object.__new__(Scalar)
        result.i, result.v = i, v
        return result

    def boolean(i: int, v: float) -> TracedScalar:
        result = object.__new__(Boolean)
        result.i, result.v = i, v
        return result

    def count(i: int, v: float) -> TracedScalar:
        Count = names.get("Count")
        if Count is None:  # few functions count
            Count = names["Count"] = no_sequence(type("TracedCount", (TracedCount, Scalar), {"__slots__": ()}))
        result = object.__new__(Count)
        result.i, result.v = i, v
        return result

    def scalar_op(op: Op, operands: tuple[Any, ...]) -> TracedScalar:
        """One line of any elementwise op on traced scalars and plain numbers."""
        numbers, values = [], []
        for x in operands:
            if isinstance(x, TracedScalar):
                numbers.append(x.i)
                values.append(np.float64(x.v))
            else:
                numbers.append(rec.constant(x))
                values.append(np.float64(x))
        try:
            v = float(op.value(*values))
        except FloatingPointError:
            rec.failed()
            raise
        names["extend"]((op.code, numbers[0], numbers[-1]))
        try:
            i = names["next_id"]()
        except StopIteration:
            i = pack()
        return (boolean if op in BOOLEAN_OPS else scalar)(i, v)

    def be_careful(on: bool) -> None:
        if on != rec.careful:
            rec.careful = on
            for name, op in METHODS:
                setattr(Scalar, name, asking(general, op, name.startswith("__r")) if on else methods[name])

    names["pack"] = pack
    exec(CODE, names)
    methods = {name: names.pop(name) for name, _ in METHODS}
    shared = {"__slots__": (), "rec": rec, "general": staticmethod(general), "as_array": staticmethod(as_array)}
    own = {**shared, **methods, "__hash__": refuse_as_key}  # which a class with an `__eq__` of its own does not inherit
    Scalar = names["Scalar"] = no_sequence(type("TracedScalar", (TracedScalar,), own))
    Boolean = names["Boolean"] = no_sequence(type("TracedBool", (TracedBool, TracedScalar), shared))
    rec.scalar, rec.boolean, rec.count, rec.scalar_op = scalar, boolean, count, scalar_op
    rec.restart, rec.retire, rec.be_careful = restart, retire, be_careful
    rec.scalar_type = Scalar
    restart()


def _watch(rec: Recorder, ids: range) -> Iterator[int]:
    """The ids, stopping the trace at the one that is looked for."""
    for i in ids:
        if i == rec.target:
            raise Located(rec.tape.sites[rec.site()])
        yield i
