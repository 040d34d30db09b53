"""`coordination.client` against a real gateway that is killed under it: nothing is lost, nothing
comes twice.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from coordination.client import Client, Closed, Event, Gap, Message, Missed
from coordination.errors import Conflict, NotAllowed, Unreachable, UsageError
from coordination.events.stream import EventStream
from tests.gateways import Gateway
from tests.ports import free_port
from tests.testbed import Testbed
from tests.waiting import until

LONG_S = 60


@pytest.fixture(scope="module")
def shared(new_testbed: Callable[[], Testbed]) -> Gateway:
    testbed = new_testbed()
    testbed.write()
    return Gateway(testbed)


@pytest.fixture
def gateway(shared: Gateway) -> Gateway:
    """A gateway that a test may kill; each test has a recipient of its own."""
    if shared.process.poll() is not None:
        shared.start()
    return shared


def test_each_message_comes_once_and_in_order_however_often_the_gateway_is_killed(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordination.client.delay_s", lambda _: 0.05)
    bus, token, each = gateway.bus(), gateway.token("agent:a1"), 40
    gateway.bus().register("agent:b")
    got: list[int] = []
    sent: list[str] = []

    def work() -> None:
        with Client(gateway.address, token) as client:
            for found in client.listen():
                assert isinstance(found, Message), found
                got.append(found.payload)
                sent.append(client.send("agent:b", "echo", found.payload))
                if len(got) == 4 * each:
                    client.ack(found)
                    return

    working = threading.Thread(target=work, daemon=True)
    working.start()
    for n in range(4):
        for i in range(each):
            bus.send("agent:a1", "note", n * each + i)
        until(lambda n=n: len(got) > n * each + each // 2)
        if n < 3:
            gateway.kill()
            gateway.start()
    working.join(60)

    assert got == list(range(4 * each))
    until(lambda: bus.standing("agent:a1").waiting + bus.standing("agent:a1").in_hand == 0)
    assert [message.payload for message in bus.peek("agent:b", 1000)] == got
    assert len(set(sent)) == len(got)


def test_a_client_subscribes_anew_after_a_restart_and_is_told_of_the_gap(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordination.client.delay_s", lambda _: 0.05)
    with Client(gateway.address, gateway.token("agent:b1")) as client:
        client.subscribe("vbia_events", "a.*")
        assert client.publish("a.b", {"n": 1}) >= 1
        found = client.listen(LONG_S)
        first = next(found)
        gateway.kill()
        gateway.start()
        gap = next(found)
        client.unsubscribe("a.*")
        client.publish("a.b", 2)
        client.publish("vbia_events", 3)
        last = next(found)

    assert isinstance(first, Event)
    assert isinstance(last, Event)
    assert (first.topic, first.sender, first.payload) == ("a.b", "agent:b1", {"n": 1})
    assert gap == Gap()
    assert (last.topic, last.payload) == ("vbia_events", 3)


def test_events_of_coord_are_repeated_to_a_client_whose_gateway_was_killed(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordination.client.delay_s", lambda _: 0.05)
    stream = EventStream(gateway.redis, "coord")
    token = gateway.token("agent:c1", ("events.command.*",))
    before = [stream.append("command.clean", str(n)) for n in range(3)]
    with Client(gateway.address, token) as client:
        client.subscribe("events.command.*", since=before[0])
        found = client.listen(LONG_S)
        got = [next(found), next(found)]
        gateway.kill()
        away = [stream.append("command.clean", "away") for _ in range(3)]
        gateway.start()
        got += [next(found) for _ in range(2)]
        position = client.events_position
    with Client(gateway.address, token) as client:
        client.subscribe("events.command.*", since=position)
        got.append(next(client.listen(LONG_S)))

    assert [event.id for event in got if isinstance(event, Event)] == [*before[1:], *away]


def test_what_a_client_did_not_finish_comes_again_and_a_position_is_resumed(gateway: Gateway) -> None:
    bus, token = gateway.bus(inbox_limit=3), gateway.token("agent:d1")
    bus.send("agent:d1", "note", 1)
    with Client(gateway.address, token) as client:
        found = next(client.listen(LONG_S))
        assert isinstance(found, Message)  # and the body fails: nothing is acknowledged
    with Client(gateway.address, token, position=client.position) as client:
        again = next(client.listen(LONG_S))
        assert again == found
        client.ack(again)
        until(lambda: bus.standing("agent:d1").in_hand == 0)
    for n in range(5):
        bus.send("agent:d1", "note", n)
    with Client(gateway.address, token, position=client.position) as client:
        heard = client.listen(LONG_S)
        missed, *rest = [next(heard) for _ in range(4)]
    assert missed == Missed(count=2)
    assert [message.payload for message in rest if isinstance(message, Message)] == [2, 3, 4]


def test_a_client_that_cannot_come_in_says_why(gateway: Gateway) -> None:
    token = gateway.token("agent:e1")
    with Client(gateway.address, "wrong") as client, pytest.raises(NotAllowed):
        next(client.listen(LONG_S))
    with Client(gateway.address, token) as client, Client(gateway.address, token) as other:
        for one in (client, other):
            until(lambda one=one: list(one.listen(0.1)) or one.position)
        with pytest.raises(Conflict):
            next(client.listen(LONG_S))
        with pytest.raises(Conflict, match="there is no recipient"):
            other.send("agent:nobody", "note", 1)
    nobody = f"ws://127.0.0.1:{free_port()}/"
    with Client(nobody, token, patience=timedelta(seconds=0.2)) as client, pytest.raises(Unreachable):
        next(client.listen(LONG_S))


@contextmanager
def waiting(client: Client) -> Iterator[None]:
    """The body, while another thread listens; after it that thread has ended, because the client
    was closed.
    """
    errors: list[Closed] = []

    def listen() -> None:
        try:
            next(client.listen())
        except Closed as error:
            errors.append(error)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    yield
    client.close()
    thread.join(60)
    assert not thread.is_alive()
    assert len(errors) == 1
    with pytest.raises(Closed):
        next(client.listen())


def test_closing_a_client_ends_its_wait_for_a_gateway_that_is_away_and_the_log_tells_of_it_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []

    def delay_s(failures: int) -> float:
        tries.append(failures)
        return 0.01 if failures < 3 else 60

    monkeypatch.setattr("coordination.client.delay_s", delay_s)
    with waiting(Client(f"ws://127.0.0.1:{free_port()}/", "any")):
        until(lambda: 3 in tries)

    told = [record for record in caplog.records if record.name == "coordination.client"]
    assert [record.levelname for record in told] == ["WARNING"]


def test_closing_a_client_ends_its_wait_for_a_handshake() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"ws://127.0.0.1:{silent.getsockname()[1]}/", "any")
        with waiting(client):
            line, _ = silent.accept()
            assert line.recv(1)
        line.close()


def test_closing_a_client_ends_its_wait_for_a_message(gateway: Gateway) -> None:
    client = Client(gateway.address, gateway.token("agent:f1"))
    with waiting(client):
        until(lambda: client.position is not None)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8770/", "ws://", "127.0.0.1:8770", "ws://host:port/"])
def test_what_is_no_address_of_a_gateway_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError, match="wss://"):
        Client(url, "any")
