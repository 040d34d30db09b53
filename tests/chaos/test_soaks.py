"""A part of benchmarks/soak.py: programs and the server are killed, stopped and cut off."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.soaking.frame import soak
from benchmarks.soaking.of_locks import Locks
from benchmarks.soaking.of_messages import Messages


@pytest.mark.long
@pytest.mark.parametrize(
    ("part", "seconds", "fates"),
    [(Locks(8), 20, {"kill", "stop", "lose_data"}), (Messages(2, 4), 10, {"kill", "stop"})],
    ids=["each lock has one holder and everybody goes on", "each message is done once and in order"],
)
def test_whatever_is_killed(tmp_path: Path, part: Locks | Messages, seconds: int, fates: set[str]) -> None:
    seed = random.randrange(10**6)

    soaked = soak(tmp_path, [part], seconds, seed)

    assert soaked.wrong == [], f"seed {seed}, fate {dict(soaked.fate)}"
    assert soaked.fate.keys() >= fates
