"""The PETSc matrix: right entries, shared arrays, refresh in place, odd shapes of ranks, errors."""

from __future__ import annotations

import numpy as np
import pytest
from methods import told
from random_systems import random_problem

from distdiff import petsc as room
from distdiff.errors import IndexRangeError, InputError
from distdiff.partition.local import Exchange
from distdiff.petsc import Options, options, petsc
from distdiff.preaccumulate import eliminate
from distdiff.system import Halo, TriangularSystem, check_index_range

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(60)]
OWNERS = ("random", "slabs", "last", "one")


def global_matrix(comm, system) -> np.ndarray:
    """I - L as PETSc multiplies with it, on every rank."""
    n = system.n_rows
    out = np.zeros((n, n))
    x, y = system.mat.createVecs()
    for j in range(n):
        x.set(0.0)
        if x.owner_range[0] <= j < x.owner_range[1]:
            x.setValue(j, 1.0)
        x.assemble()
        system.mat.mult(x, y)
        out[:, j] = np.concatenate(comm.allgather(y.getArray().copy()))
    x.destroy()
    y.destroy()
    return out


@pytest.mark.parametrize("owners", OWNERS)
def test_full_matrix_is_the_permuted_one(comm, owners):
    p = random_problem(comm, 3, n=40, owners=owners)
    system = TriangularSystem(comm, eliminate(p.local, p.rows, full=True))
    nodes = np.concatenate(comm.allgather(p.own[p.local.own]))  # global node of each row
    expected = (np.eye(len(p.L)) - p.L)[np.ix_(nodes, nodes)]
    np.testing.assert_allclose(global_matrix(comm, system), expected, rtol=1e-15)
    assert system.n_rows == 40
    pairs = {(i, j) for i, j in zip(*np.nonzero(p.L))}
    assert system.nnz >= len(pairs) + 40
    system.close()
    system.close()  # a second call does nothing


@pytest.mark.parametrize("owners", OWNERS)
def test_refresh_in_place_equals_rebuild(comm, owners):
    p = random_problem(comm, 4, n=50, owners=owners)
    reduced = eliminate(p.local, p.rows)
    system = TriangularSystem(comm, reduced)
    old = global_matrix(comm, system)
    values = np.random.default_rng(comm.rank).uniform(-1, 1, len(p.rows.data))
    handle, data = system.mat.handle, system.own.data
    reduced.refresh(values)
    system.refresh(reduced)
    fresh = TriangularSystem(comm, eliminate(p.local, p.rows._replace(data=values)))
    assert system.mat.handle == handle and system.own.data is data
    new = global_matrix(comm, system)
    np.testing.assert_array_equal(new, global_matrix(comm, fresh))
    assert not np.array_equal(old, new)
    other = eliminate(p.local, p.rows)  # values of another Reduced of the same structure are copied
    TriangularSystem(comm, other).close()
    system.refresh(other)
    np.testing.assert_array_equal(global_matrix(comm, system), old)
    for one in (system, fresh):
        one.close()


def test_petsc_and_the_rows_share_memory(comm):
    p = random_problem(comm, 5, n=50)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    diagonal = system.mat.getDiagonalBlock() if comm.size > 1 else system.mat
    x, y = diagonal.createVecs()
    x.set(1.0)
    diagonal.mult(x, y)
    before = y.getArray().copy()
    if system.n_local:
        system.own.data[0] += 1.0  # behind PETSc's back
    diagonal.mult(x, y)
    difference = y.getArray() - before
    assert difference.sum() == (1.0 if system.n_local else 0.0)
    system.close()


def test_counts(comm):
    p = random_problem(comm, 6, n=60)
    reduced = eliminate(p.local, p.rows)
    system = TriangularSystem(comm, reduced)
    info = system.mat.getInfo(petsc().Mat.InfoType.GLOBAL_SUM)
    assert system.nnz == comm.allreduce(reduced.nnz) == info["nz_used"]
    assert system.n_rows == comm.allreduce(system.n_local) == system.mat.size[0]
    assert system.k_star == len(p.local.steps) and system.messages == p.local.messages
    assert system.memory >= 12 * reduced.nnz
    system.close()


