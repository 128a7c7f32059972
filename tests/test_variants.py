"""NumPy's functions by axes, shapes and kinds of numbers: every line of the table at all axes, negative ones and
tuples, with and without keepdims, of arrays of none to three axes and of no elements, of real and of complex numbers,
beside whole ones and floats of 32 bits.  All of a line is one program: values and errors as NumPy's, derivatives of
both orders against differences."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from test_numpy import FIRST, SECOND, STEPS, H, copies, flat, reals

import distdiff as dd

SHAPES = ((), (4,), (2, 3, 2), (2, 0))
ONE, MANY, KEEP = "one axis", "several axes", "keepdims"
C = np.array([0.7, 1.9, -0.4, 1.2, 0.3, -1.1, 2.2, 0.9, -0.6, 1.4, 0.2, -1.7])


def where(x):
    return {"where": np.resize([True, True, False], np.shape(x))}


TABLE = {  # a function of an array and of axis=, what axes it takes, and whether of complex numbers too
    "sum": (np.sum, MANY, KEEP, "complex"),
    "sum, where, initial": (lambda x, **o: np.sum(x, initial=2.0, **where(x), **o), MANY, KEEP, "complex"),
    "prod": (np.prod, MANY, KEEP, "complex"),
    "mean": (np.mean, MANY, KEEP, "complex"),
    "mean, where": (lambda x, **o: np.mean(x, **where(x), **o), MANY, KEEP, "complex"),
    "var": (np.var, MANY, KEEP, "complex"),
    "var, ddof": (lambda x, **o: np.var(x, ddof=1, **o), MANY, KEEP, "complex"),
    "std": (np.std, MANY, KEEP, "complex"),
    "max": (np.max, MANY, KEEP, "complex"),
    "min, initial": (lambda x, **o: np.min(x, initial=0.5, **o), MANY, KEEP),
    "max, where": (lambda x, **o: np.max(x, initial=-1.0, **where(x), **o), MANY, KEEP),
    "ptp": (np.ptp, MANY, KEEP),
    "median": (np.median, MANY, KEEP),
    "quantile": (lambda x, **o: np.quantile(x, [0.2, 0.7], **o), MANY, KEEP),
    "percentile, lower": (lambda x, **o: np.percentile(x, 40, method="lower", **o), MANY, KEEP),
    "average": (np.average, MANY),
    "nansum": (np.nansum, MANY, KEEP, "complex"),
    "nanprod": (np.nanprod, MANY, KEEP),
    "nanmean": (np.nanmean, MANY, KEEP),
    "nanvar": (np.nanvar, MANY, KEEP),
    "nanstd": (np.nanstd, MANY, KEEP),
    "nanmax": (np.nanmax, MANY, KEEP),
    "nanmedian": (np.nanmedian, MANY, KEEP),
    "nanquantile": (lambda x, **o: np.nanquantile(x, 0.3, **o), MANY, KEEP),
    "any, all": (lambda x, **o: np.any(x > 0.5, **o) * 1.0 + np.all(x > 0.5, **o), MANY, KEEP),
    "count_nonzero": (lambda x, **o: np.count_nonzero(x > 0.5, **o) * 1.0, MANY, KEEP),
    "argmax": (lambda x, **o: np.argmax(x, **o) * 1.0 + np.argmin(x, **o), ONE, KEEP),
    "add.reduce": (np.add.reduce, MANY, KEEP, "complex"),
    "multiply.reduce": (np.multiply.reduce, MANY, KEEP, "complex"),
    "maximum.reduce": (np.maximum.reduce, MANY, KEEP),
    "logaddexp.reduce": (np.logaddexp.reduce, MANY, KEEP),
    "add.accumulate": (np.add.accumulate, ONE, "complex"),
    "multiply.accumulate": (np.multiply.accumulate, ONE, "complex"),
    "norm": (np.linalg.norm, ONE, KEEP, "complex"),
    "norm, 1": (lambda x, **o: np.linalg.norm(x, 1, **o), ONE, KEEP),
    "norm, inf": (lambda x, **o: np.linalg.norm(x, np.inf, **o), ONE, KEEP),
    "norm, 3": (lambda x, **o: np.linalg.norm(x, 3, **o), ONE, KEEP),
    "cumsum": (np.cumsum, ONE, "complex"),
    "cumprod": (np.cumprod, ONE, "complex"),
    "nancumsum": (np.nancumsum, ONE),
    "sort": (np.sort, ONE, "complex"),
    "argsort": (lambda x, **o: np.take_along_axis(x, np.argsort(x, **o), **o), ONE),
    "partition": (lambda x, **o: np.partition(x, 1, **o) ** 2, ONE),
    "diff": (np.diff, ONE, "complex"),
    "diff, 2": (lambda x, **o: np.diff(x, 2, prepend=1.0, **o), ONE),
    "gradient": (np.gradient, ONE, "complex"),
    "trapezoid": (vars(np).get("trapezoid", vars(np).get("trapz")), ONE, "complex"),
    "unwrap": (lambda x, **o: np.unwrap(3 * x, **o), ONE),
    "flip": (np.flip, MANY, "complex"),
    "roll": (lambda x, **o: np.roll(x, 2, **o), MANY, "complex"),
    "squeeze": (np.squeeze, MANY, "complex"),
    "expand_dims": (np.expand_dims, MANY, "complex"),
    "moveaxis": (lambda x, axis: np.moveaxis(x, axis, 0), ONE, "complex"),
    "swapaxes": (lambda x, axis: np.swapaxes(x, axis, -1), ONE, "complex"),
    "take": (lambda x, **o: np.take(x, [1, 0, 1], **o), ONE, "complex"),
    "take, wrap": (lambda x, **o: np.take(x, [5, -1], mode="wrap", **o), ONE),
    "repeat": (lambda x, **o: np.repeat(x, 2, **o), ONE, "complex"),
    "delete, insert": (lambda x, **o: np.insert(np.delete(x, 0, **o), 0, 2.0, **o), ONE),
    "append": (lambda x, **o: np.append(x, x, **o), ONE, "complex"),
    "concatenate": (lambda x, **o: np.concatenate([x, 2 * x], **o), ONE, "complex"),
    "stack": (lambda x, **o: np.stack([x, x * x], **o), ONE, "complex"),
    "split": (lambda x, **o: np.split(x, [1], **o), ONE, "complex"),
    "array_split": (lambda x, **o: np.array_split(x, 3, **o), ONE),
    "compress": (lambda x, **o: np.compress([True, False, True][: min(np.shape(x), default=0)], x, **o), ONE),
    "fft": (lambda x, **o: np.fft.fft(x, **o), ONE, "complex"),
    "ifft, n": (lambda x, **o: np.fft.ifft(x, 5, norm="ortho", **o), ONE, "complex"),
    "rfft": (lambda x, **o: np.fft.rfft(x, **o), ONE),
    "irfft": (lambda x, **o: np.fft.irfft(x, **o), ONE, "complex"),
    "hfft": (lambda x, **o: np.fft.hfft(x, **o), ONE, "complex"),
    "fftshift": (lambda x, axis: np.fft.fftshift(x, axis), MANY, "complex"),
    "logsumexp": (lambda x, **o: np.log(np.sum(np.exp(x), **o)), MANY, KEEP),
    "apply_along_axis": (lambda x, axis: np.apply_along_axis(lambda y: y[::-1] * y.sum(), axis, x), ONE),
    "ufuncs with where": (lambda x, axis: np.square(x, out=np.ones(np.shape(x)), **where(x)).sum(axis), ONE),
}


def variants(row):
    """Every array with every way to say the axes: (number of the array, the options)."""
    for k, shape in enumerate(SHAPES):
        n = len(shape)
        axes = [None, *range(-n, n), n]  # n: one too many
        if MANY in row:
            axes += [(), *([(0, 1), (-1, 0), (1, 2), (-1, -2, 0)] if n > 2 else [])]
        for axis in axes:
            yield k, {"axis": axis}
            if KEEP in row and (axis is None or axis != n - 1):
                yield k, {"axis": axis, "keepdims": True}


def arrays(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.permutation(np.linspace(0.3, 2.2, max(1, int(np.prod(s))))).reshape(s) if 0 not in s else np.zeros(s)
            for s in SHAPES]


KINDS = {  # beside whole numbers and floats of another size
    "real": lambda x: x * np.resize([1, -2, 3], np.shape(x)) + np.float32(0.5),
    "complex": lambda x: x * np.resize([1, -2, 3], np.shape(x)) * np.exp(1j * np.resize(C, np.shape(x))),
}
CASES = [(name, kind) for name, row in TABLE.items() for kind in KINDS if kind != "complex" or "complex" in row]


@pytest.mark.parametrize("subscripts", ["ij->ij", "i,i->k", "i,i,i->", "i->ii"])
def test_einsum_of_subscripts_that_are_wrong(subscripts):
    for run in (lambda f: f(arrays()[1]), lambda f: dd.trace(f, arrays()[1])):
        with pytest.raises(ValueError, match="ein"):
            run(lambda x: np.einsum(subscripts, x, x))


@pytest.mark.parametrize("name, kind", CASES, ids=lambda part: part)
def test_all_axes(name, kind):
    row = TABLE[name]
    function, made = row[0], KINDS[kind]
    chosen, raised = [], []

    def attempt(x, options):
        return function(made(x), **options)

    xs = [x for x in arrays() if x.size]

    def whole(args):
        given = iter(args)
        return [next(given) if 0 not in shape else np.zeros(shape) for shape in SHAPES]

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for k, options in variants(row):
            if name.startswith("delete") and not k:
                continue  # NumPy 1's result is what memory held
            try:
                y = attempt(whole(copies(xs))[k], options)
            except (ValueError, TypeError, IndexError, ZeroDivisionError):
                raised += [(k, options)] if k else []  # NumPy is of two minds about the axes of a number
            else:
                if np.isfinite(flat(y)).all() and not ("std" in name and 0.0 in flat(y)):  # smooth there
                    chosen.append((k, options))

        def f(*args):
            args = whole(args)
            return [part for k, options in chosen for part in reals(attempt(args[k], options))]

        def refuses(*args):
            args = whole(args)
            for k, options in raised:
                with pytest.raises((ValueError, TypeError, IndexError, ZeroDivisionError)):
                    attempt(args[k], options)
            return args[1]

        dd.trace(refuses, *copies(xs), argnums=tuple(range(len(xs))))
        rng = np.random.default_rng(3)
        v = [rng.uniform(-1.0, 1.0, np.shape(x)) for x in xs]
        plain = f(*copies(xs))
        with dd.linearize(f, *xs, argnums=tuple(range(len(xs))), method="walk") as lin:
            assert [np.shape(y) for y in lin.value] == [np.shape(y) for y in plain]
            np.testing.assert_allclose(flat(lin.value), flat(plain), rtol=1e-12, atol=1e-13)
            jv = flat(lin.jvp(*v))
            scale = 1.0 + np.nanmax(np.abs(flat(plain)), initial=0.0)
            moved = [flat(f(*(x + H * k * d for x, d in zip(xs, v)))) for k in STEPS]
            np.testing.assert_allclose(jv, sum(a * b for a, b in zip(FIRST, moved)), rtol=1e-8, atol=1e-8 * scale)
            weights = [rng.uniform(-1.0, 1.0, np.shape(y)) for y in plain]
            left, right = flat(weights) @ jv, flat(lin.vjp(weights)) @ flat(v)
            np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-12 * scale)

        def g(*args):
            return sum(np.sum(a * b + 0.1 * a * a) for a, b in zip(f(*args), weights))

        values = [float(g(*(x + H * k * d for x, d in zip(xs, v)))) for k in STEPS]
        second = sum(a * b for a, b in zip(SECOND[0], values)) + SECOND[1] * float(g(*copies(xs)))
        hv = flat(dd.hvp(g, tuple(xs), tuple(v))) @ flat(v)
        np.testing.assert_allclose(hv, second, rtol=1e-6, atol=1e-7 * (1.0 + abs(values[0])))
