"""`coord event list`, and the same events as resources for agents."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from coordination.backend.keys import Keys
from coordination.events.stream import EventStream
from coordination.locks import LockManager
from tests.agent import agent, over_stdio
from tests.testbed import FORKS, PLAN, Testbed, plain
from tests.waiting import until

HOSTILE = "\x1b]0;owned\x07\u202etxt"


@pytest.fixture(scope="module")
def testbed(new_testbed: Callable[[], Testbed]) -> Testbed:
    """A run of three levels has been carried out."""
    made = new_testbed()
    made.write(
        [
            {"id": "LIB", "repo": "lib", "action": "true"},
            {"id": "APP", "repo": "app", "action": "true", "blocked_by": ["LIB"]},
            {"id": "DOC", "repo": "lib", "action": "true", "blocked_by": ["APP"]},
        ],
        repos={"lib": {}, "app": {}},
    )
    made.ok("sweep", PLAN, "--strategy", "levels")
    return made


@pytest.fixture
def stream(testbed: Testbed) -> EventStream:
    return EventStream(testbed.redis(), "coord")


def test_without_a_server_the_error_says_where_events_are(new_testbed: Callable[[], Testbed]):
    testbed = new_testbed()
    testbed.write()
    for words in ((), ("-f",)):
        done = testbed.coord("event", "list", *words)
        assert (done.code, "coord up" in done.err, "coord history search" in done.err) == (7, True, True)
    assert not testbed.server.running(), "and none was started"


def test_events_are_listed_by_kind_repository_and_time(testbed: Testbed, stream: EventStream):
    whole = testbed.ok("event", "list", "--since", "0-0", "--json").json
    every = [event for event in whole if event["run"]]
    kinds = [event["kind"] for event in every]

    assert kinds[0] == "run.started"
    assert [kinds.count(kind) for kind in ("level.opened", "level.settled", "todo.settled")] == [3, 3, 3]
    sweep = next(event for event in every if event["kind"] == "command.sweep")
    assert (sweep["subject"], sweep["data"]["strategy"], sweep["repos"]) == (PLAN, "levels", ["app", "lib"])
    assert testbed.ok("event", "list", "--since", "1h", "--json").json[: len(whole)] == whole
    of_lib = testbed.ok("event", "list", "--kind", "todo.*", "--repo", "lib", "--json").json
    assert {event["subject"] for event in of_lib} == {"LIB", "DOC"}
    later = testbed.ok("event", "list", "--since", every[2]["id"], "--limit", "2", "--json").json
    assert [event["id"] for event in later] == [event["id"] for event in every[3:5]]
    assert (
        len(testbed.ok("event", "list", "--limit", "1", "--format", "{kind} {subject}").out.splitlines()) == 1
    )


@pytest.mark.parametrize(
    ("words", "code", "hint"),
    [
        (("--kind", "todo.setled"), 2, "'todo.settled'"),
        (("--kind", "todo.ready"), 2, "coord watch"),
        (("--repo", "lab"), 2, "'lib'"),
        (("--since", "soon"), 2, "'soon'"),
        (("-f", "--kind", "x.*"), 2, "run.*"),
    ],
)
def test_unknown_kinds_repositories_and_times_are_refused(
    testbed: Testbed, words: tuple[str, ...], code: int, hint: str
):
    done = testbed.coord("event", "list", *words)
    assert (done.code, hint in done.err) == (code, True), done.err


def test_following_prints_a_line_for_each_event_and_goes_on_from_an_id(testbed: Testbed, stream: EventStream):
    before = stream.append("run.cleaned", "r1")
    first = stream.append("command.clean", "one", title=HOSTILE)
    programs = testbed.begin(
        "event", "list", "-f", "--kind", "command.clean", "--since", first, "--json", "--limit", "2"
    )
    people = testbed.begin(
        "event", "list", "-f", "--kind", "command.clean", "--since", before, "--limit", "3"
    )
    for number in ("two", "three"):
        stream.append("command.clean", number, title=HOSTILE)

    lines = programs.done().out.splitlines()
    assert [json.loads(line)["subject"] for line in lines] == ["two", "three"]
    assert json.loads(lines[0])["title"] == HOSTILE
    shown = people.done().out
    assert shown.isascii()
    assert "\x1b" not in shown
    assert [line.split("  ")[2] for line in shown.splitlines()] == ["one", "two", "three"]


def test_a_line_for_people_shows_no_whole_edits_and_cuts_long_values(testbed: Testbed, stream: EventStream):
    whole = json.dumps({"changes": {"title": ["old", "x" * 100_000]}})
    stream.forward("journal:lines", 1, [("todo.updated", "LIB", "ann@host", "lib", "The title", whole)])
    stream.append("command.clean", "long", data={"folder": "y" * 100_000})

    edit, long = testbed.ok("event", "list", "--limit", "2", "--format", "{kind} {subject}").out.splitlines()
    shown = testbed.ok("event", "list", "--limit", "2").out
    assert (edit, long) == ("todo.updated LIB", "command.clean long")
    assert "The title" in shown
    assert len(shown) < 1000
    assert "changes" not in shown


def test_show_run_groups_the_todos_by_level(testbed: Testbed):
    shown = testbed.ok("show-run", "last", "--by-level").out.splitlines()
    rows = [line.split()[:2] for line in shown]
    at = [next(i for i, row in enumerate(rows) if row == ["level", str(n)]) for n in range(3)]
    assert [rows[i + 1][0] for i in at] == ["LIB", "APP", "DOC"]
    assert [todo["level"] for todo in testbed.ok("show-run", "last", "--json").json["todos"]] == [0, 1, 2]


def test_checks_of_dependencies_and_cleaning_are_events(new_testbed: Callable[[], Testbed]):
    testbed = new_testbed()
    testbed.write([{"id": "A", "repo": "app", "action": "true"}], repos={"app": {}, "lib": {}})
    testbed.ok("dep", "create", "--consumer", "app", "--provider", "lib", "--constraint", ">=2")
    testbed.ok("sweep", PLAN)
    run = testbed.ok("show-run", "last", "--json").json["run_id"]
    testbed.redis()  # starts the server, which ends with the run, and here with the cleaning
    testbed.coord("check-deps")
    testbed.ok("run", "clean", run, "--yes")
    testbed.redis()

    checked, cleaned = (
        testbed.ok("event", "list", "--kind", kind, "--json").json
        for kind in ("dependency.checked", "run.cleaned")
    )
    assert [(event["repos"], event["data"]["result"]) for event in checked] == [(["app", "lib"], "unknown")]
    assert [(event["subject"], event["run"], event["repos"]) for event in cleaned] == [(run, run, ["app"])]
    assert int(cleaned[0]["data"]["removed"]) > 0
    assert checked[0]["actor"] == cleaned[0]["actor"] != ""


def test_counted_kinds_are_written_while_a_follower_asks_for_them(testbed: Testbed, stream: EventStream):
    asked = Keys("coord").events.requests
    follower = testbed.begin(
        "event", "list", "-f", "--kind", "lock.granted", "--limit", "1", "--format", "{subject}"
    )
    until(lambda: testbed.redis().zcard(asked))
    locks = LockManager(testbed.redis(), "coord")
    with locks.acquire("deploy"):
        assert follower.done().out == "lock:deploy\n"
    locks.close()


def test_following_survives_a_restart_of_redis_and_tells_a_gap(new_testbed: Callable[[], Testbed]):
    testbed = new_testbed()
    testbed.write()
    stream = EventStream(testbed.redis(), "coord")
    gone = [stream.append("command.clean", str(number)) for number in range(300)]
    stream.trim(gone[-1])
    follower = testbed.begin("event", "list", "-f", "--since", gone[0], "--kind", "command.clean", "--json")
    follower.says('"299"')
    assert json.loads(follower.out.splitlines()[0])["kind"] == "events.gap"
    testbed.server.stop()
    testbed.server.start()
    EventStream(testbed.redis(), "coord").append("command.clean", "after")
    assert json.loads(follower.says('"after"'))["kind"] == "command.clean"
    follower.terminate()
    subjects = [json.loads(line)["subject"] for line in follower.out.splitlines()]
    assert subjects[-2:] == ["299", "after"]
    assert len({*subjects}) == len(subjects), "nothing is printed twice"


def test_agents_read_events_from_a_position_on(testbed: Testbed, stream: EventStream):
    position = stream.end()
    stream.append("command.clean", "new", title=HOSTILE)
    program = str(FORKS.programs / "coord")
    with agent(over_stdio([program, "mcp"], plain(), testbed.folder)) as ai:
        page = json.loads(ai.read(f"coord://events/{position}"))
        latest = json.loads(ai.read("coord://events"))
        with pytest.raises(Exception, match="id of an event"):
            ai.read("coord://events/yesterday")
    assert [event["subject"] for event in page["events"]] == ["new"]
    assert page["position"] == latest["position"] == page["events"][-1]["id"]
