"""Story: a run that fails, or that is not wanted any more, is undone whole; what could not be undone is never
hidden.
"""

from __future__ import annotations

import json
import signal

from coordination import Coord
from coordination.backend.daemon import alive
from tests.acceptance.gate import Gate
from tests.stage import PLAN, Stage, git
from tests.waiting import until

SAYS = (
    'echo "$COORD_TODO_ID $COORD_COMPENSATES $COORD_IDEMPOTENCY_KEY $(cat $COORD_TODO_OUTPUT)" >> "$LEDGER"'
)
MEETS = 'touch "$LEDGER.$COORD_TODO_ID"; until [ -e "$LEDGER.{other}" ]; do sleep 0.02; done; '
WORKS = "echo $COORD_TODO_ID > $COORD_TODO_ID"


def refs(stage: Stage, *repos: str) -> dict[str, list[str]]:
    """Branches with their commits, and worktrees."""
    listed = "for-each-ref", "--format=%(refname) %(objectname)"
    return {
        repo: git(stage.folder / repo, *listed).splitlines()
        + git(stage.folder / repo, "worktree", "list").splitlines()[1:]
        for repo in repos
    }


def test_a_failure_undoes_the_whole_run_in_reverse_order_and_main_stays_where_it_was(stage: Stage):
    running = Gate(stage.folder)
    seven = f"{WORKS}; echo '{{\"id\":7}}' > $COORD_OUTPUT"
    fails = f"until [ -e {stage.folder}/gate.begun ]; do sleep 0.02; done; exit 5"
    b, c = (MEETS.format(other=other) + SAYS for other in "CB")
    stage.write(
        [
            {"id": "A", "repo": "api", "action": seven, "compensate": SAYS},
            {"id": "B", "repo": "web", "action": WORKS, "compensate": b, "blocked_by": ["A"]},
            {"id": "C", "repo": "docs", "action": WORKS, "compensate": c, "blocked_by": ["A"]},
            {
                "id": "D",
                "repo": "web",
                "action": f"{WORKS}; git add D; git commit -qm own",
                "blocked_by": ["B"],
            },
            {"id": "E", "repo": "docs", "action": fails, "blocked_by": ["C", "D"]},
            {"id": "F", "repo": "api", "action": running.action, "compensate": SAYS, "blocked_by": ["A"]},
            {"id": "G", "repo": "docs", "action": WORKS, "compensate": SAYS, "blocked_by": ["E"]},
        ],
        plan={"on_failure": "rollback", "strategy": "dataflow"},
    )
    before = refs(stage, "api", "web", "docs")

    rehearsed = stage.ok("sweep", PLAN, "--dry-run").out
    ended = stage.sweep()

    assert SAYS in rehearsed
    assert "the run's branch and worktree go" in rehearsed

    run = ended.json["run_id"]
    assert (ended.code, ended.json["status"]) == (3, "rolled_back"), ended.err
    for line in ("✗ E  docs", "↶ rolling back: E failed: exit code 5", "↶ A  api  undone"):
        assert line in ended.err
    assert "all started todos were undone" in ended.err
    assert ended.states == {**dict.fromkeys("ABCDEF", "compensated"), "G": "skipped"}
    assert [ended.todo(name)["was"] for name in "ADEF"] == ["succeeded", "succeeded", "failed", "cancelled"]
    first, second, third, last = stage.ledger
    assert sorted((first, second, third)) == [
        f"B succeeded {run}/B/compensate null",
        f"C succeeded {run}/C/compensate null",
        f"F cancelled {run}/F/compensate null",
    ]
    assert last == f'A succeeded {run}/A/compensate {{"id":7}}'
    assert refs(stage, "api", "web", "docs") == before
    assert not [path for path in stage.state.glob("work*/*/*") if path.is_dir()]
    assert {todo["status"] for todo in json.loads(stage.ok("list-todos", "--json").out)} == {"pending"}
    log = stage.log_of(run, "A").decode()
    assert "[coord] compensating it; it had ended as: succeeded\n" in log
    assert f"[coord] branch coord/{run} in {stage.folder}/api is removed, it stood at " in log


