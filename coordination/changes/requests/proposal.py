"""Decide which repositories of a change set get a pull request, in which order, and what it says.

coord keeps a section of a request's text up to date, between markers. People may write above and below it.
Titles from the file are written as code, so that they mention no person, close no issue of the forge, and
load no picture from elsewhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coordination.errors import Blocked, Conflict, NotFound, PlanRefused
from coordination.files import is_folder
from coordination.forges.locate import ForgeAddress, locate
from coordination.forges.models import CheckState, CommitStatus, ForgeType, RequestState
from coordination.git import has_commit
from coordination.landing.order import edges_between, followers_of, in_order
from coordination.landing.readiness import DEPENDS
from coordination.landing.rules import issues_of, plan_of, refuse_strangers
from coordination.models import OWN_BRANCHES, Ecosystem, Repo, criteria_in_words
from coordination.runs.change_sets.records import ChangeSet, RepoChange
from coordination.terminal import spelled
from coordination.text import listed, shortened

BEGIN = "<!-- coord: this section is kept by coord; write above or below it -->"
END = "<!-- coord: end -->"
_SECTION = re.compile(rf"{re.escape(BEGIN)}(?:(?!{re.escape(BEGIN)}).)*?{re.escape(END)}", re.DOTALL)
"""The innermost pair of markers: if somebody has deleted one, the text up to the next pair stays."""
MOST_LISTED = 50
"""Entries of each list of a section: a change set may have hundreds of repositories; a text has a limit."""
HIGHEST_NUMBER = 9_999_999
"""Number of a request that is not open yet, for the length of the texts that will name it."""
LONGEST_TITLE = 200
MOST_DESCRIBED = 3
"""Repositories that a status names: forges show some 140 characters of it."""


@dataclass(frozen=True, kw_only=True)
class RepoRequest:
    """The request of one repository that is to be opened or updated."""

    repo: Repo
    change: RepoChange
    checkout: Path
    address: ForgeAddress
    after: tuple[str, ...]
    """Repositories of the change set that land before this one."""
    followers: tuple[str, ...]
    """Repositories of the change set that need this one to land first."""


@dataclass(frozen=True, kw_only=True)
class PlannedRequests:
    plan: str
    title: str
    issues: tuple[tuple[str, str], ...]
    """Id and title of the issues that wait for the plan."""
    todos: Mapping[str, str]
    """Todo → its task."""
    criteria: Sequence[tuple[str, str]]
    """Id of a todo, and an acceptance criterion of it that no command checks."""
    change_set: ChangeSet
    repos: tuple[RepoRequest, ...]
    """In the order in which they land."""
    branch_prefix: str = OWN_BRANCHES
    """Beginning of the names of new branches at forges."""
    agents: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    """Repository → the agents that have worked there for the plan, each with what it has used."""


def decide_requests(
    ecosystem: Ecosystem,
    change_set: ChangeSet | None,
    name: str,
    chosen: Collection[str],
    places: Mapping[str, Path | None],
    host: str,
    branch_prefix: str = OWN_BRANCHES,
    agents: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> PlannedRequests:
    """Return the requests of a change set. `places`: the checkouts of this machine. `agents`: as in
    PlannedRequests.

    Raises NotFound without a change set; Conflict while a run writes it, and for a repository that neither a
    todo of it names nor `chosen`; PlanRefused for a repository without a known forge; Blocked where its
    commits are on another host, or all of it has landed.
    """
    plan, todos = plan_of(ecosystem, name)
    if change_set is None:
        raise NotFound(f"{name} has no change set", f"make one: coord sweep {name}")
    if run := change_set.writer:
        raise Conflict(
            f"run {run} writes the change set of {name} now", f"wait for its end: coord watch {run}"
        )
    if unknown := sorted(set(chosen) - change_set.repos.keys()):
        raise NotFound(f"{name} has no changes in {listed(unknown)}", f"see: coord changes {name}")
    wanted = [repo for repo in change_set.open if not chosen or repo in chosen]
    if not wanted:
        raise Blocked(
            f"{name} has nothing left to propose: all of it has landed", f"see: coord changes {name}"
        )
    if not chosen:
        refuse_strangers(name, plan, todos, wanted, "pr create")
    edges = edges_between(ecosystem, todos, change_set.repos)
    declared = {repo.name: repo for repo in ecosystem.repos}
    found = []
    for repo in in_order(wanted, edges):
        if repo not in declared:
            what = f"{name} has changes in {repo}, which the file no longer declares"
            raise PlanRefused(what, f"declare it again; see: coord changes {name}")
        change = change_set.repos[repo]
        found.append(
            RepoRequest(
                repo=declared[repo],
                change=change,
                checkout=_checkout(declared[repo], change, places.get(repo), host),
                address=locate(declared[repo]),
                after=tuple(edges.get(repo, ())),
                followers=followers_of(edges, repo),
            )
        )
    return PlannedRequests(
        plan=name,
        title=plan.title if plan else todos[0].task,
        issues=issues_of(ecosystem, plan, todos),
        todos={todo.id: todo.task for todo in todos},
        criteria=criteria_in_words(todos),
        change_set=change_set,
        repos=tuple(found),
        branch_prefix=branch_prefix,
        agents=agents or {},
    )


def depends_status(change_set: ChangeSet, after: Collection[str]) -> CommitStatus | None:
    """Return the status `coord/depends` of a request: pending while those before it have not merged. None
    where it depends on none.
    """
    if not after:
        return None
    waiting = [name for name in after if not _has_merged(change_set.repos.get(name))]
    if not waiting:
        return CommitStatus(context=DEPENDS, state=CheckState.SUCCESS, description="those before have merged")
    described = f"waits for {listed(waiting[:MOST_DESCRIBED])}"
    more = f" and {len(waiting) - MOST_DESCRIBED} more" if len(waiting) > MOST_DESCRIBED else ""
    return CommitStatus(context=DEPENDS, state=CheckState.PENDING, description=described + more)


def _has_merged(change: RepoChange | None) -> bool:
    if change is None or change.landed:
        return True
    ref = change.request
    return bool(ref and ref.seen and ref.seen.state is RequestState.MERGED and ref.head == change.tip)


def request_name(address: ForgeAddress, number: int) -> str:
    """Return the name of a request as other requests name it."""
    mark = "!" if address.type is ForgeType.GITLAB else "#"
    return f"{address.project}{mark}{number}"


def checkout_of(repo: Repo, place: Path | None) -> Path:
    """Return the checkout of a repository with a url. Raises PlanRefused, Blocked."""
    _refuse_without_url(repo)
    if place is None or not is_folder(place):
        raise Blocked(
            f"{repo.name} has no checkout on this machine",
            "clone it; or run the command on a machine that has one",
        )
    return place


def _checkout(repo: Repo, change: RepoChange, place: Path | None, host: str) -> Path:
    _refuse_without_url(repo)
    if place is None or not has_commit(place, change.tip):
        there = change.host if change.host and change.host != host else "another machine"
        raise Blocked(
            f"this machine does not have the commit {change.tip[:12]} of {repo.name}",
            f"run the command on {there}, which has it; see: coord changes",
        )
    return place


def _refuse_without_url(repo: Repo) -> None:
    if not repo.url:
        raise PlanRefused(f"{repo.name} has no url to push to", f"add `url` to {repo.name} in the file")


@dataclass(frozen=True, kw_only=True)
class SetMember:
    """A repository of the change set, as the section of each request shows it."""

    repo: str
    name: str = ""
    """`owner/repo#7`; empty where it has no request yet."""
    url: str = ""
    state: str = ""


@dataclass(frozen=True, kw_only=True)
class SectionContent:
    plan: str
    title: str
    issues: Sequence[tuple[str, str]]
    todos: Sequence[tuple[str, str]]
    """Id and task of those that this request has."""
    criteria: Sequence[tuple[str, str]]
    """Id of a todo, and an acceptance criterion of it that no command checks: the reviewer judges it."""
    agents: Sequence[tuple[str, str]]
    """The agents that have worked on it, each with what it has used."""
    after: Sequence[SetMember]
    """Requests that merge before this one."""
    members: Sequence[SetMember]
    near: Sequence[str] = ()
    """The repositories that a section names if it cannot name all: this one and its neighbours."""


def title_of(text: str) -> str:
    """Return the title of a request: one line, bounded."""
    return shortened(spelled(" ".join(text.split())), LONGEST_TITLE) or "changes"


def section_of(facts: SectionContent) -> str:
    """Return the section with its markers."""
    lines = [BEGIN, "", f"Plan {_code(facts.plan)}: {_code(facts.title)}"]
    for member in facts.after[:MOST_LISTED]:
        lines += ["", f"Depends on {_link(member)}" if member.url else f"Depends on {_code(member.repo)}"]
    if (more := len(facts.after) - MOST_LISTED) > 0:
        lines += ["", f"Depends on {more} more"]
    lines += _list("Issues", facts.issues) + _list("Todos", facts.todos)
    lines += _list("For the reviewer to judge", facts.criteria) + _list("Agents", facts.agents)
    if len(facts.members) > 1:
        shown = facts.members
        if len(shown) > MOST_LISTED:
            near = frozenset(facts.near[:MOST_LISTED])
            shown = [member for member in shown if member.repo in near]
        lines += ["", "| repository | pull request | state |", "|---|---|---|"]
        lines += [
            f"| {_code(member.repo)} | {_link(member) if member.url else '-'} | {member.state or '-'} |"
            for member in shown
        ]
        lines += _all_of(facts) if len(shown) < len(facts.members) else []
    return "\n".join([*lines, "", END])


def _all_of(facts: SectionContent) -> list[str]:
    """Return the number of repositories in each state, and the command that lists them."""
    states = Counter(member.state or "without a request" for member in facts.members)
    counts = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
    list_all = _code(f"coord pr list {facts.plan}")
    return ["", f"{len(facts.members)} repositories: {counts}; the table has the neighbours of this one.",
            f"All: {list_all}"]  # fmt: skip


def with_section(text: str, section: str) -> str:
    """Return the text with this section in place of the one it has, else at its end."""
    found = list(_SECTION.finditer(text))
    if not found:
        return f"{text.rstrip()}\n\n{section}".lstrip()
    first = found[0]
    after = _SECTION.sub("", text[first.end() :])
    return f"{text[: first.start()]}{section}{after}".strip()


def with_text(body: str, text: str) -> str:
    """Return the body with another text above its section."""
    found = _SECTION.search(body)
    return f"{text.strip()}\n\n{found[0]}" if found else text.strip()


def _list(heading: str, items: Sequence[tuple[str, str]]) -> list[str]:
    if not items:
        return []
    rows = [f"- {_code(name)} {_code(title)}" for name, title in items[:MOST_LISTED]]
    more = len(items) - MOST_LISTED
    return ["", f"{heading}:", "", *rows, *([f"- and {more} more"] if more > 0 else [])]


def _code(text: str) -> str:
    """Return the text as code on one line. A word joiner behind `@`, `#` and `!` keeps forges from reading
    names and numbers even there.
    """
    plain = shortened(spelled(" ".join(text.split())).replace("`", "'"), LONGEST_TITLE)
    safe = re.sub(r"([@#!])", "\\1\u2060", plain).replace("|", "\\|").replace("<!--", "< !--")
    return f"`{safe or ' '}`"


def _link(member: SetMember) -> str:
    return member.name or member.url
