"""Edits of files as people write them: what was meant is in the file, and every other byte stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from coordination.ecosystem import piecewise, revision
from coordination.ecosystem.changes import Edit
from coordination.ecosystem.document import load
from coordination.ecosystem.editing import edit
from coordination.ecosystem.outline import outline_of
from coordination.ecosystem.parsing import parse
from coordination.errors import CoordinationError, EditConflict, InvalidFile, NotFound, UsageError

HERE = Path("ecosystem.yaml")

TEXTS = [
    "do it",
    "a: b",
    "# no",
    "two\nlines\n",
    "Größe 😀",
    "yes",
    "it's",
    "- x",
    " ",
    "12",
    "|",
    "*a",
    "&a",
]
DATES = ["2026-01-02", "2026-01-02T03:04:05Z"]
NAMES = [[], ["T0"], ["T1", "P"], ["a", "b c", "# d"]]
FIELDS: dict[str, dict[str, list[Any]]] = {
    "todos": {
        "task": TEXTS,
        "description": TEXTS,
        "status": ["pending", "completed"],
        "updated": DATES,
        "estimated_hours": [1, 2.5, 0.000047],
        "labels": NAMES[:1] + NAMES[3:],
        "blocked_by": NAMES[:3],
        "action": ["make", ["make", "-j"], {"type": "agent", "prompt": "x\ny"}],
        "env": [{"A": "1", "B": 2}],
        "resources": [["db"], ["db", {"name": "gpu", "amount": 2}], [{"name": "gpu", "amount": 3}]],
        "assignee": [None, "me"],
    },
    "plans": {
        "title": TEXTS,
        "description": TEXTS,
        "milestones": [[{"id": "M9", "name": "x"}]],
        "target": DATES,
    },
    "issues": {
        "title": TEXTS,
        "metadata": [{"a": [1, {"b": None}]}],
        "labels": NAMES[3:],
        "severity": [None, "low"],
    },
    "dependencies": {"notes": TEXTS, "validation": [{"command": "true", "timeout": 3}]},
}
NEEDED = {
    "todos": ["task: t", "repo: r"],
    "plans": ["title: t"],
    "issues": ["title: t"],
    "dependencies": ["consumer: r", "provider: r"],
}
WRITTEN = {
    "todos": [
        "status: pending", "status: 'blocked'", "labels: [a, b]", "labels:\n  - a # c\n  - b",
        "labels:\n- a\n- 'b'",
        "description: |\n  # no comment\n\n  x\n", "description: >-\n  x\n\n\n", "description: |+\n  x\n\n",
        "description: one\n  two", 'description: "one\n  two"', "updated: 2026-01-01",
        'updated: "2026-01-01"',
        "action: {type: shell, run: 'a: b'}", "action:\n  type: agent\n  prompt: >\n    x", "env: {A: '1'}",
        "blocked_by: [\n  T0, # c\n  ]", "assignee: ~", "assignee:", "estimated_hours: 1.5",
        "description: a *word*",
        "resources: [db, {name: gpu, amount: 2}]",
        "resources:\n  - db # c\n  # d\n  - name: gpu # e\n    amount: 2",
    ],
    "plans": [
        "milestones:\n  - id: M1 # c\n    name: m\n  # c\n  - {id: M2, name: m}",
        "milestones: [{id: M1, name: m}]",
        "target: 2026-01-01", "repos: [r]", "description: |\n  x",
    ],
    "issues": ["metadata:\n  a: 1 # c\n  b: [x]", "labels: []", "severity: high", "description: '# x'"],
    "dependencies": ["notes: >\n  x\n", "validation:\n  command: [a, b]\n  timeout: 10m",
        "version_constraint: '>=1'"],
}  # fmt: skip
LETTERS = {"todos": "T", "plans": "P", "issues": "I", "dependencies": "D"}


class Scribe:
    """Writes one file, choice by choice."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def choose(self, *options: str) -> str:
        return self.draw(st.sampled_from(options))

    def comment(self) -> str:
        return self.choose("", "", "", "  # c", " # é 😀: '")

    def between(self, column: int) -> str:
        pad = " " * column
        return self.choose("", "", "", "\n", f"{pad}# c\n", "# far left\n", f"\n{pad}  # c\n\n")

    def item(self, section: str, number: int, column: int) -> str:
        chosen = self.draw(
            st.lists(st.sampled_from(WRITTEN[section]), unique_by=lambda f: f.partition(":")[0], max_size=4)
        )
        fields = [f"id: {LETTERS[section]}{number}", *NEEDED[section], *chosen]
        if self.choose("block", "block", "flow") == "flow":
            return self.flow([field for field in fields if "\n" not in field], column)
        gap = self.choose(" ", " ", "   ")
        inner = " " * (column + 1 + len(gap))
        rows = [field.replace("\n", "\n" + inner) for field in self.draw(st.permutations(fields))]
        rows = [row if "\n" in row or row.endswith(":") else row + self.comment() for row in rows]
        return " " * column + "-" + gap + ("\n" + self.between(column + 2) + inner).join(rows) + "\n"

    def flow(self, fields: list[str], column: int) -> str:
        fields = [field for field in fields if not field.endswith(":")]
        inside = self.choose(", ", ",\n" + " " * (column + 4), ", # c\n" + " " * (column + 4)).join(fields)
        return f"{' ' * column}- {{{inside}}}{self.comment()}\n"

    def section(self, name: str, step: int) -> str:
        kind = self.choose("block", "block", "block", "empty", "missing")
        head = f"{self.between(step)}{' ' * step}{name}:"
        if kind == "missing":
            return ""
        if kind == "empty":
            return f"{head} []{self.comment()}\n"
        column = step + self.draw(st.sampled_from([0, 1, 2]))
        count = self.draw(st.integers(1, 4))
        return f"{head}{self.comment()}\n" + "".join(
            self.between(column) + self.item(name, number, column) for number in range(count)
        )


