"""numpy.emath: functions that turn to complex numbers where real ones leave their domain, which is decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .decisions import decide


def _continued(function: Callable[..., Any], outside: Callable[[Any], Any]) -> Callable[..., Any]:
    """`function`, of complex numbers if any real one lies outside its domain."""

    def rule(x: Any, *others: Any) -> Any:
        return function(_extended(x, outside), *others)

    return rule


def _extended(x: Any, outside: Callable[[Any], Any]) -> Any:
    x = np.asarray(x) if isinstance(x, (list, tuple)) else x
    return x + 0j if not np.iscomplexobj(x) and np.any(decide(outside(x))) else x


def _negative(x: Any) -> Any:
    return np.less(x, 0.0)


def _beyond_one(x: Any) -> Any:
    return np.greater(np.abs(x), 1.0)


def logn(n: Any, x: Any) -> Any:
    return np.log(_extended(x, _negative)) / np.log(_extended(n, _negative))


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {
    np.emath.sqrt: _continued(np.sqrt, _negative), np.emath.log: _continued(np.log, _negative),
    np.emath.log2: _continued(np.log2, _negative), np.emath.log10: _continued(np.log10, _negative),
    np.emath.logn: logn, np.emath.power: _continued(np.power, _negative),
    np.emath.arccos: _continued(np.arccos, _beyond_one), np.emath.arcsin: _continued(np.arcsin, _beyond_one),
    np.emath.arctanh: _continued(np.arctanh, _beyond_one),
}
