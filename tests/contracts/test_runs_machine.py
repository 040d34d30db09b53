"""Runs of any plan in any order of events do what the model says. `make chaos` goes through thousands."""

from __future__ import annotations

from functools import partial

import pytest
import redis
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.examples import examples
from tests.run_machine import AnyHistory

SETTINGS = settings(
    max_examples=examples(30),
    stateful_step_count=50,
    phases=(Phase.explicit, Phase.generate),  # to make a history that fails shorter takes minutes
)


@pytest.mark.timeout(600)
def test_runs_keep_their_promises_in_any_history(client: redis.Redis) -> None:
    run_state_machine_as_test(partial(AnyHistory, client), settings=SETTINGS)
