"""Decides what the user of this process may do, by the trust file of this machine; records it as events.

Without a trust file everything is allowed: to the user of an embedded server, and to all who reach Redis;
under `signatures: require` nothing is, because a lost trust file must open nothing. With one, nothing is
allowed to a user whose key it does not have. A worker that requires signatures checks the signer of each
order again, by its own trust file: this check refuses an order early, and is the only check of operations
that are not orders.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from coordination.environment import ENV_PREFIX, acted_for, actor
from coordination.errors import CoordinationError, MissingRight, NotAllowed, NotTrusted
from coordination.models import Signatures
from coordination.operation_index import INDEX
from coordination.planner.gates import MILESTONE_REPO
from coordination.trust.rights import Right, Role, right_of
from coordination.trust.trust_file import trust_path

if TYPE_CHECKING:
    from coordination.backend.steps.namespace import AppendEvent
    from coordination.settings import Settings
    from coordination.trust.break_glass import Emergency
    from coordination.trust.trust_file import Principal, TrustFile

T = TypeVar("T")
CREDENTIAL = "credential"
"""The name of the right to change tokens of the servers of this machine."""
NEEDS: Mapping[str, str] = {
    **dict.fromkeys(
        (
            *("manager.create_issue", "manager.update_issue", "manager.close_issue", "manager.delete_issue"),
            *("manager.write_issues", "manager.create_todo", "manager.update_todo", "manager.complete_todo"),
            *("manager.reopen_todos", "manager.delete_todo", "manager.create_plan", "manager.update_plan"),
            *("manager.add_milestone", "manager.complete_milestone", "manager.delete_plan"),
            *("manager.create_dependency", "manager.update_dependency", "manager.delete_dependency"),
            *("manager.check_dependencies", "manager.write_outcomes", "manager.create_all"),
            *("manager.generate_plan", "manager.create_proposed"),
        ),
        "edit",
    ),
    **dict.fromkeys(
        (f"context().{name}" for name in ("set", "delete", "clear", "get_or_compute")), "context.set"
    ),
    "clear_cache": "clear_cache",
    "run.accept": "accept",
    "runs.accept": "accept",
    "clear_checkpoints": "clear_checkpoints",
    "runs.complete": "complete",
    **{name: row.order for name, row in INDEX.items() if row.right != Right.READ},
}
"""Operation of the facade that changes something → the name of its right (`trust.rights.OPERATIONS`). Each
checks the right itself, for the repositories that it touches, before it changes anything.
"""

Repos = Collection[str] | Callable[[], Collection[str]] | None
"""Repositories that an operation touches; None: the ecosystem as a whole. A function is called if there is a
trust file.
"""


NEEDS_OF_SCRIPTS: Mapping[str, Mapping[str, str]] = {
    "locks": dict.fromkeys(("break_", "release_all"), "lock.release"),
    "breakers": {"reset": "breaker.reset"},
    "messages": {
        **dict.fromkeys(("send", "broadcast", "request", "reply"), "message.send"),
        **dict.fromkeys(("register", "forget", "subscribe", "unsubscribe"), "message.register"),
        "publish": "topic.publish",
    },
}
"""Part of `Coord` for scripts alone → its method that changes what others see → the name of its right."""


class Checked:
    """A part of `Coord` whose methods check the right that they need."""

    def __init__(self, part: object, needs: Mapping[str, str], check: Callable[[str], None]) -> None:
        self._part, self._needs, self._check = part, needs, check

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Checked) and self._part is other._part

    def __hash__(self) -> int:
        return id(self._part)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        needed = self._needs.get(name)
        if needed is None:
            return found

        @wraps(found)
        def checked(*args: Any, **kwargs: Any) -> Any:
            self._check(needed)
            return found(*args, **kwargs)

        return checked


@dataclass(frozen=True, kw_only=True)
class Known:
    """The user of this process, or the person for whom it acts, as the trust file knows them."""

    trust: TrustFile
    principal: Principal
    fingerprint: str
    """Fingerprint of the key of this process; empty where it acts for a person, who shows no key."""
    emergency: Emergency | None = None
    """Emergency access that this user has now."""


class Authority:
    """Checks operations of one ecosystem."""

    def __init__(
        self,
        changed_folders: Callable[[], Collection[Path]],
        append_events: Callable[[Sequence[AppendEvent]], object],
        settings: Callable[[], Settings],
    ) -> None:
        """`changed_folders`: folders in which todos work; a trust file there is refused. `append_events`
        writes events where a server runs.
        """
        self._changed_folders = changed_folders
        self._append_events = append_events
        self._settings = settings

    def known(self) -> Known | None:
        """Return the user of this process; None if this machine has no trust file and requires none.

        Raises Unsafe and UsageError for an unusable trust file, NotAllowed for a user without a trusted key,
        and where signatures are required without a trust file.
        """
        path = trust_path()
        if not (path.exists() or path.is_symlink()):
            if not self.required:
                return None
            raise NotAllowed(
                f"this machine requires signatures and has no trust file {path}",
                'an administrator makes it: coord trust add "$(coord identity show)" --role admin',
            )
        from coordination.trust.identity import load_identity
        from coordination.trust.trust_file import read_trust

        trust, now = read_trust(path, self._changed_folders()), datetime.now(UTC)
        if person := acted_for():
            return Known(trust=trust, principal=_signed_in(trust, person, now), fingerprint="")
        if (signer := load_identity()) is None:
            raise NotAllowed(
                f"this machine has a trust file, {path}, and this user has no identity",
                "make one: coord identity init; then an administrator adds it: coord trust add LINE",
            )
        principal = trust.principal_of(signer.key, now)
        return Known(
            trust=trust,
            principal=principal,
            fingerprint=signer.fingerprint,
            emergency=_emergency(trust, principal, now),
        )

    @property
    def required(self) -> bool:
        """Return whether this machine requires signatures. Only its environment can say so: wrong settings of
        the file, which are not read then, stop no edit of the file.
        """
        named = os.environ.get(f"{ENV_PREFIX}SIGNATURES")
        return bool(named) and self._settings().signatures is Signatures.REQUIRE

    def check(self, operation: str, repos: Repos = None) -> None:
        """Raise NotAllowed unless the user of this process may do this. A refusal is an event."""
        try:
            if (known := self.known()) is None:
                return
        except NotAllowed as error:
            self._record_refusal(operation, actor(), error)
            raise
        named = set(repos() if callable(repos) else repos or ()) - {MILESTONE_REPO}
        try:
            known.trust.check(
                known.principal, right_of(operation), named, emergency=known.emergency is not None
            )
        except MissingRight as error:
            self._record_refusal(operation, known.principal.name, error)
            raise

    def check_reads(self, repos: Collection[str]) -> None:
        """Raise NotAllowed unless the user of this process may let an agent see these repositories."""
        if repos:
            self.check("see_files", repos)

    def checked(self, name: str, part: T) -> T:
        """Return a part of `Coord` for scripts, whose methods check the right that they need."""
        return cast("T", Checked(part, NEEDS_OF_SCRIPTS[name], self.check))

    def check_edit(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Raise NotAllowed unless the user of this process may make these changes of records.

        A record that names no repository, before or after, needs the right for all of them. A forced
        completion needs the right to override, too.
        """
        events = tuple(events)
        for touched in {_repos_of(event) for event in events}:
            self.check("edit", touched or None)
        for event in events:
            if "forced_over" in event.get("data", {}):
                self.check("override", _repos_of(event) or None)

    def allowed(self, operations: Iterable[str], repo: str | None = None) -> set[str]:
        """Return those of the operations that the user of this process may do in a repository; without one,
        in at least one repository.
        """
        try:
            known = self.known()
        except CoordinationError:
            return set()
        if known is None:
            return set(operations)
        emergency = known.emergency is not None
        if repo is not None:
            missing = known.principal.missing
            return {one for one in operations if not missing(right_of(one), {repo}, emergency=emergency)}
        rights = frozenset().union(*(grant.rights(emergency=emergency) for grant in known.principal.grants))
        return {operation for operation in operations if right_of(operation) in rights}

    def granted(self, operation: str, subject: str, repos: Sequence[str], run: str) -> AppendEvent | None:
        """Return the event of an operation that was allowed and carried out; None without a trust file."""
        try:
            known = self.known()
        except CoordinationError:  # the trust file was changed since the check
            return None
        if known is None:
            return None
        from coordination.events.records import append_step

        data = {
            "operation": operation,
            "right": str(right_of(operation)),
            "principal": str(known.principal.kind),
            "key": known.fingerprint,
        }
        if known.emergency is not None:
            data |= {"break_glass": known.emergency.nonce, "reason": known.emergency.reason}
        return append_step(
            "access.granted", subject, run=run, actor=known.principal.name, repos=repos, data=data
        )

    def _record_refusal(self, operation: str, who: str, error: NotAllowed) -> None:
        from coordination.events.records import append_step

        data = {"operation": operation, "right": str(right_of(operation))}
        self._append_events(
            [
                append_step(
                    "access.refused", actor=who, title=error.message.partition("\n")[0][:300], data=data
                )
            ]
        )


