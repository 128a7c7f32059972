"""Measures the resident service: what batching gains, what a request costs, whether memory stays.

    scripts/bench service [--quick] [--ranks P] [--json FILE]

Servers are started on the loopback address; clients are threads of two other processes.  Requests are solved in
batches, one by one (by the method that pays for as many as come), and each alone, as if no other came, in turn, by the
same clients over the same connections: 1000 requests in batches, shares of that otherwise, once the first of them have
set up what solves; figures with that set-up stand beside.  So does what the service and HTTP take on this machine
whatever is solved, clients included: requests for as many numbers from a system of one line a number; and what a
request takes all ranks in processor time, HTTP included, which holds on a busy machine as well.  Where a solve costs
less than a request batching has nothing to gain.  At the end stand the figures that are to be kept, each with its
limit, after 1 to 3 minutes.  The exit status is 1 if an answer differs from a local one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import distdiff as dd

TOLERANCE = 1e-11  # of an answer's largest entry: methods add in orders of their own
CLIENTS, PROCESSES = 64, 2
FIRST = 2 * CLIENTS  # requests in which a way sets up what it solves with
LEAST, OVERHEAD, GROWN = 5.0, 5e-3, 1 << 20  # times as many requests as each alone, seconds, bytes: what is to be kept
ROUNDS = 2  # in which the ways are asked in turn, so that whatever else the machine does meets all alike


def burgers(u: np.ndarray, steps: int) -> np.ndarray:
    """Time steps of Burgers' equation on a ring."""
    for _ in range(steps):
        left, right = np.roll(u, 1), np.roll(u, -1)
        u = u - 0.1 * u * (right - left) + 0.2 * (left - 2 * u + right)
    return u


def doubled(u: np.ndarray) -> np.ndarray:
    """What costs nothing to solve."""
    return 2.0 * u


@dd.compiled
def network(u: np.ndarray, steps: int) -> np.ndarray:
    """500 numbers that read each other in turn, 4 scalar rows a number and step."""
    s = np.zeros(500)
    for i in range(500):
        s[i] = u[i]
    for k in range(steps):
        for i in range(500):
            s[i] = 0.9 * s[i] + 0.1 * np.sin(s[(i * 7 + k * 13 + 1) % 500])
    return s


PROGRAMS = {"arrays": (burgers, 1000), "scalars": (network, 500)}
WAYS = {  # by name: options of the server, settings of linearize, and the share of requests that is enough
    "batched": ((), {}, 1),
    "one by one": (("--max-batch", "1"), {}, 2),
    "each alone": (("--max-batch", "1"), {"method": "sweep"}, 4),  # which is best where one right-hand side comes
}


def seeds(n: int, first: int, stop: int) -> np.ndarray:
    return np.stack([np.random.default_rng(k).standard_normal(n) for k in range(first, stop)])


class Server:
    """`distdiff serve`, in a `with`."""

    def __init__(self, folder: Path, ranks: int, *options: str) -> None:
        words = [sys.executable, "-m", "distdiff.cli", "serve", "--port", "0", "--token-file", "token", *options]
        if ranks > 1:
            words = [shutil.which("mpirun") or "mpirun", "-n", str(ranks), *words]
        self.token = folder / "token"
        # Python's copy of the environment, without what MPI has put into this process's since.
        self.process = subprocess.Popen(words, cwd=folder, text=True, stdout=subprocess.PIPE, env=dict(os.environ))
        assert self.process.stdout is not None
        found = next((m for line in self.process.stdout if (m := re.search(r" at (http\S+);", line))), None)
        if found is None:
            raise RuntimeError("the service did not start")
        self.url = found[1]

    def connect(self) -> Any:
        return dd.connect(self.url, self.token)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.terminate()
        self.process.wait(60)


def ask(url: str, token: str, system: str, first: int, stop: int, clients: int, output: str) -> None:
    """A process of clients: threads that ask one request after another, when a line comes on standard input."""
    with dd.connect(url, Path(token)) as client:
        n = client.attach(system).described["result"]["shapes"][0][0]
        mine, answers = seeds(n, first, stop), np.empty((stop - first, n))
        places = iter(range(stop - first))
        lock = threading.Lock()
        remotes = [dd.connect(url, Path(token)).attach(system) for _ in range(clients)]

        def work(remote: Any) -> None:
            while True:
                with lock:
                    k = next(places, None)
                if k is None:
                    return
                answers[k] = remote.product("vjp", mine[k])

        threads = [threading.Thread(target=work, args=(remote,)) for remote in remotes]
        print("ready", flush=True)
        sys.stdin.readline()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("done", flush=True)
        np.save(output, answers)


