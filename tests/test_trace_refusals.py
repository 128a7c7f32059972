"""What is refused stays refused: neither an `except` in the function nor NumPy's other array classes get round it."""

from __future__ import annotations

import contextlib
import copy
import csv
import datetime
import decimal
import fractions
import io
import math
import numbers
import operator
import os
import pickle
import pprint
import re
import struct
import threading
import types

import numpy as np
import pytest
import scipy
from mpi4py import MPI
from scipy import integrate, interpolate, linalg, optimize, sparse, spatial
from scipy.sparse import linalg as sparse_linalg

import distdiff as dd
from distdiff.errors import UnsupportedOperationError
from distdiff.tracing import trace
from distdiff.tracing.holding import HoldingArray
from distdiff.tracing.patching import resumed, suspended

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # np.matrix

U = np.array([0.9137, 1.7214, 0.4353, 1.3079])


def holding(u):
    z = np.zeros(4)
    z[:] = u
    return z


def written(plain, index, value):
    plain[index] = value
    return plain


def caught(u, attempt):
    try:
        return u * attempt(u)
    except Exception:
        return u * 1.0


@pytest.mark.parametrize(
    "attempt",
    [
        lambda u: float(u[0]),
        lambda u: np.gcd(u, 2),
        lambda u: np.linalg.qr(1j * u.reshape(2, 2), "raw")[1].real,
        lambda u: np.partition(1j * u, 1).real,
        lambda u: complex(u[0]).real,
        lambda u: np.linalg.matrix_rank(1j * u.reshape(2, 2)) * u,
    ],
)
def test_a_refusal_that_the_function_catches(attempt):
    with pytest.raises(UnsupportedOperationError, match=r"refusals.py:\d+ .*caught inside the function") as e:
        trace(lambda u: caught(u, attempt), (U,))
    assert isinstance(e.value.__cause__, UnsupportedOperationError)


def test_errors_that_are_no_refusals_may_be_caught():
    def f(u):
        try:
            return u.reshape(3, 5)
        except ValueError:
            pass
        try:
            u[7]
        except IndexError:
            return u * int(hasattr(u, "no_such_thing")) + u[0]

    np.testing.assert_array_equal(trace(f, (U,)).result, [U[0]] * 4)


def test_looking_at_traced_values_is_no_refusal(capsys):
    def f(u):
        print(u, repr(u), f"{u[0]:.3f} {u[0]}", str(u[0]), u.shape, holding(u))
        return u * 2.0

    np.testing.assert_array_equal(trace(f, (U,)).result, 2 * U)
    assert "0.914" in capsys.readouterr().out


def says_so(text):
    return str.startswith(text, "traced(")


def of_u(case, **space):
    """A function of u from its body, statements separated by "; "."""
    *statements, result = case.split("; ")
    body = "".join(f"    {line}\n" for line in [*statements, f"return {result.removeprefix('return ')}"])
    space["np"] = np
    exec(compile(f"def f(u):\n{body}", case, "exec"), space)
    return space["f"]


TEXTS = [str, repr, "{}".format, "{:.3f}".format, "{:8.2e}".format, "%s".__mod__, lambda t: f"{t}", lambda t: f"{t:g}"]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("value", [lambda u: u[0], lambda u: u[0] > 0.5, lambda u: 1j * u[0]])
def test_no_number_is_read_back_from_the_text_of_a_traced_value(text, value):
    def marked(u):
        assert says_so(text(value(u)))
        return u[0]

    trace(marked, (U,))
    with pytest.raises((UnsupportedOperationError, ValueError), match=r"refusals.py:\d+ .*value\(x\)|malformed string"):
        trace(lambda u: u[0] * complex(text(value(u))).real, (U,))


@pytest.mark.parametrize("text", [str, repr, "{}".format, np.array_str, np.array2string, np.array_repr])
def test_the_text_of_a_traced_array_says_so(text):
    def f(u):
        assert all(says_so(text(a)) for a in (u, u > 0.5, 1j * u, u.reshape(2, 2)))
        return u

    trace(f, (U,))


