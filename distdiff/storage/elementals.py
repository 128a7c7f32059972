"""Elementals in files: a name out of `BUILT_IN` and parameters, as JSON.

Only classes listed here are ever made from a file, each a frozen dataclass whose fields are numbers, text, None,
tapes (equations, say; in JSON {"tape": number}) or tuples of them.  A new elemental of distdiff's own that traces may
leave on tapes gets a line in `BUILT_IN`.  Users' own are those of `USERS`, in JSON ["rule", number, parameters], the
number that of the rule among those which the file names (`rules`); they say themselves what parameters they have
(`parameters`, `of`).
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, get_type_hints

from ..errors import FormatError, InputError
from ..ops import Elemental
from ..tape import Tape
from .rules import called

BUILT_IN: dict[str, str] = {
    name: f"distdiff.tracing.matrices.{place}" for name, place in {
        "lu": "lu:Factors", "solve": "lu:Solve", "det": "lu:Det", "cofactors": "lu:Cofactors", "slogdet": "lu:LogDet",
        "solve_triangular": "triangular:Triangular", "cholesky": "triangular:Cholesky",
        "indefinite": "triangular:Indefinite",
        "packed_lu": "lu:PackedLu", "sparse_solve": "sparse:SparseSolve", "sparse_system": "sparse:SparseSystem",
        "solve_banded": "banded:Banded",
        "solve_sylvester": "sylvester:Sylvester", "eigh": "symmetric:Eigh", "eigvalsh": "symmetric:Eigvalsh",
        "svd": "singular:Svd", "full_svd": "singular:FullSvd", "full_qr": "orthogonal:FullQr",
        "svdvals": "singular:Svdvals", "pinv": "singular:Pinv",
        "pinv_change": "singular:PinvChange", "qr": "orthogonal:Qr", "krylov": "iterative:Iterative",
        "eig": "spectral:Eig", "eigvals": "spectral:Eigvals",
        "complex_det": "pairs:DetPair", "complex_cofactors": "pairs:CofactorsPair",
        "complex_slogdet": "pairs:LogDetPair", "complex_eig": "pairs:EigPair",
        "complex_eigvals": "pairs:EigvalsPair", "complex_eigh": "hermitian:EighPair",
        "complex_eigvalsh": "hermitian:EigvalshPair", "complex_svd": "hermitian:SvdPair",
        "complex_svdvals": "hermitian:SvdvalsPair", "complex_qr": "hermitian:QrPair",
        "matrix_function": "functions:MatrixFunction",
    }.items()
} | {
    "fourier": "distdiff.tracing.complexes.fourier:Transform",
    "trigonometric": "distdiff.tracing.scipy.fft:Trigonometric",
    "implicit": "distdiff.implicit.statement:Implicit",
}
"""Name in files -> "module:class"."""

USERS = ("distdiff.rules.registered:_Partial", "distdiff.rules.ruled:WithTangents",
         "distdiff.rules.ruled:WithAdjoints")
"""Classes of users' elementals: they have `rule`, what they call, `rule.elemental`, which of these it makes, and
`parameters()`, JSON, of which `of(rule, parameters)` makes them again."""

OPERANDS = 64  # most an elemental has


def tapes(op: Elemental) -> list[Tape]:
    """The tapes among an elemental's parameters."""
    fields = dataclasses.fields(op) if dataclasses.is_dataclass(op) else ()
    return [value for value in (getattr(op, field.name) for field in fields) if isinstance(value, Tape)]


def to_json(op: Elemental, inner: Sequence[Tape], rules: list[Any]) -> list[Any]:
    """[name, parameters] of an elemental; `InputError` where it has no name.

    inner: the file's tapes, by number; rules: those that it calls, to which a further one is added.
    """
    where = f"{type(op).__module__}:{type(op).__qualname__}"
    if where in USERS:
        return ["rule", _number(op.rule, rules), op.parameters()]
    name = next((name for name, place in BUILT_IN.items() if place == where), None)
    if name is None or not dataclasses.is_dataclass(op):
        raise InputError(f"a tape that calls {op.name!r} can't be saved: it is an operation of somebody's own that is "
                         "none of distdiff.custom_jvp, custom_vjp and elemental, so a file could not name it. Trace "
                         "the function again where it is wanted")
    return [name, {field.name: _plain(op, getattr(op, field.name), inner)
                   for field in dataclasses.fields(op) if field.init}]


