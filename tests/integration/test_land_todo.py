"""One attempt of a land or revert todo, cut off at every point at which a worker can die: the next attempt
goes on from what is true. Real git, at a bare remote and in a checkout.
"""

from __future__ import annotations

import json
import resource
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from coordination.errors import NotTrusted
from coordination.landing.preview import RepoPreview, commands_to_pull, preview_of
from coordination.landing.records import Landing, RepoLanding
from coordination.landing.start import PreparedLanding
from coordination.models import LandAction, LandStep, Method, RevertAction, Via
from coordination.runs.change_sets.records import BY_PEOPLE, RepoChange
from coordination.runs.views.records import TodoView
from tests.landing_setup import Killed, Place
from tests.testbed import git
from workers.landing.carry_out import carry_out
from workers.landing.local import LocalBase
from workers.landing.remote import RemoteBase
from workers.outcome import AttemptOutcome, OutcomeKind

SIDES = [Via.PUSH, Via.LOCAL]
METHODS = [method for method in Method if method is not Method.REBASE]
"""A push cannot rebase."""


class Direct(Place):
    """A place whose change set lands without a forge."""

    def action(self, method: Method = Method.MERGE, step: LandStep = LandStep.LAND) -> LandAction:
        return LandAction(
            type="land", step=step, change_set="P", tip=self.tip, via=self.via, method=method, title="Land P"
        )

    def revert_action(self) -> RevertAction:
        own = {"commit": self.landed.commit, "before": self.landed.tree_before} if self.landed else {}
        return RevertAction(
            type="revert", change_set="P", via=self.via, title="Revert P", tip=self.tip, **own
        )

    def land(self, *how: Any) -> AttemptOutcome:
        return carry_out(self.todo, self.action(*how))

    def revert(self, output: str | None = None, action: RevertAction | None = None) -> AttemptOutcome:
        """Carry out a revert todo; with `output`, the compensation of the todo that has told it."""
        return carry_out(self.todo, action or self.revert_action(), output)


@pytest.fixture(params=SIDES)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Direct:
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Test")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "test@localhost")
    found = Direct(tmp_path, request.param)
    found.create()
    # a push that was carried out, and whose answer no worker heard
    for base in (RemoteBase, LocalBase):
        monkeypatch.setattr(base, "push", _dying(found, base.push))
    return found


def _dying(place: Direct, push: Any) -> Any:
    def pushed(*args: Any) -> Any:
        done = push(*args)
        place.dies("push")
        return done

    return pushed


@pytest.mark.parametrize(
    ("method", "point"),
    [
        *((method, "") for method in METHODS),
        *((Method.SQUASH, at) for at in ("record", "push", "note_landed")),
    ],
)
def test_a_killed_landing_is_finished_by_the_next_attempt_with_one_commit(place: Direct, method, point):
    place.die_at = point
    if point:
        with pytest.raises(Killed):
            place.land(method)
    done = place.land(method)

    assert done.kind is OutcomeKind.SUCCEEDED, done.error
    assert place.has_work
    assert len(place.commits()) == 2, "one commit beside the first"
    assert place.landed is not None
    assert git(place.target, "rev-parse", "main") == place.landed.commit


@pytest.mark.parametrize("method", [Method.MERGE, Method.SQUASH])
def test_a_commit_of_another_attempt_is_known_though_its_record_was_replaced(place: Direct, method):
    place.die_at = "push"
    with pytest.raises(Killed):
        place.land(method)
    place.checkpoint = ""
    assert place.land(method).kind is OutcomeKind.SUCCEEDED

    assert place.landed is not None
    assert place.landed.method == method, "and not by people: a compensation reverts it"
    assert place.landed.tree_before == git(place.target, "rev-parse", "main^1^{tree}")


@pytest.mark.parametrize("point", ["", "push", "note_reverted"])
@pytest.mark.parametrize("own", [True, False], ids=["compensation", "revert todo"])
def test_a_killed_revert_is_finished_by_the_next_attempt_and_the_work_can_land_again(
    place: Direct, point, own
):
    output = place.land().output
    action = place.revert_action()

    def undo() -> AttemptOutcome:
        return place.revert(output if own else None, action)

    place.die_at = point
    if point:
        with pytest.raises(Killed):
            undo()
    assert undo().kind is OutcomeKind.SUCCEEDED
    assert not place.has_work
    assert place.landed is None
    assert len(place.commits()) == 3, "first, landed, reverted"

    place.checkpoint = ""
    assert place.land().kind is OutcomeKind.SUCCEEDED
    assert place.has_work


