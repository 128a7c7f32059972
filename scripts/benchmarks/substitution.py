"""Substitution on an assembled matrix: distdiff's against PETSc's own sequential solves, forward and transposed.

The matrix is I - L with two nonzeros a row beside the unit diagonal, what a program of binary operations makes:

    layered     row i reads its neighbours in the layer before, i - width - 1 and i - width + 1: a stencil in time
    chain       row i reads i - 1 and i - 2: every row waits for the one before
    scattered   row i reads two rows anywhere before it

PETSc solves with the same matrix in the ways it has, and the fastest counts:
    MatSolve, MatSolveTranspose   of its ILU(0) factor in natural ordering; on a unit lower triangular matrix the factor
                                  is exact and is the matrix itself, but the diagonal upper factor is swept too
    MatMatSolve                   the same for a block of columns
    MatSOR                        one forward sweep from zero, which is exactly the forward substitution (no transpose)

Limit: bytes that must move, over the bandwidth of the triad, which runs beside every figure. A row has two values (16
bytes), two column indices (8), one row pointer (4), and its entry in m right-hand sides is read and written (16 m):
28 + 16 m. What a tool moves in fact is another figure, "moved": rows read as they are stored have the unit diagonal as
well, 40 + 16 m; distdiff reads no indices of rows that reach back alike, 24 + 16 m; and scattered rows fetch a whole
cache line or several for each entry of the solution they read. A chain has a second limit: a row waits for the row
before, one multiply-add long at least; the larger of both counts.

"reads alone" are what the scattered pattern reads of the solution, added up without a solve, so that none waits for
another: each is a cache line from far away. A solve in the same order can't be faster, whatever the bandwidth.

Scattered reads take what the caches happen to hold of 24 MB that lie in pages of the system's choice: two processes
that run the same loop differ by a third. So there PETSc and distdiff are compared "in turn" as well, in one process,
sample by sample by the processor's time, over one right-hand side and four; what either overwrites was just written.

distdiff is timed twice: "in place" as its own solves run it, the right-hand side overwritten by the solution; and as a
PETSc solver with PETSc's contract, from b to x (KSP preonly with the substitution as preconditioner), which copies b:
16 bytes a row that the limit does not count.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from measure import Figure, Triad, chain, figure, per_call, timed

PATTERNS = ("layered", "chain", "scattered")
COLUMNS = (1, 4, 16)
NONZEROS = 2
LINE = 64  # bytes of a cache line


def rows_of(pattern: str, n: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(indptr, indices, values) of I - L, n rows, columns sorted, the unit diagonal last, int32 indices."""
    rng = np.random.default_rng(7)
    i = np.arange(n, dtype=np.int64)
    if pattern == "layered":
        first, second = i - width - 1, i - width + 1
    elif pattern == "chain":
        first, second = i - 2, i - 1
    elif pattern == "scattered":
        first = (rng.random(n) * i).astype(np.int64)
        second = (rng.random(n) * i).astype(np.int64)
        first, second = np.minimum(first, second), np.maximum(first, second)
        first[first == second] = -1
        second[0] = -1
    else:
        raise ValueError(f"no pattern {pattern!r}")
    columns = np.stack([first, second, i], axis=1)
    values = np.concatenate([rng.uniform(-0.45, 0.45, (n, 2)), np.ones((n, 1))], axis=1)
    keep = columns >= 0
    indptr = np.concatenate([[0], np.cumsum(keep.sum(axis=1))]).astype(np.int32)
    return indptr, columns[keep].astype(np.int32), values[keep]


def bytes_a_row(columns: int) -> int:
    """What one row must move through memory, see the module's docstring."""
    return 12 * NONZEROS + 4 + 16 * columns


