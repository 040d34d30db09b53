"""Signed results of attempts, and the rules by which other workers use them.

A worker signs a record of each attempt that it settles. Before a worker starts a todo, it compares the fields
in Redis with these records: the commit at which the todo begins, and the outputs and commits of its
predecessors. A record of another run, todo or repository is refused, and so is one that a retry makes again.

    tip of a repository   the tip of a record of this run; or the tip that the order carries over, if a record
                          of an earlier run ends or begins there. It contains what was settled there before.
    predecessor           run, fence, commit and the digest of its output are those of its record.
    cached result         the key, the tree, and the digests of output and patch are those that were signed.
    landing               change set, repository, commit and the tree before it are those of its record.

Each record names namespace and server, so that it counts on that server only: plans of two servers may have
one name. A signed adoption counts in place of a worker's result: a person with the right `adopt` states that
a commit is the tip of a change set. It names change set, repository and commit, and counts for no other.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from pydantic import ConfigDict, ValidationError

from coordination.errors import NotTrusted, TrustCause
from coordination.trust import orders
from coordination.trust.envelope import open_envelope, seal
from coordination.trust.rights import right_of
from coordination.trust.trust_file import Kind, Principal, TrustedKey, TrustFile

if TYPE_CHECKING:
    from coordination.trust.keys import Signer

RESULT = "signed result"
"""Its name in errors."""
RESULT_TYPE = "application/vnd.coord.result+json"
CACHED_TYPE = "application/vnd.coord.cached-result+json"
LIMIT_BYTES = 16 * 1024
"""Limit for a signed record in bytes: long names, and digests."""
SUCCEEDED, COMPENSATED = "succeeded", "compensated"
LANDING_TYPE = "application/vnd.coord.landing+json"
ADOPTION_TYPE = "application/vnd.coord.adoption+json"
ADOPT = "adopt"
ADOPTION_LIMIT_BYTES = 512 * 1024
"""Limit for a signed adoption in bytes, which names todos."""


class Statement(orders.ForAudience):
    """A record that a worker signs about its work in one repository."""

    model_config = ConfigDict(extra="forbid", strict=True)

    run: str
    todo: str
    repo: str
    output: str
    """Digest of its output; empty without one."""


class ResultRecord(Statement):
    """The result of an attempt."""

    attempt: int
    fence: int
    base: str
    """The commit with which the attempt began; empty without one."""
    tip: str
    """The commit with which the attempt ended; empty if it committed nothing."""
    outcome: str
    """`succeeded`, `failed` or `cancelled`; of a compensation `compensated` or `compensation_failed`."""
    change_set: str = ""
    """The change set that the tip belongs to; empty without one."""
    since: str = ""
    """The commit of the base branch at which the change set began, or that was merged into it last; empty if
    unknown.
    """


class LandingRecord(orders.ForAudience):
    """How a change set came into the base branch of one repository."""

    model_config = ConfigDict(extra="forbid", strict=True)

    run: str
    repo: str
    change_set: str
    tip: str
    commit: str
    """The commit on the base branch."""
    tree_before: str
    method: str


class CachedRecord(Statement):
    """A result in the result cache."""

    key: str
    at: float
    """Seconds since 1970, by the clock of the host that made it."""
    tree: str
    """The tree after its changes."""
    changes: str
    """Digest of its patch."""


class AdoptionRecord(orders.ForAudience):
    """A person's statement about one repository of a change set."""

    model_config = ConfigDict(extra="forbid", strict=True)

    change_set: str
    repo: str
    base: str
    tip: str
    at: str
    """UTC, ISO 8601."""
    todos: tuple[str, ...] = ()
    """Todos that the commits name as theirs."""


S = TypeVar("S", Statement, ResultRecord, CachedRecord, LandingRecord)


def undone_field(todo: str) -> str:
    """Return the field under which a run stores the signed result of a compensation."""
    return f"undone {todo}"


def digest(content: str | bytes) -> str:
    """Return the SHA-256 of a text or of bytes; empty for nothing."""
    return orders.digest(content) if content else ""


def seal_result(record: ResultRecord, signer: Signer) -> str:
    """Return the envelope of a result, as text that Redis stores."""
    return seal(RESULT_TYPE, record.model_dump_json().encode(), signer).decode()


def seal_cached(record: CachedRecord, signer: Signer) -> str:
    """Return the envelope of a cached result."""
    return seal(CACHED_TYPE, record.model_dump_json().encode(), signer).decode()


def seal_landing(record: LandingRecord, signer: Signer) -> str:
    """Return the envelope of a landing."""
    return seal(LANDING_TYPE, record.model_dump_json().encode(), signer).decode()


