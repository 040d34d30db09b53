"""How much room the disks have that work is done on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

INODES_MIN = 1000
"""A worktree of a small repository has about as many files."""
FULL_BYTES = 1024 * 1024
"""Less than this is no room: git writes an index or a pack of that size at once."""
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, kw_only=True)
class Room:
    """What is free where a path lies, for users without special rights."""

    path: Path
    free_bytes: int
    free_inodes: int | None
    """None where the file system does not count them."""

    @property
    def full(self) -> bool:
        return self.free_bytes < FULL_BYTES or self.free_inodes == 0

    def lacks(self, disk_min: int) -> str:
        """Return what there is too little of; empty if there is enough. The same words as long as that lasts: people are told of
        a wait when its words change. `disk_min` 0: never too little.
        """
        if self.free_bytes < disk_min:
            return f"less than disk_min ({in_units(disk_min)}) is free in {self.path}"
        if disk_min and self.free_inodes is not None and self.free_inodes < INODES_MIN:
            return f"less than {INODES_MIN} inodes are free in {self.path}"
        return ""


def room_at(path: Path) -> Room | None:
    """Return the room where the path lies, or will; None where nothing can be told."""
    for place in (path, *path.parents):
        try:
            found = os.statvfs(place)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        inodes = found.f_favail if found.f_files else None
        return Room(path=path, free_bytes=found.f_bavail * found.f_frsize, free_inodes=inodes)
    return None


def full(paths: Iterable[Path]) -> str:
    """Return in words which of these places lies on a disk that is full; empty if none does."""
    rooms = (room_at(path) for path in paths)
    return next((f"the disk of {room.path} is full" for room in rooms if room is not None and room.full), "")


def shortage(paths: Iterable[Path], disk_min: int) -> str:
    """Return what the first of these places lacks, in words; empty if all have enough."""
    rooms = (room_at(path) for path in paths)
    return next((lack for room in rooms if room is not None and (lack := room.lacks(disk_min))), "")


def in_units(size: int) -> str:
    """Return `1.5 GiB`."""
    amount, unit = float(size), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.1f}".removesuffix(".0") + f" {_UNITS[unit]}"
