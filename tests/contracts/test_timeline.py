"""Timelines and charts of runs, from the events that the steps really write."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from xml.etree import ElementTree as ET

import pytest

from coordination.charts.gantt import gantt_svg
from coordination.charts.pictures import run_svg
from coordination.errors import NotFound
from coordination.models import OnFailure
from coordination.runs.records import Result, TodoState, WaitReason
from coordination.runs.views.run_events import all_events
from coordination.runs.views.timeline import timeline
from coordination.settings import Settings
from tests.engine import BAD, OK, Engine

SVG = "{http://www.w3.org/2000/svg}"


def causes(run: Engine, todo: str) -> list[WaitReason]:
    """Its obstacles, in order, each once."""
    store = run.store
    events = list(all_events(store.redis, store.keys, run.run_id))
    line = timeline(events, {t.id: t.repo for t in run.view().todos}, store.now_ms() + 1000)
    assert line is not None
    return list(dict.fromkeys(wait.reason for wait in line.waits if wait.todo == todo))


def gantt(run: Engine) -> str:
    store = run.store
    events = list(all_events(store.redis, store.keys, run.run_id))
    return gantt_svg(run.view(), run.brief(), events, store.now_ms())


def hovers(svg: str) -> list[str]:
    return [title.text or "" for title in ET.fromstring(svg).iter(f"{SVG}title")]


def refused(run: Engine) -> None:
    assert run.claim(run.mail.popleft()).grant is None


def lacks_a_resource(run: Engine) -> None:
    db = {"resources": [{"name": "db"}]}
    run.begin({"A": "web", "B": "api"}, capacities={"db": 1}, more={"A": db, "B": db}).take("A")
    refused(run)


def behind_another_run(run: Engine) -> None:
    run.begin({"A": "api"}).take("A")
    run.begin({"B": "api"})
    refused(run)


def behind_a_breaker(run: Engine) -> None:
    of_worker = Result(outcome=TodoState.FAILED, error="no room", blame="worker")
    run.begin({"A": "api", "B": "api"}, settings=Settings(breaker_failures=1))
    run.settle(run.take("A"), of_worker)
    refused(run)


def retried(run: Engine) -> None:
    run.retry(run.begin({"B": "api"}).take("B"), timedelta(minutes=1), BAD)


def parked_by_its_worker(run: Engine) -> None:
    run.store.park(run.begin({"B": "api"}).take("B"), "no room on /srv: 12 MB are free", timedelta(minutes=1))


def paused(run: Engine) -> None:
    run.begin({"B": "api"}).store.pause(run.run_id, "ann")
    refused(run)


WAITS: dict[WaitReason | str, tuple[Callable[[Engine], object], WaitReason | None]] = {
    "a free worker": (lambda run: run.begin({"B": "api"}), WaitReason.SLOT),
    "another todo of its repository": (
        lambda run: run.begin({"A": "api", "B": "api"}).take("A"),
        WaitReason.REPOSITORY,
    ),
    "another run in its repository": (behind_another_run, WaitReason.REPOSITORY),
    "a resource": (lacks_a_resource, WaitReason.RESOURCE),
    "its next try": (retried, WaitReason.TIMER),
    "a breaker": (behind_a_breaker, WaitReason.BREAKER),
    "a resume": (paused, WaitReason.PAUSED),
    "its worker": (parked_by_its_worker, WaitReason.WORKER),
    "an approval": (lambda run: run.begin({"B": "api"}, more={"B": {"gate": {}}}), WaitReason.PERSON),
    "work by hand": (
        lambda run: run.begin({"B": "api"}, more={"B": {"action": {"type": "manual"}}}),
        WaitReason.PERSON,
    ),
    "its predecessors": (lambda run: run.begin({"A": "api", "B": ("web", ["A"])}).take("A"), None),
}


@pytest.mark.parametrize(("begin", "reason"), WAITS.values(), ids=WAITS)
def test_the_timeline_tells_why_a_todo_waits(
    run: Engine, begin: Callable[[Engine], object], reason: WaitReason | None
):
    begin(run)

    found = causes(run, "B")
    assert found[-1:] == ([reason] if reason else [])
    assert len(found) <= 1 or reason not in (WaitReason.SLOT, WaitReason.PERSON)
    assert WaitReason("what somebody wrote") is WaitReason.WORKER


def test_the_chart_has_a_bar_for_each_attempt_and_says_how_it_ended(run: Engine):
    run.begin({"A": "api", "B": ("web", ["A"]), "C": ("web", ["B"])})
    run.retry(run.take("A"), timedelta(0), BAD)
    run.drain(lambda grant: BAD if grant.todo_id == "B" else OK)

    drawn = hovers(gantt(run))

    assert [words.partition(" · ")[0] for words in drawn if "\n" in words and "waited" not in words] == [
        "A\nfailed, restarted",
        "A (try 2)\nsucceeded",
        "B\nfailed",
    ]


def test_a_run_that_goes_on_is_drawn_until_now_and_one_in_which_nothing_ran_too(run: Engine):
    run.begin({"A": "api"}).take("A")

    assert any(words.startswith("A\nrunning") for words in hovers(gantt(run)))
    assert "running by dataflow for" in gantt(run)

    run.begin({"B": "web"}).store.cancel(run.run_id, "ann")
    ET.fromstring(gantt(run))


def test_a_run_whose_events_are_gone_says_so(run: Engine):
    run.begin({"A": "api"})
    run.drain()
    run.store.redis.delete(run.store.keys.run(run.run_id).events)

    with pytest.raises(NotFound, match="no events"):
        gantt(run)


def test_what_is_left_of_the_events_is_drawn_with_a_word_about_the_rest(run: Engine):
    run.begin({"A": "api", "B": ("web", ["A"])})
    run.drain()
    run.store.redis.xtrim(run.store.keys.run(run.run_id).events, maxlen=3, approximate=False)

    drawn = gantt(run)

    assert "earlier events are deleted" in drawn
    assert any(words.startswith("B\nsucceeded") for words in hovers(drawn))


def test_the_graph_of_a_run_shows_what_became_of_each(run: Engine):
    run.begin({"A": "api", "B": ("web", ["A"]), "C": ("web", ["B"])})
    run.drain(lambda grant: BAD if grant.todo_id == "B" else OK)

    before = run.brief().predecessors
    boxes = {group.find(f"{SVG}title").text.split("\n")[0]: group for group in ET.fromstring(  # type: ignore[union-attr]
        run_svg(run.view(), before, {"A": "build <it> & go"})).iter(f"{SVG}g")}  # fmt: skip

    classes = {name: group.find(f"{SVG}rect").get("class").split()[0] for name, group in boxes.items()}  # type: ignore[union-attr]
    assert classes == {"A": "good", "B": "bad", "C": "left"}
    assert "build <it> & go" in ET.tostring(boxes["A"], "unicode", "text")


def test_what_was_given_an_earlier_result_and_what_was_undone_are_told_apart(run: Engine):
    undone = {"compensate": "true"}
    todos = {"A": "api", "B": ("web", ["A"])}
    run.begin(todos, on_failure=OnFailure.ROLLBACK, more={"A": undone, "B": undone})
    run.settle(run.take("A"), Result(outcome=TodoState.SUCCEEDED, cached="run-1 A"))
    run.settle(run.take("B"), BAD)
    run.drain()

    drawn = hovers(gantt(run))

    assert any(words.startswith("A\ncached") for words in drawn)
    assert any(words.startswith("undo A\ncompensated") for words in drawn)


def test_what_is_told_behind_the_end_of_a_run_makes_it_no_longer(run: Engine):
    run.begin({"A": "api"})
    run.drain()
    store = run.store
    store.redis.xadd(
        store.keys.run(run.run_id).events,
        {"what": "level.advanced", "todo": ""},
        id=f"{store.now_ms() + 900}-0",
    )

    line = timeline(
        list(all_events(store.redis, store.keys, run.run_id)), {"A": "api"}, store.now_ms() + 1000
    )

    assert line is not None
    assert line.end_ms - line.start_ms <= 1000 * (run.view().duration_s or 0) + 50
