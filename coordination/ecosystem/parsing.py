"""The bytes of a file as records, or every problem in them; moments are written as the file writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from coordination.ecosystem.checks import contradictions, foreign_parts, is_foreign, loose_references
from coordination.ecosystem.outline import Outline, outline_of
from coordination.ecosystem.wording import complaints_of
from coordination.ecosystem.yaml_text.places import Diagnostic, SourceMap
from coordination.ecosystem.yaml_text.tree import Tree, gc_paused, read_tree
from coordination.ecosystem.yaml_text.values import AliasBomb, Finding, read_values
from coordination.errors import InvalidFile, Problem
from coordination.models import Ecosystem, Repo
from coordination.settings import Settings


def moment(now: datetime, like: object) -> str:
    """A date where the file writes dates, or nothing yet; else a time in UTC. `like` is a value of the kind."""
    day = now.date().isoformat()
    if like is None or len(str(like)) <= len(day):
        return day
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A valid file: where it is, its bytes, and what it declares."""

    path: Path
    text: bytes
    ecosystem: Ecosystem
    known_warnings: tuple[Problem, ...] | None = field(default=None, compare=False)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text).hexdigest()

    @cached_property
    def warnings(self) -> tuple[Problem, ...]:
        """What is loose in it. After an edit their lines are looked up when somebody asks."""
        return parse(self.text, self.path).document.warnings if self.known_warnings is None else self.known_warnings

    def repo_path(self, repo: Repo) -> Path | None:
        """Where the repository is on this machine: `path` is relative to the file. None when the file does not say."""
        return None if repo.path is None else self.path.parent / Path(repo.path).expanduser()


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A document with its tree and bare values, for those who edit it as a whole."""

    document: Document
    tree: Tree
    data: dict[str, Any]

    def snapshot(self) -> Snapshot:
        return Snapshot(document=self.document, outline=outline_of(self.tree))


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A document, and which lines of it can be edited without reading the others. None: only the whole can be."""

    document: Document
    outline: Outline | None


def parse(raw: bytes, path: Path) -> Draft:
    """Judge the bytes of a file; `path` only names it. Raises InvalidFile."""
    with gc_paused():
        tree = read_tree(raw, str(path))
        atlas, findings = _values(tree, str(path))
        complaints = [c for c in atlas.complaints(findings) if not is_foreign(c.location)] if findings else []
        ecosystem, wrong = _judge(atlas)
        if complaints or wrong or ecosystem is None:
            raise InvalidFile(atlas.problems(complaints + wrong))
        warnings = tuple(atlas.problems([*foreign_parts(atlas.data), *loose_references(ecosystem)]))
    document = Document(path=path, text=raw, ecosystem=ecosystem, known_warnings=warnings)
    return Draft(document=document, tree=tree, data=atlas.data)


def _values(tree: Tree, file: str) -> tuple[SourceMap, list[Finding]]:
    """Bare values that are at least a mapping."""
    try:
        data, findings = read_values(tree)
    except AliasBomb as error:
        message = "the '*' references repeat more than the file says by itself; write the values out"
        raise InvalidFile([Problem(file=file, line=0, where="YAML", message=message)]) from error
    if tree.root is None or data is None:
        message = "it is empty; begin with 'repos:', or write an example into an empty folder: coord init DIR"
        raise InvalidFile([Problem(file=file, line=0, where="the file", message=message)])
    atlas = SourceMap(file=file, root=tree.root, data=data)
    if not isinstance(data, dict):
        message = "needs a mapping at the top, with 'repos:' and 'coordination:'"
        raise InvalidFile([atlas.problem(Diagnostic(location=(), message=message))])
    return atlas, findings


def _judge(atlas: SourceMap) -> tuple[Ecosystem | None, list[Diagnostic]]:
    complaints: list[Diagnostic] = []
    ecosystem = None
    try:
        ecosystem = Ecosystem.model_validate(atlas.data)
    except ValidationError as error:
        complaints += complaints_of(error, atlas)
    complaints += _wrong_settings(atlas)
    complaints += contradictions(atlas.data)
    return ecosystem, complaints


def _wrong_settings(atlas: SourceMap) -> Iterator[Diagnostic]:
    section = atlas.data.get("settings")
    if not isinstance(section, dict):
        return
    try:
        Settings.model_validate(section)
    except ValidationError as error:
        yield from complaints_of(error, atlas, prefix=("settings",))