COMPUTED_FROM_TEXT = """
u[0] * len(f"{u[0]:.1f}")
u[0] * len(f"x = {u[0]:.1f} m")
u[0] * len(f"{u[0]:>{8}.1f}" + "0")
u[0] * len("0" + f"{u[0]}")
u[0] * len("x = %s" % u[0])
u[0] * len("{:.1f}".format(u[0]))
u[0] * len("x = {} m".format(u[0]).strip())
u[0] * len(", ".join(str(x) for x in u))
u[0] * len(", ".join([f"{x:.1f}" for x in u]) + ".")
u[0] * len(", ".join([str(u[0]), "m"]))
u[0] * len(", ".join(map(str, u)))
u[0] * str(u[0]).encode()[0]
u[0] * len(np.array2string(u))
u[0] * (f"{u[0]:.1f}" == "0.9")
u[0] * (f"x = {u[0]:.1f}" == "x = 0.9")
u[0] * ("9" in f"{u[0]:.1f}")
u[0] * ("9" in f"x = {u[0]:.1f}")
u[0] * f"{u[0]:.1f}".count("9")
u[0] * f"x = {u[0]:.1f}".find("9")
u[0] * float(f"{u[0]:.3f}")
u[0] * float(f"-{u[0]:.3f}")
u[0] * float(f"{u[0]:.3f}"[3:6])
u[0] * float(f"{u[0]} {u[1]}".split()[0])
u[0] * int(str(u[0] > 0.5).upper())
u[0] * {"0.9": 2.0}.get(f"{u[0]:.1f}", 3.0)
u[0] * {"x0.9": 2.0}.get(f"x{u[0]:.1f}", 3.0)
u[0] * {f"{u[0]:.1f}": 2.0}["0.9"]
u[0] * sum(1.0 for c in f"{u[0]:.1f}" if c == "9")
u[0] * np.fromstring(f"{u[0]} {u[1]}", sep=" ")[0]
text = repr(u[0]); return u[0] * len(text)
text = f"{u[0]:.2f}"; return u[0] * float(text)
text = f"{u[0]:.2f}".rjust(12); return u[0] * float(text)
a, b = f"{u[0]}{u[1]}"; return u[0]
text = f"x = {u[0]:.2f}"; return u[0] * len(text)
text = "x = %s" % u[0]; return u[0] * (text == "x = 0.9")
text = "x = "; text += f"{u[0]}, {u[1]}"; return u[0] * len(text)
text = str([u[0], 1.0]); return u[0] * len(text)
text = f"{(u[0], 1.0)}"; return u[0] * len(text)
a = b = f"x{u[0]}"; print(b); return u[0] * len(a)
lines = []; lines.append(f"x{u[0]}"); return u[0] * len(lines[0])
lines = [f"x{x}" for x in u]; return u[0] * sum(len(line) for line in lines)
lines = [f"x{x}" for x in u]; n = [len(line) for line in lines]; return u[0] * n[0]
u[0] * sum([len(f"x{x}") for x in u])
text = ", ".join([f"x{x}" for x in u]); last = lambda: len(text); return u[0] * last()
text = f"x{u[0]}" if u[0] > 0 else "none"; return u[0] * len(text)
table = {}; table[f"x{u[0]}"] = 1.0; return u[0]
text = f"x{u[0]}"; import re; return u[0] * len(re.findall("[0-9]", text))
text = pprint.pformat({"u": u[0]}); return u[0] * len(text)
measure = lambda text: 1.0 * len(text); return u[0] * measure(f"x{u[0]}")
named = lambda k: f"x{u[k]}"; return u[0] * len(named(0))
named = lambda k: f"x{u[k]}"; text = named(0); return u[0] * (text > "x")
lines = sorted(f"x{x}" for x in u); return u[0] * len(lines)
out = io.StringIO(); print(u[0], file=out); return u[0] * len(out.getvalue())
out = io.StringIO(); print("x", u[0], file=out, end=""); text = out.getvalue(); return u[0] * (text == "x 0.9137")
out = io.StringIO(); out.write(f"x {u[0]}"); return u[0] * float(out.getvalue()[2:])
out = io.StringIO(); out.write(str(u[0])); return u[0] * out.tell()
out = io.StringIO(); out.writelines([str(u[0])]); out.seek(0); return u[0] * len(out.readline())
out = io.StringIO(); return u[0] * out.write(f"{u[0]}")
out = io.StringIO(); rows = csv.writer(out); rows.writerow([u[0], 1.0]); return u[0] * len(out.getvalue())
out = io.StringIO(); rows = csv.DictWriter(out, "ab"); rows.writerow({"a": u[0]}); return u[0] * len(out.getvalue())
out = io.StringIO(); csv.writer(out).writerow([u[0], 1.0]); return u[0]
out = io.StringIO(); pprint.pprint({"u": u[0]}, stream=out); return u[0] * len(out.getvalue())
out = io.StringIO(); put = out.write; put(f"{u[0]}"); return u[0] * len(out.getvalue())
out = io.StringIO(); say = lambda text: print(text, file=out); say(f"{u[0]}"); return u[0] * len(out.getvalue())
out = io.StringIO(); say(u[0], out); return u[0] * len(out.getvalue())
out = [io.StringIO()]; print(u[0], file=out[0]); return u[0] * len(out[0].getvalue())
with contextlib.redirect_stdout(io.StringIO()) as out: print(u[0]); return u[0] * len(out.getvalue())
print(u[0], file=log); return u[0] * len(log.getvalue())
show = lambda text: 2.0 if "9" in text else 3.0; shown = lambda t: show(t); return u[0] * shown(t=f"x{u[0]}")
"""


