"""git, a server in the place of Redis, and a cached result that do not end: each is refused in time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import zlib
from collections.abc import Callable
from hashlib import sha256
from itertools import repeat
from pathlib import Path

import pytest
import redis

from coordination import bounded, git_programs
from coordination.backend import bounded_parser
from coordination.backend.client import Profile, connect, reaching
from coordination.backend.keys import Keys
from coordination.broker.celery_app import make_app
from coordination.errors import GitRefused, Unreachable
from coordination.git import ask_git, diff_pieces
from coordination.health.remotes import ls_remote
from coordination.settings import Settings
from tests.endpoints import listening
from tests.testbed import git as run_git
from workers.attempt import result_cache
from workers.workspace.git import ask

MIB = 1 << 20


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MOST_BYTES", MIB)
    monkeypatch.setattr(bounded_parser, "MOST_BYTES", MIB)
    monkeypatch.setattr(bounded_parser, "LONGEST_S", 0.3)
    monkeypatch.setattr(result_cache, "LARGEST_CHANGES", MIB)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a program in the place of git."""

    def put(text: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        (folder / "git").write_text(f"#!/bin/sh\n{text}\n")
        (folder / "git").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        return tmp_path

    return put


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("words", ["exec yes", "exec yes >&2", "yes & exec sleep 60"])
def test_a_git_that_writes_without_end_is_refused(program: Callable[[str], Path], words: str):
    folder = program(words)

    with pytest.raises(GitRefused):
        ask_git(folder, "status")
    with pytest.raises(GitRefused):
        ask("status", cwd=folder)
    assert "without end" in ls_remote("https://git.example/api")


def test_a_git_that_says_nothing_ends_with_the_patience(program: Callable[[str], Path]):
    with pytest.raises(subprocess.TimeoutExpired):
        ask_git(program('case "$*" in *config*) ;; *) exec sleep 60 ;; esac'), "status", timeout_s=0.2)


def test_a_configuration_that_includes_a_pipe_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(git_programs, "PATIENCE_S", 0.3)
    run_git(tmp_path, "init", "-q", "repo")
    os.mkfifo(tmp_path / "pipe")
    run_git(tmp_path / "repo", "config", "include.path", str(tmp_path / "pipe"))

    with pytest.raises(GitRefused):
        ask_git(tmp_path / "repo", "status")


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("words", ["exec yes", "exec yes >&2", "exec sleep 60"])
def test_a_difference_that_does_not_end_is_refused(
    program: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, words: str
):
    monkeypatch.setattr("coordination.git.PATIENCE_S", 2.0)
    with pytest.raises(GitRefused):
        for _ in diff_pieces(program(words), "1" * 40, "2" * 40):
            pass


def test_a_difference_with_many_warnings_ends(tmp_path: Path):
    repo = tmp_path / "repo"
    run_git(tmp_path, "init", "-q", "repo")
    run_git(repo, "commit", "-q", "--allow-empty", "-m", "first")
    (repo / ".gitattributes").write_text("* !!not-a-name\n" * 10_000)
    (repo / "x").write_text("x\n")
    run_git(repo, "add", ".")
    run_git(repo, "commit", "-q", "-m", "second")
    base, tip = (run_git(repo, "rev-parse", name) for name in ("HEAD~1", "HEAD"))

    assert b"+x" in b"".join(diff_pieces(repo, base, tip))


def test_an_answer_within_the_limits_is_whole(program: Callable[[str], Path]):
    lines = "line\r\n" * 200_000
    assert ask("x", cwd=program("exec cat"), stdin=lines).stdout == lines.replace("\r\n", "\n")
    assert ask("x", cwd=program("exec head -c 3"), stdin=lines).stdout == "lin"
    assert ask("x", cwd=program("cat; echo bad >&2; exit 7")).returncode == 7


@pytest.mark.usefixtures("limited")
def test_a_real_repository_with_more_refs_than_are_read(tmp_path: Path):
    run_git(tmp_path, "init", "-q", "repo")
    run_git(tmp_path / "repo", "commit", "-q", "--allow-empty", "-m", "first")
    commit = run_git(tmp_path / "repo", "rev-parse", "HEAD")
    refs = "".join(f"{commit} refs/tags/{'long' * 40}{number}\n" for number in range(10_000))
    (tmp_path / "repo" / ".git" / "packed-refs").write_text(
        f"# pack-refs with: peeled fully-peeled sorted \n{refs}"
    )

    with pytest.raises(GitRefused):
        ask_git(tmp_path / "repo", "for-each-ref")
    assert ask_git(tmp_path / "repo", "rev-parse", "HEAD") == commit


ENDLESS = {
    "one value": [b"$99999999999\r\n", *repeat(b"x" * 65536, 64)],
    "many values": [b"*999999999\r\n", *repeat(b":1\r\n" * 10_000, 64)],
    "a word": [b"+", *repeat(b"x" * 65536, 64)],
    "arrays in arrays": repeat(b"*1\r\n" * 10_000, 64),
}


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("answer", ENDLESS)
def test_an_answer_of_redis_without_end_is_refused(answer: str):
    def serve(client: socket.socket) -> None:
        client.recv(65536)
        for piece in ENDLESS[answer]:
            client.sendall(piece)
        client.recv(65536)

    refuse_get(serve)


GREETINGS = {b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n", b"PING": b"+PONG\r\n", b"": b"+OK\r\n"}


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("which", ["broker", "backend"])
def test_an_answer_to_celery_without_end_is_refused(which: str):
    def serve(client: socket.socket) -> None:
        while b"GET\r\n" not in (asked := client.recv(65536)):
            if not asked:
                return
            for command in asked.split(b"\r\n*"):
                client.sendall(next(answer for word, answer in GREETINGS.items() if word in command))
        for piece in ENDLESS["one value"]:
            client.sendall(piece)
        client.recv(65536)

    with listening(serve) as port:
        app = make_app(f"redis://127.0.0.1:{port}", Keys("test"), Settings())
        with app.connection_for_read() as connection:
            client = connection.default_channel.client if which == "broker" else app.backend.client
            with pytest.raises(redis.ConnectionError, match="bytes"):
                client.get("x")


@pytest.mark.usefixtures("limited")
def test_an_answer_of_redis_that_comes_byte_by_byte_is_refused():
    def serve(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(b"$9999\r\n")
        client.settimeout(0.02)
        while True:
            client.sendall(b"x")
            try:
                if not client.recv(65536):
                    return
            except TimeoutError:
                continue

    refuse_get(serve)


def refuse_get(serve: Callable[[socket.socket], None]) -> None:
    with listening(serve) as port:
        url = f"redis://127.0.0.1:{port}"
        with connect(url, Profile.COMMAND) as client, pytest.raises(Unreachable), reaching(url):
            client.get("x")


@pytest.mark.usefixtures("limited")
def test_a_packed_result_that_fills_the_memory_counts_as_none():
    def value(changes: bytes) -> bytes:
        head = {"run": "r", "todo": "t", "at": 0, "tree": "x", "output": "", "signed": ""}
        rest = json.dumps(head).encode() + b"\n" + zlib.compress(changes)
        return sha256(rest).hexdigest().encode() + b"\n" + rest

    fits = result_cache.CachedResult.unpacked(value(bytes(MIB)))
    assert fits is not None
    assert len(fits.changes) == MIB
    assert result_cache.CachedResult.unpacked(value(bytes(MIB + 1))) is None
