"""The conformance suite of forges: each dialect, against a test forge over real git and HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from coordination.forges import http
from coordination.forges.connect import ForgeClients
from coordination.forges.errors import LIMITS, PASSING, ForgeError, ForgeProblem
from coordination.forges.forge import Forge
from coordination.forges.locate import ForgeAddress
from coordination.forges.models import (
    CheckState,
    CommitStatus,
    ForgeType,
    IssueChanges,
    MergeMethod,
    NewIssue,
    NewRequest,
    PullRequest,
    RequestChanges,
    RequestState,
    ReviewState,
)
from coordination.landing.readiness import DEPENDS, ObservedRequest, Requirements, missing_of
from tests.forge.records import Project
from tests.forge.server import TestForge

pytestmark = pytest.mark.parametrize("forge", ["github", "gitlab", "gitea"], indirect=True)
BRANCH = "work/one"
IMPATIENT = timedelta(seconds=1)
"""Shorter than any limit that the test forge sets without `retry_after`."""


@dataclass
class ForgeAccount:
    """One project at the forge, and coord's connection to it."""

    server: TestForge
    project: Project
    token: str
    forge: Forge

    def connect(self, token: str, name: str = "", patience: timedelta = IMPATIENT) -> Forge:
        address = ForgeAddress(
            type=ForgeType(self.server.dialect.name),
            api=self.server.api,
            project=name or self.project.full_name,
            host="127.0.0.1",
        )
        return ForgeClients(spender=lambda _: lambda: None, patience=patience).open(address, token)

    def request(self, branch: str = BRANCH, **fields: Any) -> PullRequest:
        """Push a branch, and open its request."""
        self.server.push(self.project, branch, **{branch.replace("/", "-"): "1\n"})
        return self.forge.create(NewRequest(head=branch, base="main", title="One", body="Body", **fields))

    def known(self, number: int) -> PullRequest:
        """Read a request until the forge knows if it merges; the first answer never says it."""
        if self.is_gitea:  # its first answer says no, and of a draft it never says it
            self.forge.get(number)
            return self.forge.get(number)
        return next(one for _ in range(3) if (one := self.forge.get(number)).mergeable is not None)

    def merge(self, request: PullRequest, method: MergeMethod = MergeMethod.MERGE) -> str:
        return self.forge.merge(request.number, expected_head=request.head_sha, method=method).commit

    @property
    def is_github(self) -> bool:
        return self.server.dialect.name == "github"

    @property
    def is_gitlab(self) -> bool:
        return self.server.dialect.name == "gitlab"

    @property
    def is_gitea(self) -> bool:
        return self.server.dialect.name == "gitea"


@pytest.fixture
def account(forge: TestForge) -> Iterator[ForgeAccount]:
    project, token = forge.create_project("acme/api"), forge.token()
    account = ForgeAccount(forge, project, token, None)  # type: ignore[arg-type]
    account.forge = account.connect(token)
    yield account
    account.forge.close_connection()


def problem(call: Callable[[], object]) -> ForgeProblem:
    """Return the problem of a call; its words are printable, bounded and without the token."""
    with pytest.raises(ForgeError) as caught:
        call()
    words = str(caught.value).replace("\n", "")
    assert words.isprintable()
    assert len(words) < 1500
    assert "-secret" not in words
    return caught.value.problem


def test_a_repository_is_described_with_the_rights_of_the_token(account: ForgeAccount):
    account.project.methods = ["merge", "squash"]
    own, readers = account.forge.repository(), account.connect(account.server.token("eve")).repository()

    assert (own.project, own.default_branch, own.archived) == ("acme/api", "main", False)
    assert own.methods == (MergeMethod.MERGE, MergeMethod.SQUASH)
    assert (own.can_push, own.can_merge, readers.can_push, readers.can_merge) == (True, True, False, False)


