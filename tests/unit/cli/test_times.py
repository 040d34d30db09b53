"""Moments as people read them, in whatever zone they are."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
from coordination.cli.screen.blocks import format_time, zone
times = ('2026-01-15T12:00:00.000+00:00', '2026-07-15T12:00:00+00:00', None)
print(' | '.join([zone(), *map(format_time, times)]))
"""


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        ("Europe/Berlin", "Europe/Berlin | 2026-01-15 13:00:00 | 2026-07-15 14:00:00 |"),
        ("America/St_Johns", "America/St_Johns | 2026-01-15 08:30:00 | 2026-07-15 09:30:00 |"),
        ("", "UTC | 2026-01-15 12:00:00 | 2026-07-15 12:00:00 |"),
        ("No/Where", "UTC | 2026-01-15 12:00:00 | 2026-07-15 12:00:00 |"),
        ("../../etc/passwd", "UTC | 2026-01-15 12:00:00 | 2026-07-15 12:00:00 |"),
        ("XYZ-3", "UTC+03:00 | 2026-01-15 15:00:00 | 2026-07-15 15:00:00 |"),
    ],
)
def test_a_moment_is_shown_in_the_zone_of_whoever_looks(zone: str, words: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "TZ": zone},
        capture_output=True,
        text=True,
        check=True,
    )

    assert told.stdout.strip() == words


def test_without_a_zone_of_its_own_a_process_has_the_systems() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TZ"}
    told = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )

    assert told.stdout.partition(" | ")[0]
