"""The history keeps every change of the file once, finds it by words and filters, and counts it."""

from __future__ import annotations

import random
import sqlite3
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from coordination.api.machine import write_first_file
from coordination.ecosystem import journal
from coordination.ecosystem.document import load
from coordination.ecosystem.editing import Edit, edit
from coordination.ecosystem.journal import Journal
from coordination.environment import actor
from coordination.errors import CoordinationError, NotFound, UsageError
from coordination.history.collect import collect
from coordination.history.events import HistoryEvent
from coordination.history.memory import Memory
from coordination.history.search import HistoryFilters, search
from coordination.history.store import HistoryStore
from coordination.history.trends import trends
from coordination.planner.hours import Group
from coordination.settings import Settings
from tests.disks import fill

NOW = datetime.now(UTC)
ECOSYSTEM = """repos:
  - {name: api, path: api}
  - {name: web, path: web}
coordination:
  issues:
    - {id: ISSUE-1, title: The login is slow, repos: [api], created: 2026-11-01}
  plans:
    - {id: PLAN-1, title: Faster}
  todos:
    - {id: TODO-1, task: Measure the login, repo: api, plan: PLAN-1, created: 2026-11-01, estimated_hours: 2}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ecosystem.yaml"
    path.write_text(ECOSYSTEM)
    return path


@pytest.fixture
def store(tmp_path: Path):
    with HistoryStore(tmp_path / ".coord" / "history.db") as opened:
        yield opened


def complete(proposal: Edit) -> None:
    proposal.set(("todos", "TODO-1"), "status", "completed")
    proposal.set(("todos", "TODO-1"), "actual_hours", 3)


def kinds(store: HistoryStore, **filters: object) -> list[str]:
    return [hit.kind for hit in search(store, filters=HistoryFilters(**filters))]  # type: ignore[arg-type]


def event(number: int, **fields: object) -> HistoryEvent:
    return HistoryEvent(**{"id": f"e{number}", "at": NOW, "kind": "todo.updated", "subject": "T", **fields})  # type: ignore[arg-type]


def test_several_may_begin_a_history_at_once(tmp_path: Path) -> None:
    def begin(path: Path) -> bool:
        barrier.wait(60)
        with HistoryStore(path) as opened:
            return opened.is_current()

    barrier = Barrier(6)
    with ThreadPoolExecutor(6) as threads:
        for number in range(30):
            path = tmp_path / str(number) / "history.db"
            assert list(threads.map(begin, [path] * 6)) == [True] * 6


def test_every_change_is_kept_once(store: HistoryStore, file: Path) -> None:
    edit(file, complete)
    assert collect(store, file) == 2
    assert collect(store, file) == 0
    file.write_text(file.read_text().replace("slow", "very slow") + "# by hand\n")
    edit(file, lambda proposal: proposal.set(("issues", "ISSUE-1"), "status", "closed"))

    assert collect(store, file) == 2
    assert kinds(store) == ["issue.closed", "file.changed", "todo.completed", "file.recorded"]
    (changed,) = search(store, filters=HistoryFilters(kind="file.changed"))
    assert changed.data["counts"] == {"issue.updated": 1}
    assert changed.data["subjects"] == ["ISSUE-1"]
    assert kinds(store, subject="TODO-1") == ["todo.completed", "file.recorded"]
    assert kinds(store, subject="ISSUE-1") == ["issue.closed", "file.changed", "file.recorded"]


def test_two_that_collect_at_once_keep_each_event_once(tmp_path: Path, file: Path) -> None:
    for number in range(20):
        edit(file, lambda p, n=number: p.set(("issues", "ISSUE-1"), "description", f"text {n}"))

    def collected(_: int) -> int:
        with HistoryStore(tmp_path / ".coord" / "history.db") as store:
            return collect(store, file)

    with ThreadPoolExecutor(4) as pool:
        new = sum(pool.map(collected, range(4)))

    assert new == 21


def test_entries_that_went_unread_are_a_gap(
    store: HistoryStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(file, complete)
    collect(store, file)
    monkeypatch.setattr(journal, "LIMIT", 100)
    for number in range(6):
        edit(file, lambda p, n=number: p.set(("issues", "ISSUE-1"), "description", f"text {n}"))

    collect(store, file)

    (gap,) = search(store, filters=HistoryFilters(kind="history.gap"))
    assert gap.data["first"] == 3
    assert kinds(store)[0] in ("issue.updated", "file.changed")


def test_the_first_file_is_recorded_as_written_by_its_user(tmp_path: Path) -> None:
    (tmp_path / "api" / ".git").mkdir(parents=True)

    path, _ = write_first_file(tmp_path)

    with HistoryStore(tmp_path / ".coord" / "history.db") as store:
        collect(store, path)
        assert [(event.kind, event.actor) for event in search(store)] == [("file.recorded", actor())]


def test_hostile_and_huge_texts_are_kept(store: HistoryStore) -> None:
    evil = "\x1b]0;x\x07\udcff\u202e" + "x" * 10_000_000

    assert store.add([event(1, title=evil[:100], record={"description": evil})]) == 1
    assert search(store, filters=HistoryFilters(subject="T"))[0].record["description"] != ""


def test_trends_count_what_was_opened_and_done_by_whomever(store: HistoryStore, file: Path) -> None:
    edit(file, complete)
    file.write_text(
        file.read_text().replace("  todos:\n", "  todos:\n    - {id: TODO-2, task: By hand, repo: web}\n")
    )
    collect(store, file)

    issues, todos = trends(store, days=7, now=datetime.now(UTC))

    assert (issues.days[-1].open, issues.now.created) == (1, 0)
    assert (todos.days[-1].open, todos.days[-1].created, todos.days[-1].done) == (1, 1, 1)
    assert todos.now.actual_by_estimate == 1.5
    assert todos.now.cycle_h_median == 3
    assert todos.done_by_repo == {"api": 1}
    assert [trend.days[-1].open for trend in trends(store, repo="api", days=1, now=datetime.now(UTC))] == [
        1,
        0,
    ]
    with pytest.raises(UsageError):
        trends(store, days=0, now=NOW)


@pytest.mark.parametrize(
    ("created", "hours"),
    [
        (NOW.date().isoformat(), 0.5),
        (None, 0.5),
        ((NOW - timedelta(days=3)).isoformat(), 72),
        ((NOW - timedelta(days=3)).date().isoformat(), 72 + NOW.hour + NOW.minute / 60),
    ],
    ids=["day", "without a date", "earlier moment", "earlier day"],
)
def test_a_lead_time_begins_when_the_history_says_and_not_at_midnight(
    store: HistoryStore, created: str | None, hours: float
) -> None:
    """A person may also give a record an earlier date."""
    record = {"created": created} if created else {}
    began = event(1, at=NOW - timedelta(minutes=30), kind="todo.created")
    store.add([began, event(2, kind="todo.completed", record=record)])
    _, todos = trends(store, days=1, now=NOW)
    assert todos.now.lead_h_median == pytest.approx(hours, abs=0.02)


def test_old_events_are_removed(store: HistoryStore) -> None:
    store.add([event(1, at=NOW - timedelta(days=400), title="old"), event(2, title="new")])

    assert store.remove_older(NOW) == 1
    assert search(store, "old") == []
    assert len(search(store, "new")) == 1


def test_an_unreadable_database_is_moved_away_and_told(tmp_path: Path, file: Path) -> None:
    path = tmp_path / ".coord" / "history.db"
    edit(file, complete)
    path.write_bytes(b"no database" * 1000)

    with HistoryStore(path) as store:
        assert store.replaced is not None
        assert store.replaced.read_bytes().startswith(b"no database")
        assert collect(store, file) == 2
    path.write_bytes(b"nor this" * 1000)
    with HistoryStore(path) as again:
        assert again.replaced not in (None, store.replaced)
        assert store.replaced.read_bytes().startswith(b"no database")


def test_a_locked_database_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordination.history.store.WAIT_S", 0.05)
    path = tmp_path / "history.db"
    with HistoryStore(path) as store:
        other = sqlite3.connect(path)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CoordinationError, match="locked"):
            store.add([event(1)])
        other.rollback()
        assert store.add([event(1)]) == 1
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["history.db", "history.db-wal"])
def test_a_link_in_place_of_the_database_is_refused(tmp_path: Path, name: str) -> None:
    """A folder `.coord` may come with a clone."""
    (tmp_path / "precious").write_text("mine")
    (tmp_path / name).symlink_to(tmp_path / "precious")

    with pytest.raises(CoordinationError, match="cannot be used"):
        HistoryStore(tmp_path / "history.db")
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_damaged_line_in_the_middle_costs_a_gap_and_not_what_follows(
    store: HistoryStore, file: Path
) -> None:
    edit(file, complete)
    collect(store, file)
    for number in range(3):
        edit(file, lambda p, n=number: p.set(("issues", "ISSUE-1"), "description", f"text {n}"))
    path = Journal(file).path
    lines = path.read_bytes().splitlines(keepends=True)
    lines[-4] = lines[-4][:20] + b"X" + lines[-4][21:]
    path.write_bytes(b"".join(lines))

    collect(store, file)
    edit(file, lambda p: p.set(("issues", "ISSUE-1"), "status", "closed"))
    collect(store, file)

    assert kinds(store)[0] == "issue.closed"
    assert "history.gap" in kinds(store)


def test_a_rubbish_line_at_the_end_loses_nothing_before_it(store: HistoryStore, file: Path) -> None:
    edit(file, complete)
    with Journal(file).path.open("ab") as lines:
        lines.write(b"[]\n")
    edit(file, lambda p: p.set(("issues", "ISSUE-1"), "status", "closed"))

    collect(store, file)

    assert {"todo.completed", "issue.closed"} <= set(kinds(store))


def test_a_record_of_several_repositories_counts_once_for_all(store: HistoryStore) -> None:
    store.add(
        [event(1, kind="issue.created", repos=("api", "web")), event(2, kind="issue.closed", repos=("web",))]
    )

    issues, _ = trends(store, days=1, now=NOW)

    assert (issues.now.created, issues.now.done, issues.days[-1].open) == (1, 1, 0)
    assert issues.done_by_repo == {"web": 1}
    assert trends(store, repo="api", days=1, now=NOW)[0].now.created == 1


def test_deleting_a_finished_record_leaves_the_open_ones(store: HistoryStore) -> None:
    store.add(
        [
            event(1, kind="todo.created"),
            event(2, kind="todo.created"),
            event(3, kind="todo.completed"),
            event(4, kind="todo.deleted", record={"status": "completed"}),
        ]
    )

    assert trends(store, days=1, now=NOW)[1].days[-1].open == 1


def test_a_file_that_is_invalid_for_a_while_counts_nothing_twice(store: HistoryStore, file: Path) -> None:
    edit(file, complete)
    good = file.read_text()
    for text in ("repos: [", good.replace("slow", "too slow")):
        file.write_text(text)
        collect(store, file)

    changed = search(store, filters=HistoryFilters(kind="file.changed"))
    assert [hit.data["counts"] for hit in changed] == [{"issue.updated": 1}, {}]
    assert trends(store, days=1, now=datetime.now(UTC))[0].days[-1].open == 1


def test_an_export_is_imported_once_and_a_bad_line_costs_only_itself(tmp_path: Path, file: Path) -> None:
    edit(file, complete)
    memory = Memory(file, tmp_path / ".coord", print, Settings())
    lines = list(memory.export())
    other = Memory(file, tmp_path / "other", print, Settings())

    with pytest.raises(UsageError, match="line 2"):
        other.import_lines([event(1).model_dump_json(), '{"id": "x", "changes": {"a": 1}}'])
    assert other.import_lines(lines) == 0, "they are in the journal, too"
    assert [one.id for one in other.search(filters=HistoryFilters(subject="T"))] == ["e1"]
    for line in (
        "{}",
        "[" * 10_000,
        event(2).model_dump_json().replace(str(NOW.year), "9999", 1),
        '{"a": NaN}',
    ):
        with pytest.raises(UsageError):
            other.import_lines([line])
    memory.close()
    other.close()


def test_a_rebuilt_history_keeps_what_is_readable(tmp_path: Path, file: Path) -> None:
    edit(file, complete)
    told: list[str] = []
    memory = Memory(file, tmp_path / ".coord", told.append, Settings())
    memory.import_lines(event(n, id=f"i{n}").model_dump_json() for n in range(5))
    memory.close()
    with sqlite3.connect(tmp_path / ".coord" / "history.db") as db:
        db.execute("UPDATE events SET body = '{' WHERE id = 'i3'")
    db.close()

    assert memory.rebuild() == 6

    assert "1 event " in told[0]
    assert (tmp_path / ".coord" / "history.db.broken").exists()
    assert len(memory.search("", HistoryFilters(subject="T"))) == 4
    memory.close()


def test_a_database_of_version_1_gets_its_subjects(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "history.db"
    with HistoryStore(path) as store:
        collect(store, file)
    with sqlite3.connect(path) as old:
        old.executescript("DROP TABLE event_subjects; PRAGMA user_version = 1")

    with HistoryStore(path) as store:
        assert kinds(store, subject="ISSUE-1") == ["file.recorded"]


def test_trends_of_a_mistyped_repository_are_refused(tmp_path: Path, file: Path) -> None:
    with closing(Memory(file, tmp_path / ".coord", pytest.fail, Settings())) as memory:
        assert [len(memory.trends("web").todo.days), len(memory.get_coordination_trends("web"))] == [30, 3]
        with pytest.raises(NotFound, match="did you mean"):
            memory.trends("wep")


def test_on_a_full_disk_events_wait_and_what_is_known_is_found(
    small_disk: Callable[[Path], Path], tmp_path: Path, file: Path
) -> None:
    folder, told = small_disk(tmp_path / "disk"), list[str]()
    with closing(Memory(file, folder, told.append, Settings())) as memory:
        assert [event.kind for event in memory.search()] == ["file.recorded"]
        filler = fill(folder)
        for number in range(30):
            text = f"{number} " + "".join(random.choices("abcdefgh ", k=50_000))
            edit(file, lambda p, text=text: p.set(("issues", "ISSUE-1"), "description", text))  # type: ignore[misc]

        assert len(memory.search()) < 31
        assert "full" in told[0]
        filler.unlink()
        told.clear()

        assert len(memory.search(limit=100)) == 31
        assert told == []


def test_a_read_only_folder_is_an_error_that_says_what_to_do(
    small_disk: Callable[[Path], Path], tmp_path: Path, file: Path
) -> None:
    folder = small_disk(tmp_path / "disk")
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    with (
        closing(Memory(file, folder, pytest.fail, Settings())) as memory,
        pytest.raises(CoordinationError) as refused,
    ):
        memory.search()
    assert str(folder) in str(refused.value)
    assert refused.value.hint


def test_a_rebuild_replaces_what_is_no_database_and_keeps_it(tmp_path: Path, file: Path) -> None:
    edit(file, complete)
    path, told = tmp_path / ".coord" / "history.db", list[str]()
    path.write_bytes(b"no database" * 1000)
    path.with_name("history.db.broken").write_text("of last year")

    with closing(Memory(file, path.parent, told.append, Settings())) as memory:
        assert memory.rebuild() == 2
        assert len(memory.search()) == 2

    assert len(told) == 1
    assert "history.db.broken.2" in told[0]
    assert path.with_name("history.db.broken").read_text() == "of last year"
    assert path.with_name("history.db.broken.2").read_bytes().startswith(b"no database")


@pytest.mark.parametrize(
    ("change", "fact"), [("DROP TABLE daily", "daily"), ("PRAGMA user_version = 3", "newer version")]
)
def test_another_schema_is_noticed_at_the_start_and_a_rebuild_helps(
    tmp_path: Path, file: Path, change: str, fact: str
) -> None:
    path = tmp_path / ".coord" / "history.db"
    with HistoryStore(path) as store:
        store.add([event(1)])
    with closing(sqlite3.connect(path)) as db:
        db.execute(change)
        db.commit()

    with pytest.raises(CoordinationError, match=fact) as refused:
        HistoryStore(path)
    assert "coord history rebuild" in (refused.value.hint or "")
    told = list[str]()
    with closing(Memory(file, path.parent, told.append, Settings())) as memory:
        assert memory.learned([Group("api", "shell")]) == {}
        assert fact in told.pop(), "a forecast goes on without it"
        memory.rebuild()
        assert [hit.id for hit in memory.search(filters=HistoryFilters(subject="T"))] == ["e1"]


def test_an_event_of_the_future_is_kept_under_the_time_of_its_receipt(store: HistoryStore) -> None:
    ahead = NOW + timedelta(days=400)
    store.add([event(1, at=ahead, kind="todo.created"), event(2, at=NOW + timedelta(seconds=20))])
    store.add([event(3, at=datetime.now(UTC) + timedelta(seconds=30))])

    found = {hit.id: hit for hit in search(store)}
    assert NOW <= found["e1"].at <= datetime.now(UTC)
    assert found["e1"].data["told_at"] == ahead.isoformat()
    assert next(iter(search(store))).id == "e3"
    assert found["e2"].data == {}, "clocks of two machines differ a little"
    assert trends(store, days=1, now=NOW)[1].now.created == 1


def test_an_event_of_another_program_may_say_only_the_values_after(tmp_path: Path, file: Path) -> None:
    (issue,) = load(file).ecosystem.coordination.issues
    with closing(Memory(file, tmp_path / ".coord", pytest.fail, Settings())) as memory:
        assert memory.store_issue_event("updated", issue, changes={"status": "resolved"})
        assert memory.store_issue_event("updated", issue, changes={"priority": ("low", "high")})
        with pytest.raises(UsageError):
            memory.store_issue_event("updated", issue, changes={"labels": ["a", "b", "c"]})
        found = memory.search(filters=HistoryFilters(kind="issue.updated"))

    assert [event.changes for event in found] == [
        {"priority": ["low", "high"]},
        {"status": [None, "resolved"]},
    ]


def test_an_event_after_a_rebuild_by_another_process_is_kept(tmp_path: Path, file: Path) -> None:
    (issue,) = load(file).ecosystem.coordination.issues
    memories = [Memory(file, tmp_path / ".coord", pytest.fail, Settings()) for _ in range(2)]
    with closing(memories[0]) as one, closing(memories[1]) as other:
        one.search()
        other.rebuild()
        one.store_issue_event("updated", issue, changes={"status": "resolved"})

        assert other.search(filters=HistoryFilters(kind="issue.updated"))
