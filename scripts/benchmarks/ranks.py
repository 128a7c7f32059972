"""Ranks: wide programs, of arrays and of scalars, the grid program, and a large equation on one rank and two, each on
a core of its own.

"evaluate + solve" is the gradient at another point with the tape at hand: the values recomputed where they live,
halos exchanged, the adjoint swept. It is what falls with the number of ranks; tracing stays on rank 0 and is shown
apart. A one-shot gradient is `dd.grad` from scratch, which further ranks should at least not slow down. Beside every
program stands what two ranks could come to: the same program on half the elements (cells, images, particles), on each
rank by itself, both at once. Compiled loops are loaded before: a program does that by itself once it has computed for
about as long as that takes, which small ones do only after several gradients.
"""
from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from delays import delays
from measure import Figure, figure

Program = tuple[Callable[[Any], Any], np.ndarray]


class Run:
    """Collects the figures and the gradient of one program on this many ranks; rank 0's are kept."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from mpi4py import MPI

        self.comm = MPI.COMM_WORLD
        self.root = self.comm.rank == 0
        self.settings = settings
        self.figures: list[Figure] = []
        self.gradients: dict[str, np.ndarray] = {}

    def seconds(self, call: Callable[[], Any], asleep: bool = False) -> float:
        """Wall-clock seconds from a common start until the last rank is done.  asleep: those that wait use no core."""
        self.comm.Barrier()
        start = time.perf_counter()
        call()
        taken = time.perf_counter() - start
        done = self.comm.Ibarrier()
        while not done.Test():
            if asleep:
                time.sleep(1e-3)
        return max(self.comm.allgather(taken))

    def samples(self, call: Callable[[], Any]) -> list[float]:
        """Timings until there are enough or the budget is spent; rank 0 decides, so that all stop together."""
        taken: list[float] = []
        more = True
        while more:
            taken.append(self.seconds(call))
            more = self.comm.bcast(len(taken) < self.settings["repeats"] and sum(taken) < self.settings["budget"])
        return taken


def _program(settings: dict[str, Any], name: str, made: Callable[[float], Program]) -> Run:
    """Traces a program and times the gradient again at other points.

    made(part): (function, x), the program on that part of its elements.
    """
    import distdiff as dd
    from distdiff.warm import warm

    run = Run(settings)
    comm = run.comm
    function, x = made(1.0)
    held: list[Any] = []
    traced = run.seconds(lambda: held.append(dd.linearize(function, x)))
    with held.pop() as lin:
        first = run.seconds(lambda: run.gradients.__setitem__(name, np.asarray(lin.vjp(1.0)).copy()))
        before = dict(lin.report().times)
        lines = lin.report().lines
        run.figures.append(figure(f"{name}: trace and linearize", [traced], lines, "line", role="trace",
                                  ranks=comm.size, stages=before))
        run.figures.append(figure(f"{name}: first gradient", [first], lines, "line", role="first", ranks=comm.size))
        warm(comm)
        again = _replayed(lin, x)
        before = dict(lin.report().times)
        seconds = run.samples(again)
        report = lin.report()
        stages = {stage: (total - before.get(stage, 0.0)) / len(seconds) for stage, total in report.times.items()}
        run.figures.append(figure(f"{name}: evaluate + solve", seconds, lines, "line", role="again", ranks=comm.size,
                                  method=report.method, k_star=report.k_star, messages=report.messages,
                                  halo=report.halo, balance=report.balance, stages=stages))
        run.figures.append(figure(f"{name}: solve alone", run.samples(lambda: lin.vjp(1.0)), lines, "line",
                                  role="solve", ranks=comm.size))
        if comm.size > 1:
            if report.messages:
                _superstep(run, name, function, [x, x * 1.001 + 1e-6], report.k_star)
            _in_turns(run, name, lines, again, (function, x), made(1.0 / comm.size))
        else:
            primal = [run.seconds(lambda: function(x)) for _ in range(3)]
            run.figures.append(figure(f"{name}: NumPy primal", primal, lines, "line", role="primal", ranks=1))
    once = [run.seconds(lambda: dd.grad(function)(x)) for _ in range(3)]
    run.figures.append(figure(f"{name}: one-shot gradient", once, lines, "line", role="once", ranks=comm.size))
    return run


class Clocks:
    """When a pass packs, sends, waits and unpacks, exchange by exchange; the rest computes.

    starts : of every exchange of this rank, when it began to pack, when its messages left, when that was done
    finishes : ... when it began to wait, when all messages were there, when they were unpacked
    agreeing : seconds of the agreements at the ends of passes

    The processes of one machine share the clock.
    """

    def __init__(self) -> None:
        self.starts: list[list[float]] = []
        self.finishes: list[list[float]] = []
        self.agreeing = 0.0
        self._open: list[float] | None = None  # moments of the exchange that is being started or finished

    def clear(self) -> None:
        self.starts, self.finishes, self.agreeing = [], [], 0.0

    def __enter__(self) -> Clocks:
        from distdiff.channels import Messages
        from distdiff.partition.local import Exchange

        self._kept = [(Messages, "start", Messages.start), (Messages, "finish", Messages.finish),
                      (Exchange, "starter", Exchange.starter), (Exchange, "finisher", Exchange.finisher)]
        Messages.start, Messages.finish = self._sending(Messages.start), self._waiting(Messages.finish)
        Exchange.starter = self._bound(Exchange.starter, lambda: self.starts)
        Exchange.finisher = self._bound(Exchange.finisher, lambda: self.finishes)
        return self

    def __exit__(self, *exc: object) -> None:
        for owner, name, function in self._kept:
            setattr(owner, name, function)

    def _sending(self, start: Callable[[Any], None]) -> Callable[[Any], None]:
        def timed(messages: Any) -> None:
            if self._open is not None:
                self._open.append(time.perf_counter())  # a message may be there before `start` is done
            start(messages)
        return timed

    def _waiting(self, finish: Callable[[Any], None]) -> Callable[[Any], None]:
        def timed(messages: Any) -> None:
            began = time.perf_counter()
            finish(messages)
            ended = time.perf_counter()
            if self._open is not None:
                self._open += [began, ended]
            else:
                self.agreeing += ended - began
        return timed

    def _bound(self, bind: Callable[..., Any], kept: Callable[[], list[list[float]]]) -> Callable[..., Any]:
        def timed(*arguments: Any, **more: Any) -> Callable[[], None]:
            call = bind(*arguments, **more)
            return lambda: self._noted(call, kept())
        return timed

    def _noted(self, call: Callable[[], None], kept: list[list[float]]) -> None:
        self._open = [time.perf_counter()] if kept is self.starts else []
        call()
        kept.append([*self._open, time.perf_counter()])
        self._open = None

    def parts(self, total: float, others: list[list[list[float]]]) -> tuple[float, float, float, float]:
        """Seconds that a pass of `total` computed, packed and unpacked, waited for messages, and for other ranks to
        send or to be done.  others: the `starts` of the ranks whose messages come, exchange by exchange the same."""
        packing = sum(end - begin for begin, _, end in self.starts) + sum(end - there for _, there, end in
                                                                           self.finishes)
        flying = late = 0.0
        for k, (began, there, _) in enumerate(self.finishes):
            left = max((starts[k][1] for starts in others), default=began)
            late += min(max(left - began, 0.0), there - began)
            flying += there - min(max(began, left), there)
        return total - packing - flying - late - self.agreeing, packing, flying, late + self.agreeing


def _superstep(run: Run, name: str, function: Callable[[Any], Any], points: list[np.ndarray], supersteps: int) -> None:
    """What a superstep of one evaluation and one solve is made of, on the rank with most of each.

    A rank that waits before the other has sent waits for its computing, from then on for the message.
    """
    import distdiff as dd

    parts: dict[str, list[float]] = {}
    with Clocks() as clocks, dd.linearize(function, points[0]) as lin:
        for k in range(run.settings["repeats"] + 2):
            clocks.clear()

            def again(k: int = k) -> None:
                lin.update(points[k % 2])
                lin.vjp(1.0)

            total = run.seconds(again)
            starts = run.comm.allgather(clocks.starts)
            compute, pack, wait, late = zip(*run.comm.allgather(
                clocks.parts(total, starts[:run.comm.rank] + starts[run.comm.rank + 1:])))
            if k > 1:  # the first binds and allocates
                for what, taken in (("computes", max(compute)), ("packs, starts and unpacks", max(pack)),
                                    ("waits for messages", max(wait)), ("waits for the other rank", max(late))):
                    parts.setdefault(what, []).append(taken)
    for what, seconds in parts.items():
        run.figures.append(figure(f"{name}: a superstep {what}", seconds, 2 * supersteps, "superstep",
                                  role="superstep", ranks=run.comm.size))


def _in_turns(run: Run, name: str, lines: int, together: Callable[[], None], whole: Program, part: Program) -> None:
    """The program on all ranks; all of it on rank 0, while the others sleep; a rank's part of its elements on each
    rank by itself, all at once; and each rank's share of the program, where it waits for nobody: in turns, so that what
    else the machine does meets all alike.

    Parts are what ranks can gain.  They share caches and memory's bandwidth, and a statement's dispatch takes as long
    as ever, but they send no messages, wait for nobody and compute nothing twice.  Shares pack, unpack and compute all
    that they do together; what together takes beyond is waiting.
    """
    from mpi4py import MPI

    import distdiff as dd

    comm = run.comm
    with contextlib.ExitStack() as held:
        alone = _replayed(held.enter_context(dd.linearize(*whole, comm=MPI.COMM_SELF)), whole[1]) if run.root else None
        lin = held.enter_context(dd.linearize(*part, comm=MPI.COMM_SELF))
        units = {"alone": lines, "turns": lines, "parts": lin.report().lines * comm.size, "shares": lines}
        calls = {"alone": alone or (lambda: None), "turns": together, "parts": _replayed(lin, part[1])}
        with _waiting_for_nobody():
            held_share = held.enter_context(dd.linearize(*whole))
            calls["shares"] = _replayed(held_share, whole[1])
        taken: dict[str, list[float]] = {role: [] for role in calls}
        for k in range(run.settings["repeats"] + 2):
            for role, call in calls.items():
                seconds = run.seconds(call, asleep=role == "alone")
                if k > 1:
                    taken[role].append(seconds)
        more = _operands(held_share) / max(_operands(lin), 1)
    for role, what in (("alone", "on one rank"), ("turns", "on all ranks"), ("parts", "parts by themselves, at once"),
                       ("shares", f"ranks' shares, waiting for nobody; {more:.2f} of a part's operands")):
        run.figures.append(figure(f"{name}, in turns: {what}", taken[role], units[role], "line", role=role,
                                  ranks=comm.size))


@contextlib.contextmanager
def _waiting_for_nobody() -> Iterator[None]:
    """What passes are bound to meanwhile are exchanges that pack and unpack: of theirs messages travel in the passes
    that are made call by call, and afterwards the last ones are unpacked again."""
    from mpi4py import MPI

    from distdiff.channels import Channel, Messages
    from distdiff.kernels.sequence import AFTER
    from distdiff.node import Words
    from distdiff.partition.local import _TAG, Exchange

    class First(Messages):
        def __init__(self, requests: list[Any]) -> None:
            super().__init__(requests, Words())
            self.left = AFTER

        @property
        def in_memory(self) -> Words | None:
            return self._words

        def start(self) -> None:
            if self.left and self._requests:
                MPI.Prequest.Startall(self._requests)

        def finish(self) -> None:
            if self.left:
                MPI.Request.Waitall(self._requests)
                self.left -= 1

    class Loose(Channel):
        def __init__(self, exchange: Exchange, comm: Any) -> None:
            counts = ([(rank, len(ids)) for rank, ids in side] for side in (exchange.sends, exchange.recvs))
            super().__init__(comm, *counts, (), _TAG)
            self.forward, self.reverse = (First(messages._requests) for messages in (self.forward, self.reverse))

    usual, kept = Exchange._channel, dict[int, Loose]()

    def channel(exchange: Exchange, comm: Any, *_: Any, **__: Any) -> Loose:
        if id(exchange) not in kept:
            kept[id(exchange)] = Loose(exchange, comm)
        return kept[id(exchange)]

    Exchange._channel = channel
    try:
        yield
    finally:
        Exchange._channel = usual


def _operands(lin: Any) -> int:
    """How many numbers an evaluation and a solve of array code read and write that no tile holds, on this rank: groups
    of statements are cut at every exchange, and rows are kept for messages."""
    from distdiff.kernels import tiles

    sweep = lin._solving.solvers.get("sweep")
    if sweep is None:
        return 0
    found = sum(plan.moved for plan in sweep._plans.values())
    for call in sweep._point.values.program or ():
        if call is not None and call[0] is tiles.Bound.run:
            code = call[1][0].code
            names = np.array(tiles.NAMES)[code[:, 0]]
            operands = np.where(np.isin(names, tiles.NAMES[:12]), 2, np.where(names == "where", 3, 1))
            there = (code[:, 7] == 0) + sum((operands > k) & (code[:, 10 + 4 * k] == 0) & (code[:, 11 + 4 * k] != 0)
                                            for k in range(3))
            found += int(((code[:, 2] - code[:, 1]) * code[:, 3] * there).sum())
    return found


def _replayed(lin: Any, x: np.ndarray) -> Callable[[], None]:
    """An evaluation and a solve at another point, twice done before."""
    points, turn = [x, x * 1.001 + 1e-6], [0]

    def again() -> None:
        turn[0] ^= 1
        lin.update(points[turn[0]])
        lin.vjp(1.0)

    again(), again()
    return again


def wide(settings: dict[str, Any]) -> Run:
    """Softmax regression on the digits, repeated until there are `images` of them."""
    from distdiff.examples import digits

    def made(part: float) -> Program:
        images, labels, _, _ = digits.load()
        count = int(part * settings["images"])
        copies = -(-count // len(labels))
        return (digits.make_loss(np.tile(images, (copies, 1))[:count], np.tile(labels, copies)[:count]),
                digits.start())

    return _program(settings, "wide", made)


def samples(settings: dict[str, Any]) -> Run:
    """A loop over samples in scalar code, of seven lines each, that adds to two sums; traced by machine code."""
    import distdiff as dd

    @dd.compiled
    def loss(p: Any, n: int) -> Any:
        rate, s, q = np.exp(p[0]), 0.0, 0.0
        for k in range(n):
            t = np.sin(rate * (1e-6 * k)) * p[1]
            s = s + t * t
            q = q - t * rate
        return s * np.sqrt(s) + q

    def made(part: float) -> Program:
        n = int(part * settings["samples"]) // 7
        return lambda p: loss(p, n), np.array([0.3, 0.7])

    return _program(settings, "samples", made)


def ensemble(settings: dict[str, Any]) -> Run:
    """Pendulums in scalar code, six lines each a step, time in the outer loop: nobody reads another's state."""
    import distdiff as dd

    @dd.compiled
    def energy(p: Any, n: int, steps: int) -> Any:
        u, v = np.zeros(n), np.zeros(n)
        for i in range(n):
            u[i], v[i] = p[0] * (1.0 + 1e-5 * i), p[1] * (1.0 - 1e-5 * i)
        for _ in range(steps):
            for i in range(n):
                v[i] = v[i] - 0.01 * np.sin(u[i]) * p[2]
                u[i] = u[i] + 0.01 * v[i]
        s = 0.0
        for i in range(n):
            s = s + u[i] * u[i]
        return s

    def made(part: float) -> Program:
        n = int(part * settings["particles"])
        return lambda p: energy(p, n, settings["turns"]), np.array([0.3, 0.7, 0.9])

    return _program(settings, "ensemble", made)


