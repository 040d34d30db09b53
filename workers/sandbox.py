"""Put the commands of todos into their sandboxes.

`Sandboxes` knows the machine, and whether bubblewrap works; `Confinement` is the sandbox of one attempt. The
decisions are in `coordination/sandbox.py`.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import coordination
from coordination.agent_programs import BY_NAME, LOGIN_VARIABLES, PROGRAM_FACTS, package_folders
from coordination.files import expanded
from coordination.models import SECRET, Action, Agent, Repo, Service, Todo
from coordination.sandbox import (
    LINKED,
    PRIVATE,
    SYSTEM,
    TEMPORARY,
    Binds,
    Bounds,
    HostFacts,
    NoSandbox,
    Probed,
    View,
    argv,
    decide,
    hidden_names,
    probe,
)
from coordination.sandbox_limits import SandboxLimits
from coordination.services.confined import ServiceSandbox
from coordination.settings import Settings
from workers.process.trouble import describe_os_error
from workers.workspace.base import InPlace
from workers.workspace.files import remove_tree, scratch

logger = logging.getLogger(__name__)
PROBED_FOR_S = 60.0
"""How long a result of trying bubblewrap counts."""
PERSONAL = (".gitconfig", ".config/git/config", ".config/git/ignore", ".config/git/attributes")
"""Files of the home folder that commands may read: without them git knows no author."""


MOST_COPIED_BYTES, MOST_COPIED = 64 * 1024 * 1024, 10_000
"""Limits of what a sandbox copies from the home folder."""


@dataclass(frozen=True, kw_only=True)
class Confined:
    """A command as it is started."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    limits: SandboxLimits | None = None


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """The sandbox of the commands of one attempt."""

    program: str
    machine: HostFacts
    bounds: Bounds
    binds: Binds
    """The files that its commands see in addition to the workspace."""
    home: Path | None
    copied: tuple[Path, ...]
    """Files and folders of the home folder of which its commands get copies."""
    dropped: frozenset[str]
    """Variables of the worker that its commands do not get."""
    inside: frozenset[str]
    """Variables of the todo, which only exist in the sandbox: the dynamic linker of a program that runs
    outside, such as bubblewrap, would obey LD_PRELOAD.
    """
    state: Path
    login: frozenset[str] = frozenset()
    """Variables with logins that its commands get, because they are those of an agent."""

    @property
    def without_login(self) -> Confinement:
        """Return the sandbox without the files and variables with which an agent logs in."""
        return replace(self, copied=(), dropped=self.dropped | self.login, login=frozenset())

    def _shown_again(self, binds: Binds, copies: Path) -> tuple[tuple[Path, Path], ...]:
        """Return the copies of a login and settings that a folder with sessions would hide, and their places.
        A program writes into that folder: a link at their place there, which the sandbox would follow, goes.
        """
        found = []
        for folder, place in binds.placed if self.home else ():
            for file in (one for one in self.copied if one.parent == place):
                copy = copies / file.relative_to(self.home or place)
                if copy.exists():
                    if (folder / file.name).is_symlink():
                        (folder / file.name).unlink(missing_ok=True)
                    found.append((copy, file))
        return tuple(found)

    @contextmanager
    def around(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
        binds: Binds,
        alias: Path | None = None,
    ) -> Iterator[Confined]:
        """Yield the command in its sandbox, whose private folders exist within the block. `alias`: see View.

        Raises WorkspaceUnusable.
        """
        with scratch(self.state) as private:
            for name in PRIVATE:
                (private / name).mkdir()
            if self.home is not None:
                with describe_os_error(private):
                    _copy(self.copied, self.home, private / "home")
            view = View(
                machine=self.machine,
                private=private,
                home=self.home,
                network=self.bounds.network,
                cwd=cwd,
                binds=self.binds + binds + Binds(placed=self._shown_again(binds, private / "home")),
                alias=alias,
            )
            kept = {name: value for name, value in environment.items() if name not in self.dropped}
            own = {name: "/tmp" for name in TEMPORARY if name in kept}  # noqa: S108
            home = {} if self.home else {"HOME": "/tmp"}  # noqa: S108
            whole = kept | own | home
            inside = {name: value for name, value in whole.items() if name in self.inside}
            try:
                yield Confined(
                    argv=argv(self.program, view, command, inside),
                    environment={name: value for name, value in whole.items() if name not in inside},
                    limits=SandboxLimits(self.bounds.memory, self.bounds.processes),
                )
            finally:
                with suppress(OSError):
                    remove_tree(private)


@dataclass(frozen=True, kw_only=True)
class _FilesOfAgent:
    readable: tuple[Path, ...] = ()
    copied: tuple[Path, ...] = ()


NO_FILES = _FilesOfAgent()
REDIRECTING = frozenset({"PATH", "HOME"})
"""Variables that decide which program a shell starts."""


