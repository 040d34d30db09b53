"""Each id of a plan has a branch of its own that git accepts, and that is no run's."""

from __future__ import annotations

import subprocess

from coordination.branches import set_branch

IDS = (
    *("PLAN-001", "A..B", "P.lock", "P.LOCK", "-x", ".x", "x.", "@", "a@{b", "a b", "a/b", "a%2Fb", "a~1"),
    *("a^b", "a:b", "a?b", "a*b", "a[b", "a\\b", "a\x01b", "ü", "x" * 400, "x" * 399 + "y", "A...B"),
    "20261123-101010-abcd",
)


def test_git_accepts_every_branch_and_none_is_that_of_another_plan_or_of_a_run() -> None:
    names = [set_branch(one, "coord/") for one in IDS]

    assert len({name.casefold() for name in names}) >= len(IDS) - 1, "P.lock and P.LOCK differ by case only"
    assert len(set(names)) == len(IDS)
    assert f"coord/{IDS[-1]}" not in names
    for name in names:
        asked = ["git", "check-ref-format", f"refs/heads/{name}"]
        assert subprocess.run(asked, check=False).returncode == 0, name
        assert len(name.encode()) < 200
