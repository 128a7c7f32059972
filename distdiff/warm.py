"""Fills the cache of compiled loops: small programs that between them call every loop, as large ones will."""

from __future__ import annotations

from typing import Any

import numpy as np

from .comm import agreed, chosen
from .graph import analyse
from .implicit import root
from .kernels import jit
from .linearization import linearize
from .nested import NestedLinearization
from .partition import localize_all, partition
from .pictures.sparsity import of_tape
from .tracing import trace


def warm(comm: Any = None) -> list[str]:
    """Compile, and keep on disk, what a first large derivative would stop to compile.  Collective.

    Returns the functions, with their signatures, that the cache lacked, on every rank those of all ranks.  Loops for
    messages between ranks are called, so compiled, on two ranks or more only.
    """
    comm = chosen(comm)
    jit.compile_at_once()
    from .kernels.cache import DiskCache

    before = len(DiskCache.compiled)
    u = np.linspace(0.5, 1.5, 24)
    for f, x in ((_grid, u), (_particles, u), (_waves, u[:3]), (_steps, u[:2]), (_derivatives, u[:2])):
        for method, strategy in (("sweep", "axes"), ("substitution", "contiguous"), ("neumann", "contiguous"),
                                 ("krylov", "contiguous")):
            with linearize(f, x, comm=comm, method=method, partition=strategy, min_block=1) as lin:
                lin.jacobian(), lin.vjp(lin.value), lin.jvp(x)
                lin.update(x + 0.1)
                for _ in range(5):  # as many as make a sweep prepare for more
                    lin.vjp(lin.value)
        with agreed(comm):
            if comm.rank == 0:
                tape = trace(f, (x,)).tape
                analyse(tape)
                of_tape(tape)
                for strategy in ("axes", "contiguous", "levels", "growlocal"):
                    localize_all(tape, partition(tape, 3, strategy=strategy, min_block=1))
    with linearize(_equations, u, comm=comm, method="substitution") as lin:
        lin.jacobian(), lin.vjp(lin.value), lin.jvp(u)
    return sorted({name for names in comm.allgather(DiskCache.compiled[before:]) for name in names})


def _equations(u: np.ndarray) -> Any:
    """Results of implicit statements: diagonal blocks of every kind."""
    v = root(lambda u, v: v + v**3 - u, u, u)
    w = root(lambda v, w: w + 0.1 * w * np.roll(w, 1) - v, v[:12], v[:12])
    return v, w, root(lambda w, z: np.stack([z[0] - w[0] * z[1], z[1] + z[0]**3 - w[1]]), w, np.zeros(2))


def _grid(u: np.ndarray) -> Any:
    """Array code: a stencil, products, a matrix product, indices that repeat, a sum."""
    for _ in range(3):
        u = u + 0.2 * (np.roll(u, 1) - 2 * u + np.roll(u, -1)) * u
    table = u.reshape(4, 6)
    picked = u[np.array([3, 1, 3, 20])]
    solved = np.linalg.solve(u[:, None, None] + 2.0 * np.eye(2), u[:, None, None] * np.ones((2, 1)))
    return np.tanh(table @ table.T), picked * u[0], np.sum(u * u), np.sum(np.linalg.cholesky(np.eye(2) + solved**2))


def _particles(u: np.ndarray) -> Any:
    """Scalar code whose lines fan out and end in long sums."""
    total = 0.0
    for k in range(40):
        total = total + u[k % 24] * u[(7 * k) % 24] - 0.5 * u[k % 5]
    return total, u[0] * total


def _waves(u: np.ndarray) -> Any:
    """Array code with more results than inputs."""
    t = np.linspace(0.0, 1.0, 24)
    y = np.sin(u[0] * t) * np.exp(u[1] * t)
    y *= t - u[2]
    return y * y


def _derivatives(u: np.ndarray) -> Any:
    """Derivatives of scalar code inside a function, backwards and forwards."""
    inner = NestedLinearization(_steps, (u,))
    return inner.vjp(inner.value), inner.jvp(u)


def _steps(u: np.ndarray) -> Any:
    """Scalar code that steps through time, with a decision, and more results than inputs."""
    p, q, path = u[0], u[1], []
    for _ in range(40):
        p, q = p + 0.01 * (p - p * q), q + 0.01 * np.sin(p * q - q)
        if p > 10.0:
            p = p / 2
        path.append(p - q)
    return path
