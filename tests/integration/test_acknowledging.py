"""A message that Redis did not hear acknowledged gives its place free all the same: else its worker would
consume no more.
"""

from __future__ import annotations

import pytest
import redis
from kombu.transport.redis import QoS

from coordination.backend.keys import Keys
from coordination.broker.celery_app import make_app
from coordination.settings import Settings


def test_a_worker_with_one_place_takes_the_next_message_after_an_acknowledgement_without_an_answer(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
):
    app = make_app(redis_url, Keys("test"), Settings())

    def unanswered(_qos: QoS, _tag: str) -> None:
        raise redis.TimeoutError("no answer")

    with app.connection_for_read() as connection:
        channel = connection.channel()
        channel.basic_qos(0, 1, False)
        queue = connection.SimpleQueue("test.control", no_ack=False)
        queue.put({"hint": 1})
        queue.close()
        channel.queue_declare("test.control")
        message = channel.basic_get("test.control")
        channel.qos.append(message, message.delivery_tag)
        assert not channel.qos.can_consume()

        monkeypatch.setattr(QoS, "_remove_from_indices", unanswered)
        with pytest.raises(redis.TimeoutError):
            channel.basic_ack(message.delivery_tag)

        assert channel.qos.can_consume()
