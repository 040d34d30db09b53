"""Change sets on two machines whose workers require signatures: checked, landed, discarded, adopted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordination.backend.client import Profile, connect
from tests.machines import Loopback, Machine, Site, trusting
from tests.testbed import PLAN, Done, Testbed, git

READ = "json.load(open(os.environ['COORD_CONTEXT']))['predecessors']"
SEES = (
    f"python3 -c \"import json, os; at = [p['path'] for p in {READ} if p['repo'] == 'up'][-1]; "
    "assert 'new' in open(at + '/format').read()\""
)
TODOS = [
    {"id": "MAKE", "repo": "up", "action": "echo new > format"},
    {"id": "USE", "repo": "down", "action": f"{SEES} && echo used > use", "blocked_by": ["MAKE"]},
]
WORK = {"up": "format", "down": "use"}
DEPENDS = {"id": "D", "consumer": "down", "provider": "up", "type": "runtime"}


class Two:
    """A laptop with the file; `up` on ann and `down` on ben, each with a bare remote."""

    def __init__(self, laptop: Testbed, ann: Machine, ben: Machine, folder: Path, url: str) -> None:
        self.laptop, self.folder, self.url = laptop, folder, url
        self.machines = {"up": ann, "down": ben}
        self.repos: dict[str, Any] = {
            "up": {"qa": "grep -q new format"},
            "down": {"qa": f"{SEES}; test -e use"},
        }
        for repo, machine in self.machines.items():
            path = machine.repo(repo)
            git(path, "clone", "-q", "--bare", str(path), str(self.remote(repo)))
            self.repos[repo] |= {"url": str(self.remote(repo)), "path": None}
            machine.worker(**{repo: repo})
        self.write(laptop)

    def write(self, testbed: Testbed, *more: dict[str, Any], **paths: str) -> None:
        """Write the file with these further todos, on a machine with these checkouts. A sweep is over."""
        repos = {name: {**fields, "path": paths.get(name)} for name, fields in self.repos.items()}
        done = {"status": "completed"} if more else {}
        testbed.write([*({**todo, **done} for todo in TODOS), *more], repos=repos)
        with testbed.edited() as file:
            file["coordination"]["dependencies"] = [DEPENDS]

    def remote(self, repo: str) -> Path:
        return self.folder / f"{repo}.git"

    def checkout(self, repo: str) -> Path:
        return self.machines[repo].folder / repo

    def landed(self) -> list[bool]:
        """Return whether the remotes have the work."""
        files = {repo: git(self.remote(repo), "ls-tree", "--name-only", "main").split() for repo in WORK}
        return [file in files[repo] for repo, file in WORK.items()]

    def commit_by_hand(self, repo: str) -> None:
        """Commit on a branch of a person, on top of the change set."""
        path = self.checkout(repo)
        git(path, "switch", "-qc", "mine", f"coord/{PLAN}")
        (path / "by-hand").write_text("x\n")
        git(path, "add", "--all")
        git(path, "commit", "-qm", "by hand")
        git(path, "switch", "-q", "main")
        self.write(self.machines[repo], **{repo: repo})

    def adopt(self, repo: str, *branch: str) -> None:
        """Adopt a branch, or what is lost, on the machine of a repository, as the person whom all trust."""
        words = (repo, *branch) if branch else ()
        identity = str(self.folder / "person")
        self.machines[repo].ok("plan", "adopt", PLAN, *words, "--yes", COORD_IDENTITY=identity)

    def refusals(self) -> list[Any]:
        """Return what workers have refused for its signature."""
        found: list[Any] = self.laptop.ok("event", "list", "--kind", "trust.*", "--json").json
        return found


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    site = Site(tmp_path, Loopback())
    try:
        yield Two(*trusting(site, tmp_path), tmp_path, site.url)
    finally:
        site.end()


def verdicts(two: Two) -> dict[str, str]:
    """Return repository → verdict of its check on the change set."""
    report = two.laptop.coord("qa", "run", "--plan", PLAN, "--json").json
    return {one["repo"]: one["verdict"] for one in report["checks"]}


def test_work_of_two_hosts_is_checked_landed_reverted_and_discarded(two: Two):
    two.laptop.ok("sweep", PLAN)
    assert verdicts(two) == {"up": "green", "down": "green"}
    two.laptop.ok("land", PLAN, "--yes")
    assert two.landed() == [True, True]
    two.laptop.ok("revert", PLAN, "--yes")
    assert two.landed() == [False, False]
    tips = {one["repo"]: one["tip"] for one in two.laptop.ok("changes", PLAN, "--json").json}
    assert {repo: git(two.checkout(repo), "rev-parse", f"coord/{PLAN}") for repo in tips} == tips

    assert verdicts(two) == {"up": "green", "down": "green"}, "the restored work has reached the other host"
    two.laptop.ok("land", PLAN, "--yes", "--via", "local")
    assert [(two.checkout(repo) / file).exists() for repo, file in WORK.items()] == [True, True]
    two.laptop.ok("revert", PLAN, "--yes")
    fresh = two.laptop.ok("sweep", PLAN, "--fresh", "--yes", "--json")
    assert fresh.states == {"MAKE": "succeeded", "USE": "succeeded"}
    kept = [git(two.checkout(repo), "for-each-ref", "refs/coord/discarded") for repo in tips]
    assert all(kept)
    assert two.refusals() == []


def test_adopted_commits_reach_other_hosts_also_after_redis_was_lost(two: Two):
    two.laptop.ok("sweep", PLAN)
    for repo in WORK:
        two.commit_by_hand(repo)
        unsigned = two.machines[repo].coord("plan", "adopt", PLAN, repo, "mine", "--yes")
        assert unsigned.code == 4
        two.adopt(repo, "mine")
    assert verdicts(two) == {"up": "green", "down": "green"}

    more = f"{SEES} && test -e by-hand && echo > more"
    two.write(two.laptop, {"id": "MORE", "repo": "down", "action": more, "blocked_by": ["MAKE", "USE"]})
    lose_records(two, "run:*", "change*", "adopted:*")
    with connect(two.url, Profile.COMMAND) as redis:
        for repo in WORK:
            two.adopt(repo)
        assert two.laptop.ok("sweep", PLAN, "--json").states["MORE"] == "succeeded"
        two.laptop.ok("land", PLAN, "--yes")
        assert two.landed() == [True, True]
        assert list(redis.scan_iter("coord:adopted:*")) == [], "bundles go with the landing"

    two.write(two.laptop, {"id": "LOST", "repo": "up", "status": "completed"})
    unknown = two.laptop.coord("land", PLAN, "--yes")
    assert (unknown.code, f"coord land {PLAN} --accept LOST" in unknown.err) == (6, True)
    up = two.checkout("up")
    git(up, "switch", "-qc", "found")
    (up / "lost").write_text("x\n")
    git(up, "add", "--all")
    git(up, "commit", "-qm", f"lost\n\nCoord-Plan: {PLAN}\nCoord-Todo: LOST")
    git(up, "switch", "-q", "main")
    known = two.laptop.coord("land", PLAN, "--yes")
    assert (known.code, "refs/heads/found" in known.err) == (6, True)
    assert two.refusals() == []


def lose_records(two: Two, *parts: str) -> None:
    with connect(two.url, Profile.COMMAND) as redis:
        redis.delete(*(key for part in parts for key in redis.scan_iter(f"coord:{part}")))


def test_a_record_that_is_lost_is_rebuilt_on_the_host_that_has_the_work(two: Two):
    two.laptop.ok("sweep", PLAN)
    tips = {repo: git(two.checkout(repo), "rev-parse", f"coord/{PLAN}") for repo in WORK}
    lose_records(two, "run:*", "change*", "adopted:*", "commits")

    refused = [*commands(two, "land {} --yes", "changes {}", "plan diff {}", "pr create {}", "sweep {}")]
    more = {"id": "MORE", "repo": "down", "action": "echo > more", "blocked_by": ["USE"]}
    two.write(two.laptop, more)
    refused += commands(two, "sweep {}", "sweep {} --dry-run", "todo execute MORE")
    for words, done in refused:
        found = [word for word in ("on ann", "on ben", f"coord plan adopt {PLAN}") if word in done.err]
        assert (done.code, len(found)) == (6, 3), (words, done.err)
    assert {repo: git(two.checkout(repo), "rev-parse", f"coord/{PLAN}") for repo in WORK} == tips

    for repo in WORK:
        two.write(two.machines[repo], more, **{repo: repo})
        two.adopt(repo)
    assert two.laptop.ok("sweep", PLAN, "--json").states["MORE"] == "succeeded"
    two.laptop.ok("land", PLAN, "--yes")
    assert two.landed() == [True, True]


def commands(two: Two, *lines: str) -> Iterator[tuple[str, Done]]:
    for line in lines:
        yield line, two.laptop.coord(*line.format(PLAN).split())
