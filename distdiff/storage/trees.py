"""How arguments and results nest, as JSON: "*" a leaf, null nothing, ["tuple", [...]], ["list", [...]],
["dict", [keys], [...]] in the order of the dict's own, ["namedtuple", name, [fields], [...]].

A named tuple comes back as a fresh type of the same name and fields: no module is imported for a file.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from ..errors import FormatError, InputError
from ..tracing.tree import LEAF, NONE, Spec, in_order, named, order_of

_KEYS = (str, int, float, bool, type(None))
DEPTH = 64


def to_json(spec: Spec) -> Any:
    """The JSON of a spec; `InputError` where a dict has keys that JSON does not know."""
    if spec.kind == "leaf":
        return "*"
    if spec.kind == "none":
        return None
    children = [to_json(child) for child in spec.children]
    if spec.kind == "dict":
        for key in spec.keys:
            if type(key) not in _KEYS:
                raise InputError(f"a dict with the key {key!r} can't be saved: keys must be text or numbers")
        order = spec.order or range(len(children))
        return ["dict", [spec.keys[k] for k in order], [children[k] for k in order]]
    if spec.kind == "namedtuple":
        return ["namedtuple", spec.type.__name__, list(spec.type._fields), children]
    return [spec.kind, children]


def from_json(data: Any, depth: int = 0) -> Spec:
    """The spec of some JSON; `FormatError` where it is none."""
    if data == "*" and type(data) is str:
        return LEAF
    if data is None:
        return NONE
    if depth > DEPTH or not isinstance(data, list) or not data or not isinstance(data[-1], list):
        raise FormatError("a nesting of arguments or results is none")
    children = tuple(from_json(child, depth + 1) for child in data[-1])
    kind, *middle = data[:-1]
    if kind in ("tuple", "list") and not middle:
        return Spec(kind, children=children)
    if kind == "dict" and len(middle) == 1 and _are_keys(middle[0], len(children)):
        keys = in_order(middle[0])
        order = order_of(tuple(middle[0]), keys)
        return Spec("dict", keys, tuple(children[middle[0].index(key)] for key in keys), order=order)
    if kind == "namedtuple" and len(middle) == 2 and _are_fields(*middle, len(children)):
        return Spec("namedtuple", children=children, type=named(middle[0], tuple(middle[1])))
    raise FormatError(f"a nesting of arguments or results is of a kind {kind!r} that is not known")


def _are_keys(keys: Any, n: int) -> bool:
    return (isinstance(keys, list) and len(keys) == n and all(type(key) in _KEYS for key in keys)
            and len(set(keys)) == n)


def _are_fields(name: Any, fields: Any, n: int) -> bool:
    if not isinstance(name, str) or not isinstance(fields, list) or len(fields) != n:
        return False
    try:
        namedtuple(name, fields)
    except (TypeError, ValueError):
        return False
    return all(isinstance(field, str) for field in fields)