def _number(rule: Any, rules: list[Any]) -> int:
    """Which of the file's rules one is; two that a file could not tell apart are refused."""
    for k, known in enumerate(rules):
        if known is rule:
            return k
        if called(known)[1:3] == called(rule)[1:3]:
            raise InputError(f"a tape that calls two rules {called(rule)} can't be saved: give them names of their own "
                             "(elemental(..., name=), or __name__)")
    rules.append(rule)
    return len(rules) - 1


def from_json(data: Any, most: int, inner: Sequence[Tape] = (), rules: Sequence[Any] = ()) -> Elemental:
    """The elemental of some JSON; `FormatError` where it is none, or has more than `most` elements."""
    if not isinstance(data, list) or len(data) not in (2, 3) or not isinstance(data[0], str) or not isinstance(
            data[-1], dict):
        raise FormatError("an elemental is none")
    name, parameters = data[0], data[-1]
    if len(data) == 3 and (name != "rule" or type(data[1]) is not int or not 0 <= data[1] < len(rules)):
        raise FormatError(f"an elemental calls rule {data[1]}, which is none of the {len(rules)} that the file names")
    if len(data) == 2 and name not in BUILT_IN:
        raise FormatError(f"it uses an elemental {name!r} that is not known here")
    try:
        if len(data) == 3:
            op = rules[data[1]].elemental.of(rules[data[1]], parameters)
        else:
            module, _, cls = BUILT_IN[name].partition(":")
            made = getattr(importlib.import_module(module), cls)
            given = {key: _made(value, inner) for key, value in parameters.items()}
            _require_kinds(made, given)
            op = made(**given)
            op.require_sound()
        cores = [tuple(core) for core in (*op.core_in, *op.core_out)]
        fits = op.arity <= OPERANDS and all(type(n) is int and n >= 0 for core in cores for n in core)
        fits = fits and all(prod(core) <= most for core in cores)
    except Exception as error:  # whatever a class makes of parameters that are none of its
        raise FormatError(f"an elemental can't be {str(data)[:200]}: {error}") from error
    if not fits:
        raise FormatError(f"an elemental can't be {str(data)[:200]}")
    return op


def _require_kinds(made: type, given: dict[str, Any]) -> None:
    """Raise `ValueError` unless parameters are of the kinds that the class's annotations say: it would fail with what
    is not when it is called, or read memory that is none of its own.  What it says of more than that is its own."""
    hints = _annotations(made)
    for name, value in given.items():
        kind = hints.get(name)
        wanted = {int: (int,), float: (int, float), bool: (bool,), str: (str,), Tape: (Tape,)}.get(kind)
        if kind == tuple[int, ...]:
            fits = type(value) is tuple and all(type(n) is int for n in value)
        else:
            fits = wanted is None or type(value) in wanted
        if not fits:
            raise ValueError(f"{name} is no {getattr(kind, '__name__', kind)}")


@lru_cache(maxsize=256)
def _annotations(made: type) -> dict[str, Any]:
    return get_type_hints(made)


def _plain(op: Elemental, value: Any, inner: Sequence[Tape]) -> Any:
    if isinstance(value, tuple):
        return [_plain(op, part, inner) for part in value]
    if isinstance(value, Tape):
        return {"tape": next(k for k, tape in enumerate(inner) if tape is value)}
    if type(value) in (bool, int, float, str, type(None)):
        return value
    raise InputError(f"a tape with the elemental {op!r} can't be saved: a parameter is a {type(value).__name__}")


def _made(value: Any, inner: Sequence[Tape]) -> Any:
    if isinstance(value, list):
        return tuple(_made(part, inner) for part in value)
    if not isinstance(value, dict):
        return value
    if list(value) != ["tape"] or type(value["tape"]) is not int or not 0 <= value["tape"] < len(inner):
        raise FormatError(f"{value} is none of the {len(inner)} tapes that come before it")
    return inner[value["tape"]]
