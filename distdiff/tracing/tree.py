"""Nested containers of arrays, taken apart and put together again.

A *leaf* is a number or an array; tuples, lists, dicts and named tuples nest them, None nests nothing.  The
order of leaves is that of the containers, and of the sorted keys of a dict, so two dicts that are equal
flatten alike.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError, UnsupportedOperationError


@lru_cache(maxsize=256)
def named(name: str, fields: tuple[str, ...]) -> Any:
    """A named tuple's type for a file or message that knows its name and fields, not its module."""
    made = namedtuple(name, fields)
    made.__module__ = ""  # of none, which `Spec` looks at to pickle it
    return made


class Spec(NamedTuple):
    """How leaves nest: `kind` is "leaf", "none", "tuple", "list", "dict" or "namedtuple"."""

    kind: str
    keys: tuple[Any, ...] = ()  # of a dict, sorted: the order of its leaves
    children: tuple[Spec, ...] = ()
    type: Any = None  # of a named tuple
    order: tuple[int, ...] = ()  # of a dict: the places of its keys among the sorted, as they came in; () as sorted

    def __reduce__(self) -> Any:
        """Types that `named` made are made again where the spec arrives."""
        if self.kind == "namedtuple" and not self.type.__module__:
            return _with_named, (self.type.__name__, self.type._fields, self.children)
        return Spec, tuple(self)

    @property
    def n_leaves(self) -> int:
        return 1 if self.kind == "leaf" else sum(child.n_leaves for child in self.children)

    def __repr__(self) -> str:
        inner = [repr(child) for child in self.children]
        if self.kind in ("leaf", "none"):
            return "*" if self.kind == "leaf" else "None"
        if self.kind == "dict":
            return "{" + ", ".join(f"{key!r}: {part}" for key, part in zip(self.keys, inner)) + "}"
        if self.kind == "namedtuple":
            return f"{self.type.__name__}({', '.join(inner)})"
        if self.kind == "list":
            return f"[{', '.join(inner)}]"
        return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"


def alike(a: Spec, b: Spec) -> bool:
    """Whether two specs nest alike; named tuples of one name and fields are, whatever their type."""
    if a is b:
        return True
    if a.kind != b.kind or a.keys != b.keys or len(a.children) != len(b.children):
        return False
    if a.kind == "namedtuple" and (a.type.__name__, a.type._fields) != (b.type.__name__, b.type._fields):
        return False
    return all(map(alike, a.children, b.children))


def in_order(keys: Iterable[Any]) -> tuple[Any, ...]:
    """The keys of a dict, sorted."""
    return tuple(sorted(keys, key=lambda key: (type(key).__name__, key)))


def order_of(keys: tuple[Any, ...], sorted_keys: tuple[Any, ...]) -> tuple[int, ...]:
    """`Spec.order` of keys as they came in."""
    return () if keys == sorted_keys else tuple(map(sorted_keys.index, keys))


def _with_named(name: str, fields: tuple[str, ...], children: tuple[Spec, ...]) -> Spec:
    return Spec("namedtuple", children=children, type=named(name, fields))


LEAF = Spec("leaf")
NONE = Spec("none")


def fresh(x: Any, made: Callable[[np.ndarray], Any] = lambda array: array, met: dict[int, Any] | None = None) -> Any:
    """x with copies, as `made` has them, of its arrays that can be written into, and other tuples, lists and dicts
    around these; what holds none, and all else, is itself.

    met: what was met before, by id, with what stands for it: one array that comes twice is one still.
    """
    if type(x) is np.ndarray and not x.flags.writeable or not isinstance(x, (np.ndarray, dict, tuple, list)):
        return x
    met = {} if met is None else met
    if id(x) in met:
        return met[id(x)][1]
    if type(x) is np.ndarray:
        met[id(x)] = x, made(np.array(x, order="K"))
        return met[id(x)][1]
    met[id(x)] = x, x  # of one that holds itself
    if type(x) is dict:
        parts = {key: fresh(value, made, met) for key, value in x.items()}
        if any(part is not x[key] for key, part in parts.items()):
            met[id(x)] = x, parts
    elif isinstance(x, (tuple, list)) and (type(x) in (tuple, list) or hasattr(x, "_fields")):
        found = [fresh(value, made, met) for value in x]
        if not all(part is value for part, value in zip(found, x)):
            met[id(x)] = x, type(x)._make(found) if hasattr(x, "_fields") else type(x)(found)
    return met[id(x)][1]


