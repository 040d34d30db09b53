"""Measures what coord adds to a round of an agent: `python -m benchmarks.agents`.

A program in the place of Claude Code prints the records of a round and changes a file. An attempt with one
round and one verify command is compared, by turns, with a todo whose command does the same work: it starts
that program, then the verify command. The difference is coord's share: prompt, records, judgement, paths,
a process under the guard for the verify command.

Then one limit of an account parks the todos of an agent in many repositories, on a real worker: how long
after its end the first and the last of them has started its agent again.

Last, a proposal of 50 todos is read, validated and compared with a file of 1,000 todos.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import median

import yaml

from benchmarks.clock import seconds
from benchmarks.report import Report, parser, report
from benchmarks.testbed import PLAN, testbed
from coordination.models import Agent, AgentKind
from coordination.planner.proposal import read_proposal
from coordination.sandbox import probe
from coordination.settings import Settings
from coordination.tracker.manager import CoordinationManager
from tests.attempts import Bench
from workers.outcome import OutcomeKind

ROUNDS, SHORT_ROUNDS = 60, 5
RECORDS = (
    {"type": "system", "subtype": "init", "model": "m", "session_id": "s"},
    {"type": "assistant", "message": {"id": "1", "content": [{"type": "text", "text": "Done."}]}},
    {"type": "result", "subtype": "success", "is_error": False, "num_turns": 1, "result": "Done."},
)
PROPOSED, PRESENT = 50, 1000
PROPOSALS, SHORT_PROPOSALS = 20, 3
VERIFY = "grep -q . code"
WOKEN, LIMITED_S = 20, 10
LIMITED = (
    {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": "UNTIL"}},
    {"type": "result", "subtype": "success", "is_error": True, "api_error_status": 429, "result": "limited"},
)


def measure(rows: Report, rounds: int) -> None:
    kinds = ("off", "bubblewrap") if probe().works else ("off",)
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as name:
        folder = Path(name)
        program = folder / "bin" / "claude"
        program.parent.mkdir()
        work = "cat > code\ndate +%N >> code"
        program.write_text(f"#!/bin/sh\n{work}\ncat <<'E'\n{_lines(RECORDS)}\nE\n")
        program.chmod(0o755)
        os.environ["PATH"] = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        for kind in kinds:
            _measure(rows, rounds, folder / kind, kind)


def _measure(rows: Report, rounds: int, folder: Path, kind: str) -> None:
    folder.mkdir()
    bench = Bench(folder, context={"predecessors": []})
    bench.ordered = Settings(agents=(Agent(name="a", kind=AgentKind.CLAUDE),))
    bench.make_repository()
    actions = {
        "agent": {"type": "agent", "prompt": "Do it", "verify": [VERIFY], "rounds": 1},
        "command": f"echo Do it | claude && {VERIFY}",
    }
    taken: dict[str, list[float]] = {name: [] for name in actions}

    def attempt(name: str) -> None:
        if bench.attempt(actions[name], sandbox=kind).kind is not OutcomeKind.SUCCEEDED:
            raise AssertionError(bench.log)

    for name in actions:
        attempt(name)
    for _ in range(rounds):
        for name, times in taken.items():
            times.append(1000 * seconds(lambda name=name: attempt(name)))  # type: ignore[misc]
    agent, command = taken["agent"], taken["command"]
    where = "in a sandbox" if kind == "bubblewrap" else "without a sandbox"
    rows.add(f"the work as a command, {where}", min(command), "ms", beside=f"median {median(command):.1f}")
    rows.add(f"a round, {where}", min(agent), "ms", beside=f"median {median(agent):.1f}")
    rows.add(f"coord's share of a round, {where}", min(agent) - min(command), "ms", at_most=60)
    rows.add(f"ratio of the medians, {where}", median(agent) / median(command), "x")


def measure_waking(rows: Report) -> None:
    with testbed() as place:
        began = place.folder / "began"
        began.mkdir()
        until = int(time.time()) + LIMITED_S
        refusal = _lines(LIMITED).replace('"UNTIL"', str(until))
        script = (
            f"[ $(date +%s) -ge {until} ] || {{ echo '{refusal}'; exit 1; }}\n"
            f"date +%s.%N > {began}/$$\ndate > code\necho '{_lines(RECORDS)}'"
        )
        repos = [f"r{number}" for number in range(WOKEN)]
        place.plant(repos)
        agent = {"name": "a", "kind": "claude", "command": ["sh", "-c", script]}
        action = {"type": "agent", "verify": [], "prompt": "Do it"}
        todos = [{"id": f"T-{repo}", "task": "change it", "repo": repo, "action": action} for repo in repos]
        place.declare(repos, todos, {"agents": [agent], "sandbox": "off"})
        place.coord("sweep", PLAN)
        after = sorted(float(file.read_text()) - until for file in began.iterdir())
    if len(after) != WOKEN or after[0] < 0:
        raise AssertionError(f"{len(after)} agents started, the first {after[0]:.1f} s after the limit")
    rows.add("start of the first agent after the end of a limit", after[0], "s")
    rows.add(f"start of the last of {WOKEN} agents after it", after[-1], "s", at_most=2)


def measure_proposal(rows: Report, rounds: int) -> None:
    repos = [f"r{number}" for number in range(PROPOSED)]
    todos = [
        {"key": f"t{number}", "repo": repo, "task": f"Change {repo}", "reads": repos[:number][-3:],
         "description": "Every line of the log gets the time zone. " * 10,
         "blocked_by": [f"t{number - 1}"] if number else [], "acceptance_criteria": ["each line has one"] * 3}
        for number, repo in enumerate(repos)
    ]  # fmt: skip
    text = json.dumps({"title": "Time zones", "todos": todos})
    present = [
        {"id": f"TODO-{number:04}", "task": "Do it", "repo": repos[number % PROPOSED], "action": "true"}
        for number in range(PRESENT)
    ]
    with tempfile.TemporaryDirectory(prefix="coord-bench-") as name:
        file = Path(name) / "ecosystem.yaml"
        fields = {"repos": [{"name": repo} for repo in repos], "coordination": {"todos": present}}
        file.write_text(yaml.safe_dump(fields, sort_keys=False))
        manager = CoordinationManager(file)

        def validate() -> None:
            made = manager.create_proposed(read_proposal(text), all_repos=True, write=False)
            if len(made.todos) != PROPOSED:
                raise AssertionError(made)

        validate()
        taken = sorted(seconds(validate) for _ in range(rounds))
    what = f"a proposal of {PROPOSED} todos, beside {PRESENT:,} in the file"
    rows.add(what, taken[0], "s", at_most=0.5, beside=f"median {median(taken):.2f}")


def _lines(records: Iterable[Mapping[str, object]]) -> str:
    return "\n".join(json.dumps(record) for record in records)


if __name__ == "__main__":
    options = parser(__doc__, "agents").parse_args()
    with report("agents", options) as rows:
        measure(rows, SHORT_ROUNDS if options.short else ROUNDS)
        measure_waking(rows)
        measure_proposal(rows, SHORT_PROPOSALS if options.short else PROPOSALS)
