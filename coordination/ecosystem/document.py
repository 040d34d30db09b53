"""`ecosystem.yaml`, found and read: valid as a whole, or refused with every problem at its line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from coordination.ecosystem.checks import contradictions, loose_references
from coordination.ecosystem.places import Atlas, Complaint
from coordination.ecosystem.tree import Tree, gc_paused, read_tree
from coordination.ecosystem.values import AliasBomb, Finding, read_values
from coordination.ecosystem.wording import complaints_of
from coordination.errors import CoordinationError, InvalidFile, NotFound, Problem
from coordination.models import Ecosystem, Repo
from coordination.settings import Settings

FILE_NAME = "ecosystem.yaml"


@dataclass(frozen=True, kw_only=True)
class Document:
    """A valid file: where it is, its bytes, what it declares, and what is loose in it."""

    path: Path
    text: bytes
    ecosystem: Ecosystem
    warnings: tuple[Problem, ...] = ()

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text).hexdigest()

    def repo_path(self, repo: Repo) -> Path | None:
        """Where the repository is on this machine: `path` is relative to the file. None when the file does not say."""
        return None if repo.path is None else self.path.parent / Path(repo.path).expanduser()


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A document with its tree and bare values, for those who edit it."""

    document: Document
    tree: Tree
    data: dict[str, Any]


def find(start: Path, explicit: Path | None = None) -> Path:
    """The ecosystem file: the explicit one, else the nearest upward from `start`; raises NotFound."""
    if explicit is not None:
        path = explicit / FILE_NAME if explicit.is_dir() else explicit
        if not path.is_file():
            raise NotFound(f"there is no file {path}", f"correct the path, or write one: coord init {path.parent}")
        return path
    start = start.absolute()
    for folder in (start, *start.parents):
        if (path := folder / FILE_NAME).is_file():
            return path
    raise NotFound(
        f"there is no {FILE_NAME} in {start} or any folder above it",
        "write one from the repositories here: coord init; or name one: --ecosystem FILE",
    )


def load(path: Path) -> Document:
    """Read and judge the file; raises NotFound, InvalidFile, or CoordinationError when it cannot be read."""
    return parse(read_bytes(path), path).document


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}", "write one from the repositories here: coord init") from error
    except OSError as error:
        raise CoordinationError(f"{path} cannot be read: {error.strerror}", "make it readable and try again") from error


def parse(raw: bytes, path: Path) -> Draft:
    """Judge the bytes of a file; `path` only names it. Raises InvalidFile."""
    with gc_paused():
        tree = read_tree(raw, str(path))
        atlas, findings = _values(tree, str(path))
        complaints = list(atlas.complaints(findings)) if findings else []
        ecosystem, wrong = _judge(atlas)
        if complaints or wrong or ecosystem is None:
            raise InvalidFile(atlas.problems(complaints + wrong))
        warnings = tuple(atlas.problems(loose_references(ecosystem)))
    document = Document(path=path, text=raw, ecosystem=ecosystem, warnings=warnings)
    return Draft(document=document, tree=tree, data=atlas.data)


def _values(tree: Tree, file: str) -> tuple[Atlas, list[Finding]]:
    """Bare values that are at least a mapping."""
    try:
        data, findings = read_values(tree)
    except AliasBomb as error:
        message = "the '*' references repeat more than the file says by itself; write the values out"
        raise InvalidFile([Problem(file=file, line=0, where="YAML", message=message)]) from error
    if tree.root is None or data is None:
        message = "it is empty; begin with 'repos:', or write an example into an empty folder: coord init DIR"
        raise InvalidFile([Problem(file=file, line=0, where="the file", message=message)])
    atlas = Atlas(file=file, root=tree.root, data=data)
    if not isinstance(data, dict):
        message = "needs a mapping at the top, with 'repos:' and 'coordination:'"
        raise InvalidFile([atlas.problem(Complaint(location=(), message=message))])
    return atlas, findings


def _judge(atlas: Atlas) -> tuple[Ecosystem | None, list[Complaint]]:
    complaints: list[Complaint] = []
    ecosystem = None
    try:
        ecosystem = Ecosystem.model_validate(atlas.data)
    except ValidationError as error:
        complaints += complaints_of(error, atlas)
    complaints += _wrong_settings(atlas)
    complaints += contradictions(atlas.data)
    return ecosystem, complaints


def _wrong_settings(atlas: Atlas) -> Iterator[Complaint]:
    section = atlas.data.get("settings")
    if not isinstance(section, dict):
        return
    try:
        Settings.model_validate(section)
    except ValidationError as error:
        yield from complaints_of(error, atlas, prefix=("settings",))