@pytest.mark.parametrize("m", [None, 1, 3])
def test_halo_is_the_exchange_and_its_transpose(comm, m):
    p = random_problem(comm, 7, n=60)
    reduced = eliminate(p.local, p.rows)
    n, g = reduced.n_rows, reduced.n_ghosts
    columns = () if m is None else (m,)
    rng = np.random.default_rng(comm.rank)
    y, lam = rng.standard_normal((n, *columns)), rng.standard_normal((n + g, *columns))
    both = np.concatenate([y, np.zeros((g, *columns))])
    ghosts = np.zeros((g, *columns))
    for exchange in reduced.exchanges:
        halo = Halo(comm, exchange, n)
        for _ in range(2):  # requests serve again and again
            halo.forward(y, ghosts)
        exchange.forward(comm, both)
        np.testing.assert_array_equal(ghosts, both[n:])
        own, away = lam[:n].copy(), lam[n:].copy()
        exchange.reverse(comm, lam)
        halo.reverse(own, away)
        np.testing.assert_array_equal(np.concatenate([own, away]), lam)
        halo.close()


def test_empty_system(comm):
    p = random_problem(comm, 1, n=0, n_in=0, n_out=0)
    system = TriangularSystem(comm, eliminate(p.local, p.rows))
    assert system.n_rows == system.nnz == 0
    system.close()


def test_index_range(comm):
    limit = int(np.iinfo(petsc().IntType).max)
    check_index_range(limit, limit)
    with pytest.raises(IndexRangeError, match="64-bit-indices"):
        check_index_range(limit + 1)
    with pytest.raises(IndexRangeError, match="more ranks"):
        check_index_range(10, 3, limit + 1)


def test_index_range_is_agreed(comm, monkeypatch):
    """One rank with too many entries: every rank raises the same."""
    p = random_problem(comm, 2, n=30)
    reduced = eliminate(p.local, p.rows)
    if comm.rank == comm.size - 1:
        monkeypatch.setattr("distdiff.system.check_index_range", lambda *counts: check_index_range(10, 2**70))
    with pytest.raises(IndexRangeError, match="more ranks"):
        TriangularSystem(comm, reduced)


def test_exchange_needs_no_messages_when_empty(comm):
    halo = Halo(comm, Exchange(), 0)
    halo.forward(np.zeros(0), np.zeros(0))
    halo.reverse(np.zeros(0), np.zeros(0))
    assert halo.nbytes == 0


# -- options


def test_options_enter_and_leave_the_database(comm):
    some = {"-distdiff_one": 3, "two": 0.5, "three": True, "four": "word", "five": [1, 2], "six": False}
    with options(comm, some, "test"):
        seen = Options("test")
        assert seen.integer("one", 0) == 3 and seen.real("two", 0.0) == 0.5 and seen.given("three")
        assert seen.string("four", "") == "word" and seen.string("five", "") == "1,2"
        assert seen.string("six", "") == "false"
        assert seen.integer("seven", 7) == 7
    assert not [name for name in petsc().Options().getAll() if name.startswith("distdiff_")]


def test_command_line_wins(comm):
    database = petsc().Options()
    database.setValue("distdiff_one", 1)
    try:
        with options(comm, {"one": 2}, "test") as given:
            assert given.integer("one", 0) == 1
        assert database.getAll()["distdiff_one"] == "1"
    finally:
        database.delValue("distdiff_one")


def test_unused_options_are_warned_about_and_others_not(comm):
    petsc().Options().setValue("somebody_elses", 1)
    with told(comm, "distdiff_never_used was not used by test"):
        with options(comm, {"used": 1, "never_used": 2}, "test") as given:
            given.integer("used", 0)
    petsc().Options().delValue("somebody_elses")


def test_wrong_option_values(comm):
    with pytest.raises(InputError, match="'blue'.*red, green"):
        with options(comm, {"colour": "blue"}, "test") as given:
            given.string("colour", "red", ("red", "green"))
    with pytest.raises(InputError, match="no integer"):
        with options(comm, {"count": "many"}, "test") as given:
            given.integer("count", 0)
    with pytest.raises(InputError, match="no number"):
        with options(comm, {"size": "large"}, "test") as given:
            given.real("size", 0.0)


def test_only_our_words_of_a_command_line_reach_petsc(comm):
    argv = ["-h", "--input", "x.npz", "-distdiff_ksp_rtol", "1e-3", "-v", "-log_view", "-distdiff_shift", "-1",
            "-distdiff_flag"]
    assert room._words(argv, room._PASSED_ON) == ["-distdiff_ksp_rtol", "1e-3", "-log_view", "-distdiff_shift", "-1",
                                                 "-distdiff_flag"]
    assert room._pairs(room._words(argv, ("-distdiff_",))) == [
        ("distdiff_ksp_rtol", "1e-3"), ("distdiff_shift", "-1"), ("distdiff_flag", None)]
