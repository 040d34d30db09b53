"""The lines that coord itself writes into the log of a todo."""

from __future__ import annotations

from pathlib import Path

from workers.attempt.output import Log


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
