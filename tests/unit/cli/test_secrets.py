"""Values of a todo's `env` whose names say that they are secret are shown nowhere; the file, and who executes
it, have them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from coordination.errors import InvalidFile, UsageError
from coordination.models import Todo, presentable, secrets_of
from tests.agent import agent_of
from tests.unit.cli.conftest import Typed

SECRETS = ("s3cret-é", "hunter2", "k-42-x", "redis-pw")
FILE = """\
settings: {redis_url: 'redis://lena:redis-pw@127.0.0.1:1/0', mcp_token: "hunter2hunter2hunter2"}
repos:
  - {name: api, path: api}
x-common: &common {DEPLOY_TOKEN: "s3cret-é", REGION: eu}
coordination:
  plans:
    - {id: PLAN-001, title: Ship it, status: active, repos: [api]}
  todos:
    - id: TODO-001
      task: Ship ü
      repo: api
      plan: PLAN-001
      action: ./ship
      env:
        <<: *common
        db_password: hunter2   # of staging
        ApiKey: |
          k-42-x
    - {id: TODO-002, task: Look, repo: api, env: *common}
"""


@pytest.mark.parametrize(
    "words",
    [
        ("show-todo", "TODO-001"),
        ("show-todo", "TODO-001", "--json"),
        ("show-todo", "TODO-001", "--format", "{env}"),
        ("list-todos", "--json"),
        ("status", "--json"),
        ("status", "api", "--json"),
        ("plan", "show", "PLAN-001", "--json"),
        ("list-todos", "--format", "{id} {env}"),
        ("export", "--format", "json"),
        ("export", "--format", "csv", "--kind", "todos"),
        ("export", "--format", "md"),
        ("plan", "graph", "PLAN-001", "--format", "json"),
        ("todo", "update", "TODO-001", "--priority", "high", "--json"),
        ("todo", "delete", "TODO-001", "--yes", "--json"),
        ("doctor", "--json"),
        ("show-run", "last"),
    ],
)
def test_no_command_shows_a_secret(typed: Typed, words: tuple[str, ...]):
    done = typed(*words)

    assert [secret for secret in SECRETS if secret in done.out + done.err] == []
    if "{env}" in str(words) or words[0] == "show-todo":
        assert "***" in done.out
        assert "eu" in done.out


def test_an_edit_leaves_the_secrets_in_the_file(typed: Typed, file: Path):
    typed("todo", "update", "TODO-001", "--priority", "high")

    assert "db_password: hunter2   # of staging" in file.read_text()


def test_a_todo_that_was_printed_is_not_taken_back_without_its_secrets(typed: Typed, file: Path):
    printed = json.loads(typed("show-todo", "TODO-001", "--json").out)
    fields = {name: printed[name] for name in ("task", "repo", "env")}

    assert typed("create-todo", "--from-file", "-", stdin=json.dumps(fields)).code == UsageError.exit_code
    assert file.read_text() == FILE


def test_a_value_that_the_file_cannot_have_is_not_shown_where_it_may_be_secret(typed: Typed, file: Path):
    file.write_text(FILE.replace("hunter2   #", "[hunter2]  #"))

    refused = typed("validate")
    assert refused.code == InvalidFile.exit_code
    assert "hunter2" not in refused.out + refused.err


def test_agents_are_shown_the_file_and_its_todos_without_secrets(file: Path):

    with agent_of(file) as ai:
        said = str(ai.call("coord_list_todos")) + str(ai.call("coord_get_todo", todo="TODO-001"))
        said += str(ai.call("coord_create_todo", task="x", repo="api"))
    assert "***" in said
    assert [secret for secret in SECRETS if secret in said] == []


def test_the_text_of_the_file_is_whole_but_for_its_secrets():
    from coordination.api import presentable_text

    shown = presentable_text(FILE)

    assert [secret for secret in SECRETS if secret in shown] == []
    kept = yaml.safe_load(shown)
    assert kept["settings"]["redis_url"] == "redis://lena:***@127.0.0.1:1/0"
    assert kept["coordination"]["todos"][0]["env"] == {
        "DEPLOY_TOKEN": "***", "REGION": "eu", "db_password": "***", "ApiKey": "***",
    }  # fmt: skip
    assert kept["coordination"]["todos"][1]["task"] == "Look"
    assert "# of staging" in shown


def test_what_executes_a_todo_has_its_secrets():
    todo = Todo.model_validate({"id": "T", "task": "t", "repo": "r", "env": {"A_KEY": 7, "B": 1}})

    assert secrets_of(todo) == ("7",)
    assert presentable(todo).env == {"A_KEY": "***", "B": 1}
    assert Todo.model_validate_json(todo.model_dump_json()) == todo
