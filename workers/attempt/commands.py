"""The commands of an attempt: made from the action of its todo, and run under the guard.

`command_for` turns a `Job` into a `Command`. It decides which command runs and what it reads:

* `{type: shell, run: …}`, and a bare command, run as they are.
* `{type: python, call: "pkg.mod:fn", args: {…}}` calls the function in a process of its own, with the
  interpreter of the worktree's virtual environment if there is one, because that has the repository's
  dependencies. The arguments go through standard input: an argument list is limited to 128 KB a piece, and
  every user of the machine can read it.
* `{type: rewrite, pattern: …, rewrite: …, lang: …}` runs ast-grep (`coordination/rewrites.py`).
* `{type: qa}` runs a quality check; `checks.py` judges it.

`agent_rounds.py` makes the command of an agent. A manual todo has no command: it waits for a person
and never reaches a worker. `AttemptCommands` starts, watches and ends `prepare`, the todo's own command, and
`git commit` with its hooks, all in the same way (`workers/process/child.py`).
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from coordination import models
from coordination.agent_programs import LOGIN_VARIABLES
from coordination.cache.connection import Connection
from coordination.disk import full
from coordination.environment import UNATTENDED
from coordination.errors import CoordinationError, PlanRefused
from coordination.models import argv_of
from coordination.rewrites import UNPARSED, ast_grep, pattern_arguments, rewrite_arguments
from coordination.runs.attempt_store import Grant
from coordination.sandbox import Binds, Bounds
from workers.attempt.environment import AttemptEnvironment
from workers.attempt.output import Log, OutputTail
from workers.outcome import OutcomeKind
from workers.process.child import Child, Exit, start
from workers.process.trouble import GitInterrupted, Trouble, trouble_of_git
from workers.sandbox import Confined, Confinement
from workers.workspace.base import Workspace
from workers.workspace.commit import CommitRefused
from workers.workspace.git import clean_environment, without_redirecting

GIT_OUTPUT_SHOWN = 500
"""Characters of git's output in an error."""
NO_BINDS = Binds()
BOOTSTRAP = Path(__file__).with_name("call.py")
NO_MATCH = 1
"""Exit code of ast-grep if nothing matches."""
REWRITE = f"""
said=$("$0" run --config=/dev/null "$1" "$2" --debug-query=ast --stdin </dev/null 2>&1)
case $said in *"{UNPARSED}"*) echo "the pattern is no code of this language: $1 $2" >&2; exit 2;; esac
shift 2
"$0" "$@" || {{ code=$?; test $code = {NO_MATCH} && echo "no match" && exit 0; exit $code; }}
"""
"""A shell script. Its arguments, which no shell parses: ast-grep, pattern and language, which are first tried
on empty input, then the arguments of the rewrite.
"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The parts from which the command of one attempt is made."""

    todo: models.Todo
    repo: models.Repo
    cwd: Path
    compensates: bool = False
    """True if the todo is undone instead of executed."""

    @property
    def action(self) -> models.Action | None:
        """Return the action to execute: that of the todo, or its compensation."""
        return self.todo.compensate if self.compensates else self.todo.action


@dataclass(frozen=True, kw_only=True)
class Command:
    argv: tuple[str, ...]
    stdin: bytes = b""
    timeout: timedelta | None = None
    """None: that of the todo."""
    on_output: Callable[[bytes], None] | None = None
    """Takes its output; None: it goes to the log."""
    has_login: bool = False
    """True for an agent: in a sandbox it gets the files and variables with which it logs in."""
    alias: Path | None = None
    """In a sandbox: another place at which it sees its folder."""
    terms: int = 1
    """Number of TERM signals before KILL."""


def shell_command(job: Job) -> Command:
    assert isinstance(job.action, models.ShellAction)
    return Command(argv=argv_of(job.action.run))


def python_command(job: Job) -> Command:
    assert isinstance(job.action, models.PythonAction)
    argv = (interpreter(job.cwd), "-u", str(BOOTSTRAP), job.action.call)  # -u: its log is read while it runs
    return Command(argv=argv, stdin=json.dumps(job.action.args).encode())


def interpreter(cwd: Path) -> str:
    own = cwd / ".venv" / "bin" / "python"
    return str(own) if os.access(own, os.X_OK) else sys.executable


def rewrite_command(job: Job) -> Command:
    """Return the command of a rewrite. It succeeds if nothing matches, and fails for a pattern that ast-grep
    cannot parse. Raises ProgramMissing.
    """
    action = job.action
    assert isinstance(action, models.RewriteAction)
    words = (*pattern_arguments(action), *rewrite_arguments(action), "--update-all")
    return Command(argv=("sh", "-c", REWRITE, ast_grep(), *words))


def check_command(job: Job) -> Command:
    assert isinstance(job.action, models.QaAction)
    assert job.action.run is not None, "the graph refuses a check that is not declared"
    return Command(argv=argv_of(job.action.run))


Executor = Callable[[Job], Command]

EXECUTORS: Mapping[str, Executor] = {
    "shell": shell_command,
    "python": python_command,
    "rewrite": rewrite_command,
    "qa": check_command,
}
"""By the action's type, as written in ecosystem.yaml."""


def command_for(job: Job) -> Command:
    """Return the command for a job. Raises PlanRefused if there is none."""
    kind = job.action.type if job.action else ""
    if job.action is None or kind not in EXECUTORS:
        raise PlanRefused(
            f"{job.todo.id}: a worker does not execute a {kind} action",
            f"when it is done: coord todo complete {job.todo.id}",
        )
    return EXECUTORS[kind](job)


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
        """Return the bounds of the attempt's sandbox; None without a sandbox."""
        return self.confinement.bounds if self.confinement else None

    def stop(self, kind: OutcomeKind, *, at_once: bool = False) -> None:
        """End the command; the attempt then has this kind of outcome."""
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
        confinement = self.confinement if command.has_login else self._without_login
        if isinstance(self._grant.action, models.AgentAction) and not command.has_login:
            environment = {name: value for name, value in environment.items() if name not in LOGIN_VARIABLES}
        if confinement is None:
            return self._run(workspace, command, Confined(argv=command.argv, environment=environment))
        binds = workspace.binds + binds
        with confinement.around(command.argv, environment, workspace.path, binds, command.alias) as confined:
            return self._run(workspace, command, confined)

    @property
    def _without_login(self) -> Confinement | None:
        return self.confinement and self.confinement.without_login

    def interrupt(self, reason: str) -> None:
        """End the present command, which then has this reason; the attempt goes on."""
        with self._guard:
            child = self._child
        if child is not None:
            child.stop(reason)

    def _run(self, workspace: Workspace, command: Command, confined: Confined) -> Exit:
        self.was_full = full(self._disks(workspace))
        self.output_tail.begin()
        take = command.on_output or self.output_tail.take
        child = start(
            confined.argv,
            cwd=workspace.path,
            env=confined.environment,
            stdin=command.stdin,
            timeout=self._grant.spec.timeout if command.timeout is None else command.timeout,
            kill_grace=self._env.brief.kill_grace,
            on_output=take,
            hold=workspace.hold.fd,
            mark=workspace.mark,
            limits=confined.limits,
            terms=command.terms,
        )
        with self._guard:
            self._child = child
        try:
            workspace.note(child)
        except CoordinationError:
            # The disk is full: no process of the command may be alive when the attempt leaves the workspace.
            child.kill()
            child.wait()
            raise
        if self.stopped is not None:  # stopped before the child was started
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
        """Return the disk that is full, or was full when the last command began; empty if none is."""
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
