"""Rules by users: functions that bring their own derivative.

`custom_jvp` and `custom_vjp` are JAX's, for functions of arrays nested in any way; `elemental` registers an operation
by its partial derivatives, elementwise or with core axes.  Inside a trace a call becomes one joint statement: the
function is called on plain arrays and may be anything, compiled code included.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from functools import update_wrapper
from math import prod
from typing import Any

import numpy as np

from .drivers import vjp
from .errors import InputError, UnsupportedOperationError
from .ops import Elemental
from .tracing import is_leaf, running
from .tracing.active import set_aside
from .tracing.array import is_traced, plain
from .tracing.joint import joint
from .tracing.stretch import as_leaf
from .tracing.tree import Spec, flatten, unflatten

Shape = tuple[int, ...]
Product = Callable[[list[Any]], list[Any]]


class _Named:
    """A function with rules; it travels to other ranks by its name, or, where it has none, by what it is made of."""

    __name__: str
    __module__: str
    __qualname__: str

    def __reduce__(self) -> Any:
        found: Any = sys.modules.get(self.__module__)
        for name in self.__qualname__.split("."):
            found = getattr(found, name, None)
        return self.__qualname__ if found is self else object.__reduce_ex__(self, 2)


# -- functions with a rule for their tangents or their adjoints


class _Custom(_Named):
    """What `custom_jvp` and `custom_vjp` share: a call as a joint statement."""

    kind: type[_Ruled]
    rule_name: str

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        update_wrapper(self, fun)
        self.fun, self.nondiff_argnums = fun, tuple(nondiff_argnums)
        self._signature = inspect.signature(fun)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        rec = running()
        if rec is None:
            return self.fun(*args, **kwargs)
        bound = self._signature.bind(*args, **kwargs)
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
        names = list(self._signature.parameters)
        leaves, spec = flatten(tuple(x for k, x in enumerate(args) if k not in others),
                               f"the arguments {names} of {self.__name__} (others than numbers go in nondiff_argnums):",
                               is_leaf)
        leaves = [as_leaf(rec, leaf) for leaf in leaves]
        if not any(map(is_traced, leaves)):
            return self.fun(*args)
        self.check()
        whole = [not is_traced(x) and np.asarray(x).dtype.kind != "f" for x in leaves]  # integers and masks
        fixed = tuple((np.array(x) if np.ndim(x) else x) if w else None for x, w in zip(leaves, whole))
        call = _Call(self, {k: args[k] for k in others}, spec, fixed)
        operands = [x for x, w in zip(leaves, whole) if not w]
        with set_aside():
            result = self.fun(*call.arguments([plain(x) for x in operands]))
        results, out_spec = flatten(result, f"the result of {self.__name__}")
        results = [np.array(y, dtype=np.float64) for y in results]
        op = self.kind(call, tuple(np.shape(x) for x in operands), out_spec, tuple(y.shape for y in results))
        return unflatten(out_spec, joint(op, operands, self.__name__, results))

    def check(self) -> None:
        """Raise `InputError` where no rule was given."""
        raise NotImplementedError

    def _without(self) -> InputError:
        return InputError(f"{self.__name__} has no rule: give it one with {self.__name__}.{self.rule_name}")


class _Call:
    """How a function with a rule is called: its constant arguments, and how the others nest.

    others: arguments at nondiff_argnums, by number; fixed: integers and masks among the others' leaves, else None.
    """

    def __init__(self, function: _Custom, others: dict[int, Any], spec: Spec, fixed: tuple[Any, ...]) -> None:
        self.function, self.others, self.spec, self.fixed = function, others, spec, fixed

    def nested(self, leaves: Sequence[Any], fill: Callable[[Any], Any] | None = None) -> tuple[Any, ...]:
        """The differentiable arguments from the operands' leaves (or their tangents, `fill` for what is fixed)."""
        rest = iter(leaves)
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

    def key(self) -> tuple[Any, ...]:
        """Equal for calls that are the same function of their operands."""
        fixed = tuple((f.shape, f.dtype.str, f.tobytes()) if np.ndim(f) else (type(f), f) for f in self.fixed)
        others = tuple((k, type(x), x) if isinstance(x, (int, float, str, bool)) else (k, id(x))
                       for k, x in sorted(self.others.items()))
        return id(self.function), self.spec, fixed, others


