"""A gateway of its own process, and clients as anybody would write them, with the `websockets` library."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from coordination.backend.client import Profile
from coordination.backend.client import connect as connect_to_redis
from coordination.gateway.app import open_tokens
from coordination.messages import Limits, MessageBus
from coordination.settings import Settings
from tests.ports import free_port
from tests.testbed import Begun, Testbed

Said = dict[str, Any]
HEARD_S = 60


@dataclass
class Client:
    """One connection; `known` is the position that it would come back with."""

    line: ClientConnection
    known: Said | None = None
    welcomes: list[Said] = field(default_factory=list)

    def say(self, **frame: Any) -> None:
        self.line.send(json.dumps(frame))

    def hear(self, timeout_s: float = HEARD_S) -> Said:
        """The next frame; raises TimeoutError, ConnectionClosed."""
        said: Said = json.loads(self.line.recv(timeout_s))
        if "welcome" in said:
            self.welcomes.append(said["welcome"])
            self.known = {name: said["welcome"][name] for name in ("epoch", "offset", "trimmed")}
        if "message" in said and self.known:
            self.known["offset"] = max(self.known["offset"], said["message"]["offset"])
        return said

    def message(self) -> Said:
        said = self.hear()
        assert "message" in said, said
        found: Said = said["message"]
        return found

    def messages(self, n: int) -> list[Said]:
        return [self.message() for _ in range(n)]

    def ended(self) -> int:
        """The code with which the gateway closes; what comes before is dropped."""
        while True:
            try:
                self.hear()
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else 1006


class Gateway:
    """On a testbed, at a port of its own."""

    def __init__(self, testbed: Testbed, *words: str, **env: str) -> None:
        self._testbed, self._words, self._env = testbed, words, env
        self.url = testbed.server.start()
        self.port = free_port()
        self.tokens = open_tokens(self.url, Settings())
        self.redis = connect_to_redis(self.url, Profile.WORKER)
        self.start()

    def start(self) -> None:
        """At the same port again."""
        self.process: Begun = self._testbed.begin(
            "gateway", "--listen", str(self.port), *self._words, **self._env
        )
        self.process.says("gateway")

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    def bus(self, sender: str = "repo:sender", **limits: Any) -> MessageBus:
        return MessageBus(self.redis, "coord", sender=sender, limits=Limits(**limits))

    def token(self, recipient: str, topics: tuple[str, ...] = ()) -> str:
        self.bus().register(recipient)
        return self.tokens.grant(recipient, topics) if topics else self.tokens.grant(recipient)

    @contextmanager
    def connected(self, token: str, **how: Any) -> Iterator[Client]:
        """In, and not a word said."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        how = {"additional_headers": headers, "max_queue": None, "max_size": None, **how}
        with connect(self.address, **how) as line:
            yield Client(line)

    @contextmanager
    def client(self, token: str, known: Said | None = None) -> Iterator[Client]:
        """In, and welcome."""
        with self.connected(token) as client:
            client.say(resume=known)
            first = client.hear()
            assert "welcome" in first, first
            yield client
