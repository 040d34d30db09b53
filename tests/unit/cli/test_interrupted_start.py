"""Ctrl-C while a run is being started."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from coordination.cli.following.follow import _interruption_held_back


@pytest.fixture(autouse=True)
def as_python_does() -> Iterator[None]:
    """Restore SIGINT, which the process that runs the tests may ignore."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_it_comes_when_the_run_has_a_name() -> None:
    names = []

    def start() -> None:
        with _interruption_held_back():
            signal.raise_signal(signal.SIGINT)
            names.append("20260101-000000-abcd")

    with pytest.raises(KeyboardInterrupt):
        start()
    assert names


def test_afterwards_it_comes_at_once() -> None:
    with _interruption_held_back():
        pass

    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_who_was_started_to_ignore_it_ignores_it() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    with _interruption_held_back():
        signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
