"""The doctor's findings about machines, from facts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coordination.backend.server_check import Finding, Severity
from coordination.errors import Unreachable
from coordination.operations.doctor import Checkup, File, LivingWorker, Server, findings
from coordination.operations.machine_check import Machine
from coordination.operations.supervision import Restart
from coordination.runs.views.records import RunView
from coordination.runs.worker_registry import Worker

WRONG, WARNING = Severity.WRONG, Severity.WARNING


def worker(host: str, *repos: str, **fields: Any) -> LivingWorker:
    known = {"id": f"coord-1@{host}", "pid": 1, "version": "1.0", "jobs": 1, **fields}
    return LivingWorker(worker=Worker(host=host, repos=repos, **known), ago_s=1.0)


MACHINE = Machine(host="here", version="1.0", git="2.40", clock_offset_ms=3)
SERVER = Server(address="redis://example.org", embedded=False, software="Redis 8.0")
WELL_FILE = File(path="/e/ecosystem.yaml", repos=("units", "text"))
WELL = Checkup(
    machine=MACHINE,
    file=WELL_FILE,
    server=SERVER,
    workers=(worker("a", "units"), worker("b", "text")),
    queues={("units", None): 4, ("text", "b"): 2},
)
RESTART = Restart(name="worker", at=1.0, died=7, pid=8)
NO_FOLDER = "there is no folder /srv/units"


def test_the_line_for_a_file_without_an_id_is_named_where_signatures_are_required():
    signs = replace(MACHINE, signatures="require", trust=replace(MACHINE.trust, trust_file="/t"))
    (finding,) = findings(replace(WELL, machine=signs))
    assert (finding.severity, "id: eco-" in finding.hint) == (WARNING, True)
    with_id = replace(WELL_FILE, ecosystem_id="eco-1")
    assert findings(replace(WELL, machine=signs, file=with_id, ecosystem_held="eco-1")) == ()


def test_what_could_not_be_undone_is_wrong_and_both_ways_on_are_said():
    names = {"run_id": "R", "plan_id": "P", "strategy": "levels", "on_failure": "halt", "actor": "ann"}
    times = dict.fromkeys(("started_at", "finished_at", "duration_s", "bound_s"))
    todos = ({"id": "A", "repo": "units", "state": "compensation_failed", "attempt": 2},)
    state = {"status": "rollback_failed", "todos": todos, "counts": {}}
    run = RunView.model_validate({**names, **times, **state})

    (finding,) = findings(replace(WELL, half_undone=(run,)))

    assert (finding.severity, finding.what) == (WRONG, "run R of P is half undone: A could not be undone")
    assert "coord rollback R; or" in finding.hint
    assert 'coord rollback R --accept A --reason "…"' in finding.hint


@pytest.mark.parametrize(
    ("differs", "severity", "words"),
    [
        ({}, None, ""),
        ({"workers": (worker("a", "units"),)}, WRONG, "no worker serves text"),
        ({"workers": (), "file": None}, None, ""),
        ({"restarts": (RESTART, RESTART), "state": "/e/.coord"}, WARNING, "restarted 2 times"),
        ({"restarts": (RESTART, replace(RESTART, given_up=True))}, WRONG, "not restarted"),
        ({"workers": (), "server": replace(SERVER, embedded=True)}, None, ""),
        ({"workers": (worker("a", "units"),), "server": replace(SERVER, embedded=True)}, WRONG,
            "no worker serves text"),
        ({"workers": (worker("a", "units", "text", unfit={"units": NO_FOLDER}),)}, WRONG,
            f"host a serves units but cannot work on it: {NO_FOLDER}"),
        ({"workers": (worker("a", "units", "text"), worker("b", "units", unfit={"units": NO_FOLDER}))}, WRONG,
            "host b serves units but cannot work on it"),
        ({"workers": (worker("a", "units", "text", short="no room"),)}, WRONG,
            "worker coord-1@a starts no todos: no room"),
        ({"workers": (), "server": replace(SERVER, embedded=True),
          "file": replace(WELL_FILE, absent={"units": NO_FOLDER})}, WRONG,
            f"repository units is not on this machine: {NO_FOLDER}"),
        ({"server": None, "workers": (), "file": replace(WELL_FILE, absent={"units": NO_FOLDER})}, WRONG,
            "repository units is not on this machine"),
        ({"file": replace(WELL_FILE, absent={"units": NO_FOLDER})}, None, ""),
        ({"machine": replace(MACHINE, short="no room")}, WARNING, "no room"),
        ({"workers": (worker("a", "units"), worker("b", "text", version="0.9"))}, WRONG,
            "the workers on b run coord 0.9, this is 1.0"),
        ({"workers": (worker("a", "units"), worker("b", "text", clock_offset_ms=-6200))}, WRONG,
            "the clock of b is 6 s behind Redis"),
        ({"workers": (worker("a", "units"), worker("b", "text", clock_offset_ms=4900))}, None, ""),
        ({"machine": replace(MACHINE, clock_offset_ms=90_000)}, WRONG,
            "the clock of here is 90 s ahead of Redis"),
        ({"gone": {"c": 600.0}, "queues": {("units", "c"): 3, ("text", "c"): 0}}, WRONG,
            "3 messages for units on host c, whose workers have been silent for 10 min"),
        ({"gone": {"c": 600.0}}, None, ""),
        ({"poison": 1, "poison_key": "coord:poison"}, WARNING, "1 queue entry could not be read"),
        ({"file": File(path="/e", problems=("x", "y"))}, WRONG, "/e has 2 problems"),
        ({"file": replace(WELL.file, shows_password=True)}, WARNING, "holds Redis' password"),
        ({"machine": replace(MACHINE, git=None)}, WARNING, "git is not installed on this machine"),
        ({"machine": replace(MACHINE, git=None), "server": replace(SERVER, embedded=True)}, WRONG,
            "git is not installed on this machine"),
        ({"machine": replace(MACHINE, agent="claude", agent_found=False)}, WARNING,
            "program 'claude' is not in PATH"),
        ({"server": replace(SERVER, findings=(Finding.wrong("it is a replica", "x"),))}, WRONG,
            "it is a replica"),
        ({"workers": (), "trouble": Unreachable("Redis does not answer", "start it")}, WRONG,
            "Redis does not answer"),
    ],
)  # fmt: skip
def test_what_is_said_of_each(differs: dict[str, Any], severity: Severity | None, words: str):
    found = findings(replace(WELL, **differs))

    if severity is None:
        assert found == ()
        return
    (finding,) = found
    assert finding.severity is severity
    assert words in finding.what
    assert finding.hint


def test_what_is_wrong_comes_before_what_is_worth_knowing():
    facts = replace(WELL, poison=2, workers=(worker("a", "units"),))

    assert [finding.severity for finding in findings(facts)] == [WRONG, WARNING]
