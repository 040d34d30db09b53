"""A worker dies around the merge of a pull request, and people act before the next attempt."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import wraps
from pathlib import Path

import pytest

from tests.chaos.failpoints.hooks import SEAMS_OF_REQUESTS
from tests.forge.server import TestForge
from tests.landing_setup import Killed
from tests.request_landing_setup import Proposal, ends, proposal
from workers.outcome import OutcomeKind

DEFERRED, SUCCEEDED, REFUSED = OutcomeKind.DEFERRED, OutcomeKind.SUCCEEDED, OutcomeKind.REFUSED
EVERY_FORGE = pytest.mark.parametrize("forge", ["github", "gitlab", "gitea"], indirect=True)
BEFORE = "land.merge.before"
AFTER = ["land.merge.after", "recorded", "note_landed"]
"""Points behind the merge: nothing is recorded, the todo has recorded it, the change set has it."""


@pytest.fixture
def place(
    forge: TestForge, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Proposal]:
    """A request that is ready; `die_at` also takes the failpoints of workers."""
    with proposal(forge, redis_url, tmp_path, monkeypatch) as place:
        for owner, method, name in SEAMS_OF_REQUESTS:
            monkeypatch.setattr(owner, method, dying(place, getattr(owner, method), name))
        ends(place.check(), SUCCEEDED)
        yield place


def dying(place: Proposal, plain: Callable[..., object], name: str) -> Callable[..., object]:
    @wraps(plain)
    def called(*args: object, **options: object) -> object:
        place.dies(f"{name}.before")
        found = plain(*args, **options)
        place.dies(f"{name}.after")
        return found

    return called


def force_push(place: Proposal) -> None:
    place.project.bare.git("update-ref", "refs/heads/coord/P", place.base)
    place.at.push(place.project, "coord/P", theirs="1\n")


def close(place: Proposal) -> None:
    place.at.close(place.project, place.proposed.number)


def merge(place: Proposal) -> None:
    place.at.merge(place.project, place.proposed.number)


def delete_branch(place: Proposal) -> None:
    place.at.delete_branch(place.project, "coord/P")


def all_of_it(place: Proposal) -> None:
    """Do what people may do behind a merge."""
    force_push(place)
    delete_branch(place)
    place.move_base()


def nothing(place: Proposal) -> None:
    pass


def killed(place: Proposal, point: str) -> None:
    place.die_at = point
    with pytest.raises(Killed, match=point):
        place.land()


@pytest.mark.parametrize("person", [force_push, close, delete_branch])
def test_what_a_person_takes_away_before_the_merge_is_refused_and_nothing_merges(
    place: Proposal, person: Callable[[Proposal], None]
):
    killed(place, BEFORE)
    person(place)
    ends(place.land(), REFUSED, "coord")
    ends(place.revert(place.checkpoint), SUCCEEDED)
    assert (place.has_work, place.landed, len(place.project.requests)) == (False, None, 1)


@pytest.mark.parametrize(
    ("point", "person"),
    [
        (BEFORE, nothing),
        (BEFORE, merge),
        (BEFORE, Proposal.move_base),
        *((point, all_of_it) for point in AFTER),
    ],
)
def test_a_killed_landing_has_landed_once_and_is_taken_back_once(
    place: Proposal, point: str, person: Callable[[Proposal], None]
):
    killed(place, point)
    person(place)
    done = ends(place.land(), SUCCEEDED)
    others = int(person in (Proposal.move_base, all_of_it))
    assert len(place.commits()) == 2 + others
    assert place.landed is not None
    assert place.landed.commit == json.loads(done.output)["commit"] == place.proposed.merge_commit

    ends(place.revert(done.output), SUCCEEDED)
    ends(place.revert(done.output), SUCCEEDED)
    assert (place.has_work, len(place.commits()), place.landed) == (False, 3 + others, None)
    assert len(place.project.requests) == 2


@pytest.mark.parametrize("point", AFTER[::2])
def test_a_base_branch_that_a_person_has_set_back_behind_the_merge_is_told_and_not_merged_again(
    place: Proposal, point: str
):
    killed(place, point)
    merged = place.main()
    place.project.bare.move("main", place.base, merged)
    ends(place.land(), DEFERRED, "does not have it yet")
    place.now += timedelta(hours=2)
    ends(place.land(), REFUSED, "does not have it yet", "land_patience")
    assert not place.has_work

    place.project.bare.move("main", merged, place.base)
    ends(place.land(), SUCCEEDED)
    assert len(place.commits()) == 2


@EVERY_FORGE
def test_a_merge_whose_answer_is_lost_is_found(place: Proposal):
    place.at.fail("lost", only="/merge$")
    first = place.land()
    assert first.kind in (DEFERRED, SUCCEEDED), first.error
    done = ends(place.land(), SUCCEEDED)
    assert (len(place.commits()), place.proposed.state) == (2, "merged")
    assert json.loads(done.output)["method"] == "merge", "our own merge is reverted by a failure"


def test_a_killed_attempt_that_has_queued_a_request_queues_it_once(place: Proposal):
    place.at.protect(place.project, queue=True, dismiss_stale=False)
    place.at.fail("lost", only="graphql")
    for _ in range(3):
        ends(place.land(), DEFERRED)
    assert [one.number for one in place.project.queue] == [1]
    place.at.run_queue(place.project)
    ends(place.land(), SUCCEEDED)
    assert len(place.commits()) == 2


@pytest.mark.parametrize(
    "point", ["revert.merge.before", "revert.merge.after", "revert.open.after", "note_reverted"]
)
def test_a_killed_revert_opens_one_request_and_takes_the_work_out_once(place: Proposal, point: str):
    done = ends(place.land(), SUCCEEDED)
    place.die_at = point
    with pytest.raises(Killed, match=point):
        place.revert(done.output)
    ends(place.revert(done.output), SUCCEEDED)
    assert (place.has_work, len(place.commits()), place.landed) == (False, 3, None)
    assert len(place.project.requests) == 2
