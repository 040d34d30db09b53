"""`{type: python, call: "pkg.mod:fn", args: {…}}`: the function is called in a process of its own.

The worktree's own virtual environment has the repository's dependencies, so its interpreter is taken if there is one.
The arguments go through standard input: an argument list is limited to 128 KB a piece, and everyone on the machine can read it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from coordination import models
from workers.executors.seam import Command, Job

BOOTSTRAP = Path(__file__).with_name("call.py")


def command(job: Job) -> Command:
    assert isinstance(job.action, models.PythonAction)
    argv = (interpreter(job.cwd), "-u", str(BOOTSTRAP), job.action.call)  # -u: its log is read while it runs
    return Command(argv=argv, stdin=json.dumps(job.action.args).encode())


def interpreter(cwd: Path) -> str:
    own = cwd / ".venv" / "bin" / "python"
    return str(own) if os.access(own, os.X_OK) else sys.executable
