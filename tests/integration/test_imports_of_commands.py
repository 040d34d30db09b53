"""Each command imports what it executes: packages that take long to import stay with the commands that need
them.
"""

from __future__ import annotations

import sys

from tests.testbed import Testbed

IMPORTS = """
import sys
from coordination.cli import main
before = set(sys.modules)
try:
    main()
finally:
    sys.stderr.write("\\n" + " ".join(sorted(set(sys.modules) - before)))
"""
PYTHON = (sys.executable, "-c", IMPORTS)
HEAVY = {"celery", "kombu", "networkx", "fastmcp", "httpx2", "semantic_version", "starlette", "uvicorn"}
LIST = HEAVY | {"rich.console", "rich.table"}
EDITING = {
    "coordination.ecosystem.editing",
    "coordination.ecosystem.journal",
    "coordination.ecosystem.changes",
}
STEERING = {
    "coordination.runs.control.steering",
    "coordination.runs.retrying.retry_run",
    "coordination.runs.submission.submit",
    "coordination.runs.attempt_store",
    "coordination.ecosystem.writeback",
    "coordination.locks",
    "coordination.messages.bus",
    "coordination.trust.orders",
    "coordination.operations.pages",
}
SIGNATURES = {"coordination.runs.attempt_store", "coordination.trust.orders"}
"""Modules that read change sets, and verify the signatures of a run."""
NOT_IMPORTED = {
    "--version": LIST | {"pydantic", "redis", "yaml", "coordination.api"},
    "list-todos": LIST | EDITING | STEERING,
    "list-issues": LIST | EDITING | STEERING,
    "list-plans": LIST | EDITING | STEERING,
    "list-deps": LIST | EDITING | STEERING,
    "show-todo T1": LIST | EDITING | STEERING,
    "status": LIST | EDITING | STEERING - SIGNATURES,  # of the change sets that are ready to land
    "list-runs": LIST | EDITING | STEERING,
    "show-run last": HEAVY | EDITING | STEERING - SIGNATURES,
    "logs last T1": LIST | EDITING | STEERING,
    "lock list": LIST | EDITING | STEERING - {"coordination.locks"},
}
"""Command → modules that it must not import while a server with a run is there."""


def test_commands_import_what_they_execute(testbed: Testbed):
    testbed.write([{"id": "T1", "repo": "api"}])
    testbed.up()
    assert testbed.sweep().code == 0

    found = {}
    for command, left_out in NOT_IMPORTED.items():
        answer = testbed.begin(*command.split(), command=PYTHON).done()
        assert answer.code == 0, answer.err
        found[command] = left_out & set(answer.err.splitlines()[-1].split())

    assert not {command: names for command, names in found.items() if names}
