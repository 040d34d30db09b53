"""Resources that todos need, compared with their capacities. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from coordination.models import Todo
from coordination.text import did_you_mean, listed


@dataclass(frozen=True, kw_only=True)
class Supply:
    capacities: Mapping[str, int] = field(default_factory=dict)
    needs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Units of each resource that a todo holds while it runs: todo → resource → units."""

    def with_one_more(self, name: str) -> Supply:
        return replace(self, capacities={**self.capacities, name: self.capacities[name] + 1})


NOTHING_SHARED = Supply()


def shortfalls(todos: Iterable[Todo], capacities: Mapping[str, int]) -> Iterator[str]:
    """Yield a sentence, with its remedy, for each todo that would wait for ever."""
    needs = [(todo, need) for todo in todos for need in todo.resources]
    users: dict[str, list[str]] = {}
    for todo, need in needs:
        if need.name not in capacities:
            users.setdefault(need.name, []).append(todo.id)
    for name, ids in users.items():
        near = did_you_mean(name, capacities)
        yield (
            f"resource {name!r} of {listed(ids)} is not declared{near}: add it to resources, "
            "or correct the name"
        )
    for todo, need in needs:
        if need.amount > capacities.get(need.name, need.amount):
            yield (
                f"{todo.id} {capacity_exceeded(need.name, need.amount, capacities)}: lower the amount, "
                "or raise the capacity"
            )


def capacity_exceeded(name: str, amount: int, capacities: Mapping[str, int]) -> str:
    return f"needs {amount:,} of {name}, which has a capacity of {capacities[name]:,}"
