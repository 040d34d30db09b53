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

from coordination.api.coord import Coord
from coordination.dashboard.access import Tokens
from tests.forge.server import TestForge
from tests.forge_sites import add_credential, hosted
from tests.ports import free_port
from tests.testbed import PLAN, Begun, Testbed
from tests.waiting import until

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
AXE = Path(os.environ.get("AXE_CORE", Path(__file__).parents[2] / "build/axe-core/package/axe.min.js"))
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"
)
GO = 'seq 300; echo begun; while [ ! -e "$LEDGER.go" ]; do sleep 0.1; done; echo gone on'
NO = r"""seq 300; printf 'it is \033[31m<b>n\033[0mo</b> good\n'; echo error: again; echo No; exit 1"""
TODOS = [
    {"id": "LONG", "repo": "api", "action": GO},
    {"id": "NEXT", "repo": "api", "blocked_by": ["LONG"]},
    {"id": "GATED", "repo": "web", "gate": True, "task": "<b>look</b> at it"},
    {"id": "MADE", "repo": "hosted", "plan": "PLAN-003", "action": "echo '<b>new</b>' > made.txt"},
    {"id": "WRONG", "repo": "web", "plan": "PLAN-002", "action": NO},
    {"id": "UNDONE", "repo": "web", "plan": "PLAN-004", "action": "echo column is missing; exit 1"},
]
PATHS = (
    "/",
    "/runs",
    "/run?run={run}",
    "/run/gantt?run={run}",
    "/todo?run={run}&id=LONG",
    "/changes",
    "/board",
)
NEW = ("/change?plan=PLAN-003&repo=hosted", "/repositories", "/record?id=GATED", "/record?id=ISSUE-1")
MORE = ("/fleet", "/board?kind=plan", f"/record?id={PLAN}", "/history", "/run?run=unknown")
OPEN_FORMS = "for (const one of document.querySelectorAll('details')) one.open = true"


class Server:
    def __init__(self, testbed: Testbed) -> None:
        self._testbed, self.port = testbed, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        self.process: Begun = self._testbed.begin("dashboard", "--listen", str(self.port))
        self.process.says("dashboard  http")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestForge]:
    with TestForge(tmp_path_factory.mktemp("forge")) as made:
        yield made
    assert made.violations == []


@pytest.fixture(scope="module")
def testbed(new_testbed: Callable[[], Testbed], site: TestForge) -> Testbed:
    """A run that works and waits, one that failed, and a change set that a forge may have."""
    made, token = new_testbed(), site.token("coord")
    _, at_forge = hosted(made, site, "hosted", token)
    plans = [
        {"id": "PLAN-002", "title": "fails"},
        {"id": "PLAN-003", "title": "lands"},
        {"id": "PLAN-004", "title": "is undone", "on_failure": "rollback"},
    ]
    made.write(TODOS, plans=plans, repos={"hosted": {**at_forge, "qa": "test -e made.txt"}})
    made.up()
    add_credential(made, token)
    made.ok("create-issue", "--id", "ISSUE-1", "--title", "Slow", "--target", "2030-01-31")
    for plan in ("PLAN-002", "PLAN-004"):
        made.coord("sweep", plan)
    made.ok("sweep", "PLAN-003")
    made.ok("sweep", PLAN, "--detach")
    until(lambda: made.todo("LONG")["state"] == "running")
    return made


@pytest.fixture(scope="module")
def run(testbed: Testbed) -> str:
    runs = testbed.ok("list-runs", "--json", "--plan", PLAN).json
    return str((runs["runs"] if isinstance(runs, dict) else runs)[0]["run_id"])


@pytest.fixture(scope="module")
def server(testbed: Testbed) -> Server:
    return Server(testbed)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


def watched(page: Any, errors: list[str]) -> Any:
    """Add the errors of the page's console to the list."""
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda said: errors.append(said.text) if "Content Security" in said.text else None)
    return page


@pytest.fixture(scope="module")
def person(browser: Any, server: Server, testbed: Testbed) -> Any:
    """The browser of a person who has signed in by keyboard."""
    context, errors = browser.new_context(), list[str]()
    context.set_default_timeout(60_000)
    page = watched(context.new_page(), errors)
    page.goto(f"{server.url}/sign-in")
    page.wait_for_selector("#token:focus")
    page.keyboard.type(Tokens(testbed.state).add("ann"))
    page.keyboard.press("Enter")
    page.wait_for_url(f"{server.url}/")
    page.close()
    assert errors == []
    return context