def test_an_order_to_land_brings_nothing_back_that_was_taken_out_since(place: Direct):
    """The owner of Redis can have its todo executed again until it expires."""
    before = place.tip, place.base
    assert place.land(Method.SQUASH).kind is OutcomeKind.SUCCEEDED
    assert place.revert().kind is OutcomeKind.SUCCEEDED
    (place.tip, place.base), place.checkpoint = before, ""

    done = place.land(Method.SQUASH)
    assert (done.kind, place.has_work) == (OutcomeKind.REFUSED, False)
    assert "coord land P" in done.error


def test_a_compensation_leaves_what_people_have_merged(place: Direct):
    git(place.target, "fetch", "-q", str(place.checkout), "coord/P")
    if place.via is Via.LOCAL:
        git(place.checkout, "merge", "-q", "--squash", "coord/P")
        git(place.checkout, "commit", "-qm", "squashed by people")
    else:
        git(place.checkout, "push", "-q", str(place.target), "coord/P:main")
    done = place.land()

    assert done.kind is OutcomeKind.SUCCEEDED
    assert place.revert(done.output).kind is OutcomeKind.SUCCEEDED
    assert place.has_work
    assert place.revert().kind is OutcomeKind.SUCCEEDED
    assert not place.has_work, "on request it is taken out"


def test_a_conflict_is_refused_for_good_and_names_the_file(place: Direct):
    other = place.folder / "other"
    git(place.folder, "clone", "-q", "r.git", "other")
    (other / "work").write_text("theirs\n")
    git(other, "add", "--all")
    git(other, "commit", "-qm", "theirs")
    git(other, "push", "-q", "origin", "main")
    if place.via is Via.LOCAL:
        git(place.checkout, "pull", "-q", str(other), "main")
    for step in LandStep:
        refused = place.land(Method.MERGE, step)
        assert refused.kind is OutcomeKind.REFUSED
        assert "work" in refused.error
        assert "coord plan resolve P r" in refused.error


@pytest.mark.parametrize("how", ["never pushed", "taken out by people"])
def test_a_landing_brings_no_commit_that_coord_did_not_make(place: Direct, how: str):
    """The run could not reach the remote, and began at a local commit; or people have rewritten the branch
    since, and a later run has begun at it.
    """
    kept = place.base
    place.begin_at_a_new_commit()
    if place.via is Via.LOCAL:
        git(place.checkout, "reset", "-q", "--hard", "HEAD~1")
    elif how == "taken out by people":
        git(place.checkout, "push", "-q", "../r.git", f"{place.base}:main")
        git(place.target, "update-ref", "refs/heads/main", kept)
        place.base = kept
    for step in (LandStep.CHECK, LandStep.LAND):
        refused = place.land(Method.MERGE, step)
        assert refused.kind is OutcomeKind.REFUSED
        if place.via is Via.PUSH:
            assert "--fresh" in refused.error
            assert "\nnext: coord sweep" in place.log[-1]
    assert place.commits() == ["first"]


@contextmanager
def full_disk(_: Direct) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextmanager
def locked_branch(place: Direct, since: str = "") -> Iterator[None]:
    """Each attempt reads the base branch and records its commit before the push fails. `since`: what the
    record of somebody says of when the trouble began.
    """
    git_dir = place.target if place.via is Via.PUSH else place.checkout / ".git"
    (git_dir / "refs" / "heads" / "main.lock").touch()
    place.checkpoint = json.dumps({"trouble_since": since}) if since else ""
    yield


@contextmanager
def local_changes(place: Direct) -> Iterator[None]:
    if place.via is Via.PUSH:
        pytest.skip("a push touches no checkout")
    (place.checkout / "README").write_text("in the middle\n")
    assert place.land(Method.MERGE, LandStep.CHECK).kind is OutcomeKind.REFUSED, "before a landing"
    yield
    assert (place.checkout / "README").read_text() == "in the middle\n"


NEVER = ["2999-01-01T00:00:00+00:00", "9999-12-31T23:59:59-23:00", "soon"]


@pytest.mark.parametrize(
    "trouble",
    [full_disk, locked_branch, local_changes, *(partial(locked_branch, since=since) for since in NEVER)],
    ids=["full disk", "locked branch", "local changes", *NEVER],
)
def test_trouble_is_waited_for_until_patience_ends(
    place: Direct, trouble: Callable[[Direct], AbstractContextManager[None]]
):
    with trouble(place):
        assert place.land().kind is OutcomeKind.DEFERRED
        place.now += timedelta(minutes=59)
        assert place.land().kind is OutcomeKind.DEFERRED
        place.now += timedelta(minutes=2)
        refused = place.land()
    assert (refused.kind, place.has_work) == (OutcomeKind.REFUSED, False)
    assert trouble is local_changes or "land_patience" in refused.error


