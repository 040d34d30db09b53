"""Git processes that stay open from todo to todo: to start one takes ten times as long as its answer.

`update-ref --stdin` and `diff-tree --stdin` answer one request after the other. A process serves one request
at a time. It is ended when it gives no answer in time, when another repository stands at its path, and when
it was not used for a while. Where there is no answer, the caller starts a git of its own, which tells why it
refuses.
"""

from __future__ import annotations

import os
import select
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from workers.workspace.git import bounds, command_line, environment

MOST = 16
"""Idle processes of a worker: two for each of 8 repositories."""
IDLE_S = 10.0
END_WITHIN_S = 2.0
WITHIN = timedelta(seconds=5)
"""The most time that git may take for an answer: a change of a gigabyte has no figures."""
ANSWER_BYTES = 65536
NET_CHANGE = ("diff-tree", "--no-ext-diff", "--no-textconv", "--no-renames", "--shortstat")
COMPARE = (*NET_CHANGE, "--always", "--stdin")
MOVE = ("update-ref", "--stdin")
QUICK = ("core.fsync=none", "core.filesRefLockTimeout=3000")
"""Settings for references that are mended: syncing two of them takes longer than all else. Another git, of a
person, may hold the lock file of one for a moment: on a machine under load for longer than git's 100 ms.
"""


class GitSessions:
    def __init__(self, within: timedelta = WITHIN) -> None:
        self._within_s = within.total_seconds()
        self._guard = threading.Lock()
        self._idle: dict[tuple[Path, tuple[str, ...]], _Session] = {}  # in the order of their last use
        self._closed = False

    def move(self, checkout: Path, common_dir: Path, changes: str) -> bool:
        """Change references at once, by lines of `git update-ref --stdin`; return whether git did."""
        request = f"start\n{changes}commit\n"
        return self._ask(MOVE, checkout, common_dir, request, "commit: ok\n") is not None

    def compare(self, checkout: Path, common_dir: Path, base: str, tip: str) -> str | None:
        """Return the short statistics from a commit to another; None without an answer."""
        answer = self._ask(COMPARE, checkout, common_dir, f"{tip} {base}\nend\n", "end\n")
        return answer if answer and answer.startswith(tip) else None  # git says nothing to a missing commit

    def close_idle(self) -> None:
        """End the processes that were not used for a while."""
        self._close(lambda session: time.monotonic() - session.used > IDLE_S)

    def close(self) -> None:
        self._closed = True
        self._close(lambda _: True)

    def _ask(
        self, command: tuple[str, ...], checkout: Path, common_dir: Path, request: str, end: str
    ) -> str | None:
        with self._guard:
            session = self._idle.pop((checkout, command), None)
        if session is not None and not session.is_of(common_dir):
            session.close()
            session = None
        try:
            session = session or _Session(command, checkout, common_dir)
        except OSError:
            return None
        answer = session.ask(request.encode(), end.encode(), self._within_s)
        self._put_back((checkout, command), session, sound=answer is not None)
        return answer

    def _put_back(self, key: tuple[Path, tuple[str, ...]], session: _Session, *, sound: bool) -> None:
        with self._guard:
            surplus = [session]
            if sound and not self._closed and key not in self._idle:
                self._idle[key] = session
                surplus = [self._idle.pop(next(iter(self._idle)))] if len(self._idle) > MOST else []
        for one in surplus:
            one.close()

    def _close(self, which: Callable[[_Session], bool]) -> None:
        with self._guard:
            gone = {key: session for key, session in self._idle.items() if which(session)}
            for key in gone:
                del self._idle[key]
        for session in gone.values():
            session.close()


class _Session:
    def __init__(self, command: tuple[str, ...], checkout: Path, common_dir: Path) -> None:
        """Start git. Raises OSError."""
        self.used = time.monotonic()
        self._place = _identity(common_dir)
        self._process = subprocess.Popen(
            command_line(command, QUICK),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd=checkout,
            env=environment(bounds(checkout)),
            start_new_session=True,
        )

    def is_of(self, common_dir: Path) -> bool:
        """Return whether the path still leads to the same repository."""
        with suppress(OSError):
            return self._place == _identity(common_dir)
        return False

    def ask(self, request: bytes, end: bytes, within_s: float) -> str | None:
        """Return the answer before its `end`; None if git has ended, or has not answered in time."""
        self.used = time.monotonic()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        descriptor, answer = self._process.stdout.fileno(), b""
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        until = self.used + within_s
        try:
            self._process.stdin.write(request)
            while not answer.endswith(end):
                if not poll.poll(1000 * max(0.0, until - time.monotonic())):
                    return None
                if not (some := os.read(descriptor, ANSWER_BYTES)):
                    return None
                answer += some
        except OSError:
            return None
        return answer.removesuffix(end).decode(errors="replace")

    def close(self) -> None:
        """End git by SIGTERM, at which it removes its lock files."""
        self._process.terminate()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        try:
            self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _identity(folder: Path) -> tuple[int, int]:
    there = folder.stat()
    return there.st_dev, there.st_ino
