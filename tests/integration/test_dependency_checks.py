"""Dependencies checked for real: commands as processes, addresses at a server of ours, many at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from coordination.dependencies import command
from coordination.dependencies.check import check
from coordination.dependencies.command import HALF, LONGEST_LINE, Output, SearchedOutput
from coordination.dependencies.records import Outcome
from coordination.models import Dependency, DependencyStatus
from tests.endpoints import Certificates
from tests.waiting import until

SATISFIED, UNSATISFIED = DependencyStatus.SATISFIED, DependencyStatus.UNSATISFIED
UNKNOWN = DependencyStatus.UNKNOWN
Places = Mapping[str, Path | None]


def needs(number: int = 1, **fields: Any) -> Dependency:
    return Dependency.model_validate({"id": f"DEP-{number}", "consumer": "app", "provider": "lib", **fields})


@pytest.fixture
def places(tmp_path: Path) -> Places:
    folders = {"app": tmp_path / "app", "lib": tmp_path / "lib"}
    for folder in folders.values():
        folder.mkdir()
    return folders


@pytest.fixture
def found(places: Places) -> Callable[..., Outcome]:
    """Return the result of one dependency with this validation."""
    return lambda **validation: check([needs(validation=validation)], places)[0]


def test_a_command_that_ends_with_0_satisfies_and_any_other_end_does_not(found: Callable[..., Outcome]):
    assert found(command="true").status is SATISFIED
    refused = found(command="echo 'no such table' >&2; exit 4")
    assert (refused.status, refused.why) == (UNSATISFIED, "the command ended with 4: no such table")
    assert found(command="kill -9 $$").why == "the command was killed by SIGKILL"


def test_a_text_runs_in_a_shell_and_a_list_without_one(found: Callable[..., Outcome]):
    assert found(command="echo $((1 + 1))", expected_pattern="^2$").status is SATISFIED
    assert found(command=["echo", "$((1 + 1))"], expected_pattern=r"^\$\(\(").status is SATISFIED
    missing = found(command=["nonesuch", "--version"])
    assert (missing.status, "nonesuch cannot be run" in missing.why) == (UNSATISFIED, True)


def test_a_pattern_is_looked_for_line_by_line_in_both_streams(found: Callable[..., Outcome]):
    assert found(command="echo one; echo v2 >&2; echo three", expected_pattern=r"^v\d$").status is SATISFIED
    assert found(command="printf 'a\\nb'", expected_pattern="a.b").status is UNSATISFIED
    assert found(command="printf 'no end of line'", expected_pattern="line$").status is SATISFIED
    assert found(command="echo v2; exit 1", expected_pattern="v2").status is UNSATISFIED
    assert found(command="printf 'a\\r\\n'", expected_pattern="^a$").status is SATISFIED
    assert found(command="echo a", expected_pattern="^$").status is UNSATISFIED


def test_a_pattern_that_backtracks_for_ever_ends_with_its_time(
    found: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(command, "SEARCH_S", 0.5)
    much = f"head -c 3000000 /dev/zero; echo; echo {'a' * 60}b; head -c 3000000 /dev/zero"

    outcome = found(command=much, expected_pattern="^(a|a)*$", timeout="5s")

    assert (outcome.status, "simplify the pattern" in outcome.why) == (UNKNOWN, True)


def test_the_beginning_and_the_end_of_a_very_long_output_are_searched():
    searched = SearchedOutput()
    for part in (b"first\n", b"cut off", *[b"x" * HALF] * 4, b"\nlast\n"):
        searched.take(part)

    assert searched.text() == b"first\nlast\n"


@pytest.mark.parametrize("pattern", ["v[0-", "a{99999999999999999999}", "(" * 5000 + "a" + ")" * 5000])
def test_a_pattern_that_cannot_be_compiled_is_a_mistake_in_the_file(
    found: Callable[..., Outcome], pattern: str
):
    outcome = found(command="echo a", expected_pattern=pattern)

    assert (outcome.status, "validation.expected_pattern" in outcome.why) == (UNKNOWN, True)


@pytest.mark.parametrize("alone", [{"expected_pattern": "x"}, {"expected_status": 204}])
def test_an_expectation_of_nothing_is_a_mistake(found: Callable[..., Outcome], alone: dict[str, Any]):
    outcome = found(**alone)

    assert (outcome.status, *alone) == (UNKNOWN, next(iter(alone)))
    assert f"validation.{next(iter(alone))} has no" in outcome.why


def test_a_command_runs_with_the_consumer_else_the_provider_else_beside_the_file(
    tmp_path: Path, places: Places
):
    asked = [needs(validation={"command": "pwd", "expected_pattern": "x$"})]

    for known, folder in ((places, "app"), ({"app": None, "lib": places["lib"]}, "lib"), ({}, tmp_path.name)):
        assert check(asked, known, folder=tmp_path)[0].why.endswith(f"/{folder}")


def test_output_without_end_takes_no_memory_and_is_still_looked_at(found: Callable[..., Outcome]):
    output = Output(searched=SearchedOutput())
    for _ in range(40):
        output.take(b"x" * LONGEST_LINE)

    assert sum(map(len, output.last)) < 10_000
    assert output.searched is not None
    assert len(output.searched.text()) <= 3 * HALF
    assert (
        found(
            command="yes | head -n 200000; head -c 3000000 /dev/zero; echo; echo last",
            expected_pattern="^last$",
        ).status
        is SATISFIED
    )


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path, found: Callable[..., Outcome]):
    outcome = found(command=f"sleep 600 & echo $! > {tmp_path}/pid; trap '' TERM; sleep 600", timeout="500ms")

    assert (outcome.status, outcome.why) == (
        UNSATISFIED,
        "the command did not end within 0.5 s, and was killed",
    )
    until(lambda: is_gone(int((tmp_path / "pid").read_text())))


def test_a_process_left_behind_is_ended_and_not_waited_for(tmp_path: Path, found: Callable[..., Outcome]):
    outcome = found(command=f"sleep 600 & echo $! > {tmp_path}/pid; echo up", expected_pattern="^up$")

    assert outcome.status is SATISFIED
    until(lambda: is_gone(int((tmp_path / "pid").read_text())))


def is_gone(pid: int) -> bool:
    """Or a zombie that whoever has adopted it has not buried yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith(("Z", "X"))
    except OSError:
        return True


