"""Checks that a user can run on any function: they need no reference derivative.

Taylor test.  With the right derivative the remainders of the Taylor expansion along a direction v,

    r1(h) = |f(x + h v) - f(x)|,     r2(h) = |f(x + h v) - f(x) - h J v|,
    r3(h) = |f(x + h v) - f(x) - h J v - h^2/2 v.Hv|                          (with order=2)

fall like h, h^2 and h^3: the observed rates, log2 r(h)/r(h/2), are 1, 2 and 3.  A wrong derivative shows as rate 1 in
r2, a wrong second one as rate 2 in r3.
Dot-product test.  <w, J v> = <J^T w, v> to rounding, with J v from a forward and J^T w from a transposed solve.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .comm import calling, on_root
from .drivers import jvp
from .errors import InputError
from .linearization import Linearization, linearize
from .tracing.stretch import check_numbers
from .tracing.tree import flatten, fresh, unflatten

HUGE = 1e306  # no direction is larger, so that the steps from points near the end of the range of numbers stay in it


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
    moved: bool = True  # x + h v is another point than x for every h

    @property
    def passed(self) -> bool:
        """f is a function, the traced value its own, and some step above rounding has rate 1.9 or more (r3: 2.9).

        Where all remainders are rounding, f is linear (quadratic) along v and the derivative is right.  Remainders
        that are not finite, or of points that are no others, tell nothing: then it has not passed.
        """
        if not (self.moved and self.finite):
            return False
        if self.changed > 1e-12 or self.difference >= 1e-8:  # (sums over threads may come in another order)
            return False
        for rates, remainders, wanted in ((self.rates, self.second, 1.9), (self.third_rates, self.third, 2.9)):
            meaningful = [rate for rate, r in zip(rates, remainders[1:]) if r > self.floor]
            if meaningful and max(meaningful) <= wanted:
                return False
        return True

    @property
    def finite(self) -> bool:
        """Whether everything that was measured is a number."""
        return bool(np.isfinite([*self.first, *self.second, *self.third, self.floor, self.difference,
                                 self.changed]).all())

    def __str__(self) -> str:
        rows = [f"  h = {h:.1e}   |f(x+hv)-f(x)| = {a:.3e}   |... - h Jv| = {b:.3e}"
                for h, a, b in zip(self.steps, self.first, self.second)]
        rows = [f"{row}   |... - h^2/2 vHv| = {c:.3e}" for row, c in zip(rows, self.third)] or rows
        if not self.finite:
            said = ("f, or a remainder, is not finite at a point of the test, which tells nothing then: take a smaller "
                    "h, or a point further inside the function's domain and the range of double precision")
        elif not self.moved:
            said = ("x + h v is x itself in double precision, so nothing was measured: take a larger h or another "
                    "direction")
        elif self.changed > 1e-12:
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
    unit: int = 0  # the three are in units of 2**unit, other than 1 only where they would leave the range of numbers

    @property
    def error(self) -> float:
        return abs(self.forward - self.reverse) / self.scale if self.scale else abs(self.forward - self.reverse)

    @property
    def passed(self) -> bool:
        return self.error < 1e-11

    def __str__(self) -> str:
        unit = f" (in units of 2^{self.unit})" if self.unit else ""
        return (f"dot-product test {'passed' if self.passed else 'FAILED'}: <w, Jv> = {self.forward:.15e}, "
                f"<J'w, v> = {self.reverse:.15e}{unit}, difference {self.error:.1e} of |w| |Jv| + |J'w| |v|")


@calling("taylor_test")
def taylor_test(f: Callable[..., Any], *args: Any, argnums: int | tuple[int, ...] = 0,
                lin: Linearization | None = None, direction: Any = None, h: float = 1e-3, halvings: int = 4,
                seed: int = 0, order: int = 1, **settings: Any) -> TaylorTest:
    """Taylor remainders of f at `args` along a random direction, or the given one, which is nested and shaped as the
    arguments at `argnums` (a tuple of such if that is one).  Collective.

    With order=2 the second derivative is checked too: v.Hv from a Hessian-vector product where f returns one number,
    else from the derivative of J v along v.

    `h` is relative to the size of each leaf of these arguments (where the function doesn't change above rounding at
    such steps, to 1e-3 at least); f itself runs on rank 0 only.  `lin`, a
    linearization of f at `args` by these arguments, is used if given; `settings` go to `linearize` otherwise.
    """
    if order not in (1, 2):
        raise InputError(f"order={order!r}: the test is of first or second order")
    own = lin is None
    of = _OfPoint(f, args, argnums, settings)
    at = lin if lin is not None else linearize(f, *args, argnums=argnums, **settings)
    try:
        leaves = flatten(of.point)[0]
        v = flatten(direction)[0] if direction is not None else _random(leaves, seed)
        result = _along(of, at, v, h, halvings, order)
        if direction is None and max(result.first) <= result.floor:  # steps of x's size are lost beside f
            result = _along(of, at, _random(leaves, seed, 1e-3), h, halvings, order)
        return result
    finally:
        if own:
            at.close()


@calling("dot_product_test")
def dot_product_test(f: Callable[..., Any], *args: Any, argnums: int | tuple[int, ...] = 0,
                     lin: Linearization | None = None, seed: int = 0, **settings: Any) -> DotProductTest:
    """<w, J v> against <J^T w, v> for random v and w, J by the arguments at `argnums`.  Collective."""
    own = lin is None
    of = _OfPoint(f, args, argnums, settings)
    at = lin if lin is not None else linearize(f, *args, argnums=argnums, **settings)
    try:
        in_leaves, in_spec = flatten(of.point)
        out_leaves, out_spec = flatten(at.value)
        v, w = _random(in_leaves, seed), _random(out_leaves, seed + 1)
        jv = flatten(at.jvp(*of.each(unflatten(in_spec, v))))[0]
        jw = flatten(at.vjp(unflatten(out_spec, w)))[0]
        (w, a), (jv, b), (jw, c), (v, d) = map(_scaled, (w, jv, jw, v))
        unit = max(a + b, c + d)
        if abs(unit) < 900:
            unit = 0
        sizes = [np.sqrt(_dot(p, p) * _dot(q, q)) for p, q in ((w, jv), (jw, v))]
        here = [np.ldexp(x, a + b - unit) for x in (_dot(w, jv), sizes[0])]
        there = [np.ldexp(x, c + d - unit) for x in (_dot(jw, v), sizes[1])]
        return DotProductTest(float(here[0]), float(there[0]), float(here[1] + there[1]), unit)
    finally:
        if own:
            at.close()


class _OfPoint:
    """f as a function of `point`, the arguments at `argnums`: one, or a tuple of them."""

    def __init__(self, f: Callable[..., Any], args: tuple[Any, ...], argnums: int | tuple[int, ...],
                 settings: Mapping[str, Any]) -> None:
        self._single = not isinstance(argnums, tuple)
        self._numbers = argnums if isinstance(argnums, tuple) else (argnums,)
        check_numbers(self._numbers, len(args))
        self._f, self._args, self._kwargs = f, args, settings.get("kwargs") or {}
        self._has_aux = settings.get("has_aux", False)
        chosen = tuple(args[k] for k in self._numbers)
        self.point = chosen[0] if self._single else chosen

    def each(self, point: Any) -> tuple[Any, ...]:
        """One a number in `argnums`."""
        return (point,) if self._single else point

    def __call__(self, point: Any) -> Any:
        args, kwargs = fresh((self._args, self._kwargs))  # which f may write into
        args = list(args)
        for k, part in zip(self._numbers, self.each(point)):
            args[k] = part
        result = self._f(*args, **kwargs)
        return result[0] if self._has_aux else result

    def vector(self, point: Any) -> np.ndarray:
        """The result's leaves in one."""
        return np.concatenate([np.ravel(np.asarray(leaf, dtype=float)) for leaf in flatten(self(fresh(point)))[0]])


