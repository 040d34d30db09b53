"""`list-locks`, `release-lock`, `list-resources`, `reset-breaker`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import click

from coordination.api import LOCK, Held, Holder, Released, texts
from coordination.api.exclusion import LockList, ResourceView
from coordination.cli.command import command
from coordination.cli.completion import breaker_names, lock_names
from coordination.cli.context import CliContext, confirm, yes_option
from coordination.cli.screen.output import Form, as_json_option, output_options, print_json
from coordination.cli.screen.tables import filled, print_none, print_table
from coordination.cli.times import format_time
from coordination.declared import Cell, Column
from coordination.errors import UsageError
from coordination.text import counted, listed


@command("exclusion.list_locks")
@click.option("--resources", is_flag=True, help=texts.LOCKED_RESOURCES)
@click.option("--all", "internal", is_flag=True, help=texts.INTERNAL_LOCKS)
@click.option("--released", is_flag=True, help="List the locks that release-lock has released, latest first.")
@output_options(Held, released=Released)
@click.pass_obj
def list_locks(call: CliContext, resources: bool, internal: bool, released: bool, form: Form) -> None:
    if released and (resources or internal):
        raise UsageError(
            "--released lists former holders; --resources and --all list present ones",
            "leave --released out, or the others: coord list-locks --released",
        )
    if released:
        broken = call.coord.exclusion.list_released()
        form.records(broken, lambda: _print_released(broken))
        return
    found = call.coord.exclusion.list_locks(resources=resources, internal=internal)
    form.records(found.held, lambda: _print_locks(found, resources=resources))


@command("exclusion.list_resources")
@output_options(ResourceView)
@click.pass_obj
def list_resources(call: CliContext, form: Form) -> None:
    resources = call.coord.exclusion.list_resources()
    form.records(resources, lambda: _print_resources(resources))


@command("exclusion.release_locks")
@click.argument("name", required=False, shell_complete=lock_names)
@click.option("--owner", metavar="LABEL", help="Release all locks of this owner.")
@click.option("--force", is_flag=True, help="Release it even if the holder runs, or may run on another host.")
@yes_option
@as_json_option
@click.pass_obj
def release_lock(
    call: CliContext, name: str | None, owner: str | None, force: bool, yes: bool, as_json: bool
) -> int:
    """NAME is a lock or `resource:NAME`. The release is recorded: coord list-locks --released."""
    if (name is None) == (owner is None):
        raise UsageError(
            "which lock?", "name one: coord release-lock NAME; or all of an owner: --owner LABEL"
        )
    released = call.coord.exclusion.release_locks(
        name or "", owner=owner, force=force, confirm=lambda held: confirm(_question(held), yes=yes)
    )
    if as_json:
        print_json(released if owner else released[0])
    for held in released:
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


def _print_locks(found: LockList, *, resources: bool) -> None:
    if found.held:
        _print_held(found.held)
    else:
        what, option = ("lock is held", " --resources") if not resources else ("resource is in use", "")
        print_none(f"no {what}", f"see also: coord list-locks{option}")
    if found.hidden:
        click.echo(f"{counted(found.hidden, 'internal lock')} hidden: coord list-locks --all", err=True)


def _print_held(found: Sequence[Held]) -> None:
    columns = [
        Column("LOCK"),
        Column("HOLDER", flexible=True, folds=True),
        Column("OF IT"),
        Column("AGE"),
        Column("TTL"),
        Column("FENCE"),
        Column("WAITING", flexible=True, folds=True),
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


@command("exclusion.reset_breaker")
@click.argument("name", shell_complete=breaker_names)
@as_json_option
@click.pass_obj
def reset_breaker(call: CliContext, name: str, as_json: bool) -> None:
    """NAME is `repo:api`, `resource:db`, or an unambiguous part of such a name. The reset is recorded: coord
    status.
    """
    was = call.coord.exclusion.reset_breaker(name)
    if as_json:
        print_json(was)
    behind = f"; {counted(was.behind, 'todo')} behind it can continue" if was.behind else ""
    click.echo(f"{was.name} is closed; it was {was.state} after {was.reason}{behind}", err=True)
