"""Every decision taken during a trace is guarded: wherever a replay goes, it gives what the function gives there.

The points are drawn from a few small numbers, so that ties, empty masks and changed orders are common.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import distdiff as dd

N = 5
GRID = np.array([-1.0, 0.0, 0.5, 1.0, 1.0, 2.0])
A, B = np.linspace(0.7, 1.9, N), np.array([0.0, 0.5, 1.0])


def newton(x):
    """A loop that runs as often as its values want."""
    y, n = 3.0 + x[0], 0
    while abs(y * y - 2.0) > 1e-3 and n < 20:
        y, n = 0.5 * (y + 2.0 / y), n + 1
    return y * n


def sort_in_place(x):
    y = x * 1.0
    y.sort()
    return y @ A


def partition_in_place(x):
    y = np.stack([x, x[::-1] * A])
    y.partition((1, 3))
    return (y @ A).sum()


def masked_write(x):
    y = x * A
    y[x > 0.5] = x[x > 0.5] ** 2
    return y.sum() + len(x[x > 0.5])


def insertion(x):
    found = []
    for v in x:
        if v not in found:
            found.append(v)
    return sum(v * (k + 1) for k, v in enumerate(found)) + x[0] * len(found)


def lookup(x):
    table = np.array([1.0, 4.0, 9.0, 16.0, 25.0])
    return table[np.clip((x + 1.0).astype(int), 0, 4)] @ x


def masks_of_plain_arrays(x):
    """A plain array takes a traced mask, or a truth value, as NumPy takes a plain one."""
    first, second = np.triu_indices(N, 1)
    near = np.abs(x[first] - x[second]) < 1.5  # the pairs of a neighbour list
    kept, count = np.zeros(N, bool), np.zeros(N, int)
    kept[x > 0.5] = True
    count[x > 0.5] += 1
    table = np.outer(np.arange(1.0, 4.0), A)
    return (np.sum((x[first[near]] - x[second][near]) ** 2) + np.sum(A[x > 0.5]) * x[0] + (kept * count) @ x
            + np.sum(table[:, x > 0.5] @ x[x > 0.5]) + np.sum(A[x[0] > 0.5]) * x[1])


def masks_written_in_place(x):
    """Plain masks and counts take part in in-place operators: what is written into them is decided."""
    alive, hits, M = np.ones(N, bool), np.zeros(N, int), A.copy() > 0.0
    for _ in range(3):
        x = 0.9 * x
        alive &= x < 1.5
        hits += alive
        hits += x[0] > 0.5
    np.logical_and(x > 0.2, alive, out=M, where=x < 1.0)
    assert np.logical_or(alive, x > 3.0, out=alive) is alive
    M |= x > 2.0
    return (np.where(alive, x**2, x) * hits).sum() + (M * x).sum()


def by_index(x):
    k = x.argmax()
    return x[k] ** 2 + k * x[0]


def unique_all(x):
    values, index, inverse, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    return values @ counts + x @ index.sum(keepdims=True).repeat(N) + inverse.reshape(-1) @ x


DECISIONS = {
    "if": lambda x: x[0] ** 2 if x[0] > x[1] else 3.0 * x[1],
    "elif": lambda x: x[0] if x[0] < 0 else x[1] if x[0] == 0 else x[2] ** 2,
    "truth": lambda x: x[0] * x[1] if x[0] else x[2] - 1.0,
    "not": lambda x: x[1] if not x[0] else 2.0 * x[2],
    "and": lambda x: x[0] if x[0] > 0 and x[1] > 0 else x[1] ** 2,
    "or": lambda x: (x[0] or x[1]) * x[2],
    "while": newton,
    "all": lambda x: np.sum(x) if (x >= 0).all() else np.sum(x**2),
    "any": lambda x: np.sum(x) if np.any(x < 0) else np.sum(x**2),
    "builtin all": lambda x: x[0] if all(v > 0 for v in x) else x[1],
    "max": lambda x: max(x[0], x[1], x[2]) * x[3],
    "min of array": lambda x: min(x) * x[3],
    "max key": lambda x: max(range(N), key=lambda k: x[k]) * x[0],
    "sorted": lambda x: sum(v * (k + 1) for k, v in enumerate(sorted(x))),
    "in": lambda x: x[0] if 1.0 in x else x[1] ** 2,
    "distinct": insertion,
    "list index": lambda x: [x[0], x[1] ** 2][bool(x[2] > 0)] + x[3],
    "int": lambda x: x[int(x[0]) % N] * x[1],
    "int of array element": lambda x: int(x.sum()) * x[0],
    "floor": lambda x: math.floor(x[0]) * x[1],
    "ceil": lambda x: math.ceil(x[0]) * x[1],
    "trunc": lambda x: math.trunc(x[0]) * x[1],
    "round": lambda x: round(x[0]) * x[1] + round(x[2], 1),
    "is_integer": lambda x: x[1] if x[0].is_integer() else x[2] ** 2,
    "range": lambda x: sum((x[1] ** k for k in range(int(x[0]) + 2)), x[2]),
    "argmax": by_index,
    "argmin": lambda x: x[x.argmin()] + x.argmin() * x[1],
    "argmax axis": lambda x: (np.outer(x, A).argmax(axis=0) * np.outer(x, A)[0]).sum(),
    "argmin axis": lambda x: (np.stack([x, x[::-1]]).argmin(axis=0) * x).sum(),
    "argmax all": lambda x: np.argmax(np.stack([x, x[::-1]])) * x[0] + x[1],
    "argsort": lambda x: x[np.argsort(x, kind="stable")] @ A + np.argsort(x, kind="stable") @ x,
    "argsort axis": lambda x: (np.argsort(np.stack([x, x[::-1]]), axis=0, kind="stable")[0] * x).sum(),
    "sort": lambda x: np.sort(x) @ A,
    "sort in place": sort_in_place,
    "sort 2d": lambda x: (np.sort(np.outer(x, x), axis=0) * A).sum(),
    "median": lambda x: np.median(x) + x[0],
    "percentile": lambda x: np.percentile(x, [10.0, 60.0]).sum() + x[0],
    "partition": lambda x: np.partition(x, 2)[:2].sum() * x[4],
    "searchsorted": lambda x: np.searchsorted(B, x) @ x,
    "searchsorted right": lambda x: np.searchsorted(B, x, side="right") @ x,
    "searchsorted in x": lambda x: np.searchsorted(np.sort(x), 0.75) * x[0] + x[1],
    "digitize": lambda x: np.digitize(x, B) @ x,
    "digitize falling": lambda x: np.digitize(x, B[::-1], right=True) @ x,
    "interp": lambda x: np.interp(x, B, np.array([1.0, 3.0, 0.0])) @ A + x[0],
    "interp knots": lambda x: np.interp(0.6, np.cumsum(x**2 + 0.1), x) + x[0],
    "mask": lambda x: x[x > 0].sum() * len(x[x > 0]) + x[0],
    "mask of two": lambda x: np.sum(x[(x > 0) & ~(x == 1.0)]) + x[0],
    "masked write": masked_write,
    "nonzero": lambda x: x[np.nonzero(x)].sum() + np.nonzero(x)[0].sum() * x[0],
    "flatnonzero": lambda x: (np.flatnonzero(x > 0.5) + 1.0).sum() * x[1],
    "argwhere": lambda x: np.argwhere(x).sum() * x[1] + x[0],
    "where indices": lambda x: x[np.where(x > 0)[0]].sum() * x[0],
    "where": lambda x: np.where(x > 0.5, x**2, 3.0 * x) @ A,
    "extract": lambda x: np.extract(x > 0, x).sum() * x[0],
    "piecewise": lambda x: np.piecewise(x, [x < 0, x >= 1], [lambda v: -v, lambda v: v**2, 0.25]) @ A,
    "select": lambda x: np.select([x < 0, x == 1], [x**2, 3 * x], 0.5 * x) @ A,
    "choose": lambda x: np.choose((x > 0).astype(int), [x, x**2]) @ A,
    "astype": lookup,
    "astype bool": lambda x: (x.astype(bool) * x) @ A,
    "clip": lambda x: np.clip(x, 0.0, 1.0) @ A,
    "extrema": lambda x: np.maximum(x, x[::-1]) @ A + x.max() * x.min(),
    "allclose": lambda x: x[0] if np.allclose(x, 1.0) else x[1] ** 2,
    "array_equal": lambda x: x[0] if np.array_equal(x[:2], x[2:4]) else x[1] ** 2,
    "count": lambda x: np.count_nonzero(x) * x[0],
    "rounding": lambda x: (np.rint(x) + np.floor(x) + np.sign(x)) @ x,
    "remainder": lambda x: (x % 0.75) @ A + divmod(x[0], 0.4)[1] + x[1] // 0.3,
    "put": lambda x: np.where(np.isin(np.arange(N), np.nonzero(x > 0)[0]), x**2, x) @ A,
    "repeat": lambda x: np.repeat(x, (x > 0).astype(int) + 1).sum() * x[0],
    "split at": lambda x: x[: int(x[0]) + 2].sum() * x[3] + x[4],
    "abs": lambda x: abs(x[0]) * np.abs(x).sum(),
    "unique": lambda x: np.unique(x) @ np.arange(1.0, 1.0 + len(np.unique(x))),
    "unique all": unique_all,
    "isin": lambda x: np.where(np.isin(x, [0.0, 1.0]), x**2, 3.0 * x) @ A + x[np.isin(x, x[:2])].sum(),
    "lexsort": lambda x: np.lexsort((x, np.round(x))) @ x + np.lexsort((x[::-1], x > 0.5)) @ x,
    "trim_zeros": lambda x: np.trim_zeros(x).sum() * (len(np.trim_zeros(x)) + 1) + x[0],
    "union": lambda x: np.union1d(x[:3], x[3:]) @ np.arange(1.0, 1.0 + len(np.union1d(x[:3], x[3:]))),
    "intersection": lambda x: np.intersect1d(x[:3], x[2:]).sum() * x[0] + x[1],
    "difference": lambda x: np.setdiff1d(x, [1.0]).sum() * x[0] + np.setxor1d(x[:2], x[2:]).sum(),
    "histogram": lambda x: np.histogram(x, B)[0] @ x[:2] + x[2],
    "histogram weights": lambda x: np.histogram(x, 3, weights=x**2)[0] @ A[:3] if np.ptp(x) else x[0],
    "linspace": lambda x: np.linspace(x[0], x[1], 4) @ np.arange(4.0),
    "quantile of q": lambda x: np.quantile(x, np.clip(np.abs(x[0]), 0.0, 1.0)) + x[1],
    "nanmedian": lambda x: np.nanmedian(np.where(x > 1.5, np.nan, x)) if (x < 1.5).any() else x[0],
    "partition, all of it": lambda x: np.partition(x, 2) @ A,
    "partition in place": partition_in_place,
    "argpartition, all of it": lambda x: np.argpartition(x, 2) @ x,
    "argpartition": lambda x: x[np.argpartition(x, 1)[:1]].sum() * 2.0 + x[0],
    "compress": lambda x: np.compress(x > 0, x).sum() * x[0],
    "i0": lambda x: np.i0(12.0 * x) @ A,
    "masks of plain arrays": masks_of_plain_arrays,
    "masks written in place": masks_written_in_place,
    "builtin sum": lambda x: sum(v for v in x if v > 0) * x[0],
    "dictionary": lambda x: {True: x[0] ** 2, False: x[1]}[bool(x[0] > x[1])],
}


@pytest.mark.parametrize("name", DECISIONS)
def test_replay_gives_what_the_function_gives(name):
    f = DECISIONS[name]
    rng = np.random.default_rng(3)
    points = rng.choice(GRID, size=(25, N))
    with dd.linearize(f, points[0] + 0.0, method="sweep") as lin:
        for x in points[1:]:
            assert lin.update(x) == pytest.approx(f(x), rel=1e-14, abs=1e-14), (x, lin.retraces)
        retraces = lin.retraces
        lin.update(x + 0.0)
        assert lin.retraces == retraces, "the same point again needs no trace"
        with dd.linearize(f, x) as fresh:
            np.testing.assert_allclose(lin.vjp(1.0), fresh.vjp(1.0), rtol=1e-13, atol=1e-13)
