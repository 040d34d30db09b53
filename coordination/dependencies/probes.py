"""Execution of a dependency's `validation`: a command, an HTTP address, or both.

A command must exit with 0; with `expected_pattern`, a line of its output must match, too. An address is
requested by one HTTP GET, of which only the status counts. Redirects are followed unless a redirect is
expected. The timeout covers the whole request, so a server that sends its answer byte by byte gets no more
time than a silent one. If both are declared, both must succeed. This module imports httpx2, which takes 100
ms.
"""

from __future__ import annotations

import re
import signal
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from threading import Event, Timer
from typing import Any

import httpx2

from coordination.dependencies.command import CommandResult, run
from coordination.dependencies.constraints import EXAMPLES, Rules, read
from coordination.dependencies.records import (
    CheckVerdict,
    combine_verdicts,
    holds,
    satisfied,
    unknown,
    unsatisfied,
)
from coordination.errors import UsageError
from coordination.models import Command, Dependency, Validation
from coordination.text import pattern_mistake
from coordination.user_program import NotStarted

TIMEOUT = timedelta(seconds=30)
LONGEST = timedelta(days=1)
"""Upper limit of a timeout, within the range of the system's clocks."""


def mistake_in(validation: Validation) -> str | None:
    """Return a sentence about an invalid combination of fields, or None."""
    if validation.expected_pattern is not None and validation.command is None:
        return (
            "validation.expected_pattern has no command whose output could be searched: "
            "add validation.command"
        )
    if validation.expected_status is not None and validation.health_check is None:
        return "validation.expected_status has no address to request: add validation.health_check"
    pattern = validation.expected_pattern or ""
    mistake = pattern_mistake(pattern)
    return f"validation.expected_pattern {pattern[:100]!r} {mistake}" if mistake else None


def run_validation(validation: Validation, *, folder: Path, stopped: Event) -> CheckVerdict | None:
    """Execute a validation; None if it declares nothing. The first verdict that is not satisfied counts."""
    if mistake := mistake_in(validation):
        return unknown(mistake)
    verdicts: list[CheckVerdict] = []
    if validation.command is not None:
        verdicts.append(run_command(validation.command, validation, folder=folder, stopped=stopped))
    if validation.health_check is not None and all(map(holds, verdicts)):
        verdicts.append(ask(validation.health_check, validation.expected_status, _timeout(validation)))
    return combine_verdicts(verdicts) if verdicts else None


def run_command(command: Command, validation: Validation, *, folder: Path, stopped: Event) -> CheckVerdict:
    """Run the command of a validation without mistakes. A cancelled command counts as timed out."""
    timeout = _timeout(validation)
    pattern = validation.expected_pattern
    try:
        result = run(command, folder=folder, pattern=pattern, timeout=timeout, stopped=stopped)
    except NotStarted as error:
        return unsatisfied(str(error))
    if result.code is None:
        return unsatisfied(f"the command did not end within {timeout.total_seconds():g} s, and was killed")
    if result.code:
        return unsatisfied(f"the command {_describe_exit(result.code)}{_last_line(result)}")
    if pattern is None:
        return satisfied("the command succeeded")
    if result.matches is None:
        return unknown(f"searching the output for {pattern!r} takes too long: simplify the pattern")
    if not result.matches:
        where = "the output's beginning and end" if result.is_cut else "the output"
        return unsatisfied(f"no line of {where} matches {pattern!r}{_last_line(result)}")
    return satisfied(f"a line of the output matches {pattern!r}")


def _timeout(validation: Validation) -> timedelta:
    return min(validation.timeout or TIMEOUT, LONGEST)


def _describe_exit(code: int) -> str:
    if code > 0:
        return f"ended with {code}"
    known = {member.value: member.name for member in signal.Signals}
    return f"was killed by {known.get(-code, -code)}"


def _last_line(result: CommandResult) -> str:
    line = next((line.strip() for line in reversed(result.output.last) if line.strip()), "")
    return f": {line}" if line else ""


OK = 200
REDIRECTS = range(300, 400)


