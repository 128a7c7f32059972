"""NumPy's elementwise functions on traced values: which op each one is, and how its arguments are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from ..ops import BY_NAME, OPS, Op
from .array import TracedArray, elementwise, is_boolean, is_traced, own
from .boxes import whole
from .indexing import assign
from .recorder import Recorder
from .scalar import PLAIN, TracedScalar
from .storage import Storage

OP_OF: dict[np.ufunc, Op] = {op.value: op for op in OPS if isinstance(op.value, np.ufunc)}
OP_OF[np.fabs] = BY_NAME["absolute"]
OP_OF[np.float_power] = BY_NAME["power"]

_AND, _OR, _XOR, _NOT = (BY_NAME[f"logical_{name}"] for name in ("and", "or", "xor", "not"))
_OF_BOOLEANS = {  # what NumPy does with two boolean arrays
    BY_NAME["add"]: _OR,
    BY_NAME["multiply"]: _AND,
    BY_NAME["maximum"]: _OR,
    BY_NAME["minimum"]: _AND,
}
_BITWISE = {np.bitwise_and: _AND, np.bitwise_or: _OR, np.bitwise_xor: _XOR, np.invert: _NOT}


def recorder_of(operands: Any) -> Recorder:
    """The recorder of the first traced operand."""
    for x in operands:
        if is_traced(x):
            return x.rec
    raise AssertionError("no traced operand")


OTHER_RULES = (np.matrix, np.ma.MaskedArray)  # subclasses of ndarray that compute otherwise: * is @, masks


def refuse_other_rules(rec: Recorder, what: str) -> NoReturn:
    rec.unsupported(what, "its rules are not those of arrays; use arrays, with @ for products and np.where for masks")


def number(rec: Recorder, x: Any, name: str) -> Any:
    """An operand as traced value, real number or real array; refuses what is none."""
    if is_traced(x) or type(x) is float or type(x) is int:
        return x
    if isinstance(x, (list, tuple)):
        x = rec.array_of(x)
        return x if is_traced(x) else number(rec, x, name)
    if isinstance(x, OTHER_RULES):
        refuse_other_rules(rec, f"numpy.{name} with a {type(x).__name__}")
    values = np.asarray(x)
    if values.dtype.kind not in "fiub":
        rec.unsupported(
            f"numpy.{name} with {'complex numbers' if values.dtype.kind == 'c' else f'a {type(x).__name__}'}",
            "derivatives here are those of real functions of floats and arrays",
        )
    return values if values.ndim else values[()]


def apply(op: Op, *operands: Any) -> Any:
    """op on operands of any kind, one of them traced, with NumPy's rules for booleans."""
    rec = recorder_of(operands)
    operands = tuple(number(rec, x, op.name) for x in operands)
    if op in _OF_BOOLEANS and all(map(is_boolean, operands)):
        op = _OF_BOOLEANS[op]
    elif op.name == "subtract" and all(map(is_boolean, operands)):
        raise TypeError(
            "numpy boolean subtract, the `-` operator, is not supported, use the bitwise_xor, the `^` operator, "
            "or the logical_xor function instead."
        )
    elif op.name == "negative" and is_boolean(operands[0]):
        raise TypeError(
            "The numpy boolean negative, the `-` operator, is not supported, use the `~` operator or the "
            "logical_not function instead."
        )
    elif op.name == "power":
        simple = _power(rec, *operands)
        if simple is not None:
            return simple
    return elementwise(rec, op, operands)


def _power(rec: Recorder, base: Any, exponent: Any) -> Any:
    """The exponents for which an ndarray's ** is another function."""
    if type(base) is TracedArray and not is_traced(exponent) and np.ndim(exponent) == 0:
        name = {2.0: "square", 0.5: "sqrt", -1.0: "reciprocal", 1.0: "copy"}.get(float(exponent))
        if name == "copy":
            return base.copy("K")
        if name:
            return elementwise(rec, BY_NAME[name], (base,))
        if exponent == 0:
            return rec.array_of(np.ones_like(base.nd))
    return None


