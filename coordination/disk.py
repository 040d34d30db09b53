"""Free disk space for the folders that coord works in."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

INODES_MIN = 1000
"""Minimum of free inodes: a worktree of a small repository has about as many files."""
FULL_BYTES = 1024 * 1024
"""Free space below which a disk counts as full: git writes an index or a pack of that size at once."""
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, kw_only=True)
class Room:
    """Free space at a path for unprivileged users."""

    path: Path
    free_bytes: int
    free_inodes: int | None
    """None if the file system does not count inodes."""

    @property
    def full(self) -> bool:
        return self.free_bytes < FULL_BYTES or self.free_inodes == 0

    def lacks(self, disk_min: int) -> str:
        """Return what is missing as a phrase, or "" if there is enough. `disk_min` 0 disables the check.

        The phrase holds no figures that change, because people are notified whenever the reason of a wait
        changes.
        """
        if self.free_bytes < disk_min:
            return f"less than disk_min ({in_units(disk_min)}) is free in {self.path}"
        if disk_min and self.free_inodes is not None and self.free_inodes < INODES_MIN:
            return f"less than {INODES_MIN} inodes are free in {self.path}"
        return ""


def room_at(path: Path) -> Room | None:
    """Return the free space at the path or its nearest existing parent; None if it cannot be determined."""
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
    """Return a phrase that names the first path on a full disk, or ""."""
    rooms = (room_at(path) for path in paths)
    return next((f"the disk of {room.path} is full" for room in rooms if room is not None and room.full), "")


def shortage(paths: Iterable[Path], disk_min: int) -> str:
    """Return a phrase that says what the first path with too little space lacks, or ""."""
    rooms = (room_at(path) for path in paths)
    return next((lack for room in rooms if room is not None and (lack := room.lacks(disk_min))), "")


def in_units(size: int) -> str:
    """Return a size with its unit: `1.5 GiB`."""
    amount, unit = float(size), 0
    while amount >= 1024 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1024, unit + 1
    return f"{amount:.1f}".removesuffix(".0") + f" {_UNITS[unit]}"
