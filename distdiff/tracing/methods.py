"""What Python sees of a traced array: operators and methods, put together from the rooms below."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from ..ops import BY_NAME, Op
from . import complexes, composed, contract, decisions, layout, movement, order, placing, reductions, statistics, ufuncs
from .active import failed
from .array import TracedArray, as_plain, elementwise, is_boolean
from .callers import (
    called,
    handed_to,
    makes_numbers,
    plain_number,
    refuse_pickling,
    refuse_swapped_rows,
    remedy_for,
    stores,
)
from .indexing import assign, decided, getitem, into, setitem
from .options import plain_options
from .protocol import array_function, array_ufunc, promote, unwrap, unwrap_all, usual
from .recorder import Recorder
from .scalar import CUT, PLAIN, TracedScalar, attach
from .ufuncs import refuse_other_rules
from .usual import binary, unary
from .verdict import CAREFUL, judged, judges
from .wholes import whole

_BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "pow": "power",
    "mod": "remainder",
    "floordiv": "floor_divide",
}
_COMPARE = {
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "eq": "equal",
    "ne": "not_equal",
}
_BITS = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "lshift": np.left_shift,
         "rshift": np.right_shift}


def _general(op: Op, *operands: Any) -> Any:
    """op, as an operator, of operands of any kind."""
    if any(map(complexes.is_complex, operands)):
        return complexes.evaluate(op.value, operands)
    return ufuncs.general(op, *operands)


def _forward(name: str) -> Callable[..., Any]:
    op = BY_NAME[name]
    if name == "power":  # the exponents 2, 1/2, -1 are functions of their own
        def power(self: TracedArray, exponent: Any) -> Any:
            known = type(exponent) is int or type(exponent) is float
            simple = ufuncs.SIMPLE_POWERS.get(exponent) if known else None
            result = NotImplemented
            if simple is not None:
                result = unary(simple, self)
            elif known and exponent != 0 and exponent != 1 or type(exponent) is TracedArray and exponent.window.ndim:
                result = binary(op, self, exponent)
            return _general(op, self, unwrap(exponent)) if result is NotImplemented else result

        return power

    def operator(self: TracedArray, other: Any) -> Any:
        result = binary(op, self, other)
        return _general(op, self, unwrap(other)) if result is NotImplemented else result

    return operator


def _reflected(name: str) -> Callable[..., Any]:
    op = BY_NAME[name]

    def operator(self: TracedArray, other: Any) -> Any:
        result = binary(op, self, other, True)
        return _general(op, unwrap(other), self) if result is NotImplemented else result

    return operator


def _in_place(name: str) -> Callable[..., Any]:
    """`u += v` and the like: computed, then written through the view."""
    operator = _forward(name)

    def in_place(self: TracedArray, other: Any) -> TracedArray:
        result = operator(self, other)
        if result is NotImplemented:
            return result
        if complexes.is_complex(result):
            complexes.real_of(result, self.rec, name)
        if self.st.boolean and not is_boolean(result):
            raise TypeError(
                f"Cannot cast ufunc '{name}' output from dtype('float64') to dtype('bool') with casting rule "
                "'same_kind'"
            )
        if not (type(result) is TracedArray and self.window is self.st.buffer and self.st.becomes(result.st)):
            assign(self, result)
        return self

    return in_place


def _unary(name: str) -> Callable[[Any], Any]:
    op = BY_NAME[name]

    def operator(self: TracedArray) -> Any:
        result = unary(op, self)
        return ufuncs.evaluate(op.value, (self,)) if result is NotImplemented else result

    return operator


def _product(function: Callable[..., Any], a: Any, b: Any, **kwargs: Any) -> Any:
    if complexes.is_complex(a) or complexes.is_complex(b):
        return function(a, b, **kwargs)
    return (contract.matmul if function is np.matmul else contract.dot)(a, b, **kwargs)


def _matmul(self: TracedArray, other: Any) -> Any:
    if type(other) is TracedArray or type(other) is np.ndarray and other.dtype.char == "d":
        return contract.matmul(self, other)
    return _product(np.matmul, self, unwrap(other))


def _dot(self: TracedArray, other: Any, out: Any = None) -> Any:
    return _product(np.dot, self, unwrap(other), out=out)


def _to_device(self: TracedArray, device: str, /, *, stream: Any = None) -> TracedArray:
    """NumPy 2's: the array itself, as there is one device."""
    if device != "cpu" or stream is not None:
        raise ValueError(f"Unsupported device: {device}. Only 'cpu' is allowed, without a stream.")
    return self


