"""Choose the token of a repository, and open its forge with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Literal

from coordination.credentials.records import Credential, Expiry, Purpose
from coordination.credentials.store import CredentialStore, credentials_file
from coordination.errors import CoordinationError, NotAllowed, PlanRefused
from coordination.forges.forge import Forge
from coordination.forges.gitea import Gitea
from coordination.forges.github import GitHub
from coordination.forges.gitlab import GitLab
from coordination.forges.http import HttpClient, KeptAnswers
from coordination.forges.locate import ForgeAddress, locate
from coordination.forges.models import ForgeType
from coordination.models import Repo

PATIENCE = timedelta(seconds=60)
_MEMBERS: Mapping[ForgeType, type[Forge]] = {
    ForgeType.GITHUB: GitHub,
    ForgeType.GITLAB: GitLab,
    ForgeType.GITEA: Gitea,
}


class ForgeClients:
    """Opens forges over one connection pool for each API and token."""

    def __init__(
        self,
        *,
        spender: Callable[[str], Callable[[], None]],
        answers: Path | None = None,
        patience: timedelta = PATIENCE,
    ) -> None:
        """`spender` returns, for a host, the function to call before each request to that host; it raises
        ForgeError if the budget is used up. `answers`: folder of kept answers for conditional requests (None:
        in memory only). `patience`: the longest time that one call pauses at a rate limit and before retries;
        a longer pause is an error with `retry_at`.
        """
        self._spender = spender
        self._answers = answers
        self._patience = patience
        self._clients: dict[tuple[str, str], HttpClient] = {}

    def open(self, address: ForgeAddress, token: str) -> Forge:
        """Return the forge of a repository."""
        member = _MEMBERS[address.type]
        if (address.api, token) not in self._clients:
            self._clients[address.api, token] = HttpClient(
                address.api,
                token=token,
                headers=member.headers(token),
                kept=KeptAnswers(self._answers, sha256(token.encode()).hexdigest()),
                spend=self._spender(address.api_host),
                patience=self._patience,
                page_size=member.page_size,
            )
        return member(self._clients[address.api, token], address.project)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


def with_token(repos: Iterable[Repo]) -> frozenset[str]:
    """Return the repositories whose forge is supported and for which this machine has a token. No secret is
    read.
    """
    try:
        known, now = CredentialStore(credentials_file()).all(), datetime.now(UTC)
    except CoordinationError:
        return frozenset()
    return frozenset(repo.name for repo in repos if _has_token(repo, known, now)) if known else frozenset()


def _has_token(repo: Repo, known: Sequence[Credential], now: datetime) -> bool:
    try:
        address = locate(repo)
        return address.type in _MEMBERS and bool(credential_for(known, repo.name, address, now))
    except (PlanRefused, NotAllowed):
        return False


def credential_for(
    known: Collection[Credential],
    repo: str,
    address: ForgeAddress,
    now: datetime,
    purpose: Literal[Purpose.PR, Purpose.MERGE] = Purpose.PR,
) -> str:
    """Return the name of the credential for pull requests of a repository. Without a credential for merging
    them, the one for opening them is used.

    A credential that names the host comes first, then one that names the repository. An API on a different
    host from the repository gets only a credential that names that host: many people edit the file of the
    ecosystem, and it must not be able to send a token elsewhere. Raises NotAllowed without a credential.
    """
    hosts = {address.api_host} if address.is_foreign else {address.api_host, address.host}
    ours = [one for one in known if purpose in one.purposes]
    usable = [one for one in ours if any(one.is_for(repo, host) for host in hosts)]
    if address.is_foreign:
        usable = [one for one in usable if one.hosts]
    if purpose is Purpose.MERGE and not usable:
        return credential_for(known, repo, address, now)
    valid = [one for one in usable if one.expiry(now) is not Expiry.EXPIRED]
    if valid:
        return min(valid, key=lambda one: (not one.hosts, not one.repos, one.name)).name
    host = address.api_host if address.is_foreign else address.host
    if usable:
        raise NotAllowed(
            usable[0].expiry_words(now), f"coord credential rotate {usable[0].name} REFERENCE --expires DATE"
        )
    raise NotAllowed(
        f"this machine has no credential for pull requests of {repo} at {host}",
        f'coord credential add forge "command:gh auth token" --purpose pr --host {host} --all'
        if "github" in host
        else f"coord credential add forge env:FORGE_TOKEN --purpose pr --host {host} --all",
    )
