"""Lock a workspace for one attempt at a time, and first end the processes of the previous one.

Two files, in a folder of the workspace's own. `lock` carries a flock and is empty. `occupant.json` names the
last attempt, whether it left, and the commit at which it left; it is replaced whole, and only by the holder
of the flock.

States::

    free ──enter──► occupied ──leave──► free
                       └── worker and guard died ──► abandoned ──enter──► its processes are ended ──► occupied

Invariants

1. The flock is held by the worker that entered, by every git it runs there, and by the guard of every
   command, each through the same open file. So it is free only when none of them lives.
2. An attempt that gets the flock and reads `left: false` ends the processes of that attempt before anything
   else: a guard that was killed together with its worker could not.
3. A fence never enters after a higher one of the same run: an attempt that slept through the loss of its
   lease must not set the worktree back while its successor works in it.

Failures

* Worker killed: its guard kills the command and ends, which frees the flock; `enter` waits for that.
* Guard killed: the worker still has the flock; `Child.wait` cleans up.
* Both killed: the flock is free, the record says `left: false`; see 2.
* Power lost: no process is left, `occupant.json` may be empty; that reads as "no attempt".
* git, which runs here without a guard, leaves a process behind (a filter's daemon): it has the attempt's
  mark, and is ended before the attempt leaves. One that does not end is left to the next attempt: the record
  says `left: false`.
* Record not writable (disk full): nothing has started yet; `enter` refuses.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from pydantic import ValidationError

from coordination.errors import Conflict
from coordination.files import is_removed, make_private, open_lock, replace_file, try_lock
from coordination.frozen import FrozenModel
from workers.process import orphans
from workers.process.trouble import describe_os_error
from workers.workspace.files import remove_tree
from workers.workspace.git import Hold

logger = logging.getLogger(__name__)

POLL_S = 0.05
END_WITHIN = timedelta(seconds=10)


class WorkspaceBusy(Conflict):
    """Another attempt is in the workspace."""

    def __init__(self, message: str, hint: str = "", *, holder: int | None = None) -> None:
        self.holder = holder
        """Pid of the worker in the workspace, as far as known."""
        super().__init__(message, hint)


class Superseded(Conflict):
    """A newer attempt has been in the workspace."""


@dataclass(frozen=True, kw_only=True)
class Claimant:
    """An attempt that asks for the workspace. `key` and `fence` are COORD_IDEMPOTENCY_KEY and COORD_FENCE."""

    run_id: str
    key: str
    fence: int


class LockHolder(FrozenModel):
    """The attempt that `occupant.json` names."""

    run: str
    key: str
    fence: int
    worker: int
    mark: int = 0
    """The mark in the limits of its processes (`orphans.py`); 0 if they carry none."""
    guard: int | None = None
    group: int | None = None
    group_started: str = ""
    left: bool = False
    began: str = ""
    """The commit at which the attempt began."""
    stood: str = ""
    """The commit of the branch when the attempt left; empty if that is not known."""


class WorkspaceLock:
    def __init__(self, folder: Path, workspace: Path) -> None:
        self._folder = folder
        self._workspace = workspace
        self._fd: int | None = None
        self._holder: LockHolder | None = None

    @property
    def hold(self) -> Hold:
        """Return the flock, for git and for the guard, with the signs of this attempt's processes."""
        assert self._fd is not None, "enter first"
        return Hold(fd=self._fd, marker=self._git_marker())

    @property
    def mark(self) -> int:
        """Return the mark of this attempt's processes: recorded before the first of them starts."""
        assert self._holder is not None, "enter first"
        return self._holder.mark

    def enter(self, lock_request: Claimant, patience: timedelta, *, again: bool = False) -> LockHolder | None:
        """Enter alone; return the former attempt as far as it is known. Raises WorkspaceBusy or Superseded.

        `again`: enter only if the last attempt in it was this one.
        """
        with describe_os_error(self._folder):
            self._take_lock(patience)
            try:
                last = self.read()
                self._refuse_older(lock_request, last)
                if again and (
                    last is None or (last.run, last.fence) != (lock_request.run_id, lock_request.fence)
                ):
                    raise Superseded(
                        f"{self._workspace} is used by another attempt by now",
                        "nothing to do: the newer one counts",
                    )
                self._end_abandoned(last)
                self._write(
                    LockHolder(
                        run=lock_request.run_id,
                        key=lock_request.key,
                        fence=lock_request.fence,
                        worker=os.getpid(),
                        mark=orphans.new_mark(),
                    )
                )
            except BaseException:
                self._release()
                raise
        return last

    def note(self, guard: int | None, group: int | None) -> None:
        """Record the processes that the attempt has started, by which the next one finds them."""
        assert self._holder is not None, "enter first"
        begun = orphans.started(group) if group else ""
        self._write(self._holder.model_copy(update={"guard": guard, "group": group, "group_started": begun}))

    def check(self) -> None:
        """Refuse to go on after a newer attempt has entered. Raises Superseded."""
        holder = self.read()
        if self._holder is None or holder is None or holder.fence != self._holder.fence:
            raise Superseded(
                "a newer attempt took over this workspace", "nothing to do: the newer attempt counts"
            )

    def leave(self, *, began: str = "", stood: str = "") -> None:
        """End processes that git has left, and leave. No command may be alive. Harmless when not inside."""
        if self._fd is None:
            return
        left = not self._end_rest_of_git()
        # On a full disk nothing is recorded: the next attempt then looks for processes, and finds none.
        with suppress(OSError):
            if self._holder is not None:
                self._write(self._holder.model_copy(update={"left": left, "began": began, "stood": stood}))
        self._release()

    @contextmanager
    def emptied(self, patience: timedelta) -> Iterator[None]:
        """Keep the workspace free for its removal; its records are removed as well."""
        with self._kept_free(patience):
            yield
            remove_tree(self._folder)

    @contextmanager
    def alone(self, patience: timedelta) -> Iterator[Hold]:
        """Keep the workspace free; its records stay. Yields the flock, for git."""
        with self._kept_free(patience):
            try:
                yield self.hold
            finally:
                if [path.name for path in self._folder.iterdir()] == ["lock"]:  # no attempt has been in it
                    shutil.rmtree(self._folder)

    @contextmanager
    def _kept_free(self, patience: timedelta) -> Iterator[None]:
        with describe_os_error(self._folder):
            self._take_lock(patience)
            try:
                self._end_abandoned(self.read())
                yield
            finally:
                self._release()

    def read(self) -> LockHolder | None:
        return occupant_in(self._folder)

    def _take_lock(self, patience: timedelta) -> None:
        until = time.monotonic() + patience.total_seconds()
        while (fd := self._try_lock()) is None:
            if time.monotonic() >= until:
                raise self._busy(self.read(), patience)
            time.sleep(POLL_S)  # the file may be made anew between two tries
        self._fd = fd

    def _try_lock(self) -> int | None:
        path = self._folder / "lock"
        try:
            make_private(self._folder)
            fd = open_lock(path)
        except FileNotFoundError:  # another process is removing the folder
            return None
        if try_lock(fd) and not is_removed(fd, path):
            return fd
        os.close(fd)
        return None

    def _refuse_older(self, lock_request: Claimant, last: LockHolder | None) -> None:
        if last and last.run == lock_request.run_id and last.fence > lock_request.fence:
            message = (
                f"attempt {last.fence} has been in {self._workspace}, "
                f"and this is the older attempt {lock_request.fence}"
            )
            raise Superseded(message, "nothing to do: the newer attempt counts")

    def _end_abandoned(self, last: LockHolder | None) -> None:
        if last is None:
            return
        alive = set() if last.left else orphans.end(self._marker(last), END_WITHIN)
        if alive:
            pids = " ".join(map(str, sorted(alive)))
            raise WorkspaceBusy(
                f"processes of an earlier attempt in {self._workspace} do not end: {pids}",
                "end them by hand; the todo is tried again by itself",
                holder=last.worker,
            )

    def _git_marker(self) -> orphans.ProcessMarker | None:
        """Return the marker of git's processes without the process group, whose number may be reused."""
        return (
            None
            if self._holder is None
            else replace(self._marker(self._holder), group=None, group_started="", inside=True)
        )

    def _end_rest_of_git(self) -> set[int]:
        """End processes that git has left; return those that do not end."""
        marker = self._git_marker()
        if marker is None or not orphans.is_alive(marker):
            return set()
        logger.warning("%s: git has left processes behind (a filter's?); they are ended", self._workspace)
        return orphans.end(marker, END_WITHIN)

    def _marker(self, last: LockHolder) -> orphans.ProcessMarker:
        return orphans.ProcessMarker(
            key=last.key,
            fence=str(last.fence),
            workspace=self._workspace,
            mark=last.mark,
            group=last.group,
            group_started=last.group_started,
        )

    def _busy(self, holder: LockHolder | None, patience: timedelta) -> WorkspaceBusy:
        described = (
            f"worker {holder.worker}, guard {holder.guard}, fence {holder.fence}"
            if holder
            else "an unknown process"
        )
        return WorkspaceBusy(
            f"{self._workspace} is still in use after {patience.total_seconds():g} s, by {described}",
            "it comes free when that attempt ends; if that worker hangs, end it by its pid",
            holder=holder.worker if holder else None,
        )

    def _write(self, lock_holder: LockHolder) -> None:
        replace_file(self._folder / "occupant.json", lock_holder.model_dump_json().encode(), durable=False)
        self._holder = lock_holder

    def _release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd = self._holder = None


def occupant_in(folder: Path) -> LockHolder | None:
    """Return the last attempt, by the records in this folder; None if there is none, or it cannot be read."""
    try:
        return LockHolder.model_validate_json((folder / "occupant.json").read_bytes())
    except (OSError, ValidationError):
        return None
