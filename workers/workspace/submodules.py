"""Bring the submodules of a worktree to their recorded commits, if possible from the checkout's copies.

git keeps the submodules of each worktree apart, so a fresh worktree has none. It gets those that `submodules`
of the repository says; by default those that its checkout has.

* The checkout's configuration and submodules are only read: the settings that `git submodule` would write
  into the configuration that worktrees share are passed to it as options.
* A todo in a sandbox could name any address in a commit, and so send data out by the worker's git. So only
  addresses are asked that the checkout's configuration or the base branch has.
* A clone from the checkout's copy needs no network, and for that path alone git's `file` protocol is allowed.
  A commit that the copy does not have is fetched from the submodule's own address, under git's own rules.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from coordination.errors import GitRefused
from coordination.git import base_tip
from coordination.runs.not_committed import NotCommitted, NotCommittedReason, not_committed
from coordination.text import quoted
from workers.process.trouble import GitInterrupted, Trouble
from workers.workspace.drivers import others_off
from workers.workspace.files import remove_tree
from workers.workspace.git import Hold, ask, git, git_dir_of, is_readable
from workers.workspace.repository import has_commit

DEEPEST = 8
"""The most levels: a submodule may contain itself."""
LONGEST_SHOWN = 200


@dataclass(frozen=True, kw_only=True)
class Submodule:
    name: str
    path: str
    commit: str
    url: str
    """As .gitmodules has it."""


@dataclass(frozen=True, kw_only=True)
class Submodules:
    """The submodules of one worktree. `wanted`: all, none, or (None) those of the checkout."""

    repo: str
    wanted: bool | None
    hold: Callable[[], Hold]
    """The worktree's lock."""
    sandboxed: Callable[[], bool] = lambda: False
    """True if a todo in a sandbox has been here."""
    branch: str = ""
    """The base branch, whose addresses of submodules may be asked."""

    def update(self, worktree: Path, git_dir: Path, checkout: Path) -> None:
        """Bring all submodules to the recorded commits, whatever todos did to them. Raises GitRefused."""
        if self.wanted is not False:
            self._update(worktree, git_dir, checkout, DEEPEST)

    def _update(self, worktree: Path, git_dir: Path, source: Path, depth: int) -> None:
        for module in submodules_of(worktree, git_dir) if depth else ():
            copy, path = source / module.path, worktree / module.path
            if self.wanted is None and not (copy / ".git").exists():
                continue
            own = _own_git_dir(worktree, git_dir, module)
            # A todo may have written this configuration, and put commands into it.
            if self.sandboxed() and own == path / ".git":
                own = None
            if own is not None and not _mended(path, own):
                own = None
            if own is None:
                _clear(worktree, module)
            if own is None or not has_commit(path, module.commit, own):
                self._clone(worktree, git_dir, source, module, is_outermost=depth == DEEPEST)
                own = git_dir_of(path)
            if own is None:
                raise GitInterrupted(Trouble.DAMAGED, f"{path} was changed while git made it")
            git(
                "checkout",
                "--quiet",
                "--force",
                "--detach",
                module.commit,
                cwd=path,
                git_dir=own,
                settings=others_off(module.commit, path, own) if self.sandboxed() else (),
                hold=self.hold(),
            )
            git("clean", "-ffdq", cwd=path, git_dir=own, hold=self.hold())
            self._update(path, own, copy, depth - 1)

    def _clone(
        self, worktree: Path, git_dir: Path, source: Path, module: Submodule, *, is_outermost: bool
    ) -> None:
        copy = source / module.path
        if (copy / ".git").exists() and has_commit(copy, module.commit):
            local = git("rev-parse", "--path-format=absolute", "--git-common-dir", cwd=copy)
            self._git_update(worktree, git_dir, module, local, "protocol.file.allow=always")
            url = ask("remote", "get-url", "origin", cwd=copy).stdout.strip()
            path = worktree / module.path
            # A todo's fetches and pushes use the same remotes as the checkout's.
            if url and (own := git_dir_of(path)):
                git("remote", "set-url", "origin", url, cwd=path, git_dir=own, hold=self.hold())
            return
        known = ask(
            "config", "--get", f"submodule.{module.name}.url", cwd=worktree, git_dir=git_dir
        ).stdout.strip()
        url = known or module.url
        if not known and is_outermost and url not in self._urls_of_base(source):
            raise GitRefused(
                f"{self.repo}: submodule {module.path} has a new address, {url[:LONGEST_SHOWN]!r}, which "
                "neither the base branch nor the configuration of the checkout has",
                "land it first, or allow the address: "
                f"git -C {quoted(source)} config {quoted(f'submodule.{module.name}.url')} {quoted(url)}",
            )
        if url.startswith(("./", "../")):
            raise GitRefused(
                f"{self.repo}: submodule {module.path} is not in the checkout, "
                f"and its address {url} is relative",
                f"bring it there: git -C {quoted(copy.parent)} submodule update --init {quoted(copy.name)}",
            )
        self._git_update(worktree, git_dir, module, url)

    def _urls_of_base(self, checkout: Path) -> set[str]:
        """Return the addresses that the base branch of the checkout has, here and as last seen at its url."""
        tips = {base_tip(checkout, self.branch, remote=remote) for remote in (False, True)}
        listing = ("-z", "--get-regexp", r"^submodule\..*\.url$")
        answers = (ask("config", f"--blob={tip}:.gitmodules", *listing, cwd=checkout) for tip in tips if tip)
        entries = (entry for answer in answers for entry in answer.stdout.split("\0"))
        return {entry.partition("\n")[2] for entry in entries}

    def _git_update(self, worktree: Path, git_dir: Path, module: Submodule, url: str, *more: str) -> None:
        section = f"submodule.{module.name}"
        settings = (f"{section}.url={url}", f"{section}.active=true", f"{section}.update=checkout", *more)
        options = ("--quiet", "update", "--init", "--force", "--", module.path)
        git("submodule", *options, cwd=worktree, git_dir=git_dir, settings=settings, hold=self.hold())

    def changes(self, worktree: Path, git_dir: Path) -> Iterator[NotCommitted]:
        """Yield the submodules with changes of a todo that its commit does not carry, as one record."""
        status = ("status", "--porcelain=v2", "-z", "--no-renames", "--ignore-submodules=none")
        listing = git(*status, cwd=worktree, git_dir=git_dir, hold=self.hold())
        found: list[str] = []
        for entry in listing.split("\0"):
            kind, _, rest = entry.partition(" ")
            fields = rest.split(" ", 7)
            if kind == "1" and fields[1].startswith("S") and set(fields[1][2:]) != {"."}:
                found.append(fields[7])
        if found:
            yield not_committed(
                NotCommittedReason.SUBMODULE_CHANGES,
                found,
                f"let the todo commit and push them; until then they are in {worktree}, and the next todo of "
                "the run in this repository resets them",
            )

    def unpublished(
        self, worktree: Path, git_dir: Path, checkout: Path, since: str
    ) -> Iterator[NotCommitted]:
        """Yield the submodule commits that the worktree's commit names and no other place has."""
        before = {module.path: module.commit for module in submodules_of(worktree, git_dir, since)}
        for module in submodules_of(worktree, git_dir):
            copy = checkout / module.path
            kept = (copy / ".git").exists() and has_commit(copy, module.commit)
            if module.commit != before.get(module.path) and not kept:
                yield not_committed(
                    NotCommittedReason.SUBMODULE_COMMIT,
                    [module.path],
                    "let the todo push it, or keep it: "
                    f"git -C {quoted(copy)} fetch {quoted(worktree / module.path)} {module.commit}",
                )


