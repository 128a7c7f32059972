"""The coverage table is complete and true: what it calls exact has a case that is checked, what it calls constant has
derivative zero, and what it calls refused raises an error that names it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from namespaces import AUTOGRAD, AUTOGRAD_ZERO, JAX, NOT_DIFFERENTIABLE
from numpy_cases import CASES, named

import distdiff as dd
from distdiff import coverage
from distdiff.errors import UnsupportedOperationError
from distdiff.tracing import plain_value

TABLE = {entry.name: entry for entry in coverage.table()}
U, Q = np.array([0.9137, 1.7214, 0.4353, 1.3079]), np.array([[1.9137, 0.7214], [0.3079, 2.6181]])
ATTEMPTS = {  # arguments with which a function may be called, of traced u and q
    "u": lambda f, u, q: f(u),
    "q": lambda f, u, q: f(q),
    "u, u": lambda f, u, q: f(u, u),
    "u, 2": lambda f, u, q: f(u, 2),
    "q, q": lambda f, u, q: f(q, q),
    "q, u": lambda f, u, q: f(q, u[:2]),
    "bits": lambda f, u, q: f(u > 1, u > 0.5),
    "[u, u]": lambda f, u, q: f([u, u]),
    "u, shape": lambda f, u, q: f(u, (5, 5)),
}
PARTICULAR = {  # functions that are called otherwise
    "save": lambda f, u, q: f("/nowhere/file", u),
    "savez": lambda f, u, q: f("/nowhere/file", u),
    "savez_compressed": lambda f, u, q: f("/nowhere/file", u),
    "savetxt": lambda f, u, q: f("/nowhere/file", u),
}


def names(status):
    return [name for name, entry in TABLE.items() if entry.status == status]


def function(name):
    if name.startswith("ndarray."):
        short = name.removeprefix("ndarray.")
        return lambda x, *args: getattr(x, short)(*args)
    found = np
    for part in name.split("."):
        found = getattr(found, part)
    return found


def outcome(name, attempt):
    """What NumPy's function of that name makes of traced arguments: its result, or the error."""
    results = []

    def f(u, q):
        y = attempt(function(name), u, q)
        results.append(plain_value(y))
        leaves = y if isinstance(y, (tuple, list)) else (y,)
        return [np.sum(leaf * 1.0) for leaf in leaves if getattr(leaf, "dtype", np.dtype("U")).kind in "fiub"] or u

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return results, dd.jvp(f, (U, Q), (np.ones(4), np.ones((2, 2))))[1]
        except Exception as error:  # of whatever kind: many attempts are none of the function's ways to be called
            return results, error


def test_no_name_is_missing():
    unknown = [name for name in names("refused") if not TABLE[name].note]
    assert not unknown, f"neither supported nor a reason why: {unknown}"
    public = {name for name in dir(np) if not name.startswith("_") and callable(getattr(np, name))
              and not isinstance(getattr(np, name), type)}
    assert public <= set(TABLE) | {"_"}
    stale = [name for name in coverage.REASONS if name in TABLE and TABLE[name].status != "refused"]
    assert not stale, f"no longer refused: {stale}"


def test_what_autograd_and_jax_differentiate_is_exact():
    """With `test_what_is_exact_or_constant_has_a_case` and the cases themselves: in value and to second order."""
    here = [name for name in AUTOGRAD if name in TABLE]  # msort is gone in NumPy 2
    assert len(here) >= len(AUTOGRAD) - 1
    assert not [name for name in here if TABLE[name].status != "exact"]
    assert not [name for name in AUTOGRAD_ZERO if TABLE[name].status == "refused"]
    known = [name for name in JAX if name in TABLE]  # those of the NumPy that is installed
    assert sorted(name for name in known if TABLE[name].status == "refused") == [
        name for name in NOT_DIFFERENTIABLE if name in TABLE]
    assert len(known) >= 280


@pytest.mark.parametrize("name", sorted({*names("constant")} - {"empty", "empty_like", "common_type", "ix_"}))
def test_what_is_constant_is_a_step(name):
    """NumPy's own function does not change with its arguments, wherever it may be called with them.  (`empty` gives any
    memory, `common_type` a type, `ix_` of no indices the floats themselves.)"""
    for attempt in ATTEMPTS.values():
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                found, moved = (attempt(function(name), U + h, Q + h) for h in (0.0, 1e-9))
            except Exception:  # of whatever kind: many attempts are none of the function's ways to be called
                continue
        for a, b in zip(*(y if isinstance(y, (tuple, list)) else (y,) for y in (found, moved))):
            if getattr(a, "dtype", np.dtype("U")).kind in "fiub":
                np.testing.assert_array_equal(a, b)


def test_what_is_exact_or_constant_has_a_case():
    covered = {id(function(name)) for case in CASES for name in named(case)}  # an alias is what it is an alias of
    missing = [name for name in names("exact") + names("constant") if id(function(name)) not in covered
               and not (name.startswith("ndarray.") and any(f".{name[8:]}(" in case for case in CASES))]
    assert not missing, f"no case in numpy_cases names {missing}"


@pytest.mark.parametrize("name", names("refused"))
def test_what_is_refused_says_so(name):
    errors = []
    attempts = {"in its way": PARTICULAR[name]} if name in PARTICULAR else ATTEMPTS
    for how, attempt in attempts.items():
        results, error = outcome(name, attempt)
        assert not results, f"numpy.{name}({how}) returned {results}"
        errors.append(error)
    refusals = [str(error) for error in errors if isinstance(error, UnsupportedOperationError)]
    called = {name, getattr(function(name), "__name__", name)} - {"<lambda>"}
    assert any(f"numpy.{n}" in text for text in refusals for n in called), errors


@pytest.mark.parametrize("name", names("constant"))
def test_what_is_constant_has_derivative_zero(name):
    for how, attempt in ATTEMPTS.items():
        results, derivative = outcome(name, attempt)
        if results and not isinstance(derivative, Exception) and derivative is not None:
            kinds = [getattr(y, "dtype", np.dtype("U")).kind
                     for y in (results[0] if isinstance(results[0], (tuple, list)) else (results[0],))]
            if set(kinds) & set("fiub"):
                assert not any(np.any(d) for d in derivative), (how, derivative)


def test_the_table_as_text():
    text = coverage.text("cum")
    assert "cumsum" in text and "exact" in text and "sin" not in text.split("\n")[0]
    assert coverage.text("nothing_like_this") == ""


@pytest.mark.parametrize("written, name", [
    ("np.linalg.solve", "linalg.solve"), ("numpy.linalg.solve", "linalg.solve"), ("linalg.solve", "linalg.solve"),
    ("sp.special.jv", "scipy.special.jv"), ("scipy.special.jv", "scipy.special.jv"), ("np.cumsum", "cumsum")])
def test_names_as_programs_write_them(written, name):
    lines = coverage.text(written).splitlines()
    assert any(line.split()[:1] == [name] for line in lines), lines
    if written.startswith("n"):
        assert "SciPy" not in lines[-1]
    assert coverage.text("np.jv") == ""


@pytest.mark.parametrize("pattern, words", [("odeint", "solve_ivp with method"), ("splrep", "Not covered"),
                                            ("zoom_fft", "Not covered"), ("genextreme", "Not covered")])
def test_functions_of_scipys_in_no_table_are_said_to_be_in_none(pattern, words):
    text = coverage.text(pattern)
    assert f".{pattern}  not covered" in text and words in text