def general(op: Op, *operands: Any) -> Any:
    """What the operators of traced values do with an operand they don't know."""
    for x in operands:
        if not is_traced(x) and not isinstance(x, (int, float, complex, np.generic, np.ndarray)):
            return NotImplemented
        if getattr(x, "__array_ufunc__", True) is None:
            return NotImplemented
    return apply(op, *operands)


def _composed(name: str) -> Callable[..., Any]:
    """Functions that are a formula in others."""
    return {
        "positive": lambda x: x.copy("K") if type(x) is TracedArray else x,
        "conjugate": lambda x: x.copy("K") if type(x) is TracedArray else x,
        "deg2rad": lambda x: x * (np.pi / 180.0),
        "radians": lambda x: x * (np.pi / 180.0),
        "rad2deg": lambda x: x * (180.0 / np.pi),
        "degrees": lambda x: x * (180.0 / np.pi),
        "logaddexp2": lambda a, b: np.logaddexp(a * np.log(2.0), b * np.log(2.0)) / np.log(2.0),
        "divmod": lambda a, b: (np.floor_divide(a, b), np.remainder(a, b)),
        "heaviside": lambda x, h: np.where(np.equal(x, 0.0), h, np.greater(x, 0.0) * 1.0),
        "fmod": lambda a, b: a - b * np.trunc(a / b),
        "fmax": lambda a, b: np.where(np.isnan(a), b, np.where(np.isnan(b), a, np.maximum(a, b))),
        "fmin": lambda a, b: np.where(np.isnan(a), b, np.where(np.isnan(b), a, np.minimum(a, b))),
    }[name]


_COMPOSED = {
    getattr(np, name): _composed(name)
    for name in (
        "positive",
        "conjugate",
        "deg2rad",
        "radians",
        "rad2deg",
        "degrees",
        "logaddexp2",
        "divmod",
        "heaviside",
        "fmod",
        "fmax",
        "fmin",
    )
}


_ELSEWHERE: dict[str, Callable[..., Any]] = {  # ufuncs of scipy.special, known by their names
    "expit": lambda x: 0.5 * (1.0 + np.tanh(0.5 * x)),
    "log_expit": lambda x: -np.logaddexp(0.0, -x),
    "logit": lambda x: np.log(x) - np.log1p(-x),
    "xlogy": lambda x, y: np.where(np.equal(x, 0.0), 0.0, x * np.log(np.where(np.equal(x, 0.0), 1.0, y))),
    "xlog1py": lambda x, y: np.where(np.equal(x, 0.0), 0.0, x * np.log1p(np.where(np.equal(x, 0.0), 0.0, y))),
    "entr": lambda x: -_ELSEWHERE["xlogy"](x, x),
}


