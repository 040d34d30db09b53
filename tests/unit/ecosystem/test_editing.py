"""Edits of files as people write them: what was meant is in the file, and every other byte stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from drawn_edits import HERE, decisions, files
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from coordination.ecosystem import changes, editing, piecewise
from coordination.ecosystem.changes import Edit
from coordination.ecosystem.document import load
from coordination.ecosystem.editing import edit
from coordination.ecosystem.parsing import outline_of, parse
from coordination.errors import CoordinationError, EditConflict, NotFound, UsageError
from tests.examples import examples


@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_few_records_read_alone_lead_to_the_same_bytes_as_the_whole_file(data: st.DataObject):
    text = data.draw(files())
    before = parse(text.encode(), HERE)
    proposal = Edit(before.document)
    data.draw(decisions(text))(proposal)
    if not proposal.changes:
        return

    piece = piecewise.revise(before.snapshot(), proposal.changes)
    try:
        whole = changes.revise(before, proposal.changes)
    except EditConflict as error:
        event(f"refused: {error.message.partition(':')[2][:40]}")
        assert piece is None
        return

    event("piecewise" if piece else "as a whole")
    if piece is not None:
        assert piece.document.text.decode() == whole.document.text.decode()
        assert piece == whole
        assert piece.outline == outline_of(parse(whole.document.text, HERE).tree)


@settings(
    max_examples=examples(60),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_what_an_edit_does_not_name_stays_as_it_is(tmp_path: Path, data: st.DataObject):
    text = data.draw(files())
    path = tmp_path / "ecosystem.yaml"
    path.write_bytes(text.encode())
    before = parse(text.encode(), HERE)
    touched: set[tuple[str, ...]] = set()

    def decide(edit: Edit) -> None:
        chosen(edit)
        for location in (*edit.changes.fields, *edit.changes.removed, *edit.changes.added):
            touched.add(location[:3])

    chosen = data.draw(decisions(text))
    try:
        after = edit(path, decide)
    except EditConflict:
        assert path.read_bytes() == text.encode()
        return

    assert after == load(path)
    kept = [line for line in slices(before.document.text, touched) if line.strip()]
    new = path.read_bytes().decode()
    position = 0
    for piece in kept:  # all others are there, in their order
        piece = piece.strip("\r\n")
        position = new.index(piece, position) + len(piece)
    if not touched:
        assert new == text


def slices(raw: bytes, without: set[tuple[Any, ...]]) -> list[str]:
    """The text of each record that is not named."""
    draft = parse(raw, HERE)
    outline, text = outline_of(draft.tree), draft.tree.text
    found: list[tuple[int, str]] = []
    for location, listing in (outline.lists if outline else {}).items():
        spans = listing.spans()
        for i in range(1, len(spans) - 1):
            if location[0] == "coordination" and not {(*location, i), (*location, i - 1), location} & without:
                found.append((spans[i], without_tail(text[spans[i] : spans[i + 1]])))
    return [piece for _, piece in sorted(found)]


def without_tail(piece: str) -> str:
    """Comments below a record may belong to what comes next."""
    lines = piece.splitlines(keepends=True)
    while len(lines) > 1 and lines[-1].strip()[:1] in ("", "#"):
        lines.pop()
    return "".join(lines).rstrip()


TEXT = """\
repos:
  - name: r
coordination:
  plans:
    - id: P
      title: t
      milestones:
        - {id: M, name: m}
  todos:
    - id: A # first
      task: t
      repo: r
    - id: B
      task: t
      repo: r
    # of C
    - id: C
      task: t
      repo: r
"""


@pytest.fixture
def no_whole_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading more than the records that change is a failure."""

    def read(*_: object) -> None:
        raise AssertionError("the whole file was read")

    monkeypatch.setattr(editing, "revise", read)


def test_many_changes_are_one_edit(path: Path, no_whole_way: None):
    def decide(edit: Edit) -> None:
        edit.set(("todos", "A"), "status", "completed")
        edit.set(("todos", "A"), "labels", ["x"])
        edit.set(("todos", "A"), "status", "cancelled")
        edit.add(("todos",), {"id": "D", "task": "new", "repo": "r", "assignee": None})
        edit.set(("todos", "D"), "task", "newer")
        edit.set(("todos", "D"), "priority", "low")
        edit.remove(("todos", "B"))
        edit.set(("plans", "P", "milestones", "M"), "status", "completed")
        edit.add(("plans", "P", "milestones"), {"id": "N", "name": "n"})
        edit.set(("repos", "r"), "path", "../r")

    edit(path, decide)

    changed = TEXT.replace("m}\n", "m, status: completed}\n        - {id: N, name: n}\n")
    changed = changed.replace("  - name: r\n", "  - name: r\n    path: ../r\n")
    changed = changed.replace("    - id: B\n      task: t\n      repo: r\n", "")
    changed = changed.replace(
        "first\n      task: t\n      repo: r\n",
        "first\n      task: t\n      repo: r\n      status: cancelled\n      labels: [x]\n",
    )
    new = "    - id: D\n      task: newer\n      repo: r\n      priority: low\n"
    assert path.read_text() == changed + new


