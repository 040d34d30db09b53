"""A catalogue that other tools read too: what is theirs stays, words and numbers are read as people write
them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordination.ecosystem.document import Document, parse
from coordination.errors import InvalidFile
from coordination.models import IssueStatus, Level, ManualAction, ResourceType, Workspace
from coordination.tracker.manager import CoordinationManager

CATALOGUE = """\
version: "1.0"          # of the catalogue
roles:
  - {name: service, name: again, since: 2026-02-30, shape: !Ref other}
setings: {}
todos: []
x-notes: [silent]
repos:
  - name: api
    description: |
      Serves.
    mcp: {port: 8680}
    brnach: main
    x-owner: me
  - {name: web, description: Shows}
coordination:
  issues:
    - {id: ISSUE-1, title: Move, severity: migration, repos: [api]}
"""


def read(text: str, path: Path = Path("ecosystem.yaml")) -> Document:
    return parse(text.encode(), path).document


def test_other_sections_and_repository_fields_load_with_a_warning_each():
    warnings = read(CATALOGUE).warnings

    assert [(w.line, w.where, w.suggestion) for w in warnings] == [
        (1, "version", ""),
        (2, "roles", ""),
        (4, "setings", "settings"),
        (5, "todos", "coordination.todos"),
        (9, "repos[0].description (api)", ""),
        (11, "repos[0].mcp (api)", ""),
        (12, "repos[0].brnach (api)", "branch"),
    ]


def test_an_edit_keeps_what_other_tools_wrote_byte_for_byte(tmp_path: Path):
    path = tmp_path / "ecosystem.yaml"
    path.write_text(CATALOGUE)

    CoordinationManager(read(CATALOGUE, path)).update_issue("ISSUE-1", {"assignee": "lena"})

    assert path.read_text().partition("coordination:")[0] == CATALOGUE.partition("coordination:")[0]
    assert "assignee: lena" in path.read_text()


@pytest.mark.parametrize(
    "line", ["coordination: {roles: []}", "coordination: {x-mine: 1}", "resources: [{name: a, b: c}]"]
)
def test_an_unknown_name_inside_what_is_ours_is_an_error(line: str):
    with pytest.raises(InvalidFile):
        read(line)


def test_words_are_read_in_any_case_and_written_in_lower_case(tmp_path: Path):
    path = tmp_path / "ecosystem.yaml"
    path.write_text("""\
settings: {cache_eviction: LRU, appendfsync: Always, retry_strategy: Fixed}
repos: [{name: api}]
resources: [{name: staging, type: API}]
coordination:
  issues: [{id: I, title: t, status: Pending, priority: High, severity: Feature}]
  todos:
    - id: T
      task: t
      repo: api
      workspace: In-Place
      action: {type: Manual}
      retry: {strategy: LINEAR, retry_on: [Timeout]}
""")
    manager = CoordinationManager.open(path)

    issue, (todo,) = manager.get_issue("I"), manager.list_todos(status="PENDING")
    assert (issue.status, issue.priority, issue.severity) == (IssueStatus.PENDING, Level.HIGH, "Feature")
    assert (todo.workspace, todo.action) == (Workspace.IN_PLACE, ManualAction(type="manual"))
    assert manager.ecosystem.resources[0].type is ResourceType.API

    manager.update_issue("I", {"status": "In_Progress", "severity": "Migration"})
    new = manager.create_todo(
        task="u", repo="api", priority="CRITICAL", action={"type": "Agent", "prompt": "Go"}
    ).record

    text = path.read_text()
    assert "status: in_progress" in text
    assert "severity: Migration" in text
    assert "priority: High" in text
    assert "priority: critical" in text
    assert "type: agent" in text
    assert new.priority is Level.CRITICAL


@pytest.mark.parametrize("written", ["8e-05", "1E3", "+.5e1", "2.e2", "-0.0E+7", "5e0"])
def test_a_number_with_an_exponent_is_a_number(written: str):
    text = f"coordination: {{issues: [{{id: I, title: t, metadata: {{n: {written}}}}}]}}"

    assert read(text).ecosystem.coordination.issues[0].metadata["n"] == float(written)


def test_what_json_writes_of_small_hours_loads():
    todo = {"id": "T", "task": "t", "repo": "r", "estimated_hours": 8e-05, "actual_hours": 1e-07}

    (read_todo,) = read(json.dumps({"coordination": {"todos": [todo]}})).ecosystem.coordination.todos

    assert (read_todo.estimated_hours, read_todo.actual_hours) == (8e-05, 1e-07)
