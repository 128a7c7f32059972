"""Tapes in files: what is loaded is what was saved, and no file, whatever it says, gets past the check as another."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections import namedtuple
from itertools import product

import elementals
import functions
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import tape_oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from mpi4py import MPI
from random_tapes import random_tape
from tape_files import EDITS, MEMBERS, assert_same, edited, refused, rewritten

import distdiff as dd
from distdiff.errors import (
    BranchChangedError,
    DistdiffError,
    FormatError,
    InputError,
    NonFiniteError,
    NoValueError,
    SingularError,
)
from distdiff.kernels import scalar
from distdiff.program import Program
from distdiff.storage import elementals as named
from distdiff.storage import load_tape, save_tape
from distdiff.storage.archive import Writer
from distdiff.tape import ScalarRun
from distdiff.tracing.tree import LEAF, Spec

Pair = namedtuple("Pair", "a b")
X = np.linspace(0.2, 1.4, 7)


@pytest.fixture(autouse=True, scope="module")
def built_in():
    """The tests' elementals, as if they were distdiff's own."""
    known = {name: f"elementals:{name}" for name in ("MatVec", "Polar", "Products", "Solve")}
    named.BUILT_IN.update(known)
    yield
    for name in known:
        del named.BUILT_IN[name]


def program(x, k):
    """Array code, scalar code, decisions, an order, a mask, index arrays, constants, several results."""
    u = x
    for _ in range(3):
        u = u + k * (np.roll(u, 1) - 2.0 * u + np.roll(u, -1))
    s = 0.0
    for i in range(4):
        s = s + u[i] * np.sin(u[i + 1])
    if s > 0:
        s = s * k
    ordered = np.sort(u)
    return {"s": s + np.sum(u[u > 0.5] ** 2), "u": [np.where(u > 1.0, u**2, 3.0 * u) @ np.outer(X, X), ordered[::2]],
            "c": 2.0, "cumulative": Pair(np.cumsum(u * np.arange(7.0)), u.max())}


def sealed(tape):
    """A random tape with what a traced one has."""
    tape.in_tree = Spec("tuple", children=(LEAF,) * len(tape.inputs))
    tape.out_tree = Spec("tuple", children=(LEAF,) * len(tape.outputs))
    return tape


def check_against_oracle(tape, x, method="sweep"):
    """The tape run by the library is what an interpreter of its own makes of it, value and Jacobian."""
    y = tape_oracle.evaluate(tape, x)  # asserts that operands come before results
    wanted = tape_oracle.outputs(tape, y)
    leaves, start = [], 0
    for leaf in tape.inputs:
        n = int(np.prod(leaf.shape))
        leaves.append(x[start : start + n].reshape(leaf.shape))
        start += n
    try:
        with dd.linearize(Program(**vars(tape)), *leaves, argnums=tuple(range(len(leaves))), method=method) as lin:
            found = np.concatenate([np.ravel(part) for part in lin.value])
            if np.isfinite(wanted).all():  # the interpreter knows no sums over nothing
                np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
            weight = [np.ones(np.shape(part)) for part in lin.value]
            pulled = np.concatenate([np.ravel(part) for part in lin.vjp(tuple(weight))])
    except BranchChangedError:
        assert not tape_oracle.check_guards(tape, y)
        return
    except NonFiniteError:
        return
    jacobian = tape_oracle.jacobian(tape, x)
    if np.isfinite(jacobian).all():
        scale = max(1.0, np.abs(jacobian).max(initial=0.0), np.abs(y[np.isfinite(y)]).max(initial=0.0))
        np.testing.assert_allclose(pulled, jacobian.sum(axis=0), rtol=1e-8, atol=1e-9 * scale)


# -- there and back ------------------------------------------------------------------------------------------------


@pytest.mark.mpi
@pytest.mark.parametrize("case", functions.CASES[::3], ids=str)
def test_a_loaded_tape_is_its_function_on_any_ranks(case, shared_tmp_path):
    path = shared_tmp_path / "f.tape"
    dd.trace(case.f, case.x).save(path, point=(case.x,))
    tape = dd.load(path)
    x = case.x * 1.01
    with dd.linearize(case.f, x) as lin:
        value, v = lin.value, np.cos(np.arange(x.size)).reshape(x.shape)
        w = np.sin(np.arange(np.size(value)) + 1.0).reshape(np.shape(value))
        for method in ("sweep", "substitution"):
            try:
                loaded = dd.linearize(tape, x, partition="axes", min_block=1, method=method)
            except BranchChangedError:
                assert not case.holomorphic
                return
            with loaded:
                np.testing.assert_allclose(loaded.value, value, rtol=1e-12, atol=1e-13)
                np.testing.assert_allclose(loaded.jvp(v), lin.jvp(v), rtol=1e-11, atol=1e-11)
                np.testing.assert_allclose(loaded.vjp(w), lin.vjp(w), rtol=1e-11, atol=1e-11)
                loaded.update(case.x)
                loaded.update(x)
                np.testing.assert_allclose(loaded.vjp(w), lin.vjp(w), rtol=1e-11, atol=1e-11)
    if np.shape(value) == () and case.holomorphic:
        np.testing.assert_allclose(dd.hvp(tape, (x,), (v,)), dd.hvp(case.f, (x,), (v,)), rtol=1e-9, atol=1e-9)
        with dd.recorded(tape) as F:
            np.testing.assert_allclose(F.grad(x), dd.grad(case.f)(x), rtol=1e-11, atol=1e-11)


@pytest.mark.mpi
def test_a_loaded_tape_s_named_tuples_travel(shared_tmp_path):
    path = shared_tmp_path / "f.tape"
    dd.trace(lambda p: {"q": Pair(p.a * p.b, p.b)}, Pair(np.arange(3.0), 2.0)).save(path)
    with dd.linearize(dd.load(path), Pair(np.ones(3), 4.0)) as lin:
        q = lin.value["q"]
        assert type(q).__name__ == "Pair" and q.b == 4.0
        np.testing.assert_array_equal(q.a, np.full(3, 4.0))
        np.testing.assert_array_equal(lin.vjp({"q": type(q)(np.ones(3), 0.0)}).b, 3.0)
        np.testing.assert_array_equal(lin.vjp({"q": Pair(np.ones(3), 0.0)}).b, 3.0)  # of one's own type as well
        with pytest.raises(InputError, match="nested as {'q': Other"):
            lin.vjp({"q": namedtuple("Other", "a b")(np.ones(3), 0.0)})


def test_a_rule_of_one_s_own_is_in_no_file(tmp_path):
    @dd.custom_jvp
    def square(x):
        return x * x

    square.defjvp(lambda primals, tangents: (square(*primals), 2.0 * primals[0] * tangents[0]))
    dd.trace(lambda x: square(x).sum(), np.ones(3)).save(tmp_path / "f.tape")
    with pytest.raises(InputError, match=r"calls square .*code and in no file.*rules=\[square\]"):
        dd.load(tmp_path / "f.tape")


def test_everything_there_and_back(tmp_path):
    path = tmp_path / "f.tape"
    tape = dd.trace(program, X, 0.1, argnums=(0, 1))
    tape.save(path, point=(X, 0.1))
    loaded = dd.load(path)
    assert_same(tape, loaded)
    assert loaded.names == ("x", "k") and np.array_equal(loaded.point[0], X) and loaded.point[1] == 0.1
    a, b = loaded(X, 0.1), program(X, 0.1)
    assert a.keys() == b.keys() and a["s"] == b["s"] and type(a["cumulative"]).__name__ == "Pair"
    np.testing.assert_array_equal(a["cumulative"].a, b["cumulative"].a)
    again = tmp_path / "again.tape"
    loaded.save(again, point=loaded.point)
    assert path.read_bytes() == again.read_bytes()
    tape.save(path)
    assert dd.load(path).point is None
    assert set(np.load(path).files) > {"header", "structure", "run_op"}, "NumPy reads it without pickle"

    for number in (0, 1, (0, 1), (1,)):
        w = {"s": 1.0, "u": [np.ones(7), np.arange(4.0)], "c": 0.0, "cumulative": (np.cos(X), 2.0)}
        with dd.linearize(program, X, 0.1, argnums=number) as one, dd.linearize(loaded, X, 0.1, argnums=number) as two:
            w["cumulative"] = type(two.value["cumulative"])(*w["cumulative"])
            found = two.vjp(w)
            w["cumulative"] = Pair(*w["cumulative"])
            for p, q in zip(*(r if isinstance(r, tuple) else (r,) for r in (found, one.vjp(w)))):
                np.testing.assert_allclose(p, q, rtol=1e-12)

    def inside(f):
        return lambda x: f(X + 0.02 * np.sin(x), 0.1 + 0.01 * x[0])["s"] * x[1] + np.sum(f(x, 0.1)["cumulative"][0])

    np.testing.assert_allclose(dd.grad(inside(loaded))(X), dd.grad(inside(program))(X), rtol=1e-12)
    np.testing.assert_allclose(dd.hessian(inside(loaded))(X), dd.hessian(inside(program))(X), rtol=1e-10, atol=1e-10)
    third = [dd.jvp(dd.hessian(lambda x, f=f: f(x, 0.1)["s"]), (X,), (X,))[1] for f in (loaded, program)]
    np.testing.assert_allclose(*third, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("seed", range(30))
def test_random_tapes_there_and_back(seed, tmp_path):
    tape, x = random_tape(seed)
    save_tape(sealed(tape), tmp_path / "f.tape")
    loaded, point, names = load_tape(tmp_path / "f.tape")
    assert point is names is None
    assert_same(tape, loaded)
    if all(leaf.shape == () or np.prod(leaf.shape) for leaf in tape.inputs):
        check_against_oracle(loaded, x)


def test_joint_statements_go_by_name_and_parameters(tmp_path, monkeypatch):
    def f(x):
        return np.sum(elementals.apply(elementals.Solve(2), np.reshape(x[:4], (2, 2)) + 3.0 * np.eye(2), x[4:6]) ** 2)

    tape = dd.trace(f, X)
    tape.save(tmp_path / "f.tape")
    loaded = dd.load(tmp_path / "f.tape")
    assert_same(tape, loaded)
    np.testing.assert_allclose(dd.grad(loaded)(X + 0.1), dd.grad(f)(X + 0.1), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dd.hessian(loaded)(X + 0.1), dd.hessian(f)(X + 0.1), rtol=1e-11, atol=1e-13)

    def parameters(text):
        def alter(arrays):
            header = arrays["header"].tobytes()
            assert b'["Solve", {"n": 2' in header
            arrays["header"] = np.frombuffer(header.replace(b'["Solve", {"n": 2', text), dtype=np.uint8)
        return alter

    for text in (b'["Solve", {"n": 3', b'["Solve", {"n": -2', b'["Solve", {"n": "2"', b'["Solve", {"m": 2',
                 b'["MatVec", {"m": 2', b'["os.system", {"n": 2', b'["Solve", {"n": 4000000000000'):
        rewritten(tmp_path / "f.tape", tmp_path / "g.tape", parameters(text))
        refused(tmp_path / "g.tape")
    monkeypatch.delitem(named.BUILT_IN, "Solve")
    refused(tmp_path / "f.tape", "elemental 'Solve' that is not known")
    with pytest.raises(InputError, match="can't be saved"):
        tape.save(tmp_path / "f.tape")


S = scipy.sparse.csr_matrix([[4.0, 1.0, 0.0], [1.0, 5.0, 1.0], [0.0, 1.0, 6.0]])
SPARSE = {
    "cg": lambda x: scipy.sparse.linalg.cg(S + scipy.sparse.diags(x[:3] ** 2).tocsr(), x[3:6], maxiter=50)[0],
    "spsolve": lambda x: scipy.sparse.linalg.spsolve((S + scipy.sparse.diags(x[:3] ** 2)).tocsc(), x[3:6]),
    "lstsq": lambda x: np.linalg.lstsq(np.reshape(x[:6], (3, 2)), x[:3], rcond=None)[0],
}


@pytest.mark.parametrize(("name", "old", "new"), [
    ("cg", '["maxiter", 50]', text) for text in (
        '["maxiter", "text"]', '["maxiter", [1]]', '["maxiter", []]', '["callback", 1]', '["M", 1.0]', '["A", 1.0]',
        '["maxiters", 50]',
        '["tol", null]', '["maxiter", 1.5]', '[50, "maxiter"]', '["maxiter"]', '["callback_type", "x"]', '7')] + [
    ("cg", '"cg"', '"eigs"'), ("cg", '"n": 3', '"n": true'), ("cg", '"n": 3', '"n": 3.0'),
    ("spsolve", '"transposed": false', '"transposed": "no"'), ("spsolve", '"transposed": false', '"transposed": 7'),
    ("lstsq", '"rcond": ', '"rcond": "2" , "k": ')], ids=str)
def test_parameters_of_elementals_are_of_their_kinds(name, old, new, tmp_path):
    dd.trace(SPARSE[name], X).save(tmp_path / "f.tape")

    def alter(arrays):
        text = arrays["header"].tobytes()
        assert old.encode() in text
        arrays["header"] = np.frombuffer(text.replace(old.encode(), new.encode()), dtype=np.uint8)

    rewritten(tmp_path / "f.tape", tmp_path / "g.tape", alter)
    refused(tmp_path / "g.tape")


@pytest.mark.parametrize("name", ["cg", "spsolve"])
def test_sparse_matrices_that_mislead_are_told_before_anybody_reads_them(name, tmp_path):
    """SciPy reads and writes wherever row numbers and beginnings of columns point to."""
    dd.trace(SPARSE[name], X).save(tmp_path / "f.tape")
    constants = np.load(tmp_path / "f.tape")["constants"].tolist()
    rows = constants.index(6.0) + 1  # they follow A's last entry, and where columns begin them
    assert constants[rows : rows + 11] == [0, 1, 0, 1, 2, 1, 2, 0, 2, 5, 7]
    for k, place in product(range(rows, rows + 11), [3e9, -1.0, 8.0, np.nan]):
        rewritten(tmp_path / "f.tape", tmp_path / "g.tape",
                  lambda arrays, k=k, place=place: arrays["constants"].put(k, place))
        loaded = dd.load(tmp_path / "g.tape")
        with pytest.raises(InputError, match="row numbers or beginnings of columns that are none"):
            loaded(X)


def test_gradients_and_compiled_loops_are_saved_too(tmp_path):
    def loop(x):
        y = x[0]
        for k in range(1000):
            y = y + 0.001 * np.sin(y) * x[k % 7]
        return y

    for f in (dd.grad(loop), loop, dd.grad(functions.burgers)):
        dd.trace(f, X).save(tmp_path / "g.tape")
        np.testing.assert_allclose(dd.jacobian(dd.load(tmp_path / "g.tape"))(X + 0.1), dd.jacobian(f)(X + 0.1),
                                   rtol=1e-12, atol=1e-13)


def test_another_process_needs_nothing_of_the_function(tmp_path):
    dd.trace(lambda x: np.sum(np.sin(x) * X), X).save(tmp_path / "f.tape", point=(X,))
    code = ("import sys, distdiff as dd; t = dd.load(sys.argv[1]); x, = t.point;"
            "print(dd.grad(t)(x + 0.5).tolist(), dd.hvp(t, (x,), (x,)).tolist(), sep='\\n')")
    said = subprocess.run([sys.executable, "-c", code, tmp_path / "f.tape"], capture_output=True, text=True, check=True,
                          timeout=60).stdout.splitlines()
    np.testing.assert_allclose(eval(said[0]), X * np.cos(X + 0.5), rtol=1e-14)
    np.testing.assert_allclose(eval(said[1]), -X * X * np.sin(X), rtol=1e-14)


def test_a_file_takes_about_the_tapes_own_bytes(tmp_path):
    table = np.ones((50, 50))

    def f(x):
        for _ in range(100):
            x = np.tanh(table @ x)
        y = x[0]
        for _ in range(20_000):
            y = y * x[1] + x[2]
        return y

    tape = dd.trace(f, np.ones(50))
    tape.save(tmp_path / "f.tape")
    runs = sum(item.nbytes for item in tape.items if isinstance(item, ScalarRun))
    assert runs > 350_000
    assert (tmp_path / "f.tape").stat().st_size < runs + table.nbytes + 250 * len(tape.items) + 5000


# -- what a tape cannot do ---------------------------------------------------------------------------------------------


@pytest.mark.mpi
def test_a_decision_that_falls_otherwise_is_refused(shared_tmp_path):
    def f(x):
        return np.sum(x**2) if x[0] > 0 else np.sum(x**3)

    dd.trace(f, X).save(shared_tmp_path / "f.tape")
    tape = dd.load(shared_tmp_path / "f.tape")
    with pytest.raises(BranchChangedError, match=r"test_storage.py:\d+ in .*can't be traced again"):
        dd.linearize(tape, -X)
    with dd.linearize(tape, X) as lin:
        with pytest.raises(BranchChangedError, match="can't be traced again"):
            lin.update(-X)
        with pytest.raises(InputError, match="no point"):
            lin.vjp(1.0)
        assert lin.update(2 * X) == 4 * np.sum(X**2) and lin.retraces == 0
        np.testing.assert_allclose(lin.vjp(1.0), 4 * X)
        np.testing.assert_allclose(lin.hvp(X), 2 * X)
    with pytest.raises(BranchChangedError), dd.recorded(tape) as F:
        F(X)
        F(-X)
    with pytest.raises(InputError, match="one shape"):
        dd.linearize(tape, X[:3])
    with pytest.raises(InputError, match="one shape"):
        dd.grad(lambda x: tape(x[:2]))(X)
    here = MPI.COMM_WORLD.rank == 0
    with pytest.raises(InputError, match=r"takes 1 of the function's.*argnums=\(0, 1\)\) records all 2" if here else (
            "nothing of the tape, which rank 0 keeps")):
        tape(X, 2.0)
    with pytest.raises(BranchChangedError):
        dd.grad(lambda x: tape(-x))(X)


@pytest.mark.mpi
@pytest.mark.parametrize("f, bad, words", [
    (lambda x: np.sum(np.linalg.cholesky(np.diag(x))), [-1.0, 2.0], "not positive definite"),
    (lambda x: np.sum(np.linalg.solve(np.diag(x), x)), [0.0, 2.0], "Singular matrix"),
    (lambda x: np.sum(np.linalg.svd(np.diag(x))[1]), [np.nan, 2.0], "SVD did not converge"),
])
def test_an_operation_that_fails_on_a_tape_says_so(f, bad, words):
    """As one of distdiff's errors, on every rank; there is no function that could catch it."""
    tape, bad = dd.trace(f, np.array([1.0, 2.0])), np.array(bad)
    match = f"no value at this point: .*{words}.*test_storage.py:.*record it at this point, or move"
    with dd.linearize(tape, np.array([1.0, 2.0])) as lin, dd.recorded(tape, nonfinite="inf") as F:
        for call in (lambda: lin.update(bad), lambda: dd.linearize(tape, bad), lambda: dd.grad(tape)(bad)):
            with pytest.raises(NoValueError, match=match):
                call()
        assert lin.update(np.array([3.0, 2.0])) == pytest.approx(f(np.array([3.0, 2.0])))
        F(np.array([1.0, 2.0]))
        assert F(bad) == np.inf
    if tape.blocks:
        with pytest.raises(NoValueError, match=match):
            tape(bad)


