"""The commands of `coord`: a table that lists them without importing them, and how a call begins and ends."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from coordination.cli.context import CliContext
from coordination.cli.groups import HELP_OPTIONS, CommandTable, Families, paged_on_terminal
from coordination.errors import CoordinationError
from coordination.terminal import protect, spelled

INTERRUPTED = 130
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

COMMANDS: Families = {
    "Start": {
        "demo": ("files:demo", "Create a small ecosystem and run its plan."),
        "init": (
            "files:init",
            "Write ecosystem.yaml from the git repositories of a folder.",
            "ecosystem init",
        ),
        "validate": (
            "files:validate",
            "Check the file; print every problem with its line.",
            "ecosystem validate",
        ),
        "doctor": ("doctor:doctor", "Check Redis, hosts, workers, queues and runs."),
        "health": ("health:health", "Show the health of repositories, remotes, services and disks."),
        "schema": ("files:schema", "Print the JSON Schema of the file, for editors.", "ecosystem schema"),
        "completion": ("completion:completion", "Print the completion script of a shell."),
        "help": ("help:help", "Explain a command, a noun, or a chapter of the documentation."),
    },
    "Read the file": {
        "ecosystem-status": (
            "tracker.status:ecosystem_status",
            "Show the state of everything: overdue, blocked, ready.",
            "ecosystem status",
        ),
        "status": (
            "tracker.status:status",
            "Show the state of one repository, or of everything.",
            "repo status",
        ),
        "blocking": (
            "tracker.status:blocking",
            "List the open issues that block work in a repository.",
            "repo blocking",
        ),
        "disconnect-repo": ("health:disconnect_repo", "Let no todo start in a repository."),
        "connect-repo": ("health:connect_repo", "Let todos start in a repository again."),
        "list-repos": ("tracker.records:list_repos", "List the repositories."),
        "list-issues": ("tracker.records:list_issues", "List the issues, most urgent first."),
        "show-issue": ("tracker.pages:show_issue", "Show an issue with its blockers and dependents."),
        "list-todos": ("tracker.records:list_todos", "List the todos, most urgent first."),
        "show-todo": (
            "tracker.pages:show_todo",
            "Show a todo with its blockers, its dependents and its state in a run.",
        ),
        "list-plans": ("tracker.records:list_plans", "List the plans."),
        "show-plan": ("tracker.pages:show_plan", "Show a plan with its milestones and todos."),
        "list-templates": ("runs.templates:list_templates", "List the templates of plans."),
        "show-template": ("runs.templates:show_template", "Show a template of plans as YAML."),
        "validate-plan": ("tracker.validation:validate_plan", "Check whether a plan is complete."),
        "list-deps": ("tracker.dependencies:list_deps", "List the dependencies between repositories."),
        "show-dep": ("tracker.pages:show_dep", "Show a dependency and its check."),
        "check-deps": ("tracker.dependencies:check_deps", "Check the dependencies between repositories."),
        "export": (
            "tracker.export:export",
            "Export the records as CSV, JSON or Markdown.",
            "ecosystem export",
        ),
        "graph": (
            "runs.forecast:graph",
            "Show the dependency graph of a plan: tree, mermaid, dot, SVG or JSON.",
            "plan graph",
        ),
        "forecast": (
            "runs.forecast:forecast",
            "Estimate the duration of a plan under each strategy.",
            "plan forecast",
        ),
    },
    "History": {
        "events": ("events:events", "List or follow the events of runs, locks and commands.", "event list"),
        "history": ("history:history", "List the events of the records."),
        "rebuild-history": ("history:rebuild_history", "Begin a new database of the history."),
        "export-history": ("history:export_history", "Write all events as lines of JSON."),
        "import-history": ("history:import_history", "Keep the events of an export."),
        "trends": ("history:trends", "Show what was created and done, and the trend of each figure."),
    },
    "Change the file": {
        "create-issue": ("tracker.records:create_issue", "Create an issue."),
        "update-issue": ("tracker.records:update_issue", "Update an issue."),
        "close-issue": ("tracker.records:close_issue", "Close an issue."),
        "delete-issue": ("tracker.records:delete_issue", "Delete an issue."),
        "sync-issues": (
            "tracker.issue_sync:sync_issues",
            "Bring issues in line with those at the forges of their repositories.",
        ),
        "create-todo": ("tracker.records:create_todo", "Create a todo."),
        "update-todo": ("tracker.records:update_todo", "Update a todo."),
        "complete-todo": ("tracker.records:complete_todo", "Complete a todo."),
        "delete-todo": ("tracker.records:delete_todo", "Delete a todo."),
        "create-plan": ("runs.templates:create_plan", "Create a plan, also from a template."),
        "update-plan": ("tracker.records:update_plan", "Update a plan and its milestones."),
        "delete-plan": ("tracker.records:delete_plan", "Delete a plan."),
        "campaign": (
            "runs.campaign:campaign",
            "Create a plan that changes and checks many repositories.",
            "plan campaign",
        ),
        "create-dep": ("tracker.dependencies:create_dep", "Create a dependency between repositories."),
        "update-dep": ("tracker.dependencies:update_dep", "Update a dependency."),
        "delete-dep": ("tracker.dependencies:delete_dep", "Delete a dependency."),
    },
    "Runs": {
        "sweep": ("runs.sweep:sweep", "Run a plan.", "run sweep"),
        "execute": ("runs.sweep:execute", "Run one todo.", "todo execute"),
        "exec": ("runs.exec:exec_", "Run one command in many repositories.", "repo exec"),
        "retry": ("runs.retry:retry", "Run the failed and blocked todos of a run again.", "run retry"),
        "start-service": ("processes.services:start_service", "Start services, and what they depend on."),
        "stop-service": ("processes.services:stop_service", "Stop services, and what depends on them."),
        "restart-service": (
            "processes.services:restart_service",
            "Restart services, and what depends on them.",
        ),
        "list-services": ("processes.services:list_services", "List the services with their states."),
        "show-service": ("processes.services:show_service", "Show a service with its last look."),
        "service-logs": ("processes.services:service_logs", "Print what a service wrote.", "service logs"),
        "changes": (
            "landing.changes:changes",
            "List the change sets: branch, size, what they wait for.",
            "plan changes",
        ),
        "diff": ("landing.changes:diff", "Show the difference of a plan's change set.", "plan diff"),
        "adopt": ("landing.changes:adopt", "Take a branch as the tip of a change set.", "plan adopt"),
        "resolve": (
            "landing.changes:resolve",
            "Show where a conflict is resolved, and go on with the merge.",
            "plan resolve",
        ),
        "qa": ("landing.qa:qa", "Run the quality checks of repositories.", "qa run"),
        "ci": ("landing.ci:ci", "Run quality checks in a CI job.", "qa ci"),
        "show-qa": ("landing.qa:show_qa", "Show the quality checks of a run.", "qa show"),
        "land": (
            "landing.land:land",
            "Bring a plan's change set into the base branches.",
            "plan land",
        ),
        "create-pr": (
            "landing.requests:create_pr",
            "Open the pull requests of a plan, or bring them up to date.",
        ),
        "list-prs": ("landing.requests:list_prs", "List the pull requests with their checks and reviews."),
        "close-pr": ("landing.requests:close_pr", "Close the pull requests of a plan without a merge."),
        "open-pr": ("landing.requests:open_pr", "Open pull requests in the browser."),
        "revert": (
            "landing.land:revert",
            "Take a landed change set out of the base branches.",
            "plan revert",
        ),
        "list-runs": ("runs.inspection:list_runs", "List the runs, latest first."),
        "show-run": ("runs.inspection:show_run", "Show a run: state, worker and duration of every todo."),
        "watch": ("runs.inspection:watch", "Follow a run until it ends.", "run watch"),
        "logs": ("runs.inspection:logs", "Print the output of the todos of a run.", "run logs"),
        "pause": ("runs.control:pause", "Pause a run: start no more todos.", "run pause"),
        "resume": ("runs.control:resume", "Resume a paused run.", "run resume"),
        "cancel": ("runs.control:cancel", "Cancel a run.", "run cancel"),
        "approve": (
            "runs.control:approve",
            "Approve a todo or milestone that waits at a gate.",
            "run approve",
        ),
        "reject": ("runs.control:reject", "Reject a todo or milestone that waits at a gate.", "run reject"),
        "rollback": ("runs.rollback:rollback", "Undo a run, in reverse order.", "run rollback"),
        "checkpoint": (
            "runs.retry:checkpoint",
            "Create, list and restore checkpoints of a run.",
            "run checkpoint",
        ),
        "sync": ("runs.inspection:sync", "Write the results of a run into the file.", "run sync"),
        "export-run": ("runs.export:export_run", "Export a run as a JSON document."),
        "import-run": ("runs.export:import_run", "Import an exported run."),
        "clean": ("runs.clean:clean", "Remove worktrees, branches and logs of ended runs.", "run clean"),
    },
    "Locks and shared values": {
        "list-locks": ("locks:list_locks", "List the locks with their holders and waiters."),
        "release-lock": ("locks:release_lock", "Release a lock that somebody else holds."),
        "reset-breaker": ("locks:reset_breaker", "Close a circuit breaker."),
        "context": ("context_commands:context", "Read and write the values that todos share."),
        "list-resources": ("locks:list_resources", "List the resources: capacity, use, waiters."),
    },
    "Messages": {
        "send-message": ("messages:send_message", "Send a message to a repository, agent or person."),
        "list-messages": ("messages:list_messages", "List and acknowledge messages."),
        "publish": ("messages:publish", "Publish an event on a topic.", "topic publish"),
        "subscribe": ("messages:subscribe", "Print the events of topics as they come.", "topic subscribe"),
    },
    "Trust": {
        "identity": ("trust:identity", "Make and show the key with which you sign."),
        "trust": ("trust:trust", "Edit the trust file: whom this machine trusts, with their roles."),
    },
    "Processes": {
        "up": ("processes.machine:up", "Start server, worker, Flower and dashboard on this machine."),
        "down": ("processes.machine:down", "Stop the processes that were started here."),
        "worker": ("processes.machine:worker", "Serve repositories of this machine."),
        "keeper": ("processes.machine:keeper", "Run maintenance, and the steps of restricted workers."),
        "acl": ("processes.acl:acl", "Print a Redis user with the rights of its role."),
        "credential": (
            "processes.credentials:credential",
            "Name secrets of this machine for todos and git: references, never the secrets.",
        ),
        "steps": ("processes.acl:steps", "Load the steps of coord into a Redis server."),
        "mcp": ("processes.mcp:mcp", "Serve coord's operations as tools to AI agents."),
        "gateway": ("processes.gateway:gateway", "Serve messages over WebSocket."),
        "dashboard": ("processes.dashboard:dashboard", "Serve pages for people: what runs, waits, failed."),
        "open": ("processes.dashboard:open_", "Open the dashboard in the browser."),
        "flower": ("processes.machine:flower", "Start Flower, which shows workers and tasks."),
        "metrics": ("processes.machine:metrics", "Serve coord's metrics to Prometheus."),
    },
}

EVERYDAY = ("init", "validate", "doctor", "status", "sweep", "watch", "logs", "retry", "rollback", "help")
"""Commands that `coord --help` lists beside the nouns."""


def remember(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None and parameter.name:
        setattr(ctx.find_object(CliContext), parameter.name, value)


@click.group(
    cls=CommandTable,
    families=COMMANDS,
    everyday=EVERYDAY,
    context_settings={"help_option_names": list(HELP_OPTIONS)},
    no_args_is_help=True,
    subcommand_metavar="COMMAND|NOUN VERB [ARGS]...",
)
@click.option(
    "--ecosystem",
    metavar="FILE",
    expose_value=False,
    callback=remember,
    help="The ecosystem file (default: ecosystem.yaml here or above).",
)
@click.option(
    "--redis",
    metavar="URL",
    expose_value=False,
    callback=remember,
    help="The Redis (default: redis_url of the settings, else the embedded server).",
)
@click.option(
    "-v",
    "--verbose",
    count=True,
    metavar="",
    expose_value=False,
    callback=lambda ctx, _, more: more and ctx.find_object(CliContext).log(more),
    help="Print log lines of coord to standard error; -vv prints more.",
)
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=lambda ctx, _, given: given and ctx.find_object(CliContext).be_quiet(),
    help="Print results, warnings and errors only: no progress, no advice.",
)
@click.option(
    "--no-pager",
    is_flag=True,
    default=None,
    expose_value=False,
    callback=remember,
    help="Do not send long output to the pager (COORD_PAGER, PAGER, else less).",
)
@click.version_option(package_name="coord", message="%(version)s")
@click.pass_context
def coord(ctx: click.Context) -> None:
    """Run plans of todos across many git repositories, with recovery and undo.

    The file is ecosystem.yaml, here or in a folder above; without a configured Redis, coord brings its own.
    """
    from coordination.environment import (
        colour_from_environment,
        failpoints_from_environment,
        hide_process,
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
    call = CliContext(sys.argv[1:] if argv is None else argv)
    try:
        code = _perform(call, argv)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has enough
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
        from coordination.cli.times import with_local_times

        click.echo(f"error: {spelled(with_local_times(str(error)))}", err=True)
        return error.exit_code
    except NoArgsIsHelpError as error:
        _print_usage(error)
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


def _print_usage(error: NoArgsIsHelpError) -> None:
    """Print the help on standard error: without a command the call is wrong."""
    assert error.ctx is not None
    with error.ctx.scope(cleanup=False), paged_on_terminal():
        click.echo(error.format_message(), err=True)


def _refused(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return error.format_message()
    return f"{error.format_message()}\n  see: {context.command_path} --help"


def _no_room(error: OSError) -> str:
    what = (
        f"{error.filename} cannot be written" if error.filename else "not all of the answer could be written"
    )
    return f"error: {what}: {error.strerror}\n  make room; then check whether the change was made"


def _unexpected(error: Exception) -> str:
    from coordination.environment import debug_from_environment

    words = f"error: coord has a fault: {type(error).__name__}: {error}"
    if debug_from_environment():
        return f"{traceback.format_exc()}{words}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="coord-fault-", suffix=".txt", delete=False) as file:
            file.write(traceback.format_exc())
    except OSError:
        return f"{words}\n  see where: COORD_DEBUG=1 coord …"
    return f"{words}\n  please report it with {file.name}; or see where: COORD_DEBUG=1 coord …"
