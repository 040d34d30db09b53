"""Signed orders: the records that a person or program signs before workers execute anything.

An order of a run is a header and blocks. The header names the run, the namespace, the digest of the brief and
the digest of each block; a block lists up to `BLOCK` leaves, each a todo's name and the digest of its stored
spec. So one signature covers a run of any size, a worker reads one block per todo, and a restricted worker
sees digests where it may not see specs. An operation is an order about existing runs: an approval, a
rollback, a clean-up.

Digests are SHA-256 of bytes as they are stored. Nothing is serialised again to be compared.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from coordination.errors import NotTrusted, TrustCause
from coordination.frozen import FrozenModel
from coordination.models.values import RunId
from coordination.trust.break_glass import LIMIT_BYTES
from coordination.trust.envelope import check_times, seal

if TYPE_CHECKING:
    from coordination.trust.keys import Signer

ORDER = "application/vnd.coord.order+json"
OPERATION = "application/vnd.coord.operation+json"
"""Payload types of the two envelopes, so that a signed operation cannot be presented as an order."""
BLOCK = 256
"""Leaves of a block: 20 kB, which a worker reads once for all of them."""
LARGEST_BLOCK = 256 * 1024

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(max_length=1024)]
StartKind = Literal["sweep", "execute", "retry", "land", "revert", "qa", "service"]
"""Operations that start a run."""


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Where orders are given and executed: a namespace of a Redis, for an ecosystem."""

    namespace: str
    ecosystem: str | None = None
    """`coordination.id` of the file, empty without one; None where this process has no file."""
    server: str
    """Random id of the Redis."""

    def fields(self) -> dict[str, Any]:
        """Return the fields of a record that is signed here."""
        return {**self.origin(), "ecosystem": self.ecosystem or ""}

    def origin(self) -> dict[str, str]:
        """Return the fields of a result that is signed here: a worker without a file knows no ecosystem."""
        return {"namespace": self.namespace, "server": self.server}

    def check(self, what: str, signed: Signed) -> None:
        """Check that a record, named by `what`, is for this namespace and ecosystem. Raises NotTrusted."""
        self._check_namespace(what, signed)
        if self.ecosystem is not None and signed.ecosystem != self.ecosystem:
            theirs, ours = map(_ecosystem_text, (signed.ecosystem, self.ecosystem))
            raise foreign(f"the {what} is for {theirs}, and this is {ours}")

    def check_origin(self, what: str, signed: ForAudience, *, also: str = "") -> None:
        """Check that a result is one of this namespace, on this server or on the server `also`. Raises
        NotTrusted.
        """
        self._check_namespace(what, signed)
        self.check_server(what, signed, also=also)

    def _check_namespace(self, what: str, signed: ForAudience) -> None:
        if signed.namespace != self.namespace:
            raise foreign(
                f"the {what} is for namespace {signed.namespace!r:.100}, and this is {self.namespace!r}"
            )

    def check_server(self, what: str, signed: ForAudience, *, also: str = "") -> None:
        """Check that a record was given on this server, or on the server `also`. Raises NotTrusted."""
        if signed.server not in (self.server, also or self.server):
            raise foreign(f"the {what} was given on another Redis server ({signed.server[:12]!r})")


def _ecosystem_text(ecosystem: str) -> str:
    return f"ecosystem {ecosystem!r:.100}" if ecosystem else "a file without `coordination.id`"


class ForAudience(FrozenModel):
    """A signed record that counts on one server only."""

    namespace: Name
    server: Name
    """Random id of the Redis in which the signer stored the record."""


class Signed(ForAudience):
    """A signed record. It is parsed from verified bytes only; fields that this version does not know are
    refused.
    """

    model_config = ConfigDict(extra="forbid")

    ecosystem: Name = ""
    """`coordination.id` of the signer's file; empty without one."""
    run: RunId
    nonce: Annotated[str, Field(min_length=16, max_length=64)]
    issued_at: AwareDatetime
    expires_at: AwareDatetime
    break_glass: Annotated[str, Field(max_length=LIMIT_BYTES)] = ""
    """Envelope of the emergency that the signer had declared; empty without one."""


