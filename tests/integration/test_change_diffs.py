"""The difference of a change set, by git in the checkout of this machine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from coordination import Coord
from coordination.errors import GitRefused, NotFound, Unreadable
from coordination.runs.store import RunStore
from tests.change_sets import record
from tests.testbed import COORD, plain
from tests.worktrees import git, make_checkout, save

TOKEN = "ghp_" + "a1B2" * 10


@pytest.fixture
def folder(tmp_path: Path, store: RunStore) -> Path:
    """A file, and the change set of P in `lib`: one file changed, one binary added."""
    checkout = make_checkout(tmp_path / "lib")
    base = git("rev-parse", "HEAD", cwd=checkout)
    git("switch", "--quiet", "-c", "coord/P", cwd=checkout)
    (checkout / "picture").write_bytes(b"\0\1" * 50)
    tip = save(checkout, "work", code=f"\x1b]0;owned\x07\n{TOKEN}\n")
    git("switch", "--quiet", "main", cwd=checkout)
    record(store.redis, "P", "lib", base=base, tip=tip)
    record(store.redis, "P", "app", host="host-2")
    file = {
        "settings": {"namespace": "test"},
        "repos": [{"name": "lib", "path": "lib"}, {"name": "app", "path": "app"}],
        "coordination": {"plans": [{"id": "P", "title": "a plan"}]},
    }
    (tmp_path / "ecosystem.yaml").write_text(yaml.safe_dump(file))
    return tmp_path


@pytest.fixture
def coord(folder: Path, redis_url: str) -> Iterator[Coord]:
    with Coord(folder, redis_url) as opened:
        yield opened


def test_files_are_counted_and_the_text_has_the_repository_in_its_paths(coord: Coord):
    (found,) = coord.changes.diff("P", repos=["lib"])
    assert {file.path: (file.added, file.removed) for file in found.files} == {
        "code": (2, 0),
        "picture": (None, None),
    }
    assert "+++ b/lib/code" in (found.diff or "")
    (short,) = coord.changes.diff("P", repos=["lib"], stat=True)
    assert (short.diff, short.files) == (None, found.files)


def test_a_machine_without_the_commits_names_the_host_that_has_them(coord: Coord):
    with pytest.raises(GitRefused, match="host-2"):
        coord.changes.diff("P")
    with pytest.raises(NotFound, match="other"):
        coord.changes.diff("P", repos=["other"])


@pytest.mark.parametrize("commit", ["--output=owned", "main", "", "f" * 40])
def test_a_damaged_record_reaches_no_option_of_git(coord: Coord, store: RunStore, folder: Path, commit: str):
    store.redis.hset(store.keys.changes("P"), "tip lib", commit)
    with pytest.raises((GitRefused, Unreadable)):
        coord.changes.diff("P", repos=["lib"])
    assert not list(folder.rglob("owned"))


def test_neither_control_characters_nor_tokens_of_a_file_reach_the_reader(folder: Path, redis_url: str):
    def printed(*words: str) -> str:
        command = [str(COORD), "--redis", redis_url, "plan", "diff", "P", "--repo", "lib", *words]
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=True, env=plain()
        ).stdout

    told = printed()
    assert "\x1b" not in told
    assert "\\u001b]0;owned" in told
    assert TOKEN not in told
    (found,) = json.loads(printed("--stat", "--json"))
    assert [file["path"] for file in found["files"]] == ["code", "picture"]


@pytest.mark.parametrize("options", [(), ("--stat",)])
def test_an_empty_change_set_is_said_to_be_empty(
    folder: Path, redis_url: str, store: RunStore, options: tuple[str, ...]
):
    base = git("rev-parse", "main", cwd=folder / "lib")
    record(store.redis, "P", "lib", base=base, tip=base)
    command = [str(COORD), "--redis", redis_url, "plan", "diff", "P", "--repo", "lib", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=plain())
    assert done.stdout == ""
    assert "coord changes" in done.stderr
