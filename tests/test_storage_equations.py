"""Equations in tape files: a tape with `dd.implicit` statements is saved with what their residuals recorded."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from tape_files import EDITS, assert_same, edited, refused, rewritten

import distdiff as dd
from distdiff.errors import BranchChangedError, ConvergenceError, DistdiffError, FormatError, InputError
from distdiff.implicit import fixed_point, linear_solve, minimize, root
from distdiff.implicit import shared as sharing
from distdiff.storage import DEPTH

pytestmark = [pytest.mark.timeout(90), pytest.mark.few_ranks]
X = np.array([1.3, 0.8, 0.6])


def nested(x):
    """Every kind of equation, equations in an equation, an equation used twice, scalar code and arrays."""
    y = root(lambda x, y: y + y**3 - x, x, np.zeros(3))
    z = minimize(lambda a, w: (w - a) ** 2 * (1 + w**2) + w**4, y[0] * x[1], 0.3)

    def within(y, v):
        r = root(lambda s, r: r**3 + r - s, v, 0.1)
        return np.cos(v) * y[0] * 0.5 + r + root(lambda s, r: np.sinh(r) - s[0] * s[1], (r, v), 0.1)

    q = fixed_point(lambda y, v: 0.3 * within(y, v), y, 0.2, method="hybr")
    return np.sum(x * y) + z * q + linear_solve(2.0 * np.eye(3) + np.outer(y, y), x)[1]


def deciding(x):
    """A branch at the solution, and an explicit one."""
    y = root(lambda x, y: (y - x[0] if y > 0 else y**3 + y - x[0]) * 2.0, x, 0.5)
    return y * np.sum(x) if x[1] > 0 else y


def field(x):
    """A nonlinear system on a grid: blocks, scans, a select, a Fourier transform."""
    n = 12
    grid = np.linspace(0.0, 1.0, n)

    def residual(x, u):
        left = np.concatenate([[0.0], u[:-1]])
        right = np.concatenate([u[1:], [0.0]])
        smooth = np.fft.irfft(np.fft.rfft(u), n)
        return 3.0 * u - left - right + x[0] * u**3 - np.sin(grid * x[1]) + 0.1 * smooth - 0.01 * np.cumsum(u) * x[2]

    return np.sum(root(residual, x, np.zeros(n)) ** 2)


@pytest.mark.mpi
@pytest.mark.parametrize("f", [nested, deciding, field])
def test_a_loaded_equation_is_the_one_that_was_saved(f, shared_tmp_path):
    path = shared_tmp_path / "f.tape"
    traced = dd.trace(f, X)
    traced.save(path, point=(X,))
    tape = dd.load(path)
    if traced.blocks:  # rank 0 has it
        assert_same(traced, tape)
    x = X * 1.05
    for method in ("sweep", "substitution"):
        with dd.linearize(f, x) as lin, dd.linearize(tape, x, method=method) as loaded:
            np.testing.assert_allclose(loaded.value, lin.value, rtol=1e-13)
            np.testing.assert_allclose(loaded.vjp(1.0), lin.vjp(1.0), rtol=1e-11)
            np.testing.assert_allclose(loaded.jvp(X), lin.jvp(X), rtol=1e-11)
            loaded.update(X)
            np.testing.assert_allclose(loaded.update(x), lin.value, rtol=1e-13)
    np.testing.assert_allclose(dd.hvp(tape, (x,), (X,)), dd.hvp(f, (x,), (X,)), rtol=1e-9, atol=1e-11)


@pytest.mark.mpi
def test_a_loaded_equation_is_shared_by_ranks(shared_tmp_path, monkeypatch, comm):
    monkeypatch.setattr(sharing, "UNKNOWNS", 64)

    def f(x):
        u = root(lambda x, u: 4.0 * u - np.roll(u, 1) - np.roll(u, -1) + u**3 - x, x, np.zeros(256))
        return np.sum(u**2)

    x = np.cos(np.arange(256.0))
    dd.trace(f, x).save(shared_tmp_path / "f.tape")
    with dd.linearize(dd.load(shared_tmp_path / "f.tape"), x, partition="axes", min_block=16, method="sweep") as lin:
        np.testing.assert_allclose(lin.vjp(1.0), dd.grad(f)(x), rtol=1e-9)
        if comm.size == 2:
            assert "shared" in str(lin.report())


def test_another_process_needs_nothing_of_the_equations(tmp_path):
    dd.trace(nested, X).save(tmp_path / "f.tape", point=(X,))
    code = ("import sys, distdiff as dd; t = dd.load(sys.argv[1]); x, = t.point;"
            "print(dd.grad(t)(x * 1.05).tolist(), dd.hvp(t, (x,), (x,)).tolist(), sep='\\n')")
    said = subprocess.run([sys.executable, "-c", code, tmp_path / "f.tape"], capture_output=True, text=True, check=True,
                          timeout=60).stdout.splitlines()
    np.testing.assert_allclose(eval(said[0]), dd.grad(nested)(X * 1.05), rtol=1e-12)
    np.testing.assert_allclose(eval(said[1]), dd.hvp(nested, (X,), (X,)), rtol=1e-12)


def test_loaded_equations_are_saved_again_and_nest(tmp_path):
    dd.trace(nested, X).save(tmp_path / "f.tape", point=(X,))
    tape = dd.load(tmp_path / "f.tape")
    tape.save(tmp_path / "again.tape", point=tape.point)
    assert (tmp_path / "f.tape").read_bytes() == (tmp_path / "again.tape").read_bytes()
    for make in (dd.grad, lambda f: lambda x: f(np.sin(x)) * x[0]):
        dd.trace(make(tape), X).save(tmp_path / "g.tape")
        loaded = dd.load(tmp_path / "g.tape")
        np.testing.assert_allclose(dd.jacobian(loaded)(X * 1.1), dd.jacobian(make(nested))(X * 1.1), rtol=1e-9,
                                   atol=1e-11)


def test_what_a_loaded_equation_says(tmp_path):
    dd.trace(deciding, X).save(tmp_path / "f.tape")
    tape = dd.load(tmp_path / "f.tape")
    with pytest.raises(BranchChangedError, match="test_storage_equations.py"):
        tape(np.array([-1.0, 0.8, 0.6]))
    dd.trace(lambda x: root(lambda x, y: y**2 - x[0], x, 1.0), X).save(tmp_path / "f.tape")
    with pytest.raises(ConvergenceError, match=r"the equation at .*test_storage_equations.py:\d+ in .*<lambda>"):
        dd.load(tmp_path / "f.tape")(-X)


def test_files_without_equations_are_of_the_first_version(tmp_path):
    """So distdiff's that read no other version can read them; a newer one reads both."""
    def said(arrays):
        header = json.loads(arrays["header"].tobytes())
        versions.append((header["version"], len(header.get("tapes", ()))))

    versions: list[tuple[int, int]] = []
    for f in (np.sum, nested):
        dd.trace(f, X).save(tmp_path / "f.tape")
        rewritten(tmp_path / "f.tape", tmp_path / "g.tape", said)
        assert dd.load(tmp_path / "g.tape")(X) == pytest.approx(f(X), rel=1e-13)
    assert versions == [(1, 0), (2, 6)]