def test_a_request_is_opened_found_changed_and_closed(account: ForgeAccount):
    assert account.forge.find(BRANCH) is None
    made = account.request(draft=True)
    head = account.server.tip("acme/api", BRANCH)

    assert (made.number, made.head, made.base, made.head_sha) == (1, BRANCH, "main", head)
    assert (made.title, made.body, made.state, made.author) == ("One", "Body", RequestState.DRAFT, "coord")
    assert made.head_project == "acme/api"
    assert account.forge.set_draft(made, draft=False).state is RequestState.OPEN
    assert account.forge.get(1).state is RequestState.OPEN
    assert account.forge.set_draft(account.forge.get(1), draft=True).state is RequestState.DRAFT

    changes = RequestChanges(
        title="Two", body="Changed", labels=("coord",), assignees=("ann",), reviewers=("bob",)
    )
    account.forge.update(account.forge.get(1), changes)
    found = account.forge.find(BRANCH)
    assert found is not None
    assert (found.title, found.body, found.state) == ("Two", "Changed", RequestState.DRAFT)
    assert (found.labels, found.assignees, found.reviewers) == (("coord",), ("ann",), ("bob",))
    account.forge.comment(1, "A comment")
    assert account.project.requests[0].comments[0][1] == "A comment"

    assert account.forge.close(1).state is RequestState.CLOSED
    assert account.forge.close(1).state is RequestState.CLOSED
    closed = account.forge.find(BRANCH)
    assert closed is not None
    assert closed.state is RequestState.CLOSED
    assert account.forge.closer(1) == ("" if account.is_gitea else "coord")
    assert account.forge.reopen(1).is_open


def test_the_open_request_of_a_branch_is_found_before_a_later_closed_one(account: ForgeAccount):
    account.request()
    account.server.push(account.project, "other", other="1\n")
    second = account.forge.create(NewRequest(head=BRANCH, base="other", title="Two"))
    account.forge.close(second.number)
    found = account.forge.find(BRANCH)
    assert found is not None
    assert found.number == 1


def test_changes_add_labels_and_people_and_take_none_away(account: ForgeAccount):
    made = account.request()
    account.project.requests[0].labels = ["bug"]
    account.forge.update(
        account.forge.get(made.number), RequestChanges(labels=("coord",), reviewers=("ann",))
    )
    found = account.forge.update(account.forge.get(made.number), RequestChanges(reviewers=("bob",)))
    assert set(found.labels) == {"bug", "coord"}
    assert set(found.reviewers) == {"ann", "bob"}


def test_mergeability_is_computed_by_git_and_unknown_at_first(account: ForgeAccount):
    first = account.request()
    assert not first.mergeable
    assert account.known(first.number).mergeable is True
    account.server.push(account.project, "main", **{"work-one": "theirs\n"})
    assert account.known(first.number).mergeable is False


@pytest.mark.parametrize("method", [MergeMethod.MERGE, MergeMethod.SQUASH, MergeMethod.REBASE])
def test_a_merge_is_a_commit_of_its_method_on_the_base_branch(account: ForgeAccount, method: MergeMethod):
    if method is MergeMethod.REBASE and account.is_gitlab:
        account.project.methods = ["rebase", "squash"]  # a setting of the project at GitLab
    made = account.request()
    account.server.push(account.project, BRANCH, two="2\n")
    bare = account.project.bare
    found = account.known(made.number)
    before = account.server.tip("acme/api")
    commit = account.merge(found, method)

    assert commit == account.server.tip("acme/api")
    assert bare.git("ls-tree", "--name-only", "main").split() == ["README.md", "two", "work-one"]
    commits = {MergeMethod.MERGE: 3, MergeMethod.SQUASH: 1, MergeMethod.REBASE: 2}[method]
    assert len(bare.git("rev-list", f"{before}..main").split()) == commits
    merged = account.forge.get(made.number)
    assert (merged.state, merged.merge_commit) == (RequestState.MERGED, commit)
    assert problem(lambda: account.merge(found, method)) is ForgeProblem.CLOSED
    assert problem(lambda: account.forge.close(made.number)) is ForgeProblem.CLOSED
    assert account.server.tip("acme/api") == commit


def test_a_merge_with_another_head_than_expected_changes_nothing(account: ForgeAccount):
    made = account.known(account.request().number)
    account.server.push(account.project, BRANCH, evil="1\n")
    account.known(made.number)
    before = account.server.tip("acme/api")
    assert problem(lambda: account.merge(made)) is ForgeProblem.HEAD_MOVED
    assert account.server.tip("acme/api") == before


