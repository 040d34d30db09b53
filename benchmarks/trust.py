"""Measures what signatures cost: `python -m benchmarks.trust`.

Results: a worker signs the result of a todo, and checks the tip at which the todo begins and the results of
three predecessors that it has not met before, as `workers/signed_results.py` does for each todo. Each figure
is the best of several rounds.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.clock import best
from benchmarks.report import Report, parser, report
from coordination.models import Repo, Retry, Signatures, Todo
from coordination.runs.brief import RunBrief, TodoSpec
from coordination.runs.inputs import PredecessorOutput, TodoInputs
from coordination.runs.records import Result, TodoState
from coordination.runs.replies import Grant
from coordination.settings import Settings
from workers.signed_results import CurrentTrust, SignedResults, WorkerKey

RUN, REPO = "20260102-120000-efgh", "api"
PREDECESSORS = ("T1", "T2", "T3")
OUTPUT = '{"n": 1}'


def grant_of(todo: str, fence: int, tip: str | None) -> Grant:
    declared = Todo(id=todo, task="measure", repo=REPO)
    spec = TodoSpec(todo=declared, repo=Repo(name=REPO), timeout=Settings().todo_timeout, retry=Retry())
    return Grant(
        run_id=RUN,
        todo_id=todo,
        attempt=1,
        fence=fence,
        spec_json=spec.model_dump_json(),
        tip=tip,
        tries=0,
    )


def measure_results(rows: Report, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as folder:
        key = WorkerKey(Path(folder), "bench")
        make = partial(SignedResults, key=key, mode=Signatures.REQUIRE, report=_fail)

        def fresh() -> SignedResults:
            return make(trust=CurrentTrust(Path(folder, "trust.yaml"), key, lambda: ()))

        results = fresh()
        signed, handed = {}, []
        for fence, todo in enumerate(PREDECESSORS, start=1):
            tip = f"{fence:040x}"
            result = Result(outcome=TodoState.SUCCEEDED, output=OUTPUT, tip=tip, began=f"{fence - 1:040x}")
            signed[todo] = results.seal(grant_of(todo, fence, None), result)
            handed.append(PredecessorOutput(todo=todo, json=OUTPUT, commit=tip, run=RUN, fence=fence))
        grant = replace(grant_of("T4", 4, handed[-1].commit), tip_result=signed["T3"])
        brief = RunBrief(run_id=RUN, plan_id="P", repo_of=dict.fromkeys((*PREDECESSORS, "T4"), REPO))
        inputs = TodoInputs(todos=handed, context={}, omitted=0, signed=signed)

        def check(checking: SignedResults) -> None:
            checking.check_start(grant, brief)
            known = checking.known(RUN, PREDECESSORS)
            assert known is not None
            checking.check_inputs(grant, brief, inputs, known)

        done = Result(outcome=TodoState.SUCCEEDED, output=OUTPUT, tip="f" * 40, began="e" * 40)
        sign_ms = 1000 * best(lambda: results.seal(grant, done), rounds)
        check_ms = 1000 * best(lambda: check(fresh()), rounds)
        check(results)
        again_ms = 1000 * best(lambda: check(results), rounds)
    rows.add("result: sign", sign_ms, "ms")
    rows.add("result: check tip and three new predecessors", check_ms, "ms")
    rows.add("result: check tip and three known predecessors", again_ms, "ms")
    rows.add("result: sign and check, a todo", sign_ms + check_ms, "ms", at_most=1)
    rows.add("result: bytes in Redis", float(len(signed["T1"])), "bytes")


def _fail(_grant: Grant, why: str) -> None:
    raise AssertionError(why)


if __name__ == "__main__":
    options = parser(__doc__, "trust").parse_args()
    with report("trust", options) as rows:
        measure_results(rows, 20 if options.short else 500)
