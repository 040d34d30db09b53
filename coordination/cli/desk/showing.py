"""`show-*` for what the file declares: the record, what it waits for and holds up, what a run does with it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import click
from rich_click import command

from coordination.cli.completing import dependency_ids, issue_ids, plan_ids, todo_ids
from coordination.cli.context import CliContext
from coordination.cli.desk.listing import done, print_todos
from coordination.cli.desk.pages import dependency_page, issue_page, plan_page, todo_page
from coordination.cli.live import live_todo
from coordination.cli.runs.waits import how_long
from coordination.cli.screen.blocks import print_page
from coordination.cli.screen.colours import STYLES
from coordination.cli.screen.shown import Form, shown
from coordination.cli.screen.tables import plain, styled
from coordination.models import OPEN_TODO, Dependency, Issue, Plan, Todo
from coordination.tracker.executing import as_view

if TYPE_CHECKING:
    from coordination.runs.live import LiveTodo


@command()
@click.argument("issue", shell_complete=issue_ids)
@shown(Issue)
@click.pass_obj
def show_issue(call: CliContext, issue: str, form: Form) -> None:
    """Show one issue with everything that it waits for and holds up."""
    record, chains = call.manager.get_issue(issue), call.manager.chains_of(issue)
    form.record(record, lambda: dict(chains), lambda: print_page(*issue_page(record, chains, date.today())))


@command()
@click.argument("todo", shell_complete=todo_ids)
@shown(Todo)
@click.pass_obj
def show_todo(call: CliContext, todo: str, form: Form) -> None:
    """Show one todo with everything that it waits for and holds up, and what a run does with it."""
    record, chains = as_view(call.manager.get_todo(todo)), call.manager.chains_of(todo)
    plan = next((p for p in call.manager.ecosystem.coordination.plans if p.id == record.plan), None)

    def more() -> dict[str, Any]:
        live = live_todo(call, todo)
        return {**dict(chains), "live": live}

    form.record(
        record, more, lambda: print_page(*todo_page(record, plan, chains), _at_present(record, live_todo(call, todo)))
    )


@command()
@click.argument("plan", shell_complete=plan_ids)
@shown(Plan)
@click.pass_obj
def show_plan(call: CliContext, plan: str, form: Form) -> None:
    """Show one plan with its milestones, its todos, and everything that it waits for and holds up."""
    record, todos, chains = call.manager.get_plan(plan), call.manager.plan_todos(plan), call.manager.chains_of(plan)

    def more() -> dict[str, Any]:
        return {"todos": todos, **dict(chains)}

    def read() -> None:
        standing = call.manager.validate_plan_completion(plan)
        progress = f"{done(todos)} todos done" if todos else "no todos"
        print_page(*plan_page(record, standing.milestones, progress, chains, date.today()))
        if todos:
            click.echo()
            print_todos(todos)

    form.record(record, more, read)


@command()
@click.argument("dependency", metavar="DEP", shell_complete=dependency_ids)
@shown(Dependency)
@click.pass_obj
def show_dep(call: CliContext, dependency: str, form: Form) -> None:
    """Show one dependency of a repository on another, and how it is checked."""
    record = call.manager.get_dependency(dependency)
    form.record(record, dict, lambda: print_page(*dependency_page(record)))


def _at_present(todo: Todo, live: LiveTodo | None) -> Iterator[str]:
    """`running for 4 min, attempt 2, on w@host: run …`; nothing where no run knows the todo."""
    if live is None:
        return
    words = [styled(live.state, STYLES.get(live.state, "")) + _for_how_long(live)]
    if live.attempt > 1:
        words.append(f"attempt {live.attempt}")
    if live.worker:
        words.append(f"on {live.worker}")
    yield styled("in a run", "bold")
    yield f"  {', '.join(words)}: run {live.run_id}, {live.run_status}"
    if why := live.error if live.state.ended else live.waits_for:
        yield f"  {plain(why.partition(chr(10))[0])}"
    yield f"  what it wrote: coord logs {live.run_id} {todo.id}"
    if live.state == "succeeded" and live.run_status.ended and todo.status in OPEN_TODO:
        yield f"  the file does not say so, which this does: coord sync {live.run_id}"


def _for_how_long(live: LiveTodo) -> str:
    if live.since is None:
        return ""
    passed = how_long(datetime.now(UTC) - datetime.fromisoformat(live.since))
    return f" {passed} ago" if live.state.ended else f" for {passed}"
