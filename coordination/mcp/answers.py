"""Result types of tools, beyond the records of `models`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from coordination.api import ProposedPlan, RunView
from coordination.api.generators import RepoOutput
from coordination.frozen import FrozenModel
from coordination.models import presentable

R = TypeVar("R")
M = TypeVar("M", bound=BaseModel)


class Page(FrozenModel, Generic[R]):
    result: Sequence[R]
    total: int
    """Number of all records; `result` has at most `limit` of them."""


class Cut(FrozenModel):
    """A result with limited lists: 10,000 todos are six megabytes, too much for an agent."""

    left_out: dict[str, int] = {}
    """List → number of omitted items; coord_list_todos and the other list tools return them in pages."""


class CutExec(RunView, Cut):
    """A run of one command in many repositories, with the end of its output in each of them."""

    outputs: tuple[RepoOutput, ...] = ()


class Proposed(ProposedPlan):
    """A plan that an agent proposes, and how a person writes it."""

    apply: str


class CutRun(RunView, Cut):
    """A run; `counts` are complete."""


TODOS_SHOWN = 100
"""Limit of todos of a run, unless the call asks for more."""


def page(records: Sequence[R], limit: int, offset: int) -> Page[R]:
    return Page(result=[*map(presentable, records[offset : offset + limit])], total=len(records))


def cut(kind: type[M], answer: BaseModel, limit: int, whole: Collection[str] = (), **more: object) -> M:
    """Return an answer with the first `limit` items of each list but those that stay `whole`, and with more
    fields.
    """
    given_fields = dict(answer)
    long = {
        name: value for name, value in given_fields.items() if isinstance(value, tuple) and len(value) > limit
    }
    long = {name: value for name, value in long.items() if name not in whole}
    left_out = {name: len(value) - limit for name, value in long.items()}
    return kind(
        **{**given_fields, **{name: value[:limit] for name, value in long.items()}, **more}, left_out=left_out
    )


def cut_lists(answer: Any, limit: int, whole: Collection[str] = ()) -> dict[str, Any]:
    """Return the fields of an answer with the first `limit` items of each list but those that stay `whole`,
    and the numbers of items that are left out.
    """
    found = dict(answer)
    long = {
        name: value
        for name, value in found.items()
        if isinstance(value, tuple) and len(value) > limit and name not in whole
    }
    left_out = {name: len(value) - limit for name, value in long.items()}
    return {**found, **{name: value[:limit] for name, value in long.items()}, "left_out": left_out}


def duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


def given_fields(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that were given, to call an operation, or to make a record, that has the same
    ones.
    """
    return {name: value for name, value in arguments.items() if value is not None}
