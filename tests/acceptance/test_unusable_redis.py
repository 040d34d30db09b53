"""Commands and workers before a Redis that cannot be used, and one over TLS that can."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from coordination.backend.client import Profile, connect
from coordination.backend.embedded import server_binary
from tests.endpoints import Certificates, leading_to, listening, old_redis, silent
from tests.testbed import PLAN, Testbed
from tests.waiting import until

UNREACHABLE = 7
TODO = {"id": "TODO-001", "repo": "units", "action": 'echo done >> "$LEDGER"'}


def test_a_worker_carries_out_a_todo_over_tls(testbed: Testbed, redis_url: str, tmp_path: Path):
    certificates = Certificates(tmp_path)
    testbed.write([TODO])
    tls = certificates.of_server("localhost", asks_for_ours=True)
    mine = certificates.issue("machine.test")

    with listening(leading_to(Path(redis_url.removeprefix("unix://")), tls)) as port:
        url = (
            f"rediss://localhost:{port}?ssl_ca_certs={certificates.ca}&ssl_certfile={mine}&ssl_keyfile={mine}"
        )
        worker = testbed.begin("worker", "--all", COORD_REDIS_URL=url)
        done = testbed.coord("sweep", PLAN, "--json", COORD_REDIS_URL=url)
        worker.terminate()
        worker.done()

    assert done.code == 0, done.err
    assert testbed.ledger == ["done"]


def test_a_redis_that_never_answers_ends_a_command(testbed: Testbed):
    testbed.write([TODO])
    with listening(silent) as port:
        done = testbed.coord("sweep", PLAN, COORD_REDIS_URL=f"redis://:s3cret@127.0.0.1:{port}")

    assert done.code == UNREACHABLE
    assert done.err.startswith(f"error: Redis at redis://:***@127.0.0.1:{port} does not answer")


COMMANDS = (
    "list-runs",
    "lock list --json",
    "resource list",
    "lock release deploy --yes",
    "message send units x",
    "message list units --json",
    "message resend 1-1",
)


def test_where_no_redis_listens_each_command_says_so_and_prints_nothing_else(
    testbed: Testbed, free_port: int
):
    testbed.write([TODO])
    for command in COMMANDS:
        done = testbed.coord(*command.split(), COORD_REDIS_URL=f"redis://127.0.0.1:{free_port}")
        assert (done.code, done.out, "does not answer" in done.err) == (UNREACHABLE, "", True), command


@contextmanager
def old_server(_: Testbed) -> Iterator[str]:
    with listening(old_redis) as port:
        yield f"redis://127.0.0.1:{port}"


@contextmanager
def wrong_password(testbed: Testbed) -> Iterator[str]:
    yield testbed.server.start().replace("unix://", "unix://ann:wrong@")


@contextmanager
def wrong_policy(testbed: Testbed) -> Iterator[str]:
    with connect(testbed.server.start(), Profile.COMMAND) as client:
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", "allkeys-lfu")
    yield str(testbed.server.url)


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (old_server, "it is Redis 6.0.16, older than 7.0"),
        (wrong_password, "refuses the login"),
        (wrong_policy, "allkeys-lfu"),
    ],
)
def test_an_unfit_redis_is_refused_by_sweep_and_by_a_worker(
    testbed: Testbed, server: Callable[[Testbed], AbstractContextManager[str]], words: str
):
    testbed.write([TODO])
    with server(testbed) as url:
        swept = testbed.coord("sweep", PLAN, COORD_REDIS_URL=url)
        worker = testbed.begin("worker", "--all", COORD_REDIS_URL=url).done()

    for done in (swept, worker):
        assert (done.code, words in done.err) == (UNREACHABLE, True), done.err


@pytest.mark.parametrize("renamed", ["INFO", "FCALL"])
def test_a_server_that_renamed_a_command_is_refused_by_its_name(
    testbed: Testbed, renamed: str, tmp_path: Path
):
    testbed.write([TODO])
    socket = tmp_path / "renamed.sock"
    where = ("--port", "0", "--unixsocket", str(socket), "--dir", str(tmp_path), "--save", "")
    server = testbed.begin(command=(server_binary(), *where, "--rename-command", renamed, "hidden"))
    until(socket.exists)
    url = {"COORD_REDIS_URL": f"unix://{socket}"}

    ended = [
        testbed.coord(*words, **url)
        for words in (
            ("sweep", PLAN),
            (
                "lock",
                "list",
            ),
            ("doctor", "--json"),
        )
    ]
    worker = testbed.begin("worker", "--all", **url).done()
    server.terminate()
    server.done()

    swept, _, doctor = ended
    assert {swept.code, worker.code} == {UNREACHABLE}
    for done in (*ended, worker):
        assert "Traceback" not in done.err
        assert "coord has a fault" not in done.err
    assert renamed in swept.err
    assert renamed in worker.err
    assert doctor.code != 0
    assert renamed in doctor.out
