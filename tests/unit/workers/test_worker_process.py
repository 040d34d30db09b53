"""The worker process: the repositories that it serves, its heartbeats, and its log."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import fakeredis
import pytest

from coordination.errors import UsageError
from coordination.models import FILE_NAME
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import Worker, WorkerRegistry
from coordination.settings import Settings
from tests.testbed import git
from workers.config import ServedRepositories, WorkerConfig, argument_parser, read_config
from workers.leases import Leases
from workers.trust.worker_trust import WorkerKey
from workers.worker_process import REPEATED_AFTER_S, RateLimitedLog

REDIS = ("--redis", "redis://localhost")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "a/inner"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("a")
    return tmp_path


def places(*words: str) -> dict[str, Path]:
    return dict(read_config(argument_parser().parse_args([*REDIS, *words])).places)


def test_a_repository_without_a_path_lies_in_the_folder_of_its_name(here: Path):
    assert places("--repo", "a", "--repo", "b") == {"a": here / "a", "b": here / "b"}


def test_a_repository_without_a_path_or_a_folder_of_its_name_is_refused(here: Path):
    with pytest.raises(UsageError) as refused:
        places("--repo", "a", "--repo", "missing")
    assert "--repo missing=PATH" in refused.value.hint


@pytest.mark.parametrize("other", ["x=a", "x=./a/../a", "x=link", "x=a/inner", "x=."])
def test_two_repositories_never_share_a_folder(here: Path, other: str):
    with pytest.raises(UsageError, match="share a folder"):
        places("--repo", "a", "--repo", other)


def test_a_repository_of_its_own_may_lie_inside_another_one(here: Path):
    for path in (here, here / "a"):
        git(path, "init", "-q")

    assert places("--repo", "all=.", "--repo", "a") == {"all": here, "a": here / "a"}


def test_all_leaves_out_repositories_of_other_machines_and_refuses_a_shared_folder(here: Path):
    file = here / FILE_NAME
    file.write_text("repos: [{name: a}, {name: elsewhere}, {name: gone, path: not/there}]\n")

    assert places("--all") == {"a": here / "a", "gone": here / "not/there"}

    file.write_text("repos: [{name: a}, {name: c, path: link}]\n")
    with pytest.raises(UsageError, match="share a folder"):
        places("--all")


def test_a_path_in_the_home_folder_is_the_same_for_commands_and_workers(
    here: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(here / "b"))
    (here / FILE_NAME).write_text("repos: [{name: x, path: ~/inner}]\n")

    assert places("--all") == {"x": here / "b" / "inner"}


def test_a_link_to_itself_is_a_folder_that_is_not_there(here: Path):
    (here / "loop").symlink_to("loop")

    assert places("--repo", "x=loop/a") == {"x": here / "loop/a"}


@pytest.mark.parametrize(("heartbeat_s", "lease_s", "interval_s"), [(5, 15, 5), (60, 15, 5), (1, 15, 1)])
def test_a_lease_is_renewed_three_times_before_it_expires_with_any_settings(
    tmp_path: Path, heartbeat_s: int, lease_s: int, interval_s: int
):
    settings = Settings(heartbeat=timedelta(seconds=heartbeat_s), lease_ttl=timedelta(seconds=lease_s))
    config = WorkerConfig(redis_url="", settings=settings, places={}, jobs=1, state=tmp_path)
    store = RunStore(fakeredis.FakeRedis(decode_responses=True), "test")
    worker = Worker(id="w@h", host="h", pid=1, version="1", repos=(), jobs=1)
    leases = Leases(
        store, WorkerRegistry(store.redis, store.keys), worker, config, ServedRepositories(config)
    )

    assert leases.interval_s == interval_s


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> RateLimitedLog:
    return RateLimitedLog(clock)


def record(text: str, *, by: str = "workers.leases", level: int = logging.WARNING) -> logging.LogRecord:
    return logging.LogRecord(by, level, "file", 1, text, None, None)


def test_a_warning_is_logged_once_a_minute_with_the_number_of_its_repetitions(
    log: RateLimitedLog, clock: Clock
):
    assert log.filter(record("Redis is away"))
    assert not log.filter(record("Redis is away"))

    assert not log.filter(record("Redis is away"))
    clock.now += REPEATED_AFTER_S
    later, latest = record("Redis is away"), record("Redis is away")

    assert log.filter(later)
    clock.now += REPEATED_AFTER_S
    assert log.filter(latest)
    assert (later.getMessage(), latest.getMessage()) == (
        "Redis is away (and 2 times before)", "Redis is away",
    )  # fmt: skip


def test_other_texts_and_other_loggers_are_logged(log: RateLimitedLog):
    assert log.filter(record("A lost its worker 1"))
    assert log.filter(record("A lost its worker 2"))
    assert log.filter(record("A lost its worker 1", by="coordination.runs.maintenance.leader"))


def test_lower_levels_are_always_logged(log: RateLimitedLog):
    assert [log.filter(record("A succeeded", level=logging.INFO)) for _ in range(2)] == [True, True]


def test_a_line_of_celery_with_another_number_of_tries_is_a_repetition(log: RateLimitedLog):
    assert log.filter(record("Trying again in 3.00 seconds... (7/None)", by="celery.worker.consumer"))
    assert not log.filter(record("Trying again in 3.00 seconds... (8/None)", by="celery.worker.consumer"))


def test_a_key_of_a_worker_may_lie_beside_such_a_link(here: Path):
    (here / "loop").symlink_to("loop")

    WorkerKey(here / "state", "h").refuse_in_repository({"x": here / "loop"})
