"""The wait reasons of todos, from the events that the steps write; and the chart drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from xml.etree import ElementTree as ET

import pytest
from redis import Redis

from coordination.errors import NotFound
from coordination.models import OnFailure
from coordination.runs.records import Result, TodoState, WaitReason
from coordination.runs.store import RunStore
from coordination.runs.views.pictures import gantt, graph
from coordination.runs.views.timeline import timeline
from coordination.settings import Settings
from tests import plans
from tests.contracts.carrier import BAD, OK, Harness

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def harness(client: Redis) -> Harness:
    return Harness(RunStore(client, "test"))


def begin(harness: Harness, todos: plans.Todos, *, settings: Settings | None = None, **more: object) -> None:
    how = {key: more.pop(key) for key in ("capacities",) if key in more}
    eco = plans.ecosystem(todos, **how, **more)  # type: ignore[arg-type]
    limit = more.get("max_parallel")
    order = plans.order(on_failure=OnFailure.CONTINUE, max_parallel=limit)  # type: ignore[arg-type]
    harness.submit(plans.build(eco, plans.PLAN), eco, order, settings)


def causes(harness: Harness, todo: str) -> list[WaitReason]:
    """Return its wait reasons in order, each once."""
    store = harness.store
    events = _events(store, harness.run_id)
    line = timeline(events, {t.id: t.repo for t in harness.view().todos}, store.now_ms() + 1000)
    assert line is not None
    return list(dict.fromkeys(wait.reason for wait in line.waits if wait.todo == todo))


def _events(store: RunStore, run_id: str) -> Sequence:  # type: ignore[type-arg]
    from coordination.runs.views.pictures import _events

    return list(_events(store, run_id))


def hovers(svg: str) -> list[str]:
    return [title.text or "" for title in ET.fromstring(svg).iter(f"{SVG}title")]


def test_who_stands_behind_another_todo_of_its_repository_waits_for_the_repository(harness: Harness):
    begin(harness, {"A": "api", "B": "api"})
    harness.take("A")

    assert WaitReason.REPOSITORY in causes(harness, "B")


def test_who_was_dispatched_waits_for_a_slot(harness: Harness):
    begin(harness, {"A": "api"})

    assert causes(harness, "A") == [WaitReason.SLOT]


def test_who_lacks_a_resource_waits_for_it(harness: Harness):
    db = {"resources": [{"name": "db"}]}
    begin(harness, {"A": "api", "B": "web"}, capacities={"db": 1}, A=db, B=db)
    harness.take("A")
    harness.claim(harness.mail.popleft())

    assert causes(harness, "B")[-1] is WaitReason.RESOURCE


def test_another_run_in_the_repository_is_waited_for_as_the_repository(harness: Harness):
    begin(harness, {"A": "api"})
    harness.take("A")
    begin(harness, {"B": "api"})
    harness.claim(harness.mail.popleft())

    assert causes(harness, "B")[-1] is WaitReason.REPOSITORY


def test_what_is_tried_again_waits_for_its_timer(harness: Harness):
    begin(harness, {"A": "api"})
    harness.follow(harness.store.retry(harness.take("A"), timedelta(minutes=1), BAD))

    assert causes(harness, "A")[-1] is WaitReason.TIMER


def test_an_approval_and_what_is_done_by_hand_wait_for_a_person(harness: Harness):
    begin(harness, {"A": "api", "B": "web"}, A={"gate": {}}, B={"action": {"type": "manual"}})

    assert causes(harness, "A") == causes(harness, "B") == [WaitReason.PERSON]


def test_a_todo_behind_a_breaker_waits_for_that(harness: Harness):
    of_worker = Result(outcome=TodoState.FAILED, error="no room", blame="worker")
    begin(harness, {"A": "api", "B": ("api", [])}, settings=Settings(breaker_failures=1))
    harness.settle(harness.take("A"), of_worker)
    harness.claim(harness.mail.popleft())

    assert causes(harness, "B")[-1] is WaitReason.BREAKER


def test_a_paused_run_waits_to_be_resumed(harness: Harness):
    begin(harness, {"A": "api"})
    harness.store.pause(harness.run_id, "ann")
    harness.claim(harness.mail.popleft())

    assert causes(harness, "A")[-1] is WaitReason.PAUSED


def test_a_reason_of_a_worker_is_its_own_and_what_nobody_knows_counts_as_one(harness: Harness):
    begin(harness, {"A": "api"})
    harness.store.park(harness.take("A"), "no room on /srv: 12 MB are free", timedelta(minutes=1))

    assert causes(harness, "A")[-1] is WaitReason.WORKER
    assert WaitReason("what somebody wrote") is WaitReason.WORKER


def test_waiting_for_predecessors_is_no_wait(harness: Harness):
    begin(harness, {"A": "api", "B": ("web", ["A"])})
    harness.take("A")

    assert causes(harness, "B") == []


def test_the_chart_has_a_bar_for_each_attempt_and_says_how_it_ended(harness: Harness):
    begin(harness, {"A": "api", "B": ("web", ["A"]), "C": ("web", ["B"])})
    harness.follow(harness.store.retry(harness.take("A"), timedelta(0), BAD))
    harness.drain(lambda grant: BAD if grant.todo_id == "B" else OK)

    drawn = hovers(gantt(harness.store, harness.run_id))

    assert [words.partition(" · ")[0] for words in drawn if "\n" in words and "waited" not in words] == [
        "A\nfailed, restarted",
        "A (try 2)\nsucceeded",
        "B\nfailed",
    ]


def test_a_run_that_goes_on_is_drawn_until_now(harness: Harness):
    begin(harness, {"A": "api"})
    harness.take("A")

    assert any(words.startswith("A\nrunning") for words in hovers(gantt(harness.store, harness.run_id)))
    assert "running by dataflow for" in gantt(harness.store, harness.run_id)


def test_a_run_whose_events_are_gone_says_so(harness: Harness):
    begin(harness, {"A": "api"})
    harness.drain()
    harness.store.redis.delete(harness.store.keys.run(harness.run_id).events)

    with pytest.raises(NotFound, match="no events"):
        gantt(harness.store, harness.run_id)


def test_what_is_left_of_the_events_is_drawn_with_a_word_about_the_rest(harness: Harness):
    begin(harness, {"A": "api", "B": ("web", ["A"])})
    harness.drain()
    harness.store.redis.xtrim(harness.store.keys.run(harness.run_id).events, maxlen=3, approximate=False)

    drawn = gantt(harness.store, harness.run_id)

    assert "earlier events are deleted" in drawn
    assert any(words.startswith("B\nsucceeded") for words in hovers(drawn))


def test_a_run_in_which_nothing_ran_is_a_picture_all_the_same(harness: Harness):
    begin(harness, {"A": "api"})
    harness.store.cancel(harness.run_id, "ann")

    ET.fromstring(gantt(harness.store, harness.run_id))


def test_the_graph_of_a_run_shows_what_became_of_each(harness: Harness):
    begin(harness, {"A": "api", "B": ("web", ["A"]), "C": ("web", ["B"])})
    harness.drain(lambda grant: BAD if grant.todo_id == "B" else OK)

    picture = ET.fromstring(graph(harness.store, harness.run_id, {"A": "build <it> & go"}))
    boxes = {(group.findtext(f"{SVG}title") or "").split("\n")[0]: group for group in picture.iter(f"{SVG}g")}

    classes = {
        name: rect.get("class", "").split()[0]
        for name, group in boxes.items()
        if (rect := group.find(f"{SVG}rect")) is not None
    }
    assert classes == {"A": "good", "B": "bad", "C": "left"}
    assert "build <it> & go" in ET.tostring(boxes["A"], "unicode", "text")


def test_what_was_given_an_earlier_result_and_what_was_undone_are_told_apart(harness: Harness):
    undone = {"compensate": "true"}
    eco = plans.ecosystem({"A": "api", "B": ("web", ["A"])}, A=undone, B=undone)
    harness.submit(plans.build(eco, plans.PLAN), eco, plans.order(on_failure=OnFailure.ROLLBACK))
    harness.settle(harness.take("A"), Result(outcome=TodoState.SUCCEEDED, cached="run-1 A"))
    harness.settle(harness.take("B"), BAD)
    harness.drain()

    drawn = hovers(gantt(harness.store, harness.run_id))

    assert any(words.startswith("A\ncached") for words in drawn)
    assert any(words.startswith("undo A\ncompensated") for words in drawn)


def test_what_is_told_behind_the_end_of_a_run_makes_it_no_longer(harness: Harness):
    begin(harness, {"A": "api"})
    harness.drain()
    store = harness.store
    store.redis.xadd(
        store.keys.run(harness.run_id).events,
        {"what": "level.advanced", "todo": ""},
        id=f"{store.now_ms() + 900}-0",
    )

    line = timeline(_events(store, harness.run_id), {"A": "api"}, store.now_ms() + 1000)

    assert line is not None
    run = harness.view()
    assert line.end_ms - line.start_ms <= 1000 * (run.duration_s or 0) + 50
