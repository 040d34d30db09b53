"""Sandboxes for the commands of todos: which one applies to a todo, and the command line of bubblewrap.

`decide` takes a todo, its repository and the settings of the worker; `probe` tries whether bubblewrap works.

A command sees the machine's programs, the worktree and the files that coord gives to it; everything else of
the file system is absent, not merely protected. Home, /tmp and /dev/shm are empty folders on the disk that
end with the command, so that no memory is used outside of its processes.

Invariants

1. A path that is writable lies in a folder of the todo; `pinned` parts of it stay read-only, and are mount
   points, so that they can be neither replaced nor renamed.
2. No capability is left, also to root, and what root may do without one is read-only (OF_ROOT).
3. The processes are in a pid namespace of their own: the end of bubblewrap ends them all, and no process of
   the machine can be seen or signalled from within.
4. Options of bubblewrap 0.4 (2020) suffice.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coordination.errors import CoordinationError
from coordination.models import SECRET, Action, AgentAction, Repo, Sandbox, SandboxKind, ServiceAction, Todo
from coordination.settings import Settings

SYSTEM = ("/usr", "/etc", "/opt", "/nix", "/gnu", "/snap")
LINKED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Folders that are links into /usr on most systems."""
SECRETS = (
    "/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers", "/etc/krb5.keytab",
)  # fmt: skip
SECRET_FOLDERS = ("/etc/ssl/private", "/etc/sudoers.d", "/etc/coord", "/etc/NetworkManager", "/etc/wireguard")
"""Files and folders of /etc that a worker that runs as root could read without any capability."""
OF_ROOT = (
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/irq",
    "/proc/bus",
    "/proc/fs",
    "/proc/mtrr",
    "/proc/acpi",
)
"""Parts of /proc that root may write without any capability: with core_pattern it would execute a command
outside.
"""
PRIVATE = ("tmp", "home", "shm", "empty")
UNREACHABLE = ("SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "GPG_AGENT_INFO", "DOCKER_HOST", "XAUTHORITY")
TEMPORARY = ("TMPDIR", "TMP", "TEMP")
NO_VARIABLES: Mapping[str, str] = {}


class NoSandbox(CoordinationError):
    """A todo must run in a sandbox, and this machine has none."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The sandbox of one command. 0 means no limit."""

    network: bool
    memory: int
    """Bytes, for all processes of the command together."""
    processes: int


@dataclass(frozen=True, kw_only=True)
class Decision:
    bounds: Bounds | None
    """None: the command runs without a sandbox."""
    required: bool = False
    """True if the command must run in the sandbox; False if that is a default, for where bubblewrap works."""


def decide(
    todo: Todo, repo: Repo, action: Action | None, settings: Settings, *, demanded: bool = False
) -> Decision:
    """Return the sandbox of a command: that of the todo, else of its repository, else of the settings.

    `action`: the action or compensation that is executed. Other limits are those of the settings.
    `demanded`: the role of the person who ordered it demands a sandbox.
    """
    agent = action is None or isinstance(action, AgentAction)
    declared = [rules for rules in (todo.sandbox, repo.sandbox) if rules is not None]
    kind = next((rules.kind for rules in declared if "kind" in rules.model_fields_set), None)
    if kind is None and declared:  # a mapping with limits only
        kind = SandboxKind.BUBBLEWRAP
    demanded = demanded or settings.sandbox == "require"
    required = demanded or kind is SandboxKind.BUBBLEWRAP or settings.sandbox == "bubblewrap"
    if kind is SandboxKind.OFF and not demanded:
        return Decision(bounds=None)
    if not required and not (settings.sandbox == "auto" and agent):
        return Decision(bounds=None)
    online = agent or isinstance(action, ServiceAction)
    return Decision(bounds=_bounds(declared, settings, online=online), required=required)


def hidden_names(environ: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Return the variables that a sandbox does not show: secrets, and paths to what it cannot reach."""
    return frozenset(
        name
        for name in environ
        if not name.startswith(("COORD_", "GIT_CONFIG_"))
        and (SECRET.search(name) or name in UNREACHABLE or name.startswith("XDG_"))
    )


def _bounds(declared: list[Sandbox], settings: Settings, *, online: bool) -> Bounds:
    """Return the limits. `online`: the command has the network unless that is declared otherwise."""
    network = next((rules.network for rules in declared if rules.network is not None), online)
    memory = next((rules.memory for rules in declared if rules.memory is not None), settings.sandbox_memory)
    processes = next(
        (rules.processes for rules in declared if rules.processes is not None), settings.sandbox_processes
    )
    return Bounds(network=network, memory=memory, processes=processes)


@dataclass(frozen=True, kw_only=True)
class Binds:
    """Paths of the machine that a sandbox shows at the same place. Later ones lie over earlier ones."""

    readable: tuple[Path, ...] = ()
    writable: tuple[Path, ...] = ()
    placed: tuple[tuple[Path, Path], ...] = ()
    """Writable folders that are shown at another place: folder and place."""
    pinned: tuple[Path, ...] = ()
    """Parts of the writable folders that stay read-only."""

    def __add__(self, other: Binds) -> Binds:
        return Binds(
            readable=self.readable + other.readable,
            writable=self.writable + other.writable,
            placed=self.placed + other.placed,
            pinned=self.pinned + other.pinned,
        )


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """Facts of the machine that decide the command line."""

    system: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    """Target and name of the links at the root."""
    hidden_files: tuple[str, ...] = ()
    hidden_folders: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    resolver: str = ""
    """The file that /etc/resolv.conf leads to outside of /etc; empty if none."""

    @classmethod
    def look(cls) -> HostFacts:
        """Return the facts of this machine."""
        linked = [name for name in LINKED if Path(name).is_symlink()]
        folders = [name for name in (*SYSTEM, *LINKED) if name not in linked and Path(name).is_dir()]
        resolver = os.path.realpath("/etc/resolv.conf")
        return cls(
            system=tuple(folders),
            links=tuple((str(Path(name).readlink()), name) for name in linked),
            hidden_files=tuple(name for name in _secrets() if os.access(name, os.R_OK)),
            hidden_folders=tuple(name for name in SECRET_FOLDERS if os.access(name, os.R_OK)),
            read_only=tuple(name for name in OF_ROOT if Path(name).exists()) if os.geteuid() == 0 else (),
            resolver="" if resolver.startswith("/etc/") or not Path(resolver).is_file() else resolver,
        )


def _secrets() -> Iterator[str]:
    yield from SECRETS
    yield from (str(key) for key in sorted(Path("/etc/ssh").glob("ssh_host_*_key")))


@dataclass(frozen=True, kw_only=True)
class View:
    """The files and the network that one command sees."""

    machine: HostFacts
    private: Path
    """Folder with the empty folders of PRIVATE, made for this command."""
    home: Path | None
    """Its home folder; None if it has none."""
    network: bool
    cwd: Path
    binds: Binds = field(default_factory=Binds)
    alias: Path | None = None
    """Another place at which it sees its working folder, and where it starts; None: only at its own."""


def argv(
    program: str, view: View, command: Sequence[str], variables: Mapping[str, str] = NO_VARIABLES
) -> list[str]:
    """Return the command line that executes `command` in a sandbox with this view. `variables` are set
    within.
    """
    own = [word for name, value in variables.items() for word in ("--setenv", name, value)]
    return [program, *_options(view), *own, "--chdir", str(view.alias or view.cwd), "--", *command]


def _options(view: View) -> Iterator[str]:
    yield from ("--unshare-user", "--unshare-pid", "--unshare-ipc", "--die-with-parent", "--cap-drop", "ALL")
    if not view.network:
        yield "--unshare-net"
    yield from _machine(view.machine, network=view.network)
    yield from ("--proc", "/proc", "--dev", "/dev", "--bind", str(view.private / "shm"), "/dev/shm")  # noqa: S108
    yield from ("--remount-ro", "/dev")
    yield from _binds("--ro-bind", view.machine.read_only)
    yield from ("--bind", str(view.private / "tmp"), "/tmp")  # noqa: S108
    if view.home is not None:
        yield from ("--bind", str(view.private / "home"), str(view.home))
    yield from _binds("--ro-bind", view.binds.readable)
    yield from _binds("--bind", view.binds.writable)
    for folder, place in view.binds.placed:
        yield from ("--bind", str(folder), str(place))
    yield from _binds("--ro-bind", view.binds.pinned)
    if view.alias is not None:
        yield from ("--bind", str(view.cwd), str(view.alias))
        for pinned in (path for path in view.binds.pinned if path.is_relative_to(view.cwd)):
            yield from ("--ro-bind", str(pinned), str(view.alias / pinned.relative_to(view.cwd)))
    yield from ("--remount-ro", "/")


def _machine(machine: HostFacts, *, network: bool) -> Iterator[str]:
    yield from _binds("--ro-bind", machine.system)
    for target, name in machine.links:
        yield from ("--symlink", target, name)
    for file in machine.hidden_files:
        yield from ("--ro-bind", "/dev/null", file)
    for folder in machine.hidden_folders:
        yield from ("--tmpfs", folder, "--remount-ro", folder)
    if network and machine.resolver:
        yield from _binds("--ro-bind", (machine.resolver,))


def _binds(option: str, paths: Iterable[Path | str]) -> Iterator[str]:
    for path in dict.fromkeys(map(str, paths)):
        yield from (option, path, path)


PROGRAM = "bwrap"
PATIENCE_S = 20.0
INSTALL = "install bubblewrap (apt install bubblewrap, dnf install bubblewrap)"
FORBIDDEN = (
    "allow user namespaces: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, "
    "kernel.apparmor_restrict_unprivileged_userns; a container needs a seccomp profile that allows them"
)
SHOWN = 200
"""Characters of bubblewrap's message in an error."""


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

    def required(self, user: str) -> str:
        """Return the program's path. Raises NoSandbox, which names the user: the command that needs it."""
        if self.why_not:
            raise NoSandbox(
                f"{user} must run in a sandbox, and {self.why_not}",
                f"{self.hint}; then see: coord doctor; or run it without one: sandbox: off",
            )
        return self.program


def probe(program: str = PROGRAM) -> Probed:
    """Try bubblewrap with the options that todos get."""
    found = shutil.which(program)
    if found is None:
        return Probed(why_not=f"bubblewrap ({program}) is not in PATH", hint=INSTALL)
    version = _output_of([found, "--version"]).removeprefix("bubblewrap ")
    with tempfile.TemporaryDirectory(prefix="coord-sandbox-") as made:
        folder = Path(made)
        for name in PRIVATE:
            (folder / name).mkdir()
        view = View(machine=HostFacts.look(), private=folder, home=None, network=False, cwd=Path("/"))
        why = _output_of(argv(found, view, ["true"]))
    if not why:
        return Probed(program=found, version=version)
    return Probed(
        program=found, version=version, why_not=f"{found} does not work here: {why[:SHOWN]}", hint=FORBIDDEN
    )


def _output_of(command: list[str]) -> str:
    """Return the output of a command, or how it failed."""
    try:
        ended = subprocess.run(
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
    output = " ".join((ended.stdout + ended.stderr).split())
    return output or (f"exit code {ended.returncode}" if ended.returncode else "")
