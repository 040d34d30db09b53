"""Requests and answers of views; templates and their filters.

Text of people and programs is data: it is escaped, its control characters are spelled out, and it is cut if
it is longer than a page may show.

All open pages that show the same data share a rendered page: fifty pages may follow an event at once, and
rendering is most of the work. The name, the form token and the nonce of a person are marks in the rendered
text until it is sent.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from coordination.api.coord import Coord
from coordination.dashboard.access import Visitor
from coordination.dashboard.snapshots import Seen, Snapshots
from coordination.errors import UsageError
from coordination.states import spaced, tone_of, words_of
from coordination.terminal import spelled
from coordination.text import shortened

T = TypeVar("T")
LONGEST_FORM = 64 * 1024
"""Bytes of the longest form that is read."""
HERE = Path(__file__).parent
LONGEST = 2000
"""Number of characters of the longest text outside of logs and differences."""
DRAWN = 2000
"""Number of boxes of the largest graph that is drawn."""
_COMMAND = re.compile(r'(; to end it now)?: coord approve \S+$|: coord answer \S+ "TEXT"')
_PREAMBLE = re.compile(r"^.*?(?=<svg)|<style>.*?</style>", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class PageRequest:
    """A request of a person for a page, or part of one."""

    visitor: Visitor
    snapshots: Snapshots
    prefix: str
    path: str = "/"
    """Without the prefix."""
    query: Mapping[str, str] = field(default_factory=dict)
    may: Collection[str] = ()
    """The operations of pages that the person may perform in at least one repository."""
    renewal: bool = False
    """True if an open page asks again because of a new event."""
    signed: bool = False
    """True if people must sign their orders themselves."""
    answers: list[Seen[Any]] = field(default_factory=list)
    """The answers read for this request so far."""
    rights: list[tuple[str, Collection[str]]] = field(default_factory=list)
    """Operations, and the repositories in which the person may perform them, that this request has read."""

    async def read(
        self,
        key: Hashable,
        read: Callable[[Coord], T],
        *,
        live: bool = True,
        history: bool = False,
        fresh_s: float | None = None,
    ) -> Seen[T]:
        """Return an answer of the facade, as `Snapshots.get` does. A newly opened page gets the shared answer
        at once; the stream of events then renews an older one.
        """
        seen = await self.snapshots.get(
            key, read, live=live, history=history, fresh_s=fresh_s, at_once=not self.renewal
        )
        self.answers.append(seen)
        return seen

    async def repos_with(self, operation: str, repos: Collection[str]) -> set[str]:
        """Return the repositories in which the person may do this; "" means any repository."""
        if operation not in self.may or not repos:
            return set()
        authority = self.snapshots.coord.authority

        def allowed() -> set[str]:
            return {repo for repo in repos if authority.allowed({operation}, repo or None)}

        found = await self.snapshots.do(allowed, self.visitor.person)
        self.rights.append((operation, frozenset(found)))
        return found

    def url(self, path: str, **query: object) -> str:
        """Return the address of a page, with the arguments that are not empty."""
        arguments = {name: str(value) for name, value in query.items() if value not in (None, "")}
        return f"{self.prefix}{path}{'?' + urlencode(arguments, errors='replace') if arguments else ''}"

    def get(self, name: str) -> str:
        return self.query.get(name, "").strip()

    def number(self, name: str, default: int = 0) -> int:
        text = self.get(name)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default


@dataclass(frozen=True, kw_only=True)
class Page:
    """The answer of a view: a template with its data."""

    template: str
    title: str
    data: Mapping[str, Any]
    state: str = ""
    """Its state in few characters, which stands before the title of the tab."""
    seen: tuple[Seen[Any], ...] = ()
    """The answers that it shows; the page names the oldest one that could not be renewed."""
    status: int = 200
    live: bool = True
    """False if the page does not renew itself."""
    reload: bool = False
    """True if the open page that asked for this part of it is to load itself again."""

    @property
    def tab(self) -> str:
        """Return the title of the tab: `▶ 63 % PLAN-001 · run … · coord`."""
        return " ".join(filter(None, (self.state, self.title, "· coord")))

    @property
    def position(self) -> str:
        """Return the newest event that the whole page shows; the stream renews the page after it."""
        shown = [one for one in self.seen if one.position]
        return min(shown, key=lambda one: one.changes).position if shown else ""

    @property
    def stale(self) -> Seen[Any] | None:
        return min((one for one in self.seen if one.stale), key=lambda one: one.at, default=None)


@dataclass(frozen=True, kw_only=True)
class Download:
    """The answer of a view that is a file of text."""

    name: str
    text: str


def plain(value: object, longest: int | None = LONGEST) -> str:
    """Return the text without control characters and without marks that change its direction."""
    text = value if isinstance(value, str) else str(value)
    cut = text if longest is None else shortened(text, longest)
    return spelled(cut).encode(errors="replace").decode()


def finalized(value: object) -> object:
    """Return a safe value for a template; markup comes from other templates and stays."""
    if value is None:
        return ""
    return value if isinstance(value, Markup) else plain(value)


def without_command(waits_for: object) -> str:
    """Return the text of a wait without the command for which the page has a button."""
    return _COMMAND.sub("", str(waits_for or ""))


def moment(value: datetime | str | float | None) -> datetime | None:
    """Return a time given as a datetime, as ISO 8601, or in seconds; None for anything else."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if value is None:
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def ago(value: datetime | str | float | None) -> Markup:
    """Return a time as an age, or as the duration until then, with the exact time as its tooltip."""
    at = moment(value)
    if at is None:
        return Markup("")
    left = (datetime.now(UTC) - at).total_seconds()
    text = "now" if abs(left) < 1 else f"{took(left)} ago" if left > 0 else f"in {took(-left)}"
    exact = at.astimezone(UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        exact.isoformat(timespec="seconds"), f"{exact:%Y-%m-%d %H:%M:%S} UTC", text
    )


