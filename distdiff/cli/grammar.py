"""The command line's grammar, with its help."""

from __future__ import annotations

import argparse
import re
from typing import Any

from .. import __version__

GUIDE = """\
A function is named module:function (or path/to/file.py:function) and takes NumPy arrays or floats. The input file holds
its arguments: an .npz with one array a parameter, named as the parameters are, or an .npy for a function of one.

  # model.py                                          import numpy as np
  def loss(u, k):                                     np.savez("x.npz", u=np.ones(1000), k=0.3)
      for _ in range(100):
          u = u + k * (np.roll(u, 1) - 2 * u + np.roll(u, -1))
      return (u ** 2).sum()

  distdiff grad model:loss --input x.npz --output g.npz             # g.npz: value, u, k
  mpirun -n 4 distdiff grad model:loss --input x.npz --output g.npz # the same on four ranks
  distdiff grad model:loss --input x.npz --output g.npz --wrt u     # with respect to u alone
  distdiff report model:loss --input x.npz                          # structure, partition, methods and why
  distdiff report model:loss --input x.npz --html report.html       # the same as a page, with pictures
  distdiff check model:loss --input x.npz                           # Taylor and dot-product tests
  distdiff plan model:loss --input x.npz --ranks 2,16,128           # what more ranks would bring, on one
  distdiff plot model:loss --input x.npz --kind spy --output s.svg  # pictures; partition, timeline, scaling and levels
  distdiff trace model:loss --input x.npz --output f.tape           # the recorded function and its point, in a file
  distdiff grad f.tape --output g.npz                               # anywhere, without model.py; --input: elsewhere

Only rank 0 imports the module and reads the files. Any PETSc option is passed with --option name=value, and its name is
what PETSc calls it without a prefix (ksp_rtol=1e-10), or with the prefix distdiff_ in PETSC_OPTIONS."""


