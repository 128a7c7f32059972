"""Users' rules and tape files: a file names the rules that it calls, and whoever loads it brings them.

A rule is code (`distdiff.rules`), which no file holds, and nothing is imported or evaluated for one.  A file says of
each rule that it calls its kind, module and name, and what it takes: of an elemental the axes of its operands and
which partials are zero, of a custom_jvp or custom_vjp the names of its parameters.  A rule that is brought is the one
if its kind and name are the same, and is refused if what it takes is not.

What a rule has to have for this: `rule_kind`, `__module__`, `__name__` and `takes()`, JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ..errors import FormatError, InputError, RuleError

_DTYPE = re.compile(r"[<|][biufc](1|2|4|8|16)")
DEPTH = 32


class Called(NamedTuple):
    """A rule, as a file names it."""

    kind: str
    module: str
    name: str
    takes: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.name} (distdiff.{self.kind}, of module {self.module})"


Find = Callable[[Called], Any]  # the rule of that name, or None


def called(rule: Any) -> Called:
    """How a file names a rule."""
    return Called(rule.rule_kind, str(rule.__module__), str(rule.__name__), rule.takes())


def among(rules: Iterable[Any]) -> Find:
    """Finds rules among those that are given; of several that have one name, by their module."""
    given = list(rules)
    for rule in given:
        if not hasattr(type(rule), "rule_kind"):
            raise InputError("rules= takes functions with rules, made by custom_jvp, custom_vjp or elemental; "
                             f"{rule!r} is none")

    def find(wanted: Called) -> Any:
        found = [rule for rule in given if rule.__name__ == wanted.name]
        if len(found) > 1:
            found = [rule for rule in found if rule.__module__ == wanted.module]
        if len(found) > 1:
            raise RuleError(f"rules= has {len(found)} rules of the name {wanted}: give that which the tape calls")
        return found[0] if found else None

    return find


def bound(names: list[Any], find: Find) -> list[Any]:
    """The rules that a file calls.

    Raises `RuleError` for those that are not there, or take something else; `FormatError` where these are no names.
    """
    rules, missing = [], []
    for data in names:
        if not (isinstance(data, list) and len(data) == len(Called._fields) and isinstance(data[-1], dict)
                and all(isinstance(text, str) for text in data[:-1])):
            raise FormatError("a rule that it calls has no name")
        wanted = Called(*data)
        rule = find(wanted)
        rules.append(rule)
        if rule is None:
            missing.append(wanted)
        elif called(rule)[::3] != wanted[::3]:  # in kind and in what it takes
            raise RuleError(f"the tape calls {wanted} with {_words(wanted)}; {rule.__name__} of module "
                            f"{rule.__module__} is a distdiff.{rule.rule_kind} with {_words(called(rule))}, so it is "
                            "another rule")
    if missing:
        names = ", ".join(wanted.name for wanted in missing)
        raise RuleError(f"the tape calls {', '.join(map(str, missing))}: rules of its author's, code and in no "
                        f"file. Give them to it: distdiff.load(path, rules=[{names}]), or --rules module")
    return rules


def _words(rule: Called) -> str:
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in rule.takes.items())


def constant_to_json(x: Any) -> Any:
    """A constant argument of a rule; `InputError` where files can't hold it."""
    if x is None or type(x) in (bool, int, str):
        return x
    if type(x) is float:
        return {"float": x.hex()}
    if isinstance(x, (np.ndarray, np.generic)) and _DTYPE.fullmatch(x.dtype.str):
        return {"scalar" if isinstance(x, np.generic) else "array": [x.dtype.str, list(x.shape), x.tobytes().hex()]}
    if type(x) in (tuple, list):
        return {type(x).__name__: [constant_to_json(part) for part in x]}
    if type(x) is dict and all(type(key) is str for key in x):
        return {"dict": [[key, constant_to_json(value)] for key, value in x.items()]}
    raise InputError(f"an argument of type {type(x).__name__} that is constant to a rule can't be saved: numbers, "
                     "text, arrays of numbers, and tuples, lists and dicts of them can")


def constant_from_json(data: Any, depth: int = 0) -> Any:
    """`constant_to_json` undone; `FormatError` where that can't be."""
    if data is None or type(data) in (bool, int, str):
        return data
    if depth > DEPTH or not isinstance(data, dict) or len(data) != 1:
        raise FormatError("a constant argument of a rule is none")
    (kind, value), = data.items()
    if kind == "float" and isinstance(value, str):
        return float.fromhex(value)
    if kind in ("tuple", "list", "array", "scalar", "dict") and isinstance(value, list):
        if kind in ("tuple", "list"):
            return {"tuple": tuple, "list": list}[kind](constant_from_json(part, depth + 1) for part in value)
        if kind == "dict":
            return {key: constant_from_json(part, depth + 1) for key, part in value}
        return _array(kind, *value)
    raise FormatError(f"a constant argument of a rule is of a kind {kind!r} that is not known")


def _array(kind: str, dtype: Any, shape: Any, text: Any) -> Any:
    whole = isinstance(shape, list) and len(shape) <= 32 and all(type(n) is int and n >= 0 for n in shape)
    if not (whole and isinstance(dtype, str) and isinstance(text, str) and _DTYPE.fullmatch(dtype)):
        raise FormatError("a constant array of a rule is none")
    values = np.frombuffer(bytes.fromhex(text), np.dtype(dtype))
    if len(values) != prod(shape) or kind == "scalar" and shape:
        raise FormatError("a constant array of a rule has not the size that it says")
    array = values.reshape(shape).copy()
    return array[()] if kind == "scalar" else array


__all__ = ["Called", "Find", "among", "bound", "called", "constant_from_json", "constant_to_json"]
