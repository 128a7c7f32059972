"""Tracing: what the function computes, and what the tape says it computed.

Every program below runs once in plain NumPy and once traced; the independent interpreter of `tape_oracle`
evaluates the tape, and its Jacobian is held against central differences of the plain function.
"""

from __future__ import annotations

import numpy as np
import pytest
import tape_oracle as oracle

from distdiff.tape import UNREAD, Const, ScalarRun
from distdiff.tracing import trace


def flat(tree) -> np.ndarray:
    if isinstance(tree, dict):
        return np.concatenate([flat(tree[k]) for k in sorted(tree)])
    if isinstance(tree, (tuple, list)):
        return np.concatenate([np.empty(0), *map(flat, tree)])
    return np.ravel(np.asarray(tree, dtype=float))


def check(f, *args, derivative=True, rtol=1e-13):
    """Trace f over all its arguments; hold values, kept values, guards and Jacobian against independent ones."""
    args = [np.array(a) if isinstance(a, np.ndarray) else a for a in args]
    before = [np.copy(a) for a in args]
    t = trace(f, tuple(args), argnums=tuple(range(len(args))), keep_values=True)
    for a, b in zip(args, before):
        np.testing.assert_array_equal(a, b)  # in-place writes in f stay in f
    x = flat(args)
    y = oracle.evaluate(t.tape, x)
    plain = f(*[np.copy(a) if isinstance(a, np.ndarray) else a for a in args])
    np.testing.assert_allclose(flat(t.result), flat(plain), rtol=rtol, atol=1e-14)
    np.testing.assert_allclose(oracle.outputs(t.tape, y), flat(plain), rtol=rtol, atol=1e-14)
    assert oracle.check_guards(t.tape, y)
    for block, values in zip(t.tape.blocks, t.values):
        if values is not None:
            assert values.shape == (block.size,) and values.flags.c_contiguous and type(values) is np.ndarray
            np.testing.assert_allclose(values, y[block.first : block.first + block.size], rtol=1e-12, atol=1e-14)
    check_unread(f, args, y)
    if derivative:
        shapes = [np.shape(a) for a in args]

        def at(point):
            parts, start = [], 0
            for shape in shapes:
                n = int(np.prod(shape, dtype=int))
                parts.append(point[start : start + n].reshape(shape) if shape else float(point[start]))
                start += n
            return flat(f(*parts))

        J, h = oracle.jacobian(t.tape, x), 1e-6
        for k in range(len(x)):
            e = np.zeros(len(x))
            e[k] = h
            np.testing.assert_allclose(J[:, k], (at(x + e) - at(x - e)) / (2 * h), rtol=2e-6, atol=2e-8)
    return t


def check_unread(f, args, y, **options):
    """With keep_values="read", what was not kept is read by no partial, guard, scalar run or output; the rest
    is kept as it was."""
    t = trace(f, tuple(args), argnums=tuple(range(len(args))), keep_values="read", **options)
    known = y.copy()
    for block, values in zip(t.tape.blocks, t.values):
        part = slice(block.first, block.first + block.size)
        if values is UNREAD:
            known[part] = np.nan
        elif values is not None:
            np.testing.assert_allclose(values, y[part], rtol=1e-12, atol=1e-14)

    def same(ref, shape):
        ids, _ = oracle.operand(t.tape, ref, shape, y)
        if ids is not None:
            np.testing.assert_array_equal(known[ids], y[ids])

    for item in t.tape.items:
        if isinstance(item, ScalarRun):
            ids = np.concatenate([item.a, item.b])
            ids = ids[(ids >= 0) & (ids < t.tape.blocks[item.block].first)]
            np.testing.assert_array_equal(known[ids], y[ids])
            continue
        for ref, reads in zip(item.operands, item.op.reads):
            if not isinstance(ref, Const):
                for place in reads:
                    same(item.out if place < 0 else item.operands[place], item.shape)
    for leaf in t.tape.outputs:
        same(leaf.ref, leaf.shape)
    for guard in t.tape.guards:
        same(guard.ref, np.shape(guard.expected))
    return t


