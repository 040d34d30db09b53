"""The shared context from outside of a todo, and where it cannot be had within one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordination.api.coord import Coord
from coordination.backend.client import Profile, connect
from coordination.cache.connection import here
from coordination.errors import CoordinationError, NotAllowed, NotFound, Unreachable, UsageError
from coordination.mcp.server import build
from coordination.mcp.session import Session
from coordination.runs.store import RunStore
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
    office = Session(file, redis_url)
    with agent(build(office)) as ai:
        ai.call("coord_context_set", key="a", value={"n": [1]}, plan=PLAN, ttl_s=60)

        assert ai.call("coord_context_get", key="a", run=run) == {
            "key": "a",
            "found": True,
            "value": {"n": [1]},
        }
        assert ai.call("coord_context_get", key="a") == {"key": "a", "found": False, "value": None}
    office.close()


def test_outside_of_a_todo_there_is_no_context_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("COORD_CONNECTION", raising=False)
    with pytest.raises(UsageError, match="not a todo"), here():
        pass

    monkeypatch.setenv("COORD_CONNECTION", str(tmp_path / "gone.json"))
    with pytest.raises(CoordinationError, match="cannot be read"), here():
        pass

    (tmp_path / "other.json").write_text("{}")
    monkeypatch.setenv("COORD_CONNECTION", str(tmp_path / "other.json"))
    with pytest.raises(CoordinationError, match="another version"), here():
        pass

    (tmp_path / "over.json").write_text('{"socket": "/nowhere.sock", "token": "x"}')
    monkeypatch.setenv("COORD_CONNECTION", str(tmp_path / "over.json"))
    with here() as context, pytest.raises(Unreachable):
        context.get("a")


def test_within_a_todo_the_library_is_refused_and_what_runs_beside_its_command_has_no_context(
    file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COORD_TODO_ID", "A")
    with pytest.raises(NotAllowed):
        Coord(file)
    with pytest.raises(NotAllowed), here():
        pass
