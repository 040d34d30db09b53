"""A todo gets the secrets that it names, as files, and nothing that it leaves shows them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from coordination.credentials.records import Purpose
from coordination.credentials.references import parse
from coordination.credentials.store import CredentialStore, askpass
from tests.attempts import Bench
from tests.sandboxes import needs_bubblewrap
from workers.credentials import GitCredentials, TodoSecrets
from workers.outcome import AttemptOutcome, OutcomeKind
from workers.workspace.git import ask

TOKEN = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"
PASSWORD = 'p"s\\w&rd 12'


@pytest.fixture
def kept(tmp_path: Path) -> CredentialStore:
    store = CredentialStore(tmp_path / "config" / "credentials.json")
    store.add("token", parse("env:TOKEN"), repos=["api"], purposes=[Purpose.WRITE])
    store.add("password", parse("env:PASSWORD"))
    return store


@pytest.fixture
def read() -> list[str]:
    """Names of the credentials that were read."""
    return []


@pytest.fixture
def bench(tmp_path: Path, kept: CredentialStore, read: list[str]) -> Bench:
    made = Bench(tmp_path)
    environ = {"TOKEN": TOKEN, "PASSWORD": PASSWORD}
    made.secrets = TodoSecrets(kept.path, environ, "here", lambda _, names: read.extend(names))
    made.make_repository()
    return made


def left_in(folder: Path, *but: Path) -> list[Path]:
    """Return the files that hold a form of a secret."""
    forms = (TOKEN, PASSWORD, base64.b64encode(TOKEN.encode()).decode()[:40], json.dumps(PASSWORD)[1:-1])
    return [
        file
        for file in folder.rglob("*")
        if file.is_file() and file not in but and any(form.encode() in file.read_bytes() for form in forms)
    ]


LEAK = """
set -e
token=$(cat "$COORD_SECRETS/token")
test "$(stat -c %a "$COORD_SECRETS" "$COORD_SECRETS/token" | tr '\\n' ' ')" = "700 600 "
test "$(ls "$COORD_SECRETS" | tr '\\n' ' ')" = "password token "
printf %s "$token" | cut -c1-20 | tr -d '\\n'; sleep 0.3; printf %s "$token" | cut -c21-
printf %s "x-access-token:$token" | base64 -w 20
cat "$COORD_SECRETS/password"; echo
python3 - "$COORD_SECRETS" <<'END'
import json, os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
secret = (folder / "password").read_text()
print(json.dumps({"p": secret}), (folder / "token").read_bytes().hex())
pathlib.Path(os.environ["COORD_OUTPUT"]).write_text(json.dumps({"url": f"https://{secret}@x", "n": [secret]}))
END
"""


@pytest.mark.parametrize(
    ("ends", "sandbox"),
    [("", None), ("exit 3", None), pytest.param("", {"kind": "bubblewrap"}, marks=needs_bubblewrap)],
)
def test_secrets_are_files_of_the_attempt_and_masked_in_all_that_it_leaves(
    bench: Bench, read: list[str], ends: str, sandbox: Any
):
    action = {"type": "shell", "run": LEAK + ends}
    outcome = bench.attempt(action, names=("password", "token"), sandbox=sandbox)

    assert (outcome.exit_code, outcome.error) == ((3, "exit code 3") if ends else (0, "")), bench.log
    assert read == ["password", "token"]
    assert json.loads(outcome.output) == {"url": "https://***@x", "n": ["***"]}
    assert bench.log.count("***") == 5
    assert left_in(bench.folder) == []
    assert not [*(bench.state / "tmp").iterdir()]


def test_an_error_and_the_signs_of_a_retry_do_not_show_a_secret(bench: Bench):
    outcome = bench.attempt(["sh", "-c", 'exec "$(cat "$COORD_SECRETS/token")"'], names=("token",))

    assert outcome.exit_code == 127
    assert TOKEN not in outcome.error + bench.log
    assert TOKEN not in repr(outcome)


@pytest.mark.parametrize(
    ("arrange", "cause"),
    [
        (lambda kept: kept.revoke("token"), "no credential token"),
        (lambda kept: kept.add("token", parse("env:TOKEN"), repos=["web"], replace=True), "not for api"),
        (lambda kept: kept.add("token", parse("env:NOPE"), replace=True), "NOPE is not set"),
        (lambda kept: kept.add("token", parse("command:false"), replace=True), "exit code 1"),
        (lambda kept: kept.add("token", parse("env:TOKEN"), purposes=[Purpose.PR], replace=True), "pr only"),
        (
            lambda kept: kept.add(
                "token", parse("env:TOKEN"), expires=datetime.now(UTC).date() - timedelta(1), replace=True
            ),
            "expired",
        ),
        (lambda kept: kept.path.chmod(0o644), "other users"),
        (lambda kept: kept.path.write_text("{"), "not a list of credentials"),
    ],
)
def test_a_todo_waits_for_a_secret_that_this_worker_cannot_give(
    bench: Bench, kept: CredentialStore, arrange: Callable[[CredentialStore], object], cause: str
):
    arrange(kept)

    outcome = bench.attempt(["touch", str(bench.out)], names=("password", "token"))

    assert outcome.kind is OutcomeKind.DEFERRED
    assert cause in outcome.error
    assert "host here" in outcome.error
    assert not bench.out.exists()
    assert not outcome.limited


def test_a_value_that_the_todo_sets_in_its_context_is_masked(bench: Bench):
    masked: list[Any] = []

    @contextmanager
    def connection(mask: Callable[[Any], Any]) -> Iterator[str]:
        yield "{}"
        masked.append(mask({"value": [TOKEN]}))

    bench.connection = connection

    assert bench.attempt(["true"], names=("token",)).kind is OutcomeKind.SUCCEEDED
    assert masked == [{"value": ["***"]}]


def test_git_gets_the_secret_for_the_host_of_the_repository_only(bench: Bench):
    bench.url = "https://git.example.org/api.git"
    fill = "printf 'protocol=https\\nhost=%s\\n\\n' {} | git credential fill > $OUT"

    def filled(host: str) -> AttemptOutcome:
        return bench.attempt({"type": "shell", "run": fill.format(host)}, names=("password", "token"))

    assert filled("git.example.org").kind is OutcomeKind.SUCCEEDED, bench.log
    assert {"username=x-access-token", f"password={TOKEN}"} <= set(bench.out.read_text().splitlines())
    for other in ("evil.example.org", "git.example.org.evil.org", "git.example.org:444"):
        assert filled(other).kind is OutcomeKind.FAILED
        assert TOKEN not in bench.out.read_text()


def test_an_askpass_program_is_safe_for_any_address(tmp_path: Path):
    secret = tmp_path / "it's $(touch hacked)"
    secret.write_text(TOKEN)
    program = tmp_path / "askpass"
    program.write_text(askpass("https://a'nn:pw@git.example.org:8443/x", secret))

    def answered(question: str) -> str:
        return subprocess.run(["sh", program, question], capture_output=True, text=True, cwd=tmp_path).stdout

    assert answered("Username for 'https://git.example.org:8443': ") == "a'nn\n"
    assert answered("Password for 'https://a'nn@git.example.org:8443': ") == TOKEN
    assert answered("Password for 'https://x@git.example.org:8443': ") == ""
    assert not (tmp_path / "hacked").exists()
    for url in ("http://git.example.org/x", "ssh://git@example.org/x", "git@example.org:x", "/srv/x", ""):
        assert askpass(url, secret) == ""


def test_a_variable_that_a_credential_names_is_inherited_by_no_command(
    bench: Bench, kept: CredentialStore, monkeypatch: pytest.MonkeyPatch
):
    for name in ("SHIP_TOKEN", "LATER_TOKEN"):
        monkeypatch.setenv(name, TOKEN)
    kept.add("ship", parse("env:SHIP_TOKEN"))
    bench.secrets = TodoSecrets(kept.path, os.environ, "here", lambda *_: None)
    check = 'test -z "$SHIP_TOKEN$LATER_TOKEN" && test "$(cat "$COORD_SECRETS/"*)" = "$WANTED"'
    kept.add("later", parse("env:LATER_TOKEN"))

    for name in ("ship", "later"):
        outcome = bench.attempt(
            {"type": "shell", "run": check}, names=(name,), env={"WANTED": TOKEN}, workspace="in-place"
        )
        assert outcome.kind is OutcomeKind.SUCCEEDED, bench.log


def test_the_workers_own_git_uses_the_credential_of_the_repository_and_purpose(
    bench: Bench, kept: CredentialStore, tmp_path: Path
):
    bench.state.mkdir()
    store = CredentialStore(kept.path, {"TOKEN": TOKEN, "PASSWORD": PASSWORD})
    store.add("reader", parse("env:PASSWORD"), repos=["web"], purposes=[Purpose.READ])
    used: list[tuple[str, ...]] = []
    git = GitCredentials(store, bench.state, lambda *what: used.append(what))
    url = "https://git.example.org/x"

    def filled(repo: str, purpose: Purpose, url: str = url) -> str:
        with git.access("RUN", repo, url, purpose) as variables:
            done = ask("credential", "fill", cwd=bench.checkout, stdin=f"url={url}\n\n", variables=variables)
        return dict(line.split("=", 1) for line in done.stdout.splitlines()).get("password", "")

    assert filled("api", Purpose.WRITE) == filled("api", Purpose.READ) == TOKEN
    assert filled("web", Purpose.READ) == PASSWORD
    assert used == [("RUN", "api", "token"), ("RUN", "api", "token"), ("RUN", "web", "reader")]
    assert filled("web", Purpose.WRITE) == filled("other", Purpose.READ) == ""
    assert filled("api", Purpose.READ, "http://git.example.org/x") == ""
    assert left_in(bench.folder) == []
    store.rotate("reader", parse("env:NOPE"))
    store._environ = {}
    assert filled("web", Purpose.READ) == ""
