"""Background services: rounds until they are stopped, whatever a round raises."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Queue

import pytest

from coordination.background import BackgroundService

SOON_S = 60


class Rounds(BackgroundService):
    name = "rounds of a test"
    interval_s = 3600.0
    first_at_once = True

    def __init__(self) -> None:
        super().__init__()
        self.done: Queue[int] = Queue()
        self.count = 0
        self.raises: Exception | None = None
        self.finished = threading.Event()

    def run_once(self) -> int:
        self.count += 1
        self.done.put(self.count)
        if self.raises:
            raise self.raises
        return self.count

    def failed(self, error: Exception) -> float:
        super().failed(error)
        return 0.001

    def finish(self) -> None:
        self.finished.set()


@pytest.fixture
def rounds() -> Iterator[Rounds]:
    made = Rounds()
    yield made
    made.stop()


def test_a_woken_service_does_its_next_round_at_once(rounds: Rounds) -> None:
    rounds.start()
    assert rounds.done.get(timeout=SOON_S) == 1

    rounds.wake()

    assert rounds.done.get(timeout=SOON_S) == 2


def test_a_woken_service_does_its_first_round_at_once(rounds: Rounds) -> None:
    rounds.first_at_once = False
    rounds.start()

    rounds.wake()

    assert rounds.done.get(timeout=SOON_S) == 1


def test_a_service_decides_itself_when_its_next_round_begins(rounds: Rounds) -> None:
    pauses = iter((0.0, 0.001, None))
    rounds.until_next_s = lambda: next(pauses)  # type: ignore[method-assign]
    rounds.start()
    assert [rounds.done.get(timeout=SOON_S) for _ in range(3)] == [1, 2, 3]

    rounds.until_next_s = lambda: None  # type: ignore[method-assign]
    rounds.wake()

    assert rounds.done.get(timeout=SOON_S) == 4


def test_a_round_that_fails_is_logged_and_the_next_one_follows(
    rounds: Rounds, caplog: pytest.LogCaptureFixture
) -> None:
    rounds.raises = ValueError("of this round")
    rounds.start()

    assert [rounds.done.get(timeout=SOON_S) for _ in range(3)] == [1, 2, 3]
    assert "of this round" in caplog.text


def test_a_stopped_service_ends_its_wait_and_gives_back_what_it_holds(rounds: Rounds) -> None:
    rounds.start()
    rounds.done.get(timeout=SOON_S)

    rounds.stop()

    assert not rounds.is_running
    assert rounds.finished.is_set()


def test_a_service_that_was_never_started_can_be_stopped_and_started_after_that(rounds: Rounds) -> None:
    rounds.stop()

    rounds.start()

    assert rounds.done.get(timeout=SOON_S) == 1