def test_a_record_that_somebody_made_up_reverts_nothing(place: Direct):
    forged = f'{{"commit": "{place.base}", "tree_before": "{place.base}", "method": "merge"}}'
    before = place.commits()

    assert place.revert(forged).kind is OutcomeKind.SUCCEEDED
    assert place.commits() == before


def test_a_dry_run_finds_a_conflict_a_missing_base_branch_and_what_has_landed(place: Direct):
    def previewed(**more: Any) -> RepoPreview:
        change = RepoChange(repo="r", branch="coord/P", base=place.base, tip=place.tip, run="R1")
        one = RepoLanding(**{"repo": "r", "branch": "main", "via": Via.LOCAL, "change": change, **more})
        found = Landing(change_set="P", title="x", patience=timedelta(hours=1), repos=(one,))
        (seen,) = preview_of(PreparedLanding(kind="land", landing=found), {"r": place.checkout}).repos
        return seen

    def would(**more: Any) -> tuple[str, bool]:
        seen = previewed(**more)
        return seen.would.partition(" ")[0], bool(seen.problem)

    def left_out() -> int:
        return previewed().left_out

    assert would() == ("merge", False)
    assert would(branch="trunk") == ("be", True)
    assert left_out() == 0
    git(place.checkout, "branch", "-f", "coord/P", foreign_commit(place, place.tip))
    assert left_out() == 1, "a commit of a person on the branch"
    git(place.checkout, "branch", "-f", "coord/P", place.tip)
    git(place.checkout, "merge", "-q", "coord/P")
    assert would() == ("change", False)
    git(place.checkout, "reset", "-q", "--hard", place.base)
    (place.checkout / "work").write_text("theirs\n")
    git(place.checkout, "add", "--all")
    git(place.checkout, "commit", "-qm", "theirs")
    assert would() == ("be", True)


@pytest.mark.parametrize("how", ["no remote", "a remote", "another branch"])
def test_a_checkout_that_a_landing_left_behind_is_named_with_the_command_that_updates_it(
    place: Direct, how: str
):
    def commands(done: AttemptOutcome) -> tuple[str, ...]:
        todo = {"id": "P.land.r", "repo": "r", "state": "succeeded", "attempt": 1}
        todo |= {"output": json.loads(done.output)}
        return commands_to_pull([TodoView.model_validate(todo)], [place.repo], {"r": place.checkout})

    if how == "a remote":
        git(place.checkout, "remote", "add", "origin", str(place.folder / "r.git"))
        git(place.checkout, "fetch", "-q")
        git(place.checkout, "branch", "-q", "--set-upstream-to=origin/main", "main")
    elif how == "another branch":
        git(place.checkout, "checkout", "-q", "coord/P")
    for step in (place.land, place.revert):
        done = step()
        assert len(commands(done)) == (place.via is Via.PUSH)
        for command in commands(done):
            subprocess.run([*shlex.split(command), "-q"], check=True)
        assert commands(done) == ()


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("ssh://git@host/r.git", "ssh://git@host/r.git"),
        ("https://anna:pa@ss@host/r.git", "https://host/r.git"),
    ],
)
def test_the_command_that_updates_a_checkout_names_the_user_of_ssh_and_no_password(
    place: Direct, url: str, source: str
):
    todo = {"id": "P.land.r", "repo": "r", "state": "succeeded", "attempt": 1}
    view = TodoView.model_validate({**todo, "output": {"commit": place.tip}})
    repo = place.repo.model_copy(update={"url": url})
    command = f"git -C {place.checkout} pull {source} main"
    assert commands_to_pull([view], [repo], {"r": place.checkout}) == (command,)
    assert commands_to_pull([view], [repo], {"r": Path("x" * 300)}) == (), "the system refuses to look there"


