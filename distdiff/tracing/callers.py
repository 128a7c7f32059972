"""What a refusal can say of the user's line: NumPy's function that it called, and NumPy's twin of one of Python's."""

from __future__ import annotations

import dis
import linecache
import os
import re
import sys
from types import CodeType, FrameType
from typing import Any, NoReturn

import numpy as np

_NUMPY = os.path.dirname(os.path.abspath(np.__file__))
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_TRACING = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LIBRARIES = ("numpy.", __name__.partition(".")[0] + ".")

TWINS = {  # functions of Python's modules that have another name in NumPy, or one in SciPy
    "asin": "np.arcsin", "acos": "np.arccos", "atan": "np.arctan", "atan2": "np.arctan2", "asinh": "np.arcsinh",
    "acosh": "np.arccosh", "atanh": "np.arctanh", "pow": "np.power", "fsum": "np.sum", "dist": "np.linalg.norm(a - b)",
    "sumprod": "np.dot", "fma": "a * b + c", "ulp": "np.spacing(distdiff.numpy.value(x))",
    "gamma": "scipy.special.gamma", "lgamma": "scipy.special.gammaln", "erf": "scipy.special.erf",
    "erfc": "scipy.special.erfc", "comb": "scipy.special.comb", "perm": "scipy.special.perm",
    "factorial": "scipy.special.factorial", "remainder": "x - y * np.rint(x / y)", "isqrt": "np.floor(np.sqrt(x))",
    "gcd": "np.gcd of plain numbers", "lcm": "np.lcm of plain numbers",
    "mean": "np.mean", "fmean": "np.mean", "median": "np.median", "stdev": "np.std(x, ddof=1)", "pstdev": "np.std",
    "variance": "np.var(x, ddof=1)", "pvariance": "np.var", "geometric_mean": "np.exp(np.mean(np.log(x)))",
    "harmonic_mean": "1 / np.mean(1 / x)",
    "phase": "np.angle", "polar": "np.abs and np.angle", "rect": "r * np.exp(1j * x)",
}
_MODULES = ("math", "statistics", "cmath")


def called() -> str:
    """NumPy's function that the user called and that got this far, as "numpy.save: "; nothing if there is none."""
    frame: FrameType | None = sys._getframe(1)
    name = ""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith("<__array_function__"):
            name = f"numpy.{code.co_name}: "
        elif code.co_filename.startswith(_NUMPY):
            room = next((f"{part}." for part in ("linalg", "fft", "ma") if f"/{part}/" in code.co_filename), "")
            name = f"numpy.{room}{code.co_qualname.removesuffix('.__init__')}: "
        elif not code.co_filename.startswith(_PACKAGE) or "examples" in code.co_filename:
            break
        frame = frame.f_back
    return name


def library(frame: FrameType | None = None) -> str:
    """SciPy's function that the user called and that got this far (to `frame`), as " in scipy.special.zeta"; nothing
    if none."""
    frame = frame or sys._getframe(1)
    name = ""
    while frame is not None:
        room = frame.f_globals.get("__name__") or ""
        if room.startswith("scipy."):
            name = f" in {_public(*_decorated(frame, room))}"
        elif name and not room.startswith(_LIBRARIES):
            break
        frame = frame.f_back
    return name


def library_of_cython(frame: FrameType) -> str:
    """The same of a frame of SciPy's compiled Cython, whose own name says all; nothing of any other's."""
    room = frame.f_globals.get("__name__") or ""
    name = frame.f_code.co_qualname.removeprefix(f"{room}.")
    return f" in {_public(room, name)}" if room.startswith("scipy.") and not name.startswith("View.") else ""


def _decorated(frame: FrameType, room: str) -> tuple[str, str]:
    """The module and name of a frame's function, of a decorator's wrapper those of the function that it wraps."""
    name = frame.f_code.co_qualname
    if "<locals>" in name:
        for variable in ("f", "func", "fun"):
            function = frame.f_locals.get(variable)
            if (getattr(function, "__module__", None) or "").startswith("scipy."):
                return function.__module__, function.__qualname__
    return room, name


def handed_to(frame: FrameType) -> str | None:
    """The name by which a frame's current instruction calls a function ("" if it has none); None if it calls none.

    Compiled functions have no frame of their own: what they do to a traced value seems to be done by their caller.
    """
    return callee(frame.f_code, frame.f_lasti) if frame.f_code.co_code[frame.f_lasti] in _CALLS else None


