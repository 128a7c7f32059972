"""A tape as a function: it is called, differentiated, recorded again, saved and loaded, without the function it came
from."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from mpi4py import MPI

from .comm import calling, chosen, on_root
from .errors import BranchChangedError, InputError, NoValueError
from .evaluate import Point, evaluate, evaluate_items
from .liveness import kept_blocks
from .nest import Nest
from .partition import whole
from .storage import MOST_LINES, Find, among, load_tape, save_tape
from .strided import BlockIndex
from .tape import UNREAD, Tape
from .tracing import Trace, is_leaf, running, trace
from .tracing.floating import aside
from .tracing.splice import plain_leaves, splice
from .tracing.tree import alike, flatten, is_number, require_real, unflatten


@dataclass(repr=False)
class Program(Tape):
    """A tape, called as the function it was recorded from: `tape(*args)` takes the arguments it was differentiated by.

    `dd.linearize`, `dd.grad`, `dd.recorded` and all others take it as they take functions; where it is called in a
    function that is being traced it becomes part of that one's tape, so it has derivatives of every order.  A decision
    that falls otherwise than when it was recorded raises `BranchChangedError`: there is no function to run again.

    Attributes
    ----------
    point : the arguments saved with it, a tuple; None if none were
    names : the names of its arguments, if they are known
    """

    point: tuple[Any, ...] | None = None
    names: tuple[str, ...] | None = None

    def __call__(self, *args: Any) -> Any:
        if self.in_tree is None:
            raise InputError("this rank has nothing of the tape, which rank 0 keeps: call it on rank 0 alone, or have "
                             "dd.linearize, dd.grad and the others take it, which evaluate it on all ranks")
        rec = running()
        leaves, spec = flatten(args, "arguments", is_leaf if rec is not None else is_number)
        self._fit(leaves, spec)
        plain = plain_leaves(leaves)
        local = whole(self)
        x = np.concatenate([leaf.reshape(-1) for leaf in plain])
        with without_function(self), aside():
            point = evaluate(local, x, MPI.COMM_SELF)
        self.require(point)
        if rec is None:
            values = point.values
            return unflatten(self.out_tree, [
                np.broadcast_to(values.operand(leaf.ref, leaf.shape), leaf.shape).copy()[()] for leaf in self.outputs])
        kept = kept_blocks(local, BlockIndex(self.blocks))
        arrays = [point.values.block(k) if keep else UNREAD for k, keep in enumerate(kept)]
        return unflatten(self.out_tree, splice(rec, self, leaves, arrays))

    def __repr__(self) -> str:
        if not self.blocks:
            return "<tape that rank 0 keeps>"
        nests = [Nest(tree, [leaf.shape for leaf in leaves])
                 for tree, leaves in ((self.in_tree, self.inputs), (self.out_tree, self.outputs))]
        names = f" of {', '.join(self.names)}" if self.names else ""
        return f"<tape{names}: {nests[0]} to {nests[1]}, {self.lines:,} lines>"

    def _fit(self, leaves: list[Any], spec: Any) -> None:
        """Raise `InputError` for arguments that the tape was not recorded for; they are real."""
        shapes = [leaf.shape for leaf in self.inputs]
        if not alike(spec, self.in_tree) or [np.shape(leaf) for leaf in leaves] != shapes:
            n, given = len(self.in_tree.children), len(spec.children)
            remedy = "a tape serves one shape" if given <= n else (
                f"it takes {n} of the function's arguments, those of argnums, and the others are constants in it: "
                f"dd.trace(f, ..., argnums={tuple(range(given))}) records all {given}")
            raise InputError(f"the tape was recorded for arguments nested as {self.in_tree} of shapes {shapes}, not as "
                             f"{spec} of shapes {[np.shape(leaf) for leaf in leaves]}; {remedy}")
        for k, leaf in enumerate(leaves):
            require_real(leaf, "the argument" if len(leaves) == 1 else f"leaf {k} of the arguments")

    def require(self, point: Point) -> None:
        """Raise `BranchChangedError` unless the decisions are as they were recorded."""
        for guard in point.broken_guards():
            site = self.sites[guard.site] if guard.site >= 0 else "its function"
            raise BranchChangedError(refusal(str(site)))

    @property
    def __signature__(self) -> inspect.Signature:
        """Its parameters by name, as far as they are known."""
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        n = len(self.in_tree.children) if self.in_tree is not None else 0
        names = self.names or tuple(f"x{k}" for k in range(n))
        return inspect.Signature([inspect.Parameter(name, kind) for name in names])

    def save(self, path: str | os.PathLike[str], point: tuple[Any, ...] | None = None) -> None:
        """Write the tape to a file that `dd.load` reads: structure, constants, guards, and the user's lines.

        `point`, a tuple of arguments, is saved with it.  No pickle; `distdiff.storage` says what is in the file.  It is
        written under a temporary name beside `path`, which is renamed at the end.  Not collective: on ranks that have
        no tape (all but 0 after `dd.trace`) it does nothing.
        """
        if not self.blocks:
            return
        leaves = None
        if point is not None:
            found, spec = flatten(tuple(point), "point", is_number)
            self._fit(found, spec)
            leaves = plain_leaves(found)
        save_tape(self, path, leaves, self.names)


def refusal(site: str) -> str:
    """What a tape without a function says where a decision falls otherwise."""
    return (f"at this point a comparison ({site}) goes another way than when the tape was recorded, and a tape alone "
            "can't be traced again: record its function at this point")


@contextmanager
def without_function(f: Any) -> Iterator[None]:
    """While the body evaluates f, if that is a tape: where an operation fails there is no function to ask whether it
    goes another way, or to say what went wrong."""
    try:
        yield
    except np.linalg.LinAlgError as error:
        if not isinstance(f, Tape):
            raise
        said = " ".join([str(error), *getattr(error, "__notes__", ())])
        raise NoValueError(
            f"the tape has no value at this point: {said}. The function it was recorded from may go another way there, "
            "which a tape alone can't: record it at this point, or move the point") from error


@calling("load")
def load(path: str | os.PathLike[str], *, rules: Iterable[Any] = (), most_lines: int = MOST_LINES,
         comm: MPI.Comm | None = None) -> Program:
    """The tape in a file, ready for `dd.linearize(tape, x)`, `dd.grad(tape)(x)`, `tape(x)`.  Collective.

    rules: functions with rules (`dd.custom_jvp`, `custom_vjp`, `elemental`) that the function called when it was
    traced.  They are code, which the file only names: nothing is imported for it.  Found by their names; more may be
    given than are called.

    Rank 0 reads and keeps it; other ranks get an empty one, to be handed to the same calls.  Raises `FormatError` for a
    file that is damaged, truncated, newer than this version, made to mislead, or of more than `most_lines` lines;
    `RuleError` where a rule is missing, or takes other arguments than that of the file.
    """
    found = among([rules] if hasattr(type(rules), "rule_kind") or not isinstance(rules, Iterable) else rules)
    return loaded(path, found, most_lines, chosen(comm))


def loaded(path: str | os.PathLike[str], find: Find, most_lines: int, comm: MPI.Comm) -> Program:
    """`load`, with a function that finds the rules that the tape calls, on rank 0.  Collective."""
    def read() -> Program:
        tape, leaves, names = load_tape(path, most_lines, find)
        point = None if leaves is None else unflatten(tape.in_tree, [leaf[()] for leaf in leaves])
        return Program(**vars(tape), point=point, names=names)

    program = on_root(comm, read, share=False)
    return Program() if program is None else program


def record(f: Any, args: tuple[Any, ...], *, argnums: int | tuple[int, ...] = 0, **keywords: Any) -> Trace:
    """`trace`, or a tape itself where f is one that is differentiated by all its arguments: nothing is run."""
    numbers = (argnums,) if isinstance(argnums, (int, np.integer)) else argnums
    every = tuple(range(len(args)))
    if not isinstance(f, Program) or tuple(k % max(len(args), 1) for k in numbers) != every or keywords.get(
            "has_aux") or keywords.get("kwargs"):
        return trace(f, args, argnums=argnums, evaluate=evaluate_items, **keywords)
    leaves, spec = flatten(args, "arguments")
    f._fit(leaves, spec)
    return Trace(replace(f, items=list(f.items)), None, None, elsewhere=True)  # ranks take their shares out of the list
