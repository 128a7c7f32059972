"""The methods, one a file, behind one face: tangent(xdot), adjoint(ybar), refresh(point), close(), info, memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..assembly import Assembly


def assembled_solver(method: str, assembly: Assembly, options: Mapping[str, Any]) -> Any:
    """A solver of the assembled system by its name: "substitution", "krylov" or "direct".  Collective."""
    if method == "substitution":
        from .substitution import Substitution

        return Substitution(assembly.system, options)
    if method == "krylov":
        from .krylov import Krylov

        return Krylov(assembly.system, options)
    from .direct import Direct

    return Direct(assembly.system, options)