def test_a_merge_that_the_forge_refuses_is_not_mergeable(account: ForgeAccount):
    draft = account.known(account.request(draft=True).number)
    assert problem(lambda: account.merge(draft)) is ForgeProblem.NOT_MERGEABLE
    account.forge.set_draft(draft, draft=False)

    account.server.protect(account.project, approvals=1, checks=("ci",))
    assert bool(account.forge.get(draft.number).blocked) is not account.is_gitea, (
        "which says it of no request"
    )
    assert problem(lambda: account.merge(draft)) is ForgeProblem.NOT_MERGEABLE
    account.server.approve(account.project, draft.number)
    account.server.check(account.project, draft.head_sha, "ci", "failure")
    assert problem(lambda: account.merge(draft)) is ForgeProblem.NOT_MERGEABLE
    account.server.check(account.project, draft.head_sha, "ci", "success")
    assert not account.forge.get(draft.number).blocked
    assert account.merge(draft) == account.server.tip("acme/api")

    other = account.request("work/two")
    account.server.push(account.project, "theirs", **{"work-two": "theirs\n"})
    account.server.merge(account.project, _open_by_people(account, "theirs"))
    assert account.known(other.number).mergeable is False
    assert problem(lambda: account.merge(other)) is ForgeProblem.NOT_MERGEABLE


def _open_by_people(account: ForgeAccount, branch: str) -> int:
    account.server.protect(account.project, locked=False)
    bob = account.server.core.person("bob")
    made = account.server.core.open_request(
        account.project, bob, head=branch, base="main", title="Theirs", body="", draft=False, empty=False
    )
    return made.number


def test_reviews_are_the_last_verdict_of_each_person(account: ForgeAccount):
    made = account.request()
    account.server.request_changes(account.project, made.number, by="ann")
    account.server.approve(account.project, made.number, by="bob")
    account.server.approve(account.project, made.number, by="ann")
    account.server.review(account.project, made.number, "commented", by="ann")
    found = {one.author: one for one in account.forge.reviews(made.number)}

    assert {name: one.state for name, one in found.items()} == {
        "ann": ReviewState.APPROVED,
        "bob": ReviewState.APPROVED,
    }
    assert {one.head for one in found.values()} == {"" if account.is_gitlab else made.head_sha}


def test_a_push_takes_approvals_back_where_the_rule_says_so(account: ForgeAccount):
    account.server.protect(account.project, approvals=1)
    made = account.request()
    account.server.approve(account.project, made.number)
    account.server.push(account.project, BRANCH, more="1\n")
    (review,) = account.forge.reviews(made.number)
    assert review.state is ReviewState.DISMISSED
    assert bool(account.known(made.number).blocked) is not account.is_gitea


def test_checks_are_the_newest_state_of_each_name(account: ForgeAccount):
    made = account.request()
    assert account.forge.checks(made.head_sha) == ()
    for name, state in (("ci", "failure"), ("ci", "success"), ("lint", "failure"), ("slow", "pending")):
        account.server.check(account.project, made.head_sha, name, state)
    status = CommitStatus(context="coord/depends", state=CheckState.PENDING, description="waits")
    account.forge.set_status(made.head_sha, status)
    account.forge.set_status(made.head_sha, status)
    found = {one.name: one.state for one in account.forge.checks(made.head_sha) if one.name != "pipeline"}

    assert found == {
        "ci": CheckState.SUCCESS,
        "coord/depends": CheckState.PENDING,
        "lint": CheckState.FAILURE,
        "slow": CheckState.PENDING,
    }
    account.forge.set_status(made.head_sha, status.model_copy(update={"state": CheckState.SUCCESS}))
    assert CheckState.SUCCESS in {
        one.state for one in account.forge.checks(made.head_sha) if one.name == "coord/depends"
    }


def test_a_request_that_depends_on_others_can_be_held_up_by_the_status_of_coord(account: ForgeAccount):
    account.server.protect(account.project, checks=(DEPENDS,), dismiss_stale=False)
    made = account.known(account.request().number)
    pending = CommitStatus(context=DEPENDS, state=CheckState.PENDING, description="waits for text")
    account.forge.set_status(made.head_sha, pending)
    assert problem(lambda: account.merge(made)) is ForgeProblem.NOT_MERGEABLE

    now = account.forge.get(made.number)
    checks, rules = account.forge.checks(made.head_sha), account.forge.protection("main")
    seen = ObservedRequest(request=now, heads=(made.head_sha,), checks=checks, reviews=(), protection=rules)
    assert missing_of(seen, Requirements()) == (), "coord does not wait for itself"
    account.forge.set_status(made.head_sha, pending.model_copy(update={"state": CheckState.SUCCESS}))
    assert account.merge(made) == account.server.tip("acme/api")