def test_an_equation_that_was_singular_is_asked_again():
    tape = dd.trace(lambda x: np.sum(dd.implicit.linear_solve(np.diag(x), np.ones(2))), np.array([1.0, 2.0]))
    for _ in range(2):
        with pytest.raises(SingularError, match="does not determine"):
            dd.linearize(tape, np.array([0.0, 2.0]))
    np.testing.assert_allclose(dd.grad(tape)(np.array([1.0, 2.0])), [-1.0, -0.25])


def test_a_tape_that_has_gone_bad_says_where(tmp_path):
    dd.trace(lambda x: np.sum(np.log(x)), X).save(tmp_path / "f.tape")
    with pytest.raises(NonFiniteError, match=r"log is nan at .*test_storage.py"):
        dd.linearize(dd.load(tmp_path / "f.tape"), -X)


@pytest.mark.parametrize("x, words", [(1e200, "the result of square is inf"),
                                      (0.0, "a partial derivative of power is inf")])
def test_scalar_code_of_a_tape_has_no_line_and_its_caller_s_is_none(x, words):
    """Who calls a tape did not write it: a launcher of programs, say."""
    def scalars(u):
        total = 0.0
        for k in range(3):
            total = total + u[k] ** (2.0 if x else 0.5)
        return total

    tape = dd.trace(scalars, np.ones(3))
    for f, where in ((tape, f"{words} in scalar code, whose lines a tape does not hold"),
                     (scalars, f"{words} at .*test_storage.py:.* in .*scalars;")):
        with pytest.raises(NonFiniteError, match=where) as caught, dd.linearize(f, np.ones(3)) as lin:
            lin.update(np.full(3, x))
            lin.vjp(1.0)
        assert ("test_storage" in str(caught.value)) == (f is scalars)


