"""Execute one attempt of a todo: enter its workspace, run its command under the guard, keep its result.

Only the log talks to Redis: `workers/delivery.py` takes the step that the outcome asks for. `actions.py`
contains the differences between running a todo and compensating it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from coordination.agent_programs import LOGIN_VARIABLES
from coordination.errors import CoordinationError, GitRefused, NotAllowed, Unsafe
from coordination.files import open_private
from coordination.models import Agent, AgentAction, LandCheck, NoopAction, argv_of
from coordination.models import Workspace as WorkspaceKind
from coordination.runs.attempt_store import Grant
from coordination.runs.records import Blame, WaitReason
from coordination.sandbox import Binds
from workers.attempt.agent_rounds import AgentRounds, Surroundings
from workers.attempt.checks import check_grant
from workers.attempt.commands import AttemptCommands, Command, Job, command_for
from workers.attempt.context import LeaseLost, PathMissing
from workers.attempt.environment import AttemptEnvironment
from workers.attempt.in_process import InProcessAction, execute_in_process
from workers.attempt.output import FULL_DISK, Checkpoint, Log
from workers.attempt.prompt import Task
from workers.attempt.usage import UsageMeter
from workers.credentials import SecretsMissing, write_secrets
from workers.outcome import AttemptOutcome, OutcomeKind, describe_exit, failure_from_exit
from workers.process.child import GUARD_LOST, Exit
from workers.process.trouble import GitInterrupted, Trouble, WorkspaceUnusable, describe_os_error
from workers.transfer.routes import NotCarried, sentence
from workers.workspace.base import InPlace, Workspace
from workers.workspace.base_commit import Unmergeable
from workers.workspace.commit import CommitRefused, WorkLost
from workers.workspace.files import scratch
from workers.workspace.lock import Claimant, Superseded, WorkspaceBusy
from workers.workspace.repository import common_dir_of
from workers.workspace.worktree import Worktree

BUSY_PATIENCE = timedelta(seconds=10)
"""How long an attempt keeps a worker's slot while processes of the former one are leaving the workspace."""

MOST_FOLLOWERS = 20
OUTPUT = "output.json"
QUESTION = "question.txt"
TRIED_AGAIN = "the todo is tried again by itself"

logger = logging.getLogger(__name__)


