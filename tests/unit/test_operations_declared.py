"""The text of an operation stands once: the library, commands and tools show the same one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from coordination.api.coord import Coord
from coordination.api.texts import PARTS, operation_text
from coordination.cli.app import coord
from coordination.cli.command import OperationCommand
from coordination.cli.command_table import COMMANDS
from coordination.cli.groups import entries
from coordination.events.kinds import COMMANDS as COMMAND_EVENTS
from coordination.operation_index import INDEX

if TYPE_CHECKING:  # FastMCP takes 3 s to import, so tests import it when they run
    from fastmcp.tools import Tool

OWN_COMMANDS = {
    # processes and the terminal: no other front end has them
    "acl", "completion", "dashboard", "demo", "down", "flower", "gateway", "help", "keeper",
    "mcp", "metrics", "open", "up", "worker", "validate", "open-pr", "token",
    "add", "list", "revoke", "grant", "ungrant", "delete", "export", "import", "stats",
    # they show several operations as one page
    "status",
}  # fmt: skip
"""Commands without an operation: their docstring is their text."""


def operation_of() -> dict[str, str]:
    """Return tool → its operation."""
    from coordination.mcp.declaration import OPERATION_OF

    return OPERATION_OF


def commands(group: click.Group = coord) -> Iterator[tuple[str, click.Command]]:
    for name in COMMANDS_BY_NAME if group is coord else group.commands:
        command = group.resolve_command(click.Context(group), [name])[1]
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from commands(command)


COMMANDS_BY_NAME = {name: entry.help for name, entry in entries(COMMANDS).items()}


@pytest.fixture(scope="module")
def tools() -> dict[str, Tool]:
    from coordination.mcp.server import build
    from coordination.mcp.session import Session

    found = asyncio.run(build(Session(Path("ecosystem.yaml"))).list_tools())
    return {tool.name: tool for tool in found}


def sentences(text: str) -> set[str]:
    return {one for one in re.split(r"(?<=\.)\s+", " ".join(text.split())) if one}


def test_a_command_shows_the_text_of_its_operation_or_is_listed_as_one_without():
    for name, command in commands():
        if not isinstance(command, OperationCommand) or not command.operation:
            assert name in OWN_COMMANDS, f"{name}: name its operation, or list it here"
            continue
        assert not sentences(command.own_help) & sentences(operation_text(command.operation)), name


def test_a_tool_shows_the_text_of_its_operation_or_is_listed_as_one_without(tools: dict[str, Tool]):
    assert {name for name in tools if not operation_of()[name]} == set()
    for name in tools:
        text = operation_text(operation_of()[name])
        description = tools[name].description or ""
        assert description.startswith(text), name
        assert not sentences(description.removeprefix(text)) & sentences(text), name


def test_the_line_of_a_command_in_the_table_begins_its_help():
    """So `coord --help` imports no operation, and still shows their texts."""
    for name, line in COMMANDS_BY_NAME.items():
        command = coord.resolve_command(click.Context(coord), [name])[1]
        assert command is not None
        help_ = " ".join((command.help or "").split())
        begun = line.removesuffix(".")
        assert help_.startswith(begun), name
        assert help_[len(begun)] in ".,:;", name


def test_the_text_of_an_operation_is_for_people_and_says_nothing_of_errors():
    named = {command.operation for _, command in commands() if isinstance(command, OperationCommand)}
    for operation in sorted(filter(None, named | set(operation_of().values()))):
        text = operation_text(operation)
        assert text, operation
        assert not re.search(r"\bRaises\b|`self`|\breturns? None\b", text), operation


def test_the_parts_of_operations_are_those_of_a_coord(tmp_path: Path):
    file = tmp_path / "ecosystem.yaml"
    file.write_text("repos: []\n")
    modules = {"", "context()", "inbox", "machine", "run"}
    reached = {"locks", "messages", "events"}  # they need a Redis
    with Coord(file) as opened:
        for part in PARTS.keys() - modules - reached:
            assert type(getattr(opened, part)).__name__ == PARTS[part].rpartition(":")[2], part


OF_A_TYPE = (
    "Any of these values",
    "A date or time",
    "Urgency or severity",
    "A repository's name",
    "Start only after coord_run_approve",
)
"""Beginnings of the texts that the fields of one type have in all tools; options have other forms there."""


def test_an_argument_of_a_tool_has_the_text_of_the_option(tools: dict[str, Tool]):
    options: dict[str, dict[str | None, str]] = {}
    for _, command in commands():
        if isinstance(command, OperationCommand) and command.operation:
            found = options.setdefault(command.operation, {})
            found |= {one.name: one.help or "" for one in command.params if isinstance(one, click.Option)}
    compared = 0
    for name in tools:
        for field, schema in tools[name].parameters.get("properties", {}).items():
            text, option = schema.get("description"), options.get(operation_of()[name], {}).get(field)
            if text and option and not text.startswith(OF_A_TYPE):
                compared += 1
                assert sentences(text) & sentences(option), f"{name} {field}: {text!r}, {option!r}"
    assert compared > 60


def test_the_text_of_an_event_is_that_of_the_operation_that_leaves_it():
    assert COMMAND_EVENTS["command.retry"].endswith(f": {INDEX['run.retry'].line}.")
