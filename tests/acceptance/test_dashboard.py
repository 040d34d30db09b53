"""The dashboard over HTTP: every page and every action, with hostile text in the file and in the logs, on
real runs; rights, forms of other sites, two tabs at once, and a Redis that goes away.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any

import pytest
import yaml
from starlette.testclient import TestClient

from coordination.api.coord import Coord
from coordination.dashboard.access import GUESSES, Tokens
from coordination.dashboard.app import Dashboard
from coordination.dashboard.pages import LONGEST_FORM
from coordination.dashboard.snapshots import Snapshots
from coordination.dashboard.views import VIEWS, history
from coordination.errors import LockLost
from tests.forge.server import TestForge
from tests.forge_sites import add_credential, hosted
from tests.testbed import PLAN, Testbed
from tests.trusted_worker import Persons
from tests.waiting import until

EVIL = "<script>alert(1)</script>\x1b[31mred\u202eesrever"
LOUD = r"""head -c 1000000 /dev/zero | tr '\0' x; printf '\n\033[31m<b>bold</b>\342\200\256 \n'; exit 3"""
WRITE = r"""printf '<b>bold</b>\033[31m \342\200\256\n' > evil.txt; seq 100000 > long.txt"""
TODOS: list[dict[str, Any]] = [
    {"id": "GATED", "repo": "api", "gate": True, "task": EVIL},
    {"id": "AFTER", "repo": "api", "blocked_by": ["GATED"]},
    {"id": "LOUD", "repo": "web", "plan": "PLAN-002", "action": LOUD},
    {"id": "HELD", "repo": "web", "plan": "PLAN-002", "blocked_by": ["LOUD"]},
    {"id": "ASKED", "repo": "web", "plan": "PLAN-003", "gate": True},
    {"id": "BAD", "repo": "web", "plan": "PLAN-004", "action": "exit 1"},
    {"id": "STOPPED", "repo": "web", "plan": "PLAN-005", "gate": True},
    {"id": "NAY", "repo": "web", "plan": "PLAN-006", "gate": True},
    {"id": "WROTE", "repo": "docs", "plan": "PLAN-007", "action": WRITE},
    {"id": "QUIET", "repo": "docs", "plan": "PLAN-007", "blocked_by": ["WROTE"]},
    {"id": "OFFERED", "repo": "hosted", "plan": "PLAN-008", "action": "echo new > new"},
]
PLANS = [{"id": f"PLAN-00{number}", "title": EVIL} for number in (2, 3, 4, 5, 6, 7, 8)]


class Tab:
    """A browser's tab: a client with a session of its own."""

    def __init__(self, client: TestClient, token: str) -> None:
        self._client = client
        self.cookies: dict[str, str] = {}
        answer = client.post("/sign-in", data={"token": token}, follow_redirects=False)
        assert answer.status_code == 303
        self.cookies = {"coord_session": answer.cookies["coord_session"]}
        client.cookies.clear()

    def get(self, path: str, **query: str) -> Any:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        return self._client.get(path, params=query, headers=headers, follow_redirects=False)

    def do(self, action: str, *, csrf: str | None = None, headers: Any = None, **fields: str) -> Any:
        sent = {"Cookie": f"coord_session={self.cookies['coord_session']}", **(headers or {})}
        form = {"csrf": self.csrf if csrf is None else csrf, **fields}
        return self._client.post(f"/do/{action}", data=form, headers=sent, follow_redirects=False)

    @property
    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="(\w+)"', self.get("/board").text)
        assert found
        return found[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestForge]:
    with TestForge(tmp_path_factory.mktemp("forge")) as made:
        yield made
    assert made.violations == []