def test_a_resource_is_declared_changed_and_taken_out(path: Path):
    before = path.read_text()
    edit(path, lambda edit: edit.add(("resources",), {"name": "gpu", "capacity": 2}))
    declared = before.replace(
        "coordination:\n", "resources:\n  - name: gpu\n    capacity: 2\ncoordination:\n"
    )
    assert path.read_text() == declared

    edit(path, lambda edit: edit.set(("resources", "gpu"), "capacity", 3))
    assert path.read_text() == declared.replace("capacity: 2", "capacity: 3")

    edit(path, lambda edit: edit.remove(("resources", "gpu")))
    assert load(path).ecosystem.resources == ()
    with pytest.raises(NotFound, match="no resource 'gpu'"):
        edit(path, lambda edit: edit.set(("resources", "gpu"), "capacity", 3))


def test_one_resource_of_many_is_changed_alone(path: Path, no_whole_way: None):
    text = path.read_text().replace(
        "coordination:", "resources:\n  - name: db # old\n  # two\n  - name: gpu\ncoordination:"
    )
    path.write_text(text)

    edit(path, lambda edit: edit.set(("resources", "gpu"), "capacity", 2))

    assert path.read_text() == text.replace("name: gpu\n", "name: gpu\n    capacity: 2\n")


def test_what_is_taken_out_moves_nothing_else_out_of_its_place(path: Path):
    path.write_text(TEXT.replace("    - id: P\n", "    - {id: O, title: first}\n    - id: P\n"))

    def decide(edit: Edit) -> None:
        edit.remove(("plans", "O"))
        edit.add(("plans", "P", "milestones"), {"id": "N", "name": "n"})

    edit(path, decide)

    assert path.read_text() == TEXT.replace("m}\n", "m}\n        - {id: N, name: n}\n")


def test_what_is_added_and_taken_out_again_leaves_nothing(path: Path):
    def decide(edit: Edit) -> None:
        edit.add(("issues",), {"id": "I", "title": "t"})
        edit.remove(("issues", "I"))

    edit(path, decide)

    assert path.read_text() == TEXT


def test_the_first_record_of_a_kind_makes_its_section(path: Path):
    after = edit(path, lambda edit: edit.add(("issues",), {"id": "I", "title": "t"}))

    assert [issue.id for issue in after.ecosystem.coordination.issues] == ["I"]
    assert after == load(path)


REFUSED: dict[str, tuple[Callable[[Edit], None], type[Exception], str]] = {
    "no such record": (lambda e: e.set(("todos", "X"), "task", "t"), NotFound, "there is no todo 'X'"),
    "no such list": (lambda e: e.add(("things",), {"id": "X"}), UsageError, "there is no list 'things'"),
    "no such field": (lambda e: e.set(("todos", "A"), "colour", "red"), UsageError, "no field 'colour'"),
    "an id in use": (lambda e: e.add(("todos",), {"id": "A"}), UsageError, "a todo A already"),
    "an id of other work": (
        lambda e: e.add(("todos",), {"id": "P", "task": "t", "repo": "r"}), EditConflict,
        "given a second time"
    ),
    "an id taken by renaming": (lambda e: e.set(("todos", "B"), "id", "A"), EditConflict,
    "given a second time"),
    "a word that is none": (lambda e: e.set(("todos", "A"), "status", "done"), EditConflict,
    "must be one of"),
    "what must be given": (lambda e: e.set(("todos", "A"), "task", None), EditConflict, "is missing"),
    "what is gone": (
        lambda e: (e.remove(("todos", "A")), e.set(("todos", "A"), "task", "x"))[0], NotFound,
        "there is no todo 'A'"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("decide", "error", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_is_refused_and_nothing_is_written(
    path: Path, decide: Callable[[Edit], None], error: type[Exception], words: str
):
    with pytest.raises(error, match=words):
        edit(path, decide)

    assert path.read_text() == TEXT


def test_a_folder_that_nobody_may_write_is_told(path: Path):
    (path.parent / ".coord").write_text("in the way")

    with pytest.raises(CoordinationError, match="cannot be edited") as caught:
        edit(path, lambda edit: edit.set(("todos", "A"), "task", "x"))

    assert "writable" in caught.value.hint
    assert path.read_text() == TEXT


def test_after_an_edit_the_warnings_have_their_new_lines(path: Path):
    path.write_text(TEXT.replace("repo: r\n    # of C", "repo: GONE\n    # of C"))
    (before,) = load(path).warnings

    after = edit(path, lambda edit: edit.set(("todos", "A"), "labels", ["a"]))

    assert [problem.line for problem in after.warnings] == [before.line + 1]
