"""Pictures: the counts that are drawn against counts made one by one, on any number of ranks; and drawing."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from xml.etree import ElementTree

import functions
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI
from tapes import tapes

import distdiff as dd
from distdiff import graph
from distdiff.channels import ELSEWHERE, SENT, WAITED, Messages, Timing, timed_messages
from distdiff.errors import InputError
from distdiff.examples import burgers
from distdiff.machine import Machine
from distdiff.partition import localize_all, partition
from distdiff.pictures import KINDS, Picture, ownership, take, take_planned, widths
from distdiff.pictures.page import page
from distdiff.pictures.passes import _spans, shares
from distdiff.pictures.ranks import Scaling, scaling
from distdiff.pictures.sections import sections
from distdiff.pictures.sparsity import middle, of_tape
from distdiff.tape import Const, Joint, ScalarRun
from distdiff.tracing import trace

pytestmark = pytest.mark.few_ranks

CASES = {
    "heat": (functions.heat, np.linspace(0.5, 1.5, 300)),
    "plane": (functions.plane, np.linspace(0.5, 1.5, 70)),
    "scalar": (functions.scalar_loop, np.linspace(0.9, 1.1, 6)),
    "mixed": (functions.mixed, np.linspace(0.5, 1.5, 40)),
}


def one_by_one(tape, bins):
    """I - L entry by entry, a loop over everything; (bins, bins)."""
    n = tape.n_nodes
    width = max(-(-n // bins), 1)
    found = np.zeros((-(-n // width),) * 2)

    def add(rows, columns, weight=1.0):
        for row, column in zip(np.ravel(rows).tolist(), np.ravel(columns).tolist()):
            found[row // width, column // width] += weight

    add(range(n), range(n))
    for item in tape.items:
        if isinstance(item, ScalarRun):
            for line, code in enumerate(item.op):
                for k, ref in enumerate((item.a[line], item.b[line])):
                    if ref >= 0 and graph.ACTIVE[k, code]:
                        add(tape.blocks[item.block].first + line, ref)
            continue
        if 0 in item.shape:
            continue
        out = item.out.ids(tape.blocks[item.out.block].first, item.out_shape)
        if isinstance(item, Joint):
            for k in item.active:
                columns = tape.ids(item.operands[k], item.operand_shape(k))
                weight = item.op.count(k) / max(item.op.size * int(np.prod(item.op.core_in[k])), 1)
                for index in np.ndindex(item.shape):
                    rows, core = np.ravel(out[index]), np.ravel(columns[index])
                    add(np.repeat(rows, len(core)), np.tile(core, len(rows)), weight)
            continue
        weight = len(np.unique(out)) / out.size if item.op.kind == "select" else 1.0
        for ref, partial in zip(item.operands, item.op.partials):
            if partial is not None and not isinstance(ref, Const):
                add(out, tape.ids(ref, item.shape), weight)
        if item.op.kind == "scan":
            add(out[..., 1:], out[..., :-1])
    return found


@given(tapes(), st.sampled_from([1, 3, 8, 50]))
def test_entries_are_counted_where_they_are(tape, bins):
    found = of_tape(tape, bins)
    np.testing.assert_allclose(found.count, one_by_one(tape, bins), atol=1e-9)


@given(tapes(), st.sampled_from([1, 3, 8, 50]), st.floats(0, 1), st.floats(0, 1))
def test_a_part_is_what_all_has_there(tape, bins, start, size):
    low = int(start * tape.n_nodes)
    high = low + int(size * (tape.n_nodes - low))
    every = of_tape(tape, max(tape.n_nodes, 1)).count  # an entry a bin
    found = of_tape(tape, bins, low, high)
    edges = np.append(np.arange(0, high - low, found.width), high - low)
    part = every[low:high, low:high]
    for i, j in np.ndindex(found.count.shape):
        cell = part[edges[i]:edges[i + 1], edges[j]:edges[j + 1]]
        assert found.count[i, j] == pytest.approx(cell.sum())


def test_the_closer_look_is_of_the_middle():
    tape = trace(burgers.make_misfit(1000, 40), (burgers.initial(1000),)).tape
    low, high = middle(tape)
    assert low < tape.n_nodes // 2 < high and high - low == 24_000
    tape = trace(functions.scalar_loop, (np.ones(6),)).tape
    assert middle(tape)[1] - middle(tape)[0] == 240


@pytest.mark.parametrize("shape, cut", [((40, 50), np.s_[1:-1, 1:-1]), ((30, 40), np.s_[::-2, 5:]),
                                        ((1200,), np.s_[::7]), ((6, 7, 8), np.s_[:, ::-1, 2:6])])
@pytest.mark.parametrize("bins", [2, 7, 60])
def test_boxes_of_strided_operands(shape, cut, bins):
    def f(u):
        v = u.reshape(shape)
        return v[cut] * v[cut][..., ::-1]

    tape = trace(f, (np.ones(int(np.prod(shape))),)).tape
    np.testing.assert_array_equal(of_tape(tape, bins).count, one_by_one(tape, bins))


def test_a_hundred_million_rows_take_no_time():
    tape = trace(burgers.make_misfit(1_000_000, 10), (burgers.initial(1_000_000),)).tape
    began = time.perf_counter()
    found = of_tape(tape)
    assert time.perf_counter() - began < 5.0  # microseconds a statement; a line each would take a minute
    assert found.n == tape.n_nodes > 1e8 and found.nonzeros == graph.nonzeros(tape) + tape.n_nodes


def test_sections_name_the_users_lines():
    tape = trace(functions.heat, (np.ones(37),)).tape
    found = sections(tape)
    assert found[0].start == 0 and found[-1].stop == tape.n_nodes
    assert all(a.stop == b.start for a, b in zip(found, found[1:]))
    assert found[0].label == "inputs" and "heat, functions.py:" in found[len(found) // 2].label


@given(tapes())
def test_levels_add_up(tape):
    found = widths.of_tape(tape, Machine())
    structure = graph.analyse(tape, Machine())
    assert round(float((found.nodes * np.diff(found.edges)).sum())) == tape.n_nodes
    assert (found.depth, found.width, found.path) == (structure.depth, structure.width, structure.path)
    assert found.live.max(initial=0) == found.widest == structure.live
    every, some = (widths.of_tape(tape, Machine(), bins) for bins in (max(tape.n_nodes, 1), 3))  # a cut a bin, and more
    np.testing.assert_array_equal(some.live, np.maximum.reduceat(every.live, some.places) if len(some.places) else [])
    nodes, when = found.trail
    assert (np.diff(nodes) >= 0).all() and (np.diff(when) >= -1e-12).all()
    assert not len(when) or when[-1] == pytest.approx(structure.path.span)


@given(tapes(), st.sampled_from([2, 3]))
def test_planned_layouts_are_those_that_travel(tape, ranks):
    found = ownership.planned(tape, partition(tape, ranks, strategy="axes", min_block=1))
    received = np.zeros((ranks, ranks), dtype=int)
    for rank, local in enumerate(localize_all(tape, partition(tape, ranks, strategy="axes", min_block=1))):
        for step in local.steps:
            for source, ids in step.exchange.recvs:
                received[source, rank] += len(ids)
    np.testing.assert_array_equal(found.values, received)
    assert (found.values.diagonal() == 0).all() and ((found.values > 0) == (found.messages > 0)).all()


def test_owners_follow_the_cuts():
    tape = trace(functions.heat, (np.ones(400),)).tape
    found = ownership.planned(tape, partition(tape, 4, strategy="axes", depth=1))
    assert (found.owner == np.repeat(np.arange(4), 16)[:, None]).all()
    assert found.lines.sum() == tape.lines - tape.n_inputs
    reads = sum(len(ids) for local in localize_all(tape, partition(tape, 4, strategy="axes", depth=1))
                for step in local.steps for _, ids in step.exchange.recvs)
    assert found.cut.sum() == reads  # every neighbour's value is read once here


def test_shares_of_stretches_of_time():
    spans = np.array([(1.0, 2.0, WAITED), (2.5, 2.75, SENT), (3.0, 3.25, WAITED), (3.25, 3.5, ELSEWHERE)])
    found = shares(spans, busy=3.5, seconds=4.0, bins=4)
    np.testing.assert_allclose(found, [[1, 0, 0.75, 0], [0, 0, 0.25, 0], [0, 1, 0, 0.25], [0, 0, 0, 0.25]],
                               atol=1e-12)
    np.testing.assert_allclose(shares(np.empty((0, 3)), 2.0, 4.0, 2), [[1, 0], [0, 0], [0, 0], [0, 0]])


def test_what_a_library_calls_back_is_not_its_own():
    timings = [Timing(0.5, 1.0, SENT), Timing(2.0, 3.0, SENT), Timing(4.0, 6.0, WAITED), Timing(1.5, 7.0, ELSEWHERE),
               Timing(8.0, 9.0, WAITED)]
    assert [tuple(span) for span in _spans(timings, 0.5)] == [
        (0.0, 0.5, SENT), (1.0, 1.5, ELSEWHERE), (1.5, 2.5, SENT), (2.5, 3.5, ELSEWHERE), (3.5, 5.5, WAITED),
        (5.5, 6.5, ELSEWHERE), (7.5, 8.5, WAITED)]


def test_exchanges_that_nobody_times_are_untouched():
    start, finish = Messages.start, Messages.finish
    with timed_messages() as timings:
        assert Messages.start is not start
        Messages([]).finish()
        assert Messages.wait_for(lambda: 3) == 3 == Messages.elsewhere(lambda: 3)
    assert Messages.start is start and Messages.finish is finish and Messages.wait_for(lambda: 4) == 4
    assert [timing.kind for timing in timings] == [WAITED, WAITED, ELSEWHERE]
    assert all(timing.end >= timing.begin for timing in timings)


@pytest.mark.mpi
@pytest.mark.parametrize("name", CASES)
def test_data_on_any_number_of_ranks(comm, name):
    f, x = CASES[name]
    with dd.linearize(f, x, partition="axes", min_block=1) as lin:
        spy, owned = lin.plot("spy").data, lin.plot("partition").data
        report = lin.report(assemble=True)
        levels = lin.plot("levels").data
        derivative = lin.jvp(x)
    tape = comm.bcast(trace(f, (x,)).tape if comm.rank == 0 else None)
    assert spy.program.n == report.nodes and spy.program.nonzeros == report.nonzeros + report.nodes
    np.testing.assert_array_equal(spy.program.count, of_tape(tape).count)
    assert (spy.kept.n, spy.kept.nonzeros) == (report.rows, report.nnz) and spy.rank_rows[-1] == report.rows
    assert owned.k_star == report.k_star and owned.values.sum() == report.halo
    assert owned.messages.sum() == report.messages and owned.lines.max() == report.max_work
    assert (owned.cut.sum() > 0) == (report.halo > 0)
    assert levels.widest == report.live and levels.path == report.path
    with dd.linearize(f, x) as plain:  # looking has changed nothing
        np.testing.assert_allclose(derivative, plain.jvp(x), rtol=1e-12)


@pytest.mark.mpi
def test_timeline_is_of_this_job(comm):
    f, x = CASES["heat"]
    with dd.linearize(f, x, partition="axes", min_block=1, method="sweep") as lin:
        before = lin.vjp(lin.value)
        picture = lin.plot("timeline")
        data = picture.data
        np.testing.assert_array_equal(lin.vjp(lin.value), before)
        exchanges = sum(bool(step.exchange) for step in lin.subject().local.steps)
    mine = data.passes[0].spans[comm.rank]
    assert data.ranks == comm.size and len(data.passes) == 2 and not data.elsewhere
    several = comm.size > 1
    assert len(mine) == 2 * exchanges + several and (exchanges > 0) == several  # all agree at the end of a pass
    for one in data.passes:
        for spans, busy in zip(one.spans, one.busy):
            assert (np.diff(np.ravel(spans[:, :2])) >= 0).all()  # one after another
            assert not len(spans) or 0 <= spans[0, 0] and spans[-1, 1] <= busy <= one.seconds
            assert (spans[:, 2] == WAITED).sum() == len(spans) // 2 + several  # as many waits as sends, and that
        np.testing.assert_allclose(one.computing + one.sending + one.waiting, one.busy)
    shares = picture.caption.split("ranks compute")[1:]
    assert len(shares) == 2
    for said in shares:
        assert abs(sum(map(int, re.findall(r"(\d+) %", said))) - 100) <= 4, said  # nothing is left unsaid, but rounding


@pytest.mark.mpi
@pytest.mark.parametrize("method, options, partition, within", [
    ("krylov", {}, "axes", True), ("krylov", {"preconditioner": "substitution"}, "axes", True),
    ("direct", {}, "axes", True), ("interface", {}, "contiguous", False), ("pipeline", {}, "contiguous", False)])
def test_timelines_of_methods_with_messages_of_their_own(comm, method, options, partition, within):
    """What is PETSc's is drawn as PETSc's, and everything else is told apart."""
    f, x = CASES["heat"]
    x = x[:20] if partition == "contiguous" else x
    with dd.linearize(f, x, partition=partition, min_block=1, method=method, options=options) as lin:
        picture = lin.plot("timeline")
        data = picture.data
    solve = data.passes[1]
    assert data.method == method and data.elsewhere == within == (solve.elsewhere > 0).all()
    assert ("does within PETSc" in picture.caption) == within
    assert comm.size == 1 or (solve.waiting > 0).all()
    for one in data.passes:
        parts = np.array([one.computing, one.sending, one.waiting, one.elsewhere])
        assert (parts >= -1e-12).all() and not data.passes[0].elsewhere.any()
        np.testing.assert_allclose(parts.sum(axis=0), one.busy)
        assert all((np.diff(np.ravel(spans[:, :2])) >= 0).all() for spans in one.spans)


@pytest.mark.mpi
def test_ranks_without_lines_are_told_of(comm):
    f, x = CASES["heat"]
    with dd.linearize(f, x[:30]) as lin:  # too small for more than one
        timeline, owned = lin.plot("timeline"), lin.plot("partition")
    assert timeline.data.working.tolist() == [0] and np.count_nonzero(owned.data.lines) == 1
    for one in timeline.data.passes:
        assert one.computing[0] > 0 and (one.computing[1:] < 1e-9).all()  # who has nothing to compute waits
        assert all((spans[1:, 0] >= spans[:-1, 1]).all() for spans in one.spans)
    if comm.size > 1:
        assert "rank 0 has all lines, and the others wait" in timeline.caption
        assert "rank 0 has all lines, and the others none" in owned.caption
    tape = trace(functions.heat, (np.ones(9),)).tape
    made = partition(tape, 12, strategy="axes", min_block=1, depth=1)
    planned = Picture("partition", ownership.planned(tape, made)).caption
    assert "9 of the 12 ranks have lines, the busiest 1.00 times the mean of those" in planned, planned


@pytest.mark.mpi
def test_scaling_measures_the_ranks_there_are(comm):
    with dd.linearize(*CASES["mixed"]) as lin:
        data = scaling(lin.subject(), ranks=(1, 2, 8))
    assert data.measured_ranks.tolist() == sorted({min(2**k, comm.size) for k in range(8)})
    assert (data.measured > 0).all() and {1, 2, comm.size} <= set(data.ranks.tolist())
    assert (data.seconds > 0).all() and (data.exchanging < data.seconds).all()


@pytest.mark.parametrize("memory, measured, says", [
    ([1.9e6] * 4, [5e-3], None), ([3e8, 2e8, 1e8, 9e7], [1e-2, 6e-3], None),
    ([1e6, 1e3, 1e2, 50], [4e-2, 9e-3], "On 1 rank it took 4.0 times what was predicted"),
    ([1e9, 9e8, 8e8, 7e8], [9e-3, 1e-3], "On 2 ranks it took 1/5.0 of what was predicted")])
def test_a_scaling_picture_can_be_read(memory, measured, says):
    """Every axis has labels enough, nothing covers a point, and a prediction that is off is not kept silent."""
    pytest.importorskip("matplotlib")
    ranks = np.array([1, 2, 4, 8])
    picture = Picture("scaling", Scaling(ranks, 1e-2 / np.sqrt(ranks) * [1, 1 / np.sqrt(2), 1, 1], 1e-6 * (ranks - 1.0),
                                         np.array(memory), ranks[:len(measured)], np.array(measured), "stop", "rates"))
    figure = picture.figure()
    figure.canvas.draw()
    for axes in figure.axes:
        low, high = axes.get_ylim()
        ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
        words = [label.get_text() for label in axes.get_yticklabels()]
        assert 3 <= len(ticks) <= 9 and all(words) and len(set(words)) == len(words), words
        points = [point for line in axes.lines for point in line.get_xydata()]
        assert all(low < y < high for _, y in points)
        if legend := axes.get_legend():
            box = legend.get_window_extent()
            assert not any(box.contains(*axes.transData.transform(point)) for point in points)
    assert f"measured {1e3 * measured[0]:.3g} ms on 1 (predicted 10 ms)" in picture.caption
    assert (says or "don't rely") in picture.caption if says else "don't rely" not in picture.caption


@pytest.mark.mpi
def test_a_system_that_every_rank_has(comm):
    with dd.linearize(*CASES["heat"], partition="right-hand sides", solves="jacobian") as lin:
        data = lin.plot("partition").data
        assert not data.values.any() and data.k_star == 1
        assert lin.plot("spy").data.program.nonzeros > 0


@pytest.fixture(scope="module")
def lin():
    with dd.linearize(*CASES["heat"], partition="axes", min_block=1) as found:
        yield found


@pytest.mark.mpi
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn(comm, shared_tmp_path, lin, kind):
    pytest.importorskip("matplotlib")
    if comm.size > 1 and kind in ("levels", "scaling"):
        pytest.skip("drawn alike on any number of ranks")
    path = shared_tmp_path / f"{kind}.svg"
    picture = lin.plot(kind, path, dark=True)
    comm.Barrier()
    words = "".join(ElementTree.fromstring(path.read_text()).itertext())
    assert picture.title in words and all(word in words for word in picture.caption.split()[:12])
    if kind == "levels":
        assert picture.png().startswith(b"\x89PNG") and picture.svg() == picture.svg()


class Seen(HTMLParser):
    """What is in a page: tags with their attributes, and words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.mpi
