"""`{type: shell, run: …}`, and a bare command."""

from __future__ import annotations

from coordination import models
from workers.executors.seam import Command, Job, argv_of


def command(job: Job) -> Command:
    assert isinstance(job.action, models.ShellAction)
    return Command(argv=argv_of(job.action.run))
