"""`list-locks`, `release-lock`, `list-resources`, `reset-breaker`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

import click
from pydantic import BaseModel, ConfigDict

from coordination.api import LOCK, Held, Holder, Released, ResourceStats, texts
from coordination.cli.completion import breaker_names, lock_names
from coordination.cli.context import CliContext, confirm, yes_option
from coordination.cli.groups import command
from coordination.cli.screen.output import Form, as_json_option, output_options, print_json
from coordination.cli.screen.tables import Cell, Column, filled, print_none, print_table
from coordination.cli.times import format_time
from coordination.environment import actor
from coordination.errors import UsageError
from coordination.models import Resource
from coordination.text import counted, listed

RELEASED_SHOWN = 100


class ResourceView(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    type: str
    capacity: int
    used: int = 0
    waiting: int = 0
    utilisation: float = 0.0
    """Used share of the capacity since its first use: 0 to 1."""
    longest_wait_s: float = 0.0
    granted: int = 0
    mean_wait_s: float = 0.0


@command()
@click.option("--resources", is_flag=True, help=texts.LOCKED_RESOURCES)
@click.option("--all", "internal", is_flag=True, help=texts.INTERNAL_LOCKS)
@click.option("--released", is_flag=True, help="List the locks that release-lock has released, latest first.")
@output_options(Held, released=Released)
@click.pass_obj
def list_locks(call: CliContext, resources: bool, internal: bool, released: bool, form: Form) -> None:
    """List the locks with their holders and waiters, ages and times to live."""
    if released and (resources or internal):
        raise UsageError(
            "--released lists former holders; --resources and --all list present ones",
            "leave --released out, or the others: coord list-locks --released",
        )
    with call.coord.answering() as connection:
        locks = connection.locks
        if released:
            broken = locks.broken(RELEASED_SHOWN)
            form.records(broken, lambda: _print_released(broken))
            return
        every = locks.list(resources=resources)
    found = [held for held in every if internal or not held.internal]
    form.records(found, lambda: _print_locks(found, len(every) - len(found), resources=resources))


@command()
@output_options(ResourceView)
@click.pass_obj
def list_resources(call: CliContext, form: Form) -> None:
    """List the resources of the file: capacity, use, waiters."""
    declared = call.coord.document.ecosystem.resources
    with call.coord.answering() as connection:
        known = connection.locks.resources.all_stats()
    found = [_resource(resource, known.get(resource.name)) for resource in declared]
    form.records(found, lambda: _print_resources(found))


@command()
@click.argument("name", required=False, shell_complete=lock_names)
@click.option("--owner", metavar="LABEL", help="Release all locks of this owner.")
@click.option("--force", is_flag=True, help="Release it even if the holder runs, or may run on another host.")
@yes_option
@as_json_option
@click.pass_obj
def release_lock(
    call: CliContext, name: str | None, owner: str | None, force: bool, yes: bool, as_json: bool
) -> int:
    """Release a lock that somebody else holds: the lock NAME (or `resource:NAME`), or all locks of an owner.
    The holder is notified, and the next waiter gets it.

    The release is recorded: coord list-locks --released.
    """
    if (name is None) == (owner is None):
        raise UsageError(
            "which lock?", "name one: coord release-lock NAME; or all of an owner: --owner LABEL"
        )
    call.coord.authority.check("release_lock")
    with call.coord.answering() as connection:
        locks = connection.locks
        found = (
            locks.held_by(owner, force=force)
            if owner is not None
            else (locks.breakable(name or "", force=force),)
        )
        for held in found:
            confirm(_question(held), yes=yes)
        if owner is not None:
            found = locks.release_all(owner, actor(), force=force)
        else:
            locks.break_(found[0], actor())
    if as_json:
        print_json(found if owner else found[0])
    for held in found:
        following = f"; next: {held.waiters[0].who}" if held.waiters else ""
        click.echo(f"{_named(held)} was taken from {_holders(held)}{following}", err=True)
    return 0


def _question(found: Held) -> str:
    held = ", ".join(f"{holder.who} for {holder.age_s:.0f} s" for holder in found.holders)
    return f"{_named(found)} is held by {held}: release it?"


def _named(found: Held) -> str:
    return found.name if found.kind == LOCK else found.what


def _holders(found: Held) -> str:
    return listed([holder.who for holder in found.holders])


def _print_locks(found: Sequence[Held], hidden: int, *, resources: bool) -> None:
    if found:
        _print_held(found)
    else:
        what, option = ("lock is held", " --resources") if not resources else ("resource is in use", "")
        print_none(f"no {what}", f"see also: coord list-locks{option}")
    if hidden:
        click.echo(f"{counted(hidden, 'internal lock')} hidden: coord list-locks --all", err=True)


def _print_held(found: Sequence[Held]) -> None:
    columns = [
        Column(name="LOCK"),
        Column(name="HOLDER", flexible=True, folds=True),
        Column(name="OF IT"),
        Column(name="AGE"),
        Column(name="TTL"),
        Column(name="FENCE"),
        Column(name="WAITING", flexible=True, folds=True),
    ]
    print_table(*filled(columns, [row for held in found for row in _rows(held)]))
    kept = datetime.fromtimestamp(found[0].epoch / 1_000_000, UTC)
    click.echo(f"Redis has lost nothing since {format_time(kept)}", err=True)


def _rows(held: Held) -> Iterator[Sequence[object]]:
    """Yield a row for each holder; the first one names the waiters."""
    waiting = listed([waiter.who for waiter in held.waiters])
    if not held.holders:
        yield (_named(held), Cell("none", "dim"), "", "", "", "", waiting)
    for i, holder in enumerate(held.holders):
        amount = f"{holder.amount}/{held.capacity}" if held.capacity else ""
        first = i == 0
        yield (
            _named(held) if first else "",
            _whose(holder),
            amount,
            f"{holder.age_s:.1f} s",
            "" if holder.ttl_left_s is None else f"{holder.ttl_left_s:.1f} s",
            holder.fence,
            waiting if first else "",
        )


def _whose(holder: Holder) -> Cell:
    return Cell(f"{holder.who}, gone", "red") if holder.alive is False else Cell(holder.who)


def _print_released(found: Sequence[Released]) -> None:
    if not found:
        print_none("no lock was released by force", "see the held ones: coord list-locks")
        return
    columns = ("WHEN", "LOCK", "BY", "FENCE", "WHOSE")
    rows = [(format_time(r.at), r.what.removeprefix(f"{LOCK}:"), r.by, r.fence, r.who) for r in found]
    print_table(columns, rows)


def _resource(resource: Resource, stats: ResourceStats | None) -> ResourceView:
    view = ResourceView(name=resource.name, type=resource.type, capacity=resource.capacity)
    if stats is None:  # no run has declared it yet
        return view
    used = asdict(stats) | {"capacity": view.capacity, "utilisation": round(stats.utilisation, 4)}
    return view.model_copy(update=used)


def _print_resources(found: Sequence[ResourceView]) -> None:
    if not found:
        print_none("the file declares no resource", "declare one: coord help file")
        return
    columns = ("RESOURCE", "TYPE", "CAPACITY", "USED", "WAITING", "UTILISATION", "LONGEST WAIT")
    rows = [
        (r.name, r.type, r.capacity, r.used, r.waiting, f"{r.utilisation:.0%}", f"{r.longest_wait_s:.1f} s")
        for r in found
    ]
    print_table(columns, rows)


@command()
@click.argument("name", shell_complete=breaker_names)
@as_json_option
@click.pass_obj
def reset_breaker(call: CliContext, name: str, as_json: bool) -> None:
    """Close a circuit breaker: its failures are forgotten, and the todos behind it continue. NAME is
    `repo:api`, `resource:db`, or an unambiguous part of such a name.

    The reset is recorded: coord status.
    """
    call.coord.authority.check("reset_breaker")
    with call.coord.answering() as connection:
        was = connection.breakers.reset(name, actor())
    if as_json:
        print_json(was)
    behind = f"; {counted(was.behind, 'todo')} behind it can continue" if was.behind else ""
    click.echo(f"{was.name} is closed; it was {was.state} after {was.reason}{behind}", err=True)
