"""Tracing at compiled speed: loops over floats that Numba can compile record their lines from machine code.

`compiled(f)` is all there is to know.  A traced float is a pair for Numba (`types`), with the op table's operations
(`elementals`) and Python's decisions (`decisions`) declared on it; `emit` is the code that appends a line to flat
arrays, `stream` these arrays on their way to the recorder, `arrays` the arrays that f makes; `rewrite` prepares f and
all it calls, `entry` and `call` lead in and out.  Only this file and `function` are loaded before compiled code is
first traced: the others import Numba.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any

from ..array import is_traced
from ..holding import traced_within
from ..patching import suspended
from .function import Function


class Compiled(Function):
    """What `compiled(f)` gives: called as f is."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        rec = _recorder(args) or (_recorder(kwargs.values()) if kwargs else None)
        if rec is None:
            return self.__wrapped__(*args, **kwargs)
        return _call()(self, rec, args, kwargs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)


@functools.cache
def _call() -> Callable[..., Any]:
    with suspended():  # Numba takes NumPy's functions by name when it is imported
        from .call import call
    return call


def _recorder(args: Any) -> Any:
    for x in args:
        rec = x.rec if is_traced(x) else _recorder(x.values()) if type(x) is dict else traced_within(x)
        if rec is not None:
            return rec
    return None


def compiled(f: Callable[..., Any]) -> Compiled:
    """f, traced at compiled speed: some nanoseconds an operation instead of some hundred.

        @dd.compiled
        def steps(u, v, dt, n):
            for _ in range(n):
                u, v = u + dt * v, v - dt * u
            return u, v

        dd.grad(lambda x: steps(x[0], x[1], 1e-3, 1_000_000)[0])(np.array([1.0, 0.0]))

    Called with traced floats or arrays among its arguments (by `dd.grad` and its kin, or from a function they trace), f
    is compiled by Numba, once for each combination of kinds of arguments, and run to record the same lines, decisions
    and values as f traced by the interpreter; both mix freely.  Called with plain values, f runs as it is: give
    `compiled(numba.njit(f))` for a function that is compiled then, too.

    What compiles: what Numba compiles in nopython mode (numbers, tuples, lists, NumPy arrays, loops, calls of other
    functions, recursion), where a traced float may be in arithmetic, comparisons, functions of `math`, NumPy's
    functions of one number, min, max, abs, int, round, float; in arrays, element by element or slice by slice, made by
    np.zeros, np.empty, np.ones, np.full, their `_like`s, np.array and np.copy; in tuples and lists.  Arguments are
    numbers, arrays, short lists and tuples of them, and functions; results numbers, arrays and tuples.

    What does not: operations of NumPy on whole traced arrays (np.sin(u), u + v, u @ v), lists and dictionaries as
    results, objects.  Then f is traced by the interpreter as if it weren't wrapped, with one
    `distdiff.errors.NotCompiledWarning` a reason that says where and why
    (`warnings.simplefilter("error", distdiff.errors.NotCompiledWarning)` makes it an error).

    A decision on a traced value (if, while, int(x), max) is guarded: at a new point where it would be another, the
    function is traced afresh, or `BranchChangedError` raised, as for interpreted code.

    As always with Numba, integers have 64 bits, a plain number over plain zero raises, and what f finds outside of
    itself (globals, variables of an enclosing function) is built into the code: where one is another at a later call,
    f is compiled again.

    Returns a callable with f's signature.  Not collective.  Raises `InputError` where f is no Python function.
    """
    return f if isinstance(f, Compiled) else Compiled(f)


__all__ = ["Compiled", "compiled"]
