"""The command line as a person uses it: in an empty directory, with and without mistakes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from distdiff.cli import main

MODEL = '''
import numpy as np

def loss(u, k):
    for _ in range(5):
        u = u + k * (np.roll(u, 1) - 2 * u + np.roll(u, -1))
    return (u ** 2).sum()

def vector(u):
    return u * u

def vector_sum(u):
    return (u * u).sum()

def broken(u):
    raise RuntimeError("boom")

def outside(u):
    return helper(u)

def helper(u):
    return u[100]
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    np.savez(tmp_path / "x.npz", u=np.linspace(1, 2, 7), k=0.3)
    np.save(tmp_path / "u.npy", np.linspace(1, 2, 7))
    return tmp_path


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "distdiff.cli", *words], cwd=folder, text=True, capture_output=True,
                          timeout=100)


@pytest.fixture
def here(folder, monkeypatch, capsys):
    """`run` in this process: Python and the libraries take longer to start than most commands take."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.delitem(sys.modules, "model", raising=False)  # that of an earlier folder
        status = main(list(words))
        told = capsys.readouterr()
        return subprocess.CompletedProcess(words, status, told.out, told.err)

    yield call
    sys.modules.pop("model", None)


def test_grad(folder):
    done = run(folder, "grad", "model:loss", "--input", "x.npz", "--output", "g.npz")
    assert done.returncode == 0, done.stderr
    with np.load(folder / "g.npz") as g:
        assert set(g) == {"value", "u", "k"} and g["u"].shape == (7,) and g["k"].shape == ()
        e = 1e-6
        namespace: dict = {}
        exec(MODEL, namespace)
        u = np.linspace(1, 2, 7)
        slope = (namespace["loss"](u, 0.3 + e) - namespace["loss"](u, 0.3 - e)) / (2 * e)
        np.testing.assert_allclose(g["k"], slope, rtol=1e-7)


def test_a_tape_stands_for_its_function(folder, here):
    done = here("trace", "model:loss", "--input", "x.npz", "--output", "f.tape")
    assert done.returncode == 0 and "197 flattened lines" in done.stdout, done
    (folder / "model.py").unlink()
    np.savez(folder / "y.npz", u=np.linspace(2, 3, 7), k=0.2)
    for words, u, k in (((), np.linspace(1, 2, 7), 0.3), (("--input", "y.npz"), np.linspace(2, 3, 7), 0.2)):
        done = here("grad", "f.tape", "--output", "g.npz", *words)
        assert done.returncode == 0, done.stderr
        namespace: dict = {}
        exec(MODEL, namespace)
        with np.load(folder / "g.npz") as g:
            assert g["value"] == pytest.approx(namespace["loss"](u, k), rel=1e-14)
            assert set(g) == {"value", "u", "k"}
    assert "197 flattened lines" in here("report", "f.tape").stdout
    (folder / "f.tape").write_bytes(b"PK")
    done = here("report", "f.tape")
    assert done.returncode == 1 and "no tape that can be used" in done.stderr and "Traceback" not in done.stderr
    done = here("report", "model:loss")
    assert done.returncode == 1


def test_a_tape_finds_its_rules_in_modules(folder, here):
    (folder / "rules.py").write_text("import distdiff as dd, numpy as np\n"
                                     "square = dd.elemental(np.square, partials=[lambda y, x: 2 * x], name='sq')\n"
                                     "def ruled(u): return np.sum(square(u))\n")
    assert here("trace", "rules:ruled", "--input", "u.npy", "--output", "f.tape").returncode == 0
    done = here("grad", "f.tape", "--output", "g.npz")
    assert done.returncode == 1 and "the tape calls sq (distdiff.elemental, of module" in done.stderr
    done = here("grad", "f.tape", "--output", "g.npz", "--rules", "rules")
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(folder / "g.npz")["u"], 2.0 * np.load(folder / "u.npy"))


def test_wrt_and_npy_and_file(folder, here):
    done = here("grad", "model.py:loss", "--input", "x.npz", "--output", "g.npz", "--wrt", "k")
    assert done.returncode == 0, done.stderr
    assert set(np.load(folder / "g.npz")) == {"value", "k"}
    done = here("check", "model:vector", "--input", "u.npy")
    assert done.returncode == 0 and "Taylor test passed" in done.stdout, done.stdout + done.stderr


def test_whole_numbers_are_constants_and_that_is_said(folder, here):
    np.savez(folder / "whole.npz", u=np.arange(7), k=0.3)
    done = here("grad", "model:loss", "--input", "whole.npz", "--output", "g.npz")
    assert done.returncode == 0 and "u holds whole numbers (int64) and is taken as a constant" in done.stderr, done
    assert set(np.load(folder / "g.npz")) == {"value", "k"}


def test_coverage(here):
    done = here("coverage", "cum")
    assert done.returncode == 0, done.stderr
    assert "cumsum" in done.stdout and "exact" in done.stdout and "NumPy" in done.stdout


