"""Dependencies, checked for real: by what `validation` says, else by the version that the provider's checkout has."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread

from coordination.dependencies.constraints import Rules, satisfies
from coordination.dependencies.probes import carry_out
from coordination.dependencies.records import Outcome, Verdict, satisfied, unknown, unsatisfied
from coordination.dependencies.versions import Found, find_version, why_not
from coordination.errors import CoordinationError
from coordination.models import Dependency, DependencyStatus

Places = Mapping[str, Path | None]
"""Where each repository is on this machine."""
JOBS = 8
STOP_S = 2.0
"""So long the commands that are called off may take to be gone. An HTTP server that is silent is not waited for."""


def check(
    dependencies: Sequence[Dependency],
    places: Places,
    *,
    folder: Path | None = None,
    progress: Callable[[Outcome], None] | None = None,
    jobs: int | None = None,
) -> tuple[Outcome, ...]:
    """One outcome for each, in their order; up to `jobs` (8) are checked at once.

    A command runs in the consumer's checkout, else in the provider's, else in `folder`, which is where the file stands.
    `progress` is called by the thread that called us. Whatever ends the call early, a Ctrl-C above all, ends what it started.
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
    """Threads of our own: those of an executor are waited for at the end of the process, silent servers included."""
    waiting: SimpleQueue[int | None] = SimpleQueue()
    done: SimpleQueue[tuple[int, Outcome | BaseException]] = SimpleQueue()
    stopped = Event()

    def work() -> None:
        while (position := waiting.get()) is not None and not stopped.is_set():
            try:
                done.put((position, check_one(dependencies[position], places, folder, stopped)))
            except BaseException as error:  # noqa: BLE001 (raised again in the caller's thread)
                done.put((position, error))

    for position in [*range(len(dependencies)), *[None] * jobs]:
        waiting.put(position)
    threads = [Thread(target=work, daemon=True) for _ in range(jobs)]
    try:
        for thread in threads:
            thread.start()
        for _ in dependencies:
            position, outcome = done.get()
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


def _verdict(dependency: Dependency, places: Places, folder: Path, stopped: Event) -> Verdict:
    if dependency.status is DependencyStatus.DEPRECATED:
        return Verdict(status=DependencyStatus.DEPRECATED, why="it is deprecated, and not checked")
    if dependency.validation is not None:
        where = _here(places.get(dependency.consumer)) or _here(places.get(dependency.provider)) or folder
        if verdict := carry_out(dependency.validation, folder=where, stopped=stopped):
            return verdict
    if dependency.version_constraint is None:
        return unknown(
            "nothing to check by: give it a version_constraint, or a validation with a command or health_check"
        )
    return _by_version(dependency.version_constraint, dependency.provider, places.get(dependency.provider))


def _here(place: Path | None) -> Path | None:
    return place if place is not None and place.is_dir() else None


def _by_version(constraint: str, provider: str, place: Path | None) -> Verdict:
    if place is None:
        return unknown(f"where {provider} is on this machine is not known: give the repository a path")
    if not place.is_dir():
        return unknown(f"{provider} is not on this machine: there is no folder {place}")
    try:
        found = find_version(place)
        admitted = satisfies(found.version, constraint, found.rules)
    except CoordinationError as error:
        return unknown(why_not(error))
    words = f"{provider} is {found.version} ({found.source})"
    if admitted:
        return satisfied(f"{words}, as {constraint} asks", found.version)
    return unsatisfied(f"{words}, which {constraint} does not admit{_for_a_prerelease(found)}", found.version)


def _for_a_prerelease(found: Found) -> str:
    """What surprises people."""
    if found.rules not in (Rules.NPM, Rules.CARGO) or "-" not in found.version:
        return ""
    return f": {found.rules} takes a prerelease only where the constraint names one of the same release"
