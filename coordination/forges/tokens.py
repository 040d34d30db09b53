"""Choose the credential with which the forge of a repository is used."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Literal

from coordination.credentials.records import Credential, Expiry, Purpose
from coordination.errors import NotAllowed
from coordination.forges.locate import ForgeAddress


def credential_for(
    known: Collection[Credential],
    repo: str,
    address: ForgeAddress,
    now: datetime,
    purpose: Literal[Purpose.PR, Purpose.MERGE] = Purpose.PR,
) -> str:
    """Return the name of the credential for pull requests of a repository. Where none is for merging them,
    the one for opening them merges, too.

    One that names the host comes first, then one that names the repository. An API at another host than the
    repository gets only a credential that names this host: the file of the ecosystem, which many people
    edit, must not be able to send a token elsewhere. Raises NotAllowed where there is none.
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
        f"no credential of this machine is for pull requests of {repo} at {host}",
        f'coord credential add forge "command:gh auth token" --purpose pr --host {host} --all'
        if "github" in host
        else f"coord credential add forge env:FORGE_TOKEN --purpose pr --host {host} --all",
    )
