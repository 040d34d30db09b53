"""The problems of services on the page Now, beside those that the doctor finds."""

from __future__ import annotations

import pytest

from coordination.dashboard.views.now import service_findings
from coordination.health.records import Health, HealthState, Kind, Subject
from coordination.operations.doctor import Facts, findings
from coordination.operations.machine_check import Machine
from coordination.services.view import ServiceView


def service(name: str, state: str) -> ServiceView:
    return ServiceView(name=name, repo="api", phase=None, required=True, depends_on=(), state=state)


@pytest.mark.parametrize("known", [True, False])
def test_a_service_that_is_down_is_named_once(known: bool):
    down = Health(
        subject=Subject(kind=Kind.SERVICE, name="db", repo="api"),
        verdict=HealthState.FAILED,
        since=0.0,
        failed_at=0.0,
    )
    facts = Facts(machine=Machine(host="here", version="1", git="2"), health=(down,) if known else ())
    services = [service("db", "failed"), service("web", "degraded"), service("cache", "healthy")]

    found = [*findings(facts), *service_findings(facts, services)]

    assert [sum(f"service {name} " in one.what for one in found) for name in ("db", "web", "cache")] == [
        1,
        1,
        0,
    ]
    (web,) = (one for one in found if "service web" in one.what)
    assert web.hint.endswith("coord service logs web")
