"""How numbers travel over HTTP: .npy and .npz without pickle, and JSON.

A *vector* is all leaves of arguments or of a result, one after another.  Its forms, told apart by the content type:

    application/x-npy    one array: the vector itself, or the only leaf in its own shape
    application/x-npz    an array for each leaf, which its name tells: the argument's, or leaf0, ..., or arr_0, ...
    application/json     {"leaves": [...]}, each leaf as nested lists

Nothing here allocates more than the bytes that came: what an array says of its size is compared with them first.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from .. import errors
from ..errors import DistdiffError, FormatError, InputError, ServiceError

NPY, NPZ, JSON, TAPE = "application/x-npy", "application/x-npz", "application/json", "application/octet-stream"
_MAGIC = re.compile(rb"\x93NUMPY(\x01|\x02)\x00((?<=\x01\x00)..|(?<=\x02\x00)....)", re.S)
_HEADER = re.compile(rb"\{'descr': '([<>|=](?:f[248]|[iu][1248]|b1))', 'fortran_order': (True|False), "
                     rb"'shape': \(((?:\d{1,18}, ?)*(?:\d{1,18})?)\), \} *\n")
Shapes = list[tuple[int, ...]]
NUMBERED = ("leaf", "arr_")  # before the numbers in names of an .npz: of our answers; of numpy.savez without names
LEAVES = "/v1/systems/{system} says the order and shapes of the leaves"
_OURS = {name: kind for name, kind in vars(errors).items()
         if isinstance(kind, type) and issubclass(kind, DistdiffError)}


def error(type: str, detail: str, status: int) -> DistdiffError:
    """The error of that name, as it was raised elsewhere."""
    kind = _OURS.get(type, ServiceError)
    return kind(detail, status=status) if issubclass(kind, ServiceError) else kind(detail)


def to_npy(array: np.ndarray) -> bytes:
    """An array of real numbers as the bytes of an .npy file, those that `numpy.save` writes in five times the time."""
    return b"".join(npy_parts(array))


def npy_parts(array: np.ndarray) -> list[Any]:
    """The same in two parts, the second the array's own numbers where they lie in the order of its axes."""
    array = np.ascontiguousarray(array)
    shape = f"({array.shape[0]},)" if array.ndim == 1 else str(array.shape)
    header = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
    length = -(-(11 + len(header)) // 64) * 64 - 10  # the magic and this number before, a line break at the end
    return [b"".join((b"\x93NUMPY\x01\x00", length.to_bytes(2, "little"), header.ljust(length - 1).encode(), b"\n")),
            array.data if array.size else b""]


def from_npy(data: bytes) -> np.ndarray:
    """The array in the bytes of an .npy file, on those bytes; `FormatError` for anything else."""
    if not data:
        raise FormatError("this is no .npy array, the body is empty: send the vector, as numpy.save writes it")
    found = _MAGIC.match(data)
    length = int.from_bytes(found[2], "little") if found else 0
    header = _HEADER.fullmatch(data, found.end(), found.end() + length) if found and length < 4096 else None
    if found is None or header is None:
        raise FormatError("this is no .npy array of real numbers: its beginning is not that of one; write it with "
                          "numpy.save, of floats or integers of at most 64 bits")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(n) for n in header[3].replace(b" ", b"").split(b",") if n)
    size, start = math.prod(shape), found.end() + length
    if size * dtype.itemsize != len(data) - start:
        raise FormatError(f"this is no .npy array: shape {shape} of {dtype} is not what {len(data) - start} bytes hold")
    flat = np.frombuffer(data, dtype=dtype, count=size, offset=start)
    try:
        return flat.reshape(shape, order="F" if header[2] == b"True" else "C")
    except ValueError as error:  # more axes than NumPy knows; of no elements, lengths whose product is beyond it
        raise FormatError(f"this is no .npy array: {_said(error)}") from error


