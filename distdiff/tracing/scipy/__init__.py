"""SciPy's functions that no protocol of NumPy's reaches, on traced values: one file a module of SciPy's, and
`replacing`, which answers in their stead while somebody traces."""

from __future__ import annotations

from . import integrate, linalg, ndimage, optimize, signal, sparse, special, stats
from .replacing import Replaced, Rule

RULES: dict[str, Rule] = {  # "module:function" or "module:Class.method" -> what answers for it
    **special.RULES,
    **linalg.RULES,
    **sparse.RULES,
    **stats.RULES,
    **signal.RULES,
    **ndimage.RULES,
    **optimize.RULES,
    **integrate.RULES,
}

REPLACED = Replaced(RULES)

__all__ = ["REPLACED", "RULES"]
