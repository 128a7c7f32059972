"""Discrete Fourier transforms of traced arrays, real and complex, of any number of axes.

One joint statement a call (`ops.elemental`), whatever the axes; it is linear and real in the parts, so its derivatives
are transforms again and cost O(n log n):

    tangent    ydot = T xdot            adjoint    xbar = T* ybar

where the adjoint T* with respect to Re(conj(w) y) of the transform of one direction is that of the other one with the
norm turned round (backward <-> forward).  For transforms between real x and half of the modes, which stand for their
conjugates too, the modes in between count twice:

    irfft* w = c rfft w       rfft* w = irfft (w / c)        c = 1, 2, ..., 2(, 1)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod
from typing import Any

import numpy as np

from ...ops import Elemental
from ..array import is_traced, memory_order, ndim_of, shape_of
from ..joint import joint
from ..layout import laid
from ..ufuncs import recorder_of
from .array import ComplexArray, is_complex, is_traced_complex, parts_of
from .parts import Part, arrays

_OPPOSITE = {"fftn": "ifftn", "ifftn": "fftn", "rfftn": "irfftn", "irfftn": "rfftn"}
_TURNED = {"backward": "forward", "forward": "backward", "ortho": "ortho"}


@dataclass(frozen=True)
class Transform(Elemental):
    """numpy.fft's function `form` ("fftn", "ifftn", "rfftn", "irfftn") over all core axes.

    shape   of x at one loop index, or, where one side is real, of that side
    norm    as NumPy's
    given   parts of x that are operands: "both", "real", or "imaginary" (the other one is zero)
    """

    form: str
    shape: tuple[int, ...]
    norm: str = "backward"
    given: str = "both"

    def __post_init__(self) -> None:
        if (self.form not in _OPPOSITE or self.norm not in _TURNED or self.given not in ("both", "real", "imaginary")
                or self.form == "rfftn" and self.given != "real" or not self.shape
                or not all(type(n) is int and n > 0 for n in self.shape)):
            raise ValueError(f"there is no transform {self.form!r} with norm {self.norm!r} of {self.given!r} parts")

    @property
    def name(self) -> str:
        return f"numpy.fft.{self.form}"

    @property
    def half(self) -> tuple[int, ...]:
        """The shape of the modes that stand for a real array's."""
        return (*self.shape[:-1], self.shape[-1] // 2 + 1)

    @cached_property
    def core_in(self) -> tuple[tuple[int, ...], ...]:
        core = self.half if self.form == "irfftn" else self.shape
        return (core,) * (2 if self.given == "both" else 1)

    @cached_property
    def core_out(self) -> tuple[tuple[int, ...], ...]:
        if self.form == "irfftn":
            return (self.shape,)
        return (self.half if self.form == "rfftn" else self.shape,) * 2

    @property
    def reads(self) -> frozenset[int]:
        return frozenset()

    @property
    def lines(self) -> int:
        """Some 5/2 n log2 n multiplications and additions a part."""
        n = prod(self.shape)
        return int(self.size * (1.0 + 2.5 * np.log2(max(n, 2))))

    @property
    def axes(self) -> tuple[int, ...]:
        return tuple(range(-len(self.shape), 0))

    def value(self, *x: Any) -> Sequence[Any]:
        """The parts of the transform; also of traced x, which `numpy.fft` brings back to a statement like this one."""
        y = getattr(np.fft, self.form)(self._joined(x), self._lengths(), self.axes, self.norm)
        return (y,) if self.form == "irfftn" else (y.real, y.imag)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        if all(part is None for part in xdot):
            return (None,) * len(self.core_out)
        return self.value(*xdot)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        w = ybar[0] if self.form == "irfftn" else _pair(*ybar)
        if w is None:
            return (None,) * self.arity
        if self.form == "rfftn":
            w = w / self._weights
        xbar = getattr(np.fft, _OPPOSITE[self.form])(w, self._lengths(True), self.axes, _TURNED[self.norm])
        if self.form == "irfftn":
            xbar = xbar * self._weights
        if self.given == "both":
            return xbar.real, xbar.imag
        return (xbar.real if self.given == "real" else xbar.imag,) if self.form != "rfftn" else (xbar,)

    def _joined(self, x: Sequence[Any]) -> Any:
        if self.given == "both":
            return _pair(*x)
        return x[0] if self.given == "real" else 1j * x[0]

    def _lengths(self, adjoint: bool = False) -> tuple[int, ...] | None:
        """The argument `s`: the length of the real side can't be told from that of the other."""
        real = "rfftn" if adjoint else "irfftn"
        return self.shape if self.form == real else None

    @property
    def _weights(self) -> np.ndarray:
        n = self.shape[-1]
        c = np.full(n // 2 + 1, 2.0)
        c[0] = 1.0
        if n % 2 == 0:
            c[-1] = 1.0
        return c


def _pair(re: Any, im: Any) -> Any:
    """re + i im of plain or traced arrays, either of which may be None where it is zero."""
    if re is None or im is None:
        return re if im is None else 1j * im
    if is_traced(re) or is_traced(im):
        return re + 1j * im
    z = np.empty(np.broadcast_shapes(re.shape, im.shape), dtype=complex)
    z.real, z.imag = re, im
    return z


# -- numpy.fft's functions


def transformed(kind: str, a: Any, s: Sequence[int] | None, axes: Sequence[int] | None, norm: str | None, name: str,
                ) -> Any:
    """numpy.fft.<kind>(a, s, axes, norm) of a traced array; ValueError and IndexError as NumPy's."""
    rec = recorder_of((a,))
    norm = norm or "backward"
    if norm not in _TURNED:
        raise ValueError(f'Invalid norm value {norm}; should be "backward", "ortho" or "forward".')
    shape = shape_of(a)
    real_side = kind in ("rfftn", "irfftn")
    if kind == "rfftn" and is_complex(a):
        raise TypeError(f"{name} of complex numbers: its input is real; use numpy.fft.fft, or take the real part")
    if axes is None:
        axes = range(-len(s), 0) if s is not None else range(len(shape))
    if not len(axes):
        if real_side:
            raise IndexError("list index out of range")
        return a if shape else rec.array_of(a)  # no axis is transformed
    for k in axes:
        if not -len(shape) <= k < len(shape):
            np.empty(shape).sum(axis=k)  # raises NumPy's AxisError
    axes = [k % len(shape) for k in axes]
    lengths = [shape[k] for k in axes] if s is None else [shape[k] if n in (None, -1) else int(n)
                                                        for k, n in zip(axes, s)]
    if s is not None and len(s) != len(axes):
        raise ValueError("Shape and axes have different lengths.")
    if kind == "irfftn" and (s is None or s[-1] in (None, -1)):
        lengths[-1] = 2 * (shape[axes[-1]] - 1)
    if any(n < 1 for n in lengths):
        raise ValueError(f"Invalid number of FFT data points ({min(lengths)}) specified.")
    if len(set(axes)) < len(axes):  # an axis several times: one after another, as NumPy does
        if real_side:
            rec.unsupported(f"{name} over an axis named twice", "transform it in two calls")
        for k, n in list(zip(axes, lengths))[::-1]:
            a = transformed(kind, a, (n,), (k,), norm, name)
        return a
    wanted = [*lengths[:-1], lengths[-1] // 2 + 1] if kind == "irfftn" else lengths
    re, im = (None if x is None else _at_the_end(x, shape, axes, wanted) for x in parts_of(a, rec))
    given = "both" if re is not None and im is not None else "imaginary" if re is None and im is not None else "real"
    operands = [x for x in (re, im) if x is not None] or [_at_the_end(np.zeros(shape), shape, axes, wanted)]
    op = Transform(kind, tuple(lengths), norm, given)
    if any(map(is_traced, operands)):
        results = joint(op, operands, name)
    else:
        results = [rec.array_of(np.array(y)) for y in op.value(*operands)]
    results = [np.moveaxis(y, list(op.axes), axes) for y in results]
    like = _laid_as_numpy(kind, a, axes, results[0].shape)
    if like is not None:
        results = [laid(y, like) for y in results]
    return results[0] if kind == "irfftn" else ComplexArray(*arrays(rec, *results, results[0].shape))


def _at_the_end(x: Part, shape: tuple[int, ...], axes: Sequence[int], lengths: Sequence[int]) -> Part:
    """A part with the axes to transform at the end, cut off or filled up with zeros to their lengths."""
    if shape_of(x) != shape:
        x = np.broadcast_to(x, shape)
    x = np.moveaxis(x, axes, range(-len(axes), 0)) if len(shape) > 1 else x
    for k, n in zip(range(-len(axes), 0), lengths):
        here = shape_of(x)[k]
        if here > n:
            x = x[(..., slice(0, n)) + (slice(None),) * (-k - 1)]
        elif here < n:
            filling = list(shape_of(x))
            filling[k] = n - here
            x = np.concatenate([x, np.zeros(filling)], axis=k)
    return x


def _laid_as_numpy(kind: str, a: Any, axes: Sequence[int], shape: tuple[int, ...]) -> np.ndarray | None:
    """An array with its axes in memory as NumPy's result has them; None: in C order, as the statement's has."""
    if len(shape) < 2:
        return None
    order = _order(kind, tuple(memory_order(a.re.window if is_traced_complex(a) else a.window)), tuple(axes))
    return np.empty([shape[k] for k in order]).transpose(np.argsort(order))


@cache
def _order(kind: str, order: tuple[int, ...], axes: tuple[int, ...]) -> list[int]:
    """The axes of NumPy's result from the slowest in memory to the fastest, where those of x are in `order`."""
    small = np.zeros([2] * len(order)).transpose(np.argsort(order))
    return memory_order(getattr(np.fft, kind)(small, [2] * len(axes), axes))


def _line(kind: str, name: str) -> Callable[..., Any]:
    def transform(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None, out: Any = None) -> Any:
        if ndim_of(a) == 0:
            raise IndexError("tuple index out of range")
        return _into(out, transformed(kind, a, None if n is None else (n,), (axis,), norm, name))

    return transform


def _grid(kind: str, name: str, default: tuple[int, ...] | None) -> Callable[..., Any]:
    def transform(a: Any, s: Any = None, axes: Any = default, norm: str | None = None, out: Any = None) -> Any:
        return _into(out, transformed(kind, a, s, axes, norm, name))

    return transform


def _into(out: Any, result: Any) -> Any:
    if out is None:
        return result
    out[...] = result
    return out


def hfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None, out: Any = None) -> Any:
    """Of a signal whose transform is real: irfft of the conjugate, with the norm turned round."""
    turned = _TURNED.get(norm or "backward", norm)
    return _into(out, transformed("irfftn", np.conjugate(a), None if n is None else (n,), (axis,), turned,
                                  "numpy.fft.hfft"))


def ihfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None, out: Any = None) -> Any:
    turned = _TURNED.get(norm or "backward", norm)
    return _into(out, np.conjugate(transformed("rfftn", a, None if n is None else (n,), (axis,), turned,
                                               "numpy.fft.ihfft")))


FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {np.fft.hfft: hfft, np.fft.ihfft: ihfft}
for _kind in _OPPOSITE:
    _base = _kind[:-1]
    FUNCTIONS[getattr(np.fft, _base)] = _line(_kind, f"numpy.fft.{_base}")
    FUNCTIONS[getattr(np.fft, f"{_base}2")] = _grid(_kind, f"numpy.fft.{_base}2", (-2, -1))
    FUNCTIONS[getattr(np.fft, _kind)] = _grid(_kind, f"numpy.fft.{_kind}", None)

__all__ = ["FUNCTIONS", "Transform"]
