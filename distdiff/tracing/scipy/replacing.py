"""SciPy's functions in Python on traced values: which rule answers for each, and how a call gets there.

SciPy's ufuncs take part in NumPy's protocol (`ops.special`); its other functions take part in none.  While a thread
traces, those of `RULES` that are loaded run a few lines of ours, which hand the call to the rule if an argument is or
holds a traced value and the caller is in a thread that traces, and to SciPy's own code in any other case.  When the
last trace ends, whatever ends it, SciPy is itself again.  Modules that nobody has imported cost nothing.

What is exchanged is the code of the function, where it is written in Python: that is what every name bound to it
runs, `from scipy.special import logsumexp` in the user's module included, and methods of objects that were made
before.  Where there is no such code (functions of C, functions with a closure) the name in SciPy's module or class is
exchanged; a name that somebody bound before then calls SciPy's own, whose compiled code refuses traced values.

A function that has no rule runs as the user's own code would: each of its operations is traced, or refuses.

**To add rules**, write a file with a table RULES, from the function's dotted name to what is called in its stead, with
the arguments as the user gave them (lists of traced numbers have become arrays, and arrays that hold traced values
what they hold), and add the table to `RULES` in `__init__`.  Rules import nothing of SciPy's when they are imported.
`also_plain`, `parts_apart` and `around` change what a rule is called for, and with what.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial, wraps
from types import FunctionType
from typing import Any

import numpy as np

from ..active import TRACES, failed
from ..array import TracedArray
from ..codes import code_of, twin
from ..holding import held, traced_within
from ..options import plain_options
from ..protocol import promote, unwrap_all, usual
from ..verdict import CAREFUL, judged, judges

Rule = Callable[..., Any]
_STRAIGHT = {TracedArray, np.ndarray, float, int, bool, str, type(None)}  # arguments that need not be looked into


def also_plain(rule: Rule) -> Rule:
    """A rule that answers calls with plain arguments too, in a thread that traces."""
    rule.also_plain = True
    return rule


def parts_apart(rule: Rule) -> Rule:
    """A rule that is given tuples and lists as they are, not as one array of what they hold."""
    rule.parts_apart = True
    return rule


def around(rule: Rule) -> Rule:
    """A rule that is given SciPy's own function as well, as its first argument, and answers plain calls too."""
    rule.around = True
    return also_plain(rule)


def writes(place: int, name: str = "") -> Callable[[Rule], Rule]:
    """A rule that writes traced values into its argument at that place, or of that name."""

    def mark(rule: Rule) -> Rule:
        rule.writes = place, name
        return rule

    return mark


class Replacing:
    """One function of SciPy's and its rule: the attribute of which object to exchange, and for what."""

    def __init__(self, owner: Any, name: str, rule: Rule) -> None:
        function = vars(owner)[name]
        by_code = type(function) is FunctionType and not function.__closure__
        original = twin(function) if by_code else function
        always, written = hasattr(rule, "also_plain"), getattr(rule, "writes", None)
        argument = unwrap_all if hasattr(rule, "parts_apart") else _argument
        answer = partial(rule, original) if hasattr(rule, "around") else rule
        straight, judged_here = getattr(rule, "straight", None), not name.startswith("__")

        @wraps(original)
        def dispatch(*args: Any, **kwargs: Any) -> Any:
            try:
                if CAREFUL and judged_here and judges(args, kwargs) and traced_within([*args, *kwargs.values()]):
                    return judged(original, args, kwargs, lambda: dispatch(*args, **kwargs))
                if straight is not None and not kwargs and len(args) == 1 and type(args[0]) is TracedArray:
                    return straight(args[0])
                if straight is not None and TracedArray in (kinds := {*map(type, args)}) and kinds <= _STRAIGHT and (
                        _STRAIGHT.issuperset(map(type, kwargs.values())) and usual(args)):
                    return straight(*args, **kwargs)
                if threading.get_ident() in TRACES:
                    args, kwargs = plain_options(original, args, kwargs)
                    rec = traced_within([*args, *kwargs.values()])
                    if rec is None and not always:
                        return original(*args, **kwargs)
                    if written is not None and rec is not None:
                        place, key = written
                        promote(args[place] if place < len(args) else kwargs.get(key), rec)
                    args = tuple(map(argument, args))
                    return answer(*args, **{key: argument(x) for key, x in kwargs.items()})
            except (ValueError, ArithmeticError) as error:  # the function may catch it
                failed(error)
                raise
            return original(*args, **kwargs)

        self.target, self.attribute = (function, "__code__") if by_code else (owner, name)
        self.own, self.ours = (function.__code__, code_of(dispatch)) if by_code else (function, dispatch)


def _argument(x: Any) -> Any:
    """An argument as rules are given it."""
    if type(x) in (list, tuple):
        rec = traced_within(x)
        return rec.array_of(x) if rec is not None else unwrap_all(x)
    return held(x)


class Replaced:
    """The functions of a table, found as their modules are loaded: those that a traced function loads itself too."""

    def __init__(self, rules: dict[str, Rule]) -> None:
        self._missing: dict[str, dict[str, Rule]] = {}  # by module, until it is loaded
        for path, rule in rules.items():
            module, name = path.split(":")
            self._missing.setdefault(module, {})[name] = rule
        self._found: list[Replacing] = []
        self._modules = -1  # how many there were when the missing ones were looked for
        self._lock = threading.RLock()
        self._replaced = False

    def replace(self) -> None:
        """Ours, of all modules that are loaded by now, and of others as soon as they are."""
        with self._lock:
            if self._missing and self._modules != len(sys.modules):  # others are loaded than were looked through
                there = [module for module in self._missing if module in sys.modules]
                loaded = list(filter(_loaded, there))
                for module in loaded:
                    self._find(module)
                self._modules = len(sys.modules) if loaded == there else -1
            for found in self._found:
                setattr(found.target, found.attribute, found.ours)
            if self._missing:
                sys.meta_path.insert(0, self)
            self._replaced = True

    def restore(self) -> None:
        """SciPy's own."""
        with self._lock:
            self._replaced = False
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            for found in self._found:
                setattr(found.target, found.attribute, found.own)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """An import while somebody traces: Python's own finders find it, and the rules follow once it is done."""
        if name not in self._missing:
            return None
        finders = [finder for finder in sys.meta_path if finder is not self]
        spec = next((found for finder in finders if (found := finder.find_spec(name, path, target))), None)
        execute = getattr(getattr(spec, "loader", None), "exec_module", None)
        if execute is not None:

            def execute_and_replace(module: Any) -> None:
                execute(module)
                self._late(name)

            spec.loader.exec_module = execute_and_replace
        return spec

    def _late(self, module: str) -> None:
        with self._lock:
            known = len(self._found)
            if module in self._missing:
                self._find(module)
            for found in self._found[known:] if self._replaced else ():
                setattr(found.target, found.attribute, found.ours)

    def _find(self, module: str) -> None:
        for path, rule in self._missing.pop(module).items():
            owner: Any = sys.modules[module]
            *outer, name = path.split(".")
            for part in outer:
                owner = getattr(owner, part, None)
            if name in getattr(owner, "__dict__", ()):  # else this SciPy hasn't got it
                self._found.append(Replacing(owner, name, rule))


def _loaded(module: str) -> bool:
    found = sys.modules.get(module)
    return found is not None and not getattr(getattr(found, "__spec__", None), "_initializing", False)
