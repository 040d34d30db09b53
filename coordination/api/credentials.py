"""The credentials of this machine, for `coord credential`: references to secrets, never secrets."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated

from coordination.credentials.records import Credential, Purpose
from coordination.credentials.references import SecretUnreadable, parse, read
from coordination.credentials.store import CredentialStore, credentials_file
from coordination.declared import Effect, Option, operation
from coordination.errors import NotAllowed, NotFound
from coordination.text import did_you_mean, listed

if TYPE_CHECKING:
    from coordination.api.access import EcosystemAccess


@dataclass(frozen=True, kw_only=True)
class Written:
    """A credential after a change."""

    credential: Credential
    unreadable: str = ""
    """The reason why its secret cannot be read in this process; a worker may have what is missing here."""


Expires = Annotated[
    date | None,
    Option("Use it up to this day: a date, or a duration like 90d (default: without end).", metavar="DAY"),
]
Reference = Annotated[
    str,
    Option(
        "The place of the secret, which is never given to coord: env:NAME, file:PATH (mode 0600), "
        'keyring:SERVICE/NAME, or command:CMD, as in "command:gh auth token".'
    ),
]
Name = Annotated[str, Option("The name of a credential.", completes="credential_names")]


class Credentials:
    """Names of secrets of this machine, for todos that list them under `secrets`, and for git."""

    def __init__(self, access: EcosystemAccess) -> None:
        self._access = access

    @operation("credential.add", Effect.CHANGES, right="administer", tool=False)
    def add(
        self,
        name: Annotated[str, Option("The name of the credential.")],
        reference: Reference,
        *,
        repos: Annotated[
            Collection[str], Option("Use it for this repository.", flag="--repo", completes="repo_names")
        ] = (),
        purposes: Annotated[
            Collection[Purpose], Option("Use it for this purpose (default: todo).", flag="--purpose")
        ] = (Purpose.TODO,),
        hosts: Annotated[
            Collection[str],
            Option(
                "Let coord give it only to this host, as in github.com (default: the hosts of the named "
                "repositories).",
                flag="--host",
            ),
        ] = (),
        expires: Expires = None,
        replace: Annotated[bool, Option("Replace a credential of this name.")] = False,
    ) -> Written:
        """Add a credential: the name of a secret of this machine, which is read when it is needed. Git gets
        those for read and write, todos get them and those for todo; those for pr, merge and webhook stay in
        coord's own processes.

        `repos`: without any, it is for all. Raises UsageError, Conflict, NotAllowed, and NotFound for a
        repository that the file does not declare.
        """
        named = tuple(repos)
        self._refuse_unknown(named)
        self._access.authority.check("credential.add", named)
        parsed, store = parse(reference), self._outside()
        if replace and (old := {one.name: one for one in store.all()}.get(name)):
            self._access.authority.check("credential.add", old.repos)
        added = store.add(
            name, parsed, repos=named, purposes=purposes, hosts=hosts, expires=expires, replace=replace
        )
        return Written(credential=added, unreadable=_trouble(reference))

    @operation("credential.list", Effect.READS, tool=False)
    def list(self) -> Sequence[Credential]:
        """List the credentials of this machine. No secret is read.

        Raises NotAllowed for a file that other users can reach.
        """
        return _store().all()

    def names_for_webhooks(self) -> Sequence[str]:
        """Return the names of the credentials with which forges sign webhooks. Raises as `list` does."""
        return tuple(one.name for one in _store().valid_for(Purpose.WEBHOOK, datetime.now(UTC)))

    @operation("credential.rotate", Effect.CHANGES, right="administer", tool=False)
    def rotate(self, name: Name, reference: Reference, *, expires: Expires = None) -> Written:
        """Read a credential from another reference. The old one is used until the new one was read for the
        first time.

        Raises as `add` does.
        """
        parsed, store = parse(reference), self._outside()
        self._access.authority.check("credential.rotate", store.get(name).repos)
        return Written(credential=store.rotate(name, parsed, expires), unreadable=_trouble(reference))

    @operation("credential.revoke", Effect.CHANGES, right="administer", tool=False)
    def revoke(self, name: Name) -> Credential:
        """Remove a credential from this machine. Todos that name it wait; running ones keep the secret that
        they got.

        Raises NotFound, NotAllowed.
        """
        store = _store()
        self._access.authority.check("credential.revoke", store.get(name).repos)
        return store.revoke(name)

    def _outside(self) -> CredentialStore:
        """Return the store. Raises NotAllowed where its file lies in a folder that todos change."""
        store = _store()
        for folder in self._access.changed_folders():
            if store.path.resolve().is_relative_to(folder.resolve()):
                raise NotAllowed(
                    f"{store.path} lies in {folder}, where todos could change it",
                    "set XDG_CONFIG_HOME to a folder outside of all repositories",
                )
        return store

    def _refuse_unknown(self, repos: Sequence[str]) -> None:
        if not self._access.has_file:  # a worker's machine may have none
            return
        known = [repo.name for repo in self._access.document.ecosystem.repos]
        for name in repos:
            if name not in known:
                raise NotFound(
                    f"{self._access.path} declares no repository {name!r:.100}{did_you_mean(name, known)}",
                    f"it declares: {listed(known)}",
                )


def _store() -> CredentialStore:
    return CredentialStore(credentials_file())


def _trouble(reference: str) -> str:
    try:
        read(parse(reference), os.environ)
    except SecretUnreadable as error:
        return str(error)
    return ""
