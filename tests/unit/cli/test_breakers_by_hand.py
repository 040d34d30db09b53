"""People see circuit breakers wherever they look, and close them by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from coordination import Coord
from coordination.backend.client import Profile, connect
from coordination.breakers.manager import BreakerManager
from coordination.breakers.records import Policy
from coordination.cli.times import format_time
from coordination.errors import BreakerOpen
from tests.agent import agent_of
from tests.testbed import Done
from tests.waiting import until

FILE = "repos: [{name: api, path: api}, {name: web, path: web}]\nresources: [{name: db}]\n"
WHY = "1 failure in 300 s, last: RuntimeError: no connection"


@pytest.fixture
def typed(typed, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    monkeypatch.setenv("COORD_REDIS_URL", redis_url)
    return typed


@pytest.fixture
def breakers(redis_url: str) -> Iterator[BreakerManager]:
    with connect(redis_url, Profile.COMMAND) as redis:
        made = BreakerManager(redis, "coord", policy=Policy(failures=1, open_for=timedelta(hours=1)))
        yield made
        made.close()


@pytest.fixture
def shows(typed) -> Callable[..., bool]:
    """A look takes no more than a moment: on a busy machine it may see nothing, and one looks again."""

    def look(*call: str, words: str) -> bool:
        return until(lambda: words in " ".join(f"{(done := typed(*call)).out} {done.err}".split()))

    return look


def fail(breakers: BreakerManager, *names: str) -> None:
    for name in names:
        with pytest.raises(RuntimeError), breakers.call(name):
            raise RuntimeError("no connection")


def test_what_is_open_is_shown_wherever_one_looks(shows, breakers: BreakerManager):
    fail(breakers, "resource:db", "repo:api")
    at = {one.name: format_time(one.probe_at) for one in breakers.list()}

    assert shows("status", words=f"resource:db open {WHY}; probe at {at['resource:db']}")
    assert shows("status", words="to close one now: coord breaker reset NAME")
    assert shows("status", "api", words=f"breaker open after {WHY}; probe at {at['repo:api']}")
    assert shows("ecosystem", "status", words=f"repo:api open probe at {at['repo:api']}")
    assert shows(
        "doctor",
        words=f"the circuit breaker of resource:db is open after {WHY}; probe at {at['resource:db']}",
    )


def test_programs_and_agents_read_it_as_data(typed, breakers: BreakerManager, file: Path, redis_url: str):
    fail(breakers, "repo:api")
    (listed,) = (one.model_dump(mode="json") for one in breakers.list())

    for command in (
        ("status",),
        ("ecosystem", "status"),
    ):
        assert until(lambda command=command: typed(*command, "--json").json["breakers"]) == [listed]
    assert until(lambda: typed("status", "api", "--json").json["breaker"]) == listed
    assert typed("status", "web", "--json").json["breaker"] is None
    with agent_of(file, redis_url) as ai:
        assert until(lambda: ai.call("coord_get_ecosystem_status")["breakers"]) == [listed]
        assert until(lambda: ai.call("coord_get_repo_status", repo="api")["breaker"]) == listed


def test_one_is_closed_by_name_and_it_is_noted_who_did_it(typed, shows, breakers: BreakerManager):
    fail(breakers, "resource:db", "repo:api")

    assert typed("breaker", "reset", "db").err == f"resource:db is closed; it was open after {WHY}\n"
    assert typed("breaker", "reset", "repo:api", "--json").json["state"] == "open"

    assert breakers.list() == ()
    assert shows("status", words="circuit breakers closed by hand")
    again = typed("breaker", "reset", "api")
    assert (again.code, "the circuit breaker of api has no failures to reset" in again.err) == (2, True)
    assert typed("breaker", "reset", "lock:x").code == 2


def test_who_looks_starts_no_server(typed, file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("COORD_REDIS_URL")
    assert typed("status", "--json").json["breakers"] == []
    assert [typed("status", "api").code, typed("ecosystem", "status").code] == [0, 0]
    assert not (file.parent / ".coord").exists()


def test_a_script_calls_through_one_with_the_policy_of_the_file(file: Path, redis_url: str):
    file.write_text(f"{FILE}settings: {{breaker_failures: 2, breaker_open: 1h}}\n")
    with Coord(file, redis_url) as coord:
        fail(coord.breakers, "repo:web", "repo:web")
        with pytest.raises(BreakerOpen) as held_up, coord.breakers.call("repo:web"):
            pytest.fail("it was called")
        assert held_up.value.exit_code == 5
        assert held_up.value.retry_at == coord.breakers.list()[0].probe_at
        assert coord.stats()["breakers"]["open"] == 1
