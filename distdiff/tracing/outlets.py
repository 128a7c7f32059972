"""Where text is written to: to people and into files, or into memory from which the function may read it again."""

from __future__ import annotations

import gc
import io
from typing import Any

from .active import running

FILE = {"print": "file", "pprint": "stream", "pp": "stream"}  # what writes, and the argument that says where
WRITING = frozenset((*FILE, "write", "writelines", "writerow", "writerows"))


def written_to(owner: Any) -> Any:
    """The file behind what has a method that writes: itself, or what csv's writers write to."""
    owner = getattr(owner, "writer", owner)
    if type(owner).__module__ == "_csv":
        written = [x for x in gc.get_referents(owner) if getattr(x, "__name__", "") == "write"]
        return getattr(written[0], "__self__", None) if written else None
    return owner


def in_memory(file: Any) -> bool:
    """Whether what is written there can be read again by whoever has it.  What stood for the terminal before the
    function ran (a test's, a notebook's) is looked at afterwards."""
    rec = running()
    if rec is not None and any(file is shown for shown in rec.shown):
        return False
    return isinstance(getattr(file, "buffer", file), io.StringIO | io.BytesIO) or (
        type(file).__name__ == "SpooledTemporaryFile")
