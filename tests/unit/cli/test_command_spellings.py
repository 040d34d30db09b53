"""`coord list-issues` beside `coord issue list`: one table, both spellings."""

from __future__ import annotations

import re

import click
import pytest
from click.testing import CliRunner

from coordination.cli.app import coord
from coordination.cli.command_table import ADVANCED, COMMANDS, EVERYDAY, NOUNS
from coordination.cli.groups import entries
from tests.unit.cli.conftest import Offered, Typed

ROOT = click.Context(coord, info_name="coord")
SPELLED = [entry for entry in entries(COMMANDS).values() if entry.noun]
WITHOUT_NOUN = {
    "demo", "doctor", "completion", "help", "up", "down", "worker", "keeper", "acl",
    "mcp",
    "gateway", "flower", "metrics", "dashboard", "open",
}  # fmt: skip


@pytest.mark.parametrize("entry", SPELLED, ids=lambda entry: entry.noun_verb)
def test_both_spellings_are_the_same_command(entry) -> None:
    old = coord.resolve_command(ROOT, [entry.name])[1]
    _, noun, rest = coord.resolve_command(ROOT, [entry.noun, entry.verb])

    assert isinstance(noun, click.Group)
    new = noun.resolve_command(click.Context(noun, parent=ROOT), rest)[1]
    assert new is not None
    assert old is not None
    assert (new.help, [one.name for one in new.params]) == (old.help, [one.name for one in old.params])


def test_commands_without_a_noun_are_few() -> None:
    assert {name for name, entry in entries(COMMANDS).items() if not entry.noun} == WITHOUT_NOUN


def test_no_two_commands_have_the_same_spelling() -> None:
    assert len({entry.noun_verb for entry in SPELLED}) == len(SPELLED)


def test_everyday_commands_are_commands_of_the_table() -> None:
    assert set(EVERYDAY) <= set(coord.entries)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("list-issues --json", "issue list --json"),
        ("show-issue ISSUE-001", "issue show ISSUE-001"),
        ("list-todos --status pending", "todo list --status pending"),
        ("list-deps", "dep list"),
        ("show-issue NONE", "issue show NONE"),
    ],
)
def test_both_spellings_print_the_same(typed: Typed, old: str, new: str) -> None:
    assert typed(*new.split()) == typed(*old.split())


def test_options_of_coord_are_accepted_at_the_noun(typed: Typed) -> None:
    told = [
        typed("issue", "--ecosystem", "none.yaml", "list"),
        typed("issue", "list", "--ecosystem", "none.yaml"),
    ]

    assert told[0] == told[1]
    assert (told[0].code, "none.yaml" in told[0].err) == (2, True)


def test_an_error_names_the_spelling_that_was_used(typed: Typed) -> None:
    assert "see: coord issue show --help" in typed("issue", "show").err


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["isue", "list"], "coord issue"),
        (["issue", "lst"], "coord issue list"),
        (["list", "issues"], "coord issue list"),
        (["publish-topic"], "coord topic publish"),
        (["list-services"], "coord service list"),
        (["list-repos"], "coord repo list"),
        (["update-todo"], "coord todo update"),
        (["validate-plan"], "coord plan validate"),
        (["ecosystem-status"], "coord ecosystem status"),
        (["health"], "coord repo health"),
        (["events", "-f"], "coord event"),
        (["trends"], "coord history trends"),
        (["rebuild-history"], "coord history rebuild"),
        (["history", "TODO-001"], "coord history search"),
        (["service-logs"], "coord service logs"),
        (["discard", "PLAN-001"], "coord plan discard"),
        (["show-qa"], "coord qa show"),
        (["ci"], "coord qa ci"),
        (["qa", "api"], "coord qa run"),
        (["version"], "coord --version"),
        (["issue", "zzz"], "coord issue list, coord issue show"),
    ],
)
def test_an_unknown_word_gets_the_nearest_commands_and_the_help_to_look_at(
    typed: Typed, words: list[str], near: str
) -> None:
    done = typed(*words)

    assert done.code == 2
    assert near in done.err
    assert "see: coord" in done.err


def test_no_noun_is_a_command_too() -> None:
    assert not coord.nouns.keys() & coord.entries.keys()


def test_both_spellings_are_completed(offered: Offered) -> None:
    assert "issue" in offered("iss")
    assert offered("issue", "") == ["list", "show", "create", "update", "close", "delete", "sync"]
    assert offered("issue", "show", "") == ["ISSUE-001", "ISSUE-002"]
    assert "--status" in offered("issue", "list", "--st")
    assert offered("checkpoint", "") == ["list", "create", "restore"]
    assert offered("help", "issue", "sh") == ["show"]
    assert "running" in offered("help", "run")


def test_the_help_is_one_screen_and_names_every_command_once() -> None:
    said = CliRunner().invoke(coord, ["--help"], env={"COLUMNS": "100"}).output

    lines = [line.split(maxsplit=1) for line in said.splitlines() if line.startswith("  ")]
    shown = {name for name, _ in lines}
    assert {"issue", "todo", "run", "sweep", "status"} <= shown
    assert len(said.splitlines()) <= 55
    named = {*shown, *re.findall(r"[a-z]+", " ".join(dict(lines)[one] for one in ("commands", "advanced")))}
    assert {*NOUNS, *(one.name for one in entries(COMMANDS).values() if not one.noun)} <= named


def test_the_advanced_commands_and_nouns_are_explained_by_help(typed: Typed) -> None:
    said = typed("help", "advanced").out
    assert [line.split()[0] for line in said.splitlines()[1:]] == list(ADVANCED)
