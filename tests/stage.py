"""An ecosystem in a folder of its own, and the real `coord` on it; whatever was started there is ended by its id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
import yaml

from coordination.settings import Settings
from coordination.wire.connection import Profile, connect
from coordination.wire.daemon import Daemon, Record, start_time
from coordination.wire.embedded import EmbeddedServer

COORD = Path(sys.executable).with_name("coord")
PLAN = "PLAN-001"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Stage:
    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "ecosystem.yaml"

    @property
    def state(self) -> Path:
        return self.folder / ".coord"

    @property
    def ledger(self) -> list[str]:
        """What todos appended to `$LEDGER`, a file outside of every repository."""
        path = self.folder / "ledger"
        return path.read_text().splitlines() if path.exists() else []

    def repo(self, name: str) -> Path:
        """A git repository with one commit."""
        path = self.folder / name
        git(path.parent, "init", "-q", "-b", "main", str(path))
        (path / "README").write_text(f"{name}\n")
        git(path, "add", "README")
        git(path, "commit", "-q", "-m", "first")
        return path

    def write(
        self, todos: Sequence[Mapping[str, Any]], *, repos: Sequence[str] = (), plan: Mapping[str, Any] | None = None
    ):
        """The file, with one plan of these todos; each gets what it does not say. Repositories are made as needed."""
        names = list(dict.fromkeys([*repos, *(todo["repo"] for todo in todos)]))
        for name in names:
            if not (self.folder / name).exists():
                self.repo(name)
        rows = [{"task": f"do {t['id']}", "plan": PLAN, "action": "true", **t} for t in todos]
        for row in rows:
            row["env"] = {"LEDGER": str(self.folder / "ledger"), **row.get("env", {})}
        document = {
            "settings": {"retry_attempts": 1, **self.settings},
            "repos": [{"name": name, "path": name} for name in names],
            "coordination": {"plans": [{"id": PLAN, "title": "a plan", **(plan or {})}], "todos": rows},
        }
        self.file.write_text(yaml.safe_dump(document, sort_keys=False))

    def begin(self, *words: str, command: Sequence[str | Path] = (COORD,), **env: str) -> subprocess.Popen[str]:
        """A process of ours: its output goes to a file, so that it never waits for a reader."""
        log = (self.folder / f"process-{len(self.started)}.log").open("w")
        process = subprocess.Popen(
            [*command, *words], cwd=self.folder, env=plain(env), stdout=log, stderr=log, text=True
        )
        self.started.append(process)
        return process

    def coord(self, *words: str, timeout: float = 90, **env: str) -> Done:
        done = subprocess.run(
            [COORD, *words],
            cwd=self.folder,
            env=plain(env),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str, **env: str) -> Done:
        done = self.coord(*words, **env)
        assert done.code == 0, f"coord {' '.join(words)}: exit {done.code}\n{done.out}\n{done.err}"
        return done

    def run(self, run: str = "last") -> dict[str, Any]:
        found: dict[str, Any] = self.ok("show-run", run, "--json").json
        return found

    def todo(self, name: str, run: str = "last") -> dict[str, Any]:
        return next(t for t in self.run(run)["todos"] if t["id"] == name)

    def daemon(self, name: str) -> Record:
        record = Daemon(self.state, name).running()
        assert record is not None, f"the {name} does not run"
        return record

    def redis(self) -> redis.Redis:
        return connect(EmbeddedServer(self.state, Settings()).start(), Profile.COMMAND)

    def kill(self, name: str) -> int:
        """SIGKILL to the server or the worker that was started here; returns its pid."""
        record = self.daemon(name)
        os.kill(record.pid, signal.SIGKILL)
        return record.pid

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
        for name in ("worker", "flower"):
            record = Daemon(self.state, name).running() if self.state.exists() else None
            if record and start_time(record.pid) == record.started:
                os.kill(record.pid, signal.SIGKILL)
        if self.state.exists():
            EmbeddedServer(self.state, Settings()).stop()  # by its record; it takes its socket along


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@localhost")
    done = subprocess.run(["git", *identity, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def plain(env: Mapping[str, str]) -> dict[str, str]:
    """Our environment without settings of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COORD_")} | dict(env)
