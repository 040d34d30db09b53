"""Story: clients that never read. The gateway lets them go, and its memory does not grow with what waits for
them.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from tests.gateways import Gateway
from tests.testbed import Testbed
from tests.waiting import until

MIB = 1024 * 1024
CLIENTS, WAITING, WINDOW = 4, 32, 6


@contextmanager
def deaf(gateway: Gateway, token: str) -> Iterator[socket.socket]:
    """Says where it begins, and reads nothing from then on."""
    protocol = ClientProtocol(parse_uri(gateway.address))
    request = protocol.connect()
    request.headers["Authorization"] = f"Bearer {token}"
    protocol.send_request(request)
    with closing(socket.create_connection(("127.0.0.1", gateway.port))) as line:
        line.sendall(b"".join(protocol.data_to_send()))
        protocol.receive_data(line.recv(1024))
        protocol.send_text(b'{"resume": null}')
        line.sendall(b"".join(protocol.data_to_send()))
        line.settimeout(60)
        yield line


def memory(gateway: Gateway, what: str) -> int:
    """`VmRSS`: bytes it has now; `VmHWM`: the most it ever had."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(re.search(rf"{what}:\s+(\d+) kB", status)[1]) * 1024


def read_to_the_end(line: socket.socket) -> int:
    """How many bytes were still on their way."""
    total = 0
    try:
        while chunk := line.recv(MIB):
            total += len(chunk)
    except ConnectionResetError:
        pass
    return total


def test_a_client_that_does_not_read_is_let_go_and_costs_no_more_than_its_window(testbed: Testbed):
    testbed.write()
    gateway = Gateway(testbed, COORD_GATEWAY_SEND_TIMEOUT="2s", COORD_GATEWAY_WINDOW=str(WINDOW))
    names = [f"agent:{n}" for n in range(CLIENTS)]
    tokens = [gateway.token(name) for name in names]
    bus = gateway.bus()
    large = "x" * (MIB - 2)
    for name in names:
        for _ in range(WAITING):
            bus.send(name, "large", large)
    with gateway.client(gateway.token("agent:good")):  # modules that all parts need are loaded
        before = memory(gateway, "VmRSS")

    with ExitStack() as stack:
        lines = [stack.enter_context(deaf(gateway, token)) for token in tokens]
        until(lambda: sum(bus.standing(name).in_hand for name in names) > 0)
        # Handed back.
        until(lambda: sum(bus.standing(name).waiting for name in names) == CLIENTS * WAITING)
        # A message stands in memory twice while it is sent: as a text and as the bytes of its frame.
        assert memory(gateway, "VmHWM") - before < CLIENTS * 2 * WINDOW * MIB
        assert all(read_to_the_end(line) < WAITING * MIB for line in lines)

    with gateway.client(tokens[0]) as client:
        messages = client.messages(WINDOW)
        assert [message["payload"] for message in messages] == [large] * WINDOW


def test_a_client_that_answers_no_ping_is_let_go(testbed: Testbed):
    testbed.write()
    gateway = Gateway(testbed, COORD_GATEWAY_PING="2s")
    with (
        gateway.client(gateway.token("agent:awake")) as awake,
        deaf(gateway, gateway.token("agent:deaf")) as line,
    ):
        assert read_to_the_end(line) < 1024

        gateway.bus().send("agent:awake", "note", 1)
        assert awake.message()["payload"] == 1
