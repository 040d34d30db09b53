"""Resources with a capacity, of which several requests may hold amounts; queue, fences and renewal are those
of locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from coordination.backend.keys import resource
from coordination.errors import NotFound, UsageError
from coordination.locks.core import LockCore
from coordination.locks.lock import Lock
from coordination.locks.request import TTL, WAIT, LockTerms, check_capacity, check_name, of_resources


@dataclass(frozen=True, kw_only=True)
class ResourceStats:
    """Figures since the first use; `longest_wait_s` includes current waiters, the mean only
    granted requests.
    """

    capacity: int
    used: int
    utilisation: float
    """Used share of the capacity over the whole time, 0 to 1."""
    waiting: int
    longest_wait_s: float
    granted: int
    mean_wait_s: float


class Resources:
    def __init__(self, core: LockCore) -> None:
        self._core = core

    def declare(self, capacities: Mapping[str, int]) -> None:
        """Set capacities. Lowering one takes nothing away from holders; 0 removes the resource."""
        words: list[str | int] = []
        for name, capacity in capacities.items():
            check_name("resource's name", name)
            check_capacity(name, capacity)
            words += [resource(name), capacity]
        if words:
            self._core.step("lock/declare", *words)

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
        """Acquire an amount, as `LockManager.acquire`. Raises UsageError if it exceeds the capacity or the
        resource is undeclared.
        """
        return self.acquire_many(
            {name: amount}, ttl=ttl, wait=wait, owner=owner, priority=priority, keep=keep
        )

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
        """Acquire all amounts in one step."""
        if not isinstance(wanted, Mapping):
            raise UsageError(f"{wanted!r} has no amounts", "pass a mapping: {name: amount}")
        return self._core.grant(
            of_resources(wanted), tuple(wanted), LockTerms(ttl, wait, owner, priority, keep)
        )

    def names(self) -> tuple[str, ...]:
        """Return the declared resources."""
        declared = self._core.line.send("HKEYS", self._core.keys.capacities)
        return tuple(sorted(what.partition(":")[2] for what in declared))

    def stats(self, name: str) -> ResourceStats:
        """Return the figures of a resource. Raises NotFound if it was not declared."""
        return self.all_stats([name])[name]

    def all_stats(self, names: Iterable[str] | None = None) -> dict[str, ResourceStats]:
        """Return the figures of all declared resources, or of those named."""
        declared = self.names()
        wanted = declared if names is None else tuple(names)
        for name in wanted:
            if name not in declared:
                raise NotFound(f"there is no resource {name}", f"there are: {', '.join(declared) or 'none'}")
        uses = self._core.step("lock/use", *map(resource, wanted)) if wanted else []
        return {name: _stats(*use) for name, use in zip(wanted, uses, strict=True)}


def _stats(
    capacity: int,
    used: int,
    used_ms: int,
    over_ms: int,
    waiting: int,
    granted: int,
    waited_ms: int,
    longest_ms: int,
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
