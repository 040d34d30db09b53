"""Moments as people read them, in whatever zone they are."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from coordination.cli.times import with_local_times

SCRIPT = """
from coordination.cli.times import format_time, with_local_times
print(format_time('2026-01-15T12:00:00.000+00:00'), '|', format_time('2026-07-15T12:00:00+00:00'), end=' | ')
print(format_time(None))
"""


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        ("Europe/Berlin", "2026-01-15 13:00:00 CET | 2026-07-15 14:00:00 CEST |"),
        ("America/St_Johns", "2026-01-15 08:30:00 NST | 2026-07-15 09:30:00 NDT |"),
        ("Asia/Kathmandu", "2026-01-15 17:45:00 UTC+05:45 | 2026-07-15 17:45:00 UTC+05:45 |"),
        ("", "2026-01-15 12:00:00 UTC | 2026-07-15 12:00:00 UTC |"),
        ("No/Where", "2026-01-15 12:00:00 UTC | 2026-07-15 12:00:00 UTC |"),
        ("../../etc/passwd", "2026-01-15 12:00:00 UTC | 2026-07-15 12:00:00 UTC |"),
        ("XYZ-3", "2026-01-15 15:00:00 UTC+03:00 | 2026-07-15 15:00:00 UTC+03:00 |"),
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

    assert len(told.stdout.partition(" | ")[0].split()) == 3


def test_times_within_a_text_are_shown_in_the_zone_of_the_reader() -> None:
    script = (
        "from coordination.cli.times import with_local_times as w; print(w('probe at 2026-01-15T12:00:00Z'))"
    )

    told = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TZ": "Europe/Berlin"},
        capture_output=True,
        text=True,
    )

    assert told.stdout == "probe at 2026-01-15 13:00:00 CET\n"


@pytest.mark.parametrize("text", ["at 2026-13-15T12:00:00Z", "--title '2026-01-15T12:00:00Z' is taken"])
def test_no_time_and_the_words_of_the_user_stay_as_they_are(text: str) -> None:
    assert with_local_times(text) == text