def string(settings: dict[str, Any]) -> Run:
    """Masses on a string in scalar code, seven lines each a step: every one reads its neighbours."""
    return _program(settings, "string", lambda part: string_program(int(part * settings["particles"]),
                                                                    settings["turns"]))


def string_program(n: int, steps: int) -> Program:
    """... n masses, so many steps."""
    import distdiff as dd

    @dd.compiled
    def energy(p: Any, n: int, steps: int) -> Any:
        u, v = np.zeros(n), np.zeros(n)
        for i in range(n):
            u[i] = p[0] * np.sin(1e-3 * p[1] * i)
        for _ in range(steps):
            for i in range(1, n - 1):
                v[i] = v[i] + 0.1 * (u[i - 1] - 2.0 * u[i] + u[i + 1])
            for i in range(n):
                u[i] = u[i] + 0.1 * v[i]
        s = 0.0
        for i in range(n):
            s = s + u[i] * u[i]
        return s * p[2]

    return lambda p: energy(p, n, steps), np.array([0.3, 0.7, 0.9])


def grid(settings: dict[str, Any]) -> Run:
    """Shallow water on a grid large enough that arithmetic outweighs the dispatch of a statement."""
    return _flow(settings, "grid", settings["cells"], settings["steps"])


def demo_grid(settings: dict[str, Any]) -> Run:
    """The same at the size of the demo, where a statement's 6400 elements take about as long as its dispatch."""
    return _flow(settings, "demo grid", settings["demo_cells"], settings["demo_steps"])


