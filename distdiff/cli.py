"""The command `distdiff`: gradients, reports and checks of a function in a module, alone or under mpirun."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import inspect
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from .errors import DistdiffError, InputError

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
    report.add_argument("--json", action="store_true", help="print JSON instead of text")
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
    add("--wrt", nargs="+", metavar="NAME", help="parameters to differentiate (default: all floating ones)")
    add("--partition", default="auto", help="auto (default) or a partitioner's name, see 'report'")
    add("--quiet", action="store_true", help="no progress on stderr")
    if not solves:
        return sub
    add("--method", default="auto", help="auto (default), sweep, substitution, interface, pipeline, neumann, krylov, "
        "direct or petsc")
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
    add("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1; others want --token-file)")
    add("--port", type=int, default=8765, help="default 8765; 0: any that is free")
    add("--unix", metavar="PATH", help="listen at a unix socket instead")
    add("--token-file", metavar="FILE", help="holds the token, or will hold a new one (default: a new one in the "
        "user's runtime directory, where clients on this machine find it)")
    add("--spool", metavar="DIR", help="keep systems there, for the next start (default: they end with the service)")
    add("--modules", metavar="DIR", help="clients may name functions of the .py files in this directory, and no others")
    add("--memory", type=_bytes, metavar="SIZE", help="most that systems may take a rank, as predicted, e.g. 8G "
        "(default: half of the machine's, shared out)")
    add("--max-body", type=_bytes, default=1 << 30, metavar="SIZE", help="of a request (default 1G)")
    add("--max-systems", type=int, default=64, metavar="N", help="default 64")
    add("--max-batch", type=int, default=64, metavar="N", help="right-hand sides solved together (default 64)")


def _bytes(text: str) -> int:
    """512M, 8G, ..."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    number = float(text.rstrip("KMGTB")) * units.get(text.rstrip("B")[-1:], 1)
    if not 1 <= number < 1 << 62:
        raise ValueError(text)
    return int(number)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status, the same on every rank."""
    arguments = parser().parse_args(argv)
    if arguments.command == "serve":  # ranks that wait let the HTTP thread work; MPICH does so by itself
        os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    from mpi4py import MPI  # after parsing: --help starts no MPI

    from .comm import together

    comm = MPI.COMM_WORLD
    try:
        with together(comm):
            run = {"warm": _warm, "calibrate": _calibrate, "plan": _plan, "coverage": _coverage,
                   "serve": _serve}.get(arguments.command, _run)
            status = run(arguments, comm)
            sys.stdout.flush()  # here, where a reader that has gone can be told from an error
            return status
    except DistdiffError as error:
        if comm.rank == 0:
            print(f"distdiff: error: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # the user's function raised, on rank 0; every rank has agreed to stop
        if isinstance(error, BrokenPipeError) and comm.bcast(_nobody_reads() if comm.rank == 0 else None):
            return 128 + signal.SIGPIPE  # as programs end that the signal kills
        if comm.rank == 0:
            traceback.print_exc()
            print(f"distdiff: the function raised {type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _nobody_reads() -> bool:
    """Whether standard output's reader has gone (`distdiff report ... | head`); what is left is then thrown away."""
    poll, output = select.poll(), sys.stdout.fileno()
    poll.register(output, 0)
    gone = any(event & select.POLLERR for _, event in poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)  # or Python complains when it ends
    return gone


