"""NumPy's elementwise functions on traced values: which op each one is, and how its arguments are read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from numbers import Number, Rational
from typing import Any, NoReturn

import numpy as np

from ..ops import BY_NAME, OPS, Op
from ..ops.foreign import SPECIAL, UNKNOWN, WHOLE, Numerical
from ..ops.table import LN2
from .array import TracedArray, as_plain, constant, elementwise, is_boolean, is_traced, ndim_of, own
from .boxes import whole
from .callers import YOURS
from .indexing import decided
from .recorder import Recorder
from .scalar import BOOLEAN_OPS, TracedScalar
from .storage import Storage
from .truths import of_truths

OP_OF: dict[np.ufunc, Op] = {op.value: op for op in OPS if isinstance(op.value, np.ufunc)}
OP_OF |= {op.value.face: op for op in OPS if isinstance(op.value, Numerical)}
OP_OF[np.fabs] = BY_NAME["absolute"]
OP_OF[np.float_power] = BY_NAME["power"]
BOOLEAN_RESULTS = frozenset(ufunc for ufunc, op in OP_OF.items() if op in BOOLEAN_OPS)

_AND, _OR, _XOR, _NOT = (BY_NAME[f"logical_{name}"] for name in ("and", "or", "xor", "not"))
_OF_BOOLEANS = {  # what NumPy does with two boolean arrays
    BY_NAME["add"]: _OR,
    BY_NAME["multiply"]: _AND,
    BY_NAME["maximum"]: _OR,
    BY_NAME["minimum"]: _AND,
}
BITWISE = {np.bitwise_and: _AND, np.bitwise_or: _OR, np.bitwise_xor: _XOR, np.invert: _NOT}


def recorder_of(operands: Any) -> Recorder:
    """The recorder of the first traced operand, real or complex."""
    for x in operands:
        if is_traced(x):
            return x.rec
    for x in operands:
        if isinstance(x, np.ndarray | Number) and isinstance(getattr(x, "rec", None), Recorder):
            return x.rec
    raise AssertionError("no traced operand")


_KNOWN_KINDS = frozenset((TracedArray, np.ndarray, float, int, np.float64))
OTHER_RULES = (np.matrix, np.ma.MaskedArray)  # subclasses of ndarray that compute otherwise: * is @, masks


def refuse_other_rules(rec: Recorder, what: str) -> NoReturn:
    rec.unsupported(what, "its rules are not those of arrays; use arrays, with @ for products, and masks beside them: "
                    "np.where(mask, 0.0, x), np.sum(x, where=~mask), np.average(x, weights=~mask), or NaN and nanmean")


def number(rec: Recorder, x: Any, name: str) -> Any:
    """An operand as traced value, real number or real array; refuses what is none.  name: the function's, in NumPy
    where nothing else is said."""
    if is_traced(x) or type(x) is float or type(x) is int:
        return x
    if isinstance(x, (list, tuple)):
        x = rec.array_of(x)
        return x if is_traced(x) else number(rec, x, name)
    if isinstance(x, OTHER_RULES):
        refuse_other_rules(rec, f"{_full(name)} with a {type(x).__name__}")
    values = x if type(x) is np.ndarray or getattr(x, "dtype", None) == np.complex128 else np.asarray(x)
    if values.dtype.kind not in "fiub":
        rec.unsupported(
            f"{_full(name)} with {'complex numbers' if values.dtype.kind == 'c' else f'a {type(x).__name__}'}",
            "derivatives here are those of real functions of floats and arrays" if values.dtype.kind != "c" else
            "it has no rule for them here; take real and imaginary parts",
        )
    return values if values.ndim else values[()]


def _full(name: str) -> str:
    return name if "." in name else f"numpy.{name}"


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


SIMPLE_POWERS = {exponent: BY_NAME[name] for exponent, name in ((2.0, "square"), (0.5, "sqrt"), (-1.0, "reciprocal"))}


def _power(rec: Recorder, base: Any, exponent: Any) -> Any:
    """The exponents for which an ndarray's ** is another function."""
    if type(base) is TracedArray and not is_traced(exponent) and ndim_of(exponent) == 0 and not base.st.boolean:
        simple = SIMPLE_POWERS.get(float(exponent))
        if simple is not None:
            return simple.value(base)
        if exponent == 1:
            return base.copy("K")
        if exponent == 0:
            return rec.array_of(np.ones_like(base.nd))
    return None


