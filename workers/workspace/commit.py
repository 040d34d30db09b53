"""Commit the changes of a todo that succeeded on the run's branch, by `git commit` as the user has set it up.

Git hooks run, commits are signed as git's configuration says, and git compares the branch with the commit
that it began with before it moves it. A hook that refuses fails the todo; one that changes files and refuses
(a formatter) is run once more with its changes. Commits of the todo itself are kept; the commit with the
trailers comes on top, only if changes are left. New files outside of a sparse checkout are committed too.

Work that the commit would lose fails the todo: a git repository inside the worktree (git would record a
commit that exists nowhere else), and folders that git cannot read. Submodules that .gitmodules names are
committed.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from coordination.errors import GitRefused
from coordination.git import DURABLE, NOBODY, TRUE_HISTORY
from coordination.git_programs import program_settings
from coordination.runs.not_committed import NotCommitted, NotCommittedReason, not_committed
from coordination.text import counted, listed
from workers.process.child import Exit
from workers.workspace.confined_folder import Tamed
from workers.workspace.drivers import PLACES, RAW, is_obeyed, note_same, others_off, refuse_others
from workers.workspace.files import open_below
from workers.workspace.git import (
    Hold,
    answered,
    ask,
    clean_environment,
    configured,
    environment,
    git,
    refuse_damaged,
)
from workers.workspace.hooks import Hooks
from workers.workspace.private_git import MOST_BYTES, PrivateGit
from workers.workspace.repository import commit_at, contains
from workers.workspace.shared_state import SharedState

OURS = ("core.fsmonitor=false", "gc.auto=0", "i18n.commitEncoding=UTF-8", "maintenance.auto=false")
"""Settings that override the user's: git starts no daemon, and reads the message as UTF-8."""
COMMIT = ("commit", "--quiet", "--cleanup=whitespace", "--file=-")
LEFT_OPEN_BY_TODO = ("CHERRY_PICK_HEAD", "REVERT_HEAD")
"""Operations that a todo left open: `git commit` would take their author and message."""

UNREADABLE = re.compile(r"^warning: could not open directory '(.*?)(?:': [^':]+)?$", re.MULTILINE)
"""The warning of `git status`, which takes such a folder for empty and ends with 0. A long warning is cut."""

GitCommit = Callable[[Sequence[str], str], None]
"""Runs a command with this standard input in the worktree, with hooks. Raises CommitRefused."""


class CommitRefused(GitRefused):
    """A git hook, or the signing program, refused the commit."""

    def __init__(self, ended: Exit | None = None, message: str = "") -> None:
        self.ended = ended
        super().__init__(
            message, "read its output in the log; correct the todo or the hook, or set commit_hooks: skip"
        )


class WorkLost(GitRefused):
    """The commit would lack files of the todo that no other place has."""

    def __init__(self, found: Sequence[NotCommitted]) -> None:
        self.found = tuple(found)
        super().__init__(
            f"the commit would lose {'; '.join(one.text for one in self.found)}",
            "; ".join(one.hint for one in self.found),
        )


@dataclass(frozen=True, kw_only=True)
class CommitStyle:
    """The style of a run's commits: settings of its ecosystem."""

    plan: str = ""
    message: str = "{todo}: {task}"
    hooks: bool = True
    read_only: bool = False
    """True if the todo may change nothing."""
    base: str = ""
    """The commit of the base branch at which the change set began; empty without one."""


