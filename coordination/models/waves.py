"""Waves: the groups of repositories, or of plans, that land one after the other."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from coordination.models.values import AtGate, Command, Count, Duration, Id, Record, Text, Word

REST = "rest"
"""All repositories that no wave before takes; the last wave only."""
_SHARE = re.compile(r"([1-9]\d?|100)%")


class WaveBy(Word):
    """The names that the waves of a plan list."""

    LIST = "list"
    """Repositories."""
    ROLE = "role"
    """Roles of repositories."""
    TAG = "tag"
    """Tags of repositories."""
    LEVEL = "level"
    """None: a wave for each level of the dependencies between the repositories."""


Number = Annotated[int, Field(strict=True, ge=1)]
Take = Number | Text | Annotated[tuple[Text, ...], Field(min_length=1)]


class WaveRules(Record):
    """Conditions of a wave."""

    soak: Duration | None = None
    """Time that passes after it has landed, before its checks."""
    check: Command | None = None
    """A command in each of its repositories, as landed, when it has soaked; again behind each later wave."""
    gate: AtGate | None = None
    """A person approves it before it lands."""


class Wave(WaveRules):
    """A wave. A bare value is `take`."""

    take: Take
    """A number of repositories, a share like `10%`, `rest`, a name, or several names."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the repositories, roles or tags that it names."""
        if isinstance(self.take, str):
            return () if self.take == REST or self.share else (self.take,)
        return self.take if isinstance(self.take, tuple) else ()

    @property
    def share(self) -> int | None:
        """Return the percentage of the repositories that it takes; None where it takes none."""
        found = _SHARE.fullmatch(self.take) if isinstance(self.take, str) else None
        return int(found[1]) if found else None


def _bare_wave(value: object) -> object:
    return value if isinstance(value, dict | Wave) else {"take": value}


class Waves(WaveRules):
    """The field `waves` of `land`; a bare list is `order`. Its conditions hold for each wave that does not
    say otherwise.
    """

    by: WaveBy = WaveBy.LIST
    order: tuple[Annotated[Wave, BeforeValidator(_bare_wave)], ...] = ()
    max_open: Count | None = None
    """Most repositories in a wave: those beyond make a further wave behind it."""
    max_failures: Annotated[int, Field(strict=True, ge=0)] = 0
    """With `atomic: repo`: refused repositories and red checks of a wave after which the next one begins
    nevertheless.
    """

    @model_validator(mode="after")
    def _check_order(self) -> Waves:
        if self.by is WaveBy.LEVEL:
            if self.order:
                raise ValueError("by: level makes the waves itself; remove order")
            return self
        if not self.order:
            raise ValueError("has no waves; list them: order: [1, 5, rest]")
        if any(wave.take == REST for wave in self.order[:-1]):
            raise ValueError("has waves behind rest, which takes all repositories; put rest last")
        names = [name for wave in self.order for name in wave.names]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"has {twice} in two waves; name it once")
        return self


def _bare_order(value: object) -> object:
    return {"order": value} if isinstance(value, list | tuple) else value


LandWaves = Annotated[Waves, BeforeValidator(_bare_order)]


class PlanWaves(WaveRules):
    """An item of `coordination.waves`: plans that land wave by wave, by one run."""

    id: Id
    title: Text
    order: Annotated[tuple[Annotated[Wave, BeforeValidator(_bare_wave)], ...], Field(min_length=1)]
    """The plans of each wave."""

    @property
    def plans(self) -> tuple[str, ...]:
        return tuple(plan for wave in self.order for plan in wave.names)

    @model_validator(mode="after")
    def _check_plans(self) -> PlanWaves:
        if any(not wave.names for wave in self.order):
            raise ValueError("has a wave that names no plan; list plans: order: [PLAN-001, [PLAN-002, …]]")
        if twice := next((name for name in self.plans if self.plans.count(name) > 1), None):
            raise ValueError(f"has {twice} in two waves; name it once")
        return self