@pytest.mark.parametrize("case", COMPUTED_FROM_TEXT.strip().splitlines())
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # np.fromstring
def test_nothing_is_computed_from_the_text_of_a_traced_value(case):
    f = of_u(case, pprint=pprint, re=re, io=io, csv=csv, contextlib=contextlib, log=io.StringIO(),
             say=lambda x, out: out.write(f"x = {x}"))
    with pytest.raises(UnsupportedOperationError, match=r"text of a traced value at .*value\(x\)"):
        trace(f, (U,))


class Noted:
    def __init__(self):
        self.text = ""

    def note(self, text):
        self.text = text

    def show(self, text, prefix="> "):
        line = prefix + text
        print(line)

    def __repr__(self):
        return f"<noted {self.value}>"


JOINED_AND_KEPT = """
noted.text = f"x = {u[0]}"
noted.note(f"x = {u[0]}")
kept.append(f"x = {u[0]}")
kept.extend([f"x = {u[0]}"])
kept.append("x = {:.2f}".format(u[0]))
table["x"] = f"x = {u[0]}"
table["x"] = [str([x]) for x in u]
text = unknown(f"x = {u[0]}")
"""


@pytest.mark.parametrize("case", JOINED_AND_KEPT.strip().splitlines())
def test_joined_text_that_is_kept_is_refused(case):
    f = of_u(f"{case}; return u[0]", noted=Noted(), kept=[], table={}, unknown=abs)
    with pytest.raises(UnsupportedOperationError, match=r'which is kept where .*"x = " \+ str\(x\)'):
        trace(f, (U,))


def test_text_that_knows_what_it_is_may_be_kept():
    kept, noted = [], Noted()

    def f(u):
        kept.append("x = " + str(u[0]))
        noted.note("x = " + f"{u[0]:.1f}" + ".")
        return u[0] * len(kept[0]) if u[1] > 1e3 else u[0]

    trace(f, (U,))
    with pytest.raises(UnsupportedOperationError, match=r"__len__|len\(\) of the text of a traced value"):
        trace(f, (1e4 * U,))


SHOWN = r"""
print(u[0], f"{u[0]:.2f}", f"x = {u[0]:8.3f}", "%s" % u[0], str(u[0]).rjust(20), "u0 " + str(u[0]), sep=", ")
pprint.pprint({"u0": u[0], "u": u})
logging.getLogger("shown").warning("x = %s, %s", u[0], f"{u[1]:.2f}")
sys.stdout.write(f"{u[0]:.3f}\n")
out = io.StringIO(); print(u[0], file=out); out.write(str(u[0])); print(out.getvalue())
out = io.StringIO(); rows = csv.writer(out); rows.writerow([u[0], 1]); out.seek(0); print(out.read(), file=sys.stderr)
rows = csv.writer(sys.stdout); rows.writerow([u[0], 1.0]); print(u[0], file=open(os.devnull, "w"))
with contextlib.redirect_stdout(io.StringIO()) as out: print(u[0])
print(", ".join(f"{x:.2f}" for x in u), len([f"{x:.2f}" for x in u]), [str(x) for x in u][0])
lines = [f"{x:.2f}" for x in u]; print(", ".join(lines)); table = "".join(f"{x:>9.2f}" for x in u); print(table)
warnings.warn(f"x = {u[0]:.2f}")
print(f"{u[0]:.2f}" and "yes", "yes" if f"x = {u[0]}" else "no", not str(u[0]))
shown = {}; shown["u0"] = f"{u[0]:.2f}"; print(shown)
text = f"x = {u[0]:.2f}"; print(text); text += ", " + f"{u[1]}!"; print(text.upper(), end="")
text = None; text = f"x = {u[0]:.2f}" if u[0] > 0 else "none"; print(text) if text is not None else print()
lines = []; lines.append(f"x = {u[0]}"); lines.extend([f"y = {u[1]}"]); print(", ".join(lines), len(lines), *lines)
lines = [f"x = {x}" for x in u]; [print(line) for line in lines]; print(lines[0]) if lines else None
shown = {}; shown["x"] = f"x = {u[0]}"; print(shown, shown["x"])
show = lambda text: print("> " + text); show(f"x = {u[0]}"); noted.show(f"x = {u[0]}")
noted.show(prefix="", text=f"x {u[0]}")
named = lambda k: f"x = {u[k]}"; print(named(0)); text = named(1); logging.getLogger("shown").info(text)
noted.value = u[0]; print(noted, f"{noted}", str(noted)); noted.text = str(u[0]); noted.text = "x = " + f"{u[0]}"
text = pprint.pformat({"u": u[0]}); print(text); print([u[0]], {"u": u[0]}, f"{[u[0]]}")
error = ValueError(f"x = {u[0]}"); warnings.warn(f"x = {u[0]:.2f}", stacklevel=1)
"""


