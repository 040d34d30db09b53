"""Ids that records have or had, and those with unlanded work, found without starting anything.

A new record gets no id that a record had. An id leaves traces when its record is gone: entries of the
journal, events of the history, branches and kept tips of change sets in the checkouts, and change sets and
runs in Redis. Each of them is read where it is. A source that cannot be read counts as empty: the sweep
compares again.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote

from coordination.branches import COPIES, HEADS, OwnBranches, last_part, name_of_set
from coordination.ecosystem.journal import Journal
from coordination.ecosystem.parsing import Document
from coordination.errors import CoordinationError
from coordination.git import ask_git, base_tip, commit_of, contains, may_have_refs
from coordination.history.memory import DATABASE
from coordination.models import Repo
from coordination.operations.quick_queries import query_quickly
from coordination.operations.state import state_folder
from coordination.settings import Settings

AT_ONCE = 8
KEPT = "refs/coord/"
"""Beginning of the refs that are kept of change sets."""

logger = logging.getLogger(__name__)


def used_ids(file: Path, settings: Settings, checkouts: Collection[Path]) -> set[str]:
    """Return the ids that records of this file have or had, as far as this machine knows."""
    seen = query_quickly(file, settings, lambda live: live.ids())
    return {
        *Journal(file.resolve()).ids(),
        *_of_history(state_folder(file) / DATABASE),
        *(name for names in branches_of_sets(checkouts).values() for name in names),
        *(seen.answer if seen else ()),
    }


def branches_of_sets(checkouts: Collection[Path], *, kept: bool = True) -> Mapping[Path, set[str]]:
    """Return checkout → the ids whose change sets have branches there, or refs that are `kept` of them. A
    shortened name of a branch is left out: it does not tell the id.
    """
    others = (KEPT,) if kept else ()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda checkout: set(_named(checkout, others)), checkouts)
        return dict(zip(checkouts, found, strict=True))


def unlanded(document: Document, settings: Settings, names: Collection[str]) -> set[str]:
    """Return those of these plans and todos whose change sets have work that has not landed: by Redis, if it
    answers, else by the branches in the checkouts that their base branches do not contain.
    """
    if seen := query_quickly(document.path, settings, lambda live: live.unlanded(names)):
        return seen.answer
    places = {repo: place for repo in document.ecosystem.repos if (place := document.repo_path(repo))}
    there = branches_of_sets(tuple(set(places.values())), kept=False)
    return {
        name
        for repo, place in places.items()
        for name in there[place].intersection(names)
        if not _has_landed(repo, place, OwnBranches.of(place).named(name_of_set(name)))
    }


def _has_landed(repo: Repo, place: Path, branches: Collection[str]) -> bool:
    base = base_tip(place, repo.branch, remote=bool(repo.url))
    tips = filter(None, (commit_of(place, f"{HEADS}{branch}") for branch in branches))
    return bool(base) and all(contains(place, tip, base) for tip in tips)


def _named(checkout: Path, others: Collection[str]) -> Iterator[str]:
    ours = OwnBranches.of(checkout)
    below = (*ours.refs, *others)
    if not may_have_refs(checkout, *below):
        return
    for ref in ask_git(checkout, "for-each-ref", "--format=%(refname)", *below).splitlines():
        yield unquote(_name_in(ref, ours))


def _name_in(ref: str, ours: OwnBranches) -> str:
    """Return the last part of the name of a change set's branch, from it or from a ref that is kept of it."""
    if ref.startswith(COPIES):
        return last_part(ref)
    own = max((folder for folder in ours.refs if ref.startswith(folder)), key=len, default="")
    name = ref.removeprefix(own) if own else ref.removeprefix(KEPT).partition("/")[2]
    return name.partition("/")[0]


def _of_history(database: Path) -> set[str]:
    """Return the subjects of all events that the history has; empty without a history that can be read."""
    if not database.exists():
        return set()
    try:
        address = f"file:{quote(str(database.absolute()))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=1)) as db:
            return {str(subject) for (subject,) in db.execute("SELECT DISTINCT subject FROM event_subjects")}
    except sqlite3.Error as error:
        logger.info("no ids of the history: %s", error)
        return set()


def ids_of_first_file(file: Path, checkouts: Collection[Path]) -> set[str]:
    """Return the ids that a new file must not use: a file that was here before may have had them."""
    from coordination.settings import read_settings

    try:
        settings = read_settings({}, {}, folder=file.parent)
    except CoordinationError as error:  # wrong settings are reported by the commands that need them
        logger.info("no ids of Redis: %s", error)
        settings = Settings()
    return used_ids(file, settings, checkouts)
