"""Register of holders, written to a file by the holders themselves: independent of Redis, so it outlives the
loss of its data.

Whoever comes in writes its fence and until when it may believe that it holds; whoever goes strikes that out.
So those who were killed or stopped inside are counted for as long as they might act, and no longer. Holders
of before a loss of Redis' data are not counted: those are what the fence is for, and a register of one holder
refuses them once somebody else came in.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coordination.durations import now_s

SLOTS = 64
_HEAD = struct.Struct("=QII")
_SLOT = struct.Struct("=QId")


class TwoHolders(AssertionError):
    """More are inside than may be."""


class Late(Exception):
    """The lock had expired before its holder came in: its process was stopped, or slow."""


class Refused(Exception):
    """Somebody with a newer fence came in since."""


@dataclass
class _Inside:
    fence: int
    amount: int
    until_s: float


class Register:
    """Holders of one name. A shared holder has the amount 1 of a large capacity, an exclusive one
    all of it.
    """

    def __init__(self, path: Path, capacity: int) -> None:
        self.path = path
        self.capacity = capacity

    def come(self, fence: int, amount: int, until_s: float, *, lost_at: Callable[[], int]) -> None:
        """`lost_at`: the fence below which holders are of before a loss of data. Raises TwoHolders, Refused,
        Late.
        """
        with self._open() as page:
            alone = amount == self.capacity
            if alone and fence <= page.newest:
                raise Refused
            counts_from, at_s = lost_at(), now_s()
            if until_s <= at_s:
                raise Late
            inside = [
                it for it in page.slots if it.fence != fence and it.fence > counts_from and it.until_s > at_s
            ]
            used = amount + sum(it.amount for it in inside)
            page.peak = max(page.peak, used)
            page.newest = max(page.newest, fence)
            page.grants += 1
            page.slots = [*inside, _Inside(fence, amount, until_s)][-SLOTS:]
            if used > self.capacity:
                raise TwoHolders(
                    f"{self.path.name}: {used} of {self.capacity} inside: fence {fence} and {inside}"
                )

    def act(self, fence: int, until_s: float) -> None:
        """Write as a holder, which must have the newest fence if the lock is exclusive. Raises Refused."""
        with self._open() as page:
            own = next((it for it in page.slots if it.fence == fence), None)
            if own is None or (own.amount == self.capacity and page.newest > fence):
                raise Refused
            own.until_s = until_s

    def go(self, fence: int) -> None:
        with self._open() as page:
            page.slots = [it for it in page.slots if it.fence != fence]

    def read(self) -> tuple[int, int]:
        """How many came in, and the most at once."""
        with self._open() as page:
            return page.grants, page.peak

    @contextmanager
    def _open(self) -> Iterator[_Page]:
        """The system lets go of the file's lock when its holder is killed; a page is written in one call."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            page = _Page.of(os.pread(file, _HEAD.size + SLOTS * _SLOT.size, 0))
            try:
                yield page
            finally:
                os.pwrite(file, page.packed(), 0)
        finally:
            os.close(file)


@dataclass
class _Page:
    newest: int
    grants: int
    peak: int
    slots: list[_Inside]

    @classmethod
    def of(cls, raw: bytes) -> _Page:
        if not raw:
            return cls(0, 0, 0, [])
        slots = [_Inside(*_SLOT.unpack_from(raw, _HEAD.size + i * _SLOT.size)) for i in range(SLOTS)]
        newest, grants, peak = _HEAD.unpack_from(raw)
        return cls(newest, grants, peak, [it for it in slots if it.fence])

    def packed(self) -> bytes:
        slots = [*self.slots, *[_Inside(0, 0, 0.0)] * (SLOTS - len(self.slots))]
        return _HEAD.pack(self.newest, self.grants, self.peak) + b"".join(
            _SLOT.pack(it.fence, it.amount, it.until_s) for it in slots
        )
