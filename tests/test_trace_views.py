"""What is a view in NumPy, what is a copy and what is the very same array: each is that here as well."""

from __future__ import annotations

import numpy as np
import pytest
from test_trace import check

from distdiff.tracing import trace

X = np.array([1.3, 0.4, 2.1])

PROGRAMS = """
v = A.flat[1:3]; v *= 10; return A
v = A.flat[::5]; v *= 10; return A, v
v = A.flat[:]; v *= 10; return A
v = A.flat[...]; v *= 10; return A, v
v = A.T.flat[1:4]; v *= 10; return A, v
v = B.flat[:2]; v *= 10; return B
v = A.flat.copy(); v[...] = 1; return A * x
v = A.flat; A[0] = 7 * x; return v[2], v[-1], v[[0, 1]], v[A.ravel() > 1], len(v) * x
v = A.T.flat; w = next(v); A[0] = x; return w, next(v), v.index * x, v.coords[1] * x, sum(v), v[4], list(v)
v = B.flat; return sum(v), v.coords[0] * x
return np.array(A.flat), np.asarray(A.T.flat), np.sum(A.flat), np.sin(A.T.flat), B * B.flat, np.max(A.flat)
v = np.asarray(A.flat); v[1:3] = x[0]; return A
A.flat = x; return A
A.flat = [x[0], 2.0]; return A
A.flat = A[::-1].T; return A
A.flat = []; return A
A.flat[:] = x; return A
A.flat[...] = x; return A
A.flat[2:8] = x[:2]; return A
A.flat[2:8] = [1.0, 2.0]; return A
A.flat[::-2] = x; return A
A.flat[[1, 2, 5, 4]] = x[:2]; return A
A.flat[A.ravel() > 1] = x; return A
A.flat[1] = x[0]; A.flat[-1,] = 3; A.flat[(x > 1).argmin()] = x[2]; return A
A.flat[1:3] = A; return A
A.flat[1:] = A; return A
A.T.flat = x[:2]; return A
A.T.flat[1:7] = x; return A
A[:, 1].flat = x[:2]; return A
A[:, 1].flat[1:] = x[:2]; return A
B.flat[:] = x[:2]; B[::-1].flat[:2] = A; return B
z = np.zeros((3, 3)); z[0] = x; z.flat[2:] = x; return z
v = A.conj(); v[...] = -7 * x; return A
v = A[0].conjugate(); v[...] = -7 * x; return A
v = np.conj(A); v[...] = -7; return A
v = np.zeros((3, 3)) * x; A[1].conj(v[0]); return v
a = np.append(x, 1.0) * 2; v = a[:2]; a.resize((2, 2), refcheck=False); a[0, 0] = 5 * x[1]; return v, a
a = np.append(x, 1.0) * 2; a.resize((5,), refcheck=False); a[0] = 5; return a * x[0]
a = np.append(x, 1.0) * 2; a.resize((2,), refcheck=False); a[0] = 5; return a * x[0]
a = np.asfortranarray(A * A[0]); a.resize((9,), refcheck=False); return a
a = np.asfortranarray(A * A[0]); a.resize((2, 3), refcheck=False); return a
a = np.asfortranarray(A * A[0]); a.resize((4, 3), refcheck=False); return a
v = np.block(A); v[...] = -7; return A * x
v = np.block([A]); v[...] = -7; return A * x
v = np.linalg.matrix_power(A, 1); v[0] = -7 * x; return A
v = np.linalg.matrix_power(A, 2); v[0] = -7; return A, v
""".strip().splitlines()


@pytest.mark.parametrize("program", PROGRAMS)
def test_views_copies_and_the_same_array(program):
    space = {"np": np}
    exec(f"def f(x): A = np.outer(x, x); B = 2 * x; {program}", space)
    check(space["f"], X)


REFUSED = [
    ("A.flat[9]", IndexError, "out of bounds"), ("A.flat[1, 2]", IndexError, "only integers"),
    ("A.flat[None]", IndexError, "only integers"), ("A.flat.__setitem__(9, x[0])", IndexError, "out of bounds"),
    ("A.flat.__setitem__(1, x)", ValueError, "value array of shape"),
    ("A[:, :2].resize((3, 1))", ValueError, "single-segment"),
]


@pytest.mark.parametrize(("text", "error", "says"), REFUSED)
def test_what_numpy_refuses(text, error, says):
    space = {"np": np}
    exec(f"def f(x): A = np.outer(x, x); return {text}", space)
    with pytest.raises(error):
        space["f"](X.copy())
    with pytest.raises(error, match=says):
        trace(space["f"], (X.copy(),))
