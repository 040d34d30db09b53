"""The line that misbehaves does to a client exactly what it is told to: without that, the storms behind it
would prove nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.chaos.proxy import Commands, Proxy

NOT_AT_ALL = Retry(NoBackoff(), 0)


@pytest.fixture
def proxy(redis_url: str) -> Iterator[Proxy]:
    with Proxy(urlsplit(redis_url).path) as running:
        yield running


@pytest.fixture
def client(proxy: Proxy) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(
        proxy.url, socket_timeout=3, retry=NOT_AT_ALL, decode_responses=True
    ) as connected:
        connected.ping()
        yield connected


def test_a_good_line_carries_small_and_large(client: redis.Redis) -> None:
    large = "x" * 300_000
    with client.pipeline() as pipeline:
        pipeline.set("large", large).get("large").incr("n")
        assert pipeline.execute() == [True, large, 1]


def test_a_connection_that_was_cut_or_reset_may_be_made_again(proxy: Proxy) -> None:
    with socket.create_connection(("127.0.0.1", proxy.port)) as line:
        line.sendall(b"PING\r\n")
        assert line.recv(100) == b"+PONG\r\n"
        proxy.cut()
        assert line.recv(100) == b""
    with socket.create_connection(("127.0.0.1", proxy.port)) as line:
        line.sendall(b"PING\r\n")
        assert line.recv(100) == b"+PONG\r\n"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            line.recv(100)

    assert proxy.did == {"cut": 1, "reset": 1}


def test_a_half_open_line_stays_and_says_nothing_and_a_new_one_is_good(
    proxy: Proxy, client: redis.Redis
) -> None:
    proxy.swallow()

    with pytest.raises(redis.TimeoutError):
        client.incr("n")
    assert client.get("n") is None
    assert proxy.did["swallowed"] == 1


def test_where_new_lines_are_swallowed_nobody_is_greeted(proxy: Proxy, client: redis.Redis) -> None:
    proxy.swallows = True
    proxy.cut()

    with pytest.raises(redis.TimeoutError):
        client.ping()
    proxy.passes()
    assert client.ping()


def test_a_dropped_answer_is_of_a_command_that_ran(proxy: Proxy, client: redis.Redis) -> None:
    proxy.drops = 1.0

    with pytest.raises(redis.ConnectionError):
        client.incr("n")
    proxy.passes()
    assert client.get("n") == "1"
    assert proxy.did["answers dropped"] == 1


def test_a_delayed_answer_comes(proxy: Proxy, client: redis.Redis) -> None:
    proxy.delay_s = 0.01

    assert client.incr("n") == 1
    assert proxy.did["delayed"] == 2


def test_a_server_that_is_away_turns_everybody_away(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        Proxy(str(tmp_path_factory.mktemp("nobody") / "socket")) as proxy,
        redis.Redis.from_url(proxy.url, retry=NOT_AT_ALL) as client,
        pytest.raises(redis.ConnectionError),
    ):
        client.ping()


def test_commands_are_read_however_they_are_cut() -> None:
    stream = b"*2\r\n$3\r\nget\r\n$1\r\na\r\n*3\r\n$3\r\nSET\r\n$2\r\nb\n\r\n$0\r\n\r\n"

    whole = Commands().feed(stream)
    commands = Commands()
    pieces = [name for byte in stream for name in commands.feed(bytes([byte]))]

    assert whole == pieces == [b"GET", b"SET"]


def test_the_proxy_ends_its_lines_when_it_ends(redis_url: str) -> None:
    with Proxy(urlsplit(redis_url).path) as proxy:
        client = redis.Redis.from_url(proxy.url, retry=NOT_AT_ALL)
        client.ping()

    with client, pytest.raises(redis.ConnectionError):
        client.ping()