@st.composite
def files(draw: st.DrawFn) -> str:
    scribe = Scribe(draw)
    step = draw(st.sampled_from([1, 2, 4]))
    sections = "".join(scribe.section(name, step) for name in draw(st.permutations(list(LETTERS))))
    repos = scribe.choose(
        "repos: [{name: r}]\n", "repos:\n- name: r # c\n", "", "repos:\n  - name: r\n    tags: [a]\n"
    )
    coordination = f"coordination:{scribe.comment()}\n{sections}" if sections else "coordination: {}\n"
    parts = draw(st.permutations([repos, coordination, "settings: {namespace: x}\n"]))
    text = scribe.choose("", "# first\n\n", "\ufeff", "%YAML 1.1\n---\n") + "".join(parts) + scribe.between(0)
    text += scribe.choose("", "", "...\n", "# last")
    text = text.removesuffix("\n") if scribe.choose("", "", "cut") else text
    return text.replace("\n", scribe.choose("\n", "\n", "\r\n"))


@st.composite
def decisions(draw: st.DrawFn, text: str) -> Callable[[Edit], None]:
    """Something to do with the records that the file has."""
    records = parse(text.encode(), HERE).document.ecosystem.coordination
    steps: list[tuple[Any, ...]] = []
    for section in draw(st.lists(st.sampled_from(list(LETTERS)), min_size=1, max_size=4)):
        ids = [record.id for record in getattr(records, section)]
        kind = draw(st.sampled_from(["set", "set", "set", "add", "remove", "milestone"])) if ids else "add"
        field = draw(st.sampled_from(list(FIELDS[section])))
        value = draw(st.sampled_from(FIELDS[section][field]))
        if kind == "set":
            steps.append(("set", (section, draw(st.sampled_from(ids))), field, value))
        elif kind == "remove":
            steps.append(("remove", (section, draw(st.sampled_from(ids)))))
        elif kind == "milestone" and section == "plans":
            steps.append(
                (
                    "add",
                    ("plans", draw(st.sampled_from(ids)), "milestones"),
                    {"id": f"N{len(steps)}", "name": "new\nname"},
                )
            )
        else:
            needed = dict(part.split(": ") for part in NEEDED[section])
            record = {"id": f"{LETTERS[section]}-{len(steps)}", **needed, field: value}
            steps.append(("add", (section,), record))
    removed = {step[1] for step in steps if step[0] == "remove"}

    def decide(edit: Edit) -> None:
        gone = set()
        for what, place, *rest in steps:
            if place in gone or (what != "remove" and place[:2] in removed):
                continue
            getattr(edit, what)(place, *rest)
            gone |= {place} if what == "remove" else set()

    return decide


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_few_records_read_alone_lead_to_the_same_bytes_as_the_whole_file(data: st.DataObject) -> None:
    text = data.draw(files())
    before = parse(text.encode(), HERE)
    proposal = Edit(before.document)
    data.draw(decisions(text))(proposal)
    if not proposal.changes:
        return

    piece = piecewise.revise(before.snapshot(), proposal.changes)
    try:
        whole = revision.revise(before, proposal.changes)
    except EditConflict as error:
        event(f"refused: {error.message.partition(':')[2][:40]}")
        assert piece is None
        return

    event("piecewise" if piece else "as a whole")
    if piece is not None:
        assert piece.document.text.decode() == whole.document.text.decode()
        assert piece == whole
        assert piece.outline == outline_of(parse(whole.document.text, HERE).tree)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_an_edit_does_not_name_stays_as_it_is(tmp_path: Path, data: st.DataObject) -> None:
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

    monkeypatch.setattr(revision, "revise", read)


