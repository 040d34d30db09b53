"""Commands on a real terminal (a pty): their output at any width, and keys that are typed."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

from tests.testbed import COORD, FORKS, Testbed, plain
from tests.waiting import until

OURS = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")


def on_terminal(testbed: Testbed, *words: str, columns: int = 80, code: int = 0, **env: str) -> str:
    """All that it prints on both streams; fails where it ends with another exit code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in plain(testbed.env).items() if name not in OURS}
    environment |= {"TERM": "xterm", "PAGER": "cat", **env}
    start = FORKS.begin if testbed.forks(env) else partial(subprocess.Popen, stdin=subprocess.DEVNULL)
    process = start([COORD, *words], cwd=testbed.folder, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    with (
        suppress(OSError),
        os.fdopen(ours, "rb", closefd=True) as master,
    ):  # Linux ends a terminal with an error
        while piece := master.read1(65536):
            said += piece
    assert process.wait(60) == code, said
    return said.decode().replace("\r\n", "\n")


def typing_on_terminal(
    testbed: Testbed, *words: str, after: Mapping[str, str], **env: str
) -> tuple[int, str]:
    """The exit code and output of a command on a terminal of its own. `after`: what it prints → what is typed
    then.
    """
    terminal, theirs = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {name: value for name, value in plain(testbed.env).items() if name not in OURS}
    environment |= {"TERM": "xterm", "PAGER": "cat", **env}
    process = FORKS.begin_on(theirs, [COORD, *words], cwd=testbed.folder, env=environment)
    os.close(theirs)
    said, left = b"", dict(after)
    with suppress(OSError):
        while piece := os.read(terminal, 65536):
            said += piece
            for shown in [shown for shown in left if shown.encode() in said]:
                os.write(terminal, left.pop(shown).encode())
    os.close(terminal)
    return process.wait(60), said.decode().replace("\r\n", "\n")


class Terminal:
    """A terminal with `coord` in its foreground; keys go in, what is shown comes out."""

    def __init__(self, testbed: Testbed, *words: str, columns: int = 80, **env: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.set_blocking(self._master, False)
        self.shown = ""
        environment = {name: value for name, value in plain().items() if name not in OURS} | env
        self.process = FORKS.begin_on(slave, [COORD, *words], cwd=testbed.folder, env=environment)
        testbed.started.append(self.process)
        os.close(slave)

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def until_it_shows(self, text: str) -> None:
        until(lambda: text in self.read())

    def press_until_it_shows(self, keys: bytes, text: str) -> None:
        """Press again if nothing comes for 3 s: Python does not see a signal that comes just before it reads
        until there is something to read.
        """
        for _ in range(20):
            self.press(keys)
            with suppress(AssertionError):
                until(lambda: text in self.read(), 3)
                return
        raise AssertionError(self.shown)

    def until_it_ends(self) -> int:
        until(lambda: self.read() is not None and self.process.poll() is not None)
        self.read()
        os.close(self._master)
        return self.process.returncode

    def read(self) -> str:
        try:
            while data := os.read(self._master, 65536):
                self.shown += data.decode(errors="replace")
        except OSError:  # nothing more for now, or the other side is closed
            pass
        return self.shown
