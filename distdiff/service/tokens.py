"""Who may ask: a secret in a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ..errors import InputError, ServiceError

LEAST = 16  # characters of a token


class Address(NamedTuple):
    """Where a service listens: a host and port, or a unix socket."""

    host: str | None
    port: int | None
    path: str | None

    @classmethod
    def of(cls, url: str) -> Address:
        """http://HOST:PORT or unix:PATH."""
        if url.startswith("unix:"):
            path = unquote(url.removeprefix("unix:"))
            return cls(None, None, path if not path.startswith("//") else path[2:])
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port = parts.port or 8765
        except ValueError as error:
            raise InputError(f"{url!r} is no address: {error}") from error
        if parts.scheme != "http" or not parts.hostname:
            raise InputError(f"{url!r} is no address of a service: write http://HOST:PORT, or unix:PATH; TLS is for a "
                             "tunnel or proxy before it")
        return cls(parts.hostname, port, None)

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"http://{host}:{self.port}"


def usual_file(address: Address) -> Path:
    """Where the token of a service is kept that was told no file: with the socket, or by port in the user's runtime
    directory (or in the home directory)."""
    if address.path:
        return Path(f"{address.path}.token")
    folder = os.environ.get("XDG_RUNTIME_DIR")
    return (Path(folder) / "distdiff" if folder else Path.home() / ".distdiff") / f"token-{address.port}"


def read(path: Path) -> str:
    """The token in a file; `InputError` unless it is the owner's alone, and long enough."""
    try:
        status = path.stat()
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the token file {path} can't be read: {error}") from error
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise InputError(f"the token file {path} can be read by others: chmod 600 {path}")
    if len(token) < LEAST or not token.isprintable() or " " in token:
        raise InputError(f"the token file {path} holds no token: {LEAST} or more letters and digits on one line")
    return token


def given(token: str | os.PathLike[str] | None, address: Address) -> str:
    """The token that a client was given, or told the file of; None: the file where a service at `address` keeps it."""
    if token is None:
        path = usual_file(address)
        if not path.exists():
            raise ServiceError(f"no token is given, and there is no file {path}, where a service at {address} on this "
                               "machine would keep it: give token=, the token or the path of its file")
        return read(path)
    if isinstance(token, os.PathLike) or os.path.exists(token):
        return read(Path(token))
    if not token.isascii() or not token.isprintable():
        raise InputError("the token holds characters that no token has")
    return token


def write(path: Path) -> str:
    """A new random token, in a file of its owner's alone that appears at once."""
    token = secrets.token_urlsafe(32)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        with os.fdopen(handle, "w") as stream:
            stream.write(token + "\n")
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"the token file {path} can't be written: {error}; name another with --token-file") from error
    return token
