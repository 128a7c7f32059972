"""What a service answers with, on the client's side: jobs under way, reports and pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from . import wire
from .line import Line


class RemoteJob:
    """Something that a service is computing: `for info in job.events(): print(info["done"], "of", info["columns"])`."""

    def __init__(self, client: Line, described: dict[str, Any],
                 made: Callable[[Message, np.ndarray], Any] | None = None,
                 whole: Callable[[], Any] | None = None) -> None:
        self._client, self.id, self._path = client, described["id"], f"/v1/jobs/{described['id']}"
        self._made, self._whole = made, whole

    def info(self) -> dict[str, Any]:
        """Its state (queued, running, done, failed, cancelled), columns, how many of them are done, times, error."""
        return self._client._json("GET", self._path)

    def events(self) -> Iterator[dict[str, Any]]:
        """`info` at every change, until the job has ended; on a connection of its own."""
        yield from self._client._events(f"{self._path}/events")

    def result(self) -> Any:
        """What it computed, waited for, as the call that waits returns it; raises its error."""
        for _ in self.events():
            pass
        headers, content = self._client.ask("GET", f"{self._path}/result")
        if self._whole is not None:
            return self._whole()
        found = wire.from_npy(content).copy()
        return found if self._made is None else self._made(headers, found)

    def cancel(self) -> str:
        """Compute nothing more for it: at once if it waits, else where its work can end; in words, where that is."""
        return self._client._json("DELETE", self._path)["ends"]


class RemoteReport(dict[str, Any]):
    """A report as data; printed, its text."""

    def __str__(self) -> str:
        return self["text"]


@dataclass(frozen=True)
class RemotePicture:
    """A picture that a service has drawn, for a light or a dark page; `caption` says in words what it shows."""

    kind: str
    caption: str
    drawn: bytes

    def svg(self) -> str:
        """The drawing as text."""
        return self.drawn.decode()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an .svg, at once or not at all."""
        from ..storage import replacing

        require_svg(path)
        with replacing(path) as stream:
            stream.write(self.drawn)

    def _repr_svg_(self) -> str:
        return self.svg()

    def __repr__(self) -> str:
        return f"<picture {self.kind}: {self.caption}>"


def require_svg(path: str | os.PathLike[str]) -> None:
    """Raise `InputError` for a file that pictures of a service can't be written to."""
    if Path(path).suffix.lower() != ".svg":
        raise InputError(f"{os.fspath(path)!r}: a service draws SVG, so let the name end in .svg")


__all__ = ["RemoteJob", "RemotePicture", "RemoteReport", "require_svg"]
