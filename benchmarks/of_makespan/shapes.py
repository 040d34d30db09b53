"""Plans of the shapes that schedulers are compared by, with lognormal durations. A todo: its repo, what is
before it, how long it takes.

* jupyter: the 97 packages of benchmarks/data/jupyter.json, a repository each, after what each requires.
* fork-join: one todo, twenty after it, one after those, and so on, five times; the branches in twenty
  repositories.
* lattice: twelve by twelve, each after its left and its upper neighbour (a wavefront); a repository for each
  column.
* repos: twenty repositories of ten todos, one after the other; a tenth of the todos also after one of another
  repository.
* loose: the same without the order within a repository, whose todos still go one at a time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from benchmarks import jupyter

MEDIAN = 1.0
STAGES, BRANCHES = 5, 20
SIDE = 12
REPOS, EACH, CROSS = 20, 10, 0.1


@dataclass(frozen=True)
class Step:
    repo: str
    before: Collection[str]
    duration: float


Shape = Mapping[str, Step]
Places = Mapping[str, tuple[str, Collection[str]]]
"""Todo → its repo, the todos before it; predecessors stand first."""


def packages(_dice: random.Random) -> Places:
    return {name: (name, before) for name, before in jupyter.read().items()}


def fork_join(_dice: random.Random) -> Places:
    found: dict[str, tuple[str, Collection[str]]] = {"join-0": ("repo-0", ())}
    for testbed in range(1, STAGES + 1):
        branches = {f"branch-{testbed}-{i}": (f"repo-{i}", (f"join-{testbed - 1}",)) for i in range(BRANCHES)}
        found |= branches
        found[f"join-{testbed}"] = ("repo-0", tuple(branches))
    return found


def lattice(_dice: random.Random) -> Places:
    def neighbours(i: int, j: int) -> tuple[str, ...]:
        return (*([f"t{i - 1}-{j}"] if i else []), *([f"t{i}-{j - 1}"] if j else []))

    return {f"t{i}-{j}": (f"repo-{j}", neighbours(i, j)) for i in range(SIDE) for j in range(SIDE)}


def repos(dice: random.Random, chained: bool = True) -> Places:
    found: dict[str, tuple[str, Collection[str]]] = {}
    for i in range(EACH):
        for repo in range(REPOS):
            before = [f"r{repo}-{i - 1}"] if chained and i else []
            if i and dice.random() < CROSS:
                other = dice.choice([r for r in range(REPOS) if r != repo])
                before.append(f"r{other}-{dice.randrange(i)}")
            found[f"r{repo}-{i}"] = (f"repo-{repo}", before)
    return found


def loose(dice: random.Random) -> Places:
    return repos(dice, chained=False)


SHAPES: Mapping[str, Callable[[random.Random], Places]] = {
    "jupyter": packages,
    "fork-join": fork_join,
    "lattice": lattice,
    "repos": repos,
    "loose": loose,
}


def draw(shape: str, sigma: float, seed: int) -> Shape:
    dice = random.Random(f"{shape} {sigma} {seed}")
    places = SHAPES[shape](dice)
    return {
        name: Step(repo, before, MEDIAN * dice.lognormvariate(0, sigma))
        for name, (repo, before) in places.items()
    }