@dataclass(frozen=True, kw_only=True)
class WorktreeState:
    """A worktree after its todo, and the commit that the todo began with."""

    path: Path
    git_dir: Path
    branch: str
    since: str
    settings: Sequence[str]
    hold: Hold
    patience: timedelta
    """The limit of one git command."""
    style: CommitStyle
    git_commit: GitCommit
    scripts: Path
    """The folder for the scripts that start the repository's hooks."""
    log: Callable[[str], None]
    """Takes lines for the todo's log."""
    confined: bool = False
    """True if a todo ran in a sandbox here: git then looks into no repository within the worktree, for its
    configuration may name commands.
    """
    private: PrivateGit | None = None
    """The git directory of the todo, if it has one of its own."""
    tamed: Tamed | None = None
    """The folder without what a todo in a sandbox left for git; None if none was there."""
    bases: Callable[[], Sequence[str]] = tuple
    """Returns the commits of the base branch, as this machine knows them."""
    taken: str = ""
    """The last commit that was taken from the git directory of the todo."""

    @property
    def all_settings(self) -> tuple[str, ...]:
        """Return the settings of our git here, without drivers that a todo in a sandbox has chosen."""
        off = others_off(self.taken or self.since, self.path, self.git_dir) if self.confined else ()
        return (*self.settings, *off)

    def git(self, *args: str, stdin: str = "", settings: Sequence[str] = ()) -> str:
        return git(*args, stdin=stdin, **self._how(*self.all_settings, *settings))

    def answered(self, *args: str) -> CompletedProcess[str]:
        return answered(*args, **self._how(*self.all_settings))

    def refuse_drivers(self, listing: str) -> None:
        """Raise GitRefused if changes that git lists with RAW choose programs for git (`drivers.py`)."""
        if listing:
            refuse_others(listing, (self.since, *filter(None, self.bases())), self.path, self.git_dir)

    def ask(self, *args: str, stdin: str = "") -> CompletedProcess[str]:
        return ask(*args, stdin=stdin, **self._how(*self.settings))

    def _how(self, *settings: str) -> dict[str, Any]:
        return {
            "cwd": self.path,
            "git_dir": self.git_dir,
            "settings": settings,
            "hold": self.hold,
            "patience": self.patience,
        }

    def commit_at(self, name: str) -> str:
        """Return the commit of a name; empty if there is none."""
        return commit_at(self.path, name, self.git_dir)

    def contains(self, old: str, new: str) -> bool:
        return contains(self.path, old, new, self.git_dir)


@dataclass(frozen=True, kw_only=True)
class Committed:
    """The result of `commit`."""

    tip: str
    """The branch's new tip, or the old one if nothing changed."""
    ignored: Sequence[str]
    left_out: tuple[NotCommitted, ...] = ()
    """What was not taken from a todo in a sandbox, and what hooks have left."""


@dataclass(frozen=True, kw_only=True)
class Message:
    text: str
    trailers: str

    def __str__(self) -> str:
        return f"{self.text}\n\n{self.trailers}"


def message(
    style: CommitStyle, run: str, todo: str, task: str, fence: int, source: str = "", agent: str = ""
) -> Message:
    """Return the message of a todo's commit. `source`: `<run>/<todo>` of a cached result; `agent`: who made
    it, with version, model and session.
    """
    text = style.message.format(task=" ".join(task.split()), todo=todo, plan=style.plan, run=run)
    facts = {"Run": run, "Plan": style.plan, "Base": style.base, "Todo": todo, "Fence": str(fence)}
    facts |= {"Cached": source, "Agent": agent}
    return Message(
        text=text, trailers="".join(f"Coord-{name}: {fact}\n" for name, fact in facts.items() if fact)
    )


@dataclass(frozen=True, kw_only=True)
class GitStatus:
    """The result of one `git status`."""

    head: str
    """The commit at HEAD; empty if there is none."""
    branch: str
    """The branch of HEAD."""
    differs: bool
    """True if anything differs from HEAD."""
    changed: Sequence[str]
    """Paths of files to be added."""
    deleted: Sequence[str]
    """Paths of files that are gone."""
    nested: Sequence[str]
    """Untracked repositories."""
    conflicts: Sequence[str]
    ignored: Sequence[str]
    """Ignored files and folders; of an ignored folder no content."""
    unreadable: Sequence[str]
    """Folders that git cannot read, and takes for empty."""
    links: bool
    """True if a submodule is to be added or changed."""


def _ignored_submodules(worktree: WorktreeState) -> str:
    if worktree.private:  # their git directories are hidden from git now, and the todo could not write them
        return "all"
    return "dirty" if worktree.confined else "none"