def test_a_rollback_of_a_retry_names_every_branch_that_goes_before_it_goes(stage: Stage):
    todos = [
        {"id": "A", "repo": "api", "action": WORKS},
        {"id": "B", "repo": "api", "action": "false", "blocked_by": ["A"]},
    ]
    stage.write(todos)
    stage.up()
    assert stage.sweep().code == 3
    runs = [stage.run()["run_id"]]
    for _ in range(2):
        assert stage.coord("retry", "last").code == 3
        runs.insert(0, stage.run()["run_id"])
    branches = [f"coord/{run}" for run in runs]

    preview = stage.ok("rollback", "last", "--dry-run", "--json").json
    with Coord(stage.file) as coord:
        assert coord.runs.get().rollback_preview().branches == tuple(branches)
    refused = stage.coord("rollback", "last")
    assert (refused.code, "coord rollback last --yes" in refused.err) == (2, True)

    done = stage.coord("rollback", "last", "--yes")

    assert (preview["run_id"], preview["branches"], preview["todos"]) == (runs[0], branches, ["A", "B"])
    assert done.code == 0
    assert all(branch in done.err for branch in branches)
    assert git(stage.folder / "api", "branch", "--list", "coord/*") == ""


def test_a_finished_run_is_undone_through_an_interrupt_a_kill_two_failures_and_a_persons_word(stage: Stage):
    stage.settings = {"lease_ttl": "5s", "heartbeat": "1s"}
    hold = Gate(stage.folder)
    key = 'echo "$COORD_TODO_ID $COORD_IDEMPOTENCY_KEY" >> "$LEDGER"; '
    b = f'{key} [ -e "$LEDGER.B" ] || {{ {hold.action}; exit 4; }}'
    stage.write(
        [
            {"id": "A", "repo": "api", "action": WORKS, "compensate": f"{key} exit 5"},
            {"id": "B", "repo": "web", "action": WORKS, "compensate": b, "blocked_by": ["A"]},
            {"id": "C", "repo": "api", "blocked_by": ["B"], "status": "completed", "actual_hours": 3},
        ]
    )
    before = refs(stage, "api", "web")
    stage.up()
    swept = stage.sweep()
    run = swept.json["run_id"]
    assert (swept.code, swept.json["status"]) == (0, "succeeded"), swept.err
    assert stage.file.read_text().count("status: completed") == 3

    interrupted = stage.begin("rollback", run, "--yes")
    shell = hold.wait()
    assert stage.shown(run).states["B"] == "compensating"
    refused = stage.coord("cancel", run)
    interrupted.send_signal(signal.SIGINT)
    left = interrupted.done()
    assert (refused.code, "it is being rolled back, and cannot turn back" in refused.err) == (6, True)
    assert (left.code, f"the rollback continues; follow it: coord watch {run}" in left.err) == (130, True)

    rollback = stage.begin("rollback", run, "--yes", "--json")
    rollback.says("is being rolled back already")
    stage.kill("worker")
    until(lambda: not alive(shell))
    hold.open()
    stage.up()
    undone = rollback.done()

    assert (undone.code, undone.json["status"]) == (3, "rollback_failed"), undone.err
    assert undone.states == {"A": "succeeded", "B": "compensation_failed"}
    assert undone.todo("B")["error"] == "exit code 4; B ended as succeeded without output"
    assert stage.ledger == [f"B {run}/B/compensate"] * 2
    assert "coord/" in str(refs(stage, "web")), "nothing goes before its compensation succeeded"
    assert stage.file.read_text().count("status: completed") == 3
    assert f"run {run} of {PLAN} is half undone: B could not be undone" in stage.coord("doctor").out
    for code, *words in (
        (6, "retry", run),
        (6, "clean", run, "--yes"),
        (2, "rollback", run, "--accept", "B"),
        (6, "rollback", run, "--accept", "A", "--reason", "x"),
    ):
        assert stage.coord(*words).code == code, words

    (stage.folder / "ledger.B").touch()
    again = stage.coord("rollback", run, "--yes", "--json")
    assert (again.code, again.states) == (3, {"A": "compensation_failed", "B": "compensated"}), again.err
    assert stage.ledger == [f"B {run}/B/compensate"] * 3 + [f"A {run}/A/compensate"]
    # the branch of the change set stays until the run is rolled back
    remaining = [ref for ref in refs(stage, "web")["web"] if "coord/" not in ref or run in ref]
    assert remaining == before["web"]

    accepted = stage.ok("rollback", run, "--accept", "A", "--reason", "the bucket is gone anyway", "--json")
    assert accepted.json["status"] == "rolled_back"
    assert accepted.todo("A")["accepted"] == "the bucket is gone anyway"
    assert f"run {run} was rolled back already" in stage.ok("rollback", run).err
    assert len(stage.ledger) == 4
    assert refs(stage, "web") == {"web": before["web"]}
    assert [stage.file.read_text().count(f"status: {word}") for word in ("completed", "pending")] == [1, 2]
    assert stage.file.read_text().count("actual_hours") == 1
