"""A testbed: an ecosystem in a folder of its own, and the real `coord` on it. It ends the processes that were
started there, by their ids.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any

import redis
import yaml
from pydantic_core import to_json

from coordination.backend.client import Profile, connect
from coordination.backend.daemon import Daemon, Record, alive
from coordination.backend.embedded import EmbeddedServer
from coordination.backend.keys import Keys
from coordination.errors import CoordinationError
from coordination.runs.views.run_view import RunReader
from coordination.settings import Settings
from tests.fork_client import READ_AT_START, Fork, ForkServer
from tests.waiting import until

COORD = Path(sys.executable).with_name("coord")
PLAN = "PLAN-001"
FORKS = ForkServer()
"""Ended with the session of tests (conftest.py)."""
CHEAP = ("core.fsync=none", "maintenance.auto=false")
"""Settings of git for repositories that no power failure needs to outlive."""
Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Done:
    """Result of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def states(self) -> dict[str, str]:
        """Todo → state, of a run printed as JSON."""
        return {todo["id"]: todo["state"] for todo in self.json["todos"]}

    def todo(self, name: str) -> dict[str, Any]:
        return next(todo for todo in self.json["todos"] if todo["id"] == name)


class Begun:
    """A process of ours. Its output goes to files, so that it never waits for a reader."""

    def __init__(
        self,
        command: Sequence[str | Path],
        start: Callable[..., subprocess.Popen[bytes] | Fork] = subprocess.Popen,
        **how: Any,
    ) -> None:
        self._out, self._err = TemporaryFile(), TemporaryFile()  # noqa: SIM115 (they last as long as we do)
        if start is subprocess.Popen:
            how["stdin"] = subprocess.DEVNULL
        self._process = start(command, stdout=self._out, stderr=self._err, **how)
        self.pid = self._process.pid
        self.poll, self.wait = self._process.poll, self._process.wait
        self.kill, self.terminate = self._process.kill, self._process.terminate
        self.send_signal = self._process.send_signal

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    @property
    def out(self) -> str:
        return _text(self._out)

    @property
    def err(self) -> str:
        return _text(self._err)

    def says(self, words: str) -> str:
        """The first line with these words, as soon as it is there; fails as soon as the process has ended
        without it.
        """

        def line() -> str:
            ended = self.poll() is not None
            whole = (
                line for text in (self.out, self.err) for line in text.splitlines(True) if line.endswith("\n")
            )
            found = next((line for line in whole if words in line), "")
            assert found or not ended, f"exit {self.returncode} without {words!r}:\n{self.out}\n{self.err}"
            return found

        return until(line)

    def done(self, timeout: float = 60) -> Done:
        return Done(self.wait(timeout), self.out, self.err)

    def forget(self) -> None:
        """Close the output of an ended process."""
        self._out.close()
        self._err.close()


