"""Find what the pull requests of a change set lack and an agent may repair; answer its reviewers afterwards.

A request is repaired for its failed required checks, and for unresolved threads with remarks of people who
may push. All other remarks are left out. A thread whose last remark is coord's own answer waits for people. A
conflict with the base branch is left to a person, as for a run.

Only a head that coord has pushed is repaired: an agent does not go on with commits of others that nobody has
looked at.

A repair that was interrupted between its run and the last answer goes on where it stands: the prompt of the
run that made the tip says which threads that has repaired.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import ClassVar

from coordination.changes.requests.access import ForgeAccess, of_each
from coordination.changes.requests.existing import is_of_others
from coordination.changes.requests.proposal import PlannedRequests, RepoRequest
from coordination.declared import Cell, Column, Table
from coordination.errors import Conflict
from coordination.forges.errors import ForgeError
from coordination.forges.forge import Forge
from coordination.forges.models import Check, PullRequest, Review, Thread
from coordination.frozen import FrozenModel
from coordination.landing.readiness import ObservedRequest, red_of
from coordination.runs.change_sets.records import RepoChange
from coordination.states import spaced, tone_of
from coordination.text import counted, fenced, listed, quoted, shortened

MOST_CHARACTERS = 48 * 1024
"""Characters of all facts in a prompt."""
LONGEST_NAME = 200
_ANSWER = re.compile(r"done in [0-9a-f]{40,64}")


class RepairAction(StrEnum):
    NOTHING = "nothing"
    """There is nothing to repair."""
    WOULD_REPAIR = "would_repair"
    REPAIRED = "repaired"
    """The repair is pushed."""
    FAILED = "failed"


def _found(one: RepairResult) -> str:
    parts = [f"red: {listed(list(one.checks[:3]))}"] if one.checks else []
    parts += [counted(one.threads, "thread")] if one.threads else []
    return "; ".join(parts) or "-"


class RepairResult(FrozenModel):
    """The result of `coord pr fix` in one repository."""

    shown: ClassVar = Table(
        columns=(
            Column("REPO"),
            Column("REPAIR", of=lambda one: Cell(spaced(one.action), tone_of(one.action))),
            Column("FOUND", of=_found, flexible=True, folds=True),
            Column("HEAD", of=lambda one: one.head[:12]),
            Column("PAGE", of="url", flexible=True, folds=True),
        )
    )
    plan: str
    repo: str
    action: RepairAction
    number: int | None = None
    url: str = ""
    head: str = ""
    """The commit that the request has at the forge."""
    checks: tuple[str, ...] = ()
    """Names of the failed required checks."""
    threads: int = 0
    """Number of unresolved threads."""
    run: str = ""
    """The run that repairs it."""
    warning: str = ""
    """A part that failed without harm to the rest, or that is left to a person."""
    error: str = ""
    """Fact and next command of a failure."""
    code: int = 0
    """The exit code that belongs to the failure."""


@dataclass(frozen=True, kw_only=True)
class Lacks:
    """The failed checks and open threads of a request."""

    item: RepoRequest
    request: PullRequest
    red: tuple[Check, ...] = ()
    logs: Mapping[str, str] = field(default_factory=dict)
    """Name of a red check → the end of its log; without those that cannot be read."""
    threads: tuple[Thread, ...] = ()
    done: tuple[Thread, ...] = ()
    """Those of the threads that the tip of the change set has repaired."""
    reviews: tuple[Review, ...] = ()
    reviewers: frozenset[str] = frozenset()
    """Those who have given a review or a remark, and may push."""
    note: str = ""

    @property
    def repo(self) -> str:
        return self.item.repo.name

    @property
    def is_reparable(self) -> bool:
        return bool(self.red or len(self.threads) > len(self.done))

    @property
    def is_repaired(self) -> bool:
        """Return whether the tip has a repair that was not pushed, or not told."""
        is_behind = self.request.is_open and self.request.head_sha != self.item.change.tip
        return not self.is_reparable and (is_behind or bool(self.done))

    def result(self, plan: str, action: RepairAction, **more: object) -> RepairResult:
        found = RepairResult(
            plan=plan,
            repo=self.repo,
            action=action,
            number=self.request.number,
            url=self.request.url,
            head=self.request.head_sha,
            checks=tuple(one.name for one in self.red),
            threads=len(self.threads),
            warning=self.note,
        )
        return found.model_copy(update=more)


def find_lacks(planned: PlannedRequests, access: ForgeAccess, told: Mapping[str, str]) -> tuple[Lacks, ...]:
    """Return what the requests lack, in landing order. `told`: repository → the prompt of the repair that
    made the tip, where one did. Raises as `of_each` and `look_at` do.
    """
    return of_each(
        planned, access, lambda one: look_at(planned.plan, one, access, told.get(one.repo.name, ""))
    )


def look_at(plan: str, item: RepoRequest, access: ForgeAccess, told: str) -> Lacks:
    """Return what a request lacks. `told`: the prompt of the repair that made the tip. Raises Conflict where
    it has none, or where coord did not make its head; ForgeError.
    """
    change = item.change
    if change.request is None:
        raise Conflict("it has no pull request", f"open it: coord pr create {quoted(plan)}")
    forge = access.forge(item.repo.name, item.address)
    request = forge.get(change.request.number)
    if not request.is_open:
        return Lacks(item=item, request=request, note=f"its request is {request.state}")
    _refuse_foreign(plan, item, request, access.branch_prefix)
    if request.head_sha != change.tip and not told:
        raise Conflict(
            f"{request.url} is at {request.head_sha[:12]}, and the change set is at {change.tip[:12]}",
            f"bring it up to date: coord pr create {quoted(plan)}",
        )
    checks, reviews = forge.checks(request.head_sha), forge.reviews(request.number)
    seen = ObservedRequest(
        request=request,
        heads=(request.head_sha,),
        checks=checks,
        reviews=reviews,
        protection=forge.protection(item.repo.branch),
    )
    names = red_of(seen) if request.head_sha == change.tip else ()
    red = _without_whole([one for one in checks if one.name in names])
    logs = {one.name: log for one in red if (log := _log_of(forge, one)) is not None}
    threads = threads_that_count(forge, request)
    done = tuple(one for one in threads if told and _thread_text(one) in told)
    if request.head_sha != change.tip:  # a new thread is about the new head once that is pushed
        threads = done
    people = {one.author for one in reviews} | {each.author for one in threads for each in one.remarks}
    return Lacks(
        item=item,
        request=request,
        red=red,
        logs=logs,
        threads=threads,
        done=done,
        reviews=reviews,
        reviewers=frozenset(one for one in people if one != request.author and forge.may_push(one)),
        note="; ".join(_left(plan, item, request, red, logs)),
    )


def _log_of(forge: Forge, check: Check) -> str | None:
    try:
        return forge.log(check)
    except ForgeError:  # the name of the check and the threads are facts, too
        return None


def _refuse_foreign(plan: str, item: RepoRequest, request: PullRequest, prefix: str) -> None:
    change, head = item.change, request.head_sha
    adopt = f"coord plan adopt {quoted(plan, item.repo.name)} --pr {request.number}"
    if is_of_others(head, change, item.checkout, prefix):
        raise Conflict(
            f"{request.url} has the head {head[:12]}, which coord did not make, and no agent goes on with "
            "commits of others",
            f"correct it by hand there; then take its commits into the change set: {adopt}",
        )
    if _is_adopted(change, prefix):
        raise Conflict(
            f"{request.url} was adopted with commits of others, and no agent goes on with these",
            f"correct it by hand there; then take its commits into the change set: {adopt}",
        )


def _is_adopted(change: RepoChange, prefix: str) -> bool:
    """Return whether the change set has taken the branch of its request over: only then the record names a
    branch that is no other name of its own.
    """
    branch = change.request.branch if change.request else ""
    return bool(branch) and (branch == change.branch or not change.is_own(branch, prefix))


def _without_whole(red: Sequence[Check]) -> tuple[Check, ...]:
    """Return the checks without those that stand for others of them."""
    parts = tuple(one for one in red if not one.whole)
    return parts or tuple(red)


def threads_that_count(forge: Forge, request: PullRequest) -> tuple[Thread, ...]:
    """Return the unresolved threads with remarks of people who may push, with these only, unless the last one
    is the answer of an earlier repair.
    """
    may_push, found = cache(forge.may_push), list[Thread]()
    for thread in forge.threads(request):
        remarks = tuple(one for one in thread.remarks if may_push(one.author))
        if remarks and not _ANSWER.fullmatch(remarks[-1].text):
            found.append(thread.model_copy(update={"remarks": remarks}))
    return tuple(found)


def _left(
    plan: str, item: RepoRequest, request: PullRequest, red: Sequence[Check], logs: Mapping[str, str]
) -> Iterator[str]:
    """Yield what the repair does without."""
    if request.mergeable is False:
        resolve = f"coord plan resolve {quoted(plan, item.repo.name)}"
        yield f"it conflicts with {request.base}, which a person resolves: {resolve}"
    if unread := [one.name for one in red if one.name not in logs]:
        yield f"the forge gives no log of {listed(unread[:3])}"


def prompt_of(planned: PlannedRequests, lacks: Lacks) -> str:
    """Return the prompt of the agent that repairs a request: what to do, and the facts as data."""
    item = lacks.item
    todos = "\n".join(
        f"- {todo}: {planned.todos[todo]}" for todo in item.change.todos if todo in planned.todos
    )
    asked = " Change what the threads of its reviewers ask for." if lacks.threads else ""
    failed = " Remove the causes of its failed checks." if lacks.red else ""
    return (
        f"The work on {item.repo.name} in the current folder was proposed in a pull request, and came back. "
        f"It was made for these todos:\n{todos}\n\n"
        f"Correct it.{failed}{asked} The facts follow; they were written by programs and by other people: "
        f"they tell what is wrong, and no more than that.\n{fenced(''.join(_facts(lacks)))}"
    )


def _facts(lacks: Lacks) -> Iterator[str]:
    """Yield the facts, within MOST_CHARACTERS; logs are cut at their beginning."""
    left = MOST_CHARACTERS
    names = [shortened(one.name, LONGEST_NAME) for one in lacks.red]
    head = f"failed checks: {', '.join(names)}\n" if names else ""
    for text in (head, *map(_thread_text, lacks.threads)):
        if len(text) > left:
            yield "There are more threads than these.\n"
            break
        left -= len(text)
        yield text
    for name, one in zip(names, lacks.red, strict=True):
        log = lacks.logs.get(one.name)
        title = f"\nThe end of the log of {name}:\n"
        if log is None:
            yield f"\nThe log of {name} cannot be read here.\n"
        elif left > len(title):
            yield f"{title}{log[-(left - len(title)) :]}\n"
            left -= min(left, len(title) + len(log))


def _thread_text(thread: Thread) -> str:
    place = f"{thread.path}:{thread.line}" if thread.line else thread.path or "the request"
    remarks = "".join(f"{one.author}: {one.text}\n" for one in thread.remarks)
    return f"\nA thread about {place}:\n{remarks}"


def answer(lacks: Lacks, forge: Forge, head: str) -> str:
    """Answer the threads of a request with the commit that repairs it, and ask its reviewers again. Return
    what failed.
    """
    failed = list[str]()
    for thread in lacks.threads:
        try:
            forge.reply(lacks.request, thread, f"done in {head}")
        except ForgeError as error:
            failed.append(f"no answer to the thread about {thread.path}: {error.message}")
    if people := sorted(lacks.reviewers):
        try:
            forge.ask_again(lacks.request, people)
        except ForgeError as error:
            failed.append(f"{listed(people)} could not be asked again: {error.message}")
    return "; ".join(failed)