def _run(arguments: argparse.Namespace, comm: Any) -> int:
    from .comm import on_root
    from .linearization import linearize
    from .stages import Heartbeat, Stages

    f: Callable[..., Any] = _elsewhere
    args: tuple[Any, ...] = ()

    def load() -> tuple[int, ...]:
        nonlocal f, args
        f = load_function(arguments.function)
        names, args = load_arguments(f, arguments.input)
        return choose_argnums(names, args, arguments.wrt)

    argnums = on_root(comm, load)
    assert argnums is not None
    if arguments.command == "trace":
        return _trace(arguments, comm, f, args, argnums)
    if arguments.command == "plot":
        from .pictures import require_suffix

        require_suffix(arguments.output)
        if arguments.ranks is not None:
            return _planned(arguments, comm, f, args, argnums)
    options = on_root(comm, lambda: dict(_split_option(text) for text in arguments.option))
    stages = Stages()
    quiet = arguments.quiet or comm.rank != 0
    with nullcontext() if quiet else Heartbeat(stages):
        with linearize(f, *args, argnums=argnums, method=arguments.method, partition=arguments.partition, comm=comm,
                       on_failure=arguments.on_failure, preaccumulate=not arguments.full_system, options=options,
                       stages=stages) as lin:
            if arguments.command == "grad":
                return _grad(arguments, lin, f, args, argnums)
            if arguments.command == "report":
                text = lin.report(assemble=not arguments.no_assemble, check=arguments.measure)
                if arguments.html:
                    return _page(arguments, lin, text)
                if comm.rank == 0:
                    print(json.dumps(text.to_dict(), indent=2) if arguments.json else text)
                return 0
            if arguments.command == "plot":
                picture = lin.plot(arguments.kind, arguments.output, dark=arguments.dark)
                if comm.rank == 0:
                    print(f"{arguments.output}: {picture.caption}")
                return 0
            return _check(arguments, lin, f, args, argnums)


def _page(arguments: argparse.Namespace, lin: Any, report: Any) -> int:
    """The report as a page, with all pictures."""
    from .comm import on_root
    from .pictures import KINDS, take
    from .pictures.page import page
    from .storage import replacing

    subject = lin.subject()
    pictures = [take(subject, kind) for kind in KINDS]

    def write() -> None:
        content = page(arguments.function, report, pictures).encode()
        with replacing(arguments.html) as stream:
            stream.write(content)
        print(f"{arguments.html}: {len(content):,} bytes, with {len(pictures)} pictures")

    on_root(lin.comm, write)
    return 0


def _planned(arguments: argparse.Namespace, comm: Any, f: Callable[..., Any], args: tuple[Any, ...],
             argnums: tuple[int, ...]) -> int:
    """A partition on ranks that nobody has: on rank 0."""
    from .comm import on_root
    from .pictures import take_planned
    from .program import record

    if arguments.kind != "partition" or arguments.ranks < 1:
        raise InputError(f"--ranks {arguments.ranks} --kind {arguments.kind}: only partitions are drawn for ranks that "
                         "are not there, one or more; start other pictures under mpirun")

    def draw() -> None:
        picture = take_planned(record(f, args, argnums=argnums).tape, arguments.ranks, arguments.partition)
        picture.save(arguments.output, dark=arguments.dark)
        print(f"{arguments.output}: {picture.caption}")

    on_root(comm, draw)
    return 0


def _calibrate(arguments: argparse.Namespace, comm: Any) -> int:
    from .comm import on_root
    from .machine import current

    if arguments.show:
        if comm.rank == 0:
            print("\n".join(f"{name:<32}{value}" if isinstance(value, str) else f"{name:<32}{value:.3g}"
                            for name, value in current().to_dict().items()))
        return 0
    from .calibration import calibrate, save

    found = calibrate(comm)

    def keep() -> None:
        print(found)
        print(f"\nkept in {save(found.machine)}")

    on_root(comm, keep)
    return 0


def _plan(arguments: argparse.Namespace, comm: Any) -> int:
    """On rank 0; nothing here takes more than one."""
    from .comm import on_root
    from .planning import plan
    from .stages import Heartbeat, Stages
    from .tracing import trace

    try:
        ranks = [int(text) for text in arguments.ranks.split(",")]
    except ValueError:
        ranks = []
    columns = int(arguments.columns) if arguments.columns.isdecimal() else arguments.columns
    if not ranks or min(ranks) < 1 or columns not in ("jacobian",) and not (isinstance(columns, int) and columns > 0):
        raise InputError(f"--ranks {arguments.ranks} --columns {arguments.columns}: give positive numbers, such as "
                         "--ranks 2,16,128 --columns 20 (or --columns jacobian)")
    stages = Stages()

    def work() -> None:
        f = load_function(arguments.function)
        names, args = load_arguments(f, arguments.input)
        with stages("trace"):
            tape = trace(f, args, argnums=choose_argnums(names, args, arguments.wrt)).tape
        with stages("partition"):
            found = plan(tape, ranks, columns, strategy=arguments.partition)
        print(json.dumps(found.to_dict(), indent=2) if arguments.json else found)

    with nullcontext() if arguments.quiet or comm.rank != 0 else Heartbeat(stages):
        on_root(comm, work)
    return 0


