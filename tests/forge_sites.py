"""An ecosystem whose repositories are at a test forge, with a swept plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.forge.records import Project, Request
from tests.forge.server import TestForge
from tests.testbed import PLAN, Begun, Done, Testbed, git
from tests.waiting import until

BRANCH = f"coord/{PLAN}"
LANDING = f"land:{PLAN}"


@dataclass(frozen=True, kw_only=True)
class Site:
    testbed: Testbed
    forge: TestForge
    projects: Mapping[str, Project]
    token: str

    @property
    def names(self) -> Sequence[str]:
        return tuple(self.projects)

    def land(self, *words: str) -> Done:
        return self.testbed.coord("land", PLAN, "--yes", "--json", *words, timeout=150)

    def begin(self, *words: str) -> Begun:
        return self.testbed.begin("land", PLAN, "--yes", "--json", "--when-ready", *words)

    def requests(self, name: str) -> list[Request]:
        return [one for one in self.projects[name].requests if one.head == BRANCH]

    def request(self, name: str) -> Request:
        """Return the newest request of the plan, as soon as there is one."""
        until(lambda: self.requests(name))
        return self.requests(name)[-1]

    def approve(self, *names: str) -> None:
        for name in names:
            self.forge.approve(self.projects[name], self.request(name).number)

    def waits_for(self, name: str, *words: str) -> str:
        """Return what the landing waits for in a repository, as soon as it has these words."""

        def found() -> str:
            run = self.testbed.run()
            if run["plan_id"] != LANDING:
                return ""
            waits = [
                todo["waits_for"] or ""
                for todo in run["todos"]
                if todo["repo"] == name and todo["wait_reason"] == "request"
            ]
            return next((told for told in waits if all(word in told for word in words)), "")

        return until(found, 90)

    def status(self, name: str, context: str) -> list[str]:
        """Return the states that a status of the request's head has had."""
        head = self.request(name).sha
        return [one.state for one in self.projects[name].checks if (one.sha, one.name) == (head, context)]

    def tip(self, name: str, branch: str = "main") -> str:
        return git(self.forge.path(f"acme/{name}"), "rev-parse", branch)

    def has_work(self, name: str) -> bool:
        return "work" in git(self.forge.path(f"acme/{name}"), "ls-tree", "--name-only", "main").split()

    def landed(self) -> list[bool]:
        return [self.has_work(name) for name in self.names]

    def change(self, name: str) -> Any:
        return next(one for one in self.testbed.ok("changes", PLAN, "--json").json if one["repo"] == name)


def hosted(testbed: Testbed, forge: TestForge, name: str, token: str) -> tuple[Project, dict[str, Any]]:
    """Make a repository at the forge; return the project and the fields of the repository in the file."""
    project = forge.create_project(f"acme/{name}", seed=testbed.repo(name))
    url = forge.url(f"acme/{name}", f"coord:{token}")
    return project, {"url": url, "forge": {"type": forge.dialect.name, "api": forge.api}}


def add_credential(testbed: Testbed, token: str) -> None:
    secret = testbed.folder / "token"
    secret.write_text(token)
    secret.chmod(0o600)
    where = ("--host", "127.0.0.1", "--all")
    testbed.ok("credential", "add", "forge", f"file:{secret}", "--purpose", "pr", *where)


@contextmanager
def site(
    testbed: Testbed,
    folder: Path,
    dialect: str,
    names: Sequence[str],
    *,
    patience: str = "15s",
    budget: int = 1_000_000,
    task: str = "do it",
    services: Sequence[Mapping[str, Any]] = (),
    **land: object,
) -> Iterator[Site]:
    """Yield a swept plan over a chain of repositories. `land`: the rules of its landing; `patience`:
    land_patience; `budget`: forge_budget; `task`: the text of each todo; `services`: those of the file.
    """
    testbed.settings = {"forge_budget": budget, "land_patience": patience, "lease_ttl": "5s"}
    with TestForge(folder, dialect) as forge:
        forge.core.computes_at_once = dialect == "gitlab"
        token = forge.token("coord")
        projects, repos = {}, {}
        for name in names:
            projects[name], repos[name] = hosted(testbed, forge, name, token)
            forge.protect(projects[name], dismiss_stale=False)
        todos = [
            {
                "id": f"T-{name}",
                "repo": name,
                "task": task,
                "action": "echo new > work",
                "blocked_by": [f"T-{before}" for before in names[:number]][-1:],
            }
            for number, name in enumerate(names)
        ]
        testbed.write(todos, repos=repos, plan={"land": land} if land else None, services=services)
        testbed.up()
        swept = testbed.sweep()
        assert swept.code == 0, swept.err
        add_credential(testbed, token)
        yield Site(testbed=testbed, forge=forge, projects=projects, token=token)
        assert forge.violations == []