def test_lists_of_several_pages_are_whole(account: ForgeAccount):
    made = account.request()
    for n in range(130):
        account.server.check(account.project, made.head_sha, f"check-{n:03}", "success")
    assert len([one for one in account.forge.checks(made.head_sha) if one.name != "pipeline"]) == 130
    calls = account.server.calls("check-runs" if account.is_github else "/statuses")
    assert len([one for one in calls if one.method == "GET"]) == (3 if account.is_gitea else 2)
    again = [one for one in account.forge.checks(made.head_sha) if one.name != "pipeline"]
    assert len(again) == 130, "also where the forge answers that nothing has changed"


def test_a_list_that_would_take_too_much_memory_is_refused_before_its_last_page(
    account: ForgeAccount, monkeypatch: pytest.MonkeyPatch
):
    made = account.request()
    for n in range(130):
        account.server.check(account.project, made.head_sha, f"check-{n:03}", "success")
    assert account.forge.checks(made.head_sha)
    monkeypatch.setattr(http, "LARGEST_PARSED_BYTES", 40_000)
    fresh = account.connect(account.token)

    assert problem(lambda: fresh.checks(made.head_sha)) is ForgeProblem.BROKEN_ANSWER


@pytest.mark.parametrize("ruleset", [True, False])
def test_the_rules_of_a_branch_are_read(account: ForgeAccount, ruleset: bool):
    assert account.forge.protection("main").approvals == 0
    account.server.protect(account.project, approvals=2, checks=("ci",), ruleset=ruleset)
    found = account.connect(account.server.token("bob")).protection("main")
    assert found.approvals == 2
    assert found.checks == (() if account.is_gitlab else ("ci",))
    assert found.all_checks is account.is_gitlab
    if account.is_github:  # classic protection shows its checks only to those without admin rights
        assert account.forge.protection("main").checks == ("ci",)
        assert account.forge.protection("main").approvals == (2 if ruleset else 0)


def test_a_branch_with_a_merge_queue_takes_requests_through_it(account: ForgeAccount):
    made = account.known(account.request().number)
    assert (
        problem(lambda: account.forge.enqueue(made, expected_head=made.head_sha)) is ForgeProblem.UNSUPPORTED
    )
    if account.is_gitea:
        return
    account.server.protect(account.project, queue=True)
    assert account.forge.protection("main").queue
    if account.is_github:  # GitLab merges beside its train
        assert problem(lambda: account.merge(made)) is ForgeProblem.QUEUE_ONLY

    old = made.head_sha
    account.server.push(account.project, BRANCH, more="1\n")
    assert problem(lambda: account.forge.enqueue(made, expected_head=old)) is ForgeProblem.HEAD_MOVED
    moved = account.forge.get(made.number)
    account.forge.enqueue(moved, expected_head=moved.head_sha)
    assert account.server.run_queue(account.project) == [1]
    assert account.forge.get(1).merge_commit == account.server.tip("acme/api")


def test_people_who_merge_close_or_delete_meanwhile_are_seen(account: ForgeAccount):
    numbers = [account.request(f"work/{n}").number for n in range(3)]
    commit = account.server.merge(account.project, numbers[0])
    account.server.close(account.project, numbers[1])
    account.server.delete_branch(account.project, "work/2")
    merged, closed, deleted = (account.forge.get(number) for number in numbers)

    assert (merged.state, merged.merge_commit) == (RequestState.MERGED, commit)
    assert (closed.state, deleted.state) == (RequestState.CLOSED, RequestState.CLOSED)
    assert problem(lambda: account.merge(closed)) is ForgeProblem.CLOSED


def test_a_request_that_cannot_be_opened_says_why(account: ForgeAccount):
    def opening(**fields: str) -> ForgeProblem:
        new = NewRequest(**{"head": BRANCH, "base": "main", "title": "One", **fields})
        return problem(lambda: account.forge.create(new))

    assert opening() is ForgeProblem.NO_BRANCH
    account.request()
    assert opening() is ForgeProblem.ALREADY_EXISTS
    assert opening(base="absent", head="main") is ForgeProblem.NO_BRANCH
    assert opening(body="x" * (account.forge.longest_body + 1)) is ForgeProblem.TOO_LONG
    account.project.bare.git("branch", "same", "main")
    if account.is_github:  # GitLab opens a request without changes
        assert opening(head="same") is ForgeProblem.NO_DIFFERENCE
    assert len([one for one in account.project.requests if one.head == BRANCH]) == 1


