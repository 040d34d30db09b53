"""All kinds of events, with one sentence each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from coordination.errors import UsageError
from coordination.operation_index import INDEX
from coordination.text import did_you_mean

GAP = "events.gap"

LASTING: Mapping[str, str] = {
    "run.started": "A run started; `actor` submitted it.",
    "run.paused": "A run was paused.",
    "run.resumed": "A paused run continues.",
    "run.imported": "An exported run was imported.",
    "run.cancelled": "A run was cancelled.",
    "run.timed_out": "A run exceeded its time limit.",
    "run.switched": "A run by `auto` turned from levels to dataflow; the title is the wait.",
    "run.rolling_back": "A rollback began; `why` is its reason.",
    "run.stuck": "Nothing will ever move a run: a fault of coord.",
    "run.ended": "A run ended; `status` and the numbers of its todos by state. A rollback ends it again.",
    "run.cleaned": "A person removed what an ended run had left on the workers' machines.",
    "run.forgotten": "The records of an ended run were deleted after `keep_runs`.",
    "level.opened": "The todos of a level may start.",
    "level.settled": "All todos of a level have ended.",
    "todo.started": "A worker began to execute a todo; `attempt` counts.",
    "todo.parked": "A todo waits for a person, a breaker, a worker or the machine; `reason` says which.",
    "todo.retrying": "A todo failed and will be tried again.",
    "todo.lost": "The worker of a todo was lost.",
    "todo.poison": "A todo has lost too many workers and failed.",
    "todo.settled": "A todo ended; `state`, `attempt` (the last), `duration_ms` and `exit_code` of that, "
    "`tried_ms` of those before, and `cached` if its result was reused.",
    "todo.compensating": "A worker began to undo a todo.",
    "todo.accepted": "A failed compensation was accepted as undone.",
    "todo.approved": "A person, or the timeout of its gate, approved a todo or milestone.",
    "todo.rejected": "A person, or the timeout of its gate, rejected a todo or milestone.",
    "milestone.reached": "A milestone with a gate was approved in a run; the subject is PLAN/MILESTONE.",
    "change_set.landed": "Changes of a repository landed in its base branch; the subject is the change set.",
    "change_set.reverted": "The landing of a repository's changes was reverted; its change set is open.",
    "change_set.adopted": "A person took a branch as the tip of a change set in a repository.",
    "change_set.discarded": "The changes of a repository were discarded.",
    "request.opened": "A pull request was opened for a repository of a change set; the title is its address.",
    "request.updated": "The branch or the text of a pull request was brought up to date.",
    "request.closed": "A pull request of a change set was closed without a merge.",
    "breaker.opened": "A circuit breaker opened; the title is the last failure.",
    "breaker.half_open": "A circuit breaker lets one caller try.",
    "breaker.closed": "A circuit breaker closed after a successful try.",
    "breaker.reset": "A person closed a circuit breaker.",
    "deadlock.found": "A deadlock was found; the victim's request was withdrawn.",
    "lock.forced": "A person released a lock that somebody else held.",
    "dependency.checked": "A dependency was checked; `result` is the outcome.",
    "trust.refused": "A worker refused a todo, or a cached result, because a signature is missing or wrong.",
    "credential.read": "A worker read a credential; the subject is its name, `todo` the todo that "
    "gets it, or `git` for its own git commands.",
    "redis.restarted": "Redis was restarted while runs were live.",
    "health.changed": "The health of a repository, remote, service or disk changed: `was`, `state`, "
    "`required`.",
    "health.given_up": "Something that failed is not recovered any more: five recoveries were in vain.",
    "access.granted": "`actor`, a principal of the trust file, did something that needs a right: "
    "`operation`, `right`, `key`; under emergency access also `break_glass` and `reason`.",
    "access.refused": "An operation was refused; the title says why.",
    "access.break_glass": "A person declared an emergency and has most rights until `until`.",
    "access.expiring": "A key, credential or certificate of a machine expires soon, or cannot be used "
    "any more: `host`, `next`.",
    "access.trust": "The trust file of a machine was edited: `operation`, `host`.",
    GAP: "Events between a reader's position and the next event were deleted before it read them.",
}
"""Kinds that are always written. Commands are `command.<name>`, see `COMMANDS`."""


def _lines() -> Mapping[str, Sequence[str]]:
    """Return event → the first sentences of the operations that leave it."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for row in INDEX.values():
        if row.event:
            found[row.event].append(row.line)
    return found


