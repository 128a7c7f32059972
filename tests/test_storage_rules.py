"""Users' rules and tape files: a file names what it calls, and who loads it brings it; nothing is imported for it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from tape_files import EDITS, assert_same, edited, refused, rewritten
from test_rules import Pair, power, product, scaled, wave

import distdiff as dd
from distdiff.errors import DistdiffError, InputError, RuleError

pytestmark = [pytest.mark.timeout(90), pytest.mark.few_ranks]
X = np.array([1.3, 0.8, 0.6])
RULES = [power, product, scaled, wave]


def elementals(x):
    return np.sum(product(np.outer(x, x), power(x, 2.0 * x))) + power(x[0], 3.0)


def jvps(x):
    a, b = wave(x * 1.1, x[1])
    return np.sum(a * b) + wave(a, 2.0)[1]


def vjps(x):
    r = scaled("plus", Pair(x, x[::-1] * 0.5), np.array([2, 1, 2]).max())
    return np.sum(r["z"]) * r["rest"][1] + scaled("times", Pair(r["z"], x), 2)["rest"][0][1]


def equation(x):
    """A rule in a residual."""
    return np.sum(dd.implicit.root(lambda x, y: y + power(np.exp(y), 0.5) - x, x, np.zeros(3))) * power(x[2], 2.0)


@pytest.mark.mpi
@pytest.mark.parametrize("f", [elementals, jvps, vjps, equation])
def test_a_loaded_rule_is_the_one_that_was_saved(f, shared_tmp_path):
    traced = dd.trace(f, X)
    traced.save(shared_tmp_path / "f.tape", point=(X,))
    tape = dd.load(shared_tmp_path / "f.tape", rules=RULES)
    if traced.blocks and f in (elementals, jvps):  # rank 0 has it; the others name types, or hold tapes
        assert_same(traced, tape)
    x = X * 1.05
    with dd.linearize(f, x) as lin, dd.linearize(tape, x) as loaded:
        np.testing.assert_allclose(loaded.value, lin.value, rtol=1e-12)
        np.testing.assert_allclose(loaded.vjp(1.0), lin.vjp(1.0), rtol=1e-10)
        np.testing.assert_allclose(loaded.jvp(X), lin.jvp(X), rtol=1e-10)
    np.testing.assert_allclose(dd.hvp(tape, (x,), (X,)), dd.hvp(f, (x,), (X,)), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("f", [elementals, jvps, vjps])
def test_a_loaded_tape_with_rules_is_saved_again_and_nests(f, tmp_path):
    dd.trace(f, X).save(tmp_path / "f.tape", point=(X,))
    tape = dd.load(tmp_path / "f.tape", rules=RULES)
    tape.save(tmp_path / "again.tape", point=tape.point)
    assert (tmp_path / "f.tape").read_bytes() == (tmp_path / "again.tape").read_bytes()
    dd.trace(dd.grad(tape), X).save(tmp_path / "g.tape")
    np.testing.assert_allclose(dd.load(tmp_path / "g.tape", rules=RULES)(X * 1.1), dd.grad(f)(X * 1.1), rtol=1e-10)


def test_another_process_brings_the_rule_and_nothing_else(tmp_path):
    dd.trace(lambda x: np.sum(power(x, 2.0) * X), X).save(tmp_path / "f.tape", point=(X,))
    (tmp_path / "mine.py").write_text(
        "import distdiff as dd, numpy as np\n"
        "power = dd.elemental(lambda x, n: x**n, partials=[lambda y, x, n: n*y/x, lambda y, x, n: y*np.log(x)])\n"
        "power.__name__ = 'power'\n")
    code = ("import sys, distdiff as dd; from mine import power; t = dd.load(sys.argv[1], rules=power);"
            "print(dd.grad(t)(*t.point).tolist(), 'test_rules' in sys.modules)")
    said = subprocess.run([sys.executable, "-c", code, tmp_path / "f.tape"], capture_output=True, text=True, check=True,
                          timeout=60, cwd=tmp_path).stdout
    np.testing.assert_allclose(eval(said.rpartition(" ")[0]), 2.0 * X * X)
    assert said.endswith("False\n")


def test_files_without_rules_are_of_the_versions_before(tmp_path):
    def said(arrays):
        header = json.loads(arrays["header"].tobytes())
        versions.append((header["version"], [rule[::2] for rule in header.get("rules", ())]))

    versions: list = []
    for f in (np.sum, lambda x: dd.implicit.linear_solve(np.eye(3), x)[0], jvps, elementals):
        dd.trace(f, X).save(tmp_path / "f.tape")
        rewritten(tmp_path / "f.tape", tmp_path / "g.tape", said)
    assert [version for version, _ in versions] == [1, 2, 3, 3]
    assert versions[2][1] == [["custom_jvp", "wave"]] and {name for _, name in versions[3][1]} == {"power", "product"}


# -- rules that are missing, or others -------------------------------------------------------------------------------


def renamed(rule, name, module="test_rules"):
    rule.__name__, rule.__module__ = name, module
    return rule


one = lambda y, x, n: y  # noqa: E731


@pytest.mark.parametrize("rules, match", [
    ((), r"calls power \(distdiff.elemental, of module test_rules\), product .*no file.*rules=\[power, product\]"),
    ([product], r"calls power .*rules=\[power\]"),
    ([product, lambda x, n: x], "takes functions with rules.*lambda"),
    ([product, renamed(dd.elemental(np.power, partials=[one, None]), "power")],
     r"calls power.*without derivative \[\].*without derivative \[1\].*another rule"),
    ([product, renamed(dd.elemental(np.power, partials=[one, one, one]), "power")], r"\(\),\(\)->\(\).*another rule"),
    ([product, renamed(dd.custom_jvp(lambda x, n: x), "power")], r"is a distdiff\.custom_jvp .*another rule"),
    ([product, power, renamed(dd.elemental(np.power, partials=[one, one]), "power")], "2 rules of the name power"),
])
def test_rules_that_are_missing_or_others(rules, match, tmp_path):
    dd.trace(elementals, X).save(tmp_path / "f.tape")
    with pytest.raises(InputError, match=match) as error:
        dd.load(tmp_path / "f.tape", rules=rules)
    assert "takes functions" in match or type(error.value) is RuleError


def test_of_rules_of_one_name_the_module_tells(tmp_path):
    other = renamed(dd.elemental(lambda x, n: 0.0 * x, partials=[one, one]), "power", "elsewhere")
    dd.trace(elementals, X).save(tmp_path / "f.tape")
    assert dd.load(tmp_path / "f.tape", rules=[other, *RULES])(X) == pytest.approx(elementals(X))
    with pytest.raises(InputError, match=r"calls two rules power"):
        dd.trace(lambda x: power(x, renamed(dd.elemental(np.add, partials=[one, one]), "power")(x, x)), X).save(
            tmp_path / "f.tape")


def test_constants_that_no_file_holds(tmp_path):
    def f(how, x):
        return x * 1.0

    f = dd.custom_jvp(f, nondiff_argnums=(0,))
    f.defjvp(lambda how, primals, tangents: (primals[0], tangents[0]))
    kept = {"a": [1, None, (2.5, "text")], "b": np.arange(6.0).reshape(2, 3), "c": np.float32(0.1), "d": np.bool_(True)}
    dd.trace(lambda x: f(kept, x), X).save(tmp_path / "f.tape")
    tape = dd.load(tmp_path / "f.tape", rules=[f])
    again = next(iter(tape.items)).op.call.others[0]
    np.testing.assert_array_equal(again.pop("b"), kept["b"])
    assert again == {key: value for key, value in kept.items() if key != "b"} and type(again["c"]) is np.float32
    with pytest.raises(InputError, match="argument of type object that is constant to a rule can't be saved"):
        dd.trace(lambda x: f(object(), x), X).save(tmp_path / "g.tape")
    assert not (tmp_path / "g.tape").exists()


# -- files made to mislead ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f, old, new, match", [
    (elementals, b'["rule", 0,', b'["rule", 7,', "none of the 2"),
    (elementals, b'["rule", 0,', b'["rule", -1,', "none of the 2"),
    (elementals, b'["rule", 0,', b'["rule", true,', "none of the 2"),
    (elementals, b'["rule", 0,', b'["eval", 0,', "none of the 2"),
    (elementals, b'["rule", 0,', b'["rule",', "not known here"),
    (elementals, b'[["elemental"', b'[["elemental", 1', "has no name"),
    (elementals, b'"rules": [[', b'"rules": [[], [', "has no name"),
    (elementals, b'"rules": ', b'"rulez": ', "no list 'rules'"),
    (elementals, b'"path": []', b'"path": [0, 0, 0]', "can't be"),
    (elementals, b'"path": []', b'"path": [9]', "can't be"),
    (elementals, b'"path": []', b'"path": ["0"]', "can't be"),
    (elementals, b'"path": []', b'"patx": []', "can't be"),
    (elementals, b'"cores": [[], []]', b'"cores": [[], [3]]', "can't be"),
    (elementals, b'"cores": [[], []]', b'"cores": [[]]', "can't be"),
    (elementals, b'"cores": [[3, 3], [3]]', b'"cores": [[3, 4], [3]]', "can't be"),
    (jvps, b'"others": []', b'"others": [[0, 1]]', "can't be"),
    (jvps, b'"nested": ["tuple", ["*", "*"]]', b'"nested": ["tuple", ["*"]]', "can't be"),
    (jvps, b'"nested": ["tuple", ["*", "*"]]', b'"nested": ["list", ["*", "*"]]', "can't be"),
    (jvps, b'"fixed": [null, null]', b'"fixed": [null]', "can't be"),
    (jvps, b'"result": ["tuple", ["*", "*"]]', b'"result": "*"', "can't be"),
    (vjps, b'"plus"', b'{"list": 1}', "can't be"), (vjps, b'"plus"', b'{"module": ["os"]}', "can't be"),
    (vjps, b'"plus"', b'{"array": ["O", [1], "00"]}', "can't be"),
    (vjps, b'"plus"', b'{"array": ["<f8", [1], "00"]}', "can't be"),
    (vjps, b'"plus"', b'{"array": ["<f8", [-1], ""]}', "can't be"),
    (vjps, b'"plus"', b'{"scalar": ["<f8", [1], "0000000000000000"]}', "can't be"),
    (vjps, b'"plus"', b'{"float": "what"}', "can't be"),
    (vjps, b'"plus"', b'{"tuple": [' * 40 + b"1" + b"]}" * 40, "can't be"),
])
def test_headers_of_rules_that_say_otherwise(f, old, new, match, tmp_path):
    def alter(arrays):
        header = arrays["header"].tobytes()
        assert old in header, header
        arrays["header"] = np.frombuffer(header.replace(old, new, 1), dtype=np.uint8)

    dd.trace(f, X).save(tmp_path / "f.tape")
    rewritten(tmp_path / "f.tape", tmp_path / "g.tape", alter)
    refused(tmp_path / "g.tape", match, rules=RULES)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    for f in (elementals, vjps):
        dd.trace(f, X).save(folder / f"{f.__name__}.tape")
    return folder


@given(edits=EDITS)
@settings(max_examples=25)
@pytest.mark.parametrize("name", ["elementals", "vjps"])
def test_edited_fields_of_tapes_with_rules(name, edits, files, tmp_path):
    """Refused, or a tape that means something: its value and derivative agree, or it says what is wrong."""
    rewritten(files / f"{name}.tape", tmp_path / "g.tape", lambda arrays: edited(arrays, edits))
    try:
        tape = dd.load(tmp_path / "g.tape", rules=RULES, most_lines=20_000)
        with np.errstate(all="ignore"), dd.linearize(tape, X, method="sweep") as lin:
            if np.shape(lin.value) == ():
                np.testing.assert_allclose(lin.jvp(X), np.vdot(lin.vjp(1.0), X), rtol=1e-6, atol=1e-8)
    except DistdiffError:
        return
