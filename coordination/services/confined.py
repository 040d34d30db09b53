"""The sandbox of a service, and of the command of its probe.

A service outlives the supervisor, and bubblewrap ends with its parent. So a shell is the process of the
service: it starts bubblewrap and waits for its end. Whoever kills the shell ends the sandbox.

    shell ── bubblewrap ── first process of the sandbox ── the service

SIGTERM goes to the processes below bubblewrap, which forwards no signal; SIGKILL to the whole group, because
the first process of the sandbox cannot leave it.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from coordination.environment import without_ours
from coordination.files import make_private
from coordination.frozen import FrozenModel
from coordination.models import SECRET
from coordination.processes import all_pids, look
from coordination.sandbox import (
    PRIVATE,
    PROGRAM,
    TEMPORARY,
    Binds,
    Bounds,
    HostFacts,
    View,
    argv,
    hidden_names,
    probe,
)
from coordination.sandbox_limits import OVER, SandboxLimits, children, inside

STAYS = '"$@"; exit $?'
"""Shell code that waits for bubblewrap: without the second command, a shell would become bubblewrap."""
LIMITED = "ulimit -d {} && "


@dataclass(frozen=True, kw_only=True)
class Started:
    """A command line and its whole environment."""

    argv: Sequence[str]
    environment: Mapping[str, str]


class ServiceSandbox(FrozenModel):
    """The confinement that the order of a service demands. A worker decides it; the supervisor applies it,
    also when it starts the service again.
    """

    bounds: Bounds
    binds: Binds
    """The checkout of its repository and the programs of the machine, read-only."""
    home: Path | None

    def start_command(
        self, name: str, command: Sequence[str], env: Mapping[str, str], cwd: Path, private: Path
    ) -> Started:
        """Return the command that starts the service, after emptying its private folders. Raises NoSandbox,
        OSError.
        """
        program = probe().required(f"service {name}")
        remove(private)
        make_private(private)
        for folder in PRIVATE:
            make_private(private / folder)
        # a command line can be read by all users of the machine, an environment cannot
        shown = {key: value for key, value in env.items() if not SECRET.search(key)}
        hidden = {key: value for key, value in env.items() if key not in shown}
        limit = LIMITED.format(self.bounds.memory // 1024) if self.bounds.memory else ""
        line = argv(program, self._view(cwd, private), command, self._variables | shown)
        kept = {key: value for key, value in without_ours(os.environ).items() if key not in hidden_names()}
        return Started(argv=("sh", "-c", limit + STAYS, "sh", *line), environment=kept | hidden)

    def probe_command(self, command: Sequence[str], cwd: Path, private: Path) -> tuple[str, ...]:
        """Return the command line of a probe, which shares the private folders of the service."""
        dropped = [word for key in sorted(hidden_names()) for word in ("--unsetenv", key)]
        program, *line = argv(PROGRAM, self._view(cwd, private), command, self._variables)
        return (program, *dropped, *line)

    def _view(self, cwd: Path, private: Path) -> View:
        return View(
            machine=HostFacts.look(),
            private=private,
            home=self.home,
            network=self.bounds.network,
            cwd=cwd,
            binds=self.binds,
        )

    @property
    def _variables(self) -> dict[str, str]:
        own = {key: "/tmp" for key in TEMPORARY if key in os.environ}  # noqa: S108
        return own if self.home else own | {"HOME": "/tmp"}  # noqa: S108

    def exceeded(self, pid: int) -> str:
        """Return the limit that the processes below `pid` exceed, in words; empty if none."""
        limits = SandboxLimits(self.bounds.memory, self.bounds.processes)
        found = limits.exceeded(pid, _descendants)
        return OVER[found[0]].format(found[1]) if found else ""


def terminate(pid: int) -> None:
    """Send SIGTERM to the processes in the sandbox of the shell `pid`."""
    for bubblewrap in children(pid) or _children_of(pid):
        listed = inside(bubblewrap)
        for one in _descendants(bubblewrap) if listed is None else listed:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(one, signal.SIGTERM)


def _descendants(root: int) -> list[int]:
    """Return the processes below `root` where the kernel has no lists of children."""
    found, below = list[int](), [root]
    while below:
        own = _children_of(below.pop())
        found += own
        below += own
    return found


def _children_of(parent: int) -> list[int]:
    return [pid for pid in all_pids() if (one := look(pid)) and one.parent == parent]


def remove(private: Path) -> None:
    """Remove the private folders of a service, whatever permissions it left on them."""
    if not private.exists():
        return
    with suppress(OSError):
        for above, names, _ in os.walk(private):
            for folder in (Path(above, name) for name in names):
                if not folder.is_symlink():
                    folder.chmod(0o700)
    shutil.rmtree(private, ignore_errors=True)