@pytest.fixture(scope="module")
def testbed(new_testbed: Callable[[], Testbed], site: TestForge) -> Testbed:
    """A run that failed loudly, one that waits for an approval, and workers that stay."""
    made = new_testbed()
    _, at_forge = hosted(made, site, "hosted", site.token("coord"))
    repos = {"hosted": {**at_forge, "qa": "test -e new"}}
    made.write(TODOS, plans=PLANS, plan={"title": EVIL}, repos=repos)
    made.up()
    made.coord("sweep", "PLAN-002")
    made.ok("sweep", PLAN, "--detach")
    until(lambda: made.todo("GATED")["state"] == "parked")
    return made


@pytest.fixture(scope="module")
def client(testbed: Testbed) -> Iterator[TestClient]:
    with TestClient(Dashboard(Snapshots(testbed.file), Tokens(testbed.state)).app()) as made:
        yield made


@pytest.fixture
def tab(client: TestClient, testbed: Testbed) -> Tab:
    return Tab(client, Tokens(testbed.state).add("ann"))


def run_of(testbed: Testbed, plan: str) -> str:
    runs = testbed.ok("list-runs", "--json", "--plan", plan).json
    return str((runs["runs"] if isinstance(runs, dict) else runs)[0]["run_id"])


def test_each_page_shows_hostile_text_as_text_and_allows_nothing_from_elsewhere(testbed: Testbed, tab: Tab):
    run, failed = run_of(testbed, PLAN), run_of(testbed, "PLAN-002")
    queries = {
        "/run": {"run": run},
        "/run/gantt": {"run": failed},
        "/todo": {"run": failed, "id": "LOUD"},
        "/todo/log": {"run": failed, "id": "LOUD"},
        "/todo/raw": {"run": failed, "id": "LOUD"},
        "/change": {"plan": "PLAN-002"},
        "/record": {"id": PLAN},
    }
    for path in VIEWS:
        answer = tab.get(path, **queries.get(path, {}))
        if path == "/change":  # nothing of it succeeded
            assert answer.status_code == 404
        else:
            assert answer.status_code == 200, (path, answer.text[-3000:])
        assert "<script>alert" not in answer.text, path
        assert ("<b>bold" in answer.text) == (path == "/todo/raw"), path  # which is no HTML
        assert not set(answer.text) & set("\x1b\u202e"), path
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", answer.text), path
        assert not re.search(r"\sstyle=|<style|\son\w+=", answer.text), path


def test_the_page_now_answers_what_runs_waits_failed_and_is_unhealthy(testbed: Testbed, tab: Tab):
    text = unescape(tab.get("/").text)

    assert run_of(testbed, PLAN) in text
    assert "GATED</a> waits for an approval" in text
    assert run_of(testbed, "PLAN-002") in text
    assert 'value="GATED"' in text  # the form that approves it


def test_the_page_now_names_a_run_that_its_own_rule_has_undone(own_testbed: Testbed):
    undone = [
        {"id": "U1", "repo": "api"},
        {"id": "U2", "repo": "api", "blocked_by": ["U1"], "action": "exit 1"},
    ]
    own_testbed.write(undone, plan={"on_failure": "rollback"}, plans=[{"id": "PLAN-002", "title": "by hand"}])
    assert own_testbed.sweep().json["status"] == "rolled_back"
    own_testbed.up()
    run = run_of(own_testbed, PLAN)

    with TestClient(Dashboard(Snapshots(own_testbed.file), Tokens(own_testbed.state)).app()) as client:
        assert run in Tab(client, Tokens(own_testbed.state).add("ann")).get("/").text


