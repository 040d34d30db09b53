"""Story: a run that fails, or that is not wanted any more, is undone whole; what could not be undone is never
hidden.
"""

from __future__ import annotations

import json
import signal

from coordination.backend.daemon import alive
from tests.acceptance.gate import Gate
from tests.testbed import PLAN, Testbed, git
from tests.waiting import until

SAYS = (
    'echo "$COORD_TODO_ID $COORD_COMPENSATES $COORD_IDEMPOTENCY_KEY $(cat $COORD_TODO_OUTPUT)" >> "$LEDGER"'
)
MEETS = 'touch "$LEDGER.$COORD_TODO_ID"; until [ -e "$LEDGER.{other}" ]; do sleep 0.02; done; '
WORKS = "echo $COORD_TODO_ID > $COORD_TODO_ID"


def refs(testbed: Testbed, *repos: str) -> dict[str, list[str]]:
    """Branches with their commits, and worktrees, without the tips that a rollback keeps."""
    listed = "for-each-ref", "--format=%(refname) %(objectname)"
    return {
        repo: [
            ref
            for ref in git(testbed.folder / repo, *listed).splitlines()
            if not ref.startswith("refs/coord/discarded/")
        ]
        + git(testbed.folder / repo, "worktree", "list").splitlines()[1:]
        for repo in repos
    }


