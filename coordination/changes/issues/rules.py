"""Decide to which forge an issue of the file belongs, and which side's value of each field wins; pure.

| field of the file | forge |
|---|---|
| `title` | title, on one line |
| `description` | body, without coord's marker |
| `status` | open, or closed: `resolved` and `closed` |
| `labels` | labels |
| `priority` | the labels `priority:critical`, `priority:high`, `priority:low`, where it has them |
| `assignee` | one of the assignees |

A value is a text or a tuple of texts. Control characters are removed from values of a forge first. A value of
the file is rewritten only if the value of the forge has changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Annotated, Any

from coordination.declared import Option
from coordination.errors import CoordinationError, NotFound, UsageError
from coordination.forges.locate import HOSTS, ForgeAddress, knows, locate
from coordination.forges.models import ForgeIssue, IssueChanges, NewIssue
from coordination.frozen import FrozenModel
from coordination.models import Ecosystem, Issue, IssueStatus, Level
from coordination.terminal import CONTROLS
from coordination.text import require_known

Value = str | tuple[str, ...]
Values = Mapping[str, Value]
OPEN, CLOSED = "open", "closed"
FINISHED = frozenset({IssueStatus.RESOLVED, IssueStatus.CLOSED})
LONGEST_DESCRIPTION = 65_536
"""Number of characters of the longest body that is written into the file."""
PRIORITY = "priority:"
PRIORITY_LABELS = frozenset(f"{PRIORITY}{level}" for level in Level if level is not Level.MEDIUM)
MARKER = "<!-- coord: issue {} -->"
_MARKER = re.compile(r"\n*<!-- coord: issue ([0-9a-f]{16}) -->")
_UNFIT = re.compile(f"[{CONTROLS}\ud800-\udfff\ufeff\ufffe\uffff]")


class Side(StrEnum):
    FILE = "file"
    FORGE = "forge"


@dataclass(frozen=True, kw_only=True)
class IssueSyncOptions:
    """The options of `coord issue sync`."""

    repos: Annotated[
        tuple[str, ...],
        Option(
            "Synchronise the issues at the forges of these repositories (default: all).",
            flag="--repo",
            filters=True,
            completes="repo_names",
        ),
    ] = ()
    pull: Annotated[
        bool, Option("Create an issue in the file for each open issue of the forge that the file lacks.")
    ] = False
    prefer: Annotated[
        Side, Option("Keep the value of this side where both have changed a field (default: file).")
    ] = Side.FILE
    dry_run: Annotated[bool, Option("Show what would be done; change nothing.")] = False


class IssueAction(StrEnum):
    CREATED = "created"
    """At the forge."""
    LINKED = "linked"
    """An earlier synchronisation created it at the forge but ended before it wrote the id into the file."""
    PULLED = "pulled"
    """Created in the file."""
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    WOULD_CREATE = "would_create"
    WOULD_LINK = "would_link"
    WOULD_PULL = "would_pull"
    WOULD_UPDATE = "would_update"


class FieldConflict(FrozenModel):
    """A field that both sides have changed."""

    field: str
    file: str
    """The value of the file; labels are joined by commas."""
    forge: str
    kept: Side
    """The side whose value won."""


class IssueResult(FrozenModel):
    """The result of `coord issue sync` for one issue, or for a repository as a whole (without `issue`)."""

    issue: str = ""
    """Id in the file; empty for one that was not pulled."""
    repo: str
    forge: str = ""
    """Id at the forge, as in `github:acme/api#7`."""
    url: str = ""
    title: str = ""
    action: IssueAction
    to_forge: tuple[str, ...] = ()
    """Fields that were written to the forge."""
    to_file: tuple[str, ...] = ()
    conflicts: tuple[FieldConflict, ...] = ()
    error: str = ""
    """Fact and next command of a failure."""
    code: int = 0
    """The exit code that belongs to the failure."""

    def failed(self, error: CoordinationError) -> IssueResult:
        """Return this result as a failure."""
        update = {"action": IssueAction.FAILED, "error": str(error), "code": error.exit_code}
        return self.model_copy(update=update)


class IssueSyncReport(FrozenModel):
    results: tuple[IssueResult, ...]
    not_pulled: int = 0
    """Open issues of the forges that the file lacks; `pull` creates them."""

    @property
    def code(self) -> int:
        """Return the exit code of the first failure; 0: both sides are equal."""
        return next((one.code for one in self.results if one.code), 0)


def has_priorities(labels: Collection[str]) -> bool:
    """Return whether a repository has the labels of priorities."""
    return {label.casefold() for label in labels} >= PRIORITY_LABELS


def values_of_file(issue: Issue, *, priorities: bool) -> dict[str, Value]:
    values: dict[str, Value] = {
        "title": _line(issue.title),
        "description": _clean(issue.description),
        "status": CLOSED if issue.status in FINISHED else OPEN,
        "labels": _without_priority(issue.labels) if priorities else issue.labels,
        "assignee": (issue.assignee,) if issue.assignee else (),
    }
    return values | ({"priority": issue.priority.value} if priorities else {})


def values_of_forge(
    found: ForgeIssue, mine: Values, base: Mapping[str, str], *, priorities: bool
) -> dict[str, Value]:
    """Return the values of a forge's issue.

    Of several assignees, the one that both sides had last counts, else that of the file, else the first.
    """
    people = [(_line(name),) for name in found.assignees]
    known = [one for one in people if digest(one) == base.get("assignee")]
    known += [one for one in people if _key(one) == _key(mine["assignee"])]
    names = [name for label in found.labels if (name := _line(label))]
    levels = [name.casefold().removeprefix(PRIORITY) for name in names if name.casefold() in PRIORITY_LABELS]
    values: dict[str, Value] = {
        "title": _line(found.title) or "(no title)",
        "description": _clean(found.body),
        "status": OPEN if found.is_open else CLOSED,
        "labels": _without_priority(names) if priorities else tuple(names),
        "assignee": next(iter((*known, *people)), ()),
    }
    return values | ({"priority": next(iter(levels), Level.MEDIUM.value)} if priorities else {})


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The values to write to each side, and the equal ones."""

    to_forge: Values
    to_file: Values
    equal: Values
    conflicts: tuple[FieldConflict, ...]

    @property
    def agreed(self) -> dict[str, str]:
        """Return the digests of the values that both sides have after the synchronisation."""
        return {name: digest(v) for name, v in {**self.equal, **self.to_forge, **self.to_file}.items()}


