"""Webhooks of forges: prove that a delivery comes from the forge, and read its repository. Pure.

    GitHub   X-Hub-Signature-256: `sha256=` and the hex HMAC of the body; X-GitHub-Delivery
    Gitea    X-Gitea-Signature (X-Forgejo-Signature): the hex HMAC of the body; X-Gitea-Delivery
    GitLab   webhook-signature: `v1,` and the base64 HMAC of id, time and body (Standard Webhooks), or
             X-Gitlab-Token: the secret itself; webhook-id or Idempotency-Key

Only GitLab signs the ids of deliveries. coord therefore also recognises a repeated delivery by the digest of
its body, and an old one by the newest time in its body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from coordination.forges.locate import ForgeAddress
from coordination.forges.models import ForgeType
from coordination.frozen import FrozenModel

FRESH_FOR = timedelta(minutes=10)
"""Age up to which a delivery counts: an older one is a repetition, or polling has found its news before."""
REQUEST_NEWS = "request.news"
"""The type of the message that notifies workers of a delivery."""
LONGEST_PROJECT = 500
_WHSEC = "whsec_"
_MOST_TIMES = 10_000
_SIGNATURES = {
    ForgeType.GITEA: ("x-gitea-signature", "x-forgejo-signature"),
    ForgeType.GITHUB: ("x-hub-signature-256",),
}
"""Gitea first: it sends GitHub's headers, too."""
_IDS = {
    ForgeType.GITEA: ("x-gitea-delivery", "x-forgejo-delivery"),
    ForgeType.GITHUB: ("x-github-delivery",),
    ForgeType.GITLAB: ("webhook-id", "idempotency-key"),
}


class Refusal(StrEnum):
    """The reason why a delivery is refused."""

    FORGED = "forged"
    """It has no signature, or one that was not made with the secret."""
    OLD = "old"
    UNREADABLE = "unreadable"
    """It is signed but names no repository."""


@dataclass(frozen=True, kw_only=True)
class WebhookDelivery:
    forge: ForgeType
    project: str
    """`owner/name`; empty for a first message that only tries the connection."""
    marks: tuple[str, ...]
    """The id of the delivery and the digest of its body; either identifies a repetition."""


class RequestNews(FrozenModel):
    """The message to workers that something has happened in a repository. It proves nothing, so they ask
    the forge.
    """

    forge: ForgeType
    project: Annotated[str, Field(min_length=1, max_length=LONGEST_PROJECT)]
    repos: tuple[str, ...] = ()
    """The repositories for which the secret is valid; empty for all."""
    hosts: tuple[str, ...] = ()
    """The hosts for which the secret is valid; empty for all."""

    def is_about(self, repo: str, at: ForgeAddress) -> bool:
        """Return whether it concerns a repository of the file."""
        return (
            self.forge is at.type
            and self.project.casefold() == at.project.casefold()
            and (not self.repos or repo in self.repos)
            and (not self.hosts or not {at.host, at.api_host}.isdisjoint(self.hosts))
        )


def forge_of(headers: Mapping[str, str]) -> ForgeType | None:
    """Return the forge whose headers a request has. `headers`: names in lower case."""
    for forge, names in _SIGNATURES.items():
        if any(name in headers for name in names):
            return forge
    return ForgeType.GITLAB if {"x-gitlab-token", "webhook-signature"} & headers.keys() else None


def read_delivery(
    headers: Mapping[str, str], body: bytes, secret: str, now: datetime
) -> WebhookDelivery | Refusal:
    """Return the delivery of a request, or the reason for refusing it. `headers`: names in lower case."""
    forge = forge_of(headers)
    if forge is None or not _is_signed(forge, headers, body, secret):
        return Refusal.FORGED
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return Refusal.UNREADABLE
    times = [*_times(payload), *_signed_time(headers, body, secret)]
    if times and now - max(times) > FRESH_FOR:
        return Refusal.OLD
    project = _project(forge, payload)
    if not project and headers.get("x-github-event") != "ping":
        return Refusal.UNREADABLE
    ids = [f"{forge} {headers[name]}" for name in _IDS[forge] if headers.get(name)]
    return WebhookDelivery(
        forge=forge, project=project, marks=(*ids[:1], f"{forge} {hashlib.sha256(body).hexdigest()}")
    )


def _is_signed(forge: ForgeType, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    if forge is ForgeType.GITLAB:
        token = headers.get("x-gitlab-token", "")
        return _is_same(token, secret) or _has_signature(headers, body, secret)
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    given = next(headers[name] for name in _SIGNATURES[forge] if name in headers)
    return _is_same(given, digest if forge is ForgeType.GITEA else f"sha256={digest}")


def _has_signature(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Return whether one of the signatures of Standard Webhooks is right."""
    try:
        key = base64.b64decode(secret.removeprefix(_WHSEC), validate=True)
    except (binascii.Error, ValueError):
        return False
    signed = f"{headers.get('webhook-id', '')}.{headers.get('webhook-timestamp', '')}.".encode()
    digest = base64.b64encode(hmac.new(key, signed + body, hashlib.sha256).digest()).decode()
    given = headers.get("webhook-signature", "").split()
    return any(_is_same(one, f"v1,{digest}") for one in given)


def _is_same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogateescape"), right.encode())


def _signed_time(headers: Mapping[str, str], body: bytes, secret: str) -> Iterator[datetime]:
    if _has_signature(headers, body, secret):
        try:
            yield datetime.fromtimestamp(int(headers.get("webhook-timestamp", "")), UTC)
        except (ValueError, OverflowError, OSError):
            return


def _times(payload: Any) -> Iterator[datetime]:
    """Yield the times in a body: all fields whose names end with `_at`, at any depth."""
    waiting, left = [payload], _MOST_TIMES
    while waiting and left:
        left -= 1
        at = waiting.pop()
        if isinstance(at, dict):
            waiting += [value for value in at.values() if isinstance(value, dict | list)]
            for name, value in at.items():
                if name.endswith("_at") and (moment := _moment(value)):
                    yield moment
        elif isinstance(at, list):
            waiting += [value for value in at if isinstance(value, dict | list)]


def _moment(value: Any) -> datetime | None:
    """Return a time in ISO 8601, as GitLab also writes it (`2026-01-31 12:00:00 UTC`), or in seconds."""
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value.replace(" UTC", "+00:00"))
            return moment if moment.tzinfo else None
        return datetime.fromtimestamp(value, UTC) if type(value) is int else None
    except (ValueError, OverflowError, OSError):
        return None


def _project(forge: ForgeType, payload: Any) -> str:
    section, field = ("project", "path_with_namespace") if forge is ForgeType.GITLAB else (
        "repository", "full_name",
    )  # fmt: skip
    found = payload.get(section) if isinstance(payload, dict) else None
    name = found.get(field) if isinstance(found, dict) else None
    return name if isinstance(name, str) and len(name) <= LONGEST_PROJECT else ""
