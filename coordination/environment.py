"""Environment of the commands that coord runs: the user's own, without the variables of coord and Celery.

A todo, a git hook or a check runs code of a repository. The environment of its parent process may hold the
password of Redis, the token of the MCP server and the login of Flower; with the password, that code could
make every worker run any command.
"""

from __future__ import annotations

import getpass
import socket
import sys
from collections.abc import Mapping

OURS = ("COORD_", "CELERY_", "_MP_FORK_")
"""Prefixes of variables that no command inherits; a todo's own `env` may set them."""
UNATTENDED = {"CI": "true", "GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true", "PAGER": "cat"}
"""Variables for commands without a user at the terminal: nothing prompts, opens an editor or pages its
output.
"""


PR_SET_DUMPABLE = 4


def hide_process() -> None:
    """Prevent other processes of this user from reading this process's memory, open files and initial
    environment.

    On Linux, only root can then read /proc/PID/environ or attach with ptrace, and no core dump is written.
    The setting ends with the next exec, so commands that this process starts are ordinary processes. No
    effect on other systems.
    """
    if sys.platform.startswith("linux"):
        import ctypes  # costs 4 ms, which only processes with secrets pay

        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def without_ours(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith(OURS)}


def actor() -> str:
    """Return `user@host` of this process, the name under which its operations are recorded."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
