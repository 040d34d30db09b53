"""Texts of the program that name a command name one that exists, with options that it has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click

import coordination
import workers
from coordination.cli.app import coord

SOURCES = [path for part in (coordination, workers) for path in Path(part.__file__).parent.rglob("*.py")]
VALUE = "VALUE"
"""Stands for what an f-string fills in."""
COMMAND = re.compile(r"(?:^|[`:;,(] ?|or |then |say )coord ([a-z][a-z-]*[a-z](?: [^\s`;,()]+)*)(?![a-z-])")
PROSE = {"has", "namespaces", "needs", "puts", "stores", "subscribers", "uses", "writes"}
"""Words that follow `coord` in a sentence."""


def texts(tree: ast.Module) -> Iterator[str]:
    """Yield the strings of a module, without docstrings and other strings that stand alone."""
    parts = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            parts.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            known = [part for part in node.values if isinstance(part, ast.Constant)]
            parts.update(map(id, known))
            yield "".join(str(part.value) if part in known else VALUE for part in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value


def wrong(words: list[str]) -> str | None:
    """Return the word that is no command, or no option of its command."""
    command: click.Command = coord
    context = click.Context(coord)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        try:
            name, found, rest = command.resolve_command(context, words)
        except click.UsageError:
            prose = PROSE if command is coord else {VALUE, "needs", "get|set|list|delete"}
            return None if words[0] in prose else words[0]
        assert found is not None
        command, words = found, rest
        context = click.Context(command, parent=context, info_name=name)
    known = {option for one in (command, coord) for given in one.params for option in given.opts}
    known |= {option for given in command.params for option in given.secondary_opts} | {"--", "--help"}
    used = [word.partition("=")[0].rstrip(".:'\"") for word in words if word.startswith("--")]
    return next((word for word in used if word.removesuffix(VALUE) not in known), None)


def test_each_command_and_option_that_a_text_names_exists() -> None:
    found = {
        f"{path.name}: {match[0]}": wrong(match[1].split())
        for path in SOURCES
        for text in texts(ast.parse(path.read_text()))
        for match in COMMAND.finditer(text)
    }

    assert len(found) > 300
    assert {text: word for text, word in found.items() if word} == {}


def test_wrong_ones_are_found() -> None:
    assert wrong(["changes", VALUE, "--discard", VALUE]) == "--discard"
    assert wrong(["sweeep", VALUE]) == "sweeep"
    assert wrong(["service", "log", VALUE]) == "log"
    assert wrong(["service", "logs", VALUE]) is None
