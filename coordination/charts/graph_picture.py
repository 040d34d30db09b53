"""A graph of todos as a picture: a column per level, colours by state, the critical path in bold. Pure.

Edges that a longer path implies are omitted. Up to 150 todos get a box with repository, hours and task; with
more, the boxes are small, show the id and the rest on hovering, and the picture is wrapped to a page.

Boxes are placed by the method of Sugiyama, Tagawa and Toda (1981), which keeps crossings few and edges short:
within its layer each box moves to the barycentre of its neighbours, in a few sweeps in both directions; an
edge over several layers gets a place in each of them. Heights are then assigned by isotonic regression (pool
adjacent violators), as near to the neighbours' heights as the order and the gaps permit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from coordination.charts import svg
from coordination.planner.paths import redundant_edges
from coordination.states import tone_of, words_of

SWEEPS = 8
BEND_HEIGHT = 10
"""Height of the place that a long edge has in a layer."""
Bend = tuple[str, str, int]
"""Place where the edge (from, to) passes a layer."""
Vertex = str | Bend
Neighbours = Mapping[Vertex, Sequence[Vertex]]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Vertical middle of each box and of each place of a long edge, from the top of the picture's body."""

    layers: tuple[tuple[Vertex, ...], ...]
    y: Mapping[Vertex, float]
    height: float

    def way(self, before: str, after: str) -> Iterator[tuple[int, float]]:
        """Yield the layer and height of the places that an edge passes."""
        for layer, vertices in enumerate(self.layers):
            if (before, after, layer) in self.y and vertices:
                yield layer, self.y[before, after, layer]


def lay_out(
    levels: Sequence[Sequence[str]], predecessors: Mapping[str, Sequence[str]], box: float, *, bends: bool
) -> Layout:
    """Assign boxes to heights. `box` is a box's height with its gap. Without `bends`, long edges have no
    places of their own.
    """
    layers: list[list[Vertex]] = [list(level) for level in levels]
    depth = {name: i for i, level in enumerate(levels) for name in level}
    before: defaultdict[Vertex, list[Vertex]] = defaultdict(list)
    after: defaultdict[Vertex, list[Vertex]] = defaultdict(list)
    for name in depth:
        for other in predecessors.get(name, ()):
            _add_edge(name, other, depth, layers, before, after, bends)
    _reduce_crossings(layers, before, after)
    y = _heights(layers, before, after, box)
    return Layout(layers=tuple(map(tuple, layers)), y=y, height=max(y.values(), default=0.0) + box / 2)


def _add_edge(
    name: str,
    other: str,
    depth: Mapping[str, int],
    layers: list[list[Vertex]],
    before: defaultdict[Vertex, list[Vertex]],
    after: defaultdict[Vertex, list[Vertex]],
    bends: bool,
) -> None:
    last: Vertex = other
    for layer in range(depth[other] + 1, depth[name]) if bends else ():
        bend = (other, name, layer)
        layers[layer].append(bend)
        before[bend].append(last)
        after[last].append(bend)
        last = bend
    before[name].append(last)
    after[last].append(name)


def _reduce_crossings(layers: list[list[Vertex]], before: Neighbours, after: Neighbours) -> None:
    at: dict[Vertex, float] = {}
    for layer in layers:
        _number_evenly(layer, at)
    for sweep in range(SWEEPS):
        neighbours, order = (before, layers) if sweep % 2 == 0 else (after, layers[::-1])
        for layer in order:
            layer.sort(key=lambda v: _mean([at[n] for n in neighbours.get(v, ())], at[v]))
            _number_evenly(layer, at)


def _number_evenly(layer: Sequence[Vertex], at: dict[Vertex, float]) -> None:
    """Number the layer's vertices evenly from 0 to 1."""
    for i, vertex in enumerate(layer):
        at[vertex] = (i + 0.5) / len(layer)


