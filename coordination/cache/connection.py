r"""Access of a todo's command to its context, through its worker over a unix socket. Only the worker can log
in to Redis.

The file named by COORD_CONNECTION holds the socket's path and a token; both are valid for this attempt only.
A connection carries one request: first the token on a line of its own, then lines of JSON::

    client   {"call": "get", "given": {"key": "version", "scope": null}}
    worker   {"done": ["\"1.2\""]}   or   {"refused": ["UsageError", MESSAGE, HINT]}

Values are JSON texts. To `compute`, the worker may answer {"compute": true}: the client then computes the
value and sends {"value": TEXT}.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from coordination import errors
from coordination.cache.contexts import Kept
from coordination.cache.names import Scope, in_pieces, matcher, packed
from coordination.environment import in_todo, todo_connection_from_environment
from coordination.errors import CoordinationError, NotAllowed, Unreachable, UsageError
from coordination.frozen import FrozenModel

T = TypeVar("T")

ANSWER_S = 60.0
"""Time to wait for an answer of the worker, which itself waits for Redis for a few seconds. No limit applies
to `compute`.
"""


class Connection(FrozenModel):
    """Content of the file named by COORD_CONNECTION."""

    socket: str
    token: str


class TodoContext:
    """The interface of `Context` for a todo's command. Raises what `Context` raises, and Unreachable."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, key: str, default: Any = None, *, scope: Scope | None = None) -> Any:
        found = self._ask("get", key=key, scope=scope)
        return json.loads(found[0]) if found else default

    def set(self, key: str, value: Any, ttl: timedelta | None = None, *, scope: Scope | None = None) -> None:
        self._ask("set", key=key, value=packed(value).decode(), ttl_s=_seconds(ttl), scope=scope)

    def delete(
        self, *names: str, scope: Scope | None = None, ttl: timedelta | None = None, regex: bool = False
    ) -> int:
        if regex:
            fitting = [matcher(name, regex) for name in names]
            there = [kept.key for kept in self.list(scope=scope or Scope.RUN)]
            names = tuple(key for key in there if any(fits(key) for fits in fitting))
        return sum(
            self._ask("delete", names=piece, ttl_s=_seconds(ttl), scope=scope) for piece in in_pieces(names)
        )

    def list(self, pattern: str = "*", *, scope: Scope | None = None, regex: bool = False) -> Iterator[Kept]:
        """Return visible keys. Regular expressions are matched here, because one that backtracks for ever
        must not block the worker.
        """
        fits = matcher(pattern, regex)
        for kept in map(
            Kept.model_validate, self._ask("list", pattern="*" if regex else pattern, scope=scope)
        ):
            if fits(kept.key):
                yield kept

    def get_or_compute(
        self, key: str, compute: Callable[[], T], ttl: timedelta | None = None, *, scope: Scope | None = None
    ) -> T:
        def make() -> dict[str, Any]:
            return {"value": packed(compute()).decode()}

        found: T = json.loads(self._ask("compute", make, key=key, ttl_s=_seconds(ttl), scope=scope))
        return found

    def _ask(self, call: str, compute: Callable[[], Mapping[str, Any]] | None = None, **given: Any) -> Any:
        with self._connected(None if compute else ANSWER_S) as worker:
            with suppress(OSError):  # the worker may refuse before it has read everything
                worker.sendall(f"{self._connection.token}\n".encode() + line({"call": call, "given": given}))
            with worker.makefile("rb") as heard:
                answer = _parsed(heard.readline())
                if compute is not None and "compute" in answer:
                    worker.sendall(line(compute()))
                    answer = _parsed(heard.readline())
        if "refused" in answer:
            name, message, hint = answer["refused"]
            raise getattr(errors, name, CoordinationError)(message, hint)
        return answer["done"]

    @contextmanager
    def _connected(self, patience_s: float | None) -> Iterator[socket.socket]:
        try:
            with socket.socket(socket.AF_UNIX) as worker:
                worker.settimeout(patience_s)
                worker.connect(self._connection.socket)
                yield worker
        except (OSError, ValueError) as error:
            raise Unreachable(
                f"the worker of this todo does not answer at {self._connection.socket}: {error}",
                "it answers for as long as the todo's command runs",
            ) from error


def line(words: Mapping[str, Any]) -> bytes:
    return json.dumps(words).encode() + b"\n"


def todo_context() -> TodoContext | None:
    """Return the todo's context, None outside of a todo. Raises NotAllowed for helper
    commands of the worker.
    """
    file = todo_connection_from_environment()
    if file is not None:
        return TodoContext(_read(file))
    if in_todo():
        raise NotAllowed(
            "the shared context is for the todo's own command",
            "`prepare` and git hooks have no access; see README.md",
        )
    return None


@contextmanager
def here() -> Iterator[TodoContext]:
    """Return the context of the todo whose command this process is. Raises UsageError elsewhere."""
    context = todo_context()
    if context is None:
        raise UsageError(
            "there is no context here: this process is not a todo's command", "use Coord(...).cache.at(run=…)"
        )
    yield context


def _read(file: Path) -> Connection:
    try:
        return Connection.model_validate_json(file.read_bytes())
    except OSError as error:
        raise CoordinationError(
            f"COORD_CONNECTION names {file}, which cannot be read: {error.strerror}",
            "the file exists while the todo runs; outside of a todo, unset COORD_CONNECTION",
        ) from error
    except ValidationError as error:
        raise CoordinationError(
            f"{file} is of another version of coord", "use the version of the worker"
        ) from error


def _parsed(heard: bytes) -> dict[str, Any]:
    if not heard.endswith(b"\n"):
        raise ConnectionError("the connection was closed")
    answer: dict[str, Any] = json.loads(heard)
    return answer


def _seconds(ttl: timedelta | None) -> float | None:
    return None if ttl is None else ttl.total_seconds()
