"""One attempt of one todo: into its workspace, its command under the guard, what it changed committed.

Nothing here talks to Redis but the log: what an attempt came to is a Conclusion, and `attempts.py` makes a step of it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from coordination.errors import CoordinationError
from coordination.models import Command as Words
from coordination.runs.records import Grant, RunBrief
from coordination.runs.retry import Failure
from workers.beginning import Carried
from workers.child import Child, Exit, start
from workers.context import read_output
from workers.executors import Command, Job, command_for
from workers.executors.seam import argv_of
from workers.folder import Fetch
from workers.git import clean_environment
from workers.logs import Log
from workers.occupancy import Superseded, Visitor, WorkspaceBusy, WorkspaceUnusable, words_for
from workers.scratch import scratch
from workers.workspace import Workspace, workspace_for
from workers.wrote import Wrote

BUSY_PATIENCE = timedelta(seconds=10)
"""How long an attempt holds a worker's slot while the former one's processes are still leaving the workspace."""

SIGNALLED = 128
"""What a shell adds to the signal that has ended a command."""

logger = logging.getLogger(__name__)


class Word(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The todo's own failure: its retry policy decides."""
    REFUSED = "refused"
    """Trying again would change nothing."""
    BUSY = "busy"
    """Somebody is still in the workspace."""
    CANCELLED = "cancelled"
    LOST = "lost"
    """Somebody else may hold the todo by now."""
    SUPERSEDED = "superseded"
    """Somebody else holds it or did: what this attempt would write was refused."""
    HANDED_BACK = "handed back"


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    word: Word
    why: str = ""
    exit_code: int | None = None
    output: str = ""
    tip: str = ""
    since: str = ""
    """The commit that it began with."""
    failure: Failure | None = None
    """As its retry policy sees it, where it was the todo's command that failed."""
    again: timedelta | None = None
    """The delay before another try, where its retry policy wants one."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What an attempt finds on this machine."""

    brief: RunBrief
    context: Callable[[], Mapping[str, Any]]
    """Made when the workspace is entered; may take as long as a commit takes to be carried here."""
    state: Path
    checkout: Path
    output_limit_bytes: int
    fetch: Fetch | None = None
    """Brings a commit of another host."""


