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
        worst = max(f["difference"] for f in result["figures"])
        print(f"  largest difference between two methods' results: {worst:.1e} of the largest entry")
