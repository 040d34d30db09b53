"""Environment variables of coord that are no settings, and those of the commands that coord runs.

A command gets the user's own, without the variables of coord and Celery, and without those of a git that has
started coord: a hook, an alias, `git rebase --exec`. A todo, a git hook or a check runs code of a repository.
The environment of its parent process may hold the password of Redis, the token of the MCP server and the
login of Flower; with the password, that code could make every worker run any command.
"""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from coordination.errors import NotAllowed

ENV_PREFIX = "COORD_"
OURS = (ENV_PREFIX, "CELERY_", "_MP_FORK_")
"""Prefixes of variables that no command inherits; a todo's own `env` may set them."""
UNATTENDED = {"CI": "true", "GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true", "PAGER": "cat"}
"""Variables for commands without a user at the terminal: nothing prompts, opens an editor or pages its
output.
"""


STARTED_BY_GIT = ("GIT_PREFIX", "GIT_DIR", "GIT_INDEX_FILE")
"""Variables that git sets for the programs that it starts: a person sets them for one command at most."""
OF_PEOPLE = (
    "GIT_ALLOW_PROTOCOL", "GIT_ASKPASS", "GIT_ATTR_NOSYSTEM", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM", "GIT_EXEC_PATH", "GIT_HTTP_", "GIT_PROXY_COMMAND", "GIT_SSH", "GIT_SSL_",
    "GIT_TERMINAL_PROMPT", "GIT_TRACE",
)  # fmt: skip
"""Prefixes of the variables of git that say how this machine reaches remotes and where its configuration is.
They stay also where git has started coord, which passes them on and does not set them.
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
        import ctypes  # here, because its import costs 4 ms and only processes with secrets need it

        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def without_ours(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a command: without coord's variables, and without those of a calling git."""
    return {name: value for name, value in without_calling_git(environ).items() if not name.startswith(OURS)}


def without_calling_git(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the variables that a git which has started this process set for its own
    repository and commit: a hook's GIT_AUTHOR_DATE would be the date of all commits that a worker makes, and
    its GIT_INDEX_FILE the index of another repository.
    """
    if not any(name in environ for name in STARTED_BY_GIT):
        return dict(environ)
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith("GIT_") or name.startswith(OF_PEOPLE)
    }


_PERSON: ContextVar[str] = ContextVar("person", default="")


@contextmanager
def acting_for(person: str) -> Iterator[None]:
    """Record the operations of the block under this name, and decide by the rights of this person: a server
    acts for people who have signed in.
    """
    token = _PERSON.set(person)
    try:
        yield
    finally:
        _PERSON.reset(token)


def acted_for() -> str:
    """Return the person for whom a server acts now; empty if this process acts for its own user."""
    return _PERSON.get()


def actor() -> str:
    """Return the name under which operations are recorded: the person for whom a server acts, else
    `user@host` of this process.
    """
    return acted_for() or f"{_user()}@{socket.gethostname()}"


def _user() -> str:
    """Return the name of this process's user; `uid-1234` in a container whose user has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        return f"uid-{os.getuid()}"


def same_person(one: str, other: str) -> bool:
    """Return whether two names of `actor` may stand for one person, such as `ann` (signed in) and
    `ann@laptop`.
    """
    if "@" in one and "@" in other:
        return one == other
    return one.partition("@")[0] == other.partition("@")[0]


def ecosystem_path_from_environment(environ: Mapping[str, str] | None = None) -> str | None:
    return (os.environ if environ is None else environ).get(ENV_PREFIX + "ECOSYSTEM")


LISTENING = ENV_PREFIX + "LISTENING"
"""Variable that names the listening socket which a server inherits, by the number of its descriptor."""


def inherited_socket() -> socket.socket | None:
    """Return the listening socket that the parent process has opened for this server; None without one.
    Programs that this process starts get neither the variable nor the socket, which they would keep open.
    """
    if (descriptor := os.environ.pop(LISTENING, None)) is None:
        return None
    os.set_inheritable(int(descriptor), False)
    return socket.socket(fileno=int(descriptor))


def debug_from_environment(environ: Mapping[str, str] | None = None) -> bool:
    """Return whether errors are shown with tracebacks."""
    return (os.environ if environ is None else environ).get(ENV_PREFIX + "DEBUG", "") not in ("", "0")


def todo_connection_from_environment(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the file through which a worker gives a todo's command access to its context; None outside of a
    todo.
    """
    named = (os.environ if environ is None else environ).get(ENV_PREFIX + "CONNECTION")
    return Path(named) if named else None


def secret_in_environment(environ: Mapping[str, str] | None = None) -> bool:
    """Return whether the environment holds a setting that other users must not read."""
    environ = os.environ if environ is None else environ
    return any(environ.get(ENV_PREFIX + name) for name in ("REDIS_URL", "MCP_TOKEN", "FLOWER_AUTH"))


def in_todo(environ: Mapping[str, str] | None = None) -> bool:
    """Return whether this process belongs to a todo of a run: its command, or a helper of the worker."""
    environ = os.environ if environ is None else environ
    return any(environ.get(ENV_PREFIX + name) for name in ("TODO_ID", "CONNECTION"))


def refuse_in_todo(what: str) -> None:
    """Raise NotAllowed inside a todo, which has access to its context but not to Redis or workers."""
    if in_todo():
        raise NotAllowed(
            f"{what} is not for the command of a todo: it reaches its shared context, "
            "and nothing else of coord",
            "within a todo there is `coord context get|set|list|delete`; "
            "hand values on in the file COORD_OUTPUT",
        )


def cache_folder_from_environment(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the user's cache folder for coord, or None if the environment names no home."""
    return _user_folder("XDG_CACHE_HOME", ".cache", environ)


def config_folder_from_environment(environ: Mapping[str, str] | None = None) -> Path | None:
    """Return the user's configuration folder for coord, or None if the environment names no home."""
    return _user_folder("XDG_CONFIG_HOME", ".config", environ)


def _user_folder(variable: str, default: str, environ: Mapping[str, str] | None) -> Path | None:
    environ = os.environ if environ is None else environ
    folder, home = environ.get(variable, ""), environ.get("HOME", "")
    if folder.startswith("/"):  # the XDG standard says to ignore relative paths
        return Path(folder, "coord")
    return Path(home, default, "coord") if home.startswith("/") else None


DEFAULT_PAGER = "less -FRX"


def pager_from_environment(environ: Mapping[str, str] | None = None) -> list[str]:
    """Return the command of the user's pager: `COORD_PAGER`, else `PAGER`, else `less`.

    Empty: output is not paged, because the variable is empty or names `cat`, or the terminal is `dumb`.
    """
    import shlex  # 3 ms, which only output to a terminal pays

    environ = os.environ if environ is None else environ
    named = environ.get(ENV_PREFIX + "PAGER", environ.get("PAGER", DEFAULT_PAGER))
    try:
        words = shlex.split(named)
    except ValueError:  # an open quote
        return []
    return [] if words in ([], ["cat"]) or environ.get("TERM") == "dumb" else words


def colour_from_environment(environ: Mapping[str, str] | None = None) -> bool | None:
    """Return whether output is coloured (`FORCE_COLOR`) or plain (`NO_COLOR`), as other programs interpret
    these variables.

    None: colours only if the output is a terminal.
    """
    environ = os.environ if environ is None else environ
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False
    return True if environ.get("FORCE_COLOR") else None
