"""`distdiff serve`: the ranks, the thread that speaks HTTP, and their beginning and end."""

from __future__ import annotations

import ipaddress
import os
import resource
import signal
import socket
import stat
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpi4py import MPI

from .. import comm as agreement
from .. import deadline
from ..errors import InputError
from ..kernels.jit import compile_at_once
from . import tokens
from .modules import Modules
from .options import HOST, PORT, RULE_LIMIT, TRACE_LIMIT, Options
from .ranks import Ranks
from .service import Service
from .spool import Spool
from .tracers import AT_ONCE

BACKLOG = 1024  # connections that wait to be accepted
FILES = 1 << 16  # that may be open


def serve(options: Options, comm: MPI.Comm) -> int:
    """Hold systems and answer requests until SIGTERM or SIGINT reaches rank 0.  Collective.

    Rank 0 speaks HTTP on a thread of its own; MPI is called on the main threads only.
    """
    options.require_sense()
    # PETSc, which may be started by a system, would take signals over: a client that goes away (SIGPIPE) would end the
    # job, and SIGTERM would not be ours.
    os.environ["PETSC_OPTIONS"] = f"{os.environ.get('PETSC_OPTIONS', '')} -no_signal_handler".strip()
    if options.modules is not None:  # else no system has rules
        deadline.limit(options.rule_limit or RULE_LIMIT, "--rule-limit")
    compile_at_once()  # who stays earns it back, and memory is what it will be
    memory = agreement.on_root(comm, lambda: options.memory or _half_of_memory(comm.size))
    ranks = Ranks(comm.Dup(), memory)
    if comm.rank:
        for number in (signal.SIGINT, signal.SIGTERM):  # sent to all by launchers; rank 0 decides
            signal.signal(number, signal.SIG_IGN)
        with agreement.agreed(comm):  # rank 0 has all it needs
            pass
        ranks.follow()
        return 0
    with agreement.agreed(comm):
        front = _Front(options, ranks)
    try:
        front.run()
    finally:
        ranks.stop()
        front.close()
    return 0


class _Front:
    """Rank 0's sockets, files and threads."""

    def __init__(self, options: Options, ranks: Ranks) -> None:
        try:
            import uvicorn

            from .app import create_app
            from .parsing import BoundedProtocol
        except ImportError as error:
            raise InputError(f"the service needs packages that are not installed ({error}): "
                             "pip install 'distdiff[service]'") from error
        _allow_files()
        self._socket, address = _listen(options)
        try:
            token, where = _token(options, address)
            spool = Spool(options.spool)
            self.service = Service(ranks, spool, Modules(options.modules), most_systems=options.max_systems,
                                   at_once=options.max_batch, trace_limit=options.trace_limit or TRACE_LIMIT,
                                   traces=options.traces or AT_ONCE)
            app = create_app(self.service, token, most_body=options.max_body)
        except BaseException:
            self._socket.close()
            raise
        self._address, self._where = address, where
        self._http = uvicorn.Server(uvicorn.Config(
            app, http=BoundedProtocol, ws="none", log_level="critical", access_log=False, lifespan="off",
            timeout_graceful_shutdown=2, server_header=False, proxy_headers=False))
        self._thread = threading.Thread(target=self._http.run, args=([self._socket],), name="distdiff-http",
                                        daemon=True)

    def run(self) -> None:
        """Until a signal comes."""
        call_at_signals((signal.SIGINT, signal.SIGTERM), self.service.queue.close)
        sys.setswitchinterval(5e-4)  # a thread that wants to answer is not kept waiting by one that computes
        self.service.tracers.start()
        self.service.restore()
        self._thread.start()
        print(f"distdiff serves {_several(len(self.service.systems), 'system')} on "
              f"{_several(len(self.service.ranks.used), 'rank')} at {self._address}; token in {self._where}",
              flush=True)
        self.service.run()

    def close(self) -> None:
        self.service.tracers.close()
        self._http.should_exit = True
        if self._thread.is_alive():
            self._thread.join(5.0)
        self._socket.close()
        if self._address.path:
            with suppress(OSError):
                os.unlink(self._address.path)
        self.service.spool.close()


def call_at_signals(numbers: Collection[int], act: Callable[[], None]) -> None:
    """Have `act` called, on a thread of its own, when one of these signals comes, now or again.

    A handler would run on the main thread wherever that is: in the queue's own methods, between what they look at and
    what they do next, as their lock is no obstacle to their own thread.
    """
    told, tells = socket.socketpair()
    tells.setblocking(False)
    signal.set_wakeup_fd(tells.fileno(), warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda *_: None)  # Python writes the number to the socket

    def wait() -> None:
        with tells:
            while came := told.recv(1):
                if came[0] in numbers:
                    act()

    threading.Thread(target=wait, name="distdiff-signals", daemon=True).start()


def _listen(options: Options) -> tuple[socket.socket, tokens.Address]:
    """A listening socket, and what clients call it."""
    host, port = options.host or HOST, PORT if options.port is None else options.port
    try:
        if options.unix is not None:
            path = os.path.abspath(options.unix)
            if os.path.exists(path):
                if not stat.S_ISSOCK(os.stat(path).st_mode) or _answers(path):
                    raise InputError(f"--unix {path}: there is something already; name another path")
                os.unlink(path)  # of a service that was killed
            made = socket.socket(socket.AF_UNIX)
            mask = os.umask(0o177)
            try:
                made.bind(path)
            finally:
                os.umask(mask)
            made.listen(BACKLOG)
            return made, tokens.Address(None, None, path)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = found[0]
        if not ipaddress.ip_address(str(where[0]).partition("%")[0]).is_loopback and options.token_file is None:
            raise InputError(f"--host {host} is no loopback address, so others can reach the service: name a "
                             "file that holds the token with --token-file, or use an SSH tunnel to 127.0.0.1")
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # else asyncio leaves Nagle's delay on
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(where)
        made.listen(BACKLOG)  # from now on nobody is refused
        return made, tokens.Address(host, made.getsockname()[1], None)
    except OSError as error:
        at = options.unix or f"{host}:{port}"
        raise InputError(f"the service can't listen at {at}: {error}") from error


def _allow_files() -> None:
    """As many open files as the system allows, up to FILES: connections are files, and the usual 1024 are soon held."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if 0 <= soft < wanted:
        with suppress(ValueError, OSError):  # some systems name more than they give
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _several(n: int, what: str) -> str:
    return f"{n} {what}{'s' if n != 1 else ''}"


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(path)
        return True
    return False


def _token(options: Options, address: tokens.Address) -> tuple[str, Path]:
    """The token, and the file that holds it: the operator's, or a new random one."""
    path = Path(options.token_file) if options.token_file is not None else tokens.usual_file(address)
    if options.token_file is not None and path.exists():
        return tokens.read(path), path
    return tokens.write(path), path


def _half_of_memory(ranks: int) -> int:
    """Bytes a rank, if all of them are on this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (2 * ranks)


def run(arguments: Any, comm: MPI.Comm) -> int:
    """The command `distdiff serve`."""
    fields = Options.__dataclass_fields__
    return serve(Options(**{name: getattr(arguments, name) for name in fields}), comm)


__all__ = ["Options", "run", "serve"]
