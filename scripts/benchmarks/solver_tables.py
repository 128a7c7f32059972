"""The table of `solvers`: what each method took, what `auto` picked, and how far that is from the best."""
from __future__ import annotations

import statistics
from typing import Any

SHARE = 0.9  # of the jobs in which auto is to be ...
NEAR = 1.2  # ... within this factor of the best
SHOWN = 4  # methods a row, quickest first


def ratio(figure: dict[str, Any]) -> float:
    """What auto picked over the best, by least seconds; infinite where it was not even run."""
    least = {name: min(taken) for name, taken in figure["samples"].items() if taken}
    return least.get(figure["picked"], float("inf")) / min(least.values())


def noise(figure: dict[str, Any]) -> bool:
    """Whether what auto picked and the best can't be told apart: their runs' least and median overlap."""
    samples = figure["samples"]
    least = {name: min(taken) for name, taken in samples.items() if taken}
    best = min(least, key=lambda name: least[name])
    return figure["picked"] in least and least[figure["picked"]] <= statistics.median(samples[best])


def share(figures: list[dict[str, Any]]) -> float | None:
    """The share of jobs within NEAR of the best."""
    return sum(ratio(f) <= NEAR for f in figures) / len(figures) if figures else None


def _foreseen(figures: list[dict[str, Any]]) -> str:
    """How far from what was predicted the picks' seconds are."""
    found = sorted(f["predicted"][f["picked"]] / min(f["samples"][f["picked"]])
                   for f in figures if f["samples"].get(f["picked"]))
    least, *quarters, most = (found[round(q * (len(found) - 1))] for q in (0.0, 0.25, 0.5, 0.75, 1.0))
    middle = ", ".join(f"{q:.2f}" for q in quarters)
    twice = sum(0.5 <= each <= 2.0 for each in found) / len(found)
    return (f"what auto took was predicted as {middle} times what it took (quartiles; {least:.2f} to {most:.2f}), "
            f"within a factor of two in {100 * twice:.0f} % of the jobs")


def print_solvers(benchmark: dict[str, Any], seconds_text: Any, print_table: Any) -> None:
    """One row a job."""
    print("\nsolvers: seconds of each job, its set-up included, predicted in brackets; auto is to be within "
          f"{NEAR:g} of the best")
    for result in benchmark["results"]:
        if result["error"]:
            print(f"  {result['tool']} on {result['ranks']} ranks failed: {result['error']}")
            continue
        rows = []
        for f in result["figures"]:
            least = sorted((min(taken), name) for name, taken in f["samples"].items() if taken)
            cells = [f"{name} {seconds_text(t)} ({seconds_text(f['predicted'][name])})" for t, name in least[:SHOWN]]
            r = ratio(f)
            mark = "" if r <= NEAR else "equal within noise" if noise(f) else "MISSED"
            rows.append([f["structure"], f"{f['columns']} {f['direction']}", f["picked"], f"{r:.2f}", mark,
                         *cells, *[""] * (SHOWN - len(cells))])
        print(f"\n  {result['tool']}, {result['ranks']} rank{'s' * (result['ranks'] > 1)}")
        print_table(["structure", "right-hand sides", "auto", "/ best", "", "methods, quickest first",
                     *[""] * (SHOWN - 1)], rows, 3)
        ratios = sorted(ratio(f) for f in result["figures"])
        missed = [f for f in result["figures"] if ratio(f) > NEAR]
        print(f"  {100 * share(result['figures']):.0f} % of {len(ratios)} jobs within {NEAR:g} of the best; of the "
              f"{len(missed)} others {sum(noise(f) for f in missed)} equal within noise; median "
              f"{statistics.median(ratios):.2f}, worst {ratios[-1]:.2f}")
        print(f"  {_foreseen(result['figures'])}")
        worst = max(f["difference"] for f in result["figures"])
        print(f"  largest difference between two methods' results: {worst:.1e} of the largest entry")