def test_20_checks_run_at_the_same_time(tmp_path: Path, places: Places):
    """Each waits until all the others have begun: one after the other none would end."""
    meet = f"touch {tmp_path}/here-$$; until [ $(ls {tmp_path} | grep -c here) = 20 ]; do sleep 0.02; done"
    dependencies = [needs(n, validation={"command": meet}) for n in range(20)]
    told: list[Outcome] = []

    outcomes = check(dependencies, places, jobs=20, progress=told.append)

    assert [o.id for o in outcomes] == [d.id for d in dependencies]
    assert {o.status for o in outcomes} == {SATISFIED}
    assert sorted(o.id for o in told) == sorted(o.id for o in outcomes)


def test_no_more_run_at_the_same_time_than_are_allowed(tmp_path: Path, places: Places):
    alone = f"mkdir {tmp_path}/busy && sleep 0.05; rmdir {tmp_path}/busy"

    outcomes = check([needs(n, validation={"command": alone}) for n in range(5)], places, jobs=1)

    assert {o.status for o in outcomes} == {SATISFIED}


def test_a_call_that_is_ended_early_ends_what_it_has_started(tmp_path: Path, places: Places):
    quick = needs(1, validation={"command": f"until [ -s {tmp_path}/pid ]; do sleep 0.02; done"})
    slow = needs(2, validation={"command": f"echo $$ > {tmp_path}/pid; sleep 600"})

    def interrupt(_: Outcome) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check([quick, slow], places, progress=interrupt)

    assert is_gone(int((tmp_path / "pid").read_text()))


def test_without_a_validation_the_version_of_the_checkout_counts(places: Places, tmp_path: Path):
    lib = places["lib"]
    assert lib is not None
    (lib / "pyproject.toml").write_text('[project]\nversion = "1.4.2"\n')

    good, bad, unread, away = check(
        [
            needs(1, version_constraint="^1.2", validation={}),
            needs(2, version_constraint=">=2"),
            needs(3, version_constraint="newest"),
            needs(4, version_constraint=">=2", provider="elsewhere"),
        ],
        {**places, "elsewhere": tmp_path / "nowhere"},
    )

    assert (good.status, good.found) == (SATISFIED, "1.4.2")
    assert (bad.status, bad.why) == (UNSATISFIED, "lib is 1.4.2 (pyproject.toml), which >=2 does not admit")
    assert (unread.status, "write it like" in unread.why) == (UNKNOWN, True)
    assert (away.status, "is not on this machine" in away.why) == (UNKNOWN, True)