def open_landing(raw: str, trust: TrustFile, now: datetime) -> LandingRecord:
    """Return the record of a landing, as `open_result` does."""
    return _opened(raw, LANDING_TYPE, LandingRecord, trust, now)[0]


def open_result(raw: str, trust: TrustFile, now: datetime) -> ResultRecord:
    """Return the record that a trusted worker of its repository signed. Raises NotTrusted."""
    return _opened(raw, RESULT_TYPE, ResultRecord, trust, now)[0]


def worker_of(raw: str, trust: TrustFile, now: datetime) -> tuple[ResultRecord, str]:
    """Return the record as `open_result` does, and the name of the worker that signed it."""
    return _opened(raw, RESULT_TYPE, ResultRecord, trust, now)


def open_cached(raw: str, trust: TrustFile, now: datetime) -> CachedRecord:
    """Return the record of a cached result, as `open_result` does."""
    return _opened(raw, CACHED_TYPE, CachedRecord, trust, now)[0]


def _opened(raw: str, kind: str, record: type[S], trust: TrustFile, now: datetime) -> tuple[S, str]:
    verified = open_envelope(raw.encode(errors="replace"), kind, trust, now=now, limit=LIMIT_BYTES)
    try:
        found = record.model_validate_json(verified.payload)
    except ValidationError as error:
        raise NotTrusted(
            TrustCause.BROKEN, "the signed result has other fields than this coord knows"
        ) from error
    _check_worker(verified.principal, found.repo)
    return found, verified.principal.name


def _check_worker(principal: Principal, repo: str) -> None:
    """Raise NotTrusted unless the principal is a worker whose results of this repository count: a role may
    limit it to repositories.
    """
    everywhere = not principal.grants or any(grant.repos is None for grant in principal.grants)
    serves = everywhere or any(repo in (grant.repos or ()) for grant in principal.grants)
    if principal.kind is not Kind.WORKER or not serves:
        raise NotTrusted(
            TrustCause.FOREIGN,
            f"{principal.name} ({principal.kind}) signed a result of {repo}, and is no worker of it here",
            "an administrator of this machine adds it: coord trust add LINE --kind worker "
            "(of: coord identity show --worker)",
        )


def trusting_own(trust: TrustFile, signer: Signer) -> TrustFile:
    """Return the trust file with a worker's own key added, unless the file has that key."""
    if trust.holder(signer.fingerprint) is not None:
        return trust
    name = f"this worker, {signer.fingerprint}"
    own = Principal(name=name, kind=Kind.WORKER, keys=(TrustedKey(key=signer.public_key),))
    return TrustFile(principals=(*trust.principals, own))


def check_tip(
    record: ResultRecord, *, run: str, earlier: Collection[str], repo: str, tip: str, carried: str | None
) -> int:
    """Check that a result states the tip at which a todo begins; return the last fence whose work the tip
    contains.

    `earlier`: the runs that this one retries or builds on; `carried`: the tip that its order carries over.
    Raises NotTrusted.
    """
    if record.repo != repo or record.outcome != SUCCEEDED:
        raise foreign(f"the signed result of the tip of {repo} is of {record.repo}, {record.outcome}")
    if record.run == run and record.tip == tip:
        return record.fence
    if record.run in earlier and tip == carried:
        if record.tip == tip:
            return record.fence
        if record.base == tip:
            return record.fence - 1
    raise foreign(
        f"{repo} is at {tip[:12]} by Redis, but the signed result is {record.tip[:12] or 'no commit'} "
        f"of {record.todo} in run {record.run}"
    )


def check_change_set(record: ResultRecord, *, built_on: Collection[str], change_set: str) -> None:
    """Check that the result of an earlier run was made for the change set. `built_on`: the runs of the change
    set by the order, whose submitter read them from Redis. Raises NotTrusted.
    """
    if record.run in built_on and record.change_set != change_set:
        raise foreign(
            f"the signed result of {record.todo} in run {record.run} is not one of change set {change_set}"
        )


def check_set_result(record: ResultRecord, *, change_set: str, repo: str, tip: str) -> None:
    """Check that a result states the tip of a change set. Raises NotTrusted."""
    if (record.repo, record.tip) != (repo, tip):
        raise foreign(f"no signed result of {repo} has the tip {tip[:12]}")
    if record.change_set != change_set:
        raise foreign(f"the signed result with the tip {tip[:12]} is not one of {change_set}")


