"""Todos share values by `coord context`: without any option, from a worktree, over a server that wants a
password.
"""

from __future__ import annotations

import json
import os

from coordination.backend.embedded import EmbeddedServer
from coordination.settings import Settings
from tests.testbed import FORKS, Testbed

ELSEWHERE = "settings: {namespace: another, redis_url: 'redis://127.0.0.1:1'}\nrepos: []\n"
MAKES = """\
set -e
coord context set version '"1.2"'
coord context set own 1 --scope todo
echo '{"n": [1]}' | coord context set big - --scope plan
coord context get own
"""
READS = """\
coord context get version
coord context get own; echo "exit $?"
coord context delete eco
coord context get eco --default '"hidden"'
coord context list --format '{scope} {key}'
coord context set version 2 --scope nowhere; echo "exit $?"
"$INTERPRETER" -c 'from coordination.cache.connection import here
with here() as context: print(context.get_or_compute("made", lambda: 6 * 7))'
cp "$COORD_CONTEXT" "$COORD_OUTPUT"
stat -c %a "$(dirname "$COORD_CONNECTION")"
env
"""


def test_todos_share_values_wherever_they_run(testbed: Testbed, free_port: int):
    testbed.settings = {"server_port": free_port, "namespace": "shop"}
    testbed.repo("down", **{"ecosystem.yaml": ELSEWHERE})
    env = {"INTERPRETER": str(FORKS.programs / "python"), "PATH": f"{FORKS.programs}:{os.environ['PATH']}"}
    testbed.write(
        [
            {"id": "makes", "repo": "up", "action": MAKES, "env": env},
            {"id": "reads", "repo": "down", "action": READS, "blocked_by": ["makes"], "env": env},
        ]
    )
    testbed.up()
    testbed.ok("context", "set", "eco", "5")

    swept = testbed.sweep()

    said = testbed.log_of(swept.json["run_id"], "reads").decode()
    assert swept.states == {"makes": "succeeded", "reads": "succeeded"}, said
    lines = said.splitlines()
    assert lines[0] == "1.2"
    assert "there is no value 'own'" in said
    assert {"exit 1", "hidden", "run version", "plan big", "exit 2", "42", "700"} <= set(lines)
    assert "ecosystem eco" not in lines

    output = swept.todo("reads")["output"]
    assert output["context"] == {"version": "1.2", "big": {"n": [1]}, "eco": 5}
    assert output["context_omitted"] == 0

    server = EmbeddedServer(testbed.state, Settings(server_port=free_port))
    password = server.url.partition("@")[0].rpartition(":")[2]
    assert len(password) > 10
    # The worker's own variable may contain it.
    assert {line.partition("=")[0] for line in lines if password in line} <= {"COORD_REDIS_URL"}

    assert testbed.ok("context", "get", "eco").out == "5\n"
    assert testbed.coord("context", "get", "version").code == 1
    assert testbed.ok("context", "get", "version", "--run", "last", "--json").json == "1.2"
    assert json.loads(testbed.ok("context", "get", "own", "--run", "last", "--todo", "makes").out) == 1
    assert testbed.coord("context", "get", "own", "--run", "last", "--todo", "mkaes").code == 2