@pytest.mark.parametrize("case", SHOWN.strip().splitlines())
@pytest.mark.filterwarnings("ignore:x = ")
def test_the_text_of_a_traced_value_may_be_shown(case):
    import logging
    import sys
    import warnings

    space = {"io": io, "logging": logging, "pprint": pprint, "sys": sys, "warnings": warnings, "noted": Noted(),
             "csv": csv, "os": os, "contextlib": contextlib}
    f = of_u(f"{case}; return u[0]", **space)
    assert trace(f, (U,)).result == U[0]


def test_text_is_text_again_after_the_trace():
    kept = []
    trace(lambda u: kept.extend([f"{u[0]:.2f}", u[0]]) or u[0], (U,))
    assert kept[0] == "traced(0.91)" and len(kept[0]) == 12 and kept[0][:6] == "traced" and hash(kept[0])
    assert type(repr(kept[1])) is str  # what is asked for then is nobody's but Python's, which may send it elsewhere


def test_a_traced_scalar_is_a_real_number():
    seen = []

    def f(u):
        seen.extend([np.isscalar(u[0]), np.isscalar(u), isinstance(u[0] * 2, numbers.Real)])
        return u[0]

    trace(f, (U,))
    assert seen == [True, False, True]


EYE = np.eye(2)


@pytest.mark.parametrize(
    "f",
    [
        lambda u: np.matrix(u.reshape(2, 2)) * 2,
        lambda u: np.matrix([[u[0], u[1]]]),
        lambda u: np.asmatrix(holding(u)).sum(),
        lambda u: np.bmat([[u, u]]),
        lambda u: u[:2] * np.matrix(EYE),
        lambda u: np.matrix(EYE) * u[0],
        lambda u: np.matrix(EYE) @ u[:2],
        lambda u: np.ma.masked_array(u, [0, 1, 0, 0]).sum(),
        lambda u: np.ma.masked_array(holding(u), [0, 1, 0, 0]).sum(),
        lambda u: np.ma.masked_where(u > 1.0, u).sum(),
        lambda u: (u * np.ma.masked_array(U, [0, 1, 0, 0])).sum(),
        lambda u: np.ma.masked_array(EYE, EYE) * u[0],
        lambda u: np.concatenate([u, np.ma.masked_array(U, [0, 1, 0, 0])]),
    ],
)
def test_array_classes_with_other_rules(f):
    constructors = np.matrix.__new__, np.ma.MaskedArray.__new__
    with pytest.raises(UnsupportedOperationError):
        trace(f, (U,))
    assert (np.matrix.__new__, np.ma.MaskedArray.__new__) == constructors


def test_other_classes_of_constants_keep_working():
    def f(u):
        return u * float(np.ma.masked_array(U, [0, 1, 0, 0]).sum() + np.matrix(EYE).trace()[0, 0])

    np.testing.assert_allclose(trace(f, (U,)).result, U * (U.sum() - U[1] + 2.0))


@pytest.mark.parametrize(
    "f, words",
    [
        (lambda u: math.cosh(u[0]), "np.cosh for math.cosh"),
        (lambda u: math.atan2(u[0], 1.0) * u, "np.arctan2 for math.atan2"),
        (lambda u: math.gamma(u[1]) * u, "scipy.special.gamma for math.gamma"),
        (lambda u: float(u[0]) * u, r"Leave float\(\) out: .* distdiff\.numpy\.value"),
        (lambda u: np.savetxt("/nowhere/file", u), "numpy.savetxt"),
        (lambda u: u.astype(float).view("i8"), "numpy.ndarray.view"),
        (lambda u: np.bmat([[u, u]]), "numpy.bmat: a numpy matrix"),
        (lambda u: written(2 * U, 0, u[0]), r"put into a plain array at .*plain ones as 2 \* a\): make it"),
        (lambda u: written(2 * U, slice(4), u), r"put into a plain one at .*np.array\(a\)"),
        (lambda u: written(1j * U, 1, u[0]), r"plain complex array at .*np.array\(a, dtype=complex\)"),
        (lambda u: written(1j * U, 1, 1j * u[0]), r"complex number was put into a plain array at .*dtype="),
        (lambda u: written(1j * U, slice(4), 1j * u), r"complex array was put into a plain one at .*dtype="),
        (lambda u: [u, 2 * u][u[0] > 1], r"as a whole number at .*int\(x\)"),
        (lambda u: np.ndarray.mean(u) * u, r"method mean of numpy.ndarray was called by its class.* x.sum\(\) for"),
        (lambda u: np.ndarray.__getitem__(u, 0), "method __getitem__ of numpy.ndarray was called by its class"),
        (lambda u: float.is_integer(u[0]) * u, r"refusals.py:\d+ .*Python lets objects of that class alone"),
        (lambda u: float.__add__(u[0], 1.0) * u, "method __add__ of float was called by its class"),
        (lambda u: np.ndarray.sum(1j * u).real, "method sum of numpy.ndarray was called by its class"),
        (lambda u: u * len("ab" * (u[0] > 1)), r"as a whole number at .*int\(x\)"),
        (lambda u: np.ma.masked_less(u, 1.0).sum(), r"numpy.ma.masked_less of traced .*np.sum\(x, where=~mask\)"),
        (lambda u: np.ma.masked_array(u, u > 1), r"a numpy MaskedArray of traced .*np.where\(mask"),
        (lambda u: np.savetxt(io.BytesIO(), u), r"numpy.savetxt at .*: give it distdiff.numpy.value\(x\)"),
    ],
)
def test_a_refusal_names_what_was_called_and_what_to_write(f, words):
    with pytest.raises(UnsupportedOperationError, match=words):
        trace(f, (U,))


