"""The commands of `coord`: a table that lists them without importing them, and how a call begins and ends."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click
from click.exceptions import NoArgsIsHelpError
from rich_click import RichCommand, RichGroup
from rich_click.rich_panel import RichCommandPanel

from coordination.cli.context import CliContext
from coordination.errors import CoordinationError
from coordination.terminal import protect, spelled

Families = Mapping[str, Mapping[str, tuple[str, str]]]
"""Heading → command → (`module:function` below this package, its one line of help)."""


class LazyGroup(RichGroup):
    """A group of stubs with a line of help; a command is imported when it is called."""

    def __init__(self, *args: Any, families: Families, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.places = {name: place for family in families.values() for name, (place, _) in family.items()}
        for heading, family in families.items():
            self.add_panel(RichCommandPanel(heading, commands=list(family)))
            for name, (_, help_) in family.items():
                self.add_command(RichCommand(name=name, help=help_))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.places)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, stub, rest = super().resolve_command(ctx, args)
        return name, self._load(name) if name else stub, rest

    def _load(self, name: str) -> click.Command:
        module, _, function = self.places[name].partition(":")
        command: click.Command = getattr(import_module(f"coordination.cli.{module}"), function)
        # What may stand before the command may stand behind it: nobody remembers which way round it was.
        for one in (command, *getattr(command, "commands", {}).values()):
            taken = {parameter.name for parameter in one.params}
            one.params += [p for p in self.params if p.name not in taken and not p.is_eager]
        return command


INTERRUPTED = 130
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

COMMANDS: Families = {
    "Begin": {
        "demo": ("files:demo", "Make a small real ecosystem and sweep a plan over it."),
        "init": ("files:init", "Write ecosystem.yaml from the git repositories of a folder."),
        "validate": ("files:validate", "Check the file: every problem at once, with its line."),
        "doctor": ("doctor:doctor", "Check everything else: Redis, hosts, workers, queues, runs."),
        "schema": ("files:schema", "Write the file's JSON Schema, for editors."),
        "completion": ("completion:completion", "Write the script by which a shell completes names."),
    },
    "Look at the file": {
        "ecosystem-status": ("tracker.status:ecosystem_status", "Where everything stands: overdue, blocked, ready."),
        "status": ("tracker.status:status", "Where one repository stands; or everything, with its circuit breakers."),
        "blocking": ("tracker.status:blocking", "The open issues that hold up work in a repository."),
        "list-repos": ("tracker.records:list_repos", "The repositories."),
        "list-issues": ("tracker.records:list_issues", "The issues, most urgent first."),
        "show-issue": ("tracker.pages:show_issue", "One issue, with what it waits for and holds up."),
        "list-todos": ("tracker.records:list_todos", "The todos, most urgent first."),
        "show-todo": (
            "tracker.pages:show_todo",
            "One todo, with what it waits for and holds up, and where it is in a run.",
        ),
        "list-plans": ("tracker.records:list_plans", "The plans."),
        "show-plan": ("tracker.pages:show_plan", "One plan with its milestones and todos."),
        "validate-plan": ("tracker.validation:validate_plan", "What a plan lacks to be complete."),
        "list-deps": ("tracker.dependencies:list_deps", "What repositories need of each other."),
        "show-dep": ("tracker.pages:show_dep", "One dependency, and how it is checked."),
        "check-deps": ("tracker.dependencies:check_deps", "Check what they need of each other, for real."),
        "export": ("tracker.export:export", "The records as CSV, JSON or Markdown."),
        "graph": ("runs.forecast:graph", "A plan's order of work: as tree, mermaid, dot or JSON."),
        "forecast": ("runs.forecast:forecast", "How long a plan takes under each strategy, and which is taken."),
    },
    "Change the file": {
        "create-issue": ("tracker.records:create_issue", "Create an issue."),
        "update-issue": ("tracker.records:update_issue", "Change an issue."),
        "close-issue": ("tracker.records:close_issue", "Close an issue, and say what may begin now."),
        "delete-issue": ("tracker.records:delete_issue", "Delete an issue."),
        "create-todo": ("tracker.records:create_todo", "Create a todo."),
        "update-todo": ("tracker.records:update_todo", "Change a todo."),
        "complete-todo": ("tracker.records:complete_todo", "Say that a todo is done."),
        "delete-todo": ("tracker.records:delete_todo", "Delete a todo."),
        "create-plan": ("tracker.records:create_plan", "Create a plan."),
        "update-plan": ("tracker.records:update_plan", "Change a plan and its milestones."),
        "delete-plan": ("tracker.records:delete_plan", "Delete a plan."),
        "create-dep": ("tracker.dependencies:create_dep", "Create a dependency of a repository on another."),
        "update-dep": ("tracker.dependencies:update_dep", "Change a dependency."),
        "delete-dep": ("tracker.dependencies:delete_dep", "Delete a dependency."),
    },
    "Carry out": {
        "sweep": ("runs.sweep:sweep", "Run a plan."),
        "execute": ("runs.sweep:execute", "Run one todo."),
        "retry": ("runs.retry:retry", "Run what failed in a run, and what that held up."),
        "list-runs": ("runs.inspection:list_runs", "The runs, latest first."),
        "show-run": ("runs.inspection:show_run", "One run: every todo with its state, worker and time."),
        "watch": ("runs.inspection:watch", "Follow a run until it ends."),
        "logs": ("runs.inspection:logs", "What the todos of a run wrote."),
        "pause": ("runs.control:pause", "Start nothing new; what runs goes on to its end."),
        "resume": ("runs.control:resume", "Go on with a paused run."),
        "cancel": ("runs.control:cancel", "End a run now."),
        "approve": ("runs.control:approve", "Let a todo begin, or a milestone be reached, that waits for it."),
        "reject": ("runs.control:reject", "Do not let it: it has failed."),
        "rollback": ("runs.rollback:rollback", "Undo what a run did, in reverse order."),
        "checkpoint": (
            "runs.retry:checkpoint",
            "Name what a run has done, and come back to it: create, list, restore.",
        ),
        "sync": ("runs.inspection:sync", "Write what succeeded back into the file."),
        "export-run": ("runs.export:export_run", "A run as one JSON document: to move it, or to look at it."),
        "import-run": ("runs.export:import_run", "A run that was exported becomes one of this Redis."),
        "clean": ("runs.clean:clean", "Remove worktrees, branches and logs of ended runs."),
    },
    "Share": {
        "list-locks": ("locks:list_locks", "The locks that are held, and who waits for them."),
        "release-lock": ("locks:release_lock", "Take a lock from its holder."),
        "reset-breaker": ("locks:reset_breaker", "Close a circuit breaker: what waits behind it goes on."),
        "context": ("context_commands:context", "Values that todos share: get, set, list, delete, export, import."),
        "list-resources": ("locks:list_resources", "The file's resources: how much is in use, and waited for."),
    },
    "Talk": {
        "send-message": ("messages:send_message", "Tell a repository something, or an agent, or a person."),
        "list-messages": ("messages:list_messages", "What waits for whom; and what is done with."),
        "publish": ("messages:publish", "Publish an event on a topic."),
        "subscribe": ("messages:subscribe", "Print the events of topics as they come."),
    },
    "Processes": {
        "up": ("processes.machine:up", "Start server, worker and Flower on this machine."),
        "down": ("processes.machine:down", "Stop what was started here."),
        "worker": ("processes.machine:worker", "Serve repositories of this machine."),
        "keeper": ("processes.machine:keeper", "Keep runs going, and do the steps of restricted workers."),
        "acl": ("processes.acl:acl", "Write a Redis user with the rights of its role."),
        "steps": ("processes.steps:steps", "Load coord's steps into a Redis server."),
        "mcp": ("processes.mcp:mcp", "Serve coord's deeds as tools to AI agents."),
        "gateway": ("processes.gateway:gateway", "Serve messages over WebSocket."),
        "flower": ("processes.monitoring:flower", "Start Flower, which shows workers and tasks."),
        "metrics": ("processes.monitoring:metrics", "Serve coord's metrics to Prometheus."),
    },
}


def remember(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None and parameter.name:
        setattr(ctx.find_object(CliContext), parameter.name, value)


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
    from coordination.environment import hide_process
    from coordination.settings import (
        colour_from_environment,
        failpoints_from_environment,
        refuse_in_todo,
        secret_in_environment,
    )

    if secret_in_environment():
        hide_process()
    if ctx.invoked_subcommand != "context":
        refuse_in_todo(f"coord {ctx.invoked_subcommand}")
    ctx.color = colour_from_environment()
    if words := failpoints_from_environment():
        from coordination.broker import failpoints

        failpoints.switch_on(words)


def run(argv: Sequence[str] | None = None) -> NoReturn:
    """Execute one call: every error becomes an exit code and a message on standard error."""
    _open_what_is_closed()
    protect()
    call = CliContext()
    try:
        code = _perform(call, argv)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read us has enough
        code = _write_no_more()
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        click.echo(_no_room(error), err=True)
        code = _write_no_more()
    sys.exit(code)


def _open_what_is_closed() -> None:
    """Replace output streams that the caller closed (`>&-`). Commands that read standard input check it
    themselves.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (to the end of the process)


def _write_no_more() -> int:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _perform(call: CliContext, argv: Sequence[str] | None) -> int:
    try:
        with contextlib.closing(call):
            ended: Any = coord.main(args=argv, prog_name="coord", standalone_mode=False, obj=call)
            return ended if isinstance(ended, int) else 0
    except CoordinationError as error:
        click.echo(f"error: {spelled(str(error))}", err=True)
        return error.exit_code
    except NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return error.exit_code
    except click.ClickException as error:
        click.echo(f"error: {spelled(_refused(error))}", err=True)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) or (isinstance(error, OSError) and error.errno in NO_ROOM):
            raise
        click.echo(_unexpected(error), err=True)
        return 1


def _refused(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return error.format_message()
    return f"{error.format_message()}\n  see: {context.command_path} --help"


def _no_room(error: OSError) -> str:
    what = f"{error.filename} cannot be written" if error.filename else "not all of the answer could be written"
    return f"error: {what}: {error.strerror}\n  make room; then see whether what was to change has changed"


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