class Attempt:
    """`run` carries it out; `stop` may be called from any thread, and the first word counts."""

    def __init__(self, grant: Grant, surroundings: Surroundings, log: Log) -> None:
        self.grant = grant
        self._here = surroundings
        self._log = log
        self._wrote = Wrote(log)
        self._guard = threading.Lock()
        self._stopped: Word | None = None
        self._at_once = False
        self._child: Child | None = None

    def stop(self, word: Word, *, at_once: bool = False) -> None:
        with self._guard:
            self._stopped = self._stopped or word
            child = self._child
            self._at_once = self._at_once or at_once
        if child is not None:
            self._end(child)

    def say(self, line: str) -> None:
        self._log.say(line)

    def run(self) -> Conclusion:
        try:
            return self._in_workspace()
        except WorkspaceBusy as busy:
            return Conclusion(word=Word.BUSY, why=_plain(busy.message))
        except Superseded as superseded:
            return Conclusion(word=Word.SUPERSEDED, why=superseded.message)
        except WorkspaceUnusable as unusable:  # a full disk may have room again at the next try
            return self._error(Word.FAILED, unusable)
        except CoordinationError as refused:
            return self._error(Word.REFUSED, refused)

    def _error(self, word: Word, error: CoordinationError) -> Conclusion:
        why = _plain(str(error))
        self._log.say(f"error: {why}")
        return Conclusion(word=self._stopped or word, why=why)

    def _in_workspace(self) -> Conclusion:
        workspace = self._workspace()
        since = workspace.enter(self._visitor, self.grant.tip, BUSY_PATIENCE)
        try:
            if workspace.begun:
                self._log.say(workspace.begun)
            failed = self._prepare(workspace)
            return failed or self._perform(workspace, since)
        finally:
            workspace.leave()

    def _workspace(self) -> Workspace:
        return workspace_for(
            state=self._here.state,
            run=self.grant.run_id,
            repo=self.grant.spec.repo,
            checkout=self._here.checkout,
            wanted=self.grant.spec.todo.workspace,
            fetch=self._here.fetch,
            carried=self._carried,
        )

    @property
    def _carried(self) -> Carried | None:
        brief = self._here.brief
        if not brief.carried_from:
            return None
        return Carried(runs=brief.carried_from, tip=brief.carried_tips.get(self.grant.spec.repo.name))

    @property
    def _visitor(self) -> Visitor:
        return Visitor(run=self.grant.run_id, key=self._key, fence=self.grant.fence)

    def _prepare(self, workspace: Workspace) -> Conclusion | None:
        prepare = self.grant.spec.repo.prepare
        if prepare is None or not workspace.needs_prepare:
            return None
        self._log.say(f"prepare: {_shown(prepare)}")
        ended = self._command(workspace, Command(argv=argv_of(prepare)), self._environment(workspace))
        if not ended.ok:
            return self._failure(ended, "prepare: ")
        workspace.mark_prepared()
        return None

    def _perform(self, workspace: Workspace, since: str) -> Conclusion:
        told = json.dumps(self._here.context())  # ASCII: JSON can say what UTF-8 cannot
        if self._stopped is not None:
            return Conclusion(word=self._stopped)
        with scratch(self._here.state) as folder:
            context, output = folder / "context.json", folder / "output.json"
            with words_for(folder):
                context.write_text(told)
            environment = self._environment(workspace) | {"COORD_CONTEXT": str(context), "COORD_OUTPUT": str(output)}
            job = Job(
                todo=self.grant.spec.todo,
                repo=self.grant.spec.repo,
                cwd=workspace.path,
                env=environment,
                context=context,
                output=output,
                agent_command=self._here.brief.agent_command,
            )
            ended = self._command(workspace, command_for(job), environment)
            if not ended.ok:
                return self._failure(ended)
            written = read_output(output, self._here.output_limit_bytes)
        if self._stopped is not None:  # at the last moment: what it did is not kept
            return Conclusion(word=self._stopped, exit_code=0)
        tip = workspace.commit(self.grant.todo_id, self.grant.spec.todo.task)
        # Whoever stops it from here on comes too late: it is done, and the fence decides whether that counts.
        return Conclusion(word=Word.SUCCEEDED, exit_code=0, output=written, tip=tip, since=since)

    def take_back(self) -> None:
        """The step was refused, so the commit counts for nothing: it must not stand on the branch as if it did."""
        try:
            self._workspace().take_back(self._visitor, self.grant.tip)
        except CoordinationError as error:
            logger.info("%s of run %s: %s", self.grant.todo_id, self.grant.run_id, _plain(error.message))

    def _command(self, workspace: Workspace, command: Command, environment: Mapping[str, str]) -> Exit:
        child = start(
            command.argv,
            cwd=workspace.path,
            env=environment,
            stdin=command.stdin,
            timeout=self.grant.spec.timeout,
            kill_grace=self._here.brief.kill_grace,
            on_output=self._wrote.take,
            hold=workspace.hold,
        )
        with self._guard:
            self._child = child
        try:
            workspace.note(child)
        except CoordinationError:  # the disk is full: nothing of it may be alive when the workspace is left
            child.kill()
            child.wait()
            raise
        if self._stopped is not None:  # before there was a child to stop
            self._end(child)
        return child.wait()

    def _end(self, child: Child) -> None:
        (child.kill if self._at_once else child.stop)(str(self._stopped))

    def _failure(self, ended: Exit, what: str = "") -> Conclusion:
        words = f"{what}{_words(ended, self.grant.spec.timeout)}"
        self._log.say(words)
        return Conclusion(
            word=self._stopped or Word.FAILED, why=words, exit_code=ended.exit_code, failure=self._signs(ended)
        )

    def _signs(self, ended: Exit) -> Failure | None:
        """The code counts only of a command that ended by itself, and a signal as a shell tells of it."""
        if ended.reason == "timeout":
            return Failure(timeout=True, shows=self._wrote.shows)
        if ended.reason != "exited":
            return None
        code = ended.exit_code if ended.signal is None else SIGNALLED + ended.signal
        return Failure(exit_code=code, shows=self._wrote.shows)

    def _environment(self, workspace: Workspace) -> dict[str, str]:
        grant, todo = self.grant, self.grant.spec.todo
        ours = {
            "COORD_RUN_ID": grant.run_id,
            "COORD_PLAN_ID": self._here.brief.plan_id,
            "COORD_TODO_ID": grant.todo_id,
            "COORD_REPO": grant.spec.repo.name,
            "COORD_REPO_PATH": str(workspace.path),
            "COORD_ATTEMPT": str(grant.attempt),
            "COORD_FENCE": str(grant.fence),
            "COORD_IDEMPOTENCY_KEY": self._key,
        }
        own = {name: str(value) for name, value in todo.env.items()}
        return clean_environment(os.environ) | own | ours | workspace.environment

    @property
    def _key(self) -> str:
        """The same for every attempt: what a todo does outside can be recognised as done before."""
        return f"{self.grant.run_id}/{self.grant.todo_id}"


def _plain(text: str) -> str:
    """What git says of a file whose name is no UTF-8 can be neither logged nor sent as it is."""
    return text.encode(errors="replace").decode()


def _words(ended: Exit, timeout: timedelta) -> str:
    if ended.reason == "timeout":
        return f"timeout after {timeout.total_seconds():g} s"
    if ended.reason != "exited":
        return ended.reason
    if ended.message:
        return ended.message
    return f"exit code {ended.exit_code}" if ended.signal is None else f"killed by signal {ended.signal}"


def _shown(command: Words) -> str:
    return command if isinstance(command, str) else " ".join(command)