def test_a_run_that_is_older_than_the_newest_is_compared_by_plan_and_state(
    testbed: Testbed, tab: Tab, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(history, "RUNS", 1)
    older, newer = run_of(testbed, "PLAN-002"), run_of(testbed, PLAN)

    page = tab.get("/history", one=older, other=newer).text

    assert re.search(rf'<option value="{older}" selected>PLAN-002 failed', page)


def test_a_closed_breaker_with_failures_is_no_warning_and_needs_no_reset(testbed: Testbed, tab: Tab):
    def shown(state: str) -> str:
        text = tab.get("/fleet").text
        found = re.search(
            rf'<li id="breaker-action:look"><span class="state[^>]*>{state}<.*?</li>', text, re.S
        )
        return found[0] if found else ""

    def fail() -> None:
        with pytest.raises(ZeroDivisionError):
            coord.breakers.call("look", lambda: 1 / 0)

    with Coord(testbed.file) as coord:
        fail()
        closed = until(lambda: shown("closed"))
        while not coord.breakers.list()[0].tripped:
            fail()
        opened = until(lambda: shown("open"))

    assert ("/do/reset-breaker" in closed, "state held" in closed) == (False, False)
    assert ("/do/reset-breaker" in opened, "state bad" in opened) == (True, True)


@pytest.mark.parametrize(("path", "state"), [("/runs", ""), ("/run", "failed: ")])
def test_the_bar_of_a_failed_run_says_so_in_colour_and_in_words(
    testbed: Testbed, tab: Tab, path: str, state: str
):
    """In the list, the state has a column of its own, and the bar does not repeat it."""
    failed = run_of(testbed, "PLAN-002")
    text = tab.get(path, run=failed).text

    assert re.search(rf'<progress class="bad"[^>]* aria-label="progress of run {failed}"', text)
    assert re.search(rf"<strong>\s*{state}0 of \d+ succeeded", text)


def test_the_last_lines_of_its_output_stand_below_a_failed_todo(testbed: Testbed, tab: Tab):
    for page in (tab.get("/"), tab.get("/run", run=run_of(testbed, "PLAN-002"))):
        (tail,) = re.findall(r'<pre class="tail"[^>]*>(.*?)</pre>', page.text, re.DOTALL)
        said = html.unescape(re.sub(r"<[^>]+>", "", tail)).splitlines()
        assert said[-1] == "<b>bold</b>\\u202e"
        assert "<b>" not in tail


def test_a_log_is_shown_to_its_end_and_goes_on_where_it_was(testbed: Testbed, tab: Tab):
    run = run_of(testbed, "PLAN-002")

    page = unescape(tab.get("/todo", run=run, id="LOUD").text)
    whole = tab.get("/todo/log", run=run, id="LOUD").text
    last = tab.get("/todo/log", run=run, id="LOUD", **{"from": "9999999999999-0-0", "line": "3"}).text

    assert r'<span class="ansi-31"><b>bold</b>\u202e' in page
    last_line = len(tab.get("/todo/raw", run=run, id="LOUD").text.splitlines())
    assert numbers(page) == list(range(numbers(page)[0], last_line + 1))
    assert "xxxx" in whole
    assert numbers(last) == []
    assert [tab.get("/todo/log", **of).status_code for of in ({"run": run}, {"id": "LOUD"})] == [400, 400]
    assert "hx-get" not in last  # it has ended, so nothing asks again


def numbers(page: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="L(\d+)"', page)]


def test_each_attempt_has_a_section_and_its_first_error_is_marked(own_testbed: Testbed):
    lines = "echo one; echo 'Error: <b>' >&2; echo fatal: again"
    again = f'{lines}; test -e "$LEDGER.tried" && exit 0; touch "$LEDGER.tried"; exit 3'
    todo = {"id": "TWICE", "repo": "api", "action": again, "retry": {"attempts": 2, "delay": "PT0.1S"}}
    own_testbed.write([todo])
    own_testbed.sweep()
    own_testbed.up()
    run = run_of(own_testbed, PLAN)

    with TestClient(Dashboard(Snapshots(own_testbed.file), Tokens(own_testbed.state)).app()) as client:
        visitor = Tab(client, Tokens(own_testbed.state).add("ann"))
        page = visitor.get("/todo", run=run, id="TWICE").text
        raw = visitor.get("/todo/raw", run=run, id="TWICE")
        refused = client.get("/todo/raw", params={"run": run, "id": "TWICE"}, follow_redirects=False)

    heads = re.findall(r"<summary[^>]*>(.*?)</summary>", page, re.S)
    said = [re.sub(r"<[^>]*>", "", head).split()[:3] for head in heads if "Attempt" in head]
    assert said == [["Attempt", "1", "failed"], ["Attempt", "2", "succeeded"]]
    assert numbers(page) == list(range(1, len(raw.text.splitlines()) + 1))
    assert re.findall(r'<span class="line error" id="(\w+)">', page) == ["L2", "L8"]
    assert 'href="#L8">First error' in page
    assert raw.text.splitlines() == own_testbed.ok("logs", run, "TWICE").out.splitlines()
    assert raw.headers["content-type"].startswith("text/plain")
    assert raw.headers["content-disposition"] == f'attachment; filename="{run}-TWICE.log"'
    assert refused.status_code == 303


def test_nobody_reads_without_a_session_and_guesses_are_bounded(testbed: Testbed, fresh: Any):
    client = fresh()

    assert client.get("/run?run=last", follow_redirects=False).headers["location"] == (
        "/sign-in?to=%2Frun%3Frun%3Dlast"
    )
    assert client.get("/", headers={"HX-Request": "true"}, follow_redirects=False).status_code == 401
    assert client.post("/do/cancel", data={"run": "last"}, follow_redirects=False).status_code == 401
    answer = client.post(
        "/sign-in",
        data={"token": Tokens(testbed.state).add("cat"), "to": "//evil.example/"},
        follow_redirects=False,
    )
    assert answer.headers["location"] == "/"
    assert "HttpOnly" in answer.headers["set-cookie"]
    for strange in ({"token": "x" * 2 * LONGEST_FORM}, {f"field-{n}": "x" for n in range(200)}):
        assert client.post("/sign-in", data=strange).status_code == 400
    guesses = [client.post("/sign-in", data={"token": "a.b"}).status_code for _ in range(GUESSES + 1)]
    assert guesses == [401] * GUESSES + [429]


def test_pages_below_a_prefix_stay_below_it(testbed: Testbed):
    token = Tokens(testbed.state).add("fay")
    with TestClient(
        Dashboard(Snapshots(testbed.file), Tokens(testbed.state), prefix="/coord").app()
    ) as client:
        for base in ("/coord", ""):  # a proxy may leave the prefix in the path, or remove it
            signed = client.post(f"{base}/sign-in", data={"token": token}, follow_redirects=False)
            assert signed.headers["location"] == "/coord/"
            assert "Path=/coord" in signed.headers["set-cookie"]
            cookie = {"Cookie": f"coord_session={signed.cookies['coord_session']}"}
            answer = client.get(f"{base}/runs", headers=cookie, follow_redirects=False)
            assert answer.status_code == 200
            assert not re.search(r'(?:href|src|action|hx-get)="/(?!coord)', answer.text)
            assert client.get(f"{base}/static/dashboard.css").status_code == 200


def test_the_question_of_an_agent_is_shown_as_text_and_answered(own_testbed: Testbed):
    testbed = own_testbed
    ask = 'touch asked; echo "<script>alert(1)</script>" > "$COORD_QUESTION"'
    asks = f"if test -e asked; then echo two > code; else {ask}; fi"
    testbed.settings = {"agents": [{"name": "mine", "kind": "command", "command": ["sh", "-c", asks]}]}
    todo = {"id": "Q", "repo": "api", "action": {"type": "agent", "agent": ["mine"], "verify": []}}
    testbed.write([todo], repos={"api": {"sandbox": "off"}})
    testbed.ok("sweep", PLAN, "--detach")
    until(lambda: testbed.todo("Q")["state"] == "parked")

    with TestClient(Dashboard(Snapshots(testbed.file), Tokens(testbed.state)).app()) as client:
        tab = Tab(client, Tokens(testbed.state).add("ann"))
        page = tab.get("/").text
        assert "Q</a> waits for a person; mine asks: " in page
        assert "<script>alert" not in page
        assert tab.do("approve", run=run_of(testbed, PLAN), todo="Q", comment="two").status_code == 303

        until(lambda: testbed.run()["status"] == "succeeded")
        run = run_of(testbed, PLAN)
        shown = "2 rounds, 0 turns, 0 tokens"
        assert tab.get("/run", run=run).text.count(shown) == 2, "the sum, and that of the todo"
        assert shown in tab.get("/todo", run=run, id="Q").text


def test_without_redis_a_page_says_how_old_it_is_and_goes_on_when_it_is_back(own_testbed: Testbed):
    testbed = own_testbed
    with TestClient(Dashboard(Snapshots(testbed.file), Tokens(testbed.state)).app()) as client:
        tab = Tab(client, Tokens(testbed.state).add("ann"))
        assert 'class="stale"' not in tab.get("/runs").text
        testbed.ok("down")

        away = until(lambda: 'class="stale"' in (page := tab.get("/runs").text) and page)
        assert "this was read <time" in away
        unseen = tab.get("/fleet")
        assert unseen.status_code == 503
        assert "coord up" in unseen.text
        testbed.up()
        until(lambda: 'class="stale"' not in tab.get("/runs").text)
    testbed.ok("down")


@pytest.fixture
def own_testbed(new_testbed: Callable[[], Testbed]) -> Testbed:
    made = new_testbed()
    made.write(repos=["api"])
    made.up()
    return made


def test_a_form_of_another_site_and_a_token_for_reading_change_nothing(
    testbed: Testbed, tab: Tab, fresh: Any
):
    client = fresh()
    reader = Tab(client, Tokens(testbed.state).add("bob", read_only=True))
    writer = Tab(client, Tokens(testbed.state).add("dan"))
    run = run_of(testbed, PLAN)

    assert writer.do("cancel", csrf="", run=run).status_code == 403
    assert writer.do("cancel", csrf=reader.csrf, run=run).status_code == 403
    assert writer.do("cancel", run=run, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert reader.do("cancel", run=run).status_code == 403
    assert "/do/cancel" not in reader.get("/run", run=run).text
    assert writer.do("nothing").status_code == 404
    assert writer.do("pause").status_code == 400
    assert writer.do("pause", run="x" * 70_000).status_code == 400
    assert testbed.run(run)["status"] == "running"


@pytest.fixture
def fresh(testbed: Testbed) -> Iterator[Callable[[], TestClient]]:
    """Makes servers that know of no guesses."""
    made: list[TestClient] = []

    def make() -> TestClient:
        client = TestClient(Dashboard(Snapshots(testbed.file), Tokens(testbed.state)).app())
        client.__enter__()
        made.append(client)
        return client

    yield make
    for client in made:
        client.__exit__(None, None, None)


def test_two_tabs_that_act_at_once_and_what_a_person_does_has_the_name_of_the_person(
    testbed: Testbed, fresh: Any
):
    client = fresh()
    token = Tokens(testbed.state).add("eve")
    one, other = Tab(client, token), Tab(client, token)
    testbed.ok("sweep", "PLAN-003", "--detach")
    run = run_of(testbed, "PLAN-003")
    until(lambda: testbed.todo("ASKED", run)["state"] == "parked")

    assert one.do("pause", run=run).status_code == 303
    assert other.do("pause", run=run).status_code == 409
    assert one.do("resume", run=run).status_code == 303
    assert one.do("approve", run=run, todo="ASKED", comment=EVIL).status_code == 303
    twice = other.do("approve", run=run, todo="ASKED")

    assert twice.status_code == 409
    assert "was approved by eve" in unescape(twice.text)
    until(lambda: testbed.run(run)["status"] == "succeeded")
    assert testbed.todo("ASKED", run)["approved_by"] == "eve"
    assert "<script>alert" not in one.get("/todo", run=run, id="ASKED").text


def test_the_board_edits_the_file_as_the_command_does(testbed: Testbed, fresh: Any):
    tab = Tab(fresh(), Tokens(testbed.state).add("ann"))
    fields = {"kind": "todo", "record": "HELD", "was-priority": "medium", "was-assignee": ""}
    before = testbed.file.read_text()
    testbed.file.write_text(f"# of a person\n{before}")
    options = ("--status", "cancelled", "--assignee", "bob: # no comment", "--priority", "high")
    testbed.ok("todo", "update", "HELD", *options)
    by_command = testbed.file.read_bytes()
    testbed.file.write_text(f"# of a person\n{before}")

    changed = {"status": "cancelled", "assignee": "bob: # no comment", "priority": "high"}
    assert tab.do("edit", **fields, **changed).status_code == 303
    by_page = testbed.file.read_bytes()
    refused = tab.do("edit", kind="todo", record="HELD", status="nonsense").status_code
    # A form that was loaded before the edit takes nothing back.
    assert tab.do("edit", **fields, assignee="", priority="medium", task="again").status_code == 303
    edited = testbed.ok("show-todo", "HELD", "--json").json
    testbed.ok("todo", "update", "HELD", "--status", "pending")

    assert (by_page, refused) == (by_command, 400)
    assert (edited["assignee"], edited["priority"]) == ("bob: # no comment", "high")
    assert edited["task"] == "again"
    assert "HELD" in tab.get("/board", status="blocked").text or "HELD" in tab.get("/board").text
    assert "must be one of" in unescape(tab.get("/board", status="nonsense").text)


def fields_of(page: str) -> dict[str, str]:
    """Return what a browser sends of the form that edits a record."""
    form = page.partition('id="edit"')[2].partition("</form>")[0]
    found = dict(re.findall(r'<input[^>]* name="([\w-]+)" value="([^"]*)"', form))
    for name, options in re.findall(r'<select name="(\w+)">(.*?)</select>', form):
        (found[name],) = re.findall(r'value="(\w+)" selected', options)
    found.pop("csrf")
    return {name: unescape(value) for name, value in found.items()}


def test_of_two_tabs_that_edit_one_record_the_second_is_told_and_nothing_is_lost(
    testbed: Testbed, fresh: Any
):
    testbed.ok("create-issue", "--id", "ISSUE-8", "--title", "first", "--target", "2030-01-31")
    client, token = fresh(), Tokens(testbed.state).add("ann")
    one, other = Tab(client, token), Tab(client, token)
    loaded = fields_of(one.get("/record", id="ISSUE-8").text)

    mine = one.do("edit", **{**loaded, "title": f"mine {EVIL}", "assignee": "ann"})
    beside = other.do("edit", **{**loaded, "priority": "high", "target": "2031-01-31"})
    told = other.do("edit", **{**loaded, "title": "theirs", "status": "in_progress"})
    between = testbed.ok("show-issue", "ISSUE-8", "--json").json
    again = fields_of(told.text)
    insisted = other.do("edit", **again)
    after = testbed.ok("show-issue", "ISSUE-8", "--json").json

    assert [answer.status_code for answer in (mine, beside, told, insisted)] == [303, 303, 409, 303]
    assert "title was 'first' and is 'mine <script>" in unescape(told.text)
    assert "<script>alert" not in told.text
    assert [between[name] for name in ("assignee", "priority", "target", "status")] == [
        *("ann", "high", "2031-01-31", "pending")
    ]
    assert between["title"].startswith("mine")
    assert (again["title"], again["assignee"], again["status"]) == ("theirs", "ann", "in_progress")
    assert (after["title"], after["status"], after["priority"]) == ("theirs", "in_progress", "high")


def test_a_change_set_is_checked_and_its_requests_are_opened_once(
    testbed: Testbed, site: TestForge, fresh: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(testbed.folder / "config"))  # where credentials are kept
    tab = Tab(fresh(), Tokens(testbed.state).add("ann"))
    testbed.ok("sweep", "PLAN-008")
    before = tab.get("/change", plan="PLAN-008").text

    refused = tab.do("request", plan="PLAN-008")
    add_credential(testbed, site.token("coord"))
    opened = [tab.do("request", plan="PLAN-008").status_code for _ in range(2)]
    checked = tab.do("check", plan="PLAN-008")
    until(
        lambda: testbed.run(checked.headers["location"].partition("run=")[2].partition("&")[0])["finished_at"]
    )
    after = tab.get("/change", plan="PLAN-008").text

    assert 'action="/do/check"' in before
    assert "Open requests" in before
    assert refused.status_code >= 400
    assert "coord credential add" in unescape(refused.text)
    assert opened == [303, 303]
    (request,) = site.core.projects[0].requests
    assert f'href="{site.site}/acme/hosted/pull/{request.number}"' in after
    assert "Update requests" in after
    assert "unit: green" in after or "qa: green" in after


def test_a_failed_run_is_retried_and_a_live_one_cancelled(testbed: Testbed, fresh: Any):
    tab = Tab(fresh(), Tokens(testbed.state).add("ann"))
    testbed.coord("sweep", "PLAN-004")
    testbed.ok("sweep", "PLAN-005", "--detach")

    retried = tab.do("retry", run=run_of(testbed, "PLAN-004"))
    cancelled = tab.do("cancel", run=run_of(testbed, "PLAN-005"))

    assert (retried.status_code, cancelled.status_code) == (303, 303)
    assert tab.get(retried.headers["location"]).status_code == 200
    until(lambda: testbed.run(run_of(testbed, "PLAN-005"))["status"] == "cancelled")


def test_roles_of_the_trust_file_count_and_required_signatures_show_the_command(
    testbed: Testbed, fresh: Any, monkeypatch: pytest.MonkeyPatch
):
    folder = testbed.folder.parent / f"{testbed.folder.name}-persons"
    folder.mkdir()
    persons = Persons(folder)
    persons.trust(ann="viewer", eve="operator")
    monkeypatch.setenv("COORD_TRUST_FILE", str(persons.file))
    client = fresh()
    viewer = Tab(client, Tokens(testbed.state).add("ann"))
    operator = Tab(client, Tokens(testbed.state).add("eve"))
    stranger = Tab(client, Tokens(testbed.state).add("bob"))
    run = run_of(testbed, "PLAN-002")

    assert stranger.get("/").status_code == 403
    assert viewer.get("/").status_code == 200
    assert "/do/retry" not in viewer.get("/run", run=run).text
    assert "/do/rollback" in operator.get("/run", run=run).text
    assert viewer.do("rollback", run=run).status_code == 403

    kept = persons.file.read_text()
    for end in ("until", "revoked"):
        rows = yaml.safe_load(kept)["principals"]
        rows[1]["keys"][0][end] = "2021-01-01"
        persons.file.write_text(yaml.safe_dump({"principals": rows}))
        assert operator.get("/board").status_code == 403, end
        assert operator.do("rollback", run=run).status_code == 403, end
    persons.file.write_text(kept)

    monkeypatch.setenv("COORD_SIGNATURES", "require")
    operator = Tab(fresh(), Tokens(testbed.state).add("eve"))
    text = unescape(operator.get("/run", run=run).text)
    assert "/do/rollback" not in text
    assert f"coord rollback {run}" in text
    assert operator.do("rollback", run=run).status_code == 403


def test_the_due_date_of_an_issue_decides_whether_the_board_shows_it_as_overdue(testbed: Testbed, fresh: Any):
    tab = Tab(fresh(), Tokens(testbed.state).add("ann"))
    testbed.ok("create-issue", "--id", "ISSUE-9", "--title", "late", "--target", "2020-01-31")
    shown = '<a href="/record?id=ISSUE-9">ISSUE-9</a></th>'

    overdue = tab.get("/board", kind="issue", only="overdue").text
    wrong = tab.do("edit", kind="issue", record="ISSUE-9", target="tomorrow", **{"was-target": "2020-01-31"})
    cleared = tab.do("edit", kind="issue", record="ISSUE-9", target="", **{"was-target": "2020-01-31"})

    assert shown in overdue
    assert (wrong.status_code, cleared.status_code) == (400, 303)
    assert shown not in tab.get("/board", kind="issue", only="overdue").text
    assert shown in tab.get("/board", kind="issue").text
    assert ">AFTER</a></th>" in tab.get("/board", only="blocked").text


def test_a_rejected_todo_fails_with_the_words_of_the_person(testbed: Testbed, fresh: Any):
    tab = Tab(fresh(), Tokens(testbed.state).add("eve"))
    testbed.ok("sweep", "PLAN-006", "--detach")
    run = run_of(testbed, "PLAN-006")
    until(lambda: testbed.todo("NAY", run)["state"] == "parked")

    answer = tab.do("reject", run=run, todo="NAY", comment=EVIL)

    assert answer.status_code == 303
    until(lambda: testbed.run(run)["status"] == "failed")
    page = tab.get("/todo", run=run, id="NAY").text
    assert "rejected by eve" in unescape(page)
    assert "<script>alert" not in page
    assert tab.do("reject", run=run, todo="NAY").status_code == 409


def test_a_todo_shows_its_own_commit_and_the_change_set_its_next_step(testbed: Testbed, fresh: Any):
    tab = Tab(fresh(), Tokens(testbed.state).add("ann"))
    testbed.ok("sweep", "PLAN-007")
    run = run_of(testbed, "PLAN-007")

    wrote, quiet = (tab.get("/todo", run=run, id=name).text for name in ("WROTE", "QUIET"))
    change = tab.get("/change", plan="PLAN-007", repo="docs").text

    assert r"+&lt;b&gt;bold&lt;/b&gt;\u001b[31m \u202e" in wrote
    assert not set(wrote) & set("\x1b\u202e")
    assert re.search(r"the whole of it: <code>git diff [0-9a-f]{40} [0-9a-f]{40}</code>", wrote)
    assert 'id="diff"' not in quiet
    assert 'action="/do/land"' in change.partition("Next step")[2]
    assert re.search(r'aria-label="2 to 0 todos open, 1 to 1 repositories not landed"', change)


def test_a_lock_is_taken_from_the_holder_that_the_person_saw_and_from_nobody_else(
    testbed: Testbed, fresh: Any
):
    client = fresh()
    tab = Tab(client, Tokens(testbed.state).add("ann"))
    with Coord(testbed.file) as coord:
        held = coord.locks.acquire("deploy", owner="first")
        page = until(lambda: "first" in (text := tab.get("/fleet").text) and text)
        (holders,) = re.findall(r'name="holders" value="([^"]+)"', page)
        another = tab.do("release-lock", lock="deploy", holders="somebody", force="yes")
        alive = tab.do("release-lock", lock="deploy", holders=holders)
        taken = tab.do("release-lock", lock="deploy", holders=holders, force="yes")
        again = tab.do("release-lock", lock="deploy", holders=holders, force="yes")
        with pytest.raises(LockLost):
            held.release()

    assert [one.status_code for one in (another, alive, taken, again)] == [409, 409, 303, 404]
    released = testbed.ok("lock", "released", "--json").json
    assert "ann" in str(released)


def test_an_approval_waits_for_those_who_may_give_it_in_its_repository(
    testbed: Testbed, fresh: Any, monkeypatch: pytest.MonkeyPatch
):
    folder = testbed.folder.parent / f"{testbed.folder.name}-approvers"
    folder.mkdir()
    persons = Persons(folder)
    persons.trust(ann={"approver": ["api"]}, eve={"approver": ["web"]})
    monkeypatch.setenv("COORD_TRUST_FILE", str(persons.file))
    client = fresh()

    mine, others = (Tab(client, Tokens(testbed.state).add(name)).get("/").text for name in ("ann", "eve"))

    assert 'name="todo" value="GATED"' in mine
    assert 'name="todo" value="GATED"' not in others
    assert "Waits for others" in others