_SAMENESS = frozenset(("equal", "not_equal"))


def general(op: Op, *operands: Any) -> Any:
    """What the operators of traced values do with an operand they don't know."""
    if op.name in _SAMENESS and any(x is None for x in operands):
        shapes = [x.shape for x in operands if type(x) is TracedArray]
        return np.full(shapes[0], op.name == "not_equal") if shapes else NotImplemented  # as of objects
    for x in operands:
        if isinstance(x, Rational) and not isinstance(x, (int, np.generic)):
            recorder_of(operands).unsupported(f"numpy.{op.name} with a {type(x).__name__}", "NumPy computes with it "
                                              "number by number, as objects; give the float, float(a)")
        if not is_traced(x) and not isinstance(x, (int, float, complex, np.generic, np.ndarray)) and not (
                isinstance(x, (list, tuple)) and any(type(y) is TracedArray for y in operands)):
            return NotImplemented
        if getattr(x, "__array_ufunc__", True) is None:
            return NotImplemented
    if not any(map(is_boolean, operands)):
        return apply(op, *operands)
    base, *others = operands
    if op.name == "power" and type(base) is TracedArray and base.st.boolean and not any(map(is_traced, others)):
        return decided(base) ** others[0]  # which is another function for some exponents
    return evaluate(op.value, operands)


def _copied(x: Any) -> Any:
    return x if type(x) is not TracedArray else x.copy("K") if x.window.ndim else x.scalar()


def _ignoring_nan(ufunc: np.ufunc) -> Callable[..., Any]:
    return lambda a, b: np.where(np.isnan(a), b, np.where(np.isnan(b), a, ufunc(a, b)))


def _fmod(a: Any, b: Any) -> Any:
    """The remainder with the sign of a, exact as C's: remainders of positive numbers are that already."""
    return np.copysign(np.remainder(np.abs(a), np.abs(b)), a)


def _modf(x: Any) -> tuple[Any, Any]:
    whole_part = np.trunc(x)
    return np.copysign(np.where(np.isinf(x), 0.0, x - whole_part), x), whole_part


def _frexp(x: Any) -> tuple[Any, Any]:
    """x = mantissa 2^exponent; the exponents are plain, and guarded by the powers of two that x lies between."""
    nd = x.nd if type(x) is TracedArray else np.float64(x.v)
    exponent = np.frexp(nd)[1]
    known = np.isfinite(nd) & (nd != 0.0)
    low, high = np.where(known, np.ldexp(1.0, exponent - 1), -1.0), np.where(known, np.ldexp(1.0, exponent), np.inf)
    decided(np.logical_and(np.greater_equal(np.abs(x), low), np.less(np.abs(x), high)))
    if not known.all():
        decided(np.equal(x, 0.0))
    half = -exponent // 2  # 2**-exponent may be beyond all numbers
    return x * np.ldexp(1.0, half) * np.ldexp(1.0, -exponent - half), exponent


def _ldexp(x: Any, exponent: Any) -> Any:
    if constant(exponent):
        exponent = as_plain(exponent)
    if is_traced(exponent):
        exponent.rec.unsupported("numpy.ldexp with traced exponents", "they are whole numbers; use x * 2.0**n")
    exponent = np.asarray(exponent)
    if exponent.dtype.kind not in "iub" and not np.array_equal(exponent, np.trunc(exponent)):  # (lists came as floats)
        np.ldexp(1.0, exponent)  # which raises what NumPy does
    return x * np.ldexp(1.0, exponent.astype(int))


COMPOSED: dict[np.ufunc, Callable[..., Any]] = {  # functions that are a formula in others
    np.positive: _copied,
    np.conjugate: _copied,
    np.deg2rad: lambda x: x * (np.pi / 180.0),
    np.radians: lambda x: x * (np.pi / 180.0),
    np.rad2deg: lambda x: x * (180.0 / np.pi),
    np.degrees: lambda x: x * (180.0 / np.pi),
    np.logaddexp2: lambda a, b: np.logaddexp(a * LN2, b * LN2) / LN2,
    np.divmod: lambda a, b: (np.floor_divide(a, b), np.remainder(a, b)),
    np.heaviside: lambda x, h: np.where(np.equal(x, 0.0), h, np.greater(x, 0.0) * 1.0),
    np.fmod: _fmod,
    np.fmax: _ignoring_nan(np.maximum),
    np.fmin: _ignoring_nan(np.minimum),
    np.modf: _modf,
    np.frexp: _frexp,
    np.ldexp: _ldexp,
}


