"""Operations given by their partial derivatives."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import update_wrapper
from typing import Any

import numpy as np

from ..errors import InputError, UnsupportedOperationError
from ..ops import Elemental
from ..tracing import is_leaf, running
from ..tracing.active import set_aside
from ..tracing.array import is_traced, plain
from ..tracing.joint import joint
from ..tracing.stretch import as_leaf
from .called import of_kind, require_unwritten, sealed
from .named import Named

Shape = tuple[int, ...]
_KINDS = re.compile(r"|[<|][biu][1248]")


class _Registered(Named):
    """An operation given by value and partials; made by `elemental`."""

    def __init__(self, value: Callable[..., Any], partials: Sequence[Any], second: Any, signature: str | None,
                 name: str | None) -> None:
        if not callable(value):
            raise InputError(f"the value of an elemental is a {type(value).__name__}, which can't be called")
        update_wrapper(self, value)
        if name is not None:
            self.__name__ = name
        if not isinstance(partials, (list, tuple)):
            raise InputError(f"the partials of {self.__name__} are a {type(partials).__name__}; give a list of them, "
                             "one for each operand, None where the derivative is zero")
        self.value, self.partials, self.second = value, tuple(partials), second
        for k, partial in enumerate(self.partials):
            if partial is not None and not callable(partial):
                raise InputError(f"partial {k} of {self.__name__} is a {type(partial).__name__}; give a function "
                                 "partial(y, *x), or None where the derivative is zero")
        self.ins, self.out = _signature(signature, len(self.partials))
        if second is not None:
            ok = _is_row(second, len(self.partials)) and all(
                row is None or _is_row(row, len(self.partials)) and all(part is None or callable(part) for part in row)
                for row in second)
            if not ok:
                raise InputError(f"the second partials of {self.__name__} must be a row for each of the "
                                 f"{len(self.partials)} operands, each with as many entries")

    def __call__(self, *operands: Any) -> Any:
        if len(operands) != len(self.partials):
            raise TypeError(f"{self.__name__} takes {len(self.partials)} operands but {len(operands)} were given")
        rec = running()
        if rec is None or not any(is_traced(x) for x in map(_held, operands)):
            return self.value(*operands)
        operands = tuple(map(_held, operands))
        kinds = tuple(map(_kind, operands))
        op = _Partial(self, (), *self._cores(operands), kinds)
        before = [np.asarray(plain(x), dtype=kind or np.float64) for x, kind in zip(operands, kinds)]
        given = [np.array(x) for x in before]
        try:
            with set_aside():
                result = self.value(*(x[()] for x in given))
        except Exception:  # the function may catch it
            rec.failed()
            raise
        require_unwritten(rec, self.__name__, given, before)
        found = joint(op, operands, self.__name__, [np.array(op.checked(result, given, exact=True))])
        found = [of_kind(rec, self.__name__, result, found[0])]
        sealed(rec, self.__name__, [result], given, operands, found)
        return found[0]

    def _cores(self, operands: Sequence[Any]) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
        sizes: dict[str, int] = {}
        cores = []
        for k, (x, axes) in enumerate(zip(operands, self.ins)):
            shape = np.shape(x)
            core = shape[len(shape) - len(axes) :]
            if len(core) != len(axes) or any(sizes.setdefault(a, n) != n for a, n in zip(axes, core)):
                raise ValueError(f"{self.__name__}: operand {k} has shape {shape}, whose last axes are not "
                                 f"({', '.join(f'{a}={sizes[a]}' if a in sizes else a for a in axes)})")
            cores.append(core)
        return tuple(cores), (tuple(sizes[a] for a in self.out),)

    rule_kind, code = "elemental", ("partials", "second")

    @property
    def elemental(self) -> type[_Partial]:
        return _Partial

    def takes(self) -> dict[str, Any]:
        """What tells it from others, for files: its axes, and the operands by which its derivative is zero."""
        cores = [f"({','.join(axes)})" for axes in (*self.ins, self.out)]
        return {"signature": f"{','.join(cores[:-1])}->{cores[-1]}",
                "without derivative": [k for k, partial in enumerate(self.partials) if partial is None]}

    def rule(self, path: tuple[int, ...]) -> Any:
        """The partial along a path of operands, "unknown" where it is not given, None where it is zero."""
        if len(path) == 1:
            return self.partials[path[0]]
        if self.partials[path[0]] is None:
            return None
        if len(path) > 2 or self.second is None:
            return "unknown"
        row = self.second[path[0]]
        return None if row is None else row[path[1]]


class _Partial(Elemental):
    """A registered operation, or its partial along a path of operands, whose cores follow those of the result.

    kinds: the dtypes of operands that are whole numbers or truth values to its function, "" for floats.
    """

    def __init__(self, function: _Registered, path: tuple[int, ...], core_in: tuple[Shape, ...],
                 core_out: tuple[Shape, ...], kinds: tuple[str, ...]) -> None:
        self.function, self.path, self.core_in, self.core_out, self.kinds = function, path, core_in, core_out, kinds
        self.name = function.__name__ if not path else f"partial derivative {path} of {function.__name__}"
        self.inert = frozenset(k for k in range(len(core_in)) if function.rule((*path, k)) is None)

    @property
    def rule(self) -> _Registered:
        return self.function

    def parameters(self) -> dict[str, Any]:
        """In files: the path, and the operands' cores, from which the others follow."""
        return {"path": self.path, "cores": self.core_in} | ({"kinds": self.kinds} if any(self.kinds) else {})

    @classmethod
    def of(cls, function: _Registered, parameters: dict[str, Any]) -> _Partial:
        """That of `parameters`, which may be anything."""
        path, cores = tuple(parameters["path"]), [tuple(core) for core in parameters["cores"]]
        numbers = range(len(function.partials))
        if len(cores) != len(numbers) or len(path) > 2 or not all(type(k) is int and k in numbers for k in path):
            raise ValueError("it has other operands")
        if any(callable(function.rule(path[:n])) is False for n in range(1, len(path) + 1)):
            raise ValueError("there is no such partial")
        sizes: dict[str, int] = {}
        for core, axes in zip(cores, function.ins):
            if len(core) != len(axes) or any(sizes.setdefault(a, n) != n for a, n in zip(axes, core)):
                raise ValueError("its operands have other axes")
        kinds = tuple(parameters.get("kinds") or [""] * len(cores))
        if len(kinds) != len(cores) or not all(isinstance(kind, str) and _KINDS.fullmatch(kind) for kind in kinds):
            raise ValueError("its operands are of other kinds")
        out = tuple(sizes[a] for a in function.out)
        return cls(function, path, tuple(cores), (sum((cores[k] for k in path), out),), kinds)

    def __reduce__(self) -> Any:
        return _Partial, self._key()

    def _key(self) -> tuple[Any, ...]:
        return self.function, self.path, self.core_in, self.core_out, self.kinds

    def __eq__(self, other: Any) -> bool:
        return type(other) is _Partial and other._key() == self._key()

    def __hash__(self) -> int:
        return hash((id(self.function), *self._key()[1:]))

    @property
    def reads(self) -> frozenset[int]:
        return frozenset(range(-1, self.arity)) if not self.path else frozenset(range(self.arity))

    def value(self, *x: np.ndarray) -> Sequence[np.ndarray]:
        y = self.function.value(*self._own(x))
        if self.path:
            y = self.function.rule(self.path)(y, *self._own(x))
        return (self.checked(y, x),)

    def _own(self, x: Sequence[np.ndarray]) -> list[Any]:
        """Operands (numbers, where the shape is ()) for a user's function, which may write into them."""
        return [np.array(part, dtype=kind or None)[()] for part, kind in zip(x, self.kinds)]

    def checked(self, y: Any, x: Sequence[np.ndarray], exact: bool = False) -> np.ndarray:
        """What the user's function returned for these operands, in its full shape; `InputError` if it has another, or,
        unless it is to be exact, one that does not broadcast to it."""
        loops = (np.shape(part)[: np.ndim(part) - len(core)] for part, core in zip(x, self.core_in))
        shape = np.broadcast_shapes(*loops) + self.core_out[0]
        found = np.asarray(y)
        fits = found.shape == shape if exact else found.ndim <= len(shape) and all(
            n in (1, want) for n, want in zip(found.shape[::-1], shape[::-1]))
        if fits and found.dtype.kind in "fiub":
            return np.broadcast_to(found.astype(np.float64, copy=False), shape)
        what = f"the {self.name}" if self.path else f"the value of {self.name}"
        raise InputError(f"{what} is a {type(y).__name__} of shape {found.shape} and dtype {found.dtype} where real "
                         f"numbers of shape {shape} are wanted: the operands' loop axes, then the core axes of the "
                         "result" + (", then of the operands it is a derivative by. partials[k](y, *x) returns that "
                                     "shape, or one that broadcasts to it" if self.path else ""))

    def tangent(self, y: Sequence[Any], x: Sequence[Any], xdot: Sequence[Any]) -> Sequence[Any]:
        total = None
        for k, t in enumerate(xdot):
            if t is None or k in self.inert:
                continue
            axes = len(self.core_in[k])
            t = t[(..., *(np.newaxis,) * len(self.core_out[0]), *(slice(None),) * axes)]
            term = self._partial(k, y, x) * t
            term = np.sum(term, axis=tuple(range(-axes, 0))) if axes else term
            total = term if total is None else total + term
        return (total,)

    def adjoint(self, y: Sequence[Any], x: Sequence[Any], ybar: Sequence[Any], wanted: Sequence[bool]) -> Sequence[Any]:
        found: list[Any] = []
        outer = len(self.core_out[0])
        for k, core in enumerate(self.core_in):
            if not wanted[k] or k in self.inert:
                found.append(None)
                continue
            term = self._partial(k, y, x) * ybar[0][(..., *(np.newaxis,) * len(core))]
            inner = tuple(range(-outer - len(core), -len(core)))
            found.append(np.sum(term, axis=inner) if outer else term)
        return found

    def _partial(self, k: int, y: Sequence[Any], x: Sequence[Any]) -> Any:
        """dG/dx_k, (*loop, *core_out, *core_in[k]), on traced arrays a joint statement itself."""
        path = (*self.path, k)
        if self.function.rule(path) == "unknown":
            order = "second partials (second=)" if len(path) == 2 else "no partials of higher order than the second"
            can = "were not given" if len(path) == 2 else "can be given"
            raise UnsupportedOperationError(
                f"a derivative of order {len(path)} of {self.function.__name__} is wanted, for which {order} {can}; "
                "write the operation in NumPy functions, or give it rules by custom_jvp")
        op = _Partial(self.function, path, self.core_in, (self.core_out[0] + self.core_in[k],), self.kinds)
        if any(map(is_traced, x)):
            return joint(op, x)[0]
        if not self.path:
            return op.checked(self.function.rule(path)(np.array(y[0])[()], *self._own(x)), x)
        return op.value(*x)[0]


