"""Story: gateways die, Redis goes away and comes back without its data; each client knows exactly what it
missed.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage

from coordination.messages import MessageBus
from tests.gateways import Gateway
from tests.testbed import Testbed
from tests.waiting import until

pytestmark = pytest.mark.long

CLIENTS = 200
KEPT = 10
"""So many messages of an absent recipient are kept here."""
IN_HAND, DONE = 5, 4
"""State of each client when the gateway dies: received, and of these acknowledged."""


@pytest.fixture
def gateway(testbed: Testbed) -> Gateway:
    testbed.write()
    return Gateway(testbed)


def test_clients_stay_while_redis_is_away_and_go_on_when_it_is_back(testbed: Testbed, gateway: Gateway):
    token, other = gateway.token("agent:a"), gateway.token("agent:b")
    with gateway.client(token) as a, gateway.client(other) as b:
        gateway.bus().send("agent:a", "note", 1)
        held = a.message()

        testbed.kill("server")
        assert "hint" in a.hear()["away"]
        assert "hint" in b.hear()["away"]
        a.say(ack=held["id"])
        a.say(send={"to": "agent:b", "type": "note", "payload": 2, "seq": 1})
        testbed.server.start()

        heard = {**a.hear(), **a.hear()}
        assert (heard["welcome"]["recovered"], heard["sent"]["seq"]) == (True, 1)
        assert b.hear()["welcome"]["missed"] == 0
        assert b.message()["payload"] == 2
        until(lambda: gateway.bus().standing("agent:a").in_hand == 0)


def test_a_redis_that_lost_its_data_is_told_to_who_comes_back_with_a_new_token(
    testbed: Testbed, gateway: Gateway
):
    token = gateway.token("agent:a")
    with gateway.client(token) as client:
        known = client.known
        testbed.kill("server")
        assert "away" in client.hear()
        shutil.rmtree(testbed.state / "appendonlydir")
        testbed.server.start()
        assert client.ended() == 1008  # its token was in that data, too

    with gateway.client(gateway.token("agent:a"), known) as client:
        assert client.welcomes[0]["epoch"] != known["epoch"]
        # Their number is unknown.
        assert (client.welcomes[0]["recovered"], client.welcomes[0]["missed"]) == (
            False,
            0,
        )
        known = client.known
    with gateway.client(gateway.token("agent:a"), known) as client:
        assert client.welcomes[0]["recovered"] is True


def test_an_inbox_that_was_lost_is_told_to_who_is_in(gateway: Gateway):
    with gateway.client(gateway.token("agent:a")) as client:
        epoch = client.known["epoch"]

        gateway.bus().forget("agent:a")

        told = client.hear()["welcome"]
        assert told["epoch"] != epoch
        assert (told["recovered"], told["missed"]) == (False, 0)


def test_a_client_that_connects_while_redis_is_away_is_sent_away_until_later(
    testbed: Testbed, gateway: Gateway
):
    token = gateway.token("agent:a")
    testbed.kill("server")

    with gateway.connected(token) as client:
        assert client.ended() == 1013

    testbed.server.start()
    with gateway.client(token):
        pass


@dataclass
class Recipient:
    """A client that comes back by itself, and what it has seen."""

    name: str
    token: str
    away: int
    """So many messages are sent to it while nobody can reach it."""
    known: dict[str, Any] | None = None
    welcomes: list[dict[str, Any]] = field(default_factory=list)
    payloads: list[int] = field(default_factory=list)

    @property
    def trimmed(self) -> int:
        return max(0, self.away - KEPT)

    @property
    def expected(self) -> list[int]:
        """Its messages in flight, and those kept for it since."""
        return [*range(DONE, IN_HAND), *range(IN_HAND + self.trimmed, IN_HAND + self.away)]

    async def come(self, address: str) -> ClientConnection:
        """As often as it takes."""
        while True:
            try:
                line = await connect(address, additional_headers={"Authorization": f"Bearer {self.token}"})
                await line.send(json.dumps({"resume": self.known}))
                self.welcomes.append(json.loads(await line.recv())["welcome"])
            except (OSError, ConnectionClosed, InvalidMessage):
                await asyncio.sleep(random.uniform(0, 0.1))
                continue
            self.known = {name: self.welcomes[-1][name] for name in ("epoch", "offset", "trimmed")}
            return line

    async def hear(self, line: ClientConnection, n: int, *, acknowledge: int) -> None:
        self.payloads = []
        for i in range(n):
            message = json.loads(await line.recv())["message"]
            self.payloads.append(message["payload"])
            self.known = {**self.known, "offset": message["offset"]}
            if i < acknowledge:
                await line.send(json.dumps({"ack": message["id"]}))


def send(bus: MessageBus, recipient: Recipient, numbers: range) -> None:
    for number in numbers:
        bus.send(recipient.name, "note", number)


def undone(gateway: Gateway) -> int:
    bus = gateway.bus()
    standings = [bus.standing(name) for name in bus.recipients()]
    return sum(standing.waiting + standing.in_hand for standing in standings)


async def first_life(gateway: Gateway, recipients: list[Recipient]) -> None:
    """Each receives some, acknowledges most of them, and sees its connection break."""
    lines = await asyncio.gather(*(one.come(gateway.address) for one in recipients))
    hearing = (one.hear(line, IN_HAND, acknowledge=DONE) for one, line in zip(recipients, lines, strict=True))
    await asyncio.gather(*hearing)
    await asyncio.to_thread(until, lambda: undone(gateway) == CLIENTS * (IN_HAND - DONE), 30)
    gateway.kill()
    await asyncio.gather(*(line.wait_closed() for line in lines))


async def second_life(gateway: Gateway, recipients: list[Recipient], meanwhile: Callable[[], None]) -> None:
    """All of them try to come back from now on; once they are back, each takes all that is there."""
    coming = [asyncio.create_task(one.come(gateway.address)) for one in recipients]
    await asyncio.to_thread(meanwhile)
    lines = await asyncio.gather(*coming)
    hearing = (
        one.hear(line, len(one.expected), acknowledge=CLIENTS)
        for one, line in zip(recipients, lines, strict=True)
    )
    await asyncio.gather(*hearing)
    await asyncio.to_thread(until, lambda: undone(gateway) == 0, 30)
    await asyncio.gather(*(line.close() for line in lines))


def test_when_a_gateway_was_killed_each_of_200_clients_knows_exactly_what_it_missed(gateway: Gateway):
    bus = gateway.bus(inbox_limit=KEPT)
    recipients = [
        Recipient(name, gateway.token(name), i % 25)
        for i, name in enumerate(f"agent:{n}" for n in range(CLIENTS))
    ]
    for one in recipients:
        send(bus, one, range(IN_HAND))
    asyncio.run(first_life(gateway, recipients))

    def meanwhile() -> None:
        for one in recipients:
            send(bus, one, range(IN_HAND, IN_HAND + one.away))
        gateway.start()

    asyncio.run(second_life(gateway, recipients, meanwhile))

    assert sum(one.trimmed > 0 for one in recipients) == 112
    for one in recipients:
        assert one.welcomes[0]["recovered"] is True
        assert (one.welcomes[1]["recovered"], one.welcomes[1]["missed"]) == (one.trimmed == 0, one.trimmed)
        assert one.payloads == one.expected
        assert len(one.welcomes) == 2
