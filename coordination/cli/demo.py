"""`demo`: a small real ecosystem, and a sweep of its plan; with `--agents`, a plan that an agent proposes and
executes.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from coordination.api import LAST, RunStatus, TodoState, WaitReason
from coordination.api.machine import create_demo, create_demo_of_agents
from coordination.cli.command import command
from coordination.cli.context import CliContext
from coordination.cli.landing.land import run_landing, show_landing
from coordination.cli.runs.sweep import run_prepared
from coordination.errors import CoordinationError
from coordination.terminal import spelled
from coordination.text import quoted

PLAN = "PLAN-001"


@command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--land", "lands", is_flag=True, help="Land the result in the base branches, too.")
@click.option(
    "--agents",
    "of_agents",
    is_flag=True,
    help="Let an agent plan a change of three repositories from one sentence, and execute and land it.",
)
@click.pass_obj
def demo(call: CliContext, folder: Path | None, lands: bool, of_agents: bool) -> int:
    """Create a small ecosystem and run its plan: six git repositories in DIR (default: a temporary folder).

    They are Python packages that depend on each other. The plan raises their Python version: it edits each
    one, runs its tests against the changed versions of its dependencies, and commits to a branch of its own.
    The result is a change set, which `coord land` brings into the base branches.

    With --agents there are three of them, and a sentence. The agent plays a script, without login or network:
    it proposes a plan, fails a test once, and asks a question.
    """
    folder = folder or Path(tempfile.mkdtemp(prefix="coord-demo-"))
    if of_agents:
        return _play_agents(folder)
    path = create_demo(folder)
    click.echo(f"6 repositories and {path}", err=True)
    call.ecosystem = str(path)
    # The sample's todos say python3, which may be older than what coord itself runs on.
    path_before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), path_before])
    code = run_prepared(call, call.coord.runs.prepare_sweep(PLAN))
    coord = "coord" if shutil.which("coord", path=path_before) else Path(sys.argv[0]).absolute()
    if code == 0:
        prepared = call.coord.landings.prepare(PLAN)
        if lands:
            return run_landing(call, prepared, yes=True)
        click.echo("preview of the landing:", err=True)
        show_landing(call.coord.landings.preview(prepared))
    click.echo(f"\nnext: cd {quoted(path.parent)}, then for example:", err=True)
    if code == 0:
        click.echo(f"  {coord} land {PLAN}", err=True)
    click.echo(f"  {coord} show-run last", err=True)
    click.echo(f"  {coord} logs last TODO-012\n  git -C cli log --stat --all", err=True)
    return code


SENTENCE = "The report ends with a total"
ANSWER = "="
LOOK_S = 0.2


def _play_agents(folder: Path) -> int:
    """Show the story of a change by agents, as the commands that a person would type."""
    path = create_demo_of_agents(folder)
    click.echo(f"3 repositories, an agent that plays a script, and {path}", err=True)
    _type(path, "plan", "create", "--from", SENTENCE, "--dry-run")
    _type(path, "plan", "create", "--apply", LAST, "--yes")
    _type(path, "sweep", PLAN, "--detach")
    while not RunStatus((run := _run_of(path))["status"]).ended:
        if asking := _asking(run):
            _type(path, "answer", asking, ANSWER)
            break
        time.sleep(LOOK_S)
    _type(path, "watch", LAST)
    _type(path, "logs", LAST, "TODO-001")
    _type(path, "costs")
    _type(path, "land", PLAN, "--yes")
    click.echo(
        f"\nnext: cd {quoted(path.parent)}, then for example:\n"
        "  git -C report show --stat main\n  coord show-plan PLAN-001",
        err=True,
    )
    return 0


def _run_of(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(_done(path, "show-run", LAST, "--json", shown=False))
    return found


def _asking(run: Mapping[str, Any]) -> str:
    """Return the todo that waits for the answer of a person; empty without one."""
    for todo in run["todos"]:
        if todo["state"] == TodoState.PARKED and todo["wait_reason"] == WaitReason.PERSON:
            click.echo(f"\n{todo['id']}: {spelled(todo['waits_for'] or '')}", err=True)
            return str(todo["id"])
    return ""


def _type(path: Path, *words: str) -> None:
    """Execute a command of coord, and show it. Raises CoordinationError where it fails."""
    click.echo(f"\n$ {shlex.join(('coord', *words))}", err=True)
    _done(path, *words, shown=True)


def _done(path: Path, *words: str, shown: bool) -> str:
    """Execute a command of coord on the file of the demo, whatever COORD_ variables name; return its output,
    unless it is shown. Raises CoordinationError where it fails.
    """
    command = [sys.executable, str(Path(sys.argv[0]).absolute()), *words]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COORD_")}
    done = subprocess.run(
        command, cwd=path.parent, env=environment, stdout=None if shown else subprocess.PIPE, text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise CoordinationError(
            f"{shlex.join(('coord', *words))} ended with exit code {done.returncode}",
            f"see above; the folder stays: {path.parent}",
        )
    return done.stdout or ""
