"""Endpoints in front of Redis: TLS, a port where nothing answers, and a server of an old version."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

CHUNK = 65536
Serve = Callable[[socket.socket], None]


class Certificates:
    """A certificate authority of our own, and what it signs, as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))

    def issue(
        self,
        name: str,
        *,
        expired: bool = False,
        begins: datetime | None = None,
        ends: datetime | None = None,
    ) -> Path:
        """The file with key and certificate for `name`."""
        until = datetime.now(UTC) - timedelta(days=1) if expired else ends
        path = self._folder / f"{name}{'-expired' if expired else ''}.pem"
        issued = self._authority.issue_cert(name, not_before=begins, not_after=until)
        issued.private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    def of_server(self, name: str, *, expired: bool = False, asks_for_ours: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.ca))
        context.load_cert_chain(self.issue(name, expired=expired))
        context.verify_mode = ssl.CERT_REQUIRED if asks_for_ours else ssl.CERT_NONE
        return context


@contextmanager
def listening(serve: Serve, port: int = 0) -> Iterator[int]:
    """A port of loopback, each of whose connections `serve` gets in a thread of its own."""
    with socket.create_server(("127.0.0.1", port)) as listener:
        threading.Thread(target=_accept, args=(listener, serve), daemon=True).start()
        yield listener.getsockname()[1]
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes accept


def _accept(listener: socket.socket, serve: Serve) -> None:
    with suppress(OSError):  # closed
        while True:
            threading.Thread(target=_handle, args=(listener.accept()[0], serve), daemon=True).start()


def _handle(client: socket.socket, serve: Serve) -> None:
    with client, suppress(OSError):
        serve(client)


def leading_to(server: Path, tls: ssl.SSLContext | None = None) -> Serve:
    """On to the server's socket, TLS taken off."""

    def serve(client: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX) as behind:
            behind.connect(str(server))
            with tls.wrap_socket(client, server_side=True) if tls else client as front:
                _pass_on(front, behind)

    return serve


def _pass_on(front: socket.socket, behind: socket.socket) -> None:
    """Both ways until one ends; by one thread, because OpenSSL takes no two at once."""
    while True:
        waiting = isinstance(front, ssl.SSLSocket) and front.pending()
        ready = [front] if waiting else select.select([front, behind], [], [])[0]
        for source in ready:
            data = source.recv(CHUNK)
            if not data:
                return
            (behind if source is front else front).sendall(data)


def silent(client: socket.socket) -> None:
    """Takes everything and never answers."""
    while client.recv(CHUNK):
        pass


def old_redis(client: socket.socket) -> None:
    """As much of Redis 6.0.16 as a client sees of it at first."""
    info = b"# Server\r\nredis_version:6.0.16\r\nredis_mode:standalone\r\nrole:master\r\n"
    hello = b"%3\r\n+server\r\n+redis\r\n+version\r\n+6.0.16\r\n+proto\r\n:3\r\n"
    said = {
        b"HELLO": hello,
        b"INFO": b"$%d\r\n%s\r\n" % (len(info), info),
        b"CLIENT": b"-ERR unknown subcommand\r\n",
    }
    with client.makefile("rb") as stream:
        while count := stream.readline()[1:]:
            words = [stream.read(int(stream.readline()[1:]) + 2)[:-2] for _ in range(int(count))]
            client.sendall(said.get(words[0].upper(), b"+OK\r\n"))
