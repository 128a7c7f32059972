"""The operations that a planned sweep is made of (see `sweep_plan`); places are rows of the workspace W."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..partition.local import Exchange
from ..tape import Affine


class Term(NamedTuple):
    """dst += p * src over `shape`, p (a float, or array) the partial `what` of statement `item` for operand k.

    item -1: p is the values of block k, dst and src are whole blocks.
    """

    item: int
    k: int
    what: Any
    dst: Affine
    src: Affine
    shape: tuple[int, ...]


class Zero(NamedTuple):
    """W[start:stop] = 0."""

    start: int
    stop: int


class Linear(NamedTuple):
    """W[dst:dst+n] = s1 W[first:first+n] + s2 W[second:second+n]; first -1: no such term."""

    dst: int
    n: int
    s1: float
    first: int
    s2: float
    second: int


class Product(NamedTuple):
    """W[dst:dst+n] = s1 W[first:first+n] + (s2 p + c) W[second:second+n], p the partial of item for operand k.

    first -1: no such term; item -1: p is the values of block k.
    """

    dst: int
    n: int
    s1: float
    first: int
    s2: float
    second: int
    item: int
    k: int
    c: float


class Strided(NamedTuple):
    """dst (+)= scale p src over an iteration space, dst and src affine in W; p = 1 if item is -1."""

    dst: int
    dst_strides: tuple[int, ...]
    src: int
    src_strides: tuple[int, ...]
    shape: tuple[int, ...]
    scale: float
    item: int
    k: int
    write: bool
    overlapping: bool


class Scatter(NamedTuple):
    """W[places[k]] += scale p[k] src[k], places may repeat."""

    places: np.ndarray
    src: int
    src_strides: tuple[int, ...]
    shape: tuple[int, ...]
    scale: float
    item: int
    k: int


class Gather(NamedTuple):
    """dst += scale p[k] W[places[k]]."""

    dst: int
    dst_strides: tuple[int, ...]
    places: np.ndarray
    shape: tuple[int, ...]
    scale: float
    item: int
    k: int


class Scan(NamedTuple):
    """Cumulative sums along the last axis: t = W[src]; t[..., i] += t[..., i-1] (reverse: from the end); W[src] = t."""

    at: int
    strides: tuple[int, ...]
    shape: tuple[int, ...]
    reverse: bool


class Lines(NamedTuple):
    """A scalar run; of the blocks it touches node j lies at j + shifts[k], starts[k] <= j, the last being its own."""

    item: int
    starts: np.ndarray
    shifts: np.ndarray


class Halo(NamedTuple):
    """An exchange, its ids turned into places of W."""

    exchange: Exchange


class Seed(NamedTuple):
    """W[places] = seed[where], or += (then places may repeat)."""

    where: slice | np.ndarray
    places: slice | np.ndarray
    add: bool


class Result(NamedTuple):
    """result[where] = scale * W[places]; zero if places is None."""

    where: slice | np.ndarray
    places: slice | np.ndarray | None
    scale: float


class Plan(NamedTuple):
    """Operations, then results; `rows` of workspace, `moved` of them written in all.

    by_rows: with several columns, the entries of a row are best neighbours in memory (scalar code, small arrays);
    else each column is best a vector of its own.
    """

    operations: list[Any]
    results: list[Result]
    rows: int
    moved: int
    by_rows: bool
