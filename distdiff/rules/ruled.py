"""What a call of a function with its own rule is on a tape: a joint statement, whose products ask the rule.

A rule says what pushes one xdot forward, or what pulls one ybar back.  It is linear in what it is given last, so what
it records there can be pulled back: one direction is had from the other by transposing it.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from functools import cached_property
from math import prod
from typing import Any, Protocol

import numpy as np

from ..drivers import vjp
from ..errors import InputError, UnsupportedOperationError
from ..ops import Elemental
from ..snapshot import kept, same
from ..storage.rules import constant_from_json, constant_to_json
from ..storage.trees import from_json, to_json
from ..tracing import is_leaf
from ..tracing.array import is_traced
from ..tracing.tree import Spec, alike, flatten, unflatten
from .called import in_order

Shape = tuple[int, ...]
LINEAR = 1e-6  # of the largest entry: what rounding may leave of a linear rule
Product = Callable[[list[Any]], list[Any]]


class Ruled(Protocol):
    """A function with a rule, for tangents (`rule`) or for adjoints (`forward`, `backward`)."""

    fun: Callable[..., Any]
    nondiff_argnums: tuple[int, ...]
    signature: inspect.Signature
    tried: bool  # whether the rule was found to be linear
    rule: Any
    forward: Any
    backward: Any
    __name__: str

    def check(self) -> None:
        """Raise `InputError` where no rule was given."""


class Call:
    """How a function with a rule is called: its constant arguments, and how the others nest.

    others: arguments at nondiff_argnums, by number; fixed: integers and masks among the others' leaves, else None;
    orders: in which the axes of those that are None lie in memory (`called.order_of`).
    """

    def __init__(self, function: Ruled, others: dict[int, Any], spec: Spec, fixed: tuple[Any, ...],
                 orders: tuple[tuple[int, ...], ...]) -> None:
        self.function, self.others, self.spec, self.fixed, self.orders = function, others, spec, fixed, orders

    def nested(self, leaves: Sequence[Any], fill: Callable[[Any], Any] | None = None) -> tuple[Any, ...]:
        """The differentiable arguments from the operands' leaves (or their tangents, `fill` for what is fixed)."""
        rest = map(in_order, leaves, self.orders)
        full = [next(rest) if f is None else f if fill is None else fill(f) for f in self.fixed]
        return unflatten(self.spec, [x[()] if type(x) is np.ndarray and not x.ndim else x for x in full])

    def arguments(self, leaves: Sequence[Any]) -> list[Any]:
        """All arguments, in order."""
        rest = iter(self.nested(leaves))
        return [self.others[k] if k in self.others else next(rest)
                for k in range(len(self.others) + len(self.spec.children))]

    @property
    def nondiff(self) -> list[Any]:
        return [self.others[k] for k in sorted(self.others)]

    def parameters(self) -> dict[str, Any]:
        """All but the function, as JSON."""
        orders = {"orders": self.orders} if any(self.orders) else {}
        return {"others": [[k, constant_to_json(x)] for k, x in self.others.items()], "nested": to_json(self.spec),
                "fixed": [None if x is None else [constant_to_json(x)] for x in self.fixed], **orders}

    @classmethod
    def of(cls, function: Ruled, parameters: dict[str, Any]) -> Call:
        """That of `parameters`, which may be anything."""
        others = {k: constant_from_json(x) for k, x in parameters["others"]}
        spec = from_json(parameters["nested"])
        fixed = tuple(None if x is None else constant_from_json(*x) for x in parameters["fixed"])
        n = len(others) + len(spec.children)
        if spec.kind != "tuple" or len(fixed) != spec.n_leaves or set(others) != {
                k % n for k in function.nondiff_argnums}:
            raise ValueError("it has other arguments")
        function.signature.bind(*range(n))
        orders = tuple(map(tuple, parameters.get("orders") or [()] * sum(x is None for x in fixed)))
        return cls(function, others, spec, fixed, orders)

    def key(self) -> tuple[Any, ...]:
        """Equal for calls that are the same function of their operands."""
        others = sorted(self.others.items())
        return (id(self.function), self.spec, self.orders, tuple(map(_identity, self.fixed)),
                tuple((k, _identity(x)) for k, x in others))


def _identity(x: Any) -> Any:
    """Equal for constants that are the same to a function: numbers, text and arrays by value."""
    if isinstance(x, np.ndarray) and x.dtype.kind != "O":
        return x.shape, x.dtype.str, hashlib.blake2b(np.ascontiguousarray(x)).digest()
    return (type(x), x) if isinstance(x, (int, float, str, np.generic, type(None))) else id(x)


