"""Execute one attempt of a todo: enter its workspace, run its command under the guard, keep its result.

Nothing here talks to Redis but the log: `outcome_steps.py` takes the step that the outcome asks for,
`actions.py` says what differs between running a todo and compensating it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from coordination.cache.connection import Connection
from coordination.errors import CoordinationError, GitRefused, NotAllowed
from coordination.files import open_private
from coordination.models import Command as CommandLine
from coordination.models import LandCheck, NoopAction, argv_of
from coordination.runs.records import Blame, WaitReason
from coordination.runs.replies import Grant
from coordination.sandbox import Binds
from workers.attempt.actions import action_of, style_of
from workers.attempt.commands import AttemptCommands
from workers.attempt.context import LeaseLost, PathMissing
from workers.attempt.environment import AttemptEnvironment
from workers.attempt.executors import Command, Job, command_for
from workers.attempt.in_process import check_grant, execute_in_process
from workers.attempt.logs import Log
from workers.attempt.output import Checkpoint
from workers.credentials import SecretsMissing, write_secrets
from workers.outcome import AttemptOutcome, OutcomeKind, describe_exit, failure_from_exit
from workers.process.child import GUARD_LOST, Exit
from workers.process.trouble import GitInterrupted, Trouble, WorkspaceUnusable, describe_os_error
from workers.transfer.bundles import NotCarried, sentence
from workers.workspace.base import Workspace
from workers.workspace.base_commit import Unmergeable
from workers.workspace.choice import workspace_for
from workers.workspace.commit import CommitRefused
from workers.workspace.files import scratch
from workers.workspace.lock import LockRequest, Superseded, WorkspaceBusy

BUSY_PATIENCE = timedelta(seconds=10)
"""How long an attempt keeps a worker's slot while processes of the former one are leaving the workspace."""

OUTPUT = "output.json"

logger = logging.getLogger(__name__)


