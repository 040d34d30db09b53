"""What the agent of an attempt has used so far, counted while it runs; its budgets."""

from __future__ import annotations

import threading
from collections.abc import Callable

from coordination.models import Agent, Budget
from coordination.runs.records import AgentUsage
from workers.agents.fields import MOST
from workers.agents.program import Report
from workers.process.trouble import until_answered


class UsageMeter:
    """The use by one attempt. Its heartbeats and the ends of its rounds count it, so that a worker that is
    killed loses at most the use since the last heartbeat.
    """

    def __init__(self, count: Callable[[AgentUsage], bool]) -> None:
        """`count` replaces what is counted of the attempt; it returns whether the budget of its plan or of
        the day is used up.
        """
        self._count = count
        self._counting = threading.Lock()
        self._counted = AgentUsage()
        self.used = AgentUsage()
        """The use so far."""
        self.is_over = False
        """True if the budget of the plan or of the day was used up when it was counted last."""

    def count(self) -> None:
        """Count the use so far, if it has changed. Raises redis.RedisError."""
        with self._counting:
            used = self.used
            if used != self._counted:
                self.is_over = self._count(used)
                self._counted = used


class Spending:
    """The use by the rounds of an agent on a todo, beside its budget. A budget of the plan or of the day is
    that of the meter.
    """

    def __init__(self, agent: Agent, budget: Budget, before: AgentUsage, meter: UsageMeter) -> None:
        """`before`: the use by the earlier attempts in the run."""
        self._prices, self._budget, self._before, self._meter = agent.prices, budget, before, meter
        self._ended = AgentUsage()
        """The use by the ended rounds of the attempt."""

    @property
    def usd_left(self) -> float | None:
        """Return what a round may cost; None: any amount."""
        return None if self._budget.usd is None else max(0.0, self._budget.usd - self._total.usd)

    @property
    def turns_left(self) -> int | None:
        """Return how many turns a round may take, at least one; None: any number."""
        return None if self._budget.turns is None else max(1, self._budget.turns - self._total.turns)

    @property
    def is_over_for_all(self) -> bool:
        """Return whether the budget of the plan or of the day is used up."""
        return self._meter.is_over

    def watch(self, report: Report) -> str:
        """Take the use by a round that goes on; return which budget is used up, empty if none is."""
        used = self._of(report)
        self._meter.used = self._ended + used
        return self._over(self._total + used) or ("the budget of all" if self.is_over_for_all else "")

    def end_round(self, report: Report) -> None:
        """Take the use by a round that has ended, and count it, however long Redis is away."""
        self._ended += self._of(report)
        self._meter.used = self._ended
        until_answered(self._meter.count)

    def over(self) -> str:
        """Return which limit of the todo's budget is exceeded; empty if none is."""
        return self._over(self._total)

    @property
    def _total(self) -> AgentUsage:
        return self._before + self._ended

    def _of(self, report: Report) -> AgentUsage:
        """Return the use by a round, with its cost where the program tells it or the prices are known."""
        used, prices = report.usage, self._prices
        cost = used.micro_usd
        if cost is None and prices is not None:
            cached = prices.input if prices.cached is None else prices.cached
            fresh = max(0, used.input - used.cached)  # a price for a million tokens is one for millionths
            cost = round(fresh * prices.input + used.cached * cached + used.output * prices.output)
        return used.model_copy(update={"rounds": 1, "micro_usd": None if cost is None else min(cost, MOST)})

    def _over(self, total: AgentUsage) -> str:
        budget = self._budget
        if budget.turns is not None and total.turns > budget.turns:
            return f"{total.turns} of {budget.turns} turns"
        if budget.tokens is not None and total.tokens > budget.tokens:
            return f"{total.tokens:,} of {budget.tokens:,} tokens"
        if budget.usd is not None and total.usd > budget.usd:
            return f"{total.usd:.2f} of {budget.usd:.2f} USD"
        return ""