def test_a_page_holds_all_and_asks_for_nothing(comm):
    pytest.importorskip("matplotlib")
    with dd.linearize(*CASES["mixed"]) as lin:
        subject = lin.subject()
        report, pictures = lin.report(assemble=True), [take(subject, kind) for kind in ("levels", "spy")]
    if comm.rank:
        return
    text = page("<script>alert('model')</script> & more", report, pictures)
    seen = Seen(text)
    assert seen.words.count("<script>alert('model')</script> & more") == 2  # title and heading, as words
    assert not seen.of("script") and not seen.of("link") and not seen.of("a")
    images = [image["src"] for image in seen.of("img")] + [image["srcset"] for image in seen.of("source")]
    assert len(images) == 4 and all(image.startswith("data:image/svg+xml;base64,") for image in images)
    assert "://" not in re.sub(r"data:[^\"]*", "", text)
    assert [image["alt"] for image in seen.of("img")] == [picture.caption for picture in pictures]
    chosen = [attributes for attributes in seen.of("tr") if attributes.get("class") == "chosen"]
    assert chosen and all(candidate.reason in seen.words for candidate in report.candidates)
    assert text.count("<svg") == 0 and report.reason in seen.words and report.shape in seen.words


@pytest.mark.mpi
def test_mistakes_are_told_on_every_rank(comm, shared_tmp_path, monkeypatch):
    with dd.linearize(*CASES["mixed"]) as lin:
        with pytest.raises(InputError, match="no picture 'pie'; there are spy, levels"):
            lin.plot("pie")
        with pytest.raises(InputError, match="end in .png or .svg"):
            lin.plot("levels", shared_tmp_path / "levels.pdf")
        with monkeypatch.context() as patch, pytest.raises(InputError, match="no directory"):
            patch.setattr("distdiff.pictures.take", lambda *_: pytest.fail("it was drawn first"))
            lin.plot("levels", shared_tmp_path / "nowhere" / "levels.svg")
        assert lin.plot("levels").data.depth > 0  # and all goes on


def test_drawings_without_matplotlib_say_what_is_missing(monkeypatch):
    import builtins

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", lambda name, *rest: (_ for _ in ()).throw(ImportError(name))
                        if name.startswith("matplotlib") else real(name, *rest))
    picture = take_planned(trace(functions.heat, (np.ones(400),)).tape, 3)
    assert picture.data.ranks == 3  # data need none
    with pytest.raises(ImportError, match=r"distdiff\[plot\]"):
        picture.figure()


def test_many_ranks_and_small_things_are_drawn():
    pytest.importorskip("matplotlib")
    assert take_planned(trace(functions.heat, (np.ones(4000),)).tape, 16, "axes").png().startswith(b"\x89PNG")
    with dd.linearize(lambda x: x, np.ones(1), comm=MPI.COMM_SELF) as lin:  # no statement at all
        for kind in KINDS:
            assert lin.plot(kind).svg().startswith("<?xml")