def throughput(folder: Path, server: Server, system: str, requests: int) -> tuple[float, np.ndarray]:
    """Requests a second of all clients together, and the answers."""
    each = requests // PROCESSES
    outputs = [folder / f"answers{k}.npy" for k in range(PROCESSES)]
    crowd = [subprocess.Popen([sys.executable, __file__, "--ask", server.url, str(server.token), system,
                               str(k * each), str((k + 1) * each), str(CLIENTS // PROCESSES), str(output)], text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) for k, output in enumerate(outputs)]
    for process in crowd:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    began = time.perf_counter()
    for process in crowd:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in crowd:
        assert process.stdout is not None and process.stdout.readline() == "done\n"
    seconds = time.perf_counter() - began
    for process in crowd:
        process.wait(60)
    return each * PROCESSES / seconds, np.concatenate([np.load(output) for output in outputs])


def metric(client: Any, name: str) -> list[float]:
    return [float(line.rpartition(" ")[2]) for line in client.metrics().splitlines() if line.startswith(name)]


def batching(folder: Path, ranks: int, name: str, sizes: tuple[int, ...], requests: int) -> dict[str, Any]:
    """Requests a second of one system, by how they are solved; and how far answers are from local ones."""
    f, points = PROGRAMS[name]
    u = 0.5 + 0.4 * np.sin(np.arange(points) * 0.1)
    rates: dict[str, list[float]] = {}
    answers = []

    def counts(client: Any, remote: Any) -> np.ndarray:
        remote.report()  # ranks then look at their processor time
        return np.array([sum(metric(client, f"distdiff_{what}_total")) for what in (
            "solves", "right_hand_sides", "rank_processor_seconds")])

    with ExitStack() as running:
        services = {}
        for way, (options, settings, _) in WAYS.items():
            place = Path(tempfile.mkdtemp(dir=folder))
            server = running.enter_context(Server(place, ranks, *options))
            client = running.enter_context(server.connect())
            remote = running.enter_context(client.linearize(f, u, *sizes, **settings))
            for _ in range(3):
                remote.vjp(u)
            services[way] = place, server, client, remote
        place, server, client, _ = services["batched"]
        free = running.enter_context(client.linearize(doubled, u))
        taken, empty, first = {way: np.zeros(3) for way in WAYS}, np.zeros(3), {}
        for way, (place, server, _, remote) in services.items():
            first[way], answer = throughput(place, server, remote.id, FIRST)
            answers.append(answer)
        for _ in range(ROUNDS):
            for way, (place, server, client, remote) in services.items():
                before = counts(client, remote)
                rate, answer = throughput(place, server, remote.id, max(requests // WAYS[way][2] // ROUNDS, CLIENTS))
                taken[way] += counts(client, remote) - before
                rates.setdefault(way, []).append(rate)
                answers.append(answer)
            place, server, client, _ = services["batched"]
            before = counts(client, free)
            rates.setdefault("floor", []).append(throughput(place, server, free.id, requests // ROUNDS)[0])
            empty += counts(client, free) - before
        found: dict[str, Any] = {"name": name, "requests": requests, "rounds": rates, "first": first}
        found.update({way: float(np.median(rate)) for way, rate in rates.items()})
        found["floor, processor"] = empty[2] / empty[1]
        for way, (_, _, _, remote) in services.items():
            solves, columns, seconds = taken[way]
            report = remote.report()
            found.update({"rows": report["nodes"], f"{way}, a solve": columns / solves,
                          f"{way}, processor": seconds / columns, f"{way}, method": report["method"],
                          f"{way}, width": report["batches"]["vjp"]["reason"]})
    with dd.linearize(f, u, *sizes) as lin:
        asked = seeds(points, 0, max(map(len, answers)))
        lin.vjp(asked[0])
        began = time.perf_counter()
        local = np.stack([lin.vjp(seed) for seed in asked])
        found["solve"] = (time.perf_counter() - began) / len(asked)
    found["difference"] = max(float(np.abs(a - local[:len(a)]).max() / np.abs(local).max()) for a in answers)
    return found


def gains(found: dict[str, Any], way: str) -> list[float]:
    """What batching gained over another way in each round."""
    return [batched / other for batched, other in zip(found["rounds"]["batched"], found["rounds"][way])]


def from_the_first(found: dict[str, Any], way: str) -> float:
    """Requests a second of all that are asked, what solves being set up among them."""
    n = found["requests"]
    return float(n / (FIRST / found["first"][way] + (n - FIRST) / found[way]))


def print_batching(found: dict[str, Any]) -> None:
    print(f"{found['name']}: {CLIENTS} clients, {found['requests']} vjp requests, a system of {found['rows']:,} rows; "
          f"answers differ from local ones by at most {found['difference']:.1e} of the largest entry")
    print(f"  {'no solve':<12} {found['floor']:8.1f} requests/s of one line a number, "
          f"{1e3 * found['floor, processor']:.2f} ms of processor time each: what the service allows; a solve in a "
          f"program of one's own takes {1e3 * found['solve']:.2f} ms")
    for way in WAYS:
        print(f"  {way:<12} {found[way]:8.1f} requests/s, {found[f'{way}, a solve']:4.1f} a solve, "
              f"{1e3 * found[f'{way}, processor']:.2f} ms of processor time each, by "
              f"{found[f'{way}, method']}; batching gains {np.median(gains(found, way)):.2f} "
              f"({min(gains(found, way)):.2f} to {max(gains(found, way)):.2f}); with set-up "
              f"{from_the_first(found, way):.1f} requests/s", flush=True)
    print(f"  {found['batched, width']}", flush=True)


def small(folder: Path, ranks: int, requests: int) -> dict[str, Any]:
    """What one small request costs beyond the solve, and memory over many."""
    def f(u: np.ndarray) -> Any:
        return np.sum(burgers(u, 5) ** 2)

    x = np.linspace(0, 1, 10)
    with Server(folder, ranks) as server, server.connect() as client, client.linearize(f, x) as remote:
        def timed(work: Any, n: int) -> np.ndarray:
            taken = np.empty(n)
            for k in range(n):
                began = time.perf_counter()
                work()
                taken[k] = time.perf_counter() - began
            return taken

        timed(lambda: remote.vjp(1.0), requests // 10)
        before = metric(client, "distdiff_rank_memory_bytes")
        taken = timed(lambda: remote.vjp(1.0), requests)
        after = metric(client, "distdiff_rank_memory_bytes")
    with dd.linearize(f, x) as lin:
        lin.vjp(1.0)
        local = np.median(timed(lambda: lin.vjp(1.0), 300))
    return {"requests": requests, "median": float(np.median(taken)), "p99": float(np.quantile(taken, 0.99)),
            "local": float(local), "grown": [int(b - a) for a, b in zip(before, after)]}


def print_summary(crowd: list[dict[str, Any]], single: dict[str, Any]) -> None:
    """What the service is held to, as measured."""
    print(f"what is to be kept, {CLIENTS} clients, batches beside each alone in one run:")

    def told(what: str, measured: str, limit: str, kept: bool) -> None:
        print(f"  {what:<54} {measured:>12}   {limit:<18} {'kept' if kept else 'NOT KEPT'}")

    for found in crowd:
        rows, gain = f"{found['name']}, {found['rows']:,} rows", float(np.median(gains(found, "each alone")))
        told(f"answers beside local ones, {rows}", f"{found['difference']:.1e}", f"at most {TOLERANCE:.0e}",
             found["difference"] <= TOLERANCE)
        told(f"throughput, {rows}", f"{gain:.2f} times", f"at least {LEAST:g}", gain >= LEAST)
        whole = from_the_first(found, "batched") / from_the_first(found, "each alone")
        others = float(np.median(gains(found, "one by one")))
        print(f"    {whole:.2f} times with all set-up among the {found['requests']} requests; {others:.2f} times over "
              f"one by one, where solves that cost nothing would give {found['floor'] / found['one by one']:.2f}")
        most = found["floor"] / found["each alone"]
        least = found["each alone, processor"] / found["floor, processor"]
        if gain < LEAST:
            print(f"    batching can gain no more than solves that cost nothing: {most:.2f} times in requests, "
                  f"{least:.2f} in processor time")
    overhead, grown = single["median"] - single["local"], max(single["grown"])
    told("one small vjp beyond its solve", f"{1e3 * overhead:.2f} ms", f"below {1e3 * OVERHEAD:g} ms",
         overhead < OVERHEAD)
    told(f"memory of a rank after {single['requests']:,} more requests", f"{grown / 1e3:+.0f} kB",
         f"at most {GROWN / 1e3:.0f} kB", grown <= GROWN)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench service", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    quick = arguments.quick
    programs = {"scalars": (50,) if quick else (500,), "arrays": (20,) if quick else (150,)}
    print(f"ranks {arguments.ranks}, cores {os.cpu_count()} for server and clients", flush=True)
    crowd = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="distdiff-bench-") as folder:
        for name, sizes in programs.items():
            crowd.append(batching(Path(folder), arguments.ranks, name, sizes, 200 if quick else 1000))
            print_batching(crowd[-1])
        single = small(Path(folder), arguments.ranks, 1000 if quick else 10_000)
    overhead = single["median"] - single["local"]
    print(f"one small vjp at a time, {single['requests']} of them")
    print(f"  median {1e3 * single['median']:.2f} ms, 99 % below {1e3 * single['p99']:.2f} ms; the solve alone "
          f"{1e3 * single['local']:.2f} ms: the service costs {1e3 * overhead:.2f} ms (target 5)")
    print("  memory grew by " + ", ".join(f"{grown / 1e3:.0f} kB" for grown in single["grown"]) + " by rank")
    print_summary(crowd, single)
    print(f"  {time.monotonic() - began:.0f} s in all")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"crowd": crowd, "single": single}, indent=1), encoding="utf-8")
    return int(not all(found["difference"] <= TOLERANCE for found in crowd))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ask"]:
        url, token, system, first, stop, clients, output = sys.argv[2:]
        ask(url, token, system, int(first), int(stop), int(clients), output)
    else:
        sys.exit(main())
