"""From counted and measured data to figures, one function a kind; nothing is computed here that data don't hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..report import seconds_text, size_text
from . import canvas as c
from .canvas import Canvas
from .ownership import Ownership
from .passes import Pass, Timeline, shares
from .ranks import Scaling
from .sparsity import Sparsity, Spy
from .widths import Widths

STRETCHES = 160  # of time, of which shares are shown


def spy(data: Spy, canvas: Canvas) -> None:
    """Both matrices, entries a bin as shades."""
    panels = iter(canvas.figure.add_gridspec(1, data.panels, wspace=0.12))
    left = canvas.axes(next(panels), grid=False)
    _matrix(canvas, left, data.program, "the flattened program", "line of the trace")
    c.mark_sections(canvas, left, data.sections, vertical=True, least=0.06)
    if data.closer is not None:
        closer = canvas.axes(next(panels), grid=False)
        _matrix(canvas, closer, data.closer, "a closer look", "line of the trace")
        c.mark_sections(canvas, closer, data.operations, vertical=True, most=30)
    if data.kept is None:
        return
    right = canvas.axes(next(panels), grid=False)
    _matrix(canvas, right, data.kept, "what elimination keeps", "kept row, rank after rank")
    if len(data.rank_rows) > 2:
        for edge in data.rank_rows[1:-1]:
            right.axhline(edge, color=c.VERMILION, linewidth=0.8, linestyle="--")
            right.axvline(edge, color=c.VERMILION, linewidth=0.8, linestyle="--")


def _matrix(canvas: Canvas, axes: Any, data: Sparsity, name: str, what: str) -> None:
    from matplotlib.colors import LogNorm

    bins = len(data.count)
    count = np.ma.masked_less_equal(data.count, 0.0)
    first, end = data.first, data.first + bins * data.width
    least, most = (float(x) for x in (count.min(), count.max())) if count.count() else (1.0, 1.0)
    image = axes.imshow(count, cmap=canvas.shades(), norm=LogNorm(least if most > least else 0.5 * least, most),
                        extent=(first, end, end, first), interpolation="none")
    last = first + max(data.n, 1)
    axes.set(xlabel=what, ylabel="", xlim=(first, last), ylim=(last, first))
    axes.xaxis.set_major_locator(_few_integers())
    axes.yaxis.set_major_locator(_few_integers())
    c.counted(axes.xaxis, data.n, last)
    c.counted(axes.yaxis, data.n, last)
    canvas.tidy(axes, grid=False)
    axes.spines[["top", "right"]].set_visible(True)
    axes.spines[["top", "right"]].set_color(canvas.theme.muted)
    canvas.heading(axes, f"{name}: {c.short(data.n)} rows,\n{c.short(data.nonzeros)} entries")
    each = "entries" if data.width == 1 else f"entries in {c.short(data.width)} x {c.short(data.width)}"
    if most > least:
        bar = canvas.bar(image, axes, each, location="bottom", shrink=0.8, aspect=30, pad=0.02)
        ticks = np.unique(np.geomspace(least, most, 4).round()) if most >= 4 else np.array([least, most])
        bar.set_ticks(np.clip(ticks, least, most), labels=[c.short(x) for x in ticks], minor=False)
        bar.minorticks_off()


def _few_integers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5, integer=True)


def levels(data: Widths, canvas: Canvas) -> None:
    """Nodes by level above, values alive along the trace below, with the critical path."""
    panels = canvas.figure.add_gridspec(2, 1, hspace=0.08)
    upper = canvas.axes(panels[0])
    edges = data.edges
    upper.stairs(data.nodes, edges, fill=True, color=c.BLUE, alpha=0.85, linewidth=0, label="nodes a level")
    upper.set(ylabel="nodes a level", xlabel="level (edges of the longest path from an input)",
              xlim=(0, max(float(edges[-1]), 1.0)))
    if c.log_if_wide(data.nodes):
        upper.set_yscale("log")
        upper.set_ylim(bottom=0.6 * float(data.nodes[data.nodes > 0].min()))
    else:
        upper.set_ylim(bottom=0)
        upper.yaxis.set_major_locator(_few_integers())
        c.counted(upper.yaxis)
    c.counted(upper.xaxis)
    upper.axhline(data.parallelism, color=c.VERMILION, linestyle="--", linewidth=1.2,
                  label=f"parallelism {data.parallelism:.3g} (work over critical path)")
    canvas.tidy(upper)
    canvas.legend(upper, loc="lower right", ncols=2, bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)

    lower = canvas.axes(panels[1])
    n = data.sections[-1].stop if data.sections else 1
    lower.stairs(data.live, np.append(data.places, n), fill=True, color=c.SKY, alpha=0.85, linewidth=0)
    lower.set(ylabel="values alive", xlabel="line of the trace", xlim=(0, n))
    if c.log_if_wide(data.live):
        lower.set_yscale("log")
        lower.set_ylim(bottom=0.6 * float(data.live[data.live > 0].min()))
    else:
        lower.set_ylim(bottom=0)
        lower.yaxis.set_major_locator(_few_integers())
        c.counted(lower.yaxis)
    c.counted(lower.xaxis)
    twin = lower.twinx()
    nodes, when = data.trail
    scale, unit = c.time_unit(data.path.span)
    twin.plot(nodes, when * scale, color=c.VERMILION, linewidth=1.8)
    twin.set_ylabel(f"critical path ({unit})")
    twin.set_ylim(bottom=0)
    canvas.tidy(lower)
    canvas.tidy(twin, grid=False)
    twin.yaxis.label.set_color(c.VERMILION)
    lower.yaxis.label.set_color(c.BLUE if canvas.theme is c.LIGHT else c.SKY)
    twin.spines["right"].set_visible(True)
    twin.spines["right"].set_color(c.VERMILION)
    c.mark_sections(canvas, lower, data.sections, least=0.08)


def partition(data: Ownership, canvas: Canvas) -> None:
    """Owners along the trace, values from rank to rank, lines by rank."""
    from matplotlib.colors import ListedColormap, LogNorm

    panels = canvas.figure.add_gridspec(1, 3, width_ratios=[2.3, 1.3, 0.9], wspace=0.1)
    colours = c.rank_colours(data.ranks)
    owner = canvas.axes(panels[0], grid=False)
    image = owner.imshow(data.owner, aspect="auto", cmap=ListedColormap(colours), vmin=-0.5, vmax=data.ranks - 0.5,
                         extent=(0, max(data.n, 1), 1, 0), interpolation="none")
    owner.set(xlabel="line of the trace", ylabel="place in the array there", yticks=(0, 1),
              yticklabels=("first", "last"))
    c.counted(owner.xaxis)
    canvas.tidy(owner, grid=False)
    c.mark_sections(canvas, owner, data.sections, least=0.12)
    bar = canvas.bar(image, owner, "rank", location="bottom", aspect=35, shrink=0.8, pad=0.02)
    bar.set_ticks(sorted({0, data.ranks - 1, *range(0, data.ranks, max(1, data.ranks // 8))}))

    halo = canvas.axes(panels[1], grid=False)
    values = np.ma.masked_equal(data.values, 0)
    most = float(values.max()) if values.count() else 1.0
    least = float(values.min()) if values.count() else 1.0
    halo.imshow(values, cmap=canvas.shades(), norm=LogNorm(least, max(most, 1.01 * least)), interpolation="none")
    step = max(1, data.ranks // 8)
    halo.set(xlabel="to rank", ylabel="from rank", xticks=range(0, data.ranks, step), yticks=range(0, data.ranks, step))
    canvas.tidy(halo, grid=False)
    canvas.heading(halo, "values sent in a pass")
    if data.ranks <= 6:
        for (i, j), value in np.ndenumerate(data.values):
            strong = value and np.log(value / least) > 0.5 * np.log(max(most / least, 1.01))
            colour = canvas.theme.muted if not value else (canvas.theme.paper if strong else canvas.theme.ink)
            halo.text(j, i, c.short(value), ha="center", va="center", fontsize=8.5, color=colour)

    lines = canvas.axes(panels[2])
    lines.barh(np.arange(data.ranks), data.lines, color=colours, height=0.75)
    lines.set(xlabel="lines computed", ylim=(data.ranks - 0.5, -0.5), yticks=range(0, data.ranks, step))
    lines.xaxis.set_major_locator(_few_integers())
    c.counted(lines.xaxis)
    canvas.tidy(lines)
    canvas.heading(lines, "load by rank")


def timeline(data: Timeline, canvas: Canvas) -> None:
    """A bar a rank and pass: computing, sending, waiting, and what a library does without telling which."""
    from matplotlib.patches import Patch

    panels = canvas.figure.add_gridspec(len(data.passes), 1)
    for k, one in enumerate(data.passes):
        axes = canvas.axes(panels[k])
        scale, unit = c.time_unit(one.seconds)
        drawn = _shares if one.many else _spans
        drawn(axes, one, scale)
        axes.set(xlim=(0, one.seconds * scale), ylim=(data.ranks - 0.5, -0.5), xlabel=f"time ({unit})", ylabel="rank",
                 yticks=range(0, data.ranks, max(1, data.ranks // 16)))
        canvas.tidy(axes)
        axes.grid(axis="y", visible=False)
        canvas.heading(axes, one.name)
        if data.ranks <= 16:
            for rank, (computing, waiting) in enumerate(zip(one.computing, one.waiting)):
                total = max(one.seconds, 1e-30)
                canvas.text(axes, 1.01, rank, f"{100 * computing / total:.0f} % / {100 * waiting / total:.0f} %",
                            transform=axes.get_yaxis_transform(), va="center")
        if not k:
            handles = [Patch(color=colour, label=name) for name, colour in KINDS[: 4 if data.elsewhere else 3]]
            canvas.legend(axes, handles=handles, loc="lower right", ncols=4, bbox_to_anchor=(1.0, 1.0))


KINDS = (("computing", c.BLUE), ("sending", c.GREEN), ("waiting", c.ORANGE),
         ("in PETSc: computing and messages", c.PINK))  # after the first, by `channels.Timing`'s kind


def _spans(axes: Any, one: Pass, scale: float) -> None:
    for rank, spans in enumerate(one.spans):
        axes.broken_barh([(0.0, one.busy[rank] * scale)], (rank - 0.38, 0.76), facecolors=c.BLUE)
        for kind, (_, colour) in enumerate(KINDS[1:]):
            some = spans[spans[:, 2] == kind]
            bars = [(begin * scale, (end - begin) * scale) for begin, end, _ in some]
            axes.broken_barh(bars, (rank - 0.38, 0.76), facecolors=colour)


def _shares(axes: Any, one: Pass, scale: float) -> None:
    """Each stretch of time from below: how much of it a rank computed, sent, waited."""
    edges = np.linspace(0.0, one.seconds * scale, STRETCHES + 1)
    for rank, spans in enumerate(one.spans):
        foot = np.full(STRETCHES, rank + 0.38)
        for (_, colour), share in zip(KINDS, shares(spans, float(one.busy[rank]), one.seconds, STRETCHES)):
            top = foot - 0.76 * share
            axes.fill_between(edges, np.append(foot, foot[-1:]), np.append(top, top[-1:]), step="post", color=colour,
                              linewidth=0)
            foot = top


def scaling(data: Scaling, canvas: Canvas) -> None:
    """Seconds and memory by number of ranks, both logarithmic."""
    panels = canvas.figure.add_gridspec(1, 2, width_ratios=[1.5, 1.0], wspace=0.1)
    times = canvas.axes(panels[0])
    times.plot(data.ranks, data.seconds, "o-", color=c.BLUE, linewidth=1.8, markersize=5, label="predicted")
    times.plot(data.ranks, data.seconds[0] / data.ranks, color=canvas.theme.muted, linestyle=":", linewidth=1.0,
               label="one rank's, divided")
    some = data.exchanging > 0
    if some.any():
        times.plot(data.ranks[some], data.exchanging[some], "^--", color=c.GREEN, linewidth=1.2, markersize=4,
                   label="of it messages")
    if len(data.measured):
        times.plot(data.measured_ranks, data.measured, "D", color=c.VERMILION, markersize=7,
                   markeredgecolor=canvas.theme.paper, label="measured here")
    memory = canvas.axes(panels[1])
    memory.plot(data.ranks, data.memory, "s-", color=c.PINK, linewidth=1.6, markersize=4.5)
    for axes, label, said in ((times, "an evaluation and a solve", seconds_text),
                              (memory, "the fullest rank's memory, predicted", size_text)):
        axes.set(xscale="log", xlabel="ranks", ylabel=label, xticks=data.ranks)
        axes.set_xticklabels([str(n) for n in data.ranks])
        c.logarithmic(axes, said)
        axes.minorticks_off()
        canvas.tidy(axes)
    canvas.legend(times, loc="lower right", ncols=2, bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)


__all__ = ["levels", "partition", "scaling", "spy", "timeline"]
