"""The journal of edits: whatever is killed and whoever else writes, its entries lead to exactly the file."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from coordination.ecosystem import journal
from coordination.ecosystem.editing import edit
from coordination.ecosystem.journal import Entry, Journal
from coordination.ecosystem.parsing import Document
from coordination.history.events import HistoryEvent, figures_of
from coordination.models import Ecosystem
from tests.testbed import FORKS

NOW = datetime(2026, 11, 22, tzinfo=UTC)
ECOSYSTEM = b"""repos:
  - {name: api, path: api}
coordination:
  issues:
    - {id: ISSUE-1, title: slow, repos: [api], created: 2026-11-01}
  plans:
    - {id: PLAN-1, title: faster, milestones: [{id: M1, name: measured}]}
  todos:
    - {id: TODO-1, task: measure it, repo: api, plan: PLAN-1, env: {API_KEY: geheim}}
  dependencies: []
"""


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / ".coord").mkdir()
    path = tmp_path / "ecosystem.yaml"
    path.write_bytes(ECOSYSTEM)
    return path


@contextmanager
def killed_after(monkeypatch: pytest.MonkeyPatch, calls: int, draw: random.Random) -> Iterator[None]:
    """Let the process be killed at the given call to the system; a write that is cut leaves a part of it."""
    left = [calls]

    def or_killed(name: str, real):
        def call(*args):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            if left[0] == 0 and name == "write":
                real(args[0], args[1][: draw.randrange(len(args[1]) + 1)])
                raise Killed
            return real(*args)

        return call

    with monkeypatch.context() as patched:
        for name in ("write", "fsync", "open", "ftruncate"):
            patched.setattr(journal.os, name, or_killed(name, getattr(os, name)))
        yield


def write(file: Path, text: bytes, by: str) -> None:
    """One edit, as `editing.edit` makes it."""
    record = Journal(file)
    with record.recording(version(file, file.read_bytes()), version(file, text), [{"kind": by}], by, NOW):
        new = file.with_suffix(".new")
        new.write_bytes(text)
        record.sync()
        new.replace(file)


def version(file: Path, text: bytes) -> Document:
    return Document(path=file, text=text, ecosystem=Ecosystem())


def entries(file: Path) -> list[Entry]:
    Journal(file).catch_up(file.read_bytes(), NOW)
    return list(Journal(file).entries())


SEEDS = [*range(200), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(200, 5000))]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_entries_lead_to_exactly_the_file(
    file: Path, seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    draw = random.Random(seed)
    monkeypatch.setattr(journal, "LIMIT", draw.choice([2000, 10**9]))
    monkeypatch.setattr(journal, "ask_git", lambda *_: "c0ffee")
    kept = [file.read_bytes()]
    edits: list[bytes] = []
    for step in range(draw.randrange(1, 25)):
        before = file.read_bytes()
        at = draw.randrange(len(before) + 1)
        text = before[:at] + f"#{step}\n".encode() + before[draw.randrange(at, len(before) + 1) :]
        match draw.choice(["edit", "edit", "edit", "killed", "foreign", "back", "cut"]):
            case "edit":
                write(file, text, "us")
                edits.append(text)
            case "killed":
                with suppress(Killed), killed_after(monkeypatch, draw.randrange(8), draw):
                    write(file, text, "us")
            case "foreign":
                file.write_bytes(text)
            case "back":  # another branch is checked out
                file.write_bytes(draw.choice(kept))
            case "cut" if Journal(file).path.exists():  # a full disk, or a power loss
                size = Journal(file).path.stat().st_size
                os.truncate(Journal(file).path, max(1, size - draw.randrange(40)))
        kept.append(file.read_bytes())

    found = entries(file)

    assert found[-1].text == file.read_bytes()
    assert [entry.seq for entry in found] == sorted({entry.seq for entry in found})
    for entry, following in pairwise(found):
        assert following.before in (entry.after, None)
    assert {entry.text for entry in found if entry.actor == "us"} <= set(kept)


WRITER = """
import sys
from itertools import count
from pathlib import Path
from coordination.ecosystem.editing import edit

for number in count():
    edit(Path(sys.argv[1]), lambda e: e.set(("issues", "ISSUE-1"), "title", f"{sys.argv[2]} {number}"))
    print(number, flush=True)
