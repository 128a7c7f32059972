"""What all figures share: two themes, a few colours told apart with any colour vision, and plain axes.

Colours of kinds and ranks are Okabe and Ito's (jfly.uni-koeln.de/color), counts are shades of one blue whose lightness
alone tells.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .sections import Section

BLUE, SKY, GREEN, ORANGE, VERMILION, PINK = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
RANKS = (BLUE, ORANGE, GREEN, PINK, SKY, VERMILION, "#8A8A8A", "#F0E442")
FEW_TICKS, MARGIN = 4, 1.15  # of a logarithmic axis


@dataclass(frozen=True)
class Theme:
    """The colours of paper and ink."""

    paper: str
    ink: str
    muted: str
    grid: str
    few: str  # the shade of the lowest count above none, and of the highest
    many: str


LIGHT = Theme("#ffffff", "#1c2128", "#59636e", "#d8dee4", "#b6d4f0", "#08264a")
DARK = Theme("#12161c", "#e6edf3", "#9aa5b1", "#323a44", "#23507f", "#f2f8ff")


class Canvas:
    """A figure in a theme; `axes` come tidied."""

    def __init__(self, width: float, height: float, dark: bool) -> None:
        try:
            from matplotlib.figure import Figure  # without pyplot there is no display to look for
        except ImportError as error:
            raise ImportError("pictures are drawn with matplotlib, which this Python can't import; pip install "
                              "'distdiff[plot]'") from error
        self.theme = DARK if dark else LIGHT
        self.figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor=self.theme.paper)

    def axes(self, where: Any = None, grid: bool = True, **keywords: Any) -> Any:
        axes = self.figure.add_subplot(*([] if where is None else [where]), **keywords)
        self.tidy(axes, grid)
        return axes

    def tidy(self, axes: Any, grid: bool = True) -> None:
        theme = self.theme
        axes.set_facecolor(theme.paper)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(theme.muted)
        axes.tick_params(colors=theme.muted, labelsize=8.5)
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set_color(theme.ink)
            axis.label.set_size(9)
        if grid:
            axes.grid(color=theme.grid, linewidth=0.6)
            axes.set_axisbelow(True)

    def heading(self, axes: Any, text: str) -> None:
        axes.set_title(text, color=self.theme.ink, fontsize=10, loc="left")

    def text(self, axes: Any, x: float, y: float, text: str, **keywords: Any) -> Any:
        settings: dict[str, Any] = {"color": self.theme.ink, "fontsize": 8.5, "transform": axes.transAxes}
        return axes.text(x, y, text, **(settings | keywords))

    def legend(self, axes: Any, **keywords: Any) -> None:
        legend = axes.legend(fontsize=8.5, frameon=False, **keywords)
        for text in legend.get_texts():
            text.set_color(self.theme.ink)

    def shades(self) -> Any:
        """Counts as shades; none is paper."""
        from matplotlib.colors import LinearSegmentedColormap

        shades = LinearSegmentedColormap.from_list("counts", [self.theme.few, BLUE, self.theme.many])
        shades.set_bad(self.theme.paper)
        return shades

    def bar(self, image: Any, axes: Any, label: str, **keywords: Any) -> Any:
        bar = self.figure.colorbar(image, ax=axes, **keywords)
        bar.set_label(label, color=self.theme.ink, fontsize=8.5)
        bar.ax.tick_params(colors=self.theme.muted, labelsize=8)
        bar.outline.set_edgecolor(self.theme.muted)
        return bar

    def close(self, title: str, caption: str) -> Any:
        """The figure, with its title above and what is seen below."""
        self.figure.suptitle(title, color=self.theme.ink, fontsize=11, x=0.01, ha="left", fontweight="bold")
        width = int(self.figure.get_figwidth() * 15)
        self.figure.supxlabel(textwrap.fill(caption, width), color=self.theme.muted, fontsize=8.5, x=0.01, ha="left")
        return self.figure


def rank_colours(n: int) -> list[Any]:
    """A colour a rank: eight that are told apart, or shades from dark to light along the ranks."""
    if n <= len(RANKS):
        return list(RANKS[:n])
    from matplotlib import colormaps

    return [colormaps["cividis"](k / (n - 1)) for k in range(n)]


def mark_sections(canvas: Canvas, axes: Any, found: Sequence[Section], vertical: bool = False,
                  least: float = 0.02, most: int = 14) -> None:
    """What computes the stretches of the axis along the trace beside it, where there is room for the names."""
    low, high = (found[0].start, found[-1].stop) if found else (0, 0)
    total = high - low
    wide = [section for section in found if section.stop - section.start >= least * total]
    if not total or len(wide) > most:
        return
    edges = {edge for section in wide for edge in (section.start, section.stop)} - {low, high}
    for edge in edges:
        (axes.axhline if vertical else axes.axvline)(edge, color=canvas.theme.muted, linewidth=0.5, linestyle=":")
    for section in wide:
        share = (section.stop - section.start) / total
        middle = (section.start + section.stop) / 2
        size = 8 if len(wide) <= 14 else 6.5
        where: dict[str, Any] = {"color": canvas.theme.muted, "fontsize": size, "clip_on": False}
        if vertical:
            axes.text(1.015, middle, fit(section.label, 32), transform=axes.get_yaxis_transform(), va="center", **where)
        else:
            room = int(share * axes.get_figure().get_figwidth() * 12)
            axes.text(middle, 1.02, fit(section.label, room), transform=axes.get_xaxis_transform(), ha="center",
                      va="bottom", **where)


def fit(label: str, room: int) -> str:
    """A label in so many characters, its end left out if need be."""
    return label if len(label) <= room else label[:max(room - 1, 0)] + "\u2026" if room > 3 else ""


def counted(axis: Any, span: float = 1.0, most: float = 1.0) -> None:
    """Ticks of large counts as 1k, 20M; with as many digits as it takes to tell places in a `span` below `most` apart.
    """
    from matplotlib.ticker import FuncFormatter

    digits = 3 + int(np.log10(max(most / max(span, 1.0), 1.0)))
    axis.set_major_formatter(FuncFormatter(lambda x, _: short(x, digits)))


def short(x: float, digits: int = 3) -> str:
    """A count in few characters."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(x) >= size:
            return f"{x / size:.{digits}g}{unit}"
    return f"{x:.{digits}g}"


