"""`plan create` with a proposal of an agent: it is shown, and written after a yes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from coordination.api import RunStatus, Selectors
from coordination.cli.context import CliContext, confirm, on_a_terminal, warn
from coordination.cli.following.follow import conclude, start_and_follow
from coordination.cli.options.values import read_text
from coordination.cli.runs.campaign import conclude_generated, print_plan
from coordination.cli.screen.output import print_json
from coordination.declared import data_of
from coordination.errors import UsageError
from coordination.terminal import spelled
from coordination.text import counted, format_hours

if TYPE_CHECKING:
    from coordination.api import Proposal, RunView
    from coordination.api.planning import Sweep
    from coordination.api.run import Run

MOST_BYTES = 1024 * 1024
"""Bytes that are read of a file; the schema allows fewer."""
TRIES = 3
"""Most runs in which an agent corrects its proposal, the first included."""


def create_from_file(call: CliContext, file: str, options: Mapping[str, Any], *, as_json: bool) -> int:
    """Show the proposal of a file, and write it after a yes."""
    proposal = call.coord.proposals.read(read_text(file, MOST_BYTES))
    return _conclude(call, proposal, options, as_json=as_json)


def create_from_run(call: CliContext, run: str, options: Mapping[str, Any], *, as_json: bool) -> int:
    """Show the proposal of an earlier run, and write it after a yes."""
    proposal, repos = call.coord.proposals.of_run(run)
    return _conclude(call, proposal, {**options, **_only(repos)}, as_json=as_json)


def create_from_sentence(
    call: CliContext, sentence: str, options: Mapping[str, Any], *, as_json: bool
) -> int:
    """Let an agent propose a plan, again where its proposal is refused; show it, and write it after a yes."""
    proposals, refused = call.coord.proposals, ""
    wanted = Selectors(**{name: tuple(options[name]) for name in ("repos", "tags", "roles")})
    for tries_left in reversed(range(TRIES)):
        prepared = proposals.prepare(
            sentence, wanted, all_repos=options["all_repos"], agent=options["agent"], after=refused
        )
        if (started := _follow(call, prepared, as_json=as_json)).code:
            return started.code
        refused = started.run_id
        if not tries_left or not (why := proposals.why_refused(refused)):
            break
        click.echo(f"{spelled(why)}\n  asking the agent to correct it", err=True)
    proposal, repos = proposals.of_run(refused)
    later = f"coord plan create --apply {refused}"
    return _conclude(call, proposal, {**options, **_only(repos)}, later=later, as_json=as_json)


@dataclass(frozen=True, kw_only=True)
class _Followed:
    run_id: str
    code: int


def _follow(call: CliContext, prepared: Sweep, *, as_json: bool) -> _Followed:
    """Start the run of an agent that plans, and follow it to its end."""
    commands, runs = call.coord.commands, []
    ready = commands.make_ready(prepared)

    def start() -> Run:
        runs.append(commands.start(ready))
        click.echo(f"run {runs[0].id}: an agent plans in {ready.graph.plan.repos[0]}", err=True)
        return runs[0]

    code = start_and_follow(call, start, detach=False, as_json=as_json, ending=_print_failure)
    return _Followed(run_id=runs[0].id, code=code)


def _print_failure(call: CliContext, run: Run, view: RunView, **how: Any) -> None:
    if view.status is not RunStatus.SUCCEEDED:
        conclude(call, run, view, **how)


def _only(repos: Sequence[str]) -> dict[str, Any]:
    """Return the options that select these repositories."""
    return {"repos": tuple(repos), "tags": (), "roles": (), "all_repos": False}


def _conclude(
    call: CliContext, proposal: Proposal, options: Mapping[str, Any], *, later: str = "", as_json: bool
) -> int:
    """Show a proposal, write it after a yes, and run it if that is wanted; return the exit code. `later`: the
    command that writes it, if it is not this one.
    """
    selected = {name: options[name] for name in ("repos", "tags", "roles", "all_repos")}
    preview = call.coord.proposals.preview(proposal, **selected)
    for warning in preview.warnings:
        warn(spelled(warning))
    if not as_json and not options["yes"]:
        print_plan(preview)
        work, least = format_hours(preview.work_hours), format_hours(preview.critical_hours)
        click.echo(f"{work} of work, in {least} at least; cost {preview.cost}")
        click.echo(f"\n{spelled(preview.diff)}", nl=False)
    what = f"{preview.plan.id} with {counted(len(preview.todos), 'todo')}"
    if options["dry_run"]:
        if as_json:
            print_json(data_of(preview))
        then = f"; write it: {later}" if later else ""
        click.echo(f"would create {what}; nothing was written{then}", err=True)
        return 0
    if later and not options["yes"] and not on_a_terminal():
        raise UsageError(
            "there is no terminal to ask for confirmation: nothing was written", f"write it: {later}"
        )
    confirm(f"Write {what} into {call.coord.path}?", yes=options["yes"])
    made = call.coord.proposals.apply(proposal, **selected)
    return conclude_generated(call, made, sweep=options["sweep"], as_json=as_json)
