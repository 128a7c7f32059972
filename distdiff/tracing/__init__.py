"""From a user's function to its tape: the function runs once on traced values.

`trace(f, args)` is all there is to know.  Behind it, from the ground up: `recorder` writes the tape, with `memory` for
the values; `boxes` and `storage` say where an array's elements lie on it; `scalar` and `array` are what the function
sees, `indexing` how it reads and writes parts, `layout` in what order they lie in memory; `ufuncs`, `reductions`,
`contract`, `movement`, `joining`, `decisions`, `composed` and `scatter` are NumPy's functions, put together in
`protocol`; `holding` and `creation` answer np.zeros and its kin, and `patching` puts them in NumPy's place while a
thread traces; `floating` and `verdict` are about floating-point errors; `text` is what people see of traced values,
and `fates` and `outlets` what becomes of that; `tree` takes nested arguments and results apart.  `stretch`
takes derivatives inside a trace: `primals` gives its nodes back as traced values, `walks` goes through them, `sheets`
puts the derivatives of a block together.
"""

from __future__ import annotations

import linecache
import os
import re
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from types import FrameType
from typing import Any

import numpy as np

from ..errors import InputError, UnsupportedOperationError
from ..tape import Affine, Const, Leaf, Operand, Site, Tape, c_strides
from . import creation, floating, methods, names, patching, tree
from .active import running
from .array import TracedArray, compact, is_traced, read_only
from .callers import CUT, DECIDES, KEY, library, library_of_cython, refusal, twin
from .complexes import is_traced_complex
from .holding import held, hold, traced_within
from .layout import copied
from .memory import rare_collections
from .owners import CYTHON, owner, user_caller
from .recorder import Evaluate, Holdings, JointMet, Located, Recorder, ValuesWanted
from .scalar import TracedScalar
from .storage import Storage
from .stretch import Stretch, check_numbers, is_leaf
from .transplant import pruned
from .undetermined import refuse_used


class HasJoint(Exception):
    """The function makes a joint statement, and no tape with one was wanted."""


@dataclass
class Trace:
    """A tape, and what running the function gave: `values[b]` of block b (None: recompute; tape.UNREAD:
    nothing reads them), the plain result and aux.  elsewhere: nothing was run, the tape is of another point."""

    tape: Tape
    values: list[np.ndarray | None] | None
    result: Any
    aux: Any = None
    elsewhere: bool = False
    recorded: np.ndarray | None = None  # of a tape that was pruned: for each block, its first node as it was recorded


def trace(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    kwargs: dict[str, Any] | None = None,
    keep_values: bool | str = False,
    locate: int | None = None,
    evaluate: Evaluate | None = None,
    holdings: Holdings | None = None,
    joints: bool = True,
) -> Trace:
    """Run f(*args, **kwargs) on traced values of the arguments at `argnums` and return its tape.

    Arguments at `argnums` are real floats or arrays of any shape, or tuples, lists, dicts and named tuples of
    them; everything is computed in float64.  Of the others, arrays (nested or not) are copies too, which can come to
    hold traced values: f may write into what it is given.  It may return any nesting of traced or plain numbers and
    arrays (with has_aux, a pair of that and anything).  keep_values: also the values of all nodes, one flat array a
    block; "read": `tape.UNREAD` for the blocks that no partial, guard or output reads, whose memory the run
    itself could use again.  evaluate (with "read"): large results are computed by it, many statements at a time, when
    somebody looks at values or the function is over, and not one by one.  holdings: take runs of scalar
    lines off the tape as they are completed; from then on no values are kept.  joints: without them `HasJoint` is
    raised where the first joint statement would be made, before anything is computed for it.

    Not collective.  Raises `InputError` for arguments and results that are no real floats,
    `UnsupportedOperationError` for operations without a rule, naming them and the user's line, and whatever f
    raises.
    """
    run = partial(_traced, f, argnums=argnums, has_aux=has_aux, kwargs=kwargs, keep_values=keep_values, locate=locate,
                  evaluate=evaluate, holdings=holdings, joints=joints)
    first = None
    if not names.expected(f):
        try:
            return run(args)
        except UnsupportedOperationError as error:
            if not names.refused(error):
                raise
            first = error
    with names.exchanged(f, args) as (given, some):
        if first is not None and not some:
            raise first
        if first is not None and holdings is not None:
            holdings.forget()
        return run(given)


