"""Calibration: rates recovered from timings, outliers bounded; kept, found and shown; messages between ranks."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import distdiff
from distdiff import calibration, cli, machine, solvers
from distdiff.calibration import between, rows, stages
from distdiff.calibration.fit import Fitted, Sample, fit
from distdiff.errors import DistdiffError
from distdiff.machine import Machine
from distdiff.solvers.work import Work
from distdiff.stages import Stages

RATES = {"row": 2e-9, "entry": 5e-10, "pass_call": 5e-5}


def timings(disturbed=()):
    rng = np.random.default_rng(0)
    samples = []
    for k in range(12):
        rows, entries = rng.integers(100, 100_000), rng.integers(100, 400_000)
        amounts = {"row": float(rows), "entry": float(entries), "pass_call": 1.0}
        seconds = sum(RATES[name] * amount for name, amount in amounts.items())
        seconds *= 20.0 if k in disturbed else 1.0 + 0.01 * rng.standard_normal()
        samples.append(Sample("a stage", f"program {k}", amounts, [seconds] * 3))
    return samples


def test_rates_are_recovered():
    found = fit("a stage", timings())
    for name, rate in RATES.items():
        assert found.rates[name] == pytest.approx(rate, rel=0.1)
        lo, hi = found.spread[name]
        assert lo <= found.rates[name] <= hi
    assert all(ratio == pytest.approx(1.0, abs=0.1) for ratio in found.ratios.values())


def test_a_slow_outlier_shifts_no_rate_far():
    found = fit("a stage", timings(disturbed=[4]))
    assert found.rates["row"] == pytest.approx(RATES["row"], rel=0.25)
    assert found.rates["entry"] == pytest.approx(RATES["entry"], rel=0.25)
    assert found.ratios["program 4"] < 0.1  # and it is seen


@pytest.mark.parametrize("share", [0.5, 0.95, 1.05])
def test_what_is_known_of_some_programs_tells_nothing_of_the_others(share):
    """Also where it is more than was measured: nothing is taken off, so no program is left with next to nothing."""
    samples = timings()
    for k in (2, 5):
        small = {name: 1e-3 * amount for name, amount in samples[k].amounts.items()}
        samples[k] = samples[k]._replace(amounts=small, known=share * samples[k].seconds[0])
    for k in (0, 7):
        samples[k] = samples[k]._replace(seconds=[1e-3 + second for second in samples[k].seconds], known=1e-3)
    found = fit("a stage", samples)
    for name, rate in RATES.items():
        assert found.rates[name] == pytest.approx(rate, rel=0.25)
    assert found.ratios["program 2"] == pytest.approx(share, abs=0.05)


def test_rates_that_no_program_tells_apart_are_both_taken():
    """Rows and entries in the same proportion everywhere: neither of the rates becomes all of it."""
    samples = [sample._replace(amounts={**sample.amounts, "entry": 3 * sample.amounts["row"]}) for sample in timings()]
    samples = [sample._replace(seconds=[sum(RATES[name] * amount for name, amount in sample.amounts.items())] * 3)
               for sample in samples]
    found, usual = fit("a stage", samples).rates, Machine()
    assert found["row"] + 3 * found["entry"] == pytest.approx(RATES["row"] + 3 * RATES["entry"], rel=0.05)
    assert found["row"] > 0.3 * usual.row and found["entry"] > 0.3 * usual.entry


def test_what_one_program_alone_tells_is_not_held_against_it():
    samples = timings()
    samples[0].amounts["far_row_next_column"] = 1e6
    assert "program 0" not in fit("a stage", samples).ratios


def test_a_rate_that_no_program_tells_of_stays():
    samples = [sample._replace(amounts={**sample.amounts, "plan_exchange": 0}) for sample in timings()]
    assert "plan_exchange" not in fit("a stage", samples).rates


def test_a_busy_machine_is_recognised_and_refused():
    """Waits of a busy machine: now as they are, now as long as the other's turn takes."""
    rng = np.random.default_rng(1)

    def fits(disturbed):
        samples = []
        for k in range(6):
            least = 1e-4 * (k + 1)
            times = [least * (1.0 + 0.05 * rng.random()) + (4e-3 if rng.random() < disturbed else 0.0)
                     for _ in range(11)]
            samples.append(Sample("supersteps", f"plane {k}", {"wait": float(k + 1)}, times))
        return [Fitted("messages", {}, {}, {}, 1.05), fit("supersteps", samples)]

    calibration.refuse_unrest(fits(0.1))
    with pytest.raises(DistdiffError, match="busy with something else: measuring supersteps.*Nothing is kept"):
        calibration.refuse_unrest(fits(0.7))


