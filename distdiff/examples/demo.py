"""The demo: three plain NumPy functions differentiated for real work, alone or under mpirun.

    python -m distdiff.examples.demo                     mpirun -n 2 python -m distdiff.examples.demo

1. scalar: Lotka-Volterra fitted to the Hudson's Bay Company's lynx and hare pelts (a long chain of scalar lines).
2. grid: the source of a shallow-water wave recovered from tide gauges (array code, a grid in time).
3. wide: a classifier of handwritten digits trained, its gradient checked against the closed form.

Every rank runs this same script and the same optimiser on the same numbers; rank 0 alone prints and draws.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import distdiff as dd
from distdiff.comm import agreed, on_root
from distdiff.examples import digits, figures, flow, lotka_volterra

PARTS = ("scalar", "grid", "wide")


@dataclass(frozen=True)
class Size:
    """How much work each part does."""

    substeps: int  # scalar: Runge-Kutta steps a year
    scalar_iterations: int
    cells: int  # grid: cells a side
    steps: int  # grid: time steps
    gauges: int
    grid_iterations: int
    images: int  # wide: training images, the first ones
    wide_iterations: int


SIZES = {
    "full": Size(
        substeps=250,
        scalar_iterations=100,
        cells=80,
        steps=128,
        gauges=40,
        grid_iterations=15,
        images=10**6,
        wide_iterations=40,
    ),
    "small": Size(
        substeps=4,
        scalar_iterations=100,
        cells=32,
        steps=40,
        gauges=50,
        grid_iterations=15,
        images=200,
        wide_iterations=10,
    ),
}


@dataclass
class Demo:
    """What the parts share: the communicator, the size of the work, where figures go, and how results are told."""

    comm: Any
    size: Size
    out: Path
    draw: bool
    method: str

    def say(self, text: str = "") -> None:
        """Print on rank 0."""
        if self.comm.rank == 0:
            print(text, flush=True)

    def tell(self, label: str, text: str) -> None:
        """Print a labelled result, aligned with the report, on rank 0."""
        self.say(f"  {label:<12} " + text.replace("\n", "\n" + " " * 15))

    def figure(self, name: str, draw: Callable[[Path], None]) -> None:
        """Draw into the output folder on rank 0. Collective: a rank 0 that cannot write fails every rank."""
        if self.draw:
            path = self.out / name
            on_root(self.comm, lambda: draw(path), share=False)
            self.tell("figure", str(path))

    def assemble(self, f: Callable, x: np.ndarray, partition: str = "auto") -> tuple[np.ndarray, Any]:
        """The gradient at x by substitution on the assembled PETSc system, and its report. Collective.

        The other method's check on whatever `--method` or the cost model chooses, and freed before that runs.
        """
        with dd.linearize(f, x, comm=self.comm, method="substitution", partition=partition) as lin:
            return lin.vjp(1.0), lin.report()

    def describe(
        self, f: Callable, x: np.ndarray, lin: dd.Linearization, petsc: tuple[np.ndarray, Any]
    ) -> np.ndarray:
        """Print the report, the PETSc system, and the checks; returns the gradient. Collective.

        A Taylor test whose second-order remainders don't fall at rate 2, or two methods that differ by more than
        rounding, end the demo.
        """
        gradient = lin.vjp(1.0)
        for line in str(lin.report()).splitlines():
            self.say(f"  {line}")
        by_substitution, system = petsc
        difference = float(np.abs(gradient - by_substitution).max() / np.abs(by_substitution).max())
        set_up = sum(
            system.times.get(stage, 0.0) for stage in ("expand", "preaccumulate", "assemble", "set up")
        )
        self.tell(
            "PETSc",
            f"I - L over {system.ranks} rank{'s' * (system.ranks > 1)}: {system.rows:,} rows kept of "
            f"{system.nodes:,}, {system.nnz:,} nonzeros, "
            f"set up in {set_up:.2f} s\nits substitution and the gradient above differ by {difference:.1e} of the "
            "largest entry",
        )
        if difference > 1e-9:
            raise ArithmeticError(
                f"substitution and {self.method} differ by {difference:.1e} of the largest entry"
            )
        self.check(f, x, lin)
        return gradient

    def check(self, f: Callable, x: np.ndarray, lin: dd.Linearization) -> None:
        """Print the Taylor test's rates (2 where the derivative is right); a failed test ends the demo. Collective."""
        test = dd.testing.taylor_test(f, x, lin=lin)
        rates = ", ".join(f"{rate:.3f}" for rate in test.rates)
        self.tell(
            "Taylor test",
            f"{'passed' if test.passed else 'FAILED'}: second-order remainders fall at rates {rates}",
        )
        if not test.passed:
            raise ArithmeticError(f"the Taylor test failed: {test}")

    def minimise(
        self,
        lin: dd.Linearization,
        x0: np.ndarray,
        iterations: int,
        what: str,
        callback: Callable[[np.ndarray], None] | None = None,
    ) -> Any:
        """L-BFGS-B from x0 (scipy's result, x in the shape of x0). Collective.

        Every rank runs the optimiser itself: values and gradients are the same numbers everywhere, so are its steps.
        `lin` stands at x0; at every later point its tape is evaluated anew instead of traced anew.
        """
        from scipy.optimize import minimize

        began = told = time.perf_counter()
        here = x0.ravel().copy()
        values = [float(lin.value)]

        def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal here, told
            if not np.array_equal(x, here):
                values.append(float(lin.update(x.reshape(x0.shape))))
                here = x.copy()
            gradient = lin.vjp(1.0)
            if self.comm.rank == 0 and time.perf_counter() - told > 2.0:
                told = time.perf_counter()
                print(
                    f"{what}: {len(values)} gradients, objective {values[-1]:.6g}",
                    file=sys.stderr,
                    flush=True,
                )
            return values[-1], np.ravel(gradient)

        result = minimize(
            value_and_gradient,
            x0.ravel(),
            jac=True,
            method="L-BFGS-B",
            callback=callback,
            options={"maxiter": iterations, "maxcor": 20},
        )
        result.x = result.x.reshape(x0.shape)
        seconds = time.perf_counter() - began
        self.tell(
            "L-BFGS-B",
            f"objective {values[0]:.6g} -> {result.fun:.6g} in {result.nit} iterations; "
            f"{result.nfev} gradients in {seconds:.2f} s, {1000.0 * seconds / result.nfev:.1f} ms each",
        )
        return result