def decide(mine: Values, theirs: Values, base: Mapping[str, str], prefer: Side) -> Decision:
    """Compare the values of the file and the forge. `base`: digests of the last common values; a field that
    is not in it and differs counts as changed by both sides.
    """
    to_forge: dict[str, Value] = {}
    to_file: dict[str, Value] = {}
    equal: dict[str, Value] = {}
    conflicts: list[FieldConflict] = []
    for name, value in mine.items():
        other, last = theirs[name], base.get(name)
        if _key(value) == _key(other):
            equal[name] = value
            continue
        winner = Side.FILE if last == digest(other) else Side.FORGE if last == digest(value) else None
        if winner is None:
            winner = prefer
            conflicts.append(FieldConflict(field=name, file=shown(value), forge=shown(other), kept=winner))
        (to_forge if winner is Side.FILE else to_file)[name] = value if winner is Side.FILE else other
    return Decision(to_forge=to_forge, to_file=to_file, equal=equal, conflicts=tuple(conflicts))


def fields_of_file(values: Values) -> dict[str, Any]:
    """Return values as fields of an issue of the file. Raises UsageError for a text that is too long."""
    fields: dict[str, Any] = {name: value for name, value in values.items() if name != "status"}
    if len(text := fields.get("description", "")) > LONGEST_DESCRIPTION:
        raise UsageError(
            f"the text at the forge has {len(text):,} characters; the file accepts {LONGEST_DESCRIPTION:,}",
            "shorten it at the forge; nothing of this issue was changed",
        )
    if "status" in values:
        fields["status"] = IssueStatus.CLOSED if values["status"] == CLOSED else IssueStatus.PENDING
    if "assignee" in fields:
        fields["assignee"] = next(iter(fields["assignee"]), None)
    return fields


def new_issue(values: Values, marker: str) -> NewIssue:
    return NewIssue(
        title=str(values["title"]),
        body=with_marker(str(values["description"]), marker),
        labels=_labels(values),
        assignees=tuple(values["assignee"]),
    )


def changes_at_forge(decision: Decision, found: ForgeIssue, theirs: Values) -> IssueChanges:
    """Return the changes that give the values to the forge's issue; its other assignees stay."""
    values, marker = decision.to_forge, marker_of(found.body)
    changes: dict[str, Any] = {}
    if "title" in values:
        changes["title"] = values["title"]
    if "description" in values:
        changes["body"] = with_marker(str(values["description"]), marker)
    if "status" in values:
        changes["is_open"] = values["status"] == OPEN
    if "labels" in values or "priority" in values:
        changes["labels"] = _labels({**theirs, **values})
    if "assignee" in values:
        before = {*_key(theirs["assignee"]), *_key(values["assignee"])}
        others = [name for name in found.assignees if _line(name).casefold() not in before]
        changes["assignees"] = (*values["assignee"], *others) if values["assignee"] else ()
    return IssueChanges(**changes)


