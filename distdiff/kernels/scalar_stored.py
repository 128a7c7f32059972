"""A scalar run's partials and places written out, for many sweeps at one point (importing this imports Numba).

`scalar_loops.run_adjoint` asks every line for its operation and looks its partials up among the values.  Written out,
24 bytes a line, a sweep is two products and two additions a line without a question.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..flags import note
from .jit import jit
from .scalar_loops import lodging, place, run_partials
from .scalar_ops import N_BINARY


class Stored(NamedTuple):
    """lam[ta_i] += pa_i lam[base + i], lam[tb_i] += pb_i lam[base + i]; the line before, if one of both, is ta_i.

    A sweep leaves lines of the run with what they had before the share of the next one.
    """

    pa: np.ndarray
    pb: np.ndarray
    ta: np.ndarray
    tb: np.ndarray
    base: int

    @classmethod
    def of(cls, op: np.ndarray, number: np.ndarray, a: np.ndarray, b: np.ndarray, const: np.ndarray, first: int,
           y: np.ndarray, ids: tuple[np.ndarray, np.ndarray], starts: np.ndarray, shifts: np.ndarray) -> Stored:
        """The run's own arguments as `run_adjoint` takes them; `ids` are its ta and tb."""
        n = len(op)
        pa, pb = np.empty(n), np.empty(n)
        ta, tb = np.empty(n, dtype=np.uint32), np.empty(n, dtype=np.uint32)
        run_partials(op, number, a, b, const, first, y, pa, pb)
        _places(op, number, *ids, starts, shifts, ta, tb, pa, pb)
        return cls(pa, pb, ta, tb, int(starts[-1] + shifts[-1]))

    @property
    def nbytes(self) -> int:
        return 24 * len(self.pa)

    def adjoint(self, lam: np.ndarray) -> None:
        """One sweep, last line first; lam is (n,)."""
        adjoint(*self, lam)
        note()


@jit
def _places(op, number, a, b, starts, shifts, ta, tb, pa, pb):
    """Constants, and what a unary operation lacks, have partial 0: it goes to the line itself, which is done with.
    Where both operands are the line before, it has both partials.
    """
    blocks, base = lodging(starts, shifts), starts[-1] + shifts[-1]
    for i in range(len(op)):
        ja, jb = a[i], b[i]
        ta[i] = tb[i] = base + i
        if ja >= 0:
            ta[i] = place(ja, blocks)
        if jb >= 0 and number[op[i]] < N_BINARY:
            tb[i] = place(jb, blocks)
        if i and tb[i] == base + i - 1:
            if ta[i] == tb[i]:
                pa[i], pb[i], tb[i] = pa[i] + pb[i], 0.0, base + i
            else:
                ta[i], tb[i], pa[i], pb[i] = tb[i], ta[i], pb[i], pa[i]


@jit(contract=True)
def adjoint(pa, pb, ta, tb, base, lam):
    """One sweep over lines as `Stored` has them.  What a line hands to the one before goes by a register (see
    `scalar_loops`)."""
    if not len(pa):
        return
    w = lam[np.uint64(base + len(pa) - 1)]
    for k in range(len(pa) - 1, 0, -1):
        i, before = np.uint64(k), np.uint64(base + k - 1)
        up = lam[before]
        lam[np.uint64(tb[i])] += pb[i] * w
        if np.uint64(ta[i]) == before:
            w = up + pa[i] * w
        else:
            lam[np.uint64(ta[i])] += pa[i] * w
            w = up
    lam[ta[0]] += pa[0] * w
    lam[tb[0]] += pb[0] * w
