"""Any plan, any history: the engine's steps do what the model says. `make chaos` goes through thousands."""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings

from tests.run_machine import AnyHistory

AnyHistory.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=50,
    phases=(Phase.explicit, Phase.generate),  # to make a history that fails shorter takes minutes
)
TestAnyHistory = pytest.mark.timeout(600)(AnyHistory.TestCase)
