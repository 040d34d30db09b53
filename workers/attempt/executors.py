"""Turn a todo's action into a command: one executor for each kind of action, `Job` → `Command`.

An executor decides which command runs and what it reads; starting, watching and ending it is the same for all
(`workers/process/child.py`). A manual todo has no executor: it waits for a person and never reaches a worker.

`{type: shell, run: …}`, and a bare command, run as they are.

`{type: python, call: "pkg.mod:fn", args: {…}}` calls the function in a process of its own, by the interpreter
of the worktree's virtual environment if there is one: it has the repository's dependencies. The arguments go
through standard input: an argument list is limited to 128 KB a piece, and everyone on the machine can read
it.

`{type: rewrite, pattern: …, rewrite: …, lang: …}` runs ast-grep (`coordination/rewrites.py`) in the worktree.

`{type: qa}` runs a quality check; `checks.py` judges it.

`{type: agent, prompt: …}`, and a todo without an action, run the submitter's agent command, which reads a
prompt.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from coordination import models
from coordination.errors import PlanRefused
from coordination.models import argv_of, text_of
from coordination.rewrites import UNPARSED, ast_grep, pattern_arguments, rewrite_arguments


@dataclass(frozen=True, kw_only=True)
class CompensatedTodo:
    """The todo that a compensation undoes."""

    state: str
    """COORD_COMPENSATES: the todo's state before."""
    output: Path
    """COORD_TODO_OUTPUT: the JSON that the todo handed over, `null` if it never did."""

    @property
    def environment(self) -> dict[str, str]:
        return {"COORD_COMPENSATES": self.state, "COORD_TODO_OUTPUT": str(self.output)}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One attempt at a todo, ready to begin: the folder stands, the files are named."""

    todo: models.Todo
    repo: models.Repo
    cwd: Path
    env: Mapping[str, str]
    """All of the command's environment, COORD_* included."""
    context: Path
    """COORD_CONTEXT: what the predecessors handed over."""
    output: Path
    """COORD_OUTPUT: where to write JSON for the dependents."""
    checkpoint: Path | None = None
    """COORD_CHECKPOINT, if an attempt before this one has written something there."""
    agent_command: models.Command | None = None
    """The submitter's command; the run carries it."""
    compensated: CompensatedTodo | None = None
    """The todo to be compensated; None if the todo itself is executed."""

    @property
    def action(self) -> models.Action | None:
        """Return the action to execute; None: an agent gets the task."""
        return self.todo.compensate if self.compensated else self.todo.action


@dataclass(frozen=True, kw_only=True)
class Command:
    argv: tuple[str, ...]
    stdin: bytes = b""


def shell_command(job: Job) -> Command:
    assert isinstance(job.action, models.ShellAction)
    return Command(argv=argv_of(job.action.run))


BOOTSTRAP = Path(__file__).with_name("call.py")


def python_command(job: Job) -> Command:
    assert isinstance(job.action, models.PythonAction)
    argv = (interpreter(job.cwd), "-u", str(BOOTSTRAP), job.action.call)  # -u: its log is read while it runs
    return Command(argv=argv, stdin=json.dumps(job.action.args).encode())


def interpreter(cwd: Path) -> str:
    own = cwd / ".venv" / "bin" / "python"
    return str(own) if os.access(own, os.X_OK) else sys.executable


NO_MATCH = 1
"""Exit code of ast-grep if nothing matches."""
REWRITE = f"""
said=$("$0" run --config=/dev/null "$1" "$2" --debug-query=ast --stdin </dev/null 2>&1)
case $said in *"{UNPARSED}"*) echo "the pattern is no code of this language: $1 $2" >&2; exit 2;; esac
shift 2
"$0" "$@" || {{ code=$?; test $code = {NO_MATCH} && echo "no match" && exit 0; exit $code; }}
"""
"""Its arguments follow as arguments of their own, which no shell parses: pattern and language, which are
tried on nothing, then those of the rewrite.
"""


