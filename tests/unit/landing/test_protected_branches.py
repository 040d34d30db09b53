"""The words by which forges refuse a push to a protected branch are a refusal for good."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from workers.landing.records import BaseBranch, Reason, refused_by

AT = BaseBranch(repo="r", path=Path(), branch="main", url="https://ann:s3cret@forge.test/r.git")


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (
            "protected branch hook declined",
            "error: GH006: Protected branch update failed for refs/heads/main.",
        ),
        ("push declined due to repository rule violations", "error: GH013: Repository rule violations found"),
        ("pre-receive hook declined", "GitLab: You are not allowed to push code to protected branches"),
        ("pre-receive hook declined", "Gitea: Not allowed to push to protected branch main"),
        ("branch is currently checked out", "error: refusing to update checked out branch: refs/heads/main"),
    ],
)
def test_a_protected_branch_is_refused_for_good_and_the_remote_is_quoted(status: str, said: str):
    stdout = f"To {AT.url}\n!\tabc:refs/heads/main\t[remote rejected] ({status})\nDone\n"
    found = refused_by(AT, CompletedProcess([], 1, stdout, f"remote: {said} {AT.url}\nerror: failed to push"))
    assert (found.reason, found.lasting) == (Reason.DECLINED, True)
    assert status in found.error
    assert said in found.error
    assert "s3cret" not in found.error