def test_what_can_not_be_saved_says_so(tmp_path):
    tape = dd.trace(program, X, 0.1)
    for wrong, match in ((tmp_path, "directory"), (tmp_path / "no" / "f.tape", "no directory")):
        with pytest.raises(InputError, match=match):
            tape.save(wrong)
    with pytest.raises(InputError, match="one shape"):
        tape.save(tmp_path / "f.tape", point=(X[:2],))
    with pytest.raises(InputError, match="key"):
        dd.trace(lambda x: {(1, 2): x}, X).save(tmp_path / "f.tape")
    tape.items.append(object())
    with pytest.raises(InputError, match="type object can't be saved"):
        tape.save(tmp_path / "f.tape")
    assert not list(tmp_path.iterdir()), "nothing is left behind"
    with pytest.raises(InputError, match="no file"):
        dd.load(tmp_path / "f.tape")


def test_a_file_is_replaced_at_once_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "f.tape"
    dd.trace(lambda x: x * 2.0, X).save(path)
    before = path.read_bytes()
    monkeypatch.setattr(Writer, "add", lambda self, *member: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        dd.trace(lambda x: x * 3.0, X).save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


# -- files that are none -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "f.tape"
    dd.trace(lambda x: program(x, 0.1)["s"], X).save(path, point=(X,))
    return path


@pytest.mark.mpi
def test_every_rank_hears_of_it(shared_tmp_path, comm):
    if comm.rank == 0:
        (shared_tmp_path / "f.tape").write_bytes(b"not a tape")
    comm.Barrier()
    refused(shared_tmp_path / "f.tape", "no tape")


def test_truncated_files(saved, tmp_path):
    whole = saved.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 60).astype(int).tolist():
        (tmp_path / "f.tape").write_bytes(whole[:length])
        refused(tmp_path / "f.tape")


