"""`plan create` with a proposal of an agent: it is shown, and written after a yes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from coordination.cli.context import CliContext, confirm, on_a_terminal, warn
from coordination.cli.options.values import read_text
from coordination.cli.runs.campaign import conclude_generated, print_plan
from coordination.cli.screen.output import print_json
from coordination.declared import data_of
from coordination.errors import UsageError
from coordination.terminal import spelled
from coordination.text import counted

if TYPE_CHECKING:
    from coordination.api import Proposal

MOST_BYTES = 1024 * 1024
"""Bytes that are read of a file; the schema allows fewer."""


def create_from_file(call: CliContext, file: str, options: Mapping[str, Any], *, as_json: bool) -> int:
    """Show the proposal of a file, and write it after a yes."""
    proposal = call.coord.proposals.read(read_text(file, MOST_BYTES))
    return conclude_proposed(call, proposal, options, as_json=as_json)


def conclude_proposed(
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
