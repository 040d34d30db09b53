"""A file that is right: found, read, and told what is loose in it."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from coordination.ecosystem.document import Document, find, load, parse
from coordination.ecosystem.yaml_text.tree import gc_paused
from coordination.errors import CoordinationError, NotFound
from coordination.models import ResourceNeed, ShellAction, TodoStatus

WHOLE = """\
settings:
  namespace: shop
  lease_ttl: 20s
repos:
  - {name: api, path: ../api, url: "https://example.org/api.git", role: service, tags: [python], slots: 2}
  - {name: web, path: ~/src/web, branch: trunk, prepare: [npm, ci], qa: npm test}
resources:
  - {name: staging-db, type: database}
  - {name: gpu, capacity: 2}
coordination:
  issues:
    - id: ISSUE-1
      title: Slow
      repos: [api]
      created: 2026-01-31
      target: "2026-02-28"
      metadata: {anything: [1, {goes: true}], on: null}
  plans:
    - id: PLAN-1
      title: Faster
      repos: [api, web]
      strategy: dataflow
      milestones:
        - {id: M1, name: Measured, completion_criteria: [in words, {text: with a check, check: make bench}]}
        - {id: M2, name: Done, dependencies: [M1, TODO-1]}
  todos:
    - id: TODO-1
      task: Measure
      repo: api
      plan: PLAN-1
      action: make bench
      timeout: 1.5h
      updated: 2026-01-31 10:00:00+01:00
      env: {A: text, B: 1, C: 1.5}
      retry: {attempts: 2, delay: 500ms}
      resources: [staging-db, {name: gpu, amount: 2}]
    - id: TODO-2
      task: Wait for a person
      repo: web
      blocked_by: [TODO-1, ISSUE-1]
      action: {type: manual}
      workspace: in-place
      labels:
      status:
  dependencies:
    - {id: DEP-1, consumer: web, provider: api, version_constraint: ">=1.4"}
"""


def read(text: str) -> Document:
    return parse(text.encode(), Path("ecosystem.yaml")).document


def test_the_whole_format_is_read_without_a_warning():
    document = read(WHOLE)

    coordination = document.ecosystem.coordination
    first, second = coordination.todos
    assert document.warnings == ()
    assert first.action == ShellAction(type="shell", run="make bench")
    assert first.timeout == timedelta(minutes=90)
    assert first.updated == datetime(2026, 1, 31, 9, tzinfo=UTC)
    assert first.env == {"A": "text", "B": 1, "C": 1.5}
    assert (coordination.issues[0].created, coordination.issues[0].target) == (
        date(2026, 1, 31),
        date(2026, 2, 28),
    )
    assert [c.check for c in coordination.plans[0].milestones[0].completion_criteria] == [None, "make bench"]
    assert first.resources == (ResourceNeed(name="staging-db"), ResourceNeed(name="gpu", amount=2))
    assert document.ecosystem.capacities() == {"staging-db": 1, "gpu": 2}
    assert (second.labels, second.status) == ((), TodoStatus.PENDING)
    assert coordination.issues[0].metadata == {"anything": [1, {"goes": True}], "on": None}


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "repos: []",
        "repos:\ncoordination:\n",
        "---\nrepos: []\n...\n",
        "\ufeffrepos: []",
        "repos: []\r\nsettings:\r\n",
    ],
)
def test_little_is_enough(text: str):
    assert read(text).ecosystem.repos == ()


def test_anchors_and_merges_are_written_out():
    text = """
coordination:
  todos:
    - &base {id: A, task: t, repo: r, labels: &l [x], priority: high}
    - {<<: *base, id: B, task: u}
    - {id: C, task: v, repo: r, labels: *l}
"""

    todos = read(text).ecosystem.coordination.todos

    assert [(t.id, t.task, t.labels, t.priority) for t in todos] == [
        ("A", "t", ("x",), "high"),
        ("B", "u", ("x",), "high"),
        ("C", "v", ("x",), "medium"),
    ]


def test_a_file_without_repos_loads_and_says_each_undeclared_name_once_with_its_first_line():
    text = """
coordination:
  todos:
    - {id: A, task: t, repo: api, plan: PLAN-2}
    - {id: B, task: t, repo: api, blocked_by: [C, A]}
  plans:
    - {id: PLAN-1, title: p, milestones: [{id: M-1, name: n, dependencies: [M-2]}]}
"""

    warnings = read(text).warnings

    assert [(w.line, w.where, w.value, w.suggestion) for w in warnings] == [
        (4, "coordination.todos[0].repo (A)", "api", ""),
        (4, "coordination.todos[0].plan (A)", "PLAN-2", ""),
        (5, "coordination.todos[1].blocked_by[0] (B)", "C", ""),
        (7, "coordination.plans[0].milestones[0].dependencies[0] (M-1)", "M-2", ""),
    ]
    assert "names a repo that the file does not declare (and in 1 more place)" in warnings[0].message


def test_a_resource_that_nobody_declares_or_that_is_too_small_is_loose():
    text = """
repos: [{name: r}]
resources: [{name: gpu, capacity: 2}]
coordination:
  todos:
    - {id: A, task: t, repo: r, resources: [gpuu, {name: db, amount: 2}]}
    - id: B
      task: t
      repo: r
      resources:
        - db
        - name: gpu
          amount: 3
