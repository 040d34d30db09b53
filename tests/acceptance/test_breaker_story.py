"""A todo behind an open breaker holds nothing, and goes on as soon as somebody has closed it."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.testbed import Testbed
from tests.waiting import until


def test_a_todo_behind_an_open_breaker_goes_on_as_soon_as_somebody_has_closed_it(
    testbed: Testbed, tmp_path: Path
):
    flag = tmp_path / "mended"
    testbed.settings = {"breaker_failures": 1, "breaker_open": "1h"}
    needs = {"resources": ["staging-db"], "action": f"test -e {flag} || exit 7"}
    testbed.write([{"id": "TODO-3", "repo": "api", **needs}])
    testbed.file.write_text(
        testbed.file.read_text() + yaml.safe_dump({"resources": [{"name": "staging-db"}]})
    )
    testbed.up()
    assert testbed.sweep().states == {"TODO-3": "failed"}

    testbed.ok("retry", "last", "--detach")
    parked = until(lambda: (todo := testbed.todo("TODO-3"))["state"] == "parked" and todo)
    assert parked["waits_for"].startswith(
        "resource staging-db: its circuit breaker is open after 1 failure in 300 s, last: "
        "TODO-3 exit code 7; probe at "
    )
    flag.touch()
    assert "1 todo behind it can continue" in testbed.ok("breaker", "reset", "staging-db").err

    assert testbed.ok("watch", "last", "--json").states == {"TODO-3": "succeeded"}
