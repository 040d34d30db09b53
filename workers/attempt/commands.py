"""Run the commands of an attempt under the guard: `prepare`, the todo's own, and `git commit` with its
hooks.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event

from coordination.cache.connection import Connection
from coordination.dependencies.command import fits_a_line
from coordination.disk import full
from coordination.environment import UNATTENDED
from coordination.errors import CoordinationError
from coordination.runs.replies import Grant
from coordination.sandbox import Binds, Bounds
from workers.attempt.environment import AttemptEnvironment
from workers.attempt.executors import Command
from workers.attempt.logs import Log
from workers.outcome import OutcomeKind
from workers.process.child import Child, Exit, start
from workers.process.trouble import GitInterrupted, Trouble, trouble_of_git
from workers.sandbox import Confined, Confinement
from workers.workspace.base import Workspace
from workers.workspace.commit import CommitRefused
from workers.workspace.git import clean_environment, without_redirecting

GIT_OUTPUT_SHOWN = 500
"""Characters of git's output in an error."""
KEPT_BYTES = 64 * 1024
NO_BINDS = Binds()
SEARCH_S = 2.0
"""For all patterns of one failure together; one costs 25 ms."""


class OutputTail:
    """Pass a command's output to the log, and keep the end of it for the patterns of a retry policy."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._mask = log.masker.stream()
        self._tail = bytearray()
        self._cut = False
        self._until: float | None = None

    def take(self, data: bytes) -> None:
        self._keep(self._mask.feed(data))

    def begin(self) -> None:
        """Start masking the output of a command, with the secrets that the attempt has by now."""
        self._mask = self._log.masker.stream()

    def end(self) -> None:
        """Write the end of the output, held back because it may have been the beginning of a secret."""
        self._keep(self._mask.end())

    def _keep(self, data: bytes) -> None:
        self._log.write(data)
        self._tail += data
        if len(self._tail) > 2 * KEPT_BYTES:  # seldom: a cut moves the whole tail
            self._trim()

    def forget(self) -> None:
        """Forget the output so far: another command begins."""
        self._tail.clear()
        self._cut = False

    @property
    def tail(self) -> str:
        return self._tail[-KEPT_BYTES:].decode(errors="replace")

    def shows(self, pattern: str) -> bool:
        """Return whether a line matches. A search that takes too long counts as no, and the log says so."""
        if len(self._tail) > KEPT_BYTES:
            self._trim()
        self._until = self._until or time.monotonic() + SEARCH_S
        fits = fits_a_line(pattern, self._lines(), until=self._until, stopped=Event())
        if fits is None:
            self._log.line(
                f"the search for {pattern!r} in the output takes too long: make the pattern simpler"
            )
        return bool(fits)

    def _trim(self) -> None:
        del self._tail[:-KEPT_BYTES]
        self._cut = True

    def _lines(self) -> bytes:
        """Return whole lines: a cut may have left a part of the first."""
        return bytes(self._tail[self._tail.find(b"\n") + 1 :] if self._cut else self._tail)


class AttemptCommands:
    """`run` executes one command at a time; `stop` may be called from any thread, and its first reason
    counts.
    """

    def __init__(self, grant: Grant, env: AttemptEnvironment, log: Log, *, key: str) -> None:
        """`key`: the value of COORD_IDEMPOTENCY_KEY."""
        self._grant = grant
        self._env = env
        self._log = log
        self._key = key
        self._guard = threading.Lock()
        self._child: Child | None = None
        self._at_once = False
        self.confinement: Confinement | None = None
        """The sandbox of all commands of the attempt; None: they run without one."""
        self.stopped: OutcomeKind | None = None
        self.output_tail = OutputTail(log)
        self.was_full = ""
        """The disk that was full when the last command began, for people; empty if none was."""

    @property
    def bounds(self) -> Bounds | None:
        """Return the bounds of the attempt's sandbox; None without one."""
        return self.confinement.bounds if self.confinement else None

    def stop(self, kind: OutcomeKind, *, at_once: bool = False) -> None:
        """End the command, with this kind of outcome."""
        with self._guard:
            self.stopped = self.stopped or kind
            child = self._child
            self._at_once = self._at_once or at_once
        if child is not None:
            self._end(child)

    def run(
        self,
        workspace: Workspace,
        command: Command,
        environment: Mapping[str, str],
        binds: Binds = NO_BINDS,
    ) -> Exit:
        """Run the command in the attempt's sandbox, if it has one. `binds`: what it needs there besides the
        workspace.
        """
        if self.confinement is None:
            return self._run(workspace, command, Confined(argv=command.argv, environment=environment))
        binds = workspace.binds + binds
        with self.confinement.around(command.argv, environment, workspace.path, binds) as confined:
            return self._run(workspace, command, confined)

    def _run(self, workspace: Workspace, command: Command, confined: Confined) -> Exit:
        self.was_full = full(self._disks(workspace))
        self.output_tail.begin()
        child = start(
            confined.argv,
            cwd=workspace.path,
            env=confined.environment,
            stdin=command.stdin,
            timeout=self._grant.spec.timeout,
            kill_grace=self._env.brief.kill_grace,
            on_output=self.output_tail.take,
            hold=workspace.hold.fd,
            mark=workspace.mark,
            masked=self._log.masked,
            limits=confined.limits,
        )
        with self._guard:
            self._child = child
        try:
            workspace.note(child)
        except CoordinationError:
            # The disk is full: no process of it may be alive when the workspace is left.
            child.kill()
            child.wait()
            raise
        if self.stopped is not None:  # before there was a child to stop
            self._end(child)
        try:
            return child.wait()
        finally:
            self.output_tail.end()

    def sandbox_binds(self, folder: Path, connection: Path) -> Binds:
        """Return what the todo's command needs in a sandbox: its files, the socket of its context, and the
        files of its predecessors.
        """
        if self.confinement is None:
            return NO_BINDS
        text = connection.read_text()
        sockets = (Path(Connection.model_validate_json(text).socket),) if text else ()
        predecessors = self._env.context().get("predecessors", ())
        paths = (Path(one["path"]) for one in predecessors if one.get("path"))
        return Binds(readable=tuple(path for path in paths if path.is_dir()), writable=(folder, *sockets))

    def git_commit(self, workspace: Workspace, argv: Sequence[str], text: str) -> None:
        """Commit under the guard: hooks' output goes to the log, and the todo's timeout ends them."""
        if self._env.brief.commit_hooks == "skip":
            self._log.line("commit: no git hooks run, because the setting commit_hooks is skip")
        self.output_tail.forget()
        stdin = text.encode(errors="surrogateescape")
        # A todo's own GIT_DIR or GIT_INDEX_FILE is for its command; this commit is made in the worktree.
        environment = (
            without_redirecting(self.environment(workspace)) | workspace.bounds | workspace.environment
        )
        ended = self.run(workspace, Command(argv=tuple(argv), stdin=stdin), environment)
        if ended.ok:
            return
        code = ended.exit_code if ended.signal is None else -ended.signal
        if ended.reason == "exited" and code and (trouble := trouble_of_git(code, self.output_tail.tail)):
            cause = self.output_tail.tail.strip()[-GIT_OUTPUT_SHOWN:] or f"git ended with {code}"
            if trouble.is_of_the_folder and (full_disk := self.full_disk(workspace)):
                trouble, cause = Trouble.DISK, f"{cause}; {full_disk}"
            raise GitInterrupted(trouble, f"git commit in {workspace.path}: {cause}")
        raise CommitRefused(ended)

    def full_disk(self, workspace: Workspace) -> str:
        """Return the disk that is full, or was when the last command began; empty if none."""
        return self.was_full or full(self._disks(workspace))

    def environment(self, workspace: Workspace) -> dict[str, str]:
        """Return the environment of a command in the workspace."""
        grant, todo = self._grant, self._grant.spec.todo
        ours = {
            "COORD_RUN_ID": grant.run_id,
            "COORD_PLAN_ID": self._env.brief.plan_id,
            "COORD_TODO_ID": grant.todo_id,
            "COORD_REPO": grant.spec.repo.name,
            "COORD_REPO_PATH": str(workspace.path),
            "COORD_ATTEMPT": str(grant.attempt),
            "COORD_FENCE": str(grant.fence),
            "COORD_IDEMPOTENCY_KEY": self._key,
        }
        own = {name: str(value) for name, value in todo.env.items()}
        return (
            clean_environment(os.environ) | UNATTENDED | workspace.bounds | own | ours | workspace.environment
        )

    def _end(self, child: Child) -> None:
        (child.kill if self._at_once else child.stop)(str(self.stopped))

    def _disks(self, workspace: Workspace) -> tuple[Path, ...]:
        return workspace.path, self._env.state, self._env.checkout
