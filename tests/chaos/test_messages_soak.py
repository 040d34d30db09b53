"""Some of the soak (benchmarks/soak.py): senders, readers and the server are killed, stopped and cut off, and
no message is lost, twice or out of order.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.soaking.frame import soak
from benchmarks.soaking.of_messages import Messages

pytestmark = pytest.mark.long

SECONDS, SENDERS, READERS = 10, 2, 4


def test_whatever_is_killed_each_message_is_done_once_and_in_order(tmp_path: Path) -> None:
    seed = random.randrange(10**6)

    soaked = soak(tmp_path, [Messages(SENDERS, READERS)], SECONDS, seed)

    assert soaked.wrong == [], f"seed {seed}, fate {dict(soaked.fate)}"
    assert soaked.fate.keys() >= {"kill", "stop"}
