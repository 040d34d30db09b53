"""Remember at which commit coord first saw each approval of a pull request.

GitLab does not say which commit was approved. The memory is a file for each request in the state folder of
the machine, so that it outlives a landing, and the owner of Redis cannot change it. A later landing then
counts no approval of an earlier commit.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from coordination.files import below, make_private, replace_file
from coordination.frozen import FrozenModel

KEPT_S = 365 * 24 * 3600.0
LARGEST = 1024 * 1024
"""Bytes of a file: thousands of approvals."""


class SeenApproval(FrozenModel):
    head: str
    """The head of the request when coord first saw the approval."""
    at: str = ""
    """Its time by the forge, which tells a new approval from one that was withdrawn; empty if unknown."""


_FILE = TypeAdapter(dict[str, SeenApproval])


class SeenApprovals:
    """The memory of a state folder."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "approvals"

    def first_seen(self, request: str, head: str, approving: Mapping[str, str]) -> Mapping[str, str]:
        """Return for each person who approves now the head at which that was seen first, and remember it.

        `request`: its page; `approving`: person → time of the approval by the forge. Raises OSError.
        """
        known = self._read(request)
        found = {
            name: before
            if (before := known.get(name)) is not None and before.at == at
            else SeenApproval(head=head, at=at)
            for name, at in approving.items()
        }
        if found != known:
            make_private(self._folder)
            self._forget_old()
            replace_file(self._file(request), _FILE.dump_json(found), durable=True)
        return {name: seen.head for name, seen in found.items()}

    def _read(self, request: str) -> dict[str, SeenApproval]:
        try:
            with self._file(request).open("rb") as opened:
                return _FILE.validate_json(opened.read(LARGEST))
        except (FileNotFoundError, ValidationError):
            return {}

    def _file(self, request: str) -> Path:
        return below(self._folder, f"{hashlib.sha256(request.encode()).hexdigest()}.json")

    def _forget_old(self) -> None:
        for file in self._folder.glob("*.json"):
            with suppress(OSError):
                if file.stat().st_mtime < time.time() - KEPT_S:
                    file.unlink()
