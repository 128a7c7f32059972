"""What NumPy's own function raises decides, where floating-point errors are to come up.

A rule is a formula of several statements, which may overflow or divide by zero on the way where NumPy's function does
not, and the other way round: np.sinc at inf, the covariance of extremes, 1 / (x + 1j).  A function that catches what is
raised would go another way in silence.  So where the user has errors raised, or warnings of them made errors or
recorded (`floating`), NumPy's function is run first, on copies of plain values, under what the user has set; what it
raises is raised, and the rule's own errors say nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .active import CAREFUL, failed, running, set_aside
from .array import TracedArray
from .floating import aside
from .recorder import Recorder
from .scalar import TracedScalar


def judges(args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether NumPy's own function decides.  Not where the user's are among the arguments, which would be called twice:
    there the rule's errors come up."""
    rec = running()
    return rec is not None and rec.careful and not rec.aside and not _called_back(args) and not _called_back(kwargs)


def judged(own: Callable[..., Any], args: Any, kwargs: dict[str, Any], rule: Callable[[], Any]) -> Any:
    """What the rule gives, unless NumPy's `own` function of these arguments raises (CAREFUL and `judges`)."""
    values, named = _plain(args), _plain(kwargs)
    try:
        with set_aside():
            own(*values, **named)
    except Exception:
        failed()
        raise
    with aside(), np.errstate(all="ignore"):
        return rule()


def _plain(x: Any) -> Any:
    """The values of an argument, in memory of their own, as it may be written into."""
    kind = type(x)
    if kind is tuple or kind is list:
        return kind(map(_plain, x))
    if kind is dict:
        return {name: _plain(value) for name, value in x.items()}
    held = getattr(kind, "_distdiff_held", None)
    if held is not None:
        return _plain(held(x))
    if isinstance(x, TracedScalar):
        return x.__class__(x.v)
    if kind is np.ndarray:
        return x.copy("K")
    if kind is TracedArray or isinstance(getattr(x, "rec", None), Recorder) and hasattr(kind, "plain_values"):
        values = x.plain_values()
        return np.complex128(values) if type(values) is complex else np.asarray(values)
    return x


def _called_back(x: Any) -> bool:
    if type(x) is dict:
        x = (*x.values(),)
    if type(x) is tuple or type(x) is list:
        return any(map(_called_back, x))
    return callable(x) and not isinstance(x, type | np.ufunc)


__all__ = ["CAREFUL", "judged", "judges"]
