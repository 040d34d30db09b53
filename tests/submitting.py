"""Submit runs as the product does, from a graph or from a retry that is planned."""

from __future__ import annotations

from typing import Any

from coordination.backend.steps.run import Reply
from coordination.models import Ecosystem
from coordination.planner.graph import PlanGraph
from coordination.runs.retrying.retry_plan import RetryPlan
from coordination.runs.retrying.retry_run import submission_of_retry
from coordination.runs.store import RunStore
from coordination.runs.submission import submit as submission
from coordination.runs.submission.draft import Signing
from coordination.runs.submission.order import Order
from coordination.settings import Settings


def submit(
    store: RunStore,
    graph: PlanGraph,
    ecosystem: Ecosystem,
    settings: Settings,
    order: Order,
    file: str = "",
    signing: Signing | None = None,
    **where: Any,
) -> tuple[str, Reply]:
    found = submission.submission_of(store, graph, ecosystem, settings, order, file, **where)
    return submission.submit(store, found, signing)


def submit_retry(
    store: RunStore,
    retry: RetryPlan,
    settings: Settings,
    *,
    signing: Signing | None = None,
    **how: Any,
) -> tuple[str, Reply]:
    return submission.submit(store, submission_of_retry(store, retry, settings, {}, **how), signing)
