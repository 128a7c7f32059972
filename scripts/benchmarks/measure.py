"""Taking times: samples and their statistics, and the physical limits of the machine in the same run.

A *figure* is a dictionary: what was timed, how many units of work it stands for, all samples in seconds, and their
median, minimum and maximum. Everything here needs NumPy only, except the triad, whose kernel is compiled with Numba.
"""
from __future__ import annotations

import mmap
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Figure = dict[str, Any]


def timed(call: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> tuple[float, Any]:
    """Seconds of one call, and its result. Garbage is left to Python's collector, as in users' programs.

    By the clock on the wall; `time.process_time` leaves out what other processes took of the core meanwhile.
    """
    start = clock()
    result = call()
    return clock() - start, result


def samples(call: Callable[[], Any], repeats: int, budget: float,
            clock: Callable[[], float] = time.perf_counter) -> list[float]:
    """Up to `repeats` timings of `call`, at least one, no new one once `budget` seconds are spent."""
    seconds: list[float] = []
    began = time.perf_counter()
    while len(seconds) < repeats and (not seconds or time.perf_counter() - began < budget):
        seconds.append(timed(call, clock)[0])
    return seconds


def per_call(call: Callable[[], Any], repeats: int, budget: float, least: float = 0.02) -> list[float]:
    """As `samples`, for calls too short for the clock: every sample is the mean of as many calls as take `least` s."""
    call()
    once = max(timed(call)[0], 1e-7)
    inner = max(1, int(least / once))

    def many() -> None:
        for _ in range(inner):
            call()

    return [seconds / inner for seconds in samples(many, repeats, budget)]


def figure(case: str, seconds: list[float], units: float, unit: str, **more: Any) -> Figure:
    """A figure: `units` (of the kind `unit`) of work were done in each of the `seconds`. `more` travels along."""
    median = statistics.median(seconds)
    return {"case": case, "units": units, "unit": unit, "median": median, "min": min(seconds), "max": max(seconds),
            "ns_per_unit": median / units * 1e9, "samples": seconds, **more}


def peak_memory_mib() -> float:
    """The largest resident set this process has had."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (2**20 if sys.platform == "darwin" else 2**10)


# -- the machine -------------------------------------------------------------------------------------------------------

def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return {"cpu": model, "cores": os.cpu_count(), "system": platform.platform(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "load_before": os.getloadavg()[0]}


class Triad:
    """STREAM triad a = b + s c on float64 arrays of `elements`: a call is one sweep.

    24 bytes an element by convention; that a's cache lines are read before they are written is not counted.
    """

    def __init__(self, elements: int) -> None:
        import numba

        @numba.njit(fastmath=True)
        def kernel(a, b, c, s):
            for i in range(a.size):
                a[i] = b[i] + s * c[i]

        self.bytes = 24.0 * elements
        self._kernel, self._arrays = kernel, (np.zeros(elements), np.ones(elements), np.ones(elements))
        self()

    def __call__(self) -> None:
        self._kernel(*self._arrays, 3.0)


def triad(elements: int, repeats: int, budget: float) -> list[float]:
    """Seconds a sweep of `Triad`."""
    return per_call(Triad(elements), repeats, budget)


def page_fault(mebibytes: int, repeats: int) -> list[float]:
    """Seconds to touch `mebibytes` of fresh memory, a byte a page: what the first write to new memory costs."""
    length = mebibytes * 2**20
    seconds = []
    for _ in range(repeats):
        fresh = mmap.mmap(-1, length)
        view = np.frombuffer(fresh, dtype=np.uint8)
        seconds.append(timed(lambda view=view: view[::mmap.PAGESIZE].fill(1))[0])
        del view
        fresh.close()
    return seconds


def limits(quick: bool) -> list[Figure]:
    """The limits that hold on one core: memory bandwidth, cache bandwidth, fresh memory, one floating-point add."""
    repeats, budget = (3, 0.5) if quick else (9, 4.0)
    large = 2**23 if quick else 2**24
    small = 2**14
    mebibytes = 64 if quick else 256
    pages = mebibytes * 2**20 // mmap.PAGESIZE
    x, y, z = np.ones(100_000), np.ones(100_000), np.ones(100_000)
    return [
        figure("STREAM triad, memory", triad(large, repeats, budget), 24.0 * large, "byte"),
        figure("STREAM triad, cache (384 KiB)", triad(small, repeats, budget), 24.0 * small, "byte"),
        figure("NumPy multiply(a, b, out=c), 1e5 elements",
               per_call(lambda: np.multiply(x, y, out=z), repeats, budget), 1e5, "element"),
        figure("NumPy a * b into fresh memory, 1e5 elements",
               per_call(lambda: x * y, repeats, budget), 1e5, "element"),
        figure("first touch of fresh memory", page_fault(mebibytes, repeats), pages, "page"),
        figure("a chain of dependent multiply-adds", chain(repeats, budget), 1e6, "operation"),
    ]


def chain(repeats: int, budget: float) -> list[float]:
    """The latency bound of any sweep over a chain: each operation waits for the one before."""
    import numba

    @numba.njit
    def kernel(count, x, a, b):
        for _ in range(count):
            x = x * a + b
        return x

    return per_call(lambda: kernel(1_000_000, 1.0, 0.5, 0.25), repeats, budget)
