"""Resources with a capacity, of which several requests may hold amounts; queue, fences and renewal are those
of locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from coordination.backend.keys import resource
from coordination.backend.steps import lock as steps
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
        for name, capacity in capacities.items():
            check_name("resource's name", name)
            check_capacity(name, capacity)
        if capacities:
            typed = [(resource(name), capacity) for name, capacity in capacities.items()]
            self._core.call(steps.Declare(capacities=typed))

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
        declared = self._core.connection.send("HKEYS", self._core.keys.capacities)
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
                raise NotFound(
                    f"there is no resource {name}", f"the resources are: {', '.join(declared) or 'none'}"
                )
        uses = self._core.call(steps.Use(names=list(map(resource, wanted)))) if wanted else []
        return {name: _stats(use) for name, use in zip(wanted, uses, strict=True)}


def _stats(use: steps.ResourceUse) -> ResourceStats:
    return ResourceStats(
        capacity=use.capacity,
        used=use.used,
        utilisation=min(1.0, use.used_ms / (use.capacity * use.over_ms)) if use.over_ms else 0.0,
        waiting=use.waiting,
        longest_wait_s=use.longest_ms / 1000,
        granted=use.granted,
        mean_wait_s=use.waited_ms / use.granted / 1000 if use.granted else 0.0,
    )