class Attempt:
    """`run` executes it; `stop` may be called from any thread, and the first reason counts."""

    def __init__(self, grant: Grant, env: AttemptEnvironment, log: Log) -> None:
        self.grant = grant
        self._env = env
        self._log = log
        self._action = env.action(grant, log, lambda: self._commands.bounds)
        self._commands = AttemptCommands(grant, env, log, key=self._action.key)
        self.checkpoint = Checkpoint(env.output_limit_bytes, log.masked_json)
        self.usage = UsageMeter(env.note_usage)
        self._command_started = False
        """True if the todo's own command was started."""
        self._prepare_started = False
        """True if the repository's `prepare` was started."""
        self._check_attempt: Attempt | None = None
        """The check that runs again as a part of this landing."""

    def stop(self, kind: OutcomeKind, *, at_once: bool = False) -> None:
        """End the command, with this kind of outcome."""
        self._commands.stop(kind, at_once=at_once)
        if self._check_attempt is not None:
            self._check_attempt.stop(kind, at_once=at_once)

    def log_line(self, line: str) -> None:
        self._log.line(line)

    def run(self) -> AttemptOutcome:
        """Execute the attempt; return its outcome."""
        outcome = self._outcome()
        if outcome.kind is OutcomeKind.SUCCEEDED or outcome.output:
            return outcome
        return replace(outcome, output=self.checkpoint.left)

    def _outcome(self) -> AttemptOutcome:
        try:
            with describe_os_error(self._env.state):
                return self._execute()
        except WorkspaceBusy as busy:
            self._log.wait_line(_plain(f"waits: {busy.message}"), _plain(busy.hint))
            return AttemptOutcome(kind=OutcomeKind.BUSY, error=_plain(busy.message))
        except Superseded as superseded:
            return AttemptOutcome(kind=OutcomeKind.SUPERSEDED, error=superseded.message)
        except LeaseLost as lost:
            return AttemptOutcome(kind=OutcomeKind.LOST, error=lost.message)
        except (GitInterrupted, WorkspaceUnusable) as interrupted:
            if interrupted.trouble is None:
                return self._error(OutcomeKind.FAILED, interrupted)
            return self._interrupted_by(interrupted.trouble, interrupted)
        except (PathMissing, SecretsMissing) as missing:  # the todo goes on when it is there
            return self._wait_for(missing.message, missing.hint)
        except Unsafe as unusable:
            awaited = f"a trust file of this machine that can be used: {unusable.message}"
            return self._wait_for(awaited, unusable.hint)
        except NotCarried as passing:  # a remote may answer at the next try
            return self._error(OutcomeKind.FAILED, passing)
        except CoordinationError as refused:
            return self._error(OutcomeKind.REFUSED, refused)

    def _error(self, kind: OutcomeKind, error: CoordinationError) -> AttemptOutcome:
        why, hint = _plain(error.message), _plain(error.hint)
        if isinstance(error, Unmergeable) and error.waits:
            return self._wait_for(f"a merge: {why}", hint, WaitReason.BASE)
        self._log_failure(why, hint)
        error_text, blame = _plain(str(error)), self._blame_for(error)
        return AttemptOutcome(kind=self._commands.stopped or kind, error=error_text, blame=blame)

    def _interrupted_by(self, trouble: Trouble, error: CoordinationError) -> AttemptOutcome:
        """Return the outcome of trouble that passes, limited if the todo's command may have caused it."""
        started = self._command_started or self._prepare_started
        limited = started and trouble.is_of_the_folder and self._env.checkout.is_dir()
        outcome = self._interrupted(trouble, sentence(error.message), error.hint)
        return replace(outcome, blame="" if limited else "worker", limited=limited)

    def _interrupted(self, trouble: Trouble, why: str, hint: str) -> AttemptOutcome:
        """Log an interruption once; return its outcome. Attempts on a full disk fail at different files, so
        the disk is their common cause.
        """
        if self._commands.stopped:
            self._log.line(why)
        else:
            cause = FULL_DISK if trouble is Trouble.DISK else ""
            self._log.wait_line(f"interrupted, not failed: {why}", hint, cause)
        return AttemptOutcome(kind=self._commands.stopped or OutcomeKind.DEFERRED, error=why)

    def _log_failure(self, why: str, hint: str) -> None:
        """Log that the attempt failed, the cause, and the next command or step."""
        stopped = self._commands.stopped
        self._log.line(why if stopped else f"failed: {why}")
        if hint and not stopped:
            self._log.line(f"next: {hint}")

    def _wait_for(
        self, awaited: str, hint: str = "", reason: WaitReason = WaitReason.TROUBLE
    ) -> AttemptOutcome:
        self._log.wait_line(f"waits for {awaited}", hint)
        kind = self._commands.stopped or OutcomeKind.DEFERRED
        return AttemptOutcome(kind=kind, error=f"{awaited}\n  {hint}" if hint else awaited, reason=reason)

    def _blame_for(self, error: CoordinationError) -> Blame:
        """Return `worker` where the todo cannot have caused the error: git refused before its command was
        started, and not a merge of commits. A refused signature tells nothing about either.
        """
        if isinstance(error, NotAllowed):
            return "signature"
        before = (
            isinstance(error, GitRefused) and not isinstance(error, Unmergeable) and not self._command_started
        )
        return "worker" if before or isinstance(error, WorkspaceUnusable) else ""

    def _execute(self) -> AttemptOutcome:
        self._env.verify()
        if isinstance(self.grant.spec.todo.action, NoopAction) and self.grant.undo is None:
            return AttemptOutcome(kind=self._commands.stopped or OutcomeKind.SUCCEEDED)
        if isinstance(action := self.grant.action, InProcessAction):
            stopped, log_line = lambda: self._commands.stopped, self._log.line
            return execute_in_process(self.grant, action, self._env, stopped, log_line, self._run_check)
        if self._action.needs_command():
            self._choose_sandbox()
            self._env.secrets.check(self.grant)
            outcome = self._execute_in(self._workspace())
        else:
            outcome = AttemptOutcome(kind=self._commands.stopped or OutcomeKind.SUCCEEDED)
        if outcome.kind is OutcomeKind.SUCCEEDED:
            self._action.after_leave()
        return outcome

    def _run_check(self, check: LandCheck, commit: str) -> AttemptOutcome:
        """Run a check of the repository at a commit, as a part of this attempt."""
        attempt = Attempt(check_grant(self.grant, check, commit), self._env, self._log)
        self._check_attempt = attempt
        if self._commands.stopped is not None:
            attempt.stop(self._commands.stopped)
        with closing(attempt):
            outcome = attempt.run()
            if outcome.kind is OutcomeKind.SUCCEEDED:
                attempt.after_settle()
        return outcome

    def _choose_sandbox(self) -> None:
        """Choose the sandbox of the attempt's commands. Raises NoSandbox."""
        env, spec = self._env, self.grant.spec
        self._commands.confinement, line = env.sandboxes.of(
            *(spec.todo, spec.repo, self.grant.action, self._agent, env.checkout),
            demanded=env.sandbox_demanded,
        )
        if line:
            self._log.line(line)

    def _execute_in(self, workspace: Workspace) -> AttemptOutcome:
        start = workspace.enter(self._lock_request, self.grant.tip, BUSY_PATIENCE)
        try:
            for line in workspace.start_report.splitlines():
                self._log.line(line)
            if self.grant.undo is None and isinstance(workspace, Worktree):
                self._env.check_history(start)
            outcome = self._cached(workspace, start) or self._prepare(workspace)
            outcome = outcome or self._cached(workspace, start) or self._run_command(workspace, start)
            if outcome.kind is OutcomeKind.SUCCEEDED:
                self._move_branch(workspace, outcome.tip)
            elif outcome.kind is OutcomeKind.FAILED:
                workspace.provide_worktree()
            return outcome
        finally:
            workspace.leave()

    def _move_branch(self, workspace: Workspace, tip: str) -> None:
        """Move the branch of the change set before the settle, so that it is in place when the run ends."""
        if tip and tip != self.grant.tip and (stays := workspace.move_change_set(tip, self.grant.tip)):
            self._log.line(_plain(stays))

    def _cached(self, workspace: Workspace, start: str) -> AttemptOutcome | None:
        return None if self._commands.stopped else self._action.cached(workspace, start)

    def _workspace(self) -> Workspace:
        repo, env = self.grant.spec.repo, self._env
        if self.grant.spec.todo.workspace is WorkspaceKind.IN_PLACE:
            return InPlace(state=env.state, path=env.checkout, confined=self._is_confined)
        return Worktree(
            state=env.state,
            run=self.grant.run_id,
            repo=repo,
            checkout=env.checkout,
            common_dir=common_dir_of(repo.name, env.checkout, env.brief.prefixes_in(repo.name)),
            fetch=env.fetch,
            carried=env.carried(repo.name),
            style=env.commit_style(self.grant),
            git_commit=self._commands.git_commit,
            confined=self._is_confined,
            domain=self._domain,
            prefix=env.brief.branch_prefix,
            judges=self.grant.undo is None and self.grant.spec.judges,
            sessions=env.git_sessions,
            log=self._log.line,
        )

    @property
    def _domain(self) -> str:
        """Return the todos with which this one may share files that no commit has: those in the same sandbox,
        behind the same gates.
        """
        bounds = self._commands.bounds
        return json.dumps([asdict(bounds) if bounds else None, self.grant.spec.behind])

    @property
    def _is_confined(self) -> bool:
        return self._commands.confinement is not None

    @property
    def _lock_request(self) -> Claimant:
        return Claimant(run_id=self.grant.run_id, key=self._action.key, fence=self.grant.fence)

    def _prepare(self, workspace: Workspace) -> AttemptOutcome | None:
        prepare = self.grant.spec.repo.prepare
        if prepare is None or not workspace.needs_prepare:
            return None
        if workspace.find_prepared():
            self._log.line("prepare: its files are those that it made for an earlier check of the run")
            return None
        self._log.line(f"prepare: {prepare if isinstance(prepare, str) else ' '.join(prepare)}")
        self._prepare_started = True
        ended = self._commands.run(
            workspace, Command(argv=argv_of(prepare)), self._commands.environment(workspace)
        )
        if not ended.ok:
            hint = f"correct `prepare` of {self.grant.spec.repo.name} in ecosystem.yaml"
            return replace(self._failure(workspace, ended, "prepare: ", hint), blame="worker")
        workspace.mark_prepared()
        return None

    def _run_command(self, workspace: Workspace, start: str) -> AttemptOutcome:
        # ASCII: JSON can hold what UTF-8 cannot.
        context_json = json.dumps(self._env.context())
        if self._commands.stopped is not None:
            return AttemptOutcome(kind=self._commands.stopped)
        with (
            scratch(self._env.state) as folder,
            self.checkpoint.watching(folder / OUTPUT),
            self._serve_context(folder) as connection,
        ):
            context, output = folder / "context.json", folder / OUTPUT
            checkpoint = folder / "checkpoint.json"
            with describe_os_error(folder):
                _write(context, context_json)
                _write(checkpoint, self.grant.checkpoint or "null")
            compensated = self._action.compensated(folder)
            files = {"COORD_CONTEXT": context, "COORD_OUTPUT": output, "COORD_CHECKPOINT": checkpoint}
            files |= {"COORD_CONNECTION": connection}
            secrets = self._hand_over_secrets(folder)
            environment = self._commands.environment(workspace)
            environment |= {name: str(file) for name, file in files.items()}
            environment |= secrets | (compensated.environment if compensated else {})
            reads = self._env.reads()
            binds = self._commands.sandbox_binds(folder, connection) + Binds(readable=tuple(reads.values()))
            self._command_started = True
            if isinstance(self.grant.action, AgentAction):
                question = folder / QUESTION
                environment["COORD_QUESTION"] = str(question)
                task = Task(
                    todo=self.grant.spec.todo,
                    repo=self.grant.spec.repo,
                    action=self.grant.action,
                    folder=workspace.path,
                    context=context,
                    output=output,
                    question=question,
                    secrets=environment.get("COORD_SECRETS", ""),
                    checkpoint=checkpoint if self.grant.checkpoint and compensated is None else None,
                    compensated=compensated,
                    plan=self._env.brief.plan_id,
                    followers=self._followers,
                    predecessors=self._env.context().get("predecessors", ()),
                    changes=self._env.changes,
                    messages=self._env.messages() if compensated is None else (),
                    reads=reads,
                    answered=self.grant.question,
                    answer=self.grant.answer,
                )
                return self._run_agent(task, workspace, environment, binds, start)
            job = Job(
                todo=self.grant.spec.todo,
                repo=self.grant.spec.repo,
                cwd=workspace.path,
                compensates=compensated is not None,
            )
            self._action.before_command(workspace)
            ended = self._commands.run(workspace, command_for(job), environment, binds)
            failed = None if ended.ok else self._failure(workspace, ended)
            is_judged = failed or self._commands.stopped is None
            if is_judged and (outcome := self._action.outcome_of(failed, ended, workspace, start)):
                return outcome
            if self._commands.stopped is not None:  # while the command ended: its result is not kept
                return AttemptOutcome(kind=self._commands.stopped, exit_code=0)
            return self._keep_result(workspace, output, start)

    @property
    def _agent(self) -> Agent | None:
        """Return the agent that executes the attempt, if one does."""
        action = self.grant.action
        return self.grant.spec.agent(action, self.grant.tries) if isinstance(action, AgentAction) else None

    @property
    def _followers(self) -> list[str]:
        """Return the todos that wait for this one, each with its repository."""
        brief = self._env.brief
        after = [name for name, before in brief.predecessors.items() if self.grant.todo_id in before]
        return [f"{name} ({brief.repo_of.get(name, '')})" for name in after[:MOST_FOLLOWERS]]

    def _run_agent(
        self, task: Task, workspace: Workspace, environment: Mapping[str, str], binds: Binds, start: str
    ) -> AttemptOutcome:
        around = Surroundings(
            grant=self.grant, state=self._env.state, plan=self._env.brief.plan_id, commands=self._commands,
            log=self._log, workspace=workspace, environment=environment, binds=binds,
            interrupted=partial(self._interrupted_by_host, workspace),
            failed=partial(self._failure, workspace), usage=self.usage,
        )  # fmt: skip
        rounds = AgentRounds(task, around)
        done = rounds.run()
        if isinstance(done, AttemptOutcome):
            return done
        kept = self._keep_result(workspace, task.output, start, done.by)
        if kept.tip and (why := rounds.refuse_outside(kept.tip)):
            workspace.discard_changes()
            self._log_failure(why, "")
            return AttemptOutcome(kind=OutcomeKind.REFUSED, error=why)
        return kept

    def _keep_result(self, workspace: Workspace, output: Path, start: str, agent: str = "") -> AttemptOutcome:
        try:
            kept = self._action.keep_result(workspace, output, start, agent)
            found = workspace.not_committed() if kept.tip else ()
            for one in found:
                self._log.line(_plain(f"not committed: {one.text}"))
                if one.hint:
                    self._log.line(_plain(f"next: {one.hint}"))
            return replace(kept, not_committed=found)
        except WorkLost as lost:
            return replace(self._error(OutcomeKind.REFUSED, lost), not_committed=lost.found)
        except CommitRefused as refused:
            if refused.ended is None:
                raise
            step = "a git hook or the signing program refused the commit: "
            return self._failure(workspace, refused.ended, step, refused.hint)

    def _hand_over_secrets(self, folder: Path) -> dict[str, str]:
        """Write the todo's secrets into the folder, and return the variables that name them. They, and the
        login of an agent, are masked in all that the todo writes from here on.
        """
        is_agent = isinstance(self.grant.action, AgentAction)
        logins = [os.environ.get(name, "") for name in LOGIN_VARIABLES] if is_agent else []
        secrets = self._env.secrets.read(self.grant) if self.grant.spec.todo.secrets else ()
        self._log.mask([*filter(None, logins), *(secret.value for secret in secrets)])
        if not secrets:
            return {}
        for warning in filter(None, (secret.warning for secret in secrets)):
            self._log.line(warning)
        return write_secrets(folder, self.grant.spec.repo, secrets)

    @contextmanager
    def _serve_context(self, folder: Path) -> Iterator[Path]:
        """Serve the shared context, and yield the file for COORD_CONNECTION. Raises WorkspaceUnusable."""
        file = folder / "connection.json"
        with ExitStack() as service:
            with describe_os_error(folder):
                _write(file, service.enter_context(self._env.connection(self._log.masked_json)))
            yield file

    def after_settle(self) -> None:
        """Store the result in the cache: the settle of the success was accepted."""
        self._action.after_settle()

    def close(self) -> None:
        self._action.close()

    def take_back(self) -> None:
        """Take the commit off the branch: the step of this attempt was refused."""
        try:
            self._workspace().take_back(self._lock_request, self.grant.tip)
        except CoordinationError as error:
            logger.info("%s of run %s: %s", self.grant.todo_id, self.grant.run_id, _plain(error.message))

    def _host_trouble(self, workspace: Workspace, ended: Exit) -> tuple[Trouble, str, str] | None:
        """Return the trouble of this host that may have made a command fail, its cause, and what to do; None
        if there is none.
        """
        if ended.reason == GUARD_LOST:
            return Trouble.KILLED, ended.message, TRIED_AGAIN
        if not workspace.is_intact:
            hint = f"let the command keep this folder and its .git; {TRIED_AGAIN}"
            why = f"{workspace.path} is gone, or its .git is not the one that coord made"
            return Trouble.DAMAGED, why, hint
        if full_disk := self._commands.full_disk(workspace):
            workspace.make_room()
            return Trouble.DISK, full_disk, f"free some space; {TRIED_AGAIN}"
        return None

    def _interrupted_by_host(self, workspace: Workspace, ended: Exit, why: str) -> AttemptOutcome | None:
        """Return the outcome of a command that this host has interrupted; None if that is not the cause of
        its failure.
        """
        if (found := self._host_trouble(workspace, ended)) is None:
            return None
        trouble, cause, remedy = found
        return replace(
            self._interrupted(trouble, f"{why}: {cause}", remedy),
            exit_code=ended.exit_code,
            # a todo that fills the disk by itself finds room when it starts
            limited=not self._commands.was_full,
            blame="worker" if ended.reason == GUARD_LOST else "",
        )

    def _failure(self, workspace: Workspace, ended: Exit, step: str = "", hint: str = "") -> AttemptOutcome:
        """Return the outcome of a command that failed; `step` precedes the cause, `hint` says what to do."""
        why = self._action.explain(f"{step}{describe_exit(ended, self.grant.spec.timeout)}")
        if (interrupted := self._interrupted_by_host(workspace, ended, why)) is not None:
            return interrupted
        if ended.reason == "timeout":
            hint = "raise `timeout` of the todo, or the setting todo_timeout"
        self._log_failure(why, hint)
        return AttemptOutcome(
            kind=self._commands.stopped or OutcomeKind.FAILED,
            error=why,
            exit_code=ended.exit_code,
            failure=failure_from_exit(ended, self._commands.output_tail.shows),
        )


def _write(file: Path, text: str) -> None:
    with open_private(file) as new:
        new.write(text)


def _plain(text: str) -> str:
    """Replace characters that are not UTF-8, as in a file's name: they can be neither logged nor sent."""
    return text.encode(errors="replace").decode()
