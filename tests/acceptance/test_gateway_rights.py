"""A gateway as a Redis user of its own: it hands over messages, and can do nothing else."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import redis

from coordination.fleet.acl import Role, Rules
from coordination.wire.connection import Profile, connect
from coordination.wire.keys import Keys
from tests.gateways import Gateway
from tests.stage import Stage
from tests.waiting import until

PASSWORD = "only-for-tests"


def url_of_the_user(stage: Stage) -> str:
    rules = Rules(Keys("coord")).of(Role.GATEWAY)
    stage.redis().execute_command("ACL", "SETUSER", "gateway", "reset", "on", f">{PASSWORD}", *rules.split())
    path = urlsplit(stage.server.start()).path
    return f"unix://gateway:{PASSWORD}@{path}"


def test_a_gateway_with_the_rights_of_its_role_does_its_work_and_nothing_else(stage: Stage):
    stage.write()
    url = url_of_the_user(stage)
    gateway = Gateway(stage, COORD_REDIS_URL=url)
    bus = gateway.bus()
    token = gateway.token("agent:a")

    with gateway.client(token) as client:
        bus.send("agent:a", "note", 1)
        client.say(nack=client.message()["id"])
        again = client.message()
        client.say(extend=again["id"])
        client.say(ack=again["id"])
        client.say(send={"to": "agent:a", "type": "note", "payload": 2, "seq": 1})
        assert {next(iter(client.hear())), next(iter(client.hear()))} == {"sent", "message"}
        until(lambda: bus.standing("agent:a").in_hand == 1)
        gateway.tokens.revoke("agent:a")
        assert client.ended() == 1008

    user = connect(url, Profile.COMMAND)
    for command in (
        ("HGETALL", "coord:run:x:meta"),
        ("HSET", "coord:gateway-tokens", "x", "y"),
        ("LPUSH", "coord.repo.api", "x"),
        ("PUBLISH", "coord:restricted:api:requests", "x"),
        ("KEYS", "*"),
        ("FLUSHALL",),
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            user.execute_command(*command)