@dataclass
class Testbed:
    __test__ = False  # pytest would collect the class for its name

    folder: Path
    settings: Fields = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment of every command here."""
    network: str = ""
    """The network namespace in which commands are carried out; empty for that of the tests."""
    started: list[Begun] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "ecosystem.yaml"

    @property
    def state(self) -> Path:
        return self.folder / ".coord"

    @property
    def server(self) -> EmbeddedServer:
        return EmbeddedServer(self.state, Settings())

    @property
    def ledger(self) -> list[str]:
        """Return the lines that todos appended to `$LEDGER`, a file outside of every repository."""
        path = self.folder / "ledger"
        return path.read_text().splitlines() if path.exists() else []

    def repo(self, name: str, **files: str) -> Path:
        """A git repository with one commit."""
        path = self.folder / name
        git(path.parent, "init", "-q", "-b", "main", str(path))
        for file, text in {"README": f"{name}\n", **files}.items():
            (path / file).write_text(text)
        git(path, "add", "--all")
        git(path, "commit", "-q", "-m", "first")
        return path

    def write(
        self,
        todos: Sequence[Fields] = (),
        *,
        repos: Iterable[str] | Mapping[str, Fields] = (),
        plan: Fields | None = None,
        plans: Sequence[Fields] = (),
        services: Sequence[Fields] = (),
        checks: Sequence[Fields] = (),
    ) -> None:
        """The file, with one plan of these todos, and `plans` beside it; each todo gets what it does not say,
        and goes without what is None.

        Repositories are made as needed, by their names alone or with fields of theirs; one with a `path` (or
        None) is not.
        """
        given = repos if isinstance(repos, Mapping) else {name: {} for name in repos}
        declared = {**given, **{todo["repo"]: given.get(todo["repo"], {}) for todo in todos}}
        for name, fields in declared.items():
            if "path" not in fields and not (self.folder / name).exists():
                self.repo(name)
        document = {
            "settings": {"retry_attempts": 1, "disk_min": 0, **self.settings},
            "repos": [_given({"name": name, "path": name, **fields}) for name, fields in declared.items()],
            "coordination": {
                "plans": [{"id": PLAN, "title": "a plan", **(plan or {})}, *plans],
                "todos": [self._row(todo) for todo in todos],
                "services": list(services),
                "checks": list(checks),
            },
        }
        self.file.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))

    @contextmanager
    def edited(self) -> Iterator[Any]:
        """Yield the document of the file, and write what was changed in it."""
        document = yaml.safe_load(self.file.read_text())
        yield document
        self.file.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))

    def _row(self, todo: Fields) -> Fields:
        env = {"LEDGER": str(self.folder / "ledger"), **todo.get("env", {})}
        return _given({"task": f"do {todo['id']}", "plan": PLAN, "action": "true", **todo, "env": env})

    def begin(
        self, *words: str, command: Sequence[str | Path] = (), cwd: Path | None = None, **env: str
    ) -> Begun:
        """A command that is still running when we get it. With `command`, such as [COORD], an interpreter of
        its own is started for it.
        """
        ours = self._variables(env)
        how: dict[str, Any] = {"cwd": cwd or self.folder, "env": plain(ours)}
        if not command and self.forks(ours):
            process = Begun([COORD, *words], FORKS.begin, network=self.network, **how)
        else:
            process = Begun([*in_network(self.network), *(command or [COORD]), *words], **how)
        self.started.append(process)
        return process

    def begin_script(self, text: str, *words: str, **env: str) -> Begun:
        """A script that uses coord, with arguments: `python -c TEXT` in a fork."""
        command = [sys.executable, "-c", text, *words]
        process = Begun(command, FORKS.begin, cwd=self.folder, env=plain(self._variables(env)))
        self.started.append(process)
        return process

    def _variables(self, env: Mapping[str, str]) -> dict[str, str]:
        return {"XDG_CONFIG_HOME": str(self.folder / "config"), **self.env, **env}

    def forks(self, env: Mapping[str, str]) -> bool:
        """Return whether a fork can carry out a command with these variables."""
        return not any(name.startswith(READ_AT_START) for name in env)

    def coord(self, *words: str, cwd: Path | None = None, timeout: float = 120, **env: str) -> Done:
        """A command, to its end."""
        ours = self._variables(env)
        command, how = (
            [str(COORD), *words],
            {"cwd": cwd or self.folder, "env": plain(ours), "timeout": timeout},
        )
        if self.forks(ours):
            done = FORKS.run(command, network=self.network, **how)
        else:
            done = subprocess.run(
                [*in_network(self.network), *command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                **how,
            )
        return Done(done.returncode, _decoded(done.stdout), _decoded(done.stderr))

    def python(self, text: str, *, cwd: Path | None = None, timeout: float = 120, **env: str) -> Done:
        """A script that uses coord, to its end: `python -c TEXT` in a fork."""
        how: dict[str, Any] = {"cwd": cwd or self.folder, "env": plain(self._variables(env))}
        done = FORKS.run([sys.executable, "-c", text], timeout=timeout, **how)
        return Done(done.returncode, _decoded(done.stdout), _decoded(done.stderr))

    def ok(self, *words: str, **env: str) -> Done:
        done = self.coord(*words, **env)
        assert done.code == 0, (
            f"coord {' '.join(words)}: exit {done.code}\n{done.out}\n{done.err}{self._of_the_worker()}"
        )
        return done

    def _of_the_worker(self) -> str:
        """Return the end of the worker's log and the states of its threads, for the message of a failed test.
        A worker that hangs in the kernel writes nothing any more.
        """
        lines: list[str] = []
        with suppress(OSError):
            lines += ["the worker's log:"]
            lines += (self.state / "worker.log").read_text(errors="replace").splitlines()[-200:]
        record = Daemon(self.state, "worker").running()
        for thread in Path(f"/proc/{record.pid}/task").glob("*") if record else ():
            with suppress(OSError):
                state = (thread / "stat").read_text().rpartition(")")[2].split()[0]
                lines.append(f"thread {thread.name}: {state} {(thread / 'wchan').read_text()}")
        return "\n".join(["", *lines])

    def sweep(self, *words: str) -> Done:
        """A sweep of the plan, with the run as data."""
        return self.coord("sweep", PLAN, "--json", *words)

    def up(self) -> None:
        """Processes that stay for several commands: each then starts in half the time."""
        self.ok("up", "--detach", "--no-flower", "--no-dashboard")

    def shown(self, run: str = "last") -> Done:
        """Return the output of `show-run RUN --json`. If the server of this folder runs, ask it directly:
        tests ask again and again until something has come, and a process for each question would slow down
        the processes under test.
        """
        with suppress(CoordinationError, redis.RedisError):  # then the command says what is wrong
            server = None if self.network or self.env else self.server.running()
            if server is not None:
                return self._read(server.facts["url"], run)
        return self.ok("show-run", run, "--json")

    def _read(self, url: str, run: str) -> Done:
        with connect(url, Profile.COMMAND) as client:
            reader = RunReader(client, Keys(self.settings.get("namespace", Settings().namespace)))
            return Done(0, to_json(reader.read(reader.resolve(run))).decode(), "")

    def run(self, run: str = "last") -> dict[str, Any]:
        found: dict[str, Any] = self.shown(run).json
        return found

    def todo(self, name: str, run: str = "last") -> dict[str, Any]:
        return self.shown(run).todo(name)

    def log_of(self, run_id: str, todo: str) -> bytes:
        """Return the output of a todo, as the worker's machine keeps it."""
        return (self.state / "logs" / run_id / f"{todo}.log").read_bytes()

    def daemon(self, name: str) -> Record:
        """The `server`, `worker`, `flower` or `supervisor` of this folder."""
        record = Daemon(self.state, name).running()
        assert record is not None, f"the {name} does not run"
        return record

    def redis(self) -> redis.Redis:
        """The embedded server, started if need be."""
        return connect(self.server.start(), Profile.COMMAND)

    def kill(self, name: str) -> int:
        """SIGKILL to the server or the worker that was started here, and to what would start it again;
        returns its pid.
        """
        record = self.daemon(name)
        self._kill("supervisor")
        self._kill(name)
        return record.pid

    def end(self) -> None:
        """End by id whatever was started here; fails if anything of it outlives that."""
        for process in self.started:
            process.kill()
            process.wait()
        for name in ("supervisor", "worker", "flower", "dashboard-server"):
            self._kill(name)
        if self.state.exists():
            self.server.stop()  # it takes its socket along
        try:
            until(lambda: not list(self.alive()))
        finally:
            for pid in self.alive():
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(pid, signal.SIGKILL)

    def _kill(self, name: str) -> None:
        if record := Daemon(self.state, name).running():
            with suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGKILL)
            until(lambda: not alive(record))  # before it starts what is killed next

    def alive(self) -> Iterable[int]:
        """Every process that works in this folder, or was started with a path in it."""
        mark = os.fsencode(self.folder) + b"/"
        for process in Path("/proc").glob("[0-9]*"):
            try:
                traces = (process / "cmdline").read_bytes()
                with suppress(PermissionError):  # a worker of this user hides its folder
                    traces += b"\0" + os.fsencode((process / "cwd").readlink()) + b"/"
            except OSError:  # it ended, or is somebody else's
                continue
            if mark in traces and int(process.name) != os.getpid():
                yield int(process.name)


def in_network(name: str) -> Sequence[str]:
    """Return the command that carries out another one in a network namespace."""
    return ("ip", "netns", "exec", name) if name else ()


def _given(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


@contextmanager
def temporary_testbed() -> Iterator[Testbed]:
    """Yield a testbed for a script outside of pytest; its processes and its folder end with it."""
    with TemporaryDirectory(prefix="coord-chaos-", ignore_cleanup_errors=True) as folder:
        testbed = Testbed(Path(folder).resolve())
        try:
            yield testbed
        finally:
            testbed.end()


def git(folder: Path, *words: str) -> str:
    settings = ("user.name=Test", "user.email=test@localhost", "commit.gpgSign=false", *CHEAP)
    identity = [word for setting in settings for word in ("-c", setting)]
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def plain(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of the tests without the settings of their user, and with slots for as many
    todos as a test runs at once.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith("COORD_")}
    return ours | {"COORD_JOBS": "64"} | dict(env or {})


def _text(file: IO[bytes]) -> str:
    """All that is in it; the position is the writer's too, so it stays where it is."""
    return _decoded(os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0))


def _decoded(said: bytes) -> str:
    return said.decode(errors="surrogateescape")