_PLAIN_INDEX = frozenset((int, slice, TracedArray))


def _set_item(self: TracedArray, index: Any, value: Any) -> None:
    if type(value) is not TracedArray and type(value) is not float:
        value = unwrap(value)
        if type(value) is not TracedArray and complexes.is_complex(value):
            value = complexes.real_of(value, self.rec)
    if type(value) is TracedArray:
        refuse_swapped_rows(self.rec, self, index, value)
    setitem(self, index if type(index) in _PLAIN_INDEX else unwrap_all(index), value)


def _bits(ufunc: np.ufunc, reflected: bool) -> Callable[..., Any]:
    return (lambda self, other: ufunc(other, self)) if reflected else (lambda self, other: ufunc(self, other))


def _bits_in_place(ufunc: np.ufunc) -> Callable[..., Any]:
    def operator(self: TracedArray, other: Any) -> TracedArray:
        result = ufunc(self, other)
        if not is_boolean(result):
            raise TypeError(f"Cannot cast ufunc '{ufunc.__name__}' output from dtype('{result.dtype}') to "
                            "dtype('bool') with casting rule 'same_kind'")
        assign(self, result)
        return self

    return operator


def _truth(self: TracedArray) -> bool:
    if not self.size:
        return bool(np.empty(0))  # what this NumPy says of none
    if self.size != 1:
        raise ValueError(
            "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()"
        )
    return bool(self.reshape(()).scalar())


def _array(self: TracedArray, dtype: Any = None, copy: Any = None) -> np.ndarray:
    """Compiled code may read a constant array, and a mask, which decides (`plain[mask]`, pairs[:, mask]) and has no
    derivative to lose; of what else is traced it would lose the derivative."""
    if self.st.boolean and not self.st.constant:
        values = decided(self)
        return values if dtype is None else values.astype(dtype)
    if self.st.constant:
        values = as_plain(self)
        return values if dtype is None else values.astype(dtype)
    frame = self.rec.user_frame()
    if stores(frame):
        self.rec.unsupported("a traced array was put into a plain one", PLAIN)
    if handed_to(frame) == "dot":
        self.rec.unsupported("the method dot of a plain array, with a traced one",
                             f"{CUT}. Write P @ x or np.dot(P, x) for P.dot(x)")
    if makes_numbers(frame):
        self.rec.unsupported("a traced array was turned into plain numbers", plain_number(frame))
    if called().startswith("numpy.ma."):
        refuse_other_rules(self.rec, f"{called().removesuffix(': ')} of traced values")
    self.rec.unsupported(
        f"{called()}a traced array was turned into a plain array",
        remedy_for(frame, f"{CUT}. Compiled code (scipy, numba) can't be traced; a ufunc's list of arrays wants "
                   f"np.array first, np.maximum.reduce(np.array([x, y])); {PLAIN}; to only look at the values, "
                   "use distdiff.numpy.value(x)"),
    )


def _strides(self: TracedArray) -> tuple[int, ...]:
    if handed_to(sys._getframe(1)) == "permuted":  # which would say that NumPy wants an ndarray
        self.rec.unsupported("permuted along an axis of a traced array", "it runs over its memory; write "
                             "y[rng.permutation(len(y))] for whole rows, or np.take_along_axis(y, order, axis) with "
                             "order = rng.permuted(...) of np.indices(y.shape)[axis]")
    return self.window.strides


