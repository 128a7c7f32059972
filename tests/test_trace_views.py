"""What is a view in NumPy, what is a copy and what is the very same array: each is that here as well.  And elements
put in, or chosen, where NumPy puts them."""

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
z = A * 1j + x; v = z.flat[1:3]; v *= 10; return z.real, z.imag, v.real, sum(z.flat).imag, z.T.flat[1:4].imag
z = A * 1j + x; z.flat[2:8] = x * 1j; z.flat[0] = x[0]; z.flat[-1] = 2j * x[1]; return z.real, z.imag
z = A * 1j + x; z.T.flat[1:] = z; z[:2].flat = [x[0] * 1j, 2.0]; return z.real, z.imag, np.sum(z.flat).real
z = A * 1j + x; z.flat = []; v = np.zeros(3, complex); v[0] = z[0, 0]; z.flat[:4] = v; return z.real, z.imag
z = A * 1j + x; v = np.array(z.flat); z.flat = A; return z.real, z.imag, v.imag, len(z.flat) * x
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
z = A * 1j + x; v = np.linalg.matrix_power(z, 1); v[0] = x; return z.real, z.imag
v = np.einsum("ii->i", A); v *= x; return A
np.einsum("ii->i", A[::-1, ::-1])[...] = x; return A
v = np.einsum("iij->ji", C); v[0] = x; return C
v = np.einsum("iii->i", C); v[...] = x; return C
v = np.einsum("ij->ji", A); v[0] = x; return A
v = np.einsum("ij->i", A); v[0] = 7; return A
""".strip().splitlines()


@pytest.mark.parametrize("program", PROGRAMS)
def test_views_copies_and_the_same_array(program):
    space = {"np": np}
    exec(f"def f(x): A = np.outer(x, x); B = 2 * x; C = A[..., None] * x; {program}", space)
    check(space["f"], X)


VALUES = """
np.insert(A, 1, x, axis=1), np.insert(A, -1, x, axis=-1), np.insert(A, np.int64(2), [1.0, 2.0, x[0]], axis=1)
np.insert(A, 1, x[0], axis=1), np.insert(A, 1, A[:2], axis=0), np.insert(A, 0, A, axis=1), np.insert(A, 1, x)
np.insert(C, 1, A.T, axis=2), np.insert(C, -2, A, axis=1), np.insert(C, 1, A, axis=0), np.insert(C, 1, x, axis=1)
np.insert(A, [1], x[:, None], axis=1), np.insert(A, [1], A[:, :2], axis=1), np.insert(A, slice(0, 1), A[:2], axis=0)
np.insert(np.ones((3, 2)), 1, x, axis=1), np.insert(np.ones(3), [2, 0], x[:2]), np.insert(A[:0], 0, x, axis=0)
np.insert(x, [2, 0], x[:2]), np.insert(x, [2, 0, 0], x), np.insert(A, [2, 0], A[:, 1:], axis=1), np.insert(x, [], [])
np.choose(x > 1, [x, x**2]), (x > 1).choose([x, x**2]), np.choose(x > 1, (x, 3.0)), np.choose(x > 1, [2.0, 3.0]) * x
np.choose(A > 1, [x, x[:, None]]), (A > 1).choose([A, A.T, 7.0]), np.choose(A > 1, np.stack([A, x + A]), mode="wrap")
np.choose(x[0] > 1, [x, x**2]), np.choose(x > 9, [x]), np.choose(x > 1, [x, B], out=A[0]), A, np.choose(A > 1, C[:2])
np.choose(A > 1, [[x[0], 2.0, x[1]], A]), (x > 1).choose(x, B, out=A[1]), (x > 1).choose(x, B, 2.0), A
""".strip().splitlines()


@pytest.mark.parametrize("text", VALUES)
def test_values_put_in_between_and_masks_that_choose(text):
    space = {"np": np}
    exec(f"def f(x): A = np.outer(x, x); B = 2 * x; C = A[..., None] * x; return {text}", space)
    check(space["f"], X)


def test_a_mask_that_chooses_decides_nothing():
    assert not trace(lambda x: np.choose(x > 1, [x, x**2]), (X,)).tape.guards


REFUSED = [
    ("A.flat[9]", IndexError, "out of bounds"), ("A.flat[1, 2]", IndexError, "only integers"),
    ("A.flat[None]", IndexError, "only integers"), ("A.flat.__setitem__(9, x[0])", IndexError, "out of bounds"),
    ("A.flat.__setitem__(1, x)", ValueError, "value array of shape"),
    ("A[:, :2].resize((3, 1))", ValueError, "single-segment"),
    ("np.insert(A, 4, x, axis=1)", IndexError, "out of bounds"),
    ("np.insert(C, 1, A[:2, :2], axis=1)", ValueError, "broadcast"),
    ("np.choose(x > 1, [x])", ValueError, "invalid entry in choice array"),
]


@pytest.mark.parametrize(("text", "error", "says"), REFUSED)
def test_what_numpy_refuses(text, error, says):
    space = {"np": np}
    exec(f"def f(x): A = np.outer(x, x); C = A[..., None] * x; return {text}", space)
    with pytest.raises(error):
        space["f"](X.copy())
    with pytest.raises(error, match=says):
        trace(space["f"], (X.copy(),))
