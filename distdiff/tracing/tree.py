"""Nested containers of arrays, taken apart and put together again.

A *leaf* is a number or an array; tuples, lists, dicts and named tuples nest them, None nests nothing.  The
order of leaves is that of the containers, and of the sorted keys of a dict, so two dicts that are equal
flatten alike.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from ..errors import InputError


@lru_cache(maxsize=256)
def named(name: str, fields: tuple[str, ...]) -> Any:
    """A named tuple's type for a file or message that knows its name and fields, not its module."""
    made = namedtuple(name, fields)
    made.__module__ = ""  # of none, which `Spec` looks at to pickle it
    return made


class Spec(NamedTuple):
    """How leaves nest: `kind` is "leaf", "none", "tuple", "list", "dict" or "namedtuple"."""

    kind: str
    keys: tuple[Any, ...] = ()  # of a dict, sorted
    children: tuple[Spec, ...] = ()
    type: Any = None  # of a named tuple

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


def _with_named(name: str, fields: tuple[str, ...], children: tuple[Spec, ...]) -> Spec:
    return Spec("namedtuple", children=children, type=named(name, fields))


LEAF = Spec("leaf")
NONE = Spec("none")


def is_number(leaf: Any) -> bool:
    """Whether a leaf is a real or complex number or an array of them (not text, objects or functions)."""
    kind = getattr(getattr(leaf, "dtype", None), "kind", None)
    return kind in tuple("fiubc") if kind is not None else isinstance(leaf, (int, float, complex))


def flatten(tree: Any, what: str = "value", is_leaf: Callable[[Any], bool] = is_number) -> tuple[list[Any], Spec]:
    """The leaves of `tree` in order, and how they nest.

    Raises `InputError`, naming the path, for what is neither a container nor accepted by `is_leaf`.
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
        keys = tuple(sorted(node, key=lambda key: (type(key).__name__, key)))
        return Spec("dict", keys, tuple(_walk(node[key], f"{path}[{key!r}]", is_leaf, leaves) for key in keys))
    if not is_leaf(node):
        raise InputError(
            f"{path} is a {type(node).__name__}, which is no number: use floats, arrays, and tuples, lists, "
            "dicts or named tuples of them"
        )
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
        return dict(zip(spec.keys, children))
    if spec.kind == "namedtuple":
        return spec.type(*children)
    return children if spec.kind == "list" else tuple(children)
