"""Check dependencies by their `validation`, else by the version of the provider's checkout.

Also finds requirements that cannot all be met: constraints on one provider that no version satisfies
together, and repositories that need each other in a cycle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import combinations, pairwise
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread

from coordination.dependencies.constraints import Allowed, Rules, disjoint, read, satisfies
from coordination.dependencies.probes import run_validation
from coordination.dependencies.records import (
    CheckVerdict,
    Contradiction,
    Cycle,
    Demand,
    DependencyReport,
    Outcome,
    satisfied,
    unknown,
    unsatisfied,
)
from coordination.dependencies.versions import Found, find_rules, find_version, one_line
from coordination.errors import CoordinationError, UsageError
from coordination.files import is_folder
from coordination.models import Dependency, DependencyStatus, DependencyType
from coordination.text import cycle_through

Places = Mapping[str, Path | None]
"""Path of each repository on this machine; None if unknown."""
JOBS = 8
"""Checks that run at once by default."""
STOP_S = 2.0
"""Seconds that cancelled commands get to terminate; a silent HTTP server is not waited for."""


def check_all(
    wanted: Sequence[Dependency],
    every: Sequence[Dependency],
    places: Places,
    *,
    folder: Path,
    progress: Callable[[Outcome], None] | None = None,
    jobs: int | None = None,
) -> DependencyReport:
    """Check the wanted dependencies as `check` does. Contradictions and cycles are searched in all of them,
    and reported if a wanted one takes part.
    """
    ids = {d.id for d in wanted}
    return DependencyReport(
        outcomes=check(wanted, places, folder=folder, progress=progress, jobs=jobs),
        contradictions=tuple(
            c for c in contradictions(every, places) if ids & {demand.id for demand in c.demands}
        ),
        cycles=tuple(c for c in cycles(every) if not ids.isdisjoint(c.dependencies)),
    )


def check(
    dependencies: Sequence[Dependency],
    places: Places,
    *,
    folder: Path | None = None,
    progress: Callable[[Outcome], None] | None = None,
    jobs: int | None = None,
) -> tuple[Outcome, ...]:
    """Return one outcome per dependency, in their order; up to `jobs` (8) are checked at once.

    A command runs in the consumer's checkout, else in the provider's, else in `folder`, the file's folder.
    `progress` is called in the calling thread. If the call ends early, for example by Ctrl-C, it terminates
    what it started.
    """
    outcomes: dict[int, Outcome] = {}
    at_once = min(jobs or JOBS, len(dependencies))
    with closing(_in_parallel(dependencies, places, folder or Path.cwd(), at_once)) as found:
        for position, outcome in found:
            outcomes[position] = outcome
            if progress is not None:
                progress(outcome)
    return tuple(outcomes[position] for position in range(len(dependencies)))


def _in_parallel(
    dependencies: Sequence[Dependency], places: Places, folder: Path, jobs: int
) -> Generator[tuple[int, Outcome], None, None]:
    """Check in daemon threads: an executor's threads would be joined at exit, even those that wait for a
    silent server.
    """
    waiting: SimpleQueue[int | None] = SimpleQueue()
    results: SimpleQueue[tuple[int, Outcome | BaseException]] = SimpleQueue()
    stopped = Event()

    def work() -> None:
        while (position := waiting.get()) is not None and not stopped.is_set():
            try:
                results.put((position, check_one(dependencies[position], places, folder, stopped)))
            except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread)
                results.put((position, error))

    for position in [*range(len(dependencies)), *[None] * jobs]:
        waiting.put(position)
    threads = [Thread(target=work, daemon=True) for _ in range(jobs)]
    try:
        for thread in threads:
            thread.start()
        for _ in dependencies:
            position, outcome = results.get()
            if isinstance(outcome, BaseException):
                raise outcome
            yield position, outcome
    finally:
        stopped.set()
        until = time.monotonic() + STOP_S
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, until - time.monotonic()))


def check_one(dependency: Dependency, places: Places, folder: Path, stopped: Event) -> Outcome:
    began = time.monotonic()
    verdict = _verdict(dependency, places, folder, stopped)
    return Outcome(
        id=dependency.id,
        status=verdict.status,
        why=verdict.why,
        found=verdict.found,
        duration_s=round(time.monotonic() - began, 3),
    )


def _verdict(dependency: Dependency, places: Places, folder: Path, stopped: Event) -> CheckVerdict:
    if dependency.status is DependencyStatus.DEPRECATED:
        return CheckVerdict(
            status=DependencyStatus.DEPRECATED, why="it is deprecated and therefore not checked"
        )
    if dependency.validation is not None:
        where = (
            _existing_folder(places.get(dependency.consumer))
            or _existing_folder(places.get(dependency.provider))
            or folder
        )
        if verdict := run_validation(dependency.validation, folder=where, stopped=stopped):
            return verdict
    if dependency.version_constraint is None:
        return unknown(
            "there is nothing to check: add a version_constraint, "
            "or a validation with a command or health_check"
        )
    return _by_version(dependency.version_constraint, dependency.provider, places.get(dependency.provider))


def _existing_folder(place: Path | None) -> Path | None:
    return place if place is not None and is_folder(place) else None


def _by_version(constraint: str, provider: str, place: Path | None) -> CheckVerdict:
    if place is None:
        return unknown(f"the path of {provider} on this machine is not known: give the repository a path")
    if not is_folder(place):
        return unknown(f"{provider} is not on this machine: there is no folder {place}")
    try:
        found = find_version(place)
        admitted = satisfies(found.version, constraint, found.rules)
    except CoordinationError as error:
        return unknown(one_line(error))
    fact = f"{provider} is {found.version} ({found.source})"
    if admitted:
        return satisfied(f"{fact}, as {constraint} asks", found.version)
    return unsatisfied(f"{fact}, which {constraint} does not admit{_for_a_prerelease(found)}", found.version)


def _for_a_prerelease(found: Found) -> str:
    """Return the rule about prereleases, which surprises people, if it applies."""
    if found.rules not in (Rules.NPM, Rules.CARGO) or "-" not in found.version:
        return ""
    return f": {found.rules} admits a prerelease only if the constraint names one of the same release"


Demanded = tuple[Demand, Allowed]
"""A demand with the versions that it admits."""


def contradictions(
    dependencies: Iterable[Dependency], places: Mapping[str, Path | None] | None = None
) -> tuple[Contradiction, ...]:
    """Return all contradicting pairs by provider; if only larger sets contradict, the smallest such set.

    A constraint that no version satisfies (`>2,<1`) is a contradiction by itself and is not compared with
    others. Equal constraints count once. Unreadable ones are skipped, because the check of their dependency
    reports them. `places` determine each provider's language.
    """
    by_provider: dict[str, list[Dependency]] = {}
    for d in dependencies:
        if d.version_constraint and d.status is not DependencyStatus.DEPRECATED:
            by_provider.setdefault(d.provider, []).append(d)
    return tuple(
        Contradiction(provider=provider, demands=tuple(demand for demand, _ in found))
        for provider, needed in by_provider.items()
        for found in _contradicting(_demands(needed, _rules((places or {}).get(provider))))
    )


def _rules(place: Path | None) -> Rules:
    return find_rules(place) if place is not None else Rules.ANY


def _demands(dependencies: Iterable[Dependency], rules: Rules) -> list[Demanded]:
    by_constraint: dict[str, Demanded] = {}
    for d in dependencies:
        constraint = d.version_constraint or ""
        try:
            allowed = read(constraint, rules)
        except UsageError:
            continue
        demand = Demand(id=d.id, consumer=d.consumer, version_constraint=constraint)
        by_constraint.setdefault(constraint.replace(" ", ""), (demand, allowed))
    return list(by_constraint.values())


def _contradicting(demands: list[Demanded]) -> Iterator[tuple[Demanded, ...]]:
    alone = [demanded for demanded in demands if _no_version([demanded])]
    yield from ((demanded,) for demanded in alone)
    rest = [demanded for demanded in demands if demanded not in alone]
    pairs = [pair for pair in combinations(rest, 2) if _no_version(pair)]
    yield from pairs
    if not pairs and len(rest) > 2 and _no_version(rest):
        yield next(
            few for size in range(3, len(rest) + 1) for few in combinations(rest, size) if _no_version(few)
        )


def _no_version(demands: Sequence[Demanded]) -> bool:
    return disjoint([allowed for _, allowed in demands])


AT_RUN_TIME = frozenset({DependencyType.RUNTIME, DependencyType.MCP})
"""Types of dependencies that matter at run time."""


def cycles(dependencies: Iterable[Dependency]) -> tuple[Cycle, ...]:
    """Return shortest cycles that together contain every repository on a cycle, those at run time first.

    Cycles that are closed only by development, test or documentation dependencies are marked as such.
    Deprecated dependencies are ignored.
    """
    alive = [d for d in dependencies if d.status is not DependencyStatus.DEPRECATED]
    at_run_time = list(_shortest_cycles([d for d in alive if d.type in AT_RUN_TIME]))
    reported = {frozenset(cycle.repos) for cycle in at_run_time}
    others = (cycle for cycle in _shortest_cycles(alive) if frozenset(cycle.repos) not in reported)
    return (*at_run_time, *others)


def _shortest_cycles(dependencies: list[Dependency]) -> Iterator[Cycle]:
    steps: dict[tuple[str, str], Dependency] = {}
    after: dict[str, set[str]] = {}
    for d in dependencies:
        known = steps.get((d.consumer, d.provider))
        if known is None or (d.type in AT_RUN_TIME and known.type not in AT_RUN_TIME):
            steps[d.consumer, d.provider] = d
        after.setdefault(d.consumer, set()).add(d.provider)
        after.setdefault(d.provider, set())
    named: set[str] = set()
    for repo in after:
        if repo not in named and (repos := cycle_through(repo, after)):
            named.update(repos)
            yield _cycle(tuple(repos), [steps[step] for step in pairwise(repos)])


def _cycle(repos: tuple[str, ...], steps: list[Dependency]) -> Cycle:
    return Cycle(
        repos=repos,
        dependencies=tuple(d.id for d in steps),
        types=tuple(d.type for d in steps),
        at_run_time=all(d.type in AT_RUN_TIME for d in steps),
    )
