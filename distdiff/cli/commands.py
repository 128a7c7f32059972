"""What the commands do, on all ranks.

What a command needs is imported when it runs, so `--help` and the small ones start at once.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np

from ..errors import InputError
from .inputs import choose_argnums, load_arguments, load_function, split_option, write_npz


def run(arguments: argparse.Namespace, comm: Any) -> int:
    """Run the command that the arguments name; returns the exit status, the same on every rank.  Collective."""
    return {"warm": _warm, "calibrate": _calibrate, "plan": _plan, "coverage": _coverage, "serve": _serve}.get(
        arguments.command, _of_function)(arguments, comm)


def _of_function(arguments: argparse.Namespace, comm: Any) -> int:
    from ..comm import on_root
    from ..linearization import linearize
    from ..stages import Heartbeat, Stages
    from ..storage import require_place

    f: Callable[..., Any] = _elsewhere
    args: tuple[Any, ...] = ()

    def load() -> tuple[int, ...]:
        nonlocal f, args
        f = load_function(arguments.function, arguments.rules)
        names, args = load_arguments(f, arguments.input)
        written = getattr(arguments, "output", None) or getattr(arguments, "html", None)
        if written:
            require_place(written)  # before the work, which may take long
        return choose_argnums(names, args, arguments.wrt)

    argnums = on_root(comm, load)
    assert argnums is not None
    if arguments.command == "trace":
        return _trace(arguments, comm, f, args, argnums)
    if arguments.command == "plot":
        from ..pictures import require_suffix

        require_suffix(arguments.output)
        if arguments.ranks is not None:
            return _planned(arguments, comm, f, args, argnums)
    options = on_root(comm, lambda: dict(split_option(text) for text in arguments.option))
    stages = Stages()
    quiet = arguments.quiet or comm.rank != 0
    with nullcontext() if quiet else Heartbeat(stages):
        with linearize(f, *args, argnums=argnums, method=arguments.method, partition=arguments.partition, comm=comm,
                       on_failure=arguments.on_failure, preaccumulate=not arguments.full_system, options=options,
                       stages=stages) as lin:
            if arguments.command == "grad":
                return _grad(arguments, lin, f, args, argnums)
            if arguments.command == "report":
                text = lin.report(assemble=not arguments.no_assemble, check=arguments.measure)
                if arguments.html:
                    _page(arguments, lin, text)
                if comm.rank == 0 and (arguments.json or not arguments.html):
                    print(json.dumps(text.to_dict(), indent=2) if arguments.json else text)
                return 0
            if arguments.command == "plot":
                with stages(f"the picture {arguments.kind}"):
                    picture = lin.plot(arguments.kind, arguments.output, dark=arguments.dark)
                if comm.rank == 0:
                    print(f"{arguments.output}: {picture.caption}")
                return 0
            return _check(arguments, lin, f, args, argnums)


def _page(arguments: argparse.Namespace, lin: Any, report: Any) -> None:
    """The report as a page, with all pictures; what is said of it is kept apart from JSON that is asked for too."""
    from ..comm import on_root
    from ..pictures import KINDS, take
    from ..pictures.page import page
    from ..storage import replacing

    subject = lin.subject()
    pictures = []
    for kind in KINDS:
        with lin.stages(f"the picture {kind}"):
            pictures.append(take(subject, kind))

    def write() -> None:
        content = page(arguments.function, report, pictures).encode()
        with replacing(arguments.html) as stream:
            stream.write(content)
        print(f"{arguments.html}: {len(content):,} bytes, with {len(pictures)} pictures",
              file=sys.stderr if arguments.json else sys.stdout)

    on_root(lin.comm, write)


def _planned(arguments: argparse.Namespace, comm: Any, f: Callable[..., Any], args: tuple[Any, ...],
             argnums: tuple[int, ...]) -> int:
    """A partition on ranks that nobody has: on rank 0."""
    from ..comm import on_root
    from ..pictures import take_planned
    from ..program import record

    if arguments.kind != "partition" or arguments.ranks < 1:
        raise InputError(f"--ranks {arguments.ranks} --kind {arguments.kind}: only partitions are drawn for ranks that "
                         "are not there, one or more; start other pictures under mpirun")

    def draw() -> None:
        picture = take_planned(record(f, args, argnums=argnums).tape, arguments.ranks, arguments.partition)
        picture.save(arguments.output, dark=arguments.dark)
        print(f"{arguments.output}: {picture.caption}")

    on_root(comm, draw)
    return 0


def _calibrate(arguments: argparse.Namespace, comm: Any) -> int:
    from ..comm import on_root
    from ..machine import current

    if arguments.show:
        if comm.rank == 0:
            print("\n".join(f"{name:<32}{value}" if isinstance(value, str) else f"{name:<32}{value:.3g}"
                            for name, value in current().to_dict().items()))
        return 0
    from ..calibration import calibrate, save
    from ..stages import Heartbeat, Stages

    stages = Stages()
    with nullcontext() if comm.rank else Heartbeat(stages):
        found = calibrate(comm, stages)

    def keep() -> None:
        print(found)
        print(f"\nkept in {save(found.machine)}")

    on_root(comm, keep)
    return 0


def _plan(arguments: argparse.Namespace, comm: Any) -> int:
    """On rank 0; nothing here takes more than one."""
    from ..comm import on_root
    from ..planning import plan
    from ..program import record
    from ..stages import Heartbeat, Stages

    try:
        ranks = [int(text) for text in arguments.ranks.split(",")]
    except ValueError:
        ranks = []
    columns = int(arguments.columns) if arguments.columns.isdecimal() else arguments.columns
    if not ranks or min(ranks) < 1 or columns not in ("jacobian",) and not (isinstance(columns, int) and columns > 0):
        raise InputError(f"--ranks {arguments.ranks} --columns {arguments.columns}: give positive numbers, such as "
                         "--ranks 2,16,128 --columns 20 (or --columns jacobian)")
    stages = Stages()

    def work() -> None:
        f = load_function(arguments.function, arguments.rules)
        names, args = load_arguments(f, arguments.input)
        with stages("trace"):
            tape = record(f, args, argnums=choose_argnums(names, args, arguments.wrt)).tape
        with stages("partition"):
            found = plan(tape, ranks, columns, strategy=arguments.partition)
        print(json.dumps(found.to_dict(), indent=2) if arguments.json else found)

    with nullcontext() if arguments.quiet or comm.rank != 0 else Heartbeat(stages):
        on_root(comm, work)
    return 0


def _coverage(arguments: argparse.Namespace, comm: Any) -> int:
    from ..comm import on_root
    from ..coverage import text

    def work() -> int:
        found = text(arguments.pattern)
        print(found or f"there is no function {arguments.pattern!r} in NumPy or SciPy",
              file=sys.stdout if found else sys.stderr)
        return 0 if found else 1

    return on_root(comm, work)


def _warm(arguments: argparse.Namespace, comm: Any) -> int:
    from ..warm import warm

    began = time.perf_counter()
    missing = warm(comm)
    if comm.rank == 0:
        print(f"{len(missing)} loops compiled in {time.perf_counter() - began:.1f} s; all others were there")
    return 0


def _serve(arguments: argparse.Namespace, comm: Any) -> int:
    from ..service.server import run

    return run(arguments, comm)


def _elsewhere(*args: Any) -> Any:
    raise RuntimeError("the function runs on rank 0 only")


def _grad(arguments: argparse.Namespace, lin: Any, f: Callable[..., Any], args: tuple[Any, ...],
          argnums: tuple[int, ...]) -> int:
    from ..comm import on_root

    if np.shape(lin.value) != () or isinstance(lin.value, (tuple, list, dict)):
        raise InputError(f"{arguments.function} returns {type(lin.value).__name__} of shape {np.shape(lin.value)}, "
                         "and a gradient is of one number: return a sum or a loss")
    gradients = lin.vjp(1.0)

    def write() -> None:
        names = list(inspect.signature(f).parameters)
        write_npz(arguments.output, {"value": lin.value} | {names[k]: g for k, g in zip(argnums, gradients)})
        sizes = ", ".join(f"{names[k]} {np.shape(g)}" for k, g in zip(argnums, gradients))
        print(f"{arguments.function} = {float(lin.value):.15g}; gradient with respect to {sizes} in {arguments.output}")

    on_root(lin.comm, write)
    return 0


def _trace(arguments: argparse.Namespace, comm: Any, f: Callable[..., Any], args: tuple[Any, ...],
           argnums: tuple[int, ...]) -> int:
    from ..comm import on_root
    from ..drivers import trace

    def write() -> None:
        tape = trace(f, *args, argnums=argnums)
        tape.save(arguments.output, point=tuple(args[k] for k in argnums))
        print(f"{arguments.function}: {tape.lines:,} flattened lines in {os.path.getsize(arguments.output):,} bytes, a "
              f"function of {', '.join(tape.names or ())}, in {arguments.output}")

    on_root(comm, write)
    return 0


def _check(arguments: argparse.Namespace, lin: Any, f: Callable[..., Any], args: tuple[Any, ...],
           argnums: tuple[int, ...]) -> int:
    """Both tests on the differentiated parameters taken together as one nested argument."""
    from ..testing import dot_product_test, taylor_test

    def of_one(moving: tuple[Any, ...]) -> Any:
        every = list(args)
        for k, value in zip(argnums, moving):
            every[k] = value
        return f(*every)

    comm = lin.comm
    point = comm.bcast(tuple(args[k] for k in argnums) if comm.rank == 0 else None, root=0)
    results = [taylor_test(of_one, point, seed=arguments.seed, comm=comm, method=arguments.method),
               dot_product_test(of_one, point, seed=arguments.seed, comm=comm, method=arguments.method)]
    if comm.rank == 0:
        print(*results, sep="\n")
    return 0 if all(result.passed for result in results) else 1
