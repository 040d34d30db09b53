"""Answers and rendered pages that persons share: read seldom, and never older than an event."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coordination.api.coord import Coord
from coordination.dashboard.access import Visitor
from coordination.dashboard.pages import SHARED_S, Page, PageRequest, Texts, coloured, personal
from coordination.dashboard.snapshots import Seen, Snapshots


@pytest.fixture
def snapshots(tmp_path: Path) -> Iterator[Snapshots]:
    file = tmp_path / "ecosystem.yaml"
    file.write_text("repos: []\n")
    made = Snapshots(file)
    yield made
    made.close()


class Source:
    """Counts its readings; the first one of `hold` lasts until `go`."""

    def __init__(self, *, hold: bool = False) -> None:
        self.number = 0
        self.begun, self.go = threading.Event(), threading.Event()
        if not hold:
            self.go.set()

    def read(self, _: Coord) -> int:
        self.number += 1
        number = self.number
        self.begun.set()
        assert self.go.wait(60)
        return number


def ask(snapshots: Snapshots, source: Source, **how: bool | float) -> Awaitable[Seen[int]]:
    return snapshots.get("key", source.read, live=False, **how)  # type: ignore[arg-type]


def test_pages_share_an_answer_until_something_happens(snapshots: Snapshots):
    source = Source()

    async def pages() -> list[int]:
        found = [one.value for one in await asyncio.gather(*(ask(snapshots, source) for _ in range(50)))]
        snapshots.moved("2-0")
        return [
            *found,
            (await ask(snapshots, source, at_once=True)).value,
            (await ask(snapshots, source)).value,
        ]

    assert asyncio.run(pages()) == [*[1] * 50, 1, 2]


def test_an_event_while_an_answer_is_read_makes_renewals_wait_for_the_next_one(snapshots: Snapshots):
    source = Source(hold=True)

    async def pages() -> tuple[Seen[int], Seen[int], Seen[int]]:
        snapshots.moved("1-0")
        before = asyncio.ensure_future(ask(snapshots, source))
        await asyncio.to_thread(source.begun.wait, 20)
        snapshots.moved("2-0")
        renewal = asyncio.ensure_future(ask(snapshots, source))
        opened = asyncio.ensure_future(ask(snapshots, source, at_once=True))
        await asyncio.sleep(0)
        source.go.set()
        return await before, await opened, await renewal

    before, opened, renewal = asyncio.run(pages())
    assert (before.value, opened.value, renewal.value) == (1, 1, 2)
    assert (opened.position, renewal.position) == ("1-0", "2-0")  # the stream renews the one that was opened


def test_a_page_that_asks_as_an_older_reading_ends_has_it_read_anew(snapshots: Snapshots):
    source = Source(hold=True)

    async def pages() -> int:
        first = asyncio.ensure_future(ask(snapshots, source))
        await asyncio.to_thread(source.begun.wait, 20)
        snapshots.moved("2-0")
        (reading,) = snapshots._reading.values()
        source.go.set()
        await first
        snapshots._reading["key"] = reading  # its callbacks have not run yet
        return (await ask(snapshots, source)).value

    assert asyncio.run(pages()) == 2


def test_what_a_person_has_done_here_is_on_the_next_page(snapshots: Snapshots):
    source = Source()

    async def pages() -> list[int]:
        first = await ask(snapshots, source, fresh_s=60.0)
        again = await ask(snapshots, source, fresh_s=60.0)
        snapshots.forget()
        return [first.value, again.value, (await ask(snapshots, source, at_once=True)).value]

    assert asyncio.run(pages()) == [1, 1, 2]


@pytest.mark.parametrize(
    ("differs", "number"), [("person", 1), ("rights", 2), ("query", 2), ("answer", 2), ("age", 2)]
)
def test_a_page_is_rendered_once_for_all_who_may_see_the_same(tmp_path: Path, differs: str, number: int):
    times, rendered, clock = [0.0, SHARED_S + 1 if differs == "age" else 0.1], [], [0.0]
    texts, snapshots = Texts(lambda: clock[0]), Snapshots(tmp_path / "ecosystem.yaml")
    value = object()

    def render(request: PageRequest, page: Page, position: str) -> str:
        rendered.append(request)
        return f"{request.visitor.person} {request.visitor.csrf}"

    shown = []
    for name, at in zip(("ann", "<bob>"), times, strict=True):
        clock[0], second = at, name != "ann"
        visitor = Visitor(person=name, read_only=False, csrf=f"csrf of {name}")
        query = {"id": "other"} if second and differs == "query" else {}
        may = {"read"} if second and differs == "rights" else {"read", "retry"}
        request = PageRequest(visitor=visitor, snapshots=snapshots, prefix="", query=query, may=may)
        answer = object() if second and differs == "answer" else value
        request.answers.append(Seen(value=answer, at=datetime.now(UTC)))
        text = texts.get(request, Page(template="", title="", data={}), "", render)
        shown.append(personal(text, visitor, "nonce").decode())

    assert shown == ["ann csrf of ann", "&lt;bob&gt; csrf of <bob>"]
    assert len(rendered) == number


def test_colours_of_a_log_are_shown_and_nothing_else_is_obeyed():
    text = "\x1b[1;32mok\x1b[0m <b>\x1b[38;5;31;31mred\x1b[mplain\x1b[2J\x1b[48;2;1;2;3;35mx"
    assert coloured(text) == (
        '<span class="ansi-32 ansi-bold">ok</span> &lt;b&gt;<span class="ansi-31">red</span>'
        'plain\\u001b[2J<span class="ansi-35">x</span>'
    )
