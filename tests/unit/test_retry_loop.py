"""One loop that tries again what fails for a while."""

from __future__ import annotations

import pytest

from coordination.retry import delay_s, retried


class Flaky:
    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.waits: list[float] = []

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_an_error_that_passes_is_tried_again_after_its_pause() -> None:
    flaky = Flaky(OSError(), OSError())

    assert (
        retried(flaky, (1.0, 2.0, 3.0), lambda error, _: isinstance(error, OSError), flaky.waits.append)
        == "done"
    )

    assert flaky.waits == [1.0, 2.0]


def test_an_error_that_lasts_is_raised_at_once() -> None:
    flaky = Flaky(ValueError("lasts"))

    with pytest.raises(ValueError, match="lasts"):
        retried(flaky, (1.0,), lambda error, _: isinstance(error, OSError), flaky.waits.append)

    assert flaky.waits == []


def test_the_error_after_the_last_pause_is_raised() -> None:
    flaky = Flaky(OSError("1"), OSError("2"), OSError("3"))

    with pytest.raises(OSError, match="3"):
        retried(flaky, (1.0, 2.0), lambda *_: True, flaky.waits.append)


def test_a_pause_is_drawn_from_a_limit_that_doubles_up_to_the_longest() -> None:
    longest = [max(delay_s(failures, 1.0, 8.0) for _ in range(500)) for failures in (0, 1, 5, 5000)]

    assert longest[0] <= 1 < longest[1] <= 2 < longest[2] <= 8
    assert longest[3] <= 8
