"""What NumPy makes of truths alone in other numbers than doubles: np.sqrt(x > 0) is of 16 bits, (x > 0) // m of 8, and
(x > 0) << 1 of whole numbers.

No derivative goes through truths, so such a function asks for them: the masks decide, and NumPy itself computes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from .array import TracedArray, is_traced
from .floating import aside
from .indexing import decided
from .scalar import TracedBool, TracedCount, TracedScalar

_choose = np.where  # NumPy's own, whatever is substituted meanwhile
_DOUBLE = frozenset("d")
_WHOLE = frozenset((np.dtype(np.int64).char, "q"))
WHOLE_ONLY = frozenset((  # which are of whole numbers and truths, and never of floats
    np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert, np.left_shift, np.right_shift, np.gcd, np.lcm,
    *[vars(np)[name] for name in ("bitwise_count",) if name in vars(np)]))  # NumPy 2's
_OF_COUNTS = WHOLE_ONLY | {np.floor_divide, np.remainder, np.fmod, np.divmod}  # which divide by 0 unlike floats
_TRUTHS = frozenset((  # whose truths are statements of truths
    np.greater, np.greater_equal, np.less, np.less_equal, np.equal, np.not_equal, np.logical_and, np.logical_or,
    np.logical_xor, np.logical_not, np.isfinite, np.isnan, np.isinf, np.signbit, np.add, np.multiply, np.maximum,
    np.minimum, np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert))
_ALIKE = frozenset((np.add, np.subtract, np.multiply, np.maximum, np.minimum))  # of whole numbers as of floats
_SUMS = frozenset((np.add, np.multiply, np.maximum, np.minimum, np.logical_and, np.logical_or, np.logical_xor,
                   np.bitwise_and, np.bitwise_or, np.bitwise_xor))


def of_truths(ufunc: np.ufunc, inputs: tuple[Any, ...]) -> Any:
    """What NumPy gives, where all traced operands are truths (or counts, of functions of whole numbers), and that is
    computed otherwise than a statement of doubles or truths; else NotImplemented."""
    for x in inputs:
        if type(x) is TracedArray:
            if not x.st.boolean:
                return NotImplemented
        elif isinstance(x, TracedScalar):
            if not isinstance(x, TracedBool) and not (ufunc in _OF_COUNTS and isinstance(x, TracedCount)):
                return NotImplemented
        elif type(x) not in _NUMBERS and not isinstance(x, np.generic) and type(x) is not np.ndarray:
            return NotImplemented
    if ufunc.signature is not None:
        return NotImplemented
    kinds = _kinds(ufunc, tuple(map(_kind, inputs)))
    if "O" in kinds:
        return NotImplemented
    for kind in kinds:
        if not (kind in _DOUBLE or kind == "?" and ufunc in _TRUTHS or kind in _WHOLE and ufunc in _ALIKE):
            return ufunc(*map(_plain, inputs))
    return NotImplemented


def reduced(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The same of ufunc.reduce and its kin, of masks."""
    if ufunc in _SUMS and (method == "reduce" or ufunc not in WHOLE_ONLY) or method not in (
            "reduce", "accumulate", "reduceat"):
        return NotImplemented
    traced = [x for x in (*inputs, *kwargs.values()) if is_traced(x)]
    if not traced or not all(x.dtype == bool for x in traced):
        return NotImplemented
    function: Callable[..., Any] = getattr(ufunc, method)
    return function(*map(_plain, inputs), **{name: _plain(x) for name, x in kwargs.items()})


def of_few_bits(condition: Any, choices: tuple[Any, ...]) -> Any:
    """np.where of a traced mask and plain numbers of fewer bits; else NotImplemented."""
    for x in choices:
        if type(x) is TracedArray or isinstance(x, TracedScalar):
            return NotImplemented
    if not is_traced(condition):
        return NotImplemented
    plain = [np.asarray(x) if isinstance(x, (list, tuple)) else x for x in choices]
    if all(not isinstance(x, (np.ndarray, np.generic)) for x in plain):
        return NotImplemented
    kind = np.result_type(*plain)
    if kind.kind not in "fiu" or kind.char in _DOUBLE or kind.char in _WHOLE:
        return NotImplemented
    return _choose(_plain(condition if condition.dtype == bool else np.not_equal(condition, 0.0)), *plain)


_NUMBERS = frozenset((bool, int, float))


def _plain(x: Any) -> Any:
    if isinstance(x, TracedCount):
        return np.int64(int(x))
    return decided(x) if is_traced(x) else x


def _kind(x: Any) -> Any:
    """What NumPy's choice of a loop goes by: a number's type and value, an array's numbers and whether it has axes."""
    if isinstance(x, TracedScalar):
        return (np.bool_, True) if isinstance(x, TracedBool) else (np.int64, 1)
    if type(x) is TracedArray:
        return np.dtype(bool), x.window.ndim > 0
    return (x.dtype, x.ndim > 0) if type(x) is np.ndarray else (type(x), x)  # before NumPy 2 their values count


@lru_cache(maxsize=1024)
def _kinds(ufunc: np.ufunc, kinds: tuple[Any, ...]) -> tuple[str, ...]:
    """The numbers of a ufunc's results, as NumPy's characters; raises NumPy's TypeError where it has no such loop."""
    some = [value if isinstance(kind, type) else np.ones((0,) if value else (), kind) for kind, value in kinds]
    with aside(), np.errstate(all="ignore"):
        results = ufunc(*some)
    return tuple([np.asarray(y).dtype.char for y in (results if type(results) is tuple else (results,))])
