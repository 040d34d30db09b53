"""Topics over WebSocket: who is subscribed gets what is published, within its rights and limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from coordination.errors import UsageError
from coordination.events.stream import EventStream
from tests.gateways import Client, Gateway
from tests.testbed import Testbed
from tests.waiting import until


@pytest.fixture(scope="module")
def gateway(new_testbed: Callable[[], Testbed]) -> Gateway:
    testbed = new_testbed()
    testbed.write()
    return Gateway(testbed)


def heard(client: Client, word: str) -> Any:
    """Return the value of this field in the first frame that has it."""
    while word not in (said := client.hear()):
        pass
    return said[word]


def test_what_is_published_reaches_who_subscribed_by_name_or_pattern(gateway: Gateway):
    with (
        gateway.client(gateway.token("agent:pub")) as publisher,
        gateway.client(gateway.token("agent:sub")) as client,
    ):
        client.say(subscribe="vbia_events")
        assert heard(client, "subscribed") == {"topics": ["vbia_events"]}
        client.say(subscribe=["a.*", "a.b"])
        assert heard(client, "subscribed") == {"topics": ["a.*", "a.b", "vbia_events"]}

        for topic, payload in (("vbia_events", {"n": 1}), ("a.b", 2)):
            publisher.say(publish={"topic": topic, "payload": payload, "seq": 1 if payload == 2 else 2})
            published = heard(publisher, "published")
            assert (published["topic"], published["reached"] >= 1) == (topic, True)
            event = heard(client, "event")
            assert (event["topic"], event["from"], event["payload"]) == (topic, "agent:pub", payload)
        publisher.say(publish={"topic": "a.b", "payload": 3, "from": "agent:other"})
        assert publisher.hear()["refused"]  # the client does not choose the sender
        assert publisher.ended() == 4000


def test_each_event_comes_once_in_order_and_after_unsubscribe_no_more(gateway: Gateway):
    bus = gateway.bus("repo:api")
    with gateway.client(gateway.token("agent:order")) as client:
        client.say(subscribe=["o.*", "o.a", "**"])
        heard(client, "subscribed")
        for n in range(50):
            bus.publish("o.a", n)
        assert [heard(client, "event")["payload"] for _ in range(50)] == list(range(50))
        client.say(unsubscribe=["o.a", "**"])
        assert heard(client, "subscribed") == {"topics": ["o.*"]}
        bus.publish("elsewhere", 1)
        bus.publish("o.b", 2)
        assert heard(client, "event")["payload"] == 2


def test_a_token_is_for_its_topics_and_nobody_publishes_as_coord(gateway: Gateway):
    gateway.bus().register("agent:bounded")
    with gateway.client(gateway.tokens.grant("agent:bounded", ["a.*"])) as client:
        for frame in ({"subscribe": "**"}, {"subscribe": "a.**"}, {"subscribe": ["a.b", "c"]}):
            client.say(**frame)
            assert "your token" in heard(client, "refused")["message"]
        client.say(publish={"topic": "b", "payload": 1, "seq": 1})
        refused = heard(client, "refused")
        assert (refused["publish"], refused["seq"], bool(refused["hint"])) == ("b", 1, True)
        client.say(subscribe="a.b")
        assert heard(client, "subscribed") == {"topics": ["a.b"]}
    with gateway.client(gateway.token("agent:free")) as client:
        client.say(publish={"topic": "workers", "payload": 1})
        assert "your token" in heard(client, "refused")["message"]
    with pytest.raises(Exception, match="not a pattern"):
        gateway.tokens.grant("agent:bounded", ["a*"])


@pytest.mark.parametrize(
    "frame",
    [
        {"subscribe": "a..b"},
        {"subscribe": "a*"},
        {"subscribe": "x" * 201},
        {"publish": {"topic": "a.*", "payload": 1}},
        {"publish": {"topic": "a", "payload": "x" * 300_000}},
        {"publish": {"topic": "a", "payload": 1, "type": "two words"}},
    ],
)
def test_what_cannot_be_is_refused_and_the_client_stays(gateway: Gateway, frame: dict[str, Any]):
    with gateway.client(gateway.token("agent:odd")) as client:
        client.say(**frame)
        assert heard(client, "refused")["hint"]
        client.say(subscribe="a")
        heard(client, "subscribed")


def test_a_client_may_have_a_hundred_subscriptions(gateway: Gateway):
    with gateway.client(gateway.token("agent:greedy")) as client:
        for n in range(0, 1000, 100):
            client.say(subscribe=[f"t.{n + i}" for i in range(100)])
        assert len(heard(client, "subscribed")["topics"]) == 100
        assert "subscriptions" in heard(client, "refused")["message"]


@pytest.mark.parametrize(
    "garbage", ['{"subscribe": []}', '{"publish": {"topic": "a"}}', '{"subscribe": {"a": 1}}', "\0" * 1000]
)
def test_garbage_ends_the_session_and_no_other(gateway: Gateway, garbage: str):
    with (
        gateway.client(gateway.token("agent:good")) as good,
        gateway.client(gateway.token("agent:bad")) as bad,
    ):
        good.say(subscribe="g")
        heard(good, "subscribed")
        bad.say(subscribe="g")
        bad.line.send(garbage)
        with suppress(ConnectionClosed):
            assert heard(bad, "refused")
        assert bad.ended() == 4000
        gateway.bus().publish("g", "still here")
        assert heard(good, "event")["payload"] == "still here"


def test_a_client_that_does_not_read_loses_the_oldest_events_and_learns_of_it(gateway: Gateway):
    bus = gateway.bus()
    with gateway.connected(gateway.token("agent:slow"), max_queue=1) as client:
        client.say(resume=None)
        client.say(subscribe="s")
        heard(client, "subscribed")
        for n in range(150):
            bus.publish("s", [n, "x" * 200_000])
        got, missed = [], 0
        while not got or got[-1] != 149:
            said = client.hear()
            missed += said.get("gap", {}).get("missed") or 0
            got += [said["event"]["payload"][0]] if "event" in said else []
        assert missed > 0
        assert len(got) + missed == 150
        assert got == sorted(got)


def test_an_absence_of_redis_is_a_gap(testbed: Testbed):
    testbed.write()
    gateway = Gateway(testbed)
    with gateway.client(gateway.token("agent:a")) as client:
        client.say(subscribe="a")
        heard(client, "subscribed")
        gateway.bus().steps.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        assert heard(client, "gap") == {"missed": None}
        gateway.bus().publish("a", json.loads("1"))
        assert heard(client, "event")["payload"] == 1


def test_what_is_no_event_is_passed_over_and_the_gateway_goes_on(gateway: Gateway):
    redis = gateway.bus().steps.redis
    with gateway.client(gateway.token("agent:hardy")) as client:
        client.say(subscribe=["hardy", "**"])
        heard(client, "subscribed")
        for rubbish in (
            b"\xff\xfe",
            "",
            "1 a/1 t\n{",
            "1 a/1 t\nNaN",
            "1 a/1 t\n" + "[" * 100_000,
            '1 a/1 t\n"\\ud800"',
        ):
            redis.publish("coord:live:hardy", rubbish)
        redis.publish(b"coord:live:\xff", "1 a/1 t\n1")
        redis.publish("coord:live:" + "x." * 10_000, "1 a/1 t\nnull")
        redis.publish("coord:gateway-news", b"\xff")

        def answered() -> bool:
            gateway.bus().publish("hardy", "still here")
            with suppress(TimeoutError):  # it listens anew after what it could not read
                while client.hear(1).get("event", {}).get("payload") != "still here":
                    pass
                return True
            return False

        until(answered)
    assert gateway.process.poll() is None


def test_half_a_frame_and_a_connection_that_breaks_leave_no_subscription(gateway: Gateway):
    bus = gateway.bus()
    with gateway.client(gateway.token("agent:half")) as client:
        client.say(subscribe="half")
        heard(client, "subscribed")
        client.line.socket.sendall(b"\x81\xfe\x01\x00abc")  # 256 bytes of text are announced
        client.line.socket.close()

    with gateway.client(gateway.token("agent:half")) as client:
        bus.publish("half", 1)
        client.say(subscribe="half")
        assert heard(client, "subscribed") == {"topics": ["half"]}
        bus.publish("half", 2)
        while heard(client, "event")["payload"] != 2:  # the one before may still be under way
            pass
    assert gateway.process.poll() is None


def test_events_of_coord_reach_who_names_them_and_nobody_else(gateway: Gateway):
    stream, text = EventStream(gateway.redis, "coord"), "\x1b[2Jred"
    with (
        gateway.client(gateway.token("agent:all")) as everything,
        gateway.client(gateway.token("agent:runs", ("events.run.*", "a.*"))) as client,
    ):
        everything.say(subscribe="**")
        heard(everything, "subscribed")
        everything.say(subscribe="events.run.*")
        assert "events.run.*" in heard(everything, "refused")["message"]
        client.say(subscribe=["events.run.*", "a.*"])
        heard(client, "subscribed")

        stream.append("todo.settled", "A")
        stream.append("run.ended", "r1", run="r1", repos=["api"], title=text, data={"status": "failed"})
        event = heard(client, "event")
        assert (event["topic"], event["from"], event["type"]) == ("events.run.ended", "coord", "run.ended")
        assert event["payload"] == {
            "kind": "run.ended", "subject": "r1", "run": "r1", "actor": "", "repos": ["api"], "title": text,
            "data": {"status": "failed"},
        }  # fmt: skip
        client.say(publish={"topic": "events.run.ended", "payload": 1})
        assert heard(client, "refused")
        gateway.redis.publish("coord:live:events.run.ended", '1 someone/1 event\n{"status": "succeeded"}')
        gateway.bus("agent:other").publish("a.b", "last")
        assert heard(client, "event")["payload"] == "last"
        assert heard(everything, "event")["payload"] == "last"
    with pytest.raises(UsageError):
        gateway.bus("agent:other").publish("events.run.ended", 1)
    with pytest.raises(UsageError, match="coord event list"):
        gateway.bus("agent:other").listen("events.**")


def test_events_of_coord_are_repeated_from_a_position_and_then_come_live(gateway: Gateway):
    stream = EventStream(gateway.redis, "coord")
    token = gateway.token("agent:again", ("events.command.*", "a"))
    gone = [stream.append("command.clean", f"gone {n}") for n in range(300)]
    kept = [stream.append("command.clean", str(n)) for n in range(300)]
    secret = stream.append("run.paused", "of another token")
    with gateway.client(token) as client:
        client.say(subscribe="a", since=gone[0])
        assert "events of coord" in heard(client, "refused")["message"]
        client.say(subscribe="events.command.*", since="yesterday")
        assert "id of an event" in heard(client, "refused")["message"]
        client.say(subscribe=["events.command.*", "a"], since=kept[99])
        assert heard(client, "subscribed")["position"] == kept[99]
        live = [stream.append("command.clean", f"live {n}") for n in range(200)]  # while it is repeated
        got = [heard(client, "event")["id"] for _ in range(400)]
        assert got == [*kept[100:], *live], "each once, in order"
        last = stream.append("command.clean", "last")
        assert heard(client, "event")["id"] == last
    stream.trim(gone[-1])
    with gateway.client(token) as client:
        client.say(subscribe="events.command.*", since=gone[0])
        gap = heard(client, "gap")
        first = heard(client, "event")["id"]
        assert gap == {"missed": None, "after": gone[0], "first": first}
        while (found := heard(client, "event")["id"]) != last:
            assert found != secret


def test_a_position_of_another_server_is_a_gap_and_live_events_follow(gateway: Gateway):
    stream = EventStream(gateway.redis, "coord")
    with gateway.client(gateway.token("agent:moved", ("events.command.*",))) as client:
        client.say(subscribe="events.command.*", since=f"{10**16}-0")
        assert heard(client, "gap")["missed"] is None
        new = stream.append("command.clean", "new")
        assert heard(client, "event")["id"] == new
