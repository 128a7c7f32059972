"""What NumPy sees of a traced array: its two protocols, put together from the rooms below."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from inspect import signature
from typing import Any

import numpy as np

from ..ops import Op
from . import (
    calls,
    complexes,
    composed,
    contract,
    decisions,
    domains,
    forms,
    joining,
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
from .active import failed
from .array import TracedArray, as_plain, constant, is_traced
from .options import plain_options
from .recorder import Recorder
from .scalar import TracedScalar
from .usual import binary, product, unary
from .verdict import CAREFUL, judged, judges

FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    function: implementation
    for room in (movement, joining, padding, reductions, contract, linalg, decisions, order, composed, polynomials,
                 spaced, calls, placing, scatter, statistics, domains)
    for function, implementation in room.FUNCTIONS.items()
} | complexes.TRANSFORMS

# Functions whose ValueErrors are about shapes, which no value decides.
_OF_SHAPES = frozenset({*joining.FUNCTIONS, *contract.FUNCTIONS, np.reshape, np.broadcast_to, np.broadcast_arrays,
                        np.split, np.array_split, np.hsplit, np.vsplit, np.dsplit, np.squeeze, np.transpose,
                        np.moveaxis, np.swapaxes, np.expand_dims})

FUNCTIONS.update(
    (function, layout.as_numpy(function, FUNCTIONS[function]))
    for function in {
        np.tile,
        np.sort,
        np.partition,
        np.insert,
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
    try:
        if not kwargs and method == "__call__":
            op, first = _USUAL.get(ufunc), inputs[0]
            if op is not None:
                result: Any = NotImplemented
                if type(first) is TracedArray:
                    result = unary(op, first) if len(inputs) == 1 else binary(op, *inputs)
                elif len(inputs) == 2 and type(inputs[1]) is TracedArray:
                    if type(first) in _FIRST or isinstance(first, TracedScalar):
                        result = binary(op, inputs[1], first, True)
                if result is NotImplemented and op.scalar:
                    result = _of_scalars(op, inputs)
                if result is not NotImplemented:
                    return result
            elif ufunc is np.matmul:
                if type(first) is np.ndarray and type(inputs[1]) is TracedArray:
                    result = product(first, inputs[1], np.matmul)
                    if result is not NotImplemented:
                        return result
                if usual(inputs):
                    return contract.matmul(*inputs)
        if CAREFUL and judges(inputs, kwargs):
            return judged(getattr(ufunc, method), inputs, kwargs,
                          lambda: array_ufunc(self, ufunc, method, *inputs, **kwargs))
        given, inputs = inputs, tuple(map(unwrap, inputs))
        traced = next(filter(_traced, inputs), None)
        outs = kwargs.get("out", ())
        if outs:
            if traced is not None and method == "__call__" and forms.decides(inputs, outs):
                forms.call(ufunc, method, inputs, {**kwargs, "out": tuple(x.view(np.ndarray) for x in outs)})
                return outs[0] if len(outs) == 1 else outs
            kwargs["out"] = tuple(unwrap(x) if traced is None else promote(x, traced.rec) for x in outs)
            inputs = tuple(map(unwrap, given))  # once more: what is written into may be read as well
        if traced is None and not any(
            map(_traced, kwargs.get("out", ()))
        ):  # plain after all: NumPy's own, on plain arrays
            result = getattr(ufunc, method)(*inputs, **kwargs)
            if outs:
                results = result if type(result) is tuple else (result,)
                held = tuple(hold(y, (*given, *outs)) if x is None else x for x, y in zip(outs, results))
                return held[0] if len(held) == 1 else held
            return hold(result, given)
        if method == "at" and traced is not None:
            inputs = (promote(given[0], traced.rec), *inputs[1:])
        if any(map(complexes.is_complex, inputs)) or any(map(complexes.is_complex, kwargs.get("out", ()))):
            return complexes.call(ufunc, method, inputs, kwargs)
        return forms.call(ufunc, method, inputs, kwargs)
    except (ValueError, ArithmeticError) as error:  # the function may catch it
        if type(error) is not ValueError or method not in ("__call__", "outer"):  # those are about shapes, not values
            failed(error)
        raise


def _traced(x: Any) -> bool:
    return is_traced(x) or complexes.is_traced_complex(x)


def _of_scalars(op: Op, inputs: tuple[Any, ...]) -> Any:
    """One line, where all operands are scalars of one trace or plain numbers."""
    rec = None
    for x in inputs:
        if isinstance(x, TracedScalar):
            if type(x) is not x.rec.scalar_type or rec is not None and x.rec is not rec:
                return NotImplemented
            rec = x.rec
        elif type(x) is not float and type(x) is not int and type(x) is not np.float64:
            return NotImplemented
    return NotImplemented if rec is None else rec.scalar_op(op, inputs)


_FIRST = frozenset((np.ndarray, np.float64, float, int))  # operands before a traced array, in the usual case

# Ufuncs that are an op whatever the operands; the exponents 2, 1/2, -1 make others of np.power.
_USUAL = {ufunc: op for ufunc, op in ufuncs.OP_OF.items() if op.name != "power" and op.arity < 3}


def array_function(self: Any, function: Callable[..., Any], types: Any, args: Any, kwargs: Any) -> Any:
    try:
        if CAREFUL and judges(args, kwargs):
            return judged(function, args, kwargs, lambda: array_function(self, function, types, args, kwargs))
        if "out" in kwargs and _only_written(args, kwargs):
            plain = kwargs["out"].plain_values()
            function(*unwrap_all(args), **{**_unwrapped((), kwargs)[1], "out": plain})
            kwargs["out"][...] = plain
            return kwargs["out"]
        implementation = FUNCTIONS.get(function)
        if implementation is not None and usual(args) and (not kwargs or usual(kwargs.values())):
            return writable(implementation(*args, **kwargs), self)
        given, named = args, kwargs = plain_options(function, args, kwargs)
        args, kwargs = _unwrapped(given, named)
        traced: list[Any] = []
        _find_traced(args, traced)
        _find_traced(kwargs, traced)
        for kind in types:
            if issubclass(kind, ufuncs.OTHER_RULES) and traced:
                ufuncs.refuse_other_rules(traced[0].rec, f"numpy.{function.__name__} with a {kind.__name__}")
        out = named.get("out")
        if not traced:
            result = function(*args, **kwargs)
            return out if out is not None else hold(result, given)
        places = (_place_of_out(function), 0 if function in WRITES_FIRST else len(given))
        targets = [x for x in (out, *(given[k] for k in places if k < len(given)))
                   if hasattr(type(x), "_distdiff_promote")]
        for x in targets:
            promote(x, traced[0].rec)
        if targets:
            args, kwargs = _unwrapped(given, named)  # once more: what is written into may be read as well
        if complexes.complex_within((args, tuple(kwargs.values()))):
            implementation = complexes.FUNCTIONS.get(function)
            if implementation is None:
                traced[0].rec.unsupported(f"numpy.{_path(function)} of complex numbers", "it has no derivative rule "
                                          "here; write it in terms of real and imaginary parts")
            return implementation(*args, **kwargs)
        if implementation is not None:
            return writable(implementation(*args, **kwargs), traced[0])
        if all(is_traced(x) and constant(x) for x in traced):
            result = function(*_plain_all(args), **{name: _plain_all(value) for name, value in kwargs.items()})
            return writable(result, traced[0])
        name = f"numpy.{_path(function)}"
        return traced[0].rec.unsupported(
            name,
            "what is written out are plain numbers: give it distdiff.numpy.value(x)" if name.startswith("numpy.save")
            else "it has no derivative rule here; write it in terms of functions that have one, or "
            "compute it outside the function if it does not depend on the inputs",
        )
    except (ValueError, ArithmeticError) as error:  # the function may catch it
        if type(error) is not ValueError or function not in _OF_SHAPES:
            failed(error)
        raise


def _only_written(args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a traced array is nothing but the target of what is computed of plain ones, all of it."""
    if type(kwargs["out"]) is not TracedArray or "where" in kwargs:
        return False
    read: list[Any] = []
    _find_traced(unwrap_all(args), read)
    _find_traced(unwrap_all([x for name, x in kwargs.items() if name != "out"]), read)
    return not read


