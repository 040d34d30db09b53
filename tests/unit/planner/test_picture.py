"""Pictures of plans: whole, well formed, legible at any size."""

from __future__ import annotations

import random
from itertools import combinations, pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_ecosystems import PLAN, REPOS, Drawn, acyclic, ecosystem, todo

from coordination.charts import svg
from coordination.charts.graph_picture import lay_out
from coordination.charts.pictures import plan_svg as drawn
from coordination.models import Issue, TodoStatus
from coordination.planner.graph import build
from tests.examples import examples

FEW = settings(max_examples=examples(60))
Frame = tuple[float, float, float, float]


def boxes(text: str) -> dict[str, ET.Element]:
    """Todo → its group."""
    groups = ET.fromstring(text).iter("{http://www.w3.org/2000/svg}g")
    return {(group.findtext("{*}title") or "").split()[0]: group for group in groups}


def frame(group: ET.Element) -> Frame:
    rect = group.find("{*}rect")
    assert rect is not None
    x, y, width, height = (float(rect.get(name, "")) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def size(text: str) -> tuple[float, float]:
    root = ET.fromstring(text)
    return float(root.get("width", "")), float(root.get("height", ""))


def apart(a: Frame, b: Frame) -> bool:
    return a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


@FEW
@given(acyclic(issues=True, finished=True))
def test_each_todo_has_a_box_within_the_picture_and_none_covers_another(drawn_: Drawn) -> None:
    graph = build(drawn_.ecosystem, PLAN)
    text = drawn(graph)
    frames = {name: frame(group) for name, group in boxes(text).items()}

    assert frames.keys() == {*graph.todos, *graph.blocked}
    assert all(apart(a, b) for a, b in combinations(frames.values(), 2))
    width, height = size(text)
    assert all(
        x >= 0 and right <= width and y >= 0 and bottom <= height for x, y, right, bottom in frames.values()
    )
    for name, others in graph.predecessors.items():
        assert all(frames[other][2] < frames[name][0] for other in others)


@pytest.mark.parametrize(("count", "levels"), [(100, 8), (1000, 10), (300, 2), (400, 200)])
def test_a_large_plan_stays_a_page_on_which_nothing_is_covered(count: int, levels: int):
    draw = random.Random(count)
    rows: list[list[str]] = [[f"T{i}" for i in range(at, count, levels)] for at in range(levels)]
    todos = [
        todo(name, *{draw.choice(rows[at - 1]) for _ in range(2) if at}, repo=draw.choice(REPOS))
        for at, row in enumerate(rows)
        for name in row
    ]

    text = drawn(build(ecosystem(*todos), PLAN))

    frames = sorted(frame(group) for group in boxes(text).values())
    assert len(frames) == count
    columns: dict[float, list[Frame]] = {}
    for one in frames:
        columns.setdefault(one[0], []).append(one)
    assert all(a[3] <= b[1] for column in columns.values() for a, b in pairwise(column))
    assert all(a < b - (frames[0][2] - frames[0][0]) for a, b in pairwise(columns))
    width, height = size(text)
    assert max(width, height) < 6000
    assert len(text) < 1500 * count


def test_whatever_people_wrote_is_shown_as_they_wrote_it():
    text = drawn(
        build(
            ecosystem(
                todo("A", task='<script>alert("&")</script> \x07 \U0001f40d 发布'),
                plan={"title": "a < b & c"},
            ),
            PLAN,
        )
    )

    assert "<script" not in text
    assert "a < b & c" in "".join(ET.fromstring(text).itertext())
    assert '<script>alert("&")</script> \ufffd \U0001f40d 发布' in (
        boxes(text)["A"].findtext("{*}title") or ""
    )


def test_states_have_colours_and_the_critical_path_is_bold_without_redundant_edges():
    eco = ecosystem(
        todo("A", estimated_hours=3, status=TodoStatus.IN_PROGRESS),
        todo("B", "A", repo="web", estimated_hours=3),
        todo("C", "A", repo="parser", estimated_hours=1),
        todo("D", "ISSUE-1"),
        todo("E", "A", "B", repo="web", estimated_hours=1),
        issues=(Issue(id="ISSUE-1", title="first"),),
    )
    text = drawn(build(eco, PLAN))
    classes = {
        name: (group.find("{*}rect").get("class") or "").split() for name, group in boxes(text).items()
    }

    assert {name: found[0] for name, found in classes.items()} == {
        **dict.fromkeys("BCE", "neutral"),
        "A": "active",
        "D": "held",
    }
    assert {name for name, found in classes.items() if "path" in found} == set("ABE")
    paths = ET.fromstring(text).iter("{http://www.w3.org/2000/svg}path")
    ways = [path.findtext("{*}title") for path in paths if path.get("class") == "way"]
    assert {way for way in ways if way} == {"A → B", "B → E"}
    assert "A → E" not in text, "a longer path implies it"
    assert "nothing to do: " in drawn(build(ecosystem(), PLAN))


def test_boxes_go_to_their_neighbours_so_that_edges_do_not_cross():
    levels = [["a", "b", "c"], ["x", "y", "z"]]

    layout = lay_out(levels, {"x": ["c"], "y": ["b"], "z": ["a"]}, 10, bends=False)

    assert layout.y["a"] == layout.y["z"]
    assert layout.y["b"] == layout.y["y"]
    assert layout.y["c"] == layout.y["x"]


def test_a_long_edge_has_a_place_of_its_own_in_each_level_that_it_passes():
    layout = lay_out([["a"], ["b"], ["c"], ["d"]], {"b": ["a"], "c": ["b"], "d": ["a", "c"]}, 10, bends=True)

    assert [layer for layer, _ in layout.way("a", "d")] == [1, 2]
    assert all(abs(y - layout.y[name]) >= 10 for (_, y), name in zip(layout.way("a", "d"), "bc", strict=True))


@given(st.text(max_size=40), st.integers(20, 300))
def test_text_that_is_cut_fits_and_any_text_is_xml(words: str, width: int) -> None:
    cut = svg.fitted(words, width)

    assert svg.width_of(cut) <= max(width, svg.width_of("…"))
    ET.fromstring(svg.document(100, 100, words, [svg.text(words, 1, 2, "s"), svg.hover(words)]))
