"""What becomes of a text, read off the instructions that follow where it was made.

Text that Python joins is plain, so nothing in it tells later what it was.  It is followed on the stack, into variables
and lists of the function, into functions of the user's that it is given to and back to those that it is returned to,
until it is printed, written, raised or dropped; what is written into memory (`io.StringIO`) goes on as what is read
from there.  Flow between statements is not looked at: what a variable is used for
anywhere counts.
"""

from __future__ import annotations

import builtins
import dis
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import BuiltinFunctionType, CellType, CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from .callers import path_of
from .outlets import FILE, WRITING, in_memory, written_to
from .owners import owner

KEPT = ("capitalize casefold center expandtabs format join ljust lower lstrip removeprefix removesuffix replace rjust "
        "rstrip strip swapcase title translate upper zfill").split()  # methods of a text that make another
LOOKED = ("count encode endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric "
          "isprintable isspace istitle isupper partition rfind rindex rpartition rsplit split splitlines "
          "startswith").split()
JOINING = frozenset("collections csv dataclasses pprint reprlib string textwrap".split())  # modules that join texts
AWAY = "kept where it can't be followed"
COPY = "a copy in memory"
DEEP = 6  # functions that a text is followed through
_EMPTY = CellType()

_FUNCTIONS = frozenset(  # which look into a text they are given, or find something by it
    "len float int complex ord hash eval list tuple set frozenset sorted reversed max min any all iter enumerate zip "
    "map filter sum Decimal Fraction fromstring literal_eval count endswith find get index partition pop rfind rindex "
    "rpartition rsplit setdefault split startswith match fullmatch search findall finditer loads".split())
_LISTS = ("list", "tuple", "iter", "enumerate", "zip", "map", "filter", "reversed")
_TEXTS = frozenset(("str repr format ascii join vformat format_map dedent indent fill shorten wrap pformat "
                    "replace").split())  # which make a text of texts
_BLIND = frozenset("isinstance type id bool callable".split())  # whose answer is that of any text
_SHOWING = frozenset("print write writelines debug info warning warn error critical exception log".split())
_ADDING = frozenset("append extend insert add appendleft put update".split())  # methods of what keeps it
_MORE = frozenset("append extend insert clear reverse".split())  # methods of a list of texts that tell nothing of them
_READ = ("getvalue", "read", "readline", "readlines")  # methods of memory that text was written into
_MOVED = ("write", "writelines", "flush", "seek", "close", "truncate")  # ... that tell nothing of it
_TAKING = frozenset("print pprint pp writer DictWriter redirect_stdout redirect_stderr".split())  # who may be given it
_ERRORS = re.compile(r"(Error|Exception|Warning|Exit|Interrupt)$")

_SILENT = ("PRECALL", "EXTENDED_ARG", "CACHE", "NOP", "RESUME", "COPY_FREE_VARS")
_POPPED = {  # from the stack; of other instructions nothing is known
    **dict.fromkeys("COMPARE_OP CONTAINS_OP IS_OP BINARY_SUBSCR BINARY_OP FORMAT_WITH_SPEC STORE_ATTR DICT_MERGE "
                    "DICT_UPDATE".split(), 2), "DICT_MERGE": 1, "DICT_UPDATE": 1, "STORE_SUBSCR": 3,
    **dict.fromkeys("LOAD_ATTR LOAD_METHOD FORMAT_SIMPLE CONVERT_VALUE GET_ITER UNPACK_SEQUENCE POP_TOP STORE_FAST "
                    "STORE_NAME STORE_DEREF STORE_GLOBAL RETURN_VALUE YIELD_VALUE UNARY_NOT UNARY_NEGATIVE "
                    "UNARY_INVERT LIST_EXTEND SET_UPDATE LIST_APPEND SET_ADD LIST_TO_TUPLE".split(), 1),
    "MAP_ADD": 2, "PUSH_NULL": 0, "KW_NAMES": 0, "FOR_ITER": 0, "COPY": 0}
_COUNTED = frozenset("BUILD_STRING BUILD_TUPLE BUILD_LIST BUILD_SET BUILD_SLICE RAISE_VARARGS".split())
_SAID = {"COMPARE_OP": "a comparison", "CONTAINS_OP": "in", "BINARY_SUBSCR": "[]", "GET_ITER": "a loop",
         "UNPACK_SEQUENCE": "an assignment to several names", "LIST_EXTEND": "a loop", "SET_UPDATE": "a loop"}
