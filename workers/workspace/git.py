"""Run git independently of the caller's environment and of the user's personal settings.

* Variables that would send git to another repository (a worker started from a hook has GIT_DIR set) are
  removed.
* Personal settings that would run or ask something are overridden. All others apply: filters, line endings
  and excludes give the files the same content as in the checkout. A todo's commit is made with the user's
  hooks (`commit.py`).
* git discovers no repository above its folder. In a worktree and in a submodule it discovers nothing at all:
  a todo can delete or rewrite the `.git` of its worktree, or put a link in its place, and git would then work
  on the checkout above it, or on the repository that is named. So the caller names `git_dir`, which is
  refused if the folder names another one by now.
* A `hold` descriptor goes to git, so that a lock on the worktree outlives a worker that is killed while git
  still writes. With it go the mark and the variables of the attempt, by which processes that git leaves (a
  filter's, say) are found and ended (`orphans.py`). A shell sets the mark and becomes git: a mark set after
  git's start comes too late on a busy machine, and a hook of Python's before exec costs 10 ms.
* git runs in a session of its own: a Ctrl-C at the worker's terminal does not cut a commit in two.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from coordination.bounded import communicate, text_of
from coordination.disk import full
from coordination.environment import UNATTENDED, without_ours
from coordination.errors import GitRefused
from coordination.git_programs import NO_HOOKS, program_settings
from coordination.processes import has_ended
from workers.process import orphans
from workers.process.trouble import (
    GitInterrupted,
    GitTimeout,
    Trouble,
    trouble_of_error,
    trouble_of_git,
)

REDIRECTING = frozenset(  # git rev-parse --local-env-vars, and others that change where git looks
    """GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_CEILING_DIRECTORIES GIT_COMMON_DIR GIT_CONFIG GIT_CONFIG_COUNT
    GIT_CONFIG_PARAMETERS GIT_DIR GIT_GRAFT_FILE GIT_IMPLICIT_WORK_TREE GIT_INDEX_FILE
    GIT_INTERNAL_SUPER_PREFIX GIT_LITERAL_PATHSPECS GIT_NAMESPACE GIT_NO_REPLACE_OBJECTS GIT_OBJECT_DIRECTORY
    GIT_PREFIX GIT_QUARANTINE_PATH GIT_REPLACE_REF_BASE
    GIT_SHALLOW_FILE GIT_WORK_TREE""".split()  # noqa: SIM905
)
OURS = {
    "LC_ALL": "C",  # we parse some of its messages
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",  # or a mere `status` rewrites the index of the checkout
}
SETTINGS = (
    "advice.addEmbeddedRepo=false",
    "advice.detachedHead=false",
    *NO_HOOKS,
    "core.quotePath=false",
    "core.safecrlf=false",
    "core.useReplaceRefs=false",  # a todo may have made them: a commit is what all other clones have
    "gc.auto=0",
    "http.lowSpeedLimit=1",  # bytes a second: a server that has fallen silent is given up
    "http.lowSpeedTime=60",
    "i18n.commitEncoding=UTF-8",
    "maintenance.auto=false",
    "pack.windowMemory=128m",  # or a push of files that are small only when compressed takes any memory
    "submodule.recurse=false",
)
PATIENCE = timedelta(minutes=10)
"""Longer than the checkout of a huge repository takes; it ends a filter that hangs."""
HOSTILE_PATIENCE = timedelta(minutes=2)
"""The same where a todo in a sandbox has been: one pattern of its `.gitignore` or `.gitattributes` can keep
git busy for years.
"""
END_WITHIN = timedelta(seconds=5)
SET_MARK = '{ ulimit -S -x "$0" || ulimit -S -w "$0"; } 2>/dev/null; exec "$@"'
"""Set the limit of file locks, which dash calls w and other shells x."""


@dataclass(frozen=True, kw_only=True)
class Hold:
    """The lock and the mark that go with git into a folder that one attempt holds."""

    fd: int
    """The descriptor of a flock."""
    marker: orphans.ProcessMarker | None = None
    """The signs of processes that git starts; None without an attempt."""

    @property
    def variables(self) -> dict[str, str]:
        return {orphans.KEY: self.marker.key, orphans.FENCE: self.marker.fence} if self.marker else {}

    def marked(self, command: Sequence[str], env: Mapping[str, str]) -> list[str]:
        """Return the command that first sets the mark. Raises FileNotFoundError if there is no program."""
        if not self.marker or not self.marker.mark:
            return list(command)
        program, *args = command
        found = shutil.which(program, path=env.get("PATH", os.defpath))
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program)
        return ["/bin/sh", "-c", SET_MARK, str(self.marker.mark), found, *args]

    def end_rest(self) -> None:
        """End processes that a git of this hold has left."""
        if self.marker:
            orphans.end(self.marker, END_WITHIN)


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without variables that redirect git, and without coord's own."""
    return without_redirecting(without_ours(environ))


