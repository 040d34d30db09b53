"""Why a graph cannot be ordered: one shortest cycle for each knot in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import networkx as nx

from coordination.cycles import cycle_through

Edges = dict[str, set[str]]


def shortest_cycles(graph: nx.DiGraph[str]) -> list[list[str]]:
    """One shortest cycle `[A, B, C, A]` of each strongly connected component (Tarjan 1972, by networkx)."""
    position = {name: i for i, name in enumerate(graph)}
    found = []
    for component in nx.strongly_connected_components(graph):
        names = sorted(component, key=position.__getitem__)
        cycle = _shortest_cycle(names, {name: graph.adj[name] for name in names})
        if cycle:
            found.append(_from_first(cycle, position))
    return sorted(found, key=lambda cycle: position[cycle[0]])


def _from_first(cycle: list[str], position: Mapping[str, int]) -> list[str]:
    """The same ring, told from the node that the graph has first: the message does not change from run to run."""
    ring = cycle[:-1]
    first = ring.index(min(ring, key=position.__getitem__))
    return [*ring[first:], *ring[:first], ring[first]]


def _shortest_cycle(names: Iterable[str], adjacency: Mapping[str, Iterable[str]]) -> list[str]:
    """Itai and Rodeh 1978: a breadth-first search from each node, none deeper than the best cycle so far.

    A node whose search is done cannot lie on a shorter cycle: it goes, and so does all that lies on no cycle without
    it. One ring of 10,000 todos is then searched once, not 10,000 times.
    """
    after: Edges = {name: {other for other in adjacency[name] if other in adjacency} for name in names}
    before: Edges = {name: set() for name in after}
    for name, others in after.items():
        for other in others:
            before[other].add(name)
    best: list[str] = []
    for name in list(after):
        if name in after:
            best = cycle_through(name, after, len(best) - 1) or best
            _drop(name, after, before)
    return best


def _drop(name: str, after: Edges, before: Edges) -> None:
    """Take the node out, and then every node that has no edge left on one of its sides."""
    going = [name]
    while going:
        gone = going.pop()
        if gone not in after:
            continue
        for other in after.pop(gone) - {gone}:
            before[other].discard(gone)
            if not before[other]:
                going.append(other)
        for other in before.pop(gone) - {gone}:
            after[other].discard(gone)
            if not after[other]:
                going.append(other)