"""

    warnings = read(text).warnings

    assert [(w.line, w.where, w.value, w.suggestion) for w in warnings] == [
        (6, "coordination.todos[0].resources[0] (A)", "gpuu", "gpu"),
        (6, "coordination.todos[0].resources[1].name (db)", "db", ""),
        (13, "coordination.todos[1].resources[1].amount (gpu)", "3", ""),
    ]
    assert "names a resource that the file does not declare (and in 1 more place)" in warnings[1].message
    assert warnings[2].message == "must be at most 2, the capacity of gpu"


def test_work_may_wait_for_a_milestone():
    text = (
        "coordination:\n  plans: [{id: P, title: t, milestones: [{id: M, name: n}]}]\n"
        "  issues: [{id: I, title: t, dependencies: [M]}]\n"
    )

    assert read(text).warnings == ()


def test_many_unknown_names_in_a_large_file_do_not_take_minutes():
    todos = "".join(f"    - {{id: T-{i}, task: t, repo: r, blocked_by: [U-{i}]}}\n" for i in range(3000))

    warnings = read(f"repos: [{{name: r}}]\ncoordination:\n  todos:\n{todos}").warnings

    assert len(warnings) == 3000


def test_repository_paths_are_relative_to_the_file():
    document = parse(WHOLE.encode(), Path("/srv/shop/ecosystem.yaml")).document
    api, web = document.ecosystem.repos

    assert document.repo_path(api) == Path("/srv/shop/../api")
    assert document.repo_path(web) == Path.home() / "src/web"
    assert document.repo_path(api.model_copy(update={"path": None})) is None


def test_the_file_is_found_upward_from_here(tmp_path: Path):
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "ecosystem.yaml").write_text("{}")

    assert find(below) == tmp_path / "ecosystem.yaml"


def test_an_explicit_file_or_its_folder_is_taken_as_it_is(tmp_path: Path):
    (tmp_path / "ecosystem.yaml").write_text("{}")
    (tmp_path / "other.yaml").write_text("{}")

    assert find(Path("/"), tmp_path) == tmp_path / "ecosystem.yaml"
    assert find(Path("/"), tmp_path / "other.yaml") == tmp_path / "other.yaml"


@pytest.mark.parametrize("explicit", [None, Path("nowhere.yaml")])
def test_without_a_file_the_way_to_one_is_said(tmp_path: Path, explicit: Path | None):
    with pytest.raises(NotFound) as caught:
        find(tmp_path, explicit)

    assert "coord init" in caught.value.hint


def test_a_file_that_cannot_be_read_is_no_traceback(tmp_path: Path):
    with pytest.raises(NotFound):
        load(tmp_path / "gone.yaml")
    with pytest.raises(CoordinationError, match="is a folder"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (Path.mkdir, "a folder"),
        (os.mkfifo, "a named pipe"),
        (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "a socket"),
        (lambda path: path.symlink_to("gone"), "a link to nothing"),
    ],
)
def test_what_is_no_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("ecosystem.yaml"))

    for asked in (
        lambda: find(tmp_path),
        lambda: find(tmp_path, tmp_path / "ecosystem.yaml"),
        lambda: load(tmp_path / "ecosystem.yaml"),
    ):
        with pytest.raises(NotFound, match=f"is {kind}, not a file"):
            asked()


def test_reading_leaves_garbage_collection_as_it_was():
    with gc_paused():
        with gc_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()

    assert gc.isenabled()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("{name: a, repo: api}", "exactly one of command, unit"),
        ("{name: a, repo: api, command: serve, unit: web}", "exactly one of command, unit"),
        ("{name: a, repo: api, unit: web, restart: always}", "are in its unit file"),
        ("{name: a, repo: api, unit: web, env: {A: b}}", "are in its unit file"),
        ("{name: a, repo: api, unit: --force}", "unit"),
        ("{name: a, repo: api, unit: 'w*'}", "unit"),
    ],
)
def test_a_service_is_one_command_or_one_unit(fields: str, words: str):
    with pytest.raises(CoordinationError, match=words):
        read(f"repos: [{{name: api}}]\ncoordination: {{services: [{fields}]}}")


def test_services_on_one_port_and_undeclared_names_of_services_are_warnings():
    text = """
repos: [{name: api}]
coordination:
  services:
    - {name: a, repo: api, command: serve, probe: {tcp: 8080}}
    - {name: b, repo: web, command: serve, depends_on: [c], probe: {http: {url: "http://localhost:8080/"}}}
    - {name: d, repo: api, unit: web.service, probe: {http: {url: "http://example.org:8080/"}}}
    - {name: e, repo: api, unit: web}
  checks: [{name: smoke, repo: other, command: "true"}]
"""
    warnings = read(text).warnings
    (shared,) = [w for w in warnings if "port 8080, as the probe of a does" in w.message]
    assert shared.line == 6
    assert sorted((w.line, w.value) for w in warnings if w is not shared) == [
        (6, "c"), (6, "web"), (8, "web"), (9, "other"),
    ]  # fmt: skip


def test_a_file_at_which_the_system_does_not_look_is_not_called_missing(tmp_path: Path):
    with pytest.raises(CoordinationError, match="cannot be opened: File name too long"):
        find(tmp_path, tmp_path / ("x" * 300))
