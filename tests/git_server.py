"""A real remote: bare repositories behind `git http-backend` on loopback, which can refuse, fail and be away.

with GitServer(folder) as server:
    server.create("api", seed=checkout)
    git(checkout, "push", server.url("api"), …)
    server.hook("api", "pre-receive", "exit 1")     # the remote refuses
    server.answer("api", 403)                       # every request, or only pushes: `only="receive-pack"`
    server.away = True                              # connections are refused until it is False again
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import shutil
import socket
import subprocess
import threading
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from tests.ports import free_port
from tests.testbed import git


@dataclass
class Behaviour:
    """The way in which the server treats one repository."""

    login: str = ""
    """`user:password` that every request must bring; else 401."""
    status: int = 0
    """If set, the answer to all requests."""
    only: str = ""
    """The service to which `status` and `hangs` are limited: upload-pack or receive-pack."""
    hangs: bool = False
    """True: a request is taken, and never answered."""
    breaks_off: bool = False
    """True: a push is carried out, and the connection is cut before the answer."""


@cache
def _empty() -> Path:
    """Return an empty bare repository, to be copied."""
    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder)
    git(folder, "init", "-q", "--bare", ".")
    git(folder, "config", "http.receivepack", "true")
    return folder


class GitServer:
    @property
    def handler(self) -> type[BaseHTTPRequestHandler]:
        return Answer

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.behaviours: dict[str, Behaviour] = {}
        self.requests: list[str] = []
        """`METHOD path?query` of each request, in order."""
        self.hanging = threading.Event()
        """Set as soon as a request hangs."""
        self._port = free_port()
        self._over = threading.Event()
        self._server: Listening | None = None

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._stop()

    @property
    def away(self) -> bool:
        return self._server is None

    @away.setter
    def away(self, away: bool) -> None:
        if away and self._server:
            self._stop()
        elif not away and not self._server:
            self._listen()

    def url(self, name: str, login: str = "") -> str:
        return f"http://{login + '@' if login else ''}127.0.0.1:{self._port}/{name}.git"

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.git"

    def create(self, name: str, seed: Path | None = None, branch: str = "main") -> Path:
        """Make a bare repository, with this branch of `seed`; return its path."""
        path = self.path(name)
        shutil.copytree(_empty(), path)
        (path / "HEAD").write_text(f"ref: refs/heads/{branch}\n")
        if seed is not None:
            git(seed, "push", "-q", str(path), f"refs/heads/{branch}:refs/heads/{branch}")
        return path

    def behave(self, name: str, **how: Any) -> None:
        self.behaviours[name] = Behaviour(**how)

    def answer(self, name: str, status: int, only: str = "") -> None:
        self.behave(name, status=status, only=only)

    def hook(self, name: str, hook: str, script: str = "") -> None:
        """Set a hook of the repository; without a script, remove it."""
        file = self.path(name) / "hooks" / hook
        if script:
            file.write_text(f"#!/bin/sh\n{script}\n")
            file.chmod(0o755)
        else:
            file.unlink()

    def tip(self, name: str, branch: str = "main") -> str:
        return git(self.path(name), "rev-parse", f"refs/heads/{branch}")

    def wait_until_over(self) -> None:
        self.hanging.set()
        self._over.wait()

    def _listen(self) -> None:
        self._server = Listening(("127.0.0.1", self._port), self, self.handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()


class Listening(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def __init__(
        self, address: tuple[str, int], remote: GitServer, handler: type[BaseHTTPRequestHandler]
    ) -> None:
        self.remote = remote
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet: clients that are killed or give up are part of the tests."""


@dataclass
class Asked:
    path: str
    query: str
    body: bytes = b""
    name: str = field(init=False)
    service: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = self.path.lstrip("/").partition(".git")[0]
        last = self.query.removeprefix("service=") or self.path.rpartition("/")[2]
        self.service = last.removeprefix("git-")


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Listening

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        asked = Asked(path=unquote(parts.path), query=parts.query, body=self._body())
        remote = self.server.remote
        remote.requests.append(f"{self.command} {self.path}")
        how = remote.behaviours.get(asked.name, Behaviour())
        concerned = how.only in ("", asked.service)
        if how.hangs and concerned:
            remote.wait_until_over()
            return
        user = self._user()
        if how.login and user != how.login:
            self._say(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"log in\n")
        elif how.status and concerned:
            self._say(how.status, {}, b"the server says so\n")
        else:
            status, headers, body = self._backend(asked, user.partition(":")[0])
            if how.breaks_off and self.command == "POST" and asked.service == "receive-pack":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                self._say(status, headers, body)

    def _user(self) -> str:
        kind, _, value = self.headers.get("Authorization", "").partition(" ")
        return base64.b64decode(value).decode() if kind == "Basic" else ""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _backend(self, asked: Asked, user: str) -> tuple[int, dict[str, str], bytes]:
        env = {
            "PATH": "/usr/bin:/bin:/usr/local/bin",
            "GIT_PROJECT_ROOT": str(self.server.remote.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": str(self.server.remote.folder),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(asked.body)),
            "PATH_INFO": asked.path,
            "QUERY_STRING": asked.query,
            "REQUEST_METHOD": self.command,
            "REMOTE_USER": user,
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(
            ["git", "http-backend"],
            input=asked.body,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        status = int(headers.pop("Status", "200 OK").split()[0]) if head else 500
        return status, headers, body

    def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
