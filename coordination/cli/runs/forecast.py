"""`graph` and `forecast`: the order of work of a plan, and its duration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from coordination.api import Selectors
from coordination.cli.completion import run_ids
from coordination.cli.context import CliContext
from coordination.cli.screen.output import print_json
from coordination.cli.screen.pager import length, paged
from coordination.cli.screen.tables import (
    colourful,
    cut,
    plain,
    terminal_width,
    toned,
    wrapped,
)
from coordination.errors import UsageError
from coordination.states import tone_of
from coordination.text import counted, format_hours

if TYPE_CHECKING:
    from coordination.api import Forecast, PlanGraph, Saving
    from coordination.api.planning import PlanForecast, PlanProgress

SHOWN_OF_PATH = 12
NOTHING_H = 0.5 / 3600
"""Savings below this are reported as none."""
FORMATS = ("tree", "mermaid", "dot", "svg", "json")


@click.option("--format", "form", type=click.Choice(FORMATS), default="tree", show_default=True)
@click.option(
    "--run",
    metavar="RUN",
    shell_complete=run_ids,
    help="With svg: draw this run of the plan, with the state of each todo.",
)
def graph(call: CliContext, values: dict[str, Any], *, form: str, run: str | None) -> None:
    """The status of each todo is shown, too."""
    from coordination.api.planning import as_data, draw

    plan = values.pop("plan")
    selectors = Selectors(**values)
    if run is not None:
        click.echo(_graph_of_run(call, plan, form, run, selectors), nl=False)
        return
    planner = call.coord.planner
    plan_graph = planner.graph(plan, selectors)
    drawn = planner.with_finished(plan_graph, selectors)
    if form == "json":
        print_json(as_data(plan_graph, drawn))
    else:
        with paged() if form == "tree" else nullcontext():
            text = draw(drawn, form, _paint).removesuffix("\n")
            click.echo(_folded(text) if form == "tree" else text)


def _paint(status: str, line: str) -> str:
    """Return the line of a todo as the terminal shows it."""
    shown = cut(line, width) if (width := terminal_width()) else line
    return toned(shown, tone_of(status)) if colourful() else shown


def _folded(text: str) -> str:
    """Return a tree whose other lines fit the terminal, too."""
    if not (width := terminal_width()):
        return text
    lines = text.split("\n")
    return "\n".join(
        part
        for line in lines
        for part in ([line] if length(click.unstyle(line)) <= width else wrapped(line, width))
    )


def _graph_of_run(call: CliContext, plan: str, form: str, run: str, selectors: Selectors) -> str:
    if form != "svg" or selectors != Selectors():
        raise UsageError(
            "--run goes with --format svg, for the whole run",
            f"coord plan graph {plan} --format svg --run {run}",
        )
    tasks = (
        {todo.id: todo.task for todo in call.coord.document.ecosystem.coordination.todos}
        if call.coord.has_file
        else {}
    )
    found = call.coord.runs.get(run)
    view = found.view(todos=False)
    if view.plan_id != plan:
        raise UsageError(
            f"run {view.run_id} belongs to {view.plan_id}, not to {plan}",
            f"coord plan graph {view.plan_id} --format svg --run {run}",
        )
    return found.picture(tasks)


def print_forecast(foreseen: PlanForecast) -> None:
    with paged():
        click.echo(_format(foreseen.graph, foreseen, foreseen.progress))


def _format(graph: PlanGraph, foreseen: Forecast, progress: PlanProgress) -> str:
    title = f"{graph.plan.id}  {plain(graph.plan.title)}"
    past = list(_past(progress)) if progress.completed or progress.cancelled else []
    if not graph.nothing_to_do:
        to_do = [f"{'remains':<13}{graph.size}, {format_hours(graph.work_hours)} of work"] if past else []
        return "\n".join([title, *past, *to_do, *_figures(foreseen), *_remarks(graph, foreseen)])
    if past and not progress.remaining:
        return "\n".join([title, *past, f"{'remains':<13}nothing"])
    return "\n".join([title, *past, f"nothing to do: {graph.nothing_to_do}"])


def _past(progress: PlanProgress) -> Iterator[str]:
    """Yield lines on the finished todos of a plan and their duration."""
    cancelled = f", {progress.cancelled} cancelled" if progress.cancelled else ""
    yield f"{'done':<13}{progress.completed} of {counted(progress.todos, 'todo')}{cancelled}"
    took = [f"{format_hours(progress.actual_hours)} of work"] if progress.actual_hours else []
    if progress.run_id and progress.run_s is not None:
        took.append(f"last run {progress.run_s:.1f} s ({progress.run_id}, {progress.run_status})")
    if took:
        yield f"{'took':<13}{'; '.join(took)}"


def _figures(foreseen: Forecast) -> Iterator[str]:
    yield f"levels       {format_hours(foreseen.levels_h)}"
    yield f"dataflow     {format_hours(foreseen.dataflow_h)}"
    yield f"lower bound  {format_hours(foreseen.bound_h)}  {_bound_reason(foreseen)}"
    yield f"strategy     {foreseen.reason}"
    if foreseen.bottleneck:
        yield f"bottleneck   {foreseen.bottleneck.reason}"
    for saving in filter(None, (foreseen.one_more_slot, foreseen.one_more_resource)):
        yield f"one more     {_saving(saving, foreseen)}"
    yield from _critical_path(foreseen)


def _saving(saving: Saving, foreseen: Forecast) -> str:
    what = (
        f"{saving.of} ({foreseen.slots + 1} at once)"
        if saving is foreseen.one_more_slot
        else f"of {saving.of}"
    )
    if saving.saves_h > NOTHING_H:
        return (
            f"{what} would save {format_hours(saving.saves_h)}: "
            f"{format_hours(saving.hours)} by {foreseen.strategy}"
        )
    return f"{what} would save nothing"


def _critical_path(foreseen: Forecast) -> Iterator[str]:
    """Yield the critical path; the middle of a long one is cut."""
    path = foreseen.critical_path
    half = SHOWN_OF_PATH // 2
    for i, todo in enumerate(path):
        if len(path) <= SHOWN_OF_PATH or i < half or i >= len(path) - half:
            yield f"{'critical' if i == 0 else '':<13}{todo.id}  {todo.repo}  {format_hours(todo.hours)}"
        elif i == half:
            hours = sum(one.hours for one in path[half:-half])
            yield f"{'':<13}… {counted(len(path) - 2 * half, 'todo')} more, {format_hours(hours)}"


def _remarks(graph: PlanGraph, foreseen: Forecast) -> Iterator[str]:
    if foreseen.learned or foreseen.assumed:
        yield format_durations(foreseen)
    if foreseen.approvals:
        yield f"{counted(foreseen.approvals, 'approval')} needed: no time is counted for them"
    if graph.blocked:
        yield (
            f"{len(graph.blocked)} blocked from outside and left out; "
            f"see the blockers: coord plan graph {graph.plan.id}"
        )


def format_durations(foreseen: Forecast) -> str:
    """Return `durations: 12 estimated, 3 learned from earlier runs (in redis), 2 assumed (1 h each)`."""
    where = f" (in {foreseen.learned_from})" if foreseen.learned_from else ""
    parts = [(foreseen.estimated, "estimated"), (foreseen.learned, f"learned from earlier runs{where}")]
    text = [f"{n} {what}" for n, what in parts if n]
    text += (
        [f"{foreseen.assumed} assumed ({format_hours(foreseen.assumed_h)} each)"] if foreseen.assumed else []
    )
    return f"durations: {', '.join(text)}"


def _bound_reason(foreseen: Forecast) -> str:
    scarce = foreseen.busiest_resource
    resource = f"; busiest resource {scarce}, {format_hours(foreseen.busiest_resource_h)}" if scarce else ""
    return (
        f"(critical path {format_hours(foreseen.critical_h)}; "
        f"{format_hours(foreseen.work_h)} of work on {foreseen.slots} at once; "
        f"busiest repository {foreseen.busiest_repo}, {format_hours(foreseen.busiest_repo_h)}{resource})"
    )