def git_status(worktree: WorktreeState) -> GitStatus:
    """Return HEAD, its branch and all changes by one call of git: most todos that run tests need no other."""
    options = (
        "--porcelain=v2",
        "--branch",
        "--no-ahead-behind",
        "-z",
        "--no-renames",
        "--untracked-files=all",
        "--ignored=matching",
        # Changes within a submodule cannot be staged.
        f"--ignore-submodules={_ignored_submodules(worktree)}",
    )
    answer = worktree.answered("status", *options)
    lines = [line for line in answer.stdout.split("\0") if line]
    facts = dict(line[2:].partition(" ")[::2] for line in lines if line.startswith("# "))
    entries = [line for line in lines if not line.startswith(("# ", "! "))]
    # Git lists the content of other folders.
    nested = [e[2:] for e in entries if e.startswith("? ") and e.endswith("/")]
    untracked = [e[2:] for e in entries if e.startswith("? ") and not e.endswith("/")]
    tracked = [e.split(" ", 8) for e in entries if e.startswith("1 ")]
    return GitStatus(
        head=facts["branch.oid"].replace("(initial)", ""),
        branch=facts["branch.head"],
        differs=bool(entries),
        changed=[*(fields[8] for fields in tracked if "D" not in fields[1]), *untracked],
        deleted=[fields[8] for fields in tracked if fields[1][1] == "D"],
        nested=nested,
        conflicts=[e.split(" ", 10)[10] for e in entries if e.startswith("u ")],
        ignored=[line[2:] for line in lines if line.startswith("! ")],
        unreadable=UNREADABLE.findall(answer.stderr),
        links=any(fields[2].startswith("S") for fields in tracked),
    )


def changed_paths(worktree: WorktreeState) -> list[str]:
    """Return the paths that differ from the commit at which the todo began, in its commits or not."""
    status = git_status(worktree)
    found = {*status.changed, *status.deleted, *status.nested, *status.conflicts}
    listing = ("diff", "--name-only", "--no-renames", "-z", "--ignore-submodules=all", worktree.since)
    found |= {path for path in worktree.git(*listing).split("\0") if path}
    return sorted(found)


def commit(worktree: WorktreeState, text: Message) -> Committed:
    """Commit all changes. Raises GitRefused, CommitRefused, WorkLost."""
    left_out: tuple[NotCommitted, ...] = ()
    if worktree.private and not worktree.style.read_only:
        worktree, left_out = _take_over(worktree, worktree.private)
    status = git_status(worktree)
    nested = [*status.nested, *(_repositories(worktree, worktree.tamed) if worktree.tamed else ())]
    status = replace(status, nested=nested)
    tip, hooks_ran = _commit_changes(worktree, text, status)
    if hooks_ran:
        left_out = (*left_out, *_left_by_hooks(worktree))
    elif not any(map(is_obeyed, (*status.changed, *status.deleted))):
        note_same(tip, worktree.taken or worktree.since)
    return Committed(tip=tip, ignored=status.ignored, left_out=left_out)


def _left_by_hooks(worktree: WorktreeState) -> Iterator[NotCommitted]:
    """Yield the changes that hooks have made and not added to the commit."""
    status = git_status(worktree)
    if paths := [*status.changed, *status.deleted, *status.nested]:
        hint = "let the hook add them to the commit, or write elsewhere: the next todo begins without them"
        yield not_committed(NotCommittedReason.HOOKS, paths, hint)


def _take_over(
    worktree: WorktreeState, private: PrivateGit
) -> tuple[WorktreeState, tuple[NotCommitted, ...]]:
    """Take the commits of the todo, and what its index says, into the worker's git directory; return what is
    left out.
    """
    taken = private.take(worktree.since)
    if taken.head != worktree.since:
        worktree = _reset_to(worktree, taken.head)
    if taken.merged:
        heads = "".join(f"{head}\n" for head in taken.merged)
        (worktree.git_dir / "MERGE_HEAD").write_text(heads)
        (worktree.git_dir / "MERGE_MODE").write_text("no-ff")  # keeps a parent that contains the other one
    staged = private.staged()
    if staged.conflicts:
        raise _open_conflicts(staged.conflicts)
    if staged.removed:
        _update_index(worktree, ("--force-remove",), staged.removed)
    if added := [path for path in staged.added if _is_file(worktree.path, path)]:
        _refuse_large(worktree, added)
        _update_index(worktree, ("--add",), added)
    if staged.links:
        entries = "".join(f"160000 {commit}\t{path}\0" for path, commit in staged.links.items())
        worktree.git("update-index", "-z", "--index-info", stdin=entries, settings=DURABLE)
    found = []
    if taken.left:
        hint = "only the commits of the current branch are taken; let the todo merge the others into it"
        found.append(not_committed(NotCommittedReason.REFS, taken.left, hint))
    if worktree.tamed and worktree.tamed.special:
        found.append(not_committed(NotCommittedReason.SPECIAL, sorted(worktree.tamed.special)))
    return worktree, tuple(found)