# -- files made to mislead ---------------------------------------------------------------------------------------------


def altered(old, new):
    def alter(arrays):
        header = arrays["header"].tobytes()
        assert old in header
        arrays["header"] = np.frombuffer(header.replace(old, new, 1), dtype=np.uint8)
    return alter


@pytest.mark.parametrize("old, new, match", [
    (b'{"tape": 0}', b'{"tape": 9}', "none of the"), (b'{"tape": 0}', b'{"tape": -1}', "none of the"),
    (b'{"tape": 0}', b'{"tape": "0"}', "none of the"), (b'{"tape": 0}', b'{"file": 0}', "none of the"),
    (b'{"tape": 0}', b"0", "elemental can't be"), (b'["newton"', b'["os.system"', "does not solve"),
    (b'"root", [3]', b'"root", [4]', "none for"), (b'"root", [3]', b'"root", [5, -2]', "none for"),
    (b'"root", [3]', b'"minimum", [3]', "none for"), (b'"root", [3]', b'"what", [3]', "not known"),
    (b'"root", [3]', b'"root", [[3]]', "can't be"), (b'"root", [3]', b'"root", [3.0]', "can't be"),
    (b'"root", [3]', b'"root", 3', "can't be"),
    (b'"guarded": false', b'"guarded": 2', "can't be"), (b'"where": "', b'"where": 0, "what": "', "can't be"),
    (b"1e-10, 100", b"1e-10, 1e3", "can't be"), (b"1e-10, 100", b"-1.0, 100", "tolerance"),
    (b'"tapes": [[', b'"tapes": [[], [', "no place 0"),
    (b'"tapes": [[', b'"tapes": [null, [', "sites")])
