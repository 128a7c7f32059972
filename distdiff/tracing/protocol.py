"""What NumPy and Python see of a traced array: protocols, operators and methods, put together from the rooms
below."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from inspect import signature
from typing import Any

import numpy as np

from ..ops import BY_NAME
from . import (
    calls,
    composed,
    contract,
    decisions,
    forms,
    layout,
    linalg,
    movement,
    order,
    padding,
    placing,
    polynomials,
    reductions,
    scatter,
    spaced,
    statistics,
    ufuncs,
)
from .array import (
    TracedArray,
    as_plain,
    binary,
    constant,
    elementwise,
    is_boolean,
    is_traced,
    ndim_of,
    unary,
)
from .callers import called
from .indexing import assign, getitem, setitem
from .recorder import Recorder
from .scalar import CUT, PLAIN, TracedScalar, attach

FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    function: implementation
    for room in (movement, padding, reductions, contract, linalg, decisions, order, composed, polynomials, spaced,
                 calls, placing, scatter, statistics)
    for function, implementation in room.FUNCTIONS.items()
}

FUNCTIONS.update(
    (function, layout.as_numpy(function, FUNCTIONS[function]))
    for function in {
        np.tile,
        np.sort,
        np.partition,
        np.insert,
        np.delete,
        np.diff,
        np.median,
        np.cross,
        np.choose,
        np.resize,
        np.select,
        np.around,
        np.round,
        np.tril,
        np.triu,
    }
    if function in FUNCTIONS
)


def array_ufunc(self: Any, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
    if not kwargs and method == "__call__":
        op = _USUAL.get(ufunc)
        if op is not None and type(inputs[0]) is TracedArray:
            result = unary(op, inputs[0]) if len(inputs) == 1 else binary(op, *inputs)
            if result is not NotImplemented:
                return result
    given, inputs = inputs, tuple(map(unwrap, inputs))
    traced = next(filter(is_traced, inputs), None)
    outs = kwargs.get("out", ())
    if outs:
        kwargs["out"] = tuple(unwrap(x) if traced is None else promote(x, traced.rec) for x in outs)
        inputs = tuple(map(unwrap, given))  # once more: what is written into may be read as well
    if traced is None and not any(
        map(is_traced, kwargs.get("out", ()))
    ):  # plain after all: NumPy's own, on plain arrays
        result = getattr(ufunc, method)(*inputs, **kwargs)
        if outs:
            return outs[0] if len(outs) == 1 else outs
        return hold(result, given)
    if method == "at" and traced is not None:
        inputs = (promote(given[0], traced.rec), *inputs[1:])
    return forms.call(ufunc, method, inputs, kwargs)


# Ufuncs that are an op whatever the operands; the exponents 2, 1/2, -1 make others of np.power.
_USUAL = {ufunc: op for ufunc, op in ufuncs.OP_OF.items() if op.name != "power"}


def array_function(self: Any, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
    implementation = FUNCTIONS.get(function)
    if implementation is not None and _SIMPLE.issuperset(map(type, args)) and _SIMPLE.issuperset(
            map(type, kwargs.values())):  # the usual case: nothing that holds traced values, or has other rules
        return _writable(implementation(*args, **kwargs), self)
    given, args = args, _unwrap_all(args)
    kwargs = {name: value if name == "out" else _unwrap_all(value) for name, value in kwargs.items()}
    traced: list[Any] = []
    _find_traced(args, traced)
    _find_traced(kwargs, traced)
    for kind in types:
        if issubclass(kind, ufuncs.OTHER_RULES) and traced:
            ufuncs.refuse_other_rules(traced[0].rec, f"numpy.{function.__name__} with a {kind.__name__}")
    out = kwargs.get("out")
    if out is not None:
        kwargs["out"] = promote(out, traced[0].rec) if traced else unwrap(out)
    if traced:
        for place in (_place_of_out(function), *((0,) if function in WRITES_FIRST else ())):
            if place < len(given):
                promote(given[place], traced[0].rec)
        args = _unwrap_all(given)  # once more: what is written into may be read as well
    if not traced:
        result = function(*args, **kwargs)
        return out if out is not None else hold(result, given)
    if implementation is not None:
        return _writable(implementation(*args, **kwargs), traced[0])
    if all(constant(x) for x in traced):
        result = function(*_plain_all(args), **{name: _plain_all(value) for name, value in kwargs.items()})
        return _writable(result, traced[0])
    name = f"{function.__module__}.{function.__name__}"
    return traced[0].rec.unsupported(
        name,
        "it has no derivative rule here; write it in terms of functions that have one, or "
        "compute it outside the function if it does not depend on the inputs",
    )


def _writable(result: Any, traced: Any) -> Any:
    """A plain result (zeros, where there was nothing to compute) as an array that can hold traced values."""
    return traced.rec.array_of(result) if type(result) is np.ndarray and result.dtype == np.float64 else result


@cache
def _place_of_out(function: Callable[..., Any]) -> int:
    """Where `out` is among the arguments; beyond them if it is none."""
    implementation = FUNCTIONS.get(function)
    names = list(signature(implementation).parameters) if implementation is not None else []
    return names.index("out") if "out" in names else len(names) + 64


_SIMPLE = frozenset((TracedArray, np.ndarray, int, float, bool, str, slice, type(None), np.float64, np.int64))
WRITES_FIRST = {np.copyto, np.put, np.place, np.putmask, np.fill_diagonal, np.put_along_axis}


# Arrays made by a substituted creation function (see `creation`) bring these along, on their type.


def unwrap(x: Any) -> Any:
    """What a holding array holds."""
    held = getattr(type(x), "_distdiff_held", None)
    return x if held is None else held(x)


def promote(x: Any, rec: Recorder) -> Any:
    """A holding array as one that holds traced values, to be written into."""
    turn = getattr(type(x), "_distdiff_promote", None)
    return x if turn is None else turn(x, rec)


def hold(result: Any, given: tuple[Any, ...]) -> Any:
    """A plain result of holding arrays, as one itself."""
    for x in given:
        if type(x) in (tuple, list):
            held = hold(result, tuple(x))
            if held is not result:
                return held
        elif hasattr(type(x), "_distdiff_hold"):
            if type(result) is np.ndarray and result.base is not None and not _shares(result, given):
                result = result.copy("K")  # a view of memory that nobody else has
            return type(x)._distdiff_hold(result)
    return result


def _shares(result: np.ndarray, given: Any) -> bool:
    if type(given) in (tuple, list):
        return any(_shares(result, part) for part in given)
    return isinstance(given, np.ndarray) and np.may_share_memory(result, given)


def _unwrap_all(tree: Any) -> Any:
    if type(tree) in (tuple, list):
        return type(tree)(map(_unwrap_all, tree))
    return unwrap(tree)


def _find_traced(tree: Any, found: list[Any]) -> None:
    """Append the traced values in nested containers."""
    if is_traced(tree):
        found.append(tree)
    elif type(tree) in (tuple, list):
        for part in tree:
            _find_traced(part, found)
    elif type(tree) is dict:
        for part in tree.values():
            _find_traced(part, found)


def _plain_all(tree: Any) -> Any:
    if type(tree) in (tuple, list):
        return type(tree)(map(_plain_all, tree))
    return as_plain(tree)


# -- operators -------------------------------------------------------------------------------------------------

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
_BITS = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


def _forward(name: str) -> Callable[..., Any]:
    op = BY_NAME[name]
    if name == "power":  # the exponents 2, 1/2, -1 are functions of their own
        return lambda self, other: ufuncs.general(op, self, unwrap(other))

    def operator(self: TracedArray, other: Any) -> Any:
        result = binary(op, self, other)
        return ufuncs.general(op, self, unwrap(other)) if result is NotImplemented else result

    return operator


def _reflected(name: str) -> Callable[..., Any]:
    op = BY_NAME[name]

    def operator(self: TracedArray, other: Any) -> Any:
        result = binary(op, self, other, True)
        return ufuncs.general(op, unwrap(other), self) if result is NotImplemented else result

    return operator


def _in_place(name: str) -> Callable[..., Any]:
    """`u += v` and the like: computed, then written through the view."""
    operator = _forward(name)

    def in_place(self: TracedArray, other: Any) -> TracedArray:
        result = operator(self, other)
        if result is NotImplemented:
            return result
        if self.st.boolean and not is_boolean(result):
            raise TypeError(
                f"Cannot cast ufunc '{name}' output from dtype('float64') to dtype('bool') with casting rule "
                "'same_kind'"
            )
        assign(self, result)
        return self

    return in_place


def _set_item(self: TracedArray, index: Any, value: Any) -> None:
    setitem(self, index if type(index) in (int, slice) else _unwrap_all(index), unwrap(value))


def _bits(ufunc: np.ufunc, reflected: bool) -> Callable[..., Any]:
    return (lambda self, other: ufunc(other, self)) if reflected else (lambda self, other: ufunc(self, other))


def _bits_in_place(ufunc: np.ufunc) -> Callable[..., Any]:
    def operator(self: TracedArray, other: Any) -> TracedArray:
        assign(self, ufunc(self, other))
        return self

    return operator


def _truth(self: TracedArray) -> bool:
    if self.size != 1:
        raise ValueError(
            "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()"
        )
    return bool(self.reshape(()).scalar())


def _array(self: TracedArray, dtype: Any = None, copy: Any = None) -> np.ndarray:
    """Compiled code may read a constant array; of a traced one it would lose the derivative."""
    if self.st.constant:
        values = as_plain(self)
        return values if dtype is None else values.astype(dtype)
    self.rec.unsupported(
        f"{called()}a traced array was turned into a plain array",
        f"{CUT}. Compiled code (scipy, numba) can't be traced; {PLAIN}",
    )


def _astype(
    self: TracedArray, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
) -> Any:
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        if self.st.boolean:
            return elementwise(self.rec, BY_NAME["copy"], (self,)) if self.size else self.values().astype(float)
        values = self.nd.astype(np.float64, order=order, copy=copy)
        return self if values is self.nd else layout.copied(self, values)
    if dtype.kind == "b":
        return self if self.st.boolean else np.not_equal(self, 0.0)
    if dtype.kind in "iu":  # whole numbers decide (they index and count): recorded, guarded, and plain
        return decisions.whole(self).astype(dtype)
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


def _list(self: TracedArray) -> Any:
    return [x.tolist() if type(x) is TracedArray else x for x in self] if self.ndim else self.scalar()


def _unsupported_method(name: str) -> Callable[..., Any]:
    def method(self: TracedArray, *args: Any, **kwargs: Any) -> Any:
        if self.st.constant:
            return getattr(as_plain(self), name)(*args, **kwargs)
        return self.rec.unsupported(
            f"numpy.ndarray.{name}", "it has no derivative rule, or would lose the derivative"
        )

    return method


def _unwrapping(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def unwrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        out = kwargs.get("out")
        result = method(
            self,
            *map(_unwrap_all, args),
            **{
                name: promote(value, self.rec) if name == "out" else _unwrap_all(value)
                for name, value in kwargs.items()
            },
        )
        return result if out is None else out

    return unwrapped


def _flat(self: TracedArray) -> Any:
    """The elements in C order: a view where there is one, else what reads and writes them one by one."""
    flat = self.window.reshape(-1)
    return TracedArray(self.st, flat) if not flat.size or layout.inside(flat, self.st) else placing.Flat(self)


def _assign_flat(self: TracedArray, value: Any) -> None:
    self[...] = value if ndim_of(value) == 0 else np.resize(value, self.shape) if not is_traced(value) else np.reshape(
        value, self.shape)


def install() -> None:
    """Attach all of it to the traced types, once."""
    cls = TracedArray
    attributes: dict[str, Any] = {
        "__array_ufunc__": array_ufunc,
        "__array_function__": array_function,
        "__array__": _array,
        "__bool__": _truth,
        "__neg__": lambda self: ufuncs.apply(BY_NAME["negative"], self),
        "__pos__": movement.copy,
        "__abs__": lambda self: elementwise(self.rec, BY_NAME["absolute"], (self,)),
        "__invert__": lambda self: np.invert(self),
        "__divmod__": lambda self, other: (self // other, self % other),
        "__rdivmod__": lambda self, other: (other // self, other % self),
        "__matmul__": lambda self, other: contract.matmul(self, unwrap(other)),
        "__rmatmul__": lambda self, other: contract.matmul(unwrap(other), self),
        "__float__": lambda self: float(self.item()),
        "__int__": lambda self: int(self.item()),
        "__complex__": lambda self: complex(self.item()),
        "__contains__": lambda self, x: bool((self == x).any()),
        "__copy__": movement.copy,
        "__deepcopy__": lambda self, memo: movement.copy(self),
        "astype": _astype,
        "item": _item,
        "tolist": _list,
        "fill": lambda self, value: assign(self, value),
        "dot": lambda self, other, out=None: contract.dot(self, unwrap(other), out),
        "conj": movement.copy,
        "conjugate": movement.copy,
        "clip": lambda self, min=None, max=None, out=None, **kwargs: composed.clip(self, min, max, out, **kwargs),
        "round": lambda self, decimals=0, out=None: composed.around(self, decimals, out),
        "cumprod": statistics.cumulative_product,
        "argpartition": order.argpartition,
        "partition": order.partition_in_place,
        "choose": placing.choose,
        "put": placing.put,
        "itemset": placing.item_set,
        "resize": placing.resize_in_place,
        "nonzero": decisions.nonzero,
        "argmax": decisions.argmax,
        "argmin": decisions.argmin,
        "argsort": decisions.argsort,
        "sort": decisions.sort_in_place,
        "searchsorted": decisions.searchsorted,
        "flat": property(_flat, _assign_flat),
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
    ):
        attributes[name] = _unsupported_method(name)
    attributes["__getitem__"], attributes["__setitem__"] = getitem, _set_item
    for name, value in attributes.items():
        setattr(cls, name, value if name.startswith("__") or isinstance(value, property) else _unwrapping(value))
    TracedScalar.__array_ufunc__ = array_ufunc  # type: ignore[attr-defined]
    TracedScalar.__array_function__ = array_function  # type: ignore[attr-defined]


install()


def prepare(rec: Recorder, array_of: Callable[[Any], Any]) -> None:
    """Make a recorder ready to trace: its scalar types, and how nested lists of traced values become arrays."""
    attach(rec, lambda op, *operands: ufuncs.general(op, *map(unwrap, operands)), ufuncs.as_array)
    rec.array_of = array_of