_VARIABLES = ("LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF")
_ENDS = ("POP_TOP", "UNARY_NOT", "IS_OP", "RAISE_VARARGS")


class Way(NamedTuple):
    """As what a text goes on."""

    joined: bool  # it is plain by now
    parts: bool  # in a list, a tuple or a generator


class Call(NamedTuple):
    """A function that a text is given to."""

    path: tuple[str, ...]  # the names that it is found by; ("", "append"): a method of something without a name
    place: int | str  # of the text among the arguments; -1: spread among them
    end: int  # offset of the call
    dropped: bool  # nothing is done with what comes back
    parts: bool  # it is a list of texts
    known: bool  # the text is no plain one yet
    file: tuple[str, ...] | None = None  # the names of what it is printed to, if that is said


class Fate(NamedTuple):
    use: str = ""  # what it is looked into for
    returned: Way | None = None  # as what, to whoever called
    calls: tuple[Call, ...] = ()


Space = tuple[Mapping[str, Any], ...]  # where names are looked up, one after another


def use_of(frame: FrameType, joined: bool) -> str:
    """What the text that a frame's current instruction makes is looked into for, in words; AWAY where that can't be
    told of plain text (`joined`: it is plain by now); "" where it is only shown."""
    parts = False
    for k in range(DEEP):
        fate = _fate(frame.f_code, frame.f_lasti, joined, parts, k == 0)
        space = (frame.f_locals, frame.f_globals, frame.f_builtins) if fate.calls else ()
        use = _through(fate, frame.f_code, space, DEEP)
        if use or not fate.returned:
            return use
        joined, parts = fate.returned
        caller = frame.f_back
        while caller is not None and caller.f_globals.get("__name__") in JOINING:
            caller, joined = caller.f_back, True
        if caller is None or not _is_users(caller.f_code):
            return ""
        frame = caller
    return AWAY if joined else ""


def _through(fate: Fate, code: CodeType, space: Space, depth: int, known: bool = False) -> str:
    """The use of a text, the names of the functions that it is given to looked up.  known: it is a `Text`, of which
    only copies in memory matter."""
    uses = (_given(call, code, space, depth, known or call.known) for call in fate.calls)
    return ("" if known else fate.use) or next(filter(None, uses), "")


def _given(call: Call, code: CodeType, space: Space, depth: int, known: bool) -> str:
    """The use of a text that is given to a function."""
    name, called, names = call.path[-1], _found(call.path, space), dict[str, Any]()
    name = getattr(called, "__name__", name) if isinstance(called, BuiltinFunctionType) else name  # put = file.write
    if name in WRITING and not (isinstance(called, FunctionType | MethodType) and _is_users(called.__code__)):
        return _written(call, called, code, space, depth)
    if isinstance(called, type) and issubclass(called, BaseException) or called is None and _ERRORS.search(name):
        return ""
    place = call.place
    if isinstance(called, MethodType) and isinstance(called.__func__, FunctionType):
        names = dict(zip(called.__func__.__code__.co_varnames[:1], (called.__self__,)))
        called, place = called.__func__, place + 1 if isinstance(place, int) else place
    if isinstance(called, FunctionType) and _is_users(called.__code__):
        inner = called.__code__
        into = _parameter(inner, place)
        if into is None or depth == 0:
            return "" if known else AWAY
        fate = _in_variable(inner, into, call.parts)
        cells = zip(inner.co_freevars, called.__closure__ or ())
        names |= {key: cell.cell_contents for key, cell in cells if cell != _EMPTY}
        use = _through(fate, inner, (names, called.__globals__, vars(builtins)), depth - 1, known)
        if use or not fate.returned:
            return use
        return _through(_fate(code, call.end, *fate.returned), code, space, depth - 1, known)
    if known:
        return ""
    shown = name in _SHOWING or call.dropped and name not in _ADDING
    return "" if shown and not isinstance(called, type) else AWAY


