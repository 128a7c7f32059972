"""Random programs of complex views, parts, in-place writes, transforms and arithmetic: traced they compute what NumPy
computes, at this and another point, as `test_trace_aliasing` has it for real arrays."""

from __future__ import annotations

import numpy as np
import tape_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from test_trace_aliasing import X2, Choices, X, conform, view

from distdiff.tracing import trace


def part(pick: Choices, a):
    """A view of one part of a complex array, or the array."""
    return (a.real, a.imag, a)[pick.below(3)]


def computed(pick: Choices, a, b):
    kind = pick.below(10)
    if kind == 0:
        return a * conform(pick, b, a.shape) * 0.5
    if kind == 1:
        return np.exp(1j * part(pick, a) * 0.5)
    if kind == 2:
        return a * 1j - conform(pick, part(pick, b), a.shape)
    if kind == 3:
        return np.conj(a) / (2.5 + np.abs(a))
    if kind == 4 and a.ndim and a.shape[-1]:
        return np.fft.ifft(a) if pick.below(2) else np.fft.fft(a, 4) * 0.25
    if kind == 5 and a.ndim and a.shape[-1] > 1:
        return np.fft.rfft(a.real) * 0.5 if pick.below(2) else np.fft.irfft(a) * (1 + 1j)
    if kind == 6 and a.ndim == 2 and a.size:
        return np.fft.fft2(a) / a.size
    if kind == 7 and a.ndim:
        return np.cumsum(a, axis=pick.below(a.ndim)) * 0.5
    if kind == 8:
        return np.where(np.arange(a.size).reshape(a.shape) % 2, a, part(pick, a))
    return part(pick, a) + 0j


def moved(pick: Choices, a):
    axis = pick.below(a.ndim)
    kind = pick.below(5)
    if kind == 0:
        return np.roll(a, pick.below(5) - 2, axis)
    if kind == 1:
        return np.concatenate([a, a.real], axis=axis)
    if kind == 2 and a.shape[axis]:
        return np.take(a, [pick.below(a.shape[axis]) for _ in range(2)], axis=axis)
    if kind == 3:
        return np.stack([a, a.imag * 2])
    return a.copy()


def written(pick: Choices, a, b):
    target = part(pick, view(pick, a))
    value = conform(pick, b if target.dtype == complex else b.imag, target.shape)
    kind = pick.below(8)
    if kind == 0:
        target[...] = value
    elif kind == 1:
        target += value
    elif kind == 2:
        target *= 0.5 if target.dtype == float else 0.5j
    elif kind == 3 and target.size:
        target[tuple(pick.below(n) for n in target.shape)] = 0.75 if pick.below(2) else value.reshape(-1)[0]
    elif kind == 4 and target.ndim and target.shape[0]:
        target[[pick.below(target.shape[0]) for _ in range(2)]] = 1.25
    elif kind == 5:
        np.multiply(target, value, out=target)
    elif kind == 6:
        target[np.arange(target.size).reshape(target.shape) % 3 == 0] = 0.5
    elif kind == 7:
        np.copyto(target, value)


def run(numbers, x):
    pick = Choices(numbers)
    variables = [x * 1j, x.reshape(3, 4) + 0.5j, np.zeros(5, dtype=complex), np.ones((2, 3), complex)]
    for _ in range(pick.below(14) + 2):
        a, b = variables[pick.below(len(variables))], variables[pick.below(len(variables))]
        kind = pick.below(6)
        if kind <= 1:
            variables.append(view(pick, a))
        elif kind == 2:
            variables.append(computed(pick, a, b))
        elif kind == 3 and a.ndim:
            variables.append(moved(pick, a))
        elif kind >= 4:
            written(pick, a, b)
        variables = variables[-8:]
    return [part for z in variables for part in (z.real, z.imag)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 840), min_size=12, max_size=90))
def test_random_complex_programs(numbers):
    with np.errstate(all="ignore"):
        t = trace(lambda x: run(numbers, x), (X,), keep_values=True)
        for x in (X, X2):
            expected = np.concatenate([np.ravel(v) for v in run(numbers, x)])
            y = oracle.evaluate(t.tape, x)
            np.testing.assert_allclose(oracle.outputs(t.tape, y), expected, rtol=1e-11, atol=1e-12)
            if x is X:
                seen = np.concatenate([np.ravel(v) for v in t.result])
                np.testing.assert_allclose(seen, expected, rtol=1e-11, atol=1e-12)
