"""Measures what signatures cost: `python -m benchmarks.trust`.

Results: a worker signs the result of a todo, and checks the tip at which the todo begins and the results of
three predecessors that it has not met before, as `workers/trust/signed_results.py` does for each todo. Each
figure is the best of several rounds.
"""

from __future__ import annotations

import gc
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.clock import best
from benchmarks.report import Report, parser, report
from coordination.backend.client import Profile, connect
from coordination.backend.embedded import EmbeddedServer
from coordination.models import (
    Coordination,
    Ecosystem,
    OnFailure,
    Plan,
    Repo,
    Retry,
    Signatures,
    Strategy,
    Todo,
)
from coordination.planner.graph import build
from coordination.runs.attempt_store import Grant, PredecessorOutput, TodoInputs
from coordination.runs.records import Result, RunBrief, TodoSpec, TodoState
from coordination.runs.signed.orders import SignedRun
from coordination.runs.store import RunStore
from coordination.runs.submission.draft import Signing
from coordination.runs.submission.order import Order
from coordination.settings import Settings
from coordination.trust.keys import new_key
from coordination.trust.orders import Audience
from coordination.trust.trust_file import Principal, TrustedKey, TrustFile
from tests.engine import submit
from workers.trust.signed_results import SignedResults
from workers.trust.worker_trust import WorkerKey, WorkerTrust

RUN, REPO = "20260102-120000-efgh", "api"
PREDECESSORS = ("T1", "T2", "T3")
OUTPUT = '{"n": 1}'


@dataclass(frozen=True, kw_only=True)
class TimedSigning(Signing):
    """Signs, and notes the processor time of all that it does for a sweep."""

    took: list[float] = field(default_factory=list)

    def write(self, *args: Any, **options: Any) -> None:
        self.took.append(processor_s(partial(super().write, *args, **options)))


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
        key, file = WorkerKey(Path(folder), "bench"), Path(folder, "trust.yaml")
        file.write_text("principals: []\n")  # `require` refuses to go without a file
        file.chmod(0o600)

        def fresh() -> SignedResults:
            trust = WorkerTrust(file, key, tuple, Signatures.REQUIRE)
            here = Audience(namespace="coord", server="0" * 32)
            return SignedResults(key=key, trust=trust, report=_fail, here=lambda: here, ordered_on=str)

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
            known = checking.verified(RUN, PREDECESSORS)
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


def measure_orders(rows: Report, todos: int, rounds: int) -> None:
    """Measure a sweep with and without a signature, and what a worker verifies of it. The goal holds for the
    time within the signed sweep: other work on the machine changes a pair of sweeps by more than a signature.
    """
    declared = tuple(
        Todo.model_validate({"id": f"T{i:05d}", "task": "measure", "repo": f"r{i % 20}", "plan": "P",
            "action": "true", "blocked_by": [f"T{i - 20:05d}"] if i >= 20 else []})
        for i in range(todos)
    )  # fmt: skip
    ecosystem = Ecosystem(
        repos=tuple(Repo(name=f"r{i}") for i in range(20)),
        coordination=Coordination(plans=(Plan(id="P", title="measured"),), todos=declared),
    )
    graph = build(ecosystem, "P")
    order = Order(
        strategy=Strategy.DATAFLOW, reason="", on_failure=OnFailure.HALT, max_parallel=None, actor="bench"
    )
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as folder:
        server = EmbeddedServer(Path(folder, ".coord"), Settings())
        signer = new_key(Path(folder, "key"))
        signing = TimedSigning(signer=signer, ttl=timedelta(days=1))
        person = Principal(name="p", keys=(TrustedKey(key=signer.public_key),), grants=({"role": "admin"},))  # type: ignore[arg-type]
        trust = TrustFile.model_validate({"principals": [person.model_dump(by_alias=True)]})
        try:
            with closing(connect(server.start(), Profile.COMMAND)) as client:
                store = RunStore(client, "bench")

                def sweep(signing: Signing | None) -> str:
                    return submit(store, graph, ecosystem, Settings(), order, signing=signing)[0]

                sweep(signing)
                signing.took.clear()
                took: dict[bool, list[float]] = {False: [], True: []}
                for turn in range(2 * rounds):  # in pairs, of which every other begins with the signed one
                    signed = (turn // 2 + turn) % 2 == 1
                    client.flushall()
                    gc.collect()  # the objects of one sweep would be collected in the other's turn
                    took[signed].append(processor_s(partial(sweep, signing if signed else None)))
                shares = [own / (all_s - own) for own, all_s in zip(signing.took, took[True], strict=True)]
                run = sweep(signing)
                spec = client.hget(store.keys.run(run).spec, "T00000")

                def verified() -> SignedRun:
                    found = SignedRun(store=store, run_id=run, trust=trust, here=store.audience(""))
                    found.authorized_spec("T00000", spec)
                    return found

                known = verified()
                header_ms = 1000 * best(lambda: verified(), rounds)
                todo_ms = 1000 * best(lambda: known.authorized_spec("T00000", spec), 10 * rounds)
                in_redis = client.memory_usage(store.keys.run(run).order, samples=0)
                in_worker = _bytes_of(lambda: read_all_blocks(verified()))
        finally:
            server.stop()
    plain_s, signed_s = median(took[False]), median(took[True])
    ratio = median(b / a for a, b in zip(took[False], took[True], strict=True))
    rows.add(f"order: sweep of {todos} todos, unsigned, processor time", plain_s, "s")
    rows.add(f"order: sweep of {todos} todos, signed, processor time", signed_s, "s")
    rows.add("order: signed over unsigned, median of pairs", 100 * (ratio - 1), "%")
    rows.add("order: signing over the rest of its sweep", 100 * median(shares), "%", at_most=5)
    rows.add(f"order: verify header, block, first todo, brief of {todos}", header_ms, "ms", at_most=20)
    rows.add("order: verify a further todo", todo_ms, "ms", at_most=1)
    rows.add("order: bytes in Redis, a todo", in_redis / todos, "bytes")
    rows.add("order: bytes in a worker, a todo", in_worker / todos, "bytes")


def read_all_blocks(run: SignedRun) -> SignedRun:
    for index in range(len(run.order.blocks)):
        run._leaves(index)
    return run


def _bytes_of(made: Callable[[], object]) -> int:
    """Return the memory that an object takes."""
    made()  # what is imported and cached once
    tracemalloc.start()
    kept = made()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return size


def processor_s(work: Callable[[], object]) -> float:
    """Return the processor time of this process for a call, in seconds."""
    began = time.process_time()
    work()
    return time.process_time() - began


def _fail(_grant: Grant, why: str) -> None:
    raise AssertionError(why)


if __name__ == "__main__":
    options = parser(__doc__, "trust").parse_args()
    with report("trust", options) as rows:
        measure_results(rows, 20 if options.short else 500)
        measure_orders(rows, 1000 if options.short else 10_000, 3 if options.short else 7)