"""


def test_processes_that_are_killed_at_any_moment_leave_a_journal_of_the_file(file: Path) -> None:
    draw = random.Random(7)
    for _ in range(4):
        writers = [FORKS.piped([sys.executable, "-c", WRITER, str(file), name]) for name in ("one", "two")]
        for writer in writers:
            for _ in range(draw.randrange(1, 12)):
                assert writer.stdout.readline()
            writer.kill()
        for writer in writers:
            writer.communicate()

        found = entries(file)

        assert found[-1].text == file.read_bytes()
        assert [entry.seq for entry in found] == sorted({entry.seq for entry in found})
        for entry, following in pairwise(found):
            assert following.before == entry.after
    titles = [event["changes"].get("title") for entry in found for event in entry.events]
    assert {title[1][:3] for title in titles if title} == {"one", "two"}


def test_every_edit_is_an_entry_with_its_records(file: Path) -> None:
    def decide(proposal) -> None:
        proposal.set(("issues", "ISSUE-1"), "status", "resolved")
        proposal.set(("plans", "PLAN-1", "milestones", "M1"), "status", "completed")
        proposal.add(("todos",), {"id": "TODO-2", "task": "mend it", "repo": "api"})
        proposal.remove(("todos", "TODO-1"))

    edit(file, decide)
    began, made = entries(file)

    assert began.text == ECOSYSTEM
    assert made.text == file.read_bytes()
    assert [(event["kind"], event["subject"]) for event in made.events] == [
        ("issue.resolved", "ISSUE-1"),
        ("milestone.completed", "PLAN-1/M1"),
        ("todo.created", "TODO-2"),
        ("todo.deleted", "TODO-1"),
    ]
    assert made.events[0]["changes"] == {"status": ["pending", "resolved"]}
    assert made.events[0]["repos"] == ["api"]
    assert "@" in made.actor
    assert "geheim" not in str(made.events)


def test_a_resolved_issue_is_closed_and_counts_as_done_once(file: Path) -> None:
    for status in ("resolved", "closed", "pending", "closed"):
        edit(file, lambda proposal, status=status: proposal.set(("issues", "ISSUE-1"), "status", status))

    kinds, figures = [], []
    for entry in entries(file)[1:]:
        (event,) = entry.events
        kinds.append(event["kind"])
        read = HistoryEvent(
            id="1", at=entry.at, kind=event["kind"], changes=event["changes"], record=event["record"]
        )
        found = figures_of(read, lambda _: None)
        figures.append([figure.name for figure in found if not figure.name.endswith("lead_h")])

    assert kinds == ["issue.resolved", "issue.closed", "issue.reopened", "issue.closed"]
    assert figures == [["issue.done"], [], ["issue.reopened"], ["issue.done"]]


def test_a_change_by_somebody_else_is_one_entry_and_names_the_commit(file: Path) -> None:
    edit(file, lambda proposal: proposal.set(("issues", "ISSUE-1"), "priority", "high"))
    file.write_bytes(file.read_bytes().replace(b"slow", b"very slow"))

    edit(file, lambda proposal: proposal.set(("issues", "ISSUE-1"), "priority", "low"))

    assert [(entry.events != (), entry.actor != "") for entry in entries(file)] == [
        (False, False),
        (True, True),
        (False, False),
        (True, True),
    ]


def test_a_copied_checkout_has_a_journal_of_its_own(file: Path, tmp_path: Path) -> None:
    write(file, ECOSYSTEM + b"# one\n", "us")
    shutil.copytree(tmp_path, tmp_path / "copy")
    copy = tmp_path / "copy" / "ecosystem.yaml"

    write(copy, ECOSYSTEM + b"# two\n", "us")

    assert Journal(copy).checkout() not in (None, Journal(file).checkout())
    assert entries(copy)[-1].text == copy.read_bytes()
    assert entries(file)[-1].text == file.read_bytes()


@pytest.mark.parametrize(
    "rubbish", [b"\0\0\0\n", b"[]\n", b'{"edit": 1}\n', b"{}\n", b'{"done": "x", "digest": 1}\n']
)
def test_after_rubbish_the_journal_begins_anew(file: Path, rubbish: bytes) -> None:
    write(file, ECOSYSTEM + b"# one\n", "us")
    with Journal(file).path.open("ab") as lines:
        lines.write(rubbish)

    write(file, ECOSYSTEM + b"# two\n", "us")

    assert entries(file)[-1].text == file.read_bytes()


def test_an_edit_is_made_where_the_journal_cannot_be_written(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Journal(file).path.mkdir()

    edit(file, lambda proposal: proposal.set(("issues", "ISSUE-1"), "priority", "low"))

    assert b"low" in file.read_bytes()
    assert str(Journal(file).path) in caplog.text


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_journal_that_is_no_file_of_ours_is_left_alone(
    file: Path, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder `.coord` may come with a clone."""
    theirs = tmp_path / "precious"
    theirs.write_bytes(b"one\ntwo")
    if kind == "link":
        Journal(file).path.symlink_to(theirs)
    else:
        os.mkfifo(Journal(file).path)

    edit(file, lambda proposal: proposal.set(("issues", "ISSUE-1"), "priority", "low"))

    assert b"low" in file.read_bytes()
    assert theirs.read_bytes() == b"one\ntwo"
    assert str(Journal(file).path) in caplog.text
