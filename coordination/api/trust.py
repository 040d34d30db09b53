"""The identity of this user and the trust file of this machine: `coord identity` and `coord trust`."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from coordination.declared import Column, Effect, Listing, Option, Table, operation
from coordination.environment import actor
from coordination.errors import CoordinationError, UsageError
from coordination.events.records import append_step
from coordination.models import SandboxKind
from coordination.operations.state import state_folder
from coordination.trust.administration import TrustEditor, key_state, review
from coordination.trust.identity import (
    WORKER_KEY,
    choose_ssh_key,
    create_identity,
    require_identity,
    worker_identity,
)
from coordination.trust.rights import Role
from coordination.trust.trust_file import Kind, Principal, TrustFile, read_trust, trust_path

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess

NOTIFY_S = 20.0
"""Seconds that notify_command may take."""


@dataclass(frozen=True, kw_only=True)
class IdentityView:
    """The key with which this user signs."""

    line: str
    """The line for `coord trust add`."""
    fingerprint: str
    type: str
    source: str
    """The key file, `agent` or `agent:SHA256:…`."""
    named_by: str
    principal: str | None = None
    """Name of this user in the trust file of this machine; None if it does not have the key."""


@dataclass(frozen=True, kw_only=True)
class EmergencyView:
    """Emergency access of this user."""

    name: str
    reason: str
    until: datetime
    id: str
    """Its id in events and orders."""


@dataclass(frozen=True, kw_only=True)
class KeyView:
    """A key of the trust file with its owner."""

    shown: ClassVar = Table(
        columns=(
            Column("NAME"),
            Column("KIND"),
            Column("STATE"),
            Column("UNTIL", of="valid_until"),
            Column("ROLES", flexible=True, of=lambda key: "; ".join(key.roles) or "-"),
            Column("FINGERPRINT"),
        ),
        none="nobody is trusted",
        next_step='trust somebody: coord trust add "$(coord identity show)" --role ROLE',
    )
    name: str
    kind: str
    fingerprint: str
    state: str
    """valid, revoked, expired, or not yet valid."""
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    revoked: datetime | None = None
    roles: tuple[str, ...] = ()
    """Roles of the owner: `viewer`, `approver: api, web`."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Result of a check of the trust file, which can be used."""

    path: str
    principals: int
    keys: int
    warnings: tuple[str, ...]


Owner = Annotated[str, Option("The name of a principal.")]
TheRole = Annotated[Role, Option("The name of a role.")]
OfRepos = Annotated[
    Collection[str],
    Option("For this repository only (default: for all).", flag="--repo", completes="repo_names"),
]


