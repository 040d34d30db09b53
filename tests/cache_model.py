"""A model of the cache, for the steps to be held against. Times are in ms and passed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

OVERHEAD, VALUE_OVERHEAD, CLOCK = 360, 240, 5000
"""As in backend/lua/cache/_cache.lua."""
Member = tuple[str, str]
"""A context and a key."""


@dataclass
class Entry:
    value: bytes | None
    """None: it hides what outer contexts have."""
    expires: int
    ttl: int


@dataclass
class CacheModel:
    policy: str
    max_bytes: int
    entries: dict[Member, Entry] = field(default_factory=dict)
    rank: dict[Member, int] = field(default_factory=dict)
    uses: dict[Member, int] = field(default_factory=dict)
    ticks: int = 0
    floor: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0

    @property
    def refs(self) -> dict[bytes, int]:
        values = [entry.value for entry in self.entries.values() if entry.value is not None]
        return {value: values.count(value) for value in values}

    @property
    def bytes(self) -> int:
        names = sum(len("\n".join(member)) + OVERHEAD for member in self.entries)
        return names + sum(len(value) + VALUE_OVERHEAD for value in self.refs)

    def put(self, context: str, key: str, value: bytes, ttl: int, now: int, *, only_new: bool) -> str:
        self._expire(now)
        member = (context, key)
        former = self._alive(member, now)
        if former and only_new:
            return "there"
        if not (former and former.value == value):
            if self._never_fits(member, value) or not self._make_room(member, value):
                return "none"
            self._unset(member)
        self.entries[member] = Entry(value, now + ttl, ttl)
        self._use(member)
        return "kept"

    def get(self, contexts: Sequence[str], key: str, now: int) -> tuple[bytes | None, int]:
        """The value, and which context said so."""
        for place, context in enumerate(contexts):
            entry = self._alive((context, key), now)
            if entry:
                if entry.value is None:
                    self.misses += 1
                    return None, place
                self.hits += 1
                self._use((context, key))
                return entry.value, place
        self.misses += 1
        return None, len(contexts) - 1

    def delete(self, contexts: Sequence[str], keys: Sequence[str], ttl: int, now: int) -> int:
        """Return the number of keys that had a value."""
        gone = 0
        for key in keys:
            gone += self._visible(contexts, key, now)
            member = (contexts[0], key)
            if self._visible(contexts[1:], key, now):
                self._make_room(member, None)
            self._unset(member)
            if self._visible(contexts[1:], key, now):  # it may have been evicted to make room
                self.entries[member] = Entry(None, now + ttl, ttl)
        return gone

    def drop(self, context: str) -> None:
        for member in [member for member in self.entries if member[0] == context]:
            self._unset(member)

    def _visible(self, contexts: Sequence[str], key: str, now: int) -> bool:
        found = (entry for context in contexts if (entry := self._alive((context, key), now)))
        nearest = next(found, None)
        return nearest is not None and nearest.value is not None

    def _alive(self, member: Member, now: int) -> Entry | None:
        entry = self.entries.get(member)
        return entry if entry and 0 < entry.expires - now <= entry.ttl + CLOCK else None

    def _expire(self, now: int) -> None:
        for member in [member for member, entry in self.entries.items() if entry.expires <= now]:
            self._unset(member)

    def _unset(self, member: Member) -> None:
        self.entries.pop(member, None)
        self.rank.pop(member, None)
        self.uses.pop(member, None)

    def _use(self, member: Member) -> None:
        if self.policy == "lru":
            self.ticks += 1
            self.rank[member] = self.ticks
        elif self.policy == "lfu":
            self.uses[member] = self.uses.get(member, 0) + 1
            self.rank[member] = self.floor + self.uses[member]
        else:
            self.rank[member] = self.entries[member].expires

    def _never_fits(self, member: Member, value: bytes) -> bool:
        """Return whether it is too large even where all that may be evicted is."""
        hiding = sum(entry.value is None for one, entry in self.entries.items() if one != member)
        least = (hiding + 1) * OVERHEAD + len("\n".join(member)) + len(value) + VALUE_OVERHEAD
        return least > self.max_bytes < self.bytes + self._growth(member, value)

    def _make_room(self, member: Member, value: bytes | None) -> bool:
        while True:
            if self.bytes + self._growth(member, value) <= self.max_bytes:
                return True
            if not self.rank:
                return False
            lowest = min(self.rank, key=lambda one: (self.rank[one], "\n".join(one)))
            if self.policy == "lfu":
                self.floor = self.rank[lowest]
            self._unset(lowest)
            self.evictions += 1

    def _growth(self, member: Member, value: bytes | None) -> int:
        """Return the bytes that the entry adds in place of the former one."""
        new = 0 if value is None or value in self.refs else len(value) + VALUE_OVERHEAD
        former = self.entries.get(member)
        if former is None:
            return new + len("\n".join(member)) + OVERHEAD
        if former.value in (None, value) or self.refs[former.value] > 1:
            return new
        return new - len(former.value) - VALUE_OVERHEAD
