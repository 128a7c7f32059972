"""scipy.optimize's test function."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..reductions import traced_array
from .replacing import Rule


def rosen(x: Any) -> Any:
    """sum 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2."""
    x = traced_array(x)
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2.0) ** 2.0 + (1.0 - x[:-1]) ** 2.0, axis=0)


def rosen_der(x: Any) -> Any:
    x = traced_array(x)
    steps = 200.0 * (x[1:] - x[:-1] ** 2)
    zero = np.zeros(1)
    return np.concatenate([-2.0 * x[:-1] * steps - 2.0 * (1.0 - x[:-1]), zero]) + np.concatenate([zero, steps])


RULES: dict[str, Rule] = {"scipy.optimize:rosen": rosen, "scipy.optimize:rosen_der": rosen_der}
