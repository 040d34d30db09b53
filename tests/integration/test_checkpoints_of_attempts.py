"""What a todo writes while it runs is in Redis by the next heartbeat, and in a file of the attempt after it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordination.runs.submission.submit import submit
from coordination.settings import Settings
from tests.acceptance.gate import Gate
from tests.integration.conftest import MakeWorker
from tests.plans import ecosystem, graph, order
from workers.app import Container

TODOS = {"A": "r1"}


@pytest.fixture
def parts(make_worker: MakeWorker) -> Container:
    return make_worker("r1")


def test_it_is_carried_by_heartbeats_and_by_the_end_of_the_attempt(parts: Container, tmp_path: Path):
    whole, half, ended = (Gate(tmp_path, name) for name in ("whole", "half", "ended"))
    action = (
        'cat "$COORD_CHECKPOINT"; echo; case $COORD_ATTEMPT in 3) cp "$COORD_CHECKPOINT" "$COORD_OUTPUT"; exit;; 2) exit 1;; esac; '
        f"""echo '{{"n": 1}}' > "$COORD_OUTPUT"; {whole.action}; printf '{{"n": ' > "$COORD_OUTPUT"; {half.action}; """
        f"""echo '{{"n": 2}}' > "$COORD_OUTPUT"; {ended.action}; exit 1"""
    )
    more = {"A": {"workspace": "in-place", "action": action, "retry": {"delay": "1ms"}}}
    run_id, _ = submit(parts.store, graph(TODOS, **more), ecosystem(TODOS, **more), Settings(), order())
    keys = parts.keys.run(run_id)

    def known() -> str | None:
        found: str | None = parts.redis.hget(keys.checkpoint, "A")
        return found

    with ThreadPoolExecutor() as pool:
        first = pool.submit(parts.deliveries.handle, run_id, "A", 1, "r1")
        whole.wait()
        assert known() is None
        parts.leases.run_once()
        assert known() == '{"n":1}'
        whole.open()
        half.wait()
        parts.leases.run_once()
        assert known() == '{"n":1}', "half of it is none"
        half.open()
        ended.wait()
        ended.open()
        first.result()
    assert known() == '{"n":2}'

    parts.store.fire(run_id, "A")
    parts.deliveries.handle(run_id, "A", 2, "r1")
    assert known() == '{"n":2}', "the second attempt wrote nothing"
    parts.store.fire(run_id, "A")
    parts.deliveries.handle(run_id, "A", 3, "r1")

    assert parts.store.status(run_id) == "succeeded"
    assert parts.redis.hgetall(keys.output) == {"A": '{"n":2}'}
    seen = [
        line
        for line in (tmp_path / ".coord" / "logs" / run_id / "A.log").read_text().splitlines()
        if line[:1] in "{n"
    ]
    assert seen == ["null", '{"n":2}', '{"n":2}']
