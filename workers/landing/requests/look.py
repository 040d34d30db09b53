"""Look at the pull request of a change set: what it lacks, by the present answers of its forge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pydantic import ValidationError

from coordination.changes.requests.create import NO_STATUS
from coordination.changes.requests.proposal import depends_status
from coordination.changes.requests.push import pushed_ref
from coordination.changes.requests.records import RequestView
from coordination.forges.errors import ForgeError
from coordination.forges.models import Check, CheckState, Protection, PullRequest, Review, ReviewState
from coordination.landing.readiness import DEPENDS, Missing, Requirements, missing_of, without_own
from coordination.models import LandStep
from coordination.runs.change_sets.records import RepoChange
from workers.landing.history import heads_of
from workers.landing.land import Landing
from workers.landing.records import BaseBranch
from workers.landing.requests.way import RequestWay
from workers.process.trouble import describe_os_error

NO_STATUS_SET = "no_status"
"""A todo's note that its token may set no statuses."""
RULES_HOLD = timedelta(minutes=10)
"""Time for which the rules of a branch are kept while a request waits."""


class RequestLook(RequestWay):
    """Looks at the pull request of a change set, and tells people what it has seen."""

    def __init__(self, landing: Landing) -> None:
        action = landing.action
        super().__init__(landing, begun=action.step is LandStep.LAND, branch_prefix=action.branch_prefix)
        self._landing = landing
        self._rules_seen = Protection()
        """The rules of the base branch, as this attempt has read them."""

    def _heads(self, at: BaseBranch, change: RepoChange, head: str) -> tuple[str, ...]:
        pushed = pushed_ref(change.branch_at_forge(self._access.branch_prefix))
        return heads_of(at, tip=change.tip, head=head, pushed=pushed, base=self._base_commit)

    def _missing(
        self, at: BaseBranch, change: RepoChange, request: PullRequest, *, ignored: tuple[str, ...] = ()
    ) -> tuple[Missing, ...]:
        """Return what the request lacks according to the present answers of the forge."""
        action, head = self._landing.action, request.head_sha
        heads = self._heads(at, change, head)
        self._rules_seen = self._rules(request.base, fresh=action.step is LandStep.LAND)
        seen = self._observed(at, request, heads, self._rules_seen)
        reviews, checks = seen.reviews or (), seen.checks or ()
        if heads:
            self._tell_depends(head, checks)
        approving = [one for one in reviews if one.state is ReviewState.APPROVED and not one.head]
        seen = replace(seen, first_seen=self._first_seen(approving, request))
        self._note_seen(change, request, checks, reviews)
        return missing_of(seen, Requirements(approvals=action.approvals, ignored=ignored))

    def _tell_depends(self, head: str, checks: Sequence[Check]) -> None:
        """Set the status `coord/depends` of a head, unless the forge already shows this value."""
        action, known = self._landing.action, self._landing.todo.change_set()
        after = action.request.after if action.request else ()
        if not after or known is None or self._landing.checkpoint.get(NO_STATUS_SET):
            return
        if action.step is LandStep.LAND:  # its predecessors have landed, perhaps by people
            known = known.model_copy(update={"repos": {}})
        status = depends_status(known, after)
        shown = next((one.state for one in checks if one.name == DEPENDS), None)
        if status is None or status.state is shown:
            return
        try:
            self._forge.set_status(head, status)
        except ForgeError as error:
            if error.problem not in NO_STATUS:
                raise
            self._landing.todo.log(f"the status {DEPENDS} could not be set: {error.message}")
            self._landing.add_to_checkpoint({NO_STATUS_SET: True})

    def _note_seen(
        self, change: RepoChange, request: PullRequest, checks: Sequence[Check], reviews: Sequence[Review]
    ) -> None:
        """Record the observed state of the request for `coord changes`."""
        ref = change.request
        if ref is None:
            return
        view = RequestView(
            plan=self._landing.name,
            repo=change.repo,
            number=request.number,
            url=request.url,
            state=request.state,
            head=request.head_sha,
            checks=without_own(checks),
            failing=tuple(one.name for one in without_own(checks) if one.state is CheckState.FAILURE),
            reviews=tuple(reviews),
        )
        seen, before = view.seen(), ref.seen
        if seen and (before is None or seen != before.model_copy(update={"at": seen.at})):
            self._landing.todo.note_request(ref.model_copy(update={"seen": seen}), "")

    def _first_seen(self, approving: Sequence[Review], request: PullRequest) -> Mapping[str, str]:
        """Return for each person whose approval names no commit the head at which it was seen first."""
        times = {one.author: one.at for one in approving}
        with describe_os_error(self._landing.todo.checkout):
            return self._landing.todo.approvals.first_seen(request.url, request.head_sha, times)

    def _rules(self, branch: str, *, fresh: bool) -> Protection:
        """Return the rules of the base branch; `fresh` False: as they were some minutes ago. A wrong record
        of them could only delay the merge, or have the forge refuse it.
        """
        known, now = self._landing.checkpoint.get("rules"), self._landing.todo.now()
        if not fresh and isinstance(known, dict):
            try:
                if now - datetime.fromisoformat(str(known.get("at"))) < RULES_HOLD:
                    return Protection.model_validate_json(str(known.get("value")))
            except (ValueError, TypeError, ValidationError):
                self._landing.todo.log("the record of the branch's rules is damaged: they are read again")
        found = self._forge.protection(branch)
        if not fresh:
            record = {"at": now.isoformat(), "value": found.model_dump_json()}
            self._landing.add_to_checkpoint({"rules": record})
        return found