METHODS = {
    "dot": lambda u: U.dot(u) * np.outer(U, U).dot(u) + U.dot(out=None, b=u),
    "dot of columns": lambda u: np.outer(U, U).dot(u.reshape(4, 1)).ravel() * np.outer(U, U).dot(np.outer(U, U))[0],
    "dot of complex numbers": lambda u: U.dot(1j * u).imag * np.outer(1j * U, U).dot(u).imag,
    "dot of a list": lambda u: U.dot([u[0], 2.0, u[1] * u[2], 1.0]) * u,
    "copy": lambda u: written(U.copy(), slice(1, 3), u[1:3] ** 2) * u,
    "copy, in place": lambda u: operator.iadd(U.copy(), u * u) * operator.imul(WIDE.copy(order="F"), u)[1],
    "astype": lambda u: written(U.astype(float), 0, u[0] * u[1]) * written(np.arange(4).astype(float), 1, u[2]),
    "astype(complex)": lambda u: np.abs(written(U.astype(complex), 1, 1j * u[0]) * u) ** 2,
    "flatten": lambda u: written(WIDE.flatten(), slice(None, None, 2), u) ** 2,
}
WIDE = np.outer([1.0, 2.0], U)


@pytest.mark.parametrize("name", METHODS)
def test_methods_of_arrays_made_outside(name):
    """... which no protocol reaches: dot has its rule, and what is made anew can be written into."""
    f, as_they_were, h = METHODS[name], (U.copy(), WIDE.copy()), 1e-6
    with dd.linearize(f, U, comm=MPI.COMM_SELF) as lin:
        np.testing.assert_allclose(lin.value, f(U), rtol=1e-14)
        for v in np.eye(4):
            np.testing.assert_allclose(lin.jvp(v), (f(U + h * v) - f(U - h * v)) / (2 * h), rtol=1e-8, atol=1e-8)
    for array, as_it_was in zip((U, WIDE), as_they_were):
        np.testing.assert_array_equal(array, as_it_was)
    assert type(U.copy()) is np.ndarray
    assert isinstance(np.ndarray.dot, types.MethodDescriptorType)  # NumPy's own again


def test_methods_are_numpys_own_for_other_threads_and_libraries():
    seen, held = [], []

    def f(u):
        thread = threading.Thread(target=lambda: seen.append(type(U.copy())))
        thread.start()
        thread.join()
        seen.append(type(copy.deepcopy({"a": U})["a"]))
        seen.append(type(WIDE.astype(np.float32)))
        with suspended():  # as for Numba's compiler, and SciPy's solvers
            seen.append(type(U.copy()))
            with resumed():
                held.append(type(U.copy()))
        held.append(type(U.copy()))
        return u * (WIDE.dot(U)[0] + U.dot(U))

    np.testing.assert_allclose(trace(f, (U,)).result, U * (WIDE.dot(U)[0] + U.dot(U)))
    assert seen == [np.ndarray] * 4 and held == [HoldingArray] * 2


def table(u, factor=1.0):
    return factor * np.outer(u, np.sin(u))


def shuffled(shuffle, y):
    shuffle(y)
    return y * 1.0


@pytest.mark.filterwarnings("ignore:you are shuffling")
@pytest.mark.parametrize("f, words", [
    (lambda u: shuffled(np.random.default_rng(3).shuffle, table(u)), "shuffle that swaps rows"),
    (lambda u: shuffled(np.random.RandomState(3).shuffle, table(u)), "shuffle that swaps rows"),
    (lambda u: shuffled(np.random.shuffle, table(u)), r"y\[rng.permutation\(len\(y\)\)\]"),
    (lambda u: shuffled(np.random.default_rng(3).shuffle, table(u, 1j)).imag, "shuffle that swaps rows"),
    (lambda u: getattr(np.random, "shuffle")(table(u)), "compiled code that swaps rows"),  # noqa: B009
    (lambda u: np.random.default_rng(3).permuted(table(u), axis=1), "take_along_axis"),
])
def test_rows_that_compiled_code_swaps(f, words):
    with pytest.raises(UnsupportedOperationError, match=words):
        trace(f, (U,))


def rows_exchanged(u):
    y = table(u)
    y[0], y[1] = y[1], y[0]  # views: both rows are the second, in NumPy as well
    y[2] = y[3]
    operator.setitem(y, 3, y[1])
    return y


