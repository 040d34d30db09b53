"""An ecosystem in a folder of its own: git repositories, ecosystem.yaml, and the `coord` command that works there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from coordination.settings import Settings
from coordination.wire.daemon import Daemon, Record
from coordination.wire.embedded import EmbeddedServer
from tests.waiting import until

COORD = Path(sys.executable).with_name("coord")
PLAN = "PLAN-001"
IDENTITY = ("-c", "user.name=Tess Ter", "-c", "user.email=tess@example.org", "-c", "commit.gpgSign=false")
Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def states(self) -> dict[str, str]:
        """Todo → state, of a run printed as JSON."""
        return {todo["id"]: todo["state"] for todo in self.data["todos"]}

    def todo(self, name: str) -> Any:
        return next(todo for todo in self.data["todos"] if todo["id"] == name)


class Workplace:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "ecosystem.yaml"
        self.state = folder / ".coord"
        self._begun: list[subprocess.Popen[str]] = []

    def declare(
        self,
        todos: Mapping[str, Fields] | None = None,
        *,
        repos: Mapping[str, Fields] | None = None,
        plan: Fields | None = None,
        **settings: Any,
    ) -> None:
        """Write the file. Each todo names its `repo` and `action`; a repo that is not given is made, with one commit."""
        todos, repos = todos or {}, dict(repos or {})
        for name in dict.fromkeys(todo["repo"] for todo in todos.values()):
            repos.setdefault(name, {})
        for name, fields in repos.items():
            if "path" not in fields and not (self.folder / name).exists():
                self.repository(name)
        data = {
            "settings": {"retry_attempts": 1, **settings},
            "repos": [{"name": name, "path": name, **fields} for name, fields in repos.items()],
            "coordination": {
                "plans": [{"id": PLAN, "title": "A plan", "on_failure": "continue", **(plan or {})}],
                "todos": [{"id": name, "task": f"do {name}", "plan": PLAN, **fields} for name, fields in todos.items()],
            },
        }
        self.file.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True))

    def repository(self, name: str, **files: str) -> Path:
        """A git repository with one commit."""
        path = self.folder / name
        path.mkdir()
        git(path, "init", "-q", "-b", "main")
        for file, text in {"README": f"{name}\n", **files}.items():
            (path / file).write_text(text)
        git(path, "add", "--all")
        git(path, *IDENTITY, "commit", "-q", "-m", "As it was")
        return path

    def coord(
        self,
        *words: str,
        cwd: Path | None = None,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Answer:
        process = self.begin(*words, cwd=cwd, env=env, stdin=subprocess.DEVNULL if input is None else subprocess.PIPE)
        out, err = process.communicate(input, timeout=timeout)
        return Answer(process.returncode, out, err)

    def sweep(self, *words: str, **how: Any) -> Answer:
        """A sweep of the plan, with the run as data."""
        return self.coord("sweep", PLAN, "--json", *words, **how)

    def begin(self, *words: str, env: Mapping[str, str] | None = None, **how: Any) -> subprocess.Popen[str]:
        """A command that is still running when we get it; it is ended with the workplace."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        pipes |= {name: value for name, value in how.items() if value is not None}
        pipes.setdefault("cwd", self.folder)
        process = subprocess.Popen(
            [COORD, *words], env=self.environment(env), text=True, errors="surrogateescape", **pipes
        )
        self._begun.append(process)
        return process

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Ours, without what would make coord work elsewhere."""
        return {name: value for name, value in os.environ.items() if not name.startswith("COORD_")} | dict(more or {})

    def up(self) -> None:
        """Processes that stay for several commands: each then starts in half the time."""
        answer = self.coord("up", "--detach", "--no-flower")
        assert answer.code == 0, answer.err

    @property
    def server(self) -> EmbeddedServer:
        return EmbeddedServer(self.state, Settings())

    def running(self, name: str) -> Record:
        """The `server` or `worker` of this workplace."""
        record = Daemon(self.state, name).running()
        assert record, f"the {name} does not run"
        return record

    def log_of(self, run_id: str, todo: str) -> bytes:
        """What a todo wrote, as the worker's machine keeps it."""
        return (self.state / "logs" / run_id / f"{todo}.log").read_bytes()

    def end(self) -> None:
        """End by id whatever was started here; fails if anything of it had outlived its end."""
        for process in self._begun:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for name in ("worker", "server"):  # `coord down` would take a second, and is tried where it is the matter
            if record := Daemon(self.state, name).running():
                os.kill(record.pid, signal.SIGKILL)
        try:
            until(lambda: not list(self.alive()), 5)
        finally:
            for pid in self.alive():
                os.kill(pid, signal.SIGKILL)

    def alive(self) -> Iterable[int]:
        """Every process that works in this folder, or was started with a path in it."""
        mark = os.fsencode(self.folder) + b"/"
        for process in Path("/proc").glob("[0-9]*"):
            try:
                traces = os.fsencode((process / "cwd").readlink()) + b"/\0" + (process / "cmdline").read_bytes()
            except OSError:  # it ended, or is somebody else's
                continue
            if mark in traces and int(process.name) != os.getpid():
                yield int(process.name)


def git(path: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=path, capture_output=True, text=True, check=True)
    return done.stdout.strip()
