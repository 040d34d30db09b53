"""Resource needs of a todo, as people type and read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Typed

RESOURCES = """\
resources:
  - name: staging-db   # the old one
    type: database
  - {name: gpu, capacity: 2}
"""
FILE = f"""\
repos: [{{name: api, path: api}}]
{RESOURCES}coordination:
  plans: [{{id: PLAN-001, title: p}}]
  todos:
    - id: TODO-001
      task: Train it
      repo: api
      plan: PLAN-001
      resources:
        - name: gpu
          # both of them
          amount: 2
        - staging-db   # reads only
      action: "true"
    - {{id: TODO-002, task: Try it, repo: api, plan: PLAN-001, action: "true"}}
"""


def needs(typed: Typed, todo: str) -> dict[str, int]:
    return {need["name"]: need["amount"] for need in typed("show-todo", todo, "--json").json["resources"]}


@pytest.mark.parametrize(
    "words", [["--resource", "gpu:2,staging-db"], ["--resource", "gpu:2", "--resource", "staging-db"]]
)
def test_a_todo_is_created_with_what_it_needs(typed: Typed, file: Path, words: list[str]) -> None:
    assert typed("create-todo", "--task", "t", "--repo", "api", *words).code == 0

    assert needs(typed, "TODO-003") == {"gpu": 2, "staging-db": 1}
    assert "resources: [{name: gpu, amount: 2}, staging-db]" in file.read_text()
    assert "resources  gpu:2, staging-db\n" in typed("show-todo", "TODO-003").out


def test_a_record_in_a_file_may_say_it_either_way(typed: Typed) -> None:
    record = "{task: t, repo: api, resources: [staging-db, {name: gpu, amount: 2}]}"

    assert typed("create-todo", "--from-file", "-", stdin=record).code == 0

    assert needs(typed, "TODO-003") == {"staging-db": 1, "gpu": 2}


def test_one_is_put_in_or_taken_out_and_the_others_keep_every_byte(typed: Typed, file: Path) -> None:
    rest = FILE[FILE.index("        - staging-db") :]

    typed("todo", "update", "TODO-001", "--remove-resource", "gpu")
    assert needs(typed, "TODO-001") == {"staging-db": 1}
    assert file.read_text().endswith(f"      resources:\n{rest}")

    typed("todo", "update", "TODO-001", "--add-resource", "gpu:2")
    typed("todo", "update", "TODO-001", "--add-resource", "gpu")
    assert needs(typed, "TODO-001") == {"staging-db": 1, "gpu": 1}
    assert "        - staging-db   # reads only\n        - gpu\n" in file.read_text()
    assert RESOURCES in file.read_text()


def test_all_are_replaced_or_taken_out(typed: Typed, file: Path) -> None:
    typed("todo", "update", "TODO-001", "--resource", "gpu")
    assert needs(typed, "TODO-001") == {"gpu": 1}

    typed("todo", "update", "TODO-001", "--resource", "")
    assert needs(typed, "TODO-001") == {}
    assert "gpu" not in file.read_text().partition("coordination:")[2]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--resource", "gpuu"], "there is no resource 'gpuu' (did you mean 'gpu'?)"),
        (["--resource", "gpu:3"], "TODO-002 needs 3 of gpu, which has a capacity of 2"),
        (["--resource", "gpu:0"], "resources[0].amount must be at least 1, got 0"),
        (["--resource", "gpu:two"], "Invalid value for --resource: needs a whole number, got 'two'"),
        (["--resource", "gpu:"], "Invalid value for --resource: needs a whole number, got ''"),
        (["--add-resource", "gpu:two"], "Invalid value for --add-resource: needs a whole number, got 'two'"),
        (["--resource", "gpu,gpu:2"], "names gpu twice; name it once with the whole amount"),
        (["--resource", "a b"], "may hold letters, digits, '.', '_' and '-' only"),
        (["--remove-resource", "gpu"], "there is no 'gpu' to remove\n  it has none"),
        (["--resource", "gpu", "--add-resource", "gpu"], "--resource and --add-resource exclude each other"),
    ],
)
def test_what_is_not_there_or_too_much_is_refused(
    typed: Typed, file: Path, words: list[str], told: str
) -> None:
    answer = typed("todo", "update", "TODO-002", *words)

    assert answer.code == 2
    assert told in answer.err
    assert file.read_text() == FILE


def test_what_was_loose_may_stay_so(typed: Typed, file: Path) -> None:
    file.write_text(FILE.replace("- staging-db   # reads only", "- {name: tpu, amount: 9}"))

    assert typed("todo", "update", "TODO-001", "--add-resource", "staging-db").code == 0

    assert needs(typed, "TODO-001") == {"gpu": 2, "tpu": 9, "staging-db": 1}


def test_where_no_resource_is_declared_any_may_be_named(typed: Typed, file: Path) -> None:
    file.write_text(FILE.replace(RESOURCES, ""))

    assert typed("todo", "update", "TODO-002", "--add-resource", "tpu:3").code == 0

    assert needs(typed, "TODO-002") == {"tpu": 3}


@pytest.mark.parametrize(
    "words", [["sweep", "PLAN-001"], ["sweep", "PLAN-001", "--dry-run"], ["todo", "execute", "TODO-001"]]
)
@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("capacity: 2", "capacity: 1", "TODO-001 needs 2 of gpu, which has a capacity of 1"),
        ("{name: gpu", "{name: gpus", "resource 'gpu' of TODO-001 is not declared (did you mean 'gpus'?)"),
    ],
)
def test_nothing_starts_that_could_never_have_what_it_needs(
    typed: Typed, file: Path, words: list[str], old: str, new: str, told: str
) -> None:
    file.write_text(FILE.replace(old, new))

    answer = typed(*words)

    assert (answer.code, told in answer.err) == (2, True)


def test_the_order_of_work_says_who_needs_what(typed: Typed) -> None:
    assert "Train it  (needs gpu:2, staging-db)\n" in typed("plan", "graph", "PLAN-001").out
    todos = typed("plan", "graph", "PLAN-001", "--format", "json").json["todos"]
    assert [todo["resources"] for todo in todos] == [
        [{"name": "gpu", "amount": 2}, {"name": "staging-db", "amount": 1}],
        [],
    ]


def test_lists_and_tables_have_them_in_words(typed: Typed) -> None:
    assert typed("list-todos", "--format", "{id} {resources}").out == "TODO-001 gpu:2,staging-db\nTODO-002 \n"
    assert ",gpu:2;staging-db," in typed("export", "--format", "csv", "--kind", "todos").out