def _flow(settings: dict[str, Any], name: str, cells: int, steps: int) -> Run:
    return _program(settings, name, lambda part: _sea(round(cells * part**0.5), steps))


def _sea(cells: int, steps: int) -> Program:
    """Shallow water on a square of so many cells a side, with gauges."""
    from distdiff.examples import flow

    sea = flow.make_sea(cells)
    gauges = flow.place_gauges(sea, count=max(4, cells**2 // 100), steps=steps, every=4)
    return flow.make_misfit(sea, gauges), 0.1 * np.random.default_rng(0).standard_normal((cells, cells))


def depths(settings: dict[str, Any]) -> Run:
    """Deep halos on two ranks: what depths 1, 2, 4 and 8 take, in turns, beside what the cost model says of each.

    Whole supersteps become one, so few programs have all four; "auto" is left to choose depth and number of ranks.
    """
    from functools import partial

    import distdiff as dd
    from distdiff import source
    from distdiff.warm import warm

    run, usual = Run(settings), source.partition
    warm(run.comm)
    for name, function, x in _grids(settings):
        lins: dict[int | None, Any] = {}
        for depth in (None, 1, 2, 4, 8):
            said: list[float] = []

            def promised(*args: Any, depth: int | None = depth, said: list[float] = said, **more: Any) -> Any:
                made = partial(usual, depth=depth)(*args, **{**more, "strategy": "axes" if depth else "auto"})
                said.append(made.promise.seconds)
                return made

            source.partition = promised
            lin = dd.linearize(function, x)
            first = run.seconds(partial(lin.vjp, 1.0))
            lins[depth] = lin
            run.figures.append(figure(f"{name}, {_depth(depth)}: first gradient", [first], lin.report().lines, "line",
                                      role="first", ranks=2, k_star=lin.report().k_star,
                                      promised=run.comm.bcast(said[0] if said else None)))
        taken: dict[int | None, list[float]] = {depth: [] for depth in lins}
        for k in range(min(settings["repeats"], 5) + 1):
            for depth, lin in lins.items():
                seconds = run.seconds(lambda lin=lin, k=k, x=x: (lin.update(x * (1.0 + 1e-3 * (k % 2))), lin.vjp(1.0)))
                if k:
                    taken[depth].append(seconds)
        for depth, lin in lins.items():
            run.figures.append(figure(f"{name}, {_depth(depth)}: evaluate + solve", taken[depth], lin.report().lines,
                                      "line", role="again", ranks=2, k_star=lin.report().k_star))
            lin.close()
    source.partition = usual
    return run


def _depth(depth: int | None) -> str:
    return f"depth {depth}" if depth else "auto"


def _grids(settings: dict[str, Any]) -> Iterator[tuple[str, Callable[[Any], Any], np.ndarray]]:
    """Programs on grids of one and two dimensions, near and far."""
    import programs

    points, steps = (20_000, 40) if settings["quick"] else (100_000, 60)
    yield f"Burgers {points}", programs.make_burgers(points, steps), programs.burgers_initial(points)

    def heat(u: Any) -> Any:
        for _ in range(24):
            around = np.roll(u, 1, 0) + np.roll(u, -1, 0) + np.roll(u, 1, 1) + np.roll(u, -1, 1)
            u = u + 0.1 * (around - 4.0 * u) * (1.0 + 0.01 * u)
        return np.sum(u * u)

    for n in (64, 256) if settings["quick"] else (64, 256, 1024):
        yield f"heat {n} x {n}", heat, np.random.default_rng(0).standard_normal((n, n))
    for cells, times in ((settings["demo_cells"], settings["demo_steps"]), (settings["cells"], settings["steps"])):
        yield f"shallow water {cells} x {cells}", *_sea(cells, times)


def overlap(settings: dict[str, Any]) -> Run:
    """Shallow water with an exchange a superstep, on two ranks whose messages are on their way ever longer."""
    return delays(Run(settings), *_sea(settings["cells"], settings["steps"]))


def equations(settings: dict[str, Any]) -> Run:
    """Nonlinear Poisson on a square, whose equation ranks share if it is large: so, and with one rank having it."""
    from distdiff.implicit import shared

    run = Run({**settings, "repeats": min(settings["repeats"], 3), "budget": settings["budget"] / 5})
    usual = shared.UNKNOWNS
    for label, least in (("shared", 1), ("one rank's", 10**9))[:run.comm.size]:
        shared.UNKNOWNS = least
        try:
            _equation(run, f"equation, {label}" if run.comm.size > 1 else "equation", settings["points"])
        finally:
            shared.UNKNOWNS = usual
    return run


def _equation(run: Run, name: str, n: int) -> None:
    import programs

    import distdiff as dd

    f, x = programs.poisson(n)
    held: list[Any] = []
    traced = run.seconds(lambda: held.append(dd.linearize(f, x)))
    with held.pop() as lin:
        first = run.seconds(lambda: run.gradients.setdefault("equation", np.asarray(lin.vjp(1.0)).copy()))
        points, turn = [x, x * 1.001], [0]

        def again() -> None:
            turn[0] ^= 1
            lin.update(points[turn[0]])
            lin.vjp(1.0)

        again()
        moved, solved = run.samples(again), run.samples(lambda: lin.vjp(1.0))
    for what, role, seconds in (("trace and linearize", "trace", [traced]), ("first gradient", "first", [first]),
                                ("evaluate + solve", "again", moved), ("solve alone", "solve", solved)):
        run.figures.append(figure(f"{name}: {what}", seconds, n * n, "unknown", role=role, ranks=run.comm.size))


def latency(settings: dict[str, Any]) -> Run:
    """What messages between two ranks cost: half a round trip of 8 bytes, and of 8 MiB."""
    run = Run(settings)
    if run.comm.size != 2:
        raise RuntimeError(f"the message test wants 2 ranks, got {run.comm.size}")
    for case, length, rounds in (("half a round trip, 8 bytes", 1, 2000), ("half a round trip, 8 MiB", 2**20, 20)):
        buffer = np.zeros(length)
        seconds = [_ping_pong(run, buffer, rounds) for _ in range(3 if settings["quick"] else 9)]
        run.figures.append(figure(case, seconds, 1, "message", role="latency", ranks=2, bytes=buffer.nbytes,
                                  gb_a_second=buffer.nbytes / statistics.median(seconds) / 1e9))
    return run


def memory(settings: dict[str, Any]) -> Run:
    """What all ranks together stream from and to memory: the bound of programs whose values don't stay in cache."""
    run = Run(settings)
    a, b, c = (np.ones(2_000_000 if settings["quick"] else 20_000_000) for _ in range(3))
    seconds = run.samples(lambda: np.multiply(a, b, out=c))
    in_all = 3 * a.nbytes * run.comm.size
    run.figures.append(figure("c = a * b, all ranks at once", seconds, in_all, "byte", role="bandwidth",
                              ranks=run.comm.size, gb_a_second=in_all / statistics.median(seconds) / 1e9))
    return run


def _ping_pong(run: Run, buffer: np.ndarray, rounds: int) -> float:
    comm = run.comm
    comm.Barrier()
    start = time.perf_counter()
    for _ in range(rounds):
        if comm.rank == 0:
            comm.Send(buffer, 1)
            comm.Recv(buffer, 1)
        else:
            comm.Recv(buffer, 0)
            comm.Send(buffer, 0)
    return (time.perf_counter() - start) / (2 * rounds)


TOOLS = {"wide": wide, "samples": samples, "ensemble": ensemble, "string": string, "grid": grid, "demo_grid": demo_grid,
         "depths": depths, "overlap": overlap, "equations": equations, "latency": latency, "memory": memory}