class Attempt:
    """`run` executes it; `stop` may be called from any thread, and the first reason counts."""

    def __init__(self, grant: Grant, here: AttemptEnvironment, log: Log) -> None:
        self.grant = grant
        self._here = here
        self._log = log
        self._action = action_of(grant, here, log, lambda: self._commands.bounds)
        self._commands = AttemptCommands(grant, here, log, key=self._action.key)
        self._secrets = here.secrets
        self.checkpoint = Checkpoint(here.output_limit_bytes, log.masked_json)
        self._begun = False
        """True if the todo's own command has begun."""
        self._preparing = False
        self._part: Attempt | None = None  # a check that runs again within a landing
        """True if the repository's `prepare` has begun."""

    def stop(self, kind: OutcomeKind, *, at_once: bool = False) -> None:
        """End the command, with this kind of outcome."""
        self._commands.stop(kind, at_once=at_once)
        if (part := self._part) is not None:
            part.stop(kind, at_once=at_once)

    def say(self, line: str) -> None:
        self._log.say(line)

    def run(self) -> AttemptOutcome:
        """Execute the attempt; return its outcome."""
        outcome = self._outcome()
        if outcome.kind is OutcomeKind.SUCCEEDED or outcome.output:
            return outcome
        return replace(outcome, output=self.checkpoint.left)

    def _outcome(self) -> AttemptOutcome:
        try:
            with describe_os_error(self._here.state):
                return self._carry_out()
        except WorkspaceBusy as busy:
            return AttemptOutcome(kind=OutcomeKind.BUSY, why=_plain(busy.message))
        except Superseded as superseded:
            return AttemptOutcome(kind=OutcomeKind.SUPERSEDED, why=superseded.message)
        except LeaseLost as lost:
            return AttemptOutcome(kind=OutcomeKind.LOST, why=lost.message)
        except (GitInterrupted, WorkspaceUnusable) as hindered:
            if hindered.trouble is None:
                return self._error(OutcomeKind.FAILED, hindered)
            return self._hindered(hindered.trouble, hindered.message)
        except (PathMissing, SecretsMissing) as missing:  # the todo goes on when it is there
            return self._waiting(missing.message)
        except NotCarried as passing:  # a remote may answer at the next try
            return self._error(OutcomeKind.FAILED, passing)
        except CoordinationError as refused:
            return self._error(OutcomeKind.REFUSED, refused)

    def _error(self, kind: OutcomeKind, error: CoordinationError) -> AttemptOutcome:
        why = _plain(str(error))
        if isinstance(error, Unmergeable) and error.waits:
            return self._waiting(f"a merge: {why}", WaitReason.BASE)
        self._log.say(f"error: {why}")
        return AttemptOutcome(kind=self._commands.stopped or kind, why=why, blame=self._blame_for(error))

    def _hindered(self, trouble: Trouble, words: str) -> AttemptOutcome:
        """Return the outcome of trouble that passes, limited if the todo's command may have caused it."""
        limited = (
            (self._begun or self._preparing) and trouble.is_of_the_folder and self._here.checkout.is_dir()
        )
        why = sentence(words)
        self._log.say(f"hindered: {why}")
        blame: Blame = "" if limited else "worker"
        return AttemptOutcome(
            kind=self._commands.stopped or OutcomeKind.HINDERED, why=why, blame=blame, limited=limited
        )

    def _waiting(self, words: str, reason: WaitReason = WaitReason.TROUBLE) -> AttemptOutcome:
        self._log.say(f"waits for {words}")
        return AttemptOutcome(kind=self._commands.stopped or OutcomeKind.HINDERED, why=words, reason=reason)

    def _blame_for(self, error: CoordinationError) -> Blame:
        """Return `worker` where the todo cannot have caused the error: git refused before its command began,
        and not a merge of commits. A refused signature says nothing of either.
        """
        if isinstance(error, NotAllowed):
            return "signature"
        before = isinstance(error, GitRefused) and not isinstance(error, Unmergeable) and not self._begun
        return "worker" if before or isinstance(error, WorkspaceUnusable) else ""

    def _carry_out(self) -> AttemptOutcome:
        self._here.verify()
        if isinstance(self.grant.spec.todo.action, NoopAction) and self.grant.undo is None:
            return AttemptOutcome(kind=self._commands.stopped or OutcomeKind.SUCCEEDED)
        if (done := self._in_worker()) is not None:
            return done
        if self._action.has_command():
            self._confine()
            if self._secrets is not None:
                self._secrets.check(self.grant)
            elif self.grant.spec.todo.secrets:
                raise SecretsMissing("a worker that has credentials")
            outcome = self._work_in(self._workspace())
        else:
            outcome = AttemptOutcome(kind=self._commands.stopped or OutcomeKind.SUCCEEDED)
        if outcome.kind is OutcomeKind.SUCCEEDED:
            self._action.on_released()
        return outcome

    def _in_worker(self) -> AttemptOutcome | None:
        """Execute or undo a todo of a service or a landing; None for any other todo."""
        return execute_in_process(
            self.grant, self._here, lambda: self._commands.stopped, self._log.say, self._check
        )

    def _check(self, check: LandCheck, commit: str) -> AttemptOutcome:
        """Run a check of the repository at a commit, as a part of this attempt."""
        grant = check_grant(self.grant, check, commit)
        part = self._part = Attempt(grant, self._here, self._log)
        if self._commands.stopped is not None:
            part.stop(self._commands.stopped)
        with closing(part):
            outcome = part.run()
            if outcome.kind is OutcomeKind.SUCCEEDED:
                part.on_accepted()
        return outcome

    def _confine(self) -> None:
        """Choose the sandbox of the attempt's commands. Raises NoSandbox."""
        env, spec = self._here, self.grant.spec
        if env.sandboxes is None:
            return
        action = spec.todo.action if self.grant.undo is None else spec.todo.compensate
        self._commands.confinement, line = env.sandboxes.of(
            spec.todo, spec.repo, action, env.brief.agent_command, demanded=env.sandbox_demanded
        )
        if line:
            self._log.say(line)

    def _work_in(self, workspace: Workspace) -> AttemptOutcome:
        since = workspace.enter(self._lock_request, self.grant.tip, BUSY_PATIENCE)
        try:
            for line in workspace.begun.splitlines():
                self._log.say(line)
            done = self._cached(workspace, since) or self._prepare(workspace)
            done = done or self._cached(workspace, since) or self._perform(workspace, since)
            if done.kind is OutcomeKind.SUCCEEDED:
                self._move_branch(workspace, done.tip)
            return done
        finally:
            workspace.leave()

    def _move_branch(self, workspace: Workspace, tip: str) -> None:
        """Move the branch of the change set: before the settle, so that it stands when the run has ended."""
        if tip and tip != self.grant.tip and (stays := workspace.follow(tip, self.grant.tip)):
            self._log.say(_plain(stays))

    def _cached(self, workspace: Workspace, since: str) -> AttemptOutcome | None:
        return None if self._commands.stopped else self._action.cached(workspace, since)

    def _workspace(self) -> Workspace:
        return workspace_for(
            state=self._here.state,
            run=self.grant.run_id,
            repo=self.grant.spec.repo,
            checkout=self._here.checkout,
            wanted=self.grant.spec.todo.workspace,
            fetch=self._here.fetch,
            carried=self._here.carried(self.grant.spec.repo.name),
            style=style_of(self.grant, self._here.brief),
            git_commit=self._commands.git_commit,
            confined=self._commands.confinement is not None,
            sessions=self._here.git_sessions,
        )

    @property
    def _lock_request(self) -> LockRequest:
        return LockRequest(run_id=self.grant.run_id, key=self._action.key, fence=self.grant.fence)

    def _prepare(self, workspace: Workspace) -> AttemptOutcome | None:
        prepare = self.grant.spec.repo.prepare
        if prepare is None or not workspace.needs_prepare:
            return None
        self._log.say(f"prepare: {_shown(prepare)}")
        self._preparing = True
        ended = self._commands.run(
            workspace, Command(argv=argv_of(prepare)), self._commands.environment(workspace)
        )
        if not ended.ok:
            return replace(self._failure(workspace, ended, "prepare: "), blame="worker")
        workspace.mark_prepared()
        return None

    def _perform(self, workspace: Workspace, since: str) -> AttemptOutcome:
        # ASCII: JSON can hold what UTF-8 cannot.
        context_json = json.dumps(self._here.context())
        if self._commands.stopped is not None:
            return AttemptOutcome(kind=self._commands.stopped)
        with (
            scratch(self._here.state) as folder,
            self.checkpoint.watching(folder / OUTPUT),
            self._serving(folder) as connection,
        ):
            context, output, former = folder / "context.json", folder / OUTPUT, folder / "checkpoint.json"
            with describe_os_error(folder):
                _write(context, context_json)
                _write(former, self.grant.checkpoint or "null")
            undone = self._action.undone(folder)
            files = {"COORD_CONTEXT": context, "COORD_OUTPUT": output, "COORD_CHECKPOINT": former}
            files |= {"COORD_CONNECTION": connection}
            given = self._give_secrets(folder)
            environment = self._commands.environment(workspace)
            environment |= {name: str(file) for name, file in files.items()}
            environment |= given | (undone.environment if undone else {})
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
            self._action.begin(workspace)
            ended = self._commands.run(
                workspace, command_for(job), environment, self._binds(folder, connection)
            )
            failed = None if ended.ok else self._failure(workspace, ended)
            if self._commands.stopped is None or failed:
                judged = self._action.judged(failed, ended, workspace, since)
                if judged is not None:
                    return judged
            if self._commands.stopped is not None:  # at the last moment: its result is not kept
                return AttemptOutcome(kind=self._commands.stopped, exit_code=0)
            return self._kept(workspace, output, since)

    def _binds(self, folder: Path, connection: Path) -> Binds:
        """Return what the todo's command needs in a sandbox: its files, the socket of its context, and the
        files of its predecessors.
        """
        if self._commands.confinement is None:
            return Binds()
        text = connection.read_text()
        sockets = (Path(Connection.model_validate_json(text).socket),) if text else ()
        predecessors = self._here.context().get("predecessors", ())
        paths = (Path(one["path"]) for one in predecessors if one.get("path"))
        return Binds(readable=tuple(path for path in paths if path.is_dir()), writable=(folder, *sockets))

    def _kept(self, workspace: Workspace, output: Path, since: str) -> AttemptOutcome:
        try:
            kept = self._action.keep(workspace, output, since)
            for line in workspace.not_carried() if kept.tip else ():
                self._log.say(line)
            return kept
        except CommitRefused as refused:
            if refused.ended is None:
                raise
            return self._failure(
                workspace, refused.ended, "a git hook or the signing program refused the commit: "
            )

    def _give_secrets(self, folder: Path) -> dict[str, str]:
        """Write the todo's secrets into the folder; from here on, nothing that it writes shows them."""
        if self._secrets is None or not self.grant.spec.todo.secrets:
            return {}
        secrets = self._secrets.read(self.grant)
        self._log.mask(secret.value for secret in secrets)
        for warning in filter(None, (secret.warning for secret in secrets)):
            self._log.say(warning)
        return write_secrets(folder, self.grant.spec.repo, secrets)

    @contextmanager
    def _serving(self, folder: Path) -> Iterator[Path]:
        """Serve the shared context, and yield the file for COORD_CONNECTION. Raises WorkspaceUnusable."""
        file = folder / "connection.json"
        with ExitStack() as until:
            with describe_os_error(folder):
                _write(file, until.enter_context(self._here.connection(self._log.masked_json)))
            yield file

    def on_accepted(self) -> None:
        """Keep what an accepted success leaves."""
        self._action.on_accepted()

    def close(self) -> None:
        self._action.close()

    def take_back(self) -> None:
        """Take the commit from the branch after its step was refused: it does not count."""
        try:
            self._workspace().take_back(self._lock_request, self.grant.tip)
        except CoordinationError as error:
            logger.info("%s of run %s: %s", self.grant.todo_id, self.grant.run_id, _plain(error.message))

    def _trouble_of_host(self, workspace: Workspace) -> str:
        """Return why a command may have failed through no fault of its own; empty if nothing is known."""
        if not workspace.there:
            return f"{workspace.path} is gone, or its .git is not the one that coord made"
        if lacks := self._commands.full_disk(workspace):
            workspace.make_room()
        return lacks

    def _failure(self, workspace: Workspace, ended: Exit, what: str = "") -> AttemptOutcome:
        words = self._action.explained(f"{what}{describe_exit(ended, self.grant.spec.timeout)}")
        guard_lost = ended.reason == GUARD_LOST
        if why := ended.message if guard_lost else self._trouble_of_host(workspace):
            words = f"{words}: {why}"
            self._log.say(f"hindered: {words}")
            return AttemptOutcome(
                kind=self._commands.stopped or OutcomeKind.HINDERED,
                why=words,
                exit_code=ended.exit_code,
                # a todo that fills the disk by itself finds room when it begins
                limited=not self._commands.was_full,
                blame="worker" if guard_lost else "",
            )
        self._log.say(words)
        return AttemptOutcome(
            kind=self._commands.stopped or OutcomeKind.FAILED,
            why=words,
            exit_code=ended.exit_code,
            failure=failure_from_exit(ended, self._commands.output_tail.shows),
        )


def _write(file: Path, text: str) -> None:
    with open_private(file) as new:
        new.write(text)


def _plain(text: str) -> str:
    """Replace what is no UTF-8, as in a file's name: it can be neither logged nor sent."""
    return text.encode(errors="replace").decode()


def _shown(command: CommandLine) -> str:
    return command if isinstance(command, str) else " ".join(command)
