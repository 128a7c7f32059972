"""What a service refuses: too much, malformed, or not allowed; and that nothing of it stops a rank."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import os
import re
import socket
import sys
import threading
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI
from servers import Server, metric, wait_for

import distdiff as dd
from distdiff.cli import main
from distdiff.errors import InputError, ServiceError
from distdiff.nest import leaf_names
from distdiff.service import connections, door, parsing, sending, tokens, wire
from distdiff.service.jobs import Job
from distdiff.service.modules import Modules
from distdiff.service.ranks import Ranks
from distdiff.service.server import Options, _Front
from distdiff.service.service import Service
from distdiff.service.spool import Spool
from distdiff.tracing.tree import flatten

pytestmark = pytest.mark.timeout(100)
X = np.linspace(0.1, 1.0, 30)
MOST = 200_000  # bytes of a body


def f(x):
    return np.sum(np.sin(x) ** 2)


def vector(x):
    return np.sin(x) * np.roll(x, 1)


class Raw:
    """Requests as they are, over the server's unix socket."""

    def __init__(self, server: Server) -> None:
        self.path = server.url.removeprefix("unix:")
        self.token = (server.folder / "t").read_text().strip()

    def socket(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(20)
        made.connect(self.path)
        return made

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str, Any]:
        connection = http.client.HTTPConnection("localhost", timeout=20)
        connection.sock = self.socket()
        given = {"authorization": f"Bearer {self.token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        connection.request(method, path, body, {k: v for k, v in given.items() if v})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        form = answer.headers.get_content_type()
        return answer.status, form, json.loads(content) if form.endswith("json") else content


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("limits"), "--max-body", str(MOST), "--max-systems", "3", "--memory", "3M",
                ranks=2) as running:
        yield running


@pytest.fixture(scope="module")
def remote(server: Server) -> Iterator[Any]:
    with server.connect() as client, client.linearize(vector, X) as found:
        yield found


@pytest.fixture
def raw(server: Server, remote: Any) -> Iterator[Raw]:
    yield Raw(server)
    right = np.cos(X) * np.roll(X, 1) + np.roll(np.sin(X), -1)
    np.testing.assert_allclose(remote.vjp(np.ones(30)), right, rtol=1e-14)  # it serves as before


def problem(answer: tuple[int, str, Any], status: int, word: str) -> None:
    assert answer[0] == status and answer[1] == "application/problem+json", answer
    assert answer[2]["status"] == status and word in answer[2]["detail"], answer


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


GOOD = wire.to_npy(np.ones(30))
BODIES = [  # body, content type, status, what the answer says
    (b"", wire.NPY, 400, "no .npy"),
    (GOOD[:-1], wire.NPY, 400, "what 239 bytes hold"),
    (GOOD + b"x", wire.NPY, 400, "bytes hold"),
    (b"\x93NUMPY\x09\x00" + GOOD[8:], wire.NPY, 400, "beginning"), (b"", wire.NPY, 400, "the body is empty"),
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }\n"), wire.NPY, 400, "bytes hold"),
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-30,), }\n", bytes(240)), wire.NPY, 400, "beginning"),
    (npy("{'descr': '|O', 'fortran_order': False, 'shape': (30,), }\n", bytes(240)), wire.NPY, 400, "beginning"),
    (npy("{'descr': '<c16', 'fortran_order': False, 'shape': (15,), }\n", bytes(240)), wire.NPY, 400, "beginning"),
    (npy("{'descr': '<f1', 'fortran_order': False, 'shape': (30,), }\n", bytes(30)), wire.NPY, 400, "beginning"),
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "1, " * 70 + "1), }\n", bytes(8)),
     wire.NPY, 400, "no .npy"),
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (" + f"{10**17}, " * 2 + "0), }\n"),
     wire.NPY, 400, "no .npy"),
    (npy("__import__('os').abort()\n", bytes(240)), wire.NPY, 400, "no .npy"),
    (npy("(" * 5000 + "\n", bytes(240)), wire.NPY, 400, "no .npy"),
    (wire.to_npy(np.ones(29)), wire.NPY, 422, "shape (29,)"),
    (wire.to_npy(np.full(30, np.nan)), wire.NPY, 422, "NaN"),
    (b"PK\x03\x04junk", wire.NPZ, 400, "no .npz"),
    (wire.to_npz({"arr_0": np.ones(30), "arr_1": np.ones(30)}), wire.NPZ, 422, "leaves of shapes"),
    (wire.to_npz({"a": np.ones(30), "b": np.ones(30)}), wire.NPZ, 422, "has arrays named a, b, which do not say where"),
    (wire.to_npz({"arr_1": np.ones(30)}), wire.NPZ, 422, "leaf0 or arr_0 by number"),
    (wire.to_npz({}), wire.NPZ, 422, "leaves of shapes []"),
    (b"{", wire.JSON, 400, "no JSON"),
    (b"[" * 60_000, wire.JSON, 400, "no JSON"),
    (b"\xff\xfe", wire.JSON, 400, "no JSON"),
    (b"[1, 2]", wire.JSON, 400, 'is no {"leaves": [...]} with an array for each of 1, as nested lists; /v1/systems'),
    (b'{"leaves": [1, 2]}', wire.JSON, 422, "a list within the list: {\"leaves\": [[...]]}); /v1/systems/{system}"),
    (b'{"leaves": [[1, 2]]}', wire.JSON, 422, "leaves of shapes [(2,)], but [(30,)] are wanted; /v1/systems"),
    (b'{"leaves": [[1, [2, 3]]]}', wire.JSON, 400, "leaf"),
    (b'{"leaves": [["a"]]}', wire.JSON, 400, "leaf"),
    (b'{"leaves": [' + b"[" * 60 + b"1" + b"]" * 60 + b"]}", wire.JSON, 400, "leaf"),
    (b'{"leaves": [[1e999]]}', wire.JSON, 422, "shape"),
    (b'{"leaves": [' + json.dumps([10**400] * 30).encode() + b"]}", wire.JSON, 400, "leaf"),
    (b'{"leaves": [' + json.dumps([True] + [1.0] * 29).encode() + b"]}", wire.JSON, 400, "leaves[0] holds true or"),
    (b'{"leaves": [[1, 2], [[3], [false]]]}', wire.JSON, 400, "leaves[1] holds true or false"),
    (b'{"leaves": [true]}', wire.JSON, 400, "leaves[0] holds true"),
    (b'{"leaves": [[1.0]], "scale": 2}', wire.JSON, 400, "the key 'scale' is not known"),
    (b'{"leaves": [[1.0]], "leaves": [[2.0]]}', wire.JSON, 400, "the key 'leaves' is there twice"),
    (GOOD, "text/html", 415, "not read"),
]


