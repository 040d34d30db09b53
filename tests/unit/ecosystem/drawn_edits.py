"""Drawn files with records of every kind, and edits of these."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from coordination.ecosystem.changes import Edit
from coordination.ecosystem.parsing import parse

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


class Writer:
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
    writer = Writer(draw)
    step = draw(st.sampled_from([1, 2, 4]))
    sections = "".join(writer.section(name, step) for name in draw(st.permutations(list(LETTERS))))
    repos = writer.choose(
        "repos: [{name: r}]\n", "repos:\n- name: r # c\n", "", "repos:\n  - name: r\n    tags: [a]\n"
    )
    coordination = f"coordination:{writer.comment()}\n{sections}" if sections else "coordination: {}\n"
    parts = draw(st.permutations([repos, coordination, "settings: {namespace: x}\n"]))
    text = writer.choose("", "# first\n\n", "\ufeff", "%YAML 1.1\n---\n") + "".join(parts) + writer.between(0)
    text += writer.choose("", "", "...\n", "# last")
    text = text.removesuffix("\n") if writer.choose("", "", "cut") else text
    return text.replace("\n", writer.choose("\n", "\n", "\r\n"))


def drawn(count: int) -> list[str]:
    """Return the same files at each call, for benchmarks."""
    texts: list[str] = []
    drawing = settings(
        max_examples=count, database=None, derandomize=True, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    drawing(given(files())(lambda text: texts.append(text)))()
    return texts


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