class _Ruled(Elemental):
    """A call of a function with a rule: y = f(x), all leaves of arguments and results as core arrays.

    Subclasses say what pushes one xdot forward and what pulls one ybar back, one of them by transposing the other: the
    rule is linear in what it is given last, so what it records can be pulled back.  What is made at a point serves all
    right-hand sides there.
    """

    def __init__(self, call: _Call, core_in: tuple[Shape, ...], out_spec: Spec, core_out: tuple[Shape, ...]) -> None:
        self.call, self.out_spec = call, out_spec
        self.name, self.core_in, self.core_out = call.function.__name__, core_in, core_out

    def __reduce__(self) -> Any:
        return type(self), (self.call, self.core_in, self.out_spec, self.core_out)

    def __eq__(self, other: Any) -> bool:
        return type(other) is type(self) and other._key() == self._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        return self.call.key(), self.core_in, self.out_spec, self.core_out

    @property
    def reads(self) -> frozenset[int]:
        return frozenset(range(self.arity))

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        results, spec = flatten(self.call.function.fun(*self.call.arguments(x)), f"the result of {self.name}")
        if spec != self.out_spec or any(np.shape(y) != core for y, core in zip(results, self.core_out)):
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
        if spec != self.out_spec or any(np.shape(t) != core for t, core in zip(leaves, self.core_out)):
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


class _Jvp(_Ruled):
    """With a rule for tangents."""

    def pusher(self, x: list[Any]) -> Product:
        call, function = self.call, self.call.function

        def push(xdot: list[Any]) -> list[Any]:
            tangents = call.nested(xdot, fill=lambda f: np.zeros(np.shape(f)))
            found = function.rule(*call.nondiff, call.nested(x), tangents)
            if not isinstance(found, (tuple, list)) or len(found) != 2:
                raise InputError(f"the jvp rule of {self.name} must return (result, tangent of the result)")
            return self.results(found[1], f"the tangent that the jvp rule of {self.name} returned")

        return push

    def puller(self, x: list[Any], wanted: tuple[bool, ...]) -> Product:
        push, zeros = self.pusher(x), [np.zeros(core) for core in self.core_in]
        numbers = [k for k, (want, core) in enumerate(zip(wanted, self.core_in)) if want and prod(core)]
        if not numbers:
            return lambda ybar: [None] * self.arity

        def linear(*tangents: Any) -> list[Any]:
            full: list[Any] = list(zeros)
            for k, t in zip(numbers, tangents):
                full[k] = t
            return push(full)

        transposed = _transposed(linear, [zeros[k] for k in numbers], self.name, "jvp")

        def pull(ybar: list[Any]) -> list[Any]:
            found: list[Any] = [None] * self.arity
            for k, xbar in zip(numbers, transposed(ybar)):
                found[k] = xbar
            return found

        return pull


class _Vjp(_Ruled):
    """With a rule for adjoints, in two parts: what the first keeps is found once a point."""

    def _residuals(self, x: list[Any]) -> Any:
        found = self.call.function.forward(*self.call.arguments(x))
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise InputError(f"the forward rule of {self.name} must return (result, residuals)")
        return found[1]

    def puller(self, x: list[Any], wanted: tuple[bool, ...]) -> Product:
        call, residuals = self.call, self.at(x, "residuals", self._residuals)

        def pull(ybar: list[Any]) -> list[Any]:
            seeds = unflatten(self.out_spec, [w[()] if type(w) is np.ndarray and not w.ndim else w for w in ybar])
            return self._cotangents(call.function.backward(*call.nondiff, residuals, seeds), wanted)

        return pull

    def _cotangents(self, found: Any, wanted: Sequence[bool]) -> list[Any]:
        """What the backward rule gave for the arguments, as leaves."""
        call = self.call
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
            if given != spec:
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
        return lambda xdot: transposed([xdot[k] for k in moving])


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
    arguments, and returns f's result and the tangent of it.  It is linear in the tangents and written in NumPy
    functions that have rules themselves, for transposed solves record it; second derivatives record it on traced
    arguments too.  f itself sees plain arrays and floats and may be anything.

    nondiff_argnums: arguments that are no arrays or have no derivative; the rule gets them first, one by one.

    Outside of a trace f is just called.  On several ranks f and its rule run on the rank that has its arguments, found
    there by module and name, or pickled; where neither works, on rank 0.  Raises `InputError` where the rule is missing
    or what it returns does not fit.
    """

    rule: Callable[..., Any] | None = None
    kind, rule_name = _Jvp, "defjvp"

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        super().__init__(fun, nondiff_argnums)

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Give the rule: rule(*nondiff, primals, tangents) -> (result, tangent of the result)."""
        self.rule = rule
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
    rules on traced arguments.  f itself sees plain arrays and floats and may be anything.

    nondiff_argnums: arguments that are no arrays or have no derivative; the forward rule gets them where they are, the
    backward rule first, one by one.  The rest is as for `custom_jvp`.
    """

    forward: Callable[..., Any] | None = None
    backward: Callable[..., Any] | None = None
    kind, rule_name = _Vjp, "defvjp"

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Give the two rules."""
        self.forward, self.backward = forward, backward

    def check(self) -> None:
        if self.forward is None or self.backward is None:
            raise self._without()


