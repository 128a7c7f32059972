"""Which method solves the system: every method's own predicted cost (`cost`), compared and explained."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import InputError
from ..machine import Machine
from . import METHODS, method
from .cost import Cost, Method, Work

# Entries beyond operands and results by which products may be written out where that costs less: a matrix of 6 MB, and
# at 1000 columns a tenth of the time for small layers of a network; cubes of anything larger stay products.
WRITTEN_OUT = 1 << 19
UNSHARED = Cost.none("an implicit statement is shared by several ranks, whose rows it does not assemble")


@dataclass(frozen=True)
class Candidate:
    """A method, its predicted cost for the job at hand, and why it was or wasn't taken."""

    method: str
    seconds: float | None  # None: not applicable
    memory: float  # bytes on the fullest rank, beside tape and values
    reason: str


@dataclass(frozen=True)
class Choice:
    """The method to use and how it was found."""

    method: str
    reason: str
    candidates: tuple[Candidate, ...]


def check_method(name: str) -> None:
    """Raise `InputError` for a method that does not exist."""
    if name != "auto" and name not in METHODS:
        raise InputError(f"method {name!r} does not exist; choose 'auto' or one of {', '.join(METHODS)}")


def costs(work: Work, columns: int, machine: Machine, points: int = 1) -> dict[str, Cost]:
    """Every method's cost for `columns` right-hand sides at one of so many points, set-up included: what a method finds
    out of the program's structure it finds at the first of them, and each bears its part of that."""
    first = _costs(work, columns, machine)
    if points == 1:
        return first
    found = {}
    there = replace(work, planned=True, bound=True, expanded=True)
    for name, further in _costs(there, columns, machine).items():
        once, again = first[name].seconds, further.seconds
        found[name] = first[name] if once is None or again is None else replace(
            first[name], seconds=(once + (points - 1) * again) / points)
    return found


def _costs(work: Work, columns: int, machine: Machine) -> dict[str, Cost]:
    return {name: UNSHARED if work.shared and method(name).assembled else _agreed(
        method(name), work, max(columns, 1), machine) for name in METHODS}


def _agreed(way: Method, work: Work, columns: int, machine: Machine) -> Cost:
    """A method's cost, and on several ranks that of their agreements on failures, one for all right-hand sides that the
    method sees at once."""
    cost = way.cost(work, columns, machine)
    if cost.seconds is None or work.ranks == 1:
        return cost
    calls = -(-columns // (work.together * (way.at_once if work.together > 1 else 1)))
    return replace(cost, seconds=cost.seconds + calls * machine.agreement)


def choose(work: Work, columns: int, machine: Machine, wanted: str = "auto", points: int = 1) -> Choice:
    """The cheapest method for `columns` right-hand sides at each of so many points, or the one asked for."""
    check_method(wanted)
    found = costs(work, columns, machine, points)
    seconds = {name: cost.seconds for name, cost in found.items() if cost.seconds is not None}
    unasked = work.exploded > WRITTEN_OUT and not work.assembled
    if unasked:  # dense products stay products
        found = {name: replace(cost, reason=f"{cost.reason}; {_too_many(work)}") if method(name).assembled else cost
                 for name, cost in found.items()}
    ranked = sorted(seconds, key=lambda name: (unasked and method(name).assembled, seconds[name]))
    best = ranked[0]
    taken = best if wanted == "auto" else wanted
    candidates = tuple(Candidate(name, cost.seconds, cost.memory, _against(taken, name, seconds, cost.reason))
                       for name, cost in found.items())
    if wanted != "auto":
        return Choice(taken, f"asked for; the cost model's own choice is {best}", candidates)
    plural = "s" if columns != 1 else ""
    after = f", next {ranked[1]} {seconds[ranked[1]]:.3g} s" if len(ranked) > 1 else ""
    at = f" at one of {points} points" if points > 1 else ""
    reason = (f"cheapest for {columns} right-hand side{plural}{at}: predicted {seconds[best]:.3g} s{after}; "
              f"{found[best].reason}")
    return Choice(best, reason, candidates)


def _too_many(work: Work) -> str:
    return (f"writes dense products out, by {work.exploded:.3g} entries more than they read, which is done only where "
            "it is asked for by name")


def _against(taken: str, name: str, seconds: dict[str, float], reason: str) -> str:
    """The reason, with how many times the taken method's cost it is where that is more."""
    if name in seconds and taken in seconds and seconds[name] > seconds[taken]:
        return f"{seconds[name] / seconds[taken]:.3g}x the cost of {taken}; {reason}"
    return reason