def rewrite_command(job: Job) -> Command:
    """Return the command of a rewrite, which succeeds if nothing matches, and fails for a pattern that
    ast-grep cannot parse. Raises ProgramMissing.
    """
    action = job.action
    assert isinstance(action, models.RewriteAction)
    words = (*pattern_arguments(action), *rewrite_arguments(action), "--update-all")
    return Command(argv=("sh", "-c", REWRITE, ast_grep(), *words))


def check_command(job: Job) -> Command:
    assert isinstance(job.action, models.QaAction)
    assert job.action.run is not None, "the graph refuses a check that is not declared"
    return Command(argv=argv_of(job.action.run))


def agent_command(job: Job) -> Command:
    if job.agent_command is None:
        raise PlanRefused(
            f"{job.todo.id} needs an agent, and no agent command is configured",
            "set settings.agent_command in ecosystem.yaml (a command that reads a prompt), "
            "or give the todo an action",
        )
    return Command(argv=argv_of(job.agent_command), stdin=prompt(job).encode())


def prompt(job: Job) -> str:
    """Return the agent's prompt: as written, or the todo's fields, to be done or undone; then the files'
    paths.
    """
    given = job.action.prompt if isinstance(job.action, models.AgentAction) else None
    files = _files(job) if job.compensated is None else _files_to_undo(job, job.compensated)
    return f"{given or _in_words(job)}\n\n{files}\n"


def _in_words(job: Job) -> str:
    todo = job.todo
    role = f" ({job.repo.role})" if job.repo.role else ""
    first = f"Task {todo.id}: {todo.task}"
    if job.compensated:
        first = (
            "Undo what this task has done outside of the repository, as far as it has; "
            f"it ended as {job.compensated.state}.\n{first}"
        )
    parts = [first, f"Repository: {job.repo.name}{role}, in {job.cwd}"]
    if todo.description:
        parts.append(todo.description)
    if todo.acceptance_criteria and not job.compensated:
        parts.append(
            "It is done when:\n"
            + "\n".join(f"- {text_of(criterion)}" for criterion in todo.acceptance_criteria)
        )
    return "\n\n".join(parts)


def _files(job: Job) -> str:
    former = f"The checkpoint of the previous attempt is in {job.checkpoint} (COORD_CHECKPOINT).\n"
    return (
        f"The outputs of the predecessors are in the JSON file {job.context} (COORD_CONTEXT).\n"
        f"Write the output for dependents as JSON to {job.output} (COORD_OUTPUT).\n"
        f"{former if job.checkpoint else ''}"
        f"{_secrets(job)}"
        "Work in the current folder. "
        "What is left changed there when you exit with code 0 is committed for you."
    )


def _secrets(job: Job) -> str:
    if not job.todo.secrets:
        return ""
    names = ", ".join(job.todo.secrets)
    return f"The secrets {names} are files in {job.env.get('COORD_SECRETS', '')} (COORD_SECRETS).\n"


def _files_to_undo(job: Job, compensated: CompensatedTodo) -> str:
    return (
        f"The output of the task is in the JSON file {compensated.output} (COORD_TODO_OUTPUT), "
        "null if nothing.\n"
        f"The outputs of its predecessors are in the JSON file {job.context} (COORD_CONTEXT).\n"
        f"{_secrets(job)}"
        "Work in the current folder; nothing of it is committed. It may have been undone in part before: "
        "exit with code 0 when nothing is left to undo."
    )


Executor = Callable[[Job], Command]

EXECUTORS: Mapping[str, Executor] = {
    "shell": shell_command,
    "python": python_command,
    "agent": agent_command,
    "rewrite": rewrite_command,
    "qa": check_command,
}
"""By the action's type, as written in ecosystem.yaml."""


def command_for(job: Job) -> Command:
    """Return the command for a job. Raises PlanRefused if there is none."""
    kind = job.action.type if job.action else "agent"
    if kind not in EXECUTORS:
        raise PlanRefused(
            f"{job.todo.id}: a worker does not execute a {kind} action",
            f"when it is done: coord complete-todo {job.todo.id}",
        )
    return EXECUTORS[kind](job)