def callee(code: CodeType, offset: int) -> str:
    """The name of what the call at this place in a function's code calls; "" if it has none."""
    return path_of(code, offset)[-1]


def path_of(code: CodeType, offset: int) -> tuple[str, ...]:
    """The names by which the call at this place finds what it calls, ("self", "log") say; the first is "" where it is
    an attribute of something else, and ("",) all there is where what is called has no name."""
    lines = list(dis.get_instructions(code))
    at = next(k for k, line in enumerate(lines) if line.offset == offset)
    call = lines[at].positions
    found, end = None, (0, 0)  # the longest expression that starts where the call does, and is not it
    for k, line in enumerate(lines[:at]):
        place = line.positions
        if (line.opname not in ("PUSH_NULL", "KW_NAMES", "PRECALL") and place and call and place != call
                and (place.lineno, place.col_offset) == (call.lineno, call.col_offset)
                and (stop := (place.end_lineno or 0, place.end_col_offset or 0)) >= end):
            found, end = k, stop
    path: list[str] = []
    while found is not None and lines[found].opname.startswith("LOAD_") and isinstance(lines[found].argval, str) and (
            lines[found].opname != "LOAD_CONST"):
        path.insert(0, lines[found].argval)
        if lines[found].opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            return tuple(path)
        found -= 1
    return ("", *path)


def stores(frame: FrameType) -> bool:
    """Whether a frame is writing into a part of something, `a[i] = ...`."""
    return frame.f_code.co_code[frame.f_lasti] == dis.opmap["STORE_SUBSCR"]


_CALLS = frozenset(code for name, code in dis.opmap.items() if name.startswith("CALL"))


_DRAWN = {
    "normal": "loc + scale * rng.standard_normal(size)", "uniform": "low + (high - low) * rng.random(size)",
    "exponential": "scale * rng.standard_exponential(size)",
    "lognormal": "np.exp(mean + sigma * rng.standard_normal(size))", "laplace": "loc + scale * rng.laplace(size=size)",
    "logistic": "loc + scale * rng.logistic(size=size)", "gumbel": "loc + scale * rng.gumbel(size=size)",
    "rayleigh": "scale * rng.rayleigh(size=size)", "weibull": "(-np.log(rng.random(size))) ** (1 / a)",
}


def remedy_for(frame: FrameType, otherwise: str) -> str:
    """What to write for random numbers whose parameters are traced, where a frame draws some; else `otherwise`."""
    name = handed_to(frame)
    return f"{CUT}. Write the draw as a function of numbers drawn without it: {_DRAWN[name]}" if name in _DRAWN else (
        otherwise)


_LOOK = "to only look at the value, use distdiff.numpy.value(x)"
_PYTHONS = "Use NumPy's functions for Python's, np.sin(x), not math.sin(x)"
KEY = "a traced value was used as the key of a dict or an element of a set"
DECIDES = "int(x) or round(x) decides for a whole number, and is guarded; a table of floats is np.interp or np.where"


def makes_numbers(frame: FrameType) -> bool:
    """Whether a frame is calling np.float64(x) or one of its kin."""
    kind = getattr(np, handed_to(frame) or "", None)
    return isinstance(kind, type) and issubclass(kind, np.number)


def plain_number(frame: FrameType) -> str:
    """What to write where a frame makes a plain number of a traced one."""
    name = handed_to(frame)
    kind = getattr(np, name or "", None)
    if name == "float" or isinstance(kind, type) and issubclass(kind, np.floating):
        called = "float" if name == "float" else f"np.{name}"
        return f"{CUT}. Leave {called}() out: a traced value is a float of 64 bits already; {_LOOK}"
    if isinstance(kind, type) and issubclass(kind, np.integer):
        return f"{CUT}. int(x) decides for a whole number, and is guarded, x.astype(int) for an array of them; {_LOOK}"
    doing = [line for line in dis.get_instructions(frame.f_code) if line.offset == frame.f_lasti]
    if any(line.opname == "BINARY_OP" and line.argrepr == "%" for line in doing):
        return f"{CUT}. Write f\"{{x:.3g}}\", whose text may be printed, for \"%.3g\" % x; {_LOOK}"
    known = twin(frame, "")
    return remedy_for(frame, f"{CUT}. {known or _PYTHONS}{'' if known else f'; {PLAIN}'}; {_LOOK}")


