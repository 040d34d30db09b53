"""An ecosystem in a temporary folder, with the real `coord` on it; whatever is started there is ended with
the block.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

COORD = Path(sys.executable).with_name("coord")
PLAN = "PLAN-001"
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "bench"), ("EMAIL", "bench@localhost"), ("DATE", "2026-01-01T00:00:00Z"))
}


class Testbed:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "ecosystem.yaml"
        self.state = folder / ".coord"
        self._env = {k: v for k, v in os.environ.items() if not k.startswith(("COORD_", "GIT_"))} | IDENTITY
        self._env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed coord has byte code
        self._env["COORD_JOBS"] = "1000"  # their todos sleep: as many at once as there are repositories

    def plant(self, repos: Sequence[str]) -> None:
        """A git repository of one commit for each name."""
        for name in repos:
            path = self.folder / name
            path.mkdir()
            (path / "README").write_text(f"{name}\n")
            for words in (
                ("init", "--quiet", "--initial-branch", "main"),
                ("add", "README"),
                ("commit", "-qm", name),
            ):
                subprocess.run(["git", *words], cwd=path, env=self._env, check=True)

    def declare(
        self,
        repos: Sequence[str],
        todos: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the file anew, with all todos open again."""
        document = {
            "settings": dict(settings or {}),
            "repos": [{"name": name, "path": name} for name in repos],
            "coordination": {
                "plans": [{"id": PLAN, "title": "a benchmark"}],
                "todos": [{"plan": PLAN, **todo} for todo in todos],
            },
        }
        self.file.write_text(yaml.safe_dump(document, sort_keys=False))

    def coord(self, *words: str) -> str:
        """Return the output of `coord`."""
        return self.run([str(COORD), *words])

    def run(self, argv: Sequence[str]) -> str:
        """Return the output of a command; if it fails, end the benchmark with the command's own message."""
        done = subprocess.run(
            argv, cwd=self.folder, env=self._env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(argv)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def ask(self, *words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.coord(*words, "--json"))
        return found


@contextmanager
def testbed() -> Iterator[Testbed]:
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as folder:
        made = Testbed(Path(folder))
        try:
            yield made
        finally:
            if made.file.exists():
                made.coord("down")
