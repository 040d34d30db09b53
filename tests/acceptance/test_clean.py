"""Story: what ended runs have left is shown, asked about and removed, on whichever worker's machine
it lies.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.terminals import typing_on_terminal
from tests.testbed import PLAN, Testbed, git
from tests.waiting import until

WAITS_FOR_GO = 'while [ ! -e "$LEDGER.go" ]; do sleep 0.05; done'


@pytest.fixture
def swept(testbed: Testbed) -> Testbed:
    """One run, of which A succeeded and B failed; nothing is running any more."""
    testbed.write(
        [
            {"id": "A", "repo": "r1", "action": "echo new > new"},
            {"id": "B", "repo": "r2", "action": "echo x; exit 1"},
        ],
        plan={"on_failure": "continue"},
    )
    testbed.up()
    assert testbed.sweep().code == 3
    return testbed


def branches(testbed: Testbed, repo: str) -> list[str]:
    return branches_at(testbed.folder / repo)


def test_clean_shows_and_refuses_and_asks_and_removes_when_it_is_told_so(swept: Testbed):
    shown = swept.ok("run", "clean", "--dry-run", "--json").json

    assert {(found["kind"], found["repo"]) for found in shown["found"]} == {
        *((kind, repo) for kind in ("worktree", "branch") for repo in ("r1", "r2")),
        ("logs", ""),
    }
    assert {found["status"] for found in shown["found"]} == {"failed"}
    lines = swept.ok("run", "clean", "--dry-run", "--format", "{kind} {repo} {status}").out.splitlines()
    assert len(lines) == len(shown["found"])
    assert "branch r1 failed" in lines
    assert swept.coord("run", "clean", "--yes", "--format", "{kind}").code == 2
    assert len(branches(swept, "r1")) == 2

    only_copies, refused = swept.coord("run", "clean"), swept.coord("run", "clean", "--unmerged")

    assert only_copies.code == 6, "--yes would be refused, too"
    assert refused.code == 2
    assert "--dry-run" in refused.err
    assert len(branches(swept, "r1")) == 2

    run = swept.run()["run_id"]

    code, said = typing_on_terminal(swept, "run", "clean", after={"Remove 2 worktrees": "n\n"})

    assert code == 1
    assert f"unmerged branches: coord/{run} of r1" in said
    assert "Remove 2 worktrees, 2 branches, 1 folder of logs" in said
    assert branches(swept, "r1") == [f"coord/{run}", "main"]

    code, said = typing_on_terminal(swept, "run", "clean", after={"Remove 2 worktrees": "y\n"})

    assert code == 0
    assert "removed on" in said
    assert branches(swept, "r1") == branches(swept, "r2") == ["main"]
    assert [path.name for path in (swept.state / "worktrees").iterdir()] == []
    assert [path.name for path in (swept.state / "logs").iterdir()] == []
    assert swept.run()["status"] == "failed"
    assert "have left nothing" in swept.ok("run", "clean").err, "nobody has to be asked about nothing"


def test_a_live_run_is_not_touched_and_refused_by_name(testbed: Testbed):
    testbed.write([{"id": "A", "repo": "r1", "action": "true"}])
    testbed.up()
    assert testbed.sweep().code == 0
    testbed.write([{"id": "B", "repo": "r1", "action": WAITS_FOR_GO}])
    testbed.ok("sweep", PLAN, "--detach")
    live = testbed.run()["run_id"]
    until(lambda: (testbed.state / "worktrees" / live / "r1").exists())

    refused = testbed.coord("run", "clean", "last", "--yes")
    testbed.ok("run", "clean", "--yes")

    assert refused.code == 6
    assert live in refused.err
    assert branches(testbed, "r1") == [f"coord/{live}", "main"]
    (testbed.folder / "ledger.go").touch()
    assert testbed.ok("watch", "last", "--json").json["status"] == "succeeded"


def test_what_lies_with_several_workers_is_removed_by_each(
    testbed: Testbed, tmp_path_factory: pytest.TempPathFactory
):
    """Two machines, as far as coord can tell: two names, two folders, one Redis."""
    testbed.write(
        [{"id": "A", "repo": "r1", "action": "echo new > new"}, {"id": "B", "repo": "r2", "action": "false"}]
    )
    url = testbed.server.start()
    places = {}
    for host, repo in (("h1", "r1"), ("h2", "r2")):
        places[repo] = tmp_path_factory.mktemp(host)
        clone = places[repo] / repo
        git(testbed.folder, "clone", "-q", str(testbed.folder / repo), str(clone))
        testbed.begin(
            "worker", "--repo", f"{repo}={clone}", cwd=places[repo], COORD_REDIS_URL=url, COORD_HOST=host
        )
    until(lambda: testbed.redis().zcard("coord:workers") == 2)
    swept = testbed.coord("sweep", PLAN, "--json", "--on-failure", "continue", COORD_REDIS_URL=url)
    assert swept.states == {"A": "succeeded", "B": "failed"}

    refused = testbed.coord("run", "clean", "--yes", COORD_REDIS_URL=url)
    assert (refused.code, len(branches_at(places["r1"] / "r1"))) == (6, 2), "the only copy of what A made"
    assert testbed.ok("run", "clean", "--yes", "--merged", "--json", COORD_REDIS_URL=url).json["found"] == []
    older = ("--unmerged", "--older-than", "1h")
    assert testbed.ok("run", "clean", "--yes", *older, "--json", COORD_REDIS_URL=url).json["found"] == []
    done = testbed.ok("run", "clean", "--yes", "--unmerged", "--json", COORD_REDIS_URL=url)

    found = json.loads(done.out)["found"]
    assert {(one["host"], one["kind"]) for one in found} >= {
        ("h1", "branch"),
        ("h1", "logs"),
        ("h2", "worktree"),
    }
    assert all(one["gone"] for one in found)
    assert "removed on h1" in done.err
    assert "removed on h2" in done.err
    assert branches_at(places["r1"] / "r1") == branches_at(places["r2"] / "r2") == ["main"]


def branches_at(path: Path) -> list[str]:
    """The branches besides that of the change set."""
    found = git(path, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    return [branch for branch in found if branch != f"coord/{PLAN}"]


def test_clean_refuses_to_delete_work_that_only_a_kept_worktree_has(swept: Testbed):
    run = swept.run()["run_id"]
    git(swept.folder / "r1", "merge", "-q", f"coord/{run}")
    kept = swept.state / "worktrees" / run / "r2"

    def refused(hint: str) -> None:
        for words in ((), ("--keep-branches",)):
            done = swept.coord("run", "clean", "--yes", *words)
            assert (done.code, str(kept) in done.err, hint in done.err) == (6, True, True)

    (kept / "mended").write_text("by hand")
    refused("--unmerged")
    _, said = typing_on_terminal(swept, "run", "clean", after={"Remove ": "n\n"})
    merged = swept.ok("run", "clean", "--merged", "--yes", "--json")
    assert f"uncommitted changes: {kept}" in said
    assert len(branches(swept, "r1")) == 2, "a run is kept as a whole"
    assert (merged.json["found"], str(kept) in merged.err) == ([], True)
    assert [(one["kind"], one["path"]) for one in merged.json["kept"]] == [("worktree", str(kept))]

    git(kept, "checkout", "-q", "--detach")
    git(kept, "add", "--all")
    git(kept, "commit", "-qm", "by hand")
    mine = git(kept, "rev-parse", "HEAD")
    refused(f"git -C {kept} branch NAME")
    merged = swept.ok("run", "clean", "--merged", "--yes", "--json")
    assert [(one["path"], one["changed"], one["loose"]) for one in merged.json["kept"]] == [
        (str(kept), True, mine)
    ]

    git(kept, "branch", "mine")
    (kept / "more").write_text("by hand")
    swept.ok("run", "clean", "--unmerged", "--yes")
    event = swept.ok("event", "list", "--kind", "command.clean", "--json").json[-1]
    assert event["data"]["overrides"] == "--unmerged"
    assert not kept.exists()
    assert (branches(swept, "r1"), branches(swept, "r2")) == (["main"], ["main", "mine"])
