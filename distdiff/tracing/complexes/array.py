"""What the function sees of complex values: an array, and a scalar, that are faces over two real ones.

The parts are traced arrays (or scalars) like any others, each with a storage of its own, their elements at the same
places in memory.  So views of a complex array are pairs of views, writes into one reach all the others, and `z.real` is
a view that can be written into, as in NumPy.  The tape knows of no complex numbers.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from ..array import TracedArray, is_traced, shape_of
from ..callers import called, handed_to, refuse_as_key, refuse_pickling, refuse_swapped_rows, stores
from ..indexing import plain_index
from ..recorder import Recorder
from ..scalar import CUT, PLAIN, TracedScalar
from ..slots import no_sequence
from ..text import text_of
from .parts import Pair, Part, arrays, filled, negative_zero, own_copy, real_part, zero

DTYPE = np.dtype(np.complex128)


class ComplexArray:
    """An array re + i im of two traced arrays (see the module's text)."""

    __slots__ = ("__weakref__", "im", "re")
    __array_priority__ = 1000.0
    __hash__ = None
    __reduce_ex__ = refuse_pickling
    dtype = DTYPE
    itemsize = DTYPE.itemsize

    def __init__(self, re: TracedArray, im: TracedArray) -> None:
        self.re, self.im = re, im

    @property
    def __class__(self) -> type:  # isinstance(z, np.ndarray) holds, as user code expects
        return np.ndarray

    @property
    def rec(self) -> Recorder:
        return self.re.st.rec

    @property
    def shape(self) -> tuple[int, ...]:
        return self.re.window.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        self.re.window.shape = shape
        self.im.window.shape = shape

    @property
    def ndim(self) -> int:
        return self.re.window.ndim

    @property
    def size(self) -> int:
        return self.re.window.size

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple([2 * s for s in self.re.window.strides])

    @property
    def flags(self) -> Any:
        return self.re.window.flags

    @property
    def base(self) -> Any:
        return self.re.base

    @property
    def T(self) -> ComplexArray:
        return ComplexArray(self.re.T, self.im.T)

    @property
    def mT(self) -> ComplexArray:
        return ComplexArray(self.re.mT, self.im.mT)

    @property
    def real(self) -> TracedArray:
        return self.re

    @real.setter
    def real(self, value: Any) -> None:
        self.re[...] = value

    @property
    def imag(self) -> TracedArray:
        return self.im

    @imag.setter
    def imag(self, value: Any) -> None:
        self.im[...] = value

    @property
    def ctypes(self) -> NoReturn:
        self.rec.unsupported("the memory of a traced complex array", f"compiled code would be handed it, and {CUT}")

    data = ctypes

    def plain_values(self) -> np.ndarray:
        """The elements' values as a plain array of their own."""
        values = np.empty_like(self.re.nd, dtype=DTYPE, subok=False)
        values.real, values.imag = self.re.nd, self.im.nd
        return values

    def __len__(self) -> int:
        return len(self.re)

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    def __repr__(self) -> str:
        return text_of(repr(self.plain_values()))

    def __str__(self) -> str:
        return text_of(str(self.plain_values()))

    def __getitem__(self, index: Any) -> Any:
        index = plain_index(self.rec, index)
        return elements(self.rec, self.re[index], self.im[index])

    def __setitem__(self, index: Any, value: Any) -> None:
        if type(value) is ComplexArray:
            refuse_swapped_rows(self.rec, self.re, index, value.re)
        re, im = parts_of(value, self.rec)
        self.re[index] = filled(re)
        self.im[index] = filled(im)

    def __bool__(self) -> bool:
        if not self.size:
            return bool(np.empty(0))  # what this NumPy says of none
        if self.size != 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()"
            )
        return bool(np.not_equal(self, 0.0).reshape(()).scalar())

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        if self.re.st.constant and self.im.st.constant:
            return self.plain_values().astype(args[0] if args and args[0] is not None else DTYPE)
        frame = self.rec.user_frame()
        if stores(frame):
            self.rec.unsupported("a traced complex array was put into a plain one", PLAIN)
        if handed_to(frame) == "dot":
            self.rec.unsupported("the method dot of a plain array, with a traced one",
                                 f"{CUT}. Write P @ z or np.dot(P, z) for P.dot(z)")
        return self.rec.unsupported(
            f"{called()}a traced complex array was turned into a plain array",
            f"{CUT}. Compiled code (scipy, numba) can't be traced; {PLAIN}",
        )

    def __complex__(self) -> complex:
        return complex(self.item())

    def __float__(self) -> NoReturn:
        raise TypeError("can't convert complex to float")

    __int__ = __float__

    def item(self, *args: Any) -> Any:
        return elements(self.rec, self.re.item(*args), self.im.item(*args))

    def tolist(self) -> Any:
        return [x.tolist() if isinstance(x, np.ndarray) else x for x in self] if self.ndim else self.item()


