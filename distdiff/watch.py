"""What a recorded function reads beside its differentiated arguments: found, and looked at again, without running it.

A tape holds constants, as they were when it was recorded.  `Search` is the way from a function to all that it reads
from around it; `Surroundings` remembers what is there and tells what has become another.
"""

from __future__ import annotations

import abc
import dis
import functools
import sys
from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from itertools import product
from operator import attrgetter, methodcaller
from types import (
    BuiltinMethodType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any, NamedTuple

import numpy as np

from .snapshot import BY_CONTENT, LARGE, identities, remember, same

COPIED = 1 << 26  # bytes of large arrays around a function that are compared whole; of others, a sample is
MANY = 1000  # values looked at around a function and those that it calls, and parts of one container
DEEP = 6  # steps from a name: an object's attribute, a dictionary's item, ...
SPARSE = ("data", "indices", "indptr", "row", "col", "coords", "offsets", "rows", "_dict", "_shape")  # SciPy's arrays
BY_NAME = ("getattr", "attrgetter")  # which take an attribute named by a text ...
ALL = ("vars", "__dict__", "asdict", "astuple", "fields", "__getattribute__")  # ... or all of them
_NOT_THE_USERS = frozenset(("numpy", "scipy", "numba", "distdiff", "mpi4py", "petsc4py")) | sys.stdlib_module_names
_NUMBERS = (float, int, complex, np.generic)
_PLAIN = (float, int, str, bytes, complex, np.generic, np.ndarray, type(None), range, slice)
# What the standard library's classes hold.
_HOLD = ((ChainMap, "maps"), (UserDict, "data"), (UserList, "data"), (Enum, "_value_"))


class _Probe(NamedTuple):
    """One value around a function: what to call it, how to read it, what it was, and whether it still is."""

    name: str
    read: Callable[[], Any]
    value: Any
    still: Callable[[Any], bool] | None  # None: what can't change where it lies


class Surroundings:
    """The values that a function, and the functions that it names, take from closures, globals and their objects; and
    from the objects and functions among its `arguments`, given by position or name, which are themselves compared by
    the caller.

    Of an object, a class or a module of the user's those attributes are looked at that some code reached from f names
    (of objects all, where code asks for `vars` or the like), of containers all items, of SciPy's sparse matrices their
    arrays, of a library's module its numbers and which functions it has; and so on down, `DEEP` steps and `MANY`
    values.  No property or `__getattr__` is run for it.

    Not looked at: what f assigns itself, as a counter of its calls, which says nothing of its result; what other
    libraries' objects and generators hold, and files; arrays past `COPIED` bytes in all, but for a sample.
    """

    def __init__(self, f: Any, arguments: Mapping[Any, Any] = MappingProxyType({})) -> None:
        search = Search(f, arguments)
        self.beyond = search.beyond  # a name of what is not looked at, as there is too much of it; "" if all is
        copied = 0
        self._watched: list[_Probe] = []
        for name, read, value in search.found:
            whole = not isinstance(value, np.ndarray) or copied + value.nbytes <= COPIED
            if isinstance(value, np.ndarray) and value.nbytes > LARGE and whole:
                copied += value.nbytes
            keep, still = remember(value, whole)
            self._watched.append(_Probe(name, read, keep, still))
        # Which of them are one thing, where code asks `a is b`.
        self._identities = identities(*(value for _, _, value in search.found)) if search.apart else None

    def changed(self) -> str | None:
        """The name of one that is another now; None if all are as they were."""
        values = []
        for name, read, value, still in self._watched:
            now = read()
            values.append(now)
            if still is None:
                if now is not value and not same(value, now):
                    return name
            elif not still(now):
                return name
        if self._identities is not None and identities(*values) != self._identities:
            return "is"
        return None


class _Missing:
    """Stands for a name without a value."""


def _of_cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return _Missing


def _of_default(f: FunctionType, name: str) -> Any:
    """What an argument of f is that nobody gives."""
    if name in (f.__kwdefaults__ or ()):
        return f.__kwdefaults__[name]
    place = f.__code__.co_varnames.index(name) - f.__code__.co_argcount
    return (f.__defaults__ or ())[place] if -place <= len(f.__defaults__ or ()) else _Missing


def _write_default(f: FunctionType, name: str, value: Any) -> None:
    if name in (f.__kwdefaults__ or ()):
        f.__kwdefaults__[name] = value
    else:
        given = list(f.__defaults__ or ())
        given[f.__code__.co_varnames.index(name) - f.__code__.co_argcount] = value
        f.__defaults__ = tuple(given)


def _writer(read: Callable[[], Any]) -> Callable[[Any], None] | None:
    """What writes where a value was read; None where nothing can be written."""
    if not isinstance(read, functools.partial):
        return None
    if read.func is _of_cell:
        return functools.partial(setattr, read.args[0], "cell_contents")
    if read.func is _of_slot:
        return functools.partial(read.args[0].__set__, read.args[1])
    if read.func is _of_default:
        return functools.partial(_write_default, *read.args)
    holder = getattr(read.func, "__self__", None)
    return functools.partial(holder.__setitem__, read.args[0]) if type(holder) is dict else None


def _write_bound(f: functools.partial[Any], place: int, value: Any) -> None:
    f.__setstate__((f.func, (*f.args[:place], value, *f.args[place + 1:]), f.keywords, vars(f)))


def _of_slot(member: MemberDescriptorType, thing: Any) -> Any:
    try:
        return member.__get__(thing)
    except AttributeError:
        return _Missing


def _users(module: str | None) -> bool:
    return (module or "").partition(".")[0] not in _NOT_THE_USERS


class Search:
    """The way from a function to all that it reads: functions, their closures and globals, attributes, items; and so
    from what it is given as `arguments`."""

    def __init__(self, f: Any, arguments: Mapping[Any, Any] = MappingProxyType({})) -> None:
        self.named: set[str] = set()  # attributes that code reached so far names
        self._assigned: set[str] = set()  # and those that it writes
        self._missed: set[str] = set()  # and those that an object may lack
        self.apart = False  # whether code asks which names mean one object
        known = -1
        while known < len(self.named):  # a method found last may name attributes of what was found first
            known = len(self.named)
            self.begin()
            self.function(f)
            for key, value in arguments.items():
                if isinstance(value, np.ndarray):
                    self._objects(f"arguments[{key!r}]", value, 0)
                else:
                    self._part(f"arguments[{key!r}]", value, 0, own=True)

    def met(self, value: Any, write: Callable[[Any], None] | None) -> None:
        """Called for every value on the way.  write: puts another one in its place; None: it can't be exchanged."""

    def begin(self) -> None:
        """Forget what was found, not which names matter."""
        self.beyond = ""  # what is not looked at any more, as there is so much
        self.found: list[tuple[str, Callable[[], Any], Any]] = []
        self._seen: dict[Any, Any] = {}  # what was met, kept so that nothing else gets its id meanwhile

    def function(self, f: Any) -> None:
        """Look at what f reads from around it, if it is a function of the user's."""
        inner = getattr(f, "__wrapped__", None)  # the wrapper reads things, too
        if inner is not None and not self._again(f, "wrapper"):
            self.function(inner)
        for key in getattr(type(f), "code", ()) if hasattr(type(f), "rule_kind") else ():  # a function with rules
            self._look(f"{f.__name__}.{key}", functools.partial(getattr, f, key), 0)
        if isinstance(f, functools.partial):
            if not self._again(f, "code"):
                self._look("args", lambda: f.args, 0)
                self._look("keywords", lambda: f.keywords, 0)
                for k, part in enumerate(f.args):
                    self.met(part, functools.partial(_write_bound, f, k))
                self.function(f.func)
            return
        if isinstance(f, (attrgetter, methodcaller)):
            self._operator(f)
            return
        if isinstance(f, np.vectorize):
            self._look("pyfunc", functools.partial(getattr, f, "pyfunc"), 0)
            return
        if isinstance(f, (BuiltinMethodType, MethodWrapperType)):
            if not isinstance(f.__self__, (ModuleType, type)) and not self._again(f.__self__, "own"):
                self._look(f.__name__, functools.partial(_itself, f.__self__), 0)
            return
        if callable(f) and isinstance(type(f).__call__, FunctionType):
            f = f.__call__
        own = None
        if isinstance(f, MethodType):
            own, f = f.__self__, f.__func__
        if not isinstance(f, FunctionType):
            return
        if not _users(f.__globals__.get("__name__")):  # where it was written: a wrapper bears the name of the user's
            for cell in f.__closure__ or ():
                if isinstance(inside := _of_cell(cell), (FunctionType, MethodType, functools.partial)) \
                        and not self._again(inside, "wrapped"):
                    self.function(inside)
            if isinstance(getattr(f, "registry", None), MappingProxyType) and not self._again(f, "registry"):
                self._look("registry", functools.partial(getattr, f, "registry"), 0)  # functools.singledispatch
            return
        if not self._again(f, "code"):
            self._code(f)
        if own is not None and not self._again(own, "own"):
            self._attributes("self", own, 0, True)

    def _operator(self, f: Any) -> None:
        """The names that an attrgetter or methodcaller takes of its argument, and the arguments of a method's call."""
        make, args = f.__reduce__()[:2]
        keywords = {}
        if isinstance(make, functools.partial):
            args, keywords = (*make.args, *args), make.keywords
        names, args = (args, ()) if isinstance(f, attrgetter) else (args[:1], args[1:])
        self.named.update(part for name in names for part in name.split("."))
        for k, part in (*enumerate(args), *keywords.items()):
            self._look(f"methodcaller[{k!r}]", functools.partial(_itself, part), 0)

    def _code(self, f: FunctionType) -> None:
        self._look(f"{f.__name__}.__code__", functools.partial(getattr, f, "__code__"), 0)  # first: names depend on it
        code = _of_code(f.__code__)
        self.named |= code.attributes
        self._missed |= code.missed
        self.apart = self.apart or bool(code.identities)
        if f.__name__ not in ("__init__", "__post_init__", "__new__"):
            self._assigned |= code.assigned
        named = f.__code__.co_varnames[:f.__code__.co_argcount]
        for name in (*named[len(named) - len(f.__defaults__ or ()):], *(f.__kwdefaults__ or ())):
            self._look(name, functools.partial(_of_default, f, name), 0)
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or ()):
            if name not in code.written:
                self._look(name, functools.partial(_of_cell, cell), 0)
        for names, holder in ((code.names, f.__globals__), (code.modules, sys.modules)):
            for name in sorted(names):
                if name in holder and name not in code.written and name[0] != "@":  # as pytest's, of assertions
                    self._look(name, functools.partial(holder.get, name, _Missing), 0)
        for name in sorted(code.globals - code.written):
            self._absent(name, f.__globals__, f.__globals__, name)
        self._these(f.__name__, vars(f), self.named, 0)

    def _look(self, name: str, read: Callable[[], Any], depth: int) -> None:
        """Watch what is read there, and what it holds."""
        if len(self.found) >= MANY:
            self.beyond = self.beyond or name
            return
        value = read()
        self.found.append((name, read, value))
        self.met(value, _writer(read))
        self._into(name, value, depth)

    def _into(self, name: str, value: Any, depth: int, own: bool = False) -> None:
        if depth >= DEEP or isinstance(value, _PLAIN) and not getattr(value, "__dict__", None) or (
                len(self._seen) > 10 * MANY or self._again(value)):
            return
        if callable(value):
            self.function(value)
        parts: Iterable[Any] = ()
        if isinstance(value, (dict, MappingProxyType)):
            parts = value.items()
        elif isinstance(value, (list, tuple, deque)):
            parts = enumerate(value)
        for k, (key, part) in enumerate(parts):
            inside = f"{name}[{key!r}]"
            if k >= MANY and not isinstance(part, _PLAIN):
                self.beyond = self.beyond or inside
            if k >= MANY:
                continue
            if isinstance(part, np.ndarray):
                if part.nbytes > LARGE and part.dtype != object and len(self.found) < MANY:
                    self.found.append((inside, functools.partial(_itself, part), part))
                self._objects(inside, part, depth + 1)
            elif not isinstance(part, _PLAIN):
                self.met(part, functools.partial(value.__setitem__, key) if type(value) in (dict, list) else None)
                self._part(inside, part, depth + 1)
        for kind, key in _HOLD:
            if isinstance(value, kind):
                self._look(f"{name}.{key}", functools.partial(getattr, value, key), depth + 1)
        self._attributes(name, value, depth, own)

    def _objects(self, name: str, value: np.ndarray, depth: int) -> None:
        """An array of objects, and what they hold."""
        if value.dtype == object and len(self.found) < MANY and not self._again(value, "objects"):
            self.found.append((name, functools.partial(_itself, value), value))
            self._into(name, value.tolist(), depth)

    def _part(self, name: str, part: Any, depth: int, own: bool = False) -> None:
        """An item: the container's copy tells whether it is another one, so what it holds is left to look at."""
        changes = isinstance(part, BY_CONTENT) and type(part) not in (dict, list)
        if changes and len(self.found) < MANY:
            self.found.append((name, functools.partial(_itself, part), part))
        self._into(name, part, depth, own)

    def _attributes(self, name: str, value: Any, depth: int, own: bool) -> None:
        every = not self.named.isdisjoint((*ALL, *BY_NAME) if own else ALL)  # else a log of the caller's would retrace
        here = getattr(value, "__dict__", {}) if not isinstance(value, type) else {}
        kinds = (*value.__mro__, *type(value).__mro__) if isinstance(value, type) else type(value).__mro__
        classes = [c for c in kinds if _users(c.__module__)]
        kind = type(value).__module__
        if isinstance(value, ModuleType):
            if _users(value.__name__):
                self._these(name, here, self.named, depth)
            else:
                self._of_library(name, here, depth)
            return
        if kind.startswith("scipy.sparse"):
            self._these(name, here, SPARSE, depth)
            return
        if not classes and type(value).__name__ not in ("SimpleNamespace", "Namespace"):
            return
        if not isinstance(value, type) and len(self.found) < MANY:
            self.found.append((f"{name}.__class__", functools.partial(_class, value), _class(value)))
        for c in classes:
            if isinstance(c, abc.ABCMeta) and _registered is not None and not self._again(c, "registered"):
                self.found.append((f"{name}.register", functools.partial(_registered, c), _registered(c)))
        ofclass: set[str] = set()
        for place, c in enumerate(classes):
            for key, part in list(vars(c).items()):
                if key in self._assigned or not (every or key in self.named or key.startswith("__")):
                    continue
                if isinstance(part, MemberDescriptorType):
                    if not isinstance(value, type):
                        self._look(f"{name}.{key}", functools.partial(_of_slot, part, value), depth + 1)
                    continue
                for b in classes[:place + 1]:  # another one may be written there, or over it in a class derived from it
                    if not self._again(b, key) and len(self.found) < MANY:
                        self.found.append((f"{name}.{key}", functools.partial(vars(b).get, key, _Missing),
                                           vars(b).get(key, _Missing)))
                if isinstance(part, functools.singledispatchmethod):
                    part = part.dispatcher
                if isinstance(part, (staticmethod, classmethod, property, functools.cached_property,
                                     functools.partialmethod)):
                    part = getattr(part, "__func__", None) or getattr(part, "fget", None) or getattr(part, "func", None)
                if isinstance(part, (FunctionType, attrgetter, functools.partial)):
                    if key in self.named or key.startswith("__"):  # others, as a setter, assign what f reads
                        self.function(part)
                        ofclass.update(() if key.startswith("__") else (key,))  # an attribute of the object may hide it
                elif not key.startswith("__"):
                    ofclass.add(key)
                    self._look(f"{name}.{key}", functools.partial(vars(c).get, key, _Missing), depth + 1)
        for c, key in product(classes, sorted(self._missed - self._assigned)):
            self._absent(f"{name}.{key}", c, vars(c), key)
        self._these(name, here, [*here] if every else self.named, depth, ofclass)

    def _of_library(self, name: str, here: dict[str, Any], depth: int) -> None:
        """Watch which functions and numbers a library's module has by these names: somebody may put others there."""
        for key in sorted(self.named & here.keys()):
            part = here[key]
            if isinstance(part, ModuleType):
                self._into(f"{name}.{key}", part, depth + 1)
            elif (callable(part) or isinstance(part, _NUMBERS)) and len(self.found) < MANY:
                self.found.append((f"{name}.{key}", functools.partial(here.get, key, _Missing), part))

    def _these(self, name: str, holder: dict[str, Any], keys: Iterable[str], depth: int,
               absent: Iterable[str] = ()) -> None:
        """Watch these of an object's attributes that it has, and others that it may get."""
        for key in sorted({*(key for key in keys if key in holder), *absent} - self._assigned):
            self._look(f"{name}.{key}", functools.partial(holder.get, key, _Missing), depth + 1)
        for key in sorted(self._missed - self._assigned):
            self._absent(f"{name}.{key}", holder, holder, key)

    def _absent(self, name: str, owner: Any, holder: Mapping[str, Any], key: str) -> None:
        """Watch that a thing goes on lacking a name of which code asks whether it has it."""
        if key not in holder and len(self.found) < MANY and not self._again(owner, f"lacks {key}"):
            self.found.append((name, functools.partial(holder.get, key, _Missing), _Missing))

    def _again(self, thing: Any, role: str = "") -> bool:
        """Whether a thing was met before."""
        key = id(thing), role
        if key in self._seen:
            return True
        self._seen[key] = thing
        return False


