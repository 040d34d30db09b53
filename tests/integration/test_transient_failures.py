"""Trouble that passes fails no todo and undoes no run: git is killed, disks are full, locks are left, folders
are away.
"""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from coordination.models import OnFailure
from coordination.planner.graph import build
from coordination.runs.logs import LogReader
from coordination.settings import Settings
from tests.disks import fill
from tests.engine import submit
from tests.hosts import WRITES, World, tip
from tests.plans import PLAN, ecosystem, order
from tests.testbed import git
from workers.process.child import start
from workers.process.trouble import Trouble, WorkspaceUnusable
from workers.task_result import TaskResult, TaskResultKind

KILLS = """#!/bin/sh
case " $* " in *" $(cat {trap} 2>/dev/null || echo NEVER) "*) rm {trap}; kill -9 $$;; esac
exec {git} "$@"
"""


REFUSES = """#!/bin/sh
case " $* " in *" $(cat {trap} 2>/dev/null || echo NEVER) "*)
    rm {trap}; {first}; echo "fatal: words that no worker knows" >&2; exit 128;;
esac
exec {git} "$@"
"""
LOSES = """#!/bin/sh
case " $* " in *" $(cat {trap} 2>/dev/null || echo NEVER) "*)
    rm {trap}; {git} "$@" || exit
    id=$({git} rev-parse {object})
    exec rm -f "$({git} rev-parse --git-path objects)/$(echo "$id" | sed 's|^..|&/|')";;
esac
exec {git} "$@"
"""