def _traced(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    argnums: int | tuple[int, ...],
    has_aux: bool,
    kwargs: dict[str, Any] | None,
    keep_values: bool | str,
    locate: int | None,
    evaluate: Evaluate | None,
    holdings: Holdings | None,
    joints: bool,
) -> Trace:
    """`trace`, of a function whose sparse factors take traced values."""
    settings = {"argnums": argnums, "has_aux": has_aux, "kwargs": kwargs, "locate": locate, "joints": joints}
    note = None if holdings is None else partial(holdings.note, beside=patching.suspended)
    long = holdings.long if holdings is not None else 0
    rec = Recorder(keep_values, locate, evaluate and _beside_the_trace(evaluate), note, long)
    rec.joints = joints
    methods.prepare(rec, lambda values: creation.array_of(rec, values))
    numbers = (argnums,) if isinstance(argnums, (int, np.integer)) else tuple(argnums)
    check_numbers(numbers, len(args))
    leaves, spec = tree.flatten(
        args[numbers[0]] if isinstance(argnums, (int, np.integer)) else tuple(args[k] for k in numbers),
        f"argument {argnums}" if isinstance(argnums, (int, np.integer)) else "arguments",
    )
    if not leaves:
        raise InputError(f"argument {argnums} holds no number to differentiate with respect to")
    single = isinstance(argnums, (int, np.integer))
    rec.tape.in_tree = tree.Spec("tuple", children=(spec,)) if single else spec
    nested = tree.unflatten(spec, [_load(rec, leaf, k, len(leaves)) for k, leaf in enumerate(leaves)])
    moving = {k % len(args) for k in numbers}
    met: dict[int, Any] = {}
    traced_args = [arg if k in moving else tree.fresh(arg, hold, met) for k, arg in enumerate(args)]
    for k, part in zip(numbers, (nested,) if isinstance(argnums, (int, np.integer)) else nested):
        traced_args[k] = part
    named = tree.fresh(kwargs or {}, hold, met)
    with floating.noted(rec, f) as errors, patching.substituted(rec), rare_collections():
        try:
            rec.running = True
            floating.begin(rec)
            result = f(*traced_args, **named)
            rec.cancel()  # f may have caught it
            if rec.refusal is not None:
                raise _swallowed(rec.refusal)
            if rec.caught is not None:
                raise rec.caught
            rec.conclude(f)
            aux = None
            if has_aux:
                if not isinstance(result, tuple) or len(result) != 2:
                    raise InputError(
                        f"has_aux=True wants a function that returns (result, aux), not a {type(result).__name__}"
                    )
                result, aux = result[0], plain_value(result[1])
            plain = _store(rec, result)
            rec.finish()
            refuse_used(rec, ((leaf.ref, leaf.shape) for leaf in rec.tape.outputs))
            if errors and locate is None and all(
                    np.isfinite(leaf).all() for leaf in tree.flatten(plain, "the result")[0]):
                floating.tell(errors)
        except ValuesWanted:
            pass
        except JointMet:
            raise HasJoint from None
        except Exception as error:  # whatever f raises
            behind = _behind(rec, error)
            if behind is None:
                raise
            raise behind from (None if behind is rec.refusal else error)
        else:
            dead = rec.dead
            tape, values = rec.release()
            recorded = None
            if dead:
                tape, values, recorded = pruned(tape, values if rec.keep_values else None)
            return Trace(tape, values if rec.keep_values else None, plain, aux, recorded=recorded)
        finally:
            rec.close()
    if holdings is not None:
        holdings.forget()
    return replace(_traced(f, args, keep_values="read", evaluate=None, holdings=None, **settings), values=None)


def _beside_the_trace(evaluate: Evaluate) -> Evaluate:
    """`evaluate` with NumPy itself again: it may import Numba, which takes NumPy's functions by name, for good."""
    def compute(*arguments: Any) -> None:
        rec = running()  # what was put off is of lines before, whatever errors lead to by now
        quiet = np.errstate(all="ignore") if rec is not None and rec.careful else nullcontext()
        with patching.suspended(), quiet:
            evaluate(*arguments)

    return compute


