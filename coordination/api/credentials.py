"""The credentials of this machine, for `coord credential`: references to secrets, never secrets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from coordination.api.authority import CREDENTIAL
from coordination.credentials.records import Credential, Purpose
from coordination.credentials.references import SecretUnreadable, parse, read
from coordination.credentials.store import CredentialStore, credentials_file
from coordination.errors import NotAllowed, NotFound
from coordination.text import did_you_mean, listed

if TYPE_CHECKING:
    from coordination.api.facade import Facade


@dataclass(frozen=True, kw_only=True)
class Written:
    """A credential after a change."""

    credential: Credential
    unreadable: str = ""
    """The reason why its secret cannot be read in this process; a worker may have what is missing here."""


def listing() -> Sequence[Credential]:
    """List the credentials of this machine. No secret is read.

    Raises NotAllowed for a file that other users can reach.
    """
    return _store().all()


def names_for_webhooks() -> Sequence[str]:
    """Return the names of the credentials with which forges sign webhooks. Raises as `listing` does."""
    return tuple(one.name for one in _store().valid_for(Purpose.WEBHOOK, datetime.now(UTC)))


def add(
    facade: Facade,
    name: str,
    reference: str,
    *,
    repos: Iterable[str] = (),
    purposes: Iterable[Purpose] = (Purpose.TODO,),
    hosts: Iterable[str] = (),
    expires: date | None = None,
    replace: bool = False,
) -> Written:
    """Add a credential: the name of a secret of this machine, which is read when it is needed.

    `repos`: for these repositories; without any, for all. `hosts`: given to these hosts only. `expires`: the
    last day.

    Raises UsageError, Conflict, NotAllowed, and NotFound for a repository that the file does not declare.
    """
    named = tuple(repos)
    _refuse_unknown(facade, named)
    facade.authority.check(CREDENTIAL, named)
    parsed, store = parse(reference), _outside(facade)
    if replace and (old := {one.name: one for one in store.all()}.get(name)):
        facade.authority.check(CREDENTIAL, old.repos)
    added = store.add(
        name, parsed, repos=named, purposes=purposes, hosts=hosts, expires=expires, replace=replace
    )
    return Written(credential=added, unreadable=_trouble(reference))


def rotate(facade: Facade, name: str, reference: str, expires: date | None = None) -> Written:
    """Read a credential from another reference. The old one is used until the new one was read for the first
    time.

    Raises as `add` does.
    """
    parsed, store = parse(reference), _outside(facade)
    facade.authority.check(CREDENTIAL, store.get(name).repos)
    return Written(credential=store.rotate(name, parsed, expires), unreadable=_trouble(reference))


def revoke(facade: Facade, name: str) -> Credential:
    """Remove a credential from this machine. Todos that name it wait; running ones keep the secret that they
    got.

    Raises NotFound, NotAllowed.
    """
    store = _store()
    facade.authority.check(CREDENTIAL, store.get(name).repos)
    return store.revoke(name)


def _store() -> CredentialStore:
    return CredentialStore(credentials_file())


def _outside(facade: Facade) -> CredentialStore:
    """Return the store. Raises NotAllowed where its file lies in a folder that todos change."""
    store = _store()
    for folder in facade.changed_folders():
        if store.path.resolve().is_relative_to(folder.resolve()):
            raise NotAllowed(
                f"{store.path} lies in {folder}, where todos could change it",
                "set XDG_CONFIG_HOME to a folder outside of all repositories",
            )
    return store


def _refuse_unknown(facade: Facade, repos: Sequence[str]) -> None:
    if not facade.has_file:  # a worker's machine may have none
        return
    known = [repo.name for repo in facade.document.ecosystem.repos]
    for name in repos:
        if name not in known:
            raise NotFound(
                f"{facade.path} declares no repository {name!r:.100}{did_you_mean(name, known)}",
                f"it declares: {listed(known)}",
            )


def _trouble(reference: str) -> str:
    try:
        read(parse(reference), os.environ)
    except SecretUnreadable as error:
        return str(error)
    return ""