def nodes(t) -> int:
    return t.tape.n_nodes - t.tape.n_inputs


U = np.array([0.9137, 1.7214, 0.4353, 1.3079, 0.6181, 1.1231, 1.9442])  # nothing at a kink
M = np.array([[0.9137, 1.7214, 0.4353, 1.2178], [1.3079, 0.6181, 1.1231, 0.8119], [0.7331, 1.4142, 1.6227, 0.5193]])
V4 = np.array([1.2, 0.3, 0.8, 1.5])
C7 = np.array([0.3, 2.0, 1.0, 0.7, 0.2, 5.0, 0.9])

PROGRAMS = {}


def program(*args):
    def add(f):
        PROGRAMS[f.__name__] = (f, args)
        return f

    return add


for name, function in {
    "square": lambda u: u * u,
    "arithmetic": lambda u: (
        (u + 2.0) * u / (3.0 - u) - 1.0 / u + 2**u - u**3 + u**2 + u**0.5 + u**-1 + u**u + u**0 + u**1
    ),
    "unary": lambda u: -u + (+u) + abs(u - 1.0),
    "modulo": lambda u: u % 0.7 + u // 0.7 + 2.0 % u,
    "with constants": lambda u: C7 * u + u / C7 - C7 + (C7 - u) + np.float64(2.0) * u + np.int64(3) * u + u * 2,
    "constant first": lambda u: np.add(C7, u) + C7 * (C7 + u),
    "slices": lambda u: u[1:] * u[:-1] + u[::-1][1:] - u[6:0:-1],
    "strides": lambda u: u[::2] * u[1:5:1],
    "scalars": lambda u: (
        u[0] * u[3]
        + u[-1] / 2
        - 3.0 / u[2]
        + 2 * u[1]
        - u[1] ** 2
        + u[2] ** 1.5
        + 2.0 ** u[1]
        + (-u[3])
        + abs(u[2] - 1)
    ),
    "scalar ufuncs": lambda u: (
        np.sin(u[0]) * np.exp(u[1]) + np.arctan2(u[2], u[3]) + np.maximum(u[0], u[1]) + np.sqrt(u[2])
    ),
    "scalar methods": lambda u: (
        u[0].sum() + u[1].mean() + u[2].copy() + u[3].reshape(1)[0] + u[0].item() + u[1].clip(0.0, 1.0)
    ),
    "scalar with array": lambda u: u[0] * u + u / u[1] - (u - u[2]) * C7[:7] + C7 * u[3] + u[3] * C7,
    "sum": lambda u: u.sum() + np.sum(u * u) + np.add.reduce(u) + sum(u) + np.sum([u[0], u[1]]),
    "mean var std": lambda u: [
        u.mean(),
        np.var(u),
        u.std(ddof=1),
        np.mean(u * u),
        np.average(u, weights=C7),
        np.average(u),
    ],
    "prod": lambda u: [u.prod(), np.prod(u[:4]), np.multiply.reduce(u[1:3])],
    "max min": lambda u: [
        u.max(),
        np.min(u),
        np.amax(u * u),
        np.ptp(u),
        np.maximum.reduce(u),
        max(u[0], u[1]),
        min(u),
    ],
    "cumsum": lambda u: np.cumsum(u) * u + np.add.accumulate(u) + u.cumsum(axis=0),
    "roll": lambda u: (
        np.roll(u, 1) * u - np.roll(u, -2) + np.roll(u, 0) + np.roll(np.roll(u, 3), -3) + np.roll(u, 15)
    ),
    "concatenate": lambda u: np.concatenate([u[:2], u[4:], [1.0, 2.0], u[1:3] * 2, C7[:2]]) * 2.0,
    "stacks": lambda u: [
        np.stack([u, u * u]),
        np.stack([u, C7], axis=1),
        np.vstack([u, u]),
        np.hstack([u, u[0], 1.0]),
        np.column_stack([u, u * 2]),
        np.dstack([u, u]),
        np.append(u, 1.0),
        np.r_["0,2", [1.0]].sum() + u,
    ],
    "pad": lambda u: [
        np.pad(u, 2),
        np.pad(u, (1, 3), mode="edge"),
        np.pad(u, 2, mode="wrap"),
        np.pad(u, 3, mode="reflect"),
        np.pad(u, 2, mode="symmetric"),
        np.pad(u, (0, 2), constant_values=1.5),
        np.pad(u[:2], 5, mode="reflect") * 2,
    ],
    "where": lambda u: (
        np.where(u > 1.0, u * u, 2.0)
        + np.where(u < C7, u, C7)
        + np.where(C7 > 1, u, 0)
        + np.where([True] * 7, u, 1.0)
    ),
    "masks": lambda u: (
        (u > 1.0) * u
        + ((u > 0.5) & (u < 1.5)) * 2.0
        + (~(u > 1)).sum()
        + (u >= 1).any()
        + np.all(u > 0) * 1.0
        + ((u > 1) | (u < 0.5)).mean()
        + ((u > 1) ^ (u > 0.5)) * u
        + (u == u) * 1.0
        + (u != 1.0) * u
    ),
    "mask index": lambda u: u[u > 1.0].sum() + u[C7 > 0.5].prod() + u[(u > 0.5) & (u < 1.2)][0],
    "clip": lambda u: (
        np.clip(u, 0.7, 1.2) + u.clip(None, 1.0) + np.clip(u, C7 * 0.5, None) + np.maximum(u, 1.0) * np.minimum(u, C7)
    ),
    "fancy": lambda u: (
        u[[0, 3, 3, 1]] * u[np.array([1, 2, 5, 6])] + np.take(u, [1, 1, 2, 0]) + u[np.array([0, 1, 2, 3])]
    ),
    "fancy 2": lambda u: (
        np.take(u, 3) + np.take_along_axis(u, np.argsort(C7), 0) * u + np.repeat(u, 2)[3:10] + np.tile(u, 2)[4:11]
    ),
    "diff gradient": lambda u: [
        np.diff(u),
        np.diff(u, 2),
        np.diff(u, prepend=0.0),
        np.gradient(u),
        np.gradient(u, 0.5),
        np.gradient(u, np.cumsum(C7)),
        np.gradient(u, 0.3, edge_order=2),
    ],
    "trapz": lambda u: (
        getattr(np, "trapezoid", getattr(np, "trapz", None))(u, dx=0.1)
        + getattr(np, "trapezoid", getattr(np, "trapz", None))(u, np.cumsum(C7))
    ),
    "interp": lambda u: (
        np.interp(u, [0.5, 1.0, 1.5], [1.0, 3.0, -1.0]) + np.interp([0.2, 2.5], np.cumsum(u), u * u).sum()
    ),
    "norms": lambda u: [
        np.linalg.norm(u),
        np.linalg.norm(u, 1),
        np.linalg.norm(u, np.inf),
        np.linalg.norm(u, 3),
        np.linalg.norm(u - 1),
    ],
    "dot": lambda u: [
        u.dot(u),
        np.dot(u, C7),
        C7 @ u,
        u @ (2.0 * u),
        np.inner(u, u),
        np.vdot(u, C7),
        np.outer(u[:2], u[3:]),
    ],
    "convolve": lambda u: [
        np.convolve(u, [1.0, 2.0, 0.5]),
        np.convolve(u[:3], u, "same"),
        np.convolve(C7, u[:2], "valid"),
        np.correlate(u, [1.0, 2.0]),
    ],
    "polyval": lambda u: np.polyval([1.0, 2.0, 3.0], u) + np.polyval(u[:3], 1.5),
    "sort": lambda u: np.sort(u) * np.arange(7) + np.median(u) + np.sort(u)[::-1] + u[np.argsort(u)] * 2,
    "arg": lambda u: u[np.argmax(u)] + u[u.argmin()] * 2 + u[np.searchsorted(np.cumsum(u), 3.0)],
    "ints": lambda u: u[int(u[0])] + u[(3 * u[:2]).astype(int)].sum() + int(2 * u[1]) * u[2] + round(u[3]) * u[0],
    "copies": lambda u: (
        np.copy(u) + u.copy() + np.array(u) + np.asarray(u) + u.astype(float) + np.ascontiguousarray(u[::-1])
    ),
    "split": lambda u: [p * 2 for p in np.split(u[:6], 3)] + [p.sum() for p in np.array_split(u, 3)],
    "round": lambda u: np.round(u, 1) + np.floor(u) + np.rint(u) + u - np.trunc(u),
    "misc": lambda u: [
        np.sinc(u),
        np.nan_to_num(u),
        np.deg2rad(u),
        np.heaviside(u - 1.0, 0.5),
        np.fmod(u, 0.4),
        np.hypot(u, C7),
        np.fmax(u, 1.0),
        np.positive(u),
        np.conjugate(u),
        np.select([u > 1.2, u > 0.8], [u, u * u], 3.0),
        np.full(3, u[0]),
        np.full_like(u, u[1]),
        np.linspace(u[0], u[1], 4),
        np.add.outer(u[:2], u[:3]),
        np.divmod(u, 0.3),
    ],
    "iterate": lambda u: sum(v * k for k, v in enumerate(u)) + len(u) + sum(r.sum() for r in u.reshape(7, 1)),
    "chained compare": lambda u: u * 2 if 0.0 < u[0] < u[1] and u.sum() > 1 else u,
    "reshape": lambda u: (
        u[:6].reshape(2, 3) * u[1:].reshape(3, 2).T
        + u[:6].reshape(2, -1).T.reshape(2, 3)
        + np.ravel(u[:6]).reshape(2, 3)
    ),
    "list results": lambda u: {"b": [u, u[0]], "a": (u * 2, 1.0, [C7, 2])},
    "object array": lambda u: np.array([u[0], u[1] * 2], dtype=object),
    "empty parts": lambda u: np.concatenate([u[:0], u, u[7:]]) + u[3:3].sum() + np.zeros(0).sum(),
    "any of scalars": lambda u: any(v > 1.8 for v in u) * u + all(v > 0 for v in u) * u,
}.items():
    PROGRAMS[name] = (function, (U,))

