"""Random programs of views, in-place writes and arithmetic: traced they compute what NumPy computes, at this
and another point.

A program is a list of small integers; every choice it makes depends on them and on shapes alone, so the plain
and the traced run do the same.  Values at the traced point show that buffers alias as NumPy's do; values of
the tape at another point show that node ids moved along with them.
"""

from __future__ import annotations

import numpy as np
import pytest
import tape_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from test_trace import check_unread

from distdiff.tracing import trace


class Choices:
    """Numbers in a row, read as choices."""

    def __init__(self, numbers):
        self.numbers, self.place = numbers, 0

    def below(self, n):
        self.place += 1
        return self.numbers[self.place % len(self.numbers)] % n if n > 0 else 0

    def slice(self, n):
        start, stop = sorted((self.below(n + 1), self.below(n + 1)))
        if self.below(3) == 0:
            start, stop = 0, n
        step = (1, 1, 1, 2, -1, -2)[self.below(6)]
        if step < 0:
            return slice(stop - 1 if stop else 0, start - 1 if start else None, step)
        return slice(start, stop, step)


def view(pick: Choices, a):
    kind = pick.below(9)
    if kind <= 2 and a.ndim:
        return a[tuple(pick.slice(n) for n in a.shape)]
    if kind == 3:
        return a.T
    if kind == 4 and a.ndim:
        return a[pick.below(a.shape[0])] if a.ndim > 1 and a.shape[0] else a[None]
    if kind == 5:
        return a.reshape(-1)
    if kind == 6 and a.ndim == 1 and len(a) % 2 == 0:
        return a.reshape(2, -1)
    if kind == 7:
        return a.ravel(("C", "F", "K", "A")[pick.below(4)])
    if kind == 8:
        return np.asarray(a, order=("C", "F")[pick.below(2)])
    return a


def conform(pick: Choices, value, shape):
    """Something of a shape that can be assigned to `shape`."""
    if value.shape == shape or value.ndim == 0:
        return value
    if value.ndim == len(shape) and value.size and all(v >= n for v, n in zip(value.shape, shape)):
        return value[tuple(slice(n) for n in shape)]
    if value.size and shape and pick.below(2):
        return np.broadcast_to(value.reshape(-1)[:1], shape)
    return np.float64(1.25)


def rearranged(pick: Choices, a, axis):
    kind = pick.below(5)
    if kind == 0:
        return np.diff(a, axis=axis)
    if kind == 1:
        return np.tile(a, 1 + pick.below(2))
    if kind == 2 and a.shape[axis]:
        return np.delete(a, pick.below(a.shape[axis]), axis=axis)
    if kind == 3:
        return np.repeat(a, 2, axis=axis)
    return np.cumsum(a, axis=axis)


def mask(pick: Choices, b, shape):
    """A condition over a shape: plain, or of traced values."""
    if pick.below(2) and b.shape == shape:
        return b > 0.6
    return np.arange(np.prod(shape, dtype=int)).reshape(shape) % (2 + pick.below(3)) == 0


def written(pick: Choices, a, b):
    """NumPy's functions that write into an array, or a view of it."""
    target = view(pick, a)
    kind = pick.below(10)
    if kind == 0:
        ufunc = (np.add, np.multiply, np.subtract, np.maximum)[pick.below(4)]
        ufunc(conform(pick, b, target.shape), target, out=target, where=mask(pick, b, target.shape))
    elif kind == 1:
        np.square(conform(pick, b, target.shape), out=target)
    elif kind == 2 and target.ndim and target.shape[0]:
        index = [pick.below(target.shape[0]) for _ in range(3)]
        (np.multiply, np.maximum, np.minimum)[pick.below(3)].at(target, index, 0.5 + 0.25 * pick.below(4))
    elif kind == 3 and target.size:
        np.put(target, [pick.below(target.size) for _ in range(2)], conform(pick, b, (2,)))
    elif kind == 4:
        np.copyto(target, conform(pick, b, target.shape), where=mask(pick, b, target.shape))
    elif kind == 5 and target.ndim == 2 and target.size:
        np.fill_diagonal(target, 0.25 if pick.below(2) else conform(pick, b, (min(target.shape),)))
    elif kind == 6:
        np.putmask(target, mask(pick, b, target.shape), 2.5)
    elif kind == 7 and target.size:
        target.flat[pick.slice(target.size)] = 0.125
    elif kind == 8 and target.ndim == 1 and a.ndim == 2 and a.shape[1] == len(target) and a.shape[0]:
        np.max(a, axis=0, out=target)
    elif kind == 9 and target.ndim == 1 and len(target) == b.size:
        np.modf(b.reshape(-1), out=(target, np.empty(b.size)))