def _astype(
    self: TracedArray, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
) -> Any:
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        self.rec.float64(dtype, "astype")
        if self.st.boolean:
            return elementwise(self.rec, BY_NAME["copy"], (self,)) if self.size else self.plain_values().astype(float)
        values = self.nd.astype(np.float64, order=order, copy=copy)
        return self if values is self.nd else layout.copied(self, values)
    if dtype.kind == "b":
        return self if self.st.boolean else np.not_equal(self, 0.0)
    if dtype.kind in "iu":  # whole numbers decide (they index and count): recorded, guarded, and plain
        return whole(self).astype(dtype)
    if dtype.kind == "c":
        return complexes.to_complex(self)
    return self.rec.unsupported(f"astype({dtype})", "traced values are real floats of 64 bits")


def _item(self: TracedArray, *args: Any) -> Any:
    if not args:
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.reshape(-1)[0]
    return (
        self.reshape(-1)[args[0]]
        if len(args) == 1 and isinstance(args[0], (int, np.integer))
        else self[args[0] if len(args) == 1 else args]
    )


def _single(self: TracedArray) -> Any:
    """The element that is to become a number of Python's."""
    if self.size != 1:
        raise TypeError("only size-1 arrays can be converted to Python scalars")
    return self.item()


def _list(self: TracedArray) -> Any:
    return [x.tolist() if type(x) is TracedArray else x for x in self] if self.ndim else self.scalar()


def _unsupported_method(name: str) -> Callable[..., Any]:
    def method(self: TracedArray, *args: Any, **kwargs: Any) -> Any:
        if self.st.constant:
            return getattr(as_plain(self), name)(*args, **kwargs)
        return self.rec.unsupported(
            f"numpy.ndarray.{name}", "it has no derivative rule, or would lose the derivative"
        )

    method.refused = True
    return method


