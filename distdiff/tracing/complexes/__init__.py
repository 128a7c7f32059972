"""Complex intermediates: arrays and numbers that are pairs of real traced ones.

From the ground up: `parts` is the arithmetic of pairs, in which what is zero by structure costs nothing; `array` are
the two classes that the function sees; `formulas` are NumPy's elementwise functions on pairs, `ufuncs` the forms in
which they are called; `products` and `functions` are NumPy's other functions, `special` some of SciPy's, `fourier`
transforms, `methods` the operators.  The tape, and everything after it, is real.

Conventions are those of JAX for functions of real inputs and real results: the derivative is that of the real function
of both parts; |z| has derivative 0 at 0; on a branch cut it is that of the side on which the value lies.
"""

from __future__ import annotations

from .array import (
    ComplexArray,
    ComplexScalar,
    complex_within,
    elements,
    is_complex,
    is_traced_complex,
    recorder_within,
)
from .fourier import FUNCTIONS as TRANSFORMS
from .functions import FUNCTIONS as _FUNCTIONS
from .functions import array_of
from .linalg import by_real_one, eig, eigh_by, eigvals
from .methods import install, real_of, to_complex
from .special import COMPLEX_RESULTS
from .ufuncs import call, evaluate

FUNCTIONS = {**_FUNCTIONS, **TRANSFORMS}

__all__ = ["COMPLEX_RESULTS", "FUNCTIONS", "TRANSFORMS", "ComplexArray", "ComplexScalar", "array_of", "by_real_one",
           "call", "complex_within", "eig", "eigh_by", "eigvals", "elements", "evaluate", "install", "is_complex",
           "is_traced_complex", "real_of", "recorder_within", "to_complex"]
