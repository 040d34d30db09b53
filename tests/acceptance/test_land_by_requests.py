"""Stories: pull requests of a plan are merged together, in order, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.forge_sites import BRANCH, site
from tests.stage import PLAN, Stage, git
from tests.waiting import until


def test_six_requests_are_reviewed_and_mended_and_merged_in_order(
    new_stage: Callable[[], Stage], tmp_path: Path
):
    with site(new_stage(), tmp_path, "github", "abcdef", approvals=1) as at:
        at.forge.protect(at.projects["c"], checks=("build",))
        refused = at.land()
        assert refused.code == 3, "a token and a known forge: by pull requests, and they are not ready"
        assert at.landed() == [False] * 6

        landing = at.begin()
        at.waits_for("a", "0 of 1 approval")
        at.approve(*"abdef")
        build = at.request("c")
        at.forge.check(at.projects["c"], build.sha, "build", "failure")
        at.forge.approve(at.projects["c"], build.number)
        at.waits_for("c", "red: build")
        assert at.landed() == [False] * 6, "nothing merges before everything can"
        assert "Depends on acme/a#1" in at.request("b").body

        at.forge.check(at.projects["c"], build.sha, "build", "success")
        done = landing.done(90)
        assert done.code == 0, done.err
        assert at.landed() == [True] * 6
        merged = [one.path for one in at.forge.calls("merge") if one.status == 200 and one.method == "PUT"]
        assert merged == [f"/repos/acme/{name}/pulls/1/merge" for name in "abcdef"]
        assert at.change("a")["landed"]["via"] == "pr"

        reverting = at.stage.begin("revert", PLAN, "--yes", "--json")
        revert = until(
            lambda: next((one for one in at.projects["c"].requests if one.head != BRANCH), None), 40
        )
        at.forge.check(at.projects["c"], revert.sha, "build", "success")
        back = reverting.done(90)
        assert back.code == 0, back.err
        assert at.landed() == [False] * 6
        assert "Coord-Reverts" in git(at.forge.path("acme/a"), "log", "--format=%B", "main")
