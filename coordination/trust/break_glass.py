"""Emergency access: a person with the role break-glass has most rights for one hour, for a stated reason.

Emergency access is a statement that this person has signed. It is kept in the person's folder of coord, and
each order of the hour contains it, so a worker verifies it like the order itself. Nothing of it is stored
elsewhere, and only a revocation of the person's key ends it for other machines.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, ValidationError

from coordination.environment import config_folder_from_environment
from coordination.errors import CoordinationError, MissingRight, NotTrusted, TrustCause, UsageError
from coordination.files import make_private, replace_file
from coordination.frozen import FrozenModel
from coordination.trust.envelope import check_times, open_envelope, seal
from coordination.trust.keys import Signer
from coordination.trust.rights import Role
from coordination.trust.trust_file import Grant, Principal, TrustedKey, TrustFile

PAYLOAD_TYPE = "application/vnd.coord.break-glass+json"
FILE_NAME = "break-glass.json"
LASTS = timedelta(hours=1)
LIMIT_BYTES = 16 * 1024
REASON_CHARACTERS = 1000


class Emergency(FrozenModel):
    """The statement that is signed."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=REASON_CHARACTERS)]
    opened_at: datetime
    expires_at: datetime
    nonce: str
    """Identifies this emergency in events and orders."""


def declare_emergency(
    reason: str, signer: Signer, trust: TrustFile, now: datetime
) -> tuple[Emergency, bytes]:
    """Return the statement, and its envelope for `keep_emergency`.

    Raises UsageError without a reason, NotTrusted for an unknown key, MissingRight without the role.
    """
    reason = " ".join(reason.split())
    if not reason or len(reason) > REASON_CHARACTERS:
        raise UsageError(
            f"emergency access needs a reason of 1 to {REASON_CHARACTERS} characters",
            'say why: coord trust break-glass --reason "api is down, the on-call operator is away"',
        )
    check_holder(trust.principal_of(signer.key, now))
    now = now.astimezone(UTC).replace(microsecond=0)
    emergency = Emergency(reason=reason, opened_at=now, expires_at=now + LASTS, nonce=secrets.token_hex(8))
    return emergency, seal(PAYLOAD_TYPE, emergency.model_dump_json().encode(), signer)


def check_holder(principal: Principal) -> None:
    """Raise MissingRight for a principal without the role break-glass."""
    if not any(grant.role is Role.BREAK_GLASS for grant in principal.grants):
        raise MissingRight(
            f"{principal.name} ({principal.kind}) may not declare an emergency",
            f"an administrator grants it beforehand: coord trust grant {principal.name} {Role.BREAK_GLASS}",
        )


def open_emergency(raw: bytes, trust: TrustFile, principal: Principal, now: datetime) -> Emergency:
    """Return the emergency that an envelope from an order or a file states for this principal.

    Raises NotTrusted if it is over, forged, too long or of another principal; MissingRight without the role.
    """
    verified = open_envelope(raw, PAYLOAD_TYPE, trust, now=now, limit=LIMIT_BYTES)
    try:
        found = Emergency.model_validate_json(verified.payload)
        duration = found.expires_at - found.opened_at
    except (ValidationError, TypeError) as error:  # TypeError: one of two times without a zone
        raise NotTrusted(TrustCause.BROKEN, "the statement of the emergency cannot be read") from error
    if found.opened_at.tzinfo is None or duration > LASTS:
        raise NotTrusted(TrustCause.BROKEN, f"an emergency lasts {LASTS} at most")
    if verified.principal.name != principal.name:
        raise NotTrusted(
            TrustCause.FOREIGN, f"the emergency is that of {verified.principal.name}, not of {principal.name}"
        )
    check_times("the emergency access", found.opened_at, found.expires_at, now)
    check_holder(verified.principal)
    return found


def keep_emergency(raw: bytes, environ: Mapping[str, str] | None = None) -> None:
    """Keep the envelope in the user's folder of coord. Raises CoordinationError."""
    file = _file(environ)
    if file is None:
        raise UsageError("there is no place for emergency access: HOME is not set", "set HOME")
    try:
        make_private(file.parent)
        replace_file(file, raw, durable=True)
    except OSError as error:
        raise CoordinationError(f"{file} cannot be written: {error.strerror}") from error


def kept_emergency(environ: Mapping[str, str] | None = None) -> bytes:
    """Return the envelope that this user keeps; empty if there is none."""
    file = _file(environ)
    if file is None:
        return b""
    try:
        with file.open("rb") as opened:
            return opened.read(LIMIT_BYTES + 1)
    except OSError:
        return b""


def current_emergency(
    signer: Signer, environ: Mapping[str, str] | None = None
) -> tuple[str, Emergency | None]:
    """Return the envelope that this user keeps, for an order that is signed now, and its statement; "" and
    None if the user has no emergency access now.
    """
    if not (raw := kept_emergency(environ)):
        return "", None
    own = Principal(
        name="own", keys=(TrustedKey(key=signer.public_key),), grants=(Grant(role=Role.BREAK_GLASS),)
    )
    try:
        return raw.decode(), open_emergency(raw, TrustFile(principals=(own,)), own, datetime.now(UTC))
    except NotTrusted:
        return "", None


def end_emergency(environ: Mapping[str, str] | None = None) -> bool:
    """Give up emergency access before its hour is over; return whether there was any."""
    file = _file(environ)
    with suppress(OSError):
        if file is not None:
            file.unlink()
            return True
    return False


def _file(environ: Mapping[str, str] | None) -> Path | None:
    folder = config_folder_from_environment(os.environ if environ is None else environ)
    return folder / FILE_NAME if folder else None
