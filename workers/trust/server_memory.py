"""Remember on the disk of a machine which Redis server its workers serve.

A server has a random id, which each signed order names. It is in Redis, where its owner could replace it by
the id of another server, and copy the orders of that one. So workers keep, in the file `servers` of their
state folder, the id that each address had when they used it first, and execute orders for that id only. A
Redis that has lost its id gets it back.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

from coordination.backend.address import hide_password
from coordination.files import locked, make_private, replace_file
from coordination.runs.attempt_store import AttemptStore

FILE = "servers"
LARGEST = 64 * 1024
"""Bytes of the file: some hundred addresses."""
ID = re.compile(r"[0-9a-f]{32}")

logger = logging.getLogger(__name__)


class ServerMemory:
    """The id of the server at one address, in one namespace."""

    def __init__(self, state: Path, url: str, store: AttemptStore) -> None:
        self._file = state / FILE
        self._store = store
        self._address = f"{hide_password(url)} {store.keys.namespace}"

    def server(self) -> str:
        """Return the id that this machine has for the server; at the first use, the one that Redis has.

        Raises OSError, for example if the disk is full.
        """
        make_private(self._file.parent)
        with locked(self._file.with_suffix(".lock")):
            known = self._read()
            if (ours := known.get(self._address, "")) and ID.fullmatch(ours):
                self._give_back(ours)
                return ours
            if ID.fullmatch(found := self._store.server):
                replace_file(self._file, json.dumps(known | {self._address: found}).encode(), durable=True)
            return found

    def _give_back(self, ours: str) -> None:
        """Write the id into a Redis that has lost it; log that the server has another one."""
        if (theirs := self._store.known_server(ours)) != ours:
            logger.warning(
                "Redis has another id (%s) than this machine knows (%s): orders that are signed there are "
                "refused; if it is a new server, delete %s",
                theirs[:12], ours[:12], self._file,
            )  # fmt: skip

    def _read(self) -> dict[str, str]:
        try:
            with self._file.open("rb") as opened:
                found = json.loads(opened.read(LARGEST))
        except (OSError, ValueError, RecursionError):
            return {}
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
