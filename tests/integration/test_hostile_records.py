"""Foreign data beside a bundle in Redis redirects no host, moves no branch and is no option of git."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hosts import World, tip, works
from tests.testbed import git
from workers.transfer import routes
from workers.transfer.commits import CommitTransfer
from workers.transfer.fetcher import CommitFetcher, CommitRef
from workers.transfer.routes import NotCarried
from workers.workspace.repository import has_commit


class Scene:
    """A commit of host `a`, and what stands beside its bundle written anew by somebody who may."""

    def __init__(self, world: World) -> None:
        self.remote = world.remote("up")
        self.mine = world.repo("a/up")
        git(self.mine, "push", "-q", str(self.remote), "main")
        self.theirs = world.clone(self.remote, "b/up")
        self.a = world.host("a", up=self.mine)
        self.run = world.run({"T1": "up"}, **works("T1"))
        self.a.do(self.run, "T1", "up")
        self.commit = tip(self.mine, self.run)
        self.key = self.a.parts.keys.run(self.run).bundle("up")
        self.fields = self.a.parts.bundle_redis
        self.fetcher = CommitFetcher(world.bundles, world.folder / "b" / "state", {"up": self.theirs})
        self.origin = self.a.parts.store.brief(self.run).origins["up"]

    def says(self, **told: str | bytes) -> None:
        """Instead of what was written: `bundle`, `since`, `elsewhere`."""
        self.fields.delete(self.key)
        names = {
            "bundle": self.commit,
            "since": f"{self.commit} since",
            "elsewhere": f"{self.commit} elsewhere",
        }
        self.fields.hset(self.key, mapping={names[name]: value for name, value in told.items()})

    def fetch(self) -> None:
        branch = f"coord/{self.run}"
        sought = CommitRef(run_id=self.run, repo="up", branch=branch, commit=self.commit, origin=self.origin)
        self.fetcher.fetch(sought, self.theirs)

    @property
    def refs(self) -> str:
        return git(self.theirs, "for-each-ref", "--format=%(refname) %(objectname)")


@pytest.fixture
def scene(world: World) -> Scene:
    return Scene(world)


def test_what_arrives_moves_no_branch_and_leaves_no_ref(scene: Scene):
    before = scene.refs
    scene.fetch()

    assert has_commit(scene.theirs, scene.commit)
    assert scene.refs == before


ELSEWHERE: dict[str, Callable[[Scene], str]] = {
    "another address": lambda scene: f"remote coord/{scene.run} {scene.mine}",
    "a remote helper": lambda scene: f"remote coord/{scene.run} ext::sh -c touch% {scene.mine}/pwned",
    "an option": lambda scene: f"remote coord/{scene.run} --upload-pack=touch {scene.mine}/pwned;",
    "another branch": lambda scene: f"remote main2 {scene.remote}",
    "a refspec": lambda scene: f"remote coord/{scene.run}:refs/heads/main {scene.remote}",
}


@pytest.mark.parametrize("elsewhere", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_record_of_another_address_or_branch_is_refused(scene: Scene, elsewhere: Callable[[Scene], str]):
    git(scene.mine, "push", "-q", str(scene.remote), f"{scene.commit}:refs/heads/main2")
    before = scene.refs
    scene.says(elsewhere=elsewhere(scene))

    with pytest.raises(NotCarried, match="is not what run"):
        scene.fetch()
    assert scene.refs == before
    assert not (scene.mine / "pwned").exists()
    assert not has_commit(scene.theirs, scene.commit)


def test_the_runs_own_branch_at_the_declared_address_is_fetched(scene: Scene):
    git(scene.mine, "push", "-q", str(scene.remote), f"coord/{scene.run}")
    scene.says(elsewhere=f"remote coord/{scene.run} {scene.remote}")
    scene.fetch()

    assert has_commit(scene.theirs, scene.commit)


def test_a_declared_address_that_runs_a_command_is_not_called(scene: Scene):
    url = f"ext::sh -c touch% {scene.mine}/pwned"
    scene.origin = scene.origin.model_copy(update={"url": url})
    scene.says(elsewhere=f"remote coord/{scene.run} {url}")

    with pytest.raises(NotCarried, match="transport 'ext' not allowed"):
        scene.fetch()
    assert not (scene.mine / "pwned").exists()


def bundle_of(scene: Scene, *what: str) -> bytes:
    file = scene.mine.parent / "bundle"
    git(scene.mine, "bundle", "create", "-q", str(file), *what)
    return file.read_bytes()


def test_a_bundle_that_holds_other_heads_is_refused(scene: Scene):
    before = scene.refs
    for what in (["main"], [f"coord/{scene.run}", "main"]):
        scene.says(bundle=bundle_of(scene, *what))
        with pytest.raises(NotCarried, match="holds something else"):
            scene.fetch()
    git(scene.mine, "branch", "-q", "other", scene.commit)
    scene.says(bundle=bundle_of(scene, "other"))
    with pytest.raises(NotCarried, match="holds something else"):
        scene.fetch()
    assert scene.refs == before


@pytest.mark.parametrize("since", ["--all", "HEAD", "../x", "0" * 39])
def test_what_a_bundle_adds_to_must_be_a_commit(scene: Scene, since: str):
    scene.says(bundle=bundle_of(scene, f"coord/{scene.run}"), since=since)
    with pytest.raises(NotCarried, match="is not a commit"):
        scene.fetch()


def test_bundles_that_add_to_each_other_in_a_ring_come_to_an_end(scene: Scene):
    scene.says(bundle=bundle_of(scene, f"coord/{scene.run}"), since=scene.commit)
    with pytest.raises(NotCarried):
        scene.fetch()


def test_more_than_coord_writes_is_not_read(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    scene.says(elsewhere="x" * (routes.LONGEST_FIELD + 1))
    with pytest.raises(NotCarried, match="more than 4096"):
        scene.fetch()
    scene.says(bundle=bundle_of(scene, f"coord/{scene.run}"))
    monkeypatch.setattr(routes, "LARGEST_BUNDLE", 100)
    with pytest.raises(NotCarried, match="more than 100"):
        scene.fetch()


def test_a_rollback_deletes_nothing_where_somebody_says_that_it_was_pushed(scene: Scene, world: World):
    elsewhere = world.folder / "elsewhere.git"
    git(world.folder, "init", "-q", "--bare", str(elsewhere))
    git(scene.mine, "push", "-q", str(elsewhere), f"coord/{scene.run}")
    scene.says(elsewhere=f"remote coord/{scene.run} {elsewhere}")
    scene.fields.hset(scene.key, "published", scene.commit)
    store = scene.a.parts.store
    store.rollback(scene.run, "lena", "asked by lena")
    grant = store.claim(
        scene.run, "T1", 2, worker="w", host=scene.a.parts.worker.host, lease=world.settings.lease_ttl
    )
    assert grant.grant is not None
    CommitTransfer(scene.a.parts.execution.bundles, scene.a.parts.config, scene.a.parts.served).withdraw(
        grant.grant, [scene.run]
    )

    assert git(elsewhere, "for-each-ref", "--format=%(refname)") == f"refs/heads/coord/{scene.run}"


def test_a_tip_in_redis_that_is_an_option_of_git_is_refused(scene: Scene, world: World, tmp_path: Path):
    store = scene.a.parts.store
    run = world.run({"T2": "up"}, **works("T2"))
    store.redis.hset(store.keys.run(run).tips, "up", "--output=pwned")
    scene.a.parts.deliveries.handle(run, "T2", 1, "up")

    assert "is not a commit" in store.redis.hget(store.keys.run(run).facts, "T2 error")
