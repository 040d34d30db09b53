"""Workers sign on: one version of coord for a Redis, one place for a repository on a host; and what a
repository waits for.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from coordination.errors import Conflict
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import Worker, WorkerRegistry

BEAT = timedelta(minutes=1)


@pytest.fixture
def registry(store: RunStore) -> WorkerRegistry:
    return WorkerRegistry(store.redis, store.keys)


def worker(name: str, *, host: str = "a", unfit: str = "", state: str = "/state", **places: str) -> Worker:
    return Worker(
        id=f"{name}@{host}",
        host=host,
        pid=1,
        version="1",
        jobs=1,
        repos=tuple(places),
        places=places,
        state=state,
        unfit={repo: unfit for repo in places if unfit},
    )


def say(store: RunStore, registry: WorkerRegistry, one: Worker) -> None:
    registry.say(one, store.now_ms(), BEAT)


def test_the_first_version_to_come_holds(registry: WorkerRegistry):
    registry.meet("1.0", BEAT)
    registry.meet("1.0", BEAT)


@pytest.mark.parametrize("left", ["a worker", "a run"])
def test_another_version_is_refused_while_something_of_the_first_is_there(
    store: RunStore, registry: WorkerRegistry, left: str
):
    registry.meet("1.0", BEAT)
    if left == "a worker":
        say(store, registry, worker("w", units="/units"))
    else:
        store.redis.zadd(store.keys.live, {"20260101-000000-abcd": 1})

    with pytest.raises(Conflict, match=r"this is coord 2\.0, .* use coord 1\.0"):
        registry.meet("2.0", BEAT)


def test_another_version_takes_over_from_one_without_workers_and_runs(
    store: RunStore, registry: WorkerRegistry
):
    registry.meet("1.0", BEAT)
    gone = worker("w", units="/units")
    say(store, registry, gone)
    registry.leave(gone)

    registry.meet("2.0", BEAT)

    say(store, registry, worker("w", units="/units"))
    with pytest.raises(Conflict):
        registry.meet("1.0", BEAT)


@pytest.mark.parametrize("garbage", ["x" * 1_000_000, "eco\x1b[31m\nred", "", "Größe-00000"])
def test_an_invalid_ecosystem_id_counts_as_none(store: RunStore, registry: WorkerRegistry, garbage: str):
    say(store, registry, worker("w", units="/units"))
    store.redis.set(store.keys.ecosystem, garbage)
    assert registry.ecosystem() == ""

    registry.meet("1.0", BEAT, "eco-00000000")
    registry.meet("1.0", BEAT)

    assert registry.ecosystem() == "eco-00000000"
    with pytest.raises(Conflict, match="eco-00000000"):
        registry.meet("1.0", BEAT, "eco-11111111")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (worker("other", units="/elsewhere"), "other@a serves units at /elsewhere, this worker at /units"),
        (worker("other", units="/units", state="/theirs"), "with its state in /theirs"),
        (worker("other", host="b", units="/elsewhere"), ""),
        (worker("other", text="/elsewhere"), ""),
        (worker("other", units="/units"), ""),
    ],
)
def test_a_host_has_one_folder_per_repository(
    store: RunStore, registry: WorkerRegistry, other: Worker, words: str
):
    say(store, registry, other)
    mine = worker("mine", units="/units")
    say(store, registry, mine)

    if words:
        with pytest.raises(Conflict, match=words):
            registry.refuse_clash(mine)
    else:
        registry.refuse_clash(mine)


def test_a_repository_waits_for_a_worker_that_can_work_on_it(store: RunStore, registry: WorkerRegistry):
    say(store, registry, worker("w", host="b", unfit="there is no folder /units", units="/units"))
    say(store, registry, worker("w", host="c", text="/text"))

    assert registry.unserved(["units", "text", "cli"]) == {
        "cli": "a worker for cli: none serves it",
        "units": "a worker for units: on host b there is no folder /units",
    }
