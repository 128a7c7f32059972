"""What the ranks of a service do together, in this process: rank 0 commands, the others follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import distdiff as dd
from distdiff import cancellation
from distdiff.cancellation import Watch
from distdiff.errors import BrokenCommunicatorError, InputError, NonFiniteError
from distdiff.linearization import Linearization
from distdiff.service.jobs import Job
from distdiff.service.modules import Modules
from distdiff.service.ranks import Ranks
from distdiff.service.service import Service
from distdiff.service.spool import Spool

pytestmark = [pytest.mark.mpi, pytest.mark.few_ranks]
X = np.linspace(0.5, 1.5, 40)


def f(x):
    x = np.log(x)
    for _ in range(3):
        x = np.tanh(x + np.roll(x, 1))
    return x


@contextmanager
def commanding(comm: Any) -> Iterator[Ranks | None]:
    """The ranks on rank 0; None on the others, which have followed it to its end."""
    ranks = Ranks(comm.Dup(), 1 << 30)
    if comm.rank:
        ranks.follow()
        yield None
        return
    try:
        yield ranks
    finally:
        ranks.stop()


class Conversation:
    """A service without HTTP: one job after another, each submitted and worked off."""

    def __init__(self, ranks: Ranks) -> None:
        self.service = Service(ranks, Spool(None), Modules(None))

    def ask(self, system: str, kind: str, **keywords: Any) -> Job:
        job = self.service.submit(Job(system, kind, **keywords), keep=True)
        turn = self.service.queue.take()
        assert turn is not None
        self.service.work(turn)
        return job

    def open(self, name: str, path: Path, **settings: Any) -> Job:
        upload = self.service.spool.incoming()
        upload.write_bytes(path.read_bytes())
        return self.ask(name, "open", payload={"path": upload, "about": {"name": name, "settings": settings}})


def tape(folder: Path) -> Path:
    path = folder / "f.tape"
    dd.trace(f, X).save(path, point=(X,))
    return path


@pytest.mark.parametrize("partition", ["auto", "axes", "right-hand sides"])
def test_commands(comm, shared_tmp_path, partition):
    path = tape(shared_tmp_path)
    with dd.linearize(f, X) as lin:
        jacobian, value = lin.jacobian(), lin.value
        there = lin.update(2 * X)
        jacobian2 = lin.jacobian()
    with commanding(comm) as ranks:
        if ranks is None:
            return
        opened = ranks.open("a", str(path), {"partition": partition})
        np.testing.assert_allclose(opened.value, value, rtol=1e-14)
        assert "a" in ranks and opened.memory > 0 and len(ranks.used) == comm.size
        assert all(used.memory > 1e6 and used.seconds > 0 for used in ranks.used)
        np.testing.assert_allclose(ranks.batch("a", "jvp", range(40)), jacobian, rtol=1e-11, atol=1e-13)
        found = ranks.batch("a", "vjp", np.eye(40)[:, :3])
        np.testing.assert_allclose(found, jacobian.T[:, :3], rtol=1e-11, atol=1e-13)
        with pytest.raises(NonFiniteError):
            ranks.move("a", -X)
        np.testing.assert_allclose(ranks.move("a", 2 * X), there, rtol=1e-14)
        np.testing.assert_allclose(ranks.batch("a", "jvp", range(40)), jacobian2, rtol=1e-11, atol=1e-13)
        with pytest.raises(InputError, match="shape"):
            ranks.batch("a", "vjp", np.ones((3, 3)))
        assert ranks.report("a")["ranks"] == comm.size
        with pytest.raises(InputError, match="no file"):
            ranks.open("b", str(path) + ".none", {})
        ranks.close("a")
        assert "a" not in ranks and ranks.memory == 0


def test_a_rank_that_fails_alone_spoils_one_system_until_it_is_opened_again(comm, shared_tmp_path, monkeypatch):
    path = tape(shared_tmp_path)
    right = Linearization.batch
    calls = [0]

    def wrong(self, *args, **keywords):
        found = right(self, *args, **keywords)
        calls[0] += 1
        if comm.rank == comm.size - 1 and calls[0] == 2:
            raise MemoryError("of this rank alone")
        return found

    monkeypatch.setattr(Linearization, "batch", wrong)
    with commanding(comm) as ranks:
        if ranks is None:
            return
        talk = Conversation(ranks)
        service, ask = talk.service, talk.ask
        for name in ("a", "b"):
            talk.open(name, path)
            assert name in service.systems
        good = ask("a", "vjp", seed=np.ones(40)).result
        assert "this rank alone" in str(ask("a", "vjp", seed=np.ones(40)).error)
        if comm.size > 1:
            with pytest.raises(BrokenCommunicatorError):
                ranks.batch("a", "vjp", np.ones((40, 1)))
        np.testing.assert_array_equal(ask("b", "vjp", seed=np.ones(40)).result, good)
        np.testing.assert_array_equal(ask("a", "vjp", seed=np.ones(40)).result, good)  # opened again
        assert ask("a", "close").state == "done" and "a" not in ranks
        service.spool.close()


def test_requests_are_solved_together_where_that_pays(comm, shared_tmp_path, monkeypatch):
    """As many solves as the cost model's widths say, whatever they are; report and metrics tell."""
    path = tape(shared_tmp_path)
    seeds = np.random.default_rng(0).normal(size=(20, 40))
    with dd.linearize(f, X) as lin:
        wanted = seeds @ lin.jacobian()
    with commanding(comm) as ranks:
        if ranks is None:
            return
        talk = Conversation(ranks)
        service = talk.service

        def told(name: str, **labels: str) -> float:
            return service.metrics.registry.get_sample_value(name, labels) or 0.0

        for k, (predicted, most) in enumerate([
                (None, 0), (lambda m: 1.0 + 1e-3 * m, 64), (lambda m: 1.0 * m, 1), (lambda m: 1e-6 * m, 16)]):
            if predicted is not None:
                monkeypatch.setattr(Linearization, "pass_seconds", lambda lin, m, predicted=predicted: predicted(m))
            name = f"system {k}"
            talk.open(name, path, partition="axes")
            before = told("distdiff_solves_total", kind="vjp")
            jobs = [service.submit(Job(name, "vjp", str(j % 3), seed=seed)) for j, seed in enumerate(seeds)]
            turns, left = 0, len(jobs)
            while (turn := service.queue.take(0)) is not None:
                assert len(turn.jobs) == min(left, service.width(name, "vjp").most)
                turns, left = turns + 1, left - len(turn.jobs)
                service.work(turn)
            np.testing.assert_allclose([job.result for job in jobs], wanted, rtol=1e-11, atol=1e-13)
            width = service.width(name, "vjp")
            assert width.most == most or (predicted is None and 1 <= width.most <= 64 and width.seconds[1] > 0)
            assert told("distdiff_solves_total", kind="vjp") - before == turns
            assert predicted is None or turns == -(-20 // most)
            assert told("distdiff_batch_width", system=name, kind="vjp") == width.most
            report = talk.ask(name, "report").result
            assert report["batches"]["vjp"]["most"] == width.most and "hvp" not in report["batches"]
            assert f"\nbatches      vjp: {width.reason()}" in report["text"]
        service.spool.close()


def test_whatever_is_under_way_can_be_cancelled(comm, shared_tmp_path, monkeypatch):
    """A job is cancelled while its turn is worked off: it ends, and the system answers as before, at the same point."""
    path = tape(shared_tmp_path)
    given_up = Watch.given_up
    under_way: dict[str, Any] = {"looks": -1}

    def cancelling(watch: Watch) -> bool:  # called on the thread that works
        if under_way["looks"] == 0:
            (job,) = (job for job in under_way["service"].jobs.values() if job.state == "running")
            under_way["ends"] = under_way["service"].cancel(job)
        under_way["looks"] -= 1
        return given_up(watch)

    monkeypatch.setattr(cancellation, "EVERY", 0.0)
    with commanding(comm) as ranks:
        if ranks is None:
            return
        talk = Conversation(ranks)
        under_way["service"] = talk.service
        monkeypatch.setattr(Watch, "given_up", cancelling)
        ones = np.ones(40)
        jobs: list[tuple[str, dict[str, Any]]] = [
            ("vjp", {"seed": ones}), ("jvp", {"seed": ones}), ("jacobian", {}), ("move", {"payload": 2 * X}),
            ("picture", {"payload": "timeline"})]
        for partition, method, ends in (("axes", "sweep", "between two supersteps"),
                                        ("auto", "direct", "can't be interrupted")):
            name = f"{partition} {method}"
            talk.open(name, path, partition=partition, method=method)
            right = {kind: talk.ask(name, kind, **keywords).result for kind, keywords in jobs[:3]}
            for kind, keywords in jobs:
                under_way["looks"] = 2
                job = talk.ask(name, kind, **keywords)
                if method == "direct" and job.state == "done":
                    continue  # it did not look as often
                assert job.state == "cancelled" and job.result is None, (name, kind, job)
                said = under_way["ends"]
                assert ends in said or (kind in ("move", "picture") and said == "between two supersteps"), (kind, said)
                assert talk.service.systems[name].at.number == 1
                under_way["looks"] = -1
                for again, wanted in right.items():
                    found = talk.ask(name, again, **dict(jobs)[again])
                    np.testing.assert_array_equal(found.result, wanted)
            under_way["looks"] = -1
            moved = talk.ask(name, "move", payload=2 * X)
            np.testing.assert_allclose(moved.result, f(2 * X), rtol=1e-14)
            assert moved.point == 2
        under_way["looks"] = 0
        assert talk.open("never", path).state == "cancelled" and "never" not in talk.service.systems
        assert "between two layouts" in under_way["ends"]
        assert "never" not in ranks and not list(talk.service.spool.root.glob("incoming/*"))
        talk.service.spool.close()


def test_a_service_that_ends_waits_for_nobody(comm, shared_tmp_path, monkeypatch):
    path = tape(shared_tmp_path)
    with commanding(comm) as ranks:
        if ranks is None:
            return
        talk = Conversation(ranks)
        talk.open("a", path)
        batch = ranks.batch

        def ended(*arguments: Any) -> np.ndarray:
            talk.service.queue.close()  # as a signal does
            return batch(*arguments)

        monkeypatch.setattr(ranks, "batch", ended)
        job = talk.ask("a", "vjp", seed=np.ones(40))
        assert job.state == "failed" and "the service has ended" in str(job.error)
        talk.service.spool.close()