def _along(of: _OfPoint, at: Linearization, v: list[Any], h: float, halvings: int, order: int) -> TaylorTest:
    """The Taylor test along v.  Collective."""
    leaves, spec = flatten(of.point)
    derivative = np.concatenate([np.ravel(d) for d in flatten(at.jvp(*of.each(unflatten(spec, v))))[0]])

    traced = np.concatenate([np.ravel(leaf) for leaf in flatten(at.value)[0]])
    curvature = _curvature(at, of, unflatten(spec, v)) if order == 2 else None

    def remainders() -> TaylorTest:
        steps = [h / 2**k for k in range(halvings + 1)]
        base = of.vector(of.point)
        first, second, third, moved = [], [], [], True
        for step in steps:
            there = [np.asarray(x, float) + step * np.asarray(d) for x, d in zip(leaves, v)]
            moved = moved and any(bool(np.any(y != x)) for x, y in zip(leaves, there))
            change = of.vector(unflatten(spec, there)) - base
            first.append(_norm(change))
            second.append(_norm(change - step * derivative))
            if curvature is not None:
                third.append(_norm(change - step * derivative - 0.5 * step**2 * curvature))
        size, limits = _norm(base), np.finfo(float)
        floor = 100 * (float(limits.eps) * max(size, max(first)) + float(limits.smallest_subnormal))
        scale = size or 1.0
        difference = _norm(traced - base) / scale
        changed = _norm(of.vector(of.point) - base) / scale
        return TaylorTest(tuple(steps), tuple(first), tuple(second), _rates(second), _rates(first), floor,
                          difference, tuple(third), _rates(third), changed, moved)

    def quietly() -> TaylorTest:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite, the result tells of
            return remainders()

    result = on_root(at.comm, quietly)
    assert result is not None
    return result


