"""How many requests a solve answers: as many as pay, by the cost model of the method that solves.

A request takes the service

    (turn + T(m)) / m  +  request        T(m) predicted for one pass with m right-hand sides

when m are solved together.  Where T grows as m does, as for array code whose values stay in cache, little is left to
gain beyond a few, and the wider a batch, the longer everybody waits for everybody: HTTP has nothing to do while a batch
of all who ask is solved, and nothing is solved while all of them ask anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

TURN = 3e-4  # seconds that a turn takes beside its solve: a command, agreements, and threads that wait for each other
REQUEST = 3e-4  # ... and HTTP a request, however it is solved
SLACK = 0.1  # of what a request takes at best, for which no more requests are solved together


class Width(NamedTuple):
    """most : requests that one solve answers;  seconds : predicted for a solve, by how many it answers."""

    most: int
    seconds: dict[int, float]

    def reason(self) -> str:
        """Why so many."""
        each = {m: seconds / m for m, seconds in self.seconds.items()}
        told = ", ".join(f"{1e6 * each[m]:.3g} us {_among(m)}" for m in dict.fromkeys((1, self.most, max(each))))
        last = "" if self.most == max(each) else f"; more together save less than {SLACK:.0%} of a request"
        return f"{'one by one' if self.most == 1 else f'up to {self.most} a solve'}: predicted {told}{last}"


def _among(m: int) -> str:
    return "alone" if m == 1 else f"each of {m}"


def widest(predicted: Callable[[int], float | None], at_once: int) -> Width:
    """The narrowest batch whose requests take next to nothing more than in the best of those up to `at_once`.

    predicted: seconds of a pass with so many right-hand sides, or None where nobody can say; then all that come are
    solved together.
    """
    found: dict[int, float] = {}
    for m in [1 << k for k in range(at_once.bit_length() - 1)] + [at_once]:
        seconds = predicted(m)
        if seconds is None:
            return Width(at_once, {})
        found[m] = seconds
    requests = {m: (TURN + seconds) / m + REQUEST for m, seconds in found.items()}
    best = min(requests.values())
    return Width(next(m for m, seconds in requests.items() if seconds <= (1 + SLACK) * best), found)


__all__ = ["Width", "widest"]
