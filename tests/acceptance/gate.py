"""A todo that goes on when the test says so."""

from __future__ import annotations

from pathlib import Path

from coordination.backend.daemon import Record
from coordination.processes import start_time
from tests.waiting import until


class Gate:
    """`action` reports that it has begun and waits; `open` lets it end."""

    def __init__(self, folder: Path, name: str = "gate") -> None:
        self._begun, self._open = folder / f"{name}.begun", folder / f"{name}.open"
        self.action = f"echo $$ > '{self._begun}'; while [ ! -e '{self._open}' ]; do sleep 0.05; done"

    def wait(self) -> Record:
        """Wait until the todo has begun; return its shell, for `alive`."""

        def written() -> str:
            text = self._begun.read_text() if self._begun.exists() else ""
            return text if text.endswith("\n") else ""  # the next attempt writes it anew

        pid = int(until(written))
        return Record(pid=pid, started=start_time(pid) or "")

    def open(self) -> None:
        self._open.touch()