def checks_names(implementation: Callable[..., Any]) -> bool:
    """Whether an implementation takes no other names than its own, as NumPy's functions do."""
    return all(p.kind is not p.VAR_KEYWORD for p in signature(implementation).parameters.values())


def writable(result: Any, traced: Any) -> Any:
    """A plain result (zeros, where there was nothing to compute) as an array that can hold traced values."""
    return traced.rec.array_of(result) if type(result) is np.ndarray and result.dtype.char in "dD" else result


def _path(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__name__}".removeprefix("numpy.")


@cache
def _place_of_out(function: Callable[..., Any]) -> int:
    """Where `out` is among the arguments; beyond them if it is none."""
    implementation = FUNCTIONS.get(function)
    names = list(signature(implementation).parameters) if implementation is not None else []
    return names.index("out") if "out" in names else len(names) + 64


def usual(arguments: Any) -> bool:
    """Whether there is nothing among them that holds traced values, or that has other rules."""
    for x in arguments:
        kind = type(x)
        if kind is list or kind is tuple:
            if not _NUMBERS.issuperset(map(type, x)) and not (
                    _SIMPLE.issuperset(map(type, x)) and all([_usual_array(part) for part in x])):
                return False
        elif kind not in _NUMBERS and (kind not in _SIMPLE or not _usual_array(x)):
            return False
    return True


