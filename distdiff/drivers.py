"""The functional face: a few lines each on top of `Linearization`.

All of these are collective on the communicator (`comm=`, default `MPI.COMM_WORLD`), rank 0's arguments count, and
results come back on every rank.  Keyword arguments after `argnums` and `has_aux` are those of `linearize`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .comm import agreed, on_root, world
from .errors import InputError
from .linearization import Linearization, linearize
from .tape import Tape
from .tracing import trace as _trace


def value_and_grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False,
                   **settings: Any) -> Callable[..., Any]:
    """A function of the same arguments returning (f(x), grad f(x)), or ((f(x), aux), grad f(x)) with `has_aux`.

    f must return one real number; raises `InputError` otherwise.  grad f = J^T 1, by one transposed solve.
    """

    def value_and_gradient(*args: Any, **kwargs: Any) -> Any:
        with linearize(f, *args, argnums=argnums, has_aux=has_aux, kwargs=kwargs, **settings) as lin:
            with agreed(lin.comm):
                if np.shape(lin.value) != () or isinstance(lin.value, (tuple, list, dict)):
                    raise InputError("the gradient is of functions that return one number; this one returned "
                                     f"{_describe(lin.value)}. Sum it, or use jacobian or vjp")
            gradient = lin.vjp(1.0)
            return ((lin.value, lin.aux) if has_aux else lin.value), gradient

    return value_and_gradient


def grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False,
         **settings: Any) -> Callable[..., Any]:
    """A function of the same arguments returning the gradient of f (and aux, with `has_aux`); see `value_and_grad`."""
    both = value_and_grad(f, argnums, has_aux, **settings)

    def gradient(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return gradient


def jvp(f: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...], has_aux: bool = False,
        **settings: Any) -> Any:
    """(f(x), J xdot): value and derivative along `tangents`, nested and shaped as `primals`; with aux, a third."""
    with linearize(f, *primals, argnums=tuple(range(len(primals))), has_aux=has_aux, **settings) as lin:
        derivative = lin.jvp(*tangents)
        return (lin.value, derivative, lin.aux) if has_aux else (lin.value, derivative)


class Pullback:
    """ybar -> J^T ybar at a fixed point, one result an argument.  Collective; `close` frees what it holds."""

    def __init__(self, linearization: Linearization) -> None:
        self.linearization = linearization

    def __call__(self, cotangent: Any) -> Any:
        return self.linearization.vjp(cotangent)

    def close(self) -> None:
        self.linearization.close()

    def __enter__(self) -> Pullback:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False, **settings: Any) -> Any:
    """(f(x), pullback) with pullback(ybar) = J^T ybar, a tuple with one entry a primal; with aux, a third."""
    lin = linearize(f, *primals, argnums=tuple(range(len(primals))), has_aux=has_aux, **settings)
    return (lin.value, Pullback(lin), lin.aux) if has_aux else (lin.value, Pullback(lin))


def jacobian(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False,
             **settings: Any) -> Callable[..., Any]:
    """A function of the same arguments returning f's dense Jacobian; see `Linearization.jacobian` for its shape."""

    def dense(*args: Any, **kwargs: Any) -> Any:
        with linearize(f, *args, argnums=argnums, has_aux=has_aux, kwargs=kwargs, **settings) as lin:
            return (lin.jacobian(), lin.aux) if has_aux else lin.jacobian()

    return dense


def trace(f: Callable[..., Any], *args: Any, argnums: int | tuple[int, ...] = 0, comm: Any = None) -> Tape | None:
    """The tape of f at `args`: its flattened structure.  Collective; the tape stays on rank 0, other ranks get None."""
    traced = on_root(comm if comm is not None else world(), lambda: _trace(f, args, argnums=argnums), share=False)
    return None if traced is None else traced.tape


def _describe(value: Any) -> str:
    if isinstance(value, (tuple, list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"an array of shape {np.shape(value)}"
