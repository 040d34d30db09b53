"""Limits on the work for a large plan: counted, never timed. The times are in benchmarks/scale.py and
benchmarks/startup.py.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.connection import UnixDomainSocketConnection

from coordination.backend.client import Profile, connect
from coordination.broker.celery_app import make_app
from coordination.cache.contexts import Cache
from coordination.models import Signatures, Strategy
from coordination.planner.graph import PlanGraph
from coordination.runs.dispatch import Dispatcher
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import Signing
from coordination.runs.views.run_view import RunReader
from coordination.runs.views.todo_view import in_hand
from coordination.settings import Settings
from tests.engine import OK, Engine, submit
from tests.integration.conftest import MakeWorker
from tests.plans import ecosystem, graph, order
from tests.trusted_worker import Persons
from workers.container import Container
from workers.task_result import TaskResult, TaskResultKind

SMALL, MEDIUM, LARGE = 100, 300, 1000
REPOS = 20
ALL_OF_IT = ("hgetall", "hkeys", "hvals", "hscan", "smembers", "sscan", "keys", "scan")
"""Commands that read a whole plan if they are sent for a run's keys."""
LATER = {
    "networkx",
    "flower",
    "tornado",
    "fastmcp",
    "pydantic_settings",
    "starlette",
    "uvicorn",
    "websockets",
    "ruamel",
    "rich",
}
"""Modules that need one of these imports import it on demand."""


def todos(n: int) -> dict[str, tuple[str, list[str]]]:
    """Each but the first 21 after two others."""
    return {
        f"TODO-{i:04d}": (f"r{i % REPOS}", [f"TODO-{i - b:04d}" for b in (20, 21) if i > 20])
        for i in range(n)
    }


@pytest.fixture(scope="module")
def plans() -> dict[int, PlanGraph]:
    return {n: graph(todos(n)) for n in (SMALL, LARGE)}


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url, Profile.WORKER) as made:
        yield made


def calls(client: redis.Redis) -> dict[str, int]:
    """Command → how often it was called, by steps as well."""
    return {
        name.removeprefix("cmdstat_"): said["calls"] for name, said in client.info("commandstats").items()
    }


def submitted(client: redis.Redis, plan: PlanGraph, n: int) -> Engine:
    run = Engine(RunStore(client, "coord"))
    run.submit(plan, ecosystem(todos(n)), order())
    return run


def test_submission_sends_less_than_a_command_for_ten_todos(client: redis.Redis, plans: dict[int, PlanGraph]):
    before = calls(client).get("hset", 0)
    store = RunStore(client, "coord")
    _, reply = submit(store, plans[LARGE], ecosystem(todos(LARGE)), Settings(), order(max_parallel=1))

    # The steps of the roots that it opens are not those of the other todos.
    assert len(reply.sends) == 1
    assert calls(client)["hset"] - before < LARGE / 10 + 10 * 21


def test_a_todo_costs_as_many_commands_in_any_plan(client: redis.Redis, plans: dict[int, PlanGraph]):
    spent = []
    for n in (SMALL, LARGE):
        client.flushall()
        run = submitted(client, plans[n], n)
        before = calls(client)
        grant = run.take("TODO-0001")
        run.follow(run.store.settle(grant, OK))
        after = calls(client)
        spent.append(
            {
                name: after[name] - before.get(name, 0)
                for name in after
                if name not in ("info", "config|resetstat")
            }
        )

    assert spent[0] == spent[1]
    assert spent[0]["fcall"] == 2
    assert not any(spent[0].get(name) for name in ALL_OF_IT)


def test_a_watcher_asks_about_todos_in_hand_alone(client: redis.Redis, plans: dict[int, PlanGraph]):
    run = submitted(client, plans[LARGE], LARGE)
    run.follow(run.store.settle(run.take("TODO-0003"), OK))
    running = run.take("TODO-0004")
    reader, hand = RunReader(client, run.store.keys), in_hand(client, run.store.keys.run(run.run_id))
    assert len(hand) == REPOS - 1  # where one is done the next waits for others
    before = calls(client)

    told = reader.read(run.run_id, only=hand)

    after = calls(client)
    assert not any(after.get(name, 0) - before.get(name, 0) for name in ALL_OF_IT)
    timeless = {"duration_s"}  # the size of a running one grows between the two reads
    whole = {todo.id: todo.model_dump(exclude=timeless) for todo in run.view().todos}
    assert {todo.id: todo.model_dump(exclude=timeless) for todo in told.todos} == {
        name: whole[name] for name in hand
    }
    assert {todo.id for todo in told.todos if todo.state == "running"} == {running.todo_id}
    assert reader.read(run.run_id, only=()).counts == run.view().counts


def test_a_carried_out_todo_takes_less_than_3_kb_of_redis(client: redis.Redis):
    run = submitted(client, graph(todos(MEDIUM)), MEDIUM)
    assert len(run.drain()) == MEDIUM

    taken = {key: client.memory_usage(key, samples=0) for key in client.scan_iter(count=1000)}

    assert sum(taken.values()) / MEDIUM < 3 * 1024


