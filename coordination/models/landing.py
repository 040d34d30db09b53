"""Landing: how a plan's change set reaches the base branches, and the actions of the runs that do it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from coordination.models.checks import QaAction
from coordination.models.values import AtGate, Command, Count, Duration, Id, ProgramText, Record, Text, Word

REST = "rest"
"""All repositories that no earlier wave takes; the last wave only."""
_SHARE = re.compile(r"([1-9]\d?|100)%")


class WaveBy(Word):
    """The names that the waves of a plan list."""

    LIST = "list"
    """Repositories."""
    ROLE = "role"
    """Roles of repositories."""
    TAG = "tag"
    """Tags of repositories."""
    LEVEL = "level"
    """None: a wave for each level of the dependencies between the repositories."""


Number = Annotated[int, Field(strict=True, ge=1)]
Take = Number | Text | Annotated[tuple[Text, ...], Field(min_length=1)]


class WaveRules(Record):
    """Conditions of a wave."""

    soak: Duration | None = None
    """Time between its landing and its checks."""
    check: Command | None = None
    """A command, run in its landed repositories after the soak time, and after each later wave."""
    gate: AtGate | None = None
    """A person approves it before it lands."""


class Wave(WaveRules):
    """A wave. A bare value is `take`."""

    take: Take
    """A number of repositories, a share like `10%`, `rest`, a name, or several names."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the repositories, roles or tags that it names."""
        if isinstance(self.take, str):
            return () if self.take == REST or self.share else (self.take,)
        return self.take if isinstance(self.take, tuple) else ()

    @property
    def share(self) -> int | None:
        """Return the percentage of the repositories that it takes; None where it takes none."""
        match = _SHARE.fullmatch(self.take) if isinstance(self.take, str) else None
        return int(match[1]) if match else None


def _bare_wave(value: object) -> object:
    return value if isinstance(value, dict | Wave) else {"take": value}


class Waves(WaveRules):
    """The field `waves` of `land`; a bare list is `order`. Its conditions hold for each wave that does not
    say otherwise.
    """

    by: WaveBy = WaveBy.LIST
    order: tuple[Annotated[Wave, BeforeValidator(_bare_wave)], ...] = ()
    max_open: Count | None = None
    """Maximum of repositories in a wave; the others form further waves after it."""
    max_failures: Annotated[int, Field(strict=True, ge=0)] = 0
    """With `atomic: repo`: refused repositories and red checks of a wave after which the next one begins
    nevertheless.
    """

    @model_validator(mode="after")
    def _check_order(self) -> Waves:
        if self.by is WaveBy.LEVEL:
            if self.order:
                raise ValueError("by: level makes the waves itself; remove order")
            return self
        if not self.order:
            raise ValueError("has no waves; list them: order: [1, 5, rest]")
        if any(wave.take == REST for wave in self.order[:-1]):
            raise ValueError("has waves after rest, which takes all repositories; put rest last")
        names = [name for wave in self.order for name in wave.names]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"has {twice} in two waves; name it once")
        return self


def _bare_order(value: object) -> object:
    return {"order": value} if isinstance(value, list | tuple) else value


LandWaves = Annotated[Waves, BeforeValidator(_bare_order)]


class PlanWaves(WaveRules):
    """An item of `coordination.waves`: plans that land wave by wave, by one run."""

    id: Id
    title: ProgramText
    order: Annotated[tuple[Annotated[Wave, BeforeValidator(_bare_wave)], ...], Field(min_length=1)]
    """The plans of each wave."""

    @property
    def plans(self) -> tuple[str, ...]:
        return tuple(plan for wave in self.order for plan in wave.names)

    @model_validator(mode="after")
    def _check_plans(self) -> PlanWaves:
        if any(not wave.names for wave in self.order):
            raise ValueError("has a wave that names no plan; list plans: order: [PLAN-001, [PLAN-002, …]]")
        if twice := next((name for name in self.plans if self.plans.count(name) > 1), None):
            raise ValueError(f"has {twice} in two waves; name it once")
        return self


Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
"""The whole name of a commit or a tree, SHA-1 or SHA-256."""


