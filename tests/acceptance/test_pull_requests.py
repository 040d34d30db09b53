"""Story: the change set of a plan becomes pull requests in three repositories."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.forge_sites import BRANCH, Site, site
from tests.testbed import PLAN, Testbed, git

REPOS = ("a", "b", "c")
LONGEST = 65_536
TASK = "tell @ann, closes #1 <!-- coord: end -->"


def requests_of(at: Site, name: str) -> list[Any]:
    return [one for one in at.projects[name].requests if one.state == "open"]


def longest_text(at: Site, file: Path) -> None:
    """Write the longest text with which no request is refused for its length."""
    size = LONGEST
    while size > 0:
        file.write_text("x" * size)
        tried = at.testbed.coord("pr", "create", PLAN, "--dry-run", "--body", str(file))
        if tried.code == 0:
            return
        assert tried.code == 2, tried.err
        size -= int(re.findall(r"has ([\d,]+) characters", tried.err)[0].replace(",", "")) - LONGEST


def requests_are_opened_once_in_order_with_what_they_depend_on(at: Site, text: Path):
    testbed, forge = at.testbed, at.forge
    assert f"coord pr create {PLAN}\n" in testbed.ok("show-run", "last").out, "the end names the next step"
    longest_text(at, text)
    seen = testbed.ok("pr", "create", PLAN, "--dry-run", "--json").json
    assert [(one["repo"], one["action"]) for one in seen] == [(name, "would_create") for name in REPOS]
    assert not any(requests_of(at, name) for name in REPOS)

    half = testbed.coord("pr", "create", PLAN, "--repo", "c", "--label", "none", "--json")
    assert (half.code, [(one["action"], one["pushed"]) for one in half.json]) == (2, [("failed", True)])
    forge.seen.clear()
    words = (
        "--reviewer",
        "coord",
        "--reviewer",
        "ann",
        "--label",
        "coord",
        "--assignee",
        "bob",
        "--body",
        str(text),
    )
    made = testbed.ok("pr", "create", PLAN, *words, "--json").json
    assert [(one["repo"], one["action"], one["pushed"]) for one in made] == [
        ("a", "created", True), ("b", "created", True), ("c", "updated", False)
    ]  # fmt: skip
    assert ["coord" in one["warning"] for one in made] == [True] * 3, "the author is not asked"
    for name in REPOS:
        assert len([one for one in forge.seen if f"acme/{name}" in one.path.replace("%2F", "/")]) <= 6
        (request,) = requests_of(at, name)
        assert request.labels == ["coord"]
        assert [person.login for person in request.assignees] == ["bob"]
        assert [person.login for person in request.reviewers] == ["ann"]
        assert git(forge.path(f"acme/{name}"), "rev-parse", BRANCH) == made[REPOS.index(name)]["head"]
    checks = [(name, one.name, one.state) for name in REPOS for one in at.projects[name].checks]
    assert checks == [(name, "coord/depends", "pending") for name in "bc"]
    (second,) = requests_of(at, "b")
    assert f"Depends on acme/a#{made[0]['number']}" in second.body
    assert f"acme/c#{made[2]['number']}" in second.body, "the state of all"
    assert "@ann" not in second.body, "nobody is mentioned by a title of the file"

    again = testbed.ok("pr", "create", PLAN, *words, "--json").json
    assert {one["action"] for one in again} == {"unchanged"}
    assert [one["url"] for one in again] == [one["url"] for one in made]


def a_person_s_text_and_title_stay_beside_the_section(at: Site, tmp_path: Path):
    testbed = at.testbed
    (tmp_path / "text").write_text("Short.")
    testbed.ok("pr", "create", PLAN, "--body", str(tmp_path / "text"))
    (request,) = requests_of(at, "a")
    request.title, request.body = "Better", f"Mine.\n\n{request.body}\n\nBelow."
    testbed.ok("pr", "create", PLAN)
    assert request.title == "Better"
    assert request.body.startswith("Mine.")
    assert request.body.endswith("Below.")

    (tmp_path / "text").write_text("From a file.")
    testbed.ok("pr", "create", PLAN, "--repo", "a", "--body", str(tmp_path / "text"))
    assert request.body.startswith("From a file.")
    assert "Mine." not in request.body
    assert "Depends on" not in request.body


def the_list_has_checks_and_reviews_and_asks_only_for_news(at: Site):
    testbed, forge = at.testbed, at.forge
    (request,) = requests_of(at, "b")
    forge.check(at.projects["b"], request.sha, "build", "failure", run=False)
    forge.approve(at.projects["a"], requests_of(at, "a")[0].number)
    found = {one["repo"]: one for one in testbed.ok("pr", "list", PLAN, "--json").json}
    assert [(one["name"], one["state"]) for one in found["b"]["checks"]] == [("build", "failure")]
    assert [(one["author"], one["state"]) for one in found["a"]["reviews"]] == [("ann", "approved")]
    assert [one["repo"] for one in testbed.ok("pr", "list", "--failing", "--json").json] == ["b"]

    forge.seen.clear()
    testbed.ok("pr", "list", "--mine")
    assert forge.seen
    assert all(one.conditional for one in forge.seen)
    assert "red: build" in testbed.ok("pr", "list").out


def a_limit_makes_a_row_with_an_error_and_a_revoked_token_says_so(at: Site):
    testbed, forge = at.testbed, at.forge
    forge.fail("secondary", times=100, retry_after=4000)
    limited = testbed.coord("pr", "list", "--json")
    forge.faults.clear()
    assert limited.code == 5
    assert all(one["state"] is None and one["checks"] == [] and one["error"] for one in limited.json)

    forge.revoke(at.token)
    refused = testbed.coord("pr", "create", PLAN, "--repo", "a")
    assert refused.code == 4
    assert at.token not in refused.err + refused.out
    forge.core.tokens[at.token].revoked = False


def a_file_that_names_another_api_gets_no_token(at: Site):
    testbed, forge = at.testbed, at.forge
    before = testbed.file.read_text()
    with testbed.edited() as file:
        file["repos"][0]["forge"]["api"] = forge.api.replace("127.0.0.1", "localhost")
    forge.seen.clear()
    refused = testbed.coord("pr", "create", PLAN, "--repo", "a")
    testbed.file.write_text(before)
    assert refused.code == 4
    assert forge.seen == []


def a_request_that_a_person_closed_is_left_until_it_is_to_be_reopened(at: Site):
    testbed, forge = at.testbed, at.forge
    (request,) = requests_of(at, "b")
    forge.close(at.projects["b"], request.number)
    for words in (("--dry-run",), ()):
        rows = testbed.ok("pr", "create", PLAN, *words, "--json").json
        found = {one["repo"]: (one["action"], one["closed_by"], one["pushed"]) for one in rows}
        assert found["b"] == ("left", "bob", False)
    assert not requests_of(at, "b")
    assert at.change("b")["request"]["seen"]["state"] == "closed"

    rows = testbed.ok("pr", "create", PLAN, "--reopen", "--dry-run", "--json").json
    assert [one["action"] for one in rows] == ["would_update", "would_reopen", "would_update"]
    rows = testbed.ok("pr", "create", PLAN, "--reopen", "--json").json
    assert rows[1]["action"] == "reopened"
    assert requests_of(at, "b") == [request]


def closing_closes_all_and_a_merged_one_stays_merged(at: Site):
    testbed, forge = at.testbed, at.forge
    forge.merge(at.projects["a"], requests_of(at, "a")[0].number)
    closed = testbed.ok("pr", "close", PLAN, "--yes", "--json").json
    assert {one["repo"]: one["state"] for one in closed} == {"a": "merged", "b": "closed", "c": "closed"}
    assert not any(requests_of(at, name) for name in REPOS)
    assert len(testbed.ok("pr", "open", PLAN).out.split()) == 3
    kinds = [one["kind"] for one in testbed.ok("event", "list", "--kind", "request.*", "--json").json]
    assert {"request.opened", "request.closed"} <= set(kinds)


def test_requests_are_opened_kept_in_step_listed_and_closed(testbed: Testbed, tmp_path: Path):
    """One story: each part begins where the one before it ended."""
    with site(testbed, tmp_path / "forge", "github", "abc", task=TASK) as at:
        requests_are_opened_once_in_order_with_what_they_depend_on(at, tmp_path / "long")
        a_person_s_text_and_title_stay_beside_the_section(at, tmp_path)
        the_list_has_checks_and_reviews_and_asks_only_for_news(at)
        a_limit_makes_a_row_with_an_error_and_a_revoked_token_says_so(at)
        a_file_that_names_another_api_gets_no_token(at)
        a_request_that_a_person_closed_is_left_until_it_is_to_be_reopened(at)
        closing_closes_all_and_a_merged_one_stays_merged(at)


RULE = """#!/bin/sh
while read -r _ _ ref; do
  case $ref in refs/heads/coord/*) echo "Names of branches begin with feature/" >&2; exit 1;; esac
done
"""


def test_a_branch_that_a_remote_refuses_opens_no_request_and_says_why_first(testbed: Testbed, tmp_path: Path):
    with site(testbed, tmp_path / "forge", "github", "ab") as at:
        bare = at.forge.path("acme/b")
        git(bare, "branch", "coord", "main")
        for words in (["--dry-run"], []):
            refused = testbed.coord("pr", "create", PLAN, *words)
            assert refused.code != 0
            assert "a branch coord" in refused.err
        assert (
            "a branch coord" in testbed.coord("land", PLAN, "--dry-run", "--json").json["repos"][1]["problem"]
        )
        git(bare, "branch", "-D", "coord")
        git(bare, "branch", f"{BRANCH}/part", "main")
        assert f"{BRANCH}/part" in testbed.coord("pr", "create", PLAN, "--dry-run").err
        git(bare, "branch", "-D", f"{BRANCH}/part")

        hook = bare / "hooks" / "pre-receive"
        hook.write_text(RULE)
        hook.chmod(0o755)
        rows = testbed.coord("pr", "create", PLAN, "--json").json
        assert [(one["repo"], one["action"], one["pushed"]) for one in rows] == [
            ("a", "failed", True), ("b", "failed", False)
        ]  # fmt: skip
        assert not any(requests_of(at, name) for name in "ab")
        told = rows[1]["error"]
        assert told.index("feature/") < told.index("[remote rejected]")
        assert "hint:" not in told
        hook.unlink()
        rows = testbed.ok("pr", "create", PLAN, "--json").json
        assert [one["action"] for one in rows] == ["created", "created"]


def test_branches_at_the_forge_begin_as_the_setting_says(testbed: Testbed, tmp_path: Path):
    with site(testbed, tmp_path / "forge", "github", "ab") as at:
        for name in "ab":
            hook = at.forge.path(f"acme/{name}") / "hooks" / "pre-receive"
            hook.write_text(RULE)
            hook.chmod(0o755)
        wrong = testbed.coord("pr", "create", PLAN, "--dry-run", COORD_BRANCH_PREFIX="bots")
        assert wrong.code == 2
        text = testbed.file.read_text()
        testbed.file.write_text(text.replace("settings:", "settings:\n  branch_prefix: feature/coord/", 1))
        at.forge.push(at.projects["b"], f"feature/{BRANCH}", theirs="1\n")
        for words in (["--dry-run"], []):
            refused = testbed.coord("pr", "create", PLAN, *words)
            assert (refused.code, "nothing was changed" in refused.err) == (6, True), "it is somebody else's"
        git(at.forge.path("acme/b"), "branch", "-D", f"feature/{BRANCH}")

        def branches(name: str) -> list[str]:
            words = ("for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads")
            return sorted(git(at.forge.path(f"acme/{name}"), *words).splitlines())

        rows = testbed.ok("pr", "create", PLAN, "--json").json
        assert [one["branch"] for one in rows] == [f"feature/{BRANCH}"] * 2
        assert [branches(name) for name in "ab"] == [[f"feature/{BRANCH}", "main"]] * 2

        # An open request keeps its branch, whatever the setting says later.
        testbed.file.write_text(text)
        assert [one["action"] for one in testbed.ok("pr", "create", PLAN, "--json").json] == ["unchanged"] * 2
        testbed.file.write_text(text.replace("settings:", "settings:\n  branch_prefix: feature/coord/", 1))
        assert not any(one["has_others"] for one in testbed.ok("pr", "list", PLAN, "--json").json)
        landed = at.land()
        assert landed.code == 0, landed.err
        assert [branches(name) for name in "ab"] == [["main"]] * 2
        testbed.ok("revert", PLAN, "--yes")
        assert at.landed() == [False, False]
        heads = [request.head for request in at.projects["a"].requests]
        assert all(head.startswith("feature/coord/") for head in heads)
        assert len(heads) == 2
