"""The history has the events of runs and the edits of other machines, each once, and counts them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordination import Coord
from coordination.backend.client import address_of
from coordination.ecosystem.editing import edit
from coordination.errors import CoordinationError
from coordination.events.records import append_step
from coordination.events.stream import EventStream
from coordination.history.collect import collect, collect_stream, forward
from coordination.history.events import HistoryEvent
from coordination.history.search import HistoryFilters, search
from coordination.history.store import HistoryStore, readable
from coordination.history.trends import durations, run_trend, trends
from coordination.planner.hours import LearnedFrom
from coordination.runs.attempt_store import Grant
from coordination.runs.store import RunStore
from coordination.runs.views.history_figures import stream_source
from coordination.runs.views.run_events import all_events
from coordination.runs.views.timeline import timeline
from coordination.settings import Settings
from tests.engine import BAD, OK
from tests.integration.conftest import submitted
from tests.testbed import FORKS
from workers.file_services import HistoryService

NOW = datetime.now(UTC)
ECOSYSTEM = """repos:
  - {name: api, path: api}
coordination:
  issues:
    - {id: ISSUE-1, title: The login is slow, repos: [api]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ecosystem.yaml"
    path.write_text(ECOSYSTEM)
    return path


@pytest.fixture
def history(tmp_path: Path) -> Iterator[HistoryStore]:
    with HistoryStore(tmp_path / "kept" / "history.db") as opened:
        yield opened


@pytest.fixture
def stream(store: RunStore) -> EventStream:
    return EventStream(store.redis, store.keys.namespace)


def settings(store: RunStore, **more: str) -> Settings:
    return Settings(namespace=store.keys.namespace, **more)  # type: ignore[arg-type]


def gather(history: HistoryStore, store: RunStore, stream: EventStream, now: datetime = NOW) -> int:
    return collect_stream(history, stream_source(store.redis, store.keys, settings(store)), now)


def resolve(file: Path) -> None:
    edit(file, lambda proposal: proposal.set(("issues", "ISSUE-1"), "status", "resolved"))


def kinds(history: HistoryStore, **filters: str) -> list[str]:
    return [event.kind for event in search(history, filters=HistoryFilters(**filters), limit=1000)]  # type: ignore[arg-type]


def test_a_run_is_kept_once_and_found_by_its_id(
    history: HistoryStore, store: RunStore, stream: EventStream
) -> None:
    run = submitted(store, {"A": "api", "B": ("web", ["A"])})
    run.drain(lambda grant: BAD if grant.todo_id == "B" else OK)

    new = gather(history, store, stream)

    assert new == len(kinds(history))
    assert gather(history, store, stream) == 0
    assert {"run.started", "todo.started", "todo.settled", "run.ended"} <= set(
        kinds(history, subject=run.run_id)
    )
    assert kinds(history, subject="B", kind="todo.settled") == ["todo.settled"]
    (ended,) = search(history, filters=HistoryFilters(kind="run.ended"))
    assert ended.data["failed"] == 1
    assert set(ended.data["waits"]) <= {"api", "web"}


def test_runs_are_counted_and_their_durations_learned(
    history: HistoryStore, store: RunStore, stream: EventStream
) -> None:
    for _ in range(3):
        submitted(store, {"A": "api", "B": "web"}).drain(lambda g: BAD if g.todo_id == "B" else OK)
    gather(history, store, stream)

    trend = run_trend(history, repo=None, days=7, now=NOW)
    of_api = run_trend(history, repo="api", days=7, now=NOW)

    assert (trend.now.succeeded, trend.now.failed, trend.now.failure_rate) == (3, 3, 0.5)
    assert (of_api.now.succeeded, of_api.now.failed) == (3, 0)
    assert trend.days[-1].succeeded == 3
    assert trend.before.failure_rate is None
    assert trend.now.cache_hit_rate == 0
    settled = search(history, filters=HistoryFilters(kind="todo.settled"))
    (group,) = {event.data["group"] for event in settled}
    taken = [e for e in settled if e.repos == ("api",) and e.data["duration_ms"] > 0]  # 0 ms teaches nothing
    assert len(durations(history, "api", group)) == len(taken)
    assert durations(history, "web", group) == []


def test_hours_worked_are_those_of_all_attempts(
    history: HistoryStore, store: RunStore, stream: EventStream
) -> None:
    run = submitted(store, {"A": "api"})

    def take(hours: int) -> Grant:
        grant = run.take("A")
        began_ms = store.now_ms() - hours * 3_600_000
        store.redis.hset(store.keys.run(run.run_id).facts, "A started_at", began_ms)
        return grant

    take(1)
    run.lose("A")
    run.retry(take(2), timedelta(0), BAD)
    run.settle(take(3))
    run.roll_back()
    run.drain()
    gather(history, store, stream)

    (settled, *_) = reversed(search(history, filters=HistoryFilters(subject="A", kind="todo.settled")))
    assert (round(settled.data["tried_ms"], -4), settled.data["attempt"]) == (3 * 3_600_000, 3)
    assert run_trend(history, repo=None, days=1, now=NOW).now.worked_h == pytest.approx(6, abs=0.01)


def test_what_was_trimmed_unread_is_a_gap(
    history: HistoryStore, store: RunStore, stream: EventStream
) -> None:
    stream.append("run.paused", "R1")
    gather(history, store, stream)
    for number in range(500):
        stream.append("run.paused", f"R{number}")
    stream.trim(stream.end())

    gather(history, store, stream)

    assert kinds(history, kind="history.gap") == ["history.gap"]


def test_events_that_are_kept_leave_the_stream_after_an_hour(
    history: HistoryStore, store: RunStore, stream: EventStream
) -> None:
    for number in range(500):
        stream.append("run.paused", f"R{number}")
    gather(history, store, stream)
    assert store.redis.xlen(store.keys.events.lasting) == 500

    gather(history, store, stream, NOW + timedelta(hours=2))

    assert store.redis.xlen(store.keys.events.lasting) < 200
    assert gather(history, store, stream) == 0


def test_an_edit_is_forwarded_once_and_kept_once(
    history: HistoryStore, store: RunStore, stream: EventStream, file: Path
) -> None:
    resolve(file)
    with ThreadPoolExecutor(4) as pool:
        forwarded = list(pool.map(lambda _: forward(file, stream), range(4)))
    assert sum(forwarded) == 2  # the beginning of the journal, and the edit

    collect(history, file)
    assert gather(history, store, stream) == 0  # they came with the journal

    with HistoryStore(file.parent / "other" / "history.db") as elsewhere:
        assert gather(elsewhere, store, stream) == 2
        (resolved,) = search(elsewhere, filters=HistoryFilters(subject="ISSUE-1", kind="issue.resolved"))
        (same,) = search(history, filters=HistoryFilters(subject="ISSUE-1", kind="issue.resolved"))
        assert resolved == same


DRAIN = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from redis import Redis
from coordination.backend.keys import Keys
from coordination.history.collect import collect
from coordination.history.store import HistoryStore
from coordination.history.collect import collect_stream
from coordination.runs.views.history_figures import stream_source
from coordination.settings import Settings
url, namespace, database, file = sys.argv[1:]
redis = Redis.from_url(url, decode_responses=True)
source = stream_source(redis, Keys(namespace), Settings(namespace=namespace))
print("began", flush=True)
with HistoryStore(Path(database)) as history:
    while True:
        collect(history, Path(file))
        collect_stream(history, source, datetime.now(UTC))
"""


def test_drains_that_are_killed_and_that_run_at_once_keep_and_count_each_event_once(
    store: RunStore, stream: EventStream, file: Path
) -> None:
    settled = append_step("todo.settled", "A", repos=["api"], data={"state": "succeeded", "duration_ms": "5"})
    for number in range(50):
        edit(file, lambda p, n=number: p.set(("issues", "ISSUE-1"), "description", f"text {n}"))  # type: ignore[misc]
    database, url = file.parent / "kept" / "history.db", address_of(store.redis)
    words = [sys.executable, "-c", DRAIN, url, store.keys.namespace, str(database), str(file)]
    written = 0
    for _ in range(2):
        drains = [FORKS.piped(words) for _ in range(2)]
        for drain in drains:
            assert drain.stdout.readline() == "began\n"
        for _ in range(10):  # they read it, and are somewhere in the middle after that
            stream.append_all([settled] * 100)
        written += 1000
        for drain in drains:
            drain.kill()
            drain.communicate()

    with HistoryStore(database) as history:
        collect(history, file)
        gather(history, store, stream)
        assert history.replaced is None
        count = {
            row["kind"]: row["n"] for row in history.rows("SELECT kind, COUNT(*) AS n FROM events GROUP BY 1")
        }
        assert count == {"todo.settled": written, "issue.updated": 50, "file.recorded": 1}
        assert run_trend(history, repo="api", days=2, now=datetime.now(UTC)).now.succeeded == written
        assert not history.rows("INSERT INTO word_index (word_index) VALUES ('integrity-check')")


def test_a_change_by_an_editor_counts_on_another_host_too(
    history: HistoryStore, store: RunStore, stream: EventStream, file: Path
) -> None:
    resolve(file)
    forward(file, stream)
    file.write_text(file.read_text() + "    - {id: ISSUE-2, title: new, repos: [api]}\n")
    forward(file, stream)

    gather(history, store, stream)

    assert kinds(history)[0] == "file.changed"
    issues, _ = trends(history, days=7, now=NOW)
    assert issues.now.created == 1


def test_the_worker_of_the_host_that_keeps_the_history_brings_it_up_to_date(
    store: RunStore, file: Path
) -> None:
    resolve(file)
    service = HistoryService(store.redis, store.keys, file, settings(store, host="here", history_host="here"))

    assert service.run_once() == 2
    assert service.run_once() == 0
    service.finish()

    with HistoryStore(file.parent / ".coord" / "history.db") as kept:
        assert "issue.resolved" in kinds(kept)


@pytest.mark.parametrize(
    "whole",
    [
        "",
        "{",
        '{"id": 1}',
        '{"id": "x", "at": "yesterday", "kind": "issue.closed"}',
        '{"id": "x", "at": "1970-01-01T00:00:00+14:00", "kind": "issue.closed"}',
        "[" * 100_000,
    ],
)
def test_a_forged_edit_is_passed_over(
    history: HistoryStore, store: RunStore, stream: EventStream, whole: str
) -> None:
    stream.forward("journal:x", 1, [("issue.closed", "I", "somebody", "api", "title", whole)])
    year_9999 = {"kind": "run.resumed", "at": "253402300799000"}
    store.redis.xadd(store.keys.events.lasting, year_9999)
    stream.append("run.paused", "R", title="\x1b[31m" + "x" * 100_000)

    gather(history, store, stream)

    assert kinds(history) == ["run.paused"]


def test_forged_numbers_leave_figures_finite(history: HistoryStore) -> None:
    waits = {"waits": {"api": {"slot": 10**400}, "web": {"slot": 1e308}, "cli": {"slot": 1e308}}}
    made = [
        ("todo.completed", {"record": {"actual_hours": 10**400, "estimated_hours": 1e-320}}),
        ("run.ended", {"data": waits | {"status": "succeeded", "duration_ms": 1e308, "bound_s": 1e-300}}),
    ]
    history.add([HistoryEvent(id=kind, at=NOW, kind=kind, **more) for kind, more in made])

    todos = trends(history, now=NOW)[1]
    assert (todos.now.cycle_h_median, todos.now.actual_by_estimate) == (0, 0)
    assert run_trend(history, repo=None, days=7, now=NOW).now.waited_h == 0


@pytest.mark.parametrize("change", ["at = 253402300800000", "at = 1 << 62", "body = '{'", "body = '[]'"])
def test_a_damaged_row_is_told_and_passed_over_by_a_rebuild(history: HistoryStore, change: str) -> None:
    history.add([HistoryEvent(id=id_, at=NOW, kind="run.paused") for id_ in ("a", "b")])
    history.rows(f"UPDATE events SET {change} WHERE id = 'a'")

    with pytest.raises(CoordinationError) as damaged:
        search(history)
    assert "rebuild" in (damaged.value.hint or "")
    assert [event and event.id for event in readable(history.path)] == [None, "b"]


def test_a_damaged_schema_begins_a_new_database(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    with HistoryStore(path) as store:
        store.complete()
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE events", b"CREATE\xfaTABLE\xfaevents"))

    with HistoryStore(path) as store:
        assert store.replaced == tmp_path / "history.db.broken"


def test_rebuilds_at_the_same_time_keep_every_event(file: Path) -> None:
    with Coord(file) as coord:
        coord.memory.search()
        lines = [HistoryEvent(id=f"i{n}", at=NOW, kind="run.paused").model_dump_json() for n in range(3000)]
        coord.memory.import_lines(lines)

    def rebuild(_: int) -> int:
        with Coord(file) as coord:
            return coord.memory.rebuild()

    with ThreadPoolExecutor(3) as pool:
        counts = list(pool.map(rebuild, range(3)))

    assert counts == [3001] * 3


def test_a_second_end_counts_only_the_waits_since_the_first(
    history: HistoryStore, store: RunStore, stream: EventStream
) -> None:
    run = submitted(store, {"A": "api", "B": ("web", ["A"]), "C": ("web", ["A"])})
    run.drain()
    gather(history, store, stream)
    run.roll_back()
    run.drain()
    gather(history, store, stream)

    ends = search(history, filters=HistoryFilters(kind="run.ended"))
    line = timeline(list(all_events(store.redis, store.keys, run.run_id)), {}, now_ms=0)
    assert line is not None
    counted = sum(s for end in ends for reasons in end.data["waits"].values() for s in reasons.values())
    assert len(ends) == 2
    assert counted == pytest.approx(sum(line.waited_s().values()), abs=0.005)


def test_a_forecast_learns_from_the_history_when_no_server_runs(tmp_path: Path) -> None:
    file = tmp_path / "ecosystem.yaml"
    file.write_text(
        "repos:\n  - {name: api, path: .}\ncoordination:\n  plans:\n    - {id: P, title: a plan}\n  todos:\n"
        "    - {id: T, task: t, repo: api, plan: P, action: 'true'}\n"
    )
    settled = {"state": "succeeded", "attempt": 1, "duration_ms": 1_800_000, "group": "shell"}
    with HistoryStore(tmp_path / ".coord" / "history.db") as kept:
        kept.add(
            [HistoryEvent(id="e", at=NOW, kind="todo.settled", subject="T", repos=("api",), data=settled)]
        )

    with Coord(file) as coord:
        forecast = coord.planner.forecast("P")

    assert forecast.learned_from == LearnedFrom.HISTORY
    assert forecast.bound_h == 0.5
