"""The credential with which git uses a remote, and the askpass program that gives its secret to git.

The program answers for one https host only. Credential helpers are switched off, because one that stores
passwords would keep the secret.
"""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from coordination.credentials.records import Expiry, Purpose
from coordination.files import open_private

if TYPE_CHECKING:
    from coordination.credentials.store import CredentialStore

ASKPASS = "git-askpass"
USER = "x-access-token"
"""The user for a `url` without one: GitHub requires it for its apps, other forges accept any."""
NO_HELPERS = {
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "credential.helper",
    "GIT_CONFIG_VALUE_0": "",
}


def credential_for_git(store: CredentialStore, repo: str, url: str, purpose: Purpose, now: datetime) -> str:
    """Return the name of the credential with which git may use the address of a repository; empty if there is
    none, or if the address is not https. A credential for writing is used for reading, too. Raises as
    `CredentialStore.all` does.
    """
    if not askpass(url, Path()):
        return ""
    host = urlsplit(url).hostname or ""
    usable = [one for one in store.all() if one.is_for(repo, host) and one.expiry(now) is not Expiry.EXPIRED]
    purposes = (purpose, Purpose.WRITE) if purpose is Purpose.READ else (purpose,)
    return next((one.name for purpose in purposes for one in usable if purpose in one.purposes), "")


def askpass_variables(folder: Path, url: str, secret: Path) -> dict[str, str]:
    """Write the program for GIT_ASKPASS into the folder; return the variables for git. Raises OSError."""
    if not (script := askpass(url, secret)):
        return {}
    program = folder / ASKPASS
    with open_private(program) as file:
        file.write(script)
    program.chmod(0o700)
    return {"GIT_ASKPASS": str(program), **NO_HELPERS}


def askpass(url: str, secret: Path) -> str:
    """Return a program for GIT_ASKPASS that answers for the host of this address only; empty for an address
    that is not https.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        return ""
    user, _, host = parts.netloc.rpartition("@")
    user = user.partition(":")[0] or USER
    asked_user = shlex.quote(f"Username for 'https://{host}': ")
    asked_password = shlex.quote(f"Password for 'https://{user}@{host}': ")
    return (
        "#!/bin/sh\n"
        'case "$1" in\n'
        f"{asked_user}) printf '%s\\n' {shlex.quote(user)} ;;\n"
        f"{asked_password}) cat {shlex.quote(str(secret))} ;;\n"
        "*) echo 'coord: the secret is for another address' >&2; exit 1 ;;\n"
        "esac\n"
    )