class TrustAdministration:
    """The identity of this user and the trust file of this machine."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    # The identity

    @operation("identity.init", Effect.PRIVATE, tool=False)
    def create_identity(
        self,
        name: Annotated[str, Option("Your name in trust files (default: user@host).", flag="--name")] = "",
        *,
        replace: Annotated[
            bool, Option("Make a new key in place of the present one, which is kept.", flag="--new-key")
        ] = False,
    ) -> tuple[IdentityView, bool]:
        """Make a key with which this user signs: an Ed25519 key in ~/.config/coord. An existing key is kept
        and used.

        Return the key, and whether it is new.

        Raises UsageError.
        """
        new = create_identity(name or actor(), replace=replace)
        return self.identity(), new

    def choose_ssh_key(self, source: str) -> IdentityView:
        """Sign with an SSH key of this user from now on. Raises UsageError and CoordinationError if it cannot
        sign.
        """
        choose_ssh_key(source)
        return self.identity()

    @operation("identity.show", Effect.READS, tool=False)
    def identity(self) -> IdentityView:
        """Show the public key of this user, as a line for trust files.

        Raises UsageError if there is none.
        """
        found = require_identity()
        signer = found.signer()
        line = signer.public_key if signer.key.comment else f"{signer.public_key} {actor()}"
        return IdentityView(
            line=line,
            fingerprint=signer.fingerprint,
            type=signer.key.type,
            source=found.source,
            named_by=found.named_by,
            principal=self._name_of(signer.fingerprint),
        )

    def worker_identity(self, state: Path | None = None) -> IdentityView:
        """Return the key of the workers with this state folder (default: that of the ecosystem); make it if
        there is none. Raises CoordinationError.
        """
        folder = state or state_folder(self._access.path)
        signer = worker_identity(folder, f"worker@{self._access.settings.this_host}")
        file = folder / WORKER_KEY
        return IdentityView(
            line=signer.public_key,
            fingerprint=signer.fingerprint,
            type=signer.key.type,
            source=str(file),
            named_by=str(file),
            principal=self._name_of(signer.fingerprint),
        )

    def _name_of(self, fingerprint: str) -> str | None:
        try:
            holder = self.read().holder(fingerprint)
        except CoordinationError:  # `coord trust verify` says why
            return None
        return holder.name if holder else None

    # The trust file

    @property
    def path(self) -> Path:
        return trust_path()

    @operation("trust.add", Effect.PRIVATE, tool=False)
    def add(
        self,
        line: Annotated[str, Option("The output of `coord identity show` there.")],
        *,
        name: Annotated[
            str, Option("Name of its owner (default: the comment).", flag="--as", metavar="NAME")
        ] = "",
        kind: Annotated[Kind | None, Option("Kind of the owner (default: person).")] = None,
        roles: Annotated[Collection[Role], Option("Give this role.", flag="--role")] = (),
        repos: OfRepos = (),
        valid_from: Annotated[
            datetime | None,
            Option("Accept the key from this time on.", flag="--from", metavar="TIME", ahead=True),
        ] = None,
        valid_until: Annotated[
            datetime | None,
            Option("Accept the key until this time.", flag="--until", metavar="TIME", ahead=True),
        ] = None,
        another_key: Annotated[bool, Option("Add a further key of a principal that has one.")] = False,
    ) -> Listing[KeyView]:
        """Trust the owner of a key.

        Raises UsageError, Unsafe; Conflict if the key belongs to another principal or was revoked, if the
        principal has other keys and `another_key` is false, or while another process edits the file.
        """
        if repos and not roles:
            raise UsageError("a repository limits a role, and no role is given", "name it with --role")
        added = self._edit(
            "add",
            lambda editor: editor.add(
                line,
                name,
                kind=kind,
                roles=tuple(roles),
                repos=tuple(repos),
                valid_from=valid_from,
                valid_until=valid_until,
                another_key=another_key,
            ),
        )
        has_no_role = not added.grants and added.kind is not Kind.WORKER
        note = f"{added.name} has no role yet: coord trust grant {added.name} ROLE" if has_no_role else ""
        return Listing.of(self._keys_of(added), note)

    @operation("trust.revoke", Effect.PRIVATE, tool=False)
    def revoke(
        self,
        name: Annotated[
            str,
            Option("The fingerprint of a key, or the name of a principal.", metavar="NAME|FINGERPRINT"),
        ],
    ) -> tuple[KeyView, ...]:
        """Revoke a key, or all keys of a principal. Their earlier signatures are refused, too.

        Raises NotFound, Unsafe, UsageError; Conflict if there is no key to revoke.
        """
        return self._keys_of(self._edit("revoke", lambda editor: editor.revoke(name, datetime.now(UTC))))

    @operation("trust.grant", Effect.PRIVATE, tool=False)
    def grant(
        self,
        name: Owner,
        role: TheRole,
        *,
        repos: OfRepos = (),
        sandbox: Annotated[
            SandboxKind | None,
            Option("Run todos that are ordered by this role in a sandbox only, or not (default: unchanged)."),
        ] = None,
    ) -> tuple[KeyView, ...]:
        """Give a role to a principal.

        Raises NotFound, Unsafe, UsageError; Conflict if a role for all repositories would have to change for
        some of them.
        """
        confined = None if sandbox is None else sandbox is SandboxKind.BUBBLEWRAP
        change = self._edit("grant", lambda editor: editor.grant(name, role, tuple(repos), sandbox=confined))
        return self._keys_of(change)

    @operation("trust.ungrant", Effect.PRIVATE, tool=False)
    def ungrant(self, name: Owner, role: TheRole, *, repos: OfRepos = ()) -> tuple[KeyView, ...]:
        """Take a role from a principal.

        Raises NotFound, Unsafe, UsageError; Conflict if a role for all repositories would have to be taken
        away for some of them.
        """
        return self._keys_of(self._edit("ungrant", lambda editor: editor.ungrant(name, role, tuple(repos))))

    def _edit(self, name: str, change: Callable[[TrustEditor], Principal]) -> Principal:
        """Edit the trust file, and record the operation as an event."""
        changed = change(TrustEditor(self.path, self._access.changed_folders()))
        data = {"operation": name, "host": socket.gethostname()}
        self._access.append_events([append_step("access.trust", changed.name, actor=actor(), data=data)])
        return changed

    def _keys_of(self, principal: Principal) -> tuple[KeyView, ...]:
        return tuple(row for row in self.list_keys() if row.name == principal.name)

    def read(self) -> TrustFile:
        """Return the trust file. Raises Unsafe, UsageError."""
        return read_trust(self.path, self._access.changed_folders())

    @operation("trust.list", Effect.READS, tool=False)
    def list_keys(self) -> list[KeyView]:
        """List the principals of the trust file with their keys and roles. The file is
        ~/.config/coord/trust.yaml, or COORD_TRUST_FILE.

        Return a row for each key, or one for a principal without keys.
        """
        now = datetime.now(UTC)
        return [row for principal in self.read().principals for row in _rows(principal, now)]

    @operation("trust.verify", Effect.READS, tool=False)
    def verify(self) -> Verification:
        """Check that the trust file can be used, and that nobody else can change it.

        Raises Unsafe, UsageError.
        """
        found = review(self.path, self._access.changed_folders(), datetime.now(UTC))
        trust = self.read()
        advice = (*found.errors, *found.warnings)
        return Verification(
            path=str(self.path),
            principals=len(trust.principals),
            keys=sum(len(principal.keys) for principal in trust.principals),
            warnings=tuple(f"{words}: {hint}" for words, hint in advice),
        )

    # Emergency access

    @operation("trust.break-glass", Effect.PRIVATE, tool=False)
    def break_glass(
        self,
        reason: Annotated[str, Option("Say why; everybody sees it.", flag="--reason", metavar="TEXT")] = "",
    ) -> EmergencyView:
        """Declare an emergency: all rights except approve and override, for one hour.

        It needs the role break-glass. notify_command notifies a second person at once, and everything that
        the user does in this hour is marked.

        Raises UsageError without a reason or where nobody would be notified, MissingRight without the role
        break-glass, Unreachable where the event cannot be written.
        """
        from coordination.trust.break_glass import declare_emergency, keep_emergency

        now, signer, trust = datetime.now(UTC), require_identity().signer(), self.read()
        emergency, raw = declare_emergency(reason, signer, trust, now)
        settings = self._access.settings
        if settings.notify_command is None:
            raise UsageError(
                "nobody would be notified of the emergency: notify_command is not set",
                "set it under settings in ecosystem.yaml, or COORD_NOTIFY_COMMAND here and for the workers",
            )
        principal = trust.principal_of(signer.key, now)
        view = EmergencyView(
            name=principal.name, reason=emergency.reason, until=emergency.expires_at, id=emergency.nonce
        )
        with self._access.answering() as connection:
            event = connection.events.append(
                "access.break_glass",
                emergency.nonce,
                actor=principal.name,
                title=emergency.reason,
                data={"until": emergency.expires_at.isoformat(), "key": signer.fingerprint},
            )
        keep_emergency(raw)
        self._tell(view, event)
        return view

    def _tell(self, emergency: EmergencyView, event: str) -> None:
        """Call notify_command from this process: somebody must know at once, and perhaps no worker runs.

        The worker that leads maintenance calls it too, with the same id: this process may be a hostile one.
        """
        from coordination.runs.maintenance.notifier import BREAK_GLASS, NEXT, environment_of, line_of
        from coordination.terminal import spelled
        from coordination.user_program import NotStarted, run

        notice = {
            "event": BREAK_GLASS,
            "id": event,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "title": spelled(f"{emergency.name} until {emergency.until.isoformat()}: {emergency.reason}"),
            "next": NEXT[BREAK_GLASS],
        }
        command = self._access.settings.notify_command
        assert command is not None
        data, variables = line_of(notice), environment_of(notice)
        try:
            why = run(command, variables, given=data, timeout_s=NOTIFY_S, grace_s=1.0).failure
        except NotStarted as error:
            why = str(error)
        if why:
            self._access.warn(f"notify_command failed, so notify somebody yourself: {why}")

    def end_break_glass(self) -> bool:
        """Give up emergency access before its hour is over; return whether there was any."""
        from coordination.trust.break_glass import end_emergency

        return end_emergency()


def _rows(principal: Principal, now: datetime) -> list[KeyView]:
    roles = tuple(
        str(grant.role)
        + (f": {', '.join(grant.repos)}" if grant.repos is not None else "")
        + (" (sandbox)" if grant.sandbox else "")
        for grant in principal.grants
    )
    owner = KeyView(
        name=principal.name, kind=str(principal.kind), roles=roles, fingerprint="", state="no key"
    )
    if not principal.keys:
        return [owner]
    return [
        dataclasses.replace(
            owner,
            fingerprint=key.public.fingerprint,
            state=key_state(key, now),
            valid_from=key.valid_from,
            valid_until=key.valid_until,
            revoked=key.revoked,
        )
        for key in principal.keys
    ]
