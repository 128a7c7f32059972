"""What a trace holds under: the decisions that the function took by values, as guards of its tape."""

from __future__ import annotations

from array import array

import numpy as np

from ..errors import UnsupportedOperationError
from ..tape import Affine, Guard, Indexed, Tape
from .sites import Sites


class Decisions(Sites):
    """Guards of a tape that is being written."""

    def __init__(self, tape: Tape) -> None:
        super().__init__(tape)
        self.running = False  # the user's function runs
        self.capturing = 0  # depth of implicit statements' equations that are being recorded: values they read are kept
        self.point: list[np.ndarray] = []  # the arguments' leaves, as they came
        self.caught: UnsupportedOperationError | None = None  # what an equation may have caught, which no guard can say
        self._failed = False  # an operation raised, and a guard says where
        self._guards: dict[int, tuple[array, array]] = {}  # scalar decisions, by site: ids, values

    def guard(self, ref: Affine | Indexed, expected: np.ndarray) -> None:
        """The trace holds only where these nodes have these values."""
        if not self.open:
            self.over()
        self.tape.guards.append(Guard(ref, expected, self.site()))

    def guard_scalar(self, node: int, expected: float) -> None:
        """The same for one node, in flat arrays: a loop may decide a million times."""
        if not self.open:
            self.over()
        site = self.site()
        ids, values = self._guards.setdefault(site, (array("q"), array("d")))
        ids.append(node)
        values.append(expected)

    def guard_nodes(self, ids: np.ndarray, values: np.ndarray, site: int) -> None:
        """The same for many nodes, int64 and float64."""
        known_ids, known_values = self._guards.setdefault(site, (array("q"), array("d")))
        known_ids.frombytes(ids.tobytes())
        known_values.frombytes(values.tobytes())

    def failed(self) -> None:
        """An operation has raised, which may depend on values, or will where NumPy's floating-point errors come up.

        As the function may catch that and go on, another point may see another course: the tape holds at this one only.
        No guard can say so of an equation, which is solved at many points: where its function goes on it is refused.
        """
        if self._failed or not self.running or not self.open:
            return
        if self.capturing:
            self.caught = self.caught or self.refused(
                "an equation's function goes on where an operation has failed, or errors are raised",
                "its course at other points can't be checked. Decide by numbers: x != 0.0, "
                "np.linalg.eigvalsh(a)[0] > 0.0, np.where")
            return
        self._failed = True
        for leaf, x in zip(self.tape.inputs, self.point):
            assert type(leaf.ref) is Affine
            self.guard(leaf.ref, np.array(x, dtype=np.float64))

    def decisions(self) -> tuple[int, dict[int, int]]:
        """How many there are, for `forget`."""
        return len(self.tape.guards), {site: len(ids) for site, (ids, _) in self._guards.items()}

    def forget(self, decisions: tuple[int, dict[int, int]]) -> bool:
        """Take back the guards that came after; returns whether there were any."""
        count, lengths = decisions
        found = len(self.tape.guards) > count or self.decisions()[1] != lengths
        del self.tape.guards[count:]
        self._failed = False
        for site, (ids, values) in list(self._guards.items()):
            del ids[lengths.get(site, 0):], values[lengths.get(site, 0):]
            if not ids:
                del self._guards[site]
        return found

    def _close_guards(self) -> None:
        """The decisions so far are guards of the tape."""
        for site, (ids, values) in self._guards.items():
            expected = np.array(values)
            if ((expected == 0.0) | (expected == 1.0)).all():
                expected = expected.astype(bool)  # an eighth of the memory, where comparisons decide
            self.tape.guards.append(Guard(Indexed(np.array(ids)), expected, site))
        self._guards.clear()


__all__ = ["Decisions"]
