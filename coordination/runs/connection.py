"""The Redis of one namespace with its stores and managers, each opened on first use."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from coordination.background import opened_once
from coordination.environment import acted_for
from coordination.files import real_path
from coordination.models import WriteBack
from coordination.settings import Settings

if TYPE_CHECKING:  # `coord lock list` needs only the locks, and starts 100 ms sooner without the rest
    from coordination.breakers.manager import BreakerManager
    from coordination.cache.contexts import Cache
    from coordination.events.stream import EventStream
    from coordination.locks import LockManager
    from coordination.messages import MessageBus
    from coordination.runs.dispatch import Dispatcher
    from coordination.runs.signed.orders import SignedRun
    from coordination.runs.store import RunStore
    from coordination.runs.submission.draft import Signing
    from coordination.runs.views.run_view import RunReader
    from coordination.runs.worker_registry import WorkerRegistry
    from coordination.trust.orders import Audience
    from coordination.trust.trust_file import TrustFile


class Connection:
    """Stores and managers of one Redis. Methods raise redis-py's errors when Redis is unreachable;
    `backend.client.reaching` translates them.
    """

    def __init__(
        self,
        url: str,
        settings: Settings,
        ecosystem_id: str = "",
        path: Path | None = None,
        changed_folders: Callable[[], Collection[Path]] = tuple,
    ) -> None:
        """`ecosystem_id`: `coordination.id` of the file, for operations that start or change runs. `path`:
        the file into which the results of runs that start here are written. `changed_folders`: folders in
        which todos work; no trust file may be in them.
        """
        self.url = url
        self.settings = settings
        self.ecosystem_id = ecosystem_id
        self._path = path
        self._changed_folders = changed_folders
        self.keys = Keys(settings.namespace)
        self.redis = connect(url, Profile.COMMAND, settings.connect_timeout)

    @property
    def file(self) -> str:
        """Return the digest of the file for the runs that start here; empty if nothing is to be written."""
        if self._path is None or self.settings.write_back is WriteBack.NONE:
            return ""
        from coordination.runs.write_back import file_id

        return file_id(self._path)

    @opened_once
    def store(self) -> RunStore:
        from coordination.runs.store import RunStore

        return RunStore(self.redis, self.settings.namespace)

    @opened_once
    def reader(self) -> RunReader:
        from coordination.runs.views.run_view import RunReader

        return RunReader(self.redis, self.keys)

    @opened_once
    def registry(self) -> WorkerRegistry:
        from coordination.runs.worker_registry import WorkerRegistry

        return WorkerRegistry(self.redis, self.keys)

    @opened_once
    def dispatcher(self) -> Dispatcher:
        from coordination.broker.celery_app import make_app  # Celery takes 300 ms to import
        from coordination.runs.dispatch import Dispatcher

        return Dispatcher(make_app(self.url, self.keys, self.settings), self.store)

    @opened_once
    def locks(self) -> LockManager:
        from coordination.locks import LockManager

        return LockManager(self.redis, self.settings.namespace)

    @opened_once
    def breakers(self) -> BreakerManager:
        from coordination.breakers.manager import BreakerManager
        from coordination.breakers.records import Policy

        return BreakerManager(self.redis, self.settings.namespace, policy=Policy.of(self.settings))

    @opened_once
    def cache(self) -> Cache:
        from coordination.cache.contexts import Cache
        from coordination.cache.names import Limits

        return Cache(self.redis, self.settings.namespace, Limits.of(self.settings))

    @opened_once
    def events(self) -> EventStream:
        from coordination.events.stream import EventStream

        return EventStream(self.redis, self.settings.namespace)

    @opened_once
    def messages(self) -> MessageBus:
        """The message bus; the sender is the person or agent who works at this machine."""
        from coordination.messages.bus import open_bus

        return open_bus(self.redis, self.settings)

    @property
    def signing(self) -> Signing | None:
        """The identity that signs the orders of this process; None without one, and where a server acts for a
        person: only the person can give that signature.
        """
        return None if acted_for() else self.identity

    @opened_once
    def identity(self) -> Signing | None:
        """The identity of this process; None without one."""
        from coordination.runs.submission.draft import Signing
        from coordination.trust.identity import load_identity

        signer = load_identity()
        ttl = self.settings.order_ttl
        return Signing(signer=signer, ttl=ttl, ecosystem=self.ecosystem_id) if signer else None

    @property
    def here(self) -> Audience:
        """The audience for which this process signs, and whose orders it verifies."""
        return self.store.audience(self.ecosystem_id or None)

    @opened_once
    def trust(self) -> TrustFile:
        """The trusted keys: those of the trust file, and that of this process. Raises Unsafe, UsageError."""
        from coordination.trust.identity import known_keys

        return known_keys(self.identity.signer if self.identity else None, self._changed_folders())

    def trust_with_worker(self, state: Path) -> TrustFile:
        """Return the keys that this process trusts, and the key of the workers of a state folder, unless the
        folder is in a repository, where a commit may have written the key. Raises Unsafe, UsageError.
        """
        from coordination.trust.identity import existing_worker
        from coordination.trust.results import trusting_own

        place, folders = state.resolve(), [real_path(folder) for folder in self._changed_folders()]
        if any(place.is_relative_to(folder) for folder in folders if folder != place):
            return self.trust
        own = existing_worker(place)
        return trusting_own(self.trust, own) if own else self.trust

    def signed_run(self, run_id: str, trust: TrustFile | None = None) -> SignedRun:
        """Return the order of a run, to be verified by these keys (default: those of this process)."""
        from coordination.runs.signed.orders import SignedRun

        return SignedRun(store=self.store, run_id=run_id, trust=trust or self.trust, here=self.here)

    @opened_once
    def blocking(self) -> redis.Redis:
        """A second client for calls that block, on streams."""
        return connect(self.url, Profile.READER, self.settings.connect_timeout)

    def close(self) -> None:
        for manager in ("locks", "breakers", "cache"):
            if manager in self.__dict__:
                getattr(self, manager).close()
        self.redis.close()
        if "blocking" in self.__dict__:
            self.blocking.close()