@pytest.fixture
def open_page(person: Any, server: Server) -> Iterator[Callable[[], Any]]:
    """Opens pages at the first one of the dashboard; fails where a page's console has an error."""
    errors: list[str] = []
    pages: list[Any] = []

    def make() -> Any:
        page = watched(person.new_page(), errors)
        pages.append(page)
        page.goto(f"{server.url}/")
        return page

    yield make
    for page in pages:
        page.close()
    assert errors == []


def test_no_page_violates_a_rule_of_accessibility_light_or_dark(open_page: Any, server: Server, run: str):
    if not AXE.exists():
        pytest.skip(f"{AXE} is missing: make test gets it where npm is installed")
    page = open_page()
    page.emulate_media(color_scheme="light")
    script = AXE.read_text()
    for path in (*PATHS, *NEW, *MORE):
        page.goto(f"{server.url}{path.format(run=run)}")
        page.evaluate(OPEN_FORMS)
        page.evaluate(script)
        # Only colours differ between the two.
        for scheme, rules in (("light", "{}"), ("dark", "{runOnly: ['color-contrast']}")):
            page.emulate_media(color_scheme=scheme)
            found = page.evaluate(f"axe.run({rules}).then((result) => result.violations)")
            faults = [(one["id"], [node["html"][:200] for node in one["nodes"]][:3]) for one in found]
            assert faults == [], (path, scheme)
        page.emulate_media(color_scheme="light")


def test_nothing_is_wider_than_a_phone(open_page: Any, server: Server, run: str):
    page = open_page()
    page.set_viewport_size({"width": 360, "height": 740})
    for path in (*PATHS, *NEW, "/fleet"):
        page.goto(f"{server.url}{path.format(run=run)}")
        page.evaluate(OPEN_FORMS)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


def reach(page: Any, selector: str) -> None:
    """Go to an element by the key Tab alone."""
    wanted = page.locator(selector).first
    wanted.wait_for()
    for _ in range(100):
        if wanted.evaluate("one => one === document.activeElement"):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} is not reached by the keyboard")


def press(page: Any, selector: str) -> None:
    reach(page, selector)
    page.keyboard.press("Enter")


def confirm(page: Any, label: str) -> None:
    """Open the form behind a button, and send it."""
    press(page, f"summary:text-is('{label} …')")
    press(page, f"details[open] button:text-is('{label}')")


def issue(testbed: Testbed) -> dict[str, Any]:
    found: dict[str, Any] = testbed.ok("show-issue", "ISSUE-1", "--json").json
    return found


def test_forms_are_filled_in_by_keyboard(open_page: Any, server: Server, testbed: Testbed, site: TestForge):
    page = open_page()
    press(page, "tr:has-text('PLAN-002') button:text-is('Retry')")
    page.wait_for_url("**/run?run=*done=retry")

    page.goto(f"{server.url}/change?plan=PLAN-003")
    confirm(page, "Check")
    page.wait_for_url("**/run?run=*done=check")
    page.wait_for_selector(".head .state:text-is('succeeded')")
    page.goto(f"{server.url}/change?plan=PLAN-003")
    page.wait_for_selector("td .good:has-text('green')")
    confirm(page, "Open requests")
    page.wait_for_url("**/change?plan=PLAN-003&done=request")
    page.wait_for_selector("summary:text-is('Update requests …')")
    assert len(site.core.projects[0].requests) == 1

    with Coord(testbed.file) as coord:
        coord.locks.acquire("deploy", owner="first")
        page.goto(f"{server.url}/fleet")
        press(page, "tr:has-text('deploy') summary")
        reach(page, "tr:has-text('deploy') input[type=checkbox]")
        page.keyboard.press("Space")
        press(page, "tr:has-text('deploy') button")
        page.wait_for_url("**/fleet?done=release-lock")
        assert "deploy" not in {lock.name for lock in coord.locks.list()}

    page.goto(f"{server.url}/record?id=ISSUE-1")
    for field, keys in (("title", "Slower"), ("assignee", "bob"), ("priority", "h"), ("target", "12312031")):
        reach(page, f"#edit [name={field}]")
        page.keyboard.type(keys)
    press(page, "#edit button")
    page.wait_for_url("**/record?id=ISSUE-1&done=edit")
    edited = issue(testbed)
    assert [edited[name] for name in ("title", "assignee", "priority", "target")] == [
        *("Slower", "bob", "high", "2031-12-31")
    ]


