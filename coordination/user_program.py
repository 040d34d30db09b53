"""Run a program that the user names so that it cannot harm its caller: `notify_command`, `progress_command`,
`COORD_EMBED_COMMAND`, the command of a `validation` or of a credential.

A program gets a process group of its own, which is ended as a whole, also after the program has ended. It
reads texts of todos on its standard input; they never become part of a command line. Its output goes to a
function of the caller, which bounds what it keeps. The end of its standard error tells why it failed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

from coordination.environment import without_ours
from coordination.models import Command, argv_of
from coordination.processes import has_ended, kill_group
from coordination.terminal import spelled

KEPT_BYTES = 500
CHUNK = 64 * 1024
POLL_S = 0.02
"""Longest pause between two looks at a running program; 8 at once use 1 % of a core."""
FIRST_POLL_S = 0.001
DRAIN_S = 1.0
"""Time to read the rest of its output, which a process outside of its group may keep open."""

NOTHING: Mapping[str, str] = MappingProxyType({})


class NoAnswer(Exception):
    """The program gave no answer."""


class NotStarted(NoAnswer):
    """The program does not exist or may not be executed."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    code: int | None
    """Exit code; negative for a signal, None if the program was killed."""
    failure: str
    """The reason why it failed, with the end of its standard error; empty after exit code 0."""


class UserProgram:
    """A started program. One thread calls its methods except `feed`, which blocks while it does not read."""

    def __init__(
        self,
        command: Command,
        environment: Mapping[str, str] = NOTHING,
        *,
        given: bytes | None = None,
        folder: Path | None = None,
        output: Callable[[bytes], object] | None = None,
        joined: bool = False,
    ) -> None:
        """Start it: a string in `sh -c`, a list without a shell. Raises NotStarted.

        `given`: its whole input; None if the caller calls `feed`. `output` gets its standard output piece by
        piece, in another thread; if `joined`, its standard error, too.
        """
        argv = argv_of(command)
        try:
            self._process = subprocess.Popen(
                argv,
                cwd=folder,
                env={**without_ours(os.environ), **environment},
                stdin=subprocess.DEVNULL if given == b"" else subprocess.PIPE,
                stdout=subprocess.PIPE if output else subprocess.DEVNULL,
                stderr=subprocess.STDOUT if joined else subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise NotStarted(f"{argv[0]} cannot be run: {reason}") from error
        self._tail = b""
        self._readers = [
            threading.Thread(target=_read, args=(stream, take), name="program output", daemon=True)
            for stream, take in ((self._process.stdout, output), (self._process.stderr, self._keep_end))
            if stream is not None
        ]
        for reader in self._readers:
            reader.start()
        if given:  # in a thread, because a program that does not read its input would block the caller
            threading.Thread(target=self._give, args=(given,), name="program input", daemon=True).start()

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None or has_ended(self._process.pid)

    def feed(self, data: bytes) -> bool:
        """Write to its standard input; return False if it no longer reads."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except (OSError, ValueError):  # it has closed the pipe, or this side was closed
            return False
        return True

    def close_input(self) -> None:
        if self._process.stdin is not None:
            with suppress(OSError, ValueError):
                self._process.stdin.close()

    def wait(
        self, timeout_s: float, stopping: threading.Event | None = None, stop_within_s: float = 0.0
    ) -> bool:
        """Wait for its end; return whether it has ended. After `stopping` is set, wait `stop_within_s` at
        most.
        """
        until = time.monotonic() + timeout_s
        hurried, pause_s = False, FIRST_POLL_S
        while not self.has_ended:
            if stopping and stopping.is_set() and not hurried:
                until, hurried = min(until, time.monotonic() + stop_within_s), True
            if time.monotonic() >= until:
                return False
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, POLL_S)
        return True

    def end(self, grace_s: float) -> Ended:
        """End its process group: KILL if the program has ended, else TERM, and KILL after `grace_s`.

        The program is reaped last: until then no other group gets its number.
        """
        ended = self.has_ended
        if self._process.returncode is None:
            if grace_s and not ended:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGTERM)
                self.wait(grace_s)
            kill_group(self._process.pid)
        code = self._process.wait()
        for reader in self._readers:
            reader.join(DRAIN_S)
        if not ended:
            return Ended(code=None, failure="it had not ended, and was killed")
        errors = spelled(self._tail.decode(errors="replace").strip())
        failure = f"exit code {code}" + (f": {errors}" if errors else "")
        return Ended(code=code, failure=failure if code else "")

    def _give(self, data: bytes) -> None:
        self.feed(data)
        self.close_input()

    def _keep_end(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-KEPT_BYTES:]


def _read(stream: IO[bytes], take: Callable[[bytes], object]) -> None:
    with stream, suppress(OSError, ValueError):
        while chunk := os.read(stream.fileno(), CHUNK):
            take(chunk)


def run(
    command: Command,
    environment: Mapping[str, str] = NOTHING,
    *,
    timeout_s: float,
    given: bytes = b"",
    folder: Path | None = None,
    output: Callable[[bytes], object] | None = None,
    joined: bool = False,
    grace_s: float = 0.0,
    stopping: threading.Event | None = None,
    stop_within_s: float = 0.0,
) -> Ended:
    """Run a program to its end; end it after `timeout_s`, or `stop_within_s` after `stopping` is set. Raises
    NotStarted. The other parameters are those of UserProgram and its `end`.
    """
    program = UserProgram(command, environment, given=given, folder=folder, output=output, joined=joined)
    try:
        program.wait(timeout_s, stopping, stop_within_s)
    finally:  # also where the user presses Ctrl-C
        ended = program.end(grace_s)
    if ended.code is not None:
        return ended
    when = "when this process stopped" if stopping and stopping.is_set() else f"after {timeout_s:g} s"
    return Ended(code=None, failure=f"it had not ended {when}, and was killed")


def ask(
    command: Command,
    data: bytes,
    *,
    timeout_s: float,
    output_limit_bytes: int,
    environment: Mapping[str, str] = NOTHING,
) -> bytes:
    """Run a program with this input; return its standard output. Raises NoAnswer."""
    answer, exceeded = bytearray(), threading.Event()

    def keep(chunk: bytes) -> None:
        if len(answer) <= output_limit_bytes:
            answer.extend(chunk)
        if len(answer) > output_limit_bytes:
            exceeded.set()

    ended = run(command, environment, given=data, output=keep, timeout_s=timeout_s, stopping=exceeded)
    if exceeded.is_set():
        raise NoAnswer(f"it wrote more than {output_limit_bytes:,} bytes, and was killed")
    if ended.failure:
        raise NoAnswer(ended.failure)
    return bytes(answer)