def _coverage(arguments: argparse.Namespace, comm: Any) -> int:
    from .comm import on_root
    from .coverage import text

    def work() -> int:
        found = text(arguments.pattern)
        print(found or f"there is no function {arguments.pattern!r} in NumPy or SciPy",
              file=sys.stdout if found else sys.stderr)
        return 0 if found else 1

    return on_root(comm, work)


def _warm(arguments: argparse.Namespace, comm: Any) -> int:
    from .warm import warm

    began = time.perf_counter()
    missing = warm(comm)
    if comm.rank == 0:
        print(f"{len(missing)} loops compiled in {time.perf_counter() - began:.1f} s; all others were there")
    return 0


def _serve(arguments: argparse.Namespace, comm: Any) -> int:
    from .service.server import run

    return run(arguments, comm)


def _elsewhere(*args: Any) -> Any:
    raise RuntimeError("the function runs on rank 0 only")


def _grad(arguments: argparse.Namespace, lin: Any, f: Callable[..., Any], args: tuple[Any, ...],
          argnums: tuple[int, ...]) -> int:
    from .comm import on_root

    if np.shape(lin.value) != () or isinstance(lin.value, (tuple, list, dict)):
        raise InputError(f"{arguments.function} returns {type(lin.value).__name__} of shape {np.shape(lin.value)}, "
                         "and a gradient is of one number: return a sum or a loss")
    gradients = lin.vjp(1.0)

    def write() -> None:
        names = list(inspect.signature(f).parameters)
        write_npz(arguments.output, {"value": lin.value} | {names[k]: g for k, g in zip(argnums, gradients)})
        sizes = ", ".join(f"{names[k]} {np.shape(g)}" for k, g in zip(argnums, gradients))
        print(f"{arguments.function} = {float(lin.value):.15g}; gradient with respect to {sizes} in {arguments.output}")

    on_root(lin.comm, write)
    return 0


def _trace(arguments: argparse.Namespace, comm: Any, f: Callable[..., Any], args: tuple[Any, ...],
           argnums: tuple[int, ...]) -> int:
    from .comm import on_root
    from .drivers import trace

    def write() -> None:
        tape = trace(f, *args, argnums=argnums)
        tape.save(arguments.output, point=tuple(args[k] for k in argnums))
        print(f"{arguments.function}: {tape.lines:,} flattened lines in {os.path.getsize(arguments.output):,} bytes, a "
              f"function of {', '.join(tape.names or ())}, in {arguments.output}")

    on_root(comm, write)
    return 0


def _check(arguments: argparse.Namespace, lin: Any, f: Callable[..., Any], args: tuple[Any, ...],
           argnums: tuple[int, ...]) -> int:
    """Both tests on the differentiated parameters taken together as one nested argument."""
    from .testing import dot_product_test, taylor_test

    def of_one(moving: tuple[Any, ...]) -> Any:
        every = list(args)
        for k, value in zip(argnums, moving):
            every[k] = value
        return f(*every)

    comm = lin.comm
    point = comm.bcast(tuple(args[k] for k in argnums) if comm.rank == 0 else None, root=0)
    results = [taylor_test(of_one, point, seed=arguments.seed, comm=comm, method=arguments.method),
               dot_product_test(of_one, point, seed=arguments.seed, comm=comm, method=arguments.method)]
    if comm.rank == 0:
        print(*results, sep="\n")
    return 0 if all(result.passed for result in results) else 1