def _curvature(at: Linearization, of: _OfPoint, v: Any) -> np.ndarray:
    """d^2/dh^2 f(x + h v) at h = 0, as one vector.  Collective."""
    if np.shape(at.value) == () and not isinstance(at.value, (tuple, list, dict)):
        return np.array([_dot(flatten(v)[0], flatten(at.hvp(*of.each(v)))[0])])
    with linearize(lambda point: jvp(of, (point,), (v,))[1], of.point, comm=at.comm) as lin:
        return np.concatenate([np.ravel(d) for d in flatten(lin.jvp(v))[0]])


def _random(leaves: list[Any], seed: int, least: float = 0.0) -> list[np.ndarray]:
    """Directions scaled to each leaf (a leaf of zeros has no scale: 1e-3), the same on every rank."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(np.shape(x)) * min(max(float(np.max(np.abs(x), initial=0.0)), least) or 1e-3, HUGE)
            for x in leaves]


def _norm(x: np.ndarray) -> float:
    """|x|, whose squares neither overflow nor underflow."""
    largest = float(np.max(np.abs(x), initial=0.0))
    if not 0.0 < largest < np.inf:
        return largest  # NaN too
    return largest * float(np.linalg.norm(x / largest))


def _rates(remainders: list[float]) -> tuple[float, ...]:
    return tuple(float(np.log2(a / b)) if a > 0 and b > 0 else float("inf") for a, b in zip(remainders, remainders[1:]))


def _scaled(leaves: list[Any]) -> tuple[list[np.ndarray], int]:
    """(y, e) with leaves = 2**e y, exactly, and entries of y of at most 1."""
    exponent = int(np.frexp(max((float(np.max(np.abs(x), initial=0.0)) for x in leaves), default=0.0))[1])
    return [np.ldexp(np.asarray(x, float), -exponent) for x in leaves], exponent


def _dot(a: list[Any], b: list[Any]) -> float:
    return float(sum(np.vdot(x, y) for x, y in zip(a, b)))