@given(st.integers(0, 10**9), st.integers(1, 255))
@settings(max_examples=80)
def test_flipped_bytes(saved, tmp_path, place, flip):
    """Told by a checksum, by the check, or of no consequence (an unused field of the archive)."""
    damaged = bytearray(saved.read_bytes())
    damaged[place % len(damaged)] ^= flip
    (tmp_path / "f.tape").write_bytes(damaged)
    try:
        loaded = dd.load(tmp_path / "f.tape")
    except FormatError:
        return
    assert_same(loaded, dd.load(saved))


@pytest.mark.parametrize("compiled", [False, True])
@given(seed=st.integers(0, 200), edits=EDITS)
@settings(max_examples=120)
def test_edited_fields(compiled, seed, edits, tmp_path, monkeypatch):
    """Refused, or a tape that means something: then the library makes of it what an interpreter of its own does."""
    monkeypatch.setattr(scalar._Loops, "spent", 10**12 if compiled else -(10**12))
    monkeypatch.setattr(scalar._Loops, "module", None)
    tape, x = random_tape(seed)
    save_tape(sealed(tape), tmp_path / "f.tape")
    rewritten(tmp_path / "f.tape", tmp_path / "g.tape", lambda arrays: edited(arrays, edits))
    try:
        loaded, _, _ = load_tape(tmp_path / "g.tape", most_lines=10_000)
    except FormatError:
        return
    if loaded.n_inputs and all(leaf.shape == () or np.prod(leaf.shape) for leaf in loaded.inputs):
        x = np.resize(x, loaded.n_inputs)
        check_against_oracle(loaded, x, "substitution" if seed % 4 == 0 else "sweep")


