"""A picture: the arrays that are drawn, what they show in words, and the drawing when somebody wants it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..report import count_text, seconds_text, size_text
from .ownership import Ownership
from .passes import Pass, Timeline
from .ranks import Scaling
from .sparsity import Spy
from .widths import Widths

SUFFIXES = (".png", ".svg")
OFF = 2.0  # times that a prediction may be off before that is said


@dataclass(frozen=True)
class Picture:
    """`data` are plain arrays; drawing (`figure`, `svg`, `png`, `save`) needs matplotlib.  Not collective."""

    kind: str
    data: Any

    @property
    def title(self) -> str:
        return TITLES[self.kind]

    @property
    def caption(self) -> str:
        """What one sees, in a sentence or two, with its numbers."""
        return CAPTIONS[self.kind](self.data)

    def figure(self, dark: bool = False, words: bool = True) -> Any:
        """matplotlib's Figure, for a light or a dark page; `words`: with the title and the caption."""
        from . import draw
        from .canvas import Canvas

        width, height = SIZES[self.kind]
        width *= self.data.panels / 2 if self.kind == "spy" else 1
        rows = getattr(self.data, "ranks", 1) if self.kind == "timeline" else 1
        canvas = Canvas(width, height + 0.35 * (min(rows, 16) - 1), dark)
        getattr(draw, self.kind)(self.data, canvas)
        return canvas.close(self.title, self.caption) if words else canvas.figure

    def save(self, path: str | os.PathLike[str], dark: bool = False) -> None:
        """Write a .png or .svg, at once or not at all."""
        from ..storage import replacing

        require_suffix(path)
        content = self.png(dark) if Path(path).suffix.lower() == ".png" else self.svg(dark).encode()
        with replacing(path) as stream:
            stream.write(content)

    def svg(self, dark: bool = False, words: bool = True) -> str:
        """The drawing as text, its words as words; the same data give the same text."""
        figure, stream = self.figure(dark, words), io.StringIO()
        import matplotlib

        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "distdiff"}):
            figure.savefig(stream, format="svg", metadata={"Date": None})
        return stream.getvalue()

    def png(self, dark: bool = False, words: bool = True) -> bytes:
        """The drawing in pixels, 150 an inch."""
        stream = io.BytesIO()
        self.figure(dark, words).savefig(stream, format="png")
        return stream.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()

    def __repr__(self) -> str:
        return f"<picture {self.kind}: {self.caption}>"


def require_path(path: str | os.PathLike[str]) -> None:
    """Raise `InputError` where no picture can be written: to say so before the work is done."""
    from ..storage import require_place

    require_suffix(path)
    require_place(path)


