"""Whom this machine trusts, and with which key this user signs: `coord identity` and `coord trust`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from coordination.environment import actor
from coordination.errors import CoordinationError
from coordination.operations.folder import state_folder
from coordination.trust.identity import (
    WORKER_KEY,
    choose_ssh_key,
    create_identity,
    find_identity,
    require_identity,
    worker_identity,
)
from coordination.trust.rights import Role
from coordination.trust.trust_edit import TrustEditor
from coordination.trust.trust_file import Kind, Principal, TrustedKey, TrustFile, read_trust, trust_path

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess

__all__ = ["Kind", "Role"]

EXPIRES_SOON = timedelta(days=7)


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
class KeyView:
    """A key of the trust file with its owner."""

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


def repos_of(access: EcosystemAccess) -> list[Path]:
    """Return the folders that todos change: checkouts of the ecosystem, and worktrees. Without a file there
    are none.
    """
    if not access.has_file:
        return []
    try:
        document = access.document
    except CoordinationError:  # a broken file declares no repositories that anything could work on
        return [access.path.parent / ".coord"]
    paths = (document.repo_path(repo) for repo in document.ecosystem.repos)
    return [*(path for path in paths if path is not None), access.path.parent / ".coord"]


class TrustAdministration:
    """The identity of this user and the trust file of this machine."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    # The identity

    def create_identity(self, name: str = "", *, replace: bool = False) -> tuple[IdentityView, bool]:
        """Make a key of coord's own, or use the one that exists; return it, and whether it is new. Raises
        UsageError.
        """
        new = create_identity(name or actor(), replace=replace)
        return self.identity(), new

    def choose_ssh_key(self, source: str) -> IdentityView:
        """Sign with an SSH key of this user from now on. Raises UsageError and CoordinationError if it cannot
        sign.
        """
        choose_ssh_key(source)
        return self.identity()

    def identity(self) -> IdentityView:
        """Return the key of this user. Raises UsageError if there is none."""
        found, signer = find_identity(), require_identity()
        assert found is not None
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

    @property
    def editor(self) -> TrustEditor:
        """Return the editor of the trust file, whose methods are add, grant, ungrant and revoke."""
        return TrustEditor(self.path, repos_of(self._access))

    def read(self) -> TrustFile:
        """Return the trust file. Raises Unsafe, UsageError."""
        return read_trust(self.path, repos_of(self._access))

    def list_keys(self) -> list[KeyView]:
        """Return the principals with their keys, a row for each key, or one for a principal without keys."""
        now = datetime.now(UTC)
        return [row for principal in self.read().principals for row in _rows(principal, now)]

    def verify(self) -> Verification:
        """Check the trust file; return warnings about what is in it. Raises Unsafe, UsageError."""
        trust, now = self.read(), datetime.now(UTC)
        return Verification(
            path=str(self.path),
            principals=len(trust.principals),
            keys=sum(len(principal.keys) for principal in trust.principals),
            warnings=(*_warnings(trust.principals, now), *self._own_warnings(trust)),
        )

    def _own_warnings(self, trust: TrustFile) -> Sequence[str]:
        try:
            fingerprint = require_identity().fingerprint
        except CoordinationError as error:
            return [error.message]
        if trust.holder(fingerprint) is None:
            return [f'your key {fingerprint} is not in it: coord trust add "$(coord identity show)"']
        return []


def _rows(principal: Principal, now: datetime) -> list[KeyView]:
    roles = tuple(
        str(grant.role) if grant.repos is None else f"{grant.role}: {', '.join(grant.repos)}"
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
            state=_state(key, now),
            valid_from=key.valid_from,
            valid_until=key.valid_until,
            revoked=key.revoked,
        )
        for key in principal.keys
    ]


def _state(key: TrustedKey, now: datetime) -> str:
    if key.revoked is not None:
        return "revoked"
    if key.valid_until is not None and key.valid_until <= now:
        return "expired"
    return "not yet valid" if key.valid_from is not None and key.valid_from > now else "valid"


def _warnings(principals: Sequence[Principal], now: datetime) -> list[str]:
    found = []
    for principal in principals:
        valid = [key for key in principal.keys if _state(key, now) == "valid"]
        if not valid:
            found.append(f"{principal.name} has no valid key: coord trust list")
        for key in valid:
            if key.valid_until is not None and key.valid_until - now < EXPIRES_SOON:
                left = key.valid_until - now
                found.append(
                    f"the key {key.public.fingerprint} of {principal.name} expires in {left.days} days: "
                    "coord trust add LINE --until DATE"
                )
        if not principal.grants and principal.kind is not Kind.WORKER:
            found.append(f"{principal.name} has no role: coord trust grant {principal.name} ROLE")
    return found