def _kind(x: Any) -> str:
    """The dtype of an operand of whole numbers or truth values; "" for floats."""
    dtype = x.dtype if is_traced(x) else np.asarray(x).dtype
    return dtype.str if dtype.kind in "iub" else ""


def elemental(value: Callable[..., Any] | None = None, *, partials: Sequence[Callable[..., Any] | None],
              second: Sequence[Any] | None = None, signature: str | None = None, name: str | None = None) -> Any:
    """Register an operation y = value(x_1, ..., x_r) by its partial derivatives; a decorator, or a call.

        @dd.elemental(partials=[lambda y, x, n: y * n / x, None])
        def power(x, n): ...                            # elementwise: arrays of one shape after broadcasting

        norm = dd.elemental(value, partials=[...], signature="(n)->()")

    partials[k](y, *x) is dy/dx_k over the broadcast shape; None: zero.  With a signature (as of NumPy's generalized
    ufuncs, with one result) operands have core axes, axes in front are loop axes, and partials[k] has shape
    (*loop, *result's core, *core of x_k).  second[k][l](y, *x) is d^2 y/dx_k dx_l, with the core of x_l as well; None:
    zero, and so is a row.  All are called on plain arrays that broadcast, so they may lead into compiled code; value
    writes into none of them.

    Loop axes are cut over ranks as array code is.  A derivative of an order that is not given raises
    `UnsupportedOperationError`.
    """
    def register(function: Callable[..., Any]) -> _Registered:
        return _Registered(function, partials, second, signature, name)

    return register if value is None else register(value)


def _is_row(x: Any, n: int) -> bool:
    return isinstance(x, (list, tuple)) and len(x) == n


def _held(x: Any) -> Any:
    rec = running()
    return x if rec is None or not is_leaf(x) else as_leaf(rec, x)


def _signature(text: str | None, n: int) -> tuple[list[list[str]], list[str]]:
    """The names of the core axes of the operands and of the result."""
    if text is None:
        return [[] for _ in range(n)], []
    core = r"\(\s*(?:\w+\s*(?:,\s*\w+\s*)*)?\)"
    if not isinstance(text, str) or not re.fullmatch(rf"\s*{core}\s*(,\s*{core}\s*)*->\s*{core}\s*", text):
        raise InputError(f"signature {text!r} is not like '(n,n),(n)->(n)': core axes of operands and of one result")
    ins, out = ([re.findall(r"\w+", part) for part in re.findall(core, side)] for side in text.split("->"))
    if len(ins) != n:
        raise InputError(f"signature {text!r} has {len(ins)} operands, but {n} partials are given")
    if not set(out[0]) <= {a for axes in ins for a in axes}:
        raise InputError(f"signature {text!r}: every axis of the result must be one of an operand's")
    return ins, out[0]


__all__ = ["elemental"]
