"""The dashboard with 500 repositories and 10,000 todos: first paint, events on the page, size, memory, cost.

    python -m benchmarks.dashboard [--rounds N] [--pages N] [--json [FILE]]

A run of 10,000 todos waits for workers while it is paused and resumed. PAGES open pages follow the stream of
events, as htmx does, and ask for the page Now again when it moves; a change is on a page when the answer that
shows the new state is there, counted from the time of its event. First paint is Chromium's, where it is
installed. The cost to a run: runs of a small plan with PAGES open pages and with none, by turns; half of the
pages show Now, half the run. The pages' own processor time is part of it, because they are on this machine.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import report
from coordination.api.coord import Coord
from coordination.backend.embedded import EmbeddedServer
from coordination.dashboard.access import Tokens
from coordination.dashboard.pages import HERE
from coordination.settings import Settings
from tests.ports import free_port

REPOS, TODOS = 500, 10_000
SMALL_REPOS, SMALL_TODOS = ("one", "two", "three"), 40
"""Repositories, and todos of each, of the plan that runs with pages and without any."""
COORD = Path(sys.executable).with_name("coord")
TICKS = os.sysconf("SC_CLK_TCK")
IDLE_S = 20.0
PATHS = ("/", "/run?run=last", "/board", "/fleet")


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

    def __init__(self, port: int, session: str, number: int, paths: Sequence[str] = ("/",)) -> None:
        self._port, self._number, self._paths = port, number, paths
        self._head = f" HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: coord_session={session}\r\n"
        self.wanted = b""
        self.shown: list[float] = []
        """Times at which a page showed the state `wanted`, in seconds since 1970."""
        self._reached = asyncio.Semaphore(0)

    async def _ask(self, path: str, more: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"GET {path}{self._head}{more}\r\n".encode())
        return reader, writer

    async def follow(self, path: str, ready: asyncio.Semaphore) -> None:
        stream, told = await self._ask("/events")
        reader, writer = await self._ask(path, "HX-Request: true\r\n")
        done = b""
        try:
            while line := await stream.readline():
                if line.startswith(b": connected"):
                    await _body(reader)
                    ready.release()
                elif line.startswith(b"event: moved"):
                    writer.write(f"GET {path}{self._head}HX-Request: true\r\n\r\n".encode())
                    text, wanted = await _body(reader), self.wanted
                    if wanted not in (b"", done) and b">%b</span>" % wanted in text:
                        done = wanted
                        self.shown.append(time.time())
                        self._reached.release()
        finally:
            told.close()
            writer.close()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        ready = asyncio.Semaphore(0)
        paths = itertools.islice(itertools.cycle(self._paths), self._number)
        tasks = [asyncio.create_task(self.follow(path, ready)) for path in paths]
        try:
            for _ in tasks:
                await asyncio.wait_for(ready.acquire(), 60)
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def measure(self, coord: Coord, rounds: int) -> list[float]:
        """Return the seconds from events to pages that show them."""
        run, found = coord.runs.get("last"), []
        async with self.opened():
            for number in range(rounds):
                step, state = (run.pause, "paused") if number % 2 == 0 else (run.resume, "running")
                self.wanted, self.shown = state.encode(), []
                await asyncio.to_thread(step)
                for _ in range(self._number):
                    await asyncio.wait_for(self._reached.acquire(), 60)
                (event,) = coord.events.list(("run.paused", "run.resumed"), limit=1)
                at = int(event.id.partition("-")[0]) / 1000
                found += [shown - at for shown in self.shown]
                await asyncio.sleep(0.5)
        return found

    async def stay(self, seconds: float) -> None:
        """Keep the pages open while nothing happens."""
        async with self.opened():
            await asyncio.sleep(seconds)


async def _body(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    return await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0]))


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


def main(rows: report.Report, rounds: int, pages: int, pairs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as folder:
        server = EmbeddedServer(Path(folder, "server"), Settings())
        url = server.start()
        try:
            measure(rows, Path(folder), url, rounds, pages)
        finally:
            server.stop()
    if pairs:
        with tempfile.TemporaryDirectory(prefix="coord-bench-") as folder:
            cost_to_a_run(rows, Path(folder), pairs, pages)


def measure(rows: report.Report, folder: Path, redis_url: str, rounds: int, pages: int) -> None:
    file = folder / "ecosystem.yaml"
    file.write_text(ecosystem(redis_url))
    coord_command(folder, "sweep", "PLAN-1", "--detach")
    with served(folder) as (pid, port), Coord(file) as coord:
        figures(rows, coord, pid, port, Tokens(coord.state).add("ann"), rounds, pages)


def coord_command(folder: Path, *words: str) -> None:
    subprocess.run([COORD, "-q", *words], cwd=folder, check=True, capture_output=True)


@contextmanager
def served(folder: Path) -> Iterator[tuple[int, int]]:
    """Serve the dashboard of a folder; yield the process and the port."""
    port = free_port()
    process = subprocess.Popen(
        [COORD, "-q", "dashboard", "--listen", str(port)], cwd=folder, stderr=subprocess.PIPE
    )
    try:
        assert process.stderr
        process.stderr.readline()
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(20)


def cost_to_a_run(rows: report.Report, folder: Path, pairs: int, pages: int) -> None:
    """Add the ratio of the times of runs with open pages and without any."""
    for name in SMALL_REPOS:
        subprocess.run(["git", "init", "-q", "-b", "main", name], cwd=folder, check=True)
        identity = ("-c", "user.name=ann", "-c", "user.email=ann@example.org")
        commit = ("git", *identity, "commit", "-q", "--allow-empty", "-m", "first")
        subprocess.run(commit, cwd=folder / name, check=True)
    todos = [
        {"id": f"TODO-{n}", "task": "work", "repo": repo, "plan": "PLAN-1", "action": "sleep 0.05"}
        for n, repo in enumerate(SMALL_REPOS * SMALL_TODOS)
    ]
    declared = {"plans": [{"id": "PLAN-1", "title": "again", "recurring": True}], "todos": todos}
    repos = [{"name": name, "path": name} for name in SMALL_REPOS]
    (folder / "ecosystem.yaml").write_text(json.dumps({"repos": repos, "coordination": declared}))
    coord_command(folder, "up", "--detach", "--no-flower", "--no-dashboard")
    try:
        with served(folder) as (_, port), Coord(folder) as coord:
            tokens = Tokens(coord.state)
            session = tokens.sign_in(tokens.add("ann")) or ""
            both = Pages(port, session, pages, ("/", "/run?run=last"))
            seconds_of_run(coord)
            found = [asyncio.run(pair(coord, both)) for _ in range(pairs)]
    finally:
        coord_command(folder, "down")
    without = [one for one, _ in found]
    words = f"{pairs} pairs of runs of {len(todos)} todos, {statistics.median(without):.1f} s without pages"
    ratio = statistics.median(opened / alone for alone, opened in found)
    rows.add(f"time of a run with {pages} open pages", ratio, "x", at_most=1.1, beside=words)


async def pair(coord: Coord, pages: Pages) -> tuple[float, float]:
    alone = await asyncio.to_thread(seconds_of_run, coord)
    async with pages.opened():
        return alone, await asyncio.to_thread(seconds_of_run, coord)


def seconds_of_run(coord: Coord) -> float:
    view = coord.runs.sweep("PLAN-1").wait()
    assert view.status == "succeeded", view.status
    assert view.duration_s is not None
    return view.duration_s


def figures(
    rows: report.Report, coord: Coord, pid: int, port: int, token: str, rounds: int, pages: int
) -> None:
    static = [path for path in (HERE / "static").rglob("*") if path.suffix in (".js", ".css")]
    rows.add("script and style", sum(path.stat().st_size for path in static) / 1024, "KiB", at_most=150)
    if shutil.which("chromium"):
        for path, ms in first_paints(f"http://127.0.0.1:{port}", token).items():
            rows.add(f"first paint of {path}", ms, "ms", at_most=1000)
    else:
        rows.add("first paint of /", None, "ms", at_most=1000, beside="no Chromium here")
    open_pages = Pages(port, Tokens(coord.state).sign_in(token) or "", pages)
    found = asyncio.run(open_pages.measure(coord, rounds))
    beside = f"{len(found)} renewals of {pages} pages"
    shown = statistics.quantiles(found, n=100)
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
    parser.add_argument("--pairs", type=int, default=7, help="runs with pages and without any")
    options: Any = parser.parse_args()
    with report.report("dashboard", options) as found:
        main(found, options.rounds, options.pages, options.pairs)