@dataclass
class Deadline:
    """Close the connection when the time is over; httpx2 only limits each wait, not their sum."""

    over: bool = False
    _socket: socket.socket | None = None

    def follow(self, event: str, info: Mapping[str, Any]) -> None:
        """Keep the current socket. httpx2 calls this for each event; a redirect opens a new connection, TLS a
        new socket.
        """
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._socket = info["return_value"].get_extra_info("socket")
            if self.over:
                self.hang_up()

    def hang_up(self) -> None:
        self.over = True
        if self._socket is not None:
            with suppress(OSError):  # the connection has ended
                # TLS's own shutdown would interfere with the reader.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


@contextmanager
def within(timeout: timedelta) -> Iterator[Deadline]:
    """Close the connection of the request in this block after `timeout`."""
    deadline = Deadline()
    timer = Timer(timeout.total_seconds(), deadline.hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield deadline
    finally:
        timer.cancel()


def ask(address: str, expected_status: int | None, timeout: timedelta) -> CheckVerdict:
    """Request the address within `timeout`; None as expected status means 200."""
    with within(timeout) as deadline:
        return _ask(address, expected_status or OK, timeout, deadline)


def _ask(address: str, expected_status: int, timeout: timedelta, deadline: Deadline) -> CheckVerdict:
    try:
        with (
            httpx2.Client(
                timeout=timeout.total_seconds(),
                follow_redirects=expected_status not in REDIRECTS,
                verify=_trusted(),
            ) as client,
            client.stream("GET", address, extensions={"trace": deadline.follow}) as answer,  # endless bodies
        ):
            status = answer.status_code
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError) as error:  # last: host name
        return unknown(
            f"validation.health_check {_shown(address)} is not an address: "
            f"{error} It begins with http:// or https://"
        )
    except httpx2.RequestError as error:
        return unsatisfied(f"{_shown(address)} {_describe_error(error, timeout, deadline.over)}")
    answer_text = f"{_shown(address)} answered {status}"
    return (
        satisfied(answer_text)
        if status == expected_status
        else unsatisfied(f"{answer_text}, not {expected_status}")
    )


@cache
def _trusted() -> ssl.SSLContext:
    """Return the TLS context; loading the certificates takes 190 ms, which each client would otherwise
    repeat.
    """
    return httpx2.create_ssl_context()


def _describe_error(error: httpx2.RequestError, timeout: timedelta, over: bool) -> str:
    if isinstance(error, httpx2.ConnectTimeout):
        return f"could not be reached within {timeout.total_seconds():g} s"
    if over or isinstance(error, httpx2.TimeoutException):
        return f"did not answer within {timeout.total_seconds():g} s"
    causes = [error]
    while isinstance(cause := causes[-1].__cause__ or causes[-1].__context__, Exception):
        causes.append(cause)  # type: ignore[arg-type]
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return f"has an untrusted certificate, or does not support TLS: {error}"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return "refused the connection: nothing listens on that port"
    return f"gave no answer: {error or type(error).__name__}"


def _shown(address: str) -> str:
    """Return the address without the user's password and the query, which may contain tokens."""
    return re.sub(r"//[^/?#\s]*@", "//", address).partition("?")[0]


def mistakes(dependency: Dependency) -> Iterator[str]:
    """Yield all mistakes as sentences, including those for which `invalid_fields` makes edits
    refuse the record.
    """
    yield from invalid_fields(dependency)
    if dependency.validation is not None and (mistake := mistake_in(dependency.validation)):
        yield f"{dependency.id} cannot be checked: {mistake}"


def invalid_fields(dependency: Dependency) -> Iterator[str]:
    """Yield mistakes for which edits refuse the record, as sentences.

    The provider's language is not looked up: a constraint is a mistake only if no language can read it.
    """
    if dependency.consumer == dependency.provider:
        yield f"{dependency.id}: {dependency.consumer} needs itself"
    constraint = dependency.version_constraint
    if constraint is not None and not any(_is_readable(constraint, rules) for rules in Rules):
        example = EXAMPLES[Rules.ANY]
        yield (
            f"{dependency.id} cannot be checked: {constraint!r} is not a version_constraint; "
            f"write it like {example}"
        )


def _is_readable(constraint: str, rules: Rules) -> bool:
    try:
        read(constraint, rules)
    except UsageError:
        return False
    return True