for name, function in {
    "axes": lambda m: [
        m.sum(0),
        m.sum(axis=1),
        m.sum(axis=(0, 1)),
        m.sum(axis=-1, keepdims=True),
        m.mean(0),
        np.max(m, axis=1),
        m.min(axis=0, keepdims=True),
        np.cumsum(m),
        np.cumsum(m, axis=0),
        m.cumsum(axis=1),
        m.prod(axis=1),
        m.var(axis=0),
        np.sum(m, keepdims=True),
        np.amax(m, axis=(0, 1)),
        m.any(axis=0) * 1.0,
        np.ptp(m, axis=1),
        np.median(m, axis=1),
    ],
    "views": lambda m: [
        m.T * 2,
        m[::-1, 1:] * m[:, :3],
        np.swapaxes(m, 0, 1) + 1,
        np.moveaxis(m, 0, 1) * 2,
        m[:, None, :] * m[None, :, :],
        np.flip(m, 1) * m,
        np.rot90(m) * 2,
        np.fliplr(m) + m,
        np.expand_dims(m, 0) * 2,
        np.squeeze(m[None]) * m,
        np.broadcast_to(m[0], (2, 4)) * 2,
        m.diagonal() * 2,
        np.diag(m) * 3,
        m.ravel() * 2,
        m.T.ravel() * m.ravel(),
        m.flatten(order="F") * 2,
        m.reshape(4, 3) * m.T,
        m.reshape(2, 6) * 2,
        m.transpose(1, 0) * 2,
        np.trace(m),
    ],
    "broadcast": lambda m: m + m[0] + m[:, :1] * m[:1] + m[1, 2] * m + V4 * m + m[:, 0][:, None],
    "products": lambda m: [
        m @ V4,
        m.T @ m,
        V4 @ m.T,
        m @ m.T,
        np.dot(m, V4),
        np.dot(m, m.T),
        np.tensordot(m, m, axes=([0], [0])),
        np.tensordot(m, m, axes=2),
        np.einsum("ij,kj->ik", m, m),
        np.einsum("ij,ij->", m, m),
        np.einsum("ij->j", m),
        np.einsum("ij,jk,kl->il", m, m.T, m),
        np.einsum("ii->i", m[:, :3]),
        np.inner(m, m),
        np.kron(m[:2, :2], m[:1]),
        np.einsum("ij,j->i", m, V4),
        np.outer(m[0], m[1]),
        np.einsum("ij,jk", m, m.T),
        np.matmul(m, V4),
    ],
    "batched": lambda m: [
        m.reshape(3, 2, 2) @ m.reshape(3, 2, 2),
        m.reshape(3, 2, 2) @ m[:2, 0],
        m.reshape(3, 2, 2) @ m[:2, :2],
        m[0, :2] @ m.reshape(3, 2, 2),
        np.dot(m.reshape(3, 2, 2), m[:2]),
    ],
    "roll 2d": lambda m: (
        np.roll(m, 1, axis=0) * np.roll(m, (1, -1), axis=(0, 1)) + np.roll(m, 2, axis=1) - np.roll(m, 5)
    ),
    "pad 2d": lambda m: [
        np.pad(m, 1) * 2,
        np.pad(m, ((1, 0), (0, 2)), mode="edge") * 2,
        np.pad(m, 2, mode="wrap") + 1,
        np.pad(m, 1, mode="reflect") * 2,
        np.pad(m, ((0, 0), (1, 1)), mode="symmetric"),
        np.pad(m, ((1, 2), (3, 0)), constant_values=((1, 2), (3, 4))),
    ],
    "joins 2d": lambda m: [
        np.concatenate([m, m * 2], axis=1) * 2,
        np.stack([m, m], axis=-1) * 1,
        np.block([[m, m * 2], [np.ones((1, 8))]]),
        np.vstack([m, V4]) * 2,
        np.concatenate([m, m], axis=None) * 2,
        np.hstack([m, m[:, :1]]),
    ],
    "fancy 2d": lambda m: [
        m[[0, 2]] * 2,
        m[:, [1, 1, 3]],
        m[[0, 1, 2], [3, 2, 1]] * 2,
        m[m > 1.0] * 2,
        m[1, [0, 2]],
        m[np.ix_([0, 2], [1, 3])] * 2,
        np.take(m, [0, 2], axis=1),
        m[..., None, 1],
        m[1][2] * m[-1, -1],
        np.delete(m, 1, axis=0),
        np.insert(m, 1, 2.0, axis=1),
        np.take_along_axis(m, np.argsort(m, axis=1), axis=1),
        np.sort(m, axis=0),
        m[np.argmax(m, axis=0), np.arange(4)],
        np.repeat(m, 2, axis=1),
        np.tile(m, (2, 1)),
        np.tril(m),
        np.triu(m, 1) * 2,
        np.diff(m, axis=0),
        np.gradient(m)[1],
    ],
    "meshgrid": lambda m: np.meshgrid(m[0], m[:, 1]) + np.meshgrid(m[0, :2], V4, indexing="ij"),
    "cross": lambda m: np.cross(m[:, :3], m[:, 1:]) * 2,
    "laplacian": lambda m: m[1:-1, 2:] + m[1:-1, :-2] + m[2:, 1:-1] + m[:-2, 1:-1] - 4 * m[1:-1, 1:-1],
    "broadcast arrays": lambda m: [a * b for a, b in [np.broadcast_arrays(m[0], m[:, :1])]],
    "window": lambda m: np.lib.stride_tricks.sliding_window_view(m, 2, axis=1).sum(-1) * 2,
    "like": lambda m: [np.zeros_like(m) + m, np.ones_like(m) * m, np.empty_like(m) * 0 + m, np.full_like(m, 3.0) * m],
    "norm axes": lambda m: [
        np.linalg.norm(m),
        np.linalg.norm(m, axis=1),
        np.linalg.norm(m, 1, axis=0),
        np.linalg.norm(m, axis=0, keepdims=True),
    ],
}.items():
    PROGRAMS[name] = (function, (M,))