@pytest.mark.parametrize("change, match", [
    (b'"version": 1', "version"), (b'"version": 1', "'tapes'"), (b'"version": 1', "'rules'"),
    (b'"distdiff tape"', "header"), (b'"sin"', "'nis'"),
    (b'"statement"', "kind"),
    (b'"in_tree"', "nesting|arguments"), (b'"sites"', "sites")])
def test_headers_that_say_otherwise(saved, tmp_path, change, match):
    def alter(arrays):
        text = arrays["header"].tobytes()
        assert change in text
        other = {b'"version": 1': b'"version": %d' % {"'tapes'": 2, "'rules'": 3}.get(match, 4),
                 b'"sin"': b'"nis"'}.get(change, change[:-2] + b'x"')
        arrays["header"] = np.frombuffer(text.replace(change, other), dtype=np.uint8)

    rewritten(saved, tmp_path / "f.tape", alter)
    refused(tmp_path / "f.tape", match)


def test_headers_that_are_none(saved, tmp_path):
    for text in (b"", b"[]", b"{", b"[" * 100_000, b'{"format": 1e999}', b"\xff\xfe", b"9" * 5000):
        rewritten(saved, tmp_path / "f.tape", lambda arrays, text=text: arrays.update(
            header=np.frombuffer(text, dtype=np.uint8)))
        refused(tmp_path / "f.tape")
    rewritten(saved, tmp_path / "f.tape", lambda arrays: arrays.update(header=np.frombuffer(
        arrays["header"].tobytes().replace(b'"names": [', b'"names": ["\\ud800", '), dtype=np.uint8)))
    refused(tmp_path / "f.tape", "text that is none")