def test_unknown_labels_and_people_are_refused_by_name_and_made_by_nobody(account: ForgeAccount):
    made = account.request()
    for changes, expected in (
        (RequestChanges(labels=("absent",)), ForgeProblem.UNKNOWN_LABEL),
        (RequestChanges(reviewers=("nobody",)), ForgeProblem.UNKNOWN_PERSON),
        (RequestChanges(assignees=("nobody",)), ForgeProblem.UNKNOWN_PERSON),
    ):
        assert problem(lambda changes=changes: account.forge.update(made, changes)) is expected
    long = RequestChanges(body="x" * (account.forge.longest_body + 1))
    assert problem(lambda: account.forge.update(made, long)) is ForgeProblem.TOO_LONG
    assert "absent" not in account.project.labels
    assert account.forge.get(made.number).body == "Body"


def test_a_token_that_is_wrong_or_revoked_is_told_from_one_without_rights(account: ForgeAccount):
    made = account.request()
    reader = account.connect(account.server.token("eve"))
    stranger = account.connect(account.server.token("mallory"))
    assert problem(account.connect("wrong-secret").repository) is ForgeProblem.UNAUTHORIZED
    assert problem(stranger.repository) is ForgeProblem.NOT_FOUND
    assert problem(lambda: reader.close(made.number)) in (ForgeProblem.FORBIDDEN, ForgeProblem.NOT_FOUND)
    merging = lambda: reader.merge(made.number, expected_head=made.head_sha, method=MergeMethod.MERGE)  # noqa: E731
    assert problem(merging) is ForgeProblem.FORBIDDEN
    opening = lambda: reader.create(NewRequest(head=BRANCH, base="main", title="Two"))  # noqa: E731
    assert problem(opening) in (ForgeProblem.FORBIDDEN, ForgeProblem.FORK_NEEDED)

    account.server.revoke(account.token)
    assert problem(lambda: account.forge.get(made.number)) is ForgeProblem.UNAUTHORIZED
    assert problem(lambda: account.merge(made)) is ForgeProblem.UNAUTHORIZED


def test_an_absent_archived_or_renamed_repository_is_named(account: ForgeAccount):
    made = account.request()
    assert problem(account.connect(account.token, "acme/absent").repository) is ForgeProblem.NOT_FOUND
    assert problem(lambda: account.forge.get(99)) is ForgeProblem.NOT_FOUND
    account.project.archived = True
    assert account.forge.repository().archived
    refused = problem(lambda: account.forge.comment(made.number, "x"))
    assert refused is (ForgeProblem.FORBIDDEN if account.is_gitlab else ForgeProblem.ARCHIVED)
    account.project.archived = False

    account.server.rename(account.project, "acme/renamed")
    with pytest.raises(ForgeError, match="acme/renamed") as caught:
        account.forge.repository()
    assert caught.value.problem is ForgeProblem.RENAMED
    before = account.server.tip("acme/api")
    assert problem(lambda: account.merge(made)) in (ForgeProblem.RENAMED, ForgeProblem.NOT_MERGEABLE)
    assert account.server.tip("acme/api") == before


def test_an_empty_list_under_a_rate_limit_is_an_error(account: ForgeAccount):
    made = account.request()
    account.server.remaining = 0
    with pytest.raises(ForgeError) as caught:
        account.forge.checks(made.head_sha)
    assert caught.value.problem is ForgeProblem.RATE_LIMIT
    assert caught.value.problem in PASSING
    assert caught.value.retry_at is not None
    assert timedelta() < caught.value.retry_at - datetime.now(UTC) <= timedelta(hours=1, seconds=5)
    count = len(account.server.seen)
    assert problem(lambda: account.forge.reviews(made.number)) is ForgeProblem.RATE_LIMIT
    assert len(account.server.seen) == count, "asked again before the limit ends"