def is_number(leaf: Any) -> bool:
    """Whether a leaf is a real or complex number or an array of them (not text, objects or functions)."""
    kind = getattr(getattr(leaf, "dtype", None), "kind", None)
    return kind in tuple("fiubc") if kind is not None else isinstance(leaf, (int, float, complex))


def require_floats(leaf: Any, what: str) -> None:
    """Raise for a number or array, traced or not, by which no derivative is taken: of whole numbers, truth values, or
    complex ones."""
    dtype = np.dtype(getattr(leaf, "dtype", type(leaf)))
    if dtype.kind in "iub":
        remedy = "write 1.0 for 1" if np.ndim(leaf) == 0 else "use x.astype(float)"
        raise InputError(f"{what} holds {dtype} values; derivatives are taken with respect to floats: {remedy}")
    require_real(leaf, what)


def require_real(leaf: Any, what: str) -> None:
    """Raise for a number or array, traced or not, that is complex."""
    if np.dtype(getattr(leaf, "dtype", type(leaf))).kind == "c":
        raise UnsupportedOperationError(
            f"{what} holds complex values; derivatives here are with respect to real numbers: pass real and "
            "imaginary parts as two arrays, and write x + 1j * y inside the function")


def layout(leaf: Any) -> tuple[int, ...]:
    """The axes of an array from the slowest in memory to the fastest; () where that is their own order, as in C."""
    if not isinstance(leaf, np.ndarray) or leaf.ndim < 2 or leaf.flags.c_contiguous:
        return ()
    axes = [k for k in range(leaf.ndim) if leaf.shape[k] > 1]
    found = sorted(axes, key=lambda k: -abs(leaf.strides[k]))
    return () if found == axes else tuple(found)


def writeable(leaf: Any) -> bool:
    """Whether a function may write into a leaf."""
    return not isinstance(leaf, np.ndarray) or bool(leaf.flags.writeable)


def manner(tree: Any) -> Any:
    """What a function can see of its arguments beside their nesting and values: how arrays lie in memory, and in which
    order keys come."""
    if isinstance(tree, np.ndarray):
        return layout(tree)
    if isinstance(tree, dict):
        return tuple([(key, manner(part)) for key, part in tree.items()])
    return tuple(map(manner, tree)) if isinstance(tree, (tuple, list)) else ()


def laid(tree: Any, like: Any) -> Any:
    """Nested arrays with those of `like`, which nest alike, as an example of how they lie in memory."""
    if isinstance(tree, np.ndarray):
        if not layout(like):
            return tree
        other = np.empty_like(like, dtype=tree.dtype, subok=False)
        other[...] = tree
        return other
    if isinstance(tree, dict):
        return {key: laid(part, like[key]) for key, part in tree.items()}
    if isinstance(tree, (tuple, list)):
        parts = map(laid, tree, like)
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


# What a subclass of ndarray may define and still be an array to a function: how it is made, shown and stored.
_HARMLESS = frozenset((
    "__array_finalize__", "__array_interface__", "__array_prepare__", "__array_priority__", "__array_struct__",
    "__array_wrap__", "__class__", "__class_getitem__", "__copy__", "__deepcopy__", "__delattr__", "__dict__",
    "__dir__", "__doc__", "__format__", "__getattribute__", "__hash__", "__init__", "__init_subclass__", "__new__",
    "__reduce__", "__reduce_ex__", "__repr__", "__setattr__", "__setstate__", "__sizeof__", "__str__",
    "__subclasshook__", "base", "ctypes", "data", "device", "flags"))
