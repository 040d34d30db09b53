"""A wall clock that a test sets, for real programs: the server, commands and workers take it for the time,
and none for ours.

A few lines of C (set_clock.c) stand between them and libc; on Linux, where there is a compiler. The real
clock is not touched.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("set_clock.c")


class WallClock:
    def __init__(self, folder: Path) -> None:
        """Skips the test where it cannot be made."""
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("no compiler for a clock that can be set")
        library = folder / "set_clock.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
        self._file = folder / "clock-set-by"
        self._by_ms = 0
        self._write()
        self.env = {"LD_PRELOAD": str(library), "CLOCK_SET_BY": str(self._file)}
        """Environment of programs that use this clock."""

    def set(self, by: timedelta) -> None:
        self._by_ms += int(by / timedelta(milliseconds=1))
        self._write()

    def _write(self) -> None:
        mode = "r+b" if self._file.exists() else "w+b"
        with self._file.open(mode) as file:  # in one piece, and never cut off: it is mapped into memory
            file.write(struct.pack("=q", self._by_ms))