def time_unit(seconds: float) -> tuple[float, str]:
    """(how many of the unit a second has, its name) for durations of that size."""
    return next(((scale, name) for limit, scale, name in ((1.0, 1.0, "s"), (1e-3, 1e3, "ms")) if seconds >= limit),
                (1e6, "\u00b5s"))


def logarithmic(axes: Any, said: Callable[[float], str]) -> None:
    """A logarithmic vertical axis from one labelled tick to another, with some between: powers of ten, or, where few
    of them are reached, twice and five times as many too."""
    from matplotlib.ticker import FixedLocator, FuncFormatter

    shown = [y for line in axes.lines for y in np.atleast_1d(line.get_ydata()) if y > 0]
    low, high = (min(shown) / MARGIN, max(shown) * MARGIN) if shown else (1.0, 1.0)
    for steps in ((1,), (1, 2, 5)):
        tens = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 2)
        series = np.array([step * 10.0**k for k in tens for step in steps])
        begin = np.searchsorted(series, low, side="right") - 1  # the last that is not above, the first that is
        ticks = series[begin:np.searchsorted(series, high, side="right") + 1]
        if len(ticks) >= FEW_TICKS:
            break
    axes.set(yscale="log", ylim=(ticks[0], ticks[-1]))
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: said(float(f"{y:.3g}"))))


def log_if_wide(values: np.ndarray, factor: float = 50.0) -> bool:
    """Whether positive values span so much that a logarithmic axis shows more of them."""
    some = values[values > 0]
    return bool(len(some)) and float(some.max() / some.min()) > factor


__all__ = ["BLUE", "Canvas", "DARK", "GREEN", "LIGHT", "ORANGE", "PINK", "SKY", "VERMILION", "counted", "fit",
           "log_if_wide", "logarithmic", "mark_sections", "rank_colours", "short", "time_unit"]
