"""NumPy's functions with all their options, traced: values, memory order and views as NumPy has them, derivatives of
first and second order against differences of the plain function, and replay at another point."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from mpi4py import MPI
from numpy_cases import ARGUMENTS, CASES, CONSTANTS

import distdiff as dd

H = 2.0**-9
STEPS = (-2, -1, 1, 2)
FIRST = np.array([1.0, -8.0, 8.0, -1.0]) / (12 * H)  # differences of fourth order
SECOND = np.array([-1.0, 16.0, 16.0, -1.0]) / (12 * H * H), -30.0 / (12 * H * H)


def function_of(case: str, constants=CONSTANTS):
    """The case as a function, the names of its arguments, and whether its values are NumPy's bit for bit."""
    text = case.removeprefix("~")
    names = [name for name in ARGUMENTS if re.search(rf"(?<![\w.]){name}\b", text)]
    *statements, result = text.split("; ")
    body = [*statements, f"return {result.removeprefix('return ')}"]
    space = dict(constants, __name__="numpy_cases")
    exec(compile(f"def f({', '.join(names)}):\n" + "".join(f"    {line}\n" for line in body), case, "exec"), space)
    return space["f"], names, text is case


def leaves(tree) -> list:
    if isinstance(tree, (tuple, list)):
        return [leaf for part in tree for leaf in leaves(part)]
    return [tree]


def reals(tree) -> list:
    """The leaves, of complex ones both parts."""
    return [part for x in leaves(tree) for part in ((x.real, x.imag) if np.iscomplexobj(x) else (x,))]


def flat(tree) -> np.ndarray:
    return np.concatenate([np.empty(0), *(np.ravel(np.asarray(x, dtype=float)) for x in reals(tree))])


def copies(args):
    return [x.copy() if isinstance(x, np.ndarray) else x for x in args]


def layout(result, args) -> list:
    """Of each result: shape, order in memory, and the arguments it is a view of."""
    seen = []
    for y in leaves(result):
        shape = np.shape(y)
        known = shape and y.dtype in (float, complex)
        strides = [s if n > 1 else 0 for s, n in zip(y.strides, shape)] if known else None
        views = [np.ndim(x) > 0 and np.ndim(y) > 0 and bool(np.may_share_memory(x, y)) for x in args]
        seen.append((shape, strides, views))
    return seen


def check(case: str, derivatives: bool = True, constants=CONSTANTS, layouts: bool = True) -> None:
    """A case against NumPy and differences of itself; with layouts the order of results in memory and views too."""
    f, names, exact = function_of(case, constants)
    first = MPI.COMM_WORLD.rank == 0  # the others don't trace
    args = [ARGUMENTS[name] for name in names]
    rng = np.random.default_rng(3)
    v = [rng.uniform(-1.0, 1.0, np.shape(x)) if np.ndim(x) else float(rng.uniform(-1.0, 1.0)) for x in args]
    seen: list = []

    def observed(*args):
        result = f(*args)
        seen.append(layout(result, args) if layouts else [np.shape(y) for y in leaves(result)])
        return tuple(reals(result))

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        plain = observed(*copies(args))
        with dd.linearize(observed, *args, argnums=tuple(range(len(args)))) as lin:
            traced = lin.value
            assert not first or seen[0] == seen[1], f"shape, strides, views: {seen}"
            if exact and MPI.COMM_WORLD.size == 1:
                np.testing.assert_array_equal(flat(traced), flat(plain))
            else:
                np.testing.assert_allclose(flat(traced), flat(plain), rtol=1e-13, atol=1e-14)
            if not derivatives:
                return
            y0, y = flat(plain), [flat(f(*(x + H * k * d for x, d in zip(args, v)))) for k in STEPS]
            jv = flat(lin.jvp(*v))
            scale = 1.0 + np.nanmax(np.abs(y0), initial=0.0)
            np.testing.assert_allclose(jv, sum(a * b for a, b in zip(FIRST, y)), rtol=1e-8, atol=1e-9 * scale)
            weights = [rng.uniform(-1.0, 1.0, np.shape(x)) if np.ndim(x) else float(rng.uniform(-1, 1)) for x in plain]
            back = lin.vjp(tuple(weights))
            left, right = flat(weights) @ jv, flat(back) @ flat(v)
            np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-12 * scale)

            def g(*args):
                total = 0.0
                for a, b in zip(reals(f(*args)), weights):
                    a = np.where(np.isnan(a), 0.0, a) if np.ndim(a) else a
                    total = total + np.sum(a * b + 0.1 * a * a)
                return total

            values = [float(g(*(x + H * k * d for x, d in zip(args, v)))) for k in STEPS]
            second = sum(a * b for a, b in zip(SECOND[0], values)) + SECOND[1] * float(g(*copies(args)))
            hv = flat(dd.hvp(g, tuple(args), tuple(v)))
            np.testing.assert_allclose(hv @ flat(v), second, rtol=1e-6, atol=1e-7 * (1.0 + abs(values[0])))
            moved = [x - 0.4 * d for x, d in zip(args, v)]
            lin.update(*moved)
            np.testing.assert_allclose(flat(lin.value), flat(f(*copies(moved))), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("case", CASES)
def test_as_numpy(case):
    check(case)


@pytest.mark.mpi
@pytest.mark.few_ranks
@pytest.mark.parametrize("case", CASES[::11] if MPI.COMM_WORLD.size > 1 else [])  # on one rank all of them run anyway
def test_on_ranks(case):
    check(case)
