"""Foreign entries in a queue: the worker lives, the run ends correctly, the entry is set aside."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
import redis

from coordination.backend.keys import Keys
from tests.testbed import Done, Testbed
from tests.waiting import until

KEYS = Keys("coord")


def envelope(body: object = ([], {}, {}), headers: object = None, **properties: object) -> bytes:
    """A message as Celery writes it, but for what is given."""
    text = base64.b64encode(json.dumps(body).encode()).decode()
    ours = {
        "delivery_tag": "tag",
        "delivery_info": {"exchange": "", "routing_key": "q"},
        "body_encoding": "base64",
    }
    headers = {"task": "coord.execute", "id": "1", "lang": "py"} if headers is None else headers
    return json.dumps(
        {
            "body": text,
            "headers": headers,
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "properties": ours | properties,
        }
    ).encode()


NO_MESSAGES = {
    "not UTF-8": b"\xff\xfe\x00",
    "not JSON": b"not json",
    "empty": b"",
    "a number": b"5",
    "null": b"null",
    "a list": b"[1, 2]",
    "an empty object": b"{}",
    "without headers": b'{"body": "e30=", "properties": {"delivery_tag": "x"}}',
    "properties that are none": b'{"body": "e30=", "headers": {}, "properties": 5}',
    "a tag that is none": envelope(delivery_tag={}),
    "no tag": envelope(delivery_tag=None),
    "no way back": envelope(delivery_info=5),
    "headers that are none": envelope(headers=[1]),
    "no id": envelope(headers={"task": "coord.execute"}, delivery_tag="t0"),
    "limits that are none": envelope(
        headers={"task": "coord.execute", "id": "9", "timelimit": 5}, delivery_tag="t9"
    ),
    "a body that is no base64": envelope().replace(b'"body": "', b'"body": "!'),
}
TOO_DEEP = b"[" * 100_000
NO_TODOS = {
    "another task": envelope(headers={"task": "os.system", "id": "2", "lang": "py"}),
    "no task": envelope(headers={"id": "3"}),
    "a body that is none": envelope(body=5, delivery_tag="t4"),
    "too few words": envelope(body=[["run"], {}, {}], delivery_tag="t5"),
    "an unknown run": envelope(body=[["run", "todo", 1, "api"], {}, {}], delivery_tag="t6"),
    "words of other types": envelope(body=[[{}, None, "x", 5], {}, {}], delivery_tag="t7"),
    "a level of an unknown run": envelope(
        body=[["run", 3], {}, {}],
        headers={"task": "coord.advance", "id": "8", "lang": "py"},
        delivery_tag="t8",
    ),
}


@pytest.fixture(scope="module")
def swept(new_testbed: Callable[[], Testbed]) -> tuple[Testbed, Done, Any]:
    """Each piece of rubbish in the repository's queue and in the control queue, and then a sweep."""
    testbed = new_testbed()
    testbed.write(
        [
            {"id": "A", "repo": "api", "action": "true"},
            {"id": "B", "repo": "api", "action": "true", "blocked_by": ["A"]},
        ]
    )
    testbed.up()
    worker = testbed.daemon("worker").pid
    client = redis.Redis.from_url(str(testbed.server.url))
    queues = (KEYS.queue("api"), KEYS.control_queue)
    for queue in queues:
        client.lpush(queue, *NO_MESSAGES.values(), TOO_DEEP, *NO_TODOS.values())
    answer = testbed.sweep()
    until(lambda: not any(client.llen(queue) for queue in queues))
    assert testbed.daemon("worker").pid == worker
    return testbed, answer, client


def test_the_worker_lives_and_the_run_ends_right(swept: tuple[Testbed, Done, Any]) -> None:
    _, answer, _ = swept

    assert (answer.code, answer.json["status"]) == (0, "succeeded")
    assert answer.states == {"A": "succeeded", "B": "succeeded"}


@pytest.mark.parametrize("kind", NO_MESSAGES)
def test_an_entry_that_is_no_message_is_set_aside_as_far_as_it_is_text(
    kind: str, swept: tuple[Testbed, Done, Any]
) -> None:
    _, _, client = swept

    aside = client.lrange(KEYS.poison, 0, -1)

    assert aside.count(NO_MESSAGES[kind].decode(errors="replace").encode()) == 2


def test_a_message_that_names_no_todo_of_ours_is_not_kept_for_another_delivery(
    swept: tuple[Testbed, Done, Any],
) -> None:
    _, _, client = swept

    assert until(lambda: not client.hlen(KEYS.unacked))


def test_the_log_of_the_worker_names_what_was_set_aside(swept: tuple[Testbed, Done, Any]) -> None:
    testbed, _, _ = swept

    log = (testbed.state / "worker.log").read_text()
    assert "unreadable queue entry, set aside: 'not json'" in log
    assert 'set aside: "RecursionError(' in log  # the one that nests too deep is no text to anybody