def test_a_short_limit_is_waited_for_also_by_a_merge(account: ForgeAccount):
    made = account.known(account.request().number)
    patient = account.connect(account.token, patience=timedelta(seconds=20))
    account.server.fail("secondary", only="/merge$", retry_after=1)
    merged = patient.merge(made.number, expected_head=made.head_sha, method=MergeMethod.MERGE)
    assert merged.commit == account.server.tip("acme/api")
    account.server.fail("secondary", retry_after=900)
    assert problem(lambda: patient.get(made.number)) in LIMITS


@pytest.mark.parametrize("offset", [timedelta(days=-2), timedelta(days=2)])
def test_a_forge_whose_clock_is_wrong_sets_no_wrong_pause(account: ForgeAccount, offset: timedelta):
    made = account.request()
    account.server.set_clock(offset)
    account.server.remaining = 0
    with pytest.raises(ForgeError) as caught:
        account.forge.get(made.number)
    assert caught.value.retry_at is not None
    assert timedelta() < caught.value.retry_at - datetime.now(UTC) <= timedelta(hours=1, seconds=5)


def test_reads_are_repeated_after_trouble_of_the_forge_and_writes_are_not(account: ForgeAccount):
    made = account.known(account.request().number)
    patient = account.connect(account.token, patience=timedelta(seconds=30))
    account.server.fail(502, times=2)
    assert patient.get(made.number).number == made.number

    account.server.fail(502, only="/merge$")
    merging = lambda: patient.merge(made.number, expected_head=made.head_sha, method=MergeMethod.MERGE)  # noqa: E731
    assert problem(merging) is ForgeProblem.SERVER
    account.server.fail("lost", only="/merge$")
    assert problem(merging) is ForgeProblem.UNREACHABLE
    assert account.forge.get(made.number).merge_commit == account.server.tip("acme/api")
    asked = [one for one in account.server.seen if one.path.endswith("/merge")]
    assert [one.status for one in asked] == [502, 200], "a merge was asked for again"


def test_a_broken_answer_and_an_absent_forge_are_told_apart(account: ForgeAccount):
    made = account.request()
    for kind in ("broken", "huge"):
        account.server.fail(kind)
        assert problem(lambda: account.forge.get(made.number)) is ForgeProblem.BROKEN_ANSWER
    account.server.fail("hostile")
    assert problem(lambda: account.forge.close(made.number)) is ForgeProblem.INVALID
    account.server.away = True
    assert problem(lambda: account.forge.get(made.number)) is ForgeProblem.UNREACHABLE


def test_unchanged_lists_cost_conditional_requests_only(account: ForgeAccount):
    made = account.known(account.request().number)
    account.server.check(account.project, made.head_sha, "ci", "success")

    def look() -> list[object]:
        forge = account.forge
        found = forge.find(BRANCH), forge.get(made.number), forge.reviews(made.number)
        return [*found, forge.checks(made.head_sha), forge.protection("main")]

    first = look()
    spent, count = account.server.core.tokens[account.token].used, len(account.server.seen)
    assert look() == first
    again = account.server.seen[count:]
    if not account.is_gitea:  # which has no ETags
        assert {one.status for one in again if "approval_rules" not in one.path} == {304}
        assert all(one.conditional for one in again)
    if account.is_github:  # at GitLab a conditional request counts as any other
        assert account.server.core.tokens[account.token].used == spent
    account.server.approve(account.project, made.number)
    assert look() != first


def test_issues_are_created_listed_changed_and_closed(account: ForgeAccount):
    first = account.forge.create_issue(
        NewIssue(title="One", body="Body", labels=("bug",), assignees=("ann",))
    )
    second = account.forge.create_issue(NewIssue(title="Two"))
    account.request()

    assert (first.title, first.body, first.is_open) == ("One", "Body", True)
    assert (first.labels, first.assignees) == (("bug",), ("ann",))
    assert account.forge.list_issues() == (first, second), "requests are no issues"

    changes = IssueChanges(title="1", body="", is_open=False, labels=("coord",), assignees=("bob", "ann"))
    changed = account.forge.update_issue(first.number, changes)
    assert (changed.title, changed.body, changed.is_open) == ("1", "", False)
    assert (changed.labels, set(changed.assignees)) == (("coord",), {"ann", "bob"})
    bare = account.forge.update_issue(first.number, IssueChanges(is_open=True, labels=(), assignees=()))
    assert (bare.title, bare.is_open, bare.labels, bare.assignees) == ("1", True, (), ())
    assert account.forge.update_issue(second.number, IssueChanges(labels=("bug",))).labels == ("bug",)
    assert [one.is_open for one in account.forge.list_issues()] == [True, True]