def whole_rows(u):
    y, order = table(u), np.random.default_rng(3).permuted(np.indices((4, 4))[1], axis=1)
    return y[np.random.default_rng(3).permutation(len(y))] + np.take_along_axis(y, order, 1)


def held_rows(u):
    y = np.zeros((4, 4))
    y[:] = table(u)
    np.random.default_rng(3).shuffle(y)
    return y


@pytest.mark.filterwarnings("ignore:you are shuffling")
@pytest.mark.parametrize("f", [
    rows_exchanged, whole_rows, held_rows,
    lambda u: np.random.default_rng(3).permutation(table(u)),
    lambda u: np.random.default_rng(3).permutation(table(u), axis=1),
    lambda u: np.random.RandomState(3).permutation(table(u)),
    lambda u: shuffled(np.random.default_rng(3).shuffle, u * 2.0),
])
def test_rows_and_elements_in_another_order(f):
    np.testing.assert_array_equal(trace(f, (U,)).result, f(U))
    report = dd.testing.taylor_test(lambda u: np.sum(f(u) ** 2 * np.arange(4.0)), U)
    assert report.passed


A = sparse.csr_matrix(3.0 * np.eye(4))
PLACES = np.arange(4), np.arange(4)


def stored(u):
    changed = A.tolil()
    changed[0, 0] = u[0]
    return changed.sum()


SQUARE = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
ITERATIONS = {  # whose steps could be traced; some compare only, and some begin at the solution
    "newton": lambda u: optimize.newton(lambda y: y**3 + y - u[0], 1.0),
    "root_scalar": lambda u: optimize.root_scalar(lambda y: y**3 + y - 2.0 * u[0] / U[0], x0=1.0, method="newton",
                                                  fprime=lambda y: 3.0 * y**2 + 1.0).root,
    "fixed_point": lambda u: optimize.fixed_point(lambda y, a: np.cos(a * y), 0.7, args=(u[0],)),
    "minimize": lambda u: optimize.minimize(lambda y: (y[0] - u[0]) ** 2, [0.0], method="Nelder-Mead").x,
    "minimize_scalar": lambda u: optimize.minimize_scalar(lambda y: (y - u[0]) ** 4).x,
    "golden": lambda u: optimize.golden(lambda y: (y - u[0]) ** 2),
    "least_squares": lambda u: optimize.least_squares(lambda y: y - u, np.zeros(4)).x,
}


@pytest.mark.parametrize("name", ITERATIONS)
def test_solutions_have_the_derivative_of_their_equation_not_of_iterations(name):
    with pytest.raises(UnsupportedOperationError, match=rf"scipy\.optimize\.{name} of .*distdiff\.implicit\.root"):
        trace(ITERATIONS[name], (U,))


def test_solvers_of_plain_equations_may_be_called():
    def f(u):
        y = optimize.newton(lambda y: y**3 + y - 2.0, 0.5) + optimize.minimize(lambda y: (y[0] - 2.0) ** 2, [0.0]).x[0]
        return u * (y + optimize.root_scalar(lambda y: y - 0.5, bracket=(0.0, 2.0)).root)

    np.testing.assert_allclose(trace(f, (U,)).result, 3.5 * U, rtol=1e-6)


@pytest.mark.parametrize("name", ["ConvexHull", "Delaunay", "Voronoi"])
def test_hulls_of_traced_points(name):
    """Qhull would take a traced array for memory: the process was gone."""
    with pytest.raises(UnsupportedOperationError, match=rf"scipy\.spatial\.{name} of traced.*distdiff\.numpy\.value"):
        trace(lambda u: getattr(spatial, name)(SQUARE * u[0]), (U,))


@pytest.mark.parametrize("x", [lambda u: u, lambda u: u[0], lambda u: u > 1.0, lambda u: 1j * u, lambda u: 1j * u[0]])
def test_traced_values_are_not_pickled(x):
    with pytest.raises(UnsupportedOperationError, match=r"a traced value was pickled at .*refusals.py:\d+ .*\.value"):
        trace(lambda u: pickle.loads(pickle.dumps(x(u))), (U,))


def test_objects_beside_traced_values():
    with pytest.raises(UnsupportedOperationError, match=r"scipy\.sparse|a sparse matrix"):
        trace(lambda u: sparse.bmat([[sparse.eye(3), None], [None, np.diag(u)]]).sum(), (U,))
    with pytest.raises(UnsupportedOperationError, match="an array that holds objects"):
        trace(lambda u: np.asarray([[u[0], 1.0], [object(), 2.0]], dtype=object)[0, 0], (U,))


ADDED_UP = [  # by SciPy's compiled loops, which refuse, or (1.17) by NumPy's sum of what is stored, which is traced
    lambda u: sparse.coo_matrix((u, PLACES), shape=(4, 4)).sum(),
    lambda u: A.multiply(u).sum(),
    lambda u: (A * u[0]).sum(),
]


