"""A story: GitHub's own kind of checks, Actions workflows, hold a request up until they are green."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.forge.actions import run_workflows
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
