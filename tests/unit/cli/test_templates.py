"""`--format`: a line for each record, by the names of its fields."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime

import pytest
from pydantic import BaseModel

from coordination.cli import times
from coordination.cli.screen.output import Template
from coordination.errors import UsageError
from coordination.models import Issue, Todo

TODO = Todo(
    id="TODO-1",
    task="Lift it",
    repo="api",
    labels=("core", "später"),
    estimated_hours=2.5,
    created=date(2026, 1, 3),
    action="make check",
)


def line(template: str) -> str:
    return Template(template, list(Todo.model_fields)).line(TODO)


@pytest.mark.parametrize(
    ("template", "written"),
    [
        ("{id} {task}", "TODO-1 Lift it"),
        (r"{id}\t{status}\n{priority}", "TODO-1\tpending\nmedium"),
        ("{labels}", "core,später"),
        ("{estimated_hours} {estimated_hours:.2f}", "2.5 2.50"),
        ("{created} {created:%d %b}", "2026-01-03 03 Jan"),
        ("{id:<8}|{id:>8}|{status:^9}|", "TODO-1  |  TODO-1| pending |"),
        ("[{assignee}] [{assignee:4}] [{updated:%d}]", "[] [    ] []"),
        ("{action}", '{"type":"shell","run":"make check","read_only":false}'),
        ("{{id}} 100 %", "{id} 100 %"),
        (r"a\\tb", r"a\tb"),
    ],
)
def test_a_line_holds_what_the_template_names(template: str, written: str) -> None:
    assert line(template) == written


@pytest.mark.parametrize(
    ("template", "written"),
    [
        ("{at}", "2026-01-03 08:00:00 JST"),
        ("{at:%H:%M}|{started_at:%d %b %H:%M}", "08:00|03 Jan 08:00"),
        ("{started_at:>26}", "   2026-01-03 08:00:00 JST"),
        ("{title} {finished_at}", "2026-01-02T23:00:00+00:00 soon"),
    ],
)
def test_a_time_is_in_the_zone_of_the_reader(
    monkeypatch: pytest.MonkeyPatch, template: str, written: str
) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    times._has_named_zone.cache_clear()
    try:
        assert Template(template, list(Timed.model_fields)).line(Timed()) == written
    finally:
        monkeypatch.undo()
        time.tzset()
        times._has_named_zone.cache_clear()


class Timed(BaseModel):
    at: datetime = datetime(2026, 1, 2, 23, tzinfo=UTC)
    started_at: str = "2026-01-02T23:00:00.000+00:00"
    finished_at: str = "soon"
    title: str = "2026-01-02T23:00:00+00:00"


@pytest.mark.parametrize(
    "template",
    ["{id.__class__}", "{id[0]}", "{labels[0]}", "{id!r}", "{id:{task}}", "{__class__}", "{model_fields}"],
)
def test_nothing_but_a_field_can_be_reached(template: str) -> None:
    with pytest.raises(UsageError):
        line(template)


@pytest.mark.parametrize(
    ("template", "hint"),
    [("{stats}", "did you mean {status}?"), ("{title}", "did you mean {task}?"), ("{x}", "known: id")],
)
def test_an_unknown_field_is_refused_with_those_there_are_before_any_record_is_read(
    template: str, hint: str
) -> None:
    with pytest.raises(UsageError) as refused:
        Template(template, list(Todo.model_fields))

    assert hint in refused.value.hint


@pytest.mark.parametrize("template", ["{", "}", "{id", "{estimated_hours:zz}", "{id:.2f}"])
def test_what_is_no_template_says_how_one_is_written(template: str) -> None:
    with pytest.raises(UsageError) as refused:
        line(template)

    assert "{id" in refused.value.hint


def test_a_value_adds_no_lines_and_columns() -> None:
    forged = Issue(id="I-1", title="a\nI-2\tb")

    assert Template("{id} {title}", list(Issue.model_fields)).line(forged) == r"I-1 a\nI-2\tb"


def test_numbers_and_maps_of_ones_own_are_written_as_data() -> None:
    issue = Issue(id="I-1", title="a", metadata={"weight": 3, "by": ["x"]})

    assert Template("{metadata}", list(Issue.model_fields)).line(issue) == '{"weight":3,"by":["x"]}'