@pytest.mark.parametrize("f", [
    lambda u: (A @ sparse.diags([1.0 + 2.0 * u, -u[1:], -u[:-1]], [0, 1, -1]))[1:] @ np.ones(4),
    lambda u: sparse.csc_matrix((u, PLACES), shape=(4, 4))[:2] @ np.ones(4),
    lambda u: (A + sparse.diags(u))[0, 0] * u,
    stored, *ADDED_UP,
])
def test_what_compiled_code_makes_of_sparse_matrices(f):
    if f in ADDED_UP and tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 17):
        assert trace(f, (U,)).result == f(U) and dd.testing.taylor_test(f, U).passed
        return
    with pytest.raises(UnsupportedOperationError, match=r"^a sparse matrix of traced values at .*refusals.py:\d+ in .*"
                       r"sparse matrices, of constants or.*np.add.at\(y, rows.*implicit.linear_solve"):
        trace(f, (U,))


def test_what_is_to_be_written_for_sparse_matrices_of_traced_values_computes_the_same():
    rows, columns = np.array([0, 1, 1, 2, 3, 3]), np.array([0, 1, 2, 2, 0, 3])

    def f(u):
        values = np.concatenate([u, u[:2] * u[2:]]) + 1.0
        y = np.zeros(4)
        np.add.at(y, rows, values * u[columns])
        return y + dd.implicit.linear_solve((values, (rows, columns)), y)

    values = np.concatenate([U, U[:2] * U[2:]]) + 1.0
    matrix = sparse.csc_matrix((values, (rows, columns)), shape=(4, 4))
    np.testing.assert_allclose(trace(f, (U,)).result, matrix @ U + U, rtol=1e-9)


def by_iterator(u):
    total = 0.0
    for x in np.nditer(u):
        total = total + x
    return total


@pytest.mark.parametrize("f, words", [
    (lambda u: sparse_linalg.lsqr(A, u)[0], r"sparse.linalg.lsqr of .* at .*refusals.py:\d+ in <lambda>: spsolve"),
    (lambda u: sparse_linalg.lsmr(A, u)[0], r"linalg.lsmr of .* at .*refusals.py:\d+ in <lambda>: spsolve"),
    (lambda u: integrate.solve_ivp(lambda t, y: -u[0] * y, (0, 1), np.ones(2), "LSODA").y,
     r"^scipy.integrate.solve_ivp of traced values at .*refusals.py:\d+ in .*: its methods RK45, .*plain array"),
    (lambda u: linalg.solve_toeplitz(u, U), r"scipy.linalg.solve_toeplitz of .*refusals.py:\d+ in .*linalg.toeplitz"),
    (lambda u: interpolate.RBFInterpolator(np.arange(4.0)[:, None], u)(np.ones((1, 1))),
     r"in scipy.interpolate.RBFInterpolator\S* at .*refusals.py:\d+ in <lambda>: .*distdiff.custom_jvp"),
    (lambda u: u[0] * u.ctypes.data, r"ndarray.ctypes of a traced array at .*refusals.py:\d+ .*distdiff.elemental"),
    (lambda u: u[0] * len(struct.pack("d", u[0])), r"at .*refusals.py:\d+ .*not a float.*custom_jvp"),
    (lambda u: u[0] * float(decimal.Decimal(u[0])), r"at .*refusals.py:\d+ .*: .*distdiff\.numpy\.value"),
    (lambda u: u[0] * np.ctypeslib.as_ctypes(u)[0], r"at .*refusals.py:\d+ .*no attribute '__array_interface__'"),
    (lambda u: fractions.Fraction(1, 3) * u, r"numpy.multiply with a Fraction at .*refusals.py:\d+ .*float\(a\)"),
    (lambda u: u[0] - fractions.Fraction(1, 3), r"numpy.subtract with a Fraction at .*refusals.py:\d+ .*float\(a\)"),
    (lambda u: u * (u[0] == fractions.Fraction(1, 3)), r"numpy.equal with a Fraction at .*refusals.py:\d+ .*float"),
    (lambda u: u * datetime.timedelta(seconds=u[0]).days, r"datetime.timedelta at .*refusals.py:\d+ .*in seconds"),
    (lambda u: u[0] * datetime.timedelta(seconds=1), r"datetime.timedelta at .*refusals.py:\d+ .*in seconds"),
    (lambda u: u * len(np.array2string(u[0])), r"text of a traced value at .*refusals.py:\d+ .*"),
    (lambda u: u * len(np.array_repr(u[0])), r"text of a traced value at .*refusals.py:\d+ .*"),
    (by_iterator, r"numpy.nditer of a traced array at .*refusals.py:\d+ in by_iterator: .*x.reshape\(-1\)"),
    (lambda u: {1.0: 2.0}.get(u[0], 1.0) * u, r"key of a dict .* at .*refusals.py:\d+ in .*int\(x\)"),
    (lambda u: len({u[0]}) * u, r"element of a set at .*refusals.py:\d+ in .*int\(x\)"),
])
def test_a_refusal_names_the_function_and_the_users_line_before_the_remedy(f, words):
    with pytest.raises(UnsupportedOperationError, match=words) as e:
        trace(f, (U,))
    assert "splu" not in str(e.value) or "sparse.linalg" in str(e.value)


