"""Checks that a user can run on any function: they need no reference derivative.

Taylor test.  With the right derivative the remainders of the Taylor expansion along a direction v,

    r1(h) = |f(x + h v) - f(x)|,     r2(h) = |f(x + h v) - f(x) - h J v|,
    r3(h) = |f(x + h v) - f(x) - h J v - h^2/2 v.Hv|                          (with order=2)

fall like h, h^2 and h^3: the observed rates, log2 r(h)/r(h/2), are 1, 2 and 3.  A wrong derivative shows as rate 1 in
r2, a wrong second one as rate 2 in r3.
Dot-product test.  <w, J v> = <J^T w, v> to rounding, with J v from a forward and J^T w from a transposed solve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .comm import calling, on_root
from .drivers import jvp
from .errors import InputError
from .linearization import Linearization, linearize
from .tracing.tree import flatten, unflatten


@dataclass(frozen=True)
class TaylorTest:
    """Outcome of `taylor_test`: remainders and rates for each halving of the step."""

    steps: tuple[float, ...]
    first: tuple[float, ...]  # r1(h)
    second: tuple[float, ...]  # r2(h)
    rates: tuple[float, ...]  # of r2: 2 where the derivative is right
    first_rates: tuple[float, ...]  # of r1: 1 where f changes along v at all
    floor: float  # remainders below this are rounding, and their rates say nothing
    difference: float  # |traced value - f(x)| / |f(x)|, f run plainly: the trace followed the function
    third: tuple[float, ...] = ()  # r3(h), with order=2
    third_rates: tuple[float, ...] = ()  # 3 where the second derivative is right
    changed: float = 0.0  # |f(x) - f(x)| / |f(x)| of two plain runs: 0 of a function

    @property
    def passed(self) -> bool:
        """f is a function, the traced value its own, and some step above rounding has rate 1.9 or more (r3: 2.9).

        Where all remainders are rounding, f is linear (quadratic) along v and the derivative is right.
        """
        if self.changed > 1e-12 or self.difference >= 1e-8:  # (sums over threads may come in another order)
            return False
        for rates, remainders, wanted in ((self.rates, self.second, 1.9), (self.third_rates, self.third, 2.9)):
            meaningful = [rate for rate, r in zip(rates, remainders[1:]) if r > self.floor]
            if meaningful and max(meaningful) <= wanted:
                return False
        return True

    def __str__(self) -> str:
        rows = [f"  h = {h:.1e}   |f(x+hv)-f(x)| = {a:.3e}   |... - h Jv| = {b:.3e}"
                for h, a, b in zip(self.steps, self.first, self.second)]
        rows = [f"{row}   |... - h^2/2 vHv| = {c:.3e}" for row, c in zip(rows, self.third)] or rows
        if self.changed > 1e-12:
            said = (f"run twice at the same point, it gives results that differ by {self.changed:.1e} of it: draw "
                    "random numbers outside, or from a generator that every call begins anew, and keep no state")
        elif self.difference >= 1e-8:
            said = (f"the traced value differs from the function's own by {self.difference:.1e} of it; does f ask for "
                    "the types of its arguments, or depend on more than them?")
        elif all(r <= self.floor for r in self.second[1:]):
            said = "remainders are rounding, f is linear along the direction"
        else:
            said = "rates " + ", ".join(f"{rate:.3f}" for rate in self.rates)
            if self.third and all(r <= self.floor for r in self.third[1:]):
                said += "; of second order, remainders are rounding"
            elif self.third:
                said += "; of second order " + ", ".join(f"{rate:.3f}" for rate in self.third_rates)
        return "\n".join([f"Taylor test {'passed' if self.passed else 'FAILED'}: {said}", *rows])


@dataclass(frozen=True)
class DotProductTest:
    """Outcome of `dot_product_test`."""

    forward: float  # <w, J v>
    reverse: float  # <J^T w, v>
    scale: float  # |w| |Jv| + |J^T w| |v|: rounding is relative to this

    @property
    def error(self) -> float:
        return abs(self.forward - self.reverse) / self.scale if self.scale else abs(self.forward - self.reverse)

    @property
    def passed(self) -> bool:
        return self.error < 1e-11

    def __str__(self) -> str:
        return (f"dot-product test {'passed' if self.passed else 'FAILED'}: <w, Jv> = {self.forward:.15e}, "
                f"<J'w, v> = {self.reverse:.15e}, difference {self.error:.1e} of |w| |Jv| + |J'w| |v|")


@calling("taylor_test")
def taylor_test(f: Callable[..., Any], *args: Any, lin: Linearization | None = None, direction: Any = None,
                h: float = 1e-3, halvings: int = 4, seed: int = 0, order: int = 1, **settings: Any) -> TaylorTest:
    """Taylor remainders of f at `args` along a random (or the given) direction.  Collective.

    With order=2 the second derivative is checked too: v.Hv from a Hessian-vector product where f returns one number,
    else from the derivative of J v along v.

    `h` is relative to the size of each leaf of the first argument; f itself runs on rank 0 only.  Differentiates the
    first argument; `lin`, a linearization of f at `args`, is used if given; `settings` go to `linearize` otherwise.
    """
    if order not in (1, 2):
        raise InputError(f"order={order!r}: the test is of first or second order")
    own = lin is None
    at = lin if lin is not None else linearize(f, *args, **settings)
    try:
        leaves, spec = flatten(args[0])
        v = flatten(direction)[0] if direction is not None else _random(leaves, seed)
        derivative = np.concatenate([np.ravel(d) for d in flatten(at.jvp(unflatten(spec, v)))[0]])

        traced = np.concatenate([np.ravel(leaf) for leaf in flatten(at.value)[0]])
        curvature = _curvature(at, f, args, unflatten(spec, v)) if order == 2 else None

        def remainders() -> TaylorTest:
            steps = [h / 2**k for k in range(halvings + 1)]
            base = _vector(f, args)
            first, second, third = [], [], []
            for step in steps:
                moved = unflatten(spec, [np.asarray(x, float) + step * np.asarray(d) for x, d in zip(leaves, v)])
                change = _vector(f, (moved, *args[1:])) - base
                first.append(float(np.linalg.norm(change)))
                second.append(float(np.linalg.norm(change - step * derivative)))
                if curvature is not None:
                    third.append(float(np.linalg.norm(change - step * derivative - 0.5 * step**2 * curvature)))
            floor = 100 * float(np.finfo(float).eps) * max(float(np.linalg.norm(base)), max(first), 1e-300)
            scale = max(float(np.linalg.norm(base)), 1e-300)
            difference = float(np.linalg.norm(traced - base)) / scale
            changed = float(np.linalg.norm(_vector(f, args) - base)) / scale
            return TaylorTest(tuple(steps), tuple(first), tuple(second), _rates(second), _rates(first), floor,
                              difference, tuple(third), _rates(third), changed)

        result = on_root(at.comm, remainders)
        assert result is not None
        return result
    finally:
        if own:
            at.close()


@calling("dot_product_test")
def dot_product_test(f: Callable[..., Any], *args: Any, lin: Linearization | None = None, seed: int = 0,
                     **settings: Any) -> DotProductTest:
    """<w, J v> against <J^T w, v> for random v and w.  Collective.  Differentiates the first argument."""
    own = lin is None
    at = lin if lin is not None else linearize(f, *args, **settings)
    try:
        in_leaves, in_spec = flatten(args[0])
        out_leaves, out_spec = flatten(at.value)
        v, w = _random(in_leaves, seed), _random(out_leaves, seed + 1)
        jv = flatten(at.jvp(unflatten(in_spec, v)))[0]
        jw = flatten(at.vjp(unflatten(out_spec, w)))[0]
        forward, reverse = _dot(w, jv), _dot(jw, v)
        scale = np.sqrt(_dot(w, w) * _dot(jv, jv)) + np.sqrt(_dot(jw, jw) * _dot(v, v))
        return DotProductTest(forward, reverse, float(scale))
    finally:
        if own:
            at.close()


def _curvature(at: Linearization, f: Callable[..., Any], args: tuple[Any, ...], v: Any) -> np.ndarray:
    """d^2/dh^2 f(x + h v) at h = 0, as one vector.  Collective."""
    if np.shape(at.value) == () and not isinstance(at.value, (tuple, list, dict)):
        return np.array([_dot(flatten(v)[0], flatten(at.hvp(v))[0])])

    def along(x: Any, *rest: Any) -> Any:
        return jvp(lambda y: f(y, *rest), (x,), (v,))[1]

    with linearize(along, *args, comm=at.comm) as lin:
        return np.concatenate([np.ravel(d) for d in flatten(lin.jvp(v))[0]])


def _random(leaves: list[Any], seed: int) -> list[np.ndarray]:
    """Directions scaled to each leaf, the same on every rank."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(np.shape(x)) * max(float(np.max(np.abs(x), initial=0.0)), 1e-3) for x in leaves]


def _vector(f: Any, args: tuple[Any, ...]) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(leaf, dtype=float)) for leaf in flatten(f(*args))[0]])


def _rates(remainders: list[float]) -> tuple[float, ...]:
    return tuple(float(np.log2(a / b)) if a > 0 and b > 0 else float("inf") for a, b in zip(remainders, remainders[1:]))


def _dot(a: list[Any], b: list[Any]) -> float:
    return float(sum(np.vdot(x, y) for x, y in zip(a, b)))
