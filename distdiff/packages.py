"""Packages that only some uses of distdiff want, and what is said where they can't be imported.

Tracing, tapes and clients of a service stand on NumPy, SciPy and Numba; who solves wants MPI as well, and PETSc where a
matrix is assembled.
"""

from __future__ import annotations

from .errors import MissingPackageError

_WHY = {
    "mpi4py": "it solves on MPI ranks, on one as on many",
    "petsc4py": "it assembles a PETSc matrix, which the methods 'sweep' and 'auto' on array code don't",
}
_HOW = ("install MPI, PETSc and both bindings together, from conda-forge (environment.yml), from Debian's packages "
        "(scripts/setup), or with pip install 'distdiff[mpi]' where an MPI compiler is at hand; or let a service "
        "solve, whose clients need neither: distdiff.connect(url).linearize(f, x)")


def explained(error: BaseException, what: str) -> BaseException:
    """The error of an import that `what` wanted; of these packages: which is missing, why it matters, what helps."""
    package = str(getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, RuntimeError) and "MPI" in str(error):  # mpi4py's wheels find no library to load
        package = "mpi4py"
    if package not in _WHY or isinstance(error, MissingPackageError):
        return error
    return MissingPackageError(f"{what} needs {package}, as {_WHY[package]}, and this Python can't import it "
                               f"({error}): {_HOW}", name=package)


__all__ = ["explained"]