_DEFINED = frozenset(dir(np.ndarray)) - _HARMLESS
_ARRAYS = (np.ndarray, np.memmap, np.recarray)  # the latter's elements are reached otherwise, and are the same ones


@lru_cache(maxsize=256)
def computes_otherwise(kind: type) -> bool:
    """Whether a type is a subclass of ndarray that defines an array's operations anew: matrices, masks, units."""
    if not issubclass(kind, np.ndarray) or hasattr(kind, "_distdiff_held"):  # (arrays made while tracing)
        return False
    return any(not _DEFINED.isdisjoint(vars(base)) for base in kind.__mro__
               if issubclass(base, np.ndarray) and base not in _ARRAYS)


def require_array(leaf: Any, path: str) -> None:
    """Raise `InputError` for an array whose class computes otherwise: a derivative would be of another function."""
    if type(leaf) is not np.ndarray and computes_otherwise(type(leaf)):
        raise InputError(
            f"{path} is a {type(leaf).__name__}, a class of arrays with operations of its own (products, masks, "
            "units), while derivatives are traced by the rules of plain arrays: give np.asarray of it, and write "
            "what its class does into the function (@ for matrix products, np.where for masks)"
        )


def flatten(tree: Any, what: str = "value", is_leaf: Callable[[Any], bool] = is_number) -> tuple[list[Any], Spec]:
    """The leaves of `tree` in order, and how they nest.

    Raises `InputError`, naming the path, for what is neither a container nor accepted by `is_leaf`, and for
    arrays of a class that computes by rules of its own.
    """
    leaves: list[Any] = []
    return leaves, _walk(tree, what, is_leaf, leaves)


# (No inner functions: one that calls itself is a reference cycle and would keep large leaves alive.)
def _walk(node: Any, path: str, is_leaf: Callable[[Any], bool], leaves: list[Any]) -> Spec:
    if node is None:
        return NONE
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        children = tuple(_walk(child, f"{path}.{name}", is_leaf, leaves) for name, child in zip(node._fields, node))
        return Spec("namedtuple", children=children, type=type(node))
    if isinstance(node, (tuple, list)):
        children = tuple(_walk(child, f"{path}[{k}]", is_leaf, leaves) for k, child in enumerate(node))
        return Spec("tuple" if isinstance(node, tuple) else "list", children=children)
    if isinstance(node, dict):
        keys = in_order(node)
        children = tuple(_walk(node[key], f"{path}[{key!r}]", is_leaf, leaves) for key in keys)
        return Spec("dict", keys, children, order=order_of(tuple(node), keys))
    if not is_leaf(node):
        raise InputError(
            f"{path} is a {type(node).__name__}, which is no number: use floats, arrays, and tuples, lists, "
            "dicts or named tuples of them"
        )
    require_array(node, path)
    leaves.append(node)
    return LEAF


def unflatten(spec: Spec, leaves: list[Any]) -> Any:
    """The containers of `spec` around the leaves: the inverse of `flatten`."""
    if len(leaves) != spec.n_leaves:
        raise InputError(f"{len(leaves)} leaves given for {spec.n_leaves} in {spec}")
    return _build(spec, iter(leaves))


def _build(spec: Spec, rest: Iterator[Any]) -> Any:
    if spec.kind == "leaf":
        return next(rest)
    if spec.kind == "none":
        return None
    children = [_build(child, rest) for child in spec.children]
    if spec.kind == "dict":
        return {spec.keys[k]: children[k] for k in spec.order or range(len(children))}
    if spec.kind == "namedtuple":
        return spec.type(*children)
    return children if spec.kind == "list" else tuple(children)
