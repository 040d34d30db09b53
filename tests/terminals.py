"""Output of a command on a real terminal (a pty) of any width."""

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
