"""The advice after the end of a run, and the preview of a landing."""

from __future__ import annotations

from pathlib import Path
from socket import gethostname

import pytest

from coordination.cli.following.follow import advice, failures
from coordination.cli.landing.land import show_landing
from coordination.landing.preview import LandingPreview, RepoPreview
from coordination.runs.records import RunStatus, TodoState
from coordination.runs.views.records import RunView, TodoView


def failed_on(host: str) -> RunView:
    todo = TodoView(
        id="A", repo="units", state=TodoState.FAILED, attempt=1, worker=f"coord-7@{host}", error="exit code 1"
    )
    times = dict.fromkeys(("started_at", "finished_at", "duration_s", "bound_s"))
    names = {"run_id": "R", "plan_id": "P", "strategy": "levels", "on_failure": "halt", "actor": "ann@desk"}
    return RunView(**names, **times, status=RunStatus.FAILED, counts={TodoState.FAILED: 1}, todos=(todo,))


@pytest.mark.parametrize(("host", "said"), [("far", True), (gethostname(), False)])
def test_what_failed_on_another_machine_is_said_to_have(host: str, said: bool, tmp_path: Path):
    lines = list(failures(failed_on(host), lambda _: "oops", tmp_path))

    assert ("  executed on host far" in lines) is said


def test_nobody_is_sent_to_a_worktree_that_was_never_made(tmp_path: Path):
    def says() -> str:
        return "\n".join(advice(failed_on(gethostname()), {}, tmp_path))

    assert "coord/R" not in says()
    (tmp_path / "units").mkdir()
    assert "coord/R" in says()


def test_the_preview_of_a_landing_says_for_each_repository_what_would_happen_to_its_branch(
    capsys: pytest.CaptureFixture[str],
):
    units = RepoPreview(
        repo="units",
        branch="main",
        tip="c0ffee",
        via="local",
        method="merge",
        host="desk",
        would="merge c0ffee",
    )

    show_landing(LandingPreview(kind="land", change_set="P", atomic="all", repos=(units,)))

    assert capsys.readouterr().err == "  units (main, local): would merge c0ffee\n"
