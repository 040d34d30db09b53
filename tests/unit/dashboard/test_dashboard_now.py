"""The problems of services on the page Now, beside those that the doctor finds."""

from __future__ import annotations

import pytest

from coordination.breakers.records import Breaker, BreakerState
from coordination.dashboard.views.now import newest_by_plan, service_findings
from coordination.health.records import Health, HealthState, Kind, Subject
from coordination.operations.doctor import Facts, findings
from coordination.operations.machine_check import Machine
from coordination.runs.views.records import RunView
from coordination.services.view import ServiceView


def service(name: str, state: str) -> ServiceView:
    return ServiceView(name=name, repo="api", phase=None, required=True, depends_on=(), state=state)


RECOVERY = Breaker(
    name="action:recover.service.db", state=BreakerState.OPEN, failures=5, threshold=5, window_s=300,
    why="no", failed_at=None, since=None, opened_at=None, probe_at=None, probe="", behind=0,
)  # fmt: skip


@pytest.mark.parametrize("known", [True, False])
def test_a_service_that_is_down_is_named_once(known: bool):
    down = Health(
        subject=Subject(kind=Kind.SERVICE, name="db", repo="api"),
        verdict=HealthState.FAILED,
        since=0.0,
        failed_at=0.0,
    )
    machine = Machine(host="here", version="1", git="2")
    facts = Facts(machine=machine, health=(down,) if known else (), breakers=(RECOVERY,))
    services = [service("db", "failed"), service("web", "degraded"), service("cache", "healthy")]

    found = [*findings(facts), *service_findings(facts, services)]

    assert [sum(f"service {name} " in one.what for one in found) for name in ("db", "web", "cache")] == [
        1,
        1,
        0,
    ]
    assert not any("action:recover.service.db" in one.what for one in found) or not known
    (web,) = (one for one in found if "service web" in one.what)
    assert web.hint.endswith("coord service logs web")


def test_the_newest_failed_run_of_each_plan_is_listed():
    runs = [RunView.model_construct(run_id=n, plan_id=plan) for n, plan in enumerate("abacb")]

    assert [(run.run_id, run.plan_id) for run in newest_by_plan(runs)] == [(0, "a"), (1, "b"), (3, "c")]
