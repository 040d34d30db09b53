"""A worker that was killed leaves nothing of its todos lying about that another one would not take away."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from workers.workspace.files import clear_scratch, scratch


def test_what_a_dead_worker_has_left_goes_and_what_is_in_use_stays(tmp_path: Path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    left, others = tmp_path / "tmp" / f"{gone.pid}-abc", tmp_path / "tmp" / "kept"
    others.mkdir(parents=True)
    left.mkdir()
    (left / "connection.json").write_text("{}")

    with scratch(tmp_path) as mine:
        clear_scratch(tmp_path)

        assert not left.exists()
        assert mine.exists()
        assert mine.name.startswith(f"{os.getpid()}-")
        assert others.exists()
