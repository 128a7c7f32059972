"""A report with all its pictures as one page: no scripts, nothing fetched, light and dark, for wide and narrow screens.

Every word that comes from somewhere else (names, lines, reasons) is escaped; pictures are images, where nothing runs.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

from ..report import Report, count_text, seconds_text, size_text
from .picture import Picture

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --card: #f6f8fa; --ink: #1c2128; --muted: #59636e; --line: #d8dee4;
        --mark: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #12161c; --card: #1a2028; --ink: #e6edf3; --muted: #9aa5b1; --line: #323a44; --mark: #56b4e9; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 70rem; margin: 0 auto; padding: 1.5rem 1rem 4rem }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .6rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem }
p { margin: .4rem 0; max-width: 50rem } .muted, figcaption, dt, th { color: var(--muted) }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: .6rem; margin: 1rem 0 }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .75rem }
dt { font-size: .8rem }
dd { margin: 0; font-size: 1.1rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
.wide { overflow-x: auto } table { border-collapse: collapse; min-width: 36rem; width: 100% }
th, td { text-align: left; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-weight: 500; font-size: .85rem } td.n { font-variant-numeric: tabular-nums; white-space: nowrap }
tr.chosen td:first-child { font-weight: 600; color: var(--mark) } tr.chosen td:first-child::after { content: " \\2713" }
figure { margin: 1rem 0 2rem } figure img { width: 100%; min-width: 40rem; display: block }
figcaption { font-size: .9rem; max-width: 50rem }
pre { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem;
      font-size: .8rem }
@media print { .wide { overflow: visible } figure img { min-width: 0 } figure, tr { break-inside: avoid } }
"""

Row = tuple[bool, Sequence[str]]


def page(title: str, report: Report, pictures: Iterable[Picture]) -> str:
    """The page as text.  Draws, so it needs matplotlib; not collective."""
    facts = {
        "flattened lines": count_text(report.lines), "inputs \u2192 outputs":
        f"{count_text(report.inputs)} \u2192 {count_text(report.outputs)}", "shape": report.shape,
        "depth": count_text(report.depth), "width": count_text(report.width),
        "parallelism": f"{report.parallelism:.3g}", "ranks": str(report.ranks), "supersteps": count_text(report.k_star),
        "method": report.method, "memory a rank": size_text(report.memory_per_rank_bytes),
        "rows kept": count_text(report.rows), "entries kept": count_text(report.nnz)}
    methods: list[Row] = [
        (c.method == report.method, (c.method, "" if c.seconds is None else seconds_text(c.seconds),
                                     "" if c.seconds is None else size_text(c.memory), c.reason))
        for c in report.candidates]
    layouts: list[Row] = [
        (c["chosen"], (c["name"], seconds_text(c["job"]["seconds"]), count_text(c["k_star"]), count_text(c["messages"]),
                       count_text(c["halo"]), size_text(c["job"]["memory"]), f"{c['balance']:.2f}"))
        for c in report.partition_candidates]
    times: list[Row] = [(False, (name, seconds_text(t))) for name, t in report.times.items()]
    parts = [
        f"<h1>{escape(title)}</h1>",
        '<p class="muted">Derivatives by one sparse triangular system, (I \u2212 L) y\u0307 = x\u0307.</p>',
        _facts(facts),
        "<h2>The method, and why</h2>",
        f"<p><strong>{escape(report.method)}</strong>: {escape(report.reason)}</p>",
        _table(("method", "predicted", "memory a rank", "reason"), methods, numbers=(1, 2)),
        f"<p>Accuracy: {escape(report.accuracy)}</p>" if report.accuracy else "",
        *map(_figure, pictures),
        "<h2>Partition</h2>",
        f"<p>{escape(report.partition)} on {report.ranks} rank{'s' if report.ranks > 1 else ''}; the busiest has "
        f"{count_text(report.max_work)} lines, {report.balance:.2f} times the mean.</p>",
        _table(("partition", "a gradient", "supersteps", "messages", "halo values", "memory", "balance"), layouts,
               numbers=range(1, 7)) if layouts else "",
        "<h2>Time and memory</h2>",
        _table(("stage", "seconds, slowest rank"), times, numbers=(1,)),
        f"<p>{size_text(report.memory_per_rank_bytes)} a rank held by the linearization, "
        f"{size_text(report.peak_memory_per_rank_bytes)} peak of the process.</p>",
        f"<h2>In words</h2><pre>{escape(str(report))}</pre>",
    ]
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta http-equiv="Content-Security-Policy" '
            'content="default-src \'none\'; img-src data:; style-src \'unsafe-inline\'">'
            f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
            + "\n".join(filter(None, parts)) + "\n</main></body></html>\n")


def _facts(facts: dict[str, str]) -> str:
    return "<dl>" + "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
                            for name, value in facts.items()) + "</dl>"


def _table(head: Sequence[str], rows: Sequence[Row], numbers: Sequence[int] | range) -> str:
    body = "".join(
        f"<tr{' class=chosen' if chosen else ''}>" + "".join(
            f"<td{' class=n' if k in numbers else ''}>{escape(cell)}</td>" for k, cell in enumerate(cells)) + "</tr>"
        for chosen, cells in rows)
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return f'<div class="wide"><table><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(picture: Picture) -> str:
    light, dark = (b64encode(picture.svg(dark, words=False).encode()).decode() for dark in (False, True))
    kind = "data:image/svg+xml;base64,"
    return (f"<h2>{escape(picture.title)}</h2><figure><div class=\"wide\"><picture>"
            f'<source media="(prefers-color-scheme: dark)" srcset="{kind}{dark}">'
            f'<img src="{kind}{light}" alt="{escape(picture.caption)}"></picture></div>'
            f"<figcaption>{escape(picture.caption)}</figcaption></figure>")


__all__ = ["page"]
