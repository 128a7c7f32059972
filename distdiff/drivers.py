"""The functional face: a few lines each on top of `Linearization`.

All of these are collective on the communicator (`comm=`, default `MPI.COMM_WORLD`), rank 0's arguments count, and
results come back on every rank.  Keyword arguments after `argnums` and `has_aux` are those of `linearize`, which also
says what they raise.  J is the derivative of the result at the point, J_ij = df_i/dx_j over all elements of both.

Inside a function that one of them differentiates they work on traced values, and nothing is collective: derivatives of
derivatives are these functions applied to each other, `grad(grad(f))`, `jvp(grad(f), ...)`, to any order.  The settings
of the outermost count.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import wraps
from typing import Any

import numpy as np

from .comm import agreed, calling, chosen, on_root
from .errors import InputError, NonFiniteError
from .linearization import Linearization, linearize
from .nest import names_of, require_number
from .nested import NestedLinearization, refuse_inside
from .program import Program
from .single import Single, single
from .solvers.layouts import ONE_JACOBIAN, Use
from .tracing import HasJoint, running
from .tracing import trace as _trace


def value_and_grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False,
                   **settings: Any) -> Callable[..., Any]:
    """A function of the same arguments returning (f(x), grad f(x)), or ((f(x), aux), grad f(x)) with `has_aux`.

    grad f = J^T 1, by one transposed solve, nested and shaped as the argument (a tuple of such if `argnums` is one).
    f must return one real number; raises `InputError` otherwise.
    """

    @wraps(f)
    @calling("grad or value_and_grad")
    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        alone = single(f, args, argnums, kwargs, has_aux, settings) if running() is None else None
        if alone is not None and alone.small:
            require_number(alone.traced.result)
            gradient = alone.pullback(np.ones(1))
            if gradient is not None:
                return ((alone.value, alone.aux) if has_aux else alone.value), gradient
        with _at(f, *args, argnums=argnums, has_aux=has_aux, kwargs=kwargs, alone=alone, **settings) as lin:
            with agreed(lin.comm):
                require_number(lin.value)
            gradient = lin.vjp(1.0)
            return ((lin.value, lin.aux) if has_aux else lin.value), gradient

    return value_and_gradient


def grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False,
         **settings: Any) -> Callable[..., Any]:
    """A function of the same arguments returning the gradient of f, J^T 1, or (gradient, aux) with `has_aux`; see
    `value_and_grad`.
    """
    both = value_and_grad(f, argnums, has_aux, **settings)

    @wraps(f)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient


@calling("jvp")
def jvp(f: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...], has_aux: bool = False,
        **settings: Any) -> Any:
    """(f(x), J xdot), by one forward solve: the value, and the derivative along `tangents`, nested and shaped alike;
    with aux, a third.

    Both are tuples with one entry an argument of f, `jvp(f, (x,), (v,))`, nested and shaped alike; raises `InputError`
    where they are not.
    """
    _by_all("jvp", settings)
    _require_tuples("jvp", primals, tangents, settings.get("comm"))
    numbers = tuple(range(len(primals)))
    alone = single(f, tuple(primals), numbers, {}, has_aux, settings) if running() is None else None
    if alone is not None and alone.small:
        derivative = alone.pushforward(tuple(tangents))
        if derivative is not None:
            return (alone.value, derivative, alone.aux) if has_aux else (alone.value, derivative)
    with _at(f, *primals, argnums=numbers, has_aux=has_aux, alone=alone, **settings) as lin:
        derivative = lin.jvp(*tangents)
        return (lin.value, derivative, lin.aux) if has_aux else (lin.value, derivative)


class Pullback:
    """ybar -> J^T ybar at a fixed point, one result an argument.  Collective; `close` frees what it holds."""

    def __init__(self, linearization: Linearization | NestedLinearization) -> None:
        self.linearization = linearization

    def __call__(self, cotangent: Any) -> Any:
        return self.linearization.vjp(cotangent)

    def close(self) -> None:
        self.linearization.close()

    def __enter__(self) -> Pullback:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@calling("vjp")
def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False, **settings: Any) -> Any:
    """(f(x), pullback), by no solve; with aux, a third.  Tracing is done once, pullbacks are as many as are wanted.

    pullback(ybar) = J^T ybar, by one transposed solve, takes what is nested and shaped as f(x) and gives a tuple with
    one entry a primal; raises `InputError` for other shapes.  It holds the linearization until `pullback.close()`.
    """
    _by_all("vjp", settings)
    lin = _at(f, *primals, argnums=tuple(range(len(primals))), has_aux=has_aux, **settings)
    return (lin.value, Pullback(lin), lin.aux) if has_aux else (lin.value, Pullback(lin))


def jacobian(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False,
             **settings: Any) -> Callable[..., Any]:
    """A function of the same arguments returning f's dense Jacobian, or (Jacobian, aux) with `has_aux`.

    For one array in and one out its shape is out.shape + in.shape; for nested results or arguments, the result's
    nesting holding the arguments' nesting holding such blocks.  As many right-hand sides as inputs, or as outputs where
    there are fewer.
    """

    @wraps(f)
    @calling("jacobian")
    def dense(*args: Any, **kwargs: Any) -> Any:
        told = {"solves": ONE_JACOBIAN, **settings}
        with _at(f, *args, argnums=argnums, has_aux=has_aux, kwargs=kwargs, **told) as lin:
            return (lin.jacobian(), lin.aux) if has_aux else lin.jacobian()

    return dense


@calling("hvp")
def hvp(f: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...], has_aux: bool = False,
        **settings: Any) -> Any:
    """H v, the Hessian of f at `primals` times the vector `tangents`; with aux, a pair of that and aux.

    H is d^2 f / dx^2 over all primals; the result is nested and shaped as the primal, or as the tuple of them if there
    are several.  f must return one real number.  H v = J v of the gradient, one forward solve over its program.
    Both are tuples with one entry an argument of f: `hvp(f, (x,), (v,))`.
    """
    _by_all("hvp", settings)
    _require_tuples("hvp", primals, tangents, settings.get("comm"))
    argnums = tuple(range(len(primals))) if len(primals) != 1 else 0
    alone = None
    if running() is None:
        with suppress(HasJoint):
            alone = single(f, tuple(primals), argnums, {}, has_aux, settings, joints=False)
    if alone is not None:
        require_number(alone.traced.result)
        product = alone.second(tuple(tangents))
        if product is NotImplemented:  # the gradient of what was traced has to be recorded
            product = None
            with suppress(NonFiniteError):  # to be told with the line, which the function's own run knows
                _, product = jvp(grad(alone.again, argnums), primals, tangents, **settings)
        if product is not None:
            return (product, alone.aux) if has_aux else product
    gradient = grad(f, argnums, has_aux)
    _, product, *aux = jvp(gradient, primals, tangents, has_aux, **settings)
    return (product, *aux) if has_aux else product


def hessian(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False,
            **settings: Any) -> Callable[..., Any]:
    """A function of the same arguments returning f's dense Hessian, the Jacobian of its gradient.

    For one array x its shape is x.shape + x.shape; for nested or several arguments, their nesting holding their nesting
    holding such blocks.  f must return one real number.  Symmetric up to rounding.
    """
    return calling("hessian")(jacobian(grad(f, argnums, has_aux), argnums, has_aux, **settings))


@calling("trace")
def trace(f: Callable[..., Any], *args: Any, argnums: int | tuple[int, ...] = 0, comm: Any = None) -> Program:
    """The tape of f at `args`: its flattened structure, to be saved, and used as a function.  Collective.

    The tape takes the arguments at `argnums`, the others are constants in it: `tape.save(path)`,
    `dd.linearize(tape, x)`, `dd.grad(tape)(x)`, `tape(x)`.  It stays on rank 0; other ranks get an empty one, to be
    handed to the same calls.
    """
    refuse_inside()
    traced = on_root(chosen(comm), lambda: _trace(f, args, argnums=argnums), share=False)
    return Program() if traced is None else Program(**vars(traced.tape), names=names_of(f, argnums))


def _by_all(name: str, settings: dict[str, Any]) -> None:
    """Refuse what says by which arguments, where it is by all."""
    for word in ("argnums", "kwargs"):
        if word in settings:
            primals = "x" if name == "vjp" else "(x,), (v,)"
            raise InputError(f"{name} takes no {word}: it differentiates by all primals. Give the function's other "
                             f"arguments in a function of these: {name}(lambda x: f(x, k), {primals})")


def _require_tuples(name: str, primals: Any, tangents: Any, comm: Any) -> None:
    """Refuse, on all ranks, arguments that are not wrapped in tuples."""
    with nullcontext() if running() is not None else agreed(chosen(comm), begins=True):
        for what, given in (("primals", primals), ("tangents", tangents)):
            if not isinstance(given, (tuple, list)):
                raise InputError(f"{name} was given {what} of type {type(given).__name__}; they are tuples with one "
                                 f"entry an argument of the function: {name}(f, (x,), (v,))")
        if len(primals) != len(tangents):
            raise InputError(f"{name} was given {len(primals)} primals and {len(tangents)} tangents; they are tuples "
                             f"with one entry an argument of the function: {name}(f, (x,), (v,)), "
                             f"{name}(f, (x, y), (v, w))")


def _at(f: Callable[..., Any], *args: Any, alone: Single | None = None, **settings: Any,
        ) -> Linearization | NestedLinearization:
    """f linearized at `args`: over the ranks, or, inside a function that is being traced, on that function's tape.

    alone: what has traced it there already.
    """
    if running() is not None:
        return NestedLinearization(f, args, **settings)
    told = {"solves": Use(once=True), **settings}
    return linearize(f, *args, **told) if alone is None else Linearization(f, args, traced=alone.traced, **told)
