"""scipy.optimize: its test function, and its iterations, which are refused.

What an iteration ends with is a number near the solution, whose derivative by way of the steps is another thing than
the solution's: zero where the first guess is the solution already, or where the steps only compare (golden sections,
simplices).  `distdiff.implicit` has the equation's own derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..callers import instead
from ..holding import traced_within
from ..reductions import traced_array
from .replacing import Rule, around, parts_apart


def rosen(x: Any) -> Any:
    """sum 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2."""
    x = traced_array(x)
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2.0) ** 2.0 + (1.0 - x[:-1]) ** 2.0, axis=0)


def rosen_der(x: Any) -> Any:
    x = traced_array(x)
    steps = 200.0 * (x[1:] - x[:-1] ** 2)
    zero = np.zeros(1)
    return np.concatenate([-2.0 * x[:-1] * steps - 2.0 * (1.0 - x[:-1]), zero]) + np.concatenate([zero, steps])


def _refused(name: str) -> Rule:
    """SciPy's solver for plain numbers: refused where its arguments, or what its functions return, are traced."""
    where = f"scipy.optimize.{name}"

    def untraced(values: Any) -> None:
        rec = traced_within(values)
        if rec is not None:
            rec.unsupported(f"{where} of traced values", instead(f" in {where}") + " (a derivative by way of the "
                            "iterations would be that of the iterations)")

    def watched(x: Any) -> Any:
        if not callable(x) or isinstance(x, type):
            return x

        def call(*args: Any, **kwargs: Any) -> Any:
            y = x(*args, **kwargs)
            untraced(y)
            return y

        return call

    @parts_apart
    @around
    def solver(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        untraced([*args, *kwargs.values()])
        return original(*map(watched, args), **{key: watched(x) for key, x in kwargs.items()})

    return solver


_ITERATIONS = """
    newton bisect brentq brenth ridder toms748 root_scalar fixed_point fsolve root minimize_scalar brent golden
    fminbound minimize fmin fmin_powell fmin_cg fmin_bfgs fmin_ncg fmin_l_bfgs_b fmin_tnc fmin_cobyla fmin_slsqp
    least_squares leastsq basinhopping differential_evolution dual_annealing shgo brute
"""

RULES: dict[str, Rule] = {"scipy.optimize:rosen": rosen, "scipy.optimize:rosen_der": rosen_der}
REFUSED: dict[str, Rule] = {f"scipy.optimize:{name}": _refused(name) for name in _ITERATIONS.split()}