OWN_BRANCHES = "coord/"
"""Beginning of the names of coord's branches in checkouts."""
_NO_PREFIX = re.compile(
    r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|^[-/.]|\.lock/|^refs/|^HEAD/", re.IGNORECASE
)


def check_branch_prefix(value: str) -> str:
    """Refuse a beginning of branch names that is none for `git check-ref-format`, or ends in no slash."""
    if not value.endswith("/") or len(value) > 100 or not value.isprintable() or _NO_PREFIX.search(value):
        raise ValueError("needs a beginning of branch names that ends in a slash, like coord/ or bots/coord/")
    return value


BranchPrefix = Annotated[str, AfterValidator(check_branch_prefix)]


ForgeCheck = Annotated[str, Field(min_length=1, max_length=200)]
"""The name of a check at a forge."""
MOST_APPROVALS = 20


class UnlandedWork(Word):
    """The fate of a change set whose plan or todo is deleted."""

    DISCARD = "discard"
    """Its branches are deleted; the tips stay under refs/coord/discarded."""
    KEEP = "keep"
    """It stays, under its id."""


class Via(Word):
    """The way into a base branch."""

    PUSH = "push"
    """A push to the `url` of the repository."""
    LOCAL = "local"
    """A push into the checkout on the host of the change set."""
    PR = "pr"
    """A pull request at the forge of the repository, which the forge merges."""


class Method(Word):
    """The form in which a change set enters a base branch."""

    MERGE = "merge"
    """A merge commit, also where the base has not moved."""
    SQUASH = "squash"
    """One commit without the history of the change set."""
    FF = "ff"
    """The commits as they are; only while the base has not moved. Not by pull requests."""
    REBASE = "rebase"
    """The commits, rebased onto the base; only by pull requests."""


class Atomic(Word):
    """The unit that lands whole or not at all."""

    PLAN = "plan"
    """A lasting refusal of one repository reverts all that have landed."""
    WAVE = "wave"
    """A lasting refusal, or a red check, reverts its wave; later waves do not begin. The default with waves.
    """
    REPO = "repo"
    """Each repository lands on its own; those that depend on a refused one are skipped."""


MOST_REPAIRS = 5


class LandRules(Record):
    """The field `land` of a plan."""

    via: Via | None = None
    """None: pr where the forge is known and this machine has a token for it, else push where the repository
    has a `url`, else local.
    """
    method: Method = Method.MERGE
    approvals: Annotated[int, Field(strict=True, ge=0, le=MOST_APPROVALS)] = 0
    """Approvals that the landing waits for before it takes its locks. By pull requests: approvals of each
    request at the forge, of its newest commit. Else at most 1.
    """
    atomic: Atomic = Atomic.PLAN
    qa: Annotated[bool, Field(strict=True)] | None = None
    """True: each repository that lands must have a green check; False: nothing is checked. None: the checks
    that the repositories declare must be green.
    """
    after_upstream: tuple[ForgeCheck, ...] = ()
    """Checks at the forge that can be green only when the earlier repositories have landed: the landing
    starts before they are green, and merges when they are. By pull requests only.
    """
    repair: Annotated[int, Field(strict=True, ge=0, le=MOST_REPAIRS)] = 0
    """How often agents repair requests with red checks while `coord land --when-ready` follows. Each repair
    ends the landing, and another one begins: approvals and checks of the commit before count no more.
    """
    waves: LandWaves | None = None
    """The groups in which the repositories land, one after the other. None: all at once."""

    @property
    def unit(self) -> Atomic:
        """Return the unit that lands whole or not at all."""
        return Atomic.WAVE if self.waves and "atomic" not in self.model_fields_set else self.atomic

    @model_validator(mode="after")
    def _check_waves(self) -> LandRules:
        if self.waves is None and self.atomic is Atomic.WAVE:
            raise ValueError("says atomic: wave without waves; add waves: [1, rest], or remove atomic")
        if self.waves and self.waves.max_failures and self.unit is not Atomic.REPO:
            raise ValueError("max_failures of waves needs atomic: repo; add it, or remove max_failures")
        return self