def _written(call: Call, called: Any, code: CodeType, space: Space, depth: int) -> str:
    """The use of a text that is written to a file, or to memory that a variable holds."""
    search, method = _Search(code), len(call.path) > 1 and call.path[-1] not in FILE
    if method:
        file = written_to(_found(call.path[:-1], space))
    elif call.path[-1] in FILE:
        file = sys.stdout if call.file is None else _found(call.file, space)
    else:
        file = written_to(getattr(called, "__self__", None))
    names = [name for name in search.own() if file is not None and space[0].get(name) is file]
    if file is None:  # not known yet: what is a variable of its own is made where it runs
        names = [name for name in (call.file or call.path)[:1] if name in search.own()]
        if not names and (call.file or call.path[-1].startswith("writerow")):
            return COPY
    elif not in_memory(file):
        return ""
    elif not names:
        return COPY
    for name in names:
        search.memory(name)
    return _through(search.fate(), code, space, depth - 1) if depth else COPY


def _found(path: tuple[str, ...], space: Space) -> Any:
    """What names stand for; None if that isn't known."""
    found = next((names[path[0]] for names in space if path[0] in names), None)
    for name in path[1:]:
        static = inspect.getattr_static(found, name, None)
        if isinstance(static, FunctionType) and not isinstance(found, type | ModuleType):
            found = MethodType(static, found)
        else:
            found = static.__func__ if isinstance(static, staticmethod) else static
    return found


def _parameter(code: CodeType, place: int | str) -> str | None:
    """The parameter that takes an argument by its place or name."""
    names = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
    if isinstance(place, str):
        return place if place in names else None
    return names[place] if 0 <= place < code.co_argcount else None


def _is_users(code: CodeType) -> bool:
    return owner(code.co_filename, code.co_name) == "user"


@lru_cache(maxsize=1024)
def _fate(code: CodeType, at: int, joined: bool, parts: bool, asked: bool = False) -> Fate:
    """Of the text (with `parts`, the texts) that the instruction at this offset makes, or asks for."""
    search = _Search(code)
    start = sum(line.offset <= at for line in search.lines) - 1  # where Python calls Python, `at` is past the call
    first = search.lines[start]
    if first.opname == "CALL":
        path = path_of(code, first.offset)
        if asked and path[-1] in WRITING:
            search.write(path, start)
            return search.fate()
        joined = joined or len(path) > 1 and path[-1] in ("format", "join", "vformat", "format_map")
        if joined and parts and path[-1] in _FUNCTIONS.difference(_LISTS):  # of a generator's texts
            return Fate(f"{path[-1]}()")
        parts = parts and path[-1] != "join"
    elif first.opname == "BINARY_OP":
        joined = True
    elif first.opname not in ("FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC", "CONVERT_VALUE", "BUILD_STRING"):
        return Fate()
    search.follow(start + 1, joined, parts)
    return search.fate()


@lru_cache(maxsize=1024)
def _in_variable(code: CodeType, name: str, parts: bool) -> Fate:
    """Of the plain text that a variable holds."""
    search = _Search(code)
    search.variable(name, parts)
    return search.fate()