def scalar(demo: Demo) -> dict[str, Any]:
    """Part 1. Collective; returns the fitted parameters and the misfit."""
    demo.say("scalar: Lotka-Volterra fitted to the Hudson's Bay Company's pelts, a Python loop over floats")
    years, hare, lynx = lotka_volterra.load_pelts()
    f = lotka_volterra.make_misfit(demo.size.substeps)
    x0 = lotka_volterra.start()
    petsc = demo.assemble(f, x0)
    with dd.linearize(f, x0, comm=demo.comm, method=demo.method) as lin:
        demo.describe(f, x0, lin, petsc)
        fit = demo.minimise(lin, x0, demo.size.scalar_iterations, "scalar")
    pairs = zip(lotka_volterra.PARAMETERS, np.exp(fit.x), strict=True)
    demo.tell("fitted", ", ".join(f"{name} = {value:.4g}" for name, value in pairs))
    alpha, gamma = np.exp(fit.x[[0, 2]])
    demo.tell(
        "",
        f"period of small cycles 2 pi / sqrt(alpha gamma) = {2 * np.pi / np.sqrt(alpha * gamma):.1f} years; "
        f"typical factor between model and pelts {np.exp(np.sqrt(fit.fun / len(years))):.2f}",
    )

    def curves(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hares, lynxes = lotka_volterra.trajectory(parameters, len(years), substeps=50)
        return np.array(hares), np.array(lynxes)

    demo.figure(
        "lotka_volterra.png",
        lambda path: figures.lotka_volterra(
            path, years, (hare, lynx), fitted=curves(fit.x), guess=curves(x0)
        ),
    )
    return {"x": fit.x, "value": fit.fun}


def grid(demo: Demo) -> dict[str, Any]:
    """Part 2. Collective; returns the control field, the misfit and the recovered surface's relative error."""
    size = demo.size
    demo.say(
        f"grid: the source of a shallow-water wave from {size.gauges} tide gauges, "
        f"{size.cells} x {size.cells} cells, {size.steps} time steps"
    )
    sea = flow.make_sea(size.cells)
    gauges = flow.place_gauges(sea, size.gauges, size.steps, every=4)
    f = flow.make_misfit(sea, gauges)
    z0 = np.zeros((size.cells, size.cells))
    # Spread over all ranks whether or not so small a sea is faster on one: the report shows both predictions.
    petsc = demo.assemble(f, z0, partition="axes")
    with dd.linearize(f, z0, comm=demo.comm, method=demo.method, partition="axes") as lin:
        demo.describe(f, z0, lin, petsc)
        fit = demo.minimise(lin, z0, size.grid_iterations, "grid")
    truth, guess = flow.make_truth(sea), flow.initial_surface(z0, sea)
    recovered = flow.initial_surface(fit.x, sea)
    error = float(np.linalg.norm(recovered - truth) / np.linalg.norm(truth))
    demo.tell(
        "recovered",
        f"{int(sea.wet.sum())} unknown surface values from {gauges.observations.size} readings "
        f"with {100 * flow.NOISE:.0f} cm noise: relative error {error:.3f} (first guess 1), "
        f"largest error {np.abs(recovered - truth).max():.2f} m of {np.abs(truth).max():.2f} m",
    )

    def records(surface: np.ndarray) -> np.ndarray:
        return np.array(flow.simulate(surface, sea, gauges.rows, gauges.columns, gauges.times))

    demo.figure(
        "shallow_water.png",
        lambda path: figures.flow(
            path,
            sea,
            gauges,
            truth,
            guess,
            recovered,
            runs={"first guess": records(guess), "recovered": records(recovered)},
        ),
    )
    return {"x": fit.x, "value": fit.fun, "error": error}


def wide(demo: Demo) -> dict[str, Any]:
    """Part 3. Collective; returns the weights, the loss and the largest relative difference from the closed form."""
    images, labels, held_images, held_labels = on_root(demo.comm, digits.load)
    images, labels = images[: demo.size.images], labels[: demo.size.images]
    demo.say(
        f"wide: softmax regression on scikit-learn's digits, {len(labels)} images to train, {len(held_labels)} held out"
    )
    f = digits.make_loss(images, labels)
    w0 = digits.start()
    losses: list[float] = []
    accuracies: list[float] = []

    def record(w: np.ndarray) -> None:
        losses.append(float(f(w)))
        accuracies.append(digits.accuracy(w, held_images, held_labels))

    petsc = demo.assemble(f, w0)
    with dd.linearize(f, w0, comm=demo.comm, method=demo.method) as lin:
        gradient = demo.describe(f, w0, lin, petsc)
        reference = digits.closed_form_gradient(w0, images, labels)
        difference = float(np.abs(gradient - reference).max() / np.abs(reference).max())
        demo.tell(
            "closed form",
            f"largest difference of the gradient, relative to its largest entry: {difference:.1e}",
        )
        record(w0)
        fit = demo.minimise(lin, w0, demo.size.wide_iterations, "wide", callback=record)
    demo.tell(
        "accuracy", f"{100 * accuracies[0]:.1f} % -> {100 * accuracies[-1]:.1f} % of the held-out images"
    )
    weights = fit.x[: digits.PIXELS * digits.CLASSES].reshape(digits.PIXELS, digits.CLASSES)
    demo.figure(
        "digits.png", lambda path: figures.digits(path, gradient, reference, weights, losses, accuracies)
    )
    return {"x": fit.x, "value": fit.fun, "difference": difference, "accuracy": accuracies[-1]}


def run(
    comm: Any,
    parts: tuple[str, ...] = PARTS,
    size: str = "full",
    out: Path | None = None,
    method: str = "auto",
) -> dict[str, dict[str, Any]]:
    """Run the parts on `comm` and return their results by name; figures go to `out`, none are drawn if it is None.

    Collective. Raises ImportError (matplotlib or scikit-learn missing), OSError (`out` cannot be written),
    ArithmeticError (a check failed) or a DistdiffError, the same on every rank.
    """
    demo = Demo(comm, SIZES[size], out or Path(), out is not None, method)
    with agreed(comm):  # before any work: what is missing is better said now than at the end
        import scipy.optimize  # noqa: F401

        if comm.rank == 0:
            if "wide" in parts:
                digits.load()
            if out is not None:
                figures.need_matplotlib()
                _make_folder(out)
    results = {}
    for part in parts:
        began = time.perf_counter()
        results[part] = {"scalar": scalar, "grid": grid, "wide": wide}[part](demo)
        demo.tell("in all", f"{time.perf_counter() - began:.1f} s")
        demo.say()
    return results


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"the figures' folder {out} cannot be made ({error.strerror}); name another with --out"
        ) from error


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        prog="python -m distdiff.examples.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--part", choices=(*PARTS, "all"), default="all", help="run one part alone (default: all)"
    )
    top.add_argument(
        "--size", choices=tuple(SIZES), default="full", help="small takes seconds, full about a minute"
    )
    top.add_argument(
        "--out",
        type=Path,
        default=Path("distdiff-demo"),
        metavar="FOLDER",
        help="where the figures go (default: ./distdiff-demo)",
    )
    top.add_argument("--no-figures", action="store_true", help="draw nothing, so matplotlib is not needed")
    top.add_argument("--method", default="auto", help="auto (default), sweep, substitution, krylov or direct")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run the demo from the command line; returns the exit status, the same on every rank."""
    arguments = parser().parse_args(argv)
    from mpi4py import MPI  # after parsing: --help starts no MPI

    comm = MPI.COMM_WORLD
    parts = PARTS if arguments.part == "all" else (arguments.part,)
    if comm.rank == 0:
        print(f"distdiff {dd.__version__} on {comm.size} rank{'s' if comm.size > 1 else ''}\n", flush=True)
    began = time.perf_counter()
    try:
        run(comm, parts, arguments.size, None if arguments.no_figures else arguments.out, arguments.method)
    except (ImportError, OSError, ArithmeticError, dd.DistdiffError) as error:
        if comm.rank == 0:
            print(f"the demo stopped: {error}", file=sys.stderr, flush=True)
        comm.barrier()  # mpirun ends the job with the first rank that fails: not before the message is out
        return 1
    if comm.rank == 0:
        print(f"done in {time.perf_counter() - began:.1f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
