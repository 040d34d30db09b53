"""A change set comes into the base branches, and out of them again."""

from __future__ import annotations

from pathlib import Path

from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.records import RunStatus
from coordination.runs.store import RunStore
from tests.chaos.failpoints.scene import Scene
from tests.chaos.failpoints.stories.props import MAKES, R, ended
from tests.chaos.failpoints.story import Act, Story
from tests.testbed import PLAN, git

REPOS = ("r", "s")
TODOS = [
    {"id": "A", **R, "action": MAKES},
    {"id": "B", "repo": "s", "action": MAKES, "blocked_by": ["A"]},
]
REMOTES = {repo: {"url": f"{{folder}}/{repo}.git"} for repo in REPOS}
LAND = Act(when=ended, coord=("land", PLAN, "--yes", "--detach"))


def _make_remotes(scene: Scene) -> None:
    for repo in REPOS:
        git(scene.testbed.folder, "clone", "-q", "--bare", repo, f"{repo}.git")


def _refuse_the_second(scene: Scene) -> None:
    """The second remote refuses each push; one that changes nothing does not reach its hook."""
    _make_remotes(scene)
    hook = scene.testbed.folder / "s.git" / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'not today' >&2\nexit 1\n")
    hook.chmod(0o755)


def _targets(scene: Scene) -> list[Path]:
    bare = [scene.testbed.folder / f"{repo}.git" for repo in REPOS]
    return [path if path.exists() else path.with_suffix("") for path in bare]


def _commits(path: Path) -> int:
    return len(git(path, "rev-list", "--first-parent", "main").split())


def _is_open(scene: Scene) -> bool:
    """Return whether the change set can land again: it is recorded, not landed, and nobody writes it."""
    found = ChangeSets(RunStore(scene.redis, scene.keys.namespace)).read(PLAN)
    return found is not None and set(found.open) == {*REPOS} and not found.writer


def _all_landed(scene: Scene) -> bool:
    """Return whether each base branch has the work, by one commit beside the first."""
    return all(
        f"made-by-{todo}" in git(path, "ls-tree", "--name-only", "main").split() and _commits(path) == 2
        for todo, path in zip("AB", _targets(scene), strict=True)
    )


def _none_landed(scene: Scene, *commits: int) -> bool:
    files = [git(path, "ls-tree", "--name-only", "main") for path in _targets(scene)]
    return (
        not any("made-by" in names for names in files)
        and tuple(map(_commits, _targets(scene))) == commits
        and _is_open(scene)
    )


def _judge_landed(scene: Scene) -> None:
    if not _all_landed(scene):
        scene.outcome.wrong.append("half landed, or by more than one commit")


LANDED = Story(
    name="landed and reverted",
    todos=TODOS,
    repos=REMOTES,
    before=_make_remotes,
    acts=[LAND, Act(when=ended, do=_judge_landed, coord=("revert", PLAN, "--yes", "--detach"))],
    over=lambda scene: _none_landed(scene, 3, 3),
)
LANDED_LOCALLY = Story(name="landed in the checkouts", todos=TODOS, acts=[LAND], over=_all_landed)
NOT_LANDED = Story(
    name="refused by the second remote",
    todos=TODOS,
    repos=REMOTES,
    before=_refuse_the_second,
    acts=[LAND],
    ends=[RunStatus.SUCCEEDED, RunStatus.ROLLED_BACK],
    over=lambda scene: _none_landed(scene, 3, 1),
)