def _usual_array(x: Any) -> bool:
    return type(x) is not np.ndarray or x.dtype.char == "d" or x.dtype.kind != "c"


_NUMBERS = frozenset((TracedArray, int, float, bool, str, slice, type(None), np.float64, np.int64))
_SIMPLE = _NUMBERS | {np.ndarray}
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
    """A plain result of holding arrays, as one itself: of the same memory if it is a view of theirs."""
    holding = _holding(given)
    if not holding:
        return result
    if type(result) in (tuple, list):  # np.split, np.atleast_2d, np.broadcast_arrays
        return type(result)([hold(part, given) for part in result])
    if type(result) is np.ndarray and result.base is not None:
        for x in holding:
            if np.may_share_memory(result, x):
                return type(x)._distdiff_view(result, x)
        if not _shares(result, given):
            result = result.copy("K")  # a view of memory that nobody else has
    return type(holding[0])._distdiff_hold(result)


def _holding(given: Any) -> list[Any]:
    """The arrays among arguments that can come to hold traced values."""
    found = []
    for x in given:
        if type(x) in (tuple, list):
            found += _holding(x)
        elif hasattr(type(x), "_distdiff_hold"):
            found.append(x)
    return found


def _shares(result: np.ndarray, given: Any) -> bool:
    if type(given) in (tuple, list):
        return any(_shares(result, part) for part in given)
    return isinstance(given, np.ndarray) and np.may_share_memory(result, given)


def unwrap_all(tree: Any) -> Any:
    if type(tree) in (tuple, list):
        return type(tree)(map(unwrap_all, tree))
    return unwrap(tree)


def _unwrapped(args: Any, kwargs: Any) -> tuple[Any, dict[str, Any]]:
    return unwrap_all(args), {name: unwrap_all(value) for name, value in kwargs.items()}


def _find_traced(tree: Any, found: list[Any]) -> None:
    """Append the traced values in nested containers."""
    if _traced(tree):
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