@program(U)
def element_writes(u):
    out = np.zeros(40)
    for i in range(7):
        out[3 * i] = u[i] * u[i - 1]
    out[1] = out[0]
    out[39] += u[2]
    out[2] = 5.0
    return out[:20] * 2.0, out.sum()


@program(U)
def slice_writes(u):
    u = u.copy()
    view = u[1:-1]
    u[1:-1] = u[2:] * u[:-2]
    view += 1.0
    u[0] = u[-1] = 2.0
    u[::2] *= 3.0
    u[::-1][:2] = u[:2]
    u[3] = u[4]
    return u * 1.0, view * view


@program(U)
def overlapping_writes(u):
    u = u.copy()
    u[1:] = u[:-1]
    u[:-1] += u[1:]
    u[:] = u[::-1]
    return u * u


@program(M)
def writes_2d(m):
    out = np.zeros((3, 4))
    out[0] = m[1]
    out[:, 1] = m[:, 2] * 2
    out[1:, 2:] = m[:2, :2] + out[:2, 1:2]
    out.T[3] = m[:, 0]
    out[1, 1] = m.sum()
    flat = out.reshape(-1)
    flat[5] = m[0, 0]
    out[[0, 2]] += m[[1, 1]]
    out[m > 1.2] = 0.5
    out[out > 3] *= 2
    return out * out, flat[::2] * 1.0


