"""Secrets of coord's processes cannot be read by other processes of the same user (Linux)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.testbed import COORD, plain
from tests.waiting import until

ORDINARY = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
"""Root may read everything, unless it gives that up."""

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux") or (bool(ORDINARY) and shutil.which("setpriv") is None),
    reason="macOS shows no environment to others; as root this needs setpriv",
)


def can_read(pid: int) -> bool:
    """Return whether an ordinary process of the same user reads its environment."""
    command = [*ORDINARY, "head", "-c", "1", f"/proc/{pid}/environ"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_the_environment_of_an_ordinary_process_can_be_read():
    with subprocess.Popen([*ORDINARY, "cat"], stdin=subprocess.PIPE) as process:
        until(lambda: can_read(process.pid))
        process.kill()


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-P", "-m", "workers", "--repo", "r=.", "--state", "state"],
        [COORD, "keeper"],
        [COORD, "metrics", "--listen", "PORT"],
    ],
    ids=["worker", "keeper", "metrics"],
)
def test_promise_no_secret_is_read_from_the_environment_of_a_process_of_coord(
    tmp_path: Path, command: list[str]
):
    port = free_port()
    words = [str(word).replace("PORT", str(port)) for word in command]
    process = subprocess.Popen(
        [*ORDINARY, *words],
        cwd=tmp_path,
        env=plain({"COORD_REDIS_URL": f"redis://:s3cret@127.0.0.1:{free_port()}"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        until(lambda: process.poll() is not None or not can_read(process.pid))
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