def test_the_second_of_two_tabs_that_edit_a_record_keeps_what_was_typed_and_is_told(
    open_page: Any, server: Server, testbed: Testbed
):
    one, other = open_page(), open_page()
    for page in (one, other):
        page.goto(f"{server.url}/record?id=ISSUE-1")
    other.fill("#edit [name=title]", "typed by the second")
    other.select_option("#edit [name=priority]", "low")

    one.fill("#edit [name=title]", "of the first")
    one.fill("#edit [name=assignee]", "cat")
    one.click("#edit button")
    one.wait_for_url("**/record?id=ISSUE-1&done=edit")
    other.wait_for_selector(".head:has-text('of the first')")
    typed = [other.input_value(f"#edit [name={name}]") for name in ("title", "priority")]
    other.click("#edit button")
    other.wait_for_selector("[role=alert]:has-text('meanwhile')")
    kept = issue(testbed)["title"]
    with other.expect_response("**/record?id=ISSUE-1"):  # a renewal leaves the answer as it is
        testbed.ok("update-issue", "ISSUE-1", "--description", "renewed")
    other.wait_for_selector(".text:text-is('renewed')")
    again = [other.input_value(f"#edit [name={name}]") for name in ("title", "assignee", "priority")]
    other.click("#edit button")
    other.wait_for_url("**/record?id=ISSUE-1&done=edit")

    assert typed == ["typed by the second", "low"]
    assert kept == "of the first"
    assert again == ["typed by the second", "cat", "low"]
    assert [issue(testbed)[name] for name in ("title", "assignee")] == ["typed by the second", "cat"]


def test_a_page_is_live_during_a_run_a_kill_and_a_restart_and_a_person_approves_by_keyboard(
    open_page: Any, server: Server, testbed: Testbed, run: str
):
    page, log = open_page(), open_page()
    page.goto(f"{server.url}/run?run={run}")
    log.goto(f"{server.url}/todo?run={run}&id=LONG")
    log.wait_for_selector("pre.log:has-text('begun')")
    log.evaluate(f"{LOG}.scrollTop = 0")
    press(log, "button:text-is('↓ Follow')")
    log.wait_for_selector("button:text-is('↓ Follow')", state="hidden")
    assert log.evaluate(f"{LOG}.scrollTop + {LOG}.clientHeight - {LOG}.scrollHeight") > -2
    row = "tr:has(a:text-is('{}')) .state:text-is('{}')"
    page.wait_for_selector(row.format("GATED", "parked"))

    now = open_page()
    press(now, "button:text-is('Approve')")
    now.wait_for_url("**/run?run=*done=approve")
    page.wait_for_selector(row.format("GATED", "succeeded"))
    now.wait_for_selector(row.format("GATED", "succeeded"))
    assert now.locator(".done:text-is('Done: approve.')").count() == 1  # a renewal keeps the confirmation

    page.fill("[data-search]", "next")  # a renewal leaves it as it is
    killed = testbed.daemon("worker").pid
    os.kill(killed, signal.SIGKILL)
    assert server.stop() == 0
    page.wait_for_selector("#lost:has-text('The dashboard does not answer')")
    assert not page.is_visible("#updates")
    assert page.is_disabled(".actions button >> nth=0")
    server.start()
    page.wait_for_selector("#lost", state="hidden")
    assert page.is_visible("#updates")
    assert page.is_enabled(".actions button >> nth=0")
    (testbed.folder / "ledger.go").touch()
    page.wait_for_selector(row.format("NEXT", "succeeded"))
    assert page.input_value("[data-search]") == "next"
    assert page.locator("[data-todo='NEXT']:not(.away)").count() == 1
    assert page.locator("[data-todo].away").count() == 2
    log.wait_for_selector("pre.log:has-text('gone on')")
    log.wait_for_selector("#last-attempt .state:text-is('succeeded')")
    shown = log.locator("pre.log .line").all_inner_texts()
    assert [line.lstrip("0123456789").strip() for line in shown].count("gone on") == 1
    ids = log.eval_on_selector_all("pre.log .line", "all => all.map((one) => one.id)")
    assert ids == [f"L{number}" for number in range(1, len(ids) + 1)]
    assert "ann" in testbed.todo("GATED", run)["approved_by"]


