"""What a change has done: the new id or the record on standard output, one line for people on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from coordination.cli.screen.output import print_json
from coordination.models import presentable
from coordination.text import listed

if TYPE_CHECKING:
    from coordination.tracker.records import Edited, Removed


def say_created(created: Sequence[Edited], *, several: bool, as_json: bool) -> None:
    """A script gets the ids, one a line; a person who creates one at a terminal reads its id once."""
    if as_json:
        data = [_data(edited) for edited in created]
        print_json(data if several else data[0])
    elif several or not (sys.stdout.isatty() and sys.stderr.isatty()):
        for edited in created:
            click.echo(edited.record.id)
    ids = listed([edited.record.id for edited in created])
    _say(
        f"created {ids or 'nothing: the list is empty'}",
        _each(e.ready for e in created),
        _each(e.notes for e in created),
    )


def say_updated(edited: Edited, *, as_json: bool, what: str = "") -> None:
    """`what`: what has happened, where that is more than that fields were written."""
    if as_json:
        print_json(_data(edited))
    name = edited.record.id
    fields = ", ".join(edited.changed)
    words = what or f"updated {name}: {fields}"
    _say(words if edited.changed else f"{name} stands so already", edited.ready, edited.notes)


def say_removed(removed: Removed, *, as_json: bool) -> None:
    if as_json:
        print_json(removed.model_copy(update={"record": presentable(removed.record)}))
    words = f"deleted {removed.record.id}"
    words += f" with {listed(removed.also)}" if removed.also else ""
    words += f"; it is taken out of {listed(removed.released)}" if removed.released else ""
    _say(words, removed.ready, removed.notes)


def _data(edited: Edited) -> dict[str, Any]:
    return {**dict(presentable(edited.record)), "ready": edited.ready, "notes": edited.notes}


def _say(words: str, ready: Sequence[str], notes: Iterable[str]) -> None:
    click.echo(f"{words}; now ready: {', '.join(ready)}" if ready else words, err=True)
    for note in notes:
        click.echo(f"  {note}", err=True)


def _each(lists: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(item for items in lists for item in items))
