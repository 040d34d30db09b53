"""The environment of the commands that coord runs for others: the user's own, without the variables of coord and Celery.

A todo, a git hook, a check runs code of a repository. The environment of the process that starts it may hold the password of
Redis, the token of the MCP server and the login of Flower: whoever has the first makes every worker run what it likes.
"""

from __future__ import annotations

import getpass
import socket
import sys
from collections.abc import Mapping

OURS = ("COORD_", "CELERY_", "_MP_FORK_")
"""The first parts of names that no command gets, unless a todo's own variables say so."""
UNATTENDED = {"CI": "true", "GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true", "PAGER": "cat"}
"""Nobody sits before a todo: what would ask, open an editor or page its output goes on instead."""


PR_SET_DUMPABLE = 4


def hide_process() -> None:
    """Let no other process of this user read our memory, our open files, or the environment that we were started with.

    Linux keeps /proc/PID/environ and ptrace from all but root then; there is no core dump either. It holds until the next exec, so a
    command that we start is an ordinary process again. Elsewhere this does nothing.
    """
    if sys.platform.startswith("linux"):
        import ctypes  # 4 ms, which only those pay who have something to hide

        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def without_ours(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith(OURS)}


def actor() -> str:
    """Return `user@host` of this process: the name under which it asks for something."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
