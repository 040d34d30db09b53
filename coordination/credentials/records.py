"""The record of a credential, and its rules: repositories, purposes and expiry."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from coordination.declared import Cell, Column, Table
from coordination.durations import EXPIRY_WARNING
from coordination.models import Record, RepoName, SecretName
from coordination.states import tone_of
from coordination.text import listed


class Purpose(StrEnum):
    """An operation that may use a credential."""

    TODO = "todo"
    """Todos that name it get it as a file; git never does."""
    READ = "read"
    """Git fetches with it from the repository's `url`; todos that name it get it, too."""
    WRITE = "write"
    """Git fetches and pushes with it; todos that name it get it, too."""
    PR = "pr"
    """Open, read, change and close pull requests; no todo gets it."""
    MERGE = "merge"
    """Merge pull requests; no todo gets it."""
    WEBHOOK = "webhook"
    """Forges sign webhooks to `coord gateway` with it; no todo gets it."""


HostName = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.:-]*[a-z0-9])?$", max_length=253)]
FOR_TODOS = frozenset({Purpose.TODO, Purpose.READ, Purpose.WRITE})
"""Purposes of the credentials that a todo may name; the others stay in coord's own processes."""


class Expiry(StrEnum):
    """State of a credential: valid, about to expire, or expired."""

    VALID = "valid"
    SOON = "expires soon"
    EXPIRED = "expired"


class Credential(Record):
    """A reference to a secret, with the limits of its use. It never contains the secret."""

    shown: ClassVar = Table(
        columns=(
            Column("NAME"),
            Column("REFERENCE"),
            Column("REPOS", of=lambda one: " ".join(one.repos) or "all"),
            Column("PURPOSE", of=lambda one: " ".join(one.purposes)),
            Column("EXPIRES", of=lambda one: one.expiry_cell(datetime.now(UTC))),
            Column("LAST USED", of=lambda one: one.last_used or "never"),
            Column("ROTATES FROM", of="replaced"),
        ),
        none="no credentials on this machine",
        next_step="add one: coord credential add NAME REFERENCE --repo NAME",
    )
    name: SecretName
    reference: Annotated[str, Field(min_length=1, max_length=4096)]
    replaced: Annotated[str, Field(max_length=4096)] = ""
    """The reference before a rotation, used until the new one was read for the first time."""
    repos: tuple[RepoName, ...] = ()
    """Empty: all repositories."""
    purposes: tuple[Purpose, ...] = (Purpose.TODO,)
    hosts: tuple[HostName, ...] = ()
    """Hosts to which coord itself sends the secret; empty: the hosts of the named repositories."""
    expires: date | None = None
    """The last day on which it is used, in UTC."""
    last_used: datetime | None = None

    def serves(self, repo: str) -> bool:
        return not self.repos or repo in self.repos

    def is_for(self, repo: str, host: str) -> bool:
        """Return whether coord itself may send the secret to a host for a repository. The credential must
        name the host or the repository, because everybody who edits the file can change `url`.
        """
        return self.serves(repo) and (host in self.hosts if self.hosts else bool(self.repos))

    def expiry(self, now: datetime) -> Expiry:
        if self.expires is None:
            return Expiry.VALID
        today = now.astimezone(UTC).date()
        if today > self.expires:
            return Expiry.EXPIRED
        return Expiry.SOON if self.expires - today <= EXPIRY_WARNING else Expiry.VALID

    def expiry_cell(self, now: datetime) -> Cell:
        """Return the last day for a table, with a near or past expiry."""
        expiry = self.expiry(now)
        words = "" if expiry is Expiry.VALID else f" ({expiry})"
        return Cell(f"{self.expires}{words}" if self.expires else "never", tone_of(expiry))

    def expiry_words(self, now: datetime) -> str:
        """Return a sentence about a past or near expiry; empty otherwise."""
        match self.expiry(now):
            case Expiry.EXPIRED:
                return f"the credential {self.name} has expired: {self.expires} was its last day"
            case Expiry.SOON:
                return f"the credential {self.name} expires soon: {self.expires} is its last day"
        return ""


def refusal_for_todo(
    known: Mapping[str, Credential], name: str, repo: str, now: datetime
) -> tuple[str, str] | None:
    """Return the cause for which a todo of a repository does not get a credential, and the remedy; None if
    the todo gets it.
    """
    credential = known.get(name)
    if credential is None:
        return f"no credential {name}", f"coord credential add {name} REFERENCE --repo {repo}"
    if not credential.serves(repo):
        return (
            f"the credential {name} is for {listed(credential.repos)}, not for {repo}",
            f"coord credential add {name} … --repo {repo} --replace",
        )
    if not FOR_TODOS.intersection(credential.purposes):
        return (
            f"the credential {name} is for {listed([*credential.purposes])} only, which todos do not get",
            f"coord credential add {name} … --purpose todo --replace",
        )
    if credential.expiry(now) is Expiry.EXPIRED:
        return credential.expiry_words(now), f"coord credential rotate {name} REFERENCE --expires DATE"
    return None