def refuse_pickling(x: Any, protocol: Any) -> NoReturn:
    """`__reduce_ex__` of traced values."""
    x.rec.unsupported("a traced value was pickled", "what comes of it, in another process say, would be a plain "
                      "number; compute in this process, or hand on distdiff.numpy.value(x), which has no derivative")


def refuse_as_key(x: Any) -> NoReturn:
    """`__hash__` of traced numbers: which entry of a table is meant would go by their values."""
    x.rec.unsupported(KEY, twin(x.rec.user_frame(), DECIDES))


def refuse_swapped_rows(rec: Any, target: Any, index: Any, value: Any) -> None:
    """Refuse `x[i] = x[j]` by compiled code that shuffles.

    It swaps rows by x[i], x[j] = x[j], x[i] where it meets no ndarray of NumPy's own (which it would copy), and the
    rows are views: one of the two would be lost.  Written in Python the same line means the same to NumPy.
    """
    if type(index) is int and target.ndim > 1 and value.st is target.st:
        frame = sys._getframe(1)
        while frame.f_code.co_filename.startswith(_TRACING) and frame.f_back is not None:
            frame = frame.f_back
        name = handed_to(frame)
        if name is not None and name not in ("setitem", "__setitem__"):
            rec.unsupported(f"{name or 'compiled code'} that swaps rows of a traced array in place",
                            "rows are views, and one would be lost; write y = y[rng.permutation(len(y))]")


def _public(room: str, name: str) -> str:
    """The full name by which users know a function of one of SciPy's modules."""
    parts = [part for part in room.split(".") if not part.startswith("_")]
    outermost = name.partition(".")[0]
    for k in range(2, len(parts) + 1):
        if hasattr(sys.modules.get(".".join(parts[:k])), outermost):
            return ".".join([*parts[:k], name])
    return ".".join([*parts, name])


CUT = "it would cut the derivative"
NO_RULE = "it has no derivative rule"
PLAIN = (
    "a plain array can't take traced values (made outside the function, with `from numpy import zeros`, or from plain "
    "ones as 2 * a): make it inside with np.zeros(n), a.copy(), np.array(a) or np.array(a, dtype=complex), or "
    "import zeros from distdiff.numpy"
)
RICCATI = (
    "distdiff.implicit.root(residual, A, X0) can, with the equation's residual and X0 = SciPy's solution of plain "
    "matrices, distdiff.numpy.value(A)"
)
_BANDED = "np.linalg.eigvalsh and np.linalg.cholesky of the dense matrix can be traced"
_LEAST = "spsolve(A.T @ A, A.T @ b), and np.linalg.lstsq of dense matrices, can be traced"
YOURS = "; distdiff.custom_jvp takes a rule of your own, around a function that calls it"

