"""The methods, one a file, behind one face: tangent(xdot), adjoint(ybar), refresh(point), close(), info, memory."""

from __future__ import annotations

from importlib import import_module

from .cost import Method

METHODS = ("sweep", "walk", "substitution", "interface", "pipeline", "neumann", "krylov", "direct", "petsc")
"""Each a file of this folder, see `cost`."""


def method(name: str) -> Method:
    """What the file of a method says of it."""
    found = import_module(f".{name}", __name__).METHOD
    assert isinstance(found, Method) and found.name == name
    return found


__all__ = ["METHODS", "method"]
