"""The demo's figures, one function a part. Colours are Okabe and Ito's; signed fields use a colour-blind safe map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
SIGNED = "PuOr_r"  # diverging, told apart with any colour vision


def need_matplotlib() -> None:
    """ImportError with the remedy where matplotlib is missing; called before an hour's work, not after it."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "the demo draws with matplotlib, which this Python cannot import; pip install matplotlib, "
            "or leave the figures out with --no-figures"
        ) from error


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # without pyplot there is no display to look for

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _tidy(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def lotka_volterra(
    path: Path,
    years: np.ndarray,
    data: tuple[np.ndarray, np.ndarray],
    fitted: tuple[np.ndarray, np.ndarray],
    guess: tuple[np.ndarray, np.ndarray],
) -> None:
    """Fitted curves over the pelts. `data` is (hare, lynx) a year, `fitted` and `guess` the same on a fine grid."""
    figure = _figure(10.5, 4.2)
    curves, phase = figure.subplots(1, 2, width_ratios=[2.2, 1.0])
    fine = np.linspace(years[0], years[-1], len(fitted[0]))
    for name, colour, marker, seen, curve, first in (
        ("snowshoe hare", BLUE, "o", data[0], fitted[0], guess[0]),
        ("Canada lynx", ORANGE, "s", data[1], fitted[1], guess[1]),
    ):
        curves.plot(
            fine,
            first,
            color=colour,
            linewidth=1.0,
            linestyle=(0, (2, 2)),
            alpha=0.7,
            label=f"{name}, first guess",
        )
        curves.plot(fine, curve, color=colour, linewidth=2.0, label=f"{name}, fitted")
        curves.plot(
            years, seen, marker, color=colour, markersize=5, markeredgecolor="white", label=f"{name}, pelts"
        )
    curves.set(
        xlabel="year",
        ylabel="pelts (thousands a year)",
        xticks=np.arange(years[0], years[-1] + 1, 4),
        title="Lotka-Volterra fitted to the Hudson's Bay Company pelts",
    )
    curves.set_ylim(0.0, 1.35 * max(curves.get_ylim()[1] / 1.05, 1.0))
    curves.legend(ncols=2, fontsize=8, frameon=False, loc="upper center")
    phase.plot(*fitted, color="black", linewidth=1.6, label="fitted orbit")
    phase.plot(*data, "o", color=GREY, markersize=4, label="pelts")
    phase.set(
        xlabel="hare pelts (thousands a year)", ylabel="lynx pelts (thousands a year)", title="Phase plane"
    )
    phase.legend(fontsize=8, frameon=False)
    for axes in (curves, phase):
        _tidy(axes)
    figure.savefig(path)


def flow(
    path: Path,
    sea: Any,
    gauges: Any,
    truth: np.ndarray,
    guess: np.ndarray,
    recovered: np.ndarray,
    runs: dict[str, np.ndarray],
) -> None:
    """Truth, first guess, recovered surface and error as maps (m), and the records of three gauges.

    `runs` holds the modelled records, shape of gauges.observations, under "first guess" and "recovered".
    """
    figure = _figure(12.6, 7.6)
    figure.get_layout_engine().set(w_pad=0.12)
    grid = figure.add_gridspec(2, 3)
    side = sea.dx * sea.cells / 1000.0
    extent = (0.0, side, 0.0, side)
    highest = float(np.abs(truth).max())
    error = recovered - truth
    worst = float(np.abs(error[sea.wet > 0]).max())
    x, y = (gauges.columns + 0.5) * sea.dx / 1000.0, (gauges.rows + 0.5) * sea.dx / 1000.0
    spread = np.ptp(gauges.observations, axis=0)
    shown = np.argsort(spread)[[-1, -max(2, len(spread) // 4), -max(3, len(spread) // 2)]]
    colours = (BLUE, ORANGE, GREEN)

    def surface(
        place: Any, field: np.ndarray, title: str, limit: float, label: str = "surface elevation (m)"
    ) -> Any:
        axes = figure.add_subplot(place)
        axes.set_facecolor("0.80")  # land
        image = axes.imshow(
            np.where(sea.wet > 0, field, np.nan),
            origin="lower",
            extent=extent,
            cmap=SIGNED,
            vmin=-limit,
            vmax=limit,
        )
        axes.set(xlabel="x (km)", ylabel="y (km)", title=title)
        figure.colorbar(image, ax=axes, shrink=0.7, label=label)
        return axes

    true_axes = surface(grid[0, 0], truth, f"truth, and the {len(x)} gauges", highest)
    true_axes.plot(x, y, "o", color="black", markersize=3, markeredgecolor="white", markeredgewidth=0.4)
    for name, gauge, colour in zip("ABC", shown, colours, strict=True):
        true_axes.plot(x[gauge], y[gauge], "o", color=colour, markersize=7, markeredgecolor="white")
        true_axes.annotate(
            name,
            (x[gauge], y[gauge]),
            textcoords="offset points",
            xytext=(-12, 4),
            fontsize=9,
            color=colour,
            fontweight="bold",
        )
    surface(grid[0, 1], guess, "first guess", highest)
    surface(grid[0, 2], recovered, "recovered from the gauges", highest)
    surface(grid[1, 0], error, "recovered - truth", worst, label="error (m)")

    minutes = np.array(gauges.times) * sea.dt / 60.0
    records = grid[1, 1:].subgridspec(3, 1, hspace=0.08).subplots(sharex=True, sharey=True)
    for axes, name, gauge, colour in zip(records, "ABC", shown, colours, strict=True):
        axes.plot(
            minutes,
            runs["first guess"][:, gauge],
            color=GREY,
            linewidth=1.2,
            linestyle=":",
            label="first guess",
        )
        axes.plot(
            minutes,
            runs["recovered"][:, gauge],
            color=colour,
            linewidth=1.6,
            label="from the recovered surface",
        )
        axes.plot(minutes, gauges.observations[:, gauge], "o", color=colour, markersize=4, label="observed")
        axes.set(ylabel="elevation (m)")
        axes.text(0.01, 0.80, f"gauge {name}", transform=axes.transAxes, color=colour, fontweight="bold")
        _tidy(axes)
    records[0].set(title="Gauge records")
    records[-1].legend(ncols=3, fontsize=8, frameon=False, loc="lower left")
    records[-1].set(xlabel="time (minutes)")
    figure.savefig(path)


def digits(
    path: Path,
    gradient: np.ndarray,
    reference: np.ndarray,
    weights: np.ndarray,
    losses: list[float],
    accuracies: list[float],
) -> None:
    """The gradient's images at the start, the learned templates, the training, and the check against the closed form.

    `gradient` and `reference` have shape (650,), `weights` (64, 10); losses and accuracies are one an iteration.
    """
    figure = _figure(12.0, 6.6)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1.15, 1.0])
    images = top.subplots(2, 10)
    start = -gradient[: weights.size].reshape(weights.shape)
    for row, (name, field) in enumerate((("-gradient\nat the start", start), ("weights\nlearned", weights))):
        limit = float(np.abs(field).max())
        for digit, axes in enumerate(images[row]):
            image = axes.imshow(field[:, digit].reshape(8, 8), cmap=SIGNED, vmin=-limit, vmax=limit)
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(f"class {digit}", fontsize=10)
        images[row, 0].set_ylabel(name)
        top.colorbar(image, ax=images[row].tolist(), shrink=0.9, label="per unit of ink")
    training, check = bottom.subplots(1, 2)
    iterations = np.arange(len(losses))
    loss_line = training.plot(iterations, losses, color=BLUE, linewidth=2.0, label="training loss")
    training.set(
        xlabel="L-BFGS iteration", ylabel="training loss (nats an image)", ylim=(0.0, None), title="Training"
    )
    _tidy(training)
    share = training.twinx()
    share_line = share.plot(
        iterations,
        100.0 * np.array(accuracies),
        color=ORANGE,
        linewidth=2.0,
        linestyle="--",
        label="held-out images read right",
    )
    share.set(ylabel="held-out accuracy (%)", ylim=(0.0, 100.0))
    share.spines["top"].set_visible(False)
    training.legend(handles=[*loss_line, *share_line], frameon=False, fontsize=9, loc="center right")

    size = np.abs(reference)
    floor = 1e-3 * np.finfo(float).eps * size.max()  # equal entries would fall off a logarithmic axis
    visible = size > 0
    check.loglog(
        size[visible],
        np.maximum(np.abs(gradient - reference)[visible], floor),
        ".",
        color=BLUE,
        markersize=4,
        label="one weight",
    )
    reach = np.array([size[visible].min(), size.max()])
    check.loglog(
        reach, reach, color=GREY, linewidth=1.2, linestyle="--", label="as large as the gradient itself"
    )
    check.axhline(
        np.finfo(float).eps * size.max(),
        color="black",
        linewidth=1.2,
        linestyle=":",
        label="machine epsilon x largest entry",
    )
    check.set(
        xlabel="|gradient| by the closed form",
        ylabel="|difference|",
        title="Gradient against the closed form",
    )
    check.legend(frameon=False, fontsize=8, loc="center left")
    _tidy(check)
    figure.savefig(path)
