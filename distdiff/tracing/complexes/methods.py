"""What Python sees of complex arrays and numbers: operators and methods, most of them NumPy's functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..array import TracedArray
from ..placing import Flat
from ..scalar import TracedScalar
from .array import DTYPE, ComplexArray, ComplexScalar, elements, parts_of
from .functions import array_of, lifted
from .parts import filled
from .ufuncs import check_cast, evaluate

_OPERATORS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.divide, "pow": np.power,
    "floordiv": np.floor_divide, "mod": np.remainder,
}
_COMPARE = {"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
            "ne": np.not_equal}


def _known(x: Any) -> bool:
    """Whether an operator knows an operand."""
    return isinstance(x, (int, float, complex, np.generic, np.ndarray, list, tuple, TracedScalar, ComplexScalar))


def _operator(ufunc: np.ufunc, unwrap: Callable[[Any], Any], reflected: bool = False) -> Callable[..., Any]:
    def operator(self: Any, other: Any) -> Any:
        other = unwrap(other)
        if not _known(other) or getattr(other, "__array_ufunc__", True) is None:
            return NotImplemented
        return evaluate(ufunc, (other, self) if reflected else (self, other))

    return operator


def _in_place(ufunc: np.ufunc, unwrap: Callable[[Any], Any]) -> Callable[..., Any]:
    def operator(self: ComplexArray, other: Any) -> Any:
        self[...] = evaluate(ufunc, (self, unwrap(other)))
        return self

    return operator


def _unary(ufunc: np.ufunc) -> Callable[..., Any]:
    return lambda self: evaluate(ufunc, (self,))


def _astype(self: ComplexArray, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True,
            copy: bool = True) -> Any:
    kind = np.dtype(dtype).kind
    if kind == "c":
        return self.copy(order) if copy else self
    if kind == "b":
        return np.not_equal(self, 0.0)
    discarded()
    return self.re.astype(dtype, order, casting, subok, copy)


def discarded() -> None:
    """NumPy's warning where imaginary parts are lost."""
    import warnings

    kind = getattr(np, "ComplexWarning", None) or np.exceptions.ComplexWarning
    warnings.warn("Casting complex values to real discards the imaginary part", kind, stacklevel=4)


def to_complex(x: TracedArray, dtype: Any = DTYPE) -> ComplexArray:
    """A real traced array as a complex one."""
    return array_of(x.rec, x) if x.ndim else elements(x.rec, x, np.zeros(()))


def real_of(value: Any, rec: Any, name: str | None = None) -> Any:
    """What becomes of a complex value that is written into a real array: NumPy's warning, or its error."""
    if name is not None:
        check_cast(name, value, np.empty(0))
    if type(value) is ComplexScalar or not isinstance(value, np.ndarray):
        raise TypeError("can't convert complex to float")
    discarded()
    return filled(parts_of(value, rec)[0])