def _repos_of(event: Mapping[str, Any]) -> frozenset[str]:
    """Return the repositories of a changed record, with those that it named before."""
    found = set(event["repos"])
    for field in ("repo", "repos", "consumer", "provider"):
        for value in event["changes"].get(field, ()):
            found.update([value] if isinstance(value, str) else value or ())
    return frozenset(found)


def _signed_in(trust: TrustFile, person: str, now: datetime) -> Principal:
    """Return the principal of a person who has signed in at a server; a person with keys needs one that is
    valid now. Raises NotAllowed.
    """
    from coordination.trust.trust_file import Kind

    found = trust.named(person)
    if found is None or found.kind is not Kind.PERSON:
        raise NotAllowed(
            f"{person} is no person of the trust file of this machine",
            "an administrator adds the key under this name: coord trust add LINE",
        )
    refusals: list[NotTrusted] = []
    for key in found.keys:
        try:
            key.check(person, now)
        except NotTrusted as refused:
            refusals.append(refused)
        else:
            return found
    if refusals:
        raise refusals[-1]
    return found


def _emergency(trust: TrustFile, principal: Principal, now: datetime) -> Emergency | None:
    """Return the emergency access that this user has declared on this machine, while it lasts."""
    if not any(grant.role is Role.BREAK_GLASS for grant in principal.grants):
        return None
    from coordination.trust.break_glass import kept_emergency, open_emergency

    if not (raw := kept_emergency()):
        return None
    try:
        return open_emergency(raw, trust, principal, now)
    except NotAllowed:  # it is over
        return None