def _heights(
    layers: Sequence[Sequence[Vertex]], before: Neighbours, after: Neighbours, box: float
) -> dict[Vertex, float]:
    y: dict[Vertex, float] = {}
    for layer in layers:
        y |= zip(layer, _stack(layer, box), strict=True)
    for sweep in range(SWEEPS):
        neighbours, order = (before, layers) if sweep % 2 == 0 else (after, layers[::-1])
        for layer in order:
            desired = [_mean([y[n] for n in neighbours.get(v, ())], y[v]) for v in layer]
            y |= zip(layer, _fit_heights(desired, _stack(layer, box)), strict=True)
    top = min((y[v] - _size(v, box) / 2 for v in y), default=0.0)
    return {vertex: at - top for vertex, at in y.items()}


def _stack(layer: Sequence[Vertex], box: float) -> list[float]:
    """Return the heights of a layer stacked without extra space around 0."""
    found, bottom = [], 0.0
    for vertex in layer:
        found.append(bottom + _size(vertex, box) / 2)
        bottom += _size(vertex, box)
    return [at - bottom / 2 for at in found]


def _fit_heights(desired: Sequence[float], stacked: Sequence[float]) -> list[float]:
    """Return the heights nearest to the desired ones that keep the order and the minimal distances."""
    blocks: list[tuple[float, int]] = []  # mean offset from the stack, and number of vertices
    for wish, at in zip(desired, stacked, strict=True):
        mean, size = wish - at, 1
        while blocks and blocks[-1][0] > mean:
            other, count = blocks.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        blocks.append((mean, size))
    offsets = [mean for mean, size in blocks for _ in range(size)]
    return [at + offset for at, offset in zip(stacked, offsets, strict=True)]


def _size(vertex: Vertex, box: float) -> float:
    return box if isinstance(vertex, str) else BEND_HEIGHT


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


MANY = 150
ROWS = 40
"""Number of boxes in a column; a level with more continues in a column beside it."""
COLUMNS = 32
"""Number of levels in a row; a plan with more continues below."""
PLACES_OF_EDGES = 3000
MARGIN = 24
HEAD, LEGEND = 84, 44


@dataclass(frozen=True, kw_only=True)
class Box:
    state: str
    first: str
    """Bold text: the todo's id."""
    right: str
    """Duration."""
    second: str
    """Task."""
    hover: str
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Picture:
    title: str
    subtitle: str
    boxes: Mapping[str, Box]
    levels: Sequence[Sequence[str]]
    predecessors: Mapping[str, Sequence[str]]
    critical: Sequence[str]
    apart: Sequence[str] = ()
    """Boxes outside of the levels, drawn below them under the heading `apart_words`."""
    apart_words: str = ""


@dataclass(frozen=True, kw_only=True)
class Measures:
    width: float
    height: float
    gap_x: float
    gap_y: float


