"""Tokens, sessions and guesses of the dashboard, and the text that its pages may show."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordination.dashboard.access import GUESSES, SESSION_S, Guesses, Tokens
from coordination.dashboard.pages import environment, log_text, took
from coordination.errors import CoordinationError, NotFound, UsageError


class Clock:
    at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


def test_a_token_opens_a_session_that_a_restarted_server_knows(tmp_path: Path):
    token = Tokens(tmp_path).add("ann", read_only=True)
    session = Tokens(tmp_path).sign_in(token)

    assert session is not None
    visitor = Tokens(tmp_path).visitor(session)

    assert visitor is not None
    assert (visitor.person, visitor.read_only) == ("ann", True)
    stored = (tmp_path / "dashboard.json").read_text()
    assert token.partition(".")[2] not in stored
    assert session not in stored
    assert visitor.csrf not in stored
    assert (tmp_path / "dashboard.json").stat().st_mode & 0o077 == 0


def test_a_session_ends_by_time_by_signing_out_by_a_new_token_and_by_revoking(tmp_path: Path):
    clock = Clock()
    tokens = Tokens(tmp_path, clock)

    def signed_in() -> str:
        session = tokens.sign_in(tokens.add("ann"))
        assert session is not None
        assert tokens.visitor(session)
        return session

    late = signed_in()
    clock.at += SESSION_S + 1
    assert tokens.visitor(late) is None

    left = signed_in()
    tokens.sign_out(left)
    assert tokens.visitor(left) is None

    replaced = signed_in()
    tokens.add("ann")
    assert tokens.visitor(replaced) is None

    revoked = signed_in()
    Tokens(tmp_path).revoke("ann")  # by another process
    assert tokens.visitor(revoked) is None
    assert tokens.list() == ()


def test_wrong_tokens_names_and_files_are_refused(tmp_path: Path):
    tokens = Tokens(tmp_path)
    token = tokens.add("ann")

    assert tokens.sign_in("") is None
    assert tokens.sign_in(token[:-1]) is None
    assert tokens.sign_in(f"{token.partition('.')[0]}.\ud800") is None
    for name in ("", " ann", "a\x1b[31m", "x" * 101):
        with pytest.raises(UsageError):
            tokens.add(name)
    with pytest.raises(NotFound):
        tokens.revoke("bob")
    tokens.path.write_text('{"tokens": 1}')
    with pytest.raises(CoordinationError):
        tokens.list()


def test_an_address_that_guesses_waits_a_minute():
    clock = Clock()
    guesses = Guesses(clock)
    for _ in range(GUESSES):
        assert not guesses.exhausted("1.2.3.4")
        guesses.failed("1.2.3.4")

    assert guesses.exhausted("1.2.3.4")
    assert not guesses.exhausted("1.2.3.5")
    clock.at += 61
    assert not guesses.exhausted("1.2.3.4")


def test_text_of_others_is_text():
    template = environment().from_string("{{ it }}|{{ it|log_text }}")

    shown = template.render(it="<b>\x1b[31m\u202eabc\ud800")

    assert "<b>" not in shown
    assert not set(shown) & set("\x1b\u202e\ud800")
    assert len(environment().from_string("{{ it }}").render(it="x" * 1_000_000)) < 3000
    assert len(log_text("x" * 1_000_000)) == 1_000_000


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.25, "0.2 s"), (59, "59 s"), (60, "1 min"), (3_725, "1 h 2 min"), (90_000, "1 d 1 h"), (None, "")],
)
def test_a_duration_has_two_units(seconds: float | None, words: str):
    assert took(seconds) == words
