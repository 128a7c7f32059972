"""Results that are given by an equation: fixed points, roots, solutions of linear systems, minima.

Each of these is y with R(y, x) = 0, solved when the function runs, and differentiated by the implicit function theorem,
never through the iterations that solved it:

    (dR/dy) ydot = -(dR/dx) xdot

Inside a function that distdiff differentiates they become one statement of it.  x may be anything: numbers, arrays,
nested containers, None.  What the inner function uses of its surroundings counts like what it is given as x.  Outside
they are solvers and nothing else.  The first guess y0 says how y is nested and shaped, and y does not depend on it.
They may be nested in each other, and derivatives of any order go through them.

Keyword arguments of all of them:

    tol             relative error of every number in y that is accepted, default 1e-10
    max_iterations  of Newton's method, and of the method before it, default 100
    method          what brings y near the solution before Newton's method ends the solve (see each function)

On several ranks a large one is shared by them, if its method is "newton", "iterate" or "snes" and it holds no further
equations: each has some of the unknowns and of the lines of R, and dR/dy is factorized over all of them, by MUMPS or as
PETSc options with the prefix `distdiff_component_` say (`linearize(options={"component_pc_type": "hypre"})`).  The
report tells which are shared, and why others are not.

They raise `ConvergenceError` with numbers where no solution is found, `SingularError` where the solution has no
derivative (dR/dy has no inverse: a multiple root, or a point that Newton's method can't tell from one), both naming the
line of the call.  What units equations and unknowns have makes no difference.  Inside a function nothing is collective.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import InputError
from ..evaluate import evaluate_items
from ..nested import NestedLinearization
from ..tracing import is_leaf, running, trace, tree
from ..tracing.array import is_traced
from ..tracing.owners import user_line
from .forward import MINIMIZERS, ROOTS, Settings
from .statement import Residual, statement


def root(residual: Callable[[Any, Any], Any], x: Any, y0: Any, *, tol: float = 1e-10, max_iterations: int = 100,
         method: str = "newton") -> Any:
    """y with residual(x, y) = 0, nested and shaped as y0; the residual has as many elements as y, in any nesting.

    method: "newton" alone, a method of `scipy.optimize.root` ("hybr", "lm", "broyden1", "broyden2", "anderson",
    "krylov", "df-sane") or "snes" (PETSc's, with options -distdiff_implicit_...) before it.
    """
    settings = Settings(method, tol, max_iterations).checked(("newton", *ROOTS))
    return _solved(lambda y: (residual(x, y), None), y0, settings)


def fixed_point(g: Callable[[Any, Any], Any], x: Any, y0: Any, *, tol: float = 1e-10, max_iterations: int = 100,
                method: str = "iterate") -> Any:
    """y = g(x, y), nested and shaped as y0, and g(x, y) like it.

    method: "iterate" iterates y <- g(x, y) while that is far from the solution, so that a fixed point that attracts is
    preferred; or those of `root`.
    """
    settings = Settings(method, tol, max_iterations).checked(("iterate", "newton", *ROOTS))

    def residual(y: Any) -> tuple[Any, None]:
        leaves, spec = tree.flatten(y, "y", is_leaf)
        images, nesting = tree.flatten(g(x, y), "g(x, y)", is_leaf)
        if nesting != spec or list(map(np.shape, images)) != list(map(np.shape, leaves)):
            raise InputError(f"g(x, y) is nested as {nesting} with shapes {list(map(np.shape, images))}, y as {spec} "
                             f"with {list(map(np.shape, leaves))}; a fixed point wants both alike")
        return [a - b for a, b in zip(leaves, images)], None

    return _solved(residual, y0, settings)


def linear_solve(A: Any, b: Any, *, tol: float = 1e-10) -> Any:
    """y with A y = b.

    A: an array (n, n); a SciPy sparse matrix of constants; (values, (rows, columns)), a sparse matrix whose values may
    be traced and whose places are given, repeated ones adding up; or a function y -> A y, linear, of what is nested
    and shaped as b.  b: (n,) or (n, m); for a function any nesting.
    """
    if not callable(A) and not isinstance(A, tuple) and np.shape(A) != 2 * np.shape(b)[:1]:
        raise InputError(f"A has shape {np.shape(A)} and b {np.shape(b)}; A must be square, with as many rows as b")
    return _solved(lambda y: (_difference(_product(A, y), b), None), _zeros(b), Settings("newton", tol, 20, "linear"))


def minimize(objective: Callable[[Any, Any], Any], x: Any, y0: Any, *, tol: float = 1e-10, max_iterations: int = 100,
             method: str = "bfgs") -> Any:
    """y where objective(x, y), one number, has a minimum: a stationary point, d objective / dy = 0, reached from y0.

    method: "bfgs", "l-bfgs-b", "cg" or "trust-ncg" of `scipy.optimize.minimize`, or "newton".  Raises
    `ConvergenceError` also where the stationary point that was found is no minimum.
    """
    settings = Settings(method, tol, max_iterations, "minimum").checked((*MINIMIZERS, "newton"))

    def residual(y: Any) -> tuple[Any, Any]:
        at = NestedLinearization(lambda v: objective(x, v), (y,))
        if np.shape(at.value) != ():
            raise InputError(f"the objective returns an array of shape {np.shape(at.value)}; return one number")
        return at.vjp(1.0), at.value

    return _solved(residual, y0, settings)


def _solved(residual: Callable[[Any], tuple[Any, Any]], y0: Any, settings: Settings, where: str = "") -> Any:
    """y, nested as y0, where the first of what residual(y) returns is zero; the second is an objective, or None."""
    if running() is None:  # a trace of its own, of which the values are wanted
        where = user_line()
        leaves, spec = tree.flatten(y0, "y0")
        floats = tree.unflatten(spec, [np.asarray(leaf, dtype=float) for leaf in leaves])
        return trace(lambda y: _solved(residual, y, settings, where), (floats,), keep_values="read",
                     evaluate=evaluate_items).result
    leaves, spec = tree.flatten(y0, "y0", is_leaf)
    shapes = [np.shape(leaf) for leaf in leaves]
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes]).tolist()
    if not leaves or not ends[-1]:
        raise InputError("y0 holds no number: there is nothing to solve for")

    def nested(y: Any) -> Any:
        parts = [y[end - int(np.prod(shape)):end] for end, shape in zip(ends, shapes)]
        return tree.unflatten(
            spec, [np.reshape(part, shape) if shape else part[0] for part, shape in zip(parts, shapes)])

    def flat(y: Any) -> tuple[Any, ...]:
        r, objective = residual(nested(y))
        found = _flat(tree.flatten(r, "the residual", is_leaf)[0])
        return (found,) if objective is None else (found, objective)

    sizes = tuple(int(np.prod(shape)) for shape in shapes)
    return nested(statement(flat, _flat(leaves), settings._replace(leaves=sizes), where))


def _flat(leaves: list[Any]) -> Any:
    return np.concatenate([
        np.reshape(leaf, (-1,)) if is_traced(leaf) else np.asarray(leaf, dtype=float).reshape(-1) for leaf in leaves])


def _zeros(b: Any) -> Any:
    leaves, spec = tree.flatten(b, "b", is_leaf)
    return tree.unflatten(spec, [np.zeros(np.shape(leaf)) for leaf in leaves])


def _product(A: Any, y: Any) -> Any:
    if callable(A):
        return A(y)
    if not isinstance(A, tuple):
        return A @ y
    values, (rows, columns) = A
    shape = (-1,) + (1,) * (np.ndim(y) - 1)
    product = np.zeros(np.shape(y)) * y[:1]
    np.add.at(product, np.asarray(rows), np.reshape(values, shape) * y[np.asarray(columns)])
    return product


def _difference(a: Any, b: Any) -> Any:
    left, spec = tree.flatten(a, "A y", is_leaf)
    right, nesting = tree.flatten(b, "b", is_leaf)
    if not tree.alike(spec, nesting) or list(map(np.shape, left)) != list(map(np.shape, right)):
        raise InputError(f"A y is nested as {spec} with shapes {list(map(np.shape, left))}, b as {nesting} with "
                         f"{list(map(np.shape, right))}; A must be square")
    return [p - q for p, q in zip(left, right)]


__all__ = ["Residual", "fixed_point", "linear_solve", "minimize", "root"]
