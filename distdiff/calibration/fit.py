"""From timings to rates: non-negative, by relative errors, outliers bounded, with what it becomes without each program.

A stage's seconds are a sum of amounts times rates, beside what other rates are known to take.  That is added to what is
predicted and never taken off what was measured: little or less than nothing would be left of some programs, and errors
relative to that would decide.  The rates are fitted to all programs at once; the weight of what lies far off is bounded
(Huber, Robust Statistics, 1981), so one disturbed timing can't shift a rate far.  Where the programs can't tell two
rates apart, a weak pull to the defaults (ridge regression) keeps either from being all of it and the other nothing.  A
rate's spread is what it becomes when any one program is left out, and every program is predicted from a fit without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np

from ..machine import Machine

PULL = 0.1  # of a program's weight, for a rate to be what it is on the machine that the defaults are from
OUTLIER = 0.3  # relative errors beyond count as if they were so large
FLOORS = {  # seconds that decide nothing
    "planning a sweep": 200e-6, "a sweep's first batch": 200e-6,
    "a pass of a sweep": 10e-6, "a sweep's further columns": 2e-6, "a walk": 20e-6,
    "an equation's system": 200e-6, "an equation's solve": 20e-6, "an equation's further columns": 1e-6,
    "assembling": 200e-6, "evaluating": 20e-6, "new values": 100e-6, "substitution: further columns": 0.2e-6,
    "substitution: little kept": 20e-6,
    "looking: axes": 1e-3, "looking: growlocal": 1e-3, "looking: pt-scotch": 1e-3,
    "planning supersteps": 1e-3, "assembled rows on ranks": 20e-6, "interfaces": 20e-6}


class Sample(NamedTuple):
    """Seconds of one stage of one program, and how much of what it takes: rate -> amount."""

    stage: str
    program: str
    amounts: dict[str, float]
    seconds: list[float]
    known: float = 0.0  # of these seconds, what other rates are known to take


@dataclass(frozen=True)
class Fitted:
    """The rates of one stage, their spread when a program is left out, and how its programs are predicted."""

    stage: str
    rates: dict[str, float]
    spread: dict[str, tuple[float, float]]
    ratios: dict[str, float]  # program -> predicted without it / measured
    unrest: float = 1.0  # how much longer than at best the same thing usually took


def fit(stage: str, samples: list[Sample]) -> Fitted:
    """The rates that explain a stage's samples, with their spread and the held-out predictions."""
    names = list(dict.fromkeys(name for sample in samples for name, amount in sample.amounts.items() if amount))
    X = np.array([[sample.amounts.get(name, 0.0) for name in names] for sample in samples])
    y = np.array([median(sample.seconds) for sample in samples])
    programs = [sample.program for sample in samples]
    known = np.array([sample.known for sample in samples])
    floor = FLOORS.get(stage, 0.0)
    usual = np.array([getattr(Machine(), name) for name in names])
    rates = _robust(X, y, known, floor, usual)
    spread = {name: (rate, rate) for name, rate in zip(names, rates)}
    ratios = {}
    for program in dict.fromkeys(programs):
        out = np.array([p == program for p in programs])
        if out.all():
            continue
        told = (X[~out] != 0).any(axis=0)
        without = _robust(X[~out], y[~out], known[~out], floor, usual)
        spread = {name: (min(lo, r), max(hi, r)) if k else (lo, hi)
                  for (name, (lo, hi)), r, k in zip(spread.items(), without, told)}
        if not (X[out][:, ~told] != 0).any():  # else it alone tells of a rate
            predicted = X[out] @ without + known[out]
            ratios[program] = float(np.exp(np.mean(np.log((predicted + floor) / (y[out] + floor)))))
    return Fitted(stage, dict(zip(names, map(float, rates))), spread, ratios, unrest([s.seconds for s in samples]))


def unrest(repeats: list[list[float]]) -> float:
    """How much longer than at best the same thing usually took: the median of  median / least  over all things."""
    return median(median(times) / max(min(times), 1e-12) for times in repeats)


def _robust(X: np.ndarray, y: np.ndarray, known: np.ndarray, floor: float, usual: np.ndarray) -> np.ndarray:
    """Non-negative rates r with X r + known about y, bounded by OUTLIER: least squares of
    log((X r + known + floor) / (y + floor)).

    That a rate is the usual one counts as a timing of PULL's weight.
    """
    from scipy.optimize import nnls

    most = np.abs(X).max(axis=0, initial=0.0)
    scale = np.where(most > 0, most, 1.0 / usual)
    rows = np.vstack([X / scale, np.diag(1.0 / scale)])
    wanted = np.concatenate([y + floor, usual])
    least = np.concatenate([known + floor, np.zeros(len(usual))])
    trust = np.concatenate([np.ones(len(y)), np.full(len(usual), PULL)])
    weight = trust / wanted
    for _ in range(12):
        rates, _ = nnls(rows * weight[:, None], (wanted - least) * weight)
        predicted = np.maximum(rows @ rates, 1e-3 * (wanted - least)) + least
        error = np.abs(np.log(predicted / wanted))
        weight = trust * np.sqrt(np.minimum(1.0, OUTLIER / np.maximum(error, 1e-12)) / (wanted * predicted))
    return np.asarray(rates / scale)


def fit_all(samples: list[Sample]) -> list[Fitted]:
    by_stage: dict[str, list[Sample]] = {}
    for sample in samples:
        by_stage.setdefault(sample.stage, []).append(sample)
    return [fit(stage, of) for stage, of in by_stage.items()]


__all__ = ["Fitted", "Sample", "fit", "fit_all", "unrest"]
