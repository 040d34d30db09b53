"""The supervisor of detached processes: `python -m coordination.operations.supervisor FILE`, until `coord
down`.

It has no state: if it is killed, the processes keep running, and the next command starts another supervisor.
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

from coordination.ecosystem import document
from coordination.environment import hide_process
from coordination.errors import CoordinationError, InvalidFile
from coordination.operations.local import Local
from coordination.operations.state import Need
from coordination.operations.supervision import LOOK_S
from coordination.settings import Settings, read_settings

logger = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    hide_process()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        path = Path(argv[0])
        supervise(Local(path, _settings(path)))
    except CoordinationError as error:
        logger.error("%s", error)
        return error.exit_code
    return 0


def supervise(local: Local) -> None:
    """Restart dead processes until no permanent user needs a worker; log each problem once."""
    last_error = ""
    while (need := local.lasting) >= Need.WORKER:
        try:
            local.revive(need)
            for line in local.news():
                logger.warning("%s", line)
            last_error = ""
        except CoordinationError as error:
            if last_error != error.message:
                logger.error("%s", error)
            last_error = error.message
        time.sleep(LOOK_S)


def _settings(path: Path) -> Settings:
    try:
        return read_settings(document.load(path).ecosystem.settings)
    except InvalidFile:  # the file is being edited; the worker reads its settings when it starts
        return read_settings()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
