"""Parsing of the file's bytes into records, or into a list of every problem."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from coordination.ecosystem.checks import (
    belongs_to_other_tools,
    repeated_ids,
    secrets_in_env,
    shared_ports,
    undeclared_references,
    unknown_parts,
)
from coordination.ecosystem.outline import Outline, outline_of
from coordination.ecosystem.wording import diagnostics_of
from coordination.ecosystem.yaml_text.places import Diagnostic, SourceMap
from coordination.ecosystem.yaml_text.tree import Tree, gc_paused, read_tree
from coordination.ecosystem.yaml_text.values import AliasBomb, Finding, read_values
from coordination.errors import InvalidFile, Problem
from coordination.models import Ecosystem, Repo
from coordination.settings import Settings


def moment(now: datetime, like: object) -> str:
    """Return a date if the file has dates or nothing there, else a time in UTC. `like` is an existing value
    of that kind.
    """
    day = now.date().isoformat()
    if like is None or len(str(like)) <= len(day):
        return day
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, kw_only=True)
class Document:
    """A valid file: its path, bytes and records."""

    path: Path
    text: bytes
    ecosystem: Ecosystem
    known_warnings: tuple[Problem, ...] | None = field(default=None, compare=False)
    known_digest: str | None = field(default=None, compare=False)

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 of the bytes, in hexadecimal."""
        return self.known_digest or hashlib.sha256(self.text).hexdigest()

    @cached_property
    def warnings(self) -> tuple[Problem, ...]:
        """Return warnings about unknown parts and undeclared references. After an edit they are computed on
        first access.
        """
        return (
            parse(self.text, self.path).document.warnings
            if self.known_warnings is None
            else self.known_warnings
        )

    def repo_path(self, repo: Repo) -> Path | None:
        """Return the repository's path on this machine, relative to the file; None if the
        file declares none.
        """
        return None if repo.path is None else self.path.parent / Path(repo.path).expanduser()


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A document with its YAML tree and plain values, for edits of the whole file."""

    document: Document
    tree: Tree
    data: dict[str, Any]

    def snapshot(self) -> Snapshot:
        return Snapshot(document=self.document, outline=outline_of(self.tree))


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A document and its outline; without an outline, edits need to parse the whole file."""

    document: Document
    outline: Outline | None


def parse(raw: bytes, path: Path) -> Draft:
    """Parse and validate the bytes; `path` is used in messages only. Raises InvalidFile."""
    with gc_paused():
        tree = read_tree(raw, str(path))
        source_map, findings = _values(tree, str(path))
        diagnostics = (
            [c for c in source_map.diagnostics(findings) if not belongs_to_other_tools(c.location)]
            if findings
            else []
        )
        ecosystem, wrong = _validate(source_map)
        if diagnostics or wrong or ecosystem is None:
            raise InvalidFile(source_map.problems(diagnostics + wrong))
        warnings = tuple(
            source_map.problems(
                [
                    *unknown_parts(source_map.data),
                    *undeclared_references(ecosystem),
                    *secrets_in_env(ecosystem),
                    *shared_ports(ecosystem),
                ]
            )
        )
    document = Document(path=path, text=raw, ecosystem=ecosystem, known_warnings=warnings)
    return Draft(document=document, tree=tree, data=source_map.data)


def _values(tree: Tree, file: str) -> tuple[SourceMap, list[Finding]]:
    """Return the plain values, after checking that the top level is a mapping."""
    try:
        data, findings = read_values(tree)
    except AliasBomb as error:
        message = "the '*' references expand to far more than the file contains; write the values out"
        raise InvalidFile([Problem(file=file, line=0, where="YAML", message=message)]) from error
    if tree.root is None or data is None:
        message = "is empty; start with 'repos:', or write an example into an empty folder: coord init DIR"
        raise InvalidFile([Problem(file=file, line=0, where="the file", message=message)])
    source_map = SourceMap(file=file, root=tree.root, data=data)
    if not isinstance(data, dict):
        message = "needs a mapping at the top, with 'repos:' and 'coordination:'"
        raise InvalidFile([source_map.problem(Diagnostic(location=(), message=message))])
    return source_map, findings


def _validate(source_map: SourceMap) -> tuple[Ecosystem | None, list[Diagnostic]]:
    diagnostics: list[Diagnostic] = []
    ecosystem = None
    try:
        ecosystem = Ecosystem.model_validate(source_map.data)
    except ValidationError as error:
        diagnostics += diagnostics_of(error, source_map)
    diagnostics += _wrong_settings(source_map)
    diagnostics += repeated_ids(source_map.data)
    return ecosystem, diagnostics


def _wrong_settings(source_map: SourceMap) -> Iterator[Diagnostic]:
    section = source_map.data.get("settings")
    if not isinstance(section, dict):
        return
    try:
        Settings.model_validate(section)
    except ValidationError as error:
        yield from diagnostics_of(error, source_map, prefix=("settings",))
