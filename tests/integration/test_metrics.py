"""The metrics for Prometheus, scraped over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from http.client import HTTPConnection

import pytest
from prometheus_client.parser import text_string_to_metric_families

from coordination.cache.contexts import Cache
from coordination.cli.app import coord
from coordination.cli.context import CliContext
from coordination.errors import CoordinationError, UsageError
from coordination.health.records import Health, HealthState, Kind, Subject
from coordination.health.store import HealthStore, Monitor
from coordination.locks import LockManager
from coordination.operations.metrics import serve
from coordination.runs.store import RunStore
from coordination.runs.views.metrics import LiveCountReader
from coordination.runs.worker_registry import Worker, WorkerRegistry
from coordination.settings import Settings
from tests.endpoints import listening, silent
from tests.engine import BAD
from tests.integration.conftest import submitted


def scrape(port: int) -> Mapping[str, float]:
    """`name{values of its labels}` → figure; nothing while nobody answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", "/metrics")
    except ConnectionRefusedError:
        return {}
    text = connection.getresponse().read().decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {f"{name}{{{','.join(labels.values())}}}": value for name, labels, value, *_ in samples}


@contextmanager
def exported(url: str, port: int) -> Iterator[None]:
    server = serve(url, Settings(namespace="test"), "127.0.0.1", port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def test_a_run_of_which_nothing_is_in_any_repository_is_counted(store: RunStore):
    todos, manual = {"HAND": "r1", "B": ("r2", ["HAND"])}, {"action": {"type": "manual"}}
    submitted(store, todos, HAND=manual)

    counts = LiveCountReader(store.redis, store.keys).read()

    assert (counts.runs, counts.queues) == ({"running": 1}, {})
    assert (counts.todos["parked"], counts.todos["waiting"]) == (1, 1)


def test_a_scrape_tells_what_is_there_and_what_has_happened(store: RunStore, redis_url: str, free_port: int):
    first = submitted(store, {"A": "r1", "B": ("r2", ["A"])})
    second = submitted(store, {"A": "r1", "C": "r3"})
    first.take("A")
    second.take("C")
    second.claim(second.mail.popleft())  # A waits until the first run leaves r1
    store.redis.lpush(store.keys.queue("r2"), "a message", "another")
    store.redis.lpush(store.keys.queue("r1", "h1"), "one for the host that the runs are pinned to")
    store.redis.lpush(store.keys.poison, "what is this")
    worker = Worker(
        id="w", host="h1", pid=1, version="1", repos=("r1", "r2"), jobs=1, unfit={"r2": "no folder"}
    )
    WorkerRegistry(store.redis, store.keys).say(worker, store.now_ms(), timedelta(seconds=5))

    web = Subject(kind=Kind.SERVICE, name="web", repo="r1")
    healthy = Health(subject=web, verdict=HealthState.HEALTHY, since=1.0, recovered=2, recovery_s=3.5)
    HealthStore(store.redis, store.keys).write([healthy], (), Monitor(at=1.0, worker="w"))

    cache = Cache(store.redis, "test")
    cache.at().set("a", 1)
    for key in "aab":
        cache.at().get(key)
    cache.close()

    locks = LockManager(store.redis, "test")
    locks.resources.declare({"gpu": 4})
    with locks.acquire("deploy"), locks.resources.acquire("gpu", 3), exported(redis_url, free_port):
        told = scrape(free_port)
    locks.close()

    assert (
        told.items()
        >= {
            "coord_up{}": 1,
            "coord_queue_length{r1}": 1,
            "coord_queue_length{r2}": 2,
            "coord_queue_length{r3}": 0,
            "coord_runs{running}": 2,
            "coord_runs{paused}": 0,
            "coord_todos{running}": 2,
            "coord_todos{parked}": 1,
            "coord_todos{waiting}": 1,
            "coord_seat_waits{r1}": 1,
            "coord_workers{h1,r1}": 1,
            "coord_leases{}": 2,
            "coord_worker_slots{h1}": 1,
            "coord_disks_short{h1}": 0,
            "coord_health{service,healthy}": 1,
            "coord_recoveries{service}": 2,
            "coord_recovery_seconds{service}": 3.5,
            "coord_poison_entries{}": 1,
            "coord_runs_started_total{}": 2,
            "coord_todos_ended_total{failed}": 0,
            "coord_leases_lost_total{}": 0,
            "coord_todos_poisoned_total{}": 0,
            "coord_runs_stuck_total{}": 0,
            "coord_clock_steps_total{}": 0,
            "coord_stale_writes_total{}": 0,
            "coord_cache_hits_total{redis}": 1,
            "coord_cache_hits_total{process}": 1,
            "coord_cache_misses_total{}": 1,
            "coord_cache_evictions_total{}": 0,
            "coord_cache_entries{}": 1,
            "coord_locks_held{}": 4,  # and the slots of the two runs
            "coord_resource_capacity{gpu}": 4,
            "coord_resource_used{gpu}": 3,
            "coord_resource_grants_total{gpu}": 1,
        }.items()
    )
    assert "coord_workers{h1,r2}" not in told


def test_each_scrape_is_fresh_and_counts_what_ended(store: RunStore, redis_url: str, free_port: int):
    run = submitted(store, {"A": "r1"})
    other, waiting = submitted(store, {"A": "r2"}), submitted(store, {"A": "r2"})
    taken = other.take("A")
    waiting.claim(waiting.mail.popleft())  # it waits for the repository
    with exported(redis_url, free_port):
        before = scrape(free_port)
        run.settle(run.take("A"), BAD)
        other.settle(taken)
        waiting.fire("A")
        after = scrape(free_port)

    took = {name: n for name, n in after.items() if name.startswith("coord_todo_seconds_")}
    assert (took["coord_todo_seconds_count{}"], took["coord_todo_seconds_bucket{+Inf}"]) == (1, 1)
    assert after["coord_wait_seconds_count{repository}"] == 1
    assert after["coord_wait_seconds_count{service}"] == 0
    assert before["coord_runs{running}"] - after["coord_runs{running}"] == 2
    assert (before["coord_runs_ended_total{failed}"], after["coord_runs_ended_total{failed}"]) == (0, 1)
    assert after["coord_todos_ended_total{failed}"] == 1
    assert "coord_queue_length{r1}" in before
    assert "coord_queue_length{r1}" not in after  # no run and no worker needs it


def test_a_redis_that_is_away_or_does_not_answer_is_told_as_such(free_port: int):
    with listening(silent) as hung, exported(f"redis://127.0.0.1:{hung}", free_port):
        assert scrape(free_port) == {"coord_up{}": 0}
    with exported(f"redis://127.0.0.1:{hung}", free_port):  # nobody listens there now
        assert scrape(free_port) == {"coord_up{}": 0}


def test_a_port_that_is_taken_is_refused_with_what_to_do(redis_url: str):
    with listening(silent) as port, pytest.raises(CoordinationError, match=f"127.0.0.1:{port}") as refused:
        serve(redis_url, Settings(), "127.0.0.1", port)

    assert "--listen" in refused.value.hint


@pytest.mark.parametrize("listen", ["x", "70000", "0", ":9799", "example.org:"])
def test_what_is_no_place_to_listen_is_refused(listen: str):
    with pytest.raises(UsageError, match="--listen"):
        coord.main(args=["metrics", "--listen", listen], standalone_mode=False, obj=CliContext())


@pytest.mark.parametrize(
    ("name", "status"),
    [
        *(("localhost", 200), ("127.0.0.1:9", 200), ("[::1]", 200)),
        *(("evil.example", 421), ("[", 421), ("10.0.0.1", 421)),
    ],
)
def test_a_scrape_for_another_name_is_refused_at_the_loopback_address(
    redis_url: str, free_port: int, name: str, status: int
):
    """A page of evil.example cannot read the metrics by a name that leads to this machine."""
    with exported(redis_url, free_port), closing(HTTPConnection("127.0.0.1", free_port)) as client:
        client.request("GET", "/metrics", headers={"Host": name})
        assert client.getresponse().status == status


def test_what_agents_have_used_is_counted_by_agent(store: RunStore, redis_url: str, free_port: int):
    counted = {"agent.claude.4.micro_usd": 1_500_000, "agent.claude.4.input": 20, "agent.b.output": 7}
    store.redis.hset(store.keys.counters, mapping=counted)
    with exported(redis_url, free_port):
        found = scrape(free_port)

    assert found["coord_agent_usd_total{claude.4}"] == 1.5
    assert found["coord_agent_tokens_total{claude.4}"] == 20
    assert found["coord_agent_tokens_total{b}"] == 7
