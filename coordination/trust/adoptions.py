"""Signed adoptions: a person states that a commit is the tip of a change set, in place of a worker's result.

A worker lands such a tip, and begins a run at it, only if the person has the right `adopt` in the repository.
The statement names change set, repository and commit, so that it is of no use for any other.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from coordination.errors import NotTrusted, TrustCause
from coordination.trust.envelope import open_envelope, seal
from coordination.trust.results import check_set_result, foreign, open_result
from coordination.trust.rights import right_of

if TYPE_CHECKING:
    from coordination.trust.keys import Signer
    from coordination.trust.trust_file import TrustFile

ADOPTION_TYPE = "application/vnd.coord.adoption+json"
OPERATION = "adopt"
ADOPTION_LIMIT_BYTES = 512 * 1024
"""Bytes of a signed adoption: it names todos."""


class AdoptionRecord(BaseModel):
    """A person's statement about one repository of a change set."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    change_set: str
    repo: str
    base: str
    tip: str
    at: str
    """UTC, ISO 8601."""
    todos: tuple[str, ...] = ()
    """The todos whose work the commits have, as these name them."""


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


def check_set_tip(raw: str, trust: TrustFile, now: datetime, *, change_set: str, repo: str, tip: str) -> None:
    """Check that the result of a trusted worker led to the tip of a change set, or that an authorised person
    has adopted it. Raises NotTrusted, MissingRight.
    """
    if is_adoption(raw):
        check_adoption(raw, trust, now, change_set=change_set, repo=repo, tip=tip)
    else:
        check_set_result(open_result(raw, trust, now), change_set=change_set, repo=repo, tip=tip)


def check_adoption(
    raw: str, trust: TrustFile, now: datetime, *, change_set: str, repo: str, tip: str, todo: str = ""
) -> None:
    """Check that an authorised person has adopted this tip; `todo`: as one that has the work of this todo.

    Raises NotTrusted, MissingRight.
    """
    limit = ADOPTION_LIMIT_BYTES
    verified = open_envelope(raw.encode(errors="replace"), ADOPTION_TYPE, trust, now=now, limit=limit)
    try:
        record = AdoptionRecord.model_validate_json(verified.payload)
    except ValidationError as error:
        what = "the signed adoption has other fields than this coord knows"
        raise NotTrusted(TrustCause.BROKEN, what) from error
    if (record.change_set, record.repo, record.tip) != (change_set, repo, tip):
        raise foreign(
            f"{repo} stands at {tip[:12]} in {change_set}, but the adoption is of {record.tip[:12]} in "
            f"{record.repo}, {record.change_set}"
        )
    if todo and todo not in record.todos:
        raise foreign(f"the adoption of {tip[:12]} in {repo} does not name {todo}")
    trust.check(verified.principal, right_of(OPERATION), {repo})
