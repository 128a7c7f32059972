"""Rules that never return, where a process has a limit for them: in processes of their own, whose timer it is."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(60)
BEGIN = """
import time
import numpy as np, distdiff as dd
from distdiff import deadline
from distdiff.errors import OverdueError

def nothing():
    pass

@dd.elemental(partials=[lambda y, x: calls.append(1) or partial() or 2 * x])
def rule(x):
    calls.append(0)
    value()
    return x * x

calls, value, partial = [], nothing, nothing
u = np.linspace(0.5, 1.5, 5)
f = lambda u: np.sum(rule(u) * rule(np.sin(u)))
deadline.GRACE = 0.5
"""


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", BEGIN + code], text=True, timeout=50, capture_output=True, check=False)


def test_one_in_python_is_left_and_the_next_work_has_all_its_time():
    done = run("""
def goes_on():
    while True:
        try:
            time.sleep(1000)
        except ValueError:
            pass

deadline.limit(float("inf"), "--rule-limit")
with dd.linearize(f, u, method="sweep") as lin:
    wanted = lin.vjp(1.0)
    deadline.limit(0.3, "--rule-limit")
    for value in (lambda: time.sleep(1000), lambda: [0 for _ in iter(int, 1)], goes_on):
        deadline.anew()
        calls[:] = []
        try:
            lin.update(2 * u)
        except OverdueError as error:
            print(error)
        assert len(calls) == 1, calls  # what is left of the work calls no rule
    deadline.anew()
    value = nothing
    lin.update(2 * u), lin.update(u)
    np.testing.assert_allclose(lin.vjp(1.0), wanted)
    time.sleep(0.9)  # no timer is left behind
print("alive")
""")
    assert done.returncode == 0 and done.stdout.count("the rule of rule was left where it was") == 3, done
    assert "the 0.3 s that rules may take on a rank" in done.stdout and done.stdout.endswith("alive\n"), done


def test_one_that_never_comes_back_to_python_ends_the_process_and_says_where():
    done = run("deadline.limit(0.3, '')\npartial = lambda: any(iter(int, 1))\ndd.linearize(f, u).vjp(1.0)")
    assert done.returncode == 1
    assert "Timeout (0:00:00." in done.stderr and 'File "<string>", line 21 in <lambda>' in done.stderr, done
