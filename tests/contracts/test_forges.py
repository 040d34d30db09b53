"""The conformance suite of forges: each dialect, against a test forge over real git and HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from coordination.forges.connect import open_forge
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
class Ground:
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
        return open_forge(address, token, patience=patience)

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
def ground(forge: TestForge) -> Iterator[Ground]:
    project, token = forge.create_project("acme/api"), forge.token()
    ground = Ground(forge, project, token, None)  # type: ignore[arg-type]
    ground.forge = ground.connect(token)
    yield ground
    ground.forge.close_connection()


def problem(call: Callable[[], object]) -> ForgeProblem:
    """Return the problem of a call; its words are printable, bounded and without the token."""
    with pytest.raises(ForgeError) as caught:
        call()
    words = str(caught.value).replace("\n", "")
    assert words.isprintable()
    assert len(words) < 1500
    assert "-secret" not in words
    return caught.value.problem


def test_a_repository_is_described_with_the_rights_of_the_token(ground: Ground):
    ground.project.methods = ["merge", "squash"]
    own, readers = ground.forge.repository(), ground.connect(ground.server.token("eve")).repository()

    assert (own.project, own.default_branch, own.archived) == ("acme/api", "main", False)
    assert own.methods == (MergeMethod.MERGE, MergeMethod.SQUASH)
    assert (own.can_push, own.can_merge, readers.can_push, readers.can_merge) == (True, True, False, False)


def test_a_request_is_opened_found_changed_and_closed(ground: Ground):
    assert ground.forge.find(BRANCH) is None
    made = ground.request(draft=True)
    head = ground.server.tip("acme/api", BRANCH)

    assert (made.number, made.head, made.base, made.head_sha) == (1, BRANCH, "main", head)
    assert (made.title, made.body, made.state, made.author) == ("One", "Body", RequestState.DRAFT, "coord")
    assert made.head_project == "acme/api"
    assert ground.forge.set_draft(made, draft=False).state is RequestState.OPEN
    assert ground.forge.get(1).state is RequestState.OPEN
    assert ground.forge.set_draft(ground.forge.get(1), draft=True).state is RequestState.DRAFT

    changes = RequestChanges(
        title="Two", body="Changed", labels=("coord",), assignees=("ann",), reviewers=("bob",)
    )
    ground.forge.update(ground.forge.get(1), changes)
    found = ground.forge.find(BRANCH)
    assert found is not None
    assert (found.title, found.body, found.state) == ("Two", "Changed", RequestState.DRAFT)
    assert (found.labels, found.assignees, found.reviewers) == (("coord",), ("ann",), ("bob",))
    ground.forge.comment(1, "A comment")
    assert ground.project.requests[0].comments[0][1] == "A comment"

    assert ground.forge.close(1).state is RequestState.CLOSED
    assert ground.forge.close(1).state is RequestState.CLOSED
    closed = ground.forge.find(BRANCH)
    assert closed is not None
    assert closed.state is RequestState.CLOSED


def test_the_open_request_of_a_branch_is_found_before_a_later_closed_one(ground: Ground):
    ground.request()
    ground.server.push(ground.project, "other", other="1\n")
    second = ground.forge.create(NewRequest(head=BRANCH, base="other", title="Two"))
    ground.forge.close(second.number)
    found = ground.forge.find(BRANCH)
    assert found is not None
    assert found.number == 1


def test_changes_add_labels_and_people_and_take_none_away(ground: Ground):
    made = ground.request()
    ground.project.requests[0].labels = ["bug"]
    ground.forge.update(ground.forge.get(made.number), RequestChanges(labels=("coord",), reviewers=("ann",)))
    found = ground.forge.update(ground.forge.get(made.number), RequestChanges(reviewers=("bob",)))
    assert set(found.labels) == {"bug", "coord"}
    assert set(found.reviewers) == {"ann", "bob"}


def test_mergeability_is_computed_by_git_and_unknown_at_first(ground: Ground):
    first = ground.request()
    assert not first.mergeable
    assert ground.known(first.number).mergeable is True
    ground.server.push(ground.project, "main", **{"work-one": "theirs\n"})
    assert ground.known(first.number).mergeable is False


@pytest.mark.parametrize("method", [MergeMethod.MERGE, MergeMethod.SQUASH, MergeMethod.REBASE])
def test_a_merge_is_a_commit_of_its_method_on_the_base_branch(ground: Ground, method: MergeMethod):
    if method is MergeMethod.REBASE and ground.is_gitlab:
        ground.project.methods = ["rebase", "squash"]  # a setting of the project at GitLab
    made = ground.request()
    ground.server.push(ground.project, BRANCH, two="2\n")
    bare = ground.project.bare
    found = ground.known(made.number)
    before = ground.server.tip("acme/api")
    commit = ground.merge(found, method)

    assert commit == ground.server.tip("acme/api")
    assert bare.git("ls-tree", "--name-only", "main").split() == ["README.md", "two", "work-one"]
    commits = {MergeMethod.MERGE: 3, MergeMethod.SQUASH: 1, MergeMethod.REBASE: 2}[method]
    assert len(bare.git("rev-list", f"{before}..main").split()) == commits
    merged = ground.forge.get(made.number)
    assert (merged.state, merged.merge_commit) == (RequestState.MERGED, commit)
    assert problem(lambda: ground.merge(found, method)) is ForgeProblem.CLOSED
    assert problem(lambda: ground.forge.close(made.number)) is ForgeProblem.CLOSED
    assert ground.server.tip("acme/api") == commit


def test_a_merge_with_another_head_than_expected_changes_nothing(ground: Ground):
    made = ground.known(ground.request().number)
    ground.server.push(ground.project, BRANCH, evil="1\n")
    ground.known(made.number)
    before = ground.server.tip("acme/api")
    assert problem(lambda: ground.merge(made)) is ForgeProblem.HEAD_MOVED
    assert ground.server.tip("acme/api") == before


def test_a_merge_that_the_forge_refuses_is_not_mergeable(ground: Ground):
    draft = ground.known(ground.request(draft=True).number)
    assert problem(lambda: ground.merge(draft)) is ForgeProblem.NOT_MERGEABLE
    ground.forge.set_draft(draft, draft=False)

    ground.server.protect(ground.project, approvals=1, checks=("ci",))
    assert bool(ground.forge.get(draft.number).blocked) is not ground.is_gitea, "which says it of no request"
    assert problem(lambda: ground.merge(draft)) is ForgeProblem.NOT_MERGEABLE
    ground.server.approve(ground.project, draft.number)
    ground.server.check(ground.project, draft.head_sha, "ci", "failure")
    assert problem(lambda: ground.merge(draft)) is ForgeProblem.NOT_MERGEABLE
    ground.server.check(ground.project, draft.head_sha, "ci", "success")
    assert not ground.forge.get(draft.number).blocked
    assert ground.merge(draft) == ground.server.tip("acme/api")

    other = ground.request("work/two")
    ground.server.push(ground.project, "theirs", **{"work-two": "theirs\n"})
    ground.server.merge(ground.project, _open_by_people(ground, "theirs"))
    assert ground.known(other.number).mergeable is False
    assert problem(lambda: ground.merge(other)) is ForgeProblem.NOT_MERGEABLE


def _open_by_people(ground: Ground, branch: str) -> int:
    ground.server.protect(ground.project, locked=False)
    bob = ground.server.core.person("bob")
    made = ground.server.core.open_request(
        ground.project, bob, head=branch, base="main", title="Theirs", body="", draft=False, empty=False
    )
    return made.number


def test_reviews_are_the_last_verdict_of_each_person(ground: Ground):
    made = ground.request()
    ground.server.request_changes(ground.project, made.number, by="ann")
    ground.server.approve(ground.project, made.number, by="bob")
    ground.server.approve(ground.project, made.number, by="ann")
    ground.server.review(ground.project, made.number, "commented", by="ann")
    found = {one.author: one for one in ground.forge.reviews(made.number)}

    assert {name: one.state for name, one in found.items()} == {
        "ann": ReviewState.APPROVED,
        "bob": ReviewState.APPROVED,
    }
    assert {one.head for one in found.values()} == {"" if ground.is_gitlab else made.head_sha}


def test_a_push_takes_approvals_back_where_the_rule_says_so(ground: Ground):
    ground.server.protect(ground.project, approvals=1)
    made = ground.request()
    ground.server.approve(ground.project, made.number)
    ground.server.push(ground.project, BRANCH, more="1\n")
    (review,) = ground.forge.reviews(made.number)
    assert review.state is ReviewState.DISMISSED
    assert bool(ground.known(made.number).blocked) is not ground.is_gitea


def test_checks_are_the_newest_state_of_each_name(ground: Ground):
    made = ground.request()
    assert ground.forge.checks(made.head_sha) == ()
    for name, state in (("ci", "failure"), ("ci", "success"), ("lint", "failure"), ("slow", "pending")):
        ground.server.check(ground.project, made.head_sha, name, state)
    status = CommitStatus(context="coord/depends", state=CheckState.PENDING, description="waits")
    ground.forge.set_status(made.head_sha, status)
    ground.forge.set_status(made.head_sha, status)
    found = {one.name: one.state for one in ground.forge.checks(made.head_sha) if one.name != "pipeline"}

    assert found == {
        "ci": CheckState.SUCCESS,
        "coord/depends": CheckState.PENDING,
        "lint": CheckState.FAILURE,
        "slow": CheckState.PENDING,
    }
    ground.forge.set_status(made.head_sha, status.model_copy(update={"state": CheckState.SUCCESS}))
    assert CheckState.SUCCESS in {
        one.state for one in ground.forge.checks(made.head_sha) if one.name == "coord/depends"
    }


def test_a_request_that_depends_on_others_can_be_held_up_by_the_status_of_coord(ground: Ground):
    ground.server.protect(ground.project, checks=(DEPENDS,), dismiss_stale=False)
    made = ground.known(ground.request().number)
    pending = CommitStatus(context=DEPENDS, state=CheckState.PENDING, description="waits for text")
    ground.forge.set_status(made.head_sha, pending)
    assert problem(lambda: ground.merge(made)) is ForgeProblem.NOT_MERGEABLE

    now = ground.forge.get(made.number)
    checks, rules = ground.forge.checks(made.head_sha), ground.forge.protection("main")
    seen = ObservedRequest(request=now, heads=(made.head_sha,), checks=checks, reviews=(), protection=rules)
    assert missing_of(seen, Requirements()) == (), "coord does not wait for itself"
    ground.forge.set_status(made.head_sha, pending.model_copy(update={"state": CheckState.SUCCESS}))
    assert ground.merge(made) == ground.server.tip("acme/api")


def test_lists_of_several_pages_are_whole(ground: Ground):
    made = ground.request()
    for n in range(130):
        ground.server.check(ground.project, made.head_sha, f"check-{n:03}", "success")
    assert len([one for one in ground.forge.checks(made.head_sha) if one.name != "pipeline"]) == 130
    calls = ground.server.calls("check-runs" if ground.is_github else "/statuses")
    assert len([one for one in calls if one.method == "GET"]) == (3 if ground.is_gitea else 2)


@pytest.mark.parametrize("ruleset", [True, False])
def test_the_rules_of_a_branch_are_read(ground: Ground, ruleset: bool):
    assert ground.forge.protection("main").approvals == 0
    ground.server.protect(ground.project, approvals=2, checks=("ci",), ruleset=ruleset)
    found = ground.connect(ground.server.token("bob")).protection("main")
    assert found.approvals == 2
    assert found.checks == (() if ground.is_gitlab else ("ci",))
    assert found.all_checks is ground.is_gitlab
    if ground.is_github:  # classic protection shows its checks only to those without admin rights
        assert ground.forge.protection("main").checks == ("ci",)
        assert ground.forge.protection("main").approvals == (2 if ruleset else 0)


def test_a_branch_with_a_merge_queue_takes_requests_through_it(ground: Ground):
    made = ground.known(ground.request().number)
    assert (
        problem(lambda: ground.forge.enqueue(made, expected_head=made.head_sha)) is ForgeProblem.UNSUPPORTED
    )
    if ground.is_gitea:
        return
    ground.server.protect(ground.project, queue=True)
    assert ground.forge.protection("main").queue
    if ground.is_github:  # GitLab merges beside its train
        assert problem(lambda: ground.merge(made)) is ForgeProblem.QUEUE_ONLY

    old = made.head_sha
    ground.server.push(ground.project, BRANCH, more="1\n")
    assert problem(lambda: ground.forge.enqueue(made, expected_head=old)) is ForgeProblem.HEAD_MOVED
    moved = ground.forge.get(made.number)
    ground.forge.enqueue(moved, expected_head=moved.head_sha)
    assert ground.server.run_queue(ground.project) == [1]
    assert ground.forge.get(1).merge_commit == ground.server.tip("acme/api")


def test_people_who_merge_close_or_delete_meanwhile_are_seen(ground: Ground):
    numbers = [ground.request(f"work/{n}").number for n in range(3)]
    commit = ground.server.merge(ground.project, numbers[0])
    ground.server.close(ground.project, numbers[1])
    ground.server.delete_branch(ground.project, "work/2")
    merged, closed, deleted = (ground.forge.get(number) for number in numbers)

    assert (merged.state, merged.merge_commit) == (RequestState.MERGED, commit)
    assert (closed.state, deleted.state) == (RequestState.CLOSED, RequestState.CLOSED)
    assert problem(lambda: ground.merge(closed)) is ForgeProblem.CLOSED


def test_a_request_that_cannot_be_opened_says_why(ground: Ground):
    def opening(**fields: str) -> ForgeProblem:
        new = NewRequest(**{"head": BRANCH, "base": "main", "title": "One", **fields})
        return problem(lambda: ground.forge.create(new))

    assert opening() is ForgeProblem.NO_BRANCH
    ground.request()
    assert opening() is ForgeProblem.ALREADY_EXISTS
    assert opening(base="absent", head="main") is ForgeProblem.NO_BRANCH
    assert opening(body="x" * (ground.forge.longest_body + 1)) is ForgeProblem.TOO_LONG
    ground.project.bare.git("branch", "same", "main")
    if ground.is_github:  # GitLab opens a request without changes
        assert opening(head="same") is ForgeProblem.NO_DIFFERENCE
    assert len([one for one in ground.project.requests if one.head == BRANCH]) == 1


def test_unknown_labels_and_people_are_refused_by_name_and_made_by_nobody(ground: Ground):
    made = ground.request()
    for changes, expected in (
        (RequestChanges(labels=("absent",)), ForgeProblem.UNKNOWN_LABEL),
        (RequestChanges(reviewers=("nobody",)), ForgeProblem.UNKNOWN_PERSON),
        (RequestChanges(assignees=("nobody",)), ForgeProblem.UNKNOWN_PERSON),
    ):
        assert problem(lambda changes=changes: ground.forge.update(made, changes)) is expected
    long = RequestChanges(body="x" * (ground.forge.longest_body + 1))
    assert problem(lambda: ground.forge.update(made, long)) is ForgeProblem.TOO_LONG
    assert "absent" not in ground.project.labels
    assert ground.forge.get(made.number).body == "Body"


def test_a_token_that_is_wrong_or_revoked_is_told_from_one_without_rights(ground: Ground):
    made = ground.request()
    reader = ground.connect(ground.server.token("eve"))
    stranger = ground.connect(ground.server.token("mallory"))
    assert problem(ground.connect("wrong-secret").repository) is ForgeProblem.UNAUTHORIZED
    assert problem(stranger.repository) is ForgeProblem.NOT_FOUND
    assert problem(lambda: reader.close(made.number)) in (ForgeProblem.FORBIDDEN, ForgeProblem.NOT_FOUND)
    merging = lambda: reader.merge(made.number, expected_head=made.head_sha, method=MergeMethod.MERGE)  # noqa: E731
    assert problem(merging) is ForgeProblem.FORBIDDEN
    opening = lambda: reader.create(NewRequest(head=BRANCH, base="main", title="Two"))  # noqa: E731
    assert problem(opening) in (ForgeProblem.FORBIDDEN, ForgeProblem.FORK_NEEDED)

    ground.server.revoke(ground.token)
    assert problem(lambda: ground.forge.get(made.number)) is ForgeProblem.UNAUTHORIZED
    assert problem(lambda: ground.merge(made)) is ForgeProblem.UNAUTHORIZED


def test_an_absent_archived_or_renamed_repository_is_named(ground: Ground):
    made = ground.request()
    assert problem(ground.connect(ground.token, "acme/absent").repository) is ForgeProblem.NOT_FOUND
    assert problem(lambda: ground.forge.get(99)) is ForgeProblem.NOT_FOUND
    ground.project.archived = True
    assert ground.forge.repository().archived
    refused = problem(lambda: ground.forge.comment(made.number, "x"))
    assert refused is (ForgeProblem.FORBIDDEN if ground.is_gitlab else ForgeProblem.ARCHIVED)
    ground.project.archived = False

    ground.server.rename(ground.project, "acme/renamed")
    with pytest.raises(ForgeError, match="acme/renamed") as caught:
        ground.forge.repository()
    assert caught.value.problem is ForgeProblem.RENAMED
    before = ground.server.tip("acme/api")
    assert problem(lambda: ground.merge(made)) in (ForgeProblem.RENAMED, ForgeProblem.NOT_MERGEABLE)
    assert ground.server.tip("acme/api") == before


def test_an_empty_list_under_a_rate_limit_is_an_error(ground: Ground):
    made = ground.request()
    ground.server.remaining = 0
    with pytest.raises(ForgeError) as caught:
        ground.forge.checks(made.head_sha)
    assert caught.value.problem is ForgeProblem.RATE_LIMIT
    assert caught.value.problem in PASSING
    assert caught.value.retry_at is not None
    assert timedelta() < caught.value.retry_at - datetime.now(UTC) <= timedelta(hours=1, seconds=5)
    count = len(ground.server.seen)
    assert problem(lambda: ground.forge.reviews(made.number)) is ForgeProblem.RATE_LIMIT
    assert len(ground.server.seen) == count, "asked again before the limit ends"


def test_a_short_limit_is_waited_for_also_by_a_merge(ground: Ground):
    made = ground.known(ground.request().number)
    patient = ground.connect(ground.token, patience=timedelta(seconds=20))
    ground.server.fail("secondary", only="/merge$", retry_after=1)
    merged = patient.merge(made.number, expected_head=made.head_sha, method=MergeMethod.MERGE)
    assert merged.commit == ground.server.tip("acme/api")
    ground.server.fail("secondary", retry_after=900)
    assert problem(lambda: patient.get(made.number)) in LIMITS


@pytest.mark.parametrize("offset", [timedelta(days=-2), timedelta(days=2)])
def test_a_forge_whose_clock_is_wrong_sets_no_wrong_pause(ground: Ground, offset: timedelta):
    made = ground.request()
    ground.server.set_clock(offset)
    ground.server.remaining = 0
    with pytest.raises(ForgeError) as caught:
        ground.forge.get(made.number)
    assert caught.value.retry_at is not None
    assert timedelta() < caught.value.retry_at - datetime.now(UTC) <= timedelta(hours=1, seconds=5)


def test_reads_are_repeated_after_trouble_of_the_forge_and_writes_are_not(ground: Ground):
    made = ground.known(ground.request().number)
    patient = ground.connect(ground.token, patience=timedelta(seconds=30))
    ground.server.fail(502, times=2)
    assert patient.get(made.number).number == made.number

    ground.server.fail(502, only="/merge$")
    merging = lambda: patient.merge(made.number, expected_head=made.head_sha, method=MergeMethod.MERGE)  # noqa: E731
    assert problem(merging) is ForgeProblem.SERVER
    ground.server.fail("lost", only="/merge$")
    assert problem(merging) is ForgeProblem.UNREACHABLE
    assert ground.forge.get(made.number).merge_commit == ground.server.tip("acme/api")
    asked = [one for one in ground.server.seen if one.path.endswith("/merge")]
    assert [one.status for one in asked] == [502, 200], "a merge was asked for again"


def test_a_broken_answer_and_an_absent_forge_are_told_apart(ground: Ground):
    made = ground.request()
    for kind in ("broken", "huge"):
        ground.server.fail(kind)
        assert problem(lambda: ground.forge.get(made.number)) is ForgeProblem.BROKEN_ANSWER
    ground.server.fail("hostile")
    assert problem(lambda: ground.forge.close(made.number)) is ForgeProblem.INVALID
    ground.server.away = True
    assert problem(lambda: ground.forge.get(made.number)) is ForgeProblem.UNREACHABLE


def test_unchanged_lists_cost_conditional_requests_only(ground: Ground):
    made = ground.known(ground.request().number)
    ground.server.check(ground.project, made.head_sha, "ci", "success")

    def look() -> list[object]:
        forge = ground.forge
        found = forge.find(BRANCH), forge.get(made.number), forge.reviews(made.number)
        return [*found, forge.checks(made.head_sha), forge.protection("main")]

    first = look()
    spent, count = ground.server.core.tokens[ground.token].used, len(ground.server.seen)
    assert look() == first
    again = ground.server.seen[count:]
    if not ground.is_gitea:  # which has no ETags
        assert {one.status for one in again if "approval_rules" not in one.path} == {304}
        assert all(one.conditional for one in again)
    if ground.is_github:  # at GitLab a conditional request counts as any other
        assert ground.server.core.tokens[ground.token].used == spent
    ground.server.approve(ground.project, made.number)
    assert look() != first


def test_issues_are_created_listed_changed_and_closed(ground: Ground):
    first = ground.forge.create_issue(NewIssue(title="One", body="Body", labels=("bug",), assignees=("ann",)))
    second = ground.forge.create_issue(NewIssue(title="Two"))
    ground.request()

    assert (first.title, first.body, first.is_open) == ("One", "Body", True)
    assert (first.labels, first.assignees) == (("bug",), ("ann",))
    assert ground.forge.list_issues() == (first, second), "requests are no issues"

    changes = IssueChanges(title="1", body="", is_open=False, labels=("coord",), assignees=("bob", "ann"))
    changed = ground.forge.update_issue(first.number, changes)
    assert (changed.title, changed.body, changed.is_open) == ("1", "", False)
    assert (changed.labels, set(changed.assignees)) == (("coord",), {"ann", "bob"})
    bare = ground.forge.update_issue(first.number, IssueChanges(is_open=True, labels=(), assignees=()))
    assert (bare.title, bare.is_open, bare.labels, bare.assignees) == ("1", True, (), ())
    assert ground.forge.update_issue(second.number, IssueChanges(labels=("bug",))).labels == ("bug",)
    assert [one.is_open for one in ground.forge.list_issues()] == [True, True]


def test_an_issue_that_cannot_be_written_says_why_and_changes_nothing(ground: Ground):
    made = ground.forge.create_issue(NewIssue(title="One"))
    for fields, why in (
        ({"labels": ("unknown",)}, ForgeProblem.UNKNOWN_LABEL),
        ({"assignees": ("nobody",)}, ForgeProblem.UNKNOWN_PERSON),
        ({"body": "x" * 1_048_577}, ForgeProblem.TOO_LONG),
        ({"title": "x" * 257}, ForgeProblem.TOO_LONG),
    ):
        new, changes = NewIssue(**{"title": "Two", **fields}), IssueChanges(**fields)
        assert problem(lambda new=new: ground.forge.create_issue(new)) is why
        assert problem(lambda changes=changes: ground.forge.update_issue(made.number, changes)) is why
    assert ground.forge.list_issues() == (made,)
    ground.server.core.delete_issue(ground.project, made.number)
    gone = IssueChanges(title="Two")
    assert problem(lambda: ground.forge.update_issue(made.number, gone)) is ForgeProblem.NOT_FOUND
    ground.project.has_issues = False
    assert problem(ground.forge.list_issues) is ForgeProblem.NOT_FOUND


def test_all_pages_of_issues_are_read(ground: Ground):
    author = ground.server.core.person("ann")
    for n in range(130):
        ground.server.core.open_issue(ground.project, author, title=f"Issue {n}")
    found = ground.forge.list_issues()
    assert [one.title for one in found] == [f"Issue {n}" for n in range(130)]
