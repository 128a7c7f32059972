"""The step that turns a user's function into one that traces, before Numba infers its types.

Functions it calls are compiled to trace as well, whether plain or under njit; np.zeros and its kin make arrays that can
hold traced floats; and what decides (bool, int, max, ...) is told where in the user's code it stands.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import numba
import numpy as np
from numba.core import ir
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.dispatcher import Dispatcher
from numba.core.ir_utils import build_definitions
from numba.core.untyped_passes import LiteralUnroll

from .decisions import DECISIONS, mark_line
from .function import Function
from .stream import site_text

MAKERS: dict[Callable[..., Any], Callable[..., Any]] = {}
"""NumPy's function that makes arrays -> the one that makes arrays of traced floats (`arrays` fills it in)."""

_NOTHING = object()
LARGEST = 1 << 20  # bytes of an array outside of the function that are built into the code


class NotCompiled(Exception):
    """A call can't be compiled; the text says why."""


class _Program:
    """A function compiled to trace: its dispatchers, and what it found outside of itself when it was compiled."""

    def __init__(self, function: FunctionType) -> None:
        self.function = function
        self.dispatchers: dict[bool, Any] = {}  # by whether it marks the lines of the user's code
        self.outside: dict[tuple[int, Any], tuple[Any, Any, Any]] = {}  # (namespace, name, what was there)
        self.calls: set[FunctionType] = set()


_NAME = "__distdiff_compiled__"


def _program(function: FunctionType) -> _Program:
    """What belongs to a function; it lives and dies with it."""
    found = function.__dict__.get(_NAME)
    if found is None or found.function is not function:  # functools.wraps copies attributes
        found = function.__dict__[_NAME] = _Program(function)
    return found