def _labels(values: Values) -> tuple[str, ...]:
    level = values.get("priority", Level.MEDIUM.value)
    named = dict.fromkeys(values["labels"])
    return (*named, *([f"{PRIORITY}{level}"] if level != Level.MEDIUM.value else []))


def _without_priority(names: Collection[str]) -> tuple[str, ...]:
    return tuple(name for name in names if not name.casefold().startswith(PRIORITY))


def marker_of(body: str) -> str:
    """Return the random word in coord's marker of a text; empty without a marker."""
    found = _MARKER.search(body)
    return found[1] if found else ""


def with_marker(text: str, marker: str) -> str:
    return "\n\n".join(filter(None, (text, MARKER.format(marker) if marker else "")))


def digest(value: Value) -> str:
    return sha256(json.dumps(_key(value)).encode()).hexdigest()[:12]


def rejected_fields(sent: Values, theirs: Values) -> tuple[str, ...]:
    """Return the fields of a change that the forge has not applied."""
    return tuple(name for name, value in sent.items() if _key(value) != _key(theirs[name]))


def shown(value: Value) -> str:
    return value if isinstance(value, str) else ", ".join(value)


def _key(value: Value) -> Any:
    """Return a value in the form for comparison, without order and case of names."""
    return value if isinstance(value, str) else sorted({text.casefold() for text in value})


def _clean(text: str) -> str:
    """Return a text as the file can hold it: without control characters and coord's marker."""
    lines = _MARKER.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _UNFIT.sub("", lines).strip()


def _line(text: str) -> str:
    return " ".join(_clean(text).split())


@dataclass(frozen=True, kw_only=True)
class Home:
    """A repository with a forge, and its issues of the file."""

    repo: str
    address: ForgeAddress
    issues: tuple[Issue, ...]

    def reference(self, number: int) -> str:
        """Return the id of an issue at the forge, as the file has it."""
        return f"{place_of(self.address)}#{number}"

    @property
    def touched(self) -> frozenset[str]:
        """Return the repositories whose issues a synchronisation may change."""
        return frozenset({self.repo, *(name for issue in self.issues for name in issue.repos)})


def place_of(address: ForgeAddress) -> str:
    """Return forge and project as in `github:acme/api`; with the host for a self-hosted forge."""
    host = "" if address.host in HOSTS else f"{address.host}/"
    return f"{address.type}:{host}{address.project}"


def number_of(issue: Issue) -> int | None:
    """Return the number of the issue at its forge; None without one."""
    known = issue.forge.id if issue.forge else None
    return int(known.rpartition("#")[2]) if known else None


def homes_of(ecosystem: Ecosystem, wanted: Sequence[str]) -> tuple[tuple[Home, ...], tuple[IssueResult, ...]]:
    """Return the repositories with their issues, and the failures of issues whose forge is not known.

    An issue belongs to the forge that its id names, else to that of its first repository with a forge; a
    finished issue is not created there. Raises NotFound for an unknown repository, PlanRefused for one
    without a forge.
    """
    repos = {repo.name: repo for repo in ecosystem.repos}
    require_known(wanted, repos, "repo", "repo list")
    for name in wanted:
        locate(repos[name])
    addresses = {name: locate(repo) for name, repo in repos.items() if knows(repo)}
    found: dict[str, list[Issue]] = {name: [] for name in addresses if name in wanted or not wanted}
    homeless = []
    for issue in ecosystem.coordination.issues:
        home = _home(issue, addresses)
        if home in found:
            found[home].append(issue)
        elif home is None and _is_wanted(issue, wanted):
            homeless.append(_without_home(issue))
    homes = tuple(
        Home(repo=name, address=addresses[name], issues=tuple(issues)) for name, issues in found.items()
    )
    return homes, tuple(homeless)


def _home(issue: Issue, addresses: Mapping[str, ForgeAddress]) -> str | None:
    """Return the repository; empty if the issue has none, None if its id names another project."""
    known = [name for name in issue.repos if name in addresses]
    if issue.forge and issue.forge.id:
        place = issue.forge.id.rpartition("#")[0].casefold()
        return next((name for name in known if place_of(addresses[name]).casefold() == place), None)
    return "" if issue.status in FINISHED or not known else known[0]


def _is_wanted(issue: Issue, wanted: Collection[str]) -> bool:
    return not wanted or not set(wanted).isdisjoint(issue.repos)


def _without_home(issue: Issue) -> IssueResult:
    known = issue.forge.id if issue.forge and issue.forge.id else ""
    return IssueResult(
        issue=issue.id,
        repo=issue.repos[0] if issue.repos else "",
        forge=known,
        title=issue.title,
        action=IssueAction.FAILED,
        error=f"{issue.id} is {known}, and none of its repositories is there\n"
        f"correct its `repos`, or the `url` of the repository; or remove `forge` from {issue.id}",
        code=NotFound.exit_code,
    )
