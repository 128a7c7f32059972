"""Counts, np.sum(x > 0), where NumPy's functions want whole numbers: an axis, a shape, how often, how far.

They decide there, and are plain from there on: no rule has to look for them, and none is kept beyond its trace as the
key of a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from inspect import Parameter, signature
from typing import Any

from .scalar import TracedCount

NAMES = frozenset((
    "axis", "axes", "axis1", "axis2", "axisa", "axisb", "axisc", "shape", "newshape", "new_shape", "dimensions",
    "dims", "reps", "repeats", "shift", "num", "N", "M", "n", "k", "kth", "pad_width", "offset", "source",
    "destination", "start", "indices_or_sections", "sections", "obj", "index", "indices", "bins", "ndmin", "deg", "m",
    "window_shape", "s", "minlength", "decimals"))


def plain_options(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], own: int = 0
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call's arguments, the counts among its options as whole numbers.  own: how many arguments come before."""
    if not _counted(args) and not (kwargs and _counted(kwargs.values())):
        return args, kwargs
    names, rest = _names(function)
    named = names[own:own + len(args)] + (rest,) * (own + len(args) - len(names))
    return (tuple([_plain(x) if name in NAMES else x for name, x in zip(named, args)]),
            {name: _plain(x) if name in NAMES else x for name, x in kwargs.items()})


def _counted(values: Any) -> bool:
    for x in values:
        if isinstance(x, TracedCount) or (type(x) is tuple or type(x) is list) and _counted(x):
            return True
    return False


def _plain(x: Any) -> Any:
    if isinstance(x, TracedCount):
        return int(x)
    return type(x)(map(_plain, x)) if type(x) is tuple or type(x) is list else x


@cache
def _names(function: Callable[..., Any]) -> tuple[tuple[str, ...], str]:
    """Those of the arguments by place, and that of any number of them (x.reshape(2, n))."""
    try:
        parameters = signature(function).parameters.values()
    except ValueError:  # of np.zeros and np.empty
        return ("shape",), ""
    kinds = Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD
    return (tuple([p.name for p in parameters if p.kind in kinds]),
            next((p.name for p in parameters if p.kind is Parameter.VAR_POSITIONAL), ""))


__all__ = ["plain_options"]
