"""Where the boxes of a layered graph stand, so that few of its edges cross and most are short. Pure.

The method of Sugiyama, Tagawa and Toda (1981): within its layer each box goes to the barycentre of its neighbours, in a few sweeps
to and fro; an edge over several layers gets a place in each of them. Heights follow by isotonic regression (pool adjacent
violators): as near to the neighbours' as the order and the gaps permit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

SWEEPS = 8
BEND_HEIGHT = 10
"""Of the place that a long edge has in a layer, beside boxes."""
Bend = tuple[str, str, int]
"""Where the edge (from, to) passes a layer."""
Vertex = str | Bend
Neighbours = Mapping[Vertex, Sequence[Vertex]]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The middle of each box, and of each place of a long edge, from the top of the picture's body at 0."""

    layers: tuple[tuple[Vertex, ...], ...]
    y: Mapping[Vertex, float]
    height: float

    def way(self, before: str, after: str) -> Iterator[tuple[int, float]]:
        """Layer and height of the places that an edge passes."""
        for layer, vertices in enumerate(self.layers):
            if (before, after, layer) in self.y and vertices:
                yield layer, self.y[before, after, layer]


def lay_out(
    levels: Sequence[Sequence[str]], predecessors: Mapping[str, Sequence[str]], box: float, *, bends: bool
) -> Layout:
    """`box`: the height of one, with the gap to the next. Without `bends` long edges have no places of their own."""
    layers: list[list[Vertex]] = [list(level) for level in levels]
    depth = {name: i for i, level in enumerate(levels) for name in level}
    before: defaultdict[Vertex, list[Vertex]] = defaultdict(list)
    after: defaultdict[Vertex, list[Vertex]] = defaultdict(list)
    for name in depth:
        for other in predecessors.get(name, ()):
            _join(name, other, depth, layers, before, after, bends)
    _untangle(layers, before, after)
    y = _heights(layers, before, after, box)
    return Layout(layers=tuple(map(tuple, layers)), y=y, height=max(y.values(), default=0.0) + box / 2)


def _join(
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


def _untangle(layers: list[list[Vertex]], before: Neighbours, after: Neighbours) -> None:
    at: dict[Vertex, float] = {}
    for layer in layers:
        _number(layer, at)
    for sweep in range(SWEEPS):
        neighbours, order = (before, layers) if sweep % 2 == 0 else (after, layers[::-1])
        for layer in order:
            layer.sort(key=lambda v: _mean([at[n] for n in neighbours.get(v, ())], at[v]))
            _number(layer, at)


def _number(layer: Sequence[Vertex], at: dict[Vertex, float]) -> None:
    """From 0 to 1, whatever the layer's size."""
    for i, vertex in enumerate(layer):
        at[vertex] = (i + 0.5) / len(layer)


def _heights(
    layers: Sequence[Sequence[Vertex]], before: Neighbours, after: Neighbours, box: float
) -> dict[Vertex, float]:
    y: dict[Vertex, float] = {}
    for layer in layers:
        y |= zip(layer, _stacked(layer, box), strict=True)
    for sweep in range(SWEEPS):
        neighbours, order = (before, layers) if sweep % 2 == 0 else (after, layers[::-1])
        for layer in order:
            wished = [_mean([y[n] for n in neighbours.get(v, ())], y[v]) for v in layer]
            y |= zip(layer, _spaced(wished, _stacked(layer, box)), strict=True)
    top = min((y[v] - _size(v, box) / 2 for v in y), default=0.0)
    return {vertex: at - top for vertex, at in y.items()}


def _stacked(layer: Sequence[Vertex], box: float) -> list[float]:
    """One under the other, as close as they may, around 0."""
    found, bottom = [], 0.0
    for vertex in layer:
        found.append(bottom + _size(vertex, box) / 2)
        bottom += _size(vertex, box)
    return [at - bottom / 2 for at in found]


def _spaced(wished: Sequence[float], stacked: Sequence[float]) -> list[float]:
    """As near to what is wished as can be, in this order, and no closer than stacked."""
    blocks: list[tuple[float, int]] = []  # mean offset from the stack, and of how many
    for wish, at in zip(wished, stacked, strict=True):
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
