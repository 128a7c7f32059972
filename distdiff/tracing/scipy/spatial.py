"""scipy.spatial.distance: distances between the rows of two arrays, or of one.

A distance that is a root has derivative 0 where the points coincide, as np.hypot has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..array import is_traced, shape_of
from ..complexes import is_complex
from ..decisions import decide
from ..ufuncs import recorder_of
from .replacing import Rule


def _root(s: Any, power: float = 2.0) -> Any:
    """s ** (1 / power), with derivative 0 at 0."""
    zero = np.equal(s, 0.0)
    root = np.where(zero, 1.0, s) ** (1.0 / power) if power != 2.0 else np.sqrt(np.where(zero, 1.0, s))
    return np.where(zero, 0.0, root)


def _cosine(a: Any, b: Any) -> Any:
    return 1.0 - np.sum(a * b, -1) / np.sqrt(np.sum(a * a, -1) * np.sum(b * b, -1))


_METRICS: dict[str, Callable[[Any, Any], Any]] = {
    "sqeuclidean": lambda a, b: np.sum(np.square(a - b), -1),
    "euclidean": lambda a, b: _root(np.sum(np.square(a - b), -1)),
    "cityblock": lambda a, b: np.sum(np.abs(a - b), -1),
    "chebyshev": lambda a, b: np.max(np.abs(a - b), -1),
    "cosine": _cosine,
    "correlation": lambda a, b: _cosine(a - np.mean(a, -1, keepdims=True), b - np.mean(b, -1, keepdims=True)),
    "canberra": lambda a, b: np.sum(_share(np.abs(a - b), np.abs(a) + np.abs(b)), -1),
    "braycurtis": lambda a, b: np.sum(np.abs(a - b), -1) / np.sum(np.abs(a + b), -1),
}
_NAMES = {"euclid": "euclidean", "eu": "euclidean", "e": "euclidean", "sqeuclid": "sqeuclidean", "sqe": "sqeuclidean",
          "manhattan": "cityblock", "cityblk": "cityblock", "cb": "cityblock", "c": "cityblock", "cheby": "chebyshev",
          "chebychev": "chebyshev", "ch": "chebyshev", "cos": "cosine"}


def _share(a: Any, b: Any) -> Any:
    return np.where(np.equal(b, 0.0), 0.0, a / np.where(np.equal(b, 0.0), 1.0, b))


def _metric(metric: Any, operands: tuple[Any, ...], function: str, p: float = 2.0, **options: Any) -> Any:
    """The distance of the last axes of two arrays."""
    if callable(metric) and not options:
        return None
    name = _NAMES.get(metric, metric) if isinstance(metric, str) else metric
    if name == "minkowski" and not options:
        return lambda a, b: _norm(np.abs(a - b), float(p), -1)
    if name not in _METRICS or options:
        recorder_of(operands).unsupported(f"scipy.spatial.distance.{function} with metric={metric!r}" + "".join(
            f", {option}=" for option in options), "write the formula in NumPy's functions")
    return _METRICS[name]


def _norm(d: Any, p: float, axis: int | None, w: Any = None) -> Any:
    """(sum w d^p)^(1/p); for p without end the largest d whose weight is not zero."""
    if p == np.inf:
        return np.max(d if w is None else np.where(np.not_equal(w, 0.0), d, 0.0), axis)
    terms = d**p
    return _root(np.sum(terms if w is None else w * terms, axis), p)


def cdist(XA: Any, XB: Any, metric: Any = "euclidean", *, out: Any = None, **options: Any) -> Any:
    """D[i, j] = d(XA[i], XB[j])."""
    a, b = (x if is_traced(x) else np.asarray(x, dtype=float) for x in (XA, XB))
    if len(shape_of(a)) != 2 or len(shape_of(b)) != 2 or shape_of(a)[1] != shape_of(b)[1]:
        raise ValueError("XA and XB must be 2-dimensional, with the same number of columns")
    distance = _metric(metric, (a, b), "cdist", **options)
    if distance is None:
        y = np.stack([np.stack([metric(row, other) for other in b]) for row in a])
    else:
        y = distance(a[:, None, :], b[None, :, :])
    return _into(out, y)


def pdist(X: Any, metric: Any = "euclidean", *, out: Any = None, **options: Any) -> Any:
    """The distances of all pairs i < j of rows, one after another."""
    distance = _metric(metric, (X,), "pdist", **options)
    i, j = np.triu_indices(shape_of(X)[0], 1)
    if distance is None:
        return _into(out, np.stack([metric(X[k], X[n]) for k, n in zip(i, j)]))
    return _into(out, distance(X[i], X[j]))


def _into(out: Any, y: Any) -> Any:
    if out is None:
        return y
    out[...] = y
    return out


def squareform(X: Any, force: str = "no", checks: bool = True) -> Any:
    """The matrix of the distances of pairs, or these of the matrix."""
    shape = shape_of(X)
    if len(shape) == 1 and force.lower() not in ("tovector", "tovec"):
        n = int(np.ceil(np.sqrt(2 * shape[0])))
        if n * (n - 1) != 2 * shape[0]:
            raise ValueError("Incompatible vector size. It must be a binomial coefficient n choose 2 for some n >= 2.")
        y = recorder_of((X,)).array_of(np.zeros((n, n), complex if is_complex(X) else float))
        i, j = np.triu_indices(n, 1)
        y[i, j] = X
        y[j, i] = X
        return y
    if len(shape) != 2 or shape[0] != shape[1] or force.lower() in ("tomatrix", "tomat"):
        raise ValueError("The matrix argument must be square.")
    if checks and (np.any(decide(np.not_equal(X, np.transpose(X)))) or np.any(decide(np.not_equal(np.diagonal(X), 0)))):
        raise ValueError("Distance matrix 'X' must be symmetric, with a diagonal of zeros.")
    return X[np.triu_indices(shape[0], 1)]


def minkowski(u: Any, v: Any, p: float = 2, w: Any = None) -> Any:
    return _norm(np.abs(np.subtract(u, v)), float(p), None, w)


def correlation(u: Any, v: Any, w: Any = None, centered: bool = True) -> Any:
    """1 minus the cosine of the angle between u and v, less their means."""
    weights = np.ones(shape_of(u)) if w is None else w
    if centered:
        u, v = (x - np.sum(weights * x) / np.sum(weights) for x in (u, v))
    return 1.0 - np.sum(weights * u * v) / np.sqrt(np.sum(weights * u * u) * np.sum(weights * v * v))


def _hull(name: str) -> Rule:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> None:
        recorder_of((*args, *kwargs.values())).unsupported(
            f"scipy.spatial.{name} of traced values", "Qhull is compiled code: decide on plain values, "
            "distdiff.numpy.value(x), and compute with x and the indices that it finds (its simplices and vertices)")

    return refuse


def nearest(obs: Any, code_book: Any, check_finite: bool = True) -> tuple[Any, Any]:
    """scipy.cluster.vq.vq: (which codeword is nearest to each observation, decided; how far it is)."""
    obs, code_book = (x[:, None] if len(shape_of(x)) == 1 else x for x in (obs, code_book))
    apart = cdist(obs, code_book)
    code = np.argmin(apart, axis=1)
    return code.astype(np.int32), apart[np.arange(len(code)), code]


RULES: dict[str, Rule] = {"scipy.cluster.vq:vq": nearest} | {f"scipy.spatial.distance:{name}": rule for name, rule in {
    "cdist": cdist, "pdist": pdist, "squareform": squareform, "minkowski": minkowski,
    "euclidean": lambda u, v, w=None: minkowski(u, v, 2, w), "correlation": correlation,
    "cosine": lambda u, v, w=None: correlation(u, v, w, False),
}.items()}
REFUSED: dict[str, Rule] = {  # Qhull would take a traced array for memory, and end the process
    f"scipy.spatial._qhull:{name}.__init__": _hull(name)
    for name in ("ConvexHull", "Delaunay", "Voronoi", "HalfspaceIntersection")
}
