"""The HTTP server of the test forge: git transport, both dialects, and switches for what goes wrong.

with TestForge(folder, "github") as forge:
    project = forge.create("acme/api", seed=checkout)
    forge.token("coord")                            # of a person who may write
    forge.fail(502, times=2)                        # the next two answers; other kinds: `Fault`
    forge.remaining = 3                             # calls until the rate limit; None: plenty
    assert forge.violations == []                   # of the official descriptions, ours and the client's

Answers and requests are compared with `openapi/*.json`. Fields that the description requires and the forge
has no use for are filled in with neutral values.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.forge.contract import Contract
from tests.forge.core import Core
from tests.forge.dialect import LOGS, Broken, Call, Dialect, Page, Status
from tests.forge.gitea import Gitea
from tests.forge.github import GitHub
from tests.forge.gitlab import GitLab
from tests.forge.hooks import Deliveries
from tests.forge.records import (
    Hook,
    Person,
    Project,
    Protection,
    Refused,
    Request,
    Thread,
    Token,
    Why,
)
from tests.forge.repositories import Bare
from tests.git_server import Answer, Asked, GitServer

LIMIT = 5000
WINDOW_S = 3600
SLOW_S = 3.0
HUGE_BYTES = 17 * 1024 * 1024


@dataclass
class Fault:
    kind: int | str
    """A status; or "broken" (no JSON), "huge", "hostile" (a refusal with control characters and the token),
    "slow", "lost" (executed, not answered), "secondary" (rate limit).
    """
    times: int
    only: re.Pattern[str]
    retry_after: int


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One request to the API."""

    method: str
    path: str
    operation: str
    status: int
    conditional: bool
    body: Any = None


