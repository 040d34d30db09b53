"""Stories: work of a change set that a clone, a machine or Redis has lost."""

from __future__ import annotations

import pytest

from coordination import Coord
from tests.testbed import PLAN, Testbed, git

BRANCH = f"coord/{PLAN}"


@pytest.mark.parametrize("repo", ["a", "c"], ids=["the-same-repository", "a-dependent-one"])
def test_a_sweep_over_lost_commits_ends_at_once_and_names_the_ways_out(testbed: Testbed, repo: str):
    testbed.write(
        [
            {"id": "A", "repo": "a", "action": "echo 1 > made"},
            {"id": "B", "repo": repo, "status": "cancelled", "blocked_by": ["A"]},
        ]
    )
    testbed.up()
    assert testbed.sweep().code == 0
    a = testbed.folder / "a"
    tip = testbed.coord("changes", PLAN, "--json").json[0]["tip"]
    for ref in git(a, "for-each-ref", "--format=%(refname)", "refs/heads/coord", "refs/coord").splitlines():
        git(a, "update-ref", "-d", ref)
    git(a, "reflog", "expire", "--expire=now", "--all")
    git(a, "gc", "-q", "--prune=now")
    testbed.file.write_text(testbed.file.read_text().replace("cancelled", "pending"))

    lost = testbed.coord("sweep", PLAN)

    assert lost.code == 3
    assert tip[:12] in lost.err
    for way in (f"coord sweep {PLAN} --fresh", f"coord adopt {PLAN} a BRANCH", f"git -C {a} fetch"):
        assert way in lost.err
    assert testbed.sweep("--fresh", "--yes").code == 0, "the todos are done again"
    assert git(a, "show", f"{BRANCH}:made") == "1"


def test_a_run_whose_change_set_was_discarded_is_not_retried(testbed: Testbed):
    testbed.write(
        [
            {"id": "A", "repo": "a", "action": "echo 1 > made"},
            {"id": "B", "repo": "a", "action": "false", "blocked_by": ["A"]},
        ]
    )
    testbed.up()
    failed = testbed.sweep()
    assert failed.states == {"A": "succeeded", "B": "failed"}
    with Coord(testbed.file) as coord:
        assert coord.changes.discard(PLAN) is not None

    refused = testbed.coord("retry", "last")
    assert refused.code == 6
    assert f"coord sweep {PLAN}" in refused.err
    assert testbed.sweep().states == {"A": "succeeded", "B": "failed"}, "all is done again"
    testbed.write(
        [{"id": "A", "repo": "a", "status": "completed"}, {"id": "B", "repo": "a", "blocked_by": ["A"]}]
    )
    assert testbed.coord("retry", "last").code == 0
    assert git(testbed.folder / "a", "show", f"{BRANCH}:made") == "1"
