"""The key of this machine's workers, the keys that they trust, and what they demand of signatures.

The key is made at the first start (trust/identity.py), and signs in this process. The setting `signatures`
says what a signature that is missing or wrong leads to: `off` looks at none, `warn` logs it once for each
reason in a run (if the machine has a trust file), `require` refuses.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from coordination.errors import CoordinationError, Unsafe
from coordination.models import Signatures
from coordination.runs.replies import Grant
from coordination.trust.identity import worker_identity
from coordination.trust.keys import Signer
from coordination.trust.results import trusting_own
from coordination.trust.trust_file import TrustFile, read_trust

WARNINGS_KEPT = 1000

logger = logging.getLogger(__name__)


class WorkerKey:
    """The key of the workers with a state folder, loaded or made when it is needed first."""

    def __init__(self, state: Path, host: str) -> None:
        self._state = state
        self._host = host
        self._signer: Signer | None = None

    def refuse_in_repository(self, places: Mapping[str, Path]) -> None:
        """Raise Unsafe if the key would lie in a repository: its todos read it, and it may be committed."""
        folder = self._state.resolve()
        for repo, place in places.items():
            if folder.is_relative_to(place.resolve()):
                raise Unsafe(
                    f"the worker's key would lie in the repository {repo}: {folder} is in {place}",
                    "start the worker outside the repositories, or move ecosystem.yaml out of them",
                )

    def load(self) -> Signer:
        """Return the key. Raises CoordinationError, for example if the disk is full."""
        if self._signer is None:
            self._signer = worker_identity(self._state, f"worker@{self._host}")
        return self._signer

    def load_or_log(self) -> Signer | None:
        try:
            return self.load()
        except CoordinationError as error:
            logger.warning("results are not signed: %s", error.message)
            return None


class WorkerTrust:
    """The trust file as it is now, with the worker's own key, and the setting `signatures`. Any thread may
    call it.
    """

    def __init__(
        self, path: Path, own: WorkerKey, repos: Callable[[], Collection[Path]], mode: Signatures
    ) -> None:
        """`repos` returns the folders in which the trust file must not lie."""
        self._path = path
        self._own = own
        self._repos = repos
        self._mode = mode
        self._seen: object = None
        self._read = TrustFile()
        self._warned: set[tuple[str, str]] = set()
        """Run and reason."""
        self._guard = threading.Lock()

    @property
    def checks(self) -> bool:
        """Return whether signatures are looked at."""
        return self.requires or (self._mode is Signatures.WARN and self._path.exists())

    @property
    def requires(self) -> bool:
        return self._mode is Signatures.REQUIRE

    def read(self) -> TrustFile:
        """Return the trust file, the same object until it changes. Raises Unsafe or UsageError."""
        with self._guard:
            try:
                status = self._path.stat()
                seen: object = (status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode)
            except OSError:  # without a file, a machine trusts its own worker
                seen = ()
            if seen != self._seen:
                found = read_trust(self._path, self._repos()) if seen else TrustFile()
                own = self._own.load_or_log()
                self._read, self._seen = trusting_own(found, own) if own else found, seen
            return self._read

    def warn(self, grant: Grant, why: str) -> None:
        """Log a refusal that changes nothing: once for each reason in a run."""
        with self._guard:
            if (grant.run_id, why) in self._warned:
                return
            if len(self._warned) == WARNINGS_KEPT:
                self._warned.clear()
            self._warned.add((grant.run_id, why))
        todo = f"{grant.todo_id} of run {grant.run_id}"
        logger.warning("signatures: %s; COORD_SIGNATURES=require would refuse %s", why, todo)