def computed(pick: Choices, a, axis):
    """Functions whose results are put together from several statements."""
    kind = pick.below(6)
    if kind == 0:
        return np.pad(a, 1, mode=("constant", "edge", "linear_ramp", "maximum")[pick.below(4)]) if a.size else a
    if kind == 1 and a.shape[axis]:
        return np.maximum.reduceat(a, [pick.below(a.shape[axis]) for _ in range(2)], axis=axis)
    if kind == 2:
        return np.maximum.accumulate(a, axis=axis)
    if kind == 3:
        return np.resize(a, (2, 3))
    if kind == 4 and a.shape[axis]:
        return np.insert(a, pick.below(a.shape[axis]), 0.375, axis=axis)
    return np.where(mask(pick, a, a.shape), a, 0.5)


def run(numbers, x):
    pick = Choices(numbers)
    variables = [x.copy(), x.reshape(3, 4) * 1.0, np.zeros(5), np.zeros((2, 3))]
    for _ in range(pick.below(14) + 2):
        a = variables[pick.below(len(variables))]
        b = variables[pick.below(len(variables))]
        kind = pick.below(22)
        if kind <= 3:
            variables.append(view(pick, a))
        elif kind == 4:
            target = view(pick, a)
            target[...] = conform(pick, b, target.shape)
        elif kind == 5:
            target = view(pick, a)
            target += conform(pick, b, target.shape)
        elif kind == 6:
            target = view(pick, a)
            target *= 0.5
        elif kind == 7 and a.size:
            index = tuple(pick.below(n) for n in a.shape)
            a[index] = b.reshape(-1)[pick.below(b.size)] * 0.5 if b.size and pick.below(3) else 0.75
        elif kind == 8:
            variables.append(np.sin(a) + conform(pick, b, a.shape))
        elif kind == 9 and a.ndim:
            variables.append(np.roll(a, pick.below(7) - 3, pick.below(a.ndim)))
        elif kind == 10 and a.ndim:
            axis = pick.below(a.ndim)
            variables.append(np.concatenate([a, a[(slice(None),) * axis + (slice(1, None),)]], axis=axis))
        elif kind == 11 and a.ndim and a.shape[0]:
            index = np.array([pick.below(a.shape[0]) for _ in range(3)])
            if pick.below(2):
                variables.append(a[index])
            else:
                a[index] = conform(pick, b, a[index].shape)
        elif kind == 12:
            variables.append(a.copy())
        elif kind == 13 and a.ndim and a.shape[0]:
            target = view(pick, a)
            target[::-1] = target if target.ndim else 1.0
        elif kind == 14 and a.ndim:
            variables.append(rearranged(pick, a, pick.below(a.ndim)))
        elif kind == 15 and a.ndim > 1 and a.size:
            variables.append((np.sum, np.max)[pick.below(2)](np.stack([a, 2 * a]).T, axis=pick.below(3)))
        elif kind == 16:
            variables.append(np.copy(a) if pick.below(2) else np.zeros_like(a) + a)
        elif kind == 17 and a.ndim > 1 and a.shape[-1]:
            variables.append(a[..., [pick.below(a.shape[-1]) for _ in range(2)]])
        elif kind >= 20 and a.size:
            written(pick, a, b)
        elif kind >= 18 and a.ndim:
            variables.append(computed(pick, a, pick.below(a.ndim)))
        variables = variables[-8:]
    return [np.asarray(v) for v in variables]


X = np.linspace(0.3, 1.4, 12) ** 2
X2 = np.cos(np.arange(12.0))


def compare(numbers):
    t = trace(lambda x: run(numbers, x), (X,), keep_values=True)
    plain = run(numbers, X)
    for traced, expected in zip(t.result, plain):
        np.testing.assert_array_equal(traced, expected)
    y = oracle.evaluate(t.tape, X)
    for block, values in zip(t.tape.blocks, t.values):
        if values is not None:
            np.testing.assert_allclose(values, y[block.first : block.first + block.size], rtol=1e-14)  # sums
    check_unread(lambda x: run(numbers, x), (X,), y)
    flat = np.concatenate([np.ravel(v) for v in run(numbers, X2)])
    np.testing.assert_allclose(oracle.outputs(t.tape, oracle.evaluate(t.tape, X2)), flat, rtol=1e-13, atol=1e-15)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 840), min_size=12, max_size=90))
def test_random_programs_alias_as_numpy(numbers):
    with np.errstate(all="ignore"):
        compare(numbers)


