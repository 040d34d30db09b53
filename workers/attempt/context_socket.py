"""Serve `coord context` to a todo: a unix socket for each attempt, for the context of its run and todo alone.

The socket exists from before the todo's command starts until all of its processes are gone, in a folder that
only this user may enter. A client must be a process of this user, or root's, and know the attempt's token.
The lines of the protocol are described in `coordination/cache/connection.py`. The thread that accepts clients
is no `BackgroundService`: it blocks in `accept`, and its errors end no round.

Failures

* A client is slow, sends nothing, or reads nothing: it is disconnected after REQUEST_S. One that sends more
  than a value may have is refused.
* Many clients at once: READERS are read and answered, CLIENTS may wait for that, others wait in the queue of
  the socket.
* A client sends no request: it gets an error, and the next client is served.
* The attempt ends: its clients are disconnected, also in the middle of a request, and no new request begins.
* The worker is killed: connections are refused; `clear_sockets` of any later worker removes the file.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from coordination.backend.embedded import remove_stale, socket_folder
from coordination.cache.connection import Connection, line
from coordination.cache.names import REQUEST_SLACK_BYTES, check_request
from coordination.errors import CoordinationError, NotAllowed, Unreachable, UsageError
from coordination.runs.run_contexts import ContextCalls

CALLS = ("get", "set", "delete")
CLIENTS = 256
READERS = 8
"""Clients that are read at once: a request of some megabytes takes many times its size once it is parsed."""
REQUEST_S = 10.0
TOKEN_BYTES = 128
ACCEPT_PAUSE_S = 0.1
"""The pause after a client that could not be accepted, for this process has no file descriptor left."""

logger = logging.getLogger(__name__)


class ContextSocket:
    """Listens inside `with`. Raises OSError, and CoordinationError where the folder is not safe."""

    def __init__(
        self,
        calls: ContextCalls,
        run_id: str,
        todo_id: str,
        value_bytes: int,
        masked: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        """`masked` takes secrets out of a JSON value."""
        self._calls = calls
        self._masked = masked
        self._ids = {"run_id": run_id, "todo_id": todo_id}
        self._value_bytes = value_bytes
        self._most = 2 * value_bytes + REQUEST_SLACK_BYTES  # JSON in JSON: each quote takes two characters
        self._path = socket_folder() / f"{secrets.token_hex(8)}.sock"
        self._token = secrets.token_urlsafe(32)
        self._listener = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._accept, name=f"context-{todo_id}", daemon=True)
        self._clients: set[socket.socket] = set()
        self._guard = threading.Lock()
        self._free = threading.Semaphore(CLIENTS)
        self._readers = threading.Semaphore(READERS)
        self._over = False

    def __enter__(self) -> str:
        """Listen; return the content of COORD_CONNECTION's file."""
        try:
            self._listener.bind(str(self._path))
            self._path.chmod(0o600)
            self._listener.listen(128)
        except OSError:
            self._listener.close()
            raise
        self._thread.start()
        return Connection(socket=str(self._path), token=self._token).model_dump_json()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._over = True
            self._free.release()  # `_accept` may wait for one, while others compute
            clients = tuple(self._clients)
        for client in clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX) as waker,
        ):  # closing alone wakes no thread that accepts
            waker.settimeout(0)
            waker.connect(str(self._path))
        self._thread.join()
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            self._free.acquire()
            try:
                client, _ = self._listener.accept()
            except OSError as error:
                if self._over:
                    return
                logger.warning("a client of the context cannot be accepted: %s", error)
                self._free.release()
                time.sleep(ACCEPT_PAUSE_S)
                continue
            with self._guard:
                if self._over:
                    client.close()
                    return
                self._clients.add(client)
            try:
                threading.Thread(target=self._serve, args=(client,), name="context", daemon=True).start()
            except RuntimeError as error:  # no thread left
                logger.warning("a client of the context cannot be served: %s", error)
                self._disconnect(client)

    def _serve(self, client: socket.socket) -> None:
        try:
            if _peer(client) in (None, 0, os.geteuid()):
                self._answer(client)
        except OSError as error:
            logger.debug("a client of the context disconnected: %s", error)
        finally:
            self._disconnect(client)

    def _disconnect(self, client: socket.socket) -> None:
        with self._guard:
            self._clients.discard(client)
        client.close()
        self._free.release()

    def _answer(self, client: socket.socket) -> None:
        try:
            answer = {"done": self._result(client)}
        except CoordinationError as error:
            answer = {"refused": [type(error).__name__, error.message, error.hint]}
        except redis.RedisError as error:
            answer = {"refused": [Unreachable.__name__, str(error), "the worker asks again"]}
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            answer = {"refused": [UsageError.__name__, f"this is no request for a context: {error}", ""]}
        client.settimeout(REQUEST_S)
        client.sendall(line(answer))

    def _result(self, client: socket.socket) -> Any:
        with self._readers:
            reader = _Reader(client, REQUEST_S)
            self._check(reader.line(TOKEN_BYTES))
            request = self._request(reader)
            call = str(request["call"])
            arguments = {**self._without_secrets({**request["given"]}), **self._ids}
            if self._over:
                raise ConnectionError("the attempt is over")
            if call == "list":
                return [kept.model_dump() for kept in self._calls.context_list(**arguments)]
            if call in CALLS:
                return getattr(self._calls, f"context_{call}")(**arguments)
        if call != "compute":
            raise NotAllowed(f"a todo cannot ask for {call!r}", "use the worker's version of coord")
        return self._calls.context_compute(**{**arguments, "compute": lambda: self._computed(client)})

    def _request(self, reader: _Reader) -> dict[str, Any]:
        received = reader.line(self._most)
        check_request(received, self._value_bytes)
        request: dict[str, Any] = json.loads(received)
        return request

    def _without_secrets(self, arguments: dict[str, Any]) -> dict[str, Any]:
        value = arguments.get("value")
        text = {"value": self._masked_text(value)} if isinstance(value, str) else {}
        return {**self._masked(arguments), **text}

    def _masked_text(self, value: str) -> str:
        """Return the JSON of a value, which may be wrong, without secrets."""
        if (masked := self._masked(value)) == value:
            return value
        try:
            return json.dumps(self._masked(json.loads(value)))
        except (ValueError, RecursionError):
            return str(masked)

    def _check(self, token: bytes) -> None:
        if not hmac.compare_digest(token, self._token.encode()):
            raise NotAllowed(
                "this socket belongs to another todo", "COORD_CONNECTION names the one of this todo"
            )

    def _computed(self, client: socket.socket) -> str:
        """Return the value that the client computes, however long that takes."""
        client.settimeout(REQUEST_S)
        client.sendall(line({"compute": True}))
        return self._masked_text(str(json.loads(_Reader(client, None).line(self._most))["value"]))


class _Reader:
    """Reads lines of one client, all of them within `patience_s`."""

    def __init__(self, client: socket.socket, patience_s: float | None) -> None:
        self._client = client
        self._until = None if patience_s is None else time.monotonic() + patience_s
        self._received = bytearray()

    def line(self, most: int) -> bytes:
        """Return the next line. Raises UsageError if it is too long, OSError if the client has gone or is too
        slow.
        """
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > most:
                raise UsageError(
                    f"the request has more than {most:,} bytes", "keep a path or a digest instead"
                )
            self._client.settimeout(
                None if self._until is None else max(self._until - time.monotonic(), 0.001)
            )
            piece = self._client.recv(64 * 1024)
            if not piece:
                raise ConnectionError("the client hung up")
            self._received += piece
        found = bytes(self._received[:end])
        del self._received[: end + 1]
        return found


def _peer(client: socket.socket) -> int | None:
    """Return the user of the process at the other end; None where only the folder keeps others out."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


def clear_sockets() -> None:
    """Remove the sockets of workers that were killed."""
    remove_stale(socket_folder())