@pytest.mark.parametrize("own", [True, False], ids=["compensation", "revert todo"])
def test_a_revert_restores_no_tree_that_the_base_branch_never_had(place: Direct, own: bool):
    """Or the owner of Redis, who writes the record of the landing, would choose what lands."""
    known = json.loads(place.land().output)
    assert place.landed is not None
    foreign = foreign_commit(place, "main")
    tree = git(place.checkout, "rev-parse", f"{foreign}^{{tree}}")
    place.landed = place.seal_landing(place.tip, place.landed.model_copy(update={"tree_before": tree}))
    forged, action, before = (
        json.dumps({**known, "tree_before": tree, "signed": place.landed.signed}),
        place.revert_action(),
        place.commits(),
    )

    undone = place.revert(forged if own else None, action)

    assert undone.kind is OutcomeKind.REFUSED
    assert place.commits() == before
    assert place.has_work


@pytest.mark.parametrize("own", [True, False], ids=["compensation", "revert todo"])
def test_a_revert_takes_out_no_commit_whose_landing_no_worker_has_signed(place: Direct, own: bool):
    known = json.loads(place.land().output)
    fix = foreign_commit(place, known["commit"])
    git(place.checkout, "push", "-q", str(place.target), f"{fix}:refs/heads/fix")
    git(place.target, "update-ref", "refs/heads/main", fix)
    assert place.landed is not None
    older = git(place.target, "rev-parse", f"{fix}~1^{{tree}}")
    place.landed = place.landed.model_copy(update={"commit": fix, "tree_before": older})
    output = json.dumps({**known, "tree_before": older})
    before = place.commits()

    with pytest.raises(NotTrusted):
        place.revert(output if own else None)

    assert place.commits() == before


def test_a_forged_record_of_a_killed_landing_gets_no_signature(place: Direct):
    """Else its tree would be restored by the revert."""
    older = git(place.checkout, "rev-parse", "main^{tree}")
    fix = foreign_commit(place, "main")
    git(place.checkout, "push", "-q", str(place.target), f"{fix}:refs/heads/fix")
    git(place.target, "update-ref", "refs/heads/main", fix)
    git(place.checkout, "reset", "-q", "--hard", fix) if place.via is Via.LOCAL else None
    place.die_at = "push"
    with pytest.raises(Killed):
        place.land()
    place.checkpoint = json.dumps({**json.loads(place.checkpoint), "tree_before": older})

    assert place.land().kind is OutcomeKind.SUCCEEDED

    assert place.landed is not None
    assert place.landed.tree_before == git(place.target, "rev-parse", f"{fix}^{{tree}}")


def test_a_landing_by_people_is_recorded_with_the_base_that_was_signed(tmp_path: Path):
    place = Direct(tmp_path, Via.LOCAL)
    place.create()
    older = place.base
    fix = foreign_commit(place, "main")
    git(place.checkout, "reset", "-q", "--hard", fix)
    place.begin_at_a_new_commit()
    place.signed_base, place.base = place.base, older
    git(place.checkout, "merge", "-q", "--ff-only", place.tip)

    assert place.land().kind is OutcomeKind.SUCCEEDED

    assert place.landed is not None
    assert place.landed.method == BY_PEOPLE
    assert place.landed.tree_before == git(place.checkout, "rev-parse", f"{fix}^{{tree}}")


def test_a_tip_that_was_forged_before_a_revert_is_not_signed_by_the_worker_that_reverts(place: Direct):
    """Else it could land afterwards."""
    place.land()
    action = place.revert_action()
    place.tip = place.distrusted = foreign_commit(place, place.tip)

    assert place.revert(action=action).kind is OutcomeKind.SUCCEEDED
    assert not place.has_work
    assert not place.signs
    assert git(place.checkout, "merge-base", place.tip, place.distrusted) == place.distrusted


def foreign_commit(place: Direct, parent: str) -> str:
    """Make a commit that a todo has made on no worker, and of which the checkout has the objects."""
    git(place.checkout, "checkout", "-q", "--detach", parent)
    (place.checkout / "evil").write_text("evil")
    git(place.checkout, "add", "--all")
    git(place.checkout, "commit", "-qm", "evil")
    made = git(place.checkout, "rev-parse", "HEAD")
    git(place.checkout, "checkout", "-q", "main")
    return made


def test_a_setting_that_a_hook_of_the_checkout_changes_is_put_back_and_logged(tmp_path: Path):
    place = Direct(tmp_path, Via.LOCAL)
    place.create()
    config, hook = place.checkout / ".git" / "config", place.checkout / ".git" / "hooks" / "post-receive"
    before = config.read_text()
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ngit config core.bare true\n")
    hook.chmod(0o755)

    assert place.land().kind is OutcomeKind.SUCCEEDED
    assert place.has_work
    assert config.read_text() == before
    assert any("core.bare" in line for line in place.log)