@program(U)
def index_writes(u):
    u = u.copy()
    u[[1, 1, 3]] = u[[2, 4, 0]]
    u[np.array([0, 2])] += 1.5
    u[[5, 5]] += u[:2]
    u[C7 > 1] = 0.25
    u[u > 1.5] = u[0]
    return u * 2.0


@program(U)
def out_arguments(u):
    a, b = np.empty(7), np.zeros(7)
    np.multiply(u, u, out=a)
    np.add(a, 1.0, out=b)
    b -= u
    b[2:] /= a[2:]
    np.maximum(b, a, out=b)
    np.sum(np.stack([a, b]), axis=0, out=a)
    a.fill(2.0)
    np.copyto(a[:3], u[:3])
    return a * b


@program(U)
def created_from_lists(u):
    a = np.array([u[0], 2.0, u[1] * u[2]])
    b = np.array([[u[0], u[1]], [1.0, u[2]]])
    c = np.asarray([u, u * 2, C7])
    d = np.array([u[:3], [1.0, 2.0, u[6]]])
    e = np.array(C7)
    e[2] = u[0]
    g = np.zeros_like(C7)
    g += u
    h = np.ones(3) * 2 + 1
    h[1] = u[0]
    k = np.eye(2)
    k[0, 1] = u[3]
    n = np.linspace(0, 1, 5)
    n[2:] = u[:3]
    return (
        a,
        b @ b,
        c.sum(0),
        d * 2,
        e * 2,
        g,
        h,
        np.dot(k, a[:2]),
        n * 2,
        np.stack([u[0], u[1]]),
        np.max([u[0], u[1]]),
    )


