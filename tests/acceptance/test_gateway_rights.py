"""A gateway as a Redis user of its own: it hands over messages, and can do nothing else."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import redis

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.events.stream import EventStream
from coordination.messages import Event, MessageBus
from coordination.operations.acl import Role, Rules
from tests.gateways import Gateway
from tests.testbed import Testbed
from tests.waiting import until

PASSWORD = "only-for-tests"


def url_of_the_user(testbed: Testbed) -> str:
    rules = Rules(Keys("coord")).of(Role.GATEWAY)
    testbed.redis().execute_command(
        "ACL", "SETUSER", "gateway", "reset", "on", f">{PASSWORD}", *rules.split()
    )
    path = urlsplit(testbed.server.start()).path
    return f"unix://gateway:{PASSWORD}@{path}"


def test_a_gateway_with_the_rights_of_its_role_does_its_work_and_nothing_else(testbed: Testbed):
    testbed.write()
    url = url_of_the_user(testbed)
    gateway = Gateway(testbed, COORD_REDIS_URL=url)
    bus = gateway.bus()
    token = gateway.token("agent:a", ("a.*", "events.**"))

    with gateway.client(token) as client:
        bus.send("agent:a", "note", 1)
        client.say(nack=client.message()["id"])
        again = client.message()
        client.say(extend=again["id"])
        client.say(ack=again["id"])
        client.say(send={"to": "agent:a", "type": "note", "payload": 2, "seq": 1})
        assert {next(iter(client.hear())), next(iter(client.hear()))} == {"sent", "message"}
        until(lambda: bus.standing("agent:a").in_hand == 1)
        client.say(subscribe="a.*")
        client.say(publish={"topic": "a.b", "payload": 3, "seq": 2})
        frames = [client.hear() for _ in range(3)]
        assert {word for frame in frames for word in frame} == {"subscribed", "published", "event"}
        client.say(subscribe="events.command.*")
        assert "subscribed" in client.hear()
        told = EventStream(testbed.redis(), "coord").append("command.clean", "told")
        assert client.hear()["event"]["id"] == told
        gateway.tokens.revoke("agent:a")
        assert client.ended() == 1008

    user = connect(url, Profile.COMMAND)
    for command in (
        ("HGETALL", "coord:run:x:meta"),
        ("HSET", "coord:gateway-tokens", "x", "y"),
        ("LPUSH", "coord.repo.api", "x"),
        ("PUBLISH", "coord:restricted:api:requests", "x"),
        ("XADD", "coord:events", "*", "kind", "run.ended", "at", "1"),
        ("XTRIM", "coord:events", "MAXLEN", "0"),
        ("KEYS", "*"),
        ("FLUSHALL",),
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            user.execute_command(*command)
    with pytest.raises(redis.exceptions.ResponseError):
        EventStream(user, "coord").append("run.ended", "x")
    assert not [e for e in EventStream(testbed.redis(), "coord").read().events if e.subject == "x"]


def test_a_submitter_publishes_and_listens_with_the_rights_of_its_role(testbed: Testbed):
    testbed.write()
    rules = Rules(Keys("coord")).of(Role.SUBMITTER)
    testbed.ok("steps", "load")
    testbed.redis().execute_command("ACL", "SETUSER", "ann", "reset", "on", f">{PASSWORD}", *rules.split())
    bus = MessageBus(
        connect(f"unix://ann:{PASSWORD}@{urlsplit(testbed.server.start()).path}", Profile.COMMAND), "coord"
    )

    with bus.listen("a.*") as listening:
        assert bus.publish("a.b", 1) == 1
        event = next(listening.events(60))
    assert isinstance(event, Event)
    assert event.payload == 1
