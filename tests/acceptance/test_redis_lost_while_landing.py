"""Story: Redis loses everything between two pushes of a landing, and what has landed is said."""

from __future__ import annotations

import pytest

from tests.remotes import add_remotes, files, hook
from tests.testbed import PLAN, Testbed
from tests.waiting import until

REPOS = ("one", "two", "three")


@pytest.fixture
def swept(testbed: Testbed) -> Testbed:
    """A change set in three repositories that land one after the other; the push to the second one waits."""
    repos = add_remotes(testbed, *REPOS)
    waits = f"cd {testbed.folder}; touch pushed\nwhile test -e hold; do sleep 0.05; done"
    hook(testbed, "two", "post-receive", waits)
    (testbed.folder / "hold").touch()
    testbed.write(
        [{"id": name.upper(), "repo": name, "action": "echo 2 > new"} for name in REPOS], repos=repos
    )
    with testbed.edited() as file:
        file["coordination"]["dependencies"] = [
            {"id": f"D{n}", "consumer": REPOS[n], "provider": REPOS[n - 1], "type": "runtime"} for n in (1, 2)
        ]
    testbed.up()
    assert testbed.sweep().code == 0
    return testbed


def landed(bed: Testbed) -> list[bool]:
    return ["new" in files(bed, name) for name in REPOS]


def test_it_is_said_what_has_landed_and_the_rest_can_land(swept: Testbed):
    landing = swept.begin("land", PLAN, "--yes")
    until(lambda: (swept.folder / "pushed").exists())
    with swept.redis() as redis:
        redis.flushall()
    (swept.folder / "hold").unlink()
    ended = landing.done(60)
    assert landed(swept) == [True, True, False]
    assert (ended.code != 0, f"coord changes {PLAN}" in ended.err) == (True, True)

    for words in (("changes", PLAN), ("land", PLAN, "--yes"), ("sweep", PLAN)):
        said = swept.coord(*words)
        assert said.code == 6, said.err
        not_landed, _, has_landed = said.err.partition("; landed")
        assert [f"of {name} (" in not_landed for name in REPOS] == [False, False, True]
        assert [f"{name} (" in has_landed for name in REPOS] == [True, True, False]

    swept.ok("plan", "adopt", PLAN, "--yes")
    assert swept.coord("land", PLAN, "--yes").code == 0
    assert landed(swept) == [True, True, True]
