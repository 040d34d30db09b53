"""One attempt of a todo that lands or reverts by a pull request, over a test forge and real git."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from coordination.credentials.records import Purpose
from coordination.credentials.references import parse
from coordination.credentials.store import CredentialStore, credentials_file
from coordination.errors import Conflict
from coordination.forges.budget import SHORTEST
from coordination.models import LandStep
from coordination.runs.change_sets.records import RequestRef
from tests.forge.core import Core
from tests.forge.server import TestForge
from tests.request_landing_setup import Proposal, ends, proposal
from tests.testbed import git
from workers.outcome import OutcomeKind

DEFERRED, SUCCEEDED, REFUSED = OutcomeKind.DEFERRED, OutcomeKind.SUCCEEDED, OutcomeKind.REFUSED
GITEA = pytest.mark.parametrize("forge", ["gitea"], indirect=True)


@pytest.fixture
def place(
    forge: TestForge, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Proposal]:
    with proposal(forge, redis_url, tmp_path, monkeypatch) as found:
        yield found


def test_the_merge_queue_merges_a_request_and_its_revert(place: Proposal):
    place.at.protect(place.project, queue=True, dismiss_stale=False)
    ends(place.check(), SUCCEEDED)
    ends(place.land(), DEFERRED)
    ends(place.land(), DEFERRED)
    assert [one.number for one in place.project.queue] == [1]
    assert not place.has_work

    assert place.at.run_queue(place.project) == [1]
    done = ends(place.land(), SUCCEEDED)
    assert place.landed is not None
    assert (place.landed.method, place.landed.commit) == ("merge", place.main())
    assert place.landed.tree_before == place.main("^1^{tree}")

    ends(place.revert(done.output), DEFERRED)
    assert place.at.run_queue(place.project) == [2]
    ends(place.revert(done.output), SUCCEEDED)
    assert not place.has_work
    assert place.landed is None


def test_time_in_the_merge_queue_is_no_part_of_the_patience_with_a_forge(place: Proposal):
    place.at.protect(place.project, queue=True, dismiss_stale=False)
    place.check()
    for _ in range(3):
        place.at.fail(500, times=99)
        ends(place.land(), DEFERRED)
        place.at.faults.clear()
        ends(place.land(), DEFERRED)
        assert [one.number for one in place.project.queue] == [1]
        place.now += timedelta(hours=2)
    place.at.run_queue(place.project)
    ends(place.land(), SUCCEEDED)


@pytest.mark.parametrize("deletes", [True, False])
def test_the_branch_of_a_merged_request_is_deleted_unless_the_setting_forbids_it(
    place: Proposal, deletes: bool
):
    place.check()
    ends(place.land(by={"deletes_branches": deletes}), SUCCEEDED)
    assert ("coord/P" in place.project.bare.branches()) is not deletes
    assert place.request is not None
    assert place.request.seen is not None
    assert place.request.seen.state == "merged", "it is not open any more"
    ends(place.land(by={"deletes_branches": deletes}), SUCCEEDED)
    ends(place.revert(), SUCCEEDED)
    assert not place.has_work


def test_a_branch_that_has_moved_since_its_merge_stays(place: Proposal):
    place.check()
    place.at.merge(place.project, 1)
    place.checkpoint = json.dumps({"merging": place.tip})
    place.at.push(place.project, "coord/P", theirs="1\n")
    ends(place.land(), SUCCEEDED)
    assert "coord/P" in place.project.bare.branches()


@pytest.mark.parametrize("queue", [False, True])
def test_a_request_for_another_base_is_not_merged(place: Proposal, queue: bool):
    """Somebody changes its base at the forge, or the owner of Redis names another request of our branch."""
    place.at.protect(place.project, queue=queue, dismiss_stale=False)
    git(place.target, "branch", "other", "main")
    place.check()
    place.proposed.base = "other"
    before = git(place.target, "rev-parse", "other")

    ended = place.land()

    assert ended.kind is OutcomeKind.REFUSED, ended.error
    assert git(place.target, "rev-parse", "other") == before
    assert place.project.queue == []


def test_a_credential_for_merging_merges(place: Proposal, monkeypatch: pytest.MonkeyPatch):
    place.project.members[place.at.core.person("merger")] = "write"
    monkeypatch.setenv("MERGER", place.at.token("merger"))
    store = CredentialStore(credentials_file())
    store.add("merger", parse("env:MERGER"), purposes=[Purpose.MERGE], hosts=["127.0.0.1"])
    ends(place.check(), SUCCEEDED)
    ends(place.land(), SUCCEEDED)
    merged_by = place.proposed.ended_by
    assert (place.proposed.state, merged_by and merged_by.login) == ("merged", "merger")


def test_a_request_that_the_merge_queue_throws_out_fails_and_takes_nothing_back(place: Proposal):
    place.at.protect(place.project, queue=True, dismiss_stale=False)
    place.check()
    ends(place.land(), DEFERRED)
    place.move_base(work="theirs\n")
    assert place.at.run_queue(place.project) == []

    ends(place.land(), REFUSED, "merge queue")
    ends(place.revert(place.checkpoint), SUCCEEDED)
    assert len(place.project.requests) == 1


def test_a_failure_of_another_repository_takes_a_request_out_of_the_queue(place: Proposal):
    place.at.protect(place.project, queue=True, dismiss_stale=False)
    place.check()
    ends(place.land(), DEFERRED)
    ends(place.revert(place.checkpoint), SUCCEEDED)
    assert place.project.queue == []
    assert (place.proposed.state, place.has_work) == ("open", False)


def test_a_landing_that_is_stopped_while_it_queues_a_request_takes_it_out_again(place: Proposal):
    place.at.protect(place.project, queue=True, dismiss_stale=False)
    place.check()
    stopped = lambda: OutcomeKind.CANCELLED if place.project.queue else None  # noqa: E731
    ends(place.land(by={"stopped": stopped}), OutcomeKind.CANCELLED)
    assert (place.project.queue, place.proposed.state) == ([], "open")
    assert json.loads(place.checkpoint)["queueing"].endswith("/1"), "what coord cancel reads"


def test_a_landing_that_is_cancelled_before_it_queues_a_request_leaves_none_in_the_queue(place: Proposal):
    """The run is cancelled between the look of the attempt and the queue; nobody has told the worker."""
    place.at.protect(place.project, queue=True, dismiss_stale=False)
    place.check()
    recorded = lambda: "queueing" in place.checkpoint  # noqa: E731
    ends(place.land(by={"cancelled": recorded}), OutcomeKind.CANCELLED)
    assert (place.project.queue, place.proposed.state) == ([], "open")
    assert json.loads(place.checkpoint)["queueing"] == "", "the run can be cancelled"


def test_an_undo_whose_token_was_revoked_ends_and_says_how_to_go_on(place: Proposal):
    place.check()
    done, token = ends(place.land(), SUCCEEDED), next(iter(place.at.core.tokens))
    place.checkpoint = ""  # a todo that has succeeded has none
    place.at.revoke(token)
    ends(place.revert(done.output), DEFERRED)
    place.now += timedelta(minutes=59)
    ends(place.revert(done.output), DEFERRED)
    place.now += timedelta(minutes=2)
    words = ("land_patience", "Authentication failed", "coord rollback R2", "--accept")
    ends(place.revert(done.output), REFUSED, *words)
    assert place.has_work

    place.at.core.tokens[token].revoked = False
    place.checkpoint = ""  # coord rollback begins anew
    ends(place.revert(done.output), SUCCEEDED)
    assert not place.has_work


def test_a_revert_that_the_merge_queue_throws_out_is_left_to_people(place: Proposal):
    """An undo keeps no record of its own: the age of the commit tells."""
    place.check()
    done = ends(place.land(), SUCCEEDED)
    place.at.protect(place.project, queue=True, dismiss_stale=False)
    ends(place.revert(done.output), DEFERRED)
    place.project.queue.clear()
    place.now += timedelta(hours=2)
    ends(place.revert(done.output), REFUSED, "/2")
    assert place.project.queue == []


def test_a_revert_that_waits_for_reviews_is_queued_afterwards_and_thrown_out_only_once(place: Proposal):
    place.check()
    ends(place.land(), SUCCEEDED)
    place.at.protect(place.project, queue=True, approvals=1, dismiss_stale=False)
    ends(place.revert(step="open"), SUCCEEDED)
    ends(place.revert(step="open"), SUCCEEDED)
    assert (len(place.project.requests), place.has_work) == (2, True)
    ends(place.revert(when_ready=True), DEFERRED, "0 of 1 approval")
    place.now += timedelta(days=9)
    ends(place.revert(when_ready=True), DEFERRED, "0 of 1 approval")
    place.at.approve(place.project, 2)
    ends(place.revert(when_ready=True), DEFERRED)
    assert [one.number for one in place.project.queue] == [2]
    place.project.queue.clear()
    ends(place.revert(when_ready=True), REFUSED, "/2")


def test_a_revert_that_somebody_closes_is_not_waited_for(place: Proposal):
    place.check()
    ends(place.land(), SUCCEEDED)
    place.at.protect(place.project, approvals=1, dismiss_stale=False)
    ends(place.revert(when_ready=True), DEFERRED)
    place.at.close(place.project, 2)
    ends(place.revert(when_ready=True), REFUSED, "/2")


def test_a_revert_whose_check_ends_between_the_look_at_it_and_at_its_checks_is_merged(
    place: Proposal, monkeypatch: pytest.MonkeyPatch
):
    place.check()
    done = ends(place.land(), SUCCEEDED)
    place.at.protect(place.project, checks=("build",), dismiss_stale=False)
    ends(place.revert(done.output), DEFERRED)
    fault = place.at.fault

    def ends_now(request: str) -> object:
        if "/commits/" in request:
            place.at.core.set_check(place.project, place.proposed.sha, "build", "success", run=True)
        return fault(request)

    monkeypatch.setattr(place.at, "fault", ends_now)
    ends(place.revert(done.output), SUCCEEDED)
    assert not place.has_work


def test_the_first_look_at_a_request_leaves_room_for_those_at_the_others(place: Proposal):
    place.at.protect(place.project, approvals=1)
    alone = ends(place.check(approvals=1, when_ready=True), DEFERRED)
    assert alone.again == SHORTEST
    place.sibling_todos = 100
    held = ends(place.check(approvals=1, when_ready=True), DEFERRED)
    assert held.again is not None
    assert held.again > SHORTEST


def test_an_approval_survives_the_base_that_coord_merges_in_and_no_push_of_a_person(place: Proposal):
    place.at.protect(place.project, approvals=1, up_to_date=True, dismiss_stale=False)
    wanted = {"approvals": 1, "when_ready": True}
    ends(place.check(**wanted), DEFERRED, "0 of 1 approval")
    place.at.approve(place.project, 1)
    place.move_base()
    ends(place.check(**wanted), DEFERRED)
    updated = place.proposed.sha
    assert updated != place.tip
    assert git(place.target, "rev-parse", f"{updated}^1", f"{updated}^2").split() == [place.tip, place.main()]
    ends(place.check(**wanted), SUCCEEDED)

    theirs = place.at.push(place.project, "coord/P", theirs="1\n")
    ends(place.land(**wanted), REFUSED)
    ends(place.check(**wanted), REFUSED, "coord plan adopt")
    assert not place.has_work

    place.project.bare.move("coord/P", updated, theirs)
    ends(place.land(**wanted), SUCCEEDED)
    assert (place.has_work, place.main("^2")) == (True, updated)


def test_a_request_that_is_not_ready_is_refused_with_what_it_lacks(place: Proposal):
    place.at.protect(place.project, checks=("build",), dismiss_stale=False)
    ends(place.check(approvals=1, when_ready=True), DEFERRED)
    ends(place.check(approvals=1), REFUSED, "0 of 1 approval", "build", "--when-ready")
    waiting = place.store.keys.forge_waiting("127.0.0.1")
    assert place.store.redis.zcard(waiting) == 0, "a refused request slows down no other one"
    assert place.request is not None, "it is opened nevertheless"


@pytest.mark.parametrize("method", ["merge", "squash", "rebase"])
@pytest.mark.parametrize("forge", ["github", "gitlab", "gitea"], indirect=True)
def test_what_a_forge_has_merged_is_found_on_the_base_and_taken_out_whole(place: Proposal, method: str):
    if (place.at.dialect.name, method) == ("gitlab", "rebase"):
        place.project.methods = ["rebase", "squash"]  # a setting of the project at GitLab
    git(place.checkout, "checkout", "-q", "coord/P")
    (place.checkout / "README").write_text("r\nmore\n")
    git(place.checkout, "commit", "-qam", "more")
    place.tip = git(place.checkout, "rev-parse", "HEAD")
    git(place.checkout, "checkout", "-q", "main")
    place.move_base()
    before = place.main("^{tree}")
    place.check(method=method)
    ends(place.land(method=method), SUCCEEDED)
    assert place.landed is not None
    assert (place.landed.tree_before, place.landed.method) == (before, method)
    assert len(place.commits()) == (4 if method == "rebase" else 3)

    look = lambda: place.take(LandStep.LANDED, method=method, stated=True)  # noqa: E731
    assert ends(look(), SUCCEEDED).tip == place.main()
    landed, lost = place.main(), git(place.target, "commit-tree", "-p", "main", "-m", "lost", before)
    place.project.bare.move("main", lost, landed)
    ends(look(), REFUSED)
    place.project.bare.move("main", landed, lost)

    ends(place.revert(), SUCCEEDED)
    assert place.main("^{tree}") == before


@pytest.mark.parametrize("brought", ["merged", "merged by other words", "resolved", "rebased"])
@pytest.mark.parametrize("forge", ["gitlab"], indirect=True)
def test_a_fast_forward_by_people_is_taken_out_without_the_work_of_others(place: Proposal, brought: str):
    place.project.methods = ["rebase", "squash"]
    place.check(method="rebase")
    place.move_base(elsewhere="x\n", **({"work": "theirs\n"} if brought == "resolved" else {}))
    before = place.main("^{tree}")
    git(place.checkout, "fetch", "-q", str(place.target), "main")
    git(place.checkout, "checkout", "-q", "--detach", place.tip)
    if brought == "rebased":
        git(place.checkout, "rebase", "-q", "FETCH_HEAD")
    else:
        words = "Update" if "other words" in brought else "Merge branch 'main' into 'coord/P'"
        ours = ("-s", "ours", "--no-commit") if brought == "resolved" else ()
        git(place.checkout, "merge", "-q", *ours, "-m", words, "FETCH_HEAD")
        if brought == "resolved":
            (place.checkout / "elsewhere").write_text("x\n")
            git(place.checkout, "add", "elsewhere")
            git(place.checkout, "commit", "-qm", words)
    git(place.checkout, "push", "-qf", str(place.target), f"HEAD:{place.proposed.head}")
    git(place.checkout, "checkout", "-q", "main")
    place.at.merge(place.project, 1, method="ff")

    ends(place.land(method="rebase"), SUCCEEDED)
    assert place.landed is not None
    assert (place.landed.method, place.landed.tree_before) == ("people", before)
    ends(place.revert(), SUCCEEDED)
    assert place.main("^{tree}") == before


def test_a_request_that_conflicts_since_it_was_ready_is_refused(place: Proposal):
    place.check()
    place.move_base(work="theirs\n")
    ends(place.land(), REFUSED, "coord plan resolve P r")


@pytest.mark.parametrize("step", [LandStep.CHECK, LandStep.LAND])
def test_a_request_brings_no_commit_back_that_people_took_out_since_it_was_ready(
    place: Proposal, step: LandStep
):
    kept = place.base
    place.begin_at_a_new_commit()
    git(place.checkout, "push", "-q", str(place.target), f"{place.base}:main")
    place.check()
    git(place.target, "update-ref", "refs/heads/main", kept)
    ends(place.take(step), REFUSED, "--fresh")
    assert place.main() == kept


def test_a_merge_that_the_forge_refuses_is_tried_again_until_patience_ends(place: Proposal):
    place.check()
    place.at.fail(405, times=9, only="PUT .*/merge$")
    ends(place.land(), DEFERRED)
    place.now += timedelta(hours=2)
    ends(place.land(), REFUSED, "land_patience")
    assert not place.has_work


def test_a_revert_that_needs_a_review_is_left_open_until_people_have_merged_it(place: Proposal):
    place.check()
    ends(place.land(), SUCCEEDED)
    place.at.protect(place.project, approvals=1)
    ends(place.revert(), REFUSED, "/2", "coord revert P")
    assert place.landed is not None
    assert place.landed.revert.endswith("/2"), "told by `coord changes`"
    assert place.has_work
    place.at.approve(place.project, 2)
    place.at.merge(place.project, 2)
    ends(place.revert(), SUCCEEDED)
    assert (place.has_work, len(place.project.requests)) == (False, 2)
    assert place.reverted is not None
    assert place.reverted.request.endswith("/2")


@pytest.mark.parametrize("step", [LandStep.CHECK, LandStep.LAND])
def test_a_long_rate_limit_is_waited_out_without_a_worker(place: Proposal, step: LandStep):
    place.check()
    place.at.fail("secondary", times=1, retry_after=600)
    began = time.monotonic()
    held = ends(place.take(step), DEFERRED)
    assert time.monotonic() - began < 60
    assert held.again is not None
    assert timedelta(seconds=400) < held.again < timedelta(seconds=800)
    ends(place.take(step), SUCCEEDED)


@GITEA
def test_gitea_that_still_computes_is_asked_again(place: Proposal):
    place.check()
    place.at.core.computes_at_once = False
    for step in (LandStep.CHECK, LandStep.LAND):
        place.move_base(elsewhere=step)
        ends(place.take(step), DEFERRED)
        ends(place.take(step), SUCCEEDED)
    assert place.has_work


@GITEA
def test_gitea_that_wants_the_tip_of_the_base_gets_it(place: Proposal):
    place.project.members[place.at.core.person("coord")] = "admin"  # others may not read this rule
    place.at.protect(place.project, up_to_date=True)
    place.check()
    place.move_base()
    ends(place.check(), DEFERRED)
    assert place.proposed.sha != place.tip
    ends(place.check(), SUCCEEDED)
    ends(place.land(), SUCCEEDED)


@GITEA
def test_a_conflict_that_only_gitea_sees_is_waited_for_with_patience(
    place: Proposal, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(Core, "mergeable", lambda *_: False)
        ends(place.check(), DEFERRED)
        place.now += timedelta(hours=2)
        ends(place.check(), REFUSED, "land_patience")
    place.move_base(work="theirs\n")
    ends(place.check(when_ready=True), REFUSED, "coord plan resolve")


@GITEA
@pytest.mark.parametrize("proposed", [False, True])
def test_a_tip_is_not_pushed_to_a_branch_that_redis_alone_names_as_that_of_the_request(
    place: Proposal, proposed: bool
):
    git(place.target, "branch", "production", "main")
    before = git(place.target, "rev-parse", "production")
    if proposed:  # the request is as it should be, and coord has to merge the base into its branch
        place.project.members[place.at.core.person("coord")] = "admin"  # others may not read this rule
        place.at.protect(place.project, up_to_date=True)
        place.check()
        place.move_base()
    else:
        place.at.push(place.project, "agent", theirs="x\n")
        place.at.open_request(place.project, "agent", "Of somebody else")
    place.request = RequestRef(
        number=1, url="x", name="x", head=place.tip, by="x", at="x", branch="production"
    )

    ends(place.check(), REFUSED)
    assert git(place.target, "rev-parse", "production") == before


@GITEA
def test_a_tip_is_not_pushed_to_the_base_branch_that_redis_names_as_that_of_the_request(place: Proposal):
    place.request = RequestRef(number=1, url="x", name="x", head=place.tip, by="x", at="x", branch="main")
    before = place.main()

    ends(place.check(), REFUSED)
    place.project.requests.clear()
    place.request = place.request.model_copy(update={"number": 99})
    with pytest.raises(Conflict), place.forges().target("P", place.repo, place.change, place.checkout):
        pass
    assert place.main() == before