def to_npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Named arrays as the bytes of an .npz file, not compressed."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def from_npz(data: bytes, most: int) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name, if they take at most `most` bytes; `InputError` where one is there twice."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > most:  # what compressed members claim to hold
                raise ValueError(f"its arrays claim more than {most:,} bytes")
            found = {}
            for member in members:
                with archive.open(member) as stream:
                    content = stream.read(member.file_size + 1)
                if len(content) != member.file_size:
                    raise ValueError(f"member {member.filename!r} has not the size that it says")
                name = member.filename.removesuffix(".npy")
                if name in found:
                    raise InputError(f"the array {name[:40]!r} is there twice in the .npz file, and which of them is "
                                     "meant is not known: write each once, as numpy.savez does")
                found[name] = from_npy(content)
            return found
    except DistdiffError:
        raise
    except Exception as error:  # zipfile raises nearly anything for archives made to mislead
        raise FormatError(f"this is no .npz file of arrays: {_said(error)}") from error


def from_json(data: bytes) -> Any:
    """The JSON in a body, or `FormatError`, where an object says a key twice too."""
    try:
        return json.loads(data, object_pairs_hook=_object)
    except FormatError:
        raise
    except (ValueError, RecursionError, UnicodeDecodeError) as error:
        raise FormatError(f"the body is no JSON: {_said(error)}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for k, (key, _) in enumerate(pairs) if key in dict(pairs[:k]))
        raise FormatError(f"the key {twice[:40]!r} is there twice")
    return found


def _only(found: Any, key: str, kind: type, wanted: str) -> Any:
    """What the body's one key holds."""
    if not isinstance(found, dict) or not isinstance(found.get(key), kind):
        raise FormatError(wanted)
    if others := sorted(found.keys() - {key}):
        raise FormatError(f"{wanted}: the key {others[0][:40]!r} is not known")
    return found[key]


def leaf_from_json(data: Any, name: str = "a leaf") -> np.ndarray:
    """A leaf given as a number or nested lists of numbers, which true and false are not; name: where it is."""
    try:
        array = np.array(data, dtype=None)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise FormatError(f"{name} is no array: {_said(error)}") from error
    if array.dtype.kind not in "fiub":
        raise FormatError(f"{name} holds {array.dtype} values; numbers in nested lists of equal lengths are wanted")
    if _has_truth(data):
        raise FormatError(f"{name} holds true or false; numbers in nested lists of equal lengths are wanted")
    return array


def _has_truth(data: Any) -> bool:
    if isinstance(data, list):
        inner = set(map(type, data))
        return bool in inner or list in inner and any(map(_has_truth, data))
    return isinstance(data, bool)


def vector(form: str, data: bytes, shapes: Shapes, what: str, names: Sequence[str] | None = None) -> np.ndarray:
    """The vector in a body: `FormatError` where it is none, `InputError` where it does not fit the leaves' shapes.

    names : of the leaves, by which those of an .npz go; None: they have none, and go by number
    """
    size = sum(map(math.prod, shapes))
    if form == NPY:
        array = from_npy(data)
        if array.shape != (size,) and not (len(shapes) == 1 and array.shape == shapes[0]):
            other = f" or {shapes[0]}" if len(shapes) == 1 and shapes[0] != (size,) else ""
            raise InputError(f"the {what} has shape {array.shape}, but ({size},){other} is wanted: the numbers of all "
                             f"leaves, one after another; {LEAVES}")
        leaves = [array]
    elif form == NPZ:
        arrays = from_npz(data, 8 * size + 65536 * (1 + len(shapes)))
        leaves = _fitting(_in_order(arrays, names, len(shapes), what), shapes, what)
    elif form == JSON:
        found = _only(from_json(data), "leaves", list, f'the {what} is no {{"leaves": [...]}} with an array for each '
                      f"of {len(shapes)}, as nested lists; {LEAVES}")
        leaves = _fitting([leaf_from_json(leaf, f"the leaf leaves[{k}]") for k, leaf in enumerate(found)], shapes, what)
    else:
        raise InputError(f"the {what} is of type {form!r}; {NPY}, {NPZ} and {JSON} are read")
    parts = [np.ascontiguousarray(leaf, dtype=np.float64).reshape(-1) for leaf in leaves]
    full = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if not np.isfinite(full).all():
        raise InputError(f"the {what} holds NaN or infinity")
    return full


def named(form: str, data: bytes, most: int, integers: Collection[str] = ()) -> dict[str, Any]:
    """Arguments by name, numbers as numbers.

    JSON has one type of numbers, and who writes it may say 1.0 as 1: all are floats, but for the parameters `integers`,
    which take one whole number.
    """
    if form == NPZ:
        arrays = from_npz(data, most)
    elif form == JSON:
        found = _only(from_json(data), "arguments", dict, 'the arguments are no {"arguments": {"name": ...}}')
        arrays = {name: _typed(leaf_from_json(leaf, f"the argument arguments.{name[:40]}"), name, name in integers)
                  for name, leaf in found.items()}
    else:
        raise InputError(f"the arguments are of type {form!r}; {NPZ} and {JSON} are read")
    return {name: array if array.ndim else array.item() for name, array in arrays.items()}


def _typed(array: np.ndarray, name: str, whole: bool) -> np.ndarray:
    """The floats of an argument in JSON; or its whole number, as an integer."""
    if not whole:
        return array.astype(np.float64)
    if array.shape or (array.dtype.kind == "f" and not float(array).is_integer()):
        raise InputError(f"the argument arguments.{name[:40]} is no whole number, which this parameter takes: its "
                         "default is an integer, or it is annotated int; let the function annotate it float, or give "
                         "it a default with a decimal point, to have it differentiated")
    return np.array(int(array.item()))


def _in_order(arrays: dict[str, np.ndarray], names: Sequence[str] | None, count: int, what: str) -> list[np.ndarray]:
    """The arrays of an .npz in the leaves' order, which their names say and the file's order does not."""
    numbered = [[f"{word}{k}" for k in range(len(arrays))] for word in NUMBERED]
    for order in [names or (), *numbered]:
        if arrays.keys() == set(order):
            return [arrays[name] for name in order]
    found, wanted = _listed(list(arrays)), [f"{word}0" + f" to {word}{count - 1}" * (count > 1) for word in NUMBERED]
    own = f"{_listed(names)}, as the arguments, or " if names else ""
    raise InputError(f"the {what} has arrays named {found or '(none)'}, which do not say where each belongs: name "
                     f"them {own}{' or '.join(wanted)} by number, each once and no others; {LEAVES}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(name[:40] for name in names[:8]) + f" and {len(names) - 8} more" * (len(names) > 8)


def _fitting(leaves: list[np.ndarray], shapes: Shapes, what: str) -> list[np.ndarray]:
    found = [leaf.shape for leaf in leaves]
    if found != shapes:
        nested = (' (the numbers of one leaf are a list within the list: {"leaves": [[...]]})'
                  if len(shapes) == 1 and shapes[0] and set(found) == {()} else "")
        told = str(found) if len(found) <= 8 else f"{found[:8]} and {len(found) - 8} more"
        raise InputError(f"the {what} has leaves of shapes {told}, but {shapes} are wanted{nested}; {LEAVES}")
    return leaves


def split(full: np.ndarray, shapes: Shapes) -> list[np.ndarray]:
    """The leaves of a vector."""
    leaves, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        leaves.append(full[start:stop].reshape(shape))
        start = stop
    return leaves


def body(form: str, full: np.ndarray, shapes: Shapes, facts: dict[str, Any]) -> list[Any]:
    """A vector as a body of that form, in parts; JSON says `facts` beside it."""
    if form == NPY:
        return npy_parts(full)
    leaves = split(full, shapes)
    if form == NPZ:
        return [to_npz({f"leaf{k}": leaf for k, leaf in enumerate(leaves)})]
    return [json.dumps({**facts, "leaves": [leaf.tolist() for leaf in leaves]}).encode()]


def _said(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    return text if len(text) < 300 else text[:300] + "..."
