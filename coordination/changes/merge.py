"""Merge commits in a checkout without its files: two sides of a change set, or the base branch into one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coordination.errors import GitRefused
from coordination.git import DURABLE, NOBODY, ask_git, is_commit
from coordination.text import quoted

OPTIONS = ("--write-tree", "--name-only", "--no-messages", "-z")


@dataclass(frozen=True, kw_only=True)
class MergedTree:
    """The outcome of a merge."""

    tree: str
    files: tuple[str, ...] = ()
    """Files with a conflict."""


def merge_trees(checkout: Path, ours: str, theirs: str) -> MergedTree:
    """Merge two commits; change no ref and no file. Raises GitRefused."""
    done = ask_git(checkout, "merge-tree", *OPTIONS, ours, theirs, codes=(0, 1))
    tree, *files = done.split("\0")
    if not is_commit(tree):  # any object has a name of this form
        raise GitRefused(
            f"git cannot merge {theirs[:12]} into {ours[:12]} in {checkout}",
            f"see why: git -C {quoted(checkout)} merge-tree --write-tree {ours} {theirs}; it needs git 2.38",
        )
    return MergedTree(tree=tree, files=tuple(filter(None, files)))


def tree_of(checkout: Path, commit: str) -> str:
    """Return the tree of a commit; empty if the checkout does not have it."""
    return ask_git(checkout, "rev-parse", "--verify", "--quiet", f"{commit}^{{tree}}")


def commit_merge(
    checkout: Path, tree: str, parents: tuple[str, ...], subject: str, trailers: Mapping[str, str]
) -> str:
    """Make a merge commit that no ref names yet: with the user's identity, signed as the configuration of git
    says. No hook runs. Raises GitRefused.
    """
    who = ask_git(checkout, "config", "--name-only", "--get-regexp", r"^user\.(name|email)$").split()
    settings = (*DURABLE, *(() if {"user.name", "user.email"} <= set(who) else NOBODY))
    signs = ask_git(checkout, "config", "--type=bool", "--get", "commit.gpgSign") == "true"
    made = ask_git(
        checkout,
        "commit-tree",
        *(["--gpg-sign"] if signs else []),
        *(word for parent in parents for word in ("-p", parent)),
        *("-m", subject, "-m", "\n".join(f"Coord-{name}: {value}" for name, value in trailers.items())),
        tree,
        settings=settings,
    )
    if not made:
        raise GitRefused(
            f"git made no merge commit in {checkout}",
            f"see whether git can commit, and sign if it should: git -C {quoted(checkout)} config --list",
        )
    return made