def load_function(spec: str) -> Callable[..., Any]:
    """The function named `module:function` or `file.py:function`, or the tape in a file; `InputError` says what is
    wrong with the name."""
    if Path(spec).is_file():
        from .program import load

        return load(spec)
    module_name, colon, name = spec.rpartition(":")
    if not colon or not module_name or not name:
        raise InputError(f"{spec!r} does not name a function; write module:function, such as model:loss")
    sys.path.insert(0, os.getcwd())
    if module_name.endswith(".py"):
        path = Path(module_name)
        if not path.is_file():
            raise InputError(f"there is no file {module_name}")
        sys.path.insert(0, str(path.resolve().parent))
        found = importlib.util.spec_from_file_location(path.stem, path)
        assert found is not None and found.loader is not None
        module = importlib.util.module_from_spec(found)
        sys.modules[path.stem] = module
        found.loader.exec_module(module)
    else:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not (module_name + ".").startswith(error.name + "."):
                raise  # the module is there, and what it imports is not
            raise InputError(f"there is no module {module_name!r} in {os.getcwd()} or on the Python path") from error
    function = getattr(module, name, None)
    if not callable(function):
        names = [n for n, v in vars(module).items() if inspect.isfunction(v) and not n.startswith("_")]
        raise InputError(f"module {module_name!r} has no function {name!r}; it has {', '.join(names) or 'none'}")
    return function


def load_arguments(f: Callable[..., Any], path: str | None) -> tuple[list[str], tuple[Any, ...]]:
    """The function's positional arguments from an .npz or .npy file (None: those of a tape), and their names."""
    if path is None:
        point = getattr(f, "point", None)
        if point is None:
            raise InputError("no arguments are given; name their file with --input")
        return list(inspect.signature(f).parameters), point
    if not Path(path).is_file():
        raise InputError(f"there is no input file {path}")
    parameters = [p for p in inspect.signature(f).parameters.values()
                  if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in parameters]
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {names[0]: loaded}
    except (ValueError, OSError, EOFError, IndexError) as error:
        with open(path, "rb") as stream:
            begin = stream.read(6)
        if not begin.startswith((b"PK", b"\x93NUMPY")):
            raise InputError(f"{path} is no .npz or .npy file and can't be read; of a text file of numbers, "
                             "np.save('x.npy', np.loadtxt('x.csv', delimiter=',')) makes one") from error
        raise InputError(f"{path} can't be read as .npz or .npy without pickle: {error}") from error
    if len(arrays) == 1 and len(names) == 1:
        arrays = {names[0]: next(iter(arrays.values()))}
    unknown = sorted(set(arrays) - set(names))
    if unknown:
        raise InputError(f"{path} holds {', '.join(unknown)}, which {_name(f)}({', '.join(names)}) does not take")
    args: list[Any] = []
    for k, parameter in enumerate(parameters):
        if parameter.name not in arrays:
            left = [p.name for p in parameters[k:] if p.name in arrays]
            if parameter.default is parameter.empty or left:
                raise InputError(f"{path} has no array {parameter.name!r}, which {_name(f)}({', '.join(names)}) "
                                 f"needs; it holds {', '.join(arrays) or 'nothing'}")
            break
        array = arrays[parameter.name]
        args.append(array if array.ndim else array.item())
    return names[:len(args)], tuple(args)


def _name(f: Callable[..., Any]) -> str:
    return getattr(f, "__name__", "the tape")


def choose_argnums(names: list[str], args: tuple[Any, ...], wrt: list[str] | None) -> tuple[int, ...]:
    """Positions of the parameters to differentiate: those named, else all that hold floating-point numbers."""
    if wrt is not None:
        missing = [name for name in wrt if name not in names]
        if missing:
            raise InputError(f"--wrt {' '.join(missing)}: the function's parameters are {', '.join(names)}")
        return tuple(names.index(name) for name in dict.fromkeys(wrt))
    floating = tuple(k for k, arg in enumerate(args) if np.asarray(arg).dtype.kind in "fc")
    if not floating:
        kinds = ", ".join(f"{name} ({np.asarray(arg).dtype})" for name, arg in zip(names, args))
        raise InputError(f"no parameter holds floating-point numbers to differentiate by: {kinds}; save them as floats")
    return floating


def _split_option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    name = name.lstrip("-").removeprefix("distdiff_")
    if not name or not equals:
        raise InputError(f"--option {text!r} is no NAME=VALUE; write --option ksp_rtol=1e-10")
    return name, value


def write_npz(path: str, arrays: dict[str, Any]) -> None:
    """Write an .npz, at once or not at all."""
    from .storage import replacing

    with replacing(path) as stream:
        np.savez(stream, **{name: np.asarray(value) for name, value in arrays.items()})


if __name__ == "__main__":
    sys.exit(main())
