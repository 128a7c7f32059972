"""What can go wrong, by name.

Every message says the fact, the cause and the remedy, with numbers.  All of them derive from
`DistdiffError`, so a caller can catch the library's own errors and nothing else.
"""

from __future__ import annotations


class DistdiffError(Exception):
    """Base of every error that distdiff raises on purpose."""


class UnsupportedOperationError(DistdiffError, TypeError):
    """The function used an operation that has no derivative rule here."""


class InputError(DistdiffError, ValueError):
    """An argument (point, seed, option, file) does not fit: wrong shape, kind or value."""


class FormatError(InputError):
    """A file is no saved tape, or a damaged, hostile or newer one."""


class RuleError(InputError):
    """A tape calls rules of its author's that were not given with it, or others."""


class OverdueError(DistdiffError, TimeoutError):
    """A rule took longer than rules may, in a process that others wait for; the message says which, and how long."""


class NonFiniteError(DistdiffError, ArithmeticError):
    """A value or a partial derivative became NaN or infinite."""


class NoValueError(NonFiniteError):
    """A tape without its function has no value at the point: a matrix is singular there, or not positive definite."""


class RangeError(DistdiffError, ArithmeticError):
    """Tangents or adjoints leave the range of double precision on their way, by more than any scaling makes good."""


class BranchChangedError(DistdiffError):
    """At the new point a recorded comparison goes the other way, so the tape does not apply."""


class IndexRangeError(DistdiffError, OverflowError):
    """The system needs larger indices than this PETSc was built with."""


class ConvergenceError(DistdiffError):
    """An iterative or direct solver stopped without a solution."""


class BrokenCommunicatorError(DistdiffError):
    """A rank failed in the middle of an exchange, so messages may still be on their way over the communicator."""


class CancelledError(DistdiffError):
    """Work was told to end before it was done, and did, on all ranks after the same superstep."""


class CycleError(DistdiffError):
    """A statement reads what depends on its own result, and is no implicit statement."""


class SingularError(DistdiffError, ArithmeticError):
    """An implicit statement's result is not determined by its equation: dR/dy has no inverse."""


class NotDifferentiableError(DistdiffError, ArithmeticError):
    """The function has a value at this point, but no derivative: equal eigenvalues, a matrix that lost its rank."""


class MissingSolverError(DistdiffError):
    """The chosen method needs something this PETSc was built without."""


class MissingPackageError(DistdiffError, ImportError):
    """What was asked for wants a package that this Python can't import; clients of a service do without some."""


class TracingError(DistdiffError):
    """The user's function raised while it was traced; the cause is chained on rank 0."""


class RemoteError(DistdiffError):
    """Another rank failed with an error that is not distdiff's own; its text is in the message."""


class ServiceError(DistdiffError):
    """The resident service could not be asked, or refused; `status` is its HTTP answer's, 0 without one."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class MovedError(ServiceError):
    """Another client has moved the system to another point, where the answer would be another."""


class DistdiffWarning(UserWarning):
    """Base of every warning of distdiff's own."""


class FallbackWarning(DistdiffWarning):
    """A method failed and another one solved instead, or a partitioner asked for has nothing to place in the program
    and another one did; the message says which, and why."""


class NotCompiledWarning(DistdiffWarning):
    """A function given to `compiled` is traced by the interpreter; the message says where and why."""


class PrecisionWarning(DistdiffWarning):
    """A function asked for floats of another size; it is traced in float64, more exactly than it computes by itself.
    Or partial derivatives are below what float64 holds, and a derivative may be wrong by that."""


class LayoutWarning(DistdiffWarning):
    """Far more right-hand sides came at a point than the layout over ranks was chosen for."""


class ServiceWarning(DistdiffWarning):
    """What a client asked of a service takes longer than it looks; the message says what it waits for."""


class RetraceWarning(UserWarning):
    """A recorded function is traced anew at most points; the message says which line of it, or what around it, why."""