@program(U)
def plain_parts_stay_plain(u):
    a = np.zeros((3, 3))
    assert isinstance(a, np.ndarray) and isinstance(u, np.ndarray)
    a[1] = 2.0
    a += np.eye(3)
    inverse = np.linalg.inv(a + np.diag([1.0, 2.0, 3.0]))
    index = np.arange(7)[::-1]
    count = np.zeros(3, dtype=int)
    count[1] += 2
    return inverse @ u[:3] + u[index][:3] * count


@program(U)
def loop_with_state(u):
    x, v = 0.0, 1.0
    for k in range(30):
        x, v = x + 0.1 * v, v - 0.1 * u[k % 7] * x
        if x > 0.5:
            v = v * 0.9
    return x, v


@program(U)
def mixed_runs(u):
    s = u[0] * 2
    v = u * s
    s = v[1] + s * 3
    w = v + s
    w[2] = s
    s = s * w[2] - w[3]
    return w * s


@program(U, 2.5, M)
def several_arguments(u, s, m):
    return (u * s).sum() * m, s * s, np.sin(s)


@program(U)
def sums_over_indices(u):
    a = np.zeros((3, 4))
    np.add.at(a, ([0, 0, 2, 0, 1, 2], [1, 1, 3, 1, 0, 3]), u[:6] * u[1:])
    b = u * 2
    np.add.at(b, [1, 1, 5], 0.5)
    np.subtract.at(b, [[0, 6], [0, 3]], u[:4].reshape(2, 2))
    c = np.bincount([0, 3, 3, 1, 0, 0, 3], weights=u * u, minlength=6)
    d = np.eye(3) * 1.0
    np.fill_diagonal(d, u[:3])
    return a * 1.0, b * 1.0, c * 2.0, d @ u[:3]