def test_coverage_of_no_function(here):
    done = here("coverage", "nothing_like_this")
    assert done.returncode == 1 and "no function 'nothing_like_this'" in done.stderr and not done.stdout


def test_report(here):
    done = here("report", "model:loss", "--input", "x.npz")
    assert done.returncode == 0, done.stderr
    for word in ("depth", "width", "rows kept", "k*", "memory", "sweep", "krylov"):
        assert word in done.stdout
    done = here("report", "model:loss", "--input", "x.npz", "--json")
    assert json.loads(done.stdout)["inputs"] == 8


@pytest.mark.parametrize("words, message", [
    (("grad", "model:nothing", "--input", "x.npz", "--output", "g.npz"), "no function 'nothing'; it has"),
    (("grad", "modell:loss", "--input", "x.npz", "--output", "g.npz"), "no module 'modell'"),
    (("grad", "loss", "--input", "x.npz", "--output", "g.npz"), "module:function"),
    (("grad", "model:loss", "--input", "y.npz", "--output", "g.npz"), "no input file y.npz"),
    (("grad", "model:loss", "--input", "u.npy", "--output", "g.npz"), "no array 'k'"),
    (("grad", "model:loss", "--input", "model.py", "--output", "g.npz"), "can't be read"),
    (("grad", "model:loss", "--input", "model.py", "--output", "g.npz"), "np.loadtxt"),
    (("grad", "model:vector", "--input", "u.npy", "--output", "g.npz"), "one number"),
    (("grad", "model:loss", "--input", "x.npz", "--output", "no/g.npz"), "no directory"),
    (("grad", "model:loss", "--input", "x.npz", "--output", "g.npz", "--wrt", "z"), "parameters are u, k"),
    (("report", "model:loss", "--input", "x.npz", "--method", "magic"), "magic"),
    (("plot", "model:loss", "--input", "x.npz", "--output", "s.pdf"), "end in .png or .svg"),
    (("plot", "model:loss", "--input", "x.npz", "--output", "s.svg", "--ranks", "4"), "only partitions"),
])
def test_mistakes(folder, here, words, message):
    done = here(*words)
    assert done.returncode == 1 and message in done.stderr, done.stderr
    assert done.stderr.startswith("distdiff: error: ") and "Traceback" not in done.stderr
    assert not (folder / "g.npz").exists()


def test_a_method_that_fails(folder):
    words = ("grad", "model:loss", "--input", "x.npz", "--output", "g.npz", "--method", "petsc", "--full-system",
             "--option", "ksp_type=richardson", "--option", "pc_type=none", "--option", "ksp_max_it=1")
    done = run(folder, *words)
    assert done.returncode == 0 and "method 'petsc' failed, and substitution solves instead" in done.stderr
    done = run(folder, *words, "--on-failure", "raise")
    assert done.returncode == 1 and "distdiff: error: petsc: richardson with preconditioner none" in done.stderr


def test_a_function_that_raises_shows_its_own_traceback(here, monkeypatch):
    done = here("grad", "model:broken", "--input", "u.npy", "--output", "g.npz")
    assert done.returncode == 1 and "boom" in done.stderr and "model.py" in done.stderr
    done = here("grad", "model:outside", "--input", "u.npy", "--output", "g.npz")
    lines = [line for line in done.stderr.splitlines() if line.startswith("  File ")]
    assert len(lines) == 2 and all("model.py" in line for line in lines), done.stderr  # the function and its helper
    assert done.stderr.splitlines()[-1].startswith("distdiff: the function raised IndexError: ")
    monkeypatch.setenv("DISTDIFF_TRACEBACK", "full")
    assert "comm.py" in here("grad", "model:outside", "--input", "u.npy", "--output", "g.npz").stderr


@pytest.mark.parametrize("words", [("report", "--html"), ("plot", "--output"), ("trace", "--output"),
                                   ("grad", "--output")])
def test_where_nothing_can_be_written_nothing_is_done(folder, here, words):
    (folder / "model.py").write_text("def loss(u):\n    raise RuntimeError('it was called')\n")
    command, option = words
    for place, message in (("no/x.svg", "no directory no"), (".", "is a directory")):
        if (command, place) == ("plot", "."):
            continue  # is no .svg either
        done = here(command, "model:loss", "--input", "u.npy", option, place)
        assert done.returncode == 1 and message in done.stderr and "called" not in done.stderr, done.stderr


def test_options_that_nobody_reads(here):
    with pytest.warns(UserWarning, match=r"not read \(ksp_type\): method 'sweep'.* is not PETSc's"):
        done = here("grad", "model:vector_sum", "--input", "u.npy", "--output", "g.npz", "--option", "ksp_type=nope")
    assert done.returncode == 0


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("words", [("report", "model:loss", "--input", "x.npz", "--quiet"), ("coverage",)])
def test_a_reader_that_has_gone_is_no_error_of_the_function(folder, words, ranks):
    """distdiff report ... | head: nothing on standard error, least of all that the function raised something."""
    command = [sys.executable, "-m", "distdiff.cli", *words]
    if ranks > 1:
        command = [str(shutil.which("mpirun")), "-n", str(ranks), *command]
    else:
        read, write = os.pipe()
        os.close(read)
    done = subprocess.run(command if ranks == 1 else ["sh", "-c", f"{' '.join(command)} | head -n 1"], cwd=folder,
                          stdout=write if ranks == 1 else subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=100, env=None if ranks == 1 else fresh_environment())
    assert "raised" not in done.stderr and "Traceback" not in done.stderr and "ignored" not in done.stderr
    assert ranks > 1 or (done.returncode, done.stderr) == (141, "")