class _Statement(Elemental):
    """A call of a function with a rule: y = f(x), all leaves of arguments and results as core arrays.

    Subclasses say what pushes one xdot forward and what pulls one ybar back, one of them by transposing the other: the
    rule is linear in what it is given last, so what it records can be pulled back.  What is made at a point serves all
    right-hand sides there.
    """

    name: str
    core_in: tuple[Shape, ...]
    core_out: tuple[Shape, ...]

    def __init__(self, call: Call, core_in: tuple[Shape, ...], out_spec: Spec, core_out: tuple[Shape, ...]) -> None:
        self.call, self.out_spec = call, out_spec
        self.name, self.core_in, self.core_out = call.function.__name__, core_in, core_out

    @property
    def rule(self) -> Ruled:
        return self.call.function

    def parameters(self) -> dict[str, Any]:
        """In files."""
        return {**self.call.parameters(), "cores": self.core_in, "result": to_json(self.out_spec),
                "results": self.core_out}

    @classmethod
    def of(cls, function: Ruled, parameters: dict[str, Any]) -> _Statement:
        """That of `parameters`, which may be anything."""
        function.check()
        call, out_spec = Call.of(function, parameters), from_json(parameters["result"])
        core_in, core_out = (tuple(map(tuple, parameters[key])) for key in ("cores", "results"))
        if len(core_in) != sum(x is None for x in call.fixed) or len(core_out) != out_spec.n_leaves:
            raise ValueError("it has other operands or results")
        if len(call.orders) != len(core_in) or any(
                order and (not all(type(k) is int for k in order) or sorted(order) != list(range(len(core))))
                for order, core in zip(call.orders, core_in)):
            raise ValueError("its operands have other axes")
        return cls(call, core_in, out_spec, core_out)

    def __reduce__(self) -> Any:
        return type(self), (self.call, self.core_in, self.out_spec, self.core_out)

    def __eq__(self, other: Any) -> bool:
        return type(other) is type(self) and other._key == self._key

    def __hash__(self) -> int:
        return hash(self._key)

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        return self.call.key(), self.core_in, self.out_spec, self.core_out

    @property
    def reads(self) -> frozenset[int]:
        return frozenset(range(self.arity))

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        result = self.call.function.fun(*self.call.arguments([np.array(part) for part in x]))
        results, spec = flatten(result, f"the result of {self.name}")
        if not alike(spec, self.out_spec) or any(np.shape(y) != core for y, core in zip(results, self.core_out)):
            raise InputError(f"{self.name} gave results of another nesting or other shapes than when it was traced")
        return results

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        x = self._single(x)
        return _by_columns(self.at(x, "push", self.pusher), xdot, self.core_in)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        x, wanted = self._single(x), tuple(wanted)
        return _by_columns(self.at(x, wanted, lambda x: self.puller(x, wanted)), ybar, self.core_out)

    def _single(self, x: Sequence[Any]) -> list[Any]:
        """x at the one loop index there is: inside a trace there is a loop axis, of length 1."""
        return [part[0] if np.ndim(part) > len(core) else part for part, core in zip(x, self.core_in)]

    def at(self, x: list[Any], what: Any, make: Callable[[list[Any]], Any]) -> Any:
        """What is made at a point, once there; on traced arrays each time."""
        if any(map(is_traced, x)):
            return make(x)
        point, made = self.__dict__.get("_made") or (None, {})
        if point is None or not all(map(np.array_equal, point, x)):
            point, made = self._made = [np.array(part) for part in x], {}  # x is overwritten with the next point
        if what not in made:
            made[what] = make(point)
        return made[what]

    def pusher(self, x: list[Any]) -> Product:
        """xdot -> J xdot, one array a result."""
        raise NotImplementedError

    def puller(self, x: list[Any], wanted: tuple[bool, ...]) -> Product:
        """ybar -> J^T ybar, one array an operand, None where it is not wanted."""
        raise NotImplementedError

    def results(self, tree: Any, what: str) -> list[Any]:
        """What a rule gave for the results, as leaves."""
        leaves, spec = flatten(tree, what, is_leaf)
        if not alike(spec, self.out_spec) or any(np.shape(t) != core for t, core in zip(leaves, self.core_out)):
            raise InputError(f"{what} is nested as {spec} with shapes {[np.shape(t) for t in leaves]}; the function's "
                             f"result is nested as {self.out_spec} with shapes {list(self.core_out)}")
        return leaves


