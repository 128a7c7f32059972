"""Names for the axis along the trace: which of the user's functions and lines compute a stretch of nodes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..tape import ScalarRun, Site, Tape

BINS = 48  # stretches of the trace that are told apart
INPUTS, SCALAR, UNKNOWN = "inputs", "scalar lines", "other lines"


class Section(NamedTuple):
    """Nodes start <= id < stop come from what `label` names."""

    start: int
    stop: int
    label: str


def sections(tape: Tape, bins: int = BINS) -> list[Section]:
    """The trace, first node to last, in stretches of one bin or more that the same lines compute."""
    n = tape.n_nodes
    if not n:
        return []
    width = -(-n // bins)
    writers: list[Site | str] = [INPUTS] * len(tape.blocks)
    for item in tape.items:
        if isinstance(item, ScalarRun):
            writers[item.block] = SCALAR
        else:
            writers[item.out.block] = tape.sites[item.site] if item.site >= 0 else UNKNOWN
    found: list[dict[Site | str, int]] = [{} for _ in range(-(-n // width))]
    for block, writer in zip(tape.blocks, writers):
        for k in range(block.first // width, -(-(block.first + block.size) // width)):
            nodes = min(block.first + block.size, (k + 1) * width) - max(block.first, k * width)
            if nodes > 0:
                found[k][writer] = found[k].get(writer, 0) + nodes
    merged: list[Section] = []
    for k, label in enumerate(map(_label, found)):
        start, stop = k * width, min((k + 1) * width, n)
        if merged and merged[-1].label == label:
            merged[-1] = merged[-1]._replace(stop=stop)
        else:
            merged.append(Section(start, stop, label))
    return merged


def _label(writers: dict[Site | str, int]) -> str:
    """What computes a bin: the function with most of its nodes, and the span of its lines there."""
    total = sum(writers.values())
    by_function: dict[tuple[str, str], int] = {}
    for writer, nodes in writers.items():
        key = (writer.file, writer.function) if isinstance(writer, Site) else ("", writer)
        by_function[key] = by_function.get(key, 0) + nodes
    (file, function), most = max(by_function.items(), key=lambda entry: entry[1])
    label = function
    if file:
        # lines of a passing few nodes (a loop's last step, the sum at the end) would make every other bin its own
        lines = [w.line for w, nodes in writers.items()
                 if isinstance(w, Site) and (w.file, w.function) == (file, function) and 50 * nodes >= total]
        span = f"{min(lines)}" if min(lines) == max(lines) else f"{min(lines)}-{max(lines)}"
        label = f"{function.rpartition('<locals>.')[2]}, {Path(file).name}:{span}"
    return label if 2 * most >= total else f"{label} and others"


__all__ = ["INPUTS", "SCALAR", "UNKNOWN", "Section", "sections"]
