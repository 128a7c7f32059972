"""What a service keeps on disk is there after any of its processes was killed."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from servers import Server, wait_for

import distdiff as dd
from distdiff.errors import InputError, ServiceError
from distdiff.service.spool import Kept, Spool

pytestmark = pytest.mark.timeout(100)
X = np.linspace(0.1, 1.0, 30)


def f(x):
    return np.sum(np.sin(x) * np.roll(x, 1) ** 2)


def test_killed_at_any_moment(tmp_path):
    """Everything acknowledged is there, at a point acknowledged last or asked for last, and answers the same, on
    another number of ranks too; a system whose tape is damaged afterwards does not keep the others."""
    acknowledged: dict[str, tuple[int, np.ndarray, np.ndarray]] = {}
    asked: dict[str, np.ndarray] = {}
    deleted: set[str] = set()
    server = Server(tmp_path, "--spool", "spool", ranks=2).start()
    for ranks, victim in ((2, 1), (1, 0)):  # of what was started before, and how it is started again
        killed_meanwhile(server, victim, acknowledged, asked, deleted)
        bad = min(set(acknowledged) - deleted)
        tape = tmp_path / "spool/systems" / bad / "tape-0"
        tape.write_bytes(tape.read_bytes()[:500])
        server = Server(tmp_path, "--spool", "spool", ranks=ranks).start()
        with server.connect() as client:
            there = {described["id"]: described for described in client.systems()}
            assert set(acknowledged) - deleted - set(there) == {bad}
            assert any(f"the system {bad} can't be opened again" in line for line in server.said)
            deleted.add(bad)
            for name in set(acknowledged) & set(there):
                number, x, gradient = acknowledged[name]
                remote = client.attach(name)
                if remote.point != number:  # it was told to move, and killed before it could say that it had
                    assert remote.point == number + 1
                    number, x = number + 1, asked[name]
                    gradient = dd.grad(f)(x)
                    acknowledged[name] = number, x, gradient
                np.testing.assert_array_equal(remote._vector("GET", "point"), x)
                np.testing.assert_allclose(remote.vjp(1.0), gradient, rtol=1e-13)
    assert server.stop() == 0


def killed_meanwhile(server, victim, acknowledged, asked, deleted) -> None:
    """Clients open, move and delete systems until a rank is killed; what they were told, and asked for last."""
    before = len(acknowledged)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            with server.connect(timeout=10) as client:
                while True:
                    remote = client.linearize(f, X)
                    acknowledged[remote.id] = 1, X, remote.vjp(1.0)
                    for _ in range(4):
                        asked[remote.id] = x = rng.random(30)
                        remote.update(x)
                        acknowledged[remote.id] = remote.point, x, remote.vjp(1.0)
                    if rng.random() < 0.3:
                        deleted.add(remote.id)
                        remote.close()
        except ServiceError:
            return

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(acknowledged) > before + 2, 40)
    os.kill(server.pids()[victim], signal.SIGKILL)
    for thread in threads:
        thread.join()
    server.wait()  # the launcher ends the others


def test_half_written_systems_are_none(tmp_path: Path):
    spool = Spool(tmp_path / "spool")
    for name in ("one", "two"):
        path = spool.incoming()
        dd.trace(f, X).save(path, point=(X,))
        spool.keep(name, path, {"name": name}, X)
    spool.move("one", 2, 2 * X)
    with pytest.raises(InputError, match="in use by another service"):
        import distdiff.service.spool as module

        patience, module.PATIENCE = module.PATIENCE, 0.1
        try:
            Spool(tmp_path / "spool")
        finally:
            module.PATIENCE = patience
    spool.close()
    os.rename(tmp_path / "spool/systems/two", tmp_path / "spool/systems/.two")  # as a kill before the rename leaves it
    (tmp_path / "spool/systems/one/.point.npz").write_bytes(b"half")
    (tmp_path / "spool/incoming/upload").write_bytes(b"half")
    (tmp_path / "spool/systems/bad").mkdir()
    again = Spool(tmp_path / "spool")
    first, second = sorted(again.systems(), key=lambda found: not isinstance(found, Kept))
    assert isinstance(first, Kept) and (first.id, first.number) == ("one", 2)
    np.testing.assert_array_equal(first.x, 2 * X)
    assert "bad can't be read" in str(second) and not list((tmp_path / "spool/incoming").iterdir())
    again.close()


def test_a_tape_and_its_point_change_at_once(tmp_path: Path):
    spool = Spool(tmp_path / "spool")
    for name, arguments in (("a", {"x": X, "n": 3}), ("b", None)):
        path = spool.incoming()
        path.write_bytes(b"first")
        spool.keep(name, path, {}, X, arguments)
    found = spool.arguments("a")
    assert found is not None and found["n"] == 3 and np.array_equal(found["x"], X) and spool.arguments("b") is None
    path = spool.incoming()
    path.write_bytes(b"second")
    os.replace(path, tmp_path / "spool/systems/b/tape-1")  # killed before the point was there
    path = spool.incoming()
    path.write_bytes(b"second")
    spool.move("a", 2, 2 * X, path)
    spool.move("a", 3, 3 * X)
    spool.close()
    again = Spool(tmp_path / "spool")
    kept = {found.id: (found.tape.read_bytes(), found.number, found.x[0]) for found in again.systems()
            if isinstance(found, Kept)}
    assert kept == {"a": (b"second", 3, 3 * X[0]), "b": (b"first", 1, X[0])}
    again.close()