def without_redirecting(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without variables that redirect git, for our git in a todo's environment."""
    return {name: value for name, value in environ.items() if name not in REDIRECTING and not _numbered(name)}


def bounds(folder: Path) -> dict[str, str]:
    """Return the variable that keeps git in or below this folder from finding a repository above it."""
    return {"GIT_CEILING_DIRECTORIES": str(Path(os.path.realpath(folder)).parent)}


def _numbered(name: str) -> bool:
    return name.startswith(("GIT_CONFIG_KEY_", "GIT_CONFIG_VALUE_"))


def git(
    *args: str,
    cwd: Path,
    git_dir: Path | None = None,
    stdin: str = "",
    settings: Sequence[str] = (),
    hold: Hold | None = None,
    patience: timedelta = PATIENCE,
    makes: Path | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return git's output without the last line end; see `answered`."""
    answer = answered(
        *args,
        cwd=cwd,
        git_dir=git_dir,
        stdin=stdin,
        settings=settings,
        hold=hold,
        patience=patience,
        makes=makes,
        variables=variables,
    )
    return answer.stdout.removesuffix("\n")


def answered(
    *args: str,
    cwd: Path,
    git_dir: Path | None = None,
    stdin: str = "",
    settings: Sequence[str] = (),
    hold: Hold | None = None,
    patience: timedelta = PATIENCE,
    makes: Path | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Return git's output and its warnings.

    `git_dir`: that of the worktree or submodule `cwd`. `makes`: a folder elsewhere that this git makes.
    Raises GitRefused with git's own message, GitInterrupted for trouble that passes. A refusal while a disk
    in use is full passes, whatever git says; also if the disk was full when git began, since a git that fails
    removes its files.
    """
    places = [place for place in (cwd, git_dir, makes) if place is not None]
    was_full = full(places)
    answer = ask(
        *args,
        cwd=cwd,
        git_dir=git_dir,
        stdin=stdin,
        settings=settings,
        hold=hold,
        patience=patience,
        variables=variables,
    )
    if answer.returncode:
        message = answer.stderr.strip() or answer.stdout.strip() or f"git ended with {answer.returncode}"
        trouble, full_disk = trouble_of_git(answer.returncode, answer.stderr), was_full or full(places)
        if full_disk and (trouble is None or trouble.is_of_the_folder):
            raise GitInterrupted(Trouble.DISK, f"git {args[0]} in {cwd}: {message}; {full_disk}")
        if trouble is None and git_dir is not None and not is_readable(cwd, git_dir):
            trouble = Trouble.DAMAGED
        if trouble:
            raise GitInterrupted(trouble, f"git {args[0]} in {cwd}: {message}")
        raise GitRefused(f"git {args[0]} in {cwd}: {message}", "fix the cause that git names, then retry")
    return answer


def is_readable(folder: Path, git_dir: Path) -> bool:
    """Return whether git can read the index and HEAD of a worktree or submodule. Each version of git words
    the damage of a file in its own way, so a refusal is told from damage by this question.
    """
    return ask("ls-files", "--", ".git", cwd=folder, git_dir=git_dir).returncode == 0


def ask(
    *args: str,
    cwd: Path,
    git_dir: Path | None = None,
    stdin: str = "",
    settings: Sequence[str] = (),
    hold: Hold | None = None,
    patience: timedelta = PATIENCE,
    looks_above: bool = False,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Run git for a question that it answers by its exit code. Raises GitInterrupted if trouble kept it from
    an answer: `coordination/git.py`, for front ends, takes that for a no.

    `looks_above`: `cwd` may lie within a repository. `variables`: of the access to a remote.
    """
    bounded = {} if looks_above else bounds(cwd)
    if git_dir is not None:
        refuse_damaged(cwd, git_dir)
        bounded |= {"GIT_DIR": str(git_dir), "GIT_WORK_TREE": str(cwd)}
    env = environment({**bounded, **(hold.variables if hold else {}), **variables})
    try:
        command = command_line(args, settings, cwd=cwd, env=env)
        answer = _run(command, stdin, hold, patience, cwd=cwd, env=env)
    except subprocess.TimeoutExpired as error:
        hint = (
            "look for a filter or a credential helper that waits, or for a pattern with many stars in "
            ".gitignore or .gitattributes; then let the todo run again"
        )
        raise GitTimeout(f"git {args[0]} in {cwd} did not end within {patience}", hint) from error
    except OSError as error:
        if not cwd.is_dir():
            hint = "restore it, or correct the path in ecosystem.yaml; the todo is tried again by itself"
            raise GitInterrupted(Trouble.MISSING, f"{cwd} is not a folder", hint) from error
        if (trouble := trouble_of_error(error)) and trouble is not Trouble.MISSING:
            raise GitInterrupted(trouble, f"git cannot be started: {error}") from error
        raise GitRefused(
            f"git cannot be started: {error}", "install git ≥ 2.39 and see that it is in PATH"
        ) from error
    trouble = trouble_of_git(answer.returncode, answer.stderr)
    if trouble and not trouble.is_of_the_folder:  # "no worktree" and "no folder" are answers, too
        message = answer.stderr.strip() or f"ended by signal {-answer.returncode}"
        raise GitInterrupted(trouble, f"git {args[0]} in {cwd}: {message}")
    return answer


def configured(pattern: str, *, cwd: Path, git_dir: Path | None = None) -> dict[str, str]:
    """Return the settings whose names match, without those that our git sets."""
    answer = ask("config", "-z", "--show-scope", "--get-regexp", pattern, cwd=cwd, git_dir=git_dir)
    words = iter(answer.stdout.split("\0"))
    entries = ((scope, *entry.partition("\n")) for scope, entry in zip(words, words, strict=False))
    return {key: value for scope, key, _, value in entries if scope != "command"}


def command_line(
    args: Sequence[str], settings: Sequence[str] = (), *, cwd: Path, env: Mapping[str, str]
) -> list[str]:
    """Return the command with which git runs: independently of the user's personal settings.
    Raises OSError.
    """
    settings = (*SETTINGS, *program_settings(cwd, args, env), *settings)
    return ["git", *(word for setting in settings for word in ("-c", setting)), *args]


def environment(added: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of our git, with these variables."""
    return clean_environment(os.environ) | UNATTENDED | OURS | dict(added)


def _run(
    command: Sequence[str], stdin: str, hold: Hold | None, patience: timedelta, **where: Any
) -> subprocess.CompletedProcess[str]:
    with subprocess.Popen(
        hold.marked(command, where["env"]) if hold else command,
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=(hold.fd,) if hold else (),
        start_new_session=True,
        **where,
    ) as process:

        def look() -> None:
            """End processes that keep the output open when git has ended."""
            if hold and has_ended(process.pid):
                hold.end_rest()

        try:
            sent = stdin.encode(errors="surrogateescape")
            answer = communicate(process, sent, time.monotonic() + patience.total_seconds(), look)
        except BaseException:
            with suppress(ProcessLookupError):  # with its helpers: one may still be talking to a remote
                os.killpg(process.pid, signal.SIGKILL)
            raise
    out, err = (text_of(one, "surrogateescape") for one in answer)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


LONGEST = 8192
"""The most bytes of a `.git` file; a path has 4096 at most."""


def git_dir_of(folder: Path) -> Path | None:
    """Return the git directory that the folder's own `.git` names; None if either is a link, missing or
    damaged. The entry of a worktree must name this folder in turn, and be in the repository that it names.
    """
    try:
        if folder.is_symlink() or folder.parent.is_symlink():
            return None
        file = folder / ".git"
        mode = file.lstat().st_mode
        if stat.S_ISDIR(mode):
            return None if (file / "commondir").exists() else _real(file)
        named = _named(file, "gitdir: ") if stat.S_ISREG(mode) else ""
        if not named:
            return None
        git_dir = _real(folder / named)
        if not (git_dir / "HEAD").is_file():
            return None
        is_entry = (git_dir / "commondir").exists()
        return None if is_entry and not _is_entry_of(git_dir, _real(folder) / ".git") else git_dir
    except (OSError, ValueError):  # ValueError: a NUL in a path
        return None


def refuse_damaged(folder: Path, git_dir: Path) -> None:
    """Raise GitInterrupted (DAMAGED) unless the folder names this git directory."""
    if git_dir_of(folder) != _real(git_dir):
        message = (
            f"{folder} is no longer the worktree that coord made: its .git names no git directory, or another"
        )
        raise GitInterrupted(Trouble.DAMAGED, message)


def _is_entry_of(git_dir: Path, file: Path) -> bool:
    entries = git_dir.parent
    common = _real(git_dir / _named(git_dir / "commondir"))
    return (
        entries.name == "worktrees"
        and common == entries.parent
        and _real(git_dir / _named(git_dir / "gitdir")) == file
    )


def _named(file: Path, prefix: str = "") -> str:
    opened = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a todo may have put a pipe there
    try:
        text = os.read(opened, LONGEST) if stat.S_ISREG(os.fstat(opened).st_mode) else b""
    finally:
        os.close(opened)
    line = os.fsdecode(text).rstrip("\n")
    return line.removeprefix(prefix) if line.startswith(prefix) else ""


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