def _classes(c: abc.ABCMeta) -> frozenset[Any]:
    """The classes that are registered as an abstract one's."""
    return frozenset(abc._get_dump(c)[0])  # type: ignore[attr-defined]  (references to them, equal while they are there)


_registered = _classes if hasattr(abc, "_get_dump") else None


def _itself(value: Any) -> Any:
    return value


def _class(value: Any) -> Any:
    """The class of an object and those that it is derived from, which may be given others."""
    return type(value).__mro__


class _Code(NamedTuple):
    """What code, and the functions defined in it, may look up around it, and what it writes there."""

    names: frozenset[str]
    modules: frozenset[str]  # imported where it runs
    attributes: frozenset[str]
    written: frozenset[str]
    assigned: frozenset[str]  # attributes
    globals: frozenset[str]  # or of builtins
    missed: frozenset[str]  # attributes that it asks for with a default, or goes without
    identities: frozenset[str]  # "is", where it compares objects by that


@functools.lru_cache(maxsize=1024)
def _of_code(code: CodeType) -> _Code:
    names = set(code.co_names)
    by: dict[str, set[str]] = {}
    apart, before = names & {"id", "is_", "is_not"}, ""
    for step in dis.get_instructions(code):
        by.setdefault(step.opname, set()).add(step.argval) if isinstance(step.argval, str) else None
        if step.opname == "IS_OP" and before != "LOAD_CONST":  # others than `x is None`
            apart = apart | {"is"}
        before = step.opname
    attributes = by.get("LOAD_ATTR", set()) | by.get("LOAD_METHOD", set()) | by.get("IMPORT_FROM", set())
    attributes |= by.get("LOAD_SUPER_ATTR", set()) | names.intersection((*ALL, *BY_NAME))
    missed = set() if names.isdisjoint(("AttributeError", "Exception")) else set(attributes)
    if not names.isdisjoint((*BY_NAME, "hasattr")):
        texts = [t for c in code.co_consts for t in (c if isinstance(c, tuple) else (c,)) if isinstance(t, str)]
        asked = {part for text in texts for part in text.split(".") if part.isidentifier()}
        attributes, missed = attributes | asked, missed | asked
    parts = [_Code(frozenset(names), frozenset(by.get("IMPORT_NAME", ())), frozenset(attributes),
                   frozenset(by.get("STORE_GLOBAL", set()) | by.get("STORE_DEREF", set())),
                   frozenset(by.get("STORE_ATTR", ())), frozenset(by.get("LOAD_GLOBAL", ())), frozenset(missed),
                   frozenset(apart))]
    parts += [_of_code(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return _Code(*(frozenset().union(*sets) for sets in zip(*parts)))
