"""The GraphQL calls of GitHub, for what REST lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordination.forges.errors import ForgeError, ForgeProblem
from coordination.forges.http import HttpClient


class GraphQL:
    """Sends queries over the connection of the REST API."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def __call__(self, query: str, **variables: str) -> Any:
        """Return the data of an answer. Raises ForgeError, for errors in an answer of status 200, too."""
        api = self._http.api
        url = f"{api.removesuffix('/v3')}/graphql" if api.endswith("/api/v3") else f"{api}/graphql"
        answer = self._http.send("POST", "", {"query": query, "variables": variables}, whole_url=url)
        if not isinstance(answer, dict):
            raise self._http.broken("it is not an answer to a GraphQL query")
        errors = [one for one in answer.get("errors") or () if isinstance(one, dict)]
        if errors:
            raise _graphql_error(errors[0], self._http.sanitized(str(errors[0].get("message"))))
        return answer.get("data")


def _graphql_error(error: Mapping[str, Any], told: str) -> ForgeError:
    words = told.lower()
    match error.get("type"):
        case "NOT_FOUND":
            problem, hint = ForgeProblem.NOT_FOUND, "check the repositories that the token covers"
        case "FORBIDDEN" | "INSUFFICIENT_SCOPES":
            problem, hint = ForgeProblem.FORBIDDEN, "give the token the right to write pull requests"
        case "RATE_LIMITED":
            problem, hint = ForgeProblem.RATE_LIMIT, "try again later"
        case _ if "head" in words and any(word in words for word in ("oid", "sha", "match", "modified")):
            problem, hint = ForgeProblem.HEAD_MOVED, "look at the request again"
        case _ if "merge queue" in words and any(word in words for word in ("not enabled", "no merge queue")):
            problem, hint = ForgeProblem.UNSUPPORTED, "the branch has no merge queue: merge it directly"
        case _:
            problem, hint = ForgeProblem.NOT_MERGEABLE, "see the page of the request"
    return ForgeError(problem, f"GitHub refuses it: {told}", hint, status=200, reason=told)