def test_an_issue_that_cannot_be_written_says_why_and_changes_nothing(account: ForgeAccount):
    made = account.forge.create_issue(NewIssue(title="One"))
    for fields, why in (
        ({"labels": ("unknown",)}, ForgeProblem.UNKNOWN_LABEL),
        ({"assignees": ("nobody",)}, ForgeProblem.UNKNOWN_PERSON),
        ({"body": "x" * 1_048_577}, ForgeProblem.TOO_LONG),
        ({"title": "x" * 257}, ForgeProblem.TOO_LONG),
    ):
        new, changes = NewIssue(**{"title": "Two", **fields}), IssueChanges(**fields)
        assert problem(lambda new=new: account.forge.create_issue(new)) is why
        assert problem(lambda changes=changes: account.forge.update_issue(made.number, changes)) is why
    assert account.forge.list_issues() == (made,)
    account.server.core.delete_issue(account.project, made.number)
    gone = IssueChanges(title="Two")
    assert problem(lambda: account.forge.update_issue(made.number, gone)) is ForgeProblem.NOT_FOUND
    account.project.has_issues = False
    assert problem(account.forge.list_issues) is ForgeProblem.NOT_FOUND


def test_all_pages_of_issues_are_read(account: ForgeAccount):
    author = account.server.core.person("ann")
    for n in range(130):
        account.server.core.open_issue(account.project, author, title=f"Issue {n}")
    found = account.forge.list_issues()
    assert [one.title for one in found] == [f"Issue {n}" for n in range(130)]


def test_threads_of_reviews_are_read_and_answered_and_their_people_s_rights_are_known(
    account: ForgeAccount,
):
    request, server = account.request(), account.server
    for path, line, text, by in (
        ("a", 3, "too long", "ann"),
        ("a", 3, "and \x1b[2Junclear", "eve"),
        ("b", 7, "done?", "bob"),
    ):
        server.remark(account.project, request.number, path, line, text, by)
    resolved = server.remark(account.project, request.number, "c", 1, "a typo", "ann")
    resolved.resolved_by = server.core.person("bob")

    first, second = account.forge.threads(request)

    assert [(one.path, one.line) for one in (first, second)] == [("a", 3), ("b", 7)]
    assert [(one.author, one.text) for one in first.remarks] == [
        ("ann", "too long"),
        ("eve", "and \\u001b[2Junclear"),
    ]
    may = {name: account.forge.may_push(name) for name in ("ann", "bob", "eve", "nobody")}
    assert may == {"ann": True, "bob": True, "eve": False, "nobody": False}

    account.forge.reply(request, second, "done in 1234")
    account.forge.ask_again(request, ["ann"])
    assert [one.text for one in account.forge.threads(request)[1].remarks] == ["done?", "done in 1234"]
    assert account.forge.get(request.number).reviewers == ("ann",)


def test_the_end_of_a_job_s_log_is_read_without_sending_the_token_elsewhere(account: ForgeAccount):
    request = account.request()
    lines = [f"2026-01-01T00:00:00.0000000Z \x1b[31mline {number}\x1b[0m\x07 é" for number in range(100_000)]
    account.server.check(account.project, request.head_sha, "build", "failure", log="\n".join(lines))
    account.server.check(account.project, request.head_sha, "lint", "failure")
    checks = {one.name: one for one in account.forge.checks(request.head_sha)}

    found, none = account.forge.log(checks["build"]), account.forge.log(checks["lint"])

    assert none is None
    assert account.server.violations == []
    if account.is_gitea:
        assert found is None, "it has no call for it"
        return
    assert found is not None
    assert found.splitlines()[-1] == "line 99999\\u0007 é"
    assert len(found.splitlines()) == 200
    account.server.check(account.project, request.head_sha, "build", "failure", log=f"{'x' * 10**6}\nend")
    (again,) = (one for one in account.forge.checks(request.head_sha) if one.name == "build")
    assert len(account.forge.log(again) or "") == 16 * 1024
