"""Sending messages: to whom, what, once, for how long; and what is refused before anything is sent."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from threading import Thread

import pytest
import redis

from coordination.backend.client import Profile, connect
from coordination.errors import NotFound, Unreachable, Unusable, UsageError
from coordination.messages import Limits, MessageBus
from tests.waiting import until

REPO = "repo:billing"
MIB = 1024 * 1024


@pytest.fixture
def client(redis_url: str) -> redis.Redis:
    return connect(redis_url, Profile.COMMAND)


@pytest.fixture
def bus(client: redis.Redis) -> MessageBus:
    made = MessageBus(client, "test")
    made.register(REPO)
    return made


def waiting(bus: MessageBus, recipient: str = REPO) -> list[object]:
    return [message.payload for message in bus.peek(recipient)]


def test_a_recipient_is_known_once_it_was_registered_or_has_received(client: redis.Redis):
    bus = MessageBus(client, "test")
    with pytest.raises(NotFound, match="there is no recipient"):
        bus.send(REPO, "note")

    bus.register(REPO)
    bus.take("agent:planner", "r1")

    bus.send(REPO, "note")
    bus.send("agent:planner", "note")
    assert bus.recipients() == ("agent:planner", REPO)


def test_an_unknown_recipient_is_refused_with_the_one_that_was_meant(client: redis.Redis, bus: MessageBus):
    for call in (lambda: bus.send("repo:biling", "note"), lambda: bus.peek("repo:biling")):
        with pytest.raises(NotFound, match="did you mean 'repo:billing'"):
            call()
    with pytest.raises(NotFound):
        bus.standing("repo:biling")
    with pytest.raises(UsageError, match="did you mean 'repo'"):
        bus.send("rep:billing", "note")
    assert MessageBus(client, "other").recipients() == ()


def test_a_number_that_a_sender_has_used_is_dropped_and_has_the_same_id(client: redis.Redis):
    cron, other = (MessageBus(client, "test", sender=name) for name in ("cron", "other"))
    cron.register(REPO)

    ids = [cron.send(REPO, "n", number, sequence=number) for number in (5, 3, 9, 4, 3, 5, 9, 0, 4)]

    assert waiting(cron) == [5, 3, 9, 4, 0]
    assert ids[4:7] == [ids[1], ids[0], ids[2]]
    other.send(REPO, "n", "another sender", sequence=5)
    assert len(waiting(cron)) == 6
    cron.ack(cron.take(REPO, "r1").messages[0])
    assert MessageBus(client, "test", sender="cron").send(REPO, "n", sequence=5) == ids[0]
    MessageBus(client, "test", sender="cron").send(REPO, "n", "without a number")
    assert waiting(cron) == [3, 9, 4, 0, "another sender", "without a number"]


@pytest.mark.parametrize("numbered", [False, True])
def test_threads_that_share_a_bus_keep_their_order(client: redis.Redis, numbered: bool):
    bus = MessageBus(client, "test", sender="cron")
    bus.register(REPO)

    def send(first: int) -> None:
        for number in range(first, 200, 4):
            for _ in range(1 + numbered):
                bus.send(REPO, "n", number, **({"sequence": number} if numbered else {}))

    threads = [Thread(target=send, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    got = [message.payload for message in bus.take(REPO, "r1", 1000).messages]
    assert sorted(got) == list(range(200))
    for first in range(4):
        assert [number for number in got if number % 4 == first] == list(range(first, 200, 4))


def test_a_fork_does_not_repeat_its_parents_numbers(bus: MessageBus):
    bus.send(REPO, "note", "parent")
    if (pid := os.fork()) == 0:
        bus.steps.redis.connection_pool.reset()
        bus.send(REPO, "note", "child")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

    bus.send(REPO, "note", "parent again")

    assert waiting(bus) == ["parent", "child", "parent again"]


def test_a_message_ends_with_its_ttl_and_one_without_is_kept(client: redis.Redis):
    bus = MessageBus(
        client, "test", limits=Limits(ttl=timedelta(milliseconds=1), inbox_keep=timedelta(hours=1))
    )
    bus.register(REPO)
    bus.send(REPO, "note", "default")
    bus.send(REPO, "note", "kept", ttl=None)

    until(lambda: waiting(bus) == ["kept"])
    assert bus.standing(REPO).expired == 1


def test_a_broadcast_reaches_each_subscriber_and_nobody_else(bus: MessageBus):
    for who in ("agent:a", "agent:b", "agent:c", "agent:d"):
        bus.subscribe(who, "deploys")
    bus.unsubscribe("agent:c", "deploys")
    bus.forget("agent:d")

    assert bus.broadcast("deploys", "deployed", "v1") == 2
    assert bus.broadcast("nothing", "deployed") == 0

    assert waiting(bus, "agent:a") == waiting(bus, "agent:b") == ["v1"]
    assert waiting(bus) == []
    assert {message.id for who in "ab" for message in bus.peek(f"agent:{who}")} == {bus.peek("agent:a")[0].id}


def test_a_forgotten_recipient_leaves_nothing(client: redis.Redis):
    bus = MessageBus(client, "test")
    bus.register(REPO)
    for _ in range(3):
        bus.send(REPO, "note")
    bus.nack(bus.take(REPO, "r1").messages[0])

    assert bus.forget(REPO)

    assert not bus.forget(REPO)
    assert client.keys() == ["test:readers"]


BAD_NAMES = [
    *("", "billing", "repo:", ":billing", "repos:billing", "repo:a b", "repo:a\nb", "repo:\x00"),
    *("repo:" + "x" * 10_240, "repo:a\x7f"),
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=range(len(BAD_NAMES)))
def test_an_invalid_recipient_is_refused_everywhere(bus: MessageBus, name: str):
    operations = [
        lambda: bus.send(name, "note"), lambda: bus.register(name), lambda: bus.forget(name),
        lambda: bus.peek(name),
        lambda: bus.take(name, "r1"), lambda: bus.receive(name), lambda: bus.subscribe(name, "t"),
        lambda: bus.dead(name or " "),
        lambda: bus.request(name, "note", timeout=timedelta(seconds=1)),
        lambda: bus.send(REPO, "note", reply_to=name),
    ]  # fmt: skip

    for operation in operations:
        with pytest.raises(UsageError) as refusal:
            operation()
        assert len(str(refusal.value)) < 500


@pytest.mark.parametrize("name", ["", "a b", "x\x07", "n" * 10_240])
def test_other_invalid_names_are_refused(bus: MessageBus, client: redis.Redis, name: str):
    operations = [
        lambda: bus.send(REPO, name), lambda: bus.broadcast(name, "note"), lambda: bus.take(REPO, name),
        lambda: MessageBus(client, "test", sender=name),
    ]  # fmt: skip
    for operation in operations:
        with pytest.raises(UsageError):
            operation()


HOLDS_ITSELF: list[object] = []
HOLDS_ITSELF.append(HOLDS_ITSELF)
NO_JSON = [
    *(float("nan"), float("inf"), b"bytes", {1, 2}, object()),
    *({"deep": object()}, "\ud800", {("a", "b"): 1}, HOLDS_ITSELF),
]


@pytest.mark.parametrize("payload", NO_JSON, ids=range(len(NO_JSON)))
def test_a_payload_that_is_not_json_is_refused(bus: MessageBus, payload: object):
    with pytest.raises(UsageError, match="not JSON"):
        bus.send(REPO, "note", payload)

    assert waiting(bus) == []


@pytest.mark.parametrize("character", ["x", "ü"])
def test_a_mebibyte_fits_and_a_byte_more_is_refused_with_its_size(bus: MessageBus, character: str):
    width = len(character.encode())
    fits = character * ((MIB - 2) // width)

    bus.send(REPO, "note", fits)
    assert bus.take(REPO, "r1").messages[0].payload == fits

    with pytest.raises(UsageError, match=r"1,048,57[78] bytes"):
        bus.send(REPO, "note", fits + character)


@pytest.mark.parametrize(
    "ttl", [timedelta(0), timedelta(seconds=-1), timedelta(microseconds=1), timedelta(days=4000)]
)
def test_an_invalid_ttl_is_refused(bus: MessageBus, ttl: timedelta):
    with pytest.raises(UsageError, match="ttl"):
        bus.send(REPO, "note", ttl=ttl)
    with pytest.raises(UsageError, match="timeout"):
        bus.request(REPO, "note", timeout=ttl)


@pytest.mark.parametrize("how", [{"priority": 101}, {"priority": -101}, {"priority": 0.5}, {"sequence": -1}])
def test_numbers_out_of_range_are_refused(bus: MessageBus, how: dict[str, int]):
    with pytest.raises(UsageError):
        bus.send(REPO, "note", **how)


def test_a_redis_that_does_not_answer_is_an_error_at_once(free_port: int):
    bus = MessageBus(redis.Redis(port=free_port, retry=None), "test")

    for operation in (
        lambda: bus.send(REPO, "n"),
        lambda: bus.take(REPO, "r"),
        bus.presence,
        bus.dead,
        bus.recipients,
    ):
        with pytest.raises(Unreachable, match=str(free_port)):
            operation()


def test_a_redis_that_refuses_the_user_is_an_error(client: redis.Redis, redis_url: str):
    client.acl_setuser(
        "nobody", enabled=True, passwords=["+secret"], commands=["+ping", "+client|setinfo"], reset=True
    )
    refused = redis.Redis.from_url(redis_url, username="nobody", password="secret")

    with pytest.raises(Unusable, match="does not allow user nobody"):
        MessageBus(refused, "test").send(REPO, "note")
    client.acl_deluser("nobody")


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_client_whose_clock_is_an_hour_off_is_no_matter(
    bus: MessageBus, hours: int, monkeypatch: pytest.MonkeyPatch
):
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + hours * 3600)
    sender = MessageBus(bus.steps.redis, "test", sender="cron")
    for n in range(3):
        sender.send(REPO, "note", n, ttl=timedelta(minutes=10))

    taken = bus.take(REPO, "r1", 10)

    assert [message.payload for message in taken.messages] == [0, 1, 2]
    assert abs(taken.messages[0].sent_at.timestamp() - now()) < 60
    assert bus.ack(taken.messages[0])
    assert bus.presence()[0].age < timedelta(minutes=1)