def require_suffix(path: str | os.PathLike[str]) -> None:
    """Raise `InputError` for a file that pictures can't be written to."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"{os.fspath(path)!r} names no picture: let it end in .png or .svg")


def _spy(data: Spy) -> str:
    program, kept = data.program, data.kept
    says = (f"A dot at row i, column j: line i reads line j. {count_text(program.n)} flattened lines with "
            f"{count_text(program.nonzeros)} entries, the unit diagonal included")
    if data.closer is not None:
        says += f"; a closer look at {count_text(data.closer.n)} in the middle, with what computes them"
    if data.implicit:
        says += ("; results of an implicit statement are drawn as if each depended on all that the statement reads, "
                 "the kept system has the rows of its equation")
    if kept is None:
        return says + "; the kept system was not assembled for this picture, which takes some 40 bytes a line."
    return says + (f"; elimination leaves {count_text(kept.n)} rows with {count_text(kept.nonzeros)}, "
                   f"{program.n / max(kept.n, 1):.1f} times fewer"
                   + (". Dashes part the ranks." if len(data.rank_rows) > 2 else "."))


def _levels(data: Widths) -> str:
    path = data.path
    where = f", most of it at {path.sites[0][0]} ({100 * path.sites[0][1]:.0f} %)" if path.sites else ""
    return (f"Above: lines of one level do not depend on each other; {count_text(data.depth + 1)} levels, at most "
            f"{count_text(data.width)} lines wide. Below: values that a cut of the trace would have to carry, "
            f"{count_text(data.widest)} at most; the line tells when the critical path, {seconds_text(path.span)} of "
            f"{seconds_text(path.work)} work, gets there{where}.")


def _partition(data: Ownership) -> str:
    if data.ranks == 1:
        return ("One rank owns everything, and sends nothing; `distdiff plot --kind partition --ranks N` draws it for "
                "ranks that are not there.")
    working = np.flatnonzero(data.lines)
    busiest = data.lines.max() / max(data.lines[data.lines > 0].mean(), 1e-30) if len(working) else 1.0
    load = f"the busiest rank has {busiest:.2f} times the mean's lines"
    if len(working) == 1:
        load = f"rank {working[0]} has all lines, and the others none"
    elif 1 < len(working) < data.ranks:
        load = (f"{len(working)} of the {data.ranks} ranks have lines, the busiest {busiest:.2f} times the mean of "
                "those, and the others none")
    return (f"Partition {data.name}: {_several(data.k_star, 'superstep')}, "
            f"{_several(int(data.messages.sum()), 'message')} with {count_text(int(data.values.sum()))} values a pass "
            f"({size_text(8 * int(data.values.sum()))}), read by {_several(int(data.cut.sum()), 'cut edge')}; "
            f"{load}.")


def _timeline(data: Timeline) -> str:
    working = data.working
    says = f"Measured on {_several(data.ranks, 'rank')}, {_several(data.k_star, 'superstep')} a pass: "
    if len(working) < data.ranks:
        says += f"{_which(working, data.ranks)} all lines, and the others wait (shares are of who has lines): "
    says += "; ".join(_of_pass(one, working) for one in data.passes) + "."
    if any(one.many for one in data.passes):
        says += " The height of a colour is its share of a stretch of time."
    if data.elsewhere:
        says += (f" What {data.method} does within PETSc, iterations or a factorization's solve, is one colour: it "
                 "computes and exchanges there, and does not tell when.")
    return says + " To the right: computing / waiting."


def _of_pass(one: Pass, ranks: np.ndarray) -> str:
    """A pass in words, by what these ranks do with its time."""
    share = {name: 100 * _mean(parts[ranks], one.seconds) for name, parts in (
        ("compute", one.computing), ("send", one.sending), ("wait", one.waiting))}
    inside = 100 * _mean(one.elsewhere[ranks], one.seconds)
    petsc = f", are in PETSc {inside:.0f} %" if one.elsewhere.any() else ""
    around = 100 - sum(share.values()) - inside
    rest = f"; the other {around:.0f} % goes before and after: arguments, agreements, results" if around >= 1 else ""
    return (f"{one.name} {seconds_text(one.seconds)}, of which ranks compute {share['compute']:.0f} %{petsc}, send "
            f"{share['send']:.0f} % and wait {share['wait']:.0f} %{rest}")


def _which(working: np.ndarray, ranks: int) -> str:
    """Those of the ranks that have anything to do, with their verb."""
    if len(working) == 1:
        return f"rank {working[0]} has"
    return f"{len(working)} of the {ranks} ranks have"


def _several(n: int, what: str) -> str:
    return f"{count_text(n)} {what}{'s' if n != 1 else ''}"


def _mean(parts: np.ndarray, seconds: float) -> float:
    return float(parts.mean()) / max(seconds, 1e-30)


def _scaling(data: Scaling) -> str:
    predicted = dict(zip(data.ranks.tolist(), data.seconds.tolist()))
    both = [(n, t, predicted.get(n)) for n, t in zip(data.measured_ranks.tolist(), data.measured.tolist())]
    measured = ", ".join(f"{seconds_text(t)} on {n}" + (f" (predicted {seconds_text(p)})" if p else "")
                         for n, t, p in both)
    says = f"Predicted by the machine's rates ({data.rates}); " + (f"measured {measured}. " if measured else "")
    off = [(max(t / p, p / t), n, t > p) for n, t, p in both if p]
    if off and max(off)[0] > OFF:
        times, n, longer = max(off)
        share = f"{times:.1f} times" if longer else f"1/{times:.1f} of"
        says += (f"On {_several(n, 'rank')} it took {share} what was predicted, so don't rely on the curve: "
                 "something else keeps this machine busy, or its rates are others (distdiff calibrate measures them), "
                 "or the model misses what takes the time here. ")
    return says + data.verdict[0].upper() + data.verdict[1:] + "."


TITLES = {"spy": "Where I \u2212 L has its entries", "levels": "Levels, values alive, critical path",
          "partition": "Who owns what, and what travels", "timeline": "Computing, sending, waiting",
          "scaling": "Time by number of ranks"}
SIZES = {"spy": (9.6, 5.6), "levels": (9.0, 5.8), "partition": (10.4, 4.4), "timeline": (9.6, 4.2),
         "scaling": (9.0, 4.4)}
CAPTIONS: dict[str, Callable[[Any], str]] = {
    "spy": _spy, "levels": _levels, "partition": _partition, "timeline": _timeline, "scaling": _scaling}

__all__ = ["Picture", "require_path", "require_suffix"]
