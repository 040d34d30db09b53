"""The waves of a landing: a table, and a report in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from coordination.api import WaveState
from coordination.cli.screen.blocks import status_cell
from coordination.cli.screen.tables import print_table
from coordination.cli.times import format_time, how_long
from coordination.terminal import spelled

if TYPE_CHECKING:
    from coordination.api import RunView, WaveView

COLUMNS = ("wave", "state", "repos", "checks", "took", "work", "expected", "why")


def print_waves(waves: Sequence[WaveView]) -> None:
    """Print a line for each wave."""
    rows = (_cells(wave) for wave in waves)
    print_table(COLUMNS, [(number, status_cell(state), *rest) for number, state, *rest in rows])


def as_markdown(run: RunView) -> str:
    """Return a report: a table of the waves, their failures, and the repositories that are left."""
    return "".join(f"{line}\n" for line in _report(run))


def _report(run: RunView) -> Iterator[str]:
    waves = run.waves
    landed = sum(wave.state is WaveState.LANDED for wave in waves)
    yield f"# {_escaped(run.plan_id)}: {landed} of {len(waves)} waves have landed"
    yield ""
    yield f"Run {run.run_id}, {run.status}, started {format_time(run.started_at)}."
    yield ""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|" + " --- |" * len(COLUMNS)
    for wave in waves:
        yield f"| {' | '.join(map(_escaped, _cells(wave)))} |"
    if failures := [failure for wave in waves for failure in wave.failures]:
        yield "\n## Failures\n"
        yield from (f"* {_escaped(one.todo)}: {_escaped(one.error or 'failed')}" for one in failures)
    if left := [repo for wave in waves for repo in wave.carried_over]:
        yield "\n## Carried over\n"
        yield from (f"* {_escaped(repo)}" for repo in left)


def _cells(wave: WaveView) -> tuple[str, ...]:
    why = wave.waits_for or next((one.error for one in wave.failures if one.error), None) or ""
    return (
        str(wave.number),
        wave.state,
        ", ".join(f"{repo} ({state})" for repo, state in wave.repos.items()),
        ", ".join(f"{n} {state}" for state, n in wave.checks.items()),
        _took(wave),
        how_long(timedelta(seconds=wave.work_s)) if wave.work_s else "",
        "" if wave.expected_s is None else how_long(timedelta(seconds=wave.expected_s)),
        why.partition("\n")[0],
    )


def _took(wave: WaveView) -> str:
    if wave.started_at is None or wave.finished_at is None:
        return ""
    return how_long(datetime.fromisoformat(wave.finished_at) - datetime.fromisoformat(wave.started_at))


def _escaped(text: str) -> str:
    """Return text for a cell: no line breaks, control characters or Markdown that it could end."""
    return spelled(" ".join(text.split())).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