def _reset_to(worktree: WorktreeState, head: str) -> WorktreeState:
    """Bring the branch to a commit that was taken from a todo, unless that chooses programs for git."""
    if _changed_places(worktree, head):
        worktree.refuse_drivers(_changed_places(worktree, head, *filter(None, worktree.bases())))
    else:
        note_same(head, worktree.taken or worktree.since)
    worktree = replace(worktree, taken=head)
    worktree.git("reset", "--quiet", head, settings=DURABLE)
    return worktree


def _changed_places(worktree: WorktreeState, head: str, *bases: str) -> str:
    """Return the changes of all new commits at PLACES, as git lists them with RAW: each can be checked out
    later. A merge is compared with all of its parents.
    """
    listing = ("log", "--format=", "--root", "-m", "--full-history", *RAW, head)
    known = (f"^{commit}" for commit in (worktree.since, *bases))
    return worktree.git(*listing, *known, "--", *PLACES, settings=TRUE_HISTORY)


def _refuse_large(worktree: WorktreeState, paths: Sequence[str]) -> None:
    """Raise GitRefused if git would read more bytes than a todo in a sandbox may leave. A file may say any
    size without taking space on the disk.
    """
    size = 0
    for path in paths:
        with suppress(OSError):
            size += (worktree.path / path).lstat().st_size
    if size > MOST_BYTES:
        raise GitRefused(
            f"the changed files have {size:,} bytes, more than the {MOST_BYTES:,} that coord commits from a "
            "sandbox",
            "let the todo write large files elsewhere ($TMPDIR), or name them in .gitignore",
        )


def _is_file(folder: Path, path: str) -> bool:
    """Return whether a path leads, by no link, to a file or a link."""
    *folders, name = path.split("/")
    try:
        parent = open_below(folder, folders)
    except (OSError, ValueError):
        return False
    try:
        mode = os.lstat(name, dir_fd=parent).st_mode
    except (OSError, ValueError):
        return False
    finally:
        os.close(parent)
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _repositories(worktree: WorktreeState, tamed: Tamed) -> list[str]:
    """Return the nested repositories that are neither ignored nor submodules of the index."""
    if not (nested := tamed.repositories):
        return []
    listed = worktree.git("ls-files", "--stage", "-z").split("\0")
    links = {entry.partition("\t")[2] for entry in listed if entry.startswith("160000 ")}
    unknown = [path for path in nested if path not in links]
    if not unknown:
        return []
    lines = "".join(f"{path}/\0" for path in unknown)
    answer = worktree.ask("check-ignore", "-z", "--stdin", stdin=lines)
    ignored = {path.rstrip("/") for path in answer.stdout.split("\0")}
    return [path for path in unknown if path not in ignored]