# -- operations given by their partial derivatives


class _Registered(_Named):
    """An operation given by value and partials; made by `elemental`."""

    def __init__(self, value: Callable[..., Any], partials: Sequence[Any], second: Any, signature: str | None,
                 name: str | None) -> None:
        update_wrapper(self, value)
        if name is not None:
            self.__name__ = name
        self.value, self.partials, self.second = value, tuple(partials), second
        self.ins, self.out = _signature(signature, len(self.partials))
        if second is not None:
            ok = len(second) == len(self.partials) and all(
                row is None or len(row) == len(self.partials) for row in second)
            if not ok:
                raise InputError(f"the second partials of {self.__name__} must be a row for each of the "
                                 f"{len(self.partials)} operands, each with as many entries")

    def __call__(self, *operands: Any) -> Any:
        if len(operands) != len(self.partials):
            raise TypeError(f"{self.__name__} takes {len(self.partials)} operands but {len(operands)} were given")
        if running() is None or not any(is_traced(x) for x in map(_held, operands)):
            return self.value(*operands)
        operands = tuple(map(_held, operands))
        return joint(_Partial(self, (), *self._cores(operands)), operands, self.__name__)[0]

    def _cores(self, operands: Sequence[Any]) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
        sizes: dict[str, int] = {}
        cores = []
        for k, (x, axes) in enumerate(zip(operands, self.ins)):
            shape = np.shape(x)
            core = shape[len(shape) - len(axes) :]
            if len(core) != len(axes) or any(sizes.setdefault(a, n) != n for a, n in zip(axes, core)):
                raise ValueError(f"{self.__name__}: operand {k} has shape {shape}, whose last axes are not "
                                 f"({', '.join(f'{a}={sizes[a]}' if a in sizes else a for a in axes)})")
            cores.append(core)
        return tuple(cores), (tuple(sizes[a] for a in self.out),)

    def rule(self, path: tuple[int, ...]) -> Any:
        """The partial along a path of operands, "unknown" where it is not given, None where it is zero."""
        if len(path) == 1:
            return self.partials[path[0]]
        if self.partials[path[0]] is None:
            return None
        if len(path) > 2 or self.second is None:
            return "unknown"
        row = self.second[path[0]]
        return None if row is None else row[path[1]]


