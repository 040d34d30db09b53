"""The dashboard in Debian's Chromium: no violation of accessibility rules, light and dark, by keyboard, on a
phone, live during a run with a kill in it, and across a restart of the server.

`make setup` installs Chromium where it runs as root with apt; AXE_CORE names the script of axe-core, which
`make setup` gets by npm. Without them these tests are skipped.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coordination.dashboard.access import Tokens
from tests.ports import free_port
from tests.stage import PLAN, Begun, Stage
from tests.waiting import until

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
AXE = Path(os.environ.get("AXE_CORE", Path(__file__).parents[2] / "build/axe-core/package/axe.min.js"))
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)
GO = 'echo begun; while [ ! -e "$LEDGER.go" ]; do sleep 0.1; done; echo gone on'
TODOS = [
    {"id": "LONG", "repo": "api", "action": GO},
    {"id": "NEXT", "repo": "api", "blocked_by": ["LONG"]},
    {"id": "GATED", "repo": "web", "gate": True, "task": "<b>look</b> at it"},
    {"id": "MADE", "repo": "web", "plan": "PLAN-003", "action": "echo '<b>new</b>' > made.txt"},
    {"id": "WRONG", "repo": "web", "plan": "PLAN-002", "action": "echo no; exit 1"},
]
PATHS = ("/", "/runs", "/run?id=last", "/run/gantt?id=last", "/todo?run=last&id=LONG", "/changes", "/board")
NEW = ("/change?plan=PLAN-003&repo=web", "/repositories", "/record?id=GATED")
MORE = ("/board?kind=plan", f"/record?id={PLAN}", "/fleet", "/history", "/run?id=unknown")


class Server:
    def __init__(self, stage: Stage) -> None:
        self._stage, self.port = stage, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        self.process: Begun = self._stage.begin("dashboard", "--listen", str(self.port))
        self.process.says("dashboard  http")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture(scope="module")
def stage(new_stage: Callable[[], Stage]) -> Stage:
    """A run that works and waits, and one that failed; two workers' slots."""
    made = new_stage()
    made.write(TODOS, plans=[{"id": "PLAN-002", "title": "fails"}, {"id": "PLAN-003", "title": "lands"}])
    made.up()
    made.coord("sweep", "PLAN-002")
    made.ok("sweep", "PLAN-003")
    made.ok("sweep", PLAN, "--detach")
    until(lambda: made.todo("LONG")["state"] == "running")
    return made


@pytest.fixture(scope="module")
def server(stage: Stage) -> Server:
    return Server(stage)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any, server: Server, stage: Stage) -> Iterator[Callable[..., Any]]:
    """Makes pages of a person who has signed in; fails where a page's console has an error."""
    errors: list[str] = []
    contexts: list[Any] = []
    token = Tokens(stage.state).add("ann")

    def make(**how: Any) -> Any:
        context = browser.new_context(**how)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if "Content Security" in said.text else None)
        page.goto(f"{server.url}/sign-in")
        page.wait_for_selector("#token:focus")
        page.keyboard.type(token)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{server.url}/")
        return page

    yield make
    for context in contexts:
        context.close()
    assert errors == []


def test_no_page_violates_a_rule_of_accessibility_light_or_dark(open_page: Any, server: Server):
    if not AXE.exists():
        pytest.skip(f"{AXE} is missing: make test gets it where npm is installed")
    page = open_page(color_scheme="light")
    script = AXE.read_text()
    for path in (*PATHS, *NEW, *MORE):
        page.goto(f"{server.url}{path}")
        page.evaluate(script)
        # Only colours differ between the two.
        for scheme, rules in (("light", "{}"), ("dark", "{runOnly: ['color-contrast']}")):
            page.emulate_media(color_scheme=scheme)
            found = page.evaluate(f"axe.run({rules}).then((result) => result.violations)")
            faults = [(one["id"], [node["html"][:200] for node in one["nodes"]][:3]) for one in found]
            assert faults == [], (path, scheme)
        page.emulate_media(color_scheme="light")


def test_nothing_is_wider_than_a_phone(open_page: Any, server: Server):
    page = open_page(viewport={"width": 360, "height": 740})
    for path in (*PATHS, *NEW):
        page.goto(f"{server.url}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


def test_a_page_is_live_during_a_run_a_kill_and_a_restart_and_a_person_approves_by_keyboard(
    open_page: Any, server: Server, stage: Stage
):
    page, log = open_page(), open_page()
    page.goto(f"{server.url}/run?id=last")
    log.goto(f"{server.url}/todo?run=last&id=LONG")
    log.wait_for_selector("pre.log:has-text('begun')")
    row = "tr:has(a:text-is('{}')) .state:text-is('{}')"
    page.wait_for_selector(row.format("GATED", "parked"))

    now = open_page()
    approve = now.locator("button:text-is('Approve')")
    for _ in range(60):
        if approve.evaluate("button => button === document.activeElement"):
            break
        now.keyboard.press("Tab")
    now.keyboard.press("Enter")
    now.wait_for_url("**/run?id=*done=approve")
    page.wait_for_selector(row.format("GATED", "succeeded"))

    killed = stage.daemon("worker").pid
    os.kill(killed, signal.SIGKILL)
    assert server.stop() == 0
    server.start()
    (stage.folder / "ledger.go").touch()
    page.wait_for_selector(row.format("NEXT", "succeeded"), timeout=60_000)
    log.wait_for_selector("pre.log:has-text('gone on')", timeout=30_000)
    assert "ann" in stage.todo("GATED")["approved_by"]


def test_a_picture_is_searched_zoomed_and_leads_to_its_todos(open_page: Any, server: Server):
    page = open_page()
    page.goto(f"{server.url}/run?id=last")
    width = "Number(document.querySelector('svg.chart').getAttribute('width'))"
    before = page.evaluate(width)
    page.click("button[aria-label='Zoom in']")
    assert page.evaluate(width) > before
    page.keyboard.press("/")
    page.keyboard.type("gated")
    assert page.locator("[data-todo].away").count() == 2
    page.click("[data-todo='GATED'] rect")
    page.wait_for_url("**/todo?run=*&id=GATED")
    assert page.locator("b:text-is('look')").count() == 0


def test_a_stopped_server_ends_its_streams_at_once(open_page: Any, server: Server):
    page = open_page()
    with page.expect_response("**/events*") as streaming:
        page.reload()
    assert streaming.value.status == 200

    code = server.stop()

    assert code == 0
    server.start()
