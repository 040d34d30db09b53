"""Look at the pull request of a change set: reviews, checks, and the rules of its base branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import ValidationError

from coordination.changes.requests.create import NO_STATUS
from coordination.changes.requests.records import RequestView
from coordination.changes.requests.rules import depends_status
from coordination.forges.errors import ForgeError
from coordination.forges.models import Check, CheckState, Protection, PullRequest, Review, ReviewState
from coordination.landing.readiness import DEPENDS, Missing, Seen, Wanted, missing_of
from coordination.models import LandAction, LandStep
from coordination.runs.change_sets.records import RepoChange
from workers.executors.forge_attempt import ForgeAttempt
from workers.executors.request_commits import heads_of
from workers.landing.records import BaseBranch

NO_STATUS_SET = "no_status"
"""A todo's note that its token may set no statuses."""
RULES_HOLD = timedelta(minutes=10)
"""Time for which the rules of a branch are not asked again while a request waits."""


class RequestLook(ForgeAttempt):
    """An attempt that looks at a request before it decides."""

    _rules_seen = Protection()
    """The rules of the base branch, as this attempt has read them."""

    def _heads(self, at: BaseBranch, change: RepoChange, head: str) -> tuple[str, ...]:
        pushed = f"refs/coord/pushed/{change.forge_branch.removeprefix('coord/')}"
        return heads_of(at, tip=change.tip, head=head, pushed=pushed, base=self._base_commit)

    def _missing(
        self,
        at: BaseBranch,
        action: LandAction,
        change: RepoChange,
        request: PullRequest,
        *,
        ignored: tuple[str, ...],
    ) -> tuple[Missing, ...]:
        """Return what the request lacks, by what the forge says now."""
        number, head = request.number, request.head_sha
        heads = self._heads(at, change, head)
        reviews, checks = self._forge.reviews(number), self._forge.checks(head)
        if heads:
            self._tell_depends(action, head, checks)
        approving = [one.author for one in reviews if one.state is ReviewState.APPROVED and not one.head]
        first_seen = self._first_seen(approving, head)
        self._rules_seen = self._rules(request.base, fresh=action.step is LandStep.LAND)
        seen = Seen(
            request=self._by_git(at, request, self._rules_seen) if heads else request,
            heads=heads,
            checks=checks,
            reviews=reviews,
            protection=self._rules_seen,
            first_seen=first_seen,
        )
        self._note_seen(change, request, checks, reviews)
        return missing_of(seen, Wanted(approvals=action.approvals, ignored=ignored))

    def _tell_depends(self, action: LandAction, head: str, checks: Sequence[Check]) -> None:
        """Set the status `coord/depends` of a head, if the forge does not show it so."""
        after, known = action.request.after if action.request else (), self._job.change_set()
        if not after or known is None or self._known.get(NO_STATUS_SET):
            return
        if action.step is LandStep.LAND:  # its turn has come: those before have landed, also if by people
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
            self._job.say(f"the status {DEPENDS} could not be set: {error.message}")
            self._remember({**self._known, NO_STATUS_SET: True})

    def _note_seen(
        self, change: RepoChange, request: PullRequest, checks: Sequence[Check], reviews: Sequence[Review]
    ) -> None:
        """Record for `coord changes` how the request was seen."""
        ref = change.request
        if ref is None:
            return
        view = RequestView(
            plan=self._name,
            repo=change.repo,
            number=request.number,
            url=request.url,
            state=request.state,
            head=request.head_sha,
            checks=tuple(checks),
            failing=tuple(one.name for one in checks if one.state is CheckState.FAILURE),
            reviews=tuple(reviews),
        )
        seen, before = view.seen(), ref.seen
        if seen and (before is None or seen != before.model_copy(update={"at": seen.at})):
            self._job.note_request(ref.model_copy(update={"seen": seen}), "")

    def _first_seen(self, approving: list[str], head: str) -> Mapping[str, str]:
        """Return for each person whose approval names no commit the head at which it was seen first."""
        known = self._known.get("approved")
        before = known if isinstance(known, dict) else {}
        found = {name: str(before.get(name) or head) for name in approving}
        if found != before:
            self._remember({**self._known, "approved": found})
        return found

    def _rules(self, branch: str, *, fresh: bool) -> Protection:
        """Return the rules of the base branch; `fresh` False: as they were some minutes ago. A wrong record
        of them could only delay the merge, or have the forge refuse it.
        """
        known, now = self._known.get("rules"), self._job.now()
        if not fresh and isinstance(known, dict):
            try:
                if now - datetime.fromisoformat(str(known.get("at"))) < RULES_HOLD:
                    return Protection.model_validate_json(str(known.get("value")))
            except (ValueError, TypeError, ValidationError):
                self._job.say("the record of the branch's rules is damaged: they are read again")
        found = self._forge.protection(branch)
        if not fresh:
            record = {"at": now.isoformat(), "value": found.model_dump_json()}
            self._remember({**self._known, "rules": record})
        return found
