"""Functions with a rule for their tangents or their adjoints: JAX's custom_jvp and custom_vjp."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any

import numpy as np

from ..errors import InputError
from ..tracing import is_leaf, running
from ..tracing.active import set_aside
from ..tracing.array import is_traced, plain
from ..tracing.joint import joint
from ..tracing.stretch import as_leaf
from ..tracing.tree import flatten, unflatten
from .called import of_kind, order_of, require_unwritten, sealed
from .named import Named
from .ruled import Call, WithAdjoints, WithTangents


class _Custom(Named):
    """What `custom_jvp` and `custom_vjp` share: a call as a joint statement."""

    elemental: type[WithTangents] | type[WithAdjoints]
    rule_kind: str
    rule_name: str

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        update_wrapper(self, fun)
        self.fun, self.nondiff_argnums = fun, tuple(nondiff_argnums)
        self.signature = inspect.signature(fun)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        rec = running()
        if rec is None:
            return self.fun(*args, **kwargs)
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if bound.kwargs:
            raise TypeError(f"{self.__name__} has a rule, which takes arguments by position; {sorted(bound.kwargs)} "
                            "can be given by keyword only")
        args = bound.args
        others = {k % len(args) for k in self.nondiff_argnums}
        for k in others:
            if any(map(is_traced, flatten(args[k], is_leaf=lambda x: True)[0])):
                rec.unsupported(f"a traced value as argument {k} of {self.__name__}, one of its nondiff_argnums",
                                "its rule takes that argument as a constant; take it out of nondiff_argnums")
        names = list(self.signature.parameters)
        leaves, spec = flatten(tuple(x for k, x in enumerate(args) if k not in others),
                               f"the arguments {names} of {self.__name__} (others than numbers go in nondiff_argnums):",
                               is_leaf)
        leaves = [as_leaf(rec, leaf) for leaf in leaves]
        if not any(map(is_traced, leaves)):
            return self.fun(*args)
        self.check()
        whole = [not is_traced(x) and np.asarray(x).dtype.kind != "f" for x in leaves]  # integers and masks
        fixed = tuple(_constant(x) if w else None for x, w in zip(leaves, whole))
        operands = [x for x, w in zip(leaves, whole) if not w]
        orders = tuple(order_of(plain(x)) for x in operands)
        call = Call(self, {k: _constant(args[k]) for k in others}, spec, fixed, orders)
        copies = [np.array(plain(x)) for x in operands]
        given = [*copies, *filter(_is_array, (*fixed, *call.others.values()))]
        before = [*map(plain, operands), *map(np.array, given[len(copies) :])]
        try:
            with set_aside():
                result = self.fun(*call.arguments(copies))
        except Exception:  # the function may catch it
            rec.failed()
            raise
        require_unwritten(rec, self.__name__, given, before)
        results, out_spec = flatten(result, f"the result of {self.__name__}")
        if any(np.asarray(y).dtype.kind == "c" for y in results):
            rec.unsupported(f"a complex result of {self.__name__}", "derivatives here are those of real functions; "
                            "return real and imaginary parts as two arrays")
        values = [np.array(y, dtype=np.float64) for y in results]
        if not any(y.size for y in values) and any(map(np.size, operands)):
            rec.failed()  # no line is recorded, and nothing would tell that there are results at another point
        op = self.elemental(call, tuple(np.shape(x) for x in operands), out_spec, tuple(y.shape for y in values))
        found = joint(op, operands, self.__name__, values)
        found = [of_kind(rec, self.__name__, y, own) for y, own in zip(results, found)]
        sealed(rec, self.__name__, results, given, [*operands, *given[len(copies) :]], found)
        return unflatten(out_spec, found)

    def takes(self) -> dict[str, Any]:
        """What tells it from others, for files."""
        return {"parameters": list(self.signature.parameters), "nondiff_argnums": list(self.nondiff_argnums)}

    def check(self) -> None:
        """Raise `InputError` where no rule was given."""
        raise NotImplementedError

    def _without(self) -> InputError:
        return InputError(f"{self.__name__} has no rule: give it one with {self.__name__}.{self.rule_name}")


def _is_array(x: Any) -> bool:
    return isinstance(x, np.ndarray)


def _constant(x: Any) -> Any:
    """An argument that is no operand, as it is now."""
    return np.array(x) if isinstance(x, np.ndarray) else x


class custom_jvp(_Custom):
    """A function with its own rule for tangents (JAX's `custom_jvp`).

        @dd.custom_jvp
        def f(x, y): ...

        @f.defjvp
        def f_jvp(primals, tangents):
            x, y = primals
            xdot, ydot = tangents
            return f(x, y), ...

    The rule takes the arguments and their tangents (zeros for what is constant), each a tuple nested and shaped as the
    arguments, and returns f's result and the tangent of it.  It is linear in the tangents (at the first call it is
    asked for -2 t as well as for t, and `InputError` raised where that is not -2 times the other) and written in NumPy
    functions that have rules themselves, for transposed solves record it; second derivatives record it on traced
    arguments too.  f itself sees plain arrays and floats and may be anything, but writes into none that it is given.
    What it returns of whole numbers or truth values has no derivative: it decides, as `x.astype(int)` does.

    nondiff_argnums: arguments that are no arrays or have no derivative; the rule gets them first, one by one.

    Outside of a trace f is just called.  On several ranks f and its rule run on the rank that has its arguments, found
    there by module and name, or pickled; where neither works, on rank 0.  Raises `InputError` where the rule is missing
    or what it returns does not fit.
    """

    rule: Callable[..., Any] | None = None
    tried = False  # whether the rule was found to be linear
    elemental, rule_kind, rule_name, code = WithTangents, "custom_jvp", "defjvp", ("rule",)

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        super().__init__(fun, nondiff_argnums)

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Give the rule: rule(*nondiff, primals, tangents) -> (result, tangent of the result)."""
        self.rule, self.tried = rule, False
        return rule

    def check(self) -> None:
        if self.rule is None:
            raise self._without()


class custom_vjp(_Custom):
    """A function with its own rule for adjoints (JAX's `custom_vjp`).

        @dd.custom_vjp
        def f(x, y): ...

        def forward(x, y):
            return f(x, y), (x, y)              # the result, and what the backward rule wants of this point

        def backward(residuals, zbar):
            return xbar, ybar                   # one a differentiable argument; None where it is zero

        f.defvjp(forward, backward)

    zbar is nested and shaped as f's result, cotangents as the arguments.  The backward rule is linear in zbar and
    written in NumPy functions that have rules themselves: forward solves record it, as second derivatives record both
    rules on traced arguments.

    nondiff_argnums: arguments that are no arrays or have no derivative; the forward rule gets them where they are, the
    backward rule first, one by one.  The rest is as for `custom_jvp`.
    """

    forward: Callable[..., Any] | None = None
    backward: Callable[..., Any] | None = None
    tried = False  # whether the rule was found to be linear
    elemental, rule_kind, rule_name, code = WithAdjoints, "custom_vjp", "defvjp", ("forward", "backward")

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Give the two rules."""
        self.forward, self.backward, self.tried = forward, backward, False

    def check(self) -> None:
        if self.forward is None or self.backward is None:
            raise self._without()


__all__ = ["custom_jvp", "custom_vjp"]
