"""The settings of the Celery app, for every kind of address."""

from __future__ import annotations

import kombu.utils.functional
import pytest
import redis
from kombu.exceptions import OperationalError

from coordination.backend.keys import Keys
from coordination.broker.celery_app import make_app
from coordination.broker.transport import TolerantTransport
from coordination.settings import Settings


@pytest.mark.parametrize("url", ["redis://localhost/0", "rediss://localhost", "unix:///run/redis.sock?db=3"])
def test_queue_entries_that_are_no_messages_are_survived_whatever_the_address(url: str) -> None:
    app = make_app(url, Keys("coord"), Settings())

    for connection in (app.connection_for_read(), app.connection_for_write()):
        assert connection.get_transport_cls() is TolerantTransport


@pytest.mark.parametrize(
    "url", ["redis://ops:hunter2@localhost/0", "unix://ops:hunter2@/run/redis.sock?db=3"]
)
def test_what_a_worker_tells_of_its_connection_holds_no_password(url: str) -> None:
    told = make_app(url, Keys("coord"), Settings()).connection_for_read().info()
    told.pop("password")  # as Celery does before it tells

    assert "hunter2" not in str(told)


def test_a_redis_that_is_away_is_tried_every_few_seconds(
    free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(kombu.utils.functional, "sleep", waited.append)
    connection = make_app(f"redis://localhost:{free_port}", Keys("coord"), Settings()).connection_for_read()
    pauses: list[float] = []

    with pytest.raises(OperationalError):
        connection.ensure_connection(lambda _, pause: pauses.append(pause), max_retries=20)

    assert waited
    assert max(pauses) == 3


def test_a_channel_that_is_closed_while_a_message_is_sent_is_a_lost_connection() -> None:
    with make_app("redis://127.0.0.1:1/0", Keys("test"), Settings()).connection() as connection:
        channel = connection.transport.Channel.__new__(connection.transport.Channel)
        channel.connection = None  # as kombu leaves it when it closes one

        with pytest.raises(redis.ConnectionError, match="closed"):
            channel._connparams()
