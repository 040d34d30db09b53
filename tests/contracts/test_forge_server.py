"""The test forge itself: the rights of its git transport, and its checks against the descriptions."""

from __future__ import annotations

import subprocess
from pathlib import Path

import httpx2
import pytest

from tests.forge.contract import Contract
from tests.forge.server import TestForge
from tests.testbed import git

PULLS = "/api/v3/repos/acme/api/pulls"


def test_a_push_needs_a_token_that_may_write_and_moves_the_head_of_an_open_request(
    forge: TestForge, tmp_path: Path
):
    project, clone = forge.create_project("acme/api"), tmp_path / "clone"
    git(tmp_path, "clone", "-q", forge.url("acme/api", f"x:{forge.token()}"), "clone")
    git(clone, "checkout", "-q", "-b", "work/one")

    def push(words: str = "One", to: str = "work/one") -> str:
        git(clone, "commit", "-q", "--allow-empty", "-m", words)
        git(clone, "-c", "core.askPass=", "-c", "credential.helper=", "push", "-q", "origin", f"HEAD:{to}")
        return git(clone, "rev-parse", "HEAD")

    def refused(to: str = "work/two") -> str:
        with pytest.raises(subprocess.CalledProcessError) as caught:
            push("Refused", to)
        return str(caught.value.stderr)

    assert push() == forge.tip("acme/api", "work/one")
    request = forge.open_request(project, "work/one", "One")
    assert push("Two") == forge.tip("acme/api", "work/one") == request.sha
    assert request.sha in git(clone, "ls-remote", "origin", "refs/pull/1/head")

    git(clone, "remote", "set-url", "origin", forge.url("acme/api", f"x:{forge.token('eve')}"))
    git(clone, "fetch", "-q", "origin")
    assert "403" in refused()
    token = forge.token("ann")
    git(clone, "remote", "set-url", "origin", forge.url("acme/api", f"x:{token}"))
    project.archived = True
    assert "403" in refused()
    project.archived = False
    forge.protect(project)
    assert "protected branch" in refused("main")
    forge.revoke(token)
    assert refused()
    assert project.bare.branches().keys() == {"main", "work/one"}


def test_requests_and_answers_that_no_description_has_are_violations(forge: TestForge):
    forge.create_project("acme/api")
    headers = {"Authorization": f"Bearer {forge.token()}"}

    def call(method: str, path: str, body: object = None) -> None:
        httpx2.request(method, forge.site + path, headers=headers, json=body, timeout=60)

    call("POST", f"{PULLS}?draft=true", {"head": "x", "base": "main", "tittle": "One"})
    call("GET", f"{PULLS}/absent/operation")
    call("PUT", "/api/v4/projects/acme%2Fapi/merge_requests/1/merge", {"sha": 7})
    found, forge.violations = forge.violations, []
    assert len([one for one in found if "draft" in one or "tittle" in one or "no operation" in one]) == 3
    assert any("$.sha: 7 is not of type 'string'" in one for one in found)

    contract = Contract("github")
    pull = "GET /repos/{owner}/{repo}/pulls/{pull_number}"
    whole = contract.complete(pull, 200, {"number": 1, "state": "open"})
    assert contract.check_answer(pull, 200, whole) == []
    for wrong in ({"state": "merged"}, {"number": "1"}, {"surprise": 1}, {"merged_at": "yesterday"}):
        assert contract.check_answer(pull, 200, whole | wrong), wrong
    assert contract.check_answer(pull, 200, {k: v for k, v in whole.items() if k != "mergeable"})
    assert contract.check_answer(pull, 418, {})