def locate(
    f: Callable[..., Any],
    args: tuple[Any, ...],
    *,
    node: int,
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
    kwargs: dict[str, Any] | None = None,
) -> Site | None:
    """The line of the user's code that made a node of its tape, by running f once more; None for an input."""
    known = trace(f, args, argnums=argnums, has_aux=has_aux, kwargs=kwargs)
    if known.recorded is not None:
        block = next(b for b, block in enumerate(known.tape.blocks) if node < block.first + block.size)
        node += int(known.recorded[block]) - known.tape.blocks[block].first
    try:
        trace(f, args, argnums=argnums, has_aux=has_aux, kwargs=kwargs, locate=node)
    except Located as found:
        return found.site
    return None


def _swallowed(refusal: UnsupportedOperationError) -> UnsupportedOperationError:
    """What a function that caught a refusal and went on raises: its result may rest on anything."""
    error = UnsupportedOperationError(
        f"{refusal} (this was caught inside the function, by an `except` around that line, and what the function did "
        "instead is not what it computes on plain values; let the error through, or avoid the operation)"
    )
    error.__cause__ = refusal
    return error


def _behind(rec: Recorder, error: Exception) -> UnsupportedOperationError | None:
    """The refusal that somebody else's error stands for: libraries wrap what a traced value raised, and compiled code
    that called the function goes on calling, or says something of its own."""
    for words, what, remedy in _WANTED_PLAIN if isinstance(error, TypeError) else ():
        said = re.search(words, str(error))
        if said and (words is not _SLICE or _slices(error)):
            return _of_plain_values(error, said.expand(what), remedy)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    wrapped = isinstance(error, (SystemError, AttributeError)) or (
        error.__cause__ is rec.refusal and not isinstance(error, UnsupportedOperationError))
    if rec.refusal is not None and error is not rec.refusal and (
            wrapped or owner(frame.filename, frame.name) == "library"):
        return rec.refusal
    if type(error).__module__.startswith("numba.") and re.search("pyobject|Traced", str(error)):
        return _of_compiled_code(error)
    struct = type(error).__module__ == "struct"  # whose errors say nothing of types
    if not struct and type(error) not in (TypeError, AttributeError):
        return None
    owners = [owner(f.filename, f.name) for f in traceback.extract_tb(error.__traceback__)]
    outside = [who for who in owners if who != "ours"]
    stumbled = outside and outside[-1] == "library"  # over a traced value, in words of its own
    if type(error) is AttributeError:
        stumbled = stumbled or frame.filename.startswith(os.path.dirname(np.__file__))
        return _of_compiled_code(error) if stumbled and re.search(_OURS, str(error)) else None
    return _of_compiled_code(error) if struct or stumbled or re.search(_REFUSED_BY_C, str(error)) else None


# What Python and NumPy say where they want a plain value, what that was, and what to write.  (An `__index__` of traced
# scalars could say so itself, but NumPy asks for one at every `array ** scalar`.)
_WHOLE = "int(x) decides for one, and is guarded"
_SLICE = r"slice indices must be integers"
_WANTED_PLAIN = (
    (r"descriptor '(\w+)' (?:for|requires an?) '([\w.]+)' objects? (?:doesn't apply to|but received) an? "
     r"'(?:Traced|Complex(?:Array|Scalar))",
     r"the method \g<1> of \g<2> was called by its class, of a traced value",
     "Python lets objects of that class alone in there, before anybody is asked: call it by the value, x.sum() for "
     "np.ndarray.sum(x), or use NumPy's function, np.sum(x)"),
    (r"'Traced(Scalar|Bool)' object cannot be interpreted as an integer|integers or slices, not Traced(Scalar|Bool)|"
     r"non-int of type 'Traced",
     "a traced value was used as a whole number", _WHOLE),
    (r"expected a sequence of integers or a single integer, got '?traced\(",
     "a traced value was used as a length", _WHOLE),
    (r"(Traced\w+|float64) is not JSON serializable|Traced\w+ to Decimal is not supported",
     "a traced value was to become text or a number of another kind", "its derivative would be lost; write out "
     "distdiff.numpy.value(x), its plain value, or return what is wanted beside the result, with has_aux=True"),
    (_SLICE, "a traced value was used as the end of a slice", _WHOLE),
    (r"unhashable type: 'Traced", KEY, DECIDES),
    (r"type for timedelta .*: Traced|operand type.*(Traced.*timedelta|timedelta.*Traced)",
     "a traced value was used with a datetime.timedelta", "that is a whole number of microseconds and holds no "
     "derivative; compute with floats, in seconds: t.total_seconds()"),
    (r"WRITEBACKIFCOPY", "numpy.nditer of a traced array",
     "its elements would be plain: `for t in x.reshape(-1)` and np.ndenumerate(x) give traced ones, and operations on "
     "whole arrays are faster"),
)


