"""The shared context from outside of a todo, and where it cannot be had within one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from coordination.cache.connection import Connection, here
from coordination.cache.limits import Eviction
from coordination.errors import CoordinationError, NotAllowed, NotFound, UsageError
from coordination.library.coord import Coord
from coordination.mcp.office import Office
from coordination.mcp.server import build
from coordination.runs.store import RunStore
from coordination.wire.connection import Profile, connect
from tests.agent import agent
from tests.contracts.carrier import Harness
from tests.plans import PLAN, ecosystem, graph, order

TODOS = {"A": "r1"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ecosystem.yaml"
    path.write_text("repos: [{name: r1, path: r1}]\n")
    return path


@pytest.fixture
def run(redis_url: str) -> Iterator[str]:
    with connect(redis_url, Profile.COMMAND) as client:
        harness = Harness(RunStore(client, "coord"))
        harness.submit(graph(TODOS), ecosystem(TODOS), order())
        yield harness.run_id


def test_the_library_has_the_context_of_whom_it_names(file: Path, redis_url: str, run: str):
    with Coord(file, redis_url) as coord:
        coord.context(plan=PLAN).set("a", 1)
        coord.context(run="last", todo="A").set("b", 2)

        assert coord.context(run=run).get("a") == 1
        assert [kept.scope for kept in coord.context(run=run).list()] == ["plan", "run"]
        assert coord.context().get("a") is None
        assert coord.stats()["cache"]["entries"] == 2
        with pytest.raises(NotFound, match="no todo 'B'"):
            coord.context(run="last", todo="B")
        with pytest.raises(UsageError):
            coord.context(todo="A")
        with pytest.raises(UsageError):
            coord.context(run=run, plan=PLAN)


def test_an_agent_reads_and_shares_values(file: Path, redis_url: str, run: str):
    office = Office(file, redis_url)
    with agent(build(office)) as ai:
        ai.call("coord_context_set", key="a", value={"n": [1]}, plan=PLAN, ttl_s=60)

        assert ai.call("coord_context_get", key="a", run=run) == {"key": "a", "found": True, "value": {"n": [1]}}
        assert ai.call("coord_context_get", key="a") == {"key": "a", "found": False, "value": None}
    office.close()


def connection(redis_url: str | None) -> Connection:
    terms = {"max_bytes": 10**6, "ttl": timedelta(hours=1), "eviction": Eviction.LRU, "value_bytes": 1000}
    return Connection(redis_url=redis_url, namespace="coord", contexts=("run/R", "ecosystem"), **terms)


def test_a_todo_has_the_limits_of_its_worker(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "connection.json"
    file.write_text(connection(redis_url).model_dump_json())
    monkeypatch.setenv("COORD_CONNECTION", str(file))

    with here() as context:
        context.set("a", 1)
        assert context.get("a") == 1
        with pytest.raises(UsageError, match="more than 1,000"):
            context.set("a", "x" * 2000)


def test_a_todo_of_a_restricted_worker_is_told_where_else_to_look():
    with pytest.raises(NotAllowed, match="restricted") as refused, connection(None).open():
        pass
    assert "COORD_CONTEXT" in refused.value.hint


def test_outside_of_a_todo_there_is_no_context_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("COORD_CONNECTION", raising=False)
    with pytest.raises(UsageError, match="no command of a todo"), here():
        pass

    monkeypatch.setenv("COORD_CONNECTION", str(tmp_path / "gone.json"))
    with pytest.raises(CoordinationError, match="cannot be read"), here():
        pass

    (tmp_path / "other.json").write_text("{}")
    monkeypatch.setenv("COORD_CONNECTION", str(tmp_path / "other.json"))
    with pytest.raises(CoordinationError, match="another version"), here():
        pass
