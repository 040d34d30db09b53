"""Tell people of keys, credentials and the certificate of this machine that expire soon, or have expired.

A chore of each worker (cleanup/jobs.py) looks once an hour. Each fact is one event, and with it one call of
`notify_command`: the state folder keeps the facts that were told, for all workers of the machine.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from coordination.credentials.store import CredentialStore, credentials_file
from coordination.errors import CoordinationError
from coordination.files import locked, make_private, replace_file
from coordination.settings import Settings
from coordination.trust.review import expiring_keys
from coordination.trust.trust_file import TrustFile

LOOK_EVERY_S = 3600.0
FILE = "expiry.json"
LARGEST = 1024 * 1024
logger = logging.getLogger(__name__)


class ExpiryWatch:
    """`run_once` may be called often: it looks once an hour."""

    def __init__(
        self,
        settings: Settings,
        state: Path,
        trust: Callable[[], TrustFile],
        tell: Callable[[str, str], object],
    ) -> None:
        """`trust` returns the trust file; `tell` writes the event: the fact, the next command."""
        self._settings = settings
        self._file = state / FILE
        self._trust = trust
        self._tell = tell
        self._next = 0.0

    def run_once(self, now: datetime | None = None) -> list[str]:
        """Tell what was not told yet; return it. A source that cannot be read is passed over: doctor says
        why.
        """
        if now is None and time.monotonic() < self._next:
            return []
        self._next = time.monotonic() + LOOK_EVERY_S
        facts = dict(self._facts(now or datetime.now(UTC)))
        if not facts and not self._file.exists():
            return []
        make_private(self._file.parent)
        with locked(self._file.with_suffix(".lock")):
            new = sorted(facts.keys() - self._told())
            for fact in new:
                self._tell(fact, facts[fact])
            replace_file(self._file, json.dumps(sorted(facts)).encode(), durable=False)
        return new

    def _facts(self, now: datetime) -> Iterator[tuple[str, str]]:
        for source in (self._keys, self._credentials, self._certificate):
            try:
                yield from source(now)
            except CoordinationError as error:
                logger.debug("expiry: %s", error.message)

    def _keys(self, now: datetime) -> Iterator[tuple[str, str]]:
        yield from expiring_keys(self._trust(), now)

    def _credentials(self, now: datetime) -> Iterator[tuple[str, str]]:
        for credential in CredentialStore(credentials_file()).all():
            if words := credential.expiry_words(now):
                yield words, f"coord credential rotate {credential.name} REFERENCE --expires DATE"

    def _certificate(self, now: datetime) -> Iterator[tuple[str, str]]:
        if self._settings.tls_certificate is None:
            return
        from coordination.operations.listening import look_at_certificate

        found = look_at_certificate(self._settings, now)
        if found is not None and (found.problem or found.soon):
            words = found.problem or f"the certificate {found.path} expires at {found.expires}"
            yield words, found.hint or "renew it"

    def _told(self) -> set[str]:
        try:
            with self._file.open("rb") as opened:
                found = json.loads(opened.read(LARGEST))
        except (OSError, ValueError):
            return set()
        return {str(fact) for fact in found} if isinstance(found, list) else set()
