"""What further solves take in fact, beside what the cost model said of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

LATEST = 64  # solves that the median is of
OFF = 3.0  # times longer or shorter than predicted that are worth a word ...
CALL = 5e-4  # ... where that many seconds lie between: below, calls and ranks' agreement on them are most of it


@dataclass(frozen=True)
class Measured:
    """The median of the latest solves of one width by one method, the first of them left out: it sets up."""

    method: str
    columns: int
    solves: int
    seconds: float
    predicted: float | None  # None: nobody knows the method's

    @property
    def off(self) -> float:
        """How many times longer than predicted; 1 where nothing was."""
        return self.seconds / self.predicted if self.predicted else 1.0

    @property
    def verdict(self) -> str:
        """What follows where a prediction does not hold, else nothing."""
        if self.predicted is None or abs(self.seconds - self.predicted) < CALL or 1.0 / OFF < self.off < OFF:
            return ""
        return (f"{self.off:.2g} times as long as predicted: this machine's rates, by which methods and layouts are "
                "chosen, are others; 'distdiff calibrate' measures them, and method= and partition= overrule them")


class Clock:
    """Seconds of the latest solves, by method and width.  Local."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, int], deque[float]] = {}

    def note(self, method: str, columns: int, seconds: float) -> None:
        taken = self._taken.get((method, columns))
        if taken is None:
            self._taken[method, columns] = deque(maxlen=LATEST)
        else:
            taken.append(seconds)

    def measured(self, method: str, predicted: Callable[[int], float | None]) -> Measured | None:
        """Of the width that this method solved for most often; None before its second solve of any.

        predicted: seconds of a pass of so many columns.
        """
        widths = {columns: taken for (name, columns), taken in self._taken.items() if name == method and taken}
        if not widths:
            return None
        columns = max(widths, key=lambda width: len(widths[width]))
        taken = widths[columns]
        return Measured(method, columns, len(taken), median(taken), predicted(columns))


__all__ = ["Clock", "Measured"]
