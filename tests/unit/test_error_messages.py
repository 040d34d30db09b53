"""Errors say what happened also where they are raised without a text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import coordination
import workers
from coordination.errors import CoordinationError

SOURCES = [
    path for package in (coordination, workers) for path in Path(package.__file__).parent.rglob("*.py")
]


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text()) for path in SOURCES}


@pytest.fixture(scope="module")
def errors(trees: dict[Path, ast.Module]) -> dict[str, str]:
    """Class → docstring, of every error of the tree."""
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
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


def raised_without_text(tree: ast.AST, errors: dict[str, str]) -> Iterator[str]:
    for node in ast.walk(tree):
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


def test_no_error_is_raised_without_a_text_of_its_own(
    trees: dict[Path, ast.Module], errors: dict[str, str]
) -> None:
    found = {str(path): list(raised_without_text(tree, errors)) for path, tree in trees.items()}

    assert {path: lines for path, lines in found.items() if lines} == {}
    assert str(CoordinationError()) == "The operation failed."
