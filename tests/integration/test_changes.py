"""Change sets as they are listed: from records alone, with what each waits for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

from coordination import Coord
from coordination.cli import app
from coordination.dashboard.access import Tokens
from coordination.dashboard.app import Dashboard
from coordination.dashboard.snapshots import Snapshots
from coordination.errors import NotFound, Unreadable
from coordination.runs.store import RunStore
from tests.change_sets import TIP, record

LANDED = {"commit": "c" * 40, "tree_before": "d" * 40, "method": "squash", "via": "push", "run": "R9"}


@pytest.fixture
def coord(redis_url: str, tmp_path: Path) -> Iterator[Coord]:
    todos = [
        {"id": "A", "task": "a", "repo": "lib", "plan": "P", "status": "completed"},
        {"id": "B", "task": "b", "repo": "app", "plan": "P", "blocked_by": ["A"]},
    ]
    file = {
        "settings": {"namespace": "test"},
        "repos": [{"name": "lib"}, {"name": "app"}],
        "coordination": {"plans": [{"id": "P", "title": "a plan"}], "todos": todos},
    }
    (tmp_path / "ecosystem.yaml").write_text(yaml.safe_dump(file))
    with Coord(tmp_path, redis_url) as opened:
        yield opened


def waits(coord: Coord, plan: str | None = None) -> list[tuple[str, str, str | None]]:
    return [(one.plan, one.repo, one.wait_reason) for one in coord.changes.list(plan)]


def test_each_repository_has_a_record_with_its_figures(coord: Coord, store: RunStore):
    landed = json.dumps({**LANDED, "at": "2026-01-02T00:00:00Z"})
    record(store.redis, "P", "lib", todos="A", landed=landed)
    record(store.redis, "P", "app", commits="", files="", added="", removed="")
    app, lib = coord.changes.list("P")
    assert (lib.commits, lib.files, lib.added, lib.removed, lib.todos) == (2, 3, 10, 4, ("A",))
    assert lib.landed is not None
    assert lib.landed.method == "squash"
    assert (lib.branch, lib.tip, lib.wait_reason) == ("coord/P", TIP, None)
    assert (app.commits, app.files) == (None, None)
    assert app.wait_reason == "todos"
    assert "B" in (app.waits_for or "")


def test_results_that_are_in_the_change_set_are_no_open_todos(coord: Coord, store: RunStore):
    record(store.redis, "P", "lib", todos="A B")
    assert waits(coord) == [("P", "lib", "order")]


def test_a_failed_newest_run_is_named(coord: Coord, store: RunStore):
    record(store.redis, "P", "lib", todos="A")
    for number, status in enumerate(("failed", "succeeded", "cancelled")):
        store.redis.hset(store.keys.run(f"R{number}").meta, mapping={"plan_id": "P", "status": status})
        store.redis.zadd(store.keys.runs, {f"R{number}": number})
    assert "coord retry R2" in (coord.changes.list("P")[0].waits_for or "")


@pytest.mark.parametrize(("plan", "does"), [("P", "works on it"), ("land:P", "lands it")])
def test_a_live_run_is_waited_for_and_a_dead_writer_is_not(
    coord: Coord, store: RunStore, plan: str, does: str
):
    record(store.redis, "P", "lib", todos="A B", writer="R1" if plan == "P" else "")
    assert waits(coord) == [("P", "lib", "order")]
    meta = {"plan_id": plan, "status": "running", "strategy": "levels", "on_failure": "halt", "actor": "a"}
    store.redis.hset(store.keys.run("R1").meta, mapping=meta)
    store.redis.zadd(store.keys.live, {"R1": 1})
    (found,) = coord.changes.list()
    assert (found.wait_reason, does in (found.waits_for or "")) == ("run", True)


def test_a_landing_that_could_not_be_taken_back_stays_visible(coord: Coord, store: RunStore):
    record(store.redis, "P", "lib", todos="A B")
    store.redis.hset(store.keys.run("R1").meta, mapping={"plan_id": "land:P", "status": "rollback_failed"})
    store.redis.zadd(store.keys.half_undone, {"R1": 1})
    assert waits(coord) == [("P", "lib", "revert")]


@pytest.mark.parametrize(
    "damage",
    [
        {"commits": "\x1b[2J"},
        {"branch": "main"},
        {"branch": "coord/P\nupdate refs/heads/main " + "b" * 40},
        {"branch": "coord/../main"},
        {"tip": "--output=owned"},
        {"base": f"{TIP}..main"},
    ],
    ids=str,
)
def test_damaged_records_hide_no_others(coord: Coord, store: RunStore, damage: dict[str, str]):
    record(store.redis, "P", "lib", **damage)
    record(store.redis, "GONE", "lib")
    store.redis.sadd(store.keys.change_sets, "TEXT")
    store.redis.set(store.keys.changes("TEXT"), "no hash")
    assert waits(coord) == [("GONE", "lib", "plan")]
    with pytest.raises(Unreadable, match="coord plan adopt P"):
        coord.changes.list("P")


def test_a_plan_without_change_set_and_an_unknown_plan_are_told_apart(coord: Coord):
    with pytest.raises(NotFound, match="coord sweep P"):
        coord.changes.list("P")
    with pytest.raises(NotFound, match="no plan"):
        coord.changes.list("Q")
    assert coord.changes.list() == []


def test_the_wave_of_each_repository_is_in_the_text_and_on_the_page(
    coord: Coord, store: RunStore, redis_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    """One has landed in a wave, one would land in one by the file; without waves there is no column."""
    record(store.redis, "P", "lib", todos="A")
    assert "WAVE" not in text_of(redis_url, tmp_path, capfd)

    file = yaml.safe_load((tmp_path / "ecosystem.yaml").read_text())
    file["coordination"]["plans"][0]["land"] = {"waves": ["lib", "rest"]}
    (tmp_path / "ecosystem.yaml").write_text(yaml.safe_dump(file))
    landed = json.dumps({**LANDED, "at": "2026-01-02T00:00:00Z", "wave": 7})
    record(store.redis, "P", "lib", todos="A", landed=landed)
    record(store.redis, "P", "app", todos="B")
    head, *rows = text_of(redis_url, tmp_path, capfd).splitlines()
    at = head.index("WAVE")
    assert {row.split()[0]: row[at:].split()[0] for row in rows if row[:1].isalpha()} == {
        "lib": "7",
        "app": "2",
    }

    tokens = Tokens(tmp_path / "tokens")
    with TestClient(Dashboard(Snapshots(tmp_path / "ecosystem.yaml", redis_url), tokens).app()) as client:
        signed_in = client.post("/sign-in", data={"token": tokens.add("ann")}, follow_redirects=False)
        cookie = {"Cookie": f"coord_session={signed_in.cookies['coord_session']}"}
        page = client.get("/change", params={"plan": "P"}, headers=cookie).text
    columns = re.findall(r"<th scope=\"col\"[^>]*>([^<]*)<", page)
    shown = {
        re.sub("<[^>]*>", "", cells[0]): re.sub("<[^>]*>", "", cells[columns.index("Wave")])
        for row in re.findall(r"<tr[^>]*>(.*?)</tr>", page, re.S)
        if "/change?" in row and (cells := re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S))
    }
    assert shown == {"lib": "7", "app": "2"}


def text_of(redis_url: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """Return what `coord changes P` prints."""
    with pytest.raises(SystemExit) as ended:
        app.run(["--redis", redis_url, "--ecosystem", str(folder / "ecosystem.yaml"), "changes", "P"])
    assert ended.value.code == 0
    return capfd.readouterr().out
