"""Flower shows a run, and refuses every change."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.endpoints import Certificates, leading_to, listening
from tests.testbed import PLAN, Testbed
from tests.waiting import until

LATER = {"attempts": 100, "delay": "1h", "max_delay": "1h"}
WANTED = {
    "TODO-001 units": "SUCCESS",
    "TODO-002 text": "FAILURE",
    "TODO-003 config": "RETRY",
    "TODO-004 store": "RETRY",
}


@dataclass(frozen=True)
class Page:
    port: int
    auth: str = ""

    def ask(self, path: str, method: str = "GET") -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        login = (
            {"Authorization": f"Basic {base64.b64encode(self.auth.encode()).decode()}"} if self.auth else {}
        )
        connection.request(method, path, headers=login)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def tasks(self) -> dict[str, Any]:
        """The todos by name; Celery's own tasks left out."""
        code, text = self.ask("/api/tasks")
        assert code == 200, text
        return {task["name"]: task for task in json.loads(text).values() if task["name"].startswith("TODO")}

    def answers(self) -> bool:
        try:
            return self.ask("/healthcheck")[0] == 200
        except ConnectionRefusedError:
            return False


def test_flower_shows_each_todo_by_its_name_and_as_what_it_came_to_and_changes_nothing(testbed: Testbed):
    store = testbed.folder / "store"
    testbed.write(
        [
            {"id": "TODO-001", "repo": "units", "action": f"mv {store} {store}-away"},
            {"id": "TODO-002", "repo": "text", "action": "exit 3"},
            {
                "id": "TODO-003",
                "repo": "config",
                "action": "exit 4",
                "retry": LATER,
                "blocked_by": ["TODO-001"],
            },
            {"id": "TODO-004", "repo": "store", "blocked_by": ["TODO-001"]},  # parked: its folder is gone
        ],
        plan={"on_failure": "continue"},
    )
    up = testbed.ok("up", "--detach")
    port, password = re.search(r"Flower  http://127.0.0.1:(\d+)  user coord  password (\S+)", up.out).groups()
    page = Page(int(port), f"coord:{password}")

    testbed.ok("sweep", PLAN, "--detach", "--strategy", "levels")

    until(lambda: {name: task["state"] for name, task in page.tasks().items()} == WANTED)
    until(lambda: testbed.shown().states["TODO-004"] == "parked")
    late = [page.tasks()[name] for name in ("TODO-003 config", "TODO-004 store")]
    assert [task["succeeded"] for task in late] == [None, None]
    assert page.ask(f"/api/task/revoke/{late[0]['uuid']}?terminate=true", "POST")[0] == 403
    assert [Page(page.port).ask(path)[0] for path in ("/api/tasks", "/tasks", "/workers", "/broker")] == [
        401
    ] * 4
    testbed.ok("cancel")


def test_a_todo_that_is_cancelled_while_it_runs_is_shown_as_revoked(testbed: Testbed):
    testbed.write([{"id": "TODO-001", "repo": "units", "action": "echo began >> $LEDGER; sleep 600"}])
    up = testbed.ok("up", "--detach")
    port, password = re.search(r"Flower  http://127.0.0.1:(\d+)  user coord  password (\S+)", up.out).groups()
    page = Page(int(port), f"coord:{password}")

    testbed.ok("sweep", PLAN, "--detach")
    until(lambda: testbed.ledger)
    until(lambda: {task["state"] for task in page.tasks().values()} == {"STARTED"})
    assert testbed.todo("TODO-001")["duration_s"] >= 0
    assert re.search(r"running +1 +\d+\.\d s", testbed.ok("show-run").out)
    testbed.ok("cancel")

    until(lambda: {task["state"] for task in page.tasks().values()} == {"REVOKED"})


def test_coord_flower_reaches_redis_over_tls_and_shows_no_password(
    testbed: Testbed, redis_url: str, free_port: int, tmp_path: Path
):
    certificates = Certificates(tmp_path)
    tls = certificates.of_server("localhost", asks_for_ours=True)
    mine = certificates.issue("machine.test")
    page = Page(free_port, "ops:s3cret")

    with listening(leading_to(Path(redis_url.removeprefix("unix://")), tls)) as port:
        url = (
            f"rediss://localhost:{port}?ssl_ca_certs={certificates.ca}&ssl_certfile={mine}&ssl_keyfile={mine}"
        )
        flower = testbed.begin(
            "flower",
            "--port",
            str(free_port),
            COORD_REDIS_URL=url,
            COORD_FLOWER_AUTH=page.auth,
            COORD_NAMESPACE="north",
        )
        until(page.answers)
        # it answers before it has reached Redis
        code, queues = until(lambda: (found := page.ask("/api/queues/length"))[1] and found)
        command = Path(f"/proc/{flower.pid}/cmdline").read_bytes()
        flower.terminate()
        ended = flower.done()

    assert (code, json.loads(queues)) == (200, {"active_queues": [{"name": "north.control", "messages": 0}]})
    assert ended.out.startswith(f"Flower  http://127.0.0.1:{free_port}  user ops  password as in flower_auth")
    assert "s3cret" not in command.decode() + ended.out + ended.err


def test_coord_flower_says_that_its_port_is_taken(testbed: Testbed, redis_url: str):
    with listening(lambda client: None) as port:
        done = testbed.coord("flower", "--port", str(port), COORD_REDIS_URL=redis_url)

    assert done.code == 1
    assert "cannot listen there: Address already in use\n  name another --port" in done.err
