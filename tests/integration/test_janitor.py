"""Two workers of one machine clear up after the same run at the same time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakeredis

from coordination.runs.store import RunStore
from workers.cleanup.jobs import AutoCleanup


def test_a_run_that_another_worker_clears_up_at_this_moment_is_no_error(tmp_path: Path):
    folder = tmp_path / "worktrees" / "20260101-120000-abcd"
    folder.mkdir(parents=True)

    class WhileTheOtherRemoves(fakeredis.FakeRedis):
        def hget(self, *_: Any) -> Any:
            folder.rmdir()
            return "succeeded"

    store = RunStore(WhileTheOtherRemoves(decode_responses=True), "test")

    assert AutoCleanup(store, tmp_path, {"r1": tmp_path}).run_once() == []
