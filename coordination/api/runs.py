"""Runs: started, waited for, steered."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coordination.api.events import Event, event_of
from coordination.backend.client import reaching
from coordination.ecosystem.writeback import write_back
from coordination.errors import Blocked, Conflict
from coordination.models import OnFailure, Strategy, WriteBack
from coordination.planner.graph import PlanGraph, alone, build
from coordination.planner.selection import ALL, Selectors
from coordination.runs import service
from coordination.runs.export.document import document_of
from coordination.runs.export.file import load, save
from coordination.runs.export.received import LARGEST
from coordination.runs.records import RunStatus, RunView
from coordination.runs.submission.submit import Order, decide
from coordination.runs.views import progress
from coordination.runs.views.metrics import CensusTaker
from coordination.runs.views.run_view import LAST
from coordination.tracker.kinds import TODO

if TYPE_CHECKING:
    from coordination.api.coord import Coord
    from coordination.runs.approvals import Decision
    from coordination.runs.retrying.named_checkpoints import NamedCheckpoint
    from coordination.runs.rollback import Prospect


class Runs:
    """`coord.runs`. A run is named by its id, the beginning or end of it, or `last`."""

    def __init__(self, coord: Coord) -> None:
        self._coord = coord
        self._deeds: service.Runs | None = None

    @property
    def deeds(self) -> service.Runs:
        """The same for as long as Redis has the same address: an embedded server may come back under another."""
        url, deeds = self._coord.redis_url, self._deeds
        if deeds is None or deeds.url != url:
            self._deeds = deeds = service.Runs(url, self._coord.settings, self._coord.ecosystem_id)
        return deeds

    @contextmanager
    def _reached(self) -> Iterator[service.Runs]:
        deeds = self.deeds
        with reaching(deeds.url):
            yield deeds

    def close(self) -> None:
        if self._deeds:
            self._deeds.close()

    def sweep(
        self,
        plan: str,
        wanted: Selectors = ALL,
        *,
        strategy: Strategy | None = None,
        on_failure: OnFailure | None = None,
        max_parallel: int | None = None,
        no_cache: bool = False,
        timeout: timedelta | None = None,
        accept: Collection[str] = (),
    ) -> Run:
        """Starts a run of the plan's open todos; with `no_cache` those with a `cache` run all the same; `timeout`: after which the run
        is ended. With the embedded server its worker is started as well, and stops with the last of its users.

        Raises Blocked where nothing can be started, since all is done or held up from outside; PlanRefused; Conflict; NotLanded
        where the result of a completed predecessor is not in its base branch, unless it is one to `accept` all the same.
        """
        graph = build(self._coord.manager.document.ecosystem, plan, wanted)
        how = partial(decide, settings=self._coord.settings, strategy=strategy, on_failure=on_failure)
        return self._start(graph, partial(how, max_parallel=max_parallel, no_cache=no_cache, timeout=timeout), accept)

    def execute(self, todo: str, *, timeout: timedelta | None = None, accept: Collection[str] = ()) -> Run:
        """Starts a run of this one todo, whichever plan it belongs to; `timeout`: when it is stopped, instead of its own. Raises as
        `sweep` does.
        """
        declared = self._coord.manager.document.ecosystem
        graph = alone(declared, TODO.get(declared, todo), timeout)
        return self._start(graph, partial(decide, settings=self._coord.settings), accept)

    def _start(self, graph: PlanGraph, decided: Callable[[PlanGraph], Order], accept: Collection[str]) -> Run:
        coord, plan, order = self._coord, graph.plan.id, decided(graph)
        if not graph.todos:
            whys = [graph.nothing_to_do] if graph.nothing_to_do else [f"{t}: {why}" for t, why in graph.blocked.items()]
            raise Blocked(f"nothing of {plan} can be started: {'; '.join(whys)}", f"coord graph {plan} shows all of it")
        coord.start_worker(graph.repos)
        with self._reached() as deeds:
            graph = deeds.knowing(graph)
            order = decided(graph) if graph.learned else order
            return Run(coord, deeds.sweep(coord.manager.document.ecosystem, graph, order, accept))

    def retry(
        self,
        run: str = LAST,
        *,
        on_failure: OnFailure | None = None,
        max_parallel: int | None = None,
        without: Collection[str] = (),
        from_: str | Collection[str] = (),
        as_it_was: bool = False,
    ) -> Run:
        """Starts a run of what failed in an ended one, and what that held up; `without`: hosts that are gone for good.

        `from_`: these are done again too, though they had succeeded, with all that stands on them. `as_it_was`: in the run's own
        order, where the file has another by now; without it that is refused.

        Raises Blocked where nothing is left; PlanRefused; UsageError; Conflict where the run goes on, or was retried already.
        """
        coord = self._coord
        with self._reached() as deeds:
            start = [from_] if isinstance(from_, str) else from_
            left = deeds.left_of(
                self.get(run).id, coord.manager.document.ecosystem, without=without, start=start, as_it_was=as_it_was
            )
            if left.nothing_to_do:
                raise Blocked(left.nothing_to_do, "coord sweep PLAN does what was added to the plan since")
            coord.start_worker(left.repos)
            return Run(coord, deeds.retry(left, on_failure=on_failure, max_parallel=max_parallel))

    def get(self, run: str = LAST) -> Run:
        """Raises NotFound."""
        with self._reached() as deeds:
            return Run(self._coord, deeds.reader.resolve(run))

    def list(self, limit: int = 20) -> list[RunView]:
        """The newest, without their todos."""
        with self._reached() as deeds:
            return deeds.reader.list(limit)

    def export(self, run: str, file: str | Path, *, look: bool = False) -> Path:
        """Writes all that Redis keeps of the run as one JSON document, compressed if the file's name ends in .gz.

        Raises Conflict where something of it goes on, unless it is only to `look` at; CoordinationError.
        """
        with self._reached() as deeds:
            save(document_of(deeds.store, deeds.reader.resolve(run), to_import=not look), Path(file))
        return Path(file)

    def import_(self, file: str | Path, *, max_bytes: int = LARGEST) -> Run:
        """A run that was exported becomes one of this Redis; a paused one goes on with `resume`.

        Raises UsageError where it is no such file, not whole, or unpacked larger than `max_bytes`; Conflict where the run is here already.
        """
        received = load(Path(file), max_bytes)
        with self._reached() as deeds:
            return Run(self._coord, deeds.import_(received))

    def events(self, run: str = LAST) -> Iterator[Event]:
        """See `Run.events`."""
        return self.get(run).events()

    def rollback(self, run: str = LAST) -> Run:
        """Undoes what a run did, whether it goes on or has ended: see `Run.rollback`."""
        found = self.get(run)
        found.rollback()
        return found

    def accept(self, run: str, todos: str | Collection[str], reason: str) -> Run:
        """What could not be undone counts as undone: see `Run.accept`."""
        found = self.get(run)
        found.accept(todos, reason)
        return found

    def complete(self, todo: str, run: str | None = None) -> Run:
        """A person did a manual todo; returns the run that goes on."""
        with self._reached() as deeds:
            named = deeds.reader.resolve(run) if run else None
            return Run(self._coord, deeds.complete(todo, named))

    def approve(self, todo: str, run: str | None = None, comment: str = "") -> Run:
        """A person lets a todo begin at its gate, a milestone be reached, or has done a manual todo; returns the run that goes on.

        Raises NotFound, Conflict, or UsageError where nothing is to approve or more than one run asks.
        """
        return self._decided(service.Runs.approve, todo, run, comment)

    def reject(self, todo: str, run: str | None = None, comment: str = "") -> Run:
        """It has failed, and is not tried again; the run's `on_failure` says what follows. Raises as `approve` does."""
        return self._decided(service.Runs.reject, todo, run, comment)

    def _decided(
        self, deed: Callable[[service.Runs, str, str | None, str], Decision], todo: str, run: str | None, comment: str
    ) -> Run:
        with self._reached() as deeds:
            named = deeds.reader.resolve(run) if run else None
            return Run(self._coord, deed(deeds, todo, named, comment).run_id)

    def stats(self) -> Mapping[str, Any]:
        """Live runs by status, their todos by state, messages and workers by repository, and what was counted so far."""
        with self._reached() as deeds:
            census = CensusTaker(deeds.redis, deeds.keys).take()
        workers: Counter[str] = Counter()
        for (_, repo), number in census.workers.items():
            workers[repo] += number
        return {
            "live": dict(census.runs),
            "todos": {state: number for state, number in census.todos.items() if number},
            "leases": census.leases,
            "queues": dict(census.queues),
            "workers": dict(workers),
            "counters": dict(census.counters),
        }


