"""The dashboard with 500 repositories and 10,000 todos: first paint, events on the page, size, memory.

    python -m benchmarks.dashboard [--rounds N] [--pages N] [--json [FILE]]

A run of 10,000 todos waits for workers while it is paused and resumed. PAGES open pages follow the stream of
events, as htmx does, and ask for the page Now again when it moves; an event is on a page when its answer
shows the new state. First paint is Chromium's, where it is installed.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2

from benchmarks import report
from coordination.api.coord import Coord
from coordination.backend.embedded import EmbeddedServer
from coordination.dashboard.access import Tokens
from coordination.dashboard.pages import HERE
from coordination.settings import Settings
from tests.ports import free_port

REPOS, TODOS = 500, 10_000
COORD = Path(sys.executable).with_name("coord")
TICKS = os.sysconf("SC_CLK_TCK")
IDLE_S = 20.0
PATHS = ("/", "/run?id=last", "/board", "/fleet")


def ecosystem(url: str) -> str:
    repos = [{"name": f"repo-{n}", "path": f"repo-{n}"} for n in range(REPOS)]
    todos = [
        {"id": f"TODO-{n}", "task": f"do the work number {n}", "repo": f"repo-{n % REPOS}", "plan": "PLAN-1"}
        | ({"blocked_by": [f"TODO-{n - REPOS}"]} if n >= REPOS else {})
        | {"action": "true"}
        for n in range(TODOS)
    ]
    declared = {"plans": [{"id": "PLAN-1", "title": "all of it"}], "todos": todos}
    return json.dumps({"settings": {"redis_url": url}, "repos": repos, "coordination": declared})


def processor_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


def memory_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class Pages:
    """Open pages of one person; `shown` are the seconds from an event to an answer with its state."""

    def __init__(self, url: str, token: str, number: int) -> None:
        self._url, self._token, self._number = url, token, number
        self.wanted, self.since = "", 0.0
        self.shown: list[float] = []
        self.reached = asyncio.Semaphore(0)

    async def follow(self, ready: asyncio.Semaphore) -> None:
        async with httpx2.AsyncClient(base_url=self._url, timeout=60) as client:
            await client.post("/sign-in", data={"token": self._token})
            done = ""
            async with client.stream("GET", "/events") as stream:
                ready.release()
                async for line in stream.aiter_lines():
                    if not line.startswith("event: moved") or self.wanted == done:
                        continue
                    wanted, since = self.wanted, self.since
                    answer = await client.get("/", headers={"HX-Request": "true"})
                    if f">{wanted}</span>" in answer.text:
                        done = wanted
                        self.shown.append(time.perf_counter() - since)
                        self.reached.release()

    async def measure(self, coord: Coord, rounds: int) -> None:
        run = coord.runs.get("last")
        ready = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(self.follow(ready)) for _ in range(self._number)]
        for _ in tasks:
            await ready.acquire()
        for number in range(rounds):
            step, state = (run.pause, "paused") if number % 2 == 0 else (run.resume, "running")
            self.wanted = state
            self.since = time.perf_counter()
            await asyncio.to_thread(step)
            for _ in tasks:
                await asyncio.wait_for(self.reached.acquire(), 60)
            await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def stay(self, seconds: float) -> None:
        """Keep the pages open while nothing happens."""
        ready = asyncio.Semaphore(0)
        tasks = [asyncio.create_task(self.follow(ready)) for _ in range(self._number)]
        for _ in tasks:
            await ready.acquire()
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def first_paints(url: str, token: str) -> dict[str, float]:
    """Return path → milliseconds from the request to Chromium's first contentful paint, medians of five."""
    from playwright.sync_api import sync_playwright

    found: dict[str, float] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{url}/sign-in")
        page.fill("#token", token)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{url}/")
        read = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
        for path in PATHS:
            times: list[float] = []
            for _ in range(5):
                page.goto(f"{url}{path}")
                while (paint := page.evaluate(read)) is None:  # the page allows no eval, as waiting needs
                    time.sleep(0.01)
                times.append(paint)
            found[path] = statistics.median(times)
        browser.close()
    return found


def main(rows: report.Report, rounds: int, pages: int) -> None:
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as folder:
        server = EmbeddedServer(Path(folder, "server"), Settings())
        url = server.start()
        try:
            measure(rows, Path(folder), url, rounds, pages)
        finally:
            server.stop()


def measure(rows: report.Report, folder: Path, redis_url: str, rounds: int, pages: int) -> None:
    file = folder / "ecosystem.yaml"
    file.write_text(ecosystem(redis_url))
    subprocess.run([COORD, "-q", "sweep", "PLAN-1", "--detach"], cwd=folder, check=True, capture_output=True)
    port = free_port()
    served = subprocess.Popen(
        [COORD, "-q", "dashboard", "--listen", str(port)], cwd=folder, stderr=subprocess.PIPE
    )
    try:
        assert served.stderr
        served.stderr.readline()
        with Coord(file) as coord:
            token = Tokens(coord.state).add("ann")
            figures(rows, coord, served.pid, f"http://127.0.0.1:{port}", token, rounds, pages)
    finally:
        served.terminate()
        served.wait(20)


def figures(
    rows: report.Report, coord: Coord, pid: int, url: str, token: str, rounds: int, pages: int
) -> None:
    static = [path for path in (HERE / "static").rglob("*") if path.suffix in (".js", ".css")]
    rows.add("script and style", sum(path.stat().st_size for path in static) / 1024, "KiB", at_most=150)
    if shutil.which("chromium"):
        for path, ms in first_paints(url, token).items():
            rows.add(f"first paint of {path}", ms, "ms", at_most=1000)
    else:
        rows.add("first paint of /", None, "ms", at_most=1000, beside="no Chromium here")
    open_pages = Pages(url, token, pages)
    asyncio.run(open_pages.measure(coord, rounds))
    beside = f"{len(open_pages.shown)} renewals of {pages} pages"
    shown = statistics.quantiles(open_pages.shown, n=100)
    rows.add("event to page, p50", shown[49] * 1000, "ms", beside=beside)
    rows.add("event to page, p99", shown[98] * 1000, "ms", at_most=1000, beside=beside)
    before = processor_s(pid)
    asyncio.run(open_pages.stay(IDLE_S))
    rows.add("memory of the server", memory_mib(pid), "MiB", beside=f"{pages} open pages")
    share = 100 * (processor_s(pid) - before) / IDLE_S
    rows.add("processor of the server", share, "%", beside=f"{pages} open pages, nothing happens")


if __name__ == "__main__":
    parser = report.parser(__doc__, "dashboard")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pages", type=int, default=50)
    options: Any = parser.parse_args()
    with report.report("dashboard", options) as found:
        main(found, options.rounds, options.pages)