@pytest.mark.parametrize("body, form, status, word", BODIES)
def test_bodies_that_are_none(raw, remote, body, form, status, word):
    for path in ("vjp", "point"):
        problem(raw.ask("PUT" if path == "point" else "POST", f"/v1/systems/{remote.id}/{path}", body,
                        content_type=form), status, word)


@pytest.mark.parametrize("method, path, body, headers, status, word", [
    ("GET", "/v1/systems", None, {"authorization": ""}, 401, "token"),
    ("GET", "/v1/systems", None, {"authorization": "Bearer nonsense-nonsense"}, 401, "token"),
    ("GET", "/v1/systems", None, {"authorization": "Basic eDp5"}, 401, "token"),
    ("GET", "/metrics", None, {"authorization": ""}, 401, "token"),
    ("GET", "/v1/systems/none", None, {}, 404, "no system"),
    ("POST", "/v1/systems/none/vjp", GOOD, {}, 404, "no system"),
    ("GET", "/v1/jobs/none/events", None, {}, 404, "no job"),
    ("GET", "/nowhere", None, {}, 404, "Not Found"),
    ("GET", "/v1/systems/", None, {}, 404, "Not Found"),
    ("POST", "/v1/systems/ID/vjp?point=one", GOOD, {}, 422, "point='one' is no number of a point"),
    ("POST", "/v1/systems/ID/vjp?point=9", GOOD, {}, 409, "moved to its point 1"),
    ("POST", "/v1/systems/ID/vjp?pint=1", GOOD, {}, 422, "'pint' is no parameter here; point can be given"),
    ("GET", "/v1/systems/ID/value?point=1", None, {}, 422, "'point' is no parameter here; none can be given"),
    ("POST", "/v1/systems?metod=sweep", b"", {}, 422, "'metod' is no parameter here; name, method, partition, solves"),
    ("GET", "/v1/jobs?all=1", None, {}, 422, "'all' is no parameter"),
    ("PATCH", "/v1/systems", None, {}, 405, "Method"),
    ("POST", "/v1/systems?solves=0", b"", {}, 422, "solves"),
    ("POST", "/v1/systems?method=magic", "TAPE", {}, 422, "magic"),
    ("POST", "/v1/systems?partition=magic", "TAPE", {}, 422, "magic"),
    ("POST", "/v1/systems", b"junk", {}, 400, "no tape"),
    ("POST", "/v1/systems", b"", {}, 400, "no tape"),
    ("POST", "/v1/systems", bytes(MOST + 1), {}, 413, "--max-body"),
    ("POST", "/v1/systems", iter([bytes(MOST // 2)] * 3), {}, 413, "--max-body"),
    ("POST", "/v1/systems/ID/vjp", bytes(100_000), {}, 413, "more than this vector takes"),
    ("POST", "/v1/functions/os/getcwd", b"{}", {"content_type": wire.JSON}, 400, "arguments"),
    ("POST", "/v1/functions/os/getcwd", b'{"arguments": {}}', {"content_type": wire.JSON}, 404, "no module"),
    ("POST", "/v1/functions/os/getcwd", b'{"arguments": {"u": [1.0, true]}}', {"content_type": wire.JSON}, 400,
     "arguments.u holds true or false"),
    ("POST", "/v1/functions/os/getcwd", b'{"arguments": {}, "name": "x"}', {"content_type": wire.JSON}, 400,
     "the key 'name' is not known"),
])
def test_requests_that_are_refused(raw, remote, tmp_path, method, path, body, headers, status, word):
    if body == "TAPE":
        dd.trace(f, X).save(tmp_path / "tape", point=(X,))
        body = (tmp_path / "tape").read_bytes()
    problem(raw.ask(method, path.replace("ID", remote.id), body, **headers), status, word)


def test_what_every_request_may_be_answered_is_described(raw):
    _, _, told = raw.ask("GET", "/openapi.json")
    for path, operations in told["paths"].items():
        for method, operation in operations.items():
            assert {"400", "431"} <= operation["responses"].keys(), (method, path)
    for path in ("/v1/systems", "/v1/functions/{module}/{function}", "/v1/systems/{system}/vjp"):
        assert told["paths"][path]["post"]["responses"].keys() > {"202", "401", "413", "422", "503"}


@pytest.mark.parametrize("path, allowed", [
    ("/v1/systems/ID/point", "GET, PUT"), ("/v1/systems/ID/vjp", "POST"), ("/v1/systems", "GET, POST"),
    ("/v1/systems/ID", "DELETE, GET")])
def test_what_may_be_done_instead(raw, remote, path, allowed):
    with raw.socket() as connection:
        connection.sendall(f"OPTIONS {path.replace('ID', remote.id)} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer "
                           f"{raw.token}\r\nconnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.split()[1] == b"405" and f"\r\nallow: {allowed}\r\n".encode() in answer, answer
    assert answer.lower().count(b"\r\nallow:") == 1, answer


def test_the_head_of_the_dashboard(raw):
    for path in ("/", "/static/dashboard.js"):
        status, form, content = raw.ask("HEAD", path)
        assert (status, content) == (200, b"") and form.startswith("text/"), (status, form, content)


def test_damaged_tapes(raw, tmp_path):
    dd.trace(f, X).save(tmp_path / "tape", point=(X,))
    whole = (tmp_path / "tape").read_bytes()
    for length in range(10, len(whole), len(whole) // 15):
        problem(raw.ask("POST", "/v1/systems", whole[:length]), 400, "no tape")
    dd.trace(f, X).save(tmp_path / "tape")
    problem(raw.ask("POST", "/v1/systems", (tmp_path / "tape").read_bytes()), 422, "without a point")


@pytest.mark.parametrize("said", [
    b"\x00\x01\x02\r\n\r\n", b"GET /v1/systems HTTP/9.9\r\n\r\n",
    b"POST /v1/systems HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
    b"POST /v1/systems HTTP/1.1\r\nhost: x\r\ncontent-length: 1e9\r\n\r\n",
    b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /v1/systems HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
    b"POST /v1/systems HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
])
def test_what_is_no_http(raw, said):
    with raw.socket() as connection:
        try:
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(1000)
        except OSError:  # it may hang up before all is said
            return
        if answer:
            head, _, body = answer.partition(b"\r\n\r\n")
            told = json.loads(body)
            assert int(head.split()[1]) == told["status"] in (400, 401, 431), answer
            assert b"content-type: application/problem+json" in head and told["detail"]


@pytest.mark.parametrize("size, status", [(60_000, 200), (70_000, 431), (110_000, 431), (200_000, 431)])
@pytest.mark.parametrize("many", [1, 100])
def test_headers_of_a_request_that_comes_at_once_have_their_limit_too(raw, size, status, many):
    filling = b"".join(b"a%d: %s\r\n" % (k, b"b" * (size // many - 6)) for k in range(many))
    head = f"GET /healthz HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {raw.token}\r\n".encode()
    for request in (head + filling + b"\r\n", b"GET /healthz?" + b"q" * size + head.removeprefix(b"GET /healthz")):
        with raw.socket() as connection, connection.makefile("rb") as answers:
            connection.sendall(request + b"\r\n" * (not request.endswith(b"\r\n\r\n")))
            assert int(answers.readline().split()[1]) == status
            if status == 431:
                assert "take more" in json.loads(answers.read().partition(b"\r\n\r\n")[2])["detail"]


@pytest.mark.parametrize("begin, more", [
    (b"GET /", b"x"),  # a line, a header's name, its value, headers, framing, trailers: none of which ends
    (b"GET / HTTP/1.1\r\n", b"x"), (b"GET / HTTP/1.1\r\na: ", b"x"), (b"GET / HTTP/1.1\r\n", b"a: b\r\n"),
    (b"GET / HTTP/1.1\r\na: b\r\n", b" x\r\n"),
    (b"POST /v1/systems HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", b"1;" + b"y" * 100 + b"\r\nx\r\n"),
    (b"POST /v1/systems HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
])
def test_requests_that_have_no_end_are_hung_up_on(raw, begin, more):
    piece, sent = more * (8192 // len(more)), 0
    with raw.socket() as connection:
        try:
            connection.sendall(begin)
            while sent < 4_000_000:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
    assert sent < 1_000_000  # what was on its way meanwhile


def test_who_hangs_up_within_a_body_is_no_matter_of_the_log(raw, server, remote):
    """Neither where products are answered straight, nor by the application behind."""
    def refused() -> float:
        with server.connect() as client:
            return metric(client, 'distdiff_http_requests_total{status="400"}')

    before, said = refused(), list(server.said)
    for path in (f"/v1/systems/{remote.id}/vjp", "/v1/systems", "/v1/functions/m/f"):
        with raw.socket() as made:
            made.sendall(f"POST {path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {raw.token}\r\n"
                         "Content-Type: application/json\r\nContent-Length: 500\r\n\r\nabc".encode())
    wait_for(lambda: refused() == before + 3)
    assert server.said == said


def test_who_says_half_a_request_is_hung_up_on(tmp_path):
    import uvicorn

    from distdiff.service.parsing import BoundedProtocol

    class Impatient(BoundedProtocol):
        patience = 0.3

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        made = uvicorn.Server(uvicorn.Config(app, http=Impatient, lifespan="off", log_level="critical"))
        thread = threading.Thread(target=made.run, args=([listening],))
        thread.start()
        try:
            for begins in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" + b"GET / HTTP/1.1\r\na"):
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(20)
                    connection.connect(str(tmp_path / "s"))
                    connection.sendall(begins)
                    said = b"".join(iter(lambda: connection.recv(1000), b""))
                    assert said.count(b"204") == begins.count(b"\r\n\r\n")
        finally:
            made.should_exit = True
            thread.join()


def test_requests_one_after_another_have_limits_of_their_own(raw, remote):
    """Many small ones on one connection, also sent before the first is answered, are not added up."""
    head = (f"POST /v1/systems/{remote.id}/vjp HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {raw.token}\r\n"
            f"a: {'b' * 9000}\r\n").encode()
    whole = head + f"content-length: {len(GOOD)}\r\n\r\n".encode() + GOOD
    chunked = head + b"transfer-encoding: chunked\r\n\r\n" + b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in (GOOD[:100], GOOD[100:])) + b"0\r\n\r\n"
    with raw.socket() as connection, connection.makefile("rb") as answers:
        for requests in (1, 1, 3, 1, 3, 1):
            connection.sendall((whole + chunked) * requests)
            for _ in range(2 * requests):
                assert answers.readline().split()[1] == b"200"
                length = 0
                while line := answers.readline().strip():
                    length = int(line.split(b":")[1]) if line.lower().startswith(b"content-length") else length
                assert len(answers.read(length)) == len(GOOD)


def test_a_tape_is_opened_without_waiting(raw, server, tmp_path):
    dd.trace(f, X).save(tmp_path / "tape", point=(X,))
    status, _, job = raw.ask("POST", "/v1/systems?name=later", (tmp_path / "tape").read_bytes(),
                             prefer="wait=5, respond-async")
    assert status == 202 and job["kind"] == "open" and job["state"] in ("queued", "running", "done")
    wait_for(lambda: raw.ask("GET", f"/v1/jobs/{job['id']}")[2]["state"] == "done")
    status, _, system = raw.ask("GET", f"/v1/jobs/{job['id']}/result")
    assert status == 200 and system["id"] == job["system"] and system["name"] == "later"
    with server.connect() as client, client.attach(system["id"]) as found:
        np.testing.assert_allclose(found.vjp(1.0), np.sin(2 * X), rtol=1e-13)


def test_too_many_and_too_large(raw, server):
    with server.connect() as client:
        opened = [client.linearize(f, X) for _ in range(2)]
        with pytest.raises(ServiceError, match="3 systems are held") as caught:
            client.linearize(f, X)
        assert caught.value.status == 409
        for system in opened:
            system.close()

        def large(x):
            for _ in range(200):
                x = np.sin(x) * x
            return np.sum(x)

        with pytest.raises(ServiceError, match=r"would take about .* MB a rank.*--memory") as caught:
            client.linearize(large, np.linspace(0, 1, 5000))
        assert caught.value.status == 413


def test_results_too_large_for_the_memory_are_refused_before_they_begin(raw, server):
    """2.9 MB of numbers are 12 MB with their copies, of 3 MB that there may be; their product fits."""
    x = np.linspace(0.1, 1.0, 600)
    with server.connect() as client, client.linearize(vector, x) as found:
        before = metric(client, "distdiff_solves_total")
        for form in (wire.NPY, wire.JSON):
            problem(raw.ask("POST", f"/v1/systems/{found.id}/jacobian", accept=form), 413, "MB on rank 0 until it is")
        waited, *later = [raw.ask("POST", f"/v1/systems/{found.id}/jacobian", accept=form, prefer=prefer)
                          for form, prefer in ((wire.NPY, ""), *((f, "respond-async") for f in (wire.NPY, wire.JSON)))]
        problem(waited, 413, "this jacobian would take about 5.8 MB on rank 0 until it is answered")
        assert later == [waited, waited]  # the numbers are held alike; the form that a job is described in is no matter
        assert metric(client, "distdiff_solves_total") == before
        assert found.vjp(np.ones(600)).shape == (600,)


def test_a_job_s_numbers_take_more_room_in_json_when_they_are_fetched_so(raw, server):
    """0.46 MB of numbers, held twice; as JSON they would be 7.4 MB of the 3 MB that there may be."""
    with server.connect() as client, client.linearize(vector, np.linspace(0.1, 1.0, 240)) as found:
        job = found.start("jacobian")
        np.testing.assert_array_equal(job.result(), found.jacobian())
        problem(raw.ask("GET", f"/v1/jobs/{job.id}/result", accept=wire.JSON), 413, "this result would take about")


def test_results_make_room_for_others(tmp_path):
    """Kept results go, the oldest first; those under way stay, and others are told to come again."""
    ranks = Ranks(MPI.COMM_SELF.Dup(), 1_000_000)
    service = Service(ranks, Spool(tmp_path / "s"), Modules(None))
    kept = [service.submit(Job(f"s{k}", "jacobian", memory=400_000), keep=True) for k in range(2)]
    with pytest.raises(ServiceError, match="0.8 MB by results under way.*ask again later") as caught:
        service.submit(Job("s", "jacobian", memory=400_000))
    assert caught.value.status == 507
    for job in kept:
        job.end("done", np.zeros(40_000))
    service.require_room(600_000, "this", kept[0])
    assert list(service.jobs) == [kept[0].id]
    with pytest.raises(ServiceError, match="larger --memory") as caught:
        service.submit(Job("s", "jacobian", memory=1_100_000))
    assert caught.value.status == 413
    service.spool.close()
    service.tracers.close()


def test_answers_count_until_they_are_sent(raw, server):
    """2.6 MB of the 3 there are, while a client does not read what it asked for."""
    with server.connect() as client, client.linearize(vector, np.linspace(0.1, 1.0, 400)) as found:
        path, waiting = f"/v1/systems/{found.id}/jacobian", raw.socket()
        before = metric(client, 'distdiff_jobs_total{kind="jacobian",state="done"}')
        waiting.send(f"POST {path} HTTP/1.1\r\nhost: s\r\nauthorization: Bearer {raw.token}\r\n\r\n".encode())
        wait_for(lambda: metric(client, 'distdiff_jobs_total{kind="jacobian",state="done"}') > before)
        problem(raw.ask("POST", path), 507, "by results under way")
        stream = waiting.makefile("rb")
        size = next(int(line.split()[1]) for line in stream if line.startswith(b"content-length"))
        while stream.readline() != b"\r\n":
            pass
        first = wire.from_npy(stream.read(size))
        waiting.close()
        status, _, again = raw.ask("POST", path)
        assert status == 200 and np.array_equal(first, wire.from_npy(again))
        np.testing.assert_allclose(first @ np.ones(400), found.jvp(np.ones(400)), rtol=1e-12)


@pytest.mark.parametrize("taken", [True, False])
def test_an_answer_waits_for_who_takes_it_and_not_for_ever(monkeypatch, taken):
    """Its numbers go out as they lie in memory, and what they take is given up in the end."""
    monkeypatch.setattr(sending, "PIECE", 1000)
    monkeypatch.setattr(sending, "TAKEN_WITHIN", 0.05)
    full, said, done = np.arange(400.0), [], []

    async def send(message: Any) -> None:
        said.append(message)
        if not taken:
            await asyncio.sleep(10.0 if len(said) > 2 else 0.0)

    answer = sending.numbers(wire.NPY, full, [(400,)], 3, lambda: done.append(1))
    if taken:
        asyncio.run(answer({}, None, send))
    else:
        with pytest.raises(TimeoutError):
            asyncio.run(answer({}, None, send))
    assert done == [1] and (b"distdiff-point", b"3") in said[0]["headers"]
    if taken:
        assert b"".join(message["body"] for message in said[1:]) == wire.to_npy(full)
        assert [message["more_body"] for message in said[1:]] == [True] * (len(said) - 2) + [False]
        assert np.shares_memory(np.frombuffer(said[2]["body"], dtype=np.uint8), full)


def test_a_request_and_its_answer_are_one_call_each(tmp_path):
    """Small parts travel together, large ones as they are, in their order, and what is closed has been sent."""
    sent: list[bytes] = []

    class Transport:
        def write(self, data: Any) -> None:
            sent.append(bytes(data))

        def close(self) -> None:
            sent.append(b"closed")

        def is_closing(self) -> bool:
            return b"closed" in sent

    async def write(*parts: Any) -> list[bytes]:
        sent.clear()
        joined = parsing._Joined(Transport(), asyncio.get_running_loop())
        for part in parts:
            joined.write(part) if part is not None else joined.close()
        await asyncio.sleep(0)
        assert joined.is_closing() == (None in parts)
        return sent

    large = bytes(parsing.MOST + 1)
    assert asyncio.run(write(b"head", b"body")) == [b"headbody"]
    assert asyncio.run(write(b"head", memoryview(large), b"", b"end")) == [b"head", large, b"end"]
    assert asyncio.run(write(b"head", b"body", None)) == [b"headbody", b"closed"]
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        for body, whole in ((b"body", True), (None, True), (io.BytesIO(b"body"), True),
                            (bytes(connections.SMALL), False)):
            connection = connections._UnixConnection(str(tmp_path / "s"), 20.0)
            connection.request("POST", "/", body)
            with listening.accept()[0] as peer:
                came = peer.recv(1 << 20)
                assert came.startswith(b"POST / HTTP/1.1\r\n") and came.count(b"\r\n\r\n") >= 1
                assert not whole or body is None or b"body" in came
                connection.close()
                while more := peer.recv(1 << 20):
                    assert not whole
                    came += more
                assert whole or came.endswith(body)


def test_memory_is_given_back_once_after_large_results(monkeypatch):
    given: list[int] = []
    monkeypatch.setattr(door, "AFTER", 0.02)
    monkeypatch.setattr(door, "give_back", lambda: given.append(1))

    async def answers(*sizes: int) -> int:
        made = door.Door(None, "token", 1)  # type: ignore[arg-type]
        for size in sizes:
            made.give_back_soon(size)
        await asyncio.sleep(0.1)
        return len(given)

    assert asyncio.run(answers(door.LARGE)) == 0
    assert asyncio.run(answers(door.LARGE + 1, 8, door.LARGE + 1)) == 1


def test_ranks_that_wait_sleep(raw, server):
    """An idle service takes less than 2 % of a core a rank."""
    time.sleep(0.3)

    def used() -> list[float]:
        ticks = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in server.pids()]
        return [sum(map(int, pair)) / os.sysconf("SC_CLK_TCK") for pair in ticks]

    before, began = used(), time.monotonic()
    time.sleep(1.2)
    for a, b in zip(before, used()):
        assert b - a < 0.02 * (time.monotonic() - began) + 0.01  # the clock's tick


def test_tokens_are_their_owner_s_alone(server, tmp_path):
    assert (server.folder / "t").stat().st_mode & 0o777 == 0o600
    assert os.stat(server.url.removeprefix("unix:")).st_mode & 0o777 == 0o600
    assert tokens.write(tmp_path / "a" / "token") == tokens.read(tmp_path / "a" / "token")
    (tmp_path / "short").write_text("abc\n")
    (tmp_path / "short").chmod(0o600)
    with pytest.raises(InputError, match="holds no token"):
        tokens.read(tmp_path / "short")


def test_a_start_that_is_refused(capsys, monkeypatch):
    monkeypatch.setattr("distdiff.service.server.compile_at_once", lambda: None)  # for good, in this process too
    monkeypatch.setenv("PETSC_OPTIONS", os.environ.get("PETSC_OPTIONS", ""))
    assert main(["serve", "--host", "0.0.0.0", "--port", "0"]) == 1
    assert "0.0.0.0 is no loopback address" in capsys.readouterr().err


@pytest.mark.parametrize("words, message", [
    ("--port 99999", "--port 99999 is no port"), ("--port -1", "from 1 to 65535"),
    ("--max-systems -1", "--max-systems -1 is out of range: it goes from 1 to"), ("--max-systems 0", "range"),
    ("--max-batch 0", "--max-batch 0 is out of range"), ("--max-batch 99999999", "from 1 to 65,536"),
    ("--modules . --traces 0", "--traces 0 is out of range"), ("--modules . --traces 5000", "from 1 to 1,024"),
    ("--modules . --trace-limit 0", "--trace-limit 0 is out of range: it is a number of seconds above 0, inf for no"),
    ("--modules . --trace-limit nan", "--trace-limit nan is out of range"), ("--modules . --trace-limit -3", "range"),
    ("--trace-limit 60", "--trace-limit 60.0 can't be meant: it is about the modules of --modules"),
    ("--rule-limit 60", "--rule-limit 60.0 can't be meant"), ("--modules . --rule-limit -1", "--rule-limit -1 is out"),
    ("--traces 3", "--traces 3 can't be meant"), ("--unix s --port 8765", "--port 8765 can't be meant: a unix socket"),
    ("--unix s --port 0", "--port 0 can't be meant"), ("--unix s --host ::1", "--host ::1 can't be meant"),
    ("--unix s --token-file ./s", "--unix and --token-file are both .*/s: name two places"),
    ("--spool a --modules a", "--spool and --modules are both"), ("--memory 0", "'0' is no size: it is a number"),
    ("--memory nan", "'nan' is no size"), ("--max-body -1G", "no size"), ("--max-body 1GG", "'1GG' is no size"),
    ("--memory 1e30", "no size"), ("--memory 99999999T", "no size"), ("--port x", "invalid int value: 'x'")])
def test_options_that_make_no_sense(capsys, words, message):
    """Each is a clear error before anything is done."""
    try:
        assert main(["serve", *words.replace("--max-body -", "--max-body=-").split()]) == 1
    except SystemExit as ended:  # argparse's
        assert ended.code == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("options, message", [
    ({"host": "0.0.0.0"}, "no loopback address"), ({"host": "no.such.host.invalid"}, "can't listen"),
    ({"unix": "file"}, "there is something already"), ({"unix": "none/s"}, "can't listen"),
    ({"token_file": "file"}, "can be read by others"), ({"modules": "none"}, "no such directory"),
    ({"spool": "file/spool"}, "can't be used")])
def test_options_that_make_no_service(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x" * 40)
    (tmp_path / "file").chmod(0o644)
    with pytest.raises(InputError, match=message):
        _Front(Options(**{"port": None if "unix" in options else 0,
                          "token_file": None if "host" in options else "token", **options}), None)


@given(st.binary(max_size=300), st.sampled_from((wire.NPY, wire.NPZ, wire.JSON)), st.integers(0, 300),
       st.binary(max_size=4))
def test_any_bytes_are_a_vector_or_an_input_error(data, form, place, splice):
    good = {wire.NPY: wire.to_npy(np.ones(3)), wire.NPZ: wire.to_npz({"arr_0": np.ones(3)}),
            wire.JSON: b'{"leaves": [[1.0, 2.0, 3.0]]}'}[form]
    for body in (data, good[:place] + splice + good[place + len(splice):], good[:place] + data + good[place:]):
        try:
            found = wire.vector(form, body, [(3,)], "vector")
        except InputError:
            continue
        assert found.shape == (3,) and np.isfinite(found).all()


def zipped(*members: tuple[str, float]) -> bytes:
    """An .npz of those members, in that order; names may come twice."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)
        for name, value in members:
            with archive.open(f"{name}.npy", "w") as member:
                np.save(member, value)
    return stream.getvalue()


SWAPPED = zipped(("k", 7.0), ("u", 3.0))


@pytest.mark.parametrize("members, names, wanted", [
    ([("u", 3), ("k", 7)], ["u", "k"], [3, 7]),
    ([("k", 7), ("u", 3)], ["u", "k"], [3, 7]),
    ([("arr_1", 7), ("arr_0", 3)], ["u", "k"], [3, 7]),
    ([("leaf1", 7), ("leaf0", 3)], ["u", "k"], [3, 7]),
    ([("leaf1", 7), ("leaf0", 3)], None, [3, 7]),
    ([("leaf1", 7), ("leaf0", 3)], ["leaf1", "leaf0"], [7, 3]),  # so the arguments are called
    ([(f"arr_{k}", k) for k in (10, *range(10))], None, list(range(11))),  # by number: arr_10 after arr_2
    ([("k", 7), ("u", 3)], None, None),
    ([("k", 7), ("v", 3)], ["u", "k"], None),
    ([("u", 3)], ["u", "k"], None),
    ([("u", 3), ("k", 7), ("m", 1)], ["u", "k"], None),
    ([("u", 3), ("arr_1", 7)], ["u", "k"], None),
    ([("leaf0", 3), ("arr_1", 7)], ["u", "k"], None),
    ([("arr_1", 3), ("arr_2", 7)], ["u", "k"], None),
    ([("arr_00", 3), ("arr_01", 7)], ["u", "k"], None),
    ([("u", 3), ("k", 7), ("k", 8)], ["u", "k"], None),
    ([("arr_0", 3), ("arr_1", 7), ("arr_1", 7)], ["u", "k"], None),
])
def test_arrays_of_an_npz_go_by_their_names(members, names, wanted):
    body, shapes = zipped(*members), [()] * len(wanted or "12")
    if wanted is None:
        with pytest.raises(InputError, match="is there twice in the .npz|which do not say where each belongs: name"):
            wire.vector(wire.NPZ, body, shapes, "point", names)
    else:
        assert wire.vector(wire.NPZ, body, shapes, "point", names).tolist() == wanted


def test_points_and_right_hand_sides_of_a_system_go_by_its_arguments_names(raw, server):
    def loss(u, k):
        return u * u * k

    with server.connect() as client, client.linearize(loss, 1.0, 1.0, argnums=(0, 1)) as system:
        path = f"/v1/systems/{system.id}"
        assert raw.ask("GET", path)[2]["names"] == ["u", "k"]
        for method, word, body, wanted in (
                ("PUT", "point", SWAPPED, [63.0]), ("GET", "point", None, [3.0, 7.0]), ("PUT", "point", None, [63.0]),
                ("POST", "jvp", SWAPPED, [42.0 * 3 + 9.0 * 7]), ("POST", "hvp", SWAPPED, [84.0, 18.0])):
            if method == "PUT" and body is None:  # what it answers is read as well
                body = raw.ask("GET", f"{path}/point", accept=wire.NPZ)[2]
            found = raw.ask(method, f"{path}/{word}", body, content_type=wire.NPZ, accept=wire.JSON)
            np.testing.assert_allclose(found[2]["leaves"], wanted, rtol=1e-14)
        problem(raw.ask("POST", f"{path}/vjp", zipped(("w", 1.0)), content_type=wire.NPZ), 422, "leaf0 or arr_0")
        problem(raw.ask("PUT", f"{path}/point", zipped(("u", 1.0), ("m", 2.0)), content_type=wire.NPZ), 422,
                "name them u, k, as the arguments, or leaf0 to leaf1 or arr_0 to arr_1 by number")
    told = raw.ask("GET", "/openapi.json")[2]["paths"]["/v1/systems/{system}/point"]["put"]["requestBody"]["content"]
    assert "which its name tells" in told[wire.NPZ]["schema"]["description"]


@pytest.mark.parametrize("names, args, wanted", [
    (("u", "k"), (1.0, 2.0), ["u", "k"]), (("u", "q"), (1.0, {"a": 1.0, "b": 2.0}), None), (None, (1.0,), None),
    (("u", "q"), (1.0, {"a": 1.0}), ["u", "q"]), (("n", "k"), (None, 2.0), ["k"])])
def test_names_of_leaves(names, args, wanted):
    assert leaf_names(names, flatten(args, "arguments")[1]) == wanted


def test_a_message_names_some_of_many_modules(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])  # where the modules find each other
    for k in range(12):
        (tmp_path / f"m{k:02}.py").write_text("def f(x): return x\n")
    known = Modules(str(tmp_path))
    assert known.function("m11", "f")(3.0) == 3.0
    with pytest.raises(ServiceError, match=r"no module 'os'; .* with m00, .*, m07 and 4 more \(/v1/functions"):
        known.function("os", "getcwd")


@pytest.mark.parametrize("parameters, integers", [
    ("u, k", []), ("u, k: int", ["k"]), ("u, k: 'int'", ["k"]), ("u, k=3", ["k"]), ("u, k=-3", ["k"]),
    ("u, k: float = 3", []), ("u, k=3.0", []), ("u, k=True", []), ("u, k=None", []), ("u, *, k=3, m=1.0", ["k"]),
    ("u: int, /, m, k=3", ["u", "k"])])
def test_parameters_that_take_integers(tmp_path, monkeypatch, parameters, integers):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "a.py").write_text(f"def f({parameters}): pass")
    modules = Modules(str(tmp_path))
    assert modules.integers("a", "f") == integers and modules.integers("a", "g") == modules.integers("b", "f") == []


@pytest.mark.parametrize("said, wanted", [
    ("1", 1.0), ("1.0", 1.0), ("[1, 2, 3]", [1.0, 2.0, 3.0]), ("[1.5, 2]", [1.5, 2.0]), ("9007199254740993", 2.0**53)])
def test_numbers_in_json_are_floats(said, wanted):
    found = wire.named(wire.JSON, b'{"arguments": {"u": %s}}' % said.encode(), 1000)["u"]
    assert np.asarray(found).dtype == np.float64 and np.array_equal(found, wanted)


@pytest.mark.parametrize("said, wanted", [("3", 3), ("3.0", 3), ("-3", -3), ("2.5", None), ("[3]", None),
                                          ("1e999", None)])
def test_whole_numbers_in_json(said, wanted):
    body = b'{"arguments": {"k": %s}}' % said.encode()
    if wanted is None:
        with pytest.raises(InputError, match="arguments.k is no whole number"):
            wire.named(wire.JSON, body, 1000, ["k"])
    else:
        found = wire.named(wire.JSON, body, 1000, ["k"])["k"]
        assert type(found) is int and found == wanted


def test_functions_are_listed_without_being_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "a.py").write_text('''raise SystemExit("this is run")
import numpy as np
def loss(u, /, power=2, *, scale=1.0):
    """How far off.

    More of it."""
def _own(u): pass
class No: pass
@np.vectorize
def other(u): pass
''')
    (tmp_path / "broken.py").write_text("def f(:")
    a, broken = Modules(str(tmp_path)).described()
    assert a == {"module": "a", "error": None, "functions": [
        {"name": "loss", "parameters": ["u", "power", "scale"], "integers": ["power"], "summary": "How far off."},
        {"name": "other", "parameters": ["u"], "integers": [], "summary": ""}]}
    assert broken["functions"] == [] and broken["error"].startswith("SyntaxError: invalid syntax")
