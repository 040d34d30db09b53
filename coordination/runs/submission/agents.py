"""The agents of a run: which of its todos none can execute, and what all of them may use."""

from __future__ import annotations

from collections.abc import Iterable

from coordination.agent_programs import PROGRAM_FACTS
from coordination.errors import PlanRefused
from coordination.models import Agent, AgentAction, AgentKind, Budget, DayBudget, Plan, PlanBudget, Todo
from coordination.settings import Settings
from coordination.text import counted, listed

MOST_LIMIT = 2**53
"""Largest limit that the steps read exactly."""


def refuse_unfit_agents(todos: Iterable[Todo], settings: Settings, plan: Plan) -> None:
    """Raise PlanRefused for todos without an agent, for one that no setting declares, and for a budget of the
    todo, of the plan or of a day that its agent cannot keep.
    """
    further = _budgets_around(settings, plan)
    actions = {todo.id: todo.action or AgentAction(type="agent") for todo in todos}
    orders = {name: action for name, action in actions.items() if isinstance(action, AgentAction)}
    needy = [name for name, action in orders.items() if not action.agent]
    if needy and not settings.default_agent:
        raise PlanRefused(
            f"no agent is configured for {counted(len(needy), 'todo')} without a command: {listed(needy)}",
            "give them an action (run: …), or set agent_command or agents under settings, or "
            "COORD_AGENT_COMMAND",
        )
    for name, action in orders.items():
        for agent in action.agent or (settings.default_agent,):
            if agent not in settings.presets:
                known = listed(sorted(settings.presets)) or "none"
                raise PlanRefused(
                    f"{name} needs the agent {agent}, which is not declared (declared: {known})",
                    "add it to agents under settings, or name another agent",
                )
            for whose, budget in {name: action.budget, **further}.items():
                if why := why_no_budget(settings.presets[agent], budget):
                    hint = f"remove the limit from the budget of {whose}, or give {name} another agent"
                    raise PlanRefused(f"{whose} has a budget {why}", hint)


def why_no_budget(agent: Agent, budget: Budget) -> str:
    """Return why an agent cannot keep a budget: it never tells what it used. Empty if it can."""
    if agent.kind is AgentKind.COMMAND and budget != Budget():
        return f"that the agent {agent.name} cannot keep: a program of the kind command tells no use"
    if budget.usd is not None and agent.prices is None and not PROGRAM_FACTS[agent.kind].tells_cost:
        return (
            f"in USD that the agent {agent.name} cannot keep: {agent.kind} tells no cost, and it has no "
            "`prices`"
        )
    return ""


def _budgets_around(settings: Settings, plan: Plan) -> dict[str, Budget]:
    """Return the limits of a plan and of a day: whose they are → what they limit."""
    day, found = settings.agent_budget, {}
    if plan.budget is not None:
        found[plan.id] = Budget(usd=plan.budget.usd, tokens=plan.budget.tokens)
    if day != DayBudget():
        found["agent_budget"] = Budget(usd=day.usd_per_day, tokens=day.tokens_per_day)
    return found


def agent_budgets(settings: Settings, plan: Plan) -> str:
    """Return the limits of a plan and of a day as the steps read them: a line `<plan or day> <what it counts>
    <limit>` each, with costs in millionths of a dollar.
    """
    day, of_plan = settings.agent_budget, plan.budget or PlanBudget()
    limits = {
        "plan micro_usd": _micro(of_plan.usd),
        "plan tokens": of_plan.tokens,
        "day micro_usd": _micro(day.usd_per_day),
        "day tokens": day.tokens_per_day,
    }
    return "\n".join(f"{what} {limit}" for what, limit in limits.items() if limit is not None)


def _micro(usd: float | None) -> int | None:
    return None if usd is None else min(round(usd * 1_000_000), MOST_LIMIT)