def took(seconds: float | None) -> str:
    """Return a duration in its two largest units."""
    if seconds is None:
        return ""
    whole = int(seconds)
    if 0 < seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 and seconds != whole else f"{whole} s"
    for name, size, below, part in (("min", 60, "s", 1), ("h", 3600, "min", 60), ("d", 86400, "h", 3600)):
        if whole < size * (60 if name == "min" else 24 if name == "h" else 10**9):
            rest = whole % size // part
            return f"{whole // size} {name} {rest} {below}" if rest else f"{whole // size} {name}"
    return f"{whole} s"


def day(value: date | datetime | None) -> str:
    return "" if value is None else f"{value:%Y-%m-%d}"


def log_text(text: str) -> Markup:
    """Return output of a command as text; colours and other control sequences are spelled out."""
    return Markup(escape(plain(text, longest=None)))  # noqa: S704 (it is escaped)


COLOUR = re.compile("\x1b\\[([0-9;]*)m")
_STYLES = {
    **{str(code): f"ansi-{code}" for code in range(31, 37)},
    **{str(code + 60): f"ansi-{code}" for code in range(31, 37)},
    "1": "ansi-bold",
}
"""Code of a colour, or of bold text → class of the style sheet. Black and white are as the page."""
_NO_COLOUR = frozenset({"30", "37", "39", "90", "97"})


class Colours:
    """Shows text with the colours that its sequences give it; other control sequences are spelled out."""

    def __init__(self) -> None:
        self._colour = self._bold = ""

    @classmethod
    def after(cls, text: str) -> Colours:
        """Return the colours that a text leaves on."""
        made = cls()
        for codes in COLOUR.findall(text):
            made._obey(codes)
        return made

    def shown(self, text: str) -> Iterator[str]:
        """Yield the text as HTML; its colours stay on for the next one."""
        for number, piece in enumerate(COLOUR.split(text)):
            if number % 2:
                self._obey(piece)
            elif piece:
                styles = f"{self._colour} {self._bold}".strip()
                words = log_text(piece)
                yield f'<span class="{styles}">{words}</span>' if styles else words

    def _obey(self, sequence: str) -> None:
        codes = iter(sequence.split(";"))
        for code in codes:
            if code in ("38", "48"):  # of 256 colours or more: 5 and one number, or 2 and three
                for _ in range({"5": 1, "2": 3}.get(next(codes, ""), 0)):
                    next(codes, "")
            elif code.lstrip("0") == "":
                self._colour = self._bold = ""
            elif code == "22":
                self._bold = ""
            elif code in _NO_COLOUR:
                self._colour = ""
            elif code == "1":
                self._bold = _STYLES[code]
            elif style := _STYLES.get(code):
                self._colour = style


def coloured(text: str) -> Markup:
    """Return lines of a log with their colours; other control sequences are spelled out."""
    return Markup("".join(Colours().shown(text)))  # noqa: S704 (each piece is escaped)


