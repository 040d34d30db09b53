"""`coord mcp --http`: for clients elsewhere, who have the token."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

import httpx2
import pytest

from tests.agent import agent
from tests.ports import free_port
from tests.testbed import PLAN, Begun, Testbed

OURS = "a-token-that-we-chose"


HALF = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Le"


@contextmanager
def half_open(port: int, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as ends:
        lines = [ends.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(count)]
        for line in lines:
            with suppress(OSError):  # it was let go at once
                line.send(HALF)
        yield lines


def closed(lines: Sequence[socket.socket], within_s: float) -> bool:
    """Return whether the other side ends all of them within that time."""
    deadline, left = time.monotonic() + within_s, set(lines)
    while left and time.monotonic() < deadline:
        for line in select.select(list(left), [], [], 1)[0]:
            try:
                over = line.recv(4096) == b""
            except OSError:
                over = True
            left -= {line} if over else set()
    return not left


def ended(process: Begun, number: signal.Signals = signal.SIGTERM) -> int:
    os.kill(process.pid, number)
    return process.wait(60)


def test_who_has_the_printed_token_sweeps_a_plan_and_nobody_else_comes_in(
    testbed: Testbed, free_port: int
) -> None:
    from fastmcp.client.transports import StreamableHttpTransport

    from coordination.mcp.selection import CORE

    testbed.write([{"id": "A", "repo": "api", "action": "echo hello"}])
    process = testbed.begin("mcp", "--http", str(free_port))
    said = re.fullmatch(r"MCP  (http://127.0.0.1:\d+/mcp)  token (\S{40,})\n", process.says("MCP"))
    assert said
    url, token = said.groups()
    right = {"Authorization": f"Bearer {token}"}

    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Bearer {token}x"}):
        assert httpx2.post(url, json={}, headers=headers, timeout=60).status_code == 401
    foreign = {**right, "Origin": "http://evil.example"}
    assert httpx2.post(url, json={}, headers=foreign, timeout=60).status_code == 403
    with pytest.raises(Exception, match="error response"), agent(StreamableHttpTransport(url, auth="wrong")):
        pass
    taken = testbed.coord("mcp", "--http", str(free_port))
    assert (taken.code, "cannot listen at" in taken.err) == (1, True)
    config = testbed.ok("mcp", "--http", str(free_port), "--config", COORD_MCP_TOKEN=OURS).json["mcpServers"]
    assert config["coord"]["headers"] == {"Authorization": f"Bearer {OURS}"}

    with agent(StreamableHttpTransport(url, auth=token)) as ai:
        assert set(ai.tools()) == CORE
        begun = ai.call("coord_run_sweep", plan=PLAN)
        assert ai.call("coord_run_show", run=begun["run_id"], wait_s=60)["status"] == "succeeded"
        assert ai.call("coord_run_logs", todo="A")["text"] == "hello\n"

        assert ended(process) == 0
    assert process.out == ""
    assert process.err.count(token) == 1


def test_a_token_that_could_be_guessed_is_refused(testbed: Testbed) -> None:
    testbed.write([{"id": "A", "repo": "api"}])

    answer = testbed.coord("mcp", "--http", "8765", COORD_MCP_TOKEN="short")

    assert answer.code == 2
    assert "COORD_MCP_TOKEN must have 16 characters or more" in answer.err
    assert "short" not in answer.err


@pytest.mark.long
def test_300_half_open_connections_are_let_go_and_keep_nobody_out(testbed: Testbed) -> None:
    testbed.write([{"id": "A", "repo": "api"}])
    commands = {"mcp": "--http", "metrics": "--listen", "gateway": "--listen"}
    ports = {command: free_port() for command in commands}
    processes = [
        testbed.begin(c, option, str(ports[c]), COORD_MCP_TOKEN=OURS) for c, option in commands.items()
    ]
    for process in processes:
        process.says("//")

    with ExitStack() as ends:
        lines = [line for port in ports.values() for line in ends.enter_context(half_open(port, 300))]
        assert closed(lines, within_s=40)

    for command, port in ports.items():
        asked = httpx2.get(f"http://127.0.0.1:{port}/metrics", timeout=60)
        assert asked.status_code == (200 if command == "metrics" else 404)
    assert [ended(process) for process in processes] == [0, 0, 0]
