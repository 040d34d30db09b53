"""Front ends are made from the declarations of operations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar

import click
import pytest
from click.testing import CliRunner

from coordination import operation_index
from coordination.cli import completion
from coordination.cli.context import CliContext
from coordination.cli.operation_command import command_of
from coordination.declared import (
    Column,
    Confirm,
    Effect,
    Operation,
    Option,
    Table,
    agreed,
    find,
    operation,
    operations_of,
)
from coordination.operation_index import INDEX
from coordination.trust.rights import Right
from docs.generate import index


def declared() -> Iterator[Operation]:
    for name, row in INDEX.items():
        yield find(row.part, name)


def test_the_index_is_made_from_the_declarations():
    assert index() == Path(operation_index.__file__).read_text(), "write it anew: make docs"


def test_what_changes_something_needs_a_right_beyond_reading():
    for one in declared():
        assert (Right(one.right) is Right.READ) is not one.effect.writes, one.name


def test_each_parameter_has_a_text_and_its_completion_exists():
    for one in declared():
        for parameter in one.parameters:
            assert parameter.option.text.endswith("."), f"{one.name}: {parameter.name}"
            if name := parameter.option.completes:
                assert callable(getattr(completion, name)), f"{one.name}: {parameter.name}"


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


@dataclass(frozen=True, kw_only=True)
class Filters:
    colours: Annotated[tuple[str, ...], Option("Select these colours.", flag="--colour")] = ()
    size: Annotated[Size | None, Option("Select this size:")] = None
    ripe: Annotated[bool | None, Option("Select ripe ones, or others.", flag="--ripe/--unripe")] = None
    tree: Annotated[str | None, Option("Select those of this tree.", argument=True)] = None


@dataclass(frozen=True, kw_only=True)
class Fruit:
    shown: ClassVar = Table(
        columns=(Column("NAME"), Column("LENGTH", of=lambda fruit: len(fruit.name))),
        none="there is no fruit",
        no_match="no fruit matches",
        next_step="plant a tree",
    )
    name: str
    code: int = 0
    error: str = ""
    repo: str = "garden"


class Market:
    def __init__(self) -> None:
        self.asked: list[object] = []

    @operation("fruit.list", Effect.READS)
    def list(
        self,
        start: Annotated[str | None, Option("Only names that begin so.")] = None,
        filters: Filters | None = None,
        end: Annotated[str, Option("Only names that end so.", flag="--end")] = "",
        *,
        most: Annotated[int | None, Option("List at most so many.", least=1)] = None,
        within: Annotated[timedelta | None, Option("Wait at most so long.")] = None,
    ) -> tuple[Fruit, ...]:
        """List the fruits. Their order is that of the alphabet.

        Return nothing of interest.
        """
        self.asked.append((start, filters, end, most, within))
        names = ("apple", "banana", "bad\x1b[31m")
        found = [Fruit(name=name) for name in names if name.startswith(start or "")]
        return tuple(replace(one, code=3, error="it rots") if "bad" in one.name else one for one in found)

    @operation("fruit.eat", Effect.UNDOES, right="sweep")
    def eat(
        self, name: Annotated[str, Option("The name of a fruit.")], *, confirm: Confirm = agreed
    ) -> tuple[Fruit, ...]:
        """Eat a fruit."""
        if name != "nothing":
            confirm(f"Eat {name}?", name)
        self.asked.append(name)
        return (Fruit(name=name),)


class Call(CliContext):
    """A call whose facade has one part."""

    def __init__(self) -> None:
        super().__init__()
        self.market = Market()

    @property
    def coord(self) -> Call:  # type: ignore[override]
        return self

    @property
    def fruit(self) -> Market:
        return self.market


@pytest.fixture
def call() -> Call:
    return Call()


def typed(call: Call, verb: str, *words: str) -> tuple[int, str, str]:
    (one,) = (each for each in operations_of(Market) if each.verb == verb)
    done = CliRunner().invoke(command_of(one), words, obj=call, standalone_mode=False)
    if isinstance(done.exception, Exception):
        raise done.exception
    return done.return_value, done.stdout, done.stderr


def test_arguments_and_options_reach_the_method_as_its_types(call: Call):
    words = "a T1 --colour red --colour green --size small --unripe --end o --most 2 --within 90s"
    typed(call, "list", *words.split())
    typed(call, "list")

    filters = Filters(colours=("red", "green"), size=Size.SMALL, ripe=False, tree="T1")
    assert call.market.asked == [
        ("a", filters, "o", 2, timedelta(seconds=90)),
        (None, None, "", None, None),
    ]
    assert isinstance(call.market.asked[0][1].size, Size)  # type: ignore[index]


@pytest.mark.parametrize(
    "words",
    [("--size", "huge"), ("--most", "0"), ("--within", "soon"), ("a", "b", "c"), ("--colours", "red")],
)
def test_a_value_that_does_not_fit_is_refused(call: Call, words: tuple[str, ...]):
    with pytest.raises(click.UsageError):
        typed(call, "list", *words)
    assert call.market.asked == []


def test_records_are_a_table_json_or_lines_and_a_failure_sets_the_exit_code(call: Call):
    code, out, err = typed(call, "list")
    assert code == 3
    assert [line.split() for line in out.splitlines()][:2] == [["NAME", "LENGTH"], ["apple", "5"]]
    assert "\x1b" not in out
    assert "garden: it rots" in err

    code, out, err = typed(call, "list", "b", "--json")
    assert [one["name"] for one in json.loads(out)] == ["banana", "bad\x1b[31m"]
    assert (code, err) == (3, "")
    assert typed(call, "list", "ban", "--format", "{name}")[1] == "banana\n"


def test_an_empty_list_says_why_it_is_empty_and_what_to_do(call: Call):
    assert "no fruit matches; plant a tree" in typed(call, "list", "z")[2]


def test_a_question_is_asked_before_it_is_done(call: Call):
    with pytest.raises(Exception, match="Eat apple"):
        typed(call, "eat", "apple")
    assert call.market.asked == []

    typed(call, "eat", "apple", "--yes")
    typed(call, "eat", "nothing")
    assert call.market.asked == ["apple", "nothing"]


def test_the_text_ends_before_the_paragraph_on_results():
    (one,) = (each for each in operations_of(Market) if each.verb == "list")
    assert one.text == "List the fruits. Their order is that of the alphabet."
    assert one.title == "List the fruits"
