"""Functions that clients may name: those of the modules in one directory, which the operator has chosen."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InputError, ServiceError

LISTED = 8  # modules that a message names


class Modules:
    """The .py files of a directory, by name.  Nothing else is ever imported, and each of them once."""

    def __init__(self, directory: str | None) -> None:
        self._files: dict[str, Path] = {}
        self._loaded: dict[str, ModuleType] = {}
        if directory is None:
            return
        folder = Path(directory)
        if not folder.is_dir():
            raise InputError(f"--modules {directory}: there is no such directory")
        self._files = {path.stem: path.resolve() for path in sorted(folder.glob("*.py")) if path.stem.isidentifier()}
        sys.path.append(str(folder.resolve()))  # what the modules take from each other

    @property
    def names(self) -> list[str]:
        """Of the modules, as they were when the service started."""
        return list(self._files)

    def function(self, module: str, name: str) -> Callable[..., Any]:
        """A public function that the module itself defines; `ServiceError` (404) if there is none.

        On rank 0's main thread: a module's code runs when it is first asked for.
        """
        if module not in self._files:
            raise ServiceError(f"there is no module {module!r}; the service was started with {self._listed()}",
                               status=404)
        if module not in self._loaded:
            private = f"_distdiff_service_{module}"
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
        public = {n: f for n, f in vars(self._loaded[module]).items() if not n.startswith("_") and callable(f)
                  and not inspect.isclass(f) and getattr(f, "__module__", None) == self._loaded[module].__name__}
        if name not in public:
            raise ServiceError(f"module {module!r} defines no function {name!r}; it has {', '.join(public) or 'none'}",
                               status=404)
        return public[name]

    def _listed(self) -> str:
        names = list(self._files)
        more = f" and {len(names) - LISTED} more (/v1/functions lists them)" if len(names) > LISTED else ""
        return ", ".join(names[:LISTED]) + more or "no modules (--modules DIR)"