COMMANDS: Mapping[str, str] = {
    "command.accept": "A person or program accepted a failed compensation.",
    "command.complete": "A person or program completed a manual todo of a run.",
    "command.clear_cache": "A program deleted cached results and shared values.",
    "command.clear_checkpoints": "A program deleted the checkpoints of a run, or of all ended runs.",
    **{
        f"command.{event}": f"A person or program did it: {'; or: '.join(lines)}."
        for event, lines in _lines().items()
    },
}

ASKED: Mapping[str, str] = {
    "cache.hit": "A shared value was read from Redis. Reads from a process's own memory are counted only.",
    "cache.miss": "A shared value was sought and not found.",
    "cache.evicted": "A shared value was deleted to make room.",
    "lock.granted": "A lock was granted.",
    "lock.released": "A lock was released.",
    "lock.waiting": "A request waits for a lock.",
    "resource.granted": "A part of a resource was granted to a program.",
    "resource.released": "A part of a resource was released by a program.",
    "resource.waiting": "A program waits for a part of a resource.",
}
"""Kinds that are counted, and written while somebody asks for them by name."""

_NOUNS = {
    "issue": "an issue", "todo": "a todo", "plan": "a plan", "milestone": "a milestone",
    "dependency": "a dependency", "repo": "a repository", "resource": "a resource",
}  # fmt: skip

EDITS: Mapping[str, str] = {
    **{
        f"{noun}.{verb}": f"The file was edited: {name} was {verb}."
        for noun, name in _NOUNS.items()
        for verb in ("created", "updated", "deleted")
    },
    "issue.resolved": "The file was edited: an issue was resolved.",
    "issue.closed": "The file was edited: an issue was closed.",
    **{
        f"{noun}.{verb}": f"The file was edited: {name} was {verb}."
        for noun, name in list(_NOUNS.items())[1:4]
        for verb in ("completed", "cancelled")
    },
    **{
        f"{noun}.reopened": f"The file was edited: {name} was open again."
        for noun, name in list(_NOUNS.items())[:4]
    },
    "dependency.status_changed": "The file was edited: a dependency got another status.",
    "file.recorded": "The journal of the file began.",
    "file.changed": "An editor, git or another program changed the file: one event, with counts.",
    "history.gap": "Entries of the journal were removed or damaged before they were read.",
}
"""Kinds of edits of the file, which a worker forwards from its journal. `event` is the whole event as JSON,
with `changes`: field → [before, after].
"""

OF_A_RUN: Mapping[str, str] = {
    "todo.ready": "A todo may start.",
    "todo.dispatched": "The message of a todo was sent to a worker.",
}
"""Kinds that only the run's own stream has: `Run.events`, and subscribers while `Run.wait` runs."""

KINDS: Mapping[str, str] = {**LASTING, **COMMANDS, **EDITS, **ASKED, **OF_A_RUN}


def matching(pattern: str) -> tuple[str, ...]:
    """Return the kinds that match a name or a pattern (`todo.*`, `*`). Raises UsageError if none does."""
    found = tuple(kind for kind in KINDS if fnmatchcase(kind, pattern))
    if not found:
        noun = pattern.partition(".")[0]
        alike = [kind for kind in KINDS if kind.startswith(f"{noun}.")]
        nouns = dict.fromkeys(f"{kind.partition('.')[0]}.*" for kind in KINDS)
        raise UsageError(
            f"there is no event {pattern!r:.200}{did_you_mean(pattern, KINDS)}",
            f"there are: {', '.join(alike or nouns)}",
        )
    return found


def asked_by_name(pattern: str) -> bool:
    """Return whether the pattern asks for counted kinds: `cache.hit` and `cache.*` do, `*` does not."""
    return "." in pattern and any(kind in ASKED for kind in matching(pattern))
