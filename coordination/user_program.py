"""Run a program of the user (`notify_command`, `progress_command`, `COORD_EMBED_COMMAND`) so that it cannot
harm its caller.

A program gets a process group of its own, which is ended as a whole. It reads JSON on its standard input;
texts of todos never become part of a command line. Its output is kept up to a limit where it is an answer;
else only the end of what it writes to standard error, which the log shows if it fails.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType

from coordination.environment import without_ours
from coordination.models import Command, argv_of
from coordination.processes import kill_group
from coordination.terminal import spelled

KEPT_BYTES = 500
CHUNK = 64 * 1024
POLL_S = 0.02
DRAIN_S = 0.5
"""Time to read the rest of its output, which a process outside of its group may keep open."""


class NotStarted(Exception):
    """The program does not exist or may not be executed."""


class UserProgram:
    """A started program. One thread calls its methods except `feed`, which blocks while it does not read."""

    def __init__(
        self, command: Command, environment: Mapping[str, str], *, output_limit_bytes: int = 0
    ) -> None:
        """Start it: a string in `sh -c`, a list without a shell. Its standard output is kept up to
        `output_limit_bytes`; one byte more sets `output_exceeded`. Raises NotStarted.
        """
        argv = argv_of(command)
        try:
            self._process = subprocess.Popen(
                argv,
                env={**without_ours(os.environ), **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if output_limit_bytes else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise NotStarted(f"{argv[0]} cannot be run: {reason}") from error
        self.output = bytearray()
        self.output_exceeded = threading.Event()
        self._output_limit_bytes = output_limit_bytes
        self._tail = b""
        self._readers = [threading.Thread(target=self._read_errors, name="program errors", daemon=True)]
        if output_limit_bytes:
            self._readers.append(threading.Thread(target=self._read, name="program output", daemon=True))
        for reader in self._readers:
            reader.start()

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

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

    def wait(self, timeout_s: float, stopping: threading.Event, stop_within_s: float) -> bool:
        """Wait for its end, or until its output exceeds the limit; return whether it has ended. After
        `stopping` is set, wait `stop_within_s` at most.
        """
        until = time.monotonic() + timeout_s
        hurried = False
        while not self.has_ended:
            if self.output_exceeded.is_set():
                return False
            if stopping.is_set() and not hurried:
                until, hurried = min(until, time.monotonic() + stop_within_s), True
            if time.monotonic() >= until:
                return False
            time.sleep(POLL_S)
        return True

    def end(self, grace_s: float) -> None:
        """End its process group: TERM, and KILL after `grace_s`."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGTERM)
        until = time.monotonic() + grace_s
        while not self.has_ended and time.monotonic() < until:
            time.sleep(POLL_S)
        kill_group(self._process.pid)
        self._process.wait()
        for reader in self._readers:
            reader.join(DRAIN_S)

    @property
    def failure(self) -> str:
        """Return the reason why it failed; empty after exit code 0."""
        code = self._process.returncode
        if code == 0:
            return ""
        errors = spelled(self._tail.decode(errors="replace").strip())
        return f"exit code {code}" + (f": {errors}" if errors else "")

    def _read(self) -> None:
        """Keep its standard output up to the limit, and read no more."""
        stream = self._process.stdout
        assert stream is not None
        with stream, suppress(OSError, ValueError):
            while chunk := os.read(stream.fileno(), CHUNK):
                self.output += chunk
                if len(self.output) > self._output_limit_bytes:
                    self.output_exceeded.set()
                    return

    def _read_errors(self) -> None:
        """Read its standard error to the end; keep the last part."""
        stream = self._process.stderr
        assert stream is not None
        with stream, suppress(OSError, ValueError):
            while chunk := os.read(stream.fileno(), CHUNK):
                self._tail = (self._tail + chunk)[-KEPT_BYTES:]


def call(
    command: Command,
    data: bytes,
    environment: Mapping[str, str],
    *,
    timeout_s: float,
    grace_s: float,
    stopping: threading.Event,
    stop_within_s: float,
) -> str:
    """Run a program with this input; return the reason why it failed, or ""."""
    try:
        program = UserProgram(command, environment)
    except NotStarted as error:
        return str(error)
    writer = threading.Thread(target=_feed, args=(program, data), name="program input", daemon=True)
    writer.start()  # in a thread, because a program that does not read its input would block the caller
    ended = program.wait(timeout_s, stopping, stop_within_s)
    program.end(0.0 if ended else grace_s)
    if ended:
        return program.failure
    if stopping.is_set():
        return "it had not ended when this process stopped, and was killed"
    return f"it had not ended after {timeout_s:g} s, and was killed"


class NoAnswer(Exception):
    """The program gave no answer."""


def ask(
    command: Command,
    data: bytes,
    *,
    timeout_s: float,
    output_limit_bytes: int,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """Run a program with this input; return its standard output. Raises NoAnswer."""
    try:
        program = UserProgram(command, environment, output_limit_bytes=output_limit_bytes)
    except NotStarted as error:
        raise NoAnswer(str(error)) from error
    try:
        threading.Thread(target=_feed, args=(program, data), name="program input", daemon=True).start()
        ended = program.wait(timeout_s, threading.Event(), timeout_s)
    finally:  # also where the user presses Ctrl-C
        program.end(0.0)
    if program.output_exceeded.is_set():
        raise NoAnswer(f"it wrote more than {output_limit_bytes:,} bytes, and was killed")
    if not ended:
        raise NoAnswer(f"it had not ended after {timeout_s:g} s, and was killed")
    if program.failure:
        raise NoAnswer(program.failure)
    return bytes(program.output)


def _feed(program: UserProgram, data: bytes) -> None:
    program.feed(data)
    program.close_input()
