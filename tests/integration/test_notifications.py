"""A worker learns of cancelled runs and of jobs at once: by its inbox, or, restricted, by a bare signal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.messages import MessageBus
from coordination.runs.cleanup_jobs import CleanupJob, CleanupQueue
from coordination.runs.store import RunStore
from coordination.runs.worker_registry import Worker
from coordination.settings import Settings
from tests.engine import Engine
from tests.integration.conftest import submitted
from tests.waiting import until
from workers.notifications import Callbacks, Notifications, PubSubNotifications

SETTINGS = Settings(namespace="test", heartbeat="1h")  # nothing but a message can be what tells here
SOON_S = 60


class PeerWorker:
    """The notifications of a worker; `calls` are those of its callbacks."""

    def __init__(self, url: str, name: str, *, restricted: bool = False) -> None:
        self.calls: Queue[tuple[str, ...]] = Queue()
        self.worker = Worker(id=f"{name}@h", host="h", pid=1, version="0", repos=("r1",), jobs=1)
        self._client = connect(url, Profile.READER if restricted else Profile.WORKER, decode=not restricted)
        self.bus = MessageBus(self._client, "test")
        callbacks = Callbacks(
            send_heartbeat=lambda: self.calls.put(("beat",)),
            look_for_jobs=lambda: self.calls.put(("look",)),
            log_line=lambda run, line: self.calls.put((run, line)),
        )
        self.notifications: Notifications | PubSubNotifications = (
            PubSubNotifications(self._client, self.bus.steps.keys, self.worker, callbacks)
            if restricted
            else Notifications(self._client, SETTINGS, self.worker, callbacks)
        )
        if isinstance(self.notifications, Notifications):
            self.notifications.subscribe()
        self.notifications.start()
        # A notification that is not stored reaches present listeners.
        channel = self.bus.steps.keys.mail(f"worker:{self.worker.id}")
        until(lambda: self._client.pubsub_numsub(channel)[0][1])

    def next(self) -> tuple[str, ...]:
        return self.calls.get(timeout=SOON_S)

    def end(self) -> None:
        self.notifications.stop()
        self._client.close()


@pytest.fixture
def run(store: RunStore) -> Engine:
    return submitted(store, {"A": "r1", "B": "r2", "C": ("r1", ["A"])})


@pytest.fixture
def one(redis_url: str) -> Iterator[PeerWorker]:
    made = PeerWorker(redis_url, "one")
    yield made
    made.end()


@pytest.fixture
def other(redis_url: str) -> Iterator[PeerWorker]:
    made = PeerWorker(redis_url, "other")
    yield made
    made.end()


@pytest.fixture
def restricted(redis_url: str) -> Iterator[PeerWorker]:
    made = PeerWorker(redis_url, "restricted", restricted=True)
    assert {made.next(), made.next()} == {("beat",), ("look",)}, "what was said before it listened"
    yield made
    made.end()


def takes(run: Engine, todo: str, who: PeerWorker) -> None:
    claimed = run.store.claim(run.run_id, todo, 1, worker=who.worker.id, host="h", lease=SETTINGS.lease_ttl)
    assert claimed.word == "granted"


def test_the_worker_of_a_todo_is_notified_of_pause_resume_and_cancel_in_order(run: Engine, one: PeerWorker):
    takes(run, "A", one)
    takes(run, "B", one)

    run.store.pause(run.run_id, "lena@there")
    run.store.resume(run.run_id, "lena@there")
    run.store.cancel(run.run_id, "lena@there")

    assert one.next() == (run.run_id, "paused by lena@there: this todo may finish, nothing new starts")
    assert one.next() == (run.run_id, "resumed by lena@there")
    assert one.next() == ("beat",)
    until(lambda: one.bus.standing(f"worker:{one.worker.id}").in_hand == 0)
    assert one.calls.empty(), "once, for two todos"


def test_a_worker_without_a_todo_of_the_run_is_not_notified(run: Engine, one: PeerWorker, other: PeerWorker):
    takes(run, "A", one)

    run.store.pause(run.run_id, "lena@there")

    assert one.next()[0] == run.run_id
    assert other.bus.peek(f"worker:{other.worker.id}") == ()
    assert other.calls.empty()


def test_a_restricted_worker_hears_that_there_is_news(run: Engine, restricted: PeerWorker, other: PeerWorker):
    takes(run, "A", restricted)

    run.store.cancel(run.run_id, "lena@there")

    assert restricted.next() == ("beat",)
    assert restricted.bus.recipients() == (f"worker:{other.worker.id}",)


def test_every_worker_receives_a_cleanup_job(
    store: RunStore, one: PeerWorker, other: PeerWorker, restricted: PeerWorker
):
    CleanupQueue(store.redis, store.keys).post(CleanupJob(id="1", until_ms=store.now_ms() + 60_000))

    assert [who.next() for who in (one, other, restricted)] == [("look",)] * 3


def test_a_worker_that_signed_off_is_no_longer_known(store: RunStore, redis_url: str, one: PeerWorker):
    late = PeerWorker(redis_url, "late")
    assert set(one.bus.recipients()) == {"worker:late@h", "worker:one@h"}

    late.end()

    assert one.bus.recipients() == ("worker:one@h",)
    assert one.bus.broadcast("workers", "cleanup-jobs") == 1


def test_a_message_between_sign_on_and_start_is_received(run: Engine, redis_url: str, one: PeerWorker):
    client = connect(redis_url, Profile.WORKER)
    calls: Queue[str] = Queue()
    notifications = Notifications(
        client,
        SETTINGS,
        Worker(id="new@h", host="h", pid=1, version="0", repos=("r2",), jobs=1),
        Callbacks(
            send_heartbeat=lambda: calls.put("beat"),
            look_for_jobs=lambda: None,
            log_line=lambda run, line: None,
        ),
    )
    notifications.subscribe()
    run.store.claim(run.run_id, "B", 1, worker="new@h", host="h", lease=SETTINGS.lease_ttl)
    run.store.cancel(run.run_id, "lena@there")
    notifications.start()

    assert calls.get(timeout=SOON_S) == "beat"
    notifications.stop()
    client.close()


def test_a_worker_looks_for_missed_notifications_after_an_outage(tmp_path: Path):
    server = EmbeddedServer(tmp_path / ".coord", Settings())
    restricted = PeerWorker(server.start(), "restricted", restricted=True)
    for _ in range(2):
        assert {restricted.next(), restricted.next()} == {("beat",), ("look",)}
        server.stop()
        server.start()

    restricted.end()
    server.stop()


def test_the_worker_of_a_todo_is_notified_of_a_rollback_at_once(
    run: Engine, one: PeerWorker, restricted: PeerWorker
):
    takes(run, "A", one)
    takes(run, "B", restricted)

    run.store.rollback(run.run_id, "lena@there", "asked by lena")

    assert one.next() == ("beat",)
    assert restricted.next() == ("beat",)
    assert one.bus.peek(f"worker:{one.worker.id}") == ()