def test_that_npm_leaves_out_a_prerelease_is_said(places: Places):
    lib = places["lib"]
    assert lib is not None
    (lib / "package.json").write_text('{"version": "2.0.0-rc.1"}')

    (outcome,) = check([needs(version_constraint=">=1.2")], places)

    assert outcome.status is UNSATISFIED
    assert "npm admits a prerelease only if" in outcome.why


def test_what_is_deprecated_is_not_run_and_what_says_nothing_is_unknown(tmp_path: Path, places: Places):
    deprecated, empty = check(
        [needs(1, status="deprecated", validation={"command": f"touch {tmp_path}/ran"}), needs(2)], places
    )

    assert deprecated.status is DependencyStatus.DEPRECATED
    assert (empty.status, empty.why.partition(":")[0]) == (UNKNOWN, "there is nothing to check")
    assert not (tmp_path / "ran").exists()


class Answers(BaseHTTPRequestHandler):
    """`/500` answers with 500, `/302` leads to `/200`, `/slow` says nothing until the test is over, `/drip`
    has no end.
    """

    over = threading.Event()

    def do_GET(self) -> None:
        word = self.path.strip("/").partition("?")[0]
        if word == "slow":
            self.over.wait(60)
            return
        if word == "drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not self.over.wait(0.05):
                self.wfile.write(b"X: y\r\n")
            return
        self.send_response(int(word))
        if word == "302":
            self.send_header("Location", "/200")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # a client that does not wait for the slow one hangs up


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    Answers.over.clear()
    with Server(("127.0.0.1", 0), Answers) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        Answers.over.set()
        made.shutdown()
        thread.join()


def address(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


@pytest.mark.parametrize(
    ("path", "more", "satisfied"),
    [
        ("200", {}, True),
        ("503", {"expected_status": 503}, True),
        ("302", {}, True),  # it is followed
        ("302", {"expected_status": 302}, True),
        ("200", {"expected_status": 302}, False),
        ("200", {"command": "true"}, True),  # both must hold
        ("500", {"command": "true"}, False),
        ("200", {"command": "false"}, False),
    ],
)
def test_a_health_check_asks_the_address(
    server: ThreadingHTTPServer,
    found: Callable[..., Outcome],
    path: str,
    more: dict[str, Any],
    satisfied: bool,
):
    outcome = found(health_check=f"{address(server)}/{path}", **more)
    assert outcome.status is (SATISFIED if satisfied else UNSATISFIED)


def test_an_unexpected_answer_is_said(server: ThreadingHTTPServer, found: Callable[..., Outcome]):
    assert found(health_check=f"{address(server)}/500").why == f"{address(server)}/500 answered 500, not 200"


def test_an_answer_without_begin_or_end_is_given_up(
    server: ThreadingHTTPServer, found: Callable[..., Outcome]
):
    for at in (f"{address(server)}/slow", f"{address(server)}/drip"):
        outcome = found(health_check=at, timeout="300ms")

        assert (outcome.status, outcome.why) == (UNSATISFIED, f"{at} did not answer within 0.3 s")


def test_where_nothing_listens_is_said(free_port: int, found: Callable[..., Outcome]):
    outcome = found(
        health_check=f"http://user:secret@secret@127.0.0.1:{free_port}/health?token=secret",
        timeout="900000000d",
    )

    where = f"http://127.0.0.1:{free_port}/health"
    assert outcome.status is UNSATISFIED
    assert outcome.why == f"{where} refused the connection: nothing listens on that port"


def test_a_certificate_that_nobody_vouches_for_is_said(tmp_path: Path, found: Callable[..., Outcome]):
    context = Certificates(tmp_path).of_server("localhost")
    with Server(("127.0.0.1", 0), Answers) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        outcome = found(health_check=f"https://localhost:{server.server_port}/200")
        server.shutdown()
        thread.join()

    assert outcome.status is UNSATISFIED
    assert "has an untrusted certificate" in outcome.why


@pytest.mark.parametrize(
    "address", ["localhost:8080/health", "ftp://localhost/x", "http://[::1", "http://a..b/"]
)
def test_what_is_no_address_is_a_mistake_in_the_file(found: Callable[..., Outcome], address: str):
    outcome = found(health_check=address)

    assert outcome.status is UNKNOWN
    assert "validation.health_check" in outcome.why
