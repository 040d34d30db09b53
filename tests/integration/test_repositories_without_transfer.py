"""Repositories whose history reaches no other host are reported before a run needs it there."""

from __future__ import annotations

import os

from tests.testbed import PLAN, Testbed, git


def test_doctor_and_dry_run_warn_of_a_repository_that_reaches_no_other_host(testbed: Testbed):

    testbed.settings = {"bundle_limit_bytes": 20_000, "redis_url": "redis://127.0.0.1:1"}
    testbed.write(
        [
            {"id": "A", "repo": "up"},
            {"id": "B", "repo": "down", "blocked_by": ["A"]},
            {"id": "C", "repo": "alone"},
        ],
        repos={"up": {}, "down": {}, "alone": {}, "there": {}},
    )
    for repo in ("up", "alone"):
        (testbed.folder / repo / "large").write_bytes(os.urandom(50_000))
        git(testbed.folder / repo, "add", "large")
        git(testbed.folder / repo, "commit", "-q", "-m", "large")

    told = testbed.coord("doctor", "--json").json
    assert told["file"]["too_large"] == ["up", "alone"]
    rehearsed = testbed.coord("sweep", PLAN, "--dry-run")
    assert "warning: up is larger than bundle_limit_bytes" in rehearsed.err

    testbed.file.write_text(testbed.file.read_text().replace("id: B\n", "id: B\n    needs_paths: false\n"))
    assert "bundle_limit_bytes" not in testbed.coord("sweep", PLAN, "--dry-run").err