class Scene:
    """One todo `A` of the repository `up`, in a run that is rolled back when it fails."""

    def __init__(
        self,
        world: World,
        action: str = WRITES,
        settings: Settings | None = None,
        checkout: Path | None = None,
        **fields: object,
    ) -> None:
        settings = settings or Settings(disk_min=0)
        world.settings = settings
        self.checkout = checkout or world.repo("a/up")
        self.host = world.host("a", up=self.checkout)
        self.store = self.host.parts.store
        declared = ecosystem({"A": "up"}, A={"action": action, "retry": {"attempts": 1}, **fields})
        ordered = order(on_failure=OnFailure.ROLLBACK)
        self.run, _ = submit(self.store, build(declared, PLAN), declared, settings, ordered)
        self.worktree = self.host.state / "worktrees" / self.run / "up"

    def fact(self, name: str) -> str:
        return self.store.redis.hget(self.store.keys.run(self.run).facts, f"A {name}") or ""

    @property
    def state(self) -> str:
        return self.store.redis.hget(self.store.keys.run(self.run).state, "A") or ""

    @property
    def failures(self) -> int:
        """That the repository's circuit breaker counts."""
        return int(self.store.redis.llen(self.store.keys.breakers.failures("repo:up")))

    def go(self) -> TaskResult:
        """The todo's next delivery; what it waited for is over."""
        if self.state == "parked":
            self.host.parts.dispatcher.follow(self.store.fire(self.run, "A"))
        return self.host.parts.deliveries.handle(self.run, "A", int(self.fact("attempt") or 1), "up")

    def is_held_up(self, words: str) -> None:
        assert (self.state, self.fact("tries"), self.fact("attempt")) == ("parked", "", "1")
        assert words in self.fact("waits_for")
        assert self.store.status(self.run) == "running"

    @property
    def coords_lines(self) -> list[str]:
        """The lines that coord itself has written into the todo's log."""
        pieces = LogReader(self.store.redis, self.store.keys, self.run, ["A"]).written()
        lines = "".join(piece.text for piece in pieces).splitlines()
        return [line for line in lines if line.startswith("[coord] ")]

    def is_done(self) -> None:
        assert self.go().kind is TaskResultKind.DONE, self.fact("error")
        assert self.store.status(self.run) == "succeeded"
        assert git(self.checkout, "show", f"coord/{self.run}:work") == "A"


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file: the next git command with the words in it is killed."""
    return put_before_git(monkeypatch, tmp_path, KILLS)


def put_before_git(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str, **names: object) -> Path:
    """Return a file: the script replaces the next git command with the words in it."""
    found, trap, folder = shutil.which("git"), folder / "trap", folder / "bin"
    folder.mkdir()
    (folder / "git").write_text(script.format(trap=trap, git=found, **names))
    (folder / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return trap


@pytest.mark.parametrize("of", ["worktree add", "write-tree", "commit --quiet", "rev-parse", "status"])
def test_one_killed_git_uses_up_no_attempt_and_undoes_no_run(world: World, trap: Path, of: str):
    scene = Scene(world)
    trap.write_text(of)

    assert scene.go().kind is TaskResultKind.LATER
    scene.is_held_up("ended")
    assert scene.failures == 1
    scene.is_done()


def test_a_stale_lock_on_the_runs_own_branch_is_removed(world: World):
    scene = Scene(world)
    lock = scene.checkout / ".git" / "refs" / "heads" / "coord" / f"{scene.run}.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    index = scene.checkout / ".git" / "index.lock"
    index.touch()

    scene.is_done()
    assert not lock.exists()
    assert index.exists(), "that is a person's"


def test_a_checkout_that_is_away_for_a_moment_is_waited_for(world: World):
    away = world.folder / "away"
    leaves = f"[ -e {away}.was ] || {{ touch {away}.was; mv {world.folder}/a/up {away}; }}"
    scene = Scene(world, f"{leaves}; {WRITES}")

    assert scene.go().kind is TaskResultKind.LATER
    assert scene.state == "parked"
    away.rename(scene.checkout)
    scene.is_done()


ONCE = {
    "deletes its worktree": ('rm -rf "$COORD_REPO_PATH"', "worktrees", 0),  # the todo may have done it
    "kills its guard": ("kill -9 $PPID; sleep 60", "guard lost", 1),
}
EVERY_TIME = {name: harm for name, (harm, *_) in ONCE.items()} | {
    "makes a repository of it": "rm .git; git init -q"
}


@pytest.mark.parametrize(("harm", "words", "failures"), ONCE.values(), ids=ONCE)
def test_a_todo_that_harms_its_attempt_once_is_repeated(world: World, harm: str, words: str, failures: int):
    once = world.folder / "once"
    scene = Scene(world, f"[ -e {once} ] || {{ touch {once}; {harm}; }}; {WRITES}")

    assert scene.go().kind is TaskResultKind.LATER
    scene.is_held_up(words)
    assert scene.failures == failures
    scene.is_done()


@pytest.mark.parametrize("harm", EVERY_TIME.values(), ids=EVERY_TIME)
def test_a_todo_that_harms_its_attempt_every_time_fails_in_the_end(world: World, harm: str):
    scene = Scene(world, harm)
    verdicts = [scene.go().kind for _ in range(Settings().lost_leases + 1)]

    assert verdicts == [TaskResultKind.LATER] * Settings().lost_leases + [TaskResultKind.FAILED]
    assert "(4 times)" in scene.fact("error")
    assert "newer attempt" not in scene.fact("error")


DAMAGES = {
    "git file deleted": "rm -rf .git",
    "git file deleted, and the command fails": "rm -rf .git; exit 1",
    "git file of another repository": "echo 'gitdir: {victim}/.git' > .git",
    "git file of another repository, and the command fails": "echo 'gitdir: {victim}/.git' > .git; exit 1",
    "git file of another worktree": "echo 'gitdir: {outer}/.git/worktrees/theirs' > .git",
    "a repository of its own": "rm .git; git init -q; git add .",
    "folder is a link": "mv $PWD $PWD.away; ln -s {victim} $PWD",
    "folder of the run is a link": "cd ../..; mv $COORD_RUN_ID away; ln -s {theirs} $COORD_RUN_ID",
}


def state_of(*repositories: Path) -> list[object]:
    """Return the state that the owner of a repository would see changed."""
    facts: list[object] = []
    for path in repositories:
        entry = Path(git(path, "rev-parse", "--absolute-git-dir"))
        facts += [(entry / name).read_bytes() for name in ("HEAD", "index")]
        facts += [(path / name).read_text() for name in ("first", "notes")]
        facts.append(git(path, "rev-parse", "HEAD"))
    return facts


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_todo_that_damages_its_worktree_makes_git_change_no_other_repository(world: World, damage: str):
    outer, victim = world.repo("a"), world.repo("victim")  # the state folder lies in `outer`, as .coord does
    theirs = world.folder / "elsewhere" / "up"
    git(outer, "worktree", "add", "-q", "--detach", str(theirs))
    (outer / ".git/worktrees/up").rename(outer / ".git/worktrees/theirs")
    (theirs / ".git").write_text(f"gitdir: {outer}/.git/worktrees/theirs\n")
    for path in (outer, victim, theirs):
        (path / "first").write_text("staged\n")
        git(path, "add", "first")
        (path / "first").write_text("later\n")
        (path / "notes").write_text("untracked\n")
    before, once = state_of(outer, victim, theirs), world.folder / "once"
    damage = damage.format(victim=victim, outer=outer, theirs=theirs.parent)
    action = f"echo made > made; [ -e {once} ] || {{ touch {once}; {damage}; exit; }}; {WRITES}"
    scene = Scene(world, action, checkout=outer)

    assert scene.go().kind is TaskResultKind.LATER
    scene.is_held_up(str(scene.worktree))
    assert scene.failures == 0, "the todo has done it"
    assert state_of(outer, victim, theirs) == before
    scene.is_done()
    assert state_of(outer, victim, theirs) == before


def test_plain_git_in_a_worktree_without_its_git_file_finds_no_repository_above(world: World):
    outer = world.repo("a")
    scene = Scene(world, "rm .git; git add --all || true", checkout=outer)

    assert scene.go().kind is TaskResultKind.LATER
    assert "not a git repository" in scene.host.log(scene.run, "A")
    assert git(outer, "diff", "--cached", "--name-only") == ""


def test_a_full_disk_holds_the_todo_up_until_there_is_room(world: World, small_disk: Callable[[Path], Path]):
    small_disk(world.folder / "a")
    scene = Scene(world)
    filler = fill(world.folder / "a")

    assert scene.go().kind is TaskResultKind.LATER
    scene.is_held_up("No space left on device")
    first = scene.store.redis.zscore(scene.store.keys.timers, f"{scene.run} A") - scene.store.now_ms()
    assert scene.go().kind is TaskResultKind.LATER
    second = scene.store.redis.zscore(scene.store.keys.timers, f"{scene.run} A") - scene.store.now_ms()
    assert first <= 1000 < second <= 2000, "the timer grows"
    ends_here, interrupted, hint = scene.coords_lines
    assert "ends here" in ends_here
    assert "interrupted, not failed: " in interrupted
    assert "No space left on device" in interrupted
    assert "next: " in hint

    filler.unlink()
    scene.is_done()


@pytest.mark.parametrize(
    ("of", "action", "first"),
    [
        ("worktree add", "true", "cat /dev/zero > {filler} 2>/dev/null"),
        ("add --sparse --all", "true", "cat /dev/zero > {filler} 2>/dev/null"),
        ("commit --quiet", "true", "cat /dev/zero > {filler} 2>/dev/null"),
        ("status", "[ -e {once} ] || {{ touch {once}; cat /dev/zero > {filler}; }}; true", "rm {filler}"),
    ],
    ids=["worktree", "index", "commit", "full when it began"],
)
def test_a_refusal_of_git_on_a_full_disk_passes_with_any_message(
    world: World,
    tmp_path: Path,
    small_disk: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    of: str,
    action: str,
    first: str,
):
    filler, once = small_disk(world.folder / "a") / "filler", world.folder / "once"
    scene = Scene(world, f"{WRITES}; {action.format(filler=filler, once=once)}")
    trap = put_before_git(monkeypatch, tmp_path, REFUSES, first=first.format(filler=filler))
    trap.write_text(of)

    assert scene.go().kind is TaskResultKind.LATER
    scene.is_held_up("disk")
    assert not trap.exists()
    filler.unlink(missing_ok=True)
    scene.is_done()


@pytest.mark.parametrize(
    ("of", "object"),
    [("add --sparse --all", ":work"), ("commit --quiet", "HEAD:work"), ("commit --quiet", "HEAD^{{tree}}")],
)
def test_a_git_that_ends_well_and_loses_an_object_is_found_out(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str, object: str
):
    """As `git add` does on a full disk with core.fsyncMethod=batch."""
    scene = Scene(world)
    put_before_git(monkeypatch, tmp_path, LOSES, object=object.format()).write_text(of)

    assert scene.go().kind is TaskResultKind.LATER
    scene.is_held_up("object")
    scene.is_done()
    git(scene.checkout, "fsck", "--connectivity-only", f"coord/{scene.run}")


def test_a_command_that_fails_on_a_full_disk_is_tried_again(world: World, small_disk: Callable[[Path], Path]):
    disk = small_disk(world.folder / "a")
    fills = (
        f"[ -e {world.folder}/full ] || {{ touch {world.folder}/full; cat /dev/zero > {disk}/filler; exit"
        " 1; }"
    )
    scene = Scene(world, f"{fills}; {WRITES}")

    assert scene.go().kind is TaskResultKind.LATER
    scene.is_held_up("is full")
    (disk / "filler").unlink()
    scene.is_done()


def test_a_command_is_tried_again_for_as_long_as_its_disk_is_full(
    world: World, small_disk: Callable[[Path], Path]
):
    disk = small_disk(world.folder / "a")
    filler, opened = disk / "filler", world.folder / "opened"
    fills = f"cat /dev/zero > {filler}; truncate -s -600K {filler}"
    scene = Scene(world, f"{fills}; [ -e {opened} ] || exit 1; rm {filler}; {WRITES}", workspace="in-place")

    for _ in range(Settings().lost_leases + 3):
        assert scene.go().kind is TaskResultKind.LATER
        scene.is_held_up("full")
    for text in ("interrupted, not failed", "next: free some space"):
        assert sum(text in line for line in scene.coords_lines) == 1, "once, not at each try"
    # The worker may write the command's output when there is room again.
    assert sum("ends here" in line for line in scene.coords_lines) <= 1
    opened.touch()
    assert scene.go().kind is TaskResultKind.DONE


def test_trouble_that_never_passes_can_be_cancelled(world: World, trap: Path):
    scene = Scene(world)
    trap.write_text("worktree add")
    assert scene.go().kind is TaskResultKind.LATER

    scene.store.cancel(scene.run, "lena")
    assert (scene.state, scene.store.status(scene.run)) == ("cancelled", "cancelled")


@pytest.mark.parametrize("of", ["worktree list", "update-ref --no-deref", "for-each-ref"])
def test_one_killed_git_does_not_make_a_rollback_fail(world: World, trap: Path, of: str):
    scene = Scene(world)
    scene.is_done()
    scene.store.rollback(scene.run, "lena", "asked by lena")
    trap.write_text(of)

    assert scene.go().kind is TaskResultKind.LATER
    assert scene.state == "parked"
    assert scene.go().kind is TaskResultKind.DONE
    assert scene.store.status(scene.run) == "rolled_back"
    assert git(scene.checkout, "for-each-ref", "--format=%(refname:short)", "refs/heads") == "main"


def test_a_worker_below_disk_min_starts_no_todo_and_still_undoes(world: World):
    scene = Scene(world, compensate="true")
    enough = scene.host
    world.settings = Settings(disk_min=2**60)
    scene.host = world.host("a", up=scene.checkout)

    assert scene.go().kind is TaskResultKind.LATER
    scene.is_held_up("less than disk_min (1048576 TiB) is free in")
    assert not scene.worktree.exists()
    scene.host.parts.leases.sign_on()
    (said,) = scene.host.parts.registry.workers()
    assert (said.short != "", said.fit) == (True, ("up",))

    short, scene.host = scene.host, enough
    scene.is_done()
    scene.host = short
    scene.store.rollback(scene.run, "lena", "asked by lena")
    assert scene.go().kind is TaskResultKind.DONE
    assert scene.store.status(scene.run) == "rolled_back"


def test_one_killed_git_does_not_keep_a_commit_from_other_hosts(world: World, trap: Path):
    scene = Scene(world)
    trap.write_text("bundle create")
    scene.is_done()

    assert not trap.exists()
    assert world.bundles.label(scene.run, "up", tip(scene.checkout, scene.run)).bundled


def test_a_command_for_which_the_machine_has_no_descriptors_left_is_no_failure(tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    wait = timedelta(seconds=5)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(WorkspaceUnusable) as hindered:
            start(["true"], cwd=tmp_path, env={}, timeout=wait, kill_grace=wait, on_output=lambda _: None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert hindered.value.trouble is Trouble.MACHINE
