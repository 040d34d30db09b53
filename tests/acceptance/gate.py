"""A todo that goes on when the test says so."""

from __future__ import annotations

from pathlib import Path

from tests.waiting import until


class Gate:
    """`action` reports that it has begun and waits; `open` lets it end."""

    def __init__(self, folder: Path, name: str = "gate") -> None:
        self._begun, self._open = folder / f"{name}.begun", folder / f"{name}.open"
        self.action = f"echo $$ > '{self._begun}'; while [ ! -e '{self._open}' ]; do sleep 0.05; done"

    def wait(self) -> int:
        """Until the todo has begun; returns the pid of its shell."""
        until(lambda: self._begun.exists() and self._begun.read_text().endswith("\n"))
        return int(self._begun.read_text())

    def open(self) -> None:
        self._open.touch()
