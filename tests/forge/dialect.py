"""Parts that the dialects of the test forge share: calls, pages, routes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import urlencode

from tests.forge.core import Core
from tests.forge.records import Hook, Person, Project, Refused, Request, Token


@dataclass
class Call:
    """A request to the API that has a token and an operation."""

    operation: str
    values: dict[str, str]
    """Parameters of the path."""
    query: dict[str, str]
    body: dict[str, Any]
    person: Person
    raw: Any = None
    """The body, also where it is no object."""


class Broken(Exception):
    """An answer in the dialect's own words."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.body = body
        self.headers = dict(headers or {})
        super().__init__(str(body))


@dataclass
class Status:
    status: int
    body: Any = None


@dataclass
class Page:
    items: list[Any]
    wrap: Callable[[list[Any]], Any] = field(default=list)


LOGS = "/logs/"
"""Beginning of the addresses of logs in a store beside the API."""
Handler = Callable[[Any, Call], Any]


def on(operation: str) -> Callable[[Handler], Handler]:
    """Name the operation that a method of a dialect answers."""

    def mark(handler: Handler) -> Handler:
        handler.operation = operation  # type: ignore[attr-defined]
        return handler

    return mark


class Dialect(ABC):
    name: ClassVar[str]
    prefix: ClassVar[str]
    free_if_unchanged: ClassVar[bool]
    """A 304 costs nothing of the rate limit."""
    page_size: ClassVar[int]
    largest_page: ClassVar[int] = 100
    etags: ClassVar[bool] = True
    """Answers have an ETag."""

    def __init__(self, core: Core, site: str) -> None:
        self.core = core
        self.site = site
        methods = (getattr(self, name) for name in dir(type(self)) if not name.startswith("__"))
        self.handlers: dict[str, Callable[[Call], Any]] = {
            one.operation: one for one in methods if hasattr(one, "operation")
        }

    def handle(self, call: Call) -> Any:
        return self.handlers[call.operation](call)

    def path(self, path: str) -> str:
        """Return the path of an operation."""
        return path

    def page_headers(
        self, address: str, query: dict[str, str], number: int, last: int, size: int, total: int
    ) -> dict[str, str]:
        pages = {"prev": number - 1, "next": number + 1, "first": 1, "last": last}
        links = [
            f'<{address}?{urlencode(query | {"page": str(page)})}>; rel="{name}"'
            for name, page in pages.items()
            if 0 < page <= last and (page != number or name == "last") and last > 1
        ]
        return {"Link": ", ".join(links)} if links else {}

    @abstractmethod
    def token(self, headers: Mapping[str, str]) -> str: ...
    @abstractmethod
    def unauthorized(self, token: Token | None) -> tuple[int, Any]: ...
    @abstractmethod
    def primary_limit(self) -> tuple[int, Any]: ...
    @abstractmethod
    def secondary_limit(self) -> tuple[int, Any]: ...
    @abstractmethod
    def limit_headers(self, left: int, limit: int, reset: int, *, exhausted: bool) -> dict[str, str]: ...
    @abstractmethod
    def refuse(self, refused: Refused, call: Call) -> tuple[int, Any]: ...
    @abstractmethod
    def event(
        self, hook: Hook, project: Project, kind: str, action: str, what: Any, by: Person | None
    ) -> tuple[dict[str, str], Any] | None:
        """Return the headers and the payload of a webhook; None: this hook does not hear of it."""


def time(at: datetime | None) -> str | None:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else None


def message_of(request: Request, title: str, message: str) -> str:
    """Return the text of a commit that merges a request."""
    return f"{title or f'Merge pull request #{request.number} from {request.head}'}\n\n{message}".strip()