class _Partial(Elemental):
    """A registered operation, or its partial along a path of operands, whose cores follow those of the result."""

    def __init__(self, function: _Registered, path: tuple[int, ...], core_in: tuple[Shape, ...],
                 core_out: tuple[Shape, ...]) -> None:
        self.function, self.path, self.core_in, self.core_out = function, path, core_in, core_out
        self.name = function.__name__ if not path else f"partial derivative {path} of {function.__name__}"
        self.inert = frozenset(k for k in range(len(core_in)) if function.rule((*path, k)) is None)

    def __reduce__(self) -> Any:
        return _Partial, self._key()

    def _key(self) -> tuple[Any, ...]:
        return self.function, self.path, self.core_in, self.core_out

    def __eq__(self, other: Any) -> bool:
        return type(other) is _Partial and other._key() == self._key()

    def __hash__(self) -> int:
        return hash((id(self.function), *self._key()[1:]))

    @property
    def reads(self) -> frozenset[int]:
        return frozenset(range(-1, self.arity)) if not self.path else frozenset(range(self.arity))

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        x = tuple(part[()] for part in x)
        y = self.function.value(*x)
        if self.path:
            y = self.function.rule(self.path)(y, *x)
        loops = (np.shape(part)[: np.ndim(part) - len(core)] for part, core in zip(x, self.core_in))
        loop = np.broadcast_shapes(*loops)
        return (np.broadcast_to(np.asarray(y, dtype=np.float64), loop + self.core_out[0]),)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        total = None
        for k, t in enumerate(xdot):
            if t is None or k in self.inert:
                continue
            axes = len(self.core_in[k])
            t = t[(..., *(np.newaxis,) * len(self.core_out[0]), *(slice(None),) * axes)]
            term = self._partial(k, y, x) * t
            term = np.sum(term, axis=tuple(range(-axes, 0))) if axes else term
            total = term if total is None else total + term
        return (total,)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        found: list[Any] = []
        outer = len(self.core_out[0])
        for k, core in enumerate(self.core_in):
            if not wanted[k] or k in self.inert:
                found.append(None)
                continue
            term = self._partial(k, y, x) * ybar[0][(..., *(np.newaxis,) * len(core))]
            inner = tuple(range(-outer - len(core), -len(core)))
            found.append(np.sum(term, axis=inner) if outer else term)
        return found

    def _partial(self, k: int, y: Sequence[Any], x: Sequence[Any]) -> Any:
        """dG/dx_k, (*loop, *core_out, *core_in[k]), on traced arrays a joint statement itself."""
        path = (*self.path, k)
        if self.function.rule(path) == "unknown":
            order = "second partials (second=)" if len(path) == 2 else "no partials of higher order than the second"
            can = "were not given" if len(path) == 2 else "can be given"
            raise UnsupportedOperationError(
                f"a derivative of order {len(path)} of {self.function.__name__} is wanted, for which {order} {can}; "
                "write the operation in NumPy functions, or give it rules by custom_jvp")
        op = _Partial(self.function, path, self.core_in, (self.core_out[0] + self.core_in[k],))
        if any(map(is_traced, x)):
            return joint(op, x)[0]
        if not self.path:
            rule = self.function.rule(path)
            return np.asarray(rule(y[0][()], *(part[()] for part in x)), dtype=np.float64)
        return op.value(*x)[0]


def elemental(value: Callable[..., Any] | None = None, *, partials: Sequence[Callable[..., Any] | None],
              second: Sequence[Any] | None = None, signature: str | None = None, name: str | None = None) -> Any:
    """Register an operation y = value(x_1, ..., x_r) by its partial derivatives; a decorator, or a call.

        @dd.elemental(partials=[lambda y, x, n: y * n / x, None])
        def power(x, n): ...                            # elementwise: arrays of one shape after broadcasting

        norm = dd.elemental(value, partials=[...], signature="(n)->()")

    partials[k](y, *x) is dy/dx_k over the broadcast shape; None: zero.  With a signature (as of NumPy's generalized
    ufuncs, with one result) operands have core axes, axes in front are loop axes, and partials[k] has shape
    (*loop, *result's core, *core of x_k).  second[k][l](y, *x) is d^2 y/dx_k dx_l, with the core of x_l as well; None:
    zero, and so is a row.  All are called on plain arrays that broadcast, so they may lead into compiled code.

    Loop axes are cut over ranks as array code is.  A derivative of an order that is not given raises
    `UnsupportedOperationError`.
    """
    def register(function: Callable[..., Any]) -> _Registered:
        return _Registered(function, partials, second, signature, name)

    return register if value is None else register(value)


def _held(x: Any) -> Any:
    rec = running()
    return x if rec is None or not is_leaf(x) else as_leaf(rec, x)


def _signature(text: str | None, n: int) -> tuple[list[list[str]], list[str]]:
    """The names of the core axes of the operands and of the result."""
    if text is None:
        return [[] for _ in range(n)], []
    core = r"\(\s*(?:\w+\s*(?:,\s*\w+\s*)*)?\)"
    if not re.fullmatch(rf"\s*{core}\s*(,\s*{core}\s*)*->\s*{core}\s*", text):
        raise InputError(f"signature {text!r} is not like '(n,n),(n)->(n)': core axes of operands and of one result")
    ins, out = ([re.findall(r"\w+", part) for part in re.findall(core, side)] for side in text.split("->"))
    if len(ins) != n:
        raise InputError(f"signature {text!r} has {len(ins)} operands, but {n} partials are given")
    if not set(out[0]) <= {a for axes in ins for a in axes}:
        raise InputError(f"signature {text!r}: every axis of the result must be one of an operand's")
    return ins, out[0]


__all__ = ["custom_jvp", "custom_vjp", "elemental"]