def _slices(error: Exception) -> bool:
    """Whether it may have been a traced value that Python would not slice by: the line, or what it called of ours, has
    one at hand."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        index = frame.f_locals.get("index")
        if type(index) is slice and any(map(is_traced, (index.start, index.stop, index.step))):
            return True
        names = re.findall(r"\w+", linecache.getline(frame.f_code.co_filename, line))
        if any(isinstance(frame.f_locals.get(name), TracedScalar) for name in names):
            return True
    return False


def _of_plain_values(error: Exception, what: str, remedy: str) -> UnsupportedOperationError:
    """What Python said where it wants a plain value, with the user's line and a remedy."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    frame = next((f for f in reversed(frames) if owner(f.f_code.co_filename, f.f_code.co_name) == "user"), frames[-1])
    site = Site(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)
    return UnsupportedOperationError(f"{what} at {site}: {twin(frame, remedy)}")


_NUMBA = r"can't unbox|bad argument type for built-in operation"
_REFUSED_BY_C = (r"must be numpy\.ndarray, not Traced|Cannot convert Traced\w+ to numpy|"  # C, Cython, pybind11
                 r"incompatible function arguments[\s\S]*traced\(|No matching signature found|not 'TracedArray'|"
                 r"pythranized function[\s\S]*Traced|conversion from (Traced|Complex)|" + _NUMBA)
_OURS = r"'(Traced\w+|ComplexArray|ComplexScalar)' object has no attribute"


def _of_compiled_code(error: Exception) -> UnsupportedOperationError:
    """What a function of C said of a traced array, with the user's line and a remedy."""
    frames = list(traceback.walk_tb(error.__traceback__))
    frame, line = next((pair for pair in reversed(frames) if _is_users(pair[0])), frames[-1])
    scipys = [f for f, _ in reversed(frames) if f.f_globals.get("__name__", "").startswith("scipy.")]
    python = (f for f in scipys if not f.f_code.co_filename.endswith(CYTHON))  # Cython's don't know who called them
    where = library(next(python, frame)) or next(filter(None, map(library_of_cython, reversed(scipys))), "")
    said = str(error).partition("\n")[0].strip()
    remedy = f"{CUT} ({said}). Compiled code needs a rule: distdiff.custom_jvp, custom_vjp or elemental"
    if type(error).__module__.startswith("numba.") or re.search(_NUMBA, said):
        remedy += "; loops that Numba compiles can be traced, as Python functions under distdiff.compiled"
    if "ndarray, not Traced" in said and not where:
        remedy += ("; a sparse factor, lu = splu(A) or solve = factorized(A), can be used on traced values where the "
                   "function reaches it by names, attributes, lists and dictionaries of yours, or makes it inside "
                   "(distdiff remembers it, so that it costs once)")
    return UnsupportedOperationError(refusal("compiled code was given a traced array", where,
                                             Site(frame.f_code.co_filename, line, frame.f_code.co_qualname), remedy))


