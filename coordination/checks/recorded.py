"""Read the newest result of each quality check of a plan, whichever run has made it.

A result counts for the commit that it was made at: where the change set has moved on since, or one that it
was checked against has, the check has no result.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from coordination.checks.report import CheckView, read_checks
from coordination.errors import NotFound, Unreadable
from coordination.models import Ecosystem, Plan, generated_id
from coordination.planner.checks import BEFORE
from coordination.runs.change_sets.check_results import CheckVerdict
from coordination.runs.change_sets.store import ChangeSets
from coordination.runs.run_kinds import LAND, QA
from coordination.runs.views.run_list import RunFilters, newest
from coordination.tracker.completion import checked_repos
from coordination.tracker.records import CheckStanding

if TYPE_CHECKING:
    from coordination.runs.connection import Connection

LOOKED_INTO = 50
"""Runs of the plan that are read, the newest first."""
Name = tuple[str, str]
"""A repository and its check."""


def recorded_checks(connection: Connection, ecosystem: Ecosystem, plan: Plan) -> dict[Name, CheckStanding]:
    """Return the newest results of the checks that count for the plan, of those that have one."""
    wanted = {(repo.name, check.name) for repo in checked_repos(ecosystem, plan) for check in repo.qa}
    found = newest_checks(connection, plan.id, wanted)
    change_set = ChangeSets(connection.store).read(plan.id) if found else None
    tips = {repo: change.tip for repo, change in change_set.open.items()} if change_set else {}
    return {name: _standing(plan, name, run, check, tips) for name, (run, check) in found.items()}


def newest_checks(
    connection: Connection, plan: str, wanted: Collection[Name]
) -> dict[Name, tuple[str, CheckView]]:
    """Return the newest of each wanted check, and its run: one of the plan, of `coord qa --plan`, or a
    landing. A check before the todos of the plan does not count.
    """
    plans = frozenset({plan, f"{QA}:{plan}", f"{LAND}:{plan}"})
    found: dict[Name, tuple[str, CheckView]] = {}
    for run_id in newest(connection.redis, connection.keys, RunFilters(plans=plans), LOOKED_INTO):
        if len(found) == len(wanted):
            break
        try:
            checks = read_checks(connection, connection.reader.read(run_id))
        except (NotFound, Unreadable):  # it was forgotten meanwhile, or is damaged
            continue
        for check in checks:
            name = (check.repo, check.check or "")
            before = generated_id(f"{plan}.{BEFORE}.{check.repo}.{check.check}")
            if name in wanted and check.todo != before:
                found.setdefault(name, (run_id, check))
    return found


def _standing(plan: Plan, name: Name, run: str, check: CheckView, tips: Mapping[str, str]) -> CheckStanding:
    repo, title = name
    needs = {} if check.cached else check.needs  # a reused result names the commits of the run that made it
    commits = {**needs, **({repo: check.commit} if check.commit else {})}
    moved = [other for other, commit in commits.items() if tips.get(other, commit) != commit]
    if moved:
        why = f"has no result for the newest commit of {', '.join(sorted(moved))}"
        return CheckStanding(repo=repo, check=title, why=why, run_id=run)
    known = check.verdict is CheckVerdict.RED and check.known and plan.qa.allow_red
    return CheckStanding(
        repo=repo,
        check=title,
        verdict=check.verdict,
        accepted=known or check.verdict is CheckVerdict.GREEN,
        why=check.why,
        run_id=run,
    )
