"""`coord help`: commands in both spellings, nouns, and chapters of the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Typed

DOCS = Path(__file__).parents[3] / "docs"


def test_help_alone_lists_nouns_commands_and_chapters(typed: Typed) -> None:
    said = typed("help").out

    assert {"issue", "run", "doctor", "running", "exit-codes"} <= {
        line.split()[0] for line in said.splitlines() if line.strip()
    }
    assert "coord help --all" in said


@pytest.mark.parametrize(
    "words", ["list-issues", "issue list", "issue", "checkpoint create", "run checkpoint create"]
)
def test_help_on_a_command_is_that_of_the_option(typed: Typed, words: str) -> None:
    assert typed("help", *words.split()).out.split() == typed(*words.split(), "--help").out.split()


@pytest.mark.parametrize("chapter", [path.stem for path in DOCS.glob("*.md")])
def test_help_on_a_chapter_prints_it_as_it_is_written(typed: Typed, chapter: str) -> None:
    done = typed("help", f"{chapter}.md")

    lines = (DOCS / f"{chapter}.md").read_text().splitlines()
    written = [line for line in lines if line and not line.startswith("<!--")]
    assert [line for line in done.out.splitlines() if line] == written


@pytest.mark.parametrize(
    ("topic", "near"),
    [("runing", "coord help running"), ("isue", "coord help issue"), ("zzzzz", "coord help")],
)
def test_an_unknown_topic_gets_the_nearest_one(typed: Typed, topic: str, near: str) -> None:
    done = typed("help", topic)

    assert (done.code, done.out) == (2, "")
    assert f"there is no help on {topic!r}" in done.err
    assert near in done.err
