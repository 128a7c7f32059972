"""What all tests share: one outcome for all ranks, time limits that leave a traceback, repeatable random examples.

Run `python -m pytest` for one rank (tests marked `mpi` run there too) and `mpirun -n P python -m pytest -m mpi` for
several; scripts/test does both.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from inspect import isfunction
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from mpi4py import MPI

from distdiff.kernels import scalar, stream, tiles

os.environ["DISTDIFF_MACHINE"] = "default"  # layouts and choices must not depend on what was calibrated here
WORLD = MPI.COMM_WORLD
GRACE = 20.0
"""Seconds that a rank whose test failed gives the others to end it too; they may be waiting for a message from it."""
MEETING = 0.002
"""Seconds for which a rank that has ended a test only lets others run before it sleeps until they have, too."""
FEW = 3
"""Ranks on which tests marked `few_ranks` run: what they are about (derivatives of derivatives, formulas, pictures,
agreement on errors, what rank 0 decides for all, iterations of PETSc's) meets ranks in one way, which three show, each
with its own part.  Solvers, partitions and their messages run on all numbers of ranks: where every method meets every
program, half of the pairs."""

# Every rank must draw the same examples, so nothing may depend on chance, on stored failures or on the clock. Shrinking
# repeats a failed example, which hangs when only one rank failed.
_phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
if WORLD.size == 1:
    _phases.append(hypothesis.Phase.shrink)
hypothesis.settings.register_profile(
    "distdiff",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=50 if WORLD.size == 1 else 15,
    print_blob=False,
    phases=_phases,
    suppress_health_check=[
        hypothesis.HealthCheck.too_slow,
        hypothesis.HealthCheck.data_too_large,
        hypothesis.HealthCheck.function_scoped_fixture,
    ],
)
hypothesis.settings.load_profile("distdiff")

# Hypothesis draws numbers that it finds in the code of imported modules, too, and ranks import different ones. (What
# says so is not public: where it has gone, hypothesis may have no such numbers, or draw others on every rank.)
if WORLD.size > 1:
    with suppress(ImportError):
        from hypothesis.internal.conjecture import providers

        if hasattr(providers, "_get_local_constants"):
            providers._get_local_constants = lambda found=providers._local_constants: found

# The tests' own communicator for their outcomes: whatever messages a failed test leaves behind can't reach it.
_outcomes = pytest.StashKey[MPI.Comm]()


def pytest_configure(config: pytest.Config) -> None:
    """Run tests marked `mpi` on any number of ranks, one included, without asking for pytest-mpi's option."""
    config.addinivalue_line("markers", f"few_ranks: shows on {FEW} ranks all that it would on other numbers of them")
    if hasattr(config.option, "with_mpi"):
        config.option.with_mpi = True


def _marks_some(path: Path) -> bool:
    """Whether a file says `mark.mpi`, as every one does that has tests for several ranks (held to it on one)."""
    return "mark.mpi" in path.read_text(encoding="utf-8")


def _has_some(collector: pytest.Collector, function: Any) -> bool:
    """Whether a test, its file, or one of its parameters is marked `mpi` (held on one rank to find all that are)."""
    if collector.get_closest_marker("mpi"):
        return True
    marks = [mark for mark in getattr(function, "pytestmark", []) if isinstance(mark, pytest.Mark)]
    values = [value for mark in marks if mark.name == "parametrize" and isinstance(mark.args[1], list | tuple)
              for value in mark.args[1]]
    return any(mark.name == "mpi" for mark in marks + [m for v in values for m in getattr(v, "marks", ())])


@lru_cache
def _starts_others(path: Path) -> bool:
    """Whether a file's tests start other processes, services most of all, and so take longest."""
    text = path.read_text(encoding="utf-8")
    return "import subprocess" in text or "from servers import" in text


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Several ranks, which share the cores, don't import and unroll files that have nothing for them."""
    if WORLD.size > 1 and config.option.markexpr == "mpi" and collection_path.suffix == ".py" and (
            not _marks_some(collection_path)):
        return True
    return None


def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> list[pytest.Item] | None:
    """Nor do they write out the parameters of tests that are for one rank."""
    if WORLD.size > 1 and collector.config.option.markexpr == "mpi" and isfunction(obj) and (
            collector.istestfunction(obj, name) and not _has_some(collector, obj)):
        return []
    return None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On one rank nothing stands in the way of the tests that cannot run on several; on several, some are left out."""
    placed = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if placed:
        raise pytest.UsageError(f"{placed[0]}: a test named by an address has another name in every process; name its "
                                "cases (ids=[...])")
    if WORLD.size == 1:
        for item in items:
            if item.get_closest_marker("mpi_skip"):
                item.own_markers[:] = [m for m in item.own_markers if m.name != "skip"]
        marked = [item for item in items if item.get_closest_marker("mpi")]
        silent = {path.name for path in {item.path for item in marked} if not _marks_some(path)}
        silent |= {item.nodeid for item in marked if not _has_some(item.parent, item.function)}
        if silent:
            raise pytest.UsageError(f"marked mpi by other words than mark.mpi, so not seen on several ranks: {silent}")
    if hasattr(config, "workerinput"):  # files are handed to processes in this order, the longest best not at the end
        items.sort(key=lambda item: not _starts_others(item.path))
    if WORLD.size not in (1, FEW):
        left_out = [item for item in items if item.get_closest_marker("few_ranks")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("few_ranks")]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Stop at once, on all ranks, if the ranks are about to run different tests: they would wait for each other."""
    if WORLD.size == 1:
        return
    session.config.stash[_outcomes] = WORLD.Dup()
    names = "\n".join(item.nodeid for item in session.items)
    digests = WORLD.allgather((hashlib.sha256(names.encode()).hexdigest(), session.testsfailed))
    if len(set(digests)) > 1:
        counts = WORLD.allgather(len(session.items))
        pytest.exit(f"the ranks collected different tests (numbers by rank: {counts})", returncode=3)


def _failed_somewhere(item: pytest.Item, failure: str | None) -> bool:
    """Wait until every rank has left the test; after a failure here only for GRACE seconds, then end the job."""
    here, anywhere = np.array([failure is not None]), np.array([False])
    arrived = item.config.stash[_outcomes].Iallreduce(here, anywhere, op=MPI.LOR)
    began = time.monotonic()
    while not arrived.Test():
        waited = time.monotonic() - began
        if failure is not None and waited > GRACE:
            with item.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
                print(f"\n{item.nodeid} failed on rank {WORLD.rank}:\n{failure}", flush=True)
                print(f"Another rank is still in that test after {GRACE} s: ending the job.", flush=True)
            WORLD.Abort(1)
        # The ranks may share a core: whoever comes at about the same time is met without a sleep, others are slept for.
        os.sched_yield() if waited < MEETING else time.sleep(0.0005)
    return bool(anywhere[0])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """A test fails on every rank if it fails on one, so that the output of rank 0 tells the whole truth."""
    report = yield
    if WORLD.size > 1 and call.when == "call" and item.get_closest_marker("mpi"):
        message = str(report.longrepr)[-4000:] if report.failed else None
        if not _failed_somewhere(item, message):
            return report
        messages = item.config.stash[_outcomes].allgather(message)
        failed = {rank: text for rank, text in enumerate(messages) if text is not None}
        if not report.failed:
            first = min(failed)
            report.outcome = "failed"
            others = f"failed on rank(s) {sorted(failed)}, not on rank {WORLD.rank}"
            report.longrepr = f"{others}. Rank {first}:\n{failed[first]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """What NumPy does about floating-point errors is the user's: whoever suspends that puts it back."""
    before = np.geterr(), np.geterrcall()
    try:
        return (yield)
    finally:
        after = np.geterr(), np.geterrcall()
        np.seterr(**before[0])
        np.seterrcall(before[1])
        assert after == before, f"{item.nodeid} left NumPy with {after}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave out pytest-mpi's closing page on the MPI library and its build."""
    for plugin in session.config.pluginmanager.get_plugins():
        if type(plugin).__name__ == "MPIPlugin":
            plugin._is_testing_mpi = False


@pytest.fixture
def comm() -> MPI.Comm:
    """The communicator of all ranks that run this test."""
    return WORLD


@pytest.fixture(params=["plain", "compiled"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small work runs in NumPy and Python, large work in compiled loops: here all of it in the one or the other."""
    for loops in (scalar._Loops, stream._Loops):
        monkeypatch.setattr(loops, "spent", 10**12 if request.param == "compiled" else -(10**12))
        if request.param == "plain":
            monkeypatch.setattr(loops, "module", None)
    return request.param


@pytest.fixture
def plain_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work runs in NumPy, and not in compiled loops from the moment on when they have paid in this process.

    For tests that count calls, or compare bits: that moment may otherwise come in the middle of any of them.
    """
    for loops in (scalar._Loops, stream._Loops, tiles._Loops):
        monkeypatch.setattr(loops, "module", None)
        monkeypatch.setattr(loops, "spent", -(10**15))


@pytest.fixture
def shared_tmp_path(tmp_path: Path) -> Path:
    """One temporary directory for all ranks (`tmp_path` is a different one on each)."""
    return WORLD.bcast(tmp_path, root=0)