SAME = """np.asarray(u) np.asanyarray(u) np.ascontiguousarray(u) np.asfortranarray(u) np.array(u) np.atleast_1d(u)
np.atleast_2d(u) np.require(u) np.ravel(u) np.squeeze(u) np.real(u) np.asarray(u,float) np.array(u,copy=False)
u.astype(float,copy=False) u.reshape(u.shape) u.view() u.real u.T +u u.conj() u.conjugate() np.conj(u)""".split()


@pytest.mark.parametrize("text", SAME)
def test_what_is_the_same_array_in_numpy_is_the_same_here(text):
    """`y = np.asarray(x); if y is x: y = y.copy()` is how code sees to it that it writes into none but its own."""
    made = eval(f"lambda u: {text}", {"np": np})
    if text == "np.array(u,copy=False)" and np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        pytest.skip("there it refuses to copy")
    for x in (np.arange(4.0), np.arange(6.0).reshape(2, 3)):
        answers = [made(x) is x]
        trace(lambda u, answers=answers: answers.append(made(u) is u) or np.sum(u), (x.copy(),))
        assert answers[0] == answers[1]


MEMORY = """
(y := u*2)[1:].base is y
(y := u*2).base is None
(y := u*2).T.base is y
(y := u.T*2).base is None
(y := u.T*2).T.base is y
(y := u.T*2)[0].base is y
(y := u*2)[0][1:].base is y
(y := u*2)[0][1:].base is y[:, 1].base
(u*2)[0].base is not None
u.base is None
u[0].base is u
u.T.base is u
(y := np.zeros(3)).base is None
(y := np.zeros(3))[1:].base is y
(y := np.zeros(3))[1:][1:].base is y
(y := np.arange(3)).base is None
(y := np.arange(3))[1:].base is y
put(y := np.zeros(3), u[0]).base is None
put(y := np.zeros(3), u[0])[1:].base is y
put(y := np.zeros((3,2)), u.T)[1].base is y
put(y := np.zeros((3,2)).T, u)[1].base is y.base
put(y := np.zeros(6), u.ravel()).reshape(2,3).base is y
u.sum(0, keepdims=True).base is None
u.sum(0).base is None
np.sin(u).base is None
np.concatenate([u,u]).base is None
np.sort(u).base is None
np.cumsum(u, 0).base is None
(u@u.T).base is None
u.copy().base is None
u.copy("F").base is None
np.array(u, order="F").base is None
np.asfortranarray(u).base is None
u.astype(float).base is None
u.astype(float, copy=False) is u
np.asarray(u) is u
np.where(u>0,u,1.).base is None
(u>0).base is None
(m := u>0)[0].base is m
u[[0,1]].base is None
u[u>0].base is None
np.diff(u).base is None
np.stack([u,u]).base is None
np.array([u[0,0],u[0,1]]).base is None
np.ravel(y := u*2).base is y
np.reshape(y := u*2,(3,2)).base is y
np.broadcast_to(y := u*2,(2,2,3)).base is y
np.expand_dims(y := u*2,0).base is y
np.diagonal(y := u*2).base is y
(y := u*2).real is y
np.shares_memory(y := u*2,y[0])
np.may_share_memory(y := u*2,y[0])
np.shares_memory(u,u*1.)
np.shares_memory(u[0],u[1])
np.shares_memory(put(y := np.zeros(3),u[0]), y[1:])
np.may_share_memory(u[0],u[1])
np.shares_memory(u, u.T)
np.shares_memory(u, u.ravel())
np.shares_memory(u.T, u.T.ravel())
np.shares_memory(u, np.asarray(u))
np.shares_memory(u, G)
np.shares_memory(u[:, ::2], u[:, 1])
np.may_share_memory(u[:, ::2], u[:, 1])
np.shares_memory(1j*u, u)
np.shares_memory(y := u+1j*u, y.real)
shaped(u*2).base is None
shaped(y := u*2)[1:].base is y
"""
PLAIN = np.arange(3.0)


def put(y, v):
    y[...] = v
    return y


def shaped(y):
    y.shape = (6,)
    return y


@pytest.mark.parametrize("text", MEMORY.strip().splitlines())
def test_who_owns_memory_and_who_shares_it(text):
    """`y[1:].base is y`, and np.shares_memory(y, y[1:]), as NumPy's own say."""
    made = eval(f"lambda u: {text}", {"np": np, "put": put, "shaped": shaped, "G": PLAIN})
    answers = []
    for run in (lambda f, x: f(x), lambda f, x: trace(f, (x,))):
        run(lambda u: (answers.append(made(u)), np.sum(u))[1], np.array([[0.5, -1.2, 2.0], [1.0, 2.0, 3.0]]))
    assert answers[0] is answers[1]
