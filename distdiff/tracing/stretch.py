"""A function called inside a trace, to be differentiated there: the derivative of a tape is a program on traced arrays.

The function runs on copies of its arguments, and what it computes is recorded on the tape that is being written like
everything else.  This stretch of the tape is what `pullback` and `pushforward` walk through, backwards or forwards,
with the same rules that fill L, evaluated on traced values:

    lam[operand] += p lam[result]        ydot[result] = sum p ydot[operand]

All of that is recorded too.  So a derivative is part of the function around it, whose derivative is one more solve, and
derivatives nest to any order.  Only ways that begin at the copies count: a variable of the function around that the
inner one uses as well is a constant here, and a variable for the next derivative outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from ..ops import COPY, OPS
from ..tape import Affine, Const, Joint, Operand, ScalarRun
from . import tree
from .array import TracedArray, compact, is_traced, own, read_only
from .boxes import Index, whole
from .dependence import activity
from .holding import held, hold, traced_within
from .layout import copied
from .primals import Primals, grouped
from .recorder import Recorder
from .scalar import TracedScalar
from .undetermined import refuse_used


class Leaf(NamedTuple):
    """One array (or number) among arguments or results: the nodes that carry it, box by box."""

    shape: Index
    boxes: list[tuple[Index, Index, Operand]]


class Stretch:
    """f(*args) on the tape that is being written, with copies of the arguments at `argnums`.

    `value` is the result, `aux` what f returned beside it; `inputs` and `outputs` are the leaves of both, nested as
    `in_spec` and `out_spec`.
    """

    def __init__(self, rec: Recorder, f: Callable[..., Any], args: Sequence[Any], argnums: int | tuple[int, ...],
                 kwargs: dict[str, Any], has_aux: bool) -> None:
        self.rec = rec
        rec.keep()
        if rec.primals is None:
            rec.primals = Primals(rec)
        self.primals: Primals = rec.primals
        numbers = (argnums,) if isinstance(argnums, (int, np.integer)) else tuple(argnums)
        check_numbers(numbers, len(args))
        chosen = [args[k] for k in numbers]
        leaves, self.in_spec = tree.flatten(
            chosen[0] if isinstance(argnums, (int, np.integer)) else tuple(chosen), f"argument {argnums}", is_leaf)
        copies = [_copied(rec, as_leaf(rec, leaf)) for leaf in leaves]
        nested = tree.unflatten(self.in_spec, copies)
        met: dict[int, Any] = {}
        all_args = [tree.fresh(arg, hold, met) for arg in args]
        for k, part in zip(numbers, (nested,) if isinstance(argnums, (int, np.integer)) else nested):
            all_args[k] = part
        rec.flush()
        self.inputs = [_leaf(rec, x) for x in copies]
        self.site = rec.site_of(f)
        start = len(rec.tape.items)
        result = f(*all_args, **tree.fresh(kwargs, hold, met))
        self.aux = None
        if has_aux:
            if not isinstance(result, tuple) or len(result) != 2:
                raise InputError("has_aux=True wants a function that returns (result, aux), not a "
                                 f"{type(result).__name__}")
            result, self.aux = result
        if result is None:
            raise InputError("the function returned None: it must return what is to be differentiated (is a return "
                             "missing?)")
        leaves, self.out_spec = tree.flatten(result, "the function's result", is_leaf)
        leaves = [as_leaf(rec, leaf) for leaf in leaves]
        self.outputs = [_leaf(rec, x) for x in leaves]
        self.value = tree.unflatten(self.out_spec, leaves)
        rec.flush()
        refuse_used(rec, ((ref, tuple(b - a for a, b in zip(lo, hi))) for leaf in self.outputs
                          for lo, hi, ref in leaf.boxes))
        self.groups = list(grouped(rec, rec.tape.items[start:]))
        self.lines: dict[int, Any] = {}  # runs that are prepared to be walked through (`runs`), by block
        self.active: dict[int, bool | np.ndarray] = {}  # blocks that depend on the copies: whole, or lines of a run
        self._activate()

    # -- what depends on the copies ----------------------------------------------------------------------------------

    def _activate(self) -> None:
        active = self.active
        for leaf in self.inputs:
            for _, _, ref in leaf.boxes:
                if not self.primals.is_run(ref.block):
                    active[ref.block] = True
                else:
                    size = self.rec.tape.blocks[ref.block].size
                    active.setdefault(ref.block, np.zeros(size, dtype=bool))[ref.offset] = True
        for group in self.groups:
            if type(group) is ScalarRun:
                self._activate_run(group)
            elif type(group) is Joint:
                if any(self.depends(group.operands[k], group.operand_shape(k)) for k in group.active):
                    active[group.out.block] = True
            elif any(rule is not None and self.depends(ref, tuple(b - a for a, b in zip(lo, hi)))
                     for lo, hi, refs in group.boxes for rule, ref in zip(group.op.partials, refs)):
                active[group.out.block] = True

    def _activate_run(self, run: ScalarRun) -> None:
        first, n = self.rec.firsts[run.block], len(run.op)
        known = activity(run, first, self.node_depends)
        if known is not None:
            if known.any():
                self.active[run.block] = known
            return
        outside = {j for j in {*run.a.tolist(), *run.b.tolist()} if 0 <= j < first and self.node_depends(j)}
        if not outside:
            return
        mask = [False] * n
        for i, (code, *operands) in enumerate(zip(run.op.tolist(), run.a.tolist(), run.b.tolist())):
            for rule, j in zip(OPS[code].partials, operands):
                if rule is not None and j >= 0 and (mask[j - first] if j >= first else j in outside):
                    mask[i] = True
        if any(mask):
            self.active[run.block] = np.array(mask)

    def node_depends(self, node: int) -> bool:
        block = self.rec.block_of(node)
        known = self.active.get(block, False)
        return known if isinstance(known, bool) else bool(known[node - self.rec.firsts[block]])

    def depends(self, ref: Operand, shape: Index) -> bool:
        """Whether a reference has nodes that depend on the copies."""
        if type(ref) is Affine:
            known = self.active.get(ref.block, False)
            if isinstance(known, bool):
                return known
            return bool(known[ref.ids(0, shape)].any())
        if type(ref) is Const:
            return False
        owners = np.unique(np.searchsorted(self.rec.firsts, ref.ids, side="right") - 1)
        return any(block in self.active for block in owners.tolist())

    @contextmanager
    def recording(self) -> Iterator[None]:
        """What is recorded in the body stands on the lines that it is the derivative of."""
        rec = self.rec
        if not rec.open:
            rec.unsupported("a derivative of a function inside a trace, asked for after that trace was over",
                            "call the pullback inside, and return what it gives")
        before = rec.stand(self.site)
        try:
            with np.errstate(all="ignore"):
                yield
        finally:
            rec.stand(before)


def check_numbers(numbers: tuple[int, ...], n_args: int) -> None:
    """Raise `InputError` where argnums name no argument, or one twice."""
    for k in numbers:
        if not isinstance(k, (int, np.integer)) or not -n_args <= k < n_args:
            raise InputError(f"argnums={k!r}, but the function is called with {n_args} positional arguments")
    if not numbers or len({k % n_args for k in numbers}) != len(numbers):
        raise InputError(f"argnums={numbers!r}: name every argument to differentiate once")


def is_leaf(x: Any) -> bool:
    """What counts as a number or an array among arguments and results inside a trace."""
    return tree.is_number(x) or is_traced(x) or traced_within(x) is not None


def as_leaf(rec: Recorder, x: Any) -> Any:
    """A leaf as traced array or scalar, or as plain number or array."""
    x = held(x)
    if is_traced(x):
        own(rec, x)
        return x.scalar() if type(x) is TracedArray and not x.ndim else x
    if isinstance(x, np.ndarray) and x.dtype == object:
        return rec.array_of(x)
    x = np.asarray(x) if not isinstance(x, float) else np.float64(x)
    if x.dtype.kind == "c":
        rec.unsupported("a complex argument or result of a function that is differentiated", "derivatives here are "
                        "those of real functions; use real and imaginary parts as two arrays")
    return x if x.ndim else x.item()


def _copied(rec: Recorder, x: Any) -> Any:
    """An argument on fresh nodes."""
    dtype = x.dtype if is_traced(x) else np.asarray(x).dtype
    if dtype.kind != "f":
        raise InputError(f"an argument to differentiate with respect to holds {dtype} values; derivatives are taken "
                         "with respect to floats: write 1.0 for 1, or use x.astype(float)")
    if np.ndim(x):
        if not np.size(x):
            raise InputError(f"an argument to differentiate with respect to is an empty array of shape {np.shape(x)}")
        x = x if is_traced(x) else rec.array_of(x)
        copy = copied(compact(x), np.array(x.nd, order="K")) if tree.layout(x.window) else compact(x)
        return copy if x.window.flags.writeable else read_only(copy)
    return rec.scalar_op(COPY, (x,))


def _leaf(rec: Recorder, x: Any) -> Leaf:
    """Where a leaf lies on the tape now."""
    if type(x) is TracedArray:
        lowered = x.st.lower(x.nd, x.shape)
        if type(lowered) is list:
            return Leaf(x.shape, list(lowered))
        return Leaf(x.shape, list(whole(x.shape, lowered)))
    if isinstance(x, TracedScalar):
        return Leaf((), [((), (), rec.node(x.i))])
    return Leaf(np.shape(x), [((0,) * np.ndim(x), np.shape(x), Const(x))])
