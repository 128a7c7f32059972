"""The command `distdiff`: gradients, reports and checks of a function in a module, alone or under mpirun."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import traceback
from pathlib import Path

from ..errors import DistdiffError
from ..packages import explained
from .commands import run
from .grammar import parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status, the same on every rank."""
    arguments = parser().parse_args(argv)
    if arguments.command == "serve":  # ranks that wait let the HTTP thread work; MPICH does so by itself
        os.environ.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    try:
        from mpi4py import MPI  # after parsing: --help starts no MPI
    except (ImportError, RuntimeError) as error:
        print(f"distdiff: error: {explained(error, f'distdiff {arguments.command}')}", file=sys.stderr)
        return 1

    from ..comm import together

    comm = MPI.COMM_WORLD
    try:
        with together(comm):
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
            print(_told(error), end="", file=sys.stderr)
            print(f"distdiff: the function raised {type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _told(error: BaseException) -> str:
    """The traceback without the frames between the user's own: all of it if there are none, or DISTDIFF_TRACEBACK=full.
    """
    told = traceback.TracebackException.from_exception(error)
    if os.environ.get("DISTDIFF_TRACEBACK") == "full":
        return "".join(told.format())
    ours = str(Path(__file__).resolve().parents[1]) + os.sep
    examples = os.path.join(ours, "examples") + os.sep  # are users like others
    one: traceback.TracebackException | None = told
    while one is not None:
        users = [frame for frame in one.stack if not frame.filename.startswith((ours, "<frozen ", contextlib.__file__))
                 or frame.filename.startswith(examples)]
        first = next((k for k, frame in enumerate(users) if frame.filename != sys.argv[0]), len(users))
        if users[first:]:
            one.stack[:] = users[first:]
        one = one.__cause__ or one.__context__
    return "".join(told.format())


def _nobody_reads() -> bool:
    """Whether standard output's reader has gone (`distdiff report ... | head`); what is left is then thrown away."""
    poll, output = select.poll(), sys.stdout.fileno()
    poll.register(output, 0)
    gone = any(event & select.POLLERR for _, event in poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)  # or Python complains when it ends
    return gone


__all__ = ["main", "parser"]
