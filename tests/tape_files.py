"""Tape files for the tests: whether two tapes are the same, and files rewritten with right checksums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st

import distdiff as dd
from distdiff.errors import FormatError
from distdiff.implicit.statement import Implicit
from distdiff.storage.archive import Writer
from distdiff.tape import Const, ScalarRun


def same_operand(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, Const):
        assert np.shape(a.value) == np.shape(b.value)
        return np.array_equal(a.value, b.value, equal_nan=True)
    return np.array_equal(a.ids, b.ids) if hasattr(a, "ids") and not hasattr(a, "block") else a == b


def same_op(a, b):
    if not isinstance(a, Implicit) or type(a) is not type(b):
        return a == b
    assert_same(a.tape, b.tape)
    return (a.settings, a.guarded, a.where) == (b.settings, b.guarded, b.where)


def same_item(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, ScalarRun):
        return a.block == b.block and all(np.array_equal(getattr(a, n), getattr(b, n)) and getattr(
            a, n).dtype == getattr(b, n).dtype for n in ("op", "a", "b", "const"))
    return (same_op(a.op, b.op) and a.shape == b.shape and a.out == b.out and a.site == b.site
            and all(map(same_operand, a.operands, b.operands)))


def assert_same(a, b):
    assert a.blocks == b.blocks and a.inputs == b.inputs and a.sites == b.sites
    assert len(a.items) == len(b.items) and all(map(same_item, a.items, b.items))
    assert len(a.outputs) == len(b.outputs)
    assert all(p.shape == q.shape and same_operand(p.ref, q.ref) for p, q in zip(a.outputs, b.outputs))
    assert len(a.guards) == len(b.guards)
    assert all(same_operand(p.ref, q.ref) and np.array_equal(p.expected, q.expected) and p.site == q.site
               and p.expected.dtype == q.expected.dtype for p, q in zip(a.guards, b.guards))


def refused(path, match="no tape", rules=()):
    with pytest.raises(FormatError, match=match):
        dd.load(path, rules=rules)


MEMBERS = {"structure": "<i8", "ids": "<i8", "ids_sizes": "<i8", "numbers": "<f8", "constants": "<f8",
           "constants_sizes": "<i8", "decisions": "|u1", "expected": "<f8", "run_op": "|u1", "run_const": "<f8",
           "run_a": "<i4", "run_b": "<i4", "wide_a": "<i8", "wide_b": "<i8", "point": "<f8", "header": "|u1"}


def rewritten(source, target, change):
    """The archive with its arrays changed, checksums right."""
    arrays = {name: array.copy() for name, array in np.load(source).items()}
    change(arrays)
    with open(target, "wb") as stream, Writer(stream) as writer:
        for name, array in arrays.items():
            writer.add(name, MEMBERS[name], [array])


LARGE = [31, 32, 33, 255, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63)]
VALUES = st.one_of(st.integers(-3, 12), st.sampled_from(LARGE))
EDITS = st.lists(st.tuples(st.sampled_from(["structure"] * 12 + [n for n in MEMBERS if n != "header"]),
                           st.sampled_from(["set", "set", "set", "shift", "shift", "drop", "insert", "swap"]),
                           st.integers(0, 10**6), VALUES), min_size=1, max_size=3)


def edited(arrays, edits):
    for name, how, place, value in edits:
        array = arrays[name]
        place %= max(len(array), 1)
        value = np.array(value).astype(array.dtype)[()] if array.dtype.kind != "f" else float(value)
        if how == "insert":
            arrays[name] = np.insert(array, place, value)
        elif not len(array):
            continue
        elif how == "drop":
            arrays[name] = np.delete(array, place)
        elif how == "swap":
            array[[place, -1]] = array[[-1, place]]
        else:
            with np.errstate(over="ignore"):
                array[place] = value if how == "set" else array[place] + np.array(place % 3 - 1).astype(array.dtype)
