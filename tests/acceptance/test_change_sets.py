"""Stories: people look at change sets, mend, adopt and lose them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from subprocess import CalledProcessError

import pytest
import yaml

from coordination import Coord
from coordination.backend.embedded import server_binary
from coordination.errors import Conflict
from tests.acceptance.gate import Gate
from tests.ports import free_port
from tests.testbed import PLAN, Begun, Testbed, git
from tests.waiting import until

BRANCH = f"coord/{PLAN}"


def test_a_change_set_is_shown_adopted_lost_rebuilt_and_discarded(testbed: Testbed):
    todos = [{"id": "A", "repo": "a", "action": "echo 1 > made"}, {"id": "B", "repo": "b", "action": "true"}]
    testbed.write(todos)
    testbed.up()
    assert testbed.sweep().code == 0
    a = testbed.folder / "a"
    tip = git(a, "rev-parse", BRANCH)

    (change,) = testbed.coord("changes", PLAN, "--json").json
    assert (change["repo"], change["branch"], change["tip"]) == ("a", BRANCH, tip)
    assert (change["commits"], change["files"], change["added"], change["todos"]) == (1, 1, 1, ["A"])
    assert change["wait_reason"] == "order"
    assert testbed.ok("plan", "diff", PLAN, "--json").json
    assert "+1" in testbed.ok("plan", "diff", PLAN).out

    git(a, "checkout", "-q", "-b", "mine", tip)
    (a / "made").write_text("better\n")
    git(a, "commit", "-qam", "mine")
    mine = git(a, "rev-parse", "HEAD")
    git(a, "checkout", "-q", "main")
    testbed.ok("plan", "adopt", PLAN, "a", "mine", "--yes")
    assert testbed.coord("changes", PLAN, "--json").json[0]["tip"] == mine
    assert git(a, "rev-parse", BRANCH) == mine

    with testbed.redis() as client:
        client.delete(*client.keys("coord:changes:*"))
    testbed.ok("plan", "adopt", PLAN, "--yes")
    assert testbed.coord("changes", PLAN, "--json").json[0]["tip"] == mine

    fresh = testbed.coord("sweep", PLAN, "--fresh", "--yes", "--json")
    assert fresh.code == 0, fresh.err
    assert fresh.states == {"A": "succeeded"}, "B committed nothing: it counts as the file says"
    assert git(a, "show", f"{BRANCH}:made") == "1"
    kept = git(a, "for-each-ref", "--format=%(objectname)", "refs/coord/discarded").split()
    assert mine in kept

    testbed.ok("land", PLAN, "--yes")
    assert git(a, "show", "main:made") == "1"


def test_work_of_which_redis_has_lost_the_record_is_taken_up_from_its_branch(testbed: Testbed):
    """Also where the runs are gone with it; `--fresh` does not throw it away."""
    first = {"id": "A", "repo": "a", "action": "echo 1 > one"}
    testbed.write([first])
    testbed.up()
    assert testbed.sweep().code == 0
    a = testbed.folder / "a"
    tip = git(a, "rev-parse", BRANCH)
    with testbed.redis() as client:
        client.delete(*client.keys("coord:changes:*"), *client.keys("coord:run:*"))

    assert testbed.coord("sweep", PLAN, "--fresh", "--yes").code == 6
    assert git(a, "rev-parse", BRANCH) == tip
    then = {"id": "B", "repo": "a", "action": "echo 2 > two"}
    testbed.write([{**first, "id": "C", "status": "completed"}, then])
    assert testbed.sweep().code == 6, "it may be the work of another plan that had the id"
    testbed.write([{**first, "status": "completed"}, then])
    assert testbed.sweep().states["B"] == "succeeded"
    assert git(a, "rev-list", BRANCH).split()[1] == tip
    (change,) = testbed.coord("changes", PLAN, "--json").json
    assert sorted(change["todos"]) == ["A", "B"]
    testbed.ok("land", PLAN, "--yes")
    assert (git(a, "show", "main:one"), git(a, "show", "main:two")) == ("1", "2")


def test_without_the_record_of_work_each_command_refuses_or_rebuilds(testbed: Testbed, redis_url: str):
    """The whole state is gone: another Redis, then the folder."""
    done = {"id": "A", "repo": "a", "action": "echo 1 > one", "status": "completed"}
    testbed.write([{**done, "status": "pending"}])
    testbed.ok("sweep", PLAN)
    a = testbed.folder / "a"
    tip = git(a, "rev-parse", BRANCH)
    testbed.ok("down")

    for words in (
        "land {} --yes",
        "land {} --dry-run",
        "changes {}",
        "plan diff {}",
        "pr create {}",
        "sweep {}",
    ):
        refused = testbed.coord(*words.format(PLAN).split(), COORD_REDIS_URL=redis_url)
        assert (refused.code, f"coord plan adopt {PLAN}" in refused.err) == (6, True), (words, refused)
    for words in ("revert {} --yes", "retry", "rollback last --yes"):
        assert testbed.coord(*words.format(PLAN).split(), COORD_REDIS_URL=redis_url).code == 2, words
    assert git(a, "rev-parse", BRANCH) == tip

    rmtree(testbed.state)
    testbed.write([done, {"id": "B", "repo": "b", "action": "echo 2 > two", "blocked_by": ["A"]}])
    testbed.up()
    preview = testbed.ok("sweep", PLAN, "--dry-run", "--json").json
    assert [(one["repo"], one["tip"], one["is_rebuilt"]) for one in preview["takes_over"]] == [
        ("a", tip, True)
    ]
    testbed.ok("sweep", PLAN)
    assert {one["repo"] for one in testbed.ok("changes", PLAN, "--json").json} == {"a", "b"}
    testbed.ok("land", PLAN, "--yes")
    assert git(a, "show", "main:one") == "1"


@contextmanager
def forgetful_redis(folder: Path, port: int) -> Iterator[Begun]:
    """A server without persistence, as many are set up."""
    words = ("--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no")
    server = Begun([server_binary(), *words, "--maxmemory-policy", "noeviction"], cwd=folder)
    try:
        server.says("Ready to accept connections")
        yield server
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("then", ["sweep", "land", "pr create"])
def test_work_stays_where_a_redis_without_persistence_is_killed_between_two_sweeps(
    testbed: Testbed, tmp_path: Path, then: str
):
    """The smallest input: T1, the server is killed, T2."""
    first = {"id": "T1", "repo": "a", "action": "echo 1 > one"}
    second = {"id": "T2", "repo": "a", "action": "echo 2 > two"}
    port = free_port()
    testbed.env = {"COORD_REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    testbed.write([first])
    with forgetful_redis(tmp_path, port):
        testbed.begin("worker", "--all")
        testbed.ok("sweep", PLAN)
    a = testbed.folder / "a"
    tip = git(a, "rev-parse", BRANCH)
    with forgetful_redis(tmp_path, port):
        if then == "sweep":
            testbed.write([{**first, "status": "completed"}, second])
            swept = testbed.ok("sweep", PLAN, "--json")
            assert swept.states == {"T1": "succeeded", "T2": "succeeded"}
            assert tip[:12] in swept.err, "it says from where it was rebuilt"
        else:
            refused = testbed.coord(*then.split(), PLAN, *(["--yes"] if then == "land" else []))
            assert (refused.code, f"coord plan adopt {PLAN}" in refused.err) == (6, True)
            assert git(a, "rev-parse", BRANCH) == tip
            testbed.ok("plan", "adopt", PLAN, "--yes")
        testbed.ok("land", PLAN, "--yes")
    landed = git(a, "ls-tree", "--name-only", "main").split()
    assert landed == ["README", "one", *(["two"] if then == "sweep" else [])]


NEWER = {"text": "it is newer", "check": "grep -q newer format"}


def statuses(testbed: Testbed) -> list[str | None]:
    todos = yaml.safe_load(testbed.file.read_text())["coordination"]["todos"]
    return [todo.get("status") for todo in todos]


def test_a_red_criterion_stays_red_until_its_tree_is_mended_and_a_retry_completes_the_todo(testbed: Testbed):
    lib = testbed.repo("lib")
    todos = [
        {"id": "A", "repo": "lib", "action": "echo new > format", "acceptance_criteria": ["nice", NEWER]},
        {"id": "B", "repo": "lib", "action": "echo b > b", "blocked_by": ["A"]},
    ]
    testbed.write(todos)
    testbed.up()
    assert testbed.sweep().states == {"A": "succeeded", "A.accept.2": "failed", "B": "skipped"}
    assert statuses(testbed) == [None, None]
    assert testbed.coord("retry", "last", "--json").states["A.accept.2"] == "failed", "nothing has changed"

    run = testbed.run()["run_id"]
    place = testbed.state / "worktrees" / run / "lib"
    (place / "format").write_text("newer\n")
    git(place, "commit", "-qam", "mended")
    mended = git(place, "rev-parse", "HEAD")
    done = testbed.coord("retry", "last", "--json")

    assert done.states == {"A": "succeeded", "A.accept.2": "succeeded", "B": "succeeded"}, done.err
    assert statuses(testbed) == ["completed", "completed"]
    (check,) = testbed.ok("qa", "show", "last", "--json").json["checks"]
    assert (check["verdict"], check["commit"]) == ("green", mended)
    assert git(lib, "show", f"coord/{PLAN}:format") == "newer"


def test_a_conflict_waits_for_a_person_and_a_live_worker_goes_on_with_the_merge(testbed: Testbed):
    lib = testbed.repo("lib", code="one = 1\n")
    first = {"id": "A", "repo": "lib", "action": "echo 'one = 2' > code"}
    testbed.write([first], repos={"lib": {}})
    testbed.up()
    assert testbed.sweep().code == 0
    (lib / "code").write_text("one = 3\n")
    git(lib, "commit", "-qam", "theirs")
    gate = Gate(testbed.folder)  # else the run may have ended before it is asked for
    more = {"id": "B", "repo": "lib", "action": f"grep 'one = 5' code && {gate.action}; echo b > b"}
    testbed.write([{**first, "status": "completed"}, more], repos={"lib": {}})
    sweep = testbed.begin("sweep", PLAN, "--json")
    until(lambda: testbed.run()["status"] == "running" and testbed.todo("B")["state"] == "parked")

    shown = testbed.coord("plan", "resolve", PLAN, "lib", "--json")
    assert (shown.code, shown.json["files"]) == (3, ["code"])
    place = Path(shown.json["path"])
    with pytest.raises(CalledProcessError):
        git(place, "merge", "-q", "main")
    (place / "code").write_text("one = 5\n")
    git(place, "commit", "-qam", "merged")
    assert testbed.coord("plan", "resolve", PLAN, "lib", "--json").json["taken_up"] == testbed.run()["run_id"]
    gate.open()

    ended = sweep.done(60)
    assert ended.code == 0
    assert git(lib, "show", f"coord/{PLAN}:code") == "one = 5"
    assert ended.json["counts"] == {"succeeded": 2}
    assert "; 1 carried over\n" in ended.err, "the first line counts the todos of the end"


def test_a_todo_that_rewrites_history_fails_by_name_and_leaves_the_change_set(testbed: Testbed):
    lib = testbed.repo("lib")
    first = {"id": "A", "repo": "lib", "action": "echo a > a"}
    testbed.write([first])
    testbed.up()
    assert testbed.sweep().code == 0
    tip = git(lib, "rev-parse", f"coord/{PLAN}")
    rewrite = "git reset -q --hard HEAD~1; echo c > c; git add c; git commit -qm rewritten"
    more = {"id": "B", "repo": "lib", "action": rewrite, "blocked_by": ["A"]}
    testbed.write([{**first, "status": "completed"}, more])

    swept = testbed.sweep()
    assert (swept.code, swept.states["B"]) == (3, "failed")
    assert "rewritten" in swept.todo("B")["error"]
    assert git(lib, "rev-parse", f"coord/{PLAN}") == tip
    assert [one["tip"] for one in testbed.ok("changes", PLAN, "--json").json] == [tip]


def test_a_todo_of_two_plans_is_done_once_for_the_plan_that_took_it_first(testbed: Testbed):
    """Neither plan names it: both own the open todos of the repository."""
    gate = Gate(testbed.folder)
    testbed.write(
        [{"id": "A", "repo": "lib", "plan": None, "action": f"{gate.action}; echo a > a"}],
        plan={"repos": ["lib"]},
        plans=[{"id": "OTHER", "title": "another", "repos": ["lib"]}],
    )
    testbed.up()
    first = testbed.begin("sweep", PLAN)
    gate.wait()
    assert testbed.coord("sweep", "OTHER").code == 6
    gate.open()
    assert first.done(60).code == 0
    assert "nothing to do" in testbed.ok("sweep", "OTHER").err
    changes = testbed.ok("changes", "--json").json
    assert [(one["plan"], one["todos"]) for one in changes] == [(PLAN, ["A"])]


@pytest.mark.parametrize("repo", ["a", "c"], ids=["the-same-repository", "a-dependent-one"])
def test_a_sweep_over_lost_commits_ends_at_once_and_names_the_ways_out(testbed: Testbed, repo: str):
    testbed.write(
        [
            {"id": "A", "repo": "a", "action": "echo 1 > made"},
            {"id": "B", "repo": repo, "status": "cancelled", "blocked_by": ["A"]},
        ]
    )
    testbed.up()
    assert testbed.sweep().code == 0
    a = testbed.folder / "a"
    tip = testbed.coord("changes", PLAN, "--json").json[0]["tip"]
    for ref in git(a, "for-each-ref", "--format=%(refname)", "refs/heads/coord", "refs/coord").splitlines():
        git(a, "update-ref", "-d", ref)
    git(a, "reflog", "expire", "--expire=now", "--all")
    git(a, "gc", "-q", "--prune=now")
    testbed.file.write_text(testbed.file.read_text().replace("cancelled", "pending"))

    lost = testbed.coord("sweep", PLAN)

    assert lost.code == 3
    assert tip[:12] in lost.err
    for way in (f"coord sweep {PLAN} --fresh", f"coord plan adopt {PLAN} a BRANCH", f"git -C {a} fetch"):
        assert way in lost.err
    assert testbed.sweep("--fresh", "--yes").code == 0, "the todos are done again"
    assert git(a, "show", f"{BRANCH}:made") == "1"


def test_a_run_whose_change_set_was_discarded_is_not_retried(testbed: Testbed):
    testbed.write(
        [
            {"id": "A", "repo": "a", "action": "echo 1 > made"},
            {"id": "B", "repo": "a", "action": "false", "blocked_by": ["A"]},
        ]
    )
    testbed.up()
    failed = testbed.sweep()
    assert failed.states == {"A": "succeeded", "B": "failed"}
    with Coord(testbed.file) as coord:
        assert coord.changes.discard(PLAN) is not None

    refused = testbed.coord("retry", "last")
    assert refused.code == 6
    assert f"coord sweep {PLAN}" in refused.err
    assert testbed.sweep().states == {"A": "succeeded", "B": "failed"}, "all is done again"
    testbed.write(
        [{"id": "A", "repo": "a", "status": "completed"}, {"id": "B", "repo": "a", "blocked_by": ["A"]}]
    )
    assert testbed.coord("retry", "last").code == 0
    assert git(testbed.folder / "a", "show", f"{BRANCH}:made") == "1"


def test_a_branch_that_was_amended_is_taken_up_by_the_printed_command(testbed: Testbed):
    testbed.write([{"id": "T1", "repo": "a", "action": "echo 1 > one"}])
    testbed.up()
    testbed.sweep()
    a = testbed.folder / "a"
    git(a, "switch", "-q", f"coord/{PLAN}")
    git(a, "commit", "-q", "--amend", "-m", "mine")
    git(a, "switch", "-q", "main")
    file = yaml.safe_load(testbed.file.read_text())
    second = {"id": "T2", "repo": "a", "task": "t", "plan": PLAN, "action": "ls one"}
    file["coordination"]["todos"].append(second)
    testbed.file.write_text(yaml.safe_dump(file))

    refused = testbed.coord("sweep", PLAN)
    assert refused.code == 3
    command = f"plan adopt {PLAN} a coord/{PLAN}"
    assert f"coord {command};" in refused.err
    testbed.ok(*command.split(), "--yes")
    testbed.ok("retry", "last")
    testbed.ok("land", PLAN, "--yes")
    assert "one" in git(a, "ls-tree", "--name-only", "main").split()


def test_a_sweep_that_was_planned_before_a_discard_does_not_run_without_the_discarded_work(testbed: Testbed):
    testbed.write([{"id": "T1", "repo": "a", "action": "echo 1 > one"}])
    testbed.up()
    testbed.sweep()
    file = yaml.safe_load(testbed.file.read_text())
    second = {"id": "T2", "repo": "a", "task": "t", "plan": PLAN, "action": "cat one", "blocked_by": ["T1"]}
    file["coordination"]["todos"].append(second)
    testbed.file.write_text(yaml.safe_dump(file))

    with Coord(testbed.file) as coord:
        prepared = [coord.runs.prepare_sweep(PLAN), coord.runs.prepare_execute("T2")]
        planned = [coord.runs.make_ready(sweep) for sweep in prepared]
        testbed.ok("plan", "discard", PLAN, "--yes")
        for sweep in planned:
            with pytest.raises(Conflict, match="T1"):
                coord.runs.start(sweep)
    assert testbed.sweep().states == {"T1": "succeeded", "T2": "succeeded"}
