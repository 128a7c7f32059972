"""NumPy's ufuncs on complex operands, in all forms in which they can be called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..array import is_traced, ndim_of, shape_of
from ..recorder import Recorder
from ..reductions import axis_of
from ..scalar import PLAIN
from ..ufuncs import COMPLEX_RESULTS, of_scipy, recorder_of
from ..verdict import CAREFUL, judged, judges
from .array import ComplexArray, common, computed, is_complex, is_traced_complex, parts_of
from .formulas import REAL, RULES, SIGNED
from .parts import filled


def evaluate(ufunc: np.ufunc, inputs: Sequence[Any]) -> Any:
    """The ufunc of any operands, one of them complex and one traced."""
    if CAREFUL and judges(inputs, {}):
        return judged(ufunc, inputs, {}, lambda: evaluate(ufunc, inputs))
    rec = recorder_of(inputs)
    rule = RULES.get(ufunc) or REAL.get(ufunc)
    if rule is None and (given := COMPLEX_RESULTS.get(of_scipy(ufunc)[0])) is not None:
        return given(*inputs)
    if rule is None:
        name = ufunc.__name__
        if getattr(np, name, None) is not ufunc:
            rec.unsupported(f"{of_scipy(ufunc)[0]} with complex numbers", "it has rules for real ones only")
        if not any("D" in kinds.split("->")[0] for kinds in ufunc.types):
            raise TypeError(f"ufunc '{name}' not supported for the input types, and the inputs could not be safely "
                            "coerced to any supported types according to the casting rule ''safe''")
        rec.unsupported(f"numpy.{name} of complex numbers", "it has no derivative rule here; write it in terms of "
                        "real and imaginary parts")
    pairs = [parts_of(x, rec, ufunc in SIGNED) for x in inputs]
    operands = tuple(part for pair in pairs for part in pair)
    if ufunc in REAL:
        return rule(*pairs)
    return computed(rec, *rule(*pairs), operands, common([shape_of(x) for x in inputs]))


def call(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`__array_ufunc__` where an operand or an output is complex."""
    outs = kwargs.pop("out", ())
    rec = recorder_of((*inputs, *outs))
    dtype = kwargs.pop("dtype", None)
    if dtype is not None and np.dtype(dtype).kind != "c":
        rec.unsupported(f"numpy.{ufunc.__name__} of complex numbers with dtype={np.dtype(dtype)}",
                        "take real and imaginary parts")
    if method == "at":
        _at(ufunc, rec, *inputs)
        return None
    if method == "__call__":
        where = kwargs.get("where", True)
        results = _GUFUNCS[ufunc](*inputs, **kwargs) if ufunc in _GUFUNCS else _masked(ufunc, inputs, outs, where)
    elif method == "outer":
        a, b = inputs
        results = ufunc(np.reshape(a, shape_of(a) + (1,) * ndim_of(b)), b)
    elif (ufunc, method) in _FORMS:
        results = _FORMS[ufunc, method](*inputs, **{"axis": 0, **kwargs})
    else:
        rec.unsupported(f"numpy.{ufunc.__name__}.{method} of complex numbers", "write it as a loop or a formula")
    if not outs:
        return results
    target = outs[0]
    if not is_traced(target) and not is_traced_complex(target):
        rec.unsupported(f"numpy.{ufunc.__name__} writing a traced result into a plain array (out= or an in-place "
                        "operator)", f"{PLAIN}; or write a = a + b instead of a += b")
    check_cast(ufunc.__name__, results, target)
    target[...] = results
    return target


def check_cast(name: str, result: Any, target: Any) -> None:
    """NumPy's error where a complex result is written into a real array."""
    if is_complex(result) and not is_complex(target):
        raise TypeError(f"Cannot cast ufunc '{name}' output from dtype('complex128') to dtype('{target.dtype}') with "
                        "casting rule 'same_kind'")


def _masked(ufunc: np.ufunc, inputs: Sequence[Any], outs: Sequence[Any], where: Any) -> Any:
    """The ufunc where a condition holds; elsewhere what `out` holds, or 0 (as of np.empty)."""
    if not any(map(is_complex, inputs)):  # real operands, a complex out
        return ufunc(*inputs) if where is True else np.where(where, ufunc(*inputs), outs[0])
    if where is True:
        return evaluate(ufunc, inputs)
    result = evaluate(ufunc, tuple(np.where(where, x, 0.5) for x in inputs))
    return np.where(where, result, outs[0] if outs else 0.0)


def _at(ufunc: np.ufunc, rec: Recorder, target: Any, index: Any, *operands: Any) -> None:
    if ufunc not in (np.add, np.subtract) or type(target) is not ComplexArray:
        rec.unsupported(f"numpy.{ufunc.__name__}.at of complex numbers", "only sums and differences have a rule, into "
                        "an array that can hold traced values")
    for part, value in zip((target.re, target.im), parts_of(operands[0], rec)):
        if value is not None:
            ufunc.at(part, index, filled(value))


def _along(axis: Any, x: Any) -> int:
    return axis_of(0 if axis is None and x.ndim == 1 else axis, x.ndim)


_GUFUNCS: dict[np.ufunc, Callable[..., Any]] = {}  # matmul and its kin, filled in by `products`
_FORMS: dict[tuple[np.ufunc, str], Callable[..., Any]] = {  # NumPy's functions do it, which come back to rules here
    (np.add, "reduce"): np.sum,
    (np.multiply, "reduce"): np.prod,
    (np.add, "accumulate"): lambda x, axis: np.cumsum(x, _along(axis, x)),
    (np.multiply, "accumulate"): lambda x, axis: np.cumprod(x, _along(axis, x)),
    (np.maximum, "reduce"): np.max,
    (np.minimum, "reduce"): np.min,
}
