"""`coord doctor` before hosts that are well, unfit, late, and gone."""

from __future__ import annotations

from datetime import timedelta
from importlib.metadata import version
from typing import Any

import pytest

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import Worker, WorkerRegistry
from tests.endpoints import listening, silent
from tests.testbed import Testbed

WRONG, USAGE, UNREACHABLE = 3, 2, 7
KEYS = Keys("coord")


@pytest.fixture
def store(redis_url: str) -> RunStore:
    return RunStore(connect(redis_url, Profile.COMMAND), KEYS.namespace)


def heard(store: RunStore, worker: Worker, ago: timedelta = timedelta(0)) -> None:
    at_ms = store.now_ms() - int(ago / timedelta(milliseconds=1))
    WorkerRegistry(store.redis, KEYS).say(worker, at_ms, timedelta(minutes=1))


def of_host(host: str, repo: str, **fields: Any) -> Worker:
    places = {repo: f"/srv/{repo}"}
    known = {"id": f"coord-9@{host}", "pid": 9, "version": version("coord"), "jobs": 1, "places": places}
    return Worker(host=host, repos=(repo,), **{**known, **fields})


def said(data: dict[str, Any]) -> list[str]:
    return [f"{finding['severity']}: {finding['what']}" for finding in data["findings"]]


def test_hosts_that_are_well_unfit_late_and_gone_are_told_apart(
    testbed: Testbed, redis_url: str, store: RunStore
):
    testbed.write(repos=["units", "text", "report", "store"])
    alpha = testbed.begin("worker", "--repo", "units", COORD_HOST="alpha", COORD_REDIS_URL=redis_url)
    beta = testbed.begin(
        "worker", "--repo", "text=/no/such/text", COORD_HOST="beta", COORD_REDIS_URL=redis_url
    )
    heard(store, of_host("gamma", "report", clock_offset_ms=90_000))
    heard(store, gone := of_host("delta", "units"), ago=timedelta(minutes=10))
    store.redis.delete(KEYS.worker(gone.id))
    store.redis.rpush(KEYS.queue("units", "delta"), "a message")
    store.redis.rpush(KEYS.poison, "not a message")
    alpha.says("serving units")
    beta.says("serving text")

    seen = testbed.coord("doctor", "--json", COORD_REDIS_URL=redis_url)
    printed = testbed.coord("doctor", COORD_REDIS_URL=redis_url)

    assert seen.code == printed.code == WRONG
    places = {worker["host"]: worker["places"] for worker in seen.json["workers"]}
    assert places["alpha"] == {"units": str(testbed.folder / "units")}
    repos = {row.pop("repo"): row for row in seen.json["repos"]}
    assert repos["units"] == {"hosts": ["alpha"], "unfit": {}, "queues": {"shared": 0, "delta": 1}}
    assert repos["text"]["unfit"].keys() == {"beta"}
    assert said(seen.json) == [
        f"wrong: host beta serves text but cannot work on it: {repos['text']['unfit']['beta']}",
        "wrong: no worker serves store",
        (
            "wrong: the clock of gamma is 90 s ahead of Redis: times in logs and commits are wrong, "
            "certificates may be refused"
        ),
        "wrong: 1 message for units on host delta, whose workers have been silent for 10 min",
        "warning: 1 queue entry could not be read and set aside: another program writes into coord's queues",
    ]
    for line in said(seen.json):
        assert line in printed.out


def test_a_run_says_what_it_waits_for(testbed: Testbed, redis_url: str):
    testbed.write([{"id": "TODO-001", "repo": "units"}])
    testbed.ok("sweep", "PLAN-001", "--detach", COORD_REDIS_URL=redis_url)

    done = testbed.coord("doctor", COORD_REDIS_URL=redis_url)

    assert "of PLAN-001, running; TODO-001 waits for a worker for units: none serves it" in done.out
    assert "wrong: no worker serves units" in done.out


def test_without_a_redis_the_rest_is_still_told(testbed: Testbed):
    testbed.write(repos=["units"])
    with listening(silent) as port:
        done = testbed.coord("doctor", COORD_REDIS_URL=f"redis://:s3cret@127.0.0.1:{port}")

    assert done.code == UNREACHABLE
    assert "valid, 1 repository" in done.out
    assert f"wrong: Redis at redis://:***@127.0.0.1:{port} does not answer" in done.out
    assert "s3cret" not in done.out + done.err


def test_without_a_file_the_redis_that_is_named_is_looked_at(
    testbed: Testbed, redis_url: str, store: RunStore
):
    assert testbed.coord("doctor").code == USAGE, "there is nothing to look at"
    heard(store, of_host("alpha", "units"))

    done = testbed.coord("--redis", redis_url, "doctor", "--json")

    assert done.code == 0
    assert done.json["file"] is None
    assert [row["repo"] for row in done.json["repos"]] == ["units"]


def test_nothing_is_wrong_before_the_first_sweep_unless_the_server_deletes_what_it_is_given(testbed: Testbed):
    testbed.write(repos=["units"])
    fresh = testbed.coord("doctor")
    with testbed.redis() as client:
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", "volatile-lru")
    deletes = testbed.coord("doctor")

    assert (fresh.code, deletes.code) == (0, WRONG)
    assert "nothing is wrong" in fresh.out
    assert "none until a sweep" in fresh.out
    assert "policy volatile-lru deletes locks" in deletes.out


def test_a_file_that_is_invalid_and_one_that_shows_a_password(testbed: Testbed, redis_url: str):
    testbed.settings = {"redis_url": redis_url.replace("unix://", "unix://:s3cret@")}
    testbed.write(repos=[])
    testbed.file.chmod(0o644)

    shown = testbed.coord("doctor")
    testbed.file.write_text("repos: [{name: units, slots: none}]\n")
    broken = testbed.coord("doctor")

    assert shown.code == 0
    assert f"warning: {testbed.file} holds Redis' password" in shown.out
    assert "s3cret" not in shown.out
    assert broken.code == WRONG
    assert f"wrong: {testbed.file} has 1 problem" in broken.out
