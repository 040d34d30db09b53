"""Resources have a capacity, of which several may hold amounts at once; the queue, the fences and the renewal are those of locks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from coordination.backend.keys import resource
from coordination.errors import NotFound, UsageError
from coordination.locks.core import Granting
from coordination.locks.lock import Lock
from coordination.locks.wants import TTL, WAIT, LockTerms, check_capacity, check_name, of_resources


@dataclass(frozen=True, kw_only=True)
class ResourceStats:
    """Since its first use; `longest_wait_s` counts those who wait now, the mean only those who were granted it."""

    capacity: int
    used: int
    utilisation: float
    """Of the capacity, over all the time: 0 to 1."""
    waiting: int
    longest_wait_s: float
    granted: int
    mean_wait_s: float


class Resources:
    def __init__(self, granting: Granting) -> None:
        self._granting = granting

    def declare(self, capacities: Mapping[str, int]) -> None:
        """How much there is of each. Less than is in use takes nothing away from anybody; 0 ends a resource."""
        words: list[str | int] = []
        for name, capacity in capacities.items():
            check_name("resource's name", name)
            check_capacity(name, capacity)
            words += [resource(name), capacity]
        if words:
            self._granting.step("lock/declare", *words)

    def acquire(
        self,
        name: str,
        amount: int = 1,
        *,
        ttl: timedelta = TTL,
        wait: timedelta = WAIT,
        owner: str = "",
        priority: int = 0,
        keep: bool = True,
    ) -> Lock:
        """As `LockManager.acquire`. Raises UsageError for more than there is, or where it was not declared."""
        return self.acquire_many({name: amount}, ttl=ttl, wait=wait, owner=owner, priority=priority, keep=keep)

    def acquire_many(
        self,
        wanted: Mapping[str, int],
        *,
        ttl: timedelta = TTL,
        wait: timedelta = WAIT,
        owner: str = "",
        priority: int = 0,
        keep: bool = True,
    ) -> Lock:
        """All of it in one step, or nothing."""
        if not isinstance(wanted, Mapping):
            raise UsageError(f"{wanted!r} says no amounts", "give a mapping: {name: amount}")
        return self._granting.grant(of_resources(wanted), tuple(wanted), LockTerms(ttl, wait, owner, priority, keep))

    def names(self) -> tuple[str, ...]:
        """Those that were declared."""
        declared = self._granting.line.send("HKEYS", self._granting.keys.capacities)
        return tuple(sorted(what.partition(":")[2] for what in declared))

    def stats(self, name: str) -> ResourceStats:
        """Raises NotFound for what was not declared."""
        return self.all_stats([name])[name]

    def all_stats(self, names: Iterable[str] | None = None) -> dict[str, ResourceStats]:
        """Of all that were declared, or of those named."""
        declared = self.names()
        wanted = declared if names is None else tuple(names)
        for name in wanted:
            if name not in declared:
                raise NotFound(f"there is no resource {name}", f"there are: {', '.join(declared) or 'none'}")
        uses = self._granting.step("lock/use", *map(resource, wanted)) if wanted else []
        return {name: _stats(*use) for name, use in zip(wanted, uses, strict=True)}


def _stats(
    capacity: int, used: int, used_ms: int, over_ms: int, waiting: int, granted: int, waited_ms: int, longest_ms: int
) -> ResourceStats:
    return ResourceStats(
        capacity=capacity,
        used=used,
        utilisation=min(1.0, used_ms / (capacity * over_ms)) if over_ms else 0.0,
        waiting=waiting,
        longest_wait_s=longest_ms / 1000,
        granted=granted,
        mean_wait_s=waited_ms / granted / 1000 if granted else 0.0,
    )