def moved_a_row(pattern: str, columns: int, indices: bool) -> int:
    """What one row does move, with its `indices` or without, see the module's docstring."""
    lines = -(-8 * columns // LINE) if pattern == "scattered" else 0
    return 8 * (NONZEROS + 1) + (4 * (NONZEROS + 1) + 4 if indices else 0) + 16 * columns + NONZEROS * lines * LINE


class Run:
    """Collects the figures and the solutions of one tool."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.rows: int = settings["rows"]
        self.figures: list[Figure] = []
        self.gradients: dict[str, np.ndarray] = {}
        self.triad = Triad(settings["triad"])
        self.latency = min(chain(5, 1.0)) / 1e6  # seconds a multiply-add

    def solve(self, pattern: str, direction: str, columns: int, method: str, call: Callable[[], Any],
              solution: Callable[[], np.ndarray]) -> None:
        """Times `call`, which solves, and reads the solution."""
        seconds = per_call(call, self.settings["repeats"], self.settings["budget"])
        self.keep(pattern, direction, columns, method, seconds, solution())

    def solve_in_place(self, pattern: str, direction: str, columns: int, sweep: Callable[[np.ndarray], Any]) -> None:
        """Times `sweep(y)`, which overwrites y; setting y to the right-hand side is left out of the time."""
        b = self.right_hand_side(columns)
        b = b[:, 0].copy() if columns == 1 else b
        y, seconds = b.copy(), []
        sweep(y)  # loads the compiled loop
        began = time.perf_counter()
        while len(seconds) < self.settings["repeats"] and (
                not seconds or time.perf_counter() - began < self.settings["budget"]):
            y[...] = b
            seconds.append(timed(lambda: sweep(y))[0])
        self.keep(pattern, direction, columns, "distdiff in place", seconds, y)

    def keep(self, pattern: str, direction: str, columns: int, method: str, seconds: list[float],
             x: np.ndarray) -> None:
        """A figure, and the ends of the solution for comparison with every other way to it."""
        self.add(pattern, direction, columns, method, seconds)
        x = x.reshape(self.rows, columns)
        ends = np.concatenate([x[:1000], x[-1000:]])
        kept = self.gradients.setdefault(f"{pattern}-{direction}-{columns}", ends)
        if not np.allclose(ends, kept, rtol=1e-10, atol=1e-10 * np.abs(kept).max()):
            raise RuntimeError(f"{method} gives another solution of {pattern}, {direction}, {columns} right-hand sides")

    def add(self, pattern: str, direction: str, columns: int, method: str, seconds: list[float]) -> None:
        """A figure beside its limit, in ns a row."""
        second_a_byte = min(timed(self.triad)[0] for _ in range(3)) / self.triad.bytes
        bound = max(bytes_a_row(columns) * second_a_byte, self.latency if pattern == "chain" else 0.0)
        indices = pattern == "scattered" or not method.startswith("distdiff")
        self.figures.append(figure(f"{pattern}, {direction}, {columns} rhs: {method}", seconds, self.rows, "row",
                                   role=f"{pattern} {direction} {columns}", method=method, limit=1e9 * bound,
                                   bytes_per_unit=bytes_a_row(columns),
                                   moved_per_unit=moved_a_row(pattern, columns, indices)))

    def right_hand_side(self, columns: int) -> np.ndarray:
        """The same for every tool, shape (rows, columns)."""
        return np.random.default_rng(11).standard_normal((self.rows, columns))


def factored(matrix: Any) -> Any:
    """A PETSc PC with the ILU(0) factor of a sequential matrix, in natural ordering."""
    from petsc4py import PETSc

    pc = PETSc.PC().create(PETSc.COMM_SELF)
    pc.setOperators(matrix)
    pc.setType(PETSc.PC.Type.ILU)
    pc.setFactorOrdering(PETSc.Mat.OrderingType.NATURAL)
    pc.setUp()
    return pc


def petsc(settings: dict[str, Any]) -> Run:
    """PETSc's sequential solves."""
    from petsc4py import PETSc

    run = Run(settings)
    n = run.rows
    for pattern in settings["patterns"]:
        matrix = PETSc.Mat().createAIJWithArrays((n, n), rows_of(pattern, n, settings["width"]), comm=PETSc.COMM_SELF)
        pc = factored(matrix)
        factor = pc.getFactorMatrix()
        b, x = matrix.createVecs()
        b.setArray(run.right_hand_side(1)[:, 0])
        run.solve(pattern, "forward", 1, "PETSc MatSolve", lambda f=factor, b=b, x=x: f.solve(b, x),
                  lambda x=x: x.getArray().copy())
        run.solve(pattern, "transposed", 1, "PETSc MatSolveTranspose",
                  lambda f=factor, b=b, x=x: f.solveTranspose(b, x), lambda x=x: x.getArray().copy())
        sweep = PETSc.Mat.SORType.LOCAL_FORWARD_SWEEP | PETSc.Mat.SORType.ZERO_INITIAL_GUESS
        run.solve(pattern, "forward", 1, "PETSc MatSOR",
                  lambda a=matrix, b=b, x=x, s=sweep: a.SOR(b, x, 1.0, s, 0.0, 1, 1), lambda x=x: x.getArray().copy())
        for columns in (c for c in COLUMNS if c > 1):
            rhs = PETSc.Mat().createDense((n, columns), array=np.asfortranarray(run.right_hand_side(columns)),
                                          comm=PETSc.COMM_SELF)
            out = rhs.duplicate()
            run.solve(pattern, "forward", columns, "PETSc MatMatSolve",
                      lambda f=factor, b=rhs, x=out: f.matSolve(b, x), lambda x=out: x.getDenseArray().copy())
            block = np.asfortranarray(run.right_hand_side(columns))
            result = np.empty_like(block, order="F")
            vectors = [(PETSc.Vec().createWithArray(block[:, k], comm=PETSc.COMM_SELF),
                        PETSc.Vec().createWithArray(result[:, k], comm=PETSc.COMM_SELF)) for k in range(columns)]

            def transposed(f: Any = factor, pairs: Any = vectors) -> None:
                for right, left in pairs:
                    f.solveTranspose(right, left)

            run.solve(pattern, "transposed", columns, "PETSc MatSolveTranspose, a column at a time", transposed,
                      lambda x=result: x.copy())
            for pair in vectors:
                for vector in pair:
                    vector.destroy()
            rhs.destroy()
            out.destroy()
        for thing in (b, x, pc, matrix):
            thing.destroy()
    return run


def distdiff(settings: dict[str, Any]) -> Run:
    """distdiff's substitution on its own system, given these rows instead of a tape's."""
    from distdiff.components import Components
    from distdiff.partition.local import Exchange, Portion
    from distdiff.petsc import petsc as started
    from distdiff.preaccumulate import CSR
    from distdiff.solvers.substitution import Substitution
    from distdiff.system import TriangularSystem

    PETSc = started()
    run = Run(settings)
    n = run.rows
    nothing = Portion(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    for pattern in settings["patterns"]:
        own = CSR(*rows_of(pattern, n, settings["width"]))
        ghost = CSR(np.zeros(n + 1, dtype=np.int32), np.empty(0, dtype=np.int32), np.empty(0))
        rows = SimpleNamespace(own=own, ghost=ghost, n_rows=n, n_ghosts=0, nnz=own.nnz, inputs=nothing, outputs=nothing,
                               ends=np.array([0, n]), exchanges=[Exchange()], components=Components.none(), where=str,
                               order_ghosts=lambda order: None)
        system = TriangularSystem(PETSc.COMM_SELF.tompi4py(), rows)
        solver = Substitution(system)
        for columns in COLUMNS:
            for direction, transposed in (("forward", False), ("transposed", True)):
                run.solve_in_place(pattern, direction, columns, lambda y, t=transposed, s=solver: s._solve(y, t))
        b, x = system.mat.createVecs()
        b.setArray(run.right_hand_side(1)[:, 0])
        ksp = solver.ksp
        run.solve(pattern, "forward", 1, "distdiff as PETSc solver", lambda k=ksp, b=b, x=x: k.solve(b, x),
                  lambda x=x: x.getArray())
        run.solve(pattern, "transposed", 1, "distdiff as PETSc solver", lambda k=ksp, b=b, x=x: k.solveTranspose(b, x),
                  lambda x=x: x.getArray())
        if pattern == "scattered":
            in_turn(run, pattern, rows_of(pattern, n, settings["width"]), lambda y, t, s=solver: s._solve(y, t))
        for thing in (b, x, solver, system):
            thing.destroy() if hasattr(thing, "destroy") else thing.close()
    return run


def in_turn(run: Run, pattern: str, rows: tuple[np.ndarray, np.ndarray, np.ndarray],
            sweep: Callable[[np.ndarray, bool], Any]) -> None:
    """`sweep(y, transposed)` in place and PETSc's solve of the same columns, sample by sample in one process."""
    from petsc4py import PETSc

    n = run.rows
    matrix = PETSc.Mat().createAIJWithArrays((n, n), rows, comm=PETSc.COMM_SELF)
    pc = factored(matrix)
    factor = pc.getFactorMatrix()
    for columns in (1, 4):
        b = run.right_hand_side(columns)
        given = PETSc.Mat().createDense((n, columns), array=np.asfortranarray(b), comm=PETSc.COMM_SELF)
        solved = given.duplicate()
        right, left = (np.asfortranarray(b), np.empty_like(b, order="F"))
        vectors = [tuple(PETSc.Vec().createWithArray(block[:, k], comm=PETSc.COMM_SELF) for block in (right, left))
                   for k in range(columns)]

        def forward(given: Any = given, solved: Any = solved, vectors: Any = vectors) -> None:
            factor.solve(*vectors[0]) if len(vectors) == 1 else factor.matSolve(given, solved)

        def transposed(vectors: Any = vectors) -> None:
            for pair in vectors:
                factor.solveTranspose(*pair)

        for direction, theirs in (("forward", forward), ("transposed", transposed)):
            b = b[:, 0] if columns == 1 and b.ndim == 2 else b
            y = b.copy()
            ours, other = [], []
            found = solved.getDenseArray() if columns > 1 and direction == "forward" else left
            began = time.perf_counter()
            while len(ours) < run.settings["repeats"] and (
                    not ours or time.perf_counter() - began < 2 * run.settings["budget"]):
                y[...] = b
                ours.append(timed(lambda y=y, d=direction: sweep(y, d == "transposed"), time.process_time)[0])
                found[...] = 0.0
                other.append(timed(theirs, time.process_time)[0])
            if not np.allclose(y.reshape(n, columns), found, rtol=1e-10, atol=1e-10 * np.abs(y).max()):
                raise RuntimeError(f"PETSc and distdiff differ: {pattern}, {direction}, {columns} right-hand sides")
            for method, seconds in (("distdiff", ours), ("PETSc", other)):
                case = f"{pattern}, {direction}, {columns} rhs: {method}, in turn"
                run.figures.append(figure(case, seconds, n, "row", turn=f"{pattern} {direction} {columns}",
                                          method=method))
        for thing in (given, solved, *(vector for pair in vectors for vector in pair)):
            thing.destroy()
    pc.destroy()
    matrix.destroy()


def reads(settings: dict[str, Any]) -> Run:
    """What the scattered pattern's reads alone take, nothing depending on anything."""
    import numba

    @numba.njit(fastmath=True)
    def add_up(columns, y):
        s = 0.0
        for j in columns:
            for k in range(y.shape[1]):
                s += y[j, k]
        return s

    run = Run(settings)
    indptr, indices, _ = rows_of("scattered", run.rows, settings["width"])
    columns = np.delete(indices, indptr[1:] - 1).astype(np.uint32)  # without the diagonal
    for m in COLUMNS:
        y = run.right_hand_side(m)
        seconds = per_call(lambda y=y: add_up(columns, y), settings["repeats"], settings["budget"])
        run.figures.append(figure(f"scattered, {m} rhs: reads alone", seconds, run.rows, "row"))
    return run


TOOLS = {"petsc": petsc, "distdiff": distdiff, "reads": reads}
