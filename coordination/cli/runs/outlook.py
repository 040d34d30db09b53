"""Looking ahead: a plan's order of work, and how long it takes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich_click import command

from coordination.cli.completing import plan_ids
from coordination.cli.context import Call
from coordination.cli.options.narrowing import narrowed
from coordination.cli.screen.output import print_json
from coordination.cli.screen.shown import as_json_option
from coordination.phrases import counted

if TYPE_CHECKING:
    from coordination.planner.forecast import Forecast
    from coordination.planner.graph import PlanGraph
    from coordination.planner.selection import Selectors

FORMATS = ("tree", "mermaid", "dot", "json")


@command()
@click.argument("plan", shell_complete=plan_ids)
@click.option("--format", "form", type=click.Choice(FORMATS), default="tree", show_default=True)
@narrowed
@click.pass_obj
def graph(call: Call, plan: str, form: str, wanted: Selectors) -> None:
    """Show the order of work of PLAN: levels, critical path, what is blocked and by what."""
    from coordination.planner import render
    from coordination.planner.graph import build

    plan_graph = build(call.document.ecosystem, plan, wanted)
    if form == "json":
        print_json(render.json(plan_graph))
    else:
        click.echo({"tree": render.tree, "mermaid": render.mermaid, "dot": render.dot}[form](plan_graph))


@command()
@click.argument("plan", shell_complete=plan_ids)
@narrowed
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="At most N todos at once.")
@as_json_option
@click.pass_obj
def forecast(call: Call, plan: str, wanted: Selectors, jobs: int | None, as_json: bool) -> None:
    """Foresee how long PLAN takes under each strategy, and say which one a sweep takes and why."""
    from coordination.planner.forecast import forecast as foresee
    from coordination.planner.graph import build

    plan_graph = build(call.document.ecosystem, plan, wanted)
    foreseen = foresee(plan_graph, max_parallel=jobs, margin=call.settings.levels_margin)
    if as_json:
        print_json(asdict(foreseen))
    else:
        click.echo(_in_words(plan_graph, foreseen))


def _in_words(graph: PlanGraph, foreseen: Forecast) -> str:
    from coordination.planner.hours import say

    title = f"{graph.plan.id}  {' '.join(graph.plan.title.split())}"
    if graph.nothing_to_do:
        return f"{title}\nnothing to do: {graph.nothing_to_do}"
    lines = [
        title,
        f"levels       {say(foreseen.levels_h)}",
        f"dataflow     {say(foreseen.dataflow_h)}",
        f"lower bound  {say(foreseen.bound_h)}  {_bound_reason(foreseen)}",
        f"takes        {foreseen.reason}",
    ]
    if foreseen.assumed:
        lines.append(
            f"{foreseen.assumed} of {len(graph.todos) - len(graph.milestones)} have no estimate: {say(foreseen.assumed_h)} each assumed"
        )
    if foreseen.approvals:
        lines.append(f"{counted(foreseen.approvals, 'approval')} on the way: no time is counted for that")
    if graph.blocked:
        lines.append(
            f"{len(graph.blocked)} blocked from outside and left out: coord graph {graph.plan.id} says by what"
        )
    return "\n".join(lines)


def _bound_reason(foreseen: Forecast) -> str:
    from coordination.planner.hours import say

    scarce = foreseen.busiest_resource
    resource = f"; busiest resource {scarce}, {say(foreseen.busiest_resource_h)}" if scarce else ""
    return (
        f"(critical path {say(foreseen.critical_h)}; {say(foreseen.work_h)} of work on {foreseen.slots} at once; "
        f"busiest repository {foreseen.busiest_repo}, {say(foreseen.busiest_repo_h)}{resource})"
    )
