"""The pages of change sets: all plans with work that has not landed, and one with its repositories."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from coordination.api import ChangeView, RepoDiff
from coordination.api.coord import Coord
from coordination.dashboard.pages import Ask, Page
from coordination.errors import GitRefused, NotFound

DIFF_SHOWN = 200_000
DIFF_S = 30.0
"""Time for which a difference counts: its commits do not change."""


async def changes(ask: Ask) -> Page:
    found = await ask.read("changes", _all)
    return Page(template="changes.html", title="Change sets", data={"sets": found.value}, seen=(found,))


def _all(coord: Coord) -> Mapping[str, list[ChangeView]]:
    views = sorted(coord.changes.list(), key=lambda view: (view.plan, view.repo))
    return {plan: list(group) for plan, group in groupby(views, key=lambda view: view.plan)}


async def change(ask: Ask) -> Page:
    """Show a change set, a row per repository; the difference of one of them where it is named."""
    plan, repo = ask.get("plan"), ask.get("repo")
    if not plan:
        raise NotFound("no plan is named", "list the change sets: coord changes")
    found = await ask.read(("change", plan), lambda coord: _one(coord, plan))
    diff, refused = None, ""
    if repo:
        tip = next((one.tip for one in found.value["views"] if one.repo == repo), "")
        try:
            diff = await ask.read(
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
    runs = coord.runs.list(10, plan=None)
    return {
        "views": views,
        "landed": sum(view.landed is not None for view in views),
        "runs": [run for run in runs if plan in (run.plan_id, run.plan_id.partition(":")[2])],
    }


def _diff(coord: Coord, plan: str, repo: str) -> RepoDiff:
    return coord.changes.diff(plan, [repo])[0].shortened(DIFF_SHOWN)
