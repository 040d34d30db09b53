"""The end of a service's log: of its file, or of the journal for a unit."""

from __future__ import annotations

import os
import subprocess

from coordination.environment import without_ours
from coordination.errors import CoordinationError
from coordination.services.host import ServiceHost

LOG_END = 16 * 1024 * 1024
"""Most bytes of a log that are read."""
ANSWER_S = 20.0


def log_lines(host: ServiceHost, name: str, most: int, size_bytes: int = LOG_END) -> list[str]:
    """Return the last lines of a service's log, at most so many, of its last bytes. Raises FileNotFoundError;
    CoordinationError for a journal that cannot be read.
    """
    status, wanted = host.states().get(name), host.wanted().get(name)
    if unit := (wanted.service.unit_file if wanted else status.unit if status else ""):
        return journal_lines(unit, most, size_bytes)
    with host.daemon(name).log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - min(size_bytes, most * 1000)))
        return file.read(size_bytes).decode(errors="replace").splitlines()[-most:]


def journal_lines(unit: str, most: int, size_bytes: int = LOG_END) -> list[str]:
    """Return the last lines of a user's unit in the journal. Raises CoordinationError."""
    command = ["journalctl", "--no-pager", "--output", "cat", "--lines", str(most), "--user-unit", unit]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=without_ours(os.environ), cwd="/",
            timeout=ANSWER_S, check=False,
        )  # fmt: skip
        why = done.stderr.decode(errors="replace").strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    if why:
        raise CoordinationError(f"the journal of {unit} cannot be read: {why}", f"try: {' '.join(command)}")
    return done.stdout[-size_bytes:].decode(errors="replace").splitlines()[-most:]