def parser() -> argparse.ArgumentParser:
    """The command line's grammar, with its help."""
    top = argparse.ArgumentParser(
        prog="distdiff", epilog=GUIDE, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Exact derivatives of very large functions by a distributed sparse triangular solve.")
    top.add_argument("--version", action="version", version=f"distdiff {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    grad = _command(commands, "grad", "write the value and the gradient of a function of one result")
    grad.add_argument("--output", required=True, metavar="FILE.npz",
                      help="where to write: 'value', and one gradient under each parameter's name")
    report = _command(commands, "report", "print structure, kept rows, partition, memory, each method's predicted cost")
    report.add_argument("--json", action="store_true", help="print JSON instead of text, beside a page too")
    report.add_argument("--html", metavar="FILE", help="write a page with all of it and all pictures, for which "
                        "solves are run and measured")
    report.add_argument("--no-assemble", action="store_true",
                        help="don't build the PETSc system for its counts when the method needs none")
    report.add_argument("--measure", action="store_true",
                        help="solve once in either direction and tell by how much <w, J v> and <J^T w, v> differ")
    commands.add_parser("warm", help="compile the loops that large problems need, ahead of time", description=(
        "Compile the loops that large problems need, and keep them in the first folder of these that can be "
        "written: $DISTDIFF_CACHE_DIR (or $NUMBA_CACHE_DIR), __pycache__ beside the source, distdiff in the user's "
        "cache. On two ranks, 'mpirun -n 2 distdiff warm', those for messages between ranks as well. Do it on a node "
        "of the type that the jobs run on: compiled code is for one kind of processor."))
    rates = "measure this machine's rates, for predictions and choices"
    calibrate = commands.add_parser("calibrate", help=rates, description=(
        "Measure what each kind of work takes on this machine, on programs of its own, in under a minute; under mpirun "
        "also what messages between the ranks take. The rates are kept where compiled loops are kept, for processors "
        "of this kind; the partition and the choice of a method go by them from then on. DISTDIFF_MACHINE=default "
        "leaves them aside. Leave the machine alone meanwhile."))
    calibrate.add_argument("--show", action="store_true", help="print the rates in use, and measure nothing")
    plan = _command(commands, "plan", "predict time, memory and messages on numbers of ranks, without running on them",
                    solves=False)
    plan.add_argument("--ranks", default="2,16,128,1024", metavar="LIST", help="default 2,16,128,1024; 1 comes along")
    plan.add_argument("--columns", default="1", metavar="M",
                      help="right-hand sides at a point, one after another (default 1), or jacobian")
    plan.add_argument("--json", action="store_true", help="print JSON instead of text")
    coverage = commands.add_parser(
        "coverage", help="print what is done with each function of NumPy's",
        description="Print what is done with each function of the installed NumPy: exact (traced, with derivatives), "
        "constant (derivative zero), refused (raises an error, and why), untouched (takes no numbers).")
    coverage.add_argument("pattern", nargs="?", default="", help="only names that hold this, e.g. cum or linalg.")
    trace = _command(commands, "trace", "record the function at the input and save it, for grad, report and check")
    trace.add_argument("--output", required=True, metavar="FILE.tape", help="where to write the tape and the input")
    plot = _command(commands, "plot", "draw a picture of the system, its structure, partition or times")
    plot.add_argument("--kind", default="spy", choices=("spy", "levels", "partition", "timeline", "scaling"),
                      help="entries of I - L (default), lines by level and values alive, owners and messages, measured "
                      "computing and waiting by rank, predicted and measured time by number of ranks")
    plot.add_argument("--output", required=True, metavar="FILE", help="a .png or .svg")
    plot.add_argument("--dark", action="store_true", help="for a dark page")
    plot.add_argument("--ranks", type=int, metavar="N", help="with --kind partition: on N ranks that need not be there")
    _serve_command(commands)
    check = _command(commands, "check", "run the Taylor test and the dot-product test; exit status 1 if one fails")
    check.add_argument("--seed", type=int, default=0, help="of the random directions (default 0)")
    return top


def _command(commands: Any, name: str, help_: str, solves: bool = True) -> argparse.ArgumentParser:
    sub = commands.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".", epilog=GUIDE,
                              formatter_class=argparse.RawDescriptionHelpFormatter)
    sub.add_argument("function", metavar="MODULE:FUNCTION",
                     help="the function, e.g. model:loss or dir/model.py:loss, or the file of a tape")
    add = sub.add_argument
    add("--input", metavar="FILE", help=".npz (an array a parameter) or .npy (one parameter); a tape has its own")
    add("--rules", action="append", default=[], metavar="MODULE", help="where a tape finds the rules (dd.custom_jvp, "
        "custom_vjp, elemental) that it calls; may be repeated")
    add("--wrt", nargs="+", metavar="NAME", help="parameters to differentiate (default: all floating ones)")
    add("--partition", default="auto", help="auto (default) or a partitioner's name, see 'report'")
    add("--quiet", action="store_true", help="no progress on stderr")
    if not solves:
        return sub
    add("--method", default="auto", help="auto (default), walk, sweep, substitution, interface, pipeline, neumann, "
        "krylov, direct or petsc")
    add("--on-failure", choices=("substitution", "raise"), default="substitution",
        help="what happens when the method fails: substitution solves instead, with a warning (default), or an error")
    add("--full-system", action="store_true", help="keep every flattened line as a row (no preaccumulation)")
    add("--option", action="append", default=[], metavar="NAME=VALUE", help="a PETSc option; may be repeated")
    return sub


def _serve_command(commands: Any) -> None:
    serve = commands.add_parser("serve", help="hold systems and answer derivative requests over HTTP", description=(
        "Hold systems on the ranks of this job and answer requests for their derivatives over HTTP, until SIGTERM or "
        "Ctrl-C. In other programs: client = distdiff.connect('http://127.0.0.1:8765'), which needs no MPI. Clients "
        "give the token in the token file."))
    add = serve.add_argument
    add("--host", help="address to listen at (default 127.0.0.1; others want --token-file)")
    add("--port", type=int, help="default 8765; 0: any that is free")
    add("--unix", metavar="PATH", help="listen at a unix socket instead")
    add("--token-file", metavar="FILE", help="holds the token, or will hold a new one (default: a new one in the "
        "user's runtime directory, where clients on this machine find it)")
    add("--spool", metavar="DIR", help="keep systems there, for the next start (default: they end with the service)")
    add("--modules", metavar="DIR", help="clients may name functions of the .py files in this directory, and no others")
    add("--memory", type=_bytes, metavar="SIZE", help="most that systems may take a rank, as predicted, e.g. 8G "
        "(default: half of the machine's, shared out)")
    add("--max-body", type=_bytes, default=1 << 30, metavar="SIZE", help="of a request (default 1G)")
    add("--max-systems", type=int, default=64, metavar="N", help="default 64")
    add("--trace-limit", type=float, metavar="SECONDS", help="after which the trace of a module's function is ended "
        "(default 3600)")
    add("--rule-limit", type=float, metavar="SECONDS", help="that rules of modules (custom_jvp, custom_vjp, elemental) "
        "may take in all on a rank, in one solve, move or picture, after which they are left (default 600)")
    add("--traces", type=int, metavar="N", help="functions of modules that are traced at a time, each by a process of "
        "its own; a client has half of them at most (default 16)")
    add("--max-batch", type=int, default=64, metavar="N", help="right-hand sides solved together (default 64)")


def _bytes(text: str) -> int:
    """512M, 8G, ..."""
    units = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)([KMGT]?)B?", text)
    number = float(found[1]) * units[found[2]] if found else 0.0
    if not 1 <= number < 1 << 62:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: it is a number of bytes, as 512M, 8G or 1.5T")
    return int(number)
