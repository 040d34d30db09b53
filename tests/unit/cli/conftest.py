"""`coord` as somebody types it, in this process: no start-up to wait for."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coordination.cli import app
from tests.testbed import Done

Typed = Callable[..., Done]
Offered = Callable[..., list[str]]

FILE = """\
# The repositories of our product.
repos:
  - {name: api, path: api, tags: [core]}
  - {name: web, path: web}

coordination:
  plans:
    - id: PLAN-001
      title: Raise the floor   # said in spring
      status: active
      repos: [api, web]
      milestones:
        - {id: M1, name: Half of it}
  issues:
    - id: ISSUE-001
      title: It breaks
      status: pending
      priority: high
      labels: [old, "bad luck"]
      blocking: [TODO-002]
    - {id: ISSUE-002, title: It is slow, priority: low, assignee: ann, repos: [web]}
  todos:
    - id: TODO-001
      task: Lift it
      repo: api
      plan: PLAN-001
      estimated_hours: 2
      action: "true"
    - id: TODO-002
      task: Use it
      repo: web
      plan: PLAN-001
      status: blocked
      blocked_by: [TODO-001]
  dependencies:
    - id: DEP-001
      consumer: web
      provider: api
      version_constraint: ">=2"
      validation: {command: ./check, timeout: 30s}
"""


@pytest.fixture
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the FILE of the test's module, else the one above."""
    path = tmp_path / "ecosystem.yaml"
    path.write_text(getattr(request.module, "FILE", FILE))
    return path


@pytest.fixture
def typed(file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Typed:
    """Return a function that executes a command and returns its result; `stdin` is its input."""
    for name in ("COORD_ECOSYSTEM", "COORD_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(file.parent)

    def call(*words: str, stdin: str = "") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as ended:
            app.run(list(words))
        said = capfd.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return call


@pytest.fixture
def offered(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> Offered:
    """Return the completions of `coord WORDS…`, whose last word is being typed."""

    def ask(*words: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", "\n".join(["coord", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        monkeypatch.setenv("_COORD_COMPLETE", "bash_complete")
        done = typed()
        assert done.err == ""
        return [row.partition(",")[2] for row in done.out.splitlines() if row]

    return ask
