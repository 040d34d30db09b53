"""One attempt of one todo: into its workspace, its command under the guard, and kept what it did. What is done stands in `deeds/`.

Nothing here talks to Redis but the log: what an attempt came to is a Conclusion, and `delivery.py` makes a step of it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from coordination.disk import full
from coordination.environment import UNATTENDED
from coordination.errors import CoordinationError, GitRefused
from coordination.files import open_private
from coordination.models import Command as Words
from coordination.models import NoopAction
from coordination.runs.records import Blame, Grant
from workers import outcome as ending
from workers.actions import action_of
from workers.attempt_environment import AttemptEnvironment
from workers.checkpoints import Checkpoint
from workers.context import LeaseLost
from workers.executors import Command, Job, command_for
from workers.executors.seam import argv_of
from workers.logs import Log
from workers.outcome import AttemptOutcome, OutcomeKind, OutputTail
from workers.process.child import GUARD_LOST, Child, Exit, start
from workers.transfer.bundles import NotCarried, sentence
from workers.transfer.commits import PathMissing
from workers.workspace.base_commit import Unmergeable
from workers.workspace.commit import CommitRefused, CommitStyle
from workers.workspace.files import scratch
from workers.workspace.git import clean_environment, without_redirecting
from workers.workspace.interface import Workspace, workspace_for
from workers.workspace.lock import LockRequest, Superseded, WorkspaceBusy, WorkspaceUnusable, describe_os_error
from workers.workspace.trouble import GitInterrupted, Trouble, trouble_of_git

BUSY_PATIENCE = timedelta(seconds=10)
"""How long an attempt holds a worker's slot while the former one's processes are still leaving the workspace."""

OUTPUT = "output.json"
LAST_WORDS = 500
"""Of git, in an error: so many characters."""

logger = logging.getLogger(__name__)


class Attempt:
    """`run` carries it out; `stop` may be called from any thread, and the first word counts."""

    def __init__(self, grant: Grant, attempt_environment: AttemptEnvironment, log: Log) -> None:
        self.grant = grant
        self._here = attempt_environment
        self._log = log
        self._output_tail = OutputTail(log)
        self._guard = threading.Lock()
        self._action = action_of(grant, attempt_environment, log.say)
        self.checkpoint = Checkpoint(attempt_environment.output_limit_bytes)
        self._stopped: OutcomeKind | None = None
        self._at_once = False
        self._child: Child | None = None
        self._begun = False
        """The todo's own command."""
        self._preparing = False
        """Or at least `prepare`, which is the repository's."""
        self._was_full = ""
        """In words, the disk that was full when its last command began."""

    def stop(self, word: OutcomeKind, *, at_once: bool = False) -> None:
        with self._guard:
            self._stopped = self._stopped or word
            child = self._child
            self._at_once = self._at_once or at_once
        if child is not None:
            self._end(child)

    def say(self, line: str) -> None:
        self._log.say(line)

    def run(self) -> AttemptOutcome:
        """What it came to; `delivery.py` makes a step of it."""
        concluded = self._concluded()
        return concluded if concluded.word is OutcomeKind.SUCCEEDED else replace(concluded, output=self.checkpoint.left)

    def _concluded(self) -> AttemptOutcome:
        try:
            with describe_os_error(self._here.state):
                return self._carry_out()
        except WorkspaceBusy as busy:
            return AttemptOutcome(word=OutcomeKind.BUSY, why=_plain(busy.message))
        except Superseded as superseded:
            return AttemptOutcome(word=OutcomeKind.SUPERSEDED, why=superseded.message)
        except LeaseLost as lost:
            return AttemptOutcome(word=OutcomeKind.LOST, why=lost.message)
        except (GitInterrupted, WorkspaceUnusable) as hindered:
            if hindered.trouble is None:
                return self._error(OutcomeKind.FAILED, hindered)
            return self._hindered(hindered.trouble, hindered.message)
        except PathMissing as missing:  # and goes on when it is there
            return self._waiting(missing.message)
        except NotCarried as passing:  # a remote may answer at the next try
            return self._error(OutcomeKind.FAILED, passing)
        except CoordinationError as refused:
            return self._error(OutcomeKind.REFUSED, refused)

    def _error(self, word: OutcomeKind, error: CoordinationError) -> AttemptOutcome:
        why = _plain(str(error))
        self._log.say(f"error: {why}")
        return AttemptOutcome(
            word=self._stopped or word, why=why, blame="worker" if self._is_of_the_worker(error) else ""
        )

    def _hindered(self, trouble: Trouble, words: str) -> AttemptOutcome:
        """What passes; a folder that the todo's own command may have taken away is not made anew for ever."""
        limited = (self._begun or self._preparing) and trouble.is_of_the_folder and self._here.checkout.is_dir()
        why = sentence(words)
        self._log.say(f"hindered: {why}")
        blame: Blame = "" if limited else "worker"
        return AttemptOutcome(word=self._stopped or OutcomeKind.HINDERED, why=why, blame=blame, limited=limited)

    def _waiting(self, words: str) -> AttemptOutcome:
        self._log.say(f"waits for {words}")
        return AttemptOutcome(word=self._stopped or OutcomeKind.HINDERED, why=words)

    def _is_of_the_worker(self, error: CoordinationError) -> bool:
        """What git refuses once the todo's command has begun may be that command's doing; a merge is a matter of what was committed."""
        if isinstance(error, WorkspaceUnusable):
            return True
        return isinstance(error, GitRefused) and not isinstance(error, Unmergeable) and not self._begun

    def _carry_out(self) -> AttemptOutcome:
        if isinstance(self.grant.spec.todo.action, NoopAction) and self.grant.undo is None:
            return AttemptOutcome(word=self._stopped or OutcomeKind.SUCCEEDED)
        if self._action.has_command():
            concluded = self._in(self._workspace())
        else:
            concluded = AttemptOutcome(word=self._stopped or OutcomeKind.SUCCEEDED)
        if concluded.word is OutcomeKind.SUCCEEDED:
            self._action.on_released()
        return concluded

    def _in(self, workspace: Workspace) -> AttemptOutcome:
        since = workspace.enter(self._visitor, self.grant.tip, BUSY_PATIENCE)
        try:
            if workspace.begun:
                self._log.say(workspace.begun)
            done = self._recalled(workspace, since) or self._prepare(workspace) or self._recalled(workspace, since)
            return done or self._perform(workspace, since)
        finally:
            workspace.leave()

    def _recalled(self, workspace: Workspace, since: str) -> AttemptOutcome | None:
        return None if self._stopped else self._action.recalled(workspace, since)

    def _workspace(self) -> Workspace:
        return workspace_for(
            state=self._here.state,
            run=self.grant.run_id,
            repo=self.grant.spec.repo,
            checkout=self._here.checkout,
            wanted=self.grant.spec.todo.workspace,
            fetch=self._here.fetch,
            carried=self._here.carried(self.grant.spec.repo.name),
            style=CommitStyle(
                plan=self._here.brief.plan_id,
                message=self._here.brief.commit_message,
                hooks=self._here.brief.commit_hooks == "run",
            ),
            git_commit=self._git_commit,
        )

    def _git_commit(self, workspace: Workspace, argv: Sequence[str], text: str) -> None:
        """Commit under the guard: what hooks write goes to the log, and one that hangs meets the todo's timeout."""
        if self._here.brief.commit_hooks == "skip":
            self._log.say("commit: no git hooks run, for the setting commit_hooks is skip")
        self._output_tail.forget()
        stdin = text.encode(errors="surrogateescape")
        # A todo's own GIT_DIR or GIT_INDEX_FILE is for its command: this commit is made in the worktree.
        environment = without_redirecting(self._environment(workspace)) | workspace.bounds | workspace.environment
        ended = self._command(workspace, Command(argv=tuple(argv), stdin=stdin), environment)
        if ended.ok:
            return
        code = ended.exit_code if ended.signal is None else -ended.signal
        if ended.reason == "exited" and code and (trouble := trouble_of_git(code, self._output_tail.tail)):
            words = self._output_tail.tail.strip()[-LAST_WORDS:] or f"git ended with {code}"
            if trouble.is_of_the_folder and (lacks := self._was_full or full(self._disks(workspace))):
                trouble, words = Trouble.DISK, f"{words}; {lacks}"
            raise GitInterrupted(trouble, f"git commit in {workspace.path}: {words}")
        raise CommitRefused(ended)

    @property
    def _visitor(self) -> LockRequest:
        return LockRequest(run=self.grant.run_id, key=self._action.key, fence=self.grant.fence)

    def _prepare(self, workspace: Workspace) -> AttemptOutcome | None:
        prepare = self.grant.spec.repo.prepare
        if prepare is None or not workspace.needs_prepare:
            return None
        self._log.say(f"prepare: {_shown(prepare)}")
        self._preparing = True
        ended = self._command(workspace, Command(argv=argv_of(prepare)), self._environment(workspace))
        if not ended.ok:
            return replace(self._failure(workspace, ended, "prepare: "), blame="worker")
        workspace.mark_prepared()
        return None

    def _perform(self, workspace: Workspace, since: str) -> AttemptOutcome:
        told = json.dumps(self._here.context())  # ASCII: JSON can say what UTF-8 cannot
        if self._stopped is not None:
            return AttemptOutcome(word=self._stopped)
        with (
            scratch(self._here.state) as folder,
            self.checkpoint.watching(folder / OUTPUT),
            self._serving(folder) as connection,
        ):
            context, output, former = folder / "context.json", folder / OUTPUT, folder / "checkpoint.json"
            with describe_os_error(folder):
                _write(context, told)
                _write(former, self.grant.checkpoint or "null")
            undone = self._action.undone(folder)
            files = {"COORD_CONTEXT": context, "COORD_OUTPUT": output, "COORD_CHECKPOINT": former}
            files |= {"COORD_CONNECTION": connection}
            environment = self._environment(workspace) | {name: str(file) for name, file in files.items()}
            environment |= undone.environment if undone else {}
            job = Job(
                todo=self.grant.spec.todo,
                repo=self.grant.spec.repo,
                cwd=workspace.path,
                env=environment,
                context=context,
                output=output,
                checkpoint=former if self.grant.checkpoint and undone is None else None,
                agent_command=self._here.brief.agent_command,
                undone=undone,
            )
            self._begun = True
            ended = self._command(workspace, command_for(job), environment)
            if not ended.ok:
                return self._failure(workspace, ended)
            if self._stopped is not None:  # at the last moment: what it did is not kept
                return AttemptOutcome(word=self._stopped, exit_code=0)
            return self._kept(workspace, output, since)

    def _kept(self, workspace: Workspace, output: Path, since: str) -> AttemptOutcome:
        try:
            kept = self._action.keep(workspace, output, since)
            for words in workspace.not_carried() if kept.tip else ():
                self._log.say(words)
            return kept
        except CommitRefused as refused:
            if refused.ended is None:
                raise
            return self._failure(workspace, refused.ended, "git hooks, or what signs commits, refused the commit: ")

    @contextmanager
    def _serving(self, folder: Path) -> Iterator[Path]:
        """The file of COORD_CONNECTION, while the shared context is to be had there. Raises WorkspaceUnusable."""
        file = folder / "connection.json"
        with ExitStack() as until:
            with describe_os_error(folder):
                _write(file, until.enter_context(self._here.connection()))
            yield file

    def on_accepted(self) -> None:
        """Its success was accepted."""
        self._action.on_accepted()

    def close(self) -> None:
        self._action.close()

    def take_back(self) -> None:
        """The step was refused, so the commit counts for nothing: it must not stand on the branch as if it did."""
        try:
            self._workspace().take_back(self._visitor, self.grant.tip)
        except CoordinationError as error:
            logger.info("%s of run %s: %s", self.grant.todo_id, self.grant.run_id, _plain(error.message))

    def _command(self, workspace: Workspace, command: Command, environment: Mapping[str, str]) -> Exit:
        self._was_full = full(self._disks(workspace))
        child = start(
            command.argv,
            cwd=workspace.path,
            env=environment,
            stdin=command.stdin,
            timeout=self.grant.spec.timeout,
            kill_grace=self._here.brief.kill_grace,
            on_output=self._output_tail.take,
            hold=workspace.hold.fd,
            mark=workspace.mark,
            masked=self._log.masked,
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

    def _lost_ground(self, workspace: Workspace) -> str:
        """Why a command may have failed through no fault of its own: it cannot tell us."""
        if not workspace.there:
            return f"{workspace.path} is gone, or its .git is not the one that coord made"
        lacks = self._was_full or full(self._disks(workspace))
        if lacks:
            workspace.make_room()
        return lacks

    def _disks(self, workspace: Workspace) -> tuple[Path, ...]:
        return workspace.path, self._here.state, self._here.checkout

    def _failure(self, workspace: Workspace, ended: Exit, what: str = "") -> AttemptOutcome:
        words = self._action.explained(f"{what}{ending.words(ended, self.grant.spec.timeout)}")
        guard_lost = ended.reason == GUARD_LOST
        if why := ended.message if guard_lost else self._lost_ground(workspace):
            words = f"{words}: {why}"
            self._log.say(f"hindered: {words}")
            return AttemptOutcome(
                word=self._stopped or OutcomeKind.HINDERED,
                why=words,
                exit_code=ended.exit_code,
                limited=not self._was_full,  # what fills the disk by itself finds room when it begins
                blame="worker" if guard_lost else "",
            )
        self._log.say(words)
        signs = ending.failure_from_exit(ended, self._output_tail.shows)
        return AttemptOutcome(
            word=self._stopped or OutcomeKind.FAILED, why=words, exit_code=ended.exit_code, failure=signs
        )

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
            "COORD_IDEMPOTENCY_KEY": self._action.key,
        }
        own = {name: str(value) for name, value in todo.env.items()}
        return clean_environment(os.environ) | UNATTENDED | workspace.bounds | own | ours | workspace.environment


def _write(file: Path, text: str) -> None:
    with open_private(file) as new:
        new.write(text)


def _plain(text: str) -> str:
    """What git says of a file whose name is no UTF-8 can be neither logged nor sent as it is."""
    return text.encode(errors="replace").decode()


def _shown(command: Words) -> str:
    return command if isinstance(command, str) else " ".join(command)
