"""Where files are kept that a later run can use: compiled loops, measured rates.

Files are looked for in all places, and written to the first that can be written:

1. the folder $DISTDIFF_CACHE_DIR, else $NUMBA_CACHE_DIR, if one is set;
2. beside the source, in __pycache__;
3. distdiff in the user's cache, $XDG_CACHE_HOME or ~/.cache.

So a read-only installation can bring its own with it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
from pathlib import Path


def places(source: str) -> list[Path]:
    """The folders that may hold what is kept for a source file, in the order in which they are tried."""
    package = Path(source).resolve().parent
    name = f"{package.name}-{hashlib.sha256(os.fsencode(package)).hexdigest()[:16]}"
    chosen = os.environ.get("DISTDIFF_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    found = [Path(chosen).absolute() / name] if chosen else []
    found.append(Path(importlib.util.cache_from_source(source)).parent)
    user = Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache")
    if user.is_absolute():
        found.append(user / "distdiff" / name)
    return found


def _home() -> Path:
    """The user's home, which in a container may be nowhere: an empty path then."""
    home = os.environ.get("HOME")
    if home is None:
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            home = ""
    return Path(home)


__all__ = ["places"]