def _own_git_dir(worktree: Path, git_dir: Path, module: Submodule) -> Path | None:
    """Return the submodule's git directory: below that of its parent, or its own `.git` folder.

    None without either.

    An own `.git` folder is a clone that a todo added. A `.git` that names another repository was written
    by a todo, and is ignored.
    """
    path = worktree / module.path
    if os.path.realpath(path) != str(Path(os.path.realpath(worktree), module.path)):
        return None
    own = git_dir_of(path)
    places = {
        os.path.realpath(git_dir / "modules" / module.name),
        os.path.realpath(worktree) + f"/{module.path}/.git",
    }
    return own if own is not None and str(own) in places else None


def _mended(path: Path, own: Path) -> bool:
    """Return whether git can read the submodule, if need be without its index, which a checkout writes anew.
    A git directory that stays damaged is removed.
    """
    if is_readable(path, own):
        return True
    remove_tree(own / "index")
    if is_readable(path, own):
        return True
    remove_tree(own)
    return False


def _clear(worktree: Path, module: Submodule) -> None:
    """Remove the files at the path of the submodule; if the path is a link, remove only the link."""
    path = worktree
    for name in Path(module.path).parts:
        path /= name
        if path.is_symlink():
            path.unlink()
    remove_tree(path)


def submodules_of(worktree: Path, git_dir: Path | None, commit: str = "HEAD") -> list[Submodule]:
    """Return the submodules that a commit records and its .gitmodules names, in the order of their paths."""
    if not (worktree / ".gitmodules").is_file():
        return []
    done = ask(
        *("config", "--blob", f"{commit}:.gitmodules", "-z", "--get-regexp", r"^submodule\..*\.(path|url)$"),
        cwd=worktree,
        git_dir=git_dir,
    )
    paths: dict[str, str] = {}
    urls: dict[str, str] = {}
    for line in filter(None, done.stdout.split("\0")):
        key, _, value = line.partition("\n")
        name, _, what = key.removeprefix("submodule.").rpartition(".")
        (paths if what == "path" else urls)[name] = value
    tree = git("ls-tree", "-r", "-z", "--full-tree", commit, cwd=worktree, git_dir=git_dir).split("\0")
    recorded = {entry.partition("\t")[2]: entry.split()[2] for entry in tree if entry.startswith("160000 ")}
    if odd := next((name for name in paths if "=" in name or "\n" in name), None):
        raise GitRefused(
            f"submodule {odd!r} of {worktree} has a name that git takes for a setting", "rename it"
        )
    return [
        Submodule(name=name, path=path, commit=recorded[path], url=urls.get(name, ""))
        for name, path in sorted(paths.items(), key=lambda pair: pair[1])
        if path in recorded
    ]
