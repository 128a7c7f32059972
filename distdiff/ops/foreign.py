"""Functions that no loop of ours computes, as lines of the op table: scipy.special's, and numerical ones (`shapes`).

They are statements, never lines of scalar runs: compiled loops can't call SciPy.  SciPy is loaded when one of them is
evaluated, which is after the user's function called it.

`UNKNOWN` stands where a function has no usable partial, in its order above all: there an operand must not depend on the
inputs, which `tracing.ufuncs` sees to.  `WHOLE` are the operands that must be whole numbers, and the least of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .table import Op, enter


class _SciPy:
    """scipy.special, imported when something of it is asked for, and the functions that are computed here."""

    carlson: Numerical
    wofz_re: Numerical
    zeta_1: Numerical
    wofz_im: Numerical

    def __getattr__(self, name: str) -> Any:
        import scipy.special

        function = getattr(scipy.special, name)
        return (lambda n, *x: function(_integer(n), *x)) if name in WHOLE else function


def _integer(n: Any) -> np.ndarray:
    """Whole numbers as integers: SciPy computes another way with floats of the same value, or not at all."""
    return np.asarray(n).astype(np.int64)


sc = _SciPy()


class Value:
    """A function of scipy.special's as the op table calls it: a result written where it is told.

    part: which of several results.  whole: that operand is passed as integers.
    """

    def __init__(self, name: str, arity: int, part: int | None = None, whole: int | None = None) -> None:
        self.name, self.arity, self.part, self.whole = name, arity, part, whole

    def __call__(self, *x: Any, out: np.ndarray | None = None) -> Any:
        if len(x) > self.arity:
            *x, out = x  # as ufuncs take it
        function = getattr(sc, self.name)
        if self.whole is not None:
            x = tuple(_integer(a) if k == self.whole else a for k, a in enumerate(x))
        if self.part is None and isinstance(function, np.ufunc):
            return function(*x, out=out)
        y = function(*x)
        y = np.real(y if self.part is None else y[self.part])
        if out is None:
            return y
        out[...] = y
        return out


_PLAIN = frozenset((bool, int, float, np.ndarray, np.bool_, np.int64, np.float64))


class Numerical:
    """A function that is computed here (`shapes`), as the op table calls it.

    face: a ufunc that traced operands are recognized by, through NumPy's protocol; nothing is computed with it.
    """

    def __init__(self, function: Callable[..., Any], arity: int) -> None:
        self.function, self.arity = function, arity
        self.face = np.frompyfunc(function, arity, 1)

    def __call__(self, *x: Any, out: np.ndarray | None = None) -> Any:
        if len(x) > self.arity:
            *x, out = x  # as ufuncs take it
        if not all(type(part) in _PLAIN for part in x):  # traced ones pass for arrays and floats
            return self.face(*x)
        return self.function(*x, out=out)


def UNKNOWN(y: Any, *x: Any) -> float:
    """The partial nobody may ask for: NaN, which is reported wherever it arises."""
    return np.nan


SPECIAL: dict[str, tuple[Op, ...]] = {}  # SciPy's name -> the op of each of its results
WHOLE: dict[str, int] = {}  # functions whose first operand is a whole number -> the least it may be


def op(name: str, *partials: Callable[..., Any] | None, least: int | None = None, whole: int | None = None) -> None:
    """A function with one result.  least: its first operand is whole, and at least that."""
    SPECIAL[name] = (enter(name, Value(name, len(partials), whole=whole), *partials, scalar=False),)
    if least is not None:
        WHOLE[name] = least


def ops(name: str, /, **results: tuple[Callable[..., Any], ...]) -> None:
    """A function with several."""
    SPECIAL[name] = tuple(
        enter(f"{name}_{part}", Value(name, len(partials), k), *partials, scalar=False)
        for k, (part, partials) in enumerate(results.items()))


__all__ = ["SPECIAL", "UNKNOWN", "WHOLE", "Numerical", "Value", "op", "ops", "sc"]