def test_headers_of_equations_that_say_otherwise(old, new, match, tmp_path):
    dd.trace(nested, X).save(tmp_path / "f.tape")
    rewritten(tmp_path / "f.tape", tmp_path / "g.tape", altered(old, new))
    refused(tmp_path / "g.tape", match)


def test_equations_within_equations_end(tmp_path):
    def within(x, depth):
        return root(lambda x, y: y + y**3 - (within(x, depth - 1) if depth else x), x, 0.1)

    dd.trace(lambda x: within(x, 2), 0.5).save(tmp_path / "f.tape")
    assert dd.load(tmp_path / "f.tape")(0.6) == pytest.approx(within(0.6, 2), rel=1e-12)
    tape = dd.trace(lambda x: root(lambda x, y: y + y**3 - x, x, 0.1), 0.5)
    (equation,) = (item for item in tape.items if item.op.name == "implicit")
    for _ in range(DEPTH):  # as deep as a trace would take long for
        inner = equation.op
        equation = equation.over((), equation.out, equation.operands)
        equation = type(equation)(type(inner)(wrapped(tape, inner), inner.settings, False, ""), (), equation.out,
                                  equation.operands, equation.site)
    tape.items[0] = equation
    with pytest.raises(InputError, match="deep"):
        tape.save(tmp_path / "f.tape")


def wrapped(tape, inner):
    """The tape of an equation R(y, x) = G(x) - y, where G is `inner`."""
    from distdiff.ops import BY_NAME
    from distdiff.tape import Affine, Const, Joint, Leaf, Statement, Tape

    own = Tape()
    x, y = own.add_block((1,)), own.add_block((1,))
    own.inputs = [Leaf((1,), Affine(b, 0, (1,))) for b in (x, y)]
    g = own.add_block((2,))
    own.items.append(Joint(inner, (), Affine(g, 0, (1,)), (Const(np.zeros(1)), Affine(x, 0, (1,)))))
    r = own.add_block((1,))
    own.items.append(Statement(BY_NAME["subtract"], (1,), Affine(r, 0, (1,)), (Affine(g, 0, (1,)), Affine(y, 0, (1,)))))
    own.outputs = [Leaf((1,), Affine(r, 0, (1,)))]
    return own


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for f in (nested, deciding, field):
        dd.trace(f, X).save(folder / f"{f.__name__}.tape")
    return folder


@given(edits=EDITS)
@settings(max_examples=25)
@pytest.mark.parametrize("name", ["nested", "deciding", "field"])
def test_edited_fields_of_equations(name, edits, files, tmp_path):
    """Refused, or a tape that means something: its value and derivative agree, or it says what is wrong."""
    rewritten(files / f"{name}.tape", tmp_path / "g.tape", lambda arrays: edited(arrays, edits))
    try:
        tape = dd.load(tmp_path / "g.tape", most_lines=20_000)
    except FormatError:
        return
    x = [np.resize(X, leaf.shape) for leaf in tape.inputs]
    try:
        with dd.linearize(tape, *x, argnums=tuple(range(len(x))), method="sweep") as lin:
            forward = np.concatenate([np.ravel(part) for part in (
                lin.jvp(*x) if isinstance(lin.value, tuple) else (lin.jvp(*x),))])
            seeds = [np.ones(np.shape(part)) for part in (lin.value if isinstance(lin.value, tuple) else (lin.value,))]
            back = lin.vjp(tuple(seeds) if isinstance(lin.value, tuple) else seeds[0])
    except DistdiffError:
        return
    back = back if isinstance(back, tuple) else (back,)
    pairing = sum(float(np.vdot(a, b)) for a, b in zip(back, x))
    np.testing.assert_allclose(forward.sum(), pairing, rtol=1e-6, atol=1e-8 * np.abs(forward).max(initial=1.0))
