"""The HTTP client of a forge: conditional requests, rate limits, safe retries, pages, and bounds.

A refusal becomes a ForgeError by its status; adapters refine it by the reason that their forge states.

| failure | handling |
|---|---|
| rate limit | waited for up to the patience, for every method: the forge has not executed the call |
| no connection | tried again, for every method: nothing was sent |
| connection lost, 5xx | tried again for GET only; for others it is unknown if the call was executed |
| 301, 302, 307, 308 | RENAMED; the token is sent to no other address |

Answers are kept for conditional requests, in memory and in a private folder of this machine. A kept answer
is used only after the forge has confirmed it (304). The folder is not in Redis: a user who can write to Redis
must not be able to say that a check is green.

Every wait counts towards the patience. The token belongs to one host: a redirect is not followed, and the
next page of a list is read from the same address only. Only a log may be elsewhere, one redirect away: it is
read without the token.
"""

from __future__ import annotations

import json
import logging
import re
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import httpx2

from coordination.credentials.detection import without_known_formats
from coordination.credentials.masking import Masker
from coordination.files import make_private, replace_file
from coordination.forges.errors import (
    REDIRECTS,
    ForgeError,
    ForgeProblem,
    limit_of,
    pause_after_last_s,
    reason_in,
    refusal_of,
)
from coordination.retry import delay_s
from coordination.terminal import spelled
from coordination.text import shortened

