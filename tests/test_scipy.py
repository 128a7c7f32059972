"""SciPy's functions traced: values, derivatives and replay, as `test_numpy` checks them; and SciPy afterwards."""

from __future__ import annotations

import importlib
import inspect
import sys
import threading

import numpy as np
import pytest
import scipy.special
from mpi4py import MPI
from scipy.special import logsumexp, softmax
from scipy_cases import CASES, NAMES
from test_numpy import check

import distdiff as dd
from distdiff.errors import UnsupportedOperationError
from distdiff.tracing import trace
from distdiff.tracing.active import TRACES
from distdiff.tracing.scipy import REPLACED, RULES
from distdiff.tracing.scipy.replacing import Replaced

OWN = logsumexp.__code__
U = np.array([0.9137, 1.7214, 0.4353, 1.3079])


@pytest.mark.parametrize("case", CASES)
def test_as_scipy(case):
    check(case, constants=NAMES, layouts=False)


@pytest.mark.mpi
@pytest.mark.parametrize("case", CASES[::7] if MPI.COMM_WORLD.size > 1 else [])  # on one rank all of them run anyway
def test_on_ranks(case):
    check(case, constants=NAMES, layouts=False)


# -- the exchange of code ----------------------------------------------------------------------------------------


def its_own() -> bool:
    return (logsumexp.__code__ is OWN and scipy.special.logsumexp is logsumexp
            and REPLACED not in sys.meta_path)


def test_scipy_is_itself_afterwards():
    assert its_own()
    trace(lambda u: logsumexp(u), (U,))
    assert its_own()
    for error in (ValueError, KeyboardInterrupt, SystemExit):

        def f(u, error=error):
            assert not its_own()
            raise error("stop")

        with pytest.raises(error):
            trace(f, (U,))
        assert its_own()


def test_traces_inside_a_trace():
    def f(u):
        inner = trace(lambda v: softmax(v), (np.array([3.0, 1.0]),))
        assert not its_own()
        return logsumexp(u) * inner.result[0]

    trace(f, (U,))
    assert its_own()


def test_plain_arguments_get_scipys_own_answer():
    expected, seen = logsumexp(U, b=2.0), []

    def f(u):
        y = logsumexp(U, b=2.0)
        z = np.zeros(4)  # can hold traced values, and does not
        seen.extend([y, type(logsumexp(z)), inspect.signature(logsumexp)])
        return u * y

    trace(f, (U,))
    assert seen[0] == expected and issubclass(seen[1], float)


def test_other_threads_are_left_alone():
    answers = []

    def other(u):  # a traced value in a thread that traces nothing
        try:
            answers.append(logsumexp(U))
            answers.append(threading.get_ident() in TRACES)
            logsumexp(u)
        except Exception as error:
            answers.append(error)

    def f(u):
        thread = threading.Thread(target=other, args=(u,))
        thread.start()
        thread.join()
        return u

    with pytest.raises(UnsupportedOperationError, match="in scipy.special.logsumexp at"):
        trace(f, (U,))
    assert answers[:2] == [logsumexp(U), False] and isinstance(answers[2], UnsupportedOperationError)


LATE = """
def double(x, *, by=2.0):
    return x.nothing

class Thing:
    factor = 3.0
    def times(self, x):
        return x.nothing

def closed(by):
    def scaled(x):
        return x.nothing
    return scaled

scaled = closed(4.0)
"""


@pytest.mark.parametrize("early", [False, True])
def test_modules_loaded_by_the_function_itself(tmp_path, monkeypatch, early):
    name = f"late_module_{early}"
    (tmp_path / f"{name}.py").write_text(LATE)
    monkeypatch.syspath_prepend(str(tmp_path))
    rules = Replaced({
        f"{name}:double": lambda x, by=2.0: x * by,
        f"{name}:Thing.times": lambda self, x: x * self.factor,
        f"{name}:scaled": lambda x: x * 4.0,
        f"{name}:gone_in_this_version": lambda x: x,
        "no_such_module:f": lambda x: x,
    })
    thing = importlib.import_module(name).Thing() if early else None

    def f(u):
        rules.replace()
        try:
            module = importlib.import_module(name)
            double = module.double
            assert not hasattr(double, "nothing")
            with pytest.raises(AttributeError, match="nothing"):
                double(1.0)
            return double(u) + double(u, by=3.0) + (thing or module.Thing()).times(u) + module.scaled(u)
        finally:
            rules.restore()

    np.testing.assert_allclose(dd.jvp(f, (U,), (np.ones(4),))[1], np.full(4, 12.0))
    assert rules not in sys.meta_path
    with pytest.raises(AttributeError, match="nothing"):
        sys.modules[name].double(U)
    with pytest.raises(AttributeError, match="nothing"):
        sys.modules[name].scaled(U)
    sys.modules.pop(name)


def test_rules_name_functions_of_scipys():
    for path in RULES:
        module, name = path.split(":")
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found)


def test_what_has_no_rule_names_scipys_function():
    with pytest.raises(UnsupportedOperationError, match=r"in scipy\.special\.diric at .*test_scipy.py"):
        trace(lambda u: scipy.special.diric(u, 3), (U,))