def test_many_changes_are_one_edit(path: Path, no_whole_way: None) -> None:
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


def test_a_resource_is_declared_changed_and_taken_out(path: Path) -> None:
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


def test_one_resource_of_many_is_changed_alone(path: Path, no_whole_way: None) -> None:
    text = path.read_text().replace(
        "coordination:", "resources:\n  - name: db # old\n  # two\n  - name: gpu\ncoordination:"
    )
    path.write_text(text)

    edit(path, lambda edit: edit.set(("resources", "gpu"), "capacity", 2))

    assert path.read_text() == text.replace("name: gpu\n", "name: gpu\n    capacity: 2\n")


def test_what_is_taken_out_moves_nothing_else_out_of_its_place(path: Path) -> None:
    path.write_text(TEXT.replace("    - id: P\n", "    - {id: O, title: first}\n    - id: P\n"))

    def decide(edit: Edit) -> None:
        edit.remove(("plans", "O"))
        edit.add(("plans", "P", "milestones"), {"id": "N", "name": "n"})

    edit(path, decide)

    assert path.read_text() == TEXT.replace("m}\n", "m}\n        - {id: N, name: n}\n")


def test_what_is_added_and_taken_out_again_leaves_nothing(path: Path) -> None:
    def decide(edit: Edit) -> None:
        edit.add(("issues",), {"id": "I", "title": "t"})
        edit.remove(("issues", "I"))

    edit(path, decide)

    assert path.read_text() == TEXT


def test_the_first_record_of_a_kind_makes_its_section(path: Path) -> None:
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
) -> None:
    with pytest.raises(error, match=words):
        edit(path, decide)

    assert path.read_text() == TEXT


def test_a_file_that_someone_broke_is_refused_with_line_and_column(path: Path) -> None:
    path.write_text(TEXT + "    - id: [\n")

    with pytest.raises(InvalidFile, match=r"ecosystem.yaml:\d+: YAML, column \d+"):
        edit(path, lambda edit: edit.set(("todos", "A"), "task", "x"))

    assert path.read_text() == TEXT + "    - id: [\n"


def test_a_folder_that_nobody_may_write_is_told(path: Path) -> None:
    (path.parent / ".coord").write_text("in the way")

    with pytest.raises(CoordinationError, match="cannot be edited") as caught:
        edit(path, lambda edit: edit.set(("todos", "A"), "task", "x"))

    assert "writable" in caught.value.hint
    assert path.read_text() == TEXT


def test_after_an_edit_the_warnings_have_their_new_lines(path: Path) -> None:
    path.write_text(TEXT.replace("repo: r\n    # of C", "repo: GONE\n    # of C"))
    (before,) = load(path).warnings

    after = edit(path, lambda edit: edit.set(("todos", "A"), "labels", ["a"]))

    assert [problem.line for problem in after.warnings] == [before.line + 1]
