"""distdiff: exact derivatives of very large functions, by solving a distributed sparse triangular system.

Flattened, a function computes line by line y_i = F_i(y_0, ..., y_{i-1}); run all lines at once and y = F(y) is a fixed
point.  Its derivative solves (I - L) dy = dx with L_ij = dF_i/dy_j: sparse, triangular, as large as the program is
long.  distdiff traces plain NumPy code, spreads that system over MPI ranks and solves it with the method that fits
its structure.

    import numpy as np, distdiff as dd
    g = dd.grad(lambda x: np.sum(np.sin(x) * x))(np.ones(5))

The names below are loaded when first used, so importing distdiff starts neither MPI nor PETSc.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import errors, implicit, testing
    from .drivers import grad, hessian, hvp, jacobian, jvp, trace, value_and_grad, vjp
    from .errors import DistdiffError
    from .linearization import Linearization, linearize
    from .program import Program, load
    from .replay import Recorded, recorded
    from .rules import custom_jvp, custom_vjp, elemental
    from .service.client import connect
    from .tracing.compiled import compiled

_HOME = {  # public name -> the module that holds it
    "grad": "drivers", "value_and_grad": "drivers", "jvp": "drivers", "vjp": "drivers", "jacobian": "drivers",
    "hvp": "drivers", "hessian": "drivers", "trace": "drivers",
    "linearize": "linearization", "Linearization": "linearization",
    "load": "program", "Program": "program",
    "recorded": "replay", "Recorded": "replay",
    "compiled": "tracing.compiled",
    "custom_jvp": "rules", "custom_vjp": "rules", "elemental": "rules",
    "connect": "service.client",
    "DistdiffError": "errors",
}
_MODULES = ("errors", "implicit", "testing", "numpy", "examples")

__all__ = ["DistdiffError", "Linearization", "Program", "Recorded", "__version__", "compiled", "connect", "custom_jvp",
           "custom_vjp", "elemental", "errors", "grad", "hessian", "hvp", "implicit", "jacobian", "jvp", "linearize",
           "load", "recorded", "testing", "trace", "value_and_grad", "vjp"]


def __getattr__(name: str) -> Any:
    if name not in _HOME and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f".{_HOME.get(name, name)}", __name__)
    except (ImportError, RuntimeError) as error:
        from .packages import explained

        raise explained(error, f"distdiff.{name}") from error
    return module if name in _MODULES else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_MODULES])