class Sandboxes:
    """The sandboxes of one worker."""

    def __init__(self, settings: Settings, state: Path, environ: Mapping[str, str] = os.environ) -> None:
        self._settings = settings
        self._state = state
        self._environ = environ
        self._probed: Probed | None = None
        self._probed_at = 0.0

    def of(
        self,
        todo: Todo,
        repo: Repo,
        action: Action | None,
        agent: Agent | None,
        checkout: Path,
        *,
        demanded: bool = False,
    ) -> tuple[Confinement | None, str]:
        """Return the sandbox of an attempt, None without one, and a line for its log.

        `action`: the action or compensation to execute; `agent`: the one that executes it, if one does;
        `checkout`: that of its repository; `demanded`: by the role of the person who ordered it.
        Raises NoSandbox where one is demanded, and this machine has none.
        """
        decision = decide(todo, repo, action, self._settings, demanded=demanded)
        if decision.bounds is None:
            return None, ""
        probed = self._probe()
        if decision.required:
            probed.required(todo.id)
        elif not probed.works:
            return None, f"this agent runs without a sandbox: {probed.why_not}"
        imposed = demanded or self._settings.sandbox == "require"
        files, line = NO_FILES, ""
        if agent is not None:
            words = _words(agent)
            line = self._why_no_login(words, checkout, redirected=REDIRECTING & todo.env.keys())
            files = self._of_agent(words, follows=not imposed, has_login=not line)
        login = self._login(agent) - todo.env.keys() if agent else frozenset[str]()
        hidden = hidden_names(self._environ)
        confinement = Confinement(
            program=probed.program,
            machine=self._machine,
            bounds=decision.bounds,
            binds=self._tools + Binds(readable=files.readable),
            home=self._home,
            copied=files.copied,
            dropped=hidden - todo.env.keys() - login,
            login=login & hidden,
            # a command line can be read by all users of the machine, an environment cannot
            inside=frozenset(name for name in todo.env if not SECRET.search(name)),
            state=self._state,
        )
        return confinement, line

    def _login(self, agent: Agent) -> frozenset[str]:
        """Return the variables that log an agent in: of programs that are known only its own."""
        facts = PROGRAM_FACTS.get(agent.kind)
        of_others = frozenset(LOGIN_VARIABLES) - frozenset(facts.login) if facts else frozenset[str]()
        return frozenset(self._settings.sandbox_variables) - of_others

    def of_service(
        self, service: Service, todo: Todo, repo: Repo, checkout: Path, *, demanded: bool
    ) -> ServiceSandbox | None:
        """Return the sandbox in which a service and the command of its probe run; None without one.

        `todo`: starts it. Raises NoSandbox, GitRefused where it cannot be confined.
        """
        decision = decide(todo, repo, todo.action, self._settings, demanded=demanded)
        if decision.bounds is None:
            return None
        name = f"service {service.name}"
        if service.unit is not None:
            raise NoSandbox(
                f"{name} must run in a sandbox, and systemd starts its unit outside of every sandbox",
                "give it a `command` instead of `unit`; or let somebody start it who needs no sandbox",
            )
        if (service.probe.tcp or service.probe.http) and not decision.bounds.network:
            raise NoSandbox(
                f"{name} runs in a sandbox without network, which its probe needs",
                f"remove `network: false` from the sandbox of {repo.name}, or use another probe",
            )
        if service.probe.file is not None:
            raise NoSandbox(
                f"{name} runs in a sandbox, in which it cannot write the file of its probe",
                "use a command as its probe: it sees the home folder and /tmp of the service",
            )
        InPlace(state=self._state, path=checkout).refuse_more_than_the_repository()
        self._probe().required(name)
        # Whatever it wrote there could be executed by others: a Makefile, the settings of a new repository.
        binds = self._tools + Binds(readable=(checkout.absolute(),))
        return ServiceSandbox(bounds=decision.bounds, binds=binds, home=self._home)

    def _probe(self) -> Probed:
        now = time.monotonic()
        if self._probed is None or now - self._probed_at > PROBED_FOR_S:
            self._probed, self._probed_at = probe(), now
        return self._probed

    @cached_property
    def _machine(self) -> HostFacts:
        return HostFacts.look()

    @cached_property
    def _home(self) -> Path | None:
        named = self._environ.get("HOME", "")
        return Path(named) if named.startswith("/") and os.path.normpath(named) != "/" else None

    @cached_property
    def _tools(self) -> Binds:
        """Python, coord, the folders of PATH, and the paths that the settings name."""
        ours = (Path(package).parent for package in (coordination.__file__, __file__))
        search = self._environ.get("PATH", "").split(os.pathsep)
        programs = (_tool_folder(Path(folder)) for folder in search if folder.startswith("/"))
        personal = (self._home / name for name in PERSONAL) if self._home else ()
        tools = (*_outside_system((Path(sys.prefix), Path(sys.base_prefix), *ours, *programs)), *personal)
        return Binds(
            readable=_outermost(
                (*(tool for tool in tools if self._is_narrow(tool)), *self._named("readable"))
            ),
            writable=_existing(self._named("writable")),
        )

    def _is_narrow(self, folder: Path) -> bool:
        """Return whether the folder contains neither the home folder nor this worker's state."""
        keep = [place for place in (self._home, self._state.absolute()) if place]
        return not any(place.is_relative_to(folder) for place in keep)

    def _named(self, which: str) -> Iterable[Path]:
        return (expanded(name) for name in getattr(self._settings, f"sandbox_{which}"))

    def _to_show(self, script: Path) -> Path:
        """Return the path at which a sandbox has to show a script: nothing can be shown over a link in a
        folder that it shows anyway.
        """
        is_shown = any(folder in script.parents for folder in self._tools.readable)
        return script.resolve() if is_shown else script

    def _why_no_login(self, words: Sequence[str], checkout: Path, *, redirected: Collection[str]) -> str:
        """Return why a program with the name of an agent is not that of the user, who has logged in with it;
        empty if it is, or has another name. `redirected`: variables of the todo that say where it is.
        """
        program = _program(words)
        if Path(program).name not in BY_NAME:
            return ""
        place = re.sub(r"^(~|\$HOME|\$\{HOME\})/", f"{self._home or ''}/", program)
        found = shutil.which(place, path=self._environ.get("PATH", os.defpath))
        set_by_command = any(word.partition("=")[0] in REDIRECTING for word in words)
        by_variable = not program.startswith("/") and bool(redirected or set_by_command)
        is_relative = "/" in place and not place.startswith("/")
        folders = (checkout.resolve(), self._state.resolve())
        if not (by_variable or is_relative) and (found is None or _is_outside(Path(found), folders)):
            return ""
        return (
            f"{program} gets no login: it may come from the repository, and need not be the program of the "
            f"worker's user; let its command say {Path(program).name}, and let the todo set no PATH or HOME"
        )

    def _of_agent(self, words: Sequence[str], *, follows: bool, has_login: bool) -> _FilesOfAgent:
        """Return the files of a known agent; with `follows`, also the files that the command names.

        The setting sandbox_writable names those of others. The command comes with the run and could name any
        file, so nothing follows it where the worker or the role of the person who ordered it demands the
        sandbox.
        """
        own = BY_NAME.get(Path(_program(words)).name) if self._home and has_login else None
        home = self._home or Path("/")
        named = (Path(word) for word in words if follows and word.startswith("/"))
        scripts = [*(self._to_show(script) for script in named if script.is_file()), *self._packages(words)]
        return _FilesOfAgent(
            readable=_existing(
                (*(home / name for name in (own.shown if own else ())), *_outside_system(scripts))
            ),
            copied=_existing(home / name for name in (own.copied if own else ())),
        )

    def _packages(self, words: Sequence[str]) -> Iterator[Path]:
        """Yield the folders that a program of PATH needs beside its own: npm, nvm and uv put links there."""
        name = _program(words)
        found = shutil.which(name, path=self._environ.get("PATH", os.defpath)) if "/" not in name else None
        if found is not None:
            yield from (folder for folder in package_folders(Path(found)) if self._is_narrow(folder))


