"""Find out whether bubblewrap works on this machine: by trying it, since a kernel, a container or a security
module may forbid user namespaces while the program is installed.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from coordination.sandbox.bubblewrap import PRIVATE, Machine, View, argv
from coordination.sandbox.rules import NoSandbox

PROGRAM = "bwrap"
PATIENCE_S = 20.0
INSTALL = "install bubblewrap (apt install bubblewrap, dnf install bubblewrap)"
FORBIDDEN = (
    "allow user namespaces: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, "
    "kernel.apparmor_restrict_unprivileged_userns; a container needs a seccomp profile that allows them"
)
SHOWN = 200
"""Characters of bubblewrap's own words in an error."""


@dataclass(frozen=True, kw_only=True)
class Probed:
    """The result of trying bubblewrap."""

    program: str = ""
    """Its path; empty if it is not installed."""
    version: str = ""
    why_not: str = ""
    """The reason why it does not work; empty if it does."""
    hint: str = ""

    @property
    def works(self) -> bool:
        return not self.why_not

    def required(self, who: str) -> str:
        """Return the program's path. Raises NoSandbox, which names `who` needs it."""
        if self.why_not:
            raise NoSandbox(
                f"{who} must run in a sandbox, and {self.why_not}",
                f"{self.hint}; then see: coord doctor; or run it without one: sandbox: off",
            )
        return self.program


def probe(program: str = PROGRAM) -> Probed:
    """Try bubblewrap with the options that todos get."""
    found = shutil.which(program)
    if found is None:
        return Probed(why_not=f"bubblewrap ({program}) is not in PATH", hint=INSTALL)
    version = _said([found, "--version"]).removeprefix("bubblewrap ")
    with tempfile.TemporaryDirectory(prefix="coord-sandbox-") as made:
        folder = Path(made)
        for name in PRIVATE:
            (folder / name).mkdir()
        view = View(machine=Machine.look(), private=folder, home=None, network=False, cwd=Path("/"))
        why = _said(argv(found, view, ["true"]))
    if not why:
        return Probed(program=found, version=version)
    return Probed(
        program=found, version=version, why_not=f"{found} does not work here: {why[:SHOWN]}", hint=FORBIDDEN
    )


def _said(command: list[str]) -> str:
    """Return the output of a command, or how it failed."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    said = " ".join((done.stdout + done.stderr).split())
    return said or (f"exit code {done.returncode}" if done.returncode else "")