def _function(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: function(self, *args, **kwargs)


def _method(name: str) -> Callable[..., Any]:
    """A method of both parts."""
    return lifted(lambda part, *args, **kwargs: getattr(part, name)(*args, **kwargs))


def _refused(name: str, why: str) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: self.rec.unsupported(f"numpy.ndarray.{name} of complex numbers", why)


def _view(self: ComplexArray, dtype: Any = None, kind: Any = None) -> ComplexArray:
    if isinstance(dtype, type) and issubclass(dtype, np.ndarray):
        dtype = None
    if kind is not None or dtype is not None and np.dtype(dtype) != DTYPE:
        self.rec.unsupported("numpy.ndarray.view of complex numbers as another type",
                             "z.real and z.imag are views of the parts")
    return ComplexArray(self.re.view(), self.im.view())


class ComplexFlat(Flat):
    """z.flat: written to part by part."""

    def __setitem__(self, index: Any, value: Any) -> None:
        index, rec = self._one_index(index), self.base.rec
        value = rec.array_of(value) if isinstance(value, (list, tuple)) else value
        if np.size(value):
            re, im = parts_of(value, rec)
            Flat.__setitem__(Flat(self.base.re), index, filled(re))
            Flat.__setitem__(Flat(self.base.im), index, filled(im))


def _assign_flat(self: ComplexArray, value: Any) -> None:
    self.flat[...] = value


def install(unwrap: Callable[[Any], Any], array_ufunc: Callable[..., Any], array_function: Callable[..., Any],
            unwrapping: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> None:
    """Attach all of it to both classes, once; what NumPy's protocols call is given."""
    both: dict[str, Any] = {
        "__array_ufunc__": array_ufunc, "__array_function__": array_function,
        "__neg__": _unary(np.negative), "__pos__": _unary(np.positive), "__abs__": _unary(np.absolute),
        "conjugate": _unary(np.conjugate), "conj": _unary(np.conjugate),
    }
    for name, ufunc in {**_OPERATORS, **_COMPARE}.items():
        both[f"__{name}__"] = _operator(ufunc, unwrap)
        if name in _OPERATORS:
            both[f"__r{name}__"] = _operator(ufunc, unwrap, True)
    attributes: dict[str, Any] = {
        "__matmul__": lambda self, other: np.matmul(self, unwrap(other)),
        "__rmatmul__": lambda self, other: np.matmul(unwrap(other), self),
        "__imatmul__": lambda self, other: self.__setitem__(..., np.matmul(self, unwrap(other))) or self,
        "__copy__": lambda self: self.copy("K"), "__deepcopy__": lambda self, memo: self.copy("K"),
        "__contains__": lambda self, x: bool(np.any(np.equal(self, x))),
        "astype": _astype, "view": _view, "flat": property(ComplexFlat, _assign_flat),
        "copy": _method("copy"),
        "fill": lambda self, value: self.__setitem__(..., value),
        "scalar": lambda self: self[()] if self.ndim == 0 else self.item(),
        "setflags": lambda self, *args, **kwargs: [part.window.setflags(*args, **kwargs) for part in (self.re, self.im)]
        and None,
        "__array_namespace__": lambda self, api_version=None: np, "device": property(lambda self: "cpu"),
        "dot": lambda self, other, out=None: np.dot(self, other, out),
    }
    for name, function in {
        "sum": np.sum, "prod": np.prod, "mean": np.mean, "var": np.var, "std": np.std, "cumsum": np.cumsum,
        "cumprod": np.cumprod, "trace": np.trace, "any": np.any, "all": np.all, "nonzero": np.nonzero,
        "round": np.around, "put": np.put,
    }.items():
        attributes[name] = _function(function)
    for name in ("reshape", "ravel", "flatten", "transpose", "swapaxes", "squeeze", "diagonal", "take", "repeat",
                 "compress"):
        attributes[name] = _method(name)
    attributes["argsort"] = _function(np.argsort)
    attributes["sort"] = lambda self, axis=-1, kind=None, order=None: self.__setitem__(..., np.sort(self, axis))
    for name in ("max", "min", "argmax", "argmin", "ptp", "clip"):
        attributes[name] = _function(getattr(np, name))
    for name in ("partition", "argpartition", "searchsorted"):
        attributes[name] = _refused(name, "complex numbers are ordered by their parts, which has no rule here; take "
                                          "np.abs(z) or a part")
    for name in ("tobytes", "tofile", "dump", "dumps", "getfield", "setfield", "byteswap", "choose", "newbyteorder",
                 "tostring", "resize", "itemset", "__dlpack__"):
        attributes[name] = _refused(name, "it has no derivative rule, or would lose the derivative")
    for name, ufunc in _OPERATORS.items():
        attributes[f"__i{name}__"] = _in_place(ufunc, unwrap)
    for name, value in both.items():
        setattr(ComplexArray, name, value)
        setattr(ComplexScalar, name, value)
    for name, value in attributes.items():
        dunder = name.startswith("__") or isinstance(value, property)
        setattr(ComplexArray, name, value if dunder else unwrapping(name, value))
    own = ComplexArray.__getitem__, ComplexArray.__setitem__
    ComplexArray.__getitem__ = lambda self, index: own[0](self, unwrap_index(unwrap, index))
    ComplexArray.__setitem__ = (
        lambda self, index, value: own[1](self, unwrap_index(unwrap, index), unwrap(value)))


def unwrap_index(unwrap: Callable[[Any], Any], index: Any) -> Any:
    return tuple(map(unwrap, index)) if type(index) is tuple else unwrap(index)


__all__ = ["install", "real_of", "to_complex"]
