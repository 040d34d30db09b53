"""Stories: pull requests of a plan are merged together, in order, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.forge_sites import BRANCH, Site, site
from tests.testbed import PLAN, Testbed, git
from tests.waiting import until


def test_requests_are_reviewed_and_mended_and_merged_in_order(testbed: Testbed, tmp_path: Path):
    with site(testbed, tmp_path / "forge", "github", "abcd", approvals=1) as at:
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

        reverting = at.testbed.begin("revert", PLAN, "--yes", "--json")
        revert = until(
            lambda: next((one for one in at.projects["c"].requests if one.head != BRANCH), None), 40
        )
        at.forge.check(at.projects["c"], revert.sha, "build", "success")
        back = reverting.done(90)
        assert back.code == 0, back.err
        assert at.landed() == [False] * 4
        assert "Coord-Reverts" in git(at.forge.path("acme/a"), "log", "--format=%B", "main")


@pytest.mark.timeout(240)
def test_a_preview_asks_the_forge_and_a_refusal_names_each_request_once(testbed: Testbed, tmp_path: Path):
    with site(testbed, tmp_path / "forge", "github", "abc", approvals=1) as at:
        new = testbed.coord("land", PLAN, "--dry-run", "--json")
        assert new.code == 3, "requests that will be opened have no approval"
        testbed.ok("pr", "create", PLAN)
        urls = {name: at.change(name)["request"]["url"] for name in "abc"}
        at.approve("a")
        at.forge.check(at.projects["b"], at.request("b").sha, "build", "failure")
        writes = [one for one in at.forge.calls("") if one.method != "GET"]

        def previews(*words: str) -> dict[str, dict[str, str]]:
            done = testbed.coord("land", PLAN, "--dry-run", "--json", *words)
            return {one["repo"]: one for one in done.json["repos"]}

        seen = previews()
        assert (seen["a"]["problem"], seen["a"]["request"]) == ("", urls["a"])
        assert "red: build" in seen["b"]["problem"]
        assert "0 of 1 approval" in seen["c"]["problem"]
        assert [one["problem"] for one in previews("--when-ready").values()] == [""] * 3
        at.projects["c"].bare.write("main", {"work": "theirs\n"}, "By a person")
        assert "conflicts" in previews("--when-ready")["c"]["problem"], "the remote has moved"
        assert [one for one in at.forge.calls("") if one.method != "GET"] == writes
        git(at.projects["c"].bare.path, "update-ref", "refs/heads/main", "main^")

        refused = testbed.coord("land", PLAN, "--yes")
        assert refused.code == 3
        told = refused.out + refused.err
        assert {name: told.count(f"{url} is not ready") for name, url in urls.items()} == {
            "a": 0, "b": 1, "c": 1
        }  # fmt: skip
        assert told.count("--when-ready") == 1
        assert "undone" not in told
        shown = testbed.ok("show-run").out
        assert shown.count("is not ready") == 2 * 2, "once in the table, once with what to do"

        testbed.file.write_text(testbed.file.read_text().replace("127.0.0.1:", "127.0.0.2:"))
        away = previews()
        assert all(one["not_asked"] for one in away.values())


@pytest.mark.timeout(200)
def test_an_approval_of_gitlab_holds_in_no_later_landing_of_another_commit(testbed: Testbed, tmp_path: Path):
    with site(testbed, tmp_path / "forge", "gitlab", "a", patience="60s", approvals=1) as at:
        landing = at.begin()
        at.waits_for("a", "0 of 1 approval")
        at.forge.check(at.projects["a"], at.request("a").sha, "build", "failure")
        at.approve("a")
        at.waits_for("a", "red: build")
        testbed.ok("cancel", testbed.run()["run_id"])
        landing.done(60)
        more = ("--id", "T-2", "--task", "more", "--repo", "a", "--plan", PLAN, "--run", "echo new > new")
        testbed.ok("create-todo", *more)
        testbed.sweep()

        assert at.land().code == 3
        assert at.landed() == [False]
        at.approve("a")  # again, at the new commit
        assert at.land().code == 0
        assert at.landed() == [True]


def branches(at: Site, name: str) -> list[str]:
    text = git(at.forge.path(f"acme/{name}"), "for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads")
    return sorted(text.splitlines())


def test_merged_branches_are_deleted_at_the_forge_and_commits_of_others_are_named(
    testbed: Testbed, tmp_path: Path
):
    with site(testbed, tmp_path / "forge", "github", "ab") as at:
        testbed.ok("pr", "create", PLAN)
        assert at.status("b", "coord/depends") == ["pending"]
        theirs = at.forge.push(at.projects["b"], BRANCH, theirs="1\n")
        listed = {one["repo"]: one for one in testbed.ok("pr", "list", PLAN, "--json").json}
        assert [(one["outdated"], one["has_others"]) for one in listed.values()] == [
            (False, False), (False, True)
        ]  # fmt: skip
        assert f"coord plan adopt {PLAN} b --pr 1" in testbed.ok("pr", "list", PLAN).out
        testbed.ok("plan", "adopt", PLAN, "b", "--pr", "1", "--yes")
        assert at.change("b")["tip"] == theirs
        seen = at.testbed.ok("pr", "list", PLAN, "--json").json[1]
        assert (seen["outdated"], seen["has_others"], seen["checks"]) == (False, False, [])

        landed = at.land()
        assert landed.code == 0, landed.err
        assert [branches(at, name) for name in "ab"] == [["main"], ["main"]]
        assert at.change("b")["request"]["seen"]["checks"] in (0, None), "coord's own status is none of them"
        testbed.ok("revert", PLAN, "--yes")
        assert [branches(at, name) for name in "ab"] == [["main"], ["main"]]


def reverts(at: Site) -> list[int]:
    """Return the number of requests that revert, of each repository."""
    return [sum(one.head != BRANCH for one in at.projects[name].requests) for name in at.names]


def approve_revert(at: Site, name: str) -> None:
    at.forge.approve(at.projects[name], at.projects[name].requests[-1].number)


@pytest.mark.timeout(240)
def test_a_revert_opens_all_its_requests_at_once_and_merges_each_when_it_is_ready(
    testbed: Testbed, tmp_path: Path
):
    with site(testbed, tmp_path / "forge", "github", "abc") as at:
        assert at.land().code == 0
        for project in at.projects.values():
            at.forge.protect(project, approvals=1, dismiss_stale=False)
        left = testbed.coord("revert", PLAN, "--yes")
        assert left.code == 3
        assert "--when-ready" in left.err
        assert reverts(at) == [1, 1, 1]
        assert at.landed() == [True] * 3

        reverting = testbed.begin("revert", PLAN, "--when-ready", "--yes", "--json")
        until(lambda: any(todo["wait_reason"] == "request" for todo in testbed.run()["todos"]))
        held = [one["name"] for one in testbed.ok("lock", "list", "--all", "--json").json]
        assert [name for name in held if "land" in name] == [], "no lock is held during reviews"
        approve_revert(at, "a")
        approve_revert(at, "c")
        until(lambda: at.landed() == [True, True, False])
        approve_revert(at, "b")
        done = reverting.done(90)
        assert done.code == 0, done.err
        assert at.landed() == [False] * 3
        assert reverts(at) == [1, 1, 1]
        at.testbed.ok("changes", PLAN)


@pytest.mark.timeout(240)
def test_what_a_rollback_leaves_to_people_is_reverted_by_one_call(testbed: Testbed, tmp_path: Path):
    with site(testbed, tmp_path / "forge", "github", "abc", patience="6s") as at:
        at.forge.fail(405, times=1000, only="PUT /repos/acme/c/pulls/1/merge")
        landing = at.begin()
        until(lambda: at.has_work("b"))
        for project in at.projects.values():
            at.forge.protect(project, approvals=1, dismiss_stale=False)
        failed = landing.done(90)
        assert (failed.code, failed.json["status"]) == (3, "rollback_failed")
        assert f"coord revert {PLAN} --when-ready" in failed.err

        reverting = testbed.begin("revert", PLAN, "--when-ready", "--yes", "--json")
        until(lambda: reverts(at) == [1, 1, 0])
        approve_revert(at, "a")
        approve_revert(at, "b")
        done = reverting.done(90)
        assert done.code == 0, done.err
        assert at.landed() == [False] * 3


@pytest.mark.timeout(360)
def test_a_failure_takes_back_what_has_merged_and_people_may_act_meanwhile(testbed: Testbed, tmp_path: Path):
    """One set of three requests, through what can go wrong with it."""
    with site(testbed, tmp_path / "forge", "github", "abc", patience="100s", approvals=1) as at:
        a_push_by_a_person_after_two_of_three_merges_reverts_both(at)
        what_people_close_breaks_the_set_and_what_they_merge_counts(at)


def a_push_by_a_person_after_two_of_three_merges_reverts_both(at: Site) -> None:
    at.forge.fail(405, times=1000, only="PUT /repos/acme/c/pulls/1/merge")
    landing = at.begin()
    at.approve(*"abc")
    until(lambda: at.has_work("b"))
    at.waits_for("c", "/pull/1")
    theirs = at.forge.push(at.projects["c"], BRANCH, theirs="1\n")
    failed = landing.done(60)
    at.forge.faults.clear()
    assert failed.code == 3
    assert failed.json["status"] == "rolled_back", failed.err
    assert f"its head is {theirs[:12]}" in failed.err
    assert at.landed() == [False] * 3
    assert [len(at.projects[name].requests) for name in "abc"] == [2, 2, 1], "each merge has its revert"
    assert at.change("a")["landed"] is None
    assert at.change("b")["request"]["seen"]["approvals"] == 1
    assert at.testbed.coord("sweep", PLAN, "--fresh", "--yes").code == 5, "requests are open"

    at.approve("c")
    at.forge.push(at.projects["c"], BRANCH, theirs="2\n")
    at.testbed.ok("plan", "adopt", PLAN, "c", "--pr", str(at.request("c").number), "--yes")


def what_people_close_breaks_the_set_and_what_they_merge_counts(at: Site) -> None:
    landing = at.begin()
    assert "another commit" in at.waits_for("c", "0 of 1 approval")
    at.forge.close(at.projects["c"], at.request("c").number)
    closed = landing.done(60)
    assert closed.code == 3
    assert "coord pr create" in closed.err

    at.testbed.ok("pr", "create", PLAN, "--reopen")
    at.approve("a", "b")
    at.forge.merge(at.projects["a"], at.request("a").number)
    at.approve("c")
    landed = at.land("--when-ready")
    assert landed.code == 0, landed.err
    assert at.landed() == [True] * 3
    assert [at.change(name)["landed"]["method"] for name in "ac"] == ["people", "merge"]


@pytest.mark.timeout(240)
def test_a_gitlab_landing_goes_on_after_a_moved_base_and_a_kill_and_waits_for_a_check_of_what_has_merged(
    testbed: Testbed, tmp_path: Path
):
    rules = {"approvals": 1, "after_upstream": ["integration"]}
    with site(testbed, tmp_path / "forge", "gitlab", "ab", patience="100s", **rules) as at:
        at.testbed.ok("down")
        log = at.testbed.folder / "points"
        points = f"land.merge.after=kill,log={log}"
        at.testbed.ok("up", "--detach", "--no-flower", COORD_FAILPOINTS=points)
        landing = at.begin()
        at.approve("a")
        request = at.request("b")
        at.forge.check(at.projects["b"], request.sha, "integration", "failure")
        at.waits_for("b", "0 of 1 approval")
        at.forge.push(at.projects["b"], "elsewhere", theirs="x\n")
        at.projects["b"].bare.move("main", at.tip("b", "elsewhere"), at.tip("b"))
        at.approve("b")

        at.waits_for("b", "red: integration")
        assert at.landed() == [True, False], "the check is waited for when those before have landed"
        assert "land.merge.after kill" in log.read_text()
        at.forge.check(at.projects["b"], request.sha, "integration", "success")
        done = landing.done(120)
        assert done.code == 0, done.err
        assert at.landed() == [True, True]
        assert at.change("a")["landed"]["method"] == "merge"


def test_work_without_a_record_is_neither_proposed_nor_left_out_of_a_landing(
    testbed: Testbed, tmp_path: Path
):
    with site(testbed, tmp_path / "forge", "github", "ab", via="pr") as at:
        tip = git(testbed.folder / "b", "rev-parse", BRANCH)
        with testbed.redis() as client:
            key = f"coord:changes:{PLAN}"
            client.hdel(key, *(name for name in client.hkeys(key) if name.split()[1] in ("b", "T-b")))

        for words in (
            ["pr", "create", PLAN],
            ["land", PLAN, "--yes"],
            ["land", PLAN, "--yes", "--repo", "b"],
        ):
            refused = testbed.coord(*words)
            assert (refused.code, f"coord plan adopt {PLAN}" in refused.err) == (6, True), (words, refused)
            assert tip[:12] in refused.err
        assert [at.requests(name) for name in "ab"] == [[], []]
        assert at.landed() == [False, False]

        assert at.land("--accept", "T-b").code == 0
        assert at.landed() == [True, False]
        log = git(
            at.forge.path("acme/a"), "log", "-1", "--format=%(trailers:key=Coord-Override,valueonly)", "main"
        )
        assert log.startswith("--accept=T-b by ")
        assert testbed.coord("pr", "create", PLAN).code == 6, "the work of b has no record yet"
        testbed.ok("plan", "adopt", PLAN, "--yes")
        assert at.land().code == 0
        assert at.landed() == [True, True]
