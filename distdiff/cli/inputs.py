"""What commands are given: functions by name, arguments in files, parameters and PETSc options."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import InputError


def load_function(spec: str, rules: Iterable[str] = ()) -> Callable[..., Any]:
    """The function named `module:function` or `file.py:function`, or the tape in a file, which finds the rules that it
    calls in the modules `rules`; `InputError` says what is wrong with the name."""
    if Path(spec).is_file():
        from ..program import load

        members = [x for name in rules for x in vars(_module(name)).values() if hasattr(type(x), "rule_kind")]
        return load(spec, rules={id(rule): rule for rule in members}.values())
    module_name, colon, name = spec.rpartition(":")
    if not colon or not module_name or not name:
        raise InputError(f"{spec!r} does not name a function; write module:function, such as model:loss")
    module = _module(module_name)
    function = getattr(module, name, None)
    if not callable(function):
        names = [n for n, v in vars(module).items() if inspect.isfunction(v) and not n.startswith("_")]
        raise InputError(f"module {module_name!r} has no function {name!r}; it has {', '.join(names) or 'none'}")
    return function


def _module(module_name: str) -> ModuleType:
    """A module by its name, or that of its file."""
    sys.path.insert(0, os.getcwd())
    if module_name.endswith(".py"):
        path = Path(module_name)
        if not path.is_file():
            raise InputError(f"there is no file {module_name}")
        sys.path.insert(0, str(path.resolve().parent))
        found = importlib.util.spec_from_file_location(path.stem, path)
        assert found is not None and found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules[path.stem] = module
        found.loader.exec_module(module)
    else:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not (module_name + ".").startswith(error.name + "."):
                raise  # the module is there, and what it imports is not
            raise InputError(f"there is no module {module_name!r} in {os.getcwd()} or on the Python path") from error
    return module


def load_arguments(f: Callable[..., Any], path: str | None) -> tuple[list[str], tuple[Any, ...]]:
    """The function's positional arguments from an .npz or .npy file (None: those of a tape), and their names."""
    if path is None:
        point = getattr(f, "point", None)
        if point is None:
            raise InputError("no arguments are given; name their file with --input")
        return list(inspect.signature(f).parameters), point
    if not Path(path).is_file():
        raise InputError(f"there is no input file {path}")
    parameters = [p for p in inspect.signature(f).parameters.values()
                  if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in parameters]
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {names[0]: loaded}
    except (ValueError, OSError, EOFError, IndexError) as error:
        with open(path, "rb") as stream:
            begin = stream.read(6)
        if not begin.startswith((b"PK", b"\x93NUMPY")):
            raise InputError(f"{path} is no .npz or .npy file and can't be read; of a text file of numbers, "
                             "np.save('x.npy', np.loadtxt('x.csv', delimiter=',')) makes one") from error
        raise InputError(f"{path} can't be read as .npz or .npy without pickle: {error}") from error
    if len(arrays) == 1 and len(names) == 1:
        arrays = {names[0]: next(iter(arrays.values()))}
    unknown = sorted(set(arrays) - set(names))
    if unknown:
        raise InputError(f"{path} holds {', '.join(unknown)}, which {_name(f)}({', '.join(names)}) does not take")
    args: list[Any] = []
    for k, parameter in enumerate(parameters):
        if parameter.name not in arrays:
            left = [p.name for p in parameters[k:] if p.name in arrays]
            if parameter.default is parameter.empty or left:
                raise InputError(f"{path} has no array {parameter.name!r}, which {_name(f)}({', '.join(names)}) "
                                 f"needs; it holds {', '.join(arrays) or 'nothing'}")
            break
        array = arrays[parameter.name]
        args.append(array if array.ndim else array.item())
    return names[:len(args)], tuple(args)


def _name(f: Callable[..., Any]) -> str:
    return getattr(f, "__name__", "the tape")


def choose_argnums(names: list[str], args: tuple[Any, ...], wrt: list[str] | None) -> tuple[int, ...]:
    """Positions of the parameters to differentiate: those named, else all that hold floating-point numbers."""
    if wrt is not None:
        missing = [name for name in wrt if name not in names]
        if missing:
            raise InputError(f"--wrt {' '.join(missing)}: the function's parameters are {', '.join(names)}")
        return tuple(names.index(name) for name in dict.fromkeys(wrt))
    floating = tuple(k for k, arg in enumerate(args) if np.asarray(arg).dtype.kind in "fc")
    if not floating:
        kinds = ", ".join(f"{name} ({np.asarray(arg).dtype})" for name, arg in zip(names, args))
        raise InputError(f"no parameter holds floating-point numbers to differentiate by: {kinds}; save them as floats")
    for k, arg in enumerate(args):
        if k not in floating and np.ndim(arg) and np.asarray(arg).dtype.kind in "iu":
            print(f"distdiff: {names[k]} holds whole numbers ({np.asarray(arg).dtype}) and is taken as a constant; "
                  "save it as floats to differentiate by it", file=sys.stderr)
    return floating


def split_option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    name = name.lstrip("-").removeprefix("distdiff_")
    if not name or not equals:
        raise InputError(f"--option {text!r} is no NAME=VALUE; write --option ksp_rtol=1e-10")
    return name, value


def write_npz(path: str, arrays: dict[str, Any]) -> None:
    """Write an .npz, at once or not at all."""
    from ..storage import replacing

    with replacing(path) as stream:
        np.savez(stream, **{name: np.asarray(value) for name, value in arrays.items()})
