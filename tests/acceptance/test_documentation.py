"""The documentation is true: its blocks run, its links lead somewhere, and its references are the
program's.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from coordination import models
from coordination.cli.command_table import COMMANDS
from coordination.cli.groups import Entry, entries
from coordination.settings import Settings
from docs.generate import PAGES
from tests.documents import (
    CHAPTERS,
    DOCUMENTS,
    EMPTY,
    README,
    ROOT,
    Reader,
    anchors,
    blocks,
    links,
    prose,
    search_path,
)
from tests.testbed import Testbed

WRITTEN = [document for document in DOCUMENTS if document.name not in PAGES]
EXECUTED = [
    document
    for document in WRITTEN
    if any(block.language in ("console", "python") and not block.not_run for block in blocks(document))
]
MOST_NOT_RUN = 25
LANGUAGES = {"console", "python", "yaml", "json", "text"}
OPENINGS = re.compile(r"(?:^|\n\n|[.!?:;]\s+|\* |\| |# )(What|Who|Whoever|Of|Whether)\b")
SECTIONS = (
    models.Repo, models.Resource, models.ResourceNeed, models.Issue, models.Plan, models.Milestone,
    models.Todo,
    models.Dependency,
)  # fmt: skip


@pytest.mark.parametrize("document", EXECUTED, ids=lambda path: path.name)
def test_every_block_runs_and_prints_what_the_document_shows(
    testbed: Testbed, document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", search_path())
    reader = Reader(testbed, document)
    try:
        for block in blocks(document):
            reader.follow(block)
    finally:
        reader.close()


@pytest.mark.parametrize("document", EXECUTED, ids=lambda path: path.name)
def test_a_chapter_says_in_which_folder_its_examples_run(document: Path) -> None:
    before, _, _ = document.read_text().partition("```")

    assert EMPTY in before or "`coord demo DIR`" in before


def test_few_blocks_are_not_run_and_each_says_why() -> None:
    left_out = [block for document in DOCUMENTS for block in blocks(document) if block.not_run]

    assert len(left_out) <= MOST_NOT_RUN, [str(block) for block in left_out]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_names_a_language_that_is_checked(document: Path) -> None:
    for block in blocks(document):
        assert block.language in LANGUAGES, block
        if block.language == "json":
            json.loads(block.text)
        if block.language == "text":
            assert not re.search(r"^\$ ", block.text, re.MULTILINE), (
                f"{block}: a command belongs into a console block"
            )


@pytest.mark.parametrize("document", WRITTEN, ids=lambda path: path.name)
def test_every_yaml_block_is_a_valid_part_of_the_file(document: Path) -> None:
    for block in blocks(document):
        if block.language != "yaml" or block.not_run:
            continue
        part = yaml.safe_load(block.text)
        if isinstance(part, list):  # records for `--from-file`
            continue
        unknown = {name for name in part if not name.startswith("x-")} - set(models.Ecosystem.model_fields)
        assert not unknown, block
        Settings(**models.Ecosystem.model_validate(part).settings)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in links(document):
        place, _, anchor = link.partition("#")
        if "://" in link:
            parts = urlsplit(link)
            assert parts.scheme == "https", link
            assert re.fullmatch(r"[\w.-]+\.\w+", parts.netloc), link
            continue
        target = document.parent / place if place else document
        assert target.exists(), f"{document.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{document.name}: {link}"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.name)
def test_the_readme_links_every_chapter(chapter: Path) -> None:
    _, _, overview = README.read_text().partition("\n## Documentation\n")

    assert f"(docs/{chapter.name})" in overview.partition("\n## ")[0]


@pytest.mark.parametrize("program", ["coordination", "workers"])
def test_the_map_of_the_code_names_every_package(program: str) -> None:
    _, _, code_map = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Map of the code\n")
    names = set(re.findall(r"`([a-z_]+)/?`", code_map))

    assert {path.parent.name for path in (ROOT / program).glob("*/__init__.py")} <= names


@pytest.mark.parametrize("name", PAGES)
def test_the_references_are_what_the_program_says(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name]().rstrip() + "\n", "renew it: make docs"


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 200


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_lines_are_short(document: Path) -> None:
    assert [line for line in document.read_text().splitlines() if len(line) > 110] == []


def test_lines_of_lua_are_short() -> None:
    """ruff checks those of Python."""
    steps = (ROOT / "coordination").rglob("*.lua")

    assert [line for step in steps for line in step.read_text().splitlines() if len(line) > 110] == []


@pytest.mark.parametrize("document", WRITTEN, ids=lambda path: path.name)
def test_no_sentence_opens_with_a_question_word(document: Path) -> None:
    assert OPENINGS.findall(prose(document)) == []


@pytest.mark.parametrize("command", entries(COMMANDS).values(), ids=lambda command: command.name)
def test_each_command_has_an_example(command: Entry) -> None:
    spellings = "|".join(filter(None, (command.name, command.noun_verb)))
    shown = re.compile(rf"^\$ .*\bcoord ({spellings})\b", re.MULTILINE)
    examples = (b for document in WRITTEN for b in blocks(document) if b.language == "console")
    assert any(shown.search(block.text) for block in examples)


@pytest.mark.parametrize("field", [name for record in SECTIONS for name in record.model_fields])
def test_every_field_of_the_file_is_documented(field: str) -> None:
    assert f"`{field}`" in (ROOT / "docs" / "file.md").read_text()


def test_every_benchmark_that_is_named_exists() -> None:
    for name in re.findall(r"-m benchmarks\.(\w+)", (ROOT / "docs" / "measured.md").read_text()):
        assert (ROOT / "benchmarks" / f"{name}.py").exists(), name


def test_every_test_that_the_threat_model_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+\.py)`", (ROOT / "docs" / "security.md").read_text()))
    assert named
    assert named <= {file.name for file in (ROOT / "tests").rglob("test_*.py")}


def test_every_module_on_the_way_of_a_todo_exists() -> None:
    named = re.findall(
        r"`((?:coordination|workers)/[a-z_/]+\.(?:py|lua))`", (ROOT / "docs/how-it-works.md").read_text()
    )

    assert named
    assert [path for path in named if not (ROOT / path).is_file()] == []