def _words(agent: Agent) -> Sequence[str]:
    command = agent.command or (PROGRAM_FACTS[agent.kind].name,)
    try:
        return shlex.split(command) if isinstance(command, str) else command
    except ValueError:  # unbalanced quotes: the shell will say so
        return ()


def _program(words: Sequence[str]) -> str:
    return next((word for word in words if "=" not in word), "")


def _is_outside(program: Path, folders: Iterable[Path]) -> bool:
    """Return whether neither a program nor the file that it leads to is in one of the folders."""
    places = (Path(os.path.normpath(program)), program.resolve())
    return program.is_absolute() and not any(
        place.is_relative_to(folder) for place in places for folder in folders
    )


def _copy(sources: Iterable[Path], home: Path, target: Path) -> None:
    """Copy files and folders of a home folder to the same places in another one, as far as the limits allow.
    Raises OSError.
    """
    count = size = 0
    for file in (file for source in sources for file in _files_of(source)):
        with suppress(FileNotFoundError, PermissionError):
            found = file.stat()
            count, size = count + 1, size + found.st_size
            if count > MOST_COPIED or size > MOST_COPIED_BYTES:
                logger.warning("%s: not all files of the agent fit into the copy for its sandbox", home)
                return
            place = target / file.relative_to(home)
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copyfile(file, place)
            place.chmod(found.st_mode & 0o700)


def _files_of(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
    for folder, _, names in os.walk(source):
        yield from (file for name in names if (file := Path(folder, name)).is_file())


def _tool_folder(folder: Path) -> Path:
    """Return the folder that the programs of `folder` need: version managers link to files next to it."""
    return folder.parent if folder.name == "shims" else folder


def _outside_system(folders: Iterable[Path]) -> Iterator[Path]:
    """Yield the folders outside of those that every sandbox shows."""
    for folder in folders:
        if not any(folder.is_relative_to(system) for system in (*SYSTEM, *LINKED)):
            yield folder


def _outermost(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Return the existing paths, without those that lie in another one: each costs 0.4 ms."""
    existing = _existing(paths)
    return tuple(path for path in existing if not any(other in path.parents for other in existing))


def _existing(paths: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(path for path in dict.fromkeys(paths) if path.is_absolute() and path.exists())
