"""Compensations as workers take them from Redis: what was pushed goes there too, and a repository that is
away is waited for.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.disks import fill
from tests.hosts import WRITES, Host, World, tip
from tests.plans import Todos
from tests.testbed import git
from workers.outcome import TaskResult, TaskResultKind

A, A_AND_B = {"A": "up"}, {"A": "up", "B": ("up", ["A"])}


class Scene:
    """A run on one host that pushes what it commits, done and then rolled back."""

    def __init__(self, world: World, todos: Todos, compensate: str | None = "true") -> None:
        world.limit(0)
        self.remote = world.remote("up")
        self.checkout = world.repo("a/up")
        git(self.checkout, "push", "-q", str(self.remote), "main")
        self.host: Host = world.host("a", up=self.checkout)
        fields = {"action": WRITES, "compensate": compensate, "retry": {"attempts": 1}}
        more = {name: {field: value for field, value in fields.items() if value} for name in todos}
        self.run = world.run(todos, **more)
        for name in todos:
            self.host.do(self.run, name, "up")

    def roll_back(self) -> None:
        assert self.host.parts.store.rollback(self.run, "lena", "asked by lena").word == "rolling_back"

    def fact(self, todo: str, name: str) -> str:
        return self.host.parts.redis.hget(self.host.parts.keys.run(self.run).facts, f"{todo} {name}") or ""

    def waits_for(self, words: str) -> None:
        """Undo A: it cannot be done yet, and is left for later."""
        assert self.undo("A").kind is TaskResultKind.LATER
        assert self.state("A") == "parked"
        assert words in self.fact("A", "waits_for")

    def goes_on(self) -> None:
        """Undo the rest, once the obstacle is gone."""
        self.fire()
        assert self.undo("A").kind is TaskResultKind.DONE, self.fact("A", "undo_error")
        assert self.host.parts.store.status(self.run) == "rolled_back"
        assert self.branches(self.checkout) == ["main"]

    def fire(self) -> None:
        self.host.parts.dispatcher.follow(self.host.parts.store.fire(self.run, "A"))

    def state(self, todo: str) -> str:
        return self.host.parts.redis.hget(self.host.parts.keys.run(self.run).state, todo) or ""

    def undo(self, todo: str) -> TaskResult:
        return self.host.parts.deliveries.handle(self.run, todo, int(self.fact(todo, "attempt")), "up")

    def branches(self, where: Path) -> list[str]:
        return git(where, "for-each-ref", "--format=%(refname:short)", "refs/heads").splitlines()


def test_what_a_run_has_pushed_is_deleted_there_when_it_is_undone(world: World):
    scene = Scene(world, A_AND_B)
    branch, main = f"coord/{scene.run}", git(scene.remote, "rev-parse", "main")
    assert scene.branches(scene.remote) == [branch, "main"]

    scene.roll_back()
    assert scene.undo("B").kind is TaskResultKind.DONE
    assert scene.branches(scene.remote) == [branch, "main"]
    assert scene.undo("A").kind is TaskResultKind.DONE

    assert scene.branches(scene.remote) == scene.branches(scene.checkout) == ["main"]
    assert git(scene.remote, "rev-parse", "main") == git(scene.checkout, "rev-parse", "main") == main
    assert scene.host.parts.store.status(scene.run) == "rolled_back"
    assert not list(scene.host.state.glob("work*/*"))


def test_where_it_is_deleted_there_already_the_rest_goes(world: World):
    scene = Scene(world, A)
    git(scene.remote, "branch", "-D", f"coord/{scene.run}")

    scene.roll_back()
    assert scene.undo("A").kind is TaskResultKind.DONE
    assert scene.branches(scene.checkout) == ["main"]


def pushed_upon(scene: Scene) -> None:
    git(scene.checkout, "fetch", "-q", str(scene.remote), f"coord/{scene.run}")
    mine = git(scene.checkout, "commit-tree", "-p", "FETCH_HEAD", "-m", "mine", "main^{tree}")
    git(scene.checkout, "push", "-q", str(scene.remote), f"{mine}:refs/heads/coord/{scene.run}")


def protected(scene: Scene) -> None:
    git(scene.remote, "config", "receive.denyDeletes", "true")


@pytest.mark.parametrize(
    ("prepare", "why"),
    [
        (pushed_upon, "branch {branch} of {url} stays: it has commits that no run has made"),
        (protected, "branch {branch} of {url} cannot be deleted: "),
        (lambda scene: scene.remote.rename(scene.remote.with_name("away")), "it cannot be pushed to {url}: "),
    ],
    ids=["somebody's commit", "protected", "away"],
)
def test_a_branch_that_the_remote_keeps_stays_here_too(
    world: World, prepare: Callable[[Scene], object], why: str
):
    scene = Scene(world, A)
    branch = f"coord/{scene.run}"
    prepare(scene)

    scene.roll_back()
    assert scene.undo("A").kind is TaskResultKind.FAILED

    assert scene.state("A") == "compensation_failed"
    assert scene.fact("A", "undo_error").startswith(why.format(branch=branch, url=scene.remote))
    assert branch in scene.branches(scene.checkout)
    assert scene.host.parts.store.status(scene.run) == "rollback_failed"


def test_a_repository_that_is_away_is_waited_for_and_nothing_counts_as_undone(world: World):
    scene = Scene(world, A)
    away = scene.checkout.with_name("away")
    scene.checkout.rename(away)

    scene.roll_back()
    scene.waits_for(f"there is no folder {scene.checkout}")

    away.rename(scene.checkout)
    scene.goes_on()


@pytest.mark.parametrize("ends", ["exit 0", "exit 1"])
def test_a_repository_that_goes_while_it_is_undone_is_waited_for_too(world: World, tmp_path: Path, ends: str):
    checkout = world.folder / "a" / "up"
    away = tmp_path / "away"
    scene = Scene(world, A, f"[ -e {away} ] || {{ mv {checkout} {away}; {ends}; }}")

    scene.roll_back()
    scene.waits_for(f"there is no folder {checkout}")

    shutil.copytree(away, checkout)
    scene.goes_on()


def test_without_its_worktree_a_todo_is_undone_at_the_tip_of_the_run(world: World, tmp_path: Path):
    scene = Scene(world, A, f"cat work > {tmp_path}/seen; git log -1 --format=%H >> {tmp_path}/seen")
    commit = tip(scene.checkout, scene.run)
    worktree = scene.host.state / "worktrees" / scene.run / "up"
    git(scene.checkout, "worktree", "remove", "--force", str(worktree))

    scene.roll_back()
    assert scene.undo("A").kind is TaskResultKind.DONE
    assert (tmp_path / "seen").read_text().splitlines() == ["A", commit]


@pytest.fixture
def disk(small_disk: Callable[[Path], Path], tmp_path: Path) -> Path:
    """On which the host of a scene is."""
    return small_disk(tmp_path / "a")


def test_on_a_full_disk_worktree_and_branch_go_all_the_same(disk: Path, world: World):
    scene = Scene(world, A, None)
    fill(disk)

    scene.roll_back()
    assert scene.undo("A").kind is TaskResultKind.DONE, scene.fact("A", "undo_error")
    assert scene.branches(scene.checkout) == ["main"]
    assert not list(scene.host.state.glob("worktrees/*"))


def test_a_compensation_waits_for_room_on_a_full_disk(disk: Path, world: World, tmp_path: Path):
    scene = Scene(world, A, f"head -c 100000000 /dev/zero > big || {{ [ -e {tmp_path}/room ] || exit 1; }}")
    filler = fill(disk)
    scene.roll_back()
    scene.waits_for("No space left on device")

    filler.unlink()
    scene.fire()
    scene.waits_for("exit code 1; A ended as succeeded without output: the disk")
    assert f"coord/{scene.run}" in scene.branches(scene.checkout)

    (tmp_path / "room").touch()
    scene.goes_on()  # though it has filled the disk
