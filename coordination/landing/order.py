"""Order the repositories of a landing: what must land before each of them, and in which wave; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from coordination.errors import PlanRefused
from coordination.models import REST, Command, Ecosystem, Gate, Repo, Todo, Wave, WaveBy, Waves
from coordination.planner.checks import Needs
from coordination.text import listed

Edges = Mapping[str, Collection[str]]
"""Repository → those that must land before it."""


def edges_between(
    ecosystem: Ecosystem, todos: Iterable[Todo], repos: Collection[str]
) -> Mapping[str, tuple[str, ...]]:
    """Return repository → the repositories that must land before it, by the order of the plan's todos and by
    the dependencies between repositories in the file.
    """
    place = {todo.id: todo.repo for todo in todos}
    found: dict[str, dict[str, None]] = {repo: {} for repo in repos}

    def add(before: str, after: str) -> None:
        if before != after and before in found and after in found:
            found[after][before] = None

    for todo in todos:
        for name in todo.blocked_by:
            add(place.get(name, ""), todo.repo)
        for name in todo.blocking:
            add(todo.repo, place.get(name, ""))
    for dependency in ecosystem.coordination.dependencies:
        add(dependency.provider, dependency.consumer)
    return {repo: tuple(before) for repo, before in found.items()}


def followers_of(edges: Mapping[str, Collection[str]], repo: str) -> tuple[str, ...]:
    """Return the repositories that need this one to land first."""
    return tuple(name for name, before in edges.items() if repo in before)


def with_needs(
    edges: Mapping[str, Collection[str]], needs: Needs, repos: Collection[str]
) -> Mapping[str, tuple[str, ...]]:
    """Add to the edges the repositories that the checks of each repository read; these land before it."""
    return {
        repo: tuple(dict.fromkeys((*edges.get(repo, ()), *sorted(needs.of(repo).intersection(repos)))))
        for repo in repos
    }


def in_order(repos: Collection[str], edges: Mapping[str, Collection[str]]) -> list[str]:
    """Return the repositories in an order in which each comes after its dependencies. Repositories in a cycle
    have the order of their names.
    """
    done: list[str] = []
    left = sorted(repos)
    while left:
        ready = (repo for repo in left if not set(edges.get(repo, ())) & set(left) - {repo})
        done.append(next(ready, left[0]))
        left.remove(done[-1])
    return done


def all_before(repo: str, edges: Mapping[str, Collection[str]]) -> Iterator[str]:
    seen, ahead = {repo}, [repo]
    while ahead:
        for before in edges.get(ahead.pop(), ()):
            if before not in seen:
                seen.add(before)
                ahead.append(before)
                yield before


@dataclass(frozen=True, kw_only=True)
class LandWave:
    """A wave of a landing."""

    number: int
    """Its number among the waves of the plan, from 1 on; 0 for a landing without waves."""
    repos: tuple[str, ...]
    """In the order in which they land."""
    soak: timedelta | None = None
    check: Command | None = None
    gate: Gate | None = None


def decide_waves(
    plan: str, waves: Waves, repos: Sequence[str], edges: Edges, of: Ecosystem
) -> list[LandWave]:
    """Return the waves of the repositories. `repos`: in the order of their landing. Empty waves are left out;
    the others keep their numbers.

    Raises PlanRefused for undeclared names, for repositories in two waves or in none, and for repositories
    that depend on a later wave.
    """
    _refuse_unknown(plan, waves, of.repos)
    groups = _by_level(repos, edges) if waves.by is WaveBy.LEVEL else _in_order(plan, waves, repos, of.repos)
    parts = [
        LandWave(
            number=0,
            repos=part,
            soak=wave.soak or waves.soak,
            check=wave.check or waves.check,
            gate=wave.gate or waves.gate,
        )
        for wave, names in groups
        for part in _parts(names, waves.max_open)
    ]
    found = [
        LandWave(number=number, repos=one.repos, soak=one.soak, check=one.check, gate=one.gate)
        for number, one in enumerate(parts, 1)
        if one.repos
    ]
    refuse_order(plan, found, edges)
    return found


def _in_order(
    plan: str, waves: Waves, repos: Sequence[str], declared: Sequence[Repo]
) -> Iterator[tuple[Wave, list[str]]]:
    members, left = _members(waves.by, declared), list(repos)
    for wave in waves.order:
        if isinstance(wave.take, int):
            taken = left[: wave.take]
        elif wave.share is not None:
            taken = left[: -(-len(repos) * wave.share // 100)]
        elif wave.take == REST:
            taken = list(left)
        else:
            named = {repo for name in wave.names for repo in members[name]}
            taken = [repo for repo in repos if repo in named]
        if twice := [repo for repo in taken if repo not in left]:
            raise _refused(plan, f"{listed(twice)} would be in two waves", "name each repository once")
        left = [repo for repo in left if repo not in taken]
        yield wave, taken
    if left:
        raise _refused(plan, f"{listed(left)} would be in no wave", "add `rest` as the last wave")


def _members(by: WaveBy, declared: Sequence[Repo]) -> dict[str, list[str]]:
    """Return the repositories of each name that a wave may list."""
    found: dict[str, list[str]] = {}
    for repo in declared:
        names = repo.tags if by is WaveBy.TAG else (repo.role if by is WaveBy.ROLE else repo.name,)
        for name in filter(None, names):
            found.setdefault(name, []).append(repo.name)
    return found


def _by_level(repos: Sequence[str], edges: Edges) -> list[tuple[Wave, list[str]]]:
    """Return a wave for each level: a repository is in the first wave after its dependencies. In a cycle, the
    order of landing decides.
    """
    level: dict[str, int] = {}
    for repo in repos:
        level[repo] = 1 + max((level[one] for one in edges.get(repo, ()) if one in level), default=-1)
    last = max(level.values(), default=-1)
    return [(Wave(take=REST), [repo for repo in repos if level[repo] == one]) for one in range(last + 1)]


def _parts(names: Sequence[str], most: int | None) -> Iterator[tuple[str, ...]]:
    """Yield the repositories of a wave in parts of at most `most`; one empty part for no repositories."""
    size = most or max(len(names), 1)
    for start in range(0, max(len(names), 1), size):
        yield tuple(names[start : start + size])


def _refuse_unknown(plan: str, waves: Waves, declared: Sequence[Repo]) -> None:
    known = _members(waves.by, declared)
    what = {WaveBy.ROLE: "role", WaveBy.TAG: "tag"}.get(waves.by, "repository")
    if unknown := sorted({name for wave in waves.order for name in wave.names} - known.keys()):
        raise _refused(
            plan,
            f"the waves name {listed(unknown)}, and no such {what} is declared",
            f"correct land.waves of {plan} in the file",
        )


def refuse_order(plan: str, waves: Sequence[LandWave], edges: Edges) -> None:
    """Raise PlanRefused if a repository depends on one that lands in a later wave or in none."""
    place: dict[str, int] = {}
    for wave in waves:
        for repo in wave.repos:
            place.setdefault(repo, wave.number)
    for repo, number in place.items():
        for before in edges.get(repo, ()):
            if place.get(before, 0) > number:
                raise _refused(
                    plan,
                    f"{repo} of wave {number} depends on {before} of wave {place[before]}",
                    f"put {before} into the wave of {repo}, or into an earlier one",
                )


def _refused(plan: str, why: str, hint: str) -> PlanRefused:
    return PlanRefused(f"{plan} cannot land in its waves: {why}", hint)
