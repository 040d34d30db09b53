"""The style that coord's edits promise, as a table: before, the change, after."""

from __future__ import annotations

from typing import Any

import pytest
from yaml.nodes import MappingNode, SequenceNode

from coordination.ecosystem.yaml_text.fields import set_field
from coordination.ecosystem.yaml_text.lines import apply, entry
from coordination.ecosystem.yaml_text.records import add_items, remove_item
from coordination.ecosystem.yaml_text.tree import read_tree
from coordination.errors import EditConflict
from coordination.models import Todo

ORDER = list(Todo.model_fields)

FIELDS: dict[str, tuple[str, tuple[str, Any], str]] = {
    "a word for a word, and the comment stays": ("- id: T\n  status: pending   # why\n",
     ("status", "completed"), "- id: T\n  status: completed   # why\n"),
    "the old quotes": ("- id: T\n  task: 'one'\n", ("task", "it's # two"),
     "- id: T\n  task: 'it''s # two'\n"),
    "escapes in double quotes": ('- id: T\n  task: "one"\n', ("task", 'say "two\\"\nand é'),
     '- id: T\n  task: "say \\"two\\\\\\"\\nand é"\n'),
    "quotes where plain text would be read as something else": ("- id: T\n  task: one\n", ("task", "yes"),
     '- id: T\n  task: "yes"\n'),
    "single quotes where double ones would need escapes": ("- id: T\n  task: one\n", ("task", '"a": b'),
     "- id: T\n  task: '\"a\": b'\n"),
    "no quotes for a number": ("- id: T\n  timeout: '90'\n", ("timeout", 120), "- id: T\n  timeout: 120\n"),
    "a number that YAML 1.1 would take for text": ("- id: T\n  actual_hours: 1.5\n", ("actual_hours", 1e-12),
     "- id: T\n  actual_hours: 1.0e-12\n"),
    "a date as dates are written": ("- id: T\n  created: 2026-01-01\n", ("updated", "2026-03-04"),
     "- id: T\n  created: 2026-01-01\n  updated: 2026-03-04\n"),
    "a date in quotes where dates are": ('- id: T\n  created: "2026-01-01"\n', ("updated", "2026-03-04"),
     '- id: T\n  created: "2026-01-01"\n  updated: "2026-03-04"\n'),
    "a text that looks like a date": ("- id: T\n  task: one\n", ("task", "2026-03-04"),
     '- id: T\n  task: "2026-03-04"\n'),
    "nothing was written after the name": ("- id: T\n  assignee:   # nobody yet\n  repo: r\n",
     ("assignee", "ana"), "- id: T\n  assignee: ana   # nobody yet\n  repo: r\n"),
    "text over several lines": ("- id: T\n  task: one\n    two   # c\n  repo: r\n", ("task", "three"),
     "- id: T\n  task: three   # c\n  repo: r\n"),
    "a block stays one": ("- id: T\n  description: |  # c\n     one\n\n     two\n\n  repo: r\n",
     ("description", "three\n"), "- id: T\n  description: |  # c\n     three\n\n  repo: r\n"),
    "a block for text that does not end its line": ("- id: T\n  description: |\n    one\n  repo: r\n",
     ("description", "two\n  three"), "- id: T\n  description: |-\n    two\n      three\n  repo: r\n"),
    "a folded block whose text gets blank lines": (
     "- id: T\n  description: >-\n    one\n    two\n  repo: r\n", ("description", "three\n\n* four\n* five"),
     "- id: T\n  description: |-\n    three\n\n    * four\n    * five\n  repo: r\n"),
    "a folded block": ("- id: T\n  description: >-\n    one\n    two\n  repo: r\n",
     ("description", "three\nfour"), "- id: T\n  description: >-\n    three\n\n    four\n  repo: r\n"),
    "what no block can say": ("- id: T\n  description: |\n    one\n  repo: r\n", ("description", " two\n"),
     '- id: T\n  description: " two\\n"\n  repo: r\n'),
    "a word becomes several lines": ("- id: T\n  description: one  # c\n  repo: r\n",
     ("description", "two\nthree\n"), "- id: T\n  description: |  # c\n    two\n    three\n  repo: r\n"),
    "several lines in braces": ("- {id: T, description: one}\n", ("description", "two\nthree\n"),
     '- {id: T, description: "two\\nthree\\n"}\n'),
    "like JSON": ('- {"id": "T", "task": "one"}\n', ("status", "pending"),
     '- {"id": "T", "task": "one", "status": "pending"}\n'),
    "like compact JSON": ('- {"id":"T","task":"one"}\n', ("labels", ["a", "b"]),
     '- {"id":"T","task":"one","labels":["a", "b"]}\n'),
    "a new field after the one before it": (
     "- id: T   # the id\n  task: one  # what\n  # about repo\n  repo: r\n  labels: [a]\n",
     ("status", "pending"),
    "- id: T   # the id\n  task: one  # what\n  # about repo\n  repo: r\n  status: pending\n  labels: [a]\n"),
    "a new field after a list": ("- id: T\n  labels:\n    - a\n    # - b\n\n  # about plan\n  plan: P\n",
     ("acceptance_criteria", ["it holds"]),
    "- id: T\n  labels:\n    - a\n    # - b\n  acceptance_criteria: [it holds]\n\n"
    "  # about plan\n  plan: P\n"),
    "a new field after a block": ("- id: T\n  description: |\n    one\n\n  plan: P\n", ("repo", "r"),
     "- id: T\n  description: |\n    one\n  repo: r\n\n  plan: P\n"),
    "a new field before all": ("- repo: r\n  task: one\n", ("id", "T"), "- id: T\n  repo: r\n  task: one\n"),
    "a new field at the end of a file": ("- id: T\n  task: one", ("repo", "r"),
     "- id: T\n  task: one\n  repo: r"),
    "a new field below a block at the end of a file": ("- id: T\n  description: |\n    one", ("repo", "r"),
     "- id: T\n  description: |-\n    one\n  repo: r"),
    "several lines above a comment, which a block would swallow": (
     "- id: T\n  task: one\n    # about it\n  repo: r\n", ("task", "two\nthree"),
     '- id: T\n  task: "two\\nthree"\n    # about it\n  repo: r\n'),
    "a new field in braces over several lines": ("- {\n    id: T, # c\n    task: one # d\n  }\n",
     ("repo", "r"), "- {\n    id: T, # c\n    task: one, # d\n    repo: r\n  }\n"),
    "names in quotes": ("- 'id': 'T'\n  'task': 'one'\n", ("repo", "r"),
     "- 'id': 'T'\n  'task': 'one'\n  'repo': 'r'\n"),
    "a field goes with the comment on its line": (
     "- id: T\n  # about status\n  status: pending  # why\n  repo: r\n", ("status", None),
     "- id: T\n  # about status\n  repo: r\n"),
    "a list goes": ("- id: T\n  labels:  # c\n    - a\n    - b  # d\n\n  repo: r\n", ("labels", None),
     "- id: T\n\n  repo: r\n"),
    "a field goes, and one of two blank lines": ("- id: T\n\n  status: pending\n\n  repo: r\n",
     ("status", None), "- id: T\n\n  repo: r\n"),
    "an item goes with the comment above it": (
     "- id: T\n  labels:\n  # all\n  - a\n\n  # second\n  - b\n\n  repo: r\n", ("labels", ["a"]),
     "- id: T\n  labels:\n  # all\n  - a\n\n  repo: r\n"),
    "the field beside the dash goes": ("- status: pending\n  # c\n  id: T\n", ("status", None),
     "- # c\n  id: T\n"),
    "a field goes from braces": ("- {id: T, status: pending, repo: r}\n", ("status", None),
     "- {id: T, repo: r}\n"),
    "the last field goes from braces": ("- {id: T,\n   status: pending}\n", ("status", None), "- {id: T}\n"),
    "a word is added to a list": ("- id: T\n  labels: [a, 'b']  # c\n", ("labels", ["a", "b", "x: y"]),
     "- id: T\n  labels: [a, 'b', \"x: y\"]  # c\n"),
    "words go from a list": ("- id: T\n  labels: [a, 'b', c]\n", ("labels", ["b"]),
     "- id: T\n  labels: ['b']\n"),
    "a list over several lines": ("- id: T\n  labels: [\n    a,  # A\n    b   # B\n  ]\n",
     ("labels", ["b", "c"]), "- id: T\n  labels: [\n    b,   # B\n    c\n  ]\n"),
    "a list with dashes": ("- id: T\n  labels:\n  - a  # A\n  # about b\n  - b\n  repo: r\n",
     ("labels", ["a", "c", "b", "d"]),
     "- id: T\n  labels:\n  - a  # A\n  - c\n  # about b\n  - b\n  - d\n  repo: r\n"),
    "all goes from a list": ("- id: T\n  labels:  # c\n    - a\n    - b\n  repo: r\n", ("labels", []),
     "- id: T\n  labels: []  # c\n  repo: r\n"),
    "words into an empty list": ("- id: T\n  labels: []  # c\n", ("labels", ["a", "b"]),
     "- id: T\n  labels: [a, b]  # c\n"),
    "sentences into an empty list": ("- id: T\n  acceptance_criteria: []  # c\n  plan: P\n",
     ("acceptance_criteria", ["it works for everybody", "it is quick"]),
     "- id: T\n  acceptance_criteria:  # c\n    - it works for everybody\n    - it is quick\n  plan: P\n"),
    "a new mapping": ("- id: T\n  plan: P\n", ("action", {"type": "shell", "run": "make x: y"}),
     '- id: T\n  plan: P\n  action:\n    type: shell\n    run: "make x: y"\n'),
    "one value of a mapping": ("- id: T\n  env:\n    A: 1   # one\n    B: 'x'\n",
     ("env", {"A": 1, "B": "y", "C": True}), "- id: T\n  env:\n    A: 1   # one\n    B: 'y'\n    C: true\n"),
    "a mapping in braces": ("- id: T\n  retry: {attempts: 2}  # c\n",
     ("retry", {"attempts": 3, "delay": "2s"}), "- id: T\n  retry: {attempts: 3, delay: 2s}  # c\n"),
    "a mapping becomes a word": ("- id: T\n  action:  # c\n    type: shell\n    run: make\n  repo: r\n",
     ("action", "make all"), "- id: T\n  action: make all  # c\n  repo: r\n"),
}  # fmt: skip


