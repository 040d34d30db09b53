"""Defines a story: its actors, and the point where one of them fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from coordination.runs.records import RunStatus
from tests.chaos.failpoints.hooks import Fault
from tests.testbed import Fields

if TYPE_CHECKING:
    from tests.chaos.failpoints.scene import Scene


@dataclass(frozen=True, kw_only=True)
class Target:
    role: str
    point: str
    fault: Fault
    hit: int = 1

    def __str__(self) -> str:
        return f"{self.point}={self.fault}@{self.hit}"


@dataclass(frozen=True, kw_only=True)
class Act:
    """An action that is due when `when` is true: a command of coord, or a function of the story."""

    when: Callable[[Scene], object]
    coord: Sequence[str] = ()
    do: Callable[[Scene], object] = lambda _: None
    role: str = ""
    """Role of the command; by default its first word."""


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    role: str = "worker"
    words: Sequence[str] = ("--all", "--jobs", "2")
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Story:
    name: str
    todos: Sequence[Fields]
    plan: Fields = field(default_factory=dict)
    repos: Mapping[str, Fields] = field(default_factory=dict)
    resources: Mapping[str, int] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    workers: Sequence[WorkerSpec] = (WorkerSpec(),)
    acts: Sequence[Act] = ()
    ends: Sequence[RunStatus] = (RunStatus.SUCCEEDED,)
    files: Callable[[Path], object] = lambda _: None
    """Further files of the folder; `{folder}` in fields of repositories is its path."""
    before: Callable[[Scene], object] = lambda _: None
    """Before there is a worker."""
    over: Callable[[Scene], object] = lambda _: True
    """Further conditions that must hold, besides the end of every run."""


@dataclass(kw_only=True)
class Outcome:
    reached: dict[str, Counter[str]] = field(default_factory=dict)
    """Role → how often each point was reached, at most by one process of it."""
    struck: bool = False
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    took_s: float = 0.0
