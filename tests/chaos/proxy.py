"""A line to Redis that misbehaves: a TCP proxy in front of the server's socket, in a thread of its own.

What it can do to the connections through it: `delay` each piece that passes, `cut` (FIN) or `reset` (RST)
them all, leave them half open (`swallow`: they stay, and nothing passes any more, for as long as the client
keeps them), and `drop_replies`: the server carries a command out and answers, and instead of the answer the
client sees the connection end. For that it reads along in the client's RESP: what a connection begins with
(HELLO, AUTH, …) is let through.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
Side = tuple[asyncio.StreamReader, asyncio.StreamWriter]

PIECE = 64 * 1024
RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: a close is a RST
GREETINGS = {b"HELLO", b"AUTH", b"CLIENT", b"SELECT", b"PING", b"INFO", b"SCRIPT", b"FUNCTION", b"COMMAND"}


class Commands:
    """The names of the commands in a client's stream, however it is cut into pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[bytes]:
        self._rest += piece
        names = []
        while (found := self._command()) is not None:
            name, self._rest = found
            names.append(name)
        return names

    def _command(self) -> tuple[bytes, bytes] | None:
        """The first name, and what stands behind the command; None: it is not all there."""
        head, _, rest = self._rest.partition(b"\r\n")
        if not rest:
            return None
        name = b""
        for number in range(int(head.removeprefix(b"*"))):
            length, newline, rest = rest.partition(b"\r\n")
            size = int(length[1:]) if newline else 0
            if not newline or len(rest) < size + 2:
                return None
            name = name if number else rest[:size].upper()
            rest = rest[size + 2 :]
        return name, rest


class Proxy:
    """`port` leads to the unix socket `upstream`. Everything but `start` and `stop` may be called at any
    time.
    """

    def __init__(self, upstream: str, seed: int = 0) -> None:
        self.did: Counter[str] = Counter()
        self.delay_s = 0.0
        self.drops = 0.0
        """How likely the answer to a command is dropped."""
        self.swallows = False
        """New connections are let in, and nothing passes."""
        self._upstream = upstream
        self._chance = random.Random(seed)
        self._lines: set[_Line] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = self._in_loop(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._in_loop(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def cut(self) -> None:
        self._each(lambda line: line.end(reset=False), "cut")

    def reset(self) -> None:
        self._each(lambda line: line.end(reset=True), "reset")

    def swallow(self) -> None:
        """Stop forwarding for present connections."""
        self._each(lambda line: line.go_silent(), "half-open")

    def passes(self) -> None:
        """Forward normally for new connections."""
        self.delay_s, self.drops, self.swallows = 0.0, 0.0, False

    def drops_this(self) -> bool:
        return self._chance.random() < self.drops

    async def wait(self) -> None:
        if self.delay_s:
            self.did["delayed"] += 1
            await asyncio.sleep(self._chance.uniform(0, 2 * self.delay_s))

    def _each(self, operation: Callable[[_Line], None], name: str) -> None:
        async def all_of_them() -> None:
            for line in tuple(self._lines):
                self.did[name] += 1
                operation(line)

        self._in_loop(all_of_them())

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # they end in the loop's next turn

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_unix_connection(self._upstream)
        except OSError:  # Redis is away: what connects is turned away, as by a port that nobody listens at
            _end(writer, reset=True)
            return
        line = _Line(self, (reader, writer), upstream)
        self._lines.add(line)
        if self.swallows:
            line.go_silent()
        with suppress(asyncio.CancelledError):  # asyncio would complain of a callback that ends so
            await line.run()
        self._lines.discard(line)
        line.end(reset=line.ends_by_reset)

    def _in_loop(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(10)


class _Line:
    """One connection. It ends with either side, or by fate."""

    def __init__(self, proxy: Proxy, client: Side, server: Side) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._commands = Commands()
        self._silent = self._drops_answer = self.ends_by_reset = False

    async def run(self) -> None:
        ways = [asyncio.ensure_future(self._asked()), asyncio.ensure_future(self._answered())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()

    def end(self, *, reset: bool) -> None:
        _end(self._client[1], reset=reset)
        _end(self._server[1], reset=False)

    def go_silent(self) -> None:
        self._silent = True

    async def _asked(self) -> None:
        with suppress(OSError):
            while piece := await self._client[0].read(PIECE):
                names = self._commands.feed(piece)
                if any(name not in GREETINGS and self._proxy.drops_this() for name in names):
                    self._drops_answer = True
                await self._pass_on(piece, self._server[1])

    async def _answered(self) -> None:
        with suppress(OSError):
            while piece := await self._server[0].read(PIECE):
                if self._drops_answer:
                    self._proxy.did["answers dropped"] += 1
                    self.ends_by_reset = True
                    return
                await self._pass_on(piece, self._client[1])
            # The server has closed: a client behind a dead line does not hear of that.
            while self._silent:
                await asyncio.sleep(1)

    async def _pass_on(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        await self._proxy.wait()
        if self._silent:
            self._proxy.did["swallowed"] += 1
            return
        writer.write(piece)
        await writer.drain()


def _end(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    its_socket = writer.get_extra_info("socket")
    if reset and its_socket is not None and its_socket.fileno() >= 0:
        its_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()
    else:
        writer.close()