def diff_lines(diff: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a difference, each with its class; lines before the first hunk of a file, such as
    its name after `+++`, are neither added nor removed.
    """
    in_hunk = False
    for line in diff.split("\n"):
        if line.startswith("diff --git "):
            in_hunk = False
        elif line.startswith("@@"):
            in_hunk = True
        yield DIFF_CLASSES.get(line[:1], "") if in_hunk else "", line


DIFF_CLASSES = {"+": "add", "-": "del", "@": "at"}


def as_json(value: object) -> str:
    """Return a value of a record as JSON for people; a text stays as it is."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, default=str)


def inline(svg: str) -> Markup:
    """Return a picture drawn by coord as part of a page; the style sheet has its colours."""
    return Markup(_PREAMBLE.sub("", svg).replace("<svg ", '<svg class="chart" ', 1))  # noqa: S704 (drawn by coord)


def environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalized,
    )
    made.filters.update(
        spaced=spaced,
        tone=tone_of,
        words=words_of,
        ago=ago,
        took=took,
        day=day,
        coloured=coloured,
        diff_lines=diff_lines,
        log_text=log_text,
        without_command=without_command,
        as_json=as_json,
        short=lambda v: str(v)[:12],
    )
    return made


async def form_of(http: Request) -> dict[str, str]:
    """Return the fields of a form. Raises UsageError above LONGEST_FORM bytes or 100 fields."""
    body = b""
    async for chunk in http.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            raise UsageError("the form is too long", "use the coord command")
    try:
        return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=100))
    except ValueError as error:
        raise UsageError("the form has too many fields", "use the coord command") from error


def from_other_site(http: Request) -> bool:
    """Return whether, according to the browser, a page of another site sends the request."""
    return http.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none")


def secured(answer: Response, nonce: str = "") -> Response:
    """Add the headers that forbid a page everything it does not need."""
    script = f"'nonce-{nonce}'" if nonce else "'none'"
    answer.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src {script}; style-src 'self'; img-src 'self' data:; connect-src "
        "'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types htmx"
    )
    answer.headers.update(
        {
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
    )
    return answer


class BelowPrefix:
    """Serves an application below a prefix, whether or not the proxy keeps the prefix in the path."""

    def __init__(self, prefix: str, app: ASGIApp) -> None:
        self._prefix, self._app = prefix, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: Any = scope.get("path", "")
        if self._prefix and (path == self._prefix or path.startswith(f"{self._prefix}/")):
            scope = {**scope, "path": path.removeprefix(self._prefix) or "/"}
        await self._app(scope, receive, send)


SHARED_S = 1.0
"""Seconds for which a rendered page is shared; it shows ages, which change."""
NONCE, CSRF, PERSON = (secrets.token_hex(16) for _ in range(3))
"""Marks. No page shows them, so text of others cannot contain them."""


class Texts:
    """Rendered pages that are shared for a moment. Not thread-safe."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kept: dict[Hashable, tuple[float, tuple[Seen[Any], ...], bytes]] = {}
        """Page and rights → the time until which it is shared, the answers it shows, and its text."""

    def get(
        self, request: PageRequest, page: Page, position: str, render: Callable[[PageRequest, Page, str], str]
    ) -> bytes:
        """Return the text of a page with marks: one rendered from the same answers, or a new one."""
        marked = replace(
            request, visitor=replace(request.visitor, csrf=CSRF, person=request.visitor.person and PERSON)
        )
        answers = (*request.answers, *page.seen)
        if not answers or page.status != 200:
            return render(marked, page, position).encode()
        key = (
            *(request.path, *sorted(request.query.items()), position),
            *(frozenset(request.may), request.signed, request.visitor.read_only, *request.rights),
        )
        now = self._now()
        until, shown, text = self._kept.get(key, (0.0, (), b""))
        if now < until and len(shown) == len(answers) and all(map(_same, shown, answers)):
            return text
        text = render(marked, page, position).encode()
        self._kept = {name: one for name, one in self._kept.items() if now < one[0]}
        self._kept[key] = (now + SHARED_S, answers, text)
        return text


def _same(one: Seen[Any], other: Seen[Any]) -> bool:
    return one is other or (one.value is other.value and one.stale == other.stale)


def personal(text: bytes, visitor: Visitor, nonce: str) -> bytes:
    """Return the text of a page with the marks replaced by the values of a person."""
    name = str(escape(plain(visitor.person)))
    for mark, value in ((PERSON, name), (CSRF, visitor.csrf), (NONCE, nonce)):
        text = text.replace(mark.encode(), value.encode())
    return text