def _commit_changes(worktree: WorktreeState, text: Message, status: GitStatus) -> tuple[str, bool]:
    """Return the tip, and whether hooks ran."""
    if worktree.style.read_only:
        return _unchanged(worktree, status), False
    _refuse_loss(repositories=status.nested, unreadable=status.unreadable)
    head = status.head
    was = head if status.branch == worktree.branch else worktree.commit_at(f"refs/heads/{worktree.branch}")
    tip = was or worktree.since
    # HEAD, if the todo committed on top of the tip: on another branch, or on a detached HEAD.
    parent = head if head and worktree.contains(tip, head) else tip
    if not worktree.contains(worktree.since, parent):
        raise GitRefused(
            f"{worktree.branch} no longer contains {worktree.since[:12]}, where the todo began: "
            "its history was rewritten",
            "let the todo add commits; revert commits to undo them",
        )
    merged = _merged(worktree) if parent == head else []
    staged = _stage(worktree, status)
    if status.links or head != worktree.since:
        _refuse_loss(repositories=_links_without_name(worktree))
    if parent != was:
        _move(worktree, parent, was)
    if not (merged or ((staged or parent != head) and _differs_from(worktree, parent))):
        return parent, False
    if status.branch != worktree.branch:
        worktree.git("symbolic-ref", "HEAD", f"refs/heads/{worktree.branch}")
    for name in LEFT_OPEN_BY_TODO if merged else (*LEFT_OPEN_BY_TODO, "MERGE_HEAD"):
        (worktree.git_dir / name).unlink(missing_ok=True)
    return _commit(worktree, parent, text)


def _refuse_loss(*, repositories: Sequence[str], unreadable: Sequence[str] = ()) -> None:
    """Raise WorkLost if the todo has left any of these in its worktree."""
    found = []
    if repositories:
        hint = (
            "to commit the files, let the todo remove the .git there; else let it work elsewhere ($TMPDIR), "
            "add it with git submodule add, or name it in .gitignore"
        )
        found.append(not_committed(NotCommittedReason.REPOSITORY, repositories, hint))
    if unreadable:
        hint = "let the todo correct its rights or its length, or remove it"
        found.append(not_committed(NotCommittedReason.UNREADABLE, unreadable, hint))
    if found:
        raise WorkLost(found)


def _links_without_name(worktree: WorktreeState) -> list[str]:
    """Return the repositories that the todo added to index or HEAD although .gitmodules does not name them,
    so that nobody can fetch their commits.
    """
    words = iter(
        worktree.git("diff-index", "--cached", "--raw", "-z", "--no-renames", worktree.since).split("\0")
    )
    changes = [(word.split(), next(words)) for word in words if word.startswith(":")]
    new = {path for modes, path in changes if modes[1] == "160000" != modes[0].removeprefix(":")}
    if not new:
        return []
    listing = ("--blob=:.gitmodules", "-z", "--get-regexp", r"^submodule\..*\.path$")
    named = worktree.ask("config", *listing).stdout.split("\0")
    return sorted(new - {entry.partition("\n")[2] for entry in named})


def _unchanged(worktree: WorktreeState, status: GitStatus) -> str:
    """Return the commit that the todo began with. Raises GitRefused if it left anything else."""
    changed = (*status.changed, *status.deleted, *status.nested, *status.unreadable, *status.conflicts)
    if changed or status.differs:
        raise GitRefused(
            f"the command may change nothing, and changed {counted(len(changed), 'file')}: {listed(changed)}",
            "let it write elsewhere ($TMPDIR), or remove read_only from its action",
        )
    branch = worktree.commit_at(f"refs/heads/{worktree.branch}")
    head = (worktree.private.head if worktree.private else "") or status.head
    if head != worktree.since or branch not in ("", worktree.since):
        raise GitRefused(
            f"the command may change nothing, and moved {status.branch} to {head[:12]}",
            "let it make no commit, or remove read_only from its action",
        )
    return worktree.since


