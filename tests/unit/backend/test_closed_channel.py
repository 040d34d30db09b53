"""A channel that is closed while a message is sent fails as a lost connection does."""

from __future__ import annotations

import pytest
import redis

from coordination.backend.keys import Keys
from coordination.broker.celery_app import make_app
from coordination.settings import Settings


def test_a_channel_without_its_connection_is_a_lost_connection() -> None:
    with make_app("redis://127.0.0.1:1/0", Keys("test"), Settings()).connection() as connection:
        channel = connection.transport.Channel.__new__(connection.transport.Channel)
        channel.connection = None  # as kombu leaves it when it closes one

        with pytest.raises(redis.ConnectionError, match="closed"):
            channel._connparams()
