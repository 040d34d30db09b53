"""Actions of the test forge: the workflows of a request, executed by act, are its checks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml

from tests.forge.records import Project, Request
from tests.forge.server import TestForge
from tests.forge.tools import ACT


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