def test_a_failure_undoes_the_whole_run_in_reverse_order_and_main_stays_where_it_was(testbed: Testbed):
    running = Gate(testbed.folder)
    seven = f"{WORKS}; echo '{{\"id\":7}}' > $COORD_OUTPUT"
    fails = f"until [ -e {testbed.folder}/gate.begun ]; do sleep 0.02; done; exit 5"
    b, c = (MEETS.format(other=other) + SAYS for other in "CB")
    testbed.write(
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
    before = refs(testbed, "api", "web", "docs")

    rehearsed = testbed.ok("sweep", PLAN, "--dry-run").out
    ended = testbed.sweep()

    assert SAYS in rehearsed
    assert "the run's branch and worktree go" in rehearsed

    run = ended.json["run_id"]
    assert (ended.code, ended.json["status"]) == (3, "rolled_back"), ended.err
    for line in ("✗ E  docs", "↶ rolling back: E failed: exit code 5", "↶ A  api  do A  undone"):
        assert line in ended.err
    assert "all started todos were undone" in ended.err
    assert ended.states == {**dict.fromkeys("ABCDEF", "compensated"), "G": "skipped"}
    assert [ended.todo(name)["was"] for name in "ADEF"] == ["succeeded", "succeeded", "failed", "cancelled"]
    first, second, third, last = testbed.ledger
    assert sorted((first, second, third)) == [
        f"B succeeded {run}/B/compensate null",
        f"C succeeded {run}/C/compensate null",
        f"F cancelled {run}/F/compensate null",
    ]
    assert last == f'A succeeded {run}/A/compensate {{"id":7}}'
    assert refs(testbed, "api", "web", "docs") == before
    kept = git(
        testbed.folder / "web", "for-each-ref", "--format=%(objectname)", "refs/coord/discarded"
    ).split()
    assert len(kept) == len(set(kept)) == 1
    assert not [path for path in testbed.state.glob("work*/*/*") if path.is_dir()]
    assert {todo["status"] for todo in json.loads(testbed.ok("list-todos", "--json").out)} == {"pending"}
    log = testbed.log_of(run, "A").decode()
    assert "[coord] compensating it; it had ended as: succeeded\n" in log
    assert f"[coord] branch coord/{run} in {testbed.folder}/api is removed; it was at " in log


def test_a_finished_run_is_undone_through_an_interrupt_a_kill_two_failures_and_a_persons_word(
    testbed: Testbed,
):
    testbed.settings = {"lease_ttl": "5s", "heartbeat": "1s"}
    hold = Gate(testbed.folder)
    key = 'echo "$COORD_TODO_ID $COORD_IDEMPOTENCY_KEY" >> "$LEDGER"; '
    b = f'{key} [ -e "$LEDGER.B" ] || {{ {hold.action}; exit 4; }}'
    testbed.write(
        [
            {"id": "A", "repo": "api", "action": WORKS, "compensate": f"{key} exit 5"},
            {"id": "B", "repo": "web", "action": WORKS, "compensate": b, "blocked_by": ["A"]},
            {"id": "C", "repo": "api", "blocked_by": ["B"], "status": "completed", "actual_hours": 3},
        ]
    )
    before = refs(testbed, "api", "web")
    testbed.up()
    swept = testbed.sweep()
    run = swept.json["run_id"]
    assert (swept.code, swept.json["status"]) == (0, "succeeded"), swept.err
    assert testbed.file.read_text().count("status: completed") == 3
    preview = testbed.ok("rollback", "last", "--dry-run", "--json").json
    assert (preview["branches"], preview["todos"]) == ([f"coord/{run}"], ["A", "B"])
    unasked = testbed.coord("rollback", "last")
    assert (unasked.code, "coord rollback last --yes" in unasked.err) == (2, True)

    interrupted = testbed.begin("rollback", run, "--yes")
    shell = hold.wait()
    assert testbed.shown(run).states["B"] == "compensating"
    refused = testbed.coord("cancel", run)
    interrupted.send_signal(signal.SIGINT)
    left = interrupted.done()
    assert (refused.code, "it is being rolled back, and cannot turn back" in refused.err) == (6, True)
    assert (left.code, f"the rollback continues; follow it: coord watch {run}" in left.err) == (130, True)

    rollback = testbed.begin("rollback", run, "--yes", "--json")
    rollback.says("is being rolled back already")
    testbed.kill("worker")
    until(lambda: not alive(shell))
    hold.open()
    testbed.up()
    undone = rollback.done()

    assert (undone.code, undone.json["status"]) == (3, "rollback_failed"), undone.err
    assert undone.states == {"A": "succeeded", "B": "compensation_failed"}
    assert undone.todo("B")["error"] == "exit code 4; B ended as succeeded without output"
    assert testbed.ledger == [f"B {run}/B/compensate"] * 2
    assert "coord/" in str(refs(testbed, "web")), "nothing goes before its compensation succeeded"
    assert testbed.file.read_text().count("status: completed") == 3
    assert f"run {run} of {PLAN} is half undone: B could not be undone" in testbed.coord("doctor").out
    for code, *words in (
        (6, "retry", run),
        (6, "run", "clean", run, "--yes"),
        (2, "rollback", run, "--accept", "B"),
        (6, "rollback", run, "--accept", "A", "--reason", "x"),
    ):
        assert testbed.coord(*words).code == code, words

    (testbed.folder / "ledger.B").touch()
    again = testbed.coord("rollback", run, "--yes", "--json")
    assert (again.code, again.states) == (3, {"A": "compensation_failed", "B": "compensated"}), again.err
    assert testbed.ledger == [f"B {run}/B/compensate"] * 3 + [f"A {run}/A/compensate"]
    # the branch of the change set stays until the run is rolled back
    remaining = [ref for ref in refs(testbed, "web")["web"] if "coord/" not in ref or run in ref]
    assert remaining == before["web"]

    accepted = testbed.ok("rollback", run, "--accept", "A", "--reason", "the bucket is gone anyway", "--json")
    assert accepted.json["status"] == "rolled_back"
    assert accepted.todo("A")["accepted"] == "the bucket is gone anyway"
    assert f"run {run} was rolled back already" in testbed.ok("rollback", run).err
    assert len(testbed.ledger) == 4
    assert refs(testbed, "web") == {"web": before["web"]}
    assert [testbed.file.read_text().count(f"status: {word}") for word in ("completed", "pending")] == [1, 2]
    assert testbed.file.read_text().count("actual_hours") == 1
