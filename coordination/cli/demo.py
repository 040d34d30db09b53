"""`coord demo`: a small real ecosystem, and a real plan swept over it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

import click
from rich_click import command

from coordination.cli.context import CliContext
from coordination.cli.runs.sweep import carry_out
from coordination.demo import create
from coordination.planner.graph import build
from coordination.runs.submission.submit import decide

PLAN = "PLAN-001"


@command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.pass_obj
def demo(call: CliContext, folder: Path | None) -> int:
    """Make six small git repositories in DIR (a temporary folder if not given) and raise their Python version.

    Six Python packages that depend on each other: the plan edits each one, runs its tests against the changed versions of
    those below it, and commits to a branch of its own.
    """
    path = create(folder or Path(tempfile.mkdtemp(prefix="coord-demo-")))
    click.echo(f"6 repositories and {path}", err=True)
    call.ecosystem = str(path)
    # The sample's todos say python3, which may be older than what coord itself runs on.
    path_before = os.environ.get("PATH", os.defpath)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), path_before])
    graph = build(call.document.ecosystem, PLAN)
    code = carry_out(call, graph, partial(decide, settings=call.settings))
    coord = "coord" if shutil.which("coord", path=path_before) else Path(sys.argv[0]).absolute()
    click.echo(f"\nnext: cd {path.parent}, and then, for example\n  {coord} show-run last", err=True)
    click.echo(f"  {coord} logs last TODO-012\n  git -C cli log --stat --all", err=True)
    return code
