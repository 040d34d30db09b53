"""An address that is asked whether what it belongs to is well: one HTTP GET, of which only the status is looked at.

Redirects are followed, unless a redirect is what is expected. The time is that of connecting, and of each wait for an answer.
Importing this imports httpx2.
"""

from __future__ import annotations

import re
import ssl
from datetime import timedelta
from functools import cache

import httpx2

from coordination.dependencies.verdict import Verdict, satisfied, unknown, unsatisfied

OK = 200
REDIRECTS = range(300, 400)


def ask(address: str, expected_status: int | None, timeout: timedelta) -> Verdict:
    wanted = expected_status or OK
    try:
        with (
            httpx2.Client(
                timeout=timeout.total_seconds(), follow_redirects=wanted not in REDIRECTS, verify=_trusted()
            ) as client,
            client.stream("GET", address) as answer,  # a body may be endless
        ):
            status = answer.status_code
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
        return unknown(
            f"validation.health_check {_shown(address)} is no address: {error} It begins with http:// or https://"
        )
    except httpx2.RequestError as error:
        return unsatisfied(f"{_shown(address)} {_trouble(error, timeout)}")
    words = f"{_shown(address)} answered {status}"
    return satisfied(words) if status == wanted else unsatisfied(f"{words}, not {wanted}")


@cache
def _trusted() -> ssl.SSLContext:
    """Reading the certificates takes 190 ms, with which each client would begin."""
    return httpx2.create_ssl_context()


def _trouble(error: httpx2.RequestError, timeout: timedelta) -> str:
    causes = [error]
    while isinstance(cause := causes[-1].__cause__ or causes[-1].__context__, Exception):
        causes.append(cause)  # type: ignore[arg-type]
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return f"cannot be trusted, or speaks no TLS: {error}"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "refused the connection: nothing listens there"
    if isinstance(error, httpx2.ConnectTimeout):
        return f"could not be reached within {timeout.total_seconds():g} s"
    if isinstance(error, httpx2.TimeoutException):
        return f"did not answer within {timeout.total_seconds():g} s"
    return f"gave no answer: {error or type(error).__name__}"


def _shown(address: str) -> str:
    """Without a user's password, and without the query, where tokens stand."""
    return re.sub(r"//[^/@\s]*@", "//", address).partition("?")[0]