def _is_users(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return owner(file, frame.f_code.co_name) == "user" and not file.endswith(CYTHON)


def _load(rec: Recorder, leaf: Any, k: int, n_leaves: int) -> Any:
    """An input leaf as traced value, on a block of its own."""
    what = "the argument" if n_leaves == 1 else f"leaf {k} of the arguments"
    if is_traced(leaf):
        raise UnsupportedOperationError(
            f"{what} is itself a traced value, of a function that is being differentiated; in there use "
            "distdiff.grad, jvp, vjp, jacobian, hvp or hessian"
        )
    array = creation.NUMPY["asarray"](held(leaf))
    tree.require_floats(array, what)
    if array.size == 0:
        raise InputError(
            f"{what} is an empty array of shape {array.shape}: there is nothing to differentiate with respect to"
        )
    if array.dtype.char != "d":
        rec.float64(array.dtype, f"{what} comes", user_caller())
    values = rec.empty(array.shape)
    values[...] = array
    block = rec.new_block(values.shape, values)
    rec.point.append(array)
    rec.tape.inputs.append(Leaf(values.shape, Affine(block, 0, c_strides(values.shape))))
    if values.ndim == 0:
        return rec.scalar(rec.firsts[block], values.item())
    x = TracedArray(Storage.of_block(rec, values, block), values)
    if tree.layout(array):
        x = copied(x, np.array(array, dtype=np.float64, order="K"))
    return x if array.flags.writeable else read_only(x)


def _store(rec: Recorder, result: Any) -> Any:
    """Record the function's result as the tape's outputs; returns its plain values."""
    if result is None:
        raise InputError(
            "the function returned None: it must return what is to be differentiated (is a return missing?)"
        )

    def is_leaf(x: Any) -> bool:
        return tree.is_number(x) or is_traced(x) or traced_within(x) is not None

    leaves, spec = tree.flatten(result, "the function's result", is_leaf)
    if not leaves:
        raise InputError("the function's result holds no number to differentiate")
    plain = []
    for leaf in leaves:
        x = held(leaf)
        if isinstance(x, np.ndarray) and type(x) is not TracedArray and x.dtype == object:
            x = rec.array_of(x)
        shape, ref, values = _output(rec, x)
        rec.tape.outputs.append(Leaf(shape, ref))
        plain.append(values)
    rec.tape.out_tree = spec
    return tree.unflatten(spec, plain)


_REAL_RESULTS = ("derivatives here are those of real results, and complex numbers may be anything in between: return "
                 "z.real and z.imag as two arrays, or the real number that is made of them")


def _output(rec: Recorder, x: Any) -> tuple[tuple[int, ...], Operand, Any]:
    if isinstance(x, TracedScalar):
        if x.rec is not rec:
            rec.unsupported("a result of another trace", "return what this function computed")
        rec.flush()
        return (), rec.node(x.i), x.v
    if is_traced_complex(x):
        rec.unsupported("a complex result", _REAL_RESULTS)
    if type(x) is not TracedArray:
        if hasattr(x, "tocsr"):
            raise InputError(f"the function's result is a {type(x).__name__}, a sparse matrix of SciPy's: return its "
                             "entries, A.data, or A.toarray()")
        values = creation.NUMPY["asarray"](x)
        if rec.holding and values.dtype.kind == "f" and np.isnan(values).any():
            rec.unsupported(
                "a result that is NaN and depends on no input",
                "compiled code seems to have read an array that holds traced values, whose memory is NaN on purpose; "
                "it can't be traced",
            )
        if values.dtype.kind == "c":
            rec.unsupported("a complex result", _REAL_RESULTS)
        values = values.astype(np.float64)
        return (
            values.shape,
            Const(float(values) if values.ndim == 0 else values),
            float(values) if values.ndim == 0 else values,
        )
    if x.rec is not rec:
        rec.unsupported("a result of another trace", "return what this function computed")
    values = np.array(x.nd)
    rec.flush()
    x.st.need()
    ref = x.st.lower(x.nd, x.shape)
    if type(ref) is list:  # one operand a leaf: pieces are copied side by side
        ref = _compacted(x)
    return x.shape, ref, values if values.ndim else float(values)


def _compacted(x: TracedArray) -> Operand:
    y = compact(x)
    ref = y.st.lower(y.nd, y.shape)
    assert type(ref) is not list
    return ref


def plain_value(x: Any) -> Any:
    """x with plain values in the place of traced ones, in containers too: to look at, not to compute with (no
    derivative)."""
    x = held(x)
    if isinstance(x, TracedScalar):
        return x.v if x.dtype == float else x.dtype.type(x.v).item()
    if type(x) is TracedArray or is_traced_complex(x):
        return x.plain_values()
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*map(plain_value, x))
    if type(x) in (tuple, list):
        return type(x)(map(plain_value, x))
    if type(x) is dict:
        return {key: plain_value(value) for key, value in x.items()}
    return x


__all__ = ["HasJoint", "Stretch", "Trace", "is_leaf", "locate", "plain_value", "running", "trace"]
