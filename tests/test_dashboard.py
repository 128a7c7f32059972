"""The dashboard in a real browser: a page is opened, jobs come from the client, and what the page shows is read.

Where no Chromium and no driver for it can be had the tests are skipped; DISTDIFF_DEMAND_BROWSER, which .ci/run sets,
turns that into a failure.  DISTDIFF_SCREENSHOTS names a folder that the screenshots are left in.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from servers import Server

import distdiff as dd
from distdiff.errors import InputError

pytestmark = pytest.mark.timeout(100)
PHONE, LAPTOP = (390, 844), (1280, 900)


def browser(folder: Path, dark: bool = False) -> Any:
    """A headless Chromium, driven through its own driver."""
    webdriver = pytest.importorskip("selenium.webdriver")
    programs = [next(filter(None, map(shutil.which, names)), None) for names in (
        ("chromium", "chromium-browser", "google-chrome"), ("chromedriver", "chromium.chromedriver"))]
    if None in programs:
        pytest.skip("no Chromium with a chromedriver on PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
                 f"--user-data-dir={folder}", "--window-size={},{}".format(*LAPTOP)):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    _prefers(made, dark)
    return made


def _prefers(driver: Any, dark: bool) -> None:
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    pytest.importorskip("fastapi")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "models").mkdir()
        (Path(folder) / "models" / "m.py").write_text("def endless(u):\n    while True:\n        pass\n")
        with Server(Path(folder), "--spool", "spool", "--max-batch", "4", "--modules", "models", ranks=2,
                    unix=False) as made:
            yield made


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    try:
        made = browser(tmp_path_factory.mktemp("chromium"))
    except pytest.skip.Exception as reason:
        if os.environ.get("DISTDIFF_DEMAND_BROWSER"):
            pytest.fail(f"a browser is demanded here: {reason}")
        raise
    yield made
    made.quit()


def get(server: Server, path: str, token: str | None = None) -> tuple[int, dict[str, str], bytes]:
    """The status, headers and body of an answer."""
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    connection.request("GET", path, headers={} if token is None else {"authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def test_files_are_open_and_all_else_wants_the_token(server):
    token = (server.folder / "t").read_text().strip()
    status, headers, body = get(server, "/")
    assert status == 200 and b"<script type=\"module\" src=" in body and b"style=" not in body
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    for name in re.findall(rb"static/[a-z.]+", body):
        status, headers, content = get(server, "/" + name.decode())
        assert status == 200 and len(content) < 20_000 and headers["x-content-type-options"] == "nosniff"
        assert b"://" not in content.replace(b"http://www.w3.org/2000/svg", b"")
    assert get(server, "/static/%2e%2e/app.py")[0] == get(server, "/static/app.py")[0] == 404
    assert get(server, "/events")[0] == get(server, "/v1/systems/x/pictures/spy")[0] == 401
    assert get(server, "/v1/systems/x/pictures/spy", token)[0] == 404
    with server.connect() as client, client.linearize(heat, np.linspace(0.5, 1.5, 90)):
        system = client.systems()[0]["id"]
        assert get(server, f"/v1/systems/{system}/pictures/pie", token)[0] == 422
        for kind in ("spy", "scaling"):
            status, headers, body = get(server, f"/v1/systems/{system}/pictures/{kind}?dark=true", token)
            assert status == 200 and headers["content-type"].startswith("image/svg+xml") and b"<svg" in body
            assert "script-src" not in headers["content-security-policy"] and headers["distdiff-caption"]


def test_a_client_draws_and_may_rest_between(server, tmp_path):
    with server.connect() as client, client.linearize(heat, np.linspace(0.5, 1.5, 90)) as remote:
        drawn = remote.plot("levels", tmp_path / "levels.svg")
        assert "<svg" in drawn.svg() and (tmp_path / "levels.svg").read_text() == drawn.svg()
        assert "levels" in drawn.caption and repr(drawn) == f"<picture levels: {drawn.caption}>"
        drawn.save(tmp_path / "again.svg")
        assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "levels.svg").read_bytes()
        with pytest.raises(InputError, match=".svg"):
            drawn.save(tmp_path / "levels.png")
        with pytest.raises(InputError, match=".svg"):
            remote.plot("levels", tmp_path / "levels.png")
        with pytest.raises(InputError, match="spy"):
            remote.plot("pie")
        before = client._threads.connection
        assert remote.jacobian().shape == (90, 90) and client._threads.connection is before
        client._threads.used -= 10.0  # as if it had rested for so long
        assert remote.jacobian().shape == (90, 90)  # nothing is posted on a connection that may be closed by now
        assert client._threads.connection is not before and before not in client._open


def heat(u):
    for _ in range(40):
        u = u + 0.2 * (np.roll(u, 1) - 2 * u + np.roll(u, -1))
    return u * u


def text(driver: Any, where: str) -> str:
    return driver.execute_script("return document.querySelector(arguments[0]).innerText", where)


def states(driver: Any, kind: str) -> list[str]:
    """What the table says of the jobs of a kind, at one moment."""
    return driver.execute_script("""return [...document.querySelectorAll("#jobs tbody tr")]
        .filter(row => row.cells[0].innerText === arguments[0]).map(row => row.cells[2].innerText)""", kind)


def until(driver: Any, condition: Any, what: str, limit: float = 60.0) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, limit, 0.05).until(lambda _: condition(), what)


def screenshot(driver: Any, name: str) -> None:
    if folder := os.environ.get("DISTDIFF_SCREENSHOTS"):
        driver.save_screenshot(str(Path(folder) / f"{name}.png"))


def enter(driver: Any, token: str) -> None:
    driver.execute_script(
        "document.getElementById('token').value = arguments[0];"
        "document.querySelector('#door button').click()", token)


def test_a_job_is_watched_from_beginning_to_end(server, driver):
    driver.get(server.url)
    until(driver, lambda: "Token" in text(driver, "#door"), "the door")
    assert not driver.execute_script("return document.getElementById('house').checkVisibility()")
    enter(driver, "no token of ours")
    until(driver, lambda: "not the service's" in text(driver, "#refused"), "a refusal")
    enter(driver, (server.folder / "t").read_text().strip())
    until(driver, lambda: "None yet" in text(driver, "#house"), "an empty house")

    with server.connect() as client:
        u = np.linspace(0.5, 1.5, 400)
        remote = client.linearize(heat, u, name="<b>heat & co</b>", partition="axes")
        until(driver, lambda: "<b>heat & co</b>" in text(driver, "#systems"), "the system, its name as text")
        assert f"{remote.id[:6]}, made" in text(driver, "#systems")
        until(driver, lambda: "sweep" in text(driver, "#methods"), "its report, chosen as the only one")
        assert "SUPERSTEPS" in text(driver, "#facts").upper() and "axes" in text(driver, "#facts")
        assert re.search(r"requests a solve\n\d", text(driver, "#facts"), re.I)
        until(driver, lambda: "flattened lines" in text(driver, "#caption"), "the first picture's words")
        assert driver.execute_script("return document.getElementById('picture').naturalWidth") > 300
        assert re.findall(r"rank (\d)", text(driver, "#memory")) == ["0", "1"]
        assert len(re.findall(r"\d [kMG]?B\s+[\d.]+ m?s of a core", text(driver, "#memory"))) == 2
        screenshot(driver, "spy")

        # every change of the jobs is noted in the page: a job may be over before anybody looks
        driver.execute_script("""
            window.seen = []
            new MutationObserver(() => window.seen.push(document.getElementById("jobs").innerText))
              .observe(document.getElementById("jobs"), {subtree: true, childList: true})""")
        job = remote.start("jacobian")
        until(driver, lambda: states(driver, "jacobian") == ["done"], "its end")
        seen = driver.execute_script("return window.seen")
        assert any("running" in rows for rows in seen), seen[:3]
        progress = [int(words.split(" of 400")[0].split()[-1]) for words in seen if " of 400" in words]
        assert all(len(re.findall(r"^report\t.*(?:queued|running)", rows, re.M)) <= 1 for rows in seen), seen
        assert progress == sorted(progress) and len(set(progress)) > 1 and progress[-1] == 400
        with dd.linearize(heat, u, comm=_self()) as lin:
            np.testing.assert_allclose(job.result(), lin.jacobian(), atol=1e-12)
        until(driver, lambda: "solved\n400" in text(driver, "#facts"), "that the report follows")
        screenshot(driver, "done")
        others = [remote.start("jacobian") for _ in range(6)]  # enough that some still wait when the button is there
        until(driver, lambda: driver.execute_script(
            "const b = document.querySelector('#jobs [aria-label=\"Cancel jacobian\"]'); b?.click(); return !!b"),
            "a button to cancel the last of them with")
        until(driver, lambda: "cancelled" in states(driver, "jacobian"), "that one is cancelled")
        assert sum(other.info()["state"] == "cancelled" for other in others) == 1
        for other in others:
            other.cancel()

        for kind, words in (("levels", "values that a cut"), ("partition", "supersteps"), ("timeline", "Measured on")):
            driver.execute_script("document.querySelector(`[data-kind=${arguments[0]}]`).click()", kind)
            until(driver, lambda words=words: words in text(driver, "#caption"), f"the picture {kind}")
            until(driver, lambda: driver.execute_script(
                "const p = document.getElementById('picture'); return p.complete && p.naturalWidth > 300"), kind)
            driver.execute_script("document.getElementById('kinds').scrollIntoView()")
            screenshot(driver, kind)

        until(driver, lambda: text(driver, "#status").endswith("idle"), "that nothing is done")
        tracing = client.start("m:endless", u=1.0)
        until(driver, lambda: text(driver, "#status").endswith("tracing"), "that a function is traced")
        until(driver, lambda: states(driver, "open") == ["running"], "its job")
        tracing.cancel()
        until(driver, lambda: text(driver, "#status").endswith("idle"), "that it is no more")

        remote.close()
        until(driver, lambda: "None yet" in text(driver, "#house"), "that it has gone")


def test_dark_and_small(server, driver):
    _prefers(driver, True)
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": PHONE[0], "height": PHONE[1], "deviceScaleFactor": 2, "mobile": True})
    with server.connect() as client, client.linearize(heat, np.linspace(0.5, 1.5, 900), name="small"):
        until(driver, lambda: "small" in text(driver, "#systems"), "the system")
        until(driver, lambda: "Measured" in text(driver, "#caption"), "its picture, of the kind chosen before")
        width = driver.execute_script("return document.documentElement.scrollWidth")
        assert width <= PHONE[0], "the page is wider than the screen"
        for table in ("methods", "times"):
            cut = driver.execute_script("const t = arguments[0]; return t.scrollWidth - t.parentElement.clientWidth",
                                        driver.find_element("id", table))
            assert cut <= 0, f"{cut} pixels of the table of {table} are cut off"
        assert driver.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 28)"
        screenshot(driver, "phone")
        driver.execute_script("document.getElementById('kinds').scrollIntoView()")
        screenshot(driver, "phone-picture")
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_page_asks_nobody_else_and_breaks_no_rule(server, driver):
    loaded = driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert loaded and all(name.startswith((server.url, f"blob:{server.url}")) for name in loaded), loaded
    said = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    gone = [message for message in said if re.search(r"/v1/systems/\w+/report - .* 404 ", message)]
    assert len(gone) <= 2, said  # a system's report may be asked for when the client deletes it
    others = [message for message in said if message not in gone]
    assert all("401" in message for message in others), said  # the wrong token, and nothing of the content's policy
    assert driver.execute_script("return sessionStorage.length") == 1
    driver.execute_script("document.getElementById('leave').click()")
    assert driver.execute_script("return sessionStorage.length") == 0
    assert "not connected" in text(driver, "#status")


def _self() -> Any:
    from mpi4py import MPI

    return MPI.COMM_SELF
