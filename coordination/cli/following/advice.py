"""Advice after a run: branches, failures with the end of their logs, next commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coordination.api import RunStatus, RunView, TodoState, TodoView, is_landing, start_again
from coordination.cli.context import aloud
from coordination.cli.following.summary import elsewhere, format_wait, waits
from coordination.terminal import spelled
from coordination.text import counted, listed

if TYPE_CHECKING:
    from coordination.api.run import Run

FAILED = (TodoState.FAILED, TodoState.COMPENSATION_FAILED)
SHOWN_FAILURES = 3
LAST_LINES = 6
LINE_WIDTH = 160


def print_advice(run: Run, view: RunView, worktrees: Path) -> None:
    """Print the failed todos, with --quiet too; then the waits and the next commands."""
    with aloud():
        for line in failures(view, run.log_tail, worktrees / view.run_id):
            click.echo(spelled(line), err=True)
    now = datetime.now(UTC)
    for wait in waits(view, run.max_parallel()) if not view.status.ended else ():
        click.echo(spelled(format_wait(wait, now)), err=True)
    for line in advice(view, run.branches(view), worktrees / view.run_id):
        click.echo(spelled(line), err=True)


def failures(run: RunView, tail: Callable[[str], str], worktrees: Path) -> Iterator[str]:
    """Yield lines that name every failed todo. `tail`: returns the end of a log."""
    undone = run.status is RunStatus.ROLLED_BACK
    failed = [
        todo
        for todo in run.todos
        if todo.state in FAILED or (undone and todo.was is TodoState.FAILED and todo.error)
    ]
    for todo in failed[:SHOWN_FAILURES]:
        if undone:
            yield f"✗ {todo.id}  {todo.repo}  {(todo.error or '').partition(chr(10))[0]}"
            yield f"  full log: coord logs {run.run_id} {todo.id}"
        else:
            yield from _failure(run.run_id, todo, tail(todo.id), worktrees / todo.repo)
    if more := [todo.id for todo in failed[SHOWN_FAILURES:]]:
        yield f"{len(more)} more failed: {', '.join(more)}; see: coord show-run {run.run_id}"


def advice(run: RunView, branches: Mapping[str, str], worktrees: Path) -> Iterator[str]:
    """Yield lines with the next commands. `branches`: repository → the branch with its work."""
    for branch in () if is_landing(run.plan_id) else sorted(set(branches.values()), reverse=True):
        repos = sorted(repo for repo, its in branches.items() if its == branch)
        yield f"commits are on branch {branch} in {listed(repos)}"
    failed = [todo for todo in run.todos if todo.state in FAILED]
    if run.status is RunStatus.ROLLED_BACK:
        yield from _all_undone(run)
    elif run.status is RunStatus.ROLLBACK_FAILED:
        yield from _not_undone(run)
    elif is_landing(run.plan_id) and run.status in (RunStatus.FAILED, RunStatus.CANCELLED):
        yield f"go on, when the cause is removed: {start_again(run.plan_id)}"
        if (revert := f"coord revert {run.plan_id.partition(':')[2]}") != start_again(run.plan_id):
            yield f"take out what has landed: {revert}"
    elif failed and run.status is RunStatus.FAILED:
        yield _where_to_fix(run, failed, worktrees)
        yield f"then run the rest: coord retry {run.run_id}"
    elif run.status is RunStatus.CANCELLED:
        if worktrees.is_dir():
            yield f"worktrees: {worktrees}"
        yield f"run the rest: coord retry {run.run_id}"
    elif not run.status.ended:
        yield f"follow it: coord watch {run.run_id}"
    else:
        yield from _how_to_land(run, branches)


def _how_to_land(run: RunView, branches: Mapping[str, str]) -> Iterator[str]:
    if branches and run.change_set:
        yield f"bring them into the base branches: coord land {run.change_set}"


def _where_to_fix(run: RunView, failed: Iterable[TodoView], worktrees: Path) -> str:
    if any((worktrees / todo.repo).is_dir() or elsewhere(todo) for todo in failed):
        return (
            "fix the cause in the file, on the repository's branch, "
            f"or by a commit on coord/{run.run_id} in the worktree"
        )
    return "fix the cause in the file or on the repository's branch: there is no worktree yet"


def _all_undone(run: RunView) -> Iterator[str]:
    accepted = [todo.id for todo in run.todos if todo.accepted]
    before = f", also those of run {run.carried_from} before it" if run.carried_from else ""
    kept = f", except {listed(accepted)} (accepted as it is)" if accepted else ""
    started = any(todo.was for todo in run.todos)
    yield f"all started todos were undone{before}{kept}" if started else "nothing had started"
    yield f"start again: {start_again(run.plan_id)}"


def _not_undone(run: RunView) -> Iterator[str]:
    failed = [todo.id for todo in run.todos if todo.state is TodoState.COMPENSATION_FAILED]
    if behind := sum(bool(todo.started_at) and todo.was is None for todo in run.todos):
        yield f"not undone yet: {counted(behind, 'earlier todo')}"
    yield f"fix the cause, then try again: coord rollback {run.run_id}"
    accept = " ".join(f"--accept {todo}" for todo in (failed if len(failed) <= SHOWN_FAILURES else ("TODO",)))
    yield f'or, if it was undone by hand or may stay: coord rollback {run.run_id} {accept} --reason "…"'


def _failure(run_id: str, todo: TodoView, tail: str, worktree: Path) -> Iterator[str]:
    message, _, hint = (todo.error or "").partition("\n")
    what = "could not be undone: " if todo.state is TodoState.COMPENSATION_FAILED else ""
    yield f"✗ {todo.id}  {todo.repo}  {what}{message}"
    if hint:
        yield f"  {hint.strip()}"
    else:
        yield from (f"  | {line[:LINE_WIDTH]}" for line in last_lines(tail))
        yield f"  full log: coord logs {run_id} {todo.id}"
    if worktree.is_dir():
        yield f"  worktree: {worktree}"
    elif elsewhere(todo):
        yield f"  executed on host {todo.host}"


def last_lines(tail: str) -> list[str]:
    """Return the last lines of the output of a todo; none if the output was cut there."""
    lines = [line.rstrip() for line in tail.splitlines()]
    if any(line.startswith("[coord] output cut here") for line in lines):
        return []
    return [line for line in lines if line and not line.startswith("[coord] ")][-LAST_LINES:]