COMPLEX_RESULTS: dict[str, Callable[..., Any]] = {}  # ufuncs of scipy.special's with such; `complexes` fills it in


def of_scipy(ufunc: np.ufunc) -> tuple[str, tuple[Op, ...]]:
    """The name of a ufunc as a refusal gives it, and the ops of its results if it is one of scipy.special's."""
    name = ufunc.__name__
    room = sys.modules.get("scipy.special")
    if ufunc is not getattr(room, name, None):
        return f"the ufunc {name}", ()
    return f"scipy.special.{name}", SPECIAL.get(name, ())


def special(name: str, *operands: Any) -> Any:
    """A function of scipy.special's that is in the op table, of operands one of which is traced."""
    ops, rec = SPECIAL[name], recorder_of(operands)
    name = f"scipy.special.{name}"
    given = [number(rec, x, name) for x in operands]
    for k, rule in enumerate(ops[0].partials):
        if rule is UNKNOWN and is_traced(given[k]):
            if not constant(given[k]):
                known = " and ".join(_PLACES[j] for j, r in enumerate(ops[0].partials) if r is not UNKNOWN)
                rec.unsupported(f"{name} with a traced {_PLACES[k]} argument",
                                f"it has a rule for the {known} only{YOURS}")
            given[k] = as_plain(given[k])
    if not any(map(is_traced, given)):
        return rec.array_of(ops[0].value(*given))
    least = WHOLE.get(name.rpartition(".")[2])
    if least is not None and not np.all((np.floor(given[0]) == given[0]) & (np.asarray(given[0]) >= least)):
        rec.unsupported(f"{name} of an order that is not whole{' or negative' if least == 0 else ''}",
                        "its derivative is known for whole orders only")
    results = tuple(elementwise(rec, op, given) for op in ops)
    return results[0] if len(results) == 1 else results


_PLACES = ("first", "second", "third", "fourth")


def evaluate(ufunc: np.ufunc, inputs: tuple[Any, ...]) -> Any:
    """An elementwise ufunc of any operands: one result, or a tuple where it has several."""
    if not any(map(is_traced, inputs)):
        return ufunc(*inputs)
    if not _KNOWN_KINDS.issuperset(map(type, inputs)):
        rec = recorder_of(inputs)
        inputs = tuple(number(rec, x, ufunc.__name__) if isinstance(x, (list, tuple)) else x for x in inputs)
    result = of_truths(ufunc, inputs)
    if result is not NotImplemented:
        return result
    op = OP_OF.get(ufunc)
    if op is not None:
        return apply(op, *inputs)
    if ufunc in BITWISE and all(map(is_boolean, inputs)):
        return apply(BITWISE[ufunc], *inputs)
    rec, name = recorder_of(inputs), ufunc.__name__
    if getattr(np, name, None) is not ufunc:
        name, ops = of_scipy(ufunc)
        if name in COMPLEX_RESULTS and (ufunc.signature or "(1,1)").endswith("(1,1)"):
            return COMPLEX_RESULTS[name](*inputs)
        if not ops:
            rec.unsupported(name, "it has no derivative rule here; write it in terms of functions that have one")
        return special(ufunc.__name__, *inputs)
    if ufunc in COMPOSED:
        return COMPOSED[ufunc](*(number(rec, x, name) for x in inputs))
    rec.unsupported(f"numpy.{name}", "it has no derivative rule here; write it in terms of functions that have one")


def require_floats(operands: Any, name: str, dtype: Any, boolean: bool = False) -> None:
    """Refuse to compute in other numbers than floats (in which truths may be counted), and say so if their size is
    another."""
    if dtype is None or dtype is np._NoValue:
        return
    if np.dtype(dtype).kind not in ("fiu" if boolean else "f"):
        recorder_of(operands).unsupported(f"{name} with dtype={np.dtype(dtype)}", "traced values are floats of 64 bits")
    if any(map(is_traced, operands)):
        recorder_of(operands).float64(dtype, f"{name} with dtype")


def as_array(x: TracedScalar) -> TracedArray:
    """A traced scalar as an array of shape ()."""
    own(x.rec, x)
    st = Storage(x.rec, np.array(x.v), whole((), x.rec.node(x.i)), boolean=is_boolean(x))
    return TracedArray(st, st.buffer)