@pytest.mark.parametrize("strategy", [Strategy.DATAFLOW, Strategy.LEVELS])
def test_a_message_stays_under_2_kb_whatever_the_plans_size(
    client: redis.Redis, redis_url: str, plans: dict[int, PlanGraph], strategy: Strategy
):
    longest = {}
    for n in (SMALL, LARGE):
        client.flushall()
        store = RunStore(client, "coord")
        _, reply = submit(store, plans[n], ecosystem(todos(n)), Settings(), order(strategy))
        Dispatcher(make_app(redis_url, store.keys, Settings()), store).follow(reply)
        messages = [m for i in range(REPOS) for m in client.lrange(store.keys.queue(f"r{i}"), 0, -1)]
        longest[n] = max(len(message) for message in messages)

    assert longest[LARGE] < 2048
    assert longest[LARGE] - longest[SMALL] < 10  # digits


def test_a_worker_begins_with_no_more_than_it_needs(tmp_path: Path):
    script = """
import sys
from pathlib import Path
from coordination.settings import Settings
from workers import worker_process
from workers.container import Container
from workers.config import WorkerConfig
config = WorkerConfig(
    redis_url="redis://localhost", settings=Settings(), places={"r": Path()}, jobs=1, state=Path()
)
parts = Container(config)
parts.registered(), parts.services
print(*{name.partition(".")[0] for name in sys.modules})
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )

    assert {"celery", "redis"} <= set(done.stdout.split())
    assert not LATER & set(done.stdout.split())


def test_a_list_from_the_file_begins_without_a_graph_or_a_server(tmp_path: Path):
    (tmp_path / "ecosystem.yaml").write_text(
        "repos: [{name: r}]\ncoordination: {todos: [{id: T, task: t, repo: r}]}\n"
    )
    script = """
import sys
from coordination.cli import main
sys.argv = ["coord", "list-todos", "--json"]
try:
    main()
finally:
    print(*{name.partition(".")[0] for name in sys.modules})
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path
    )

    modules = set(done.stdout.splitlines()[-1].split())
    assert {"coordination", "pydantic", "yaml"} <= modules
    assert (
        not (LATER - {"rich"} | {"redis", "celery", "kombu", "httpx2", "semantic_version", "http"}) & modules
    )


CHAIN = {f"T{i}": ("r1", [f"T{i - 1}"] if i else []) for i in range(6)}
IN_PLACE: dict[str, Any] = {name: {"workspace": "in-place"} for name in CHAIN}


class Counted(UnixDomainSocketConnection):
    """A connection that counts what is sent: a command, or a whole pipeline."""

    sent = 0

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        Counted.sent += 1
        super().send_packed_command(command, check_health)


@pytest.fixture
def signing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Signing:
    """The identity of a person whom this machine trusts."""
    persons = Persons(tmp_path)
    persons.trust(anna="submitter")
    monkeypatch.setenv("COORD_TRUST_FILE", str(persons.file))
    return persons.signing("anna")


@pytest.fixture(params=[Signatures.OFF, Signatures.WARN, Signatures.REQUIRE])
def parts(make_worker: MakeWorker, request: pytest.FixtureRequest) -> Container:
    made = make_worker("r1", settings=Settings(signatures=request.param))
    made.redis.connection_pool.connection_class = Counted
    return made


@pytest.mark.parametrize("shared", [False, True], ids=["nothing is shared", "something is shared"])
def test_promise_5_a_todo_costs_a_worker_at_most_three_round_trips(
    signing: Signing, parts: Container, shared: bool
):
    if shared:
        cache = Cache(parts.redis, "coord")
        cache.at().set("a", 1)
        cache.close()
    run_id, _ = submit(
        parts.store,
        graph(CHAIN, **IN_PLACE),
        ecosystem(CHAIN, **IN_PLACE),
        Settings(),
        order(),
        signing=None if parts.config.signatures is Signatures.WARN else signing,  # it is executed unsigned
    )
    spent = []
    for name in CHAIN:
        before = Counted.sent
        assert parts.deliveries.handle(run_id, name, 1, "r1") == TaskResult(TaskResultKind.DONE)
        spent.append(Counted.sent - before)

    # The first one also connects, sends the steps whole, and reads the run's brief; the last one sees the
    # run's end.
    assert spent[1:-1] == [3, 3, 3, 3]
    assert parts.store.status(run_id) == "succeeded"


def test_what_a_failed_attempt_has_written_costs_no_round_trip_of_its_own(signing: Signing, parts: Container):
    todos = {
        name: {**fields, "action": "echo [1] > $COORD_OUTPUT; exit 1"} for name, fields in IN_PLACE.items()
    }
    run_id, _ = submit(
        parts.store,
        graph(CHAIN, **todos),
        ecosystem(CHAIN, **todos),
        Settings(retry_attempts=3),
        order(),
        signing=signing,
    )
    spent = []
    for attempt in (1, 2):
        before = Counted.sent
        parts.deliveries.handle(run_id, "T0", attempt, "r1")
        spent.append(Counted.sent - before)
        assert parts.store.fire(run_id, "T0").word == "fired"

    assert spent[1] <= 3
    assert parts.store.redis.hgetall(parts.store.keys.run(run_id).checkpoint) == {"T0": "[1]"}