class RunOrder(Signed):
    """The header of a run's order."""

    operation: StartKind
    plan: Name
    on_failure: Literal["halt", "continue", "rollback"]
    """`rollback`: after a failure todos are compensated without a further signature."""
    two_persons: bool = False
    """True if the person who ordered the run may not approve its gates."""
    brief: Digest
    """Digest of the brief."""
    parts: tuple[Digest, ...] = ()
    """Digests of the parts of the brief; a restricted worker gets the parts of its repositories only."""
    done: tuple[Name, ...] = ()
    """Todos of a retry that were completed in the file, so that nobody has to complete them again."""
    blocks: tuple[tuple[Name, Digest], ...]
    """The first name and the digest of each block, in the order of the names."""

    def block_of(self, todo: str) -> int:
        """Return the index of the only block that may have the todo. Raises NotTrusted if none may."""
        index = bisect_right(self.blocks, todo, key=lambda block: block[0]) - 1
        if index < 0:
            raise foreign(f"the order of run {self.run} has no todo {todo}")
        return index

    def leaves(self, index: int, block: str | None) -> Mapping[str, str]:
        """Return todo → digest of its spec, from the stored block. Raises NotTrusted."""
        if block is None or len(block) > LARGEST_BLOCK or digest(block) != self.blocks[index][1]:
            raise broken(f"block {index} of the order of run {self.run} is not the one that was signed")
        return dict(json.loads(block))


class OperationKind(StrEnum):
    """Operations on runs that are signed; pause, resume and cancel need no signature."""

    APPROVE = "approve"
    REJECT = "reject"
    COMPLETE = "complete"
    ROLLBACK = "rollback"
    RESTORE = "restore"
    ACCEPT = "accept"
    CLEAN = "clean"
    IMPORT = "import"
    DISCARD = "discard"


class Operation(Signed):
    """The order of one operation."""

    run: RunId | Literal[""]
    """The run; empty for an operation on many runs."""
    operation: OperationKind
    order: Digest | Literal[""] = ""
    """Digest of the header of the run's order; empty for an operation on many runs."""
    todo: Name = ""
    comment: str = ""
    heads: Mapping[Name, Name] = {}
    """Repository → the commit that an approval approves."""
    checkpoint: Name = ""
    job: str = ""
    """Text of a cleanup job: runs/cleanup_jobs.py."""


def broken(what: str) -> NotTrusted:
    """Return the refusal of bytes that are not those that were signed."""
    return NotTrusted(TrustCause.BROKEN, what, "an owner of Redis may have changed it: start a new run")


def foreign(what: str) -> NotTrusted:
    """Return the refusal of a signature over something else."""
    return NotTrusted(TrustCause.FOREIGN, what, "an owner of Redis may have copied it: start a new run")


def digest(stored: str | bytes) -> str:
    """Return the SHA-256 of a stored text or of bytes, in hexadecimal."""
    return hashlib.sha256(stored.encode() if isinstance(stored, str) else stored).hexdigest()


def times(ttl: timedelta) -> dict[str, Any]:
    """Return nonce, `issued_at` and `expires_at` of a record that is signed now."""
    now = datetime.now(UTC)
    return {"nonce": secrets.token_hex(16), "issued_at": now, "expires_at": now + ttl}


def seal_operation(operation: Operation, signer: Signer) -> str:
    """Return the envelope of an operation, as text that Redis stores."""
    return seal(OPERATION, operation.model_dump_json().encode(), signer).decode()


def blocks_of(leaves: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the first name and the text of each block. `leaves`: todo → digest of its spec."""
    rows = sorted(leaves.items())
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        yield part[0][0], json.dumps(part, separators=(",", ":"))


def read_order(payload: bytes, *, run: str, here: Audience, now: datetime) -> RunOrder:
    """Return the header in a verified payload. Raises NotTrusted for another run, namespace, ecosystem or
    time; the caller checks the server.
    """
    order = parsed(RunOrder, payload, "the order cannot be read")
    _check_subject(order, "order", {run}, here)
    check_times("the order", order.issued_at, order.expires_at, now)
    return order


def read_operation(
    payload: bytes, *, runs: set[str], here: Audience, now: datetime, kinds: set[OperationKind]
) -> Operation:
    """Return the operation in a verified payload. `runs`: the run, and those that it retries. Raises
    NotTrusted as `read_order` does.
    """
    operation = parsed(Operation, payload, "the operation cannot be read")
    what = f"signed {operation.operation}"
    if operation.operation not in kinds:
        raise foreign(f"the {what} is no {' or '.join(sorted(kinds))}")
    _check_subject(operation, what, runs, here)
    check_times(f"the {what}", operation.issued_at, operation.expires_at, now)
    return operation


R = TypeVar("R", bound=BaseModel)


def parsed(kind: type[R], content: str | bytes, what: str) -> R:
    """Return the record in verified bytes. Raises NotTrusted, whose message begins with `what`."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise broken(f"{what}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _check_subject(signed: Signed, what: str, runs: set[str], here: Audience) -> None:
    here.check(what, signed)
    if signed.run not in runs:
        raise foreign(f"the {what} is for run {signed.run!r:.100}, and this is {sorted(runs)[-1]}")
