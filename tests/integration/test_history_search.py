"""The history finds events by words, by meaning and by filters."""

from __future__ import annotations

import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordination.ecosystem.editing import edit
from coordination.errors import NotFound, UsageError
from coordination.history.memory import Memory
from coordination.history.search import HistoryFilters, search
from coordination.history.store import HistoryStore
from coordination.processes import look
from coordination.settings import Settings, read_settings
from tests.integration.test_history import complete, event, file, store
from tests.waiting import until

__all__ = ["file", "store"]
NOW = datetime.now(UTC)


def test_words_are_found_by_stem_synonym_and_weight(store: HistoryStore) -> None:
    store.add(
        [
            event(1, title="Logins time out", record={"description": "measuring"}),
            event(2, title="Docs", record={"description": "about logins"}),
            event(3, title="A defect of the cart", subject="ISSUE-7"),
        ]
    )

    assert [hit.id for hit in search(store, "login")] == ["e1", "e2"]
    assert [hit.id for hit in search(store, "measure")] == ["e1"]
    assert [hit.id for hit in search(store, "bug")] == ["e3"]
    assert search(store, "bug")[0].matched == "A [defect] of the cart"
    assert [hit.id for hit in search(store, "ISSUE-7")] == ["e3"]
    assert {hit.id for hit in search(store, "cart docs")} == {"e2", "e3"}, "any word, if none has all"


@pytest.mark.parametrize(
    "query",
    ['"', "NEAR(", "a AND", "title:x*", "^login", "'; DROP TABLE events", "\0", "()", "{}", "-", "\x1b[31m"],
)
def test_what_is_typed_is_no_syntax(store: HistoryStore, query: str) -> None:
    store.add([event(1, title="login")])

    search(store, query)

    assert len(search(store)) == 1


def test_filters_choose_and_a_mistyped_one_is_refused(store: HistoryStore) -> None:
    store.add(
        [
            event(1, repos=("api", "web"), actor="ann@h", kind="issue.created"),
            event(2, repos=("web",), at=NOW - timedelta(days=3)),
        ]
    )

    found = {
        name: [hit.id for hit in search(store, filters=HistoryFilters(**{name: value}))]  # type: ignore[arg-type]
        for name, value in {
            "repo": "api", "entity": "todo", "kind": "issue.*", "actor": "ann@h",
            "since": NOW - timedelta(days=1),
            "until": NOW - timedelta(days=1),
        }.items()
    }  # fmt: skip
    assert found == {
        "repo": ["e1"],
        "entity": ["e2"],
        "kind": ["e1"],
        "actor": ["e1"],
        "since": ["e1"],
        "until": ["e2"],
    }
    with pytest.raises(NotFound, match="did you mean"):
        search(store, filters=HistoryFilters(repo="apl"))
    with pytest.raises(NotFound, match="there are: issue"):
        search(store, filters=HistoryFilters(kind="issue.create"))
    with pytest.raises(UsageError):
        search(store, limit=0)


EMBEDDING = """
import json, sys
for line in sys.stdin:
    words = json.loads(line).lower()
    print(json.dumps([float(any(w in words for w in group)) for group in (
        ("login", "sign-in", "password"), ("measure", "benchmark"), (" ",))]))
"""


def test_an_embedding_command_finds_what_means_the_same(tmp_path: Path, file: Path) -> None:
    edit(file, complete)
    settings = Settings(embed_command=(sys.executable, "-c", EMBEDDING))
    memory = Memory(file, tmp_path / ".coord", pytest.fail, settings)
    with closing(memory):
        found = memory.search("sign-in benchmark")
        both = memory.search("login", HistoryFilters(entity="todo"))

    assert found[0].subject == "TODO-1"
    assert "meaning" in found[0].matched
    assert [event.kind for event in both] == ["todo.completed"]
    assert "[login]" in both[0].matched


@pytest.mark.parametrize(
    "command",
    [
        "echo '[1, 2]'; echo '[1]'",
        "echo no vector",
        "echo '[0, 0]'",
        "echo '[1e999]'",
        "exit 3",
        "no-such-program",
    ],
)
def test_a_search_goes_on_without_an_embedding_command_that_fails(
    tmp_path: Path, file: Path, command: str
) -> None:
    edit(file, complete)
    told: list[str] = []
    with closing(Memory(file, tmp_path / ".coord", told.append, Settings(embed_command=command))) as memory:
        assert [event.subject for event in memory.search("login")] == ["TODO-1"]
    assert len(told) == 1
    assert "embed_command" in told[0]


def test_the_file_names_no_embedding_command() -> None:
    with pytest.raises(UsageError, match="COORD_EMBED_COMMAND"):
        read_settings({"embed_command": "true"}, environ={})


@pytest.mark.parametrize("flood", ["yes '[1, 2]'", "cat /dev/zero & cat /dev/zero"])
def test_an_embedding_command_that_writes_for_ever_is_killed(tmp_path: Path, file: Path, flood: str) -> None:
    edit(file, complete)
    pids, told = tmp_path / "pids", list[str]()
    command = f"sleep 60 & echo $! >> {pids}; {flood}"
    with closing(Memory(file, tmp_path / ".coord", told.append, Settings(embed_command=command))) as memory:
        assert [event.subject for event in memory.search("login")] == ["TODO-1"]
    assert "bytes" in told[0]
    for pid in pids.read_text().split():
        until(lambda pid=pid: (process := look(int(pid))) is None or process.is_zombie)
