"""Output of a command on a real terminal (a pty) of any width."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from contextlib import suppress

from tests.stage import COORD, Stage, plain

OURS = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")


def on_terminal(stage: Stage, *words: str, columns: int = 80, code: int = 0, **env: str) -> str:
    """All that it prints on both streams; fails where it ends with another exit code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in plain(stage.env).items() if name not in OURS}
    process = subprocess.Popen(
        [COORD, *words], cwd=stage.folder, env={**environment, "TERM": "xterm", **env}, stdout=theirs,
        stderr=theirs,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
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
