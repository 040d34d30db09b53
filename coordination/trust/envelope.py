"""Signed documents: DSSE envelopes with one SSHSIG signature, stored as JSON text.

A reader verifies the stored bytes and parses `Verified.payload` only. The signature covers the payload's type
too, so that an approval cannot be presented as an order.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from coordination.errors import NotTrusted, TrustCause
from coordination.trust.public_keys import MAX_SIGNATURE, verify
from coordination.trust.trust_file import Principal, TrustFile

if TYPE_CHECKING:
    from coordination.trust.keys import Signer

LIMIT_BYTES = 4 * 1024 * 1024
"""Bytes of an envelope; the header of an order with 50,000 todos has 196 digests, in 20 KB."""
MAX_SKEW = timedelta(seconds=60)
"""Difference of two machines' clocks that is tolerated."""
FIELDS = {"payloadType", "payload", "signatures"}


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A payload whose signature was verified, with its signer."""

    payload: bytes
    principal: Principal
    fingerprint: str


def seal(payload_type: str, payload: bytes, signer: Signer) -> bytes:
    """Return the envelope of a payload. Raises CoordinationError if the key cannot be used."""
    signature = signer.sign(_signed_bytes(payload_type, payload))
    return json.dumps(
        {
            "payloadType": payload_type,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": signer.fingerprint, "sig": base64.b64encode(signature).decode()}],
        },
        separators=(",", ":"),
    ).encode()


def open_envelope(
    raw: bytes, payload_type: str, trust: TrustFile, *, now: datetime, limit: int = LIMIT_BYTES
) -> Verified:
    """Return the payload of an envelope that a trusted key signed. Raises NotTrusted with its cause."""
    payload, signature = _parse(raw, payload_type, limit)
    key = verify(_signed_bytes(payload_type, payload), signature)
    return Verified(payload=payload, principal=trust.principal_of(key, now), fingerprint=key.fingerprint)


def check_times(what: str, issued_at: datetime, expires_at: datetime, now: datetime) -> None:
    """Check that a signed document, named by `what`, is valid now. Raises NotTrusted, which states the
    difference of the clocks or the time since the expiry.
    """
    if issued_at - now > MAX_SKEW:
        raise NotTrusted(
            TrustCause.CLOCK,
            f"{what} was signed {_size(issued_at - now)} in the future: the clock of this machine is behind, "
            "or that of the signer ahead",
            "compare: date -u on both machines; then set the clock (NTP)",
        )
    if now - expires_at > timedelta(0):
        raise NotTrusted(
            TrustCause.EXPIRED,
            f"{what} expired {_size(now - expires_at)} ago, at {expires_at:%Y-%m-%dT%H:%M:%SZ}",
            "give the command again, if it is still wanted",
        )


def _size(difference: timedelta) -> str:
    return str(timedelta(seconds=round(difference.total_seconds())))


def _signed_bytes(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that DSSE signs (its pre-authentication encoding)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _parse(raw: bytes, payload_type: str, limit: int) -> tuple[bytes, bytes]:
    """Return payload and signature of an envelope, both unverified. Raises NotTrusted."""
    if not raw:
        raise NotTrusted(TrustCause.UNSIGNED, "there is no signature", "sign it: coord identity init")
    if len(raw) > limit:
        raise NotTrusted(TrustCause.BROKEN, f"the envelope has more than {limit} bytes")
    try:
        found = json.loads(raw)
        if not isinstance(found, dict) or set(found) != FIELDS:
            raise ValueError("its fields are not those of an envelope")
        if found["signatures"] == []:
            raise NotTrusted(TrustCause.UNSIGNED, "there is no signature", "sign it: coord identity init")
        (signature,) = found["signatures"]
        if len(signature["sig"]) > 2 * MAX_SIGNATURE:
            raise ValueError("its signature is too long")
        payload = base64.b64decode(found["payload"], validate=True)
        signed = base64.b64decode(signature["sig"], validate=True)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise NotTrusted(TrustCause.BROKEN, f"the envelope cannot be read: {error}"[:200]) from error
    if found["payloadType"] != payload_type:
        raise NotTrusted(
            TrustCause.WRONG_TYPE,
            f"this is signed as {str(found['payloadType'])[:80]!r}, not {payload_type!r}",
        )
    return payload, signed
