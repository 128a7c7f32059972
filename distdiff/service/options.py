"""What `distdiff serve` can be told, and what of it makes no sense."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

from ..errors import InputError

HOST, PORT = "127.0.0.1", 8765
TRACE_LIMIT, RULE_LIMIT = 3600.0, 600.0  # seconds
COUNTS = {"max_systems": 1 << 20, "max_batch": 1 << 16, "traces": 1 << 10}  # and at most
AMOUNTS = {"memory": "bytes", "max_body": "bytes", "trace_limit": "seconds", "rule_limit": "seconds"}
OF_ADDRESSES, OF_MODULES = ("host", "port"), ("trace_limit", "traces", "rule_limit")


@dataclass(frozen=True)
class Options:
    """What `distdiff serve` can be told; None: what is usual."""

    host: str | None = None
    port: int | None = None
    unix: str | None = None
    token_file: str | None = None
    spool: str | None = None
    modules: str | None = None
    memory: int | None = None  # bytes a rank
    max_body: int = 1 << 30
    max_systems: int = 64
    max_batch: int = 64
    trace_limit: float | None = None  # seconds
    traces: int | None = None
    rule_limit: float | None = None  # seconds

    def require_sense(self) -> None:
        """Raise `InputError` for a number that is out of range, and for options that contradict each other.

        What can't be known before it is tried (an address, a file) is refused by who tries it.
        """
        if self.port is not None and not 0 <= self.port <= 65535:  # getaddrinfo takes it modulo 65536
            raise InputError(f"--port {self.port} is no port: they go from 1 to 65535, and 0 is any that is free")
        for name, most in COUNTS.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise InputError(f"{_said(name)} {value} is out of range: it goes from 1 to {most:,}")
        for name, unit in AMOUNTS.items():
            value = getattr(self, name)
            if value is not None and not (value > 0 and (unit == "seconds" or math.isfinite(value))):
                raise InputError(f"{_said(name)} {value:g} is out of range: it is a number of {unit} above 0"
                                 + ", inf for no limit" * (unit == "seconds"))
        self._together(OF_ADDRESSES, self.unix is not None, "a unix socket (--unix) has neither: leave one of them out")
        self._together(OF_MODULES, self.modules is None, "it is about the modules of --modules, which is not given")
        paths = [(name, os.path.abspath(path)) for name in ("unix", "token_file", "spool", "modules")
                 if (path := getattr(self, name)) is not None]
        for k, (name, path) in enumerate(paths):
            for other, same in paths[:k]:
                if path == same:
                    raise InputError(f"{_said(other)} and {_said(name)} are both {path}: name two places")

    def _together(self, names: tuple[str, ...], contradict: bool, why: str) -> None:
        for name in names:
            value = getattr(self, name)
            if contradict and value is not None:
                raise InputError(f"{_said(name)} {value} can't be meant: {why}")


def _said(name: str) -> str:
    return f"--{name.replace('_', '-')}"


__all__ = ["HOST", "PORT", "RULE_LIMIT", "TRACE_LIMIT", "Options"]
