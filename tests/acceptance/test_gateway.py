"""`coord gateway`: recipients that have no Redis get what was sent to them, once they say what they know."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from coordination.messages import MessageBus
from tests.gateways import Gateway
from tests.testbed import Testbed
from tests.waiting import until

GOING_AWAY, BROKEN, POLICY, TOO_BIG, BAD_FRAME, TAKEN_OVER = 1001, 1006, 1008, 1009, 4000, 4001


@pytest.fixture(scope="module")
def gateway(new_testbed: Callable[[], Testbed]) -> Gateway:
    """For tests that leave it as it is; each has a recipient of its own."""
    testbed = new_testbed()
    testbed.write()
    return Gateway(testbed, "--origin", "https://pages.example")


def sent(bus: MessageBus, to: str, *payloads: object) -> None:
    for payload in payloads:
        bus.send(to, "note", payload)


def left(gateway: Gateway, recipient: str) -> int:
    """Messages that nobody has acknowledged."""
    standing = gateway.bus().standing(recipient)
    return standing.waiting + standing.in_hand


def test_a_token_is_made_and_shown_once_and_whoever_has_it_gets_the_messages(testbed: Testbed):
    testbed.write()
    granted = testbed.ok("gateway", "--grant", "agent:ann")
    token = granted.out.strip()
    gateway = Gateway(testbed)
    sent(gateway.bus("repo:api"), "agent:ann", {"text": "grüß dich"})

    with gateway.client(token) as ann:
        message = ann.message()
        assert (message["from"], message["type"], message["payload"]) == (
            "repo:api",
            "note",
            {"text": "grüß dich"},
        )
        assert (message["offset"], message["deliveries"], message["reply_to"]) == (1, 1, None)
        ann.say(ack=message["id"])
        until(lambda: left(gateway, "agent:ann") == 0)

    assert [grant["recipient"] for grant in testbed.ok("gateway", "--list", "--json").json] == ["agent:ann"]
    assert testbed.ok("gateway", "--list", "--format", "{recipient} {topics}").out == "agent:ann **\n"
    kept = str(gateway.bus().steps.redis.hgetall("coord:gateway-tokens"))
    assert token.partition(".")[2] not in kept
    testbed.ok("gateway", "--revoke", "agent:ann")
    assert testbed.coord("gateway", "--revoke", "agent:ann").code == 2
    for name in ("ann", "worker:w1", "agent:two words"):
        assert testbed.coord("gateway", "--grant", name).code == 2, name
    second = testbed.ok("gateway", "--grant", "agent:one", "--json").json
    assert (second["recipient"], len(second["token"]) > 40) == ("agent:one", True)
    assert testbed.ok("gateway", "--revoke", "agent:one", "--json").json == {"recipient": "agent:one"}
    assert testbed.coord("gateway", "--list", "--json").json == []
    os.kill(gateway.process.pid, signal.SIGTERM)
    assert gateway.process.wait(60) == 0
    assert gateway.process.err.strip() == f"gateway  ws://127.0.0.1:{gateway.port}/"


def test_a_stopped_gateway_sends_its_clients_elsewhere_and_returns_their_messages(testbed: Testbed):
    testbed.write()
    gateway = Gateway(testbed)
    with gateway.client(gateway.token("agent:a")) as client:
        sent(gateway.bus(), "agent:a", 1)
        client.message()
        os.kill(gateway.process.pid, signal.SIGTERM)
        assert client.ended() == GOING_AWAY

    assert gateway.process.wait(60) == 0
    testbed.server.start()  # nobody needed it any more
    assert gateway.bus().standing("agent:a").waiting == 1


def test_a_client_that_missed_nothing_is_told_so(gateway: Gateway):
    token, bus = gateway.token("agent:faithful"), gateway.bus()
    with gateway.client(token) as client:
        sent(bus, "agent:faithful", 1)
        client.say(ack=client.message()["id"])
        until(lambda: left(gateway, "agent:faithful") == 0)
        known = client.known

    sent(bus, "agent:faithful", 2, 3)

    with gateway.client(token, known) as client:
        assert client.welcomes[0] == {
            "recipient": "agent:faithful", "epoch": known["epoch"], "offset": 3, "trimmed": 0,
            "recovered": True, "missed": 0
        }  # fmt: skip
        assert [message["payload"] for message in client.messages(2)] == [2, 3]


def test_a_client_that_was_away_too_long_is_told_how_many_it_missed(gateway: Gateway):
    token, bus = gateway.token("agent:late"), gateway.bus(inbox_limit=5)
    with gateway.client(token) as client:
        known = client.known

    sent(bus, "agent:late", *range(12))

    with gateway.client(token, known) as client:
        assert (client.welcomes[0]["recovered"], client.welcomes[0]["missed"]) == (False, 7)
        assert [message["payload"] for message in client.messages(5)] == [7, 8, 9, 10, 11]
        known = client.known
    with gateway.client(token, known) as client:
        assert (client.welcomes[0]["recovered"], client.welcomes[0]["missed"]) == (True, 0)


def test_what_is_trimmed_while_a_client_is_here_is_told_before_what_comes_next(gateway: Gateway):
    token = gateway.token("agent:slow-worker")
    with gateway.client(token) as client:
        sent(gateway.bus(), "agent:slow-worker", *range(32))
        held = client.messages(32)
        assert gateway.bus().standing("agent:slow-worker").in_hand == 32, "its window"
        sent(gateway.bus(inbox_limit=5), "agent:slow-worker", *range(32, 40))

        client.say(ack=held[0]["id"])

        told = client.hear()["welcome"]
        assert (told["recovered"], told["missed"]) == (False, 3)
        assert client.message()["payload"] == 35


def test_what_was_not_acknowledged_is_delivered_again_at_once_and_in_order(gateway: Gateway):
    token, bus = gateway.token("agent:broken"), gateway.bus()
    sent(bus, "agent:broken", *range(6))
    with gateway.client(token) as client:
        held = client.messages(6)
        client.say(ack=held[1]["id"])
        until(lambda: left(gateway, "agent:broken") == 5)
        known = client.known

    with gateway.client(token, known) as client:
        again = client.messages(5)

    assert [message["payload"] for message in again] == [0, 2, 3, 4, 5]
    assert [message["id"] for message in again] == [held[i]["id"] for i in (0, 2, 3, 4, 5)]
    assert {message["deliveries"] for message in again} == {1}  # a broken connection is nobody's fault


def test_what_a_client_cannot_do_comes_again_before_what_came_later(gateway: Gateway):
    token, bus = gateway.token("agent:unable"), gateway.bus()
    sent(bus, "agent:unable", 1, 2, 3)
    with gateway.client(token) as client:
        held = client.messages(3)
        client.say(nack=held[0]["id"], why="no disk")
        again = client.messages(3)

        assert [(message["payload"], message["deliveries"]) for message in again] == [(1, 2), (2, 1), (3, 1)]
        client.say(ack=held[1]["id"])  # the same message, in hand again
        until(lambda: left(gateway, "agent:unable") == 2)


def test_what_a_client_does_not_have_it_can_neither_acknowledge_nor_extend(gateway: Gateway):
    with gateway.client(gateway.token("agent:odd")) as client:
        for word in ("ack", "nack", "extend"):
            client.say(**{word: "repo:x/1"})
            refused = client.hear()["refused"]
            assert refused[word] == "repo:x/1"
            assert "not in flight" in refused["message"]
        sent(gateway.bus(), "agent:odd", 1)
        message = client.message()
        client.say(extend=message["id"])
        client.say(ack=message["id"])
        client.say(ack=message["id"])
        assert client.hear()["refused"]["ack"] == message["id"]


def test_a_client_sends_as_its_recipient_and_once_however_often_it_says_so(gateway: Gateway):
    one, other = gateway.token("agent:one"), gateway.token("agent:other")
    letter = {
        "to": "agent:other",
        "type": "ask",
        "payload": [1, None],
        "seq": 7,
        "reply_to": "agent:one",
        "ttl_s": 60,
    }
    with gateway.client(one) as sender:
        sender.say(send=letter)
        answer = sender.hear()
        assert answer == {"sent": {"seq": 7, "id": "agent:one/7"}}
    with gateway.client(one) as sender:  # as after a connection that broke before the answer
        sender.say(send=letter)
        assert sender.hear() == answer
        sender.say(send={**letter, "seq": 8, "payload": "second"})
        sender.hear()

    with gateway.client(other) as reader:
        first, second = reader.messages(2)
    assert (first["from"], first["payload"], first["reply_to"]) == ("agent:one", [1, None], "agent:one")
    assert second["payload"] == "second"


@pytest.mark.parametrize(
    ("letter", "words"),
    [
        ({"to": "agent:nobody-at-all"}, "there is no recipient"),
        ({"to": "nonsense"}, "is not a recipient"),
        ({"to": "worker:w1"}, "clients cannot send"),
        ({"reply_to": "worker:w1"}, "cannot send to 'worker:w1'"),
        ({"type": ""}, "needs a name"),
        ({"payload": "x" * (1024 * 1024)}, "more than 1,048,576"),
        ({"priority": 1000}, "priority 1000"),
    ],
)
def test_what_cannot_be_sent_is_refused_in_words_and_the_client_stays(
    gateway: Gateway, letter: dict[str, object], words: str
):
    own = f"agent:{words.replace(' ', '-')}"
    with gateway.client(gateway.token(own)) as client:
        client.say(send={"to": own, "type": "t", "payload": 1, "seq": 1, **letter})
        refused = client.hear()["refused"]
        assert (refused["seq"], words in refused["message"], bool(refused["hint"])) == (1, True, True)
        client.say(send={"to": own, "type": "t", "payload": 1, "seq": 2})
        assert {next(iter(client.hear())), next(iter(client.hear()))} == {"sent", "message"}


def test_the_last_who_comes_as_a_recipient_takes_over_from_the_one_before(gateway: Gateway):
    token, bus = gateway.token("agent:twice"), gateway.bus()
    sent(bus, "agent:twice", 1, 2)
    with gateway.client(token) as first:
        held = first.messages(2)
        with gateway.client(token, first.known) as second:
            assert first.ended() == TAKEN_OVER
            assert [message["id"] for message in second.messages(2)] == [message["id"] for message in held]
            second.say(ack=held[0]["id"])
            until(lambda: left(gateway, "agent:twice") == 1)


def test_a_recipient_is_in_at_one_of_several_gateways(gateway: Gateway, new_testbed: Callable[[], Testbed]):
    testbed = new_testbed()
    testbed.write()
    other = Gateway(testbed, COORD_REDIS_URL=gateway.url)
    other.tokens = gateway.tokens
    token = gateway.token("agent:mover")
    with gateway.client(token) as first:
        sent(gateway.bus(), "agent:mover", 1)
        first.message()
        with other.client(token, first.known) as second:
            assert first.ended() == TAKEN_OVER
            assert second.message()["payload"] == 1


FIRST = ('{"ack": "x"}', "hello", '{"resume": {"epoch": 1}}', "[]", b'{"resume": null}')
LATER = ('{"resume": null}', "hello", '{"ack": 1}', '{"send": {}}', b"\0")


@pytest.mark.parametrize(
    ("welcome", "frame"), [*((False, frame) for frame in FIRST), *((True, frame) for frame in LATER)]
)
def test_an_invalid_frame_is_refused_and_ends_the_session(
    gateway: Gateway, welcome: bool, frame: str | bytes
):
    token = gateway.token("agent:rude")
    with gateway.client(token) if welcome else gateway.connected(token) as client:
        client.line.send(frame)
        assert client.hear()["refused"]["hint"]
        assert client.ended() == BAD_FRAME


def test_a_frame_that_is_too_long_ends_the_connection(gateway: Gateway):
    with gateway.client(gateway.token("agent:long")) as client:
        with suppress(ConnectionClosed):  # it is over before all of it was said
            client.line.send("x" * (2 * 1024 * 1024 + 1))
        assert client.ended() in (TOO_BIG, BROKEN)


def test_a_browser_shows_its_token_as_a_subprotocol_and_comes_from_a_page_that_was_named(gateway: Gateway):
    token = gateway.token("person:ann")
    how = {"subprotocols": ["coord.v1", f"bearer.{token}"]}
    with gateway.connected("", origin="https://pages.example", **how) as client:
        assert client.line.subprotocol == "coord.v1"
        client.say(resume=None)
        assert client.hear()["welcome"]["recipient"] == "person:ann"

    with (
        pytest.raises(InvalidStatus, match="403"),
        gateway.connected("", origin="https://evil.example", **how),
    ):
        pass


def test_a_token_that_was_replaced_or_revoked_lets_nobody_in_and_whoever_is_in_has_to_go(gateway: Gateway):
    old = gateway.token("agent:fired")
    with gateway.client(old) as client:
        new = gateway.token("agent:fired")
        assert client.ended() == POLICY
    with gateway.client(new) as client:
        gateway.tokens.revoke("agent:fired")
        assert client.ended() == POLICY


def test_a_wrong_token_is_not_told_why_and_does_not_lock_out_the_right_one(testbed: Testbed):
    testbed.write()
    gateway = Gateway(testbed)
    right = gateway.token("agent:right")
    who = right.partition(".")[0]

    for wrong in (
        "",
        "nonsense",
        f"{who}.",
        right[:-1],
        f"{right}A",
        "é",
        "x" * 5000,
        "a.b",
        *[f"{who}.{n}" for n in range(12)],
    ):
        with gateway.connected(wrong) as client:
            assert client.ended() == POLICY
            assert client.welcomes == []
    with gateway.client(right) as client:
        assert client.welcomes[0]["recipient"] == "agent:right"
    assert gateway.process.says("wrong tokens").rstrip().endswith(f"from 127.0.0.1, for {who}")


@pytest.mark.parametrize(
    ("proxies", "counted"), [("", "127.0.0.1"), ("192.0.2.1, 127.0.0.0/8", "203.0.113.9")]
)
def test_x_forwarded_for_counts_only_from_a_proxy_that_a_setting_names(
    testbed: Testbed, proxies: str, counted: str
):
    testbed.write()
    gateway = Gateway(testbed, COORD_GATEWAY_PROXIES=proxies)

    for n in range(10):
        said = {"Authorization": "Bearer a.b", "X-Forwarded-For": f"198.51.100.{n}, 203.0.113.9"}
        with gateway.connected("", additional_headers=said) as client:
            assert client.ended() == POLICY

    assert gateway.process.says("wrong tokens").rstrip().endswith(f"from {counted}, for a")


def test_when_redis_is_full_a_send_is_refused_and_an_acknowledgement_is_not(testbed: Testbed):
    testbed.write()
    gateway, server = Gateway(testbed), testbed.redis()
    bus, token = gateway.bus(), gateway.token("agent:full")
    sent(bus, "agent:full", "only")

    with gateway.client(token) as client:
        message = client.message()
        server.config_set("maxmemory-policy", "noeviction")
        server.config_set("maxmemory", "1mb")
        client.say(send={"to": "agent:full", "type": "t", "payload": 1, "seq": 1})
        client.say(ack=message["id"])
        refused = client.hear()["refused"]
        until(lambda: left(gateway, "agent:full") == 0)
        server.config_set("maxmemory", 0)
        client.say(send={"to": "agent:full", "type": "t", "payload": 1, "seq": 1})
        assert {next(iter(client.hear())), next(iter(client.hear()))} == {"sent", "message"}

    assert (refused["seq"], "cannot write" in refused["message"]) == (1, True)