def _by_columns(product: Product, seeds: Sequence[Any], cores: Sequence[Shape]) -> list[Any]:
    """product of the seeds, zeros in the place of None; those with one more axis in front column by column."""
    widths = {len(s) for s, core in zip(seeds, cores) if s is not None and np.ndim(s) > len(core)}
    full = [np.zeros(core) if s is None else s for s, core in zip(seeds, cores)]
    if not widths:
        return product(full)
    (width,) = widths
    full = [s if np.ndim(s) > len(core) else np.broadcast_to(s, (width, *core)) for s, core in zip(full, cores)]
    columns = [product([s[i] for s in full]) for i in range(width)]
    return [None if parts[0] is None else np.stack(parts) for parts in zip(*columns)]


def _transposed(linear: Callable[..., list[Any]], at: list[Any], name: str, rule: str) -> Product:
    """The transpose of a linear function of arrays of the shapes of `at`."""
    try:
        return vjp(lambda *t: linear(*t), *at, method="sweep")[1]
    except UnsupportedOperationError as error:
        raise UnsupportedOperationError(
            f"the {rule} rule of {name} is wanted in the other direction, so it is recorded, and can't be: {error}"
        ) from error


def _own(x: Sequence[Any]) -> list[Any]:
    """Copies: a rule may write into what it is given, which is others' memory."""
    return [part.copy() if isinstance(part, np.ndarray) and part.ndim else part for part in x]


def _off_linear(once: list[Any], back: list[Any]) -> float:
    """By how much f(-2 t) = -2 f(t) is missed, where that is more than rounding; 0 where it holds."""
    for y, z in zip(once, back):
        if y is not None and z is not None:
            off = np.abs(2.0 * np.asarray(y) + np.asarray(z)).max(initial=0.0)
            if off > LINEAR * np.abs(y).max(initial=0.0):
                return float(off)
    return 0.0


class WithTangents(_Statement):
    """With a rule for tangents."""

    def pusher(self, x: list[Any]) -> Product:
        push = self._rule_at(x)

        def first(xdot: list[Any]) -> list[Any]:
            self._try(push, x, xdot)
            return push(xdot)

        return first

    def _try(self, push: Product, x: list[Any], xdot: list[Any]) -> None:
        """Raise `InputError` unless f(-2 t) = -2 f(t) for the rule f: once a function, at the first plain t."""
        function = self.call.function
        if function.tried or any(map(is_traced, (*x, *xdot))) or not any(map(np.any, xdot)):
            return
        off = _off_linear(push(list(xdot)), push([-2.0 * np.asarray(t) for t in xdot]))
        if off:
            raise InputError(f"the jvp rule of {self.name} is not linear in the tangents: for -2 t it returned a "
                             f"tangent that differs by {off:.3g} from -2 times that for t; a rule is the product "
                             "J(primals) t")
        function.tried = True

    def _rule_at(self, x: list[Any]) -> Product:
        call, function = self.call, self.call.function

        def push(xdot: list[Any]) -> list[Any]:
            tangents = call.nested(_own(xdot), fill=lambda f: np.zeros(np.shape(f)))
            found = function.rule(*call.nondiff, call.nested(_own(x)), tangents)
            if not isinstance(found, (tuple, list)) or len(found) != 2:
                raise InputError(f"the jvp rule of {self.name} must return (result, tangent of the result)")
            return self.results(found[1], f"the tangent that the jvp rule of {self.name} returned")

        return push

    def puller(self, x: list[Any], wanted: tuple[bool, ...]) -> Product:
        push, zeros = self._rule_at(x), [np.zeros(core) for core in self.core_in]
        numbers = [k for k, (want, core) in enumerate(zip(wanted, self.core_in)) if want and prod(core)]
        if not numbers:
            return lambda ybar: [None] * self.arity

        def linear(*tangents: Any) -> list[Any]:
            full: list[Any] = list(zeros)
            for k, t in zip(numbers, tangents):
                full[k] = t
            return push(full)

        transposed = _transposed(linear, [zeros[k] for k in numbers], self.name, "jvp")
        self._try(push, x, [np.cos(1.0 + np.arange(prod(core)).reshape(core)) if k in numbers else zeros[k]
                            for k, core in enumerate(self.core_in)])

        def pull(ybar: list[Any]) -> list[Any]:
            found: list[Any] = [None] * self.arity
            for k, xbar in zip(numbers, transposed(ybar)):
                found[k] = xbar
            return found

        return pull


