"""The structure of long scalar programs is found where their runs lie: the same as on one rank, f traced once."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from dags import FAMILY, Dag
from mpi4py import MPI
from test_holdings import X, arrays_between, chain, samples, short_runs  # noqa: F401

import distdiff as dd
from distdiff.comm import on_root
from distdiff.partition import afar
from distdiff.source import Source

pytestmark = [pytest.mark.mpi, pytest.mark.usefixtures("short_runs")]


def repeated(dag: Dag, times: int):
    """A DAG of the family again and again, side by side and one after the other, by turns; and a part of its own."""
    once = dag.function()

    def f(x):
        values, total = [x[k % 3] for k in range(dag.n_in)], 0.0
        for turn in range(times):
            out = once(values)
            total = total + np.sin(out[0])
            if turn % 2:
                values = [out[k % len(out)] * 0.5 for k in range(dag.n_in)]
        lonely = x[2]
        for _ in range(150):
            lonely = np.sin(lonely)
        return np.stack([total, lonely])

    return f


def wide(x):
    """Levels far from each other in one run: most lines on the first ones, a few on top of a chain."""
    s, terms = x[0], []
    for k in range(300):
        s = s * x[1] + 0.1
        terms.append(np.sin(x[2] * (0.1 * k)))
    for t in terms:
        s = s + t * x[0]
    return s * s


PROGRAMS = {"samples": samples, "chain": chain(300), "arrays between": arrays_between, "wide": wide,
            **{name: repeated(dag, 10) for name, dag in FAMILY.items()}}


def alone(comm, f, x=X):
    def structure():
        with dd.linearize(f, x, comm=MPI.COMM_SELF) as one:
            return asdict(one._at.facts.structure)

    return on_root(comm, structure)


@pytest.mark.parametrize(("name", "partition"), [
    *((name, "contiguous") for name in PROGRAMS), ("samples", "auto"), ("arrays between", "auto"), ("wide", "auto")])
def test_it_is_that_of_one_rank(comm, monkeypatch, name, partition):
    if comm.size > 3 and name in FAMILY and name not in ("random", "hub", "wide"):
        pytest.skip("two and three ranks show it")
    calls = []

    def f(x):
        calls.append(1)
        return PROGRAMS[name](x)

    expected = alone(comm, f)
    looked = []
    plain = afar.structure
    monkeypatch.setattr("distdiff.source.structure", lambda *arguments: looked.append(1) or plain(*arguments))
    calls.clear()
    with dd.linearize(f, X, comm=comm, partition=partition if comm.size > 1 else "auto") as lin:
        report = lin.report()
    assert len(calls) == (comm.rank == 0)
    assert comm.size == 1 or partition == "auto" or looked
    for field, value in expected.items():
        if field == "path":
            found = asdict(report.path)
            assert found.pop("span") == pytest.approx(value.pop("span"), rel=1e-12)
            assert found.pop("work") == pytest.approx(value.pop("work"), rel=1e-12)
            assert [site for site, _ in found.pop("sites")] == [site for site, _ in value.pop("sites")]
            assert found == value
        elif hasattr(report, field):
            got = getattr(report, field)
            assert (asdict(got) if hasattr(got, "__dataclass_fields__") else got) == value, field


def test_what_is_kept_is_bounded(comm, monkeypatch):
    """Where runs read more of each other than may be kept, f is traced once more, with the same result."""
    monkeypatch.setattr(afar, "ROOM", 0)
    monkeypatch.setattr(afar, "A_LINE", 0.0)
    traced = []
    monkeypatch.setattr("distdiff.source.record", lambda *a, record=Source.spread.__globals__["record"], **more: (
        traced.append(1) or record(*a, **more)))
    with dd.linearize(samples, X, comm=comm, partition="contiguous" if comm.size > 1 else "auto") as lin:
        assert not lin._at.local.stored
        depth = lin.report().depth
    assert comm.rank or len(traced) == 1 + (comm.size > 1)
    assert depth == alone(comm, samples)["depth"]


def test_a_failure_where_a_run_lies_is_everybodys(comm, monkeypatch):
    if comm.size == 1:
        pytest.skip("there is no other rank")
    with dd.linearize(chain(300), X, comm=comm, partition="contiguous") as lin:
        monkeypatch.setattr(afar, "seen", lambda *arguments: (_ for _ in ()).throw(RuntimeError("not to be looked at")))
        with pytest.raises(RuntimeError, match="not to be looked at"):
            lin.report()
        monkeypatch.undo()
        assert lin.report().depth > 900
        assert np.isfinite(lin.vjp(1.0)).all()


def test_of_arrays_only_when_asked(monkeypatch):
    """Finding it takes longer than tracing: a gradient doesn't, the report does, on rank 0, once."""
    from distdiff import source
    from distdiff.examples import flow

    comm, found, usual = MPI.COMM_WORLD, [], source.analyse
    monkeypatch.setattr(source, "analyse", lambda *args: found.append(args) or usual(*args))
    sea = flow.make_sea(16)
    f = flow.make_misfit(sea, flow.place_gauges(sea, count=4, steps=6, every=3))
    z = 0.1 * np.random.default_rng(0).standard_normal((16, 16))
    with dd.linearize(f, z, partition="axes") as lin:
        lin.vjp(1.0)
        lin.update(2.0 * z)
        assert not found
        assert lin.report().lines == lin.report().lines
        assert len(found) == (comm.size > 1 and comm.rank == 0)
        ours = asdict(lin._at.facts.structure)
    expected = alone(comm, f, z)
    np.testing.assert_equal({k: v for k, v in ours.items() if k != "path"},
                            {k: v for k, v in expected.items() if k != "path"})
