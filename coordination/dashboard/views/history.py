"""The page History: search in what happened, trends, and two runs beside each other."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from coordination.api import HistoryEvent, HistoryFilters, RunTrend, RunView, Trend
from coordination.api.coord import Coord
from coordination.dashboard.charts import bars
from coordination.dashboard.pages import Ask, Page
from coordination.errors import CoordinationError

LIMIT = 50
TRENDS_S = 30.0
WINDOWS = (7, 30, 90)


async def history(ask: Ask) -> Page:
    words, repo = ask.get("q"), ask.get("repo")
    days = ask.number("days", 30)
    days = days if days in WINDOWS else 30
    found = await ask.read(
        ("history", words, repo),
        lambda coord: _search(coord, words, repo),
        live=False,
        history=True,
    )
    trends = await ask.read(
        ("trends", repo, days),
        lambda coord: _trends(coord, repo, days),
        live=False,
        history=True,
        fresh_s=TRENDS_S,
    )
    compared = [one for name in ("one", "other") if (one := ask.get(name))]
    views, refused = [], ""
    try:
        views = [
            (await ask.read(("brief", name), lambda coord, name=name: _brief(coord, name))).value  # type: ignore[misc]
            for name in compared
        ]
    except CoordinationError as error:
        refused = str(error)
    return Page(
        template="history.html",
        title="History",
        data={
            "words": words,
            "repo": repo,
            "days": days,
            "windows": WINDOWS,
            "events": found.value,
            "trends": trends.value,
            "one": ask.get("one"),
            "other": ask.get("other"),
            "compared": views,
            "refused": refused,
        },
        seen=(found, trends),
    )


def _search(coord: Coord, words: str, repo: str) -> list[HistoryEvent]:
    return coord.memory.search(words, HistoryFilters(repo=repo or None), limit=LIMIT)


def _brief(coord: Coord, name: str) -> RunView:
    return coord.runs.get(name).view()


def _trends(coord: Coord, repo: str, days: int) -> list[dict[str, Any]]:
    return [_shown(trend) for trend in coord.memory.trends(repo or None, days)]


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
        "figures": [
            (name, value, before[name], trend.direction.get(name))
            for name, value in asdict(trend.now).items()
        ],
    }