def test_computing_is_measured_without_what_others_take():
    def waits():
        time.sleep(0.05)
        return 3

    seconds, result = stages._timed(waits)
    assert result == 3 and seconds < 0.02


def test_a_shared_core_is_refused_at_once(tmp_path, monkeypatch, capsys):
    stages.refuse_company(10.0, 9.5)
    with pytest.raises(DistdiffError, match="busy with something else: .* had a core for 40% of the time.*Nothing"):
        stages.refuse_company(10.0, 4.0)
    rounds = []

    def interrupted(run):
        rounds.append(run.name)
        time.sleep(0.1)

    monkeypatch.setattr(stages, "programs", tiny)
    monkeypatch.setattr(stages._Stages, "round", interrupted)
    monkeypatch.setattr(calibration, "compile_at_once", lambda: None)
    monkeypatch.setenv("DISTDIFF_CACHE_DIR", str(tmp_path))
    assert cli.main(["calibrate"]) == 1
    told = capsys.readouterr()
    assert "busy with something else" in told.err and not told.out
    assert rounds == ["array", "scalar"] * 2  # one to warm up, and one
    assert not list(tmp_path.rglob("machine*.json"))


def test_what_is_measured_is_said(monkeypatch):
    monkeypatch.setattr(stages, "programs", tiny)
    monkeypatch.setattr(stages._Stages, "round", lambda run: None)
    monkeypatch.setattr(stages._Stages, "samples", lambda run: [])
    monkeypatch.setattr(stages, "SHARE", 0.0)
    said = Stages()
    stages.samples(said)
    assert {"measuring array", "measuring scalar"} <= said.seconds.keys()


def tiny():
    def f(u):
        for _ in range(6):
            u = u + 0.1 * np.sin(np.roll(u, 1)) * u
        return u

    def g(x):
        a = x[0]
        for k in range(30):
            a = 0.5 * a * x[k % 3]
        return a
    return [("array", f, np.linspace(0.1, 1.0, 12)), ("scalar", g, np.ones(3))]