def test_archives_made_to_mislead(saved, tmp_path):
    target = tmp_path / "f.tape"
    with zipfile.ZipFile(saved) as source:
        members = {name: source.read(name) for name in source.namelist()}

    def write(compression=zipfile.ZIP_STORED, **other):
        with zipfile.ZipFile(target, "w", compression) as archive:
            for name, data in {**members, **{f"{n}.npy": d for n, d in other.items()}}.items():
                if data is not None:
                    archive.writestr(name, data)

    write()
    dd.load(target)
    write(zipfile.ZIP_DEFLATED)
    refused(target, "compressed|larger")
    for name in MEMBERS:
        write(**{name: None})
        refused(target, "no item named|There is no")
    header = members["structure.npy"][:128]
    for data in (b"", b"\x93NUMPY", header, header.replace(b"<i8", b"|O "), header.replace(b"<i8", b"<f8"),
                 header.replace(b"(", b"(9", 1), members["structure.npy"] + b"12345678",
                 header.replace(b"False", b"True ")):
        write(structure=data)
        refused(target)
    import pickle

    write(structure=pickle.dumps(print))
    refused(target)
    raw = bytearray(saved.read_bytes())
    raw[: 0] = b"x" * 10  # something before the archive is no harm to zip, and none here
    target.write_bytes(raw)
    assert_same(dd.load(target), dd.load(saved))


def test_a_tape_larger_than_wanted(tmp_path):
    dd.trace(lambda x: np.sum(np.sin(x)), np.ones(1000)).save(tmp_path / "f.tape")
    dd.load(tmp_path / "f.tape", most_lines=10_000)
    with pytest.raises(FormatError, match="most_lines"):
        dd.load(tmp_path / "f.tape", most_lines=1500)
    with pytest.raises(DistdiffError):
        dd.load(tmp_path / "f.tape", most_lines=100)
