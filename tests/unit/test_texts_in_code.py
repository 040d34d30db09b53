"""Texts in the code: an error says what happened also where it is raised without a text; a text that names a
command names one that exists, with options that it has.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import click
import pytest

import coordination
import workers
from coordination.cli.app import coord
from coordination.errors import CoordinationError

SOURCES = [
    path for package in (coordination, workers) for path in Path(package.__file__).parent.rglob("*.py")
]
VALUE = "VALUE"
"""Stands for what an f-string fills in."""
COMMAND = re.compile(r"(?:^|[`:;,(] ?|or |then |say )coord ([a-z][a-z-]*[a-z](?: [^\s`;,()]+)*)(?![a-z-])")
PROSE = {"has", "namespaces", "needs", "puts", "stores", "subscribers", "uses", "writes"}
"""Words that follow `coord` in a sentence."""


Nodes = Mapping[Path, Sequence[ast.AST]]
"""File → the nodes of its syntax tree."""


@pytest.fixture(scope="module")
def sources() -> Nodes:
    return {path: list(ast.walk(ast.parse(path.read_text()))) for path in SOURCES}


@pytest.fixture(scope="module")
def templates(sources: Nodes) -> Sequence[tuple[Path, ast.JoinedStr]]:
    """Return the f-strings of the code."""
    return [
        (path, node) for path, nodes in sources.items() for node in nodes if isinstance(node, ast.JoinedStr)
    ]


@pytest.fixture(scope="module")
def errors(sources: Nodes) -> dict[str, str]:
    """Class → docstring, of every error of the tree."""
    classes = [node for nodes in sources.values() for node in nodes if isinstance(node, ast.ClassDef)]
    found = {CoordinationError.__name__: CoordinationError.__doc__ or ""}
    while True:
        more = {
            one.name: ast.get_docstring(one) or ""
            for one in classes
            if one.name not in found
            and any(isinstance(base, ast.Name) and base.id in found for base in one.bases)
        }
        if not more:
            return found
        found |= more


def raised_without_text(nodes: Sequence[ast.AST], errors: dict[str, str]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Raise):
            raised = node.exc
            bare = (
                raised.func
                if isinstance(raised, ast.Call) and not raised.args and not raised.keywords
                else raised
            )
            if isinstance(bare, ast.Name) and bare.id in errors:
                yield f"line {node.lineno}: {bare.id}"


def test_the_docstring_of_an_error_is_a_message_of_one_sentence(errors: dict[str, str]) -> None:
    for name, words in errors.items():
        assert words, name
        assert "\n\n" not in words, name
        assert words[0].isupper(), name
        assert words.endswith("."), name
        assert not words.startswith(("Raised", "Return", "Error", "Exception", "What", "Who")), name


def test_no_error_is_raised_without_a_text_of_its_own(sources: Nodes, errors: dict[str, str]) -> None:
    found = {str(path): list(raised_without_text(nodes, errors)) for path, nodes in sources.items()}

    assert {path: lines for path, lines in found.items() if lines} == {}
    assert str(CoordinationError()) == "The operation failed."


def texts(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Yield the strings of a module, without docstrings and other strings that stand alone."""
    parts = set()
    for node in nodes:
        if isinstance(node, ast.Expr):
            parts.add(id(node.value))
        if isinstance(node, ast.JoinedStr):
            known = [part for part in node.values if isinstance(part, ast.Constant)]
            parts.update(map(id, known))
            yield "".join(str(part.value) if part in known else VALUE for part in node.values)
    for node in nodes:
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


def test_each_command_and_option_that_a_text_names_exists(sources: Nodes) -> None:
    found = {
        f"{path.name}: {match[0]}": wrong(match[1].split())
        for path, nodes in sources.items()
        for text in texts(nodes)
        for match in COMMAND.finditer(text)
    }

    assert len(found) > 300
    assert {text: word for text, word in found.items() if word} == {}


@pytest.mark.parametrize("command", ["git -C ", "cd ", "chmod 600 ", "coord init ", "update --init "])
def test_a_path_in_a_command_to_be_copied_is_quoted(
    templates: Sequence[tuple[Path, ast.JoinedStr]], command: str
) -> None:
    found = [
        f"{path.name}:{before.lineno}: {ast.unparse(value)}"
        for path, node in templates
        for before, value in pairwise(node.values)
        if isinstance(before, ast.Constant) and re.search(rf"(?<!\w){command}$", before.value)
    ]

    assert found
    assert [one for one in found if ": {quoted(" not in one] == []


def test_wrong_ones_are_found() -> None:
    assert wrong(["changes", VALUE, "--discard", VALUE]) == "--discard"
    assert wrong(["sweeep", VALUE]) == "sweeep"
    assert wrong(["service", "log", VALUE]) == "log"
    assert wrong(["service", "logs", VALUE]) is None
