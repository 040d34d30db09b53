"""Measures landings on remotes behind `git http-backend`: `python -m benchmarks.land`.

The attempts of all land todos (first the checks, then the landings, as behind a barrier), without Redis and
Celery, against bare `git push` calls of such commits to twins of the remotes, one after the other. Each
remote has a commit that the checkout lacks, so the first look has something to fetch.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from benchmarks.report import Report, parser, report
from coordination.models import LandAction, LandStep, Method, Repo, Via
from coordination.runs.change_sets.records import RepoChange
from coordination.runs.landed_results import ExpectedResult
from tests.git_server import GitServer
from tests.landing_setup import SeparateTodo
from tests.testbed import git
from workers.cleanup.completed import findings
from workers.landing.carry_out import carry_out
from workers.landing.commits import landing_message, prepare
from workers.landing.records import BaseBranch, BaseTip, Prepared, Pushed
from workers.landing.remote import look, may_push, push
from workers.landing.todo import LandTodo
from workers.outcome import OutcomeKind

FILES = 50
WORKERS = 2
"""Todos at once: the CPUs of the machine that the goal was set on."""


@dataclass
class Took:
    """Seconds of each step, summed over all repositories."""

    steps: dict[str, float] = field(default_factory=dict)

    def time(self, step: str, work: Callable[[], object]) -> object:
        began = time.perf_counter()
        answer = work()
        self.steps[step] = self.steps.get(step, 0) + time.perf_counter() - began
        return answer


@dataclass(frozen=True, kw_only=True)
class Template:
    """A checkout with a change set, a remote with one commit more, and both tips."""

    checkout: Path
    remote: Path
    since: str
    tip: str

    @classmethod
    def make(cls, folder: Path) -> Template:
        checkout, remote = folder / "template", folder / "template.git"
        git(folder, "init", "-q", "-b", "main", str(checkout))
        for number in range(FILES):
            (checkout / f"file{number}").write_text(f"{number}\n" * 100)
        since = _saved(checkout)
        git(folder, "clone", "-q", "--bare", str(checkout), str(remote))
        git(remote, "config", "http.receivepack", "true")
        clone = folder / "theirs"
        git(folder, "clone", "-q", str(remote), str(clone))
        (clone / "file1").write_text("theirs\n")
        _saved(clone)
        git(clone, "push", "-q", "origin", "main")
        git(checkout, "switch", "-q", "-c", "coord/PLAN")
        (checkout / "file2").write_text("ours\n")
        tip = _saved(checkout)
        git(checkout, "switch", "-q", "main")
        return cls(checkout=checkout, remote=remote, since=since, tip=tip)


def _saved(path: Path) -> str:
    git(path, "add", "--all")
    git(path, "commit", "-q", "-m", "work")
    return git(path, "rev-parse", "HEAD")


def todo_of(repo: Repo, checkout: Path, template: Template) -> LandTodo:
    change = RepoChange(repo=repo.name, branch="coord/PLAN", base=template.since, tip=template.tip, run="R1")
    return SeparateTodo(repo, checkout, lambda: change, checkout.with_suffix(".state"))


def bare_push(checkout: Path, commit: str, url: str) -> None:
    subprocess.run(["git", "push", "-q", url, f"{commit}:refs/heads/main"], cwd=checkout, check=True)


def steps(took: Took, at: BaseBranch, template: Template) -> None:
    """Time the functions of one landing on their own."""
    seen = took.time("look, with a fetch", lambda: look(at))
    assert isinstance(seen, BaseTip)
    base = seen.commit
    took.time("look", lambda: look(at))
    message = landing_message("Land", plan="PLAN", run="R2", base=base, tip=template.tip)
    made = took.time("prepare", lambda: prepare(
        at, base=base, tip=template.tip, since=template.since, method=Method.MERGE, message=message
    ))  # fmt: skip
    assert isinstance(made, Prepared)
    assert took.time("may_push", lambda: may_push(at, base)) is None
    assert isinstance(took.time("push", lambda: push(at, made.commit, base)), Pushed)


def attempt(todo: LandTodo, step: LandStep, tip: str) -> None:
    action = LandAction(type="land", step=step, change_set="PLAN", tip=tip, via=Via.PUSH, title="Land")
    outcome = carry_out(todo, action)
    assert outcome.kind is OutcomeKind.SUCCEEDED, outcome


def landing(todos: Sequence[LandTodo], tip: str, at_once: int) -> float:
    """Return the seconds in which all repositories are checked, and then landed, so many at once."""
    began = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        for step in (LandStep.CHECK, LandStep.LAND):
            list(pool.map(lambda todo, step=step: attempt(todo, step, tip), todos))
    return time.perf_counter() - began


def pushes(checkouts: Mapping[Path, str], tip: str) -> float:
    """Return the seconds of bare pushes of a merge, one after the other."""
    took = 0.0
    for checkout, url in checkouts.items():
        git(checkout, "fetch", "-q", url, "main")
        git(checkout, "merge", "-q", "--no-edit", "FETCH_HEAD", tip)
        commit = git(checkout, "rev-parse", "HEAD")
        began = time.perf_counter()
        bare_push(checkout, commit, url)
        took += time.perf_counter() - began
    return took


def compare(rows: Report, repositories: int) -> None:
    """Time the comparison of one completed todo in each repository with what lands, as a worker makes it.

    All repositories are one checkout: what is measured is the number of git calls.
    """
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as name:
        template = Template.make(Path(name))
        git(template.checkout, "switch", "-q", "-c", "squashed")
        git(template.checkout, "cherry-pick", template.tip)
        git(template.checkout, "commit", "-q", "--amend", "-m", "squashed")
        places = {f"repo{number}": template.checkout for number in range(repositories)}
        for title, known, tip, branch in (
            ("in the change set", template.tip, template.tip, "main"),
            ("squashed into the base", template.tip, "", "squashed"),
            ("without a known commit", "", template.tip, "main"),
        ):
            sought = [
                ExpectedResult(todo="T", repo=repo, branch=branch, commit=known, plan="PLAN", tip=tip)
                for repo in places
            ]
            began = time.perf_counter()
            found = list(findings(places, sought))
            took = time.perf_counter() - began
            assert [bool(one.commit) for one in found] == [bool(known)] * repositories
            assert not any(one.why for one in found)
            rows.add(f"compare {repositories} todos {title}", took, "s")


def measure(rows: Report, repositories: int) -> None:
    """Bare pushes stand around the landings, so that a change of the machine's load meets both."""
    with (
        tempfile.TemporaryDirectory(prefix="coord-bench-") as name,
        GitServer(Path(name, "remotes")) as server,
    ):
        folder = Path(name)
        template = Template.make(folder)

        def copies(kind: str, count: int) -> dict[Path, str]:
            names = [f"{kind}{number}" for number in range(count)]
            for one in names:
                shutil.copytree(template.remote, server.path(one))
                shutil.copytree(template.checkout, folder / one)
            return {folder / one: server.url(one) for one in names}

        def todos(kind: str) -> list[LandTodo]:
            found = copies(kind, repositories)
            return [todo_of(Repo(name=path.name, url=url), path, template) for path, url in found.items()]

        both = copies("pushed", repositories)
        halves = [dict(islice(both.items(), start, None, 2)) for start in (0, 1)]
        bare = pushes(halves[0], template.tip)
        at_once = landing(todos("together"), template.tip, WORKERS)
        in_turn = landing(todos("alone"), template.tip, 1)
        bare += pushes(halves[1], template.tip)
        took = Took()
        for path, url in copies("stepped", max(1, repositories // 4)).items():
            steps(took, BaseBranch(repo="stepped", path=path, branch="main", url=url), template)
    rows.add(f"git push, {repositories} one after the other", bare, "s")
    rows.add(f"check and land, {WORKERS} at once", at_once / bare, "x", at_most=3, beside=f"{at_once:.2f} s")
    rows.add("check and land, one after the other", in_turn / bare, "x", beside=f"{in_turn:.2f} s")
    for step, seconds in took.steps.items():
        rows.add(step, 1000 * seconds / max(1, repositories // 4), "ms")


if __name__ == "__main__":
    options = parser(__doc__, "land").parse_args()
    for who in ("AUTHOR", "COMMITTER"):
        os.environ |= {f"GIT_{who}_NAME": "bench", f"GIT_{who}_EMAIL": "bench@localhost"}
    with report("land", options) as rows:
        measure(rows, 5 if options.short else 100)
        compare(rows, 20 if options.short else 800)
