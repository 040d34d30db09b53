"""`coord metrics`, asked while a run goes on."""

from __future__ import annotations

from tests.acceptance.gate import Gate
from tests.scraping import scrape
from tests.stage import Stage
from tests.waiting import until


def test_a_scrape_follows_a_run_and_survives_the_end_of_redis(stage: Stage, free_port: int):
    gate = Gate(stage.folder)
    stage.write(
        [{"id": "A", "repo": "api", "action": gate.action}, {"id": "B", "repo": "web", "blocked_by": ["A"]}]
    )
    assert stage.sweep("--detach").code == 0
    metrics = stage.begin("metrics", "--listen", str(free_port))
    gate.wait()

    during = until(lambda: scrape(free_port))
    gate.open()
    after = until(lambda: (told := scrape(free_port))["coord_runs_ended_total{succeeded}"] and told)
    stage.kill("server")
    away = scrape(free_port)
    metrics.terminate()

    assert (during["coord_runs{running}"], during["coord_leases{}"], during["coord_todos{waiting}"]) == (
        1,
        1,
        1,
    )
    assert (after["coord_runs{running}"], after["coord_todos_ended_total{succeeded}"]) == (0, 2)
    # One of each repository.
    assert sum(count for name, count in after.items() if name.startswith("coord_workers")) == 2
    assert away == {"coord_up{}": 0}
    assert metrics.done().code == 0
