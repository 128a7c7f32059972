"""The elementals: what each operation computes, and its partial derivatives."""

from . import carlson, inverses, special, waves, zeta  # noqa: F401 (they enter their lines)
from .dual import KNOWN, Dual, tangent
from .elemental import Elemental, Shaped, Share, System
from .table import (
    ADD,
    BY_NAME,
    COPY,
    CUMSUM,
    DIVIDE,
    MAX,
    MIN,
    MULTIPLY,
    NEGATIVE,
    OPS,
    SUBTRACT,
    WHERE,
    Op,
)

__all__ = ["ADD", "BY_NAME", "COPY", "CUMSUM", "DIVIDE", "KNOWN", "MAX", "MIN", "MULTIPLY", "NEGATIVE", "OPS",
           "SUBTRACT", "WHERE", "Dual", "Elemental", "Op", "Shaped", "Share", "System", "special", "tangent"]