def call(
    ufunc: np.ufunc,
    method: str,
    inputs: tuple[Any, ...],
    kwargs: dict[str, Any],
    reductions: dict[np.ufunc, Callable[..., Any]],
    matmul: Callable[..., Any],
) -> Any:
    """`__array_ufunc__` of arrays and scalars alike."""
    outs = kwargs.pop("out", ())
    rec = recorder_of(inputs + outs)
    if not any(map(is_traced, inputs)):  # constants written into an array that can hold traced values
        if method != "__call__":
            rec.unsupported(f"numpy.{ufunc.__name__}.{method} into a traced array", "assign the result instead")
        result = getattr(ufunc, method)(*inputs, **kwargs)
        for out, part in zip(outs, result if isinstance(result, tuple) else (result,)):
            assign(out, part)
        return outs[0] if len(outs) == 1 else outs
    if method == "reduce":
        if ufunc not in reductions:
            rec.unsupported(
                f"numpy.{ufunc.__name__}.reduce",
                "it has no derivative rule; reductions are add, maximum, minimum, multiply and the logical ones",
            )
        axis = kwargs.pop("axis", 0)
        result = reductions[ufunc](inputs[0], axis=axis, **{k: v for k, v in kwargs.items() if v is not None})
    elif method == "accumulate" and ufunc is np.add:
        result = np.cumsum(inputs[0], axis=kwargs.get("axis", 0))
    elif method == "outer" and ufunc.nin == 2:
        a, b = inputs
        shape = np.shape(a) + (1,) * np.ndim(b)
        result = ufunc(np.reshape(a, shape), b)
    elif method != "__call__":
        rec.unsupported(
            f"numpy.{ufunc.__name__}.{method}", "it has no derivative rule; write it with index arrays or a loop"
        )
    else:
        result = _elementwise_call(rec, ufunc, inputs, kwargs, matmul)
    if not outs or outs[0] is None:
        return result
    if len(outs) > 1:
        rec.unsupported(f"numpy.{ufunc.__name__} with several outputs given by out=", "assign the results instead")
    target = outs[0]
    if type(target) is not TracedArray:
        rec.unsupported(
            f"numpy.{ufunc.__name__} writing a traced result into a plain array (out= or an in-place operator)",
            f"{PLAIN}; or write a = a + b instead of a += b",
        )
    if is_boolean(target) and not is_boolean(result):
        raise TypeError(
            f"Cannot cast ufunc '{ufunc.__name__}' output from dtype('float64') to dtype('bool') with casting rule "
            "'same_kind'"
        )
    assign(target, result)
    return target


def _elementwise_call(
    rec: Recorder, ufunc: np.ufunc, inputs: tuple[Any, ...], kwargs: dict[str, Any], matmul: Callable[..., Any]
) -> Any:
    if kwargs.get("where", True) is not True:
        rec.unsupported(f"numpy.{ufunc.__name__} with where=", "use np.where(condition, a, b)")
    dtype = kwargs.get("dtype")
    if dtype is not None and np.dtype(dtype).kind != "f":
        rec.unsupported(f"numpy.{ufunc.__name__} with dtype={np.dtype(dtype)}", "traced values are floats of 64 bits")
    if ufunc is np.matmul:
        return matmul(*inputs)
    op = OP_OF.get(ufunc)
    if op is not None:
        return apply(op, *inputs)
    if ufunc in _BITWISE and all(map(is_boolean, inputs)):
        return apply(_BITWISE[ufunc], *inputs)
    name = ufunc.__name__
    if getattr(np, name, None) is not ufunc:
        if name in _ELSEWHERE:
            return _ELSEWHERE[name](*(number(rec, x, name) for x in inputs))
        rec.unsupported(f"the ufunc {name}", "it has no derivative rule here; write it with NumPy's functions")
    if ufunc in _COMPOSED:
        return _COMPOSED[ufunc](*(number(rec, x, ufunc.__name__) for x in inputs))
    rec.unsupported(
        f"numpy.{ufunc.__name__}", "it has no derivative rule here; write it in terms of functions that have one"
    )


def in_place(op: Op) -> Callable[[TracedArray, Any], TracedArray]:
    """`u += v` and the like: computed, then written through the view."""

    def operator(self: TracedArray, other: Any) -> TracedArray:
        result = general(op, self, other)
        if result is NotImplemented:
            return result
        if self.st.boolean and not is_boolean(result):
            raise TypeError(
                f"Cannot cast ufunc '{op.name}' output from dtype('float64') to dtype('bool') with casting rule "
                "'same_kind'"
            )
        assign(self, result)
        return self

    return operator


def as_array(x: TracedScalar) -> TracedArray:
    """A traced scalar as an array of shape ()."""
    own(x.rec, x)
    st = Storage(x.rec, np.array(x.v), whole((), x.rec.node(x.i)), boolean=is_boolean(x))
    return TracedArray(st, st.buffer)

