"""How long users' rules may keep a process that others wait for.

A rule is foreign code that ranks run while they solve, and nothing makes it return.  Where there is a limit (`limit`; a
service has one), a timer looks while a rule is called: once the rules of a stretch of work (`anew`) have taken too
long, or nobody wants the work any more, it raises where the rule is, which is then an error of the pass like any that a
rule raises.  That needs the rule to be in Python, or to come back to it.  One that does not, inside of compiled code,
can't be left: GRACE seconds later the process says where it is and ends, and the job with it.

Calls are looked at on the main thread, on which Python hears signals; on others, and without a limit, nothing is done.
"""

from __future__ import annotations

import faulthandler
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .cancellation import unwanted
from .errors import CancelledError, OverdueError

LOOK = 0.1  # seconds between looks
GRACE = 10.0  # seconds for coming back to Python
LONGEST = 1e9  # seconds that timers count up to


class _Limit:
    """seconds: for the rules of one stretch of work on this rank;  option: what sets it."""

    def __init__(self, seconds: float, option: str) -> None:
        self.seconds, self.option = seconds, option
        self.left = seconds
        self._name: str | None = None  # what is being called
        self._since = 0.0
        signal.signal(signal.SIGALRM, self._look)

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        if self._name is not None or threading.current_thread() is not threading.main_thread():
            yield  # a rule that calls another
            return
        if self.left <= 0.0:
            raise self._overdue(name)
        self._since = time.monotonic()
        self._name = name
        try:
            signal.setitimer(signal.ITIMER_REAL, LOOK, LOOK)
            if math.isfinite(self.left):
                faulthandler.dump_traceback_later(min(self.left + GRACE, LONGEST), exit=True)
            try:
                yield
            finally:
                self._name = None  # before all else: from now on nothing is raised
        finally:
            self._name = None
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            faulthandler.cancel_dump_traceback_later()
            self.left -= time.monotonic() - self._since

    def _look(self, number: int, frame: Any) -> None:
        """Where the rule is; again and again, should it go on all the same."""
        name = self._name
        if name is None:
            return
        if unwanted():
            raise CancelledError(f"this was cancelled while {name} ran")
        if time.monotonic() - self._since > self.left:
            raise self._overdue(name)

    def _overdue(self, name: str) -> OverdueError:
        return OverdueError(f"{name} was left where it was: with all that was called before, it has taken the "
                            f"{self.seconds:g} s that rules may take on a rank; it never returns, or wants a larger "
                            f"{self.option}")


_limit: _Limit | None = None


def limit(seconds: float, option: str) -> None:
    """From now on this process leaves rules that take longer; option: what an error names as the remedy."""
    global _limit
    _limit = _Limit(seconds, option)


def anew() -> None:
    """Another stretch of work begins: its rules have all the time that there is."""
    if _limit is not None:
        _limit.left = _limit.seconds


@contextmanager
def within(name: str) -> Iterator[None]:
    """The body is foreign code: `OverdueError` or `CancelledError` where it takes too long for who waits."""
    if _limit is None:
        yield
        return
    with _limit.call(name):
        yield


def limited() -> bool:
    """Whether there is a limit: asked by who calls rules again and again."""
    return _limit is not None


__all__ = ["anew", "limit", "limited", "within"]
