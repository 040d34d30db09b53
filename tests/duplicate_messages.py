"""The real `coord` and worker, which put every message about a run into its queue twice.

`main` takes the arguments `coord …` or `worker …`.
"""

from __future__ import annotations

import sys
from typing import Any

from coordination.broker.transport import TolerantChannel

PUT = TolerantChannel._put


def put_twice(channel: TolerantChannel, queue: str, message: dict[str, Any], **options: Any) -> None:
    PUT(channel, queue, message, **options)
    if ".repo." in queue or queue.endswith(".control"):
        PUT(channel, queue, message, **options)


TolerantChannel._put = put_twice  # type: ignore[method-assign]


def main() -> None:
    program, sys.argv[1:] = sys.argv[1], sys.argv[2:]
    if program == "worker":
        from workers.worker_process import main as work

        sys.exit(work())
    from coordination.cli.app import run

    run()
