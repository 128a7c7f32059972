"""Traced values where NumPy wants truths or whole numbers: cut to them, which is decided, and plain from there on."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import BY_NAME
from .array import elementwise, is_traced
from .indexing import decided
from .scalar import TracedScalar


def whole(x: Any) -> Any:
    """x cut to whole numbers, as plain int64."""
    if x.dtype == bool:
        return np.asarray(decided(x) if is_traced(x) else x).astype(np.int64)
    if isinstance(x, TracedScalar) and np.isfinite(x.v):
        return np.float64(int(x)).astype(np.int64)  # of numbers beyond all whole ones what NumPy makes of them
    if isinstance(x, TracedScalar):
        x.rec.failed()  # here, and nowhere else
        return np.float64(x.v).astype(np.int64)  # what NumPy makes of it, where int(x) raises
    if not x.size:
        return np.zeros(x.shape, int)
    cut = elementwise(x.rec, BY_NAME["trunc"], (x,))
    if isinstance(cut, TracedScalar):
        return np.array(whole(cut))
    return np.asarray(decided(cut) if is_traced(cut) else cut).astype(np.int64)


def written(value: Any, dtype: Any) -> Any:
    """A traced value as NumPy writes it into an array of truths or whole numbers: decided; any other as it is."""
    dtype = np.dtype(dtype)
    if not is_traced(value) or dtype.kind not in "iub":
        return value
    if dtype.kind != "b":
        return whole(value).astype(dtype)
    truth = value if value.dtype == bool else np.not_equal(value, 0.0)
    return decided(truth) if is_traced(truth) else truth
