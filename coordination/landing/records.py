"""The options of a landing, and the records of what lands or is reverted in which repositories."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Annotated

from coordination.declared import Option
from coordination.landing.order import LandWave
from coordination.models import OWN_BRANCHES, Atomic, Method, RequestText, Via
from coordination.runs.change_sets.records import Landed, RepoChange

Way = Annotated[
    Via | None,
    Option(
        "Land in this way (default: as in the plan, else pr with a token of the forge, else push with a url)."
    ),
]
LandedRepos = Annotated[
    Collection[str],
    Option(
        "Land only these repositories; what their changes build on must be among them. One that no todo of "
        "the plan names needs the right `override`, which is recorded.",
        flag="--repo",
        completes="repo_names",
    ),
]
MergedBy = Annotated[Method | None, Option("Merge in this form (default: as in the plan, else merge).")]
LastWave = Annotated[
    int | None,
    Option("Stop after this wave (default: land all waves, one after the other).", metavar="N", least=1),
]
Accepted = Annotated[
    Collection[str],
    Option(
        "Count completed todos as landed: the base branches have their work in another form, or they had "
        "none. It needs the right `override`, and is recorded.",
        metavar="TODO",
        completes="todo_ids",
        for_agents="Only if a person told you to.",
    ),
]
WithoutChecks = Annotated[
    bool,
    Option(
        "Land without quality checks (default: those that repositories declare must be green). It needs the "
        "right `override`, and is recorded."
    ),
]
WhenReady = Annotated[
    bool,
    Option("Wait until all pull requests are approved and green (default: fail if one is not)."),
]


@dataclass(frozen=True, kw_only=True)
class LandOptions:
    """The options of `coord land`; None uses the value of the plan."""

    via: Way = None
    repos: LandedRepos = ()
    method: MergedBy = None
    wave: LastWave = None
    accept: Accepted = ()
    no_qa: WithoutChecks = False
    when_ready: WhenReady = False


@dataclass(frozen=True, kw_only=True)
class RepoLanding:
    """One repository of a landing or a revert."""

    repo: str
    branch: str
    """The base branch."""
    via: Via
    change: RepoChange
    after: tuple[str, ...] = ()
    """Repositories of the same landing that land before this one."""
    after_todos: tuple[str, ...] = ()
    """Todos of other plans in its wave that come before this one."""
    request: RequestText | None = None
    """The text of its pull request; None if it lands in another way."""

    @property
    def landed(self) -> Landed:
        assert self.change.landed is not None
        return self.change.landed

    @property
    def commit(self) -> str:
        """Return the commit that lands, or that is reverted."""
        return self.change.landed.commit if self.change.landed else self.change.tip


@dataclass(frozen=True, kw_only=True)
class Landing:
    """The changes that a landing run brings into the base branches, or a revert takes out of them."""

    change_set: str
    title: str
    method: Method = Method.MERGE
    atomic: Atomic = Atomic.PLAN
    approvals: int = 0
    """Number of approvals of each pull request; without pull requests, of the landing."""
    after_upstream: tuple[str, ...] = ()
    """Checks at the forge for which the landing does not wait before it begins."""
    when_ready: bool = False
    repair: int = 0
    """Number of repairs of its requests that may follow."""
    two_persons: bool = False
    patience: timedelta
    branch_prefix: str = OWN_BRANCHES
    """Beginning of the names of branches at forges."""
    repos: tuple[RepoLanding, ...]
    """In the order in which they land."""
    in_place: tuple[str, ...] = ()
    """Todos that worked in place; their results belong to no change set."""
    qa: bool = False
    """True if the checks of the repositories must be green for the trees that land."""
    unchecked: tuple[str, ...] = ()
    """Repositories of the landing that declare no check."""
    qa_skipped: str = ""
    """The reason why declared checks do not run; empty if they run or none is declared."""
    overrides: tuple[str, ...] = ()
    """Options by which it lands without a safeguard; they need the right `override`."""
    waves: tuple[LandWave, ...] = ()
    """Empty if all repositories land at once."""
    max_failures: int = 0
    """Number of failures in a wave despite which the next wave begins."""
    plans: tuple[Landing, ...] = ()
    """The landings or reverts of its plans if it has several; `repos` has the repositories of all."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(one.repo for one in self.repos))

    @property
    def parts(self) -> tuple[Landing, ...]:
        """Return the landings of its plans."""
        return self.plans or (self,)

    @property
    def change_sets(self) -> tuple[str, ...]:
        return tuple(part.change_set for part in self.parts)

    @property
    def has_gate(self) -> bool:
        """Return whether a person must approve the landing itself instead of its pull requests."""
        return self.approvals > 0 and any(one.via is not Via.PR for one in self.repos)

    def wave_of(self, repo: str) -> int:
        """Return the number of a repository's wave; 0 for a landing without waves."""
        return next((wave.number for wave in self.waves if repo in wave.repos), 0)

    def within(self, wave: int) -> tuple[Landing, ...]:
        """Return the landings of its plans, each with only its repositories of this wave."""
        found = (
            replace(part, repos=tuple(one for one in part.repos if part.wave_of(one.repo) == wave))
            for part in self.parts
        )
        return tuple(part for part in found if part.repos)

    def begins(self, wave: int) -> bool:
        """Return whether no repository of the landing is in a wave before this one."""
        return min(map(self.wave_of, self.names), default=0) == wave
