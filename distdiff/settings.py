"""What `linearize` can be told, and whether it makes sense."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .errors import InputError
from .partition import STRATEGIES
from .solvers.layouts import Use
from .solvers.select import check_method

SETTINGS = frozenset(("comm", "method", "options", "preaccumulate", "partition", "min_block", "on_branch_change",
                      "on_failure", "solves", "stages"))  # beside what says which function is differentiated, by what:
CALL = ("argnums", "has_aux", "kwargs")


def refuse_unknown(names: Iterable[str], also: tuple[str, ...] = ()) -> None:
    """Raise `TypeError` for the first name that is neither a setting nor one of `also`, with the nearest that is."""
    known = SETTINGS | {*also}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1)
            meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}."
            raise TypeError(f"{name!r} is no setting: {meant} Keyword arguments of the function go into "
                            "kwargs={...}")


def check_settings(argnums: Any, has_aux: Any, method: Any, options: Any, preaccumulate: Any, partition: Any,
                   min_block: Any, on_branch_change: Any, on_failure: Any, solves: Any) -> None:
    """Raise `InputError` for the first setting that is none."""
    check_method(method)
    numbers = argnums if isinstance(argnums, tuple) else (argnums,)
    if not numbers or not all(isinstance(k, int) and not isinstance(k, bool) for k in numbers):
        raise InputError(f"argnums={argnums!r} must be an integer or a tuple of integers, positions of arguments "
                         "(which go into a second call: grad(f)(x))")
    if options is not None and not isinstance(options, Mapping):
        raise InputError(f"options={options!r} must be a dictionary of PETSc options, such as {{'ksp_rtol': 1e-10}}")
    for name, value in (("has_aux", has_aux), ("preaccumulate", preaccumulate)):
        if not isinstance(value, (bool, np.bool_)):
            raise InputError(f"{name}={value!r} must be True or False")
    for name, value, allowed in (("partition", partition, STRATEGIES),
                                 ("on_branch_change", on_branch_change, ("retrace", "raise")),
                                 ("on_failure", on_failure, ("substitution", "raise"))):
        if value not in allowed:
            raise InputError(f"{name}={value!r} does not exist; choose one of {', '.join(map(repr, allowed))}")
    if min_block is not None and (not _whole(min_block) or min_block < 1):
        raise InputError(f"min_block={min_block!r} must be a positive integer: elements of the least array to spread")
    if not isinstance(solves, Use | str) and (not _whole(solves) or solves < 1) or (
            isinstance(solves, str) and solves != "jacobian"):
        raise InputError(f"solves={solves!r} must be a positive integer, the right-hand sides expected at a point, or "
                         "'jacobian', as many as one takes")


def plain(value: Any) -> Any:
    """Python's integer for one of NumPy's; else what it is."""
    return int(value) if isinstance(value, np.integer) else value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