@no_sequence
class ComplexScalar:
    """A complex number of which a part is a traced float; the other may be plain."""

    __slots__ = ("im", "re", "rec")
    __array_priority__ = 1000.0
    __hash__ = refuse_as_key
    __reduce_ex__ = refuse_pickling
    dtype, itemsize, nbytes = DTYPE, DTYPE.itemsize, DTYPE.itemsize
    ndim, size, shape = 0, 1, ()

    @property
    def __class__(self) -> type:  # isinstance(z, complex) holds
        return np.complex128

    def __init__(self, rec: Recorder, re: Any, im: Any) -> None:
        self.rec, self.re, self.im = rec, re, im

    @property
    def real(self) -> Any:
        return self.re

    @property
    def imag(self) -> Any:
        return self.im

    @property
    def T(self) -> ComplexScalar:
        return self

    def plain_values(self) -> complex:
        """The plain value."""
        return complex(*(x.v if isinstance(x, TracedScalar) else x for x in (self.re, self.im)))

    def __bool__(self) -> bool:
        return bool(self != 0.0)

    def __complex__(self) -> NoReturn:
        if stores(self.rec.user_frame()):
            self.rec.unsupported("a traced complex number was put into a plain array", PLAIN)
        self.rec.unsupported(
            f"{called()}a traced value was turned into a plain complex number",
            f"{CUT}. Use NumPy's functions for Python's, np.exp(z), not cmath.exp(z); {PLAIN}; to only look at the "
            "value, use distdiff.numpy.value(z)",
        )

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        self.rec.unsupported(
            f"{called()}a traced complex number was put into a plain array",
            f"{CUT}: {PLAIN}; compiled code can't be traced, and lists of traced values want np.array first",
        )

    def __float__(self) -> NoReturn:
        raise TypeError("can't convert complex to float")

    __int__ = __float__

    def __repr__(self) -> str:
        return text_of(repr(self.plain_values()))

    def __str__(self) -> str:
        return text_of(str(self.plain_values()))

    def __format__(self, spec: str) -> str:
        return text_of(format(self.plain_values(), spec))

    def __getitem__(self, index: Any) -> Any:  # z[()] and z[..., None], as NumPy's numbers have them
        return self.as_array()[index]

    def __copy__(self) -> ComplexScalar:
        return self

    def __deepcopy__(self, memo: Any) -> ComplexScalar:
        return self

    def item(self) -> ComplexScalar:
        return self

    def as_array(self) -> ComplexArray:
        """This number as an array of shape ()."""
        return ComplexArray(*arrays(self.rec, self.re, self.im, ()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.complex128, name):
            raise AttributeError(f"a traced complex number has no attribute {name!r}")
        return getattr(self.as_array(), name)  # sum, reshape, ... as numpy.complex128 has them


numbers.Complex.register(ComplexScalar)


def is_complex(x: Any) -> bool:
    """Whether an operand is complex: traced, or a plain number or array."""
    kind = type(x)
    if kind is ComplexArray or kind is ComplexScalar or kind is complex:
        return True
    dtype = getattr(x, "dtype", None)
    return dtype is not None and getattr(dtype, "kind", "") == "c"


def is_traced_complex(x: Any) -> bool:
    return type(x) is ComplexArray or type(x) is ComplexScalar


def complex_within(tree: Any) -> bool:
    """Whether there is a complex number, traced or plain, in nested lists."""
    if isinstance(tree, (list, tuple)):
        return any(map(complex_within, tree))
    return is_complex(tree)


def recorder_within(tree: Any) -> Recorder | None:
    """The recorder of the first traced value in nested lists."""
    if isinstance(tree, (list, tuple)):
        return next((rec for x in tree if (rec := recorder_within(x)) is not None), None)
    return tree.rec if is_traced(tree) or is_traced_complex(tree) else None


def parts_of(x: Any, rec: Recorder, signed: bool = False) -> Pair:
    """(re, im) of any operand, None for what is zero by structure; signed: but for a zero whose sign is negative."""
    if isinstance(x, (list, tuple)):
        x = rec.array_of(x)
    if is_traced_complex(x):
        pair: tuple[Part, Part] = (x.re, x.im)
    elif is_complex(x):
        x = x.astype(np.complex128) if getattr(x, "dtype", None) == np.complex64 else x  # before it is computed with
        pair = (x.real, x.imag)
    else:
        if not is_traced(x) and type(x) not in (float, int, bool) and np.asarray(x).dtype.kind not in "fiub":
            raise TypeError(f"unsupported operand type(s): 'complex' and '{type(x).__name__}'")
        return real_part(x), None
    re, im = ((-0.0 if signed and negative_zero(part) else None) if zero(part) else part for part in pair)
    return re, im


def elements(rec: Recorder, re: Any, im: Any) -> Any:
    """Both parts of what was read from an array, or made by moving its elements: an array, or a number."""
    if type(re) is TracedArray and type(im) is TracedArray:
        if re.window.strides == im.window.strides:
            return ComplexArray(re, im)
    elif not isinstance(re, np.ndarray) and not isinstance(im, np.ndarray):
        return number(rec, re, im)
    return ComplexArray(*arrays(rec, re, im, re.shape))


def number(rec: Recorder, re: Any, im: Any) -> Any:
    """A complex number, plain where it depends on no input."""
    if isinstance(re, TracedScalar) or isinstance(im, TracedScalar):
        return ComplexScalar(rec, re, im)
    return np.complex128(complex(re, im))


def computed(rec: Recorder, re: Part, im: Part, operands: tuple[Part, ...] = (), shape: tuple[int, ...] = ()) -> Any:
    """The complex result of a formula, at least of this shape; a part that still is an operand's is copied."""
    re, im = _plainer(re), _plainer(im)
    shape = common([shape, shape_of(re), shape_of(im)])
    if not shape and not isinstance(re, np.ndarray) and not isinstance(im, np.ndarray):
        return number(rec, filled(re), filled(im))
    shared = [x.st for x in operands if type(x) is TracedArray]
    re, im = (own_copy(x) if type(x) is TracedArray and x.st in shared and not zero(x) else x for x in (re, im))
    return ComplexArray(*arrays(rec, re, im, shape))


def common(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape to which arrays are broadcast; mostly that of all that are no numbers."""
    different = {shape for shape in shapes if shape}
    return different.pop() if len(different) == 1 else np.broadcast_shapes(*shapes)


def _plainer(x: Part) -> Part:
    """A result of shape () as the number it is."""
    if type(x) is TracedArray and not x.ndim:
        return x.scalar()
    if isinstance(x, np.ndarray) and not is_traced(x) and not x.ndim:
        return float(x)
    return x


__all__ = ["ComplexArray", "ComplexScalar", "common", "complex_within", "computed", "elements", "is_complex",
           "is_traced_complex", "number", "parts_of", "recorder_within"]