def record(text: str) -> MappingNode:
    root = read_tree(text.encode(), "ecosystem.yaml").root
    assert isinstance(root, SequenceNode)
    assert isinstance(root.value[0], MappingNode)
    return root.value[0]


@pytest.mark.parametrize(("before", "change", "after"), FIELDS.values(), ids=FIELDS.keys())
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_field(before: str, change: tuple[str, Any], after: str, line_end: str):
    text = before.replace("\n", line_end)

    splices = set_field(text, record(text), *change, ORDER)

    assert apply(text, splices) == after.replace("\n", line_end)


SHARED = {
    "an alias": "- id: &x T\n  task: *x\n",
    "an anchor": "- id: T\n  task: &x one\n",
    "a tag": "- id: T\n  task: !!str one\n",
    "an anchored list": "- id: T\n  task: &x\n    - a\n",
    "an alias in a list": "- id: &x T\n  task: [*x, b]\n",
}


@pytest.mark.parametrize("text", SHARED.values(), ids=SHARED.keys())
def test_what_other_places_share_is_refused_with_what_to_do(text: str):
    with pytest.raises(EditConflict, match=r"line [12]") as caught:
        apply(text, set_field(text, record(text), "task", ["two", "b"], ORDER))

    assert "write" in caught.value.hint