def tracing(function: FunctionType, marked: bool) -> Any:
    """The Numba dispatcher that compiles `function` to trace; marked: code that says at which line it is."""
    program = _program(function)
    found = program.dispatchers.get(marked)
    if found is None:
        compiler = MarkingCompiler if marked else TracingCompiler
        found = program.dispatchers[marked] = numba.njit(
            pipeline_class=compiler, boundscheck=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    return found


def current(function: FunctionType) -> bool:
    """Whether what the function and all it calls found outside of themselves is still there; if not, all of them are
    forgotten, to be compiled again."""
    functions, waiting = {function}, [function]
    changed = False
    while waiting:
        program = _program(waiting.pop())
        changed = changed or not all(_same(_look_up(*place), what) for *place, what in program.outside.values())
        new = program.calls - functions
        functions |= new
        waiting += new
    if changed:
        for one in functions:
            one.__dict__.pop(_NAME, None)
    return not changed


def _look_up(space: Any, name: Any) -> Any:
    try:
        return space.cell_contents if name is None else space.get(name, _NOTHING)
    except ValueError:  # an empty cell
        return _NOTHING


def _same(now: Any, then: Any) -> bool:
    if isinstance(then, _Table):
        return now is then.source and then.matches(now)
    return now is then or (type(now) is type(then) and isinstance(now, (int, float, str)) and now == then)


class _Table:
    """A list or array outside of the function, as it was when it was built into the code."""

    def __init__(self, source: Any) -> None:
        self.source, self.copy = source, np.array(source)

    def matches(self, now: Any) -> bool:
        return np.array_equal(now, self.copy, equal_nan=self.copy.dtype.kind == "f")


def python_function(f: Any) -> FunctionType | None:
    """The Python function behind what a user calls, if there is one."""
    if isinstance(f, Function):
        f = f.__wrapped__
    if isinstance(f, Dispatcher):
        f = f.py_func
    return f if type(f) is FunctionType else None


class _Rewriting(FunctionPass):
    """See the module's text."""

    marked = False

    def __init__(self) -> None:
        FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        func_ir = state.func_ir
        code = func_ir.func_id
        self.program, self.function = _program(code.func), code.func
        known: dict[str, Any] = {}  # variables with one value, known before the program runs
        for block in func_ir.blocks.values():
            body, line = [], 0
            for statement in block.body:
                if self.marked and statement.loc.line != line:
                    line = statement.loc.line
                    site = site_text(code.filename, line, code.func_qualname)
                    before, call = _sited(block.scope, mark_line, [], site, statement.loc)
                    body += [*before, ir.Assign(call, block.scope.redefine("$mark", statement.loc), statement.loc)]
                if isinstance(statement, ir.Assign):
                    value = statement.value
                    found = _static(value, known)
                    if found is not _NOTHING:
                        known[statement.target.name] = found
                        self._note(value, found, known)
                        other = self._substitute(found)
                        if other is not found:
                            statement.value = ir.Global(statement.target.name, other, statement.loc)
                    elif isinstance(value, ir.Expr) and value.op == "call":
                        decision = DECISIONS.get(_hashable(known.get(value.func.name)))
                        if decision is not None:
                            site = site_text(code.filename, statement.loc.line, code.func_qualname)
                            before, call = _sited(block.scope, decision, value.args, site, statement.loc)
                            value.func, value.args = call.func, call.args
                            body += before
                        elif _hashable(known.get(value.func.name)) in MAKERS:
                            body += _numpy_kinds(block.scope, value, known)
                    elif isinstance(value, ir.Expr) and value.op == "unary" and value.fn is operator.not_:
                        site = site_text(code.filename, statement.loc.line, code.func_qualname)
                        before, call = _sited(block.scope, DECISIONS[bool], [value.value], site, statement.loc)
                        value.value = block.scope.redefine("$truth", statement.loc)
                        body += [*before, ir.Assign(call, value.value, statement.loc)]
                body.append(statement)
            block.body = body
        func_ir._definitions = build_definitions(func_ir.blocks)
        return True


    def _note(self, value: Any, found: Any, known: dict[str, Any]) -> None:
        """Remember what stands outside of the function."""
        function = self.function
        if isinstance(value, ir.FreeVar):
            space, name = function.__closure__[value.index], None
        elif isinstance(value, ir.Global) and value.name in function.__globals__:
            space, name = function.__globals__, value.name
        elif isinstance(value, ir.Expr) and not _of_numpy(known[value.value.name]):
            space, name = vars(known[value.value.name]), value.attr
        else:
            return
        if isinstance(found, (list, np.ndarray)):
            if isinstance(found, np.ndarray) and found.nbytes > LARGEST:
                raise NotCompiled(
                    f"{name or value.name}, used by {function.__qualname__} ({function.__code__.co_filename}:"
                    f"{value.loc.line}) but made outside of it, has {found.nbytes} bytes, too many to build into the "
                    "code: pass it as an argument"
                )
            found = _Table(found)
        self.program.outside[id(space), name] = space, name, found

    def _substitute(self, found: Any) -> Any:
        """What stands for something from outside."""
        if not callable(found):
            return np.array(found) if _is_table(found) else found
        maker = MAKERS.get(found)
        if maker is not None:
            return maker
        function = python_function(found)
        if function is None or _of_numpy(function):
            return found
        self.program.calls.add(function)
        return tracing(function, self.marked)


@register_pass(mutates_CFG=False, analysis_only=False)
class Rewrite(_Rewriting):
    _name = "distdiff_rewrite"


@register_pass(mutates_CFG=False, analysis_only=False)
class RewriteAndMark(_Rewriting):
    _name = "distdiff_rewrite_and_mark"
    marked = True


def _numpy_kinds(scope: Any, call: ir.Expr, known: dict[str, Any]) -> list[ir.Assign]:
    """NumPy's int64 and bool_ for Python's int and bool among the arguments, which Numba knows as dtypes."""
    before = []

    def numpy_kind(x: ir.Var) -> ir.Var:
        kind = known.get(x.name)
        if kind is not int and kind is not bool:
            return x
        other = scope.redefine("$dtype", call.loc)
        before.append(ir.Assign(ir.Global(kind.__name__, np.int64 if kind is int else np.bool_, call.loc), other,
                                call.loc))
        return other

    call.args = [numpy_kind(x) for x in call.args]
    call.kws = tuple((name, numpy_kind(x)) for name, x in call.kws)
    return before


def _sited(scope: Any, function: Callable[..., Any], args: list[Any], site: str,
           loc: Any) -> tuple[list[ir.Assign], ir.Expr]:
    """function(*args, site): the call, and what has to stand before it."""
    target, place = scope.redefine("$sited", loc), scope.redefine("$site", loc)
    before = [ir.Assign(ir.Global(function.__name__, function, loc), target, loc),
              ir.Assign(ir.Const(site, loc), place, loc)]
    return before, ir.Expr.call(target, [*args, place], (), loc)


def _static(value: Any, known: dict[str, Any]) -> Any:
    """What a global, a closure's variable or an attribute of a module is; _NOTHING for anything else."""
    if isinstance(value, (ir.Global, ir.FreeVar)):
        return value.value
    if isinstance(value, ir.Expr) and value.op == "getattr":
        owner = known.get(value.value.name, _NOTHING)
        if isinstance(owner, ModuleType):
            return getattr(owner, value.attr, _NOTHING)
    return _NOTHING


def _of_numpy(x: Any) -> bool:
    """Whether a module, or a function's, is NumPy's or Numba's own, and Numba knows what to do with it."""
    name = x.__name__ if isinstance(x, ModuleType) else x.__module__
    return (name or "").partition(".")[0] in ("numpy", "numba")


def _hashable(x: Any) -> Any:
    return x if callable(x) else None


def _is_table(x: Any) -> bool:
    return isinstance(x, list) and bool(x) and (
        all(type(v) is float for v in x) or all(type(v) is int for v in x))


class TracingCompiler(CompilerBase):
    """Numba's pipeline with the rewriting step."""

    step: type[_Rewriting] = Rewrite

    def define_pipelines(self) -> list[Any]:
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state, "distdiff_tracing")
        pipeline.add_pass_after(self.step, LiteralUnroll)
        pipeline.finalize()
        return [pipeline]


class MarkingCompiler(TracingCompiler):
    """The same for code that says at which line it is."""

    step = RewriteAndMark
