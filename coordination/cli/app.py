"""The commands of `coord`, in a table, and how a call begins and ends."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from coordination.cli.context import Call
from coordination.cli.lazy import LazyGroup
from coordination.errors import CoordinationError

INTERRUPTED = 130
FILES, ISSUES, TODOS, PLANS, DEPS, SHOWING, STANDING, OUTLOOK = (
    f"coordination.cli.{name}"
    for name in ("files", "issues", "todos", "plans", "deps", "showing", "standing", "outlook")
)
SWEEP, RUNS, STEERING, PROCESSES, MONITORING = (
    f"coordination.cli.{name}" for name in ("sweep", "runs", "steering", "processes", "monitoring")
)

COMMANDS = {
    "Begin": {
        "demo": ("coordination.cli.demo:demo", "Make a small real ecosystem and sweep a plan over it."),
        "init": (f"{FILES}:init", "Write ecosystem.yaml from the git repositories of a folder."),
        "validate": (f"{FILES}:validate", "Check the file: every problem at once, with its line."),
        "doctor": ("coordination.cli.doctor:doctor", "Check everything else: Redis, hosts, workers, queues, runs."),
        "schema": (f"{FILES}:schema", "Write the file's JSON Schema, for editors."),
        "completion": ("coordination.cli.completion:completion", "Write the script by which a shell completes names."),
    },
    "Look at the file": {
        "ecosystem-status": (f"{STANDING}:ecosystem_status", "Where everything stands: overdue, blocked, ready."),
        "status": (f"{STANDING}:status", "Where one repository stands."),
        "blocking": (f"{STANDING}:blocking", "The open issues that hold up work in a repository."),
        "list-repos": ("coordination.cli.repos:list_repos", "The repositories."),
        "list-issues": (f"{ISSUES}:list_issues", "The issues, most urgent first."),
        "show-issue": (f"{SHOWING}:show_issue", "One issue, with what it waits for and holds up."),
        "list-todos": (f"{TODOS}:list_todos", "The todos, most urgent first."),
        "show-todo": (
            f"{SHOWING}:show_todo",
            "One todo, with what it waits for and holds up, and where it is in a run.",
        ),
        "list-plans": (f"{PLANS}:list_plans", "The plans."),
        "show-plan": (f"{SHOWING}:show_plan", "One plan with its milestones and todos."),
        "validate-plan": ("coordination.cli.validating:validate_plan", "What a plan lacks to be complete."),
        "list-deps": (f"{DEPS}:list_deps", "What repositories need of each other."),
        "show-dep": (f"{SHOWING}:show_dep", "One dependency, and how it is checked."),
        "check-deps": ("coordination.cli.check_deps:check_deps", "Check what they need of each other, for real."),
        "export": ("coordination.cli.export:export", "The records as CSV, JSON or Markdown."),
        "graph": (f"{OUTLOOK}:graph", "A plan's order of work: as tree, mermaid, dot or JSON."),
        "forecast": (f"{OUTLOOK}:forecast", "How long a plan takes under each strategy, and which is taken."),
    },
    "Change the file": {
        "create-issue": (f"{ISSUES}:create_issue", "Create an issue."),
        "update-issue": (f"{ISSUES}:update_issue", "Change an issue."),
        "close-issue": (f"{ISSUES}:close_issue", "Close an issue, and say what may begin now."),
        "delete-issue": (f"{ISSUES}:delete_issue", "Delete an issue."),
        "create-todo": (f"{TODOS}:create_todo", "Create a todo."),
        "update-todo": (f"{TODOS}:update_todo", "Change a todo."),
        "complete-todo": ("coordination.cli.done:complete_todo", "Say that a todo is done."),
        "delete-todo": (f"{TODOS}:delete_todo", "Delete a todo."),
        "create-plan": (f"{PLANS}:create_plan", "Create a plan."),
        "update-plan": (f"{PLANS}:update_plan", "Change a plan and its milestones."),
        "delete-plan": (f"{PLANS}:delete_plan", "Delete a plan."),
        "create-dep": (f"{DEPS}:create_dep", "Create a dependency of a repository on another."),
        "update-dep": (f"{DEPS}:update_dep", "Change a dependency."),
        "delete-dep": (f"{DEPS}:delete_dep", "Delete a dependency."),
    },
    "Carry out": {
        "sweep": (f"{SWEEP}:sweep", "Run a plan."),
        "execute": (f"{SWEEP}:execute", "Run one todo."),
        "retry": ("coordination.cli.retry:retry", "Run what failed in a run, and what that held up."),
        "list-runs": (f"{RUNS}:list_runs", "The runs, latest first."),
        "show-run": (f"{RUNS}:show_run", "One run: every todo with its state, worker and time."),
        "watch": (f"{RUNS}:watch", "Follow a run until it ends."),
        "logs": (f"{RUNS}:logs", "What the todos of a run wrote."),
        "pause": (f"{STEERING}:pause", "Start nothing new; what runs goes on to its end."),
        "resume": (f"{STEERING}:resume", "Go on with a paused run."),
        "cancel": (f"{STEERING}:cancel", "End a run now."),
        "sync": (f"{RUNS}:sync", "Write what succeeded back into the file."),
        "clean": ("coordination.cli.clean:clean", "Remove worktrees, branches and logs of ended runs."),
    },
    "Processes": {
        "up": (f"{PROCESSES}:up", "Start server, worker and Flower on this machine."),
        "down": (f"{PROCESSES}:down", "Stop what was started here."),
        "worker": (f"{PROCESSES}:worker", "Serve repositories of this machine."),
        "keeper": (f"{PROCESSES}:keeper", "Keep runs going, and do the steps of restricted workers."),
        "acl": ("coordination.cli.acl:acl", "Write a Redis user with the rights of its role."),
        "mcp": ("coordination.cli.mcp:mcp", "Serve coord's deeds as tools to AI agents."),
        "flower": (f"{MONITORING}:flower", "Start Flower, which shows workers and tasks."),
        "metrics": (f"{MONITORING}:metrics", "Serve coord's metrics to Prometheus."),
    },
}


def remember(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None and parameter.name:
        setattr(ctx.find_object(Call), parameter.name, value)


@click.group(
    cls=LazyGroup, families=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True
)
@click.option("--ecosystem", metavar="FILE", expose_value=False, callback=remember, help="The ecosystem file to use.")
@click.option("--redis", metavar="URL", expose_value=False, callback=remember, help="The Redis to use.")
@click.version_option(package_name="coord", message="%(version)s")
@click.pass_context
def coord(ctx: click.Context) -> None:
    """One order of work across many git repositories, carried out, recovered and recorded.

    The file is ecosystem.yaml, here or in a folder above; without a configured Redis, coord brings its own.
    """
    from coordination.settings import colour_from_environment

    ctx.color = colour_from_environment()


def run(argv: Sequence[str] | None = None) -> NoReturn:
    """One call: whatever happens becomes an exit code, and words on standard error."""
    call = Call()
    try:
        code = _perform(call, argv)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read us has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _perform(call: Call, argv: Sequence[str] | None) -> int:
    try:
        with contextlib.closing(call):
            ended: Any = coord.main(args=argv, prog_name="coord", standalone_mode=False, obj=call)
            return ended if isinstance(ended, int) else 0
    except CoordinationError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.ClickException as error:
        click.echo(f"error: {_refused(error)}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 (a traceback is for us; who typed a command gets a sentence)
        click.echo(_unexpected(error), err=True)
        return 1


def _refused(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return error.format_message()
    return f"{error.format_message()}\n  see: {context.command_path} --help"


def _unexpected(error: Exception) -> str:
    from coordination.settings import debug_from_environment

    words = f"error: coord has a fault: {type(error).__name__}: {error}"
    if debug_from_environment():
        return f"{traceback.format_exc()}{words}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="coord-fault-", suffix=".txt", delete=False) as file:
            file.write(traceback.format_exc())
    except OSError:
        return f"{words}\n  see where: COORD_DEBUG=1 coord …"
    return f"{words}\n  please report it with {file.name}; or see where: COORD_DEBUG=1 coord …"
