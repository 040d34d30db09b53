"""At which commit coord saw an approval first, where the forge does not say it."""

from __future__ import annotations

from pathlib import Path

from workers.landing.approvals import SeenApprovals

PAGE = "https://gitlab.example/group/a/-/merge_requests/7"


def test_an_approval_stays_at_its_first_head_also_for_the_next_worker(tmp_path: Path) -> None:
    assert SeenApprovals(tmp_path).first_seen(PAGE, "1" * 40, {"ann": ""}) == {"ann": "1" * 40}
    again = SeenApprovals(tmp_path).first_seen(PAGE, "2" * 40, {"ann": "", "ben": ""})
    assert again == {"ann": "1" * 40, "ben": "2" * 40}
    other = SeenApprovals(tmp_path).first_seen(f"{PAGE}0", "2" * 40, {"ann": ""})
    assert other == {"ann": "2" * 40}


def test_an_approval_that_was_withdrawn_and_given_again_is_a_new_one(tmp_path: Path) -> None:
    seen = SeenApprovals(tmp_path)
    seen.first_seen(PAGE, "1" * 40, {"ann": "2026-01-01T00:00:00Z", "ben": ""})
    seen.first_seen(PAGE, "1" * 40, {"ann": "2026-01-01T00:00:00Z"})
    found = seen.first_seen(PAGE, "2" * 40, {"ann": "2026-01-02T00:00:00Z", "ben": ""})
    assert found == {"ann": "2" * 40, "ben": "2" * 40}


def test_a_damaged_file_is_written_again(tmp_path: Path) -> None:
    seen = SeenApprovals(tmp_path)
    seen.first_seen(PAGE, "1" * 40, {"ann": ""})
    (file,) = (tmp_path / "approvals").iterdir()
    file.write_text("{")
    assert seen.first_seen(PAGE, "2" * 40, {"ann": ""}) == {"ann": "2" * 40}
