"""Some of the soak (benchmarks/soak.py): holders, waiters and the server are killed, stopped and cut off, and
nothing goes wrong.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.soaking.frame import soak
from benchmarks.soaking.of_locks import Locks

pytestmark = pytest.mark.long

SECONDS, CONTENDERS = 20, 8


def test_whatever_is_killed_nobody_is_inside_beside_a_holder_and_everybody_gets_on(tmp_path: Path) -> None:
    seed = random.randrange(10**6)

    soaked = soak(tmp_path, [Locks(CONTENDERS)], SECONDS, seed)

    assert soaked.wrong == [], f"seed {seed}, fate {dict(soaked.fate)}"
    assert soaked.fate.keys() >= {"kill", "stop", "lose_data"}