def _commit(worktree: WorktreeState, parent: str, text: Message) -> tuple[str, bool]:
    asked = r"^(user\.(name|email)|core\.hookspath)$"
    found = configured(asked, cwd=worktree.path, git_dir=worktree.git_dir)
    hooks = Hooks(names=())
    if worktree.style.hooks:
        named = found.get("core.hookspath")
        hooks = Hooks.find(worktree.path, worktree.git_dir.parent.parent, named)
    if hooks.missing:
        worktree.log(f"commit: {hooks.missing}; let `prepare` of the repository make it")
    identity = () if {"user.name", "user.email"} <= found.keys() else NOBODY
    programs = program_settings(
        worktree.path,
        COMMIT,
        environment({"GIT_DIR": str(worktree.git_dir)}),
        hooks=worktree.style.hooks,
    )
    settings = (*OURS, *DURABLE, *programs, *worktree.all_settings, *identity)
    if worktree.confined and not hooks.names:
        # A sandbox for a commit without foreign code would cost 14 ms, and hide the key that signs it.
        worktree.git(*COMMIT, stdin=str(text), settings=settings)
        return _committed(worktree, parent, text), False
    options = [word for setting in (*settings, hooks.wrapped(worktree.scripts)) for word in ("-c", setting)]
    argv = ["git", f"--git-dir={worktree.git_dir}", *options, *COMMIT]
    if worktree.private:
        _commit_confined(worktree, worktree.private, hooks, parent, argv, text)
        return _committed(worktree, parent, text), True
    before = SharedState.read(worktree.git_dir.parent.parent, refs=bool(hooks.names))
    author = "git commit with its hooks"
    try:
        _commit_with_hooks(worktree, parent, argv, text)
    except BaseException:
        if changed := before.put_back(author):
            worktree.log(changed)
        raise
    before.refuse_changes(author, "correct the hook, or set commit_hooks: skip; then: coord retry")
    return _committed(worktree, parent, text), bool(hooks.names)


def _commit_confined(
    worktree: WorktreeState,
    private: PrivateGit,
    hooks: Hooks,
    parent: str,
    argv: Sequence[str],
    text: Message,
) -> None:
    """Commit with hooks in the sandbox of the todo, by a fresh git directory of its own, and take the commit
    over. Raises CommitRefused, GitRefused.
    """
    shown = (hooks.folder,) if hooks.folder.is_dir() else ()
    for is_last in (False, True):
        private.make(parent, shown=shown)
        try:
            worktree.git_commit(argv, str(text))
        except CommitRefused:
            _tame(worktree)
            if is_last or not _hooks_changed_files(worktree):
                raise
            continue
        break
    _tame(worktree)
    _reset_to(worktree, private.take(parent).head)


def _tame(worktree: WorktreeState) -> None:
    if worktree.tamed:
        worktree.tamed.begin()


def _commit_with_hooks(worktree: WorktreeState, parent: str, argv: Sequence[str], text: Message) -> None:
    """Commit, once more if hooks that change files have refused. Raises CommitRefused."""
    refuse_damaged(worktree.path, worktree.git_dir)
    try:
        worktree.git_commit(argv, str(text))
    except CommitRefused:
        if (head := worktree.commit_at("HEAD")) != parent:
            where = head[:12] or "no commit"
            moved = f"a git hook or a person has moved {worktree.branch} from {parent[:12]} to {where}"
            raise CommitRefused(message=moved) from None
        if not _hooks_changed_files(worktree):
            raise
        refuse_damaged(worktree.path, worktree.git_dir)
        worktree.git_commit(argv, str(text))


def _committed(worktree: WorktreeState, parent: str, text: Message) -> str:
    """Return the commit that was made on top of `parent`. Raises CommitRefused, GitRefused."""
    # With core.fsyncMethod=batch, git ends with 0 although a full disk may have lost some of its objects, so
    # list them all. One call answers everything, because each call takes 3 ms.
    listing = ("--objects", "--missing=allow-promisor", "--format=%H %P%n%B")
    listed = worktree.git("rev-list", *listing, "HEAD", f"^{parent}")
    new, *parents = listed.split("\n", 2)[1].split() if listed else [parent]
    on_branch = (worktree.git_dir / "HEAD").read_text(
        errors="replace"
    ) == f"ref: refs/heads/{worktree.branch}\n"
    follows = on_branch and (parents == [parent] or worktree.contains(parent, new))
    if not follows or text.trailers.strip() not in listed:
        raise CommitRefused(
            message="a git hook has taken the trailers (Coord-…) out of the commit, or moved its branch"
        )
    return new


def _hooks_changed_files(worktree: WorktreeState) -> bool:
    """Stage the changes of a refused commit's hooks; return whether there are any."""
    before = worktree.git("write-tree")
    if worktree.confined:
        status = git_status(worktree)
        tracked = set(worktree.git("ls-files", "-z").split("\0"))
        _stage_paths(worktree, replace(status, changed=[path for path in status.changed if path in tracked]))
    else:
        worktree.git("add", "--sparse", "--update", ":/", settings=DURABLE)
    return worktree.git("write-tree") != before


