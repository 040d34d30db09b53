"""Where signatures are required, a run of another Redis goes on, and is retried, only by its valid order."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordination.errors import NotTrusted
from coordination.models import Signatures
from coordination.runs.connection import Connection
from coordination.runs.control import starting, steering
from coordination.runs.export.document import document_of, save
from coordination.runs.export.import_document import load
from coordination.settings import Settings
from tests.integration.test_orders import change_spec, connected, site
from tests.trusted import Trusting

__all__ = ["site"]


def requiring(site: Trusting, by: str) -> Connection:
    connection = connected(site, by)
    connection.settings = Settings(signatures=Signatures.REQUIRE)
    return connection


def moved(site: Trusting, file: Path, by: str) -> None:
    """Export the run, delete it, and import it again."""
    save(document_of(site.store, site.run_id), file)
    site.redis.delete(*site.redis.keys(f"{site.store.keys.run(site.run_id).prefix}:*"))
    for key in (site.store.keys.runs, site.store.keys.live):
        site.redis.zrem(key, site.run_id)
    starting.import_run(requiring(site, by), load(file))


def test_a_paused_run_goes_on_where_its_order_is_valid(site: Trusting, tmp_path: Path):
    site.sweep({"A": "r1"})
    site.store.pause(site.run_id, "ann")

    moved(site, tmp_path / "run.json.gz", "bob")
    steering.steer(connected(site, "ann"), site.run_id, site.store.resume, "resumed")
    site.deliver("A")

    assert site.executed == ["A"]


@pytest.mark.parametrize("forged", ["unsigned", "unknown", "changed"])
def test_a_paused_run_that_nobody_ordered_so_is_not_imported(site: Trusting, tmp_path: Path, forged: str):
    site.sweep({"A": "r1"}, by={"unsigned": None, "unknown": "mallory"}.get(forged, "ann"))
    site.store.pause(site.run_id, "ann")
    if forged == "changed":
        change_spec(site)

    with pytest.raises(NotTrusted):
        moved(site, tmp_path / "run.json.gz", "bob")

    assert site.store.status(site.run_id) in (None, "draft")
    assert site.redis.zscore(site.store.keys.runs, site.run_id) is None


def test_an_ended_run_without_an_order_can_be_looked_at_and_not_retried(site: Trusting, tmp_path: Path):
    site.sweep({"A": "r1"}, by=None)
    site.deliver("A")

    moved(site, tmp_path / "run.json.gz", "bob")

    assert site.todo("A").state == "failed"
    connection = requiring(site, "ann")
    with pytest.raises(NotTrusted, match="not signed"):
        starting.start_retry(connection, starting.plan_retry(connection, site.run_id))
