"""The application and its process: routes, sessions, errors as pages.

A request is answered only for a person who has signed in. Reading needs the right `read`; an action needs its
own right and the token of the page's form. The process serves until a signal, then ends open streams at once.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from coordination.api import http_limits
from coordination.api.coord import Coord
from coordination.dashboard.access import SESSION_S, Guesses, Tokens, Visitor
from coordination.dashboard.pages import (
    HERE,
    NONCE,
    BelowPrefix,
    Download,
    Page,
    PageRequest,
    Texts,
    environment,
    form_of,
    from_other_site,
    personal,
    secured,
)
from coordination.dashboard.snapshots import PageNews, Snapshots
from coordination.dashboard.views import ACTIONS, VIEWS
from coordination.dashboard.views.actions import COMMANDS, Form, changes_of, perform
from coordination.dashboard.views.board import record
from coordination.environment import acting_for
from coordination.errors import (
    Blocked,
    Conflict,
    CoordinationError,
    NotAllowed,
    NotFound,
    Unreachable,
    UsageError,
)

logger = logging.getLogger(__name__)
COOKIE = "coord_session"
RIGHTS_S = 1.0
"""Seconds for which pages keep the rights of a person; each operation checks them again."""
STATUSES: Mapping[type[CoordinationError], int] = {
    NotAllowed: 403,
    NotFound: 404,
    Blocked: 409,
    Conflict: 409,
    Unreachable: 503,
    UsageError: 400,
}
REFUSALS = {403: "Not allowed", 404: "Not found", 503: "Redis is away"}
"""Status → title of the page that reports it."""
NAVIGATION = (
    ("/", "Now"),
    ("/runs", "Runs"),
    ("/changes", "Change sets"),
    ("/board", "Board"),
    ("/fleet", "Fleet"),
    ("/history", "History"),
)
SECTIONS = {
    "/run": "/runs",
    "/run/gantt": "/runs",
    "/todo": "/runs",
    "/change": "/changes",
    "/record": "/board",
    "/repositories": "/board",
}
"""Page → the page in the navigation to which it belongs."""
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
GRACE_S = 2
"""Seconds for open answers when the server stops; without a limit, uvicorn waits for open streams forever."""
REQUEST_S = 10.0
CONNECTIONS = 500
Handler = Callable[[Request, PageRequest], Awaitable[Response]]


class Dashboard:
    """Serves one ecosystem. `prefix` is the path below which a proxy serves it, empty or like `/coord`."""

    def __init__(
        self, snapshots: Snapshots, tokens: Tokens, *, prefix: str = "", secure: bool = False
    ) -> None:
        self.snapshots, self.tokens = snapshots, tokens
        self.news = PageNews(snapshots)
        self._prefix, self._secure = prefix, secure
        self._guesses = Guesses()
        self._templates = environment()
        self._texts = Texts()

    def app(self) -> ASGIApp:
        views = [Route(path, self._page(view), name=path) for path, view in VIEWS.items()]
        routes = [
            Mount("/static", StaticFiles(directory=HERE / "static")),
            Route("/sign-in", self._sign_in, methods=["GET", "POST"]),
            Route("/sign-out", self._signed_in(self._sign_out), methods=["POST"]),
            Route("/events", self._signed_in(self._events)),
            Route("/do/{action}", self._signed_in(self._act), methods=["POST"]),
            *views,
            Route("/{address:path}", self._signed_in(self._no_page)),
        ]
        return BelowPrefix(self._prefix, Starlette(routes=routes, lifespan=self._open))

    @asynccontextmanager
    async def _open(self, _: Starlette) -> AsyncIterator[None]:
        self.news.open()
        try:
            yield
        finally:
            self.news.close()
            self.snapshots.close()

    # Visitors and their rights

    def _signed_in(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def handle(http: Request) -> Response:
            visitor = self.tokens.visitor(http.cookies.get(COOKIE, ""))
            if visitor is None:
                return self._to_sign_in(http)
            request = PageRequest(
                visitor=visitor,
                snapshots=self.snapshots,
                prefix=self._prefix,
                path=http.url.path,
                query=dict(http.query_params),
                renewal="hx-request" in http.headers,
            )
            try:
                request = replace(request, may=await self._allowed(visitor), signed=self._signed)
                if "read" not in request.may:
                    raise NotAllowed(
                        f"{visitor.person} may not read this ecosystem",
                        f"an administrator grants it: coord trust grant {visitor.person} viewer",
                    )
                return await handler(http, request)
            except CoordinationError as error:
                return self._refused(request, error)

        return handle

    def _to_sign_in(self, http: Request) -> Response:
        if http.method != "GET" or http.headers.get("hx-request"):
            # A redirect would make htmx put the sign-in form into the open page.
            refused = PlainTextResponse("sign in again", 401)
            refused.headers["HX-Redirect"] = f"{self._prefix}/sign-in"
            return secured(refused)
        path = http.url.path.removeprefix(self._prefix)
        after = f"{path}?{http.url.query}" if http.url.query else path
        request = _unknown(self.snapshots, self._prefix)
        return RedirectResponse(request.url("/sign-in", to=after if after != "/" else ""), 303)

    async def _allowed(self, visitor: Visitor) -> set[str]:
        """Return the operations that the person may perform in at least one repository."""
        operations = {"read"} if visitor.read_only else {"read", *ACTIONS.values()}

        def read(coord: Coord) -> set[str]:
            with acting_for(visitor.person):
                return coord.authority.allowed(operations)

        key = ("allowed", visitor.person, visitor.read_only)
        return (await self.snapshots.get(key, read, live=False, fresh_s=RIGHTS_S)).value

    async def _sign_in(self, http: Request) -> Response:
        request = _unknown(self.snapshots, self._prefix, http)
        if http.method == "GET":
            return self._sign_in_page(request, request.get("to"))
        try:
            form = await form_of(http)
        except UsageError as error:
            return self._refused(request, error)
        to, address = form.get("to", ""), http.client.host if http.client else ""
        if self._guesses.exhausted(address):
            return self._sign_in_page(request, to, "too many wrong tokens: wait a minute", 429)
        if from_other_site(http):
            return self._sign_in_page(request, to, "try again", 403)
        session = self.tokens.sign_in(form.get("token", "").strip())
        if session is None:
            self._guesses.failed(address)
            return self._sign_in_page(request, to, "this token is wrong, or was revoked", 401)
        safe = to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable()
        answer = RedirectResponse(f"{self._prefix}{to}" if safe else f"{self._prefix}/", 303)
        answer.set_cookie(
            COOKIE,
            session,
            max_age=int(SESSION_S),
            path=self._prefix or "/",
            secure=self._secure or http.url.scheme == "https",
            httponly=True,
            samesite="lax",
        )
        return secured(answer)

    def _sign_in_page(self, request: PageRequest, to: str, why: str = "", status: int = 200) -> Response:
        data = {"why": why, "to": to}
        return self._render(
            request, Page(template="sign_in.html", title="Sign in", data=data, status=status, live=False)
        )

    async def _sign_out(self, http: Request, request: PageRequest) -> Response:
        await self._checked_form(http, request)
        self.tokens.sign_out(http.cookies[COOKIE])
        answer = RedirectResponse(request.url("/sign-in"), 303)
        answer.delete_cookie(COOKIE, path=self._prefix or "/")
        return answer

    # Answers

    def _page(
        self, view: Callable[[PageRequest], Awaitable[Page | Download]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def handle(_: Request, request: PageRequest) -> Response:
            page = await view(request)
            if isinstance(page, Download):
                headers = {"Content-Disposition": f'attachment; filename="{page.name}"'}
                return secured(PlainTextResponse(page.text, headers=headers))
            return self._render(request, page, position=page.position or self.news.position)

        return self._signed_in(handle)

    async def _no_page(self, _: Request, request: PageRequest) -> Response:
        raise NotFound(f"there is no page {request.path}", "the pages are named above")

    async def _events(self, http: Request, request: PageRequest) -> Response:
        since = http.headers.get("last-event-id") or request.get("since")
        session = http.cookies[COOKIE]

        async def messages() -> AsyncIterator[str]:
            async for message in self.news.messages(since):
                if self.tokens.visitor(session) is None:
                    return
                yield message

        return secured(
            StreamingResponse(messages(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        )

    async def _act(self, http: Request, request: PageRequest) -> Response:
        form = await self._checked_form(http, request)
        action = http.path_params["action"]
        if action not in ACTIONS:
            raise NotFound(f"there is no action {action!r}", "go back to the page")
        if request.visitor.read_only:
            raise NotAllowed(
                f"the token of {request.visitor.person} is for reading",
                f"a token for acting: coord dashboard token add {request.visitor.person}",
            )
        try:
            done = await perform(request, action, Form(form))
        except Conflict as error:
            if action != "edit":
                raise
            return await self._edit_again(request, form, error)
        finally:
            self.snapshots.forget()
        return RedirectResponse(done, 303)

    async def _edit_again(self, request: PageRequest, form: Mapping[str, str], error: Conflict) -> Response:
        """Return the page of the record with the entered values, which were not written."""
        request = replace(request, path="/record", query={"id": form["record"]})
        page = await record(request, changes_of(form), f"{error.message}; {error.hint}")
        return self._render(request, page, position=page.position or self.news.position)

    async def _checked_form(self, http: Request, request: PageRequest) -> dict[str, str]:
        form = await form_of(http)
        if from_other_site(http) or not hmac.compare_digest(
            form.get("csrf", "").encode(), request.visitor.csrf.encode()
        ):
            raise NotAllowed("this form is not from a page of your session", "load the page again")
        return form

    @property
    def _signed(self) -> bool:
        """Return whether people must sign their orders themselves."""
        return self.snapshots.coord.authority.required

    def _refused(self, request: PageRequest, error: CoordinationError) -> Response:
        status = next((code for kind, code in STATUSES.items() if isinstance(error, kind)), 500)
        data = {"message": error.message, "hint": error.hint, "away": isinstance(error, Unreachable)}
        page = Page(
            template="refused.html",
            title=REFUSALS.get(status, "Not done"),
            data=data,
            status=status,
            live=status == 503,
        )
        return self._render(request, page, position=self.news.position)

    def _render(self, request: PageRequest, page: Page, *, position: str = "") -> Response:
        nonce = secrets.token_urlsafe(16)
        body = self._texts.get(request, page, position, self._text)
        answer = Response(personal(body, request.visitor, nonce), page.status, media_type="text/html")
        if page.reload:
            answer.headers["HX-Refresh"] = "true"
        return secured(answer, nonce)

    def _text(self, request: PageRequest, page: Page, position: str) -> str:
        return self._templates.get_template(page.template).render(
            request=request,
            page=page,
            url=request.url,
            here=request.url(request.path, **{**request.query, "done": ""}),
            section=SECTIONS.get(request.path, request.path),
            nonce=NONCE,
            may=request.may,
            position=position,
            navigation=NAVIGATION,
            self_context={
                "request": request,
                "may": request.may,
                "commands": COMMANDS,
                "signed": request.signed,
            },
            **page.data,
        )


def _unknown(snapshots: Snapshots, prefix: str, http: Request | None = None) -> PageRequest:
    """Return the request of a person who has not signed in."""
    visitor = Visitor(person="", read_only=True, csrf="")
    query = dict(http.query_params) if http else {}
    return PageRequest(visitor=visitor, snapshots=snapshots, prefix=prefix, query=query)


class _Server(uvicorn.Server):
    """Ends the streams of open pages when it gets a signal, instead of after the grace time."""

    def __init__(self, config: uvicorn.Config, dashboard: Dashboard) -> None:
        super().__init__(config)
        self._dashboard = dashboard

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._dashboard.news.end_streams()


def serve(
    dashboard: Dashboard,
    listening: socket.socket,
    *,
    proxies: Collection[str] = (),
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve until a signal. `proxies`: networks whose X-Forwarded headers are trusted."""
    config = uvicorn.Config(
        dashboard.app(),
        http=http_limits(REQUEST_S, CONNECTIONS),
        ws="none",
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        log_config=None,
        access_log=False,
        ssl_context_factory=None if tls is None else lambda *_: tls,
    )
    server = _Server(config, dashboard)

    def stop(number: int, frame: FrameType | None) -> None:
        server.handle_exit(number, frame)

    # uvicorn restores these handlers and raises the signal again; they have nothing left to do then.
    for number in STOPS:
        signal.signal(number, stop)
    server.run(sockets=[listening])
