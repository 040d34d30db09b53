"""Thousands of random plans, each led through a random history and held against the model of a run after
every step.
"""

from __future__ import annotations

import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.figures import Figures
from tests.run_machine import AnyHistory

FAULT = "any history"
DOES = (
    "messages delivered twice, late, never, out of order; crashes, lost leases, pauses, cancels, rollbacks, "
    "approvals, restarts"
)

PLANS, STEPS, PROCESSES = 2000, 50, 2


def main(_minutes: float) -> Figures:
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        done = list(pool.map(_histories, range(PROCESSES)))
    ends: Counter[str] = Counter()
    for found, _ in done:
        ends += found
    told = ", ".join(f"{n:,} {status}" for status, n in ends.most_common())
    return Figures(
        measured=f"{ends.total():,} plans ended as the model says: {told}", wrong=[w for _, w in done if w]
    )


def _histories(number: int) -> tuple[Counter[str], str]:
    ends: Counter[str] = Counter()

    class Counted(AnyHistory):
        def teardown(self) -> None:
            super().teardown()
            if self.model is not None:
                ends[self.model.status] += 1

    how = settings(
        max_examples=PLANS // PROCESSES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(seed(number)(Counted), settings=how)
    except Exception:  # noqa: BLE001 (whatever it is, it is what was found)
        return ends, traceback.format_exc()
    return ends, ""
