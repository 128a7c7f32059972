"""Where a NaN or an infinity began: searched for on the tape, once a result shows that there is one.

Looking at results is enough: 0 * inf = nan and nothing turns a NaN back, so one that comes up between inputs and
outputs, a value or a partial, always shows in a result or in the adjoint (or tangent) of some input (output).  NaN
that come with data do not count, once they are passed over (`missing`), nor partials of lines that no result depends
on, as in the branch which a `where` does not choose (`independence`): `Position.passed_over`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from . import products
from .comm import agreed, on_root
from .errors import NonFiniteError, UnsupportedOperationError
from .evaluate import Point
from .kernels import scalar
from .ops import OPS, special
from .partials import Partials
from .tape import Const, Joint, ScalarRun, Site, Statement, Vector

FEW = 1 << 12  # numbers that are looked at one by one


class NonFinite(NamedTuple):
    """Where a NaN or an infinity came up first on this rank."""

    what: str  # says it in words
    order: tuple[int, int]  # (superstep, item): over all ranks the smallest came first
    site: Site | None = None  # the user's line, None where the tape holds none (inputs, scalar runs)
    node: int | None = None  # for scalar runs the node's id on the whole tape, for `tracing.locate`
    known: bool = True  # False: an operand has no rule, of an order that nobody has derived


def all_finite(x: np.ndarray) -> bool:
    """Whether every element is finite; the sum tells at memory speed, and is only doubted when it is not."""
    if np.size(x) <= FEW:
        return bool(np.isfinite(x).all())
    with np.errstate(all="ignore"):
        return bool(np.isfinite(np.add.reduce(x, axis=None))) or bool(np.isfinite(x).all())


def require_finite(result: np.ndarray, point: Point | None, team: MPI.Comm, comm: MPI.Comm,
                   locate: Callable[[int], Site | None]) -> np.ndarray:
    """`result` (the same on every rank) if it is finite, else `NonFiniteError` naming where it began.  Collective.

    point : this rank's, None where there is none any more; team: the ranks that share one copy of the program.
    locate : on rank 0, the user's line that recorded a node of scalar code, None where only a tape of it is there.
    """
    if all_finite(result):
        return result
    point = point.completed(team) if point is not None else None
    found = None
    with agreed(comm):
        found = first_nonfinite(point) if point is not None else None
    worst = min((f for f in comm.allgather(found) if f is not None), key=lambda f: f.order, default=None)
    if worst is None:
        raise NonFiniteError("the derivative overflows: every value and partial on the tape is finite, but their "
                             "products along a path are above all numbers of double precision, from smaller seeds too; "
                             "scale the seed (the derivative is linear in it) or the function")

    def explain() -> str:
        site = worst.site
        if site is None and worst.node is not None:
            site = locate(worst.node)
        where = f" at {site}" if site is not None else ""
        if site is None and worst.node is not None:
            where = (" in scalar code, whose lines a tape does not hold (linearize the function itself there to "
                     "have the line named)")
        if not worst.known:
            return (f"{worst.what} is wanted{where}: derivatives of this order in that argument have no rule, those of "
                    "lower orders have; distdiff.custom_jvp takes a rule of your own")
        return (f"{worst.what}{where}; every derivative through it is undefined. Keep the argument inside the "
                "function's domain (np.where with a safe argument in the branch not used), or move the point")

    error = NonFiniteError if worst.known else UnsupportedOperationError
    raise error(on_root(comm, explain))


def first_nonfinite(point: Point) -> NonFinite | None:
    """The first NaN or infinity among inputs, values and active partials, in program order; None if all is well.

    Reads every value, so the point must be complete, and computes every partial once.
    """
    local, values = point.local, point.values
    x = values.gather(local.inputs.ids)
    if not values.complete:
        raise RuntimeError("not all values were kept: look at point.completed(comm)")
    if not all_finite(x):
        i = int(np.argmin(np.isfinite(x)))
        return NonFinite(f"entry {local.inputs.positions[i]} of the inputs is {x[i]}", (-1, 0))
    partials = Partials(point)
    with np.errstate(all="ignore"):
        for s, step in enumerate(local.steps):
            for i in range(step.start, step.stop):
                item = local.items[i]
                found = (_bad_line(point, (s, i), item) if type(item) is ScalarRun
                         else _bad_statement(point, (s, i), item, partials))
                if found is not None:
                    return found
    return None


def _bad_statement(point: Point, order: tuple[int, int], item: Vector, partials: Partials) -> NonFinite | None:
    if 0 in item.shape:
        return None
    site = point.local.sites[item.site] if item.site >= 0 else None
    if type(item) is Statement:
        for k, (ref, rule) in enumerate(zip(item.operands, item.op.partials)):
            if rule is special.UNKNOWN and type(ref) is not Const:
                what = f"a further derivative of {item.op.name} in argument {k + 1}"
                return NonFinite(what, order, site, known=False)
    results = point.values.view(item.out, item.out_shape)
    candidates: list[Any] = [("the result", results)]
    if type(item) is Joint:
        wanted = [k in item.active for k in range(len(item.operands))]
        xbar = products.Products(item, point.values).adjoint(np.ones(item.out_shape), False, wanted)
        candidates += [("a sum of partial derivatives", x) for x in xbar if x is not None]
    else:
        found = partials.of(order[1], references=False)
        candidates += [("a partial derivative", p) for p in found if p is not None]
    for what, array in candidates:
        if not all_finite(array):
            array = np.asarray(array)
            what = f"{what} of {item.op.name} is {array[~np.isfinite(array)][0]}"
            return NonFinite(what, order, site)
    return None


def _bad_line(point: Point, order: tuple[int, int], item: ScalarRun) -> NonFinite | None:
    local = point.local
    k, value, is_partial = scalar.run_first_bad(*point.values.run(item))
    if k < 0:
        return None
    ids = local.run_ids.get(item.block)
    what = f"{'a partial derivative' if is_partial else 'the result'} of {OPS[item.op[k]].name} is {value}"
    return NonFinite(what, order, None, local.blocks[item.block].first + k if ids is None else int(ids[k]))
