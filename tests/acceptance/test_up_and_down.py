"""The processes of this machine, through the real command, with the real server, worker and Flower."""

from __future__ import annotations

import re
import signal

import pytest

from coordination.backend.daemon import alive
from coordination.operations.local import worker_answers
from tests.testbed import COORD, PLAN, Testbed
from tests.waiting import until


@pytest.fixture(autouse=True)
def an_ecosystem(testbed: Testbed) -> None:
    testbed.write([{"id": "A", "repo": "api"}])


def test_up_detached_returns_when_all_answers_a_second_one_joins_and_down_ends_it(testbed: Testbed) -> None:
    first = testbed.coord("up", "--detach")
    second = testbed.coord("up", "--detach")
    opened, unknown = testbed.ok("open", "--print"), testbed.coord("open", "--print", "NOBODY")
    pages = [testbed.ok("open", "--print", name).out.strip() for name in ("A", PLAN, "api")]
    records = [testbed.daemon(name) for name in ("server", "worker", "flower", "dashboard-server")]
    ended = testbed.coord("down")

    assert first.code == second.code == ended.code == 0
    assert first.out == second.out
    assert re.search(r"Flower  http://127\.0\.0\.1:\d+  user coord  password \S+", first.out)
    page = re.search(r"dashboard  (http://127\.0\.0\.1:\d+/)", first.out)
    assert page
    assert opened.out.strip() == page[1]
    assert pages == [f"{page[1]}{path}" for path in ("record?id=A", f"record?id={PLAN}", "board?repo=api")]
    assert "there is no run, plan, todo, issue or repository 'NOBODY'" in unknown.err
    logs = "".join(log.read_text(errors="replace") for log in sorted(testbed.state.glob("*.log")))
    assert {str(record.pid) for record in records} == set(re.findall(r"pid (\d+)", ended.err)), (
        ended.err + logs
    )
    assert not any(map(alive, records))


def test_up_in_the_foreground_stops_what_it_started_when_it_is_stopped(testbed: Testbed) -> None:
    up = testbed.begin("up", "--no-flower", "--no-dashboard", command=[COORD])
    up.says("unix://")
    until((testbed.state / "worker.json").exists)
    server = testbed.daemon("server")
    up.says("Ctrl-C")

    up.send_signal(signal.SIGINT)
    ended = up.done(60)

    assert ended.code == 0
    assert str(server.pid) in ended.err
    assert not alive(server)


def test_up_in_the_foreground_sees_that_somebody_said_down(testbed: Testbed) -> None:
    up = testbed.begin("up", "--no-flower", "--no-dashboard")
    up.says("Ctrl-C")

    testbed.ok("down")
    ended = up.done(60)

    assert ended.code == 1
    assert "stopped by coord down" in ended.err


def test_a_worker_of_ones_own_serves_through_the_embedded_server(testbed: Testbed) -> None:
    url = testbed.server.start()
    worker = testbed.begin("worker", "--all", command=[COORD])

    until(lambda: worker_answers("coord", url, worker.pid))
    client = testbed.redis()
    (known,) = client.zrange("coord:workers", 0, -1)
    until(lambda: client.zrange("coord:recipients", 0, -1) == [f"worker:{known}"])
    worker.terminate()

    assert worker.wait(60) == 0
    assert client.zrange("coord:recipients", 0, -1) == [], "its inbox is gone"
    testbed.ok("down")