class Run:
    """One run. It belongs to nobody here: who leaves changes nothing of it, as long as its workers stay."""

    def __init__(self, coord: Coord, run_id: str) -> None:
        self.id = run_id
        self._coord = coord
        self._deeds = coord.runs.deeds
        self._told = "0"

    def view(self) -> RunView:
        """The run as it stands now."""
        with reaching(self._deeds.url):
            return self._deeds.reader.read(self.id)

    def events(self) -> Iterator[Event]:
        """Everything that has happened in it, and what happens, until it ends."""
        with reaching(self._deeds.url):
            for happened in self._deeds.follow(self.id):
                if happened is not None:
                    yield event_of(self.id, happened)

    def wait(self, timeout_s: float | None = None) -> RunView:
        """Until it ends; then what succeeded is marked in the file. Subscribers hear of each event once, also of those
        before. Raises TimeoutError: the run goes on, and may be waited for again; Unreachable where the worker that was started
        for it died too often.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with reaching(self._deeds.url):
            for happened in self._deeds.follow(self.id, self._told):
                if happened is None:
                    self._coord.look_after()
                else:
                    self._told = happened.id
                    self._coord.subscribers.tell(event_of(self.id, happened))
                if deadline is not None and time.monotonic() > deadline and not _is_end(happened):
                    raise TimeoutError(f"run {self.id} has not ended within {timeout_s} s")
        if self._deeds.settings.write_back is not WriteBack.NONE:
            self.sync()
        return self.view()

    def sync(self) -> tuple[str, ...]:
        """Marks what succeeded as completed in the file, and what the run had completed and was undone as pending again;
        returns the todos that were changed, and the milestones.
        """
        with reaching(self._deeds.url):
            outcome = self._deeds.outcome(self.id)
            written = write_back(self._coord.path, outcome, datetime.now(UTC))
            self._deeds.filed(self.id, written.completed, written.reopened, written.left)
        return written.all

    def log(self, todo: str | None = None, *, follow: bool = False) -> Iterator[str]:
        """What a todo wrote over its attempts, in pieces; without one, what all wrote, each line with its todo.

        With `follow` until what is asked for has ended. Raises NotFound.
        """
        with reaching(self._deeds.url):
            yield from self._deeds.log(self.id, todo, follow=follow)

    def pause(self) -> None:
        with reaching(self._deeds.url):
            self._deeds.pause(self.id)

    def resume(self, *, as_it_was: bool = False) -> None:
        """Raises PlanRefused where the file has another graph for its todos by now, unless it is to go on `as_it_was`."""
        with reaching(self._deeds.url):
            self._deeds.resume(self.id, None if as_it_was else self._coord.manager.document.ecosystem)

    def cancel(self) -> None:
        """Nothing new starts, and what runs is stopped; `wait` returns when it has."""
        with reaching(self._deeds.url):
            self._deeds.cancel(self.id)

    def rollback(self) -> None:
        """What it has done is undone, in reverse order; `wait` returns when that has ended. Asked twice, it changes nothing.

        What could not be undone is tried again. Raises Conflict where another run has built on it, and stands.
        """
        with reaching(self._deeds.url):
            self._coord.start_worker(self._deeds.prospect(self.id).repos)
            self._deeds.rollback(self.id)

    def rollback_preview(self) -> Prospect:
        """What a rollback of it would undo, and which branches would go. Raises as `rollback` does."""
        with reaching(self._deeds.url):
            return self._deeds.prospect(self.id)

    def create_checkpoint(self, name: str) -> NamedCheckpoint:
        """Records which of its todos have succeeded. Raises UsageError; Conflict where the name is taken, or the run is undone."""
        with reaching(self._deeds.url):
            return self._deeds.create_checkpoint(self.id, name)

    def checkpoints(self) -> list[NamedCheckpoint]:
        """The oldest first; a retry of the run has them, too."""
        with reaching(self._deeds.url):
            return self._deeds.checkpoints(self.id)

    def begin_restore(self, name: str) -> RunView:
        """Begins to undo what it has begun since the checkpoint, or goes on with that. `wait` returns when that has ended; then
        `coord.runs.retry` does it again. Raises NotFound; Conflict as `rollback` does.
        """
        with reaching(self._deeds.url):
            self._coord.start_worker(self._deeds.undone_by_restore(self.id, name).repos)
            self._deeds.restore(self.id, name)
        return self.view()

    def restore(self, name: str, timeout_s: float | None = None) -> Run:
        """Undoes what it has begun since the checkpoint, in reverse order, then retries it; returns the new run. Asked again after an
        interruption it goes on. Raises Conflict where something could not be undone; Blocked where nothing is left; TimeoutError.
        """
        if not self.begin_restore(name).status.ended:
            self.wait(timeout_s)
        if self.view().status is RunStatus.ROLLBACK_FAILED:
            raise Conflict(f"not all of run {self.id} could be undone", f"look at it: coord show-run {self.id}")
        return self._coord.runs.retry(self.id)

    def accept(self, todos: str | Collection[str], reason: str) -> None:
        """What could not be undone counts as undone, for this reason; the rest goes on.

        Raises UsageError without a reason; Conflict where a todo is no failed compensation; NotFound.
        """
        with reaching(self._deeds.url):
            self._coord.start_worker(self._deeds.prospect(self.id).repos)
            self._deeds.accept(self.id, [todos] if isinstance(todos, str) else todos, reason)


def _is_end(happened: progress.Event | None) -> bool:
    return happened is not None and happened.what == progress.ENDED