def test_rates_are_measured_kept_and_found(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stages, "programs", tiny)
    monkeypatch.setattr(stages, "ROUNDS", 1)
    monkeypatch.setattr(stages, "SHARE", 0.0)  # these rates are not to be good
    monkeypatch.setattr(calibration, "compile_at_once", lambda: None)
    monkeypatch.setenv("DISTDIFF_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv(machine.VARIABLE)
    machine.current.cache_clear()
    try:
        assert cli.main(["calibrate"]) == 0
        assert "predicted/measured" in capsys.readouterr().out
        found = machine.current()
        assert found.source.startswith("measured") and found.pass_call > 0
        assert found.latency == Machine().latency  # one rank tells nothing of messages
        assert cli.main(["calibrate", "--show"]) == 0
        assert found.source in capsys.readouterr().out
        # nothing half written beside it
        assert [p.name for p in machine.files()[0].parent.iterdir()] == [machine.files()[0].name]
    finally:
        machine.current.cache_clear()


def test_derivatives_of_measured_loops_stay_in_range():
    """Where they fade to nothing, every solve is repeated from larger seeds, and a line seems to take longer."""
    def last(f, x):
        found = f(x)
        return found[-1] if isinstance(found, list) else found

    for name, f, x in stages.programs():
        if "recurrence" in name:
            assert 1e-6 < abs(distdiff.grad(partial(last, f))(x)).max() < 1e9, name


def test_nowhere_to_keep_them(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(calibration, "files", lambda: [tmp_path / "file" / "machine.json"])
    with pytest.raises(DistdiffError, match="DISTDIFF_CACHE_DIR"):
        calibration.save(Machine())


@pytest.mark.mpi
@pytest.mark.few_ranks  # the first and the last rank measure, the others wait
def test_messages_between_ranks(comm, monkeypatch):
    if comm.size == 1:
        pytest.skip("one rank sends nothing")
    monkeypatch.setattr(between, "PINGS", 5)
    monkeypatch.setattr(between, "ROUNDS", 1)
    monkeypatch.setattr(between, "PLANES", ((8, 8, 6, 0), (8, 40, 4, 2)))
    (messages,) = between.messages(comm)
    assert set(messages.rates) == {"latency", "overhead", "gap", "byte"}
    assert all(rate >= 0 for rate in messages.rates.values())
    assert messages.rates["latency"] + 2 * messages.rates["overhead"] > 0.0  # L + 2 o, by the pass's own channel
    monkeypatch.setattr(between, "programs", lambda: [("scale", lambda x: np.sum(2.0 * np.sin(x)), np.ones(400))])
    shares = between.shares(comm)
    assert [set(fit.rates) >= {name} for fit, name in zip(shares, ("share_call", "copy_call"))] == [True, True]
    assert all(fit.unrest == 1.0 for fit in shares) and any(shares[0].rates.values())
    assert shares[2].rates["share_rank"] > 0.0
    (agreements,) = between.agreements(comm, Machine())
    assert agreements.rates["agreement"] >= 0.0
    waits, plans = between.waits(comm, Machine())
    assert set(waits.rates) == {"item", "line", "wait"} and any(waits.rates.values())
    assert set(plans.rates) == {"plan_exchange", "plan_ghost"} and all(rate >= 0 for rate in plans.rates.values())
    assert len(set(comm.allgather(json.dumps([waits.rates, plans.rates])))) == 1


@pytest.mark.mpi
@pytest.mark.few_ranks
def test_assembled_systems_on_ranks(comm, monkeypatch):
    """Every rate that has no other measure, by the cost functions of the methods themselves; the same on all ranks."""
    if comm.size == 1:
        pytest.skip("one rank has no supersteps")
    laid = (("array", "axes"), ("scalar", "contiguous"))
    monkeypatch.setattr(rows, "programs", tiny)
    monkeypatch.setattr(rows, "LAID_OUT", laid)
    monkeypatch.setattr(rows, "ROUNDS", 1)
    fits = rows.assembled(comm, Machine())
    found = {name: rate for each in fits for name, rate in each.rates.items()}
    assert set(found) == {name for names in rows.RATES.values() for name in names}
    assert all(rate >= 0.0 for rate in found.values()) and found["joining_call"] > 0.0
    assert len(set(comm.allgather(json.dumps(found)))) == 1


def test_costs_go_by_the_rates_of_assembled_systems():
    """None is without effect on some method's cost for one right-hand side or many, at first or at another point."""
    work = Work(1000, 1000, 20, 3, 2, messages=2, halo=100, interface=4, nodes=2000, nonzeros=4000, kept_rows=300,
                kept_nonzeros=900, inputs=5, outputs=5)
    for names in rows.RATES.values():
        for name in names:
            costs = [method.cost(replace(job, together=m), m, replace(Machine(), **{name: rate})).seconds or 0.0
                     for method in map(solvers.method, ("substitution", "interface", "pipeline", "krylov"))
                     for job in (work, replace(work, expanded=True)) for m in (1, 64) for rate in (0.0, 1.0)]
            assert any(b - a > 0.5 for a, b in zip(costs[::2], costs[1::2])), name
