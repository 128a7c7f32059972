"""What every rank knows of a traced function: counts, structure, and how arguments and results nest."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import fields
from typing import Any

import numpy as np

from . import graph
from .machine import current
from .nest import Nest
from .partition import Quality
from .partition.candidates import ALONE
from .partition.placement import COLUMNS
from .partition.quality import Promise
from .solvers.held import Held
from .solvers.layouts import Use
from .tape import Const, Joint, Tape
from .tracing.tree import flatten

WHOLE = (ALONE, COLUMNS)  # layouts in which a rank has all of a program
WANTED = "the layout, the method or a single derivative, whose point rank 0 has solved at, wants it so"


class Facts:
    """Made on rank 0, structure only: it travels to all."""

    n_inputs: int
    n_outputs: int
    guards: int
    lines: int
    x: np.ndarray | None  # the point, dropped once shared
    inputs: Nest
    outputs: Nest
    constants: list[tuple[int, np.ndarray]]
    tape: Tape | None  # on one rank, for `structure`
    elsewhere: bool  # the tape was recorded at another point, so its guards have to be looked at
    partition: str
    everywhere: bool  # every rank has the whole program
    alone: bool  # one of several has it
    candidates: list[Any]
    equations: list[str]  # of implicit statements: where each lies on several ranks, and why

    @classmethod
    def of(cls, tape: Tape, plan: Any, args: tuple[Any, ...], argnums: int | tuple[int, ...],
           elsewhere: bool = False) -> Facts:
        self = cls()
        self.elsewhere = elsewhere
        self.n_inputs, self.n_outputs, self.guards = tape.n_inputs, tape.n_outputs, len(tape.guards)
        tree = args[argnums] if isinstance(argnums, int) else tuple(args[k] for k in argnums)
        leaves, in_spec = flatten(tree)
        self.x = np.concatenate([np.asarray(leaf, dtype=float).ravel() for leaf in leaves])
        self.inputs = Nest(in_spec, [leaf.shape for leaf in tape.inputs])
        self.outputs = Nest(tape.out_tree, [leaf.shape for leaf in tape.outputs])
        self.lines = tape.lines
        self.constants = [(start, np.broadcast_to(leaf.ref.value, leaf.shape).copy())
                          for start, leaf in zip(self.outputs.bounds, tape.outputs) if isinstance(leaf.ref, Const)]
        self.tape = tape
        if plan is not None:  # the tape does not stay
            self.tape = plan.survey = None
        self.partition = "one rank" if plan is None else plan.name
        self.everywhere = plan is not None and plan.everywhere
        self.alone = plan is not None and plan.plan is None and not plan.everywhere
        self.candidates = [] if plan is None else plan.summary()
        self.equations = [] if plan is None else _equations(tape, plan)
        return self

    @property
    def known(self) -> bool:
        """Whether the structure is there, or can be found in the tape."""
        return self.tape is not None or "structure" in vars(self)

    @functools.cached_property
    def structure(self) -> graph.Structure:
        """Levels and shape, found when somebody asks: for small arrays that takes longer than the trace.

        On several ranks the linearization puts it here (`Source.structure`).
        """
        assert self.tape is not None
        return graph.analyse(self.tape, current())

    def foresee(self, held: Held | None, use: Use) -> None:
        """Have every candidate's memory be what it is predicted to hold: until now it was what it holds at most."""
        for candidate in self.candidates if held is not None else ():
            quality = Quality(**{field.name: candidate[field.name] for field in fields(Quality)})
            candidate["job"] |= {"at_most": False, "memory": held.by(
                candidate["name"] in WHOLE, quality, Promise(**candidate["job"]), use)}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "x"}  # the point travels as a buffer

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, x=None)


def _equations(tape: Tape, plan: Any) -> list[str]:
    shared = {id(one.whole) for one in plan.plan.shared} if plan.plan is not None else set()
    found: Counter[str] = Counter()
    for item in tape.items:
        if type(item) is not Joint or not item.op.implicit:
            continue
        where = f"shared by {plan.n_ranks} ranks" if id(item.op) in shared else (
            f"on one rank: {item.op.alone or WANTED}")
        site = f" at {tape.sites[item.site]}" if item.site >= 0 else ""
        found[f"{item.op.core_in[0][0]:,} unknowns{site}, {where}"] += 1
    return [text if n == 1 else f"{n} times {text}" for text, n in found.items()]
