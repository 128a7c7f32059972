"""Functions and rules that clients may name: those of the modules in one directory, which the operator has chosen."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ..deadline import within
from ..errors import CancelledError, InputError, OverdueError, ServiceError
from ..storage.rules import Called

LISTED = 8  # modules that a message names
INNERMOST = 3  # calls in the operator's files that a message tells of
PRIVATE = "_distdiff_service_"  # before a module's name in sys.modules


class Modules:
    """The .py files of a directory, by name.  Nothing else is ever imported, and each of them once."""

    def __init__(self, directory: str | None) -> None:
        self.directory = directory
        self._files: dict[str, Path] = {}
        self._loaded: dict[str, ModuleType] = {}
        if directory is None:
            return
        folder = Path(directory)
        if not folder.is_dir():
            raise InputError(f"--modules {directory}: there is no such directory")
        self._files = {path.stem: path.resolve() for path in sorted(folder.glob("*.py")) if path.stem.isidentifier()}
        sys.path.append(str(folder.resolve()))  # what the modules take from each other

    def described(self) -> list[dict[str, Any]]:
        """The public functions that the files define, as plain data; read off the files, nothing of which is run."""
        return [_described(name, path) for name, path in self._files.items()]

    def integers(self, module: str, function: str) -> list[str]:
        """The parameters of a function that take integers (`_integers`), read off its file; none where it has none."""
        path = self._files.get(module)
        found = _described(module, path)["functions"] if path is not None else []
        return next((described["integers"] for described in found if described["name"] == function), [])

    def function(self, module: str, name: str) -> Callable[..., Any]:
        """A public function that the module itself defines; `ServiceError` (404) if there is none.

        A module's code runs when it is first asked for, in a process that can be ended (`recording`).
        """
        self.require(module)
        made = self._module(module)
        public = {n: f for n, f in vars(made).items() if not n.startswith("_") and callable(f)
                  and not inspect.isclass(f) and getattr(f, "__module__", None) == made.__name__}
        if name not in public:
            raise ServiceError(f"module {module!r} defines no function {name!r}; it has {', '.join(public) or 'none'}",
                               status=404)
        return public[name]

    def require(self, module: str) -> None:
        """Raise `ServiceError` (404) unless it is one of the modules."""
        if module not in self._files:
            raise ServiceError(f"there is no module {module!r}; the service was started with {self._listed()}",
                               status=404)

    def rule(self, wanted: Called) -> Any:
        """The rule that a tape calls, out of the module that it names; `ServiceError` (422) if there is none.

        On rank 0's main thread: ranks that solve with a rule call it.
        """
        module = wanted.module.removeprefix(PRIVATE)
        if module not in self._files:
            raise ServiceError(f"the tape calls the rule {wanted}, which is code and in no file: the service has rules "
                               f"of its own modules alone, and was started with {self._listed()}; put the rule in a "
                               f"module {module}.py there, and import it from it where the function is traced",
                               status=422)
        try:
            with within(f"the code of module {module}"):
                members = vars(self._module(module)).values()
        except (CancelledError, OverdueError):
            raise
        except (Exception, SystemExit) as error:
            raise ServiceError(f"module {module!r}, which has the rule {wanted}, raised {type(error).__name__}: "
                               f"{error}{self.places(error)}", status=422) from error
        found = {id(rule): rule for rule in members if hasattr(type(rule), "rule_kind")
                 and rule.__name__ == wanted.name and rule.__module__ == PRIVATE + module}
        if len(found) != 1:
            raise ServiceError(f"the tape calls the rule {wanted}; the service's module of that name defines "
                               f"{len(found)} of them", status=422)
        return next(iter(found.values()))

    def places(self, error: BaseException) -> str:
        """Where in the directory's files an exception was raised: a line for each of the innermost calls there, named
        by the file below the directory, as clients need not know where that is; empty where none is there."""
        if self.directory is None:
            return ""
        root = Path(self.directory).resolve()
        inside = [(Path(frame.filename).relative_to(root), frame) for frame in traceback.extract_tb(error.__traceback__)
                  if Path(frame.filename).is_relative_to(root)][-INNERMOST:]
        return "".join(f"\n  {file}, line {frame.lineno}, in {frame.name}: {frame.line}" for file, frame in inside)

    def _module(self, module: str) -> ModuleType:
        """One of the modules, loaded once."""
        if module not in self._loaded:
            private = f"{PRIVATE}{module}"
            spec = importlib.util.spec_from_file_location(private, self._files[module])
            assert spec is not None and spec.loader is not None
            made = importlib.util.module_from_spec(spec)
            sys.modules[private] = made
            try:
                spec.loader.exec_module(made)
            except BaseException:
                del sys.modules[private]
                raise
            self._loaded[module] = made
        return self._loaded[module]

    def _listed(self) -> str:
        names = list(self._files)
        more = f" and {len(names) - LISTED} more (/v1/functions lists them)" if len(names) > LISTED else ""
        return ", ".join(names[:LISTED]) + more or "no modules (--modules DIR)"


def _described(name: str, path: Path) -> dict[str, Any]:
    """What a module's file defines at its own level, by `def`."""
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError) as error:
        return {"module": name, "functions": [], "error": f"{type(error).__name__}: {error}"}
    found = {node.name: node for node in body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")}
    return {"module": name, "error": None, "functions": [
        {"name": function, "parameters": _parameters(node.args), "integers": _integers(node.args),
         "summary": (ast.get_docstring(node) or "").partition("\n")[0]} for function, node in found.items()]}


def _parameters(given: ast.arguments) -> list[str]:
    return [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]


def _integers(given: ast.arguments) -> list[str]:
    """Parameters that are annotated `int`, or have no annotation and an integer as their default."""
    plain = [*given.posonlyargs, *given.args]
    defaults = dict(zip((a.arg for a in plain[len(plain) - len(given.defaults):]), given.defaults))
    defaults.update((a.arg, value) for a, value in zip(given.kwonlyargs, given.kw_defaults) if value is not None)
    return [a.arg for a in (*plain, *given.kwonlyargs)
            if (_is_int(a.annotation) if a.annotation is not None else _holds_int(defaults.get(a.arg)))]


def _is_int(annotation: ast.expr) -> bool:
    return ast.unparse(annotation).strip("'\"") == "int"


def _holds_int(default: ast.expr | None) -> bool:
    """Whether a default is an integer as it stands there, with a sign or without; True and False are none."""
    if isinstance(default, ast.UnaryOp) and isinstance(default.op, (ast.USub, ast.UAdd)):
        default = default.operand
    return isinstance(default, ast.Constant) and type(default.value) is int