class _Search:
    """The ways of a text through one function."""

    def __init__(self, code: CodeType) -> None:
        self.code = code
        self.lines = [line for line in dis.get_instructions(code) if line.opname not in _SILENT]
        self.index = {line.offset: k for k, line in enumerate(self.lines)}
        self._seen: set[tuple[int, bool, bool, int]] = set()
        self._use, self._returned = "", None
        self._calls: list[Call] = []

    def fate(self) -> Fate:
        return Fate(self._use, self._returned, tuple(self._calls))

    def variable(self, name: str, parts: bool) -> None:
        """Follow plain text in a variable, wherever it is read."""
        for k, line in enumerate(self.lines):
            if line.opname in _VARIABLES and line.argval == name:
                self.follow(k + 1, True, parts)
        if name in (*self.code.co_cellvars, *self.code.co_freevars):
            for inner in _inside(self.code):
                if name in inner.co_freevars:
                    search = _Search(inner)
                    search.variable(name, parts)
                    if search._returned or search._calls and not all(call.dropped for call in search._calls):
                        self._use = self._use or AWAY
                    self._use = self._use or search._use
                    self._calls += search._calls

    def follow(self, k: int, joined: bool, parts: bool, above: list[str] | None = None) -> None:
        """Follow a text on top of the stack, but for `above`, from instruction k on."""
        above = above or []
        key = k, joined, parts, len(above)
        if key in self._seen or self._use:
            return
        self._seen.add(key)
        method, words = False, ()  # whether the text is the object of a call to come; names of its arguments
        while k < len(self.lines):
            line = self.lines[k]
            k, name, popped = k + 1, line.opname, _popped(line)
            if name.startswith("JUMP") and "IF" not in name:
                k = self.index.get(line.argval, len(self.lines))
                continue
            if name == "KW_NAMES":
                words = self.code.co_consts[line.arg or 0]
                continue
            if name == "COPY" and line.arg == len(above) + 1:
                self.follow(k, joined, parts, [*above, ""])
                above = []
                continue
            if name == "FOR_ITER" and parts and not above:
                parts = False
                continue
            if popped is None:
                break
            if popped <= len(above):
                pushed = 1 if name == "CALL" else popped + dis.stack_effect(line.opcode, line.arg, jump=False)
                del above[len(above) - popped:]
                above += [line.argval if name in _VARIABLES else ""] * pushed
                continue
            done, place = len(above), popped - 1 - len(above)  # of those it takes, the text is at this place
            called, method = method, False
            if name in _ENDS or name.startswith("POP_JUMP"):
                return
            if name.startswith("JUMP_IF"):  # x and y, x or y: no text is empty
                if "TRUE" not in name:
                    return
                k = self.index[line.argval]
            elif name == "RETURN_VALUE" or name in ("LIST_APPEND", "YIELD_VALUE") and self._for_a_list():
                if joined or name != "RETURN_VALUE":
                    self._returned = Way(joined, parts or name != "RETURN_VALUE")
                return
            elif name in ("STORE_FAST", "STORE_NAME", "STORE_DEREF"):
                if joined:
                    self.variable(line.argval, parts)
                return
            elif name == "STORE_SUBSCR":
                if place == 0 and joined and above[0]:
                    self.variable(above[0], True)
                elif place == 0 or not joined:
                    break
                elif place == 2:
                    self._use = "a key"
                return
            elif name == "CALL":
                if place == 1 and not called:
                    way = self._comprehended(k, joined) if parts else Way(joined, parts)
                    if way is None:
                        return
                    joined, parts = way
                elif not called:
                    if self._call(line, place - 2, words, k, joined, parts):
                        return
                    joined, parts = True, False
                words = ()
            elif name == "CALL_FUNCTION_EX":
                if self._call(line, -1, (), k, joined, parts):
                    return
            elif name in ("BUILD_TUPLE", "BUILD_LIST") or name == "BUILD_CONST_KEY_MAP" or (
                    name == "BUILD_MAP" and place % 2):
                parts = True
            elif name == "LIST_TO_TUPLE" or parts and name in ("GET_ITER", "LIST_EXTEND"):
                pass
            elif name == "BINARY_SUBSCR" and parts and place == 0:
                parts = False
            elif name in ("LOAD_ATTR", "LOAD_METHOD"):
                if parts and line.argval in _MORE:
                    return
                if parts or line.argval not in KEPT:
                    self._use = f"{line.argval}()" if line.argval in LOOKED and not parts else self._use
                    break
                above, method = [""] * (line.opname == "LOAD_METHOD"), True
                continue
            elif name == "BUILD_STRING":
                joined = True
            elif name in ("FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC", "CONVERT_VALUE"):
                pass
            elif name == "BINARY_OP" and line.argrepr.rstrip("=") in ("+", "*", "%"):
                joined = joined or line.argrepr.startswith("%") and place == 1
            elif name in _SAID and not parts or name in ("COMPARE_OP", "CONTAINS_OP"):
                self._use = "" if parts and not joined else _SAID[name]
                return
            else:
                break
            del above[:done]
        if joined and not self._use:
            self._use = AWAY

    def _call(self, line: dis.Instruction, place: int, words: tuple[str, ...], k: int, joined: bool,
              parts: bool) -> bool:
        """A call takes a text; returns whether that is where its way ends, and no text comes back."""
        path = path_of(self.code, line.offset)
        name = path[-1]
        if name in _TEXTS:
            return False
        if name in _BLIND or parts and name == "len":
            return True
        if name in _FUNCTIONS and not (parts and not joined):
            self._use = f"{name}()"
        elif name in WRITING:
            self.write(path, self.index[line.offset], place, parts)
        else:
            n = line.arg or 0
            at: int | str = words[place - n] if place >= n - len(words) else place
            while self.lines[k].opname == "JUMP_FORWARD":
                k = self.index[self.lines[k].argval]
            dropped = self.lines[k].opname == "POP_TOP"
            if joined and name in _ADDING and len(path) == 2 and path[0] in self.own():
                self.variable(path[0], True)
            else:
                self._calls.append(Call(path, at, line.offset, dropped, parts, not joined))
        return True

    def write(self, path: tuple[str, ...], k: int, place: int = 0, parts: bool = False) -> None:
        """Text is written by the call at instruction k."""
        dropped = k + 1 < len(self.lines) and self.lines[k + 1].opname == "POP_TOP"
        if not dropped and path[-1].startswith("write"):  # which tells how much that is
            self._use = f"{path[-1]}()"
        file = self._file(k, FILE.get(path[-1]))
        self._calls.append(Call(path, place, self.lines[k].offset, dropped, parts, False, file))

    def _file(self, k: int, word: str | None) -> tuple[str, ...] | None:
        """The names by which the call at instruction k finds what it is given by this word; ("",) if it has none."""
        words = self.code.co_consts[self.lines[k - 1].arg or 0] if self.lines[k - 1].opname == "KW_NAMES" else ()
        if word not in words:
            return None
        start = k - 1
        for _ in words[words.index(word):]:  # back over the arguments from the last on
            end, wanted = start, 1
            while wanted > 0:
                start -= 1
                line = self.lines[start]
                if (popped := _popped(line)) is None:
                    return ("",)
                taken = popped if line.opname == "CALL" else 1 - dis.stack_effect(line.opcode, line.arg, jump=False)
                wanted += taken - 1
        first, *others = self.lines[start:end]
        if first.opname in (*_VARIABLES, "LOAD_GLOBAL") and all(line.opname == "LOAD_ATTR" for line in others):
            return (first.argval, *(line.argval for line in others))
        if any(line.argval == "open" for line in (first, *others)):
            return ("open",)
        return None if (first.opname, first.argval) == ("LOAD_CONST", None) and not others else ("",)

    def memory(self, name: str) -> None:
        """Follow what is read from memory that a variable holds, into which text was written."""
        if name in self.code.co_cellvars:
            self._use = self._use or COPY
        for k, line in enumerate(self.lines):
            if line.opname not in _VARIABLES or line.argval != name:
                continue
            use = self.lines[k + 1]
            after = [j for j in range(k + 1, len(self.lines)) if self.lines[j].opname == "CALL"][:1]
            if use.opname in ("LOAD_METHOD", "LOAD_ATTR"):
                if use.argval in _READ and after:
                    self.follow(after[0] + 1, True, use.argval == "readlines")
                elif use.argval not in _MOVED:
                    self._use = self._use or f"{use.argval}()"
            elif not after or path_of(self.code, self.lines[after[0]].offset)[-1] not in _TAKING:
                self._use = self._use or COPY

    def _comprehended(self, k: int, joined: bool) -> Way | None:
        """What a comprehension or generator expression, called before instruction k, makes of the list it is of."""
        inner = next(line.argval for line in reversed(self.lines[:k]) if isinstance(line.argval, CodeType))
        fate = _in_variable(inner, ".0", True) if joined else Fate()
        self._use = self._use or fate.use
        self._calls += fate.calls
        return fate.returned

    def own(self) -> tuple[str, ...]:
        """Its variables that are no parameters: a list in one of them is the function's own."""
        code = self.code
        return (*code.co_varnames[code.co_argcount + code.co_kwonlyargcount:], *(
            name for name in code.co_cellvars if name not in code.co_varnames))

    def _for_a_list(self) -> bool:
        return self.code.co_name in ("<genexpr>", "<listcomp>")


def _inside(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inside(constant)


def _popped(line: dis.Instruction) -> int | None:
    """How many of the stack an instruction takes; None: unknown here."""
    name, n = line.opname, line.arg or 0
    if name == "CALL":
        return n + 2  # with what is called, and its object or nothing
    if name == "FORMAT_VALUE":
        return 1 + bool(n & 4)
    if name in _COUNTED:
        return n
    if name == "CALL_FUNCTION_EX":
        return 3 + (n & 1)
    if name == "MAKE_FUNCTION":
        return 1 + n.bit_count()
    if name in ("BUILD_MAP", "BUILD_CONST_KEY_MAP"):
        return 2 * n if name == "BUILD_MAP" else n + 1
    if name.startswith(("POP_JUMP", "JUMP_IF")):
        return 1
    if name.startswith("JUMP") or name.startswith("LOAD_") and name not in _POPPED:
        return 0
    return _POPPED.get(name)
