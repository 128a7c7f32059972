"""The elementals: what each operation computes, and its partial derivatives."""

import numpy as np

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
    enter,
)

enter("spacing", np.spacing, None, scalar=False)  # last: tests draw their points by an op's number

__all__ = ["ADD", "BY_NAME", "COPY", "CUMSUM", "DIVIDE", "KNOWN", "MAX", "MIN", "MULTIPLY", "NEGATIVE", "OPS",
           "SUBTRACT", "WHERE", "Dual", "Elemental", "Op", "Shaped", "Share", "System", "special", "tangent"]