def check_predecessor(
    record: ResultRecord,
    *,
    runs: Collection[str],
    run: str,
    todo: str,
    repo: str,
    fence: int,
    commit: str,
    output: str,
) -> None:
    """Check the fields of a predecessor in Redis. `runs`: the runs whose result of it counts. Raises
    NotTrusted.
    """
    if record.run not in runs:
        raise foreign(f"the signed result of {todo} is of run {record.run}, which does not count here")
    expected = {
        "run": run,
        "todo": todo,
        "repo": repo,
        "fence": fence,
        "tip": commit,
        "output": digest(output),
    }
    for name, value in expected.items():
        if (signed := getattr(record, name)) != value:
            raise foreign(f"the {name} of {todo} in Redis is {value!r:.80}, signed is {signed!r:.80}")
    if record.outcome != SUCCEEDED:
        raise foreign(f"{todo} {record.outcome}, as its signed result says")


def check_undone(record: ResultRecord, *, run: str, todo: str, output: str) -> None:
    """Check the run and output of a todo that is to be undone. Raises NotTrusted.

    Without a signed output, `output` may be the unsigned checkpoint of an attempt.
    """
    same_output = not record.output or record.output == digest(output)
    if (record.run, record.todo, record.outcome) != (run, todo, SUCCEEDED) or not same_output:
        raise foreign(f"run or output of {todo} in Redis are not those of its signed result")


def check_cached(
    record: CachedRecord, *, key: str, repo: str, at: float, tree: str, output: str, changes: bytes
) -> None:
    """Check a result of the cache against its record. Raises NotTrusted."""
    expected = (key, repo, at, tree, digest(output), digest(changes))
    if expected != (record.key, record.repo, record.at, record.tree, record.output, record.changes):
        raise foreign(f"the cached result of {record.todo} of run {record.run} is not the signed one")


def seal_adoption(record: AdoptionRecord, signer: Signer) -> str:
    """Return the envelope of an adoption, as text that Redis stores."""
    return seal(ADOPTION_TYPE, record.model_dump_json().encode(), signer).decode()


def is_adoption(raw: str) -> bool:
    """Return whether a stored envelope says that it is an adoption; verifies nothing."""
    try:
        found = json.loads(raw) if len(raw) <= ADOPTION_LIMIT_BYTES else None
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("payloadType") == ADOPTION_TYPE


def check_set_tip(
    raw: str, trust: TrustFile, now: datetime, *, here: orders.Audience, change_set: str, repo: str, tip: str
) -> None:
    """Check that the result of a trusted worker states the tip of a change set, or that an authorised person
    has adopted it. Raises NotTrusted, MissingRight.
    """
    if is_adoption(raw):
        check_adoption(raw, trust, now, here=here, change_set=change_set, repo=repo, tip=tip)
        return
    record = open_result(raw, trust, now)
    here.check_origin(RESULT, record)
    check_set_result(record, change_set=change_set, repo=repo, tip=tip)


def check_landed(record: LandingRecord, **expected: str) -> None:
    """Check the fields of a landing in Redis: `change_set`, `repo`, `commit`, `tree_before`, perhaps more.
    Raises NotTrusted.
    """
    for name, value in expected.items():
        if (signed := getattr(record, name)) != value:
            raise foreign(
                f"the {name} of {record.change_set} landed in {record.repo} is {value!r:.80} in Redis, "
                f"signed is {signed!r:.80}"
            )


def check_adoption(
    raw: str,
    trust: TrustFile,
    now: datetime,
    *,
    here: orders.Audience,
    change_set: str,
    repo: str,
    tip: str,
    todo: str = "",
) -> AdoptionRecord:
    """Check that an authorised person has adopted this tip here, and that the adoption names the todo, if one
    is given; return the record.

    Raises NotTrusted, MissingRight.
    """
    limit = ADOPTION_LIMIT_BYTES
    verified = open_envelope(raw.encode(errors="replace"), ADOPTION_TYPE, trust, now=now, limit=limit)
    try:
        record = AdoptionRecord.model_validate_json(verified.payload)
    except ValidationError as error:
        what = "the signed adoption has other fields than this coord knows"
        raise NotTrusted(TrustCause.BROKEN, what) from error
    here.check_origin("signed adoption", record)
    if (record.change_set, record.repo, record.tip) != (change_set, repo, tip):
        raise foreign(
            f"{repo} is at {tip[:12]} in {change_set}, but the adoption is of {record.tip[:12]} in "
            f"{record.repo}, {record.change_set}"
        )
    if todo and todo not in record.todos:
        raise foreign(f"the adoption of {tip[:12]} in {repo} does not name {todo}")
    trust.check(verified.principal, right_of(ADOPT), {repo})
    return record


def foreign(message: str) -> NotTrusted:
    """Return the error for a record that contradicts the fields in Redis."""
    return NotTrusted(
        TrustCause.FOREIGN,
        message,
        "somebody changed it in Redis, or a worker of another version wrote it; see: coord event list --kind "
        "'trust.*'; a new run goes on without it: coord sweep",
    )
