"""What todos need of resources against what there is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from coordination.models import Todo
from coordination.text import did_you_mean, listed


@dataclass(frozen=True, kw_only=True)
class Supply:
    capacities: Mapping[str, int] = field(default_factory=dict)
    needs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Todo → resource → how much of it, while the todo runs."""

    def with_one_more(self, name: str) -> Supply:
        return replace(self, capacities={**self.capacities, name: self.capacities[name] + 1})


NOTHING_SHARED = Supply()


def shortfalls(todos: Iterable[Todo], capacities: Mapping[str, int]) -> Iterator[str]:
    """Why some of these todos would wait forever, one sentence each, with what to do."""
    needs = [(todo, need) for todo in todos for need in todo.resources]
    users: dict[str, list[str]] = {}
    for todo, need in needs:
        if need.name not in capacities:
            users.setdefault(need.name, []).append(todo.id)
    for name, ids in users.items():
        near = did_you_mean(name, capacities)
        yield f"resource {name!r} of {listed(ids)} is not declared{near}: add it to resources, or correct the name"
    for todo, need in needs:
        if need.amount > capacities.get(need.name, need.amount):
            yield f"{todo.id} {beyond(need.name, need.amount, capacities)}: lower the amount, or raise the capacity"


def beyond(name: str, amount: int, capacities: Mapping[str, int]) -> str:
    return f"needs {amount:,} of {name}, which has a capacity of {capacities[name]:,}"