@dataclass
class Reply:
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class TestForge(GitServer):
    __test__ = False

    def __init__(self, folder: Path, dialect: str = "github") -> None:
        super().__init__(folder)
        self.core = Core()
        self.dialects: dict[str, Dialect] = {
            one.name: one(self.core, self.site) for one in (GitHub, GitLab, Gitea)
        }
        self.contracts = {name: Contract(name) for name in self.dialects}
        self.dialect = self.dialects[dialect]
        self.lock = threading.RLock()
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.violations: list[str] = []
        self.remaining: int | None = None
        """Calls that are left in this window; None: LIMIT less those used."""
        self.deliveries = Deliveries(self.core, self.dialects)

    def __exit__(self, *given: object) -> None:
        self.deliveries.close()
        super().__exit__(*given)

    @property
    def handler(self) -> type[BaseHTTPRequestHandler]:
        return ForgeAnswer

    @property
    def site(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def api(self) -> str:
        return self.site + self.dialect.prefix

    def create_project(self, name: str, *, seed: Path | None = None, branch: str = "main") -> Project:
        """Make a project with a bare remote; without `seed` it has one commit."""
        bare = Bare(self.create(name, seed, branch))
        project = Project(self.core.id(), name, bare, branch, {})
        for login, right in (("coord", "write"), ("ann", "write"), ("bob", "admin"), ("eve", "read")):
            project.members[self.core.person(login)] = right
        if seed is None:
            bare.write(branch, {"README.md": f"{name}\n"}, "Begin")
        self.core.projects.append(project)
        return project

    def token(self, login: str = "coord") -> str:
        """Make a token of a person."""
        value = f"forge-{login}-{self.core.id()}-secret"
        self.core.tokens[value] = Token(value, self.core.person(login))
        return value

    def revoke(self, token: str) -> None:
        self.core.tokens[token].revoked = True

    def rename(self, project: Project, name: str) -> None:
        """Give a project another name; the earlier one is redirected, for git as well."""
        project.earlier_names.append(project.full_name)
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        self.path(name).symlink_to(project.bare.path)
        project.full_name = name

    def fail(self, kind: int | str, times: int = 1, only: str = "", retry_after: int = 1) -> None:
        """Let the next answers go wrong, of requests whose `METHOD path` matches `only`."""
        self.faults.append(Fault(kind, times, re.compile(only), retry_after))

    def fault(self, request: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.only.search(request):
                fault.times -= 1
                return fault
        return None

    # People act: through the core, which is the same for all dialects.

    def approve(self, project: Project, number: int, by: str = "ann") -> None:
        self.review(project, number, "approved", by)

    def request_changes(self, project: Project, number: int, by: str = "ann") -> None:
        self.review(project, number, "changes_requested", by)

    def review(self, project: Project, number: int, state: str, by: str) -> None:
        with self.lock:
            self.core.review(project, self.core.request(project, number), self.core.person(by), state)

    def push(self, project: Project, branch: str, start: str = "", **files: str) -> str:
        """Commit files onto a branch, as a push by a person does; return the commit."""
        with self.lock:
            commit = project.bare.write(branch, files, "By a person", start or project.default_branch)
            self.core.refresh(project)
        return commit

    def delete_branch(self, project: Project, branch: str) -> None:
        with self.lock:
            project.bare.move(branch, "", project.bare.commit(f"refs/heads/{branch}") or "")
            self.core.refresh(project)

    def open_request(
        self, project: Project, head: str, title: str, by: str = "ann", base: str = ""
    ) -> Request:
        with self.lock:
            return self.core.open_request(
                project, self.core.person(by), head=head, base=base or project.default_branch,
                title=title, body="", draft=False, empty=False,
            )  # fmt: skip

    def merge(self, project: Project, number: int, by: str = "bob", method: str = "merge") -> str:
        with self.lock:
            return self.core.merge(
                project, self.core.request(project, number), self.core.person(by),
                method=method, sha="", message=f"Merge {number}",
            )  # fmt: skip

    def close(self, project: Project, number: int, by: str = "bob") -> None:
        with self.lock:
            self.core.close(project, self.core.request(project, number), self.core.person(by))

    def remark(
        self, project: Project, number: int, path: str, line: int, text: str, by: str = "ann"
    ) -> Thread:
        """Comment on a line of a request; return the thread."""
        with self.lock:
            request = self.core.request(project, number)
            return self.core.remark(project, request, self.core.person(by), path, line, text)

    def check(
        self,
        project: Project,
        commit: str,
        name: str,
        state: str,
        *,
        run: bool = True,
        log: str | None = None,
    ) -> None:
        """Set a check; `run`: as a check run of an app (GitHub), else as a commit status; `log`: of its
        job.
        """
        with self.lock:
            self.core.set_check(project, commit, name, state, run=run, log=log)

    def protect(self, project: Project, branch: str = "main", **rules: Any) -> None:
        self.core.protect(project, branch, Protection(**rules))

    def hook(self, project: Project, url: str, secret: str) -> None:
        """Send webhooks about a project to an address."""
        project.hooks.append(Hook(self.core.id(), url, secret, self.dialect.name))

    def run_queue(self, project: Project) -> list[int]:
        with self.lock:
            return self.core.run_queue(project)

    def set_clock(self, offset: timedelta) -> None:
        self.core.clock_offset = offset

    def calls(self, operation: str = "") -> list[Seen]:
        return [one for one in self.seen if operation in one.operation]


class ForgeAnswer(Answer):
    disable_nagle_algorithm = True

    def do_PUT(self) -> None:
        self._answer()

    do_PATCH = do_DELETE = do_PUT

    def date_time_string(self, timestamp: float | None = None) -> str:
        forge = self.server.remote
        assert isinstance(forge, TestForge)
        return super().date_time_string(int(forge.core.now().timestamp()))

    def _answer(self) -> None:
        forge = self.server.remote
        assert isinstance(forge, TestForge)
        if forge.away:  # a connection from before
            self.close_connection = True
            return
        parts = urlsplit(self.path)
        body = self._body()
        at = parts.path.replace("/api/graphql", "/api/v3/graphql")
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        for dialect in forge.dialects.values():
            if at.startswith(dialect.prefix + "/"):
                path = at.removeprefix(dialect.prefix)
                self._api(Exchange(forge, dialect, self.command, path, query, self.headers), body)
                return
        if parts.path.startswith(LOGS):  # a store of another owner, which must not see the token
            if "Authorization" in self.headers:
                forge.violations.append("the token was sent to the store of logs")
            self._say(200, {}, forge.core.log_of(parts.path.removeprefix(LOGS)).encode())
            return
        if ".git/" in parts.path:
            self._git(forge, Asked(path=unquote(parts.path), query=parts.query, body=body))
        else:
            self._say(404, {}, b"not here\n")

    def _git(self, forge: TestForge, asked: Asked) -> None:
        token = forge.core.tokens.get(self._user().partition(":")[2])
        forge.requests.append(f"{self.command} {self.path}")
        if token is None or token.revoked:
            self._say(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"log in\n")
            return
        push = asked.service == "receive-pack"
        try:
            project, _ = forge.core.project(asked.name)
            forge.core.allow(project, token.person, "write" if push else "read")
        except Refused as refused:
            status = 404 if refused.why is Why.ABSENT else 403
            self._say(status, {}, f"remote refuses: {refused.why.value}\n".encode())
            return
        status, headers, body = self._backend(asked, token.person.login)
        if push and self.command == "POST":
            with forge.lock:
                forge.core.refresh(project)
        self._say(status, headers, body)

    def _api(self, exchange: Exchange, raw: bytes) -> None:
        reply = exchange.answer(raw)
        if reply is None:
            self.close_connection = True
            self.connection.shutdown(2)
            return
        text = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self._say(reply.status, reply.headers, b"" if reply.body is None or reply.status == 304 else text)


@dataclass
class Exchange:
    """One request to the API, up to its answer."""

    forge: TestForge
    dialect: Dialect
    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    operation: str = ""
    token: Token | None = None
    body: Any = None

    def answer(self, raw: bytes) -> Reply | None:
        """Return the reply; None: the connection breaks off."""
        fault = self.forge.fault(f"{self.method} {self.path}")
        if fault and fault.kind == "slow":
            time.sleep(SLOW_S)
        if fault and fault.kind not in ("slow", "lost"):
            reply = self._faulty(fault)
        else:
            with self.forge.lock:
                reply = self._limited(raw)
        self.forge.seen.append(
            Seen(
                method=self.method,
                path=self.path,
                operation=self.operation,
                status=reply.status,
                conditional="If-None-Match" in self.headers,
                body=self.body,
            )
        )
        return None if fault and fault.kind == "lost" else reply

    def _faulty(self, fault: Fault) -> Reply:
        if fault.kind == "broken":
            return Reply(200, b'{"number": 1, "state', {"Content-Type": "application/json"})
        if fault.kind == "huge":
            return Reply(
                200, b'{"title": "' + HUGE_BYTES * b"x" + b'"}', {"Content-Type": "application/json"}
            )
        if fault.kind == "hostile":
            brought = self.headers.get("Authorization", "")
            return Reply(422, {"message": f"\x1b[2J\x1b]0;title\x07\u202e{brought} " + 9999 * "long "})
        if fault.kind == "secondary":
            status, body = self.dialect.secondary_limit()
            return Reply(status, body, {"Retry-After": str(fault.retry_after)})
        return Reply(int(fault.kind), b"<html>the server is ill</html>", {"Content-Type": "text/html"})

    def _limited(self, raw: bytes) -> Reply:
        self.token = self.forge.core.tokens.get(self.dialect.token(self.headers))
        if self.token and self._left() <= 0:
            status, body = self.dialect.primary_limit()
            return Reply(status, body, self.dialect.limit_headers(0, LIMIT, self._reset(), exhausted=True))
        reply = self._described(raw)
        is_json = not isinstance(reply.body, bytes)
        if reply.status == 200 and self.method == "GET" and self.dialect.etags and is_json:
            reply = self._conditional(reply)
        if self.token and (reply.status != 304 or not self.dialect.free_if_unchanged):
            self._spend()
        headers = self.dialect.limit_headers(self._left(), LIMIT, self._reset(), exhausted=False)
        reply.headers = {"Content-Type": "application/json"} | headers | reply.headers
        return reply

    def _left(self) -> int:
        used = self.token.used if self.token else 0
        return LIMIT - used if self.forge.remaining is None else self.forge.remaining

    def _spend(self) -> None:
        if self.token:
            self.token.used += 1
        if self.forge.remaining is not None:
            self.forge.remaining -= 1

    def _reset(self) -> int:
        return (int(self.forge.core.now().timestamp()) // WINDOW_S + 1) * WINDOW_S

    def _conditional(self, reply: Reply) -> Reply:
        tag = 'W/"' + hashlib.sha256(json.dumps(reply.body).encode()).hexdigest()[:32] + '"'
        known = self.headers.get("If-None-Match", "")
        reply.headers["ETag"] = tag
        return Reply(304, None, reply.headers) if tag in known else reply

    def _described(self, raw: bytes) -> Reply:
        if self.token is None or self.token.revoked:
            status, body = self.dialect.unauthorized(self.token)
            return Reply(status, body)
        contract = self.forge.contracts[self.dialect.name]
        matched = contract.match(self.method, self.dialect.path(self.path))
        if matched is None:
            self.forge.violations.append(f"{self.dialect.name}: no operation {self.method} {self.path}")
            return Reply(404, {"message": "Not Found"})
        self.operation, values = matched
        try:
            self.body = json.loads(raw) if raw else None
        except ValueError:
            return Reply(400, {"message": "Problems parsing JSON"})
        self.forge.violations += contract.check_request(self.operation, self.query, self.body)
        reply = self._handled(self.token.person, values)
        reply.body = contract.complete(self.operation, reply.status, reply.body)
        self.forge.violations += contract.check_answer(self.operation, reply.status, reply.body)
        return reply

    def _handled(self, person: Person, values: dict[str, str]) -> Reply:
        call = Call(
            self.operation, values, self.query, self.body if isinstance(self.body, dict) else {}, person
        )
        call.raw = self.body
        try:
            found = self.dialect.handle(call)
        except Broken as broken:
            return Reply(broken.status, broken.body, broken.headers)
        except Refused as refused:
            return Reply(*self.dialect.refuse(refused, call))
        status, body = (found.status, found.body) if isinstance(found, Status) else (200, found)
        if isinstance(body, Page):
            body, headers = self._page(body)
            return Reply(status, body, headers)
        return Reply(status, body)

    def _page(self, page: Page) -> tuple[Any, dict[str, str]]:
        wanted = self.query.get("per_page") or self.query.get("limit") or self.dialect.page_size
        size = min(int(wanted), self.dialect.largest_page)
        number = max(int(self.query.get("page", "1")), 1)
        part = page.items[(number - 1) * size : number * size]
        last = max(-(-len(page.items) // size), 1)
        address = f"{self.forge.site}{self.dialect.prefix}{self.path}"
        headers = self.dialect.page_headers(address, self.query, number, last, size, len(page.items))
        return page.wrap(part), headers
