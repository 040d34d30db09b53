"""Reviews the identity of this user and the trust file of this machine: `coord trust verify` and doctor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from coordination.durations import EXPIRY_WARNING
from coordination.errors import CoordinationError
from coordination.trust.identity import find_identity
from coordination.trust.trust_file import Kind, TrustedKey, TrustFile, read_trust

Advice = tuple[str, str]
"""A fact, and the next command."""


@dataclass(frozen=True, kw_only=True)
class Review:
    """The identity and the trust file of one machine and user."""

    identity: str = ""
    """Fingerprint of this user's key; empty if the user has no usable identity."""
    source: str = ""
    """Where the key is: a path, or the agent."""
    name: str = ""
    """Name of this user in the trust file."""
    trust_file: str = ""
    """Path of the trust file; empty if there is none."""
    principals: int = 0
    errors: tuple[Advice, ...] = ()
    """Causes for which the trust file or the identity cannot be used."""
    warnings: tuple[Advice, ...] = ()


def review(path: Path, changed_folders: list[Path], now: datetime) -> Review:
    """Review the trust file at this path, if there is one, and the identity of this user."""
    errors: list[Advice] = []
    fingerprint, source = "", ""
    try:
        if (found := find_identity()) is not None:
            source = found.source
            fingerprint = found.signer().fingerprint
    except CoordinationError as error:
        errors.append((error.message, error.hint))
    if not (path.exists() or path.is_symlink()):
        return Review(identity=fingerprint, source=source, errors=tuple(errors))
    try:
        trust = read_trust(path, changed_folders)
    except CoordinationError as error:
        errors.append((error.message, error.hint))
        return Review(identity=fingerprint, source=source, trust_file=str(path), errors=tuple(errors))
    holder = trust.holder(fingerprint)
    return Review(
        identity=fingerprint,
        source=source,
        name=holder.name if holder else "",
        trust_file=str(path),
        principals=len(trust.principals),
        errors=tuple(errors),
        warnings=(*warnings_of(trust, now), *own_warnings(fingerprint, trust)),
    )


def key_state(key: TrustedKey, now: datetime) -> str:
    """Return valid, revoked, expired, or not yet valid."""
    if key.revoked is not None:
        return "revoked"
    if key.valid_until is not None and key.valid_until <= now:
        return "expired"
    return "not yet valid" if key.valid_from is not None and key.valid_from > now else "valid"


def warnings_of(trust: TrustFile, now: datetime) -> Iterator[Advice]:
    """Yield probable mistakes in a valid trust file."""
    yield from expiring_keys(trust, now)
    for principal in trust.principals:
        if not any(key_state(key, now) == "valid" for key in principal.keys):
            yield f"{principal.name} has no valid key", "coord trust add LINE --another-key"
        if not principal.grants and principal.kind is not Kind.WORKER:
            yield f"{principal.name} has no role", f"coord trust grant {principal.name} ROLE"


def expiring_keys(trust: TrustFile, now: datetime) -> Iterator[Advice]:
    """Yield the valid keys that expire soon."""
    for principal in trust.principals:
        for key in principal.keys:
            ends = key.valid_until
            if ends is not None and key_state(key, now) == "valid" and ends - now < EXPIRY_WARNING:
                whose = f"the key {key.public.fingerprint} of {principal.name}"
                yield f"{whose} expires at {ends:%Y-%m-%d %H:%M} UTC", "coord trust add LINE --until DATE"


def own_warnings(fingerprint: str, trust: TrustFile) -> Iterator[Advice]:
    """Yield the cause for which the trust file gives this user no rights. `fingerprint` is empty without an
    identity.
    """
    if not fingerprint:
        yield "this user has no identity, so everything is refused", "coord identity init"
    elif trust.holder(fingerprint) is None:
        yield (
            f"the key {fingerprint} of this user is not in the trust file, so everything is refused",
            'coord trust add "$(coord identity show)" --role ROLE',
        )
