"""Keep the files that `prepare` makes for the checkouts in which a run judges its commits.

Each of these checkouts is made for one todo, so `prepare` would run for each. It runs once instead, on the
tree with which the run began: no todo can change by its commit what judges it. Its files are packed into an
archive, which no todo sees, and unpacked in the later checkouts. Programs that contain their own path, as
those of a virtual environment do, are at the same path there.

The archive is unpacked before the files of a todo's commit are there: a link in the commit would lead it
elsewhere.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from coordination.models import Command
from workers.process.trouble import WorkspaceUnusable
from workers.workspace.git import PATIENCE, Hold


@dataclass(frozen=True, kw_only=True)
class Archive:
    """The packed files of one kind of environment in a run's records."""

    file: Path

    @classmethod
    def of(cls, records: Path, prepare: Command | None, base: str, domain: str) -> Archive:
        """Return the archive of what `prepare` makes on commit `base` for todos of a domain (worktree.py)."""
        parts = json.dumps([prepare, base, domain])
        return cls(file=records / f"environment-{sha256(parts.encode()).hexdigest()[:16]}.tar")

    def save(self, folder: Path, names: Iterable[str], hold: Hold) -> str:
        """Pack these files of a folder; return why that failed, else an empty text: `prepare` then runs
        again.
        """
        new = self.file.with_suffix(".new")
        new.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # a name that begins with a hyphen would be an option
        listing = "".join(f"./{name}\0" for name in names).encode(errors="surrogateescape")
        try:
            why = _tar(("-cf", str(new), "--null", "-T", "-"), folder, listing, hold)
            if not why:
                new.replace(self.file)
        finally:
            new.unlink(missing_ok=True)
        return why

    def restore(self, folder: Path, hold: Hold) -> bool:
        """Unpack the files into a folder; return False if none were packed. Raises WorkspaceUnusable."""
        if not self.file.is_file():
            return False
        if why := _tar(("-xpf", str(self.file)), folder, b"", hold):
            self.file.unlink(missing_ok=True)
            raise WorkspaceUnusable(f"the files of `prepare` cannot be unpacked: {why}", "")
        return True


def _tar(options: tuple[str, ...], folder: Path, stdin: bytes, hold: Hold) -> str:
    """Run tar in the folder, under the lock of the workspace; return why it failed."""
    try:
        ended = subprocess.run(
            ["tar", *options],
            cwd=folder,
            input=stdin,
            capture_output=True,
            pass_fds=(hold.fd,),
            timeout=PATIENCE.total_seconds(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"tar: {error}"
    return ended.stderr.decode(errors="replace").strip()[-500:] if ended.returncode else ""
