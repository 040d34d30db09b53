"""The use of agents by day, plan, repository and agent, from the sums that the steps of runs keep."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import date, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from coordination.declared import Column, Table
from coordination.frozen import FrozenModel
from coordination.runs.records import AgentUsage

if TYPE_CHECKING:
    from redis import Redis

    from coordination.backend.keys import Keys

KEPT = timedelta(days=400)
"""Time for which Redis has the use of a day, as lua/run/_agents.lua keeps it."""
_EPOCH = date(1970, 1, 1)
_NUMBERS = frozenset(AgentUsage.model_fields)
_LARGEST = 2**63


class CostsBy(StrEnum):
    """The names by which the use is summed up."""

    PLAN = "plan"
    REPO = "repo"
    AGENT = "agent"
    DAY = "day"


class AgentCosts(FrozenModel):
    """The use of agents. The name is a plan, a repository, an agent or a day (UTC)."""

    shown: ClassVar = Table(
        columns=(
            Column("NAME"),
            Column("ROUNDS", of=lambda one: f"{one.used.rounds:,}"),
            Column("TURNS", of=lambda one: f"{one.used.turns:,}"),
            Column("TOKENS", of=lambda one: f"{one.used.tokens:,}"),
            Column("CACHED", of=lambda one: f"{one.used.cached:,}", wide=True),
            Column("OUTPUT", of=lambda one: f"{one.used.output:,}", wide=True),
            Column("USD", of=lambda one: "" if one.used.micro_usd is None else f"{one.used.usd:.2f}"),
        ),
        none="no agent has used anything",
        no_match="no agent has used anything that matches",
        next_step="let an agent execute a todo: coord help agents",
    )
    name: str
    used: AgentUsage


class _Row(FrozenModel):
    """The use of an agent for a plan in a repository on a day."""

    day: date
    plan: str
    repo: str
    agent: str
    used: AgentUsage


def read_costs(
    redis: Redis, keys: Keys, by: CostsBy, first: date, wanted: Mapping[str, Collection[str]]
) -> tuple[AgentCosts, ...]:
    """Return the use from a day on, summed up; days in their order, else the most expensive first. `wanted`:
    plan, repo or agent → the ones that count; none: all.
    """
    sums: defaultdict[str, AgentUsage] = defaultdict(AgentUsage)
    for row in _rows(redis, keys, first):
        if all(not names or getattr(row, field) in names for field, names in wanted.items()):
            sums[str(getattr(row, by))] += row.used
    found = [AgentCosts(name=name, used=used) for name, used in sums.items()]
    if by is CostsBy.DAY:
        return tuple(sorted(found, key=lambda one: one.name))
    return tuple(sorted(found, key=lambda one: (-one.used.usd, -one.used.tokens, one.name)))


def agents_of(redis: Redis, keys: Keys, plan: str) -> dict[str, list[tuple[str, str]]]:
    """Return repository → the agents that have worked there for the plan, each with what it has used."""
    sums: defaultdict[tuple[str, str], AgentUsage] = defaultdict(AgentUsage)
    for row in _rows(redis, keys, _EPOCH):
        if row.plan == plan:
            sums[row.repo, row.agent] += row.used
    found: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for (repo, agent), used in sorted(sums.items()):
        found[repo].append((agent, used.text))
    return dict(found)


def _rows(redis: Redis, keys: Keys, first: date) -> Iterable[_Row]:
    seconds, _ = redis.time()
    last = int(seconds) // 86400
    days = range(max((first - _EPOCH).days, last - KEPT.days), last + 1)
    with redis.pipeline(transaction=False) as pipeline:
        for day in days:
            pipeline.hgetall(keys.agent_use(day))
        for day, fields in zip(days, pipeline.execute(), strict=True):
            yield from _rows_of(_EPOCH + timedelta(days=day), fields)


def _rows_of(day: date, fields: Mapping[str, str]) -> Iterable[_Row]:
    """Yield the rows of a day. Fields that coord does not write, and numbers that are none, do not count."""
    found: defaultdict[tuple[str, ...], dict[str, int]] = defaultdict(dict)
    for field, value in fields.items():
        *names, number = field.split(" ")
        is_count = value.isascii() and value.isdecimal() and len(value) < 20
        if len(names) == 3 and number in _NUMBERS and is_count:
            found[tuple(names)][number] = min(int(value), _LARGEST)
    for (plan, repo, agent), numbers in found.items():
        yield _Row(day=day, plan=plan, repo=repo, agent=agent, used=AgentUsage(**numbers))
