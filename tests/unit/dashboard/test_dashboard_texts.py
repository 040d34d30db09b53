"""Rendered pages: shared by those who may see the same, with the name and form token of each person."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from coordination.dashboard.access import Visitor
from coordination.dashboard.pages import SHARED_S, Page, PageRequest, Texts, personal
from coordination.dashboard.snapshots import Seen, Snapshots


@pytest.mark.parametrize(
    ("differs", "number"),
    [("person", 1), ("rights", 2), ("query", 2), ("answer", 2), ("age", 2)],
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
