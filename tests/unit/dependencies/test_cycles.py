"""Repositories that need each other in a ring."""

from __future__ import annotations

from coordination.dependencies.check import cycles
from coordination.models import Dependency, DependencyStatus, DependencyType


def needs(*steps: str, status: DependencyStatus = DependencyStatus.UNKNOWN) -> list[Dependency]:
    """`a>b` at run time, `a>b:test` otherwise."""
    made = []
    for step in steps:
        way, _, type_ = step.partition(":")
        consumer, _, provider = way.partition(">")
        kind = DependencyType(type_ or "runtime")
        made.append(
            Dependency(
                id=f"D-{consumer}-{provider}", consumer=consumer, provider=provider, type=kind, status=status
            )
        )
    return made


def told(*steps: str) -> list[str]:
    return [str(cycle).partition(" (")[0] for cycle in cycles(needs(*steps))]


def test_what_can_be_ordered_has_none():
    assert told("a>b", "b>c", "a>c", "d>c") == []


def test_a_ring_is_named_from_the_first_that_the_file_has():
    assert told("x>a", "b>c", "c>a", "a>b") == ["a → b → c → a, at run time"]


def test_a_ring_that_a_test_closes_is_told_apart():
    assert told("a>b", "b>a:test") == ["a → b → a, through runtime, test"]
    assert told("a>b", "b>a:mcp") == ["a → b → a, at run time"]


def test_those_at_run_time_come_first_and_are_told_once():
    found = told("p>q", "q>p:development", "a>b", "b>a", "b>a:test")

    assert found == ["a → b → a, at run time", "p → q → p, through runtime, development"]


def test_a_repository_that_needs_itself_is_one():
    assert told("a>a") == ["a → a, at run time"]


def test_every_repository_on_a_ring_stands_in_one():
    found = told("a>b", "b>a", "b>c", "c>b")

    assert found == ["a → b → a, at run time", "c → b → c, at run time"]


def test_what_is_deprecated_counts_no_more():
    assert cycles([*needs("a>b"), *needs("b>a", status=DependencyStatus.DEPRECATED)]) == ()
