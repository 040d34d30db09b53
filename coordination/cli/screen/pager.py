"""The user's pager: `with paged():` around output that may be longer than the screen.

The pager gets what would go to the terminal, after the filter of `coordination.terminal`. Messages on
standard error go to it as well: a line between two screens of a pager would be lost. If the pager fails
before it has read more than a pipe holds, everything is printed.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO, TextIO, cast

import click
from rich.cells import cell_len

from coordination.cli.context import CliContext
from coordination.environment import in_todo, pager_from_environment, without_ours
from coordination.terminal import SafeOutput

_COLOUR = re.compile("\x1b\\[[0-9;:]*m")
PIPE_BYTES = 1 << 20
"""More than a pipe holds: a pager that was sent so much has read some of it."""
LESS = "FRX"
"""Default of the variable LESS, as git sets it: end where all fits, pass on colours, leave the text there."""


@contextmanager
def paged() -> Iterator[None]:
    """Send what the block prints to the pager, if standard output is a terminal and not all of it fits.

    The block ends early, without an error, when the user leaves the pager.
    """
    terminal = _terminal_below(sys.stdout)
    if terminal is None or isinstance(terminal.below, Screenful) or not (command := _command()):
        yield
        return
    screen = Screenful(command, terminal.below)
    with ExitStack() as stack:
        stack.callback(screen.finish)
        for stream in (sys.stdout, sys.stderr):
            stack.enter_context(_writing_to(screen, stream))
        try:
            yield
            sys.stdout.flush()
        except BrokenPipeError:
            if not screen.left:
                raise


def _terminal_below(stream: TextIO) -> SafeOutput | None:
    below = getattr(stream, "buffer", None)
    return below if isinstance(below, SafeOutput) and below.isatty() else None


def _command() -> list[str]:
    """Return the command of the pager; empty for none. A todo has no user, so none is started there."""
    context = click.get_current_context(silent=True)
    call = context.find_object(CliContext) if context else None
    if call is None or call.no_pager or "--no-pager" in call.arguments or in_todo():
        return []
    return pager_from_environment()


@contextmanager
def _writing_to(screen: Screenful, stream: TextIO) -> Iterator[None]:
    below = _terminal_below(stream)
    if below is None:
        yield
        return
    stream.flush()
    terminal, below.below = below.below, cast(BinaryIO, screen)
    try:
        yield
    finally:
        with suppress(BrokenPipeError):
            stream.flush()
        below.below = terminal


class Screenful(io.BufferedIOBase):
    """Holds back output while it fits the screen; starts the pager at the first line that does not."""

    def __init__(self, command: list[str], terminal: BinaryIO) -> None:
        self.left = False
        """True when the user has left the pager."""
        self._command, self._terminal = command, terminal
        self._size = shutil.get_terminal_size()
        self._held: list[bytes] = []
        """Output that does not fill the screen yet; once the pager runs, what may have to be printed."""
        self._held_bytes = 0
        self._rows = 1  # the shell's prompt, or the pager's own line
        self._pager: subprocess.Popen[bytes] | None = None
        self._plain = False
        """True without a pager: all output goes to the terminal."""

    def write(self, data: object) -> int:
        given = bytes(cast(bytes, data))
        if self._plain:
            self._terminal.write(given)
        elif self._pager is not None:
            self._keep(given)
            self._send(given)
        else:
            self._keep(given)
            self._rows += _rows(given, self._size.columns)
            if self._rows > self._size.lines:
                self._start()
        return len(given)

    def _keep(self, data: bytes) -> None:
        self._held.append(data)
        self._held_bytes += len(data)
        if self._pager is not None and self._held_bytes > PIPE_BYTES:
            self._held.clear()

    def _start(self) -> None:
        try:
            self._pager = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                env={"LESS": LESS, "LV": "-c", **without_ours(os.environ)},
            )
        except OSError:  # not installed, or no program
            self._print_held()
        else:
            self._send(b"".join(self._held))

    def _print_held(self) -> None:
        """Print all output so far; write further output to the terminal."""
        self._plain = True
        self._terminal.write(b"".join(self._held))
        self._held.clear()

    def _send(self, data: bytes) -> None:
        if self._pager is None or self._pager.stdin is None:
            return
        try:
            self._pager.stdin.write(data)
            self._pager.stdin.flush()
        except BrokenPipeError:
            if self._has_failed():
                return
            self.left = True
            raise

    def _has_failed(self) -> bool:
        """Wait for the end of the pager, and return whether it failed. If it may have shown nothing, print
        the output that was sent to it.
        """
        if self._pager is None:
            return False
        while self._pager.returncode is None:
            with suppress(KeyboardInterrupt):  # Ctrl-C is for the pager
                self._pager.wait()
        if self._pager.returncode <= 0 or not self._held:
            return False
        self._print_held()
        return True

    def flush(self) -> None:
        if self._plain:
            self._terminal.flush()

    def finish(self) -> None:
        """Print the output that was held back, or wait until the user leaves the pager."""
        if self._pager is None:
            self._print_held()
        elif not self._plain and not self.left:
            if self._pager.stdin is not None:
                with suppress(BrokenPipeError):
                    self._pager.stdin.close()
            self._has_failed()
        self._terminal.flush()

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._terminal.fileno()


def length(text: str) -> int:
    """Return the width in cells of a terminal."""
    return len(text) if text.isascii() else cell_len(text)


def _rows(data: bytes, columns: int) -> int:
    """Return the number of screen rows that a text takes; an unfinished line counts with the next text."""
    *lines, _rest = _COLOUR.sub("", data.decode(errors="replace")).split("\n")
    return sum(max(1, -(-length(line) // columns)) for line in lines)
