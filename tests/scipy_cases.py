"""What SciPy programs write, one case a line, as `numpy_cases` has them for NumPy: run by `test_scipy`.

A case is the body of a function of traced arguments, those of `numpy_cases.ARGUMENTS` that it names. Values are SciPy's
to rounding: its own loops add in another order.
"""

from __future__ import annotations

import numpy as np
import scipy.special
from numpy_cases import CONSTANTS

NAMES = {
    **CONSTANTS,
    "scipy": scipy,
    "special": scipy.special,
    "logsumexp": scipy.special.logsumexp,  # bound before any trace
    "b": np.array([0.0, 1.5, 2.0, -0.5, 1.0, 0.3]),
    "inf": np.array([0.0, -np.inf, 0.0, 0.0, -np.inf, 0.0]),
}

SPECIAL = """
special.logsumexp(u)
special.logsumexp(m, axis=1) + logsumexp(m, 0, keepdims=True)[0, 0]
special.logsumexp(m, axis=(0, 1), b=C) + logsumexp(100 * m)
special.logsumexp(u, b=b, return_sign=True)
special.logsumexp(u, b=-u * c, return_sign=True)
special.logsumexp([s, r, 1.0]) + special.logsumexp(s)
special.logsumexp(u + inf)
special.softmax(u) * c
special.softmax(m, axis=0) + special.softmax(500 * m, axis=(0, 1))
special.log_softmax(u) + special.log_softmax(m, axis=1)[0, 0]
z = np.zeros(6); z[:] = u; return special.softmax(z)[2]
"""


def cases(text: str) -> list[str]:
    return [line for line in text.strip().splitlines() if line]


CASES = ["~" + case for text in (SPECIAL,) for case in cases(text)]
