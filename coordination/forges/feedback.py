"""Feedback of a forge on a request, for its repair: logs of jobs, threads of reviews, and the replies.

Anybody who can open a request or comment on one writes these texts: they are bounded, and without control
characters and known secrets. `may_push` tells whose threads count.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.graphql import GraphQL
from coordination.forges.http import MOST_PAGES, HttpClient
from coordination.forges.issues import GitLabIssues, Issues
from coordination.forges.models import Check, PullRequest, Remark, Thread

LOG_LINES, LOG_CHARACTERS = 200, 16 * 1024
"""The end of a log that is kept."""
LOG_BYTES = 4 * LOG_CHARACTERS
LONGEST_REMARK, MOST_REMARKS, LONGEST_PATH = 4000, 20, 500
"""Characters of a comment, comments of a thread, and characters of a path."""
DEVELOPER = 30
"""GitLab's level of access from which on a person may push."""
PUSHERS = frozenset({"admin", "maintain", "write", "owner"})
_COLOUR = re.compile("\x1b\\[[0-9;]*[A-Za-z]")
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+Z ", re.MULTILINE)
"""The beginning of each line in a log of GitHub."""

THREADS = """query($id: ID!, $after: String) { node(id: $id) { ... on PullRequest {
  reviewThreads(first: 50, after: $after) { pageInfo { hasNextPage endCursor } nodes {
    id isResolved path line comments(last: 20) { nodes { author { login } body } } } } } } }"""
REPLY = (
    "mutation($id: ID!, $body: String!) { addPullRequestReviewThreadReply"
    "(input: {pullRequestReviewThreadId: $id, body: $body}) { clientMutationId } }"
)


