"""Users of the processes of this machine, with a program in the place of the worker."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from coordination.operations.local import Local, Stopped
from tests.fork_client import PipedFork
from tests.testbed import FORKS

WORKER = """
import os, pathlib, signal, sys
mode, state = sys.argv[1], pathlib.Path(sys.argv[sys.argv.index("--state") + 1])
if mode == "broken":
    sys.exit("no such repo: acme")
heard = 0
def term(*_):
    global heard
    heard += 1
    (state / "terms").write_text(str(heard))
    if heard == {"prompt": 1, "busy": 2, "deaf": 99}[mode]:
        sys.exit(0)
signal.signal(signal.SIGTERM, term)
signal.signal(signal.SIGUSR1, lambda *_: print("the stacks of its threads", flush=True))
(state / "argv").write_text("\\n".join(sys.argv))
(state / "env").write_text(os.environ.get("COORD_REDIS_URL", ""))
(state / f"ready-{os.getpid()}").write_text("")
while True:
    signal.pause()
"""
USER = """
import sys
from pathlib import Path
from coordination.operations.local import Local
from coordination.settings import Settings
user = Local(Path(sys.argv[1]), Settings(), ready=lambda url, pid: True, worker_command=sys.argv[3:])
print(getattr(user, sys.argv[2])(), flush=True)
for line in sys.stdin:
    print(getattr(user, line.strip())(), flush=True)
"""

Make = Callable[..., Local]


def begin_user(ecosystem: Path, folder: Path, need: str) -> PipedFork:
    worker = [sys.executable, str(folder / "worker.py"), "prompt"]
    command = [sys.executable, "-c", USER, str(ecosystem), need, *worker]
    return FORKS.piped(command)


def names(stopped: tuple[Stopped, ...]) -> list[str]:
    return [one.name for one in stopped]
