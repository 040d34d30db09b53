"""Webhooks of forges over HTTP: `POST /webhooks/NAME`, where NAME is a credential for `webhook`.

A delivery with the secret of the credential wakes the workers. Each worker then asks the forge, so a delivery
causes at most an unnecessary call. Only the name of the repository is passed on.

| answer | cause |
|---|---|
| 202 | the workers are notified; or the forge tests the connection |
| 200 | the workers were notified of this delivery before |
| 400 | the delivery is old, or names no repository |
| 403 | the signature or token is wrong |
| 404 | there is no credential of this name for `webhook`, or it has expired |
| 413 | the body is larger than WEBHOOK_BYTES |
| 503 | Redis is away, the secret cannot be read here, or too many deliveries arrive at once |

A delivery with another answer than 2xx delays a landing at most, because landings poll the forge anyway.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from coordination.credentials.records import Credential, Purpose
from coordination.credentials.store import CredentialStore, Secret
from coordination.errors import CoordinationError, Unreachable
from coordination.forges.webhooks import (
    FRESH_FOR,
    REQUEST_NEWS,
    Refusal,
    RequestNews,
    WebhookDelivery,
    forge_of,
    read_delivery,
)
from coordination.gateway.access import TokenGuesses
from coordination.gateway.redis_executor import RedisExecutor
from coordination.messages import MessageBus
from coordination.runs.cleanup_jobs import WORKERS

WEBHOOK_BYTES = 1024 * 1024
"""Largest body; GitHub sends up to 25 MB, and usually 30 KB."""
AT_ONCE = 16
"""Number of bodies that are in memory at the same time."""
SECRET_FOR_S = 60.0
"""Time for which a secret is kept: reading it may start a program."""
MOST_MARKS = 20_000
NEWS_TTL = timedelta(minutes=1)

logger = logging.getLogger(__name__)


class Answer(StrEnum):
    """The results of a delivery, in addition to those of `Refusal`."""

    NOTIFIED = "told"
    TESTED = "tried"
    """The forge tests the connection."""
    REPEATED = "repeated"
    UNKNOWN = "unknown"
    TOO_LARGE = "too_large"
    BUSY = "busy"
    AWAY = "away"


_STATUS: dict[Answer | Refusal, int] = {
    Answer.NOTIFIED: 202,
    Answer.TESTED: 202,
    Answer.REPEATED: 200,
    Refusal.OLD: 400,
    Refusal.UNREADABLE: 400,
    Refusal.FORGED: 403,
    Answer.UNKNOWN: 404,
    Answer.TOO_LARGE: 413,
    Answer.BUSY: 503,
    Answer.AWAY: 503,
}


class Webhooks:
    """The endpoint of one event loop."""

    def __init__(
        self, credentials: CredentialStore, bus: MessageBus, executor: RedisExecutor, guesses: TokenGuesses
    ) -> None:
        self._credentials, self._bus = credentials, bus
        self._executor, self._guesses = executor, guesses
        self._secrets: dict[str, tuple[float, Credential, Secret]] = {}
        self._delivered: dict[str, float] = {}
        """Mark of a delivery → time of its arrival; the oldest first."""
        self._reading = 0
        self._reading_secret = asyncio.Lock()

    async def receive(self, request: Request) -> Response:
        """Answer a delivery."""
        try:
            answer = await self._answer(request, str(request.path_params["name"]))
        except ClientDisconnect:
            return Response(status_code=400)
        return JSONResponse({"result": answer}, status_code=_STATUS[answer])

    async def _answer(self, request: Request, name: str) -> Answer | Refusal:
        if int(request.headers.get("content-length") or 0) > WEBHOOK_BYTES:
            return Answer.TOO_LARGE
        if self._reading >= AT_ONCE:
            return Answer.BUSY
        self._reading += 1
        try:
            return await self._answer_to_body(request, name)
        finally:
            self._reading -= 1

    async def _answer_to_body(self, request: Request, name: str) -> Answer | Refusal:
        address = request.client.host if request.client else ""
        try:
            async with self._reading_secret:  # a reference may be a slow program: one at a time
                found = await self._executor.once(lambda: self._secret(name))
        except CoordinationError as error:
            logger.warning("a webhook for the credential %s is refused: %s", name, error.message)
            return Answer.AWAY
        if found is None:
            return Answer.UNKNOWN
        credential, secret = found
        headers = {key.lower(): value for key, value in request.headers.items()}
        if forge_of(headers) is None:
            return self._refused(Refusal.FORGED, name, address)
        body = await _body(request)
        if body is None:
            return Answer.TOO_LARGE
        delivery = read_delivery(headers, body, secret.value, datetime.now(UTC))
        if isinstance(delivery, Refusal):
            return self._refused(delivery, name, address)
        return await self._notify_workers(delivery, credential)

    async def _notify_workers(self, delivery: WebhookDelivery, credential: Credential) -> Answer:
        if not delivery.project:
            return Answer.TESTED
        if self._is_repeated(delivery):
            return Answer.REPEATED
        news = RequestNews(
            forge=delivery.forge,
            project=delivery.project,
            repos=credential.repos,
            hosts=credential.hosts,
        )
        try:
            payload = news.model_dump(mode="json")
            await self._executor.once(
                lambda: self._bus.broadcast(WORKERS, REQUEST_NEWS, payload, ttl=NEWS_TTL, ack=False)
            )
        except Unreachable as error:
            for mark in delivery.marks:  # the forge, or a person, may send it again
                self._delivered.pop(mark, None)
            logger.warning("a webhook of %s is lost: %s", credential.name, error.message)
            return Answer.AWAY
        return Answer.NOTIFIED

    def _is_repeated(self, delivery: WebhookDelivery) -> bool:
        """Return whether the delivery arrived before, and remember it for as long as it counts as fresh."""
        now = time.monotonic()
        repeated = any(mark in self._delivered for mark in delivery.marks)
        for mark in delivery.marks:
            self._delivered.setdefault(mark, now)
        oldest = next(iter(self._delivered))
        while now - self._delivered[oldest] > FRESH_FOR.total_seconds() or len(self._delivered) > MOST_MARKS:
            del self._delivered[oldest]
            oldest = next(iter(self._delivered))
        return repeated

    def _refused(self, refusal: Refusal, name: str, address: str) -> Refusal:
        if refusal is Refusal.FORGED:
            self._guesses.failed((name, address))
        else:
            logger.warning("a webhook for the credential %s is refused: it is %s", name, refusal)
        return refusal

    def _secret(self, name: str) -> tuple[Credential, Secret] | None:
        """Return the credential and its secret; None if it is not for webhooks. Raises CoordinationError if
        the secret cannot be read.
        """
        now = time.monotonic()
        known = self._credentials.valid_for(Purpose.WEBHOOK, datetime.now(UTC))
        credential = next((one for one in known if one.name == name), None)
        if credential is None:
            self._secrets.pop(name, None)
            return None
        read_at, before, secret = self._secrets.get(name, (now - SECRET_FOR_S, credential, None))
        if secret is None or now - read_at >= SECRET_FOR_S or _has_changed(before, credential):
            secret = self._credentials.read(name)
            self._secrets[name] = (now, credential, secret)
        return credential, secret


def _has_changed(before: Credential, now: Credential) -> bool:
    """Return whether a credential was replaced or rotated."""
    return (before.reference, before.replaced) != (now.reference, now.replaced)


async def _body(request: Request) -> bytes | None:
    """Return the body; None if it is too large."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > WEBHOOK_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)