class Feedback(Issues):
    """Checks, threads and people of the requests of one repository."""

    _requests_at: ClassVar[str] = "pulls"

    @property
    def _requests(self) -> str:
        return f"{self._root}/{self._requests_at}"

    def log(self, check: Check) -> str | None:
        """Return the last lines of the log of a check's job; None where the forge has none, or the token may
        not read it.
        """
        at = self._log_at(check.job) if check.job else ""
        found = self._if_visible(lambda: self._http.tail(f"{self._root}{at}", LOG_BYTES)) if at else None
        return None if found is None else self._end_of(found)

    @abstractmethod
    def _log_at(self, job: str) -> str:
        """Return the address of the log of a job, below the repository; empty where the forge has none."""

    def _end_of(self, log: bytes) -> str:
        text = _COLOUR.sub("", log.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n"))
        cleaned = self._http.sanitized(_TIME.sub("", text), LOG_BYTES)
        return "\n".join(cleaned[-LOG_CHARACTERS:].splitlines()[-LOG_LINES:])

    @abstractmethod
    def threads(self, request: PullRequest) -> tuple[Thread, ...]:
        """Return the unresolved threads of the reviews of a request."""

    def may_push(self, person: str) -> bool:
        """Return whether a person may push. Raises FORBIDDEN where the token may not know."""
        at = f"{self._root}/collaborators/{quote(person, safe='')}/permission"
        try:
            found = self._http.get(at)
        except ForgeError as error:
            if error.problem is not ForgeProblem.NOT_FOUND:
                raise
            return False
        with self._parsing("the rights of a person"):
            return found["permission"] in PUSHERS

    @abstractmethod
    def reply(self, request: PullRequest, thread: Thread, body: str) -> None:
        """Add a comment to a thread. It stays unresolved: that is for people to decide."""

    @abstractmethod
    def ask_again(self, request: PullRequest, people: Sequence[str]) -> None:
        """Ask people who have given a review for another one."""

    def _thread(self, name: str, path: object, line: object, remarks: Sequence[tuple[str, str]]) -> Thread:
        """Return a thread. `remarks`: author and text, old to new."""
        return Thread(
            id=name,
            path=self._http.sanitized(str(path or ""), LONGEST_PATH),
            line=line if isinstance(line, int) and line > 0 else None,
            remarks=tuple(
                Remark(author=self._http.sanitized(author), text=self._http.sanitized(text, LONGEST_REMARK))
                for author, text in remarks[-MOST_REMARKS:]
            ),
        )

    @staticmethod
    def _if_visible(ask: Callable[[], Any]) -> Any:
        """Return an answer; None if the token may not see it, or the edition of the forge lacks it."""
        try:
            return ask()
        except ForgeError as error:
            if error.problem in (ForgeProblem.FORBIDDEN, ForgeProblem.NOT_FOUND):
                return None
            raise


class GitHubFeedback(Feedback):
    def __init__(self, http: HttpClient, project: str) -> None:
        super().__init__(http, project)
        self._graph = GraphQL(http)

    def _log_at(self, job: str) -> str:
        return f"/actions/jobs/{job}/logs"

    def threads(self, request: PullRequest) -> tuple[Thread, ...]:
        with self._parsing("the threads"):
            return tuple(
                self._thread(
                    one["id"],
                    one["path"],
                    one.get("line"),
                    [
                        ((each.get("author") or {}).get("login", ""), each["body"])
                        for each in one["comments"]["nodes"]
                    ],
                )
                for one in self._listed(request.node)
                if not one["isResolved"]
            )

    def _listed(self, node: str) -> Iterator[Mapping[str, Any]]:
        after: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            page = self._graph(THREADS, id=node, **after)["node"]["reviewThreads"]
            yield from page["nodes"]
            if not page["pageInfo"]["hasNextPage"]:
                return
            after = {"after": page["pageInfo"]["endCursor"]}
        raise self._http.broken(f"the threads have more than {MOST_PAGES} pages")

    def reply(self, request: PullRequest, thread: Thread, body: str) -> None:
        self._graph(REPLY, id=thread.id, body=body)

    def ask_again(self, request: PullRequest, people: Sequence[str]) -> None:
        self._http.send(
            "POST", f"{self._requests}/{request.number}/requested_reviewers", {"reviewers": list(people)}
        )


class GiteaFeedback(Feedback):
    """It has no call for the log of the job behind a status. A thread is the comments on one line, whose
    number and path are its name.
    """

    def _log_at(self, job: str) -> str:
        return ""

    def threads(self, request: PullRequest) -> tuple[Thread, ...]:
        at = f"{self._requests}/{request.number}/reviews"
        found = defaultdict[tuple[str, int], list[Any]](list)
        with self._parsing("the threads"):
            for review in self._http.list(at):
                for one in self._http.list(f"{at}/{int(review['id'])}/comments"):
                    found[str(one["path"]), int(one.get("position") or 0)].append(one)
            return tuple(
                self._thread(
                    f"{line} {path}",
                    path,
                    line,
                    [
                        ((one.get("user") or {}).get("login", ""), one["body"])
                        for one in sorted(ones, key=_id)
                    ],
                )
                for (path, line), ones in sorted(found.items())
                if not any(one.get("resolver") for one in ones)
            )

    def reply(self, request: PullRequest, thread: Thread, body: str) -> None:
        line, _, path = thread.id.partition(" ")
        comment = {"path": path, "new_position": int(line), "body": body}
        self._http.send(
            "POST", f"{self._requests}/{request.number}/reviews", {"event": "COMMENT", "comments": [comment]}
        )


class GitLabFeedback(GitLabIssues, Feedback):
    def _log_at(self, job: str) -> str:
        return f"/jobs/{job}/trace"

    def threads(self, request: PullRequest) -> tuple[Thread, ...]:
        data = self._http.list(f"{self._requests}/{request.number}/discussions")
        with self._parsing("the threads"):
            return tuple(
                self._thread(
                    one["id"],
                    (place := one["notes"][0].get("position") or {}).get("new_path"),
                    place.get("new_line"),
                    [(each["author"]["username"], each["body"]) for each in one["notes"]],
                )
                for one in data
                if any(each.get("resolvable") and not each.get("resolved") for each in one["notes"])
            )

    def may_push(self, person: str) -> bool:
        try:
            (number,) = self._ids((person,))
        except ForgeError as error:
            if error.problem is not ForgeProblem.UNKNOWN_PERSON:
                raise
            return False
        member = self._if_visible(lambda: self._http.get(f"{self._root}/members/all/{number}"))
        with self._parsing("the rights of a person"):
            return member is not None and int(member["access_level"]) >= DEVELOPER

    def reply(self, request: PullRequest, thread: Thread, body: str) -> None:
        at = f"{self._requests}/{request.number}/discussions/{quote(thread.id, safe='')}/notes"
        self._http.send("POST", at, {"body": body})

    def ask_again(self, request: PullRequest, people: Sequence[str]) -> None:
        """Ask by a quick action: the API has no call for it."""
        action = " ".join(("/request_review", *(f"@{name}" for name in people)))
        self._http.send("POST", f"{self._requests}/{request.number}/notes", {"body": action})


def _id(comment: Mapping[str, Any]) -> int:
    return int(comment["id"])