LARGE = Measures(width=220, height=42, gap_x=56, gap_y=14)
SMALL = Measures(width=92, height=17, gap_x=44, gap_y=4)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Positions: the left middle of each box, and the points that each edge passes."""

    size: Measures
    at: Mapping[str, tuple[float, float]]
    heads: Sequence[tuple[str, float, float]]
    bends: Mapping[tuple[str, str], Sequence[tuple[float, float]]]
    width: float
    height: float


def draw(picture: Picture) -> str:
    """Return the picture as an SVG file."""
    edges = _edges(picture)
    large = (
        len(picture.boxes) <= MANY
        and max(map(len, picture.levels), default=0) <= ROWS
        and len(picture.levels) <= COLUMNS
    )
    plan = _lay_out_large(picture, edges) if large else _lay_out_small(picture, edges)
    plan = _with_apart(picture, plan)
    critical = set(pairwise(picture.critical))
    body = [
        *_head(picture),
        _arrow("tip"), _arrow("waytip"),
        *(_edge(plan, edge, "edge", "tip") for edge in edges if edge not in critical),
        *(_edge(plan, edge, "way", "waytip") for edge in edges if edge in critical),
        *(svg.text(words, x, y, "s faint") for words, x, y in plan.heads),
        *(_box(plan, picture, name, large=large) for name in plan.at),
    ]  # fmt: skip
    bottom = plan.height + MARGIN
    legend = list(_legend(picture, bottom + LEGEND / 2))
    width = max(plan.width + MARGIN, 560, MARGIN * 2 + svg.width_of(picture.title, 16))
    return svg.document(width, bottom + (LEGEND if legend else 0), picture.title, [*body, *legend])


def _edges(picture: Picture) -> list[tuple[str, str]]:
    order = [name for level in picture.levels for name in level]
    before = {
        name: [other for other in picture.predecessors.get(name, ()) if other in picture.boxes]
        for name in order
    }
    implied = set(redundant_edges(order, before))
    return [(other, name) for name in order for other in before[name] if (other, name) not in implied]


def _lay_out_large(picture: Picture, edges: Sequence[tuple[str, str]]) -> _Plan:
    layout = _lay_out_layers(picture, edges, LARGE, bends=_span(picture, edges) <= PLACES_OF_EDGES)
    step, top = LARGE.width + LARGE.gap_x, HEAD + 20
    lefts = [MARGIN + i * step for i in range(len(picture.levels))]
    at = {name: (lefts[i], top + layout.y[name]) for i, level in enumerate(picture.levels) for name in level}
    bends = {
        edge: [
            point
            for i, y in layout.way(*edge)
            for point in ((lefts[i], top + y), (lefts[i] + LARGE.width, top + y))
        ]
        for edge in edges
    }
    heads = [(f"level {i + 1}", x, HEAD) for i, x in enumerate(lefts)]
    width = MARGIN + max(0, len(lefts) * step - LARGE.gap_x)
    return _Plan(size=LARGE, at=at, heads=heads, bends=bends, width=width, height=top + layout.height)


def _lay_out_layers(
    picture: Picture, edges: Iterable[tuple[str, str]], size: Measures, *, bends: bool
) -> Layout:
    before: dict[str, list[str]] = {}
    for other, name in edges:
        before.setdefault(name, []).append(other)
    return lay_out(picture.levels, before, size.height + size.gap_y, bends=bends)


def _span(picture: Picture, edges: Iterable[tuple[str, str]]) -> int:
    depth = {name: i for i, level in enumerate(picture.levels) for name in level}
    return sum(depth[name] - depth[other] - 1 for other, name in edges)


def _lay_out_small(picture: Picture, edges: Sequence[tuple[str, str]]) -> _Plan:
    layers = _lay_out_layers(picture, edges, SMALL, bends=False).layers
    step, row = SMALL.width + SMALL.gap_x, SMALL.height + SMALL.gap_y
    at: dict[str, tuple[float, float]] = {}
    above: dict[str, float] = {}
    heads = []
    x, top, bottom, width = float(MARGIN), float(HEAD), float(HEAD), 0.0
    for depth, layer in enumerate(layers):
        columns = -(-len(layer) // ROWS) or 1
        if depth and x + columns * step > MARGIN + COLUMNS * step:
            x, top = float(MARGIN), bottom + 3 * row
        heads.append((f"level {depth + 1}", x, top))
        for i, name in enumerate(layer):
            assert isinstance(name, str)  # there are no bends in this layout
            at[name], above[name] = (
                (x + i // ROWS * (SMALL.width + 6), top + row + i % ROWS * row),
                top - 1.5 * row,
            )
            bottom = max(bottom, at[name][1] + row)
        x += (columns - 1) * (SMALL.width + 6) + step
        width = max(width, x - SMALL.gap_x)
    back = {
        edge: _wrapped_edge_points(at[edge[0]], at[edge[1]], above[edge[1]])
        for edge in edges
        if at[edge[1]][0] <= at[edge[0]][0]
    }
    return _Plan(size=SMALL, at=at, heads=heads, bends=back, width=width, height=bottom)


def _wrapped_edge_points(
    start: tuple[float, float], end: tuple[float, float], above: float
) -> Sequence[tuple[float, float]]:
    """Return the points of an edge to the next row of levels, through the space between the rows."""
    right, left = start[0] + SMALL.width + 14, end[0] - 10
    return [(right, start[1]), (right, above), (left, above), (left, end[1])]


def _with_apart(picture: Picture, plan: _Plan) -> _Plan:
    """Add the boxes outside of the levels below the rest."""
    if not picture.apart:
        return plan
    size, top = plan.size, plan.height + 36
    in_a_row = max(1, int((max(plan.width, 720) - MARGIN + 8) // (size.width + 8)))
    at = {
        name: (
            MARGIN + i % in_a_row * (size.width + 8),
            top + 24 + size.height / 2 + i // in_a_row * (size.height + 8),
        )
        for i, name in enumerate(picture.apart)
    }
    right = max(x + size.width for x, _ in at.values())
    lowest = max(y for _, y in at.values()) + size.height / 2
    return _Plan(
        size=size, at={**plan.at, **at}, heads=[*plan.heads, (picture.apart_words, MARGIN, top + 12)],
        bends=plan.bends, width=max(plan.width, right), height=lowest,
    )  # fmt: skip


def _head(picture: Picture) -> Iterator[str]:
    yield svg.text(picture.title, MARGIN, 36, "h")
    yield svg.text(picture.subtitle, MARGIN, 58, "out")


def _arrow(name: str) -> str:
    tip = svg.element("path", d="M0,0 L8,4 L0,8 z", class_=name)
    size = {"markerWidth": 8, "markerHeight": 8, "refX": 7, "refY": 4, "markerUnits": "userSpaceOnUse"}
    return svg.element("defs", svg.element("marker", tip, id=name, orient="auto", **size))


def _edge(plan: _Plan, edge: tuple[str, str], class_: str, tip: str) -> str:
    before, name = edge
    (x, y), end = plan.at[before], plan.at[name]
    points = [(x + plan.size.width, y), *plan.bends.get(edge, ()), (end[0] - 1, end[1])]
    path = f"M{_point(points[0])}"
    for (ax, ay), (bx, by) in pairwise(points):
        half = max(abs(bx - ax) / 2, 12)
        straight = abs(ay - by) < 0.5 or abs(ax - bx) < 0.5
        path += (
            f" L{_point((bx, by))}"
            if straight
            else f" C{_point((ax + half, ay))} {_point((bx - half, by))} {_point((bx, by))}"
        )
    label = svg.hover(f"{before} → {name}")
    return svg.element("path", label, d=path, class_=class_, marker_end=f"url(#{tip})")


def _point(at: tuple[float, float]) -> str:
    return f"{at[0]:.1f},{at[1]:.1f}"


def _box(plan: _Plan, picture: Picture, name: str, *, large: bool) -> str:
    box, size, (x, middle) = picture.boxes[name], plan.size, plan.at[name]
    y, bold = middle - size.height / 2, name in set(picture.critical)
    frame = svg.element(
        "rect", x=x, y=y, width=size.width, height=size.height, rx=5 if large else 3,
        class_=f"{tone_of(box.state)} path" if bold else tone_of(box.state),
        stroke_dasharray="5 3" if box.dashed else None,
    )  # fmt: skip
    if large:
        room = size.width - 20 - svg.width_of(box.right, 11) - 8
        texts = [
            svg.text(svg.fitted(box.first, room, 12.6), x + 10, y + 17, "in b"),
            svg.text(box.right, x + size.width - 10, y + 17, "in s", "end"),
            svg.text(svg.fitted(box.second, size.width - 20, 11), x + 10, y + 33, "in s"),
        ]
    else:
        texts = [
            svg.text(svg.fitted(name, size.width - 8, 10), x + 4, y + 12.5, "in xs b" if bold else "in xs")
        ]
    return svg.element("g", svg.hover(box.hover), frame, *texts, data_todo=name)


def _legend(picture: Picture, y: float) -> Iterator[str]:
    states = dict.fromkeys(box.state for box in picture.boxes.values())
    x = float(MARGIN)
    for state in states:
        dashed = all(box.dashed for box in picture.boxes.values() if box.state == state)
        yield svg.element(
            "rect", x=x, y=y - 10, width=16, height=12, rx=2, class_=tone_of(state),
            stroke_dasharray="4 2" if dashed else None
        )  # fmt: skip
        yield svg.text(words := words_of(state), x + 22, y, "s out")
        x += 22 + svg.width_of(words, 11) + 22
    if len(picture.critical) > 1:
        yield svg.element("path", d=f"M{x:.1f},{y - 4:.1f} h24", class_="way")
        yield svg.text("critical path", x + 30, y, "s out")