LOG = "document.querySelector('pre.log[data-follow]')"
IN_VIEW = """one => { const [box, own] = [one.closest("pre"), one].map((e) => e.getBoundingClientRect());
    return own.top >= box.top && own.bottom <= box.bottom && own.top >= 0 && own.bottom <= innerHeight; }"""


def test_a_log_is_searched_marked_copied_and_wrapped(open_page: Any, server: Server, testbed: Testbed):
    page = open_page()
    run = testbed.ok("list-runs", "--json", "--plan", "PLAN-002").json
    run_id = (run["runs"] if isinstance(run, dict) else run)[-1]["run_id"]
    address = f"{server.url}/todo?run={run_id}&id=WRONG"
    marked = ".line.marked"

    page.goto(f"{address}#L40")
    page.wait_for_selector(marked)
    assert page.locator(marked).all_inner_texts() == ["4040\n"]
    assert page.locator(marked).evaluate(IN_VIEW)
    page.click("#L43 > a", modifiers=["Shift"])
    page.wait_for_url("**#L40-L43")
    assert page.locator(marked).count() == 4
    page.goto(f"{server.url}/")
    page.goto(f"{address}#L40-L43")
    page.wait_for_selector(marked)
    assert page.locator(marked).count() == 4

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("button:text-is('Copy')")
    page.wait_for_selector("[data-tool=said]:has-text('Copied: 4 lines')")
    assert page.evaluate("navigator.clipboard.readText()") == "40\n41\n42\n43\n"

    page.keyboard.press("/")
    page.keyboard.type("NO<")
    page.wait_for_selector("[data-tool=count]:text-is('1 found')")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-tool=count]:text-is('1 of 1')")
    assert page.locator("#L301").evaluate(IN_VIEW)
    assert page.evaluate("[...CSS.highlights.get('found')].map(String)") == ["no<"]
    page.click("a:text-is('First error')")
    page.wait_for_url("**#L302")
    assert page.locator("#L302.error").evaluate(IN_VIEW)

    press(page, "button[aria-pressed='true']:text-is('Wrap')")
    page.reload()
    page.wait_for_selector("button[aria-pressed='false']:text-is('Wrap')")
    assert page.locator("pre.log.no-wrap").count() == 1
    press(page, "#L1 > a")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**#L2")


def test_a_picture_is_searched_zoomed_and_leads_to_its_todos(open_page: Any, server: Server, run: str):
    page = open_page()
    page.goto(f"{server.url}/run?run={run}")
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


def test_a_run_that_its_own_rule_has_undone_leads_to_the_cause(open_page: Any):
    page = open_page()
    failed = page.locator("tr:has-text('PLAN-004')")
    assert "exit code 1" in failed.inner_text()
    failed.locator("a:text-is('UNDONE')").click()
    page.wait_for_selector("pre.log:has-text('column is missing')")


def test_a_wrong_token_loses_no_address(browser: Any, server: Server, testbed: Testbed, run: str):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{server.url}/todo?run={run}&id=LONG")
    for token in ("x.wrong", Tokens(testbed.state).add("eve")):
        page.fill("#token", token)
        page.click("button:text-is('Sign in')")
    page.wait_for_url(f"**/todo?run={run}&id=LONG")
    page.goto(f"{server.url}/nowhere")
    page.click("nav a:text-is('Runs')")  # an unknown address is no dead end
    page.wait_for_url("**/runs")
    context.close()


def test_the_link_to_a_difference_leads_to_it(open_page: Any, server: Server):
    page = open_page()
    page.set_viewport_size({"width": 800, "height": 300})
    page.goto(f"{server.url}/change?plan=PLAN-003")
    page.click("th a:text-is('hosted')")
    page.wait_for_url("**/change?plan=PLAN-003&repo=hosted#diff")
    assert page.evaluate("document.getElementById('diff').getBoundingClientRect().top") < 300
    assert page.locator("pre.diff .add").all_inner_texts() == ["+<b>new</b>\n"]
    assert page.locator("pre.diff .del").count() == 0


def test_a_stopped_server_ends_its_streams_at_once(open_page: Any, server: Server):
    page = open_page()
    with page.expect_response("**/events*") as streaming:
        page.reload()
    assert streaming.value.status == 200

    code = server.stop()

    assert code == 0
    server.start()
