"""What ended runs have left on the workers' machines: listed, and removed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from coordination.errors import CoordinationError
from coordination.runs.cleaning import Cleaning, Survey
from coordination.runs.store import ms

if TYPE_CHECKING:
    from coordination.api.facade import Facade


def survey(
    facade: Facade,
    runs: Sequence[str],
    *,
    merged: bool = False,
    older_than: timedelta | None = None,
    branches: bool = True,
) -> Survey:
    """Return what these runs, or all ended ones, have left. `merged`: only runs whose work is all in other branches.

    Starts the embedded server's worker, which is the one that can look. Raises Conflict for a run that goes on.
    """
    if facade.has_file:
        _start_worker(facade)
    with facade.reached() as connection:
        cleaning = Cleaning(connection.store)
        found = cleaning.survey(runs, branches=branches)
        return found.only(merged=merged, before_ms=cleaning.now_ms - ms(older_than) if older_than else None)


def remove(facade: Facade, found: Survey, *, branches: bool = True) -> Survey:
    """Remove what the survey found, as far as it can go; return what went and what stayed."""
    with facade.reached() as connection:
        return Cleaning(connection.store).remove(found, branches=branches)


def forget_results(facade: Facade) -> None:
    """Empty the result cache: todos with a `cache` run again."""
    from coordination.cache.entries import RESULTS, Store

    with facade.reached() as connection:
        Store(connection.redis, facade.settings.namespace, RESULTS).clear()


def _start_worker(facade: Facade) -> None:
    """A full disk is no obstacle, if the server is there: this makes room."""
    try:
        facade.ensure_worker()
    except CoordinationError as error:
        if not isinstance(error.__cause__, OSError):
            raise