@program(M)
def flat_of_views(m):
    m = m * 1.0
    m.flat[5] = m[0, 0] * 2
    total = sum(m.T.flat)
    m.flat = np.arange(12.0)
    m.flat[3:6] = m.T.flat[:3] * total
    return m * 1.0, total


@program(U)
def statistics(u):
    a, b, c = u * 1.0, u * 1.0, u[:6].reshape(2, 3) * 1.0
    np.put(a, [0, 3], u[1:3] * 2)
    np.place(b, b > 1, [0.5, 0.25])
    np.put_along_axis(c, np.array([[1], [0]]), u[:2].reshape(2, 1), axis=1)
    return (
        np.quantile(u, 0.3),
        np.percentile(u, [10, 80]),
        np.quantile(c, 0.4, axis=1),
        np.cumprod(u),
        u[:6].reshape(2, 3).cumprod(axis=1),
        np.cov(c),
        np.corrcoef(c),
        np.nansum(u),
        np.nanmean(u),
        np.nanmax(u),
        np.linalg.matrix_power(c[:, :2], 5),
        np.ediff1d(u),
        np.linalg.multi_dot([c, c.T, c]),
        np.vander(u[:3]),
        np.resize(u, (3, 3)),
        np.extract(u > 1, u),
        np.choose([0, 1, 0, 1, 0, 1, 0], [u, u * 2]),
        np.piecewise(u, [u > 1], [lambda t: t * t, lambda t: -t]),
        np.partition(u, 3),
        u[np.argpartition(u, 2)],
        a * 1,
        b * 1,
        c * 1,
    )


@program(U)
def special_functions(u):
    from scipy.special import expit, logit, xlogy

    return expit(u), logit(u / 3), xlogy(u, u + 1)


@program(U)
def many_pieces(u):
    parts = [u[k : k + 1] * k for k in range(7)] * 4
    a = np.concatenate(parts)
    b = np.stack([u * k for k in range(20)])
    return a * a[::-1], b.sum(0), b[:, 2] * 1.0


@program(U)
def aliasing(u):
    a = u * 1.0
    kept = a * 2.0
    b = a[2:5]
    c = a.reshape(7, 1)
    a[3] = 10.0 * u[0]
    d = b.copy()
    b[0] = u[1]
    c[6] = 0.0
    a *= 2
    return a * 1.0, b * 1.0, c * 1.0, d * 1.0, kept


