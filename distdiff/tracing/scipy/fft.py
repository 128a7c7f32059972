"""scipy.fft: NumPy's transforms under SciPy's names, and cosine and sine transforms.

What is exchanged are the functions of SciPy's own backend, so a name that was imported before the trace is reached too.
A cosine or sine transform is one joint statement; its matrix is that of the opposite type but for the first and last
elements (W. H. Press et al., Numerical Recipes, 12.4), so the adjoint is a transform as well:

    dct2^T w = dct3(2 w_0, w_1, ...)        dst2^T w = dst3(..., w_{n-2}, 2 w_{n-1})        types 1 and 4 are their own
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ...ops import Shaped
from ..array import is_traced, shape_of
from ..complexes import TRANSFORMS, is_complex
from ..joint import joint
from ..reductions import traced_array
from .replacing import Rule

_TURNED = {"backward": "forward", "forward": "backward", "ortho": "ortho"}
_INVERSE = {1: 1, 2: 3, 3: 2, 4: 4}


@dataclass(frozen=True)
class Trigonometric(Shaped):
    """scipy.fft's `function` ("dct", "dst") of a type, over one core axis of length n."""

    function: str
    type: int
    n: int
    norm: str = "backward"
    signature = "(n)->(n)"
    reads = frozenset()

    def __post_init__(self) -> None:
        if (self.function not in ("dct", "dst") or self.type not in _INVERSE or self.norm not in _TURNED
                or type(self.n) is not int or self.n < 1 or (self.function, self.type, self.n) == ("dct", 1, 1)):
            raise ValueError(f"there is no {self.function!r} of type {self.type} and norm {self.norm!r} over {self.n}")

    @property
    def name(self) -> str:
        return f"scipy.fft.{self.function}"

    @property
    def lines(self) -> int:
        """Some 5/2 n log2 n multiplications and additions."""
        return int(self.n * (1.0 + 2.5 * np.log2(max(self.n, 2))))

    def value(self, *x: Any) -> Sequence[Any]:
        return (self._applied(x[0], self.type),)

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        return (None,) if xdot[0] is None else self.value(xdot[0])

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        w, opposite = ybar[0], _INVERSE[self.type]
        if w is None:
            return (None,)
        if self.norm == "ortho" and not (self.function == "dst" and self.type in (2, 3)):
            return (self._applied(w, opposite),)
        c = np.ones(self.n)
        if self.type in (2, 3):
            c[0 if self.function == "dct" else -1] = 2.0
            if self.norm == "ortho":
                c[_made_orthogonal_by()] *= 0.5
            return (self._applied(w * c, opposite) if self.type == 2 else self._applied(w, opposite) / c,)
        if self.function == "dct" and self.type == 1:
            c[1:-1] = 2.0
        return (c * self._applied(w / c, self.type),)

    def _applied(self, x: Any, kind: int) -> Any:
        if is_traced(x):
            return joint(Trigonometric(self.function, kind, self.n, self.norm), [x])[0]
        import scipy.fft

        return getattr(scipy.fft, self.function)(x, kind, norm=self.norm)


@cache
def _made_orthogonal_by() -> int:
    """Which element norm="ortho" scales in a sine transform of type 2 or 3: the last would make it orthogonal; SciPy
    1.10 takes the first."""
    import scipy.fft

    matrix = scipy.fft.dst(np.eye(2), 2, axis=0, norm="ortho")
    return -1 if np.allclose(matrix @ matrix.T, np.eye(2)) else 0


def _along(x: Any, axis: int, function: str, kind: int, n: int | None, norm: str) -> Any:
    x = np.moveaxis(x, axis, -1)
    here = shape_of(x)[-1]
    n = here if n is None else n
    if here > n:
        x = x[..., :n]
    elif here < n:
        x = np.concatenate([x, np.zeros((*shape_of(x)[:-1], n - here))], axis=-1)
    return np.moveaxis(joint(Trigonometric(function, kind, n, norm), [x])[0], -1, axis)


def _real_transform(name: str) -> Rule:
    """dct, idst, dctn, ... : an inverse is the transform of the inverse type with the norm turned round."""
    base = name.removeprefix("i").removesuffix("n")
    inverse, several = name.startswith("i"), name.endswith("n")

    def over(x: Any, kind: int, lengths: Any, axes: Any, norm: str | None, orthogonalize: bool | None) -> Any:
        if is_complex(x):
            part = over(x.real, kind, lengths, axes, norm, orthogonalize)
            return part + 1j * over(x.imag, kind, lengths, axes, norm, orthogonalize)
        norm = norm or "backward"
        if norm not in _TURNED or kind not in _INVERSE:
            raise ValueError(f"Invalid norm value {norm!r} or type {kind!r}")
        x = traced_array(x)
        if orthogonalize is not None and orthogonalize != (norm == "ortho"):
            x.rec.unsupported(f"scipy.fft.{name} with orthogonalize={orthogonalize} and norm={norm!r}",
                              "scale the first and last element yourself")
        if inverse:
            kind, norm = _INVERSE[kind], _TURNED[norm]
        for axis, n in zip(axes, lengths):
            x = _along(x, axis, base, kind, n, norm)
        return x

    def line(x: Any, type: int = 2, n: int | None = None, axis: int = -1, norm: str | None = None,
             overwrite_x: bool = False, workers: int | None = None, orthogonalize: bool | None = None) -> Any:
        return over(x, type, [n], [axis], norm, orthogonalize)

    def grid(x: Any, type: int = 2, s: Any = None, axes: Any = None, norm: str | None = None,
             overwrite_x: bool = False, workers: int | None = None, *, orthogonalize: bool | None = None) -> Any:
        s, axes = _listed(s), _listed(axes)
        if axes is None:
            axes = range(x.ndim) if s is None else range(x.ndim - len(s), x.ndim)
        return over(x, type, [None] * len(axes) if s is None else s, axes, norm, orthogonalize)

    return grid if several else line


def _listed(k: Any) -> Any:
    return None if k is None else [k] if np.ndim(k) == 0 else list(k)


def _numpys(name: str) -> Rule:
    """NumPy's function of the same name, with SciPy's further arguments, which say how and not what."""
    function = TRANSFORMS[getattr(np.fft, name)]

    def transform(x: Any, *args: Any, overwrite_x: bool = False, workers: int | None = None, plan: Any = None,
                  **kwargs: Any) -> Any:
        if name[-1] in "2n":  # a single length or axis is a list of one
            args = tuple(_listed(k) for k in args[:2]) + args[2:]
            kwargs.update({key: _listed(kwargs[key]) for key in ("s", "axes") if key in kwargs})
        return function(x, *args[:3], **kwargs)

    return transform


_SAME = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft", "fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn", "rfftn",
         "irfftn")

RULES: dict[str, Rule] = {
    **{f"scipy.fft._pocketfft:{name}": _numpys(name) for name in _SAME},
    **{f"scipy.fft._pocketfft:{i}{base}{n}": _real_transform(f"{i}{base}{n}")
       for base in ("dct", "dst") for i in ("", "i") for n in ("", "n")},
}