def test_a_field_that_comes_through_a_merge_cannot_be_taken_out():
    text = "- <<: {task: one}\n  id: T\n"

    with pytest.raises(EditConflict, match="<<"):
        set_field(text, record(text), "task", None, ORDER)

    assert set_field(text, record(text), "repo", None, ORDER) == []


NEW = {"id": "N", "repo": "r", "task": "new: it", "labels": ["a"]}
ADDED = {
    "in the hand of the last one": (
     "coordination:\n  todos:\n  -   task: 'one'\n      id: 'A'\n      labels:\n      - 'x'\n",
     "coordination:\n  todos:\n  -   task: 'one'\n      id: 'A'\n      labels:\n      - 'x'\n"
     "  -   task: 'new: it'\n      repo: 'r'\n      id: 'N'\n      labels:\n      - a\n"),
    "blank lines between, and the next section's comment": (
    "coordination:\n  todos:\n    - id: A\n\n    # about B\n    - id: B\n      # inside B\n\n  # next\n"
    "  dependencies: []\n",
     "coordination:\n  todos:\n    - id: A\n\n    # about B\n    - id: B\n      # inside B\n\n"
    '    - id: N\n      task: "new: it"\n      repo: r\n      labels: [a]\n\n  # next\n  dependencies: []\n'),
    "braces": ("coordination:\n  todos:\n    - { id: A, task: one } # c",
    'coordination:\n  todos:\n    - { id: A, task: one } # c\n'
    '    - { id: N, task: "new: it", repo: r, labels: [a] }'),
    "JSON": ('{\n  "coordination": {\n    "todos": [\n      {\n        "id": "A"\n      }\n    ]\n  }\n}\n',
    '{\n  "coordination": {\n    "todos": [\n      {\n        "id": "A"\n      },\n      {\n'
    '        "id": "N",\n'
     '        "task": "new: it",\n        "repo": "r",\n        "labels": ["a"]\n      }\n    ]\n  }\n}\n'),
    "an empty list": ("coordination:\n  todos: []  # c\n  plans: []\n",
    'coordination:\n  todos:  # c\n    - id: N\n      task: "new: it"\n      repo: r\n      labels: [a]\n'
    '  plans: []\n'),
    "nothing after the name": ("coordination:\n  todos:\n    # none yet\n  plans: []\n",
    'coordination:\n  todos:\n    # none yet\n    - id: N\n      task: "new: it"\n      repo: r\n'
    '      labels: [a]\n  plans: []\n'),
    "no list, and blank lines between sections": (
     "coordination:\n  issues:\n    - id: I\n\n  plans:\n    - id: P\n",
     "coordination:\n  issues:\n    - id: I\n\n  plans:\n    - id: P\n\n"
     '  todos:\n    - id: N\n      task: "new: it"\n      repo: r\n      labels: [a]\n'),
    "no section": ("repos:\n- name: r\n",
    'repos:\n- name: r\ncoordination:\n  todos:\n  - id: N\n    task: "new: it"\n    repo: r\n'
    '    labels: [a]\n'),
    "deeper than usual": ("repos:\n    - name: r\ncoordination:\n    plans: []\n",
     "repos:\n    - name: r\ncoordination:\n    plans: []\n"
     '    todos:\n        - id: N\n          task: "new: it"\n          repo: r\n          labels: [a]\n'),
}  # fmt: skip


