"""The page History: search in events, trends, and a comparison of two runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from coordination.api import HistoryEvent, HistoryFilters, RunTrend, RunView, Trend
from coordination.api.coord import Coord
from coordination.dashboard.charts import bars
from coordination.dashboard.pages import Page, PageRequest, took
from coordination.errors import CoordinationError

LIMIT = 50
TRENDS_S = 30.0
WINDOWS = (7, 30, 90)
SERVER = "redis.restarted"
"""Kind of the events whose subject is the id of a Redis server."""
SENTENCES = {
    "level.opened": "The todos of {level} may start.",
    "level.settled": "All todos of {level} have ended.",
    SERVER: "Redis was restarted while runs were live.",
}
"""Kind of events without a title → the sentence that the page shows."""
RUNS = 50
"""Number of the newest runs that the comparison offers."""


def _hours(hours: float) -> str:
    return took(hours * 3600)


TIMES = "{:.2f} times".format
FIGURES: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "created": ("created", str),
    "done": ("done", str),
    "lead_h_median": ("creation to end, median", _hours),
    "lead_h_p90": ("creation to end, 90 % within", _hours),
    "cycle_h_median": ("start to end, median", _hours),
    "cycle_h_p90": ("start to end, 90 % within", _hours),
    "actual_by_estimate": ("actual time compared with the estimate", TIMES),
    "succeeded": ("todos succeeded", str),
    "failed": ("todos failed", str),
    "failure_rate": ("failure rate", "{:.0%}".format),
    "retries": ("retries", str),
    "cache_hit_rate": ("results reused", "{:.0%}".format),
    "worked_h": ("time worked", _hours),
    "waited_h": ("time waited", _hours),
    "makespan_by_bound": ("duration compared with the shortest possible", TIMES),
}
"""Figure of a trend → its name on the page, and its text."""


async def history(request: PageRequest) -> Page:
    query, repo = request.get("q"), request.get("repo")
    days = request.number("days", 30)
    days = days if days in WINDOWS else 30
    found = await request.read(
        ("history", query, repo),
        lambda coord: _search(coord, query, repo),
        live=False,
        history=True,
    )
    trends = await request.read(
        ("trends", repo, days),
        lambda coord: _trends(coord, repo, days),
        live=False,
        history=True,
        fresh_s=TRENDS_S,
    )
    runs = await request.read("run ids", _runs)
    compared = [one for name in ("one", "other") if (one := request.get(name))]
    views, refused = [], ""
    try:
        views = [
            (await request.read(("brief", name), lambda coord, name=name: _brief(coord, name))).value  # type: ignore[misc]
            for name in compared
        ]
    except CoordinationError as error:
        refused = str(error)
    newest = {run.run_id for run in runs.value}
    older = [run for run in views if run.run_id not in newest]
    return Page(
        template="history.html",
        title="History",
        data={
            "query": query,
            "repo": repo,
            "days": days,
            "windows": WINDOWS,
            "events": found.value,
            "trends": trends.value,
            "one": request.get("one"),
            "other": request.get("other"),
            "compared": views,
            "refused": refused,
            "runs": [*runs.value, *older],
            "page_of": page_of,
            "subject_of": subject_of,
            "details_of": details_of,
        },
        seen=(found, trends),
    )


def page_of(event: HistoryEvent) -> tuple[str, Mapping[str, str]] | None:
    """Return path and arguments of the page about the subject of an event; None without a page."""
    noun, run = event.kind.partition(".")[0], str(event.data.get("run", ""))
    if noun in ("run", "level") and event.subject:
        return "/run", {"run": event.subject}
    if noun == "todo" and run and not event.record:
        return "/todo", {"run": run, "id": event.subject}
    return ("/record", {"id": event.subject}) if noun in ("todo", "issue", "plan") and event.subject else None


def subject_of(event: HistoryEvent) -> str:
    """Return the name of an event's subject; the ids of servers mean nothing to people."""
    return "Redis" if event.kind == SERVER else event.subject


def details_of(event: HistoryEvent) -> str:
    """Return the title of an event; for a kind without titles, its sentence."""
    if event.kind == "todo.parked":
        return f"waits for {event.title}"
    number = str(event.data.get("level", ""))
    level = f"level {int(number) + 1}" if number.isascii() and number.isdigit() else "a level"
    return event.title or SENTENCES.get(event.kind, "").format(level=level)


def _search(coord: Coord, query: str, repo: str) -> list[HistoryEvent]:
    return coord.memory.search(query, HistoryFilters(repo=repo or None), limit=LIMIT)


def _runs(coord: Coord) -> Sequence[RunView]:
    return coord.runs.list(limit=RUNS)


def _brief(coord: Coord, name: str) -> RunView:
    return coord.runs.get(name).view()


def _trends(coord: Coord, repo: str, days: int) -> list[dict[str, Any]]:
    found = coord.memory.trends(repo or None, days)
    return [_shown(trend) for trend in (found.issue, found.todo, found.run)]


def _shown(trend: Trend | RunTrend) -> dict[str, Any]:
    """Return a trend with its chart: two series of figures per day, and those of the window."""
    if isinstance(trend, Trend):
        pairs = (("created", [day.created for day in trend.days]), ("done", [day.done for day in trend.days]))
    else:
        pairs = (
            ("succeeded", [day.succeeded for day in trend.days]),
            ("failed", [day.failed for day in trend.days]),
        )
    before = asdict(trend.before)
    return {
        "entity": trend.entity,
        "chart": bars([day.day for day in trend.days], *pairs),
        "series": [name for name, _ in pairs],
        "figures": [
            (FIGURES[name][0], _text(name, value), _text(name, before[name]), trend.direction.get(name))
            for name, value in asdict(trend.now).items()
            if value is not None or before[name] is not None
        ],
    }


def _text(name: str, value: float | None) -> str:
    return "" if value is None else FIGURES[name][1](value)