def _mpirun(folder: Path, ranks: int, *words: str) -> subprocess.CompletedProcess[str]:
    """The command under mpirun as from a fresh shell: this process is an MPI program, and its environment says so."""
    mpirun = shutil.which("mpirun")
    assert mpirun is not None, "no mpirun on PATH"
    return subprocess.run([mpirun, "-n", str(ranks), sys.executable, "-m", "distdiff.cli", *words], cwd=folder,
                          text=True, capture_output=True, timeout=100, env=fresh_environment())


def fresh_environment() -> dict[str, str]:
    """This process's environment without what says that it is an MPI program."""
    inherited = ("PMIX_", "PMI_", "OMPI_COMM_", "OMPI_UNIVERSE", "OMPI_MCA_orte_")
    single = ("OMPI_MCA_ess", "OMPI_MCA_pmix", "HYDI_CONTROL_FD")  # pmix alone, without ess, lets mpirun crash
    return {k: v for k, v in os.environ.items() if not k.startswith(inherited) and k not in single}


def test_under_mpirun(folder):
    alone = run(folder, "grad", "model:loss", "--input", "x.npz", "--output", "one.npz")
    both = _mpirun(folder, 2, "grad", "model:loss", "--input", "x.npz", "--output", "two.npz", "--partition", "axes")
    assert both.returncode == 0, both.stderr
    assert both.stdout == alone.stdout.replace("one.npz", "two.npz")
    with np.load(folder / "one.npz") as one, np.load(folder / "two.npz") as two:
        for name in one:
            np.testing.assert_allclose(two[name], one[name], rtol=1e-13)
    report = _mpirun(folder, 2, "report", "model:loss", "--input", "x.npz")
    assert report.returncode == 0 and "ranks        2" in report.stdout, report.stderr


def test_plot(folder, here):
    done = here("plot", "model:loss", "--input", "x.npz", "--output", "s.svg")
    assert done.returncode == 0 and "flattened lines" in done.stdout, done.stderr
    assert (folder / "s.svg").read_text().startswith("<?xml")
    done = here("plot", "model:loss", "--input", "x.npz", "--output", "p.png", "--kind", "partition", "--ranks",
               "3", "--partition", "contiguous", "--dark")
    assert done.returncode == 0 and done.stdout.startswith("p.png: Partition contiguous"), done.stderr
    assert (folder / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_page(folder, here):
    done = here("report", "model:loss", "--input", "x.npz", "--html", "r.html")
    assert done.returncode == 0 and "5 pictures" in done.stdout, done.stderr
    assert "model:loss" in (folder / "r.html").read_text()
    (folder / "r.html").unlink()
    done = here("report", "model:loss", "--input", "x.npz", "--json", "--html", "r.html")
    assert done.returncode == 0 and "lines" in json.loads(done.stdout) and "5 pictures" in done.stderr
    assert "model:loss" in (folder / "r.html").read_text()


def test_a_mistake_under_mpirun_is_told_once(folder):
    done = _mpirun(folder, 2, "grad", "model:broken", "--input", "u.npy", "--output", "g.npz")
    assert done.returncode != 0 and done.stderr.count("the function raised RuntimeError: boom") == 1
    done = _mpirun(folder, 2, "grad", "model:loss", "--input", "y.npz", "--output", "g.npz")
    assert done.returncode != 0 and done.stderr.count("no input file y.npz") == 1


def test_help_teaches():
    done = subprocess.run([sys.executable, "-m", "distdiff.cli", "grad", "--help"], text=True, capture_output=True,
                          timeout=60)
    assert done.returncode == 0 and "mpirun -n 4 distdiff grad" in done.stdout


def test_warm_leaves_nothing_to_compile(folder):
    again = run(folder, "warm")
    if not again.stdout.startswith("0 loops"):  # where nobody has done it before
        assert again.returncode == 0
        again = run(folder, "warm")
    assert again.stdout.startswith("0 loops compiled"), again.stdout + again.stderr
    large = """
import sys, numpy as np, distdiff as dd
def orbit(u):
    p, q = u[0], u[1]
    for _ in range(10_000):
        p, q = p + 0.001 * (p - p * q), q + 0.001 * (p * q - q)
    return p * q
for method in ("sweep", "substitution"):
    dd.grad(orbit, method=method)(np.ones(2))
from distdiff.kernels.cache import DiskCache
sys.exit("\\n".join(DiskCache.compiled) or 0)
"""
    done = subprocess.run([sys.executable, "-c", large], cwd=folder, text=True, capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr
