"""A real attempt fails, and its retry policy tells failures apart by what they left: code, signal, time, output."""

from __future__ import annotations

from typing import Any

import pytest

from coordination.runs.records import TodoView
from coordination.runs.submission.submit import submit
from coordination.runs.views.run_view import RunReader
from coordination.settings import Settings
from tests.integration.conftest import MakeWorker
from tests.plans import ecosystem, graph, order
from workers.app import Container
from workers.outcome import KEPT_BYTES

SLOW = {"delay": "1h", "max_delay": "1h", "jitter": "none"}
NOISE = f"head -c {2 * KEPT_BYTES} /dev/zero | tr '\\0' '.' | fold; "


@pytest.fixture
def parts(make_worker: MakeWorker) -> Container:
    return make_worker("r1")


def carried_out(parts: Container, command: str, retry: dict[str, Any], **fields: Any) -> tuple[TodoView, str]:
    """The todo after its first attempt, and its log."""
    more = {"T": {"action": command, "workspace": "in-place", "retry": SLOW | retry, **fields}}
    run_id, _ = submit(
        parts.store, graph({"T": "r1"}, **more), ecosystem({"T": "r1"}, **more), Settings(), order()
    )
    parts.deliveries.handle(run_id, "T", 1, "r1")
    view = RunReader(parts.store.redis, parts.store.keys).read(run_id)
    log = parts.store.redis.xrange(parts.store.keys.run(run_id).log("T"))
    return view.todos[0], "".join(piece["text"] for _, piece in log)


@pytest.mark.parametrize(
    ("command", "sign", "fields"),
    [
        pytest.param("exit 75", 75, {}, id="an exit code"),
        pytest.param("kill -9 $$", 137, {}, id="a signal, as a shell tells of it"),
        pytest.param("no-such-command", 127, {}, id="a command that is not there"),
        pytest.param("trap 'exit 3' TERM; sleep 60 & wait", "timeout", {"timeout": "300ms"}, id="the end of its time"),
        pytest.param("echo; echo database is locked; exit 1", {"output": r"\blocked$"}, {}, id="a line"),
        pytest.param(f"{NOISE}echo; echo locked; {NOISE[:-2]} | head -c {KEPT_BYTES // 2}; exit 1", {"output": "^locked$"}, {},
                     id="a line in the last 64 KiB"),
    ],
)  # fmt: skip
def test_a_failure_with_a_sign_to_retry_on_is_tried_again_and_with_one_to_stop_on_is_not(
    parts: Container, command: str, sign: Any, fields: dict[str, Any]
):
    again, _ = carried_out(parts, command, {"retry_on": [sign]}, **fields)
    stopped, log = carried_out(parts, command, {"stop_on": [sign]}, **fields)

    assert again.state == "retrying"
    assert stopped.state == "failed"
    assert "not tried again: " in (stopped.error or "")
    assert "[coord] not tried again: " in log


@pytest.mark.parametrize(
    ("command", "sign", "fields"),
    [
        pytest.param("exit 1", 75, {}, id="another exit code"),
        pytest.param(
            "trap 'exit 75' TERM; sleep 60 & wait", 75, {"timeout": "300ms"}, id="a code left under our TERM"
        ),
        pytest.param("echo unlocked; exit 1", {"output": "^locked"}, {}, id="another line"),
        pytest.param(
            f"echo locked; {NOISE}exit 1", {"output": "locked"}, {}, id="a line before the last 64 KiB"
        ),
        pytest.param("exit 3", {"output": "exit code 3"}, {}, id="what coord itself has said in the log"),
    ],
)
def test_a_failure_without_such_a_sign_is_final(
    parts: Container, command: str, sign: Any, fields: dict[str, Any]
):
    todo, _ = carried_out(parts, command, {"retry_on": [sign]}, **fields)

    assert todo.state == "failed"
    assert "it shows nothing that is in its retry_on" in (todo.error or "")


def test_a_pattern_that_backtracks_for_ever_is_given_up_and_said_to_be(parts: Container):
    endless = {"output": "(x+x+)+y"}
    todo, log = carried_out(parts, "printf 'x%.0s' $(seq 60); exit 1", {"stop_on": [endless]})

    assert todo.state == "retrying"
    assert "the search for '(x+x+)+y' in the output takes too long: make the pattern simpler" in log


def test_what_is_refused_is_never_tried_again_whatever_it_shows(parts: Container):
    todo, _ = carried_out(
        parts, "echo locked; echo '{' > $COORD_OUTPUT", {"retry_on": [{"output": "locked"}]}
    )

    assert todo.state == "failed"
    assert "COORD_OUTPUT is not JSON" in (todo.error or "")