CONNECT_S, READ_S, WHOLE_S = 10.0, 30.0, 90.0
"""Longest times: to connect, of silence within an answer, and of a whole answer."""
LARGEST_BYTES = 16 * 1024 * 1024
"""The most bytes of an answer that are read."""
LARGEST_PARSED_BYTES, LARGEST_KNOWN_BYTES = 256 * 1024 * 1024, 128 * 1024 * 1024
"""The most memory of an answer or of all pages of a list, and of the kept answers, as `parsed_size` says."""
VALUE_BYTES = 64
LARGEST_KEPT_BYTES, MOST_KEPT_FILES, KEPT_FOR_S = 512 * 1024, 5_000, 14 * 24 * 3600
"""Limits of the answers that are kept for conditional requests."""
MOST_PAGES, PAGE = 100, 100
"""The most pages of a list; the items that a call asks for in one."""
TRIES = 4
LONGEST_REASON = 400
LARGEST_LOG_BYTES = 256 * 1024 * 1024
"""The most bytes of a log that are read to find its end."""
OK, REDIRECT_FROM, NOT_MODIFIED = 200, 300, 304
logger = logging.getLogger(__name__)
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    data: Any
    """Parsed JSON; None for an empty body."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """By their names in lower case."""
    next_page: str = ""
    size: int = 0
    """Bytes in memory, as `parsed_size` says."""


class HttpClient:
    """Talks to one API with one token; threads may share it."""

    def __init__(
        self,
        api: str,
        *,
        token: str,
        headers: Mapping[str, str],
        kept: KeptAnswers,
        spend: Callable[[], None],
        patience: timedelta,
        page_size: str = "per_page",
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        """`headers` carry the token. `spend` is called before each request and may raise ForgeError."""
        self.api = api.rstrip("/")
        self.host = urlsplit(self.api).netloc
        self._masker = Masker([token])
        self._kept = kept
        self._spend = spend
        self._patience_s = patience.total_seconds()
        self._page_size = page_size
        self._wait = wait
        self._paused_until = 0.0
        """Monotonic time before which the forge accepts no call."""
        self._lock = threading.Lock()
        self.ids: dict[str, int] = {}
        """Person → the number by which this forge identifies them."""
        self._client = httpx2.Client(**_options({"user-agent": "coord", **headers}))

    def close(self) -> None:
        self._kept.prune()
        self._client.close()

    def get(self, path: str, **query: str | int) -> Any:
        """Return the JSON of an address below the API."""
        return self.call("GET", self._url(path, query)).data

    def list(self, path: str, *, within: str = "", **query: str | int) -> list[Any]:
        """Return the items of all pages; `within`: the field that has them. A list that is not whole is an
        error, and so is one beyond the limits: they bound the memory that a forge can take.
        """
        url = self._url(path, {self._page_size: PAGE, **query})
        items: list[Any] = []
        size = 0
        for _ in range(MOST_PAGES):
            answer = self.call("GET", url)
            envelope = answer.data if within and isinstance(answer.data, dict) else {}
            page = envelope.get(within) if within else answer.data
            if not isinstance(page, list):
                raise self.broken("a list was expected")
            size += answer.size
            if size > LARGEST_PARSED_BYTES:
                raise self.broken(f"a list takes more than {LARGEST_PARSED_BYTES:,} bytes of memory")
            items += page
            if not answer.next_page:
                if isinstance(total := envelope.get("total_count"), int) and total > len(items):
                    raise self.broken(f"a list has {len(items)} of {total} items")
                return items
            if urlsplit(answer.next_page)[:2] != urlsplit(self.api)[:2]:
                raise self.broken("the next page of a list is at another address")
            url = answer.next_page
        raise self.broken(f"a list has more than {MOST_PAGES} pages")

    def send(self, method: str, path: str, body: Mapping[str, Any], *, whole_url: str = "") -> Any:
        """Send JSON; return the JSON of the answer."""
        return self.call(method, whole_url or self._url(path, {}), body).data

    def tail(self, path: str, most: int) -> bytes:
        """Return the last bytes of a text, at most this number."""
        return self._repeated("GET", lambda: self._tail_once(self._url(path, {}), most))

    def broken(self, why: str) -> ForgeError:
        return ForgeError(
            ForgeProblem.BROKEN_ANSWER,
            f"{self.host} sent an answer that its API does not promise: {self.sanitized(why)}",
            "check the address of the API (the field `forge` of the repository), and try again",
        )

    def sanitized(self, words: str, longest: int = LONGEST_REASON) -> str:
        """Return a text of the forge without secrets and control characters, shortened."""
        masked = without_known_formats(self._masker.text(words[: 10 * longest]))
        return shortened(spelled(masked).strip(), longest)

    def call(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Return the answer with a status below 300. Raises ForgeError."""
        return self._repeated(method, lambda: self._call_once(method, url, body))

    def _repeated(self, method: str, call: Callable[[], Found]) -> Found:
        """Return the result of a call, which is repeated after trouble that may pass."""
        deadline = time.monotonic() + self._patience_s
        for tries in range(1, TRIES + 1):
            self._wait_for_pause(deadline)
            try:
                found = call()
            except ForgeError as error:
                pause_s = self._pause_before_retry_s(error, method, tries)
                if pause_s is None or tries == TRIES or time.monotonic() + pause_s > deadline:
                    raise
                self._wait(pause_s)
            else:
                return found
        raise AssertionError("the last try returns or raises")

    def _wait_for_pause(self, deadline: float) -> None:
        pause_s = self._paused_until - time.monotonic()
        if pause_s <= 0:
            return
        if time.monotonic() + pause_s > deadline:
            raise self._limited(ForgeProblem.RATE_LIMIT, pause_s, 0, "")
        self._wait(pause_s)

    def _pause_before_retry_s(self, error: ForgeError, method: str, tries: int) -> float | None:
        """Return the pause after which a call may be repeated; None if it must not be."""
        match error.problem:
            case ForgeProblem.RATE_LIMIT | ForgeProblem.SECONDARY_LIMIT:
                return max(0.0, self._paused_until - time.monotonic())
            case ForgeProblem.UNREACHABLE if error.__cause__ is not None:
                never_sent = isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
                return delay_s(tries) if method == "GET" or never_sent else None
            case ForgeProblem.SERVER if method == "GET":
                return delay_s(tries)
        return None

    def _call_once(self, method: str, url: str, body: Mapping[str, Any] | None) -> Answer:
        self._spend()
        kept = self._kept.get(url) if method == "GET" else None
        headers = {"if-none-match": kept.etag} if kept else {}
        status, received, content = self._exchange(method, url, body, headers)
        if status == NOT_MODIFIED and kept:
            self._note_pause(pause_after_last_s(received))
            return Answer(
                status=OK, data=kept.data, headers=received, next_page=kept.next_page, size=kept.size
            )
        if not OK <= status < REDIRECT_FROM:
            raise self._refusal(status, received, content)
        self._note_pause(pause_after_last_s(received))
        answer = Answer(
            status=status,
            data=self._parsed(content),
            headers=received,
            next_page=_next_page(received),
            size=parsed_size(content),
        )
        if method == "GET" and (etag := received.get("etag")) and status == OK:
            found = KeptAnswer(etag=etag, next_page=answer.next_page, data=answer.data, size=answer.size)
            self._kept.keep(url, found)
        return answer

    def _tail_once(self, url: str, most: int) -> bytes:
        self._spend()
        status, received, content = self._exchange("GET", url, None, {}, most)
        place = urljoin(url, received.get("location", ""))
        if status in REDIRECTS and urlsplit(place).scheme == urlsplit(self.api).scheme:
            with httpx2.Client(**_options({"user-agent": "coord"})) as stranger:
                status, received, content = self._exchange("GET", place, None, {}, most, stranger)
        if status != OK:
            raise self._refusal(status, received, content)
        return content

    def _exchange(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str],
        tail: int = 0,
        client: httpx2.Client | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and content. `tail`: only the last bytes, of any number; `client`: None for
        the one with the token.
        """
        content, read = bytearray(), 0
        until = time.monotonic() + WHOLE_S
        largest = LARGEST_LOG_BYTES if tail else LARGEST_BYTES
        try:
            with (client or self._client).stream(method, url, json=body, headers=dict(headers)) as answer:
                for piece in answer.iter_bytes():
                    content += piece
                    read += len(piece)
                    if tail:
                        del content[:-tail]
                    if read > largest:
                        raise self.broken(f"it has more than {largest:,} bytes")
                    if time.monotonic() > until:
                        raise httpx2.ReadTimeout(f"the answer took longer than {WHOLE_S:g} s")
                return answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, bytes(content)
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError) as error:
            raise ForgeError(
                ForgeProblem.INVALID,
                f"{self.sanitized(self.api)} is not a valid address of an API: {self.sanitized(str(error))}",
                "correct the url of the repository, or its field `forge`",
            ) from error
        except httpx2.DecodingError as error:
            raise self.broken(str(error)) from error
        except httpx2.HTTPError as error:
            raise ForgeError(
                ForgeProblem.UNREACHABLE,
                f"{self.host} did not answer: {self.sanitized(str(error) or type(error).__name__)}",
                "check that this machine can reach it, and try again",
            ) from error

    def _parsed(self, content: bytes) -> Any:
        if not content.strip():
            return None
        if parsed_size(content) > LARGEST_PARSED_BYTES:
            raise self.broken(f"it takes more than {LARGEST_PARSED_BYTES:,} bytes of memory")
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self.broken(f"no JSON: {error}") from error

    def _refusal(self, status: int, headers: Mapping[str, str], content: bytes) -> ForgeError:
        reason = self.sanitized(reason_in(content))
        if limit := limit_of(status, headers, reason):
            problem, pause_s = limit
            self._note_pause(pause_s)
            return self._limited(problem, pause_s, status, reason)
        target = self.sanitized(urljoin(f"{self.api}/", headers.get("location", "")))
        return refusal_of(self.host, status, reason, target if status in REDIRECTS else "")

    def _limited(self, problem: ForgeProblem, pause_s: float, status: int, reason: str) -> ForgeError:
        words = "rate limit" if problem is ForgeProblem.RATE_LIMIT else "secondary rate limit"
        retry_at = datetime.now(UTC) + timedelta(seconds=pause_s)
        return ForgeError(
            problem,
            f"{self.host} accepts no calls for {pause_s:.0f} s: its {words} is reached",
            f"try again after {retry_at:%H:%M:%S} UTC; for fewer calls, lower the setting forge_budget",
            status=status,
            retry_at=retry_at,
            reason=reason,
        )

    def _note_pause(self, pause_s: float) -> None:
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + pause_s if pause_s else 0.0)

    def _url(self, path: str, query: Mapping[str, str | int]) -> str:
        return str(httpx2.URL(f"{self.api}{path}", params=dict(query)) if query else f"{self.api}{path}")


def _options(headers: Mapping[str, str]) -> dict[str, Any]:
    timeout = httpx2.Timeout(READ_S, connect=CONNECT_S)
    return {"headers": headers, "timeout": timeout, "follow_redirects": False, "verify": _trusted()}


@cache
def _trusted() -> ssl.SSLContext:
    """Return the TLS context: loading the certificates takes 190 ms, which each client would repeat."""
    return httpx2.create_ssl_context()


_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)


def parsed_size(content: bytes) -> int:
    """Return about how much memory JSON takes when it is parsed: `[[],[],…` takes 24 times its bytes."""
    if (most := _size_with_marks_of(content, content)) <= LARGEST_BYTES:
        return most
    return _size_with_marks_of(_STRING.sub(b"", content), content)  # 0.6 µs a string


def _size_with_marks_of(marks: bytes, content: bytes) -> int:
    return len(content) + VALUE_BYTES * sum(map(marks.count, (b",", b"[", b"{")))


def _next_page(headers: Mapping[str, str]) -> str:
    found = re.search(r'<([^>]*)>\s*;[^,]*rel="?next"?', headers.get("link", ""))
    return found[1] if found else ""


@dataclass(frozen=True, kw_only=True)
class KeptAnswer:
    etag: str
    next_page: str
    """Address of the next page; empty for the last one."""
    data: Any
    size: int
    """Bytes in memory, as `parsed_size` says."""


class KeptAnswers:
    """Kept answers of one token; `folder` None: in memory only."""

    def __init__(self, folder: Path | None, owner: str) -> None:
        self._folder = folder
        self._owner = owner
        self._known: OrderedDict[str, KeptAnswer] = OrderedDict()

    def get(self, url: str) -> KeptAnswer | None:
        """Return the kept answer of an address; None without one, or where its file is damaged."""
        if url in self._known or self._folder is None:
            return self._known.get(url)
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            path = self._path(self._folder, url)
            if path.stat().st_size <= 2 * LARGEST_KEPT_BYTES:
                found = json.loads(path.read_bytes())
                return self._remembered(
                    url,
                    KeptAnswer(
                        etag=str(found["etag"]),
                        next_page=str(found["next_page"]),
                        data=found["data"],
                        size=int(found["size"]),
                    ),
                )
        return None

    def keep(self, url: str, answer: KeptAnswer) -> None:
        """Keep an answer; one that cannot be written is only kept in memory."""
        self._remembered(url, answer)
        if self._folder is None:
            return
        content = json.dumps(vars(answer), separators=(",", ":")).encode()
        if len(content) > LARGEST_KEPT_BYTES:
            return
        try:
            make_private(self._folder)
            replace_file(self._path(self._folder, url), content, durable=False)
        except OSError as error:
            logger.warning("cannot keep an answer of a forge in %s: %s", self._folder, error.strerror)

    def _remembered(self, url: str, answer: KeptAnswer) -> KeptAnswer:
        """Keep an answer in memory, in place of the oldest ones above LARGEST_KNOWN_BYTES."""
        self._known[url] = answer
        self._known.move_to_end(url)
        while len(self._known) > 1 and sum(one.size for one in self._known.values()) > LARGEST_KNOWN_BYTES:
            self._known.popitem(last=False)
        return answer

    def prune(self) -> None:
        """Remove files that are older than KEPT_FOR_S, and the oldest ones above MOST_KEPT_FILES."""
        if self._folder is None:
            return
        with suppress(OSError):
            files = [(path.stat().st_mtime, path) for path in self._folder.glob("*.json")]
            limit = time.time() - KEPT_FOR_S
            for number, (written, path) in enumerate(sorted(files, reverse=True)):
                if number >= MOST_KEPT_FILES or written < limit:
                    path.unlink(missing_ok=True)

    def _path(self, folder: Path, url: str) -> Path:
        name = sha256(f"{self._owner}\0{url}".encode()).hexdigest()
        return folder / f"{name}.json"
