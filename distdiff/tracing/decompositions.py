"""The forms in which NumPy gives the decompositions of matrices, real and complex alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def as_numpy(function: Callable[..., Any], results: Sequence[Any]) -> Any:
    """Several results in the kind of tuple that NumPy has them in (of NumPy 2 a named one)."""
    kind = type(function(np.eye(1)))
    return tuple(results) if kind is tuple else kind(*results)


def hermitian_svd(a: Any, compute_uv: bool) -> Any:
    """Of a symmetric or Hermitian matrix, as NumPy does it: s = |w|, in descending order."""
    if not compute_uv:
        return np.sort(np.abs(np.linalg.eigvalsh(a)), axis=-1)[..., ::-1]
    w, v = np.linalg.eigh(a)
    order = np.argsort(np.abs(w), axis=-1)[..., ::-1]
    signs = np.take_along_axis(np.sign(w), order, -1)
    v = np.take_along_axis(v, order[..., None, :], -1)
    s = np.take_along_axis(np.abs(w), order, -1)
    return as_numpy(np.linalg.svd, [v, s, np.conj(np.swapaxes(v * signs[..., None, :], -1, -2))])


__all__ = ["as_numpy", "hermitian_svd"]