def _differs_from(worktree: WorktreeState, parent: str) -> bool:
    return worktree.git("write-tree", settings=DURABLE) != worktree.git("rev-parse", f"{parent}^{{tree}}")


def run_git(path: Path, argv: Sequence[str], text: str) -> None:
    """Make a commit as `GitCommit` does, without a todo: no guard, no timeout, no log."""
    environment = clean_environment(os.environ)
    ended = subprocess.run(
        argv, cwd=path, env=environment, input=text, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise CommitRefused(message=ended.stderr)


def _stage(worktree: WorktreeState, status: GitStatus) -> bool:
    """Stage everything; return whether anything differs from HEAD."""
    if status.conflicts:
        raise _open_conflicts(status.conflicts)
    if status.differs and worktree.confined:
        _refuse_large(worktree, status.changed)
        _stage_paths(worktree, status)
        if any(map(is_obeyed, status.changed)):
            _refuse_staged_drivers(worktree)
    elif status.differs:
        worktree.git("add", "--sparse", "--all", ":/", settings=DURABLE)
    return status.differs


def _refuse_staged_drivers(worktree: WorktreeState) -> None:
    try:
        worktree.refuse_drivers(worktree.git("diff-index", "--cached", *RAW, "HEAD", "--", *PLACES))
    except GitRefused:
        worktree.git("reset", "--quiet")  # Git LFS would read its address in the index
        raise


def _stage_paths(worktree: WorktreeState, status: GitStatus) -> None:
    """Stage these paths: `git add` would execute git in each submodule, with the configuration there."""
    for options, paths in (
        (("--force-remove",), status.deleted),
        (("--add", "--remove", "--replace"), status.changed),
    ):
        if paths:
            _update_index(worktree, options, paths)


def _update_index(worktree: WorktreeState, options: Sequence[str], paths: Sequence[str]) -> None:
    worktree.git(
        *("update-index", *options, "-z", "--stdin"), stdin="\0".join((*paths, "")), settings=DURABLE
    )


def _open_conflicts(paths: Sequence[str]) -> GitRefused:
    files = ", ".join(paths[:5])
    return GitRefused(
        f"the todo left a merge with conflicts in {files}", "let it resolve them, or exit with an error"
    )


def _merged(worktree: WorktreeState) -> list[str]:
    """Return the other parents of a merge that the todo prepared and did not commit."""
    heads = worktree.git_dir / "MERGE_HEAD"
    return heads.read_text().split() if heads.exists() else []


def identity(path: Path, git_dir: Path | None = None) -> Sequence[str]:
    """Return settings with a name for our own commits; none if the user has a name."""
    options = ("--name-only", "--get-regexp", r"^user\.(name|email)$")
    names = ask("config", *options, cwd=path, git_dir=git_dir).stdout.split()
    return () if {"user.name", "user.email"} <= set(names) else NOBODY


def signing(path: Path) -> Sequence[str]:
    """Return the option of `git commit-tree` that signs, if the user's configuration signs commits."""
    answer = ask("config", "--type=bool", "--get", "commit.gpgSign", cwd=path).stdout.strip()
    return ("--gpg-sign",) if answer == "true" else ()


def commit_tree(path: Path, tree: str, parents: Sequence[str], message: str) -> str:
    """Make a commit without a checkout: durable, with the user's identity, signed as git's configuration
    says. No hook runs.
    """
    options = [option for parent in parents for option in ("-p", parent)] + [*signing(path)]
    settings = (*DURABLE, *identity(path))
    return git("commit-tree", *options, "-F", "-", tree, cwd=path, stdin=message, settings=settings)


def _move(worktree: WorktreeState, new: str, old: str) -> None:
    ref = f"refs/heads/{worktree.branch}"
    worktree.git("update-ref", "-m", "coord: todo succeeded", ref, new, old, settings=DURABLE)
