"""Parsing of the file's bytes into records, or into a list of every problem.

The outline tells the lines of each record, so that a record can be parsed without the others. A record's
slice starts with the line of its dash and ends before the line of the next dash, or at the end of the list:
whole lines, with the comments below the record. The first slice starts below the name of the list. All
positions count characters of the text without byte order mark.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.nodes import MappingNode, Node, SequenceNode

from coordination.branches import why_of_bases
from coordination.ecosystem.diagnostics import (
    belongs_to_other_tools,
    diagnostics_of,
    repeated_ids,
    secrets_in_file,
    shared_ports,
    undeclared_references,
    unknown_parts,
)
from coordination.ecosystem.layout import Diagnostic, SourceMap
from coordination.ecosystem.yaml_text.lines import alone_before, entry, line_end_text, next_line
from coordination.ecosystem.yaml_text.tree import (
    AliasBomb,
    Finding,
    Location,
    Tree,
    gc_paused,
    read_tree,
    read_values,
)
from coordination.errors import InvalidFile, Problem
from coordination.files import expanded
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
        return None if repo.path is None else self.path.parent / expanded(repo.path)


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
            [d for d in source_map.diagnostics(findings) if not belongs_to_other_tools(d.location)]
            if findings
            else []
        )
        ecosystem, invalid = _validate(source_map)
        if diagnostics or invalid or ecosystem is None:
            raise InvalidFile(source_map.problems(diagnostics + invalid))
        warnings = tuple(
            source_map.problems(
                [
                    *unknown_parts(source_map.data),
                    *undeclared_references(ecosystem),
                    *secrets_in_file(ecosystem),
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
    diagnostics += _invalid_settings(source_map, ecosystem)
    diagnostics += repeated_ids(source_map.data)
    return ecosystem, diagnostics


def _invalid_settings(source_map: SourceMap, ecosystem: Ecosystem | None) -> Iterator[Diagnostic]:
    section = source_map.data.get("settings")
    if not isinstance(section, dict):
        return
    try:
        settings = Settings.model_validate(section)
    except ValidationError as error:
        yield from diagnostics_of(error, source_map, prefix=("settings",))
        return
    repos = ecosystem.repos if ecosystem and "branch_prefix" in section else ()
    if why := why_of_bases(settings.branch_prefix, repos):
        yield Diagnostic(location=("settings", "branch_prefix"), message=why, show_value=False)


LISTS: tuple[Location, ...] = (
    ("repos",),
    ("resources",),
    *(("coordination", section) for section in ("issues", "plans", "todos", "dependencies")),
)
"""Lists whose records an edit parses alone, and whose changes the history records."""
_ALIAS = re.compile(r"\*(?<![^\s\[\]{},:'\"-].)\S")
"""Possible alias; most matches are words in *emphasis*."""
_DASH = re.compile(r" *-[ \t]+")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list in block style: the start of its first slice, the length of each slice, and the columns of its
    names and dash.
    """

    start: int
    lengths: tuple[int, ...]
    columns: tuple[int, ...]

    def spans(self) -> list[int]:
        """Return the start of each slice, followed by the end of the last one."""
        return list(accumulate(self.lengths, initial=self.start))


@dataclass(frozen=True, kw_only=True)
class Outline:
    """Lists of a file whose records can be parsed alone, and the number of parse events of the whole file."""

    lists: Mapping[Location, Listing]
    events: int
    newline: str


def outline_of(tree: Tree) -> Outline | None:
    """Return the outline; None if the file has an alias, which makes one part depend on another."""
    if tree.root is None or (_ALIAS.search(tree.text) and _has_alias(tree.root)):
        return None
    listings = ((location, _listing(tree, location)) for location in LISTS)
    lists = {location: listing for location, listing in listings if listing is not None}
    return Outline(lists=lists, events=count_events(tree.text), newline=line_end_text(tree.text))


def count_events(text: str) -> int:
    """Return the number of events that libyaml's parser emits for a text. Raises yaml.YAMLError."""
    parser = yaml.CSafeLoader(text)
    try:
        return int(parser.raw_parse())
    finally:
        parser.dispose()


def _has_alias(root: Node) -> bool:
    """Return whether a node occurs twice in the tree, as an aliased node does."""
    seen: set[int] = set()
    pending = [root]
    while pending:
        node = pending.pop()
        if id(node) in seen:
            return True
        seen.add(id(node))
        if isinstance(node, SequenceNode):
            pending += node.value
        elif isinstance(node, MappingNode):
            pending += [part for pair in node.value for part in pair]
    return False


def _listing(tree: Tree, location: Location) -> Listing | None:
    node, columns = tree.root, []
    text, below = tree.text, 0
    for step in location:
        child = entry(node, str(step)) if isinstance(node, MappingNode) and not node.flow_style else None
        if child is None or not alone_before(text, int(child.key.start_mark.index)):
            return None
        columns.append(int(child.key.start_mark.column))
        below = next_line(text, int(child.key.end_mark.index))
        node = child.value
    if not isinstance(node, SequenceNode) or node.flow_style or not node.value:
        return None
    column = int(node.start_mark.column)
    starts = _starts(text, node.value, column)
    stop = _stop(text, int(node.end_mark.index))
    if starts is None or stop is None or not below <= starts[0]:
        return None
    edges = [below, *starts[1:], stop]
    lengths = tuple(b - a for a, b in pairwise(edges))
    return Listing(start=below, lengths=lengths, columns=(*columns, column))


def _starts(text: str, items: Sequence[Node], column: int) -> list[int] | None:
    """Return the starts of the dashes' lines; None unless each item starts on the line of its dash."""
    starts: list[int] = []
    for item in items:
        at = int(item.start_mark.index)
        line = text.rfind("\n", 0, at) + 1
        if text[line + column : line + column + 1] != "-" or not _DASH.fullmatch(text, line, at):
            return None
        starts.append(line)
    return starts


def _stop(text: str, end: int) -> int | None:
    """Return the start of the line after the list; None if other text precedes it on that line. The node's
    end mark is where the next token starts.
    """
    if end >= len(text):
        return len(text)
    line = text.rfind("\n", 0, end) + 1
    return None if text[line:end].strip(" ") else line