_INSTEAD = (  # what does the same with a derivative
    ("scipy.integrate.quad", "scipy.integrate.fixed_quad, or sums over the nodes of a rule, can be traced"),
    ("scipy.integrate.solve_ivp", "its methods RK45, RK23, DOP853, Radau and BDF can be traced, without events, over a "
     "plain interval (for an end T that is traced compute with s = t / T between 0 and 1)"),
    ("scipy.integrate.odeint", "scipy.integrate.solve_ivp with method='RK45', 'RK23', 'DOP853', 'Radau' or 'BDF' can "
     "be traced"),
    ("scipy.integrate.", "solve_ivp, and a loop of steps in NumPy can be traced"),
    ("scipy.optimize.", "distdiff.implicit.root, fixed_point and minimize find solutions and differentiate them"),
    ("scipy.linalg.solve_toeplitz", "np.linalg.solve(scipy.linalg.toeplitz(c, r), b) can be traced"),
    ("scipy.linalg.fractional_matrix_power", "scipy.linalg.expm(p * scipy.linalg.logm(A)) can be traced, and (V * w**p)"
     " @ V.T with w, V = np.linalg.eigh(A) where A is symmetric"),
    ("scipy.linalg.schur", "np.linalg.eigvals, and np.linalg.eigh of symmetric matrices, can be traced"),
    ("scipy.linalg.solve_continuous_are", RICCATI), ("scipy.linalg.solve_discrete_are", RICCATI),
    ("scipy.interpolate.UnivariateSpline", "scipy.interpolate.CubicSpline and make_interp_spline go through the data "
     "and can be traced"),
    ("scipy.linalg.eig_banded", _BANDED), ("scipy.linalg.eigvals_banded", _BANDED),
    ("scipy.linalg.cholesky_banded", _BANDED + ", and solveh_banded"),
    ("scipy.linalg.funm", "V * f(w) @ np.linalg.inv(V) with w, V = np.linalg.eig(A), where these are real, and expm, "
     "logm, sqrtm, sinm, cosm and their kin can be traced"),
    ("scipy.linalg.hessenberg", "np.linalg.eigvals and np.linalg.solve of the matrix itself can be traced"),
    ("scipy.linalg.rq", "np.linalg.qr can be traced, of A[::-1].T for R and Q of A"),
    ("scipy.linalg.ldl", "np.linalg.cholesky of positive definite matrices, and scipy.linalg.lu, can be traced"),
    ("scipy.signal.find_peaks", "scipy.signal.argrelmax and comparisons, (x[1:-1] > x[:-2]) & (x[1:-1] > x[2:]), can "
     "be traced"),
    ("scipy.spatial.transform.", "the matrix of a rotation vector r is scipy.linalg.expm(np.cross(np.eye(3), r)), that "
     "of angles a product of matrices of their np.cos and np.sin"),
    ("scipy.stats.rv_generic.entropy", "the formula of the distribution's entropy can be traced"),
    ("scipy.sparse.linalg.eigs", "np.linalg.eigh and eigvalsh of dense matrices, A.toarray(), can be traced"),
    ("scipy.sparse.linalg.svds", "np.linalg.svd of dense matrices, A.toarray(), can be traced"),
    ("scipy.sparse.linalg.lsqr", _LEAST), ("scipy.sparse.linalg.lsmr", _LEAST),
    ("scipy.sparse.linalg.", "spsolve, splu and factorized can be traced, by the right-hand side and by the matrix's "
     "entries, and so can distdiff.implicit.linear_solve(A, b), also where A is (values, (rows, columns))"),
    ("scipy.sparse.csgraph.", ""),
    ("scipy.sparse.", "sparse matrices, of constants or of traced entries, can be transposed, converted, scaled, "
     "added, multiplied with arrays and each other, and solved with. For all else use their arrays: y = np.zeros(n); "
     "np.add.at(y, rows, values * x[columns]) for A @ x, slices for diagonals, "
     "distdiff.implicit.linear_solve((values, (rows, columns)), b) for solves"),
)


def instead(where: str) -> str:
    """What to write for one of SciPy's functions, as `library` names it, that compiled code or loops of its own keep
    from being traced; nothing where that isn't known."""
    return next((remedy for name, remedy in _INSTEAD if where.startswith(f" in {name}")), "")


def refusal(what: str, where: str, site: object, remedy: str) -> str:
    """The words of a refusal.  Where a function of SciPy's came upon what no function can do, and something else does
    the same, they are about that function."""
    known = instead(where)
    if where and not known:  # the array is SciPy's, and not the user's to make elsewhere
        remedy = remedy.replace(PLAIN, YOURS.removeprefix("; "))
    if known and remedy.startswith((CUT, NO_RULE, PLAIN)):
        called = where.removeprefix(" in ")
        if re.match(r"scipy\.sparse\.(?!linalg\.)[^.]*\.", called):
            called = "a sparse matrix"
        return f"{called} of traced values at {site}: {known} (it stopped at: {what})"
    named = where if where.removeprefix(" in ") not in what else ""
    return f"{what}{named} at {site}: {remedy}{f'; {known}' if known and known not in remedy else ''}"


def twin(frame: FrameType, otherwise: str = _PYTHONS) -> str:
    """What to write for the functions of Python's math, cmath and statistics that a frame's line calls, by whatever
    names; `otherwise` where it calls none."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    names = {}
    for room, name in re.findall(r"(?:\b(\w+)\.)?\b(\w+)\(", line):
        known = {**frame.f_globals, **frame.f_locals}
        found = getattr(known.get(room), name, None) if room else known.get(name)
        module = getattr(found, "__module__", None)
        if module in _MODULES and getattr(known.get(room), "__name__", module) in _MODULES:
            names[found.__name__] = f"{module}.{found.__name__}"
    if not names:
        return otherwise
    return "; ".join(
        f"Write {TWINS.get(n, f'np.{n}' if hasattr(np, n) else 'a formula in NumPy functions')} for {full}"
        for n, full in names.items())
