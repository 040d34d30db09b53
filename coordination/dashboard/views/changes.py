"""The pages of change sets: all plans with work that has not landed, and one change set."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from markupsafe import Markup

from coordination.api import Asked, ChangeView, RepoDiff, RunStatus, RunView, TodoState
from coordination.api.coord import Coord
from coordination.dashboard.charts import steps
from coordination.dashboard.pages import Page, PageRequest, moment
from coordination.errors import GitRefused, NotFound
from coordination.models import OPEN_TODO, Todo, TodoStatus

RUNS = 20
"""Number of the newest runs of a change set whose todos are read."""
FAILED = (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.ROLLED_BACK)

DIFF_SHOWN = 200_000
DIFF_S = 30.0
"""Seconds for which a difference is kept: its commits do not change."""


async def changes(request: PageRequest) -> Page:
    """List the plans with work that has not landed, and the reasons why their repositories wait."""
    found = await request.read("changes", _all)
    return Page(template="changes.html", title="Change sets", data=found.value, seen=(found,))


def _all(coord: Coord) -> Mapping[str, Any]:
    views = sorted(coord.changes.list(), key=lambda view: (view.plan, view.repo))
    return {
        "sets": {plan: list(group) for plan, group in groupby(views, key=lambda view: view.plan)},
        "titles": {plan.id: plan.title for plan in coord.document.ecosystem.coordination.plans},
    }


async def change(request: PageRequest) -> Page:
    """Show a change set with a row per repository, and the difference of the repository `repo`."""
    plan, repo = request.get("plan"), request.get("repo")
    if not plan:
        raise NotFound("no plan is named", "list the change sets: coord changes")
    found = await request.read(("change", plan), lambda coord: _one(coord, plan))
    diff, refused = None, ""
    if repo:
        tip = next((row.view.tip for row in found.value["rows"] if row.view.repo == repo), "")
        try:
            diff = await request.read(
                ("diff", plan, repo, tip), lambda coord: _diff(coord, plan, repo), fresh_s=DIFF_S
            )
        except GitRefused as error:
            refused = str(error)
    return Page(
        template="change.html",
        title=f"Change set {plan}",
        data={
            "plan": plan,
            "repo": repo,
            "diff": diff.value if diff else None,
            "refused": refused,
            **found.value,
        },
        seen=(found,),
    )


def _one(coord: Coord, plan: str) -> Mapping[str, Any]:
    views = coord.changes.list(plan)
    runs = list(_read(coord, {run for view in views for run in (*view.runs, view.run)}))
    known = {run.run_id for run in runs}
    checked = list(_read(coord, {one.run for view in views for one in view.checks} - known))
    declared = [todo for todo in coord.document.ecosystem.coordination.todos if plan in (todo.plan, todo.id)]
    asking = {one.todo: one for one in coord.live.asking()}
    titles = {one.id: one.title for one in coord.document.ecosystem.coordination.plans}
    return {
        "plan_title": titles.get(plan, ""),
        "todos_open": sum(todo.status in OPEN_TODO for todo in declared),
        "rows": [row_of(view, runs, declared, asking, checked) for view in views],
        "landed": sum(view.landed is not None for view in views),
        "chart": burndown(views, runs, declared, datetime.now(UTC)),
        "runs": runs,
        "with_requests": any(view.request for view in views),
    }


def _read(coord: Coord, names: Collection[str]) -> Iterator[RunView]:
    """Yield the newest of these runs that still have records, the newest first."""
    for name in sorted(names, reverse=True)[:RUNS]:  # their ids begin with their time
        with suppress(NotFound):
            yield coord.runs.get(name).view()


@dataclass(frozen=True, kw_only=True)
class Row:
    """A repository of a change set: the people it waits for, since when, and the next step."""

    view: ChangeView
    who: str
    """The people it waits for, if they are known by name or role."""
    since: datetime | None
    action: str = ""
    """The next step: an action of pages with its fields; empty if there is none."""
    label: str = ""
    """The text of its button; it names the plan or run, since the action is not limited to the repository."""
    fields: Mapping[str, str] = field(default_factory=dict)
    run: str = ""
    """The run, and perhaps the todo in it, at which a person looks next."""
    todo: str = ""


def row_of(
    view: ChangeView,
    runs: Sequence[RunView],
    declared: Collection[Todo],
    asking: Mapping[str, Asked],
    checked: Sequence[RunView] = (),
) -> Row:
    """Return what a repository of a change set waits for. `runs`: its runs, newest first; `checked`: runs
    that only checked it. `since` of the row is None if no record has the time, as after an edit of the file.
    """
    mine = [todo for todo in declared if todo.repo == view.repo]
    request = view.request if view.landed is None else None
    refused = ", ".join(request.seen.refused_by) if request and request.seen else ""
    known: dict[str, Any] = {"view": view, "since": None, "who": refused and f"{refused}, who want changes"}
    plan = {"plan": view.plan}
    match view.wait_reason:
        case "person":
            asked = next((asking[todo.id] for todo in declared if todo.id in asking), None)
            known |= {"who": "a person who may approve"}
            if asked:
                known |= {"since": moment(asked.since), "run": asked.run_id, "todo": asked.todo}
        case "run":
            live = next((run for run in runs if not run.status.ended), None)
            if live:
                known |= {"since": moment(live.started_at), "run": live.run_id}
        case "todos":
            open_ = [todo for todo in mine or declared if todo.status in OPEN_TODO]
            people = sorted({todo.assignee for todo in open_ if todo.assignee})
            failed = runs[0] if runs and runs[0].status in FAILED else None
            sweep = ("sweep", f"Sweep {view.plan}", plan)
            step = ("retry", f"Retry {failed.run_id}", {"run": failed.run_id}) if failed else sweep
            known |= {"who": known["who"] or ", ".join(people)} | _step(*step)
            known |= {"since": _left_open(runs, declared)}
        case "checks":
            known |= {"since": _red(view, [*runs, *checked])} | _step(
                "check", f"Check {view.plan} again", plan
            )
        case "order":
            known |= {"since": _all_done(view, runs, declared, checked)} | _step(
                "land", f"Land {view.plan}", plan
            )
        case "request" | None:  # its text names the people
            known |= {"who": ""}
    return Row(**known)


def _left_open(runs: Sequence[RunView], declared: Collection[Todo]) -> datetime | None:
    """Return when the newest run ended, if it left a todo open; else None."""
    open_ = {todo.id for todo in declared if todo.status in OPEN_TODO}
    left = runs and any(todo.id in open_ for todo in runs[0].todos)
    return moment(runs[0].finished_at) if left else None


def _red(view: ChangeView, runs: Sequence[RunView]) -> datetime | None:
    """Return when the first of the checks that are not green was executed."""
    ends = {run.run_id: moment(run.finished_at) for run in runs}
    found = [ends.get(check.run) for check in view.checks if check.verdict not in ("green", "stale")]
    return min((at for at in found if at), default=None) if all(found) else None


def _all_done(
    view: ChangeView, runs: Sequence[RunView], declared: Collection[Todo], checked: Sequence[RunView]
) -> datetime | None:
    """Return when the last run or check ended; None if a person has completed a todo, which may be later."""
    done = {todo.id for run in runs for todo in run.todos if todo.state is TodoState.SUCCEEDED}
    if not {todo.id for todo in declared} <= done:
        return None
    checks = {one.run for one in view.checks}
    last = [*runs[:1], *(run for run in checked if run.run_id in checks)]
    return max((at for run in last if (at := moment(run.finished_at))), default=None)


def _step(action: str, label: str, fields: Mapping[str, str]) -> dict[str, Any]:
    return {"action": action, "label": label, "fields": fields}


def burndown(
    views: Collection[ChangeView], runs: Collection[RunView], declared: Collection[Todo], now: datetime
) -> Markup | None:
    """Return the chart of open todos and of not landed repositories over time; None before the first run."""
    began = [at for run in runs if (at := moment(run.started_at))]
    if not began:
        return None
    done: dict[str, datetime] = {}
    names = {todo.id for todo in declared if todo.status is not TodoStatus.CANCELLED}
    for todo in (todo for run in runs for todo in run.todos if todo.id in names):
        at = moment(todo.finished_at)
        if todo.state is TodoState.SUCCEEDED and at is not None:
            done[todo.id] = min(at, done.get(todo.id, at))
    by_hand = sum(todo.id in names - done.keys() and todo.status is TodoStatus.COMPLETED for todo in declared)
    landed = [at for view in views if view.landed and (at := moment(view.landed.at))]
    first = min((*began, *done.values(), *landed))
    return steps(
        ("todos open", _falling(first, len(names) - by_hand, done.values())),
        ("repositories not landed", _falling(first, len(views), landed)),
        until=max(now, first),
    )


def _falling(first: datetime, number: int, ends: Iterable[datetime]) -> list[tuple[datetime, int]]:
    return [(first, number), *((at, number - n) for n, at in enumerate(sorted(ends), 1))]


def _diff(coord: Coord, plan: str, repo: str) -> RepoDiff:
    return coord.changes.diff(plan, repos=[repo])[0].shortened(DIFF_SHOWN)
