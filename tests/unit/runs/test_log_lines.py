"""Logs of todos as text: lines of coord itself, marks of attempts, names of todos."""

from __future__ import annotations

from pathlib import Path

from coordination.runs.logs import Piece, marked, prefixed
from workers.attempt.output import Log


def piece(text: str, todo: str = "A", attempt: int = 1) -> Piece:
    return Piece(at=(0, 0), todo=todo, attempt=attempt, text=text)


def test_a_single_attempt_is_what_was_written_and_nothing_else() -> None:
    assert [one.text for one in marked([piece("one\ntw"), piece("o\n")])] == ["one\ntw", "o\n"]


def test_later_attempts_are_marked_on_a_line_of_their_own() -> None:
    pieces = [piece("no"), piece("yes\n", attempt=2), piece("on\n", attempt=2)]
    text = "".join(one.text for one in marked(pieces))

    assert text == "no\n[coord] attempt 2\nyes\non\n"


def test_lines_of_several_todos_are_whole_and_say_whose_they_are() -> None:
    pieces = [piece("o"), piece("two\n", "TODO"), piece("ne\nrest")]

    assert list(prefixed(pieces, ["A", "TODO"])) == ["TODO | two\n", "A    | one\n", "A    | rest\n"]


def written(file: Path, *waits: str, last_wait: str = "") -> str:
    log = Log(lambda text, skipped: None, file, limit_bytes=1000, last_wait=last_wait)
    for wait in waits:
        log.wait_line(wait)
    log.line("failed: the cause\nof two lines")
    log.line("next: a command")
    log.line("")
    log.close()
    return file.read_text()


def test_each_line_of_coords_own_is_marked(tmp_path: Path):
    assert written(tmp_path / "log").splitlines() == [
        "[coord] failed: the cause",
        "[coord] of two lines",
        "[coord] next: a command",
        "[coord] ",
    ]


def test_a_wait_is_logged_when_its_reason_changes_only(tmp_path: Path):
    assert "the secret" not in written(tmp_path / "same", "the secret", last_wait="the secret")
    assert "[coord] the secret\n" in written(tmp_path / "other", "the secret", last_wait="a disk")


def test_the_log_file_ends_at_its_limit_and_the_log_in_redis_has_the_end(tmp_path: Path):
    file, told = tmp_path / "log", list[str]()
    for _ in range(2):  # a second attempt writes nothing more
        log = Log(lambda text, skipped: told.append(text), file, limit_bytes=1000, file_limit_bytes=300)
        for _ in range(100):
            log.write(b"a" * 99 + b"\n")
        log.write(b"the end\n")
        log.close()

    assert file.stat().st_size < 1000
    assert file.read_bytes().startswith(b"a" * 99 + b"\n")
    assert b"ends here" in file.read_bytes()
    assert "ends here" in "".join(told)
    assert told[-1].endswith("the end\n")