def test_the_formula_for_toeplitz_systems():
    np.testing.assert_allclose(trace(lambda u: np.linalg.solve(linalg.toeplitz(u), U), (U,)).result,
                               linalg.solve_toeplitz(U, U), atol=1e-14)


def test_refusals_that_compiled_code_would_print(capfd):
    with pytest.raises(UnsupportedOperationError, match="scipy.optimize.fsolve of .*distdiff.implicit.root"):
        trace(lambda u: optimize.fsolve(lambda y: y * y - u, np.ones(4)), (U,))
    assert "Traceback" not in capfd.readouterr().err


KEPT = {  # what a function may leave behind, and what may be done to it when the trace is over
    "a scalar": (lambda u: u[0] * 2.0, [
        lambda v: v * 2, lambda v: 2 * v, lambda v: v + v, lambda v: -v, lambda v: v**2, lambda v: 2**v,
        lambda v: v / 3, lambda v: v > 0.1,
        lambda v: bool(v), lambda v: int(v), lambda v: v // 1, lambda v: np.exp(v), lambda v: abs(v),
        lambda v: round(v), lambda v: np.array([v, 1.0]), lambda v: sorted([v, 1.0]), lambda v: np.float64(2.0) * v,
        lambda v: trace(lambda u: u * v, (U,)), lambda v: trace(lambda u: u[0] * v, (U,))]),
    "a comparison": (lambda u: u[0] > 0.1, [
        lambda v: bool(v), lambda v: 1.0 if v else 2.0, lambda v: v * 2, lambda v: ~v, lambda v: np.arange(2.0)[v]]),
    "an array": (lambda u: u * 2.0, [
        lambda v: v * 2, lambda v: v.sum(), lambda v: v.copy() + 0.0, lambda v: v[0] * 2, lambda v: v.fill(0.0),
        lambda v: v.__setitem__(0, 1.0), lambda v: np.sort(v), lambda v: np.argmax(v), lambda v: v[[0, 0]],
        lambda v: trace(lambda u: u * v, (U,))]),
    "gathered elements": (lambda u: u[[0, 2, 1, 1]], [
        lambda v: v.astype(float), lambda v: v + 1.0, lambda v: v.__setitem__(0, 1.0), lambda v: v[::-1] * 2]),
    "a mask": (lambda u: u > 0.1, [
        lambda v: np.where(v, 1.0, 2.0), lambda v: np.arange(4.0)[v], lambda v: v.any() and 1]),
    "a complex number": (lambda u: (u * 1j)[0], [lambda v: v * 2, lambda v: abs(v), lambda v: v.imag * 2]),
}


@pytest.mark.parametrize("kind", KEPT)
def test_nothing_that_is_kept_answers_after_its_trace(kind):
    keep, uses = KEPT[kind]
    for use in uses:
        kept = []

        def f(u, keep=keep, kept=kept):
            kept.append(keep(u))
            return u

        trace(f, (U,))
        with pytest.raises(UnsupportedOperationError, match="after its trace was over"):
            use(kept[0])


@pytest.mark.parametrize("late", [lambda x: float(x), lambda x: np.sin(x), lambda x: np.asarray([x, x]),
                                  lambda x: trace(lambda u: u * x, (U,))])
def test_values_that_are_used_after_their_trace(late):
    kept = []

    def f(u):
        kept.append(u[0] * 2.0)
        return u

    trace(f, (U,))
    line = late.__code__.co_firstlineno
    with pytest.raises(UnsupportedOperationError, match=rf"refusals.py:{line} in \S+ after its trace was over: "
                       r".*distdiff.numpy.value\(x\).*has_aux"):
        late(kept[0])


@pytest.mark.parametrize(("draw", "instead"), [
    (lambda u: np.random.default_rng(0).normal(u[0], u[1], size=3), "loc + scale * rng.standard_normal(size)"),
    (lambda u: np.random.default_rng(0).normal(u), "loc + scale * rng.standard_normal(size)"),
    (lambda u: np.random.RandomState(0).normal(loc=u[0]), "loc + scale * rng.standard_normal(size)"),
    (lambda u: np.random.RandomState(0).uniform(0.0, u[0], 3), "low + (high - low) * rng.random(size)"),
    (lambda u: np.random.default_rng(0).exponential(u[0]), "scale * rng.standard_exponential(size)"),
])
def test_random_numbers_with_traced_parameters_are_written_as_functions_of_others(draw, instead):
    with pytest.raises(UnsupportedOperationError, match=re.escape(instead)):
        trace(draw, (U,))