@pytest.mark.parametrize(("before", "after"), ADDED.values(), ids=ADDED.keys())
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_new_record(before: str, after: str, line_end: str):
    text = before.replace("\n", line_end)
    root = read_tree(text.encode(), "ecosystem.yaml").root
    assert root is not None

    splices = add_items(text, root, ("coordination", "todos"), [NEW], ORDER)

    assert apply(text, splices) == after.replace("\n", line_end)


REMOVED: dict[str, tuple[str, int, str]] = {
    "with the comments on it and directly above it": (
     "todos:\n  - id: A\n\n  # apart\n\n  # about B\n  - id: B  # b\n    # inside B\n\n  - id: C\n", 1,
     "todos:\n  - id: A\n\n  # apart\n\n  - id: C\n"),
    "the first, whose comment may be about the list": ("todos:\n  # the list\n  - id: A\n\n  - id: B\n", 0,
     "todos:\n  # the list\n\n  - id: B\n"),
    "the first, and the blank line below": ("todos:\n  - id: A\n\n  - id: B\n", 0, "todos:\n  - id: B\n"),
    "the last, and the blank line above": ("todos:\n  - id: A\n\n  - id: B\n# end\n", 1,
     "todos:\n  - id: A\n# end\n"),
    "the only one": ("todos:  # c\n  - id: A\n    task: one\n\nplans: []\n", 0,
     "todos: []  # c\n\nplans: []\n"),
    "from brackets": ("todos: [{id: A}, {id: B}]\n", 0, "todos: [{id: B}]\n"),
    "the last of JSON": ('{"todos": [\n  {"id": "A"},\n  {"id": "B"}\n]}\n', 1,
     '{"todos": [\n  {"id": "A"}\n]}\n'),
}  # fmt: skip


@pytest.mark.parametrize(("before", "index", "after"), REMOVED.values(), ids=REMOVED.keys())
@pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_a_record_taken_out(before: str, index: int, after: str, line_end: str):
    text = before.replace("\n", line_end)
    root = read_tree(text.encode(), "ecosystem.yaml").root
    assert isinstance(root, MappingNode)

    splices = remove_item(text, root, "todos", index)

    assert apply(text, splices) == after.replace("\n", line_end)
    assert entry(root, "todos")
