"""Nested arrays as one vector: how the leaves of arguments and results lie one after another."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from .errors import InputError
from .tracing.tree import alike, flatten, is_number, unflatten


class Nest:
    """How a list of arrays nests, and their shapes."""

    def __init__(self, spec: Any, shapes: list[tuple[int, ...]]) -> None:
        self.spec, self.shapes = spec, shapes
        self.bounds = np.array(list(accumulate(map(prod, shapes), initial=0)), dtype=np.int64)

    @property
    def size(self) -> int:
        """Numbers in all leaves together."""
        return int(self.bounds[-1])

    def __str__(self) -> str:
        """The leaves' shapes."""
        return ", ".join(map(str, self.shapes[:4])) + f", ... ({len(self.shapes)} arrays)" * (len(self.shapes) > 4)

    def unflatten(self, leaves: list[Any]) -> Any:
        return unflatten(self.spec, leaves)

    def split(self, full: np.ndarray, axis: int = 0) -> list[np.ndarray]:
        if axis == 0:
            ends = self.bounds.tolist()
            return [full[start:stop] for start, stop in zip(ends[:-1], ends[1:])]
        return np.split(full, self.bounds[1:-1], axis=axis) if len(self.shapes) else []

    def nest(self, full: np.ndarray) -> Any:
        """The vector of all leaves as the nested arrays; scalars come as floats."""
        return self.unflatten([part.reshape(shape)[()] for part, shape in zip(self.split(full), self.shapes)])

    def leaves(self, tree: Any, what: str, is_leaf: Callable[[Any], bool] = is_number) -> list[Any]:
        """The arrays among nested ones, or `InputError` saying what does not fit."""
        leaves, spec = flatten(tree, what, is_leaf)
        if not alike(spec, self.spec):  # a loaded tape knows the fields of a named tuple, not its type
            raise InputError(f"the {what} is nested as {spec}, but {self.spec} is wanted")
        for k, (leaf, shape) in enumerate(zip(leaves, self.shapes)):
            dtype = getattr(leaf, "dtype", None) or np.asarray(leaf).dtype
            if dtype.kind not in "fiub":
                raise InputError(f"the {what}'s leaf {k} holds {dtype} values; real numbers are wanted")
            if np.shape(leaf) != shape:
                raise InputError(f"the {what}'s leaf {k} has shape {np.shape(leaf)}, but {shape} is wanted")
        return leaves

    def flat(self, tree: Any, what: str) -> np.ndarray:
        """The nested arrays as one vector, or `InputError` saying what does not fit."""
        parts = []
        for k, leaf in enumerate(self.leaves(tree, what)):
            array = np.asarray(leaf)
            if what != "point" and not np.isfinite(array).all():
                raise InputError(f"the {what}'s leaf {k} holds NaN or infinity")
            parts.append(array.astype(float, copy=False).ravel())
        return np.concatenate(parts) if len(parts) != 1 else np.ascontiguousarray(parts[0])


def blocks(matrix: np.ndarray, rows: Nest, columns: Nest) -> Any:
    """A matrix as the nesting of its rows holding that of its columns holding blocks, row shape + column shape."""
    return rows.unflatten([
        columns.unflatten([block.reshape(row_shape + shape)
                           for block, shape in zip(columns.split(row, axis=1), columns.shapes)])
        for row, row_shape in zip(rows.split(matrix), rows.shapes)])


def names_of(f: Any, argnums: int | tuple[int, ...]) -> tuple[str, ...] | None:
    """The names of a function's positional parameters at `argnums`, None where it has none to tell."""
    try:
        names = [p.name for p in inspect.signature(f).parameters.values()
                 if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        return tuple(names[k] for k in ((argnums,) if isinstance(argnums, (int, np.integer)) else argnums))
    except (TypeError, ValueError, IndexError):
        return None


def leaf_names(names: tuple[str, ...] | None, spec: Any) -> list[str] | None:
    """The names of the leaves of arguments with those names; None where one has several leaves, or no name."""
    if names is None or len(names) != len(spec.children) or any(child.n_leaves > 1 for child in spec.children):
        return None
    return [name for name, child in zip(names, spec.children) if child.n_leaves]


def require_number(value: Any) -> None:
    """Raise `InputError` unless a function's result is one number."""
    if isinstance(value, (tuple, list, dict)):
        found = f"a {type(value).__name__} of {len(value)}"
    elif np.shape(value) != ():
        found = f"an array of shape {np.shape(value)}"
    else:
        return
    raise InputError(f"the gradient is of functions that return one number; this one returned {found}. Sum it, or use "
                     "jacobian or vjp")
