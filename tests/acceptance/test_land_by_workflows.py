"""A story: GitHub's own kind of checks, Actions workflows, hold a request up until they are green."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.forge.records import Project, Request
from tests.forge.server import TestForge
from tests.forge.tools import ACT
from tests.forge_sites import site
from tests.testbed import Testbed

WORKFLOW = {
    "on": "pull_request",
    "jobs": {
        "test": {
            "runs-on": "ubuntu-latest",
            "steps": [{"uses": "actions/checkout@v4"}, {"run": "test -f work && sh test.sh"}],
        }
    },
}
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(ACT is None, reason="act is not installed: make forge-tools"),
]


def run_workflows(forge: TestForge, project: Project, request: Request, folder: Path) -> None:
    """Execute the workflows of a request on its merge with the base branch, as GitHub does.

    Each job becomes a check run. `folder`: a new one.
    """
    bare = project.bare
    merge = bare.commit_tree(
        bare.merged_tree(request.base_sha, request.sha), request.base_sha, request.sha, message="merge"
    )
    subprocess.run(["git", "clone", "-q", "--no-checkout", str(bare.path), str(folder)], check=True)
    subprocess.run(["git", "fetch", "-q", str(bare.path), merge], cwd=folder, check=True)
    subprocess.run(["git", "checkout", "-q", "-B", "merge", "FETCH_HEAD"], cwd=folder, check=True)
    jobs = {
        name
        for file in (folder / ".github/workflows").glob("*.yml")
        for name in yaml.safe_load(file.read_text())["jobs"]
    }
    cache = {"HOME": str(folder.parent), "XDG_CACHE_HOME": str(folder.parent / "cache")}
    for job in sorted(jobs):
        forge.check(project, request.sha, job, "pending")
        done = subprocess.run(
            [str(ACT), "pull_request", "--job", job, "-P", "ubuntu-latest=-self-hosted"],
            cwd=folder,
            env=os.environ | cache,
            capture_output=True,
        )
        forge.check(project, request.sha, job, "success" if done.returncode == 0 else "failure")


def test_a_red_workflow_is_waited_for_until_it_is_mended(testbed: Testbed, tmp_path: Path):
    with site(testbed, tmp_path / "forge", "github", "ab", approvals=0) as at:
        files = {".github/workflows/test.yml": yaml.safe_dump(WORKFLOW)}
        for name, project in at.projects.items():
            at.forge.push(project, "main", **files, **{"test.sh": f"test {name} = a\n"})
            at.forge.protect(project, checks=("test",), dismiss_stale=False)
        landing = at.begin()
        for name, project in at.projects.items():
            run_workflows(at.forge, project, at.request(name), tmp_path / f"first-{name}")
        at.waits_for("b", "red: test")
        assert at.landed() == [False, False]

        at.forge.push(at.projects["b"], "main", **{"test.sh": "true\n"})
        run_workflows(at.forge, at.projects["b"], at.request("b"), tmp_path / "second-b")
        done = landing.done(60)
        assert done.code == 0, done.err
        assert at.landed() == [True, True]
