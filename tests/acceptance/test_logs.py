"""Logs of todos, read from anywhere: one todo over its attempts, or the whole run while it goes on."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.gate import Gate
from tests.testbed import Testbed


def test_a_log_is_followed_over_attempts_and_from_elsewhere_until_the_todo_ends(
    testbed: Testbed, tmp_path: Path
) -> None:
    gate, elsewhere = Gate(testbed.folder), tmp_path / "elsewhere"
    elsewhere.mkdir()
    twice = f"echo try $COORD_ATTEMPT; [ $COORD_ATTEMPT = 2 ] || exit 1; {gate.action}; echo done"
    testbed.write(
        [
            {"id": "A", "repo": "api", "action": twice, "retry": {"attempts": 2, "delay": "1ms"}},
            {"id": "last", "repo": "web", "action": "echo after", "blocked_by": ["A"]},
        ]
    )
    assert testbed.sweep("--detach").code == 0
    url = testbed.server.url
    assert url

    one = testbed.begin("logs", "last", "A", "-f", "--redis", url, cwd=elsewhere)
    whole = testbed.begin("logs", "last", "--follow", "--redis", url, cwd=elsewhere)
    one.says("try 2")
    gate.open()

    again = "[coord] attempt 1 of 2 failed; the next one starts in 0.001 s\n[coord] attempt 2\n"
    assert one.done(60).out == f"try 1\n[coord] failed: exit code 1\n{again}try 2\ndone\n"
    assert whole.done(60).out.splitlines()[-2:] == ["A    | done", "last | after"]
    assert testbed.coord("logs").out == whole.out
    assert list(elsewhere.iterdir()) == []
    misspelt = testbed.coord("logs", "last", "las")
    assert (misspelt.code, "has no todo 'las' (did you mean 'last'?)" in misspelt.err) == (2, True)
