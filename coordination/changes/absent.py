"""Find the completed todos of a plan whose work is neither in Redis nor in a base branch of this machine.

So it is for a colleague who has the file and fresh clones: the work is in the change set on another machine.
A base branch has the work of a todo if a commit message there names it, also after a squash.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from coordination.branches import set_branch
from coordination.changes.checkout import pushed_branch
from coordination.files import is_folder
from coordination.frozen import FrozenModel
from coordination.git import ask_git, base_tip
from coordination.landing.completed import may_commit
from coordination.models import Ecosystem, Repo, Todo, TodoStatus
from coordination.runs.change_sets.records import ChangeSet
from coordination.text import listed, quoted

NAMES_TODO = "Coord-Todo: "


class AbsentWork(FrozenModel):
    """Completed todos of a plan whose work this machine does not have."""

    plan: str
    todos: Mapping[str, str]
    """Todo → its repository."""
    branch: str
    """The branch of its change set on the host that has the work, if the settings are the same there."""
    pushed: Mapping[str, str] = {}
    """Repository → a remote branch of its checkout with work of the plan."""

    @property
    def fact(self) -> str:
        return f"neither Redis nor a base branch on this machine has the work of {listed(self.todos)}"

    @property
    def next(self) -> str:
        """Return the commands that get the work, or do it again."""
        plan, branch = quoted(self.plan), self.branch
        again = f"or run the todos again: coord sweep {plan} --fresh"
        if self.pushed:
            found = listed([f"{ref} of {repo}" for repo, ref in self.pushed.items()])
            return f"take the work of {found}: coord plan adopt {plan}; {again}"
        return (
            f"on the host where coord changes {plan} shows the work, push it: coord pr create {plan}, or "
            f"git push origin {quoted(branch)}; then here: git fetch, coord plan adopt {plan}; {again}"
        )


def find_absent(
    plan: str,
    ecosystem: Ecosystem,
    todos: Iterable[Todo],
    places: Mapping[str, Path | None],
    known: ChangeSet | None,
    recorded: Collection[str],
    prefix: str,
) -> AbsentWork | None:
    """Return the completed ones of a plan's todos whose work is not here; None without one.

    `recorded`: todos of which Redis knows what became of their work; `prefix`: that of new branches.
    """
    repos = {repo.name: repo for repo in ecosystem.repos}
    there = {*recorded, *(known.source if known else ())}
    asked = defaultdict[str, list[str]](list)
    for todo in todos:
        if todo.status is not TodoStatus.COMPLETED or todo.id in there or todo.repo not in repos:
            continue
        if may_commit(todo.working_in(repos[todo.repo])):
            asked[todo.repo].append(todo.id)
    found, pushed = dict[str, str](), dict[str, str]()
    for name, ids in asked.items():
        place = places.get(name)
        has_place = place is not None and is_folder(place)
        named = _named_in_base(place, repos[name]) if has_place and place else frozenset[str]()
        absent = [todo for todo in ids if todo not in named]
        found.update(dict.fromkeys(absent, name))
        if absent and has_place and place and (ref := pushed_branch(place, plan, prefix)):
            pushed[name] = ref.removeprefix("refs/remotes/")
    branch = set_branch(plan, prefix)
    return AbsentWork(plan=plan, todos=found, branch=branch, pushed=pushed) if found else None


def _named_in_base(place: Path, repo: Repo) -> frozenset[str]:
    base = base_tip(place, repo.branch, remote=bool(repo.url))
    if not base:
        return frozenset()
    text = ask_git(place, "log", "--format=%B", "--fixed-strings", f"--grep={NAMES_TODO}", base, "--")
    lines = (line.strip().removeprefix("* ") for line in text.splitlines())
    return frozenset(line.removeprefix(NAMES_TODO).strip() for line in lines if line.startswith(NAMES_TODO))
