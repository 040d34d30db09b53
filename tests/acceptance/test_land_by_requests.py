"""Stories: pull requests of a plan are merged together, in order, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.forge_sites import BRANCH, Site, site
from tests.stage import PLAN, Stage, git
from tests.waiting import until


def test_requests_are_reviewed_and_mended_and_merged_in_order(stage: Stage, tmp_path: Path):
    with site(stage, tmp_path / "forge", "github", "abcd", approvals=1) as at:
        at.forge.protect(at.projects["c"], checks=("build",))
        refused = at.land()
        assert refused.code == 3, "a token and a known forge: by pull requests, and they are not ready"
        assert at.landed() == [False] * 4

        landing = at.begin()
        at.waits_for("a", "0 of 1 approval")
        at.approve(*"abd")
        build = at.request("c")
        at.forge.check(at.projects["c"], build.sha, "build", "failure")
        at.forge.approve(at.projects["c"], build.number)
        at.waits_for("c", "red: build")
        statuses = {name: at.status(name, "coord/depends") for name in "abcd"}
        assert statuses == {"a": []} | {name: ["pending"] for name in "bcd"}
        assert at.landed() == [False] * 4, "nothing merges before everything can"
        assert "Depends on acme/a#1" in at.request("b").body

        at.forge.check(at.projects["c"], build.sha, "build", "success")
        done = landing.done(90)
        assert done.code == 0, done.err
        assert at.landed() == [True] * 4
        merged = [one.path for one in at.forge.calls("merge") if one.status == 200 and one.method == "PUT"]
        assert merged == [f"/repos/acme/{name}/pulls/1/merge" for name in "abcd"]
        assert at.change("a")["landed"]["via"] == "pr"
        assert [at.status(name, "coord/depends") for name in "bd"] == [["pending", "success"]] * 2, (
            "each is set once"
        )

        reverting = at.stage.begin("revert", PLAN, "--yes", "--json")
        revert = until(
            lambda: next((one for one in at.projects["c"].requests if one.head != BRANCH), None), 40
        )
        at.forge.check(at.projects["c"], revert.sha, "build", "success")
        back = reverting.done(90)
        assert back.code == 0, back.err
        assert at.landed() == [False] * 4
        assert "Coord-Reverts" in git(at.forge.path("acme/a"), "log", "--format=%B", "main")


@pytest.mark.timeout(360)
def test_a_failure_takes_back_what_has_merged_and_people_may_act_meanwhile(stage: Stage, tmp_path: Path):
    """One set of three requests, through what can go wrong with it."""
    with site(stage, tmp_path / "forge", "github", "abc", approvals=1) as at:
        a_merge_that_fails_after_two_of_three_reverts_both(at)
        a_push_by_a_person_ends_the_landing_and_the_approval(at)
        what_people_close_breaks_the_set_and_what_they_merge_counts(at)


def a_merge_that_fails_after_two_of_three_reverts_both(at: Site) -> None:
    at.forge.fail(405, times=1000, only="PUT /repos/acme/c/pulls/1/merge")
    landing = at.begin()
    at.approve(*"abc")
    failed = landing.done(120)
    at.forge.faults.clear()
    assert failed.code == 3
    assert failed.json["status"] == "rolled_back", failed.err
    assert at.landed() == [False] * 3
    assert [len(at.projects[name].requests) for name in "abc"] == [2, 2, 1], "each merge has its revert"
    assert at.change("a")["landed"] is None
    assert at.change("c")["request"]["seen"]["approvals"] == 1
    assert at.stage.coord("sweep", PLAN, "--fresh", "--yes").code == 5, "requests are open"


def a_push_by_a_person_ends_the_landing_and_the_approval(at: Site) -> None:
    landing = at.begin()
    at.waits_for("b", "0 of 1 approval")
    at.approve("a")
    at.forge.push(at.projects["b"], BRANCH, theirs="1\n")
    failed = landing.done(60)
    assert failed.code == 3
    assert "coord adopt" in failed.err
    assert at.landed() == [False] * 3

    at.approve("b")
    at.forge.push(at.projects["b"], BRANCH, theirs="2\n")
    at.stage.ok("adopt", PLAN, "b", "--pr", str(at.request("b").number), "--yes")


def what_people_close_breaks_the_set_and_what_they_merge_counts(at: Site) -> None:
    landing = at.begin()
    assert "another commit" in at.waits_for("b", "0 of 1 approval")
    at.forge.close(at.projects["b"], at.request("b").number)
    closed = landing.done(60)
    assert closed.code == 3
    assert "coord pr create" in closed.err

    at.stage.ok("pr", "create", PLAN)
    at.forge.merge(at.projects["a"], at.request("a").number)
    at.approve("b")
    landed = at.land("--when-ready")
    assert landed.code == 0, landed.err
    assert at.landed() == [True] * 3
    assert [at.change(name)["landed"]["method"] for name in "ac"] == ["people", "merge"]


@pytest.mark.timeout(360)
def test_a_gitlab_landing_goes_on_after_a_moved_base_a_kill_a_limit_and_a_revoked_token(
    stage: Stage, tmp_path: Path
):
    with site(
        stage,
        tmp_path / "forge",
        "gitlab",
        "ab",
        patience="100s",
        approvals=1,
        after_upstream=["integration"],
    ) as at:
        at.stage.ok("down")
        log = at.stage.folder / "points"
        points = f"land.merge.after=kill,log={log}"
        at.stage.ok("up", "--detach", "--no-flower", COORD_FAILPOINTS=points)
        landing = at.begin()
        at.approve("a")
        request = at.request("b")
        at.forge.check(at.projects["b"], request.sha, "integration", "failure")
        at.waits_for("b", "0 of 1 approval")
        at.forge.push(at.projects["b"], "elsewhere", theirs="x\n")
        at.projects["b"].bare.move("main", at.tip("b", "elsewhere"), at.tip("b"))
        at.forge.fail("secondary", times=2, retry_after=1)
        at.approve("b")

        at.waits_for("b", "red: integration")
        assert at.landed() == [True, False], "the check is waited for when those before have landed"
        assert "land.merge.after kill" in log.read_text()
        at.forge.revoke(at.token)
        until(lambda: "red:" not in at.waits_for("b"), 60)
        at.forge.core.tokens[at.token].revoked = False
        at.forge.check(at.projects["b"], request.sha, "integration", "success")
        done = landing.done(120)
        assert done.code == 0, done.err
        assert at.landed() == [True, True]
        assert at.change("a")["landed"]["method"] == "merge"


def test_a_wave_waits_for_its_reviews_without_locks_and_begins_at_what_the_one_before_has_merged(
    stage: Stage, tmp_path: Path
):
    waves = {"order": [1, "rest"], "check": "test -f work"}
    with site(stage, tmp_path / "forge", "github", "ab", approvals=1, waves=waves) as at:
        landing = at.begin("--method", "rebase")
        at.approve("a")
        at.waits_for("b", "0 of 1 approval")
        assert at.landed() == [True, False], "the check behind the first wave has found its work"
        assert "land:" not in at.stage.ok("list-locks", "--all").out
        at.approve("b")
        done = landing.done(60)
        assert done.code == 0, done.err
        assert at.landed() == [True, True]


def test_two_landings_over_the_same_repositories_merge_one_behind_the_other(stage: Stage, tmp_path: Path):
    with site(stage, tmp_path / "forge", "github", "ab", patience="100s", approvals=1) as at:
        document = yaml.safe_load(at.stage.file.read_text())
        plans, todos = document["coordination"]["plans"], document["coordination"]["todos"]
        plans.append({**plans[0], "id": "OTHER"})
        todos += [
            {"id": f"O-{name}", "task": "x", "plan": "OTHER", "repo": name, "action": "echo 1 > other"}
            for name in at.names
        ]
        at.stage.file.write_text(yaml.safe_dump(document))
        at.stage.ok("sweep", "OTHER")
        landings = [at.begin(), at.stage.begin("land", "OTHER", "--yes", "--json", "--when-ready")]
        for project in at.projects.values():
            until(lambda project=project: len(project.requests) == 2, 40)
            for request in project.requests:
                at.forge.approve(project, request.number)
        for landing in landings:
            done = landing.done(90)
            assert done.code == 0, done.err
        assert at.landed() == [True, True]
        merged = [one.path for one in at.forge.calls("merge") if one.status == 200 and one.method == "PUT"]
        numbers = [path.split("/")[-2] for path in merged]
        assert numbers in (["1", "1", "2", "2"], ["2", "2", "1", "1"]), "the locks are held to the end"
