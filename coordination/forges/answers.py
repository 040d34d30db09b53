"""Answers of a forge that are kept for conditional requests, in memory and in a private folder.

A kept answer is used only after the forge has said that it still holds (304). The folder is on this machine,
not in Redis: who can write to Redis must not be able to say that a check is green.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from coordination.files import make_private, replace_file

LARGEST_BYTES = 512 * 1024
MOST_FILES = 5_000
KEPT_S = 14 * 24 * 3600
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class KeptAnswer:
    etag: str
    next_page: str
    """Address of the next page; empty for the last one."""
    data: Any


class KeptAnswers:
    """Kept answers of one token; `folder` None: in memory only."""

    def __init__(self, folder: Path | None, owner: str) -> None:
        self._folder = folder
        self._owner = owner
        self._known: dict[str, KeptAnswer] = {}

    def get(self, url: str) -> KeptAnswer | None:
        """Return the kept answer of an address; None without one, or where its file is damaged."""
        if url in self._known or self._folder is None:
            return self._known.get(url)
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            path = self._path(self._folder, url)
            if path.stat().st_size <= 2 * LARGEST_BYTES:
                found = json.loads(path.read_bytes())
                self._known[url] = KeptAnswer(
                    etag=str(found["etag"]), next_page=str(found["next_page"]), data=found["data"]
                )
        return self._known.get(url)

    def keep(self, url: str, answer: KeptAnswer) -> None:
        """Keep an answer; one that cannot be written is only kept in memory."""
        self._known[url] = answer
        if self._folder is None:
            return
        content = json.dumps(vars(answer), separators=(",", ":")).encode()
        if len(content) > LARGEST_BYTES:
            return
        try:
            make_private(self._folder)
            replace_file(self._path(self._folder, url), content, durable=False)
        except OSError as error:
            logger.warning("an answer of a forge is not kept in %s: %s", self._folder, error.strerror)

    def prune(self) -> None:
        """Remove files that are older than KEPT_S, and the oldest ones above MOST_FILES."""
        if self._folder is None:
            return
        with suppress(OSError):
            files = [(path.stat().st_mtime, path) for path in self._folder.glob("*.json")]
            limit = time.time() - KEPT_S
            for number, (written, path) in enumerate(sorted(files, reverse=True)):
                if number >= MOST_FILES or written < limit:
                    path.unlink(missing_ok=True)

    def _path(self, folder: Path, url: str) -> Path:
        name = sha256(f"{self._owner}\0{url}".encode()).hexdigest()
        return folder / f"{name}.json"