class WithAdjoints(_Statement):
    """With a rule for adjoints, in two parts: what the first keeps is found once a point."""

    def _residuals(self, x: list[Any]) -> Any:
        found = self.call.function.forward(*self.call.arguments(_own(x)))
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise InputError(f"the forward rule of {self.name} must return (result, residuals)")
        return found[1]

    def puller(self, x: list[Any], wanted: tuple[bool, ...]) -> Product:
        call, residuals = self.call, self.at(x, "residuals", self._residuals)

        def rule(ybar: list[Any]) -> list[Any]:
            seeds = unflatten(self.out_spec, [w[()] if type(w) is np.ndarray and not w.ndim else w for w in _own(ybar)])
            return self._cotangents(call.function.backward(*call.nondiff, residuals, seeds), wanted)

        def pull(ybar: list[Any]) -> list[Any]:
            if call.function.tried or any(map(is_traced, (*x, *ybar))):
                return rule(ybar)
            before, found = kept(residuals), _own(rule(ybar))
            off = self._off(rule, ybar, found)
            if not same(before, residuals):
                raise InputError(f"the backward rule of {self.name} writes into its residuals, which the forward rule "
                                 "gives once for all cotangents at a point: write c = c * w there for c *= w")
            if off:
                raise InputError(f"the backward rule of {self.name} is not linear in the cotangents: for -2 w it "
                                 f"returned what differs by {off:.3g} from -2 times that for w; a rule is the product "
                                 "J(x)^T w. What does more to a gradient, clips it say, is for the gradient when it "
                                 "is there")
            return found

        return pull

    def _off(self, rule: Product, ybar: list[Any], found: list[Any]) -> float:
        """By how much the rule misses -2 times what it found where it is given -2 ybar: tried once a function, at the
        first plain ybar."""
        if not any(map(np.any, ybar)):
            return 0.0
        off = _off_linear(found, rule([-2.0 * np.asarray(w) for w in ybar]))
        self.call.function.tried = not off
        return off

    def _cotangents(self, found: Any, wanted: Sequence[bool]) -> list[Any]:
        """What the backward rule gave for the arguments, as leaves."""
        call = self.call
        if found is None:
            raise InputError(f"the backward rule of {self.name} returned None: it must return a cotangent for each of "
                             "the differentiable arguments, in a tuple, None in the place of what is zero (is a return "
                             "missing?)")
        found = tuple(found) if isinstance(found, (tuple, list)) else (found,)
        if len(found) != len(call.spec.children):
            raise InputError(f"the backward rule of {self.name} returned {len(found)} cotangents for "
                             f"{len(call.spec.children)} differentiable arguments; None stands for zero")
        leaves: list[Any] = []
        for k, (xbar, spec) in enumerate(zip(found, call.spec.children)):
            n = spec.n_leaves
            if xbar is None or all(f is not None for f in call.fixed[len(leaves) : len(leaves) + n]):
                leaves += [None] * n
                continue
            what = f"the cotangent of argument {k} that the backward rule of {self.name} returned"
            mine, given = flatten(xbar, what, is_leaf)
            if not alike(given, spec):
                raise InputError(f"{what} is nested as {given}; the argument is nested as {spec}")
            leaves += mine
        leaves = [xbar for xbar, f in zip(leaves, call.fixed) if f is None]
        for xbar, core, want in zip(leaves, self.core_in, wanted):
            if want and xbar is not None and np.shape(xbar) != core:
                raise InputError(f"the backward rule of {self.name} returned a cotangent of shape {np.shape(xbar)} for "
                                 f"an argument of shape {core}")
        return leaves

    def pusher(self, x: list[Any]) -> Product:
        everything = (True,) * self.arity
        pull = self.at(x, everything, lambda x: self.puller(x, everything))
        moving = [k for k, core in enumerate(self.core_in) if prod(core)]

        def linear(*ybar: Any) -> list[Any]:
            xbar = pull(list(ybar))
            return [np.zeros(self.core_in[k]) if xbar[k] is None else xbar[k] for k in moving]

        transposed = _transposed(linear, [np.zeros(core) for core in self.core_out], self.name, "backward")
        if not self.call.function.tried:
            pull([np.cos(1.0 + np.arange(prod(core)).reshape(core)) for core in self.core_out])
        return lambda xdot: transposed([xdot[k] for k in moving])


__all__ = ["Call", "Ruled", "Shape", "WithAdjoints", "WithTangents"]