@program(U)
def constant_after_traced(u):
    a = u * 1.0
    a[:] = 1.0
    b = np.zeros(7)
    b[:] = u
    b[:] = C7
    return a + b + u


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name):
    f, args = PROGRAMS[name]
    with np.errstate(all="ignore"):
        check(f, *args)


UFUNCS = [
    "sin",
    "cos",
    "tan",
    "arcsin",
    "arccos",
    "arctan",
    "sinh",
    "cosh",
    "tanh",
    "arcsinh",
    "arctanh",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sqrt",
    "cbrt",
    "square",
    "reciprocal",
    "negative",
    "absolute",
    "fabs",
    "sign",
    "floor",
    "ceil",
    "rint",
    "trunc",
    "isfinite",
    "isnan",
    "isinf",
    "signbit",
    "logical_not",
]
BINARY = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "true_divide",
    "power",
    "float_power",
    "arctan2",
    "hypot",
    "maximum",
    "minimum",
    "remainder",
    "mod",
    "copysign",
    "logaddexp",
    "logaddexp2",
    "floor_divide",
    "greater",
    "less_equal",
    "logical_and",
    "logical_xor",
    "equal",
]


@pytest.mark.parametrize("name", UFUNCS)
def test_ufunc(name):
    f = getattr(np, name)
    check(lambda u: f(u / 2.0) * 1.0 + f(u[0] / 2.0), U)
    check(lambda u: f(u + 1.0, out=np.empty(7)) if name not in ("arcsin", "arccos", "arctanh") else u, U)


def test_arccosh():
    check(lambda u: np.arccosh(u + 1.0), U)


@pytest.mark.parametrize("name", BINARY)
def test_binary_ufunc(name):
    f = getattr(np, name)
    check(lambda u: f(u, C7) * 1.0 + f(1.5, u) + f(u[::-1], u) + f(u[0], u[1]) + f(u[2], 1.5) + f(u[0], u), U)


def test_python_floats_as_arguments():
    check(lambda a, b: a * b + a / b - b**a + 3 % a, 1.37, 2.5)
    check(lambda a: np.array([a, a * a]), 2.0)
    check(lambda a: a, 2.0)


@pytest.mark.parametrize("shape,shift,axis", [
    ((7,), 2, None), ((7,), -9, 0), ((7,), 0, 0), ((1,), 3, 0), ((4, 5), 1, 0), ((4, 5), -1, -1), ((4, 1), 3, 1),
    ((2, 3, 4), 5, 1), ((4, 5), 7, None)])
def test_a_rolled_block_is_two_boxes_of_it(shape, shift, axis):
    x = np.arange(1.0, 1.0 + np.prod(shape)).reshape(shape)

    def f(u):
        return 2.0 * u - np.roll(3.0 * u, shift, axis=axis), np.sqrt(np.roll(u * u, shift, axis))

    traced = trace(f, (x,), argnums=0, keep_values=True)
    for leaf, expected in zip(traced.tape.outputs, f(x)):
        assert leaf.shape == shape
        assert np.array_equal(traced.values[leaf.ref.block].reshape(shape), expected)
    if axis is not None and shift % shape[axis]:
        assert len(traced.tape.items) == 3 + 2 * 2  # 2 u, 3 u, u u; two boxes of the difference and of the root


@pytest.mark.parametrize("call", [lambda u: np.roll(u, 1, axis=2), lambda u: np.roll(u, 1, -3),
                                  lambda u: np.roll(u, 1, axes=0), lambda u: np.roll(u, axis=0)])
def test_a_roll_that_numpy_refuses_raises_as_there(call):
    x = np.ones((3, 4))
    with pytest.raises(Exception) as expected:
        call(x)
    with pytest.raises(expected.type):
        trace(lambda u: call(u * 2.0), (x,))
