"""Topics on the command line: published in one process, printed in another."""

from __future__ import annotations

import json

from tests.testbed import Testbed


def test_what_one_command_publishes_another_prints(testbed: Testbed) -> None:
    testbed.write()
    testbed.redis()
    people = testbed.begin("topic", "subscribe", "a.*", "--count", "2")
    program = testbed.begin("topic", "subscribe", "a.b", "vbia_events", "--json", "--count", "2")
    for process in (people, program):
        process.says("subscribed")

    answer = testbed.ok("topic", "publish", "a.b", '{"n": 1}', "--json")
    testbed.ok("topic", "publish", "a.c", "not { JSON", "--type", "ready")
    testbed.ok("topic", "publish", "vbia_events", "[2]")

    assert answer.json == {"topic": "a.b", "reached": 2}
    lines = people.done().out.splitlines()
    assert [line.split("  ")[1] for line in lines] == ["a.b", "a.c"]
    assert [line.split("  ")[3:] for line in lines] == [["event", '{"n":1}'], ["ready", "not { JSON"]]
    assert [json.loads(line)["payload"] for line in program.done().out.splitlines()] == [{"n": 1}, [2]]
    assert testbed.coord("topic", "publish", "a.*", "1").code == 2
    assert testbed.coord("topic", "subscribe", "a*").code == 2
    assert testbed.coord("topic", "subscribe", "a", "--for", "50ms").code == 0