def _unwrapping(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    own = getattr(np.ndarray, name, None)

    @wraps(method)
    def unwrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            if CAREFUL and own is not None and judges(args, kwargs):
                return judged(own, (self, *args), kwargs, lambda: unwrapped(self, *args, **kwargs))
            if not kwargs and (not args or usual(args)) or (
                    "out" not in kwargs and usual(args) and usual(kwargs.values())):
                return method(self, *args, **kwargs)
            out = kwargs.get("out")
            args, kwargs = plain_options(method, args, kwargs, 1)
            result = method(
                self,
                *map(unwrap_all, args),
                **{
                    name: promote(value, self.rec) if name == "out" else unwrap_all(value)
                    for name, value in kwargs.items()
                },
            )
            return result if out is None else out
        except (ValueError, ArithmeticError) as error:  # the function may catch it
            if type(error) is not ValueError or name not in ("reshape", "dot", "squeeze", "transpose", "swapaxes"):
                failed(error)
            raise

    return unwrapped


def _conjugate(self: TracedArray, out: Any = None) -> Any:
    """The array itself, as it is real: np.conj makes another one."""
    return self if out is None else into(out, self, True)


def _choose(self: TracedArray, *choices: Any, out: Any = None, mode: str = "raise") -> Any:
    """Of the arrays in a sequence, or one after another."""
    return placing.choose(self, choices[0] if len(choices) == 1 else choices, out, mode)


def _assign_flat(self: TracedArray, value: Any) -> None:
    self.flat[...] = value


def _set_flat_item(self: placing.Flat, index: Any, value: Any) -> None:
    value = unwrap(value)
    if complexes.is_complex(value):
        value = complexes.real_of(value, self.base.rec)
    _write_flat(self, unwrap_all(index), value)


_write_flat = placing.Flat.__setitem__


def install() -> None:
    """Attach all of it to the traced types, once."""
    cls = TracedArray
    attributes: dict[str, Any] = {
        "__array_ufunc__": array_ufunc,
        "strides": property(_strides),
        "__array_function__": array_function,
        "__array__": _array,
        "__bool__": _truth,
        "__neg__": _unary("negative"),
        "__pos__": movement.copy,
        "__abs__": _unary("absolute"),
        "__invert__": lambda self: np.invert(self),
        "__divmod__": lambda self, other: (self // other, self % other),
        "__rdivmod__": lambda self, other: (other // self, other % self),
        "__matmul__": _matmul,
        "__imatmul__": lambda self, other: assign(self, contract.matmul(self, unwrap(other))) or self,
        "to_device": _to_device,
        "device": property(lambda self: "cpu"),
        "__array_namespace__": lambda self, api_version=None: np,
        "setflags": lambda self, *args, **kwargs: self.window.setflags(*args, **kwargs),
        "__rmatmul__": lambda self, other: _product(np.matmul, unwrap(other), self),
        "__float__": lambda self: float(_single(self)),
        "__int__": lambda self: int(_single(self)),
        "__complex__": lambda self: complex(_single(self)),
        "__contains__": lambda self, x: bool((self == x).any()),
        "__copy__": movement.copy,
        "__deepcopy__": lambda self, memo: movement.copy(self),
        "__reduce_ex__": refuse_pickling,
        "astype": _astype,
        "item": _item,
        "tolist": _list,
        "fill": lambda self, value: assign(self, value),
        "dot": _dot,
        "conj": _conjugate,
        "conjugate": _conjugate,
        "clip": lambda self, min=None, max=None, out=None, **kwargs: composed.clip(self, min, max, out, **kwargs),
        "round": lambda self, decimals=0, out=None: composed.around(self, decimals, out),
        "cumprod": statistics.cumulative_product,
        "argpartition": order.argpartition,
        "partition": order.partition_in_place,
        "choose": _choose,
        "put": placing.put,
        "itemset": placing.item_set,
        "resize": placing.resize_in_place,
        "nonzero": decisions.nonzero,
        "argmax": decisions.argmax,
        "argmin": decisions.argmin,
        "argsort": decisions.argsort,
        "sort": decisions.sort_in_place,
        "searchsorted": decisions.searchsorted,
        "flat": property(placing.Flat, _assign_flat),
        **reductions.METHODS,
        **movement.METHODS,
    }
    for name, ufunc_name in _BINARY.items():
        attributes[f"__{name}__"], attributes[f"__r{name}__"] = _forward(ufunc_name), _reflected(ufunc_name)
        attributes[f"__i{name}__"] = _in_place(ufunc_name)
    for name, ufunc_name in _COMPARE.items():
        attributes[f"__{name}__"] = _forward(ufunc_name)
    for name, ufunc in _BITS.items():
        attributes[f"__{name}__"], attributes[f"__r{name}__"] = _bits(ufunc, False), _bits(ufunc, True)
        attributes[f"__i{name}__"] = _bits_in_place(ufunc)
    for name in (
        "tobytes",
        "tofile",
        "dump",
        "dumps",
        "getfield",
        "setfield",
        "byteswap",
        "newbyteorder",
        "tostring",
        "__dlpack__",
    ):
        attributes[name] = _unsupported_method(name)
    attributes["__getitem__"], attributes["__setitem__"] = getitem, _set_item
    for name, value in attributes.items():
        setattr(cls, name, value if name.startswith("__") or isinstance(value, property) else _unwrapping(name, value))
    TracedScalar.__array_ufunc__ = array_ufunc
    TracedScalar.__array_function__ = array_function
    for name, value in {"__array_ufunc__": array_ufunc, "__array_function__": array_function,
                        "__setitem__": _set_flat_item}.items():
        setattr(placing.Flat, name, value)


install()


complexes.install(unwrap, array_ufunc, array_function, _unwrapping)


def _of_scalars(op: Op, *operands: Any) -> Any:
    """What an operator of traced scalars does with an operand that is no scalar of its trace."""
    if len(operands) == 2 and type(operands[1]) is TracedArray:
        result = binary(op, operands[1], operands[0], True)
        if result is not NotImplemented:
            return result
    return _general(op, *map(unwrap, operands))


def prepare(rec: Recorder, array_of: Callable[[Any], Any]) -> None:
    """Make a recorder ready to trace: its scalar types, and how nested lists of traced values become arrays."""
    attach(rec, _of_scalars, ufuncs.as_array)
    rec.array_of = array_of