class LandStep(Word):
    CHECK = "check"
    """Check the base, the merge and the right to push; change nothing."""
    LAND = "land"
    """Bring the tip into the base branch."""
    LANDED = "landed"
    """Check that the base branch still has the tip, and state the base for checks; change nothing."""


class LandCheck(Record):
    """A quality check that must be green for the tree that lands."""

    todo: Id
    """The todo of the landing run that runs it."""
    action: QaAction
    timeout: Duration | None = None
    """None: the timeout of the todo that lands."""


class RequestText(Record):
    """The facts of a plan for the text of a pull request."""

    title: Text
    issues: tuple[tuple[str, str], ...] = ()
    """Id and title of the issues that wait for the plan."""
    todos: tuple[tuple[str, str], ...] = ()
    """Id and task of the todos whose work the request contains."""
    criteria: tuple[tuple[str, str], ...] = ()
    """Id of a todo, and an acceptance criterion of it that no command checks."""
    after: tuple[str, ...] = ()
    """Repositories that land earlier."""
    followers: tuple[str, ...] = ()
    """Repositories that need this one to land first."""


class LandAction(Record):
    """Brings the tip of a change set into the base branch of its repository; made by `coord land` only."""

    type: Literal["land"]
    step: LandStep = LandStep.LAND
    change_set: Id
    tip: Commit
    via: Via
    method: Method = Method.MERGE
    title: Text
    """Subject of a commit that coord makes."""
    patience: Duration = timedelta(hours=1)
    """Time during which transient failures are retried."""
    stated: Annotated[bool, Field(strict=True)] = False
    """The todo reports the commit that it makes; the checks of the run start at it."""
    checks: tuple[LandCheck, ...] = ()
    """The checks of this repository. They run again if the tree to land is not the one that was checked.
    """
    approvals: Annotated[int, Field(strict=True, ge=0, le=MOST_APPROVALS)] = 0
    """Approvals that its pull request needs."""
    after_upstream: tuple[ForgeCheck, ...] = ()
    when_ready: Annotated[bool, Field(strict=True)] = False
    """Wait until the pull request is ready; if false, fail when it is not ready."""
    repair: Annotated[int, Field(strict=True, ge=0, le=MOST_REPAIRS)] = 0
    """Number of repairs that may follow: above 0 it fails, and does not wait, where an agent may repair what
    the request lacks.
    """
    request: RequestText | None = None
    """Only for a landing by a pull request."""
    branch_prefix: BranchPrefix = OWN_BRANCHES
    """Beginning of the name of its branch at the forge, if none is recorded."""
    overrides: tuple[Text, ...] = ()
    """Options by which a person lands without a safeguard, such as `--no-qa`. The signer of the order needs
    the right `override`.
    """
    overridden_by: Text | None = None
    wave: Annotated[int, Field(strict=True, ge=1)] | None = None
    """The number of its wave; None without waves."""


class RevertStep(Word):
    OPEN = "open"
    """Open the pull request of the revert; merge nothing."""
    REVERT = "revert"
    """Take the landed commit out of the base branch."""


class RevertAction(Record):
    """Takes a landed change set out of the base branch again, by one commit; made by coord only.

    As a compensation it names no commit: it reverts the one that its todo has landed.
    """

    type: Literal["revert"]
    change_set: Id
    via: Via
    title: Text
    tip: Commit | None = None
    commit: Commit | None = None
    """The landed commit on the base branch."""
    before: Commit | None = None
    """The tree before it landed."""
    patience: Duration = timedelta(hours=1)
    step: RevertStep = RevertStep.REVERT
    branch_prefix: BranchPrefix = OWN_BRANCHES
    """Beginning of the name of its branch at the forge."""
    when_ready: Annotated[bool, Field(strict=True)] = False
    """Wait until people have approved its pull request; if false, leave it to them."""
