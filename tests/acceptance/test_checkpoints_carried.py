"""Work that a todo has reported as done is not repeated: after a killed worker, after a failure, or in a
retry.
"""

from __future__ import annotations

from tests.testbed import PLAN, Testbed
from tests.waiting import until

STEP = """
import json, os, pathlib, time
done = json.loads(pathlib.Path(os.environ["COORD_CHECKPOINT"]).read_text()) or []
attempt = len(done)
with open(os.environ["LEDGER"], "a") as ledger:
    ledger.write(f"{done}\\n")
if attempt < 3:
    pathlib.Path(os.environ["COORD_OUTPUT"]).write_text(json.dumps([*done, attempt]))
if attempt == 0:
    time.sleep(300)
if attempt in (1, 2):
    raise SystemExit(1)
pathlib.Path(os.environ["COORD_OUTPUT"]).write_text(json.dumps({"all": done}))
"""


def test_each_attempt_goes_on_where_the_last_one_had_come_to(testbed: Testbed) -> None:
    testbed.settings = {"lease_ttl": "5s", "heartbeat": "1s"}
    testbed.write(
        [
            {
                "id": "long",
                "repo": "a",
                "action": ["python3", "-c", STEP],
                "retry": {"attempts": 2, "delay": "10ms"},
            }
        ]
    )
    testbed.up()
    run = testbed.begin("sweep", PLAN, "--json")
    client = testbed.redis()
    run_id = until(lambda: client.zrange("coord:live", 0, -1))[0]
    until(lambda: client.hget(f"coord:run:{run_id}:checkpoint", "long") == "[0]")
    testbed.kill("worker")
    testbed.up()

    done = run.done()
    assert done.code == 3, done.err
    assert testbed.ledger == ["[]", "[0]", "[0, 1]"]
    again = testbed.coord("retry", "--json")
    assert again.code == 0, again.err
    assert testbed.ledger[3:] == ["[0, 1, 2]"]
    assert again.todo("long")["output"] == {"all": [0, 1, 2]}
