"""A todo in a sandbox does not choose which programs of the user's configuration git starts outside of it."""

from __future__ import annotations

import shutil
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from coordination.git import diff_pieces
from tests.attempts import RUN, Bench
from tests.sandboxes import needs_bubblewrap
from tests.testbed import git
from workers.outcome import AttemptOutcome, OutcomeKind

pytestmark = needs_bubblewrap

BOUNDED: dict[str, Any] = {"sandbox": {"kind": "bubblewrap"}}
AS = "-c user.name=t -c user.email=t@x"
SUCCEEDED, REFUSED, FAILED = OutcomeKind.SUCCEEDED, OutcomeKind.REFUSED, OutcomeKind.FAILED
needs_lfs = pytest.mark.skipif(shutil.which("git-lfs") is None, reason="needs git-lfs")


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """The file that the programs of the configuration write."""
    return tmp_path / "ran"


@pytest.fixture
def bench(tmp_path: Path, ran: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A repository whose user has configured a program for each kind of driver, and uses none."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (tmp_path / "home").mkdir()
    bench = Bench(tmp_path)
    bench.make_repository()
    (bench.checkout / ".gitignore").write_text("ignored/\n*.cache\n")
    git(bench.checkout, "add", ".gitignore")
    git(bench.checkout, "commit", "-q", "-m", "ignore")
    for name, key, program in (
        ("filter.clean", "clean", "cat"),
        ("filter.smudge", "smudge", "cat"),
        ("filter.process", "process", "exit 1"),
        ("filter.process", "required", ""),
        ("merge.driver", "driver", "true"),
        ("diff.text", "textconv", "cat"),
        ("diff.command", "command", "true"),
    ):
        kind, section = name.split(".")
        value = f"echo {name}.{key} >> {ran}; {program}" if program else "true"
        git(bench.checkout, "config", f"{kind}.{section}.{key}", value)
    return bench


def confined(bench: Bench, *lines: str, **todo: Any) -> AttemptOutcome:
    return bench.attempt("\n".join(lines), **BOUNDED, **todo)


def started(ran: Path) -> str:
    return ran.read_text() if ran.exists() else ""


DRIVERS = {
    "clean": "filter=clean", "smudge": "filter=smudge", "process": "filter=process", "merge": "merge=driver",
    "markers": "conflict-marker-size=900000000",
}  # fmt: skip
WAYS = {
    "left": "true",
    "committed": f"git add -A; git -c filter.process.required=false {AS} commit -qm mine",
    "taken back": f"git add -A; git {AS} commit -qm mine; git {AS} revert --no-edit HEAD",
    "in a merge": f"git switch -qc side; git add -A; git {AS} commit -qm mine; git switch -q -; "
    f"git {AS} merge -q --no-ff -m m side; git rm -q .gitattributes; git {AS} commit -q --amend --no-edit",
    "ignored": "echo .gitattributes >> .gitignore; git add -f .gitattributes",
}
PLACES = {"top": ".gitattributes", "folder": "sub/.gitattributes"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", DRIVERS)
def test_a_driver_that_the_base_does_not_name_never_runs(bench: Bench, ran: Path, kind: str, way: str):
    evil = f"echo two > code; echo new > new; echo '* {DRIVERS[kind]}' > .gitattributes"
    quiet = (
        "for s in clean smudge process; do git config filter.$s.clean cat; git config filter.$s.smudge cat; "
    )
    quiet += "git config --unset filter.$s.process; done"

    done = confined(bench, quiet, evil, WAYS[way])
    after = confined(bench, "echo three > code; cat new 2>/dev/null; true")

    assert done.kind is REFUSED, bench.log
    assert ".gitattributes" in done.error
    assert DRIVERS[kind] in done.error
    assert after.kind is SUCCEEDED, bench.log
    assert started(ran) == ""


@pytest.mark.parametrize("kind", ["clean", "smudge", "process"])
def test_a_failed_todo_leaves_no_driver_that_runs(bench: Bench, ran: Path, kind: str):
    done = confined(bench, f"echo two > code; echo '* {DRIVERS[kind]}' > .gitattributes; false")
    after = confined(bench, "echo three > code; git add -f .gitattributes 2>/dev/null; true")

    assert done.kind is FAILED, bench.log
    assert after.kind is SUCCEEDED, bench.log
    assert started(ran) == ""


@pytest.mark.parametrize("kind", ["clean", "smudge", "process"])
def test_an_ignored_file_of_attributes_starts_nothing(bench: Bench, ran: Path, kind: str):
    """It is in no commit, and stays in the folder for the next todo."""
    done = confined(
        bench,
        f"echo '.gitattributes' >> .gitignore; echo '* {DRIVERS[kind]}' > .gitattributes; echo 2 > code",
    )
    after = confined(bench, "test -e .gitattributes; echo three > code", tip=done.tip)

    assert (done.kind, after.kind) == (SUCCEEDED, SUCCEEDED), bench.log
    assert started(ran) == ""


def test_a_hook_brings_no_driver(bench: Bench, ran: Path):
    bench.hook("pre-commit", "echo '* filter=clean' > .gitattributes; git add .gitattributes")

    done = confined(bench, "git config filter.clean.clean cat; echo two > code")

    assert done.kind is REFUSED, bench.log
    assert "filter=clean" in done.error
    assert "filter.smudge" not in started(ran)


def test_no_difference_that_coord_shows_or_searches_starts_a_program(bench: Bench, ran: Path):
    attributes = "printf '* diff=text\\nnew diff=command\\n' > .gitattributes"
    done = confined(bench, f"{attributes}; echo two > code; echo new > new")

    assert done.kind is SUCCEEDED, bench.log
    git(bench.checkout, "switch", "-q", "--detach", done.tip)
    base = git(bench.checkout, "rev-parse", "main")
    assert b"two" in b"".join(diff_pieces(bench.checkout, base, done.tip))
    assert confined(bench, "echo three > code", tip=done.tip).kind is SUCCEEDED, bench.log
    assert started(ran) == ""


def test_drivers_of_the_base_and_of_the_user_run_as_for_everybody(bench: Bench, ran: Path):
    (bench.checkout / ".gitattributes").write_text("code filter=clean\n")
    git(bench.checkout, "add", ".gitattributes")
    git(bench.checkout, "commit", "-q", "-m", "attributes")
    (bench.checkout / ".git" / "info").mkdir(exist_ok=True)
    (bench.checkout / ".git" / "info" / "attributes").write_text("new filter=smudge\n")
    ran.unlink(missing_ok=True)

    done = confined(
        bench, "git config filter.clean.clean cat",
        "echo two > code; echo new > new; echo 'more filter=clean merge=union diff=python' >> .gitattributes",
    )  # fmt: skip
    assert done.kind is SUCCEEDED, bench.log
    assert "filter.clean.clean" in started(ran)
    shutil.rmtree(bench.tree)
    after = confined(bench, "echo three > code", tip=done.tip)

    assert after.kind is SUCCEEDED, bench.log
    assert "filter.smudge.smudge" in started(ran)


def test_a_todo_may_merge_the_base_branch_with_new_drivers(bench: Bench):
    first = confined(bench, "echo two > new")
    (bench.checkout / ".gitattributes").write_text("*.bin filter=clean\n")
    git(bench.checkout, "add", ".gitattributes")
    git(bench.checkout, "commit", "-q", "-m", "attributes")

    done = confined(bench, f"git {AS} merge -q --no-edit main; echo three > code", tip=first.tip)

    assert done.kind is SUCCEEDED, bench.log
    assert git(bench.checkout, "show", f"{done.tip}:.gitattributes") == "*.bin filter=clean"


@needs_lfs
def test_large_files_of_a_merged_base_branch_stay_pointers(bench: Bench):
    first = confined(bench, "echo two > new")
    git(bench.checkout, "lfs", "install", "--local")
    shutil.rmtree(bench.checkout / ".git" / "hooks", ignore_errors=True)
    git(bench.checkout, "lfs", "track", "*.bin")
    (bench.checkout / "old.bin").write_text("old\n" * 9)
    git(bench.checkout, "add", ".")
    git(bench.checkout, "commit", "-q", "-m", "large")

    done = confined(bench, f"git {AS} merge -q --no-edit main; echo three > code", tip=first.tip)

    assert done.kind is SUCCEEDED, bench.log
    assert git(bench.checkout, "show", f"{done.tip}:old.bin").startswith("version https://git-lfs")


@needs_lfs
@pytest.mark.parametrize("end", ["true", "false"])
@pytest.mark.parametrize("commits", [True, False])
def test_git_lfs_asks_no_address_that_a_todo_has_made(bench: Bench, end: str, commits: bool):
    git(bench.checkout, "lfs", "install", "--local")
    shutil.rmtree(bench.checkout / ".git" / "hooks")
    git(bench.checkout, "lfs", "track", "*.bin")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'1' * 64}\nsize 9\n"
    (bench.checkout / "old.bin").write_text("old\n" * 9)
    (bench.checkout / "!first.bin").write_text("first\n" * 9)
    git(bench.checkout, "add", ".")
    git(bench.checkout, "commit", "-q", "-m", "large")
    mine = f"git add .lfsconfig; git {AS} commit -qm mine -- .lfsconfig" if commits else "true"
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/secret"
        done = confined(
            bench, f"git config -f .lfsconfig lfs.url {url}; rm -f *.bin; printf '{pointer}' > evil.txt",
            mine, end,
        )  # fmt: skip
        shutil.rmtree(bench.checkout / ".git" / "lfs")  # git asks for the files that it checks out
        after = confined(bench, "true")
        server.settimeout(0)
        with pytest.raises(BlockingIOError):
            server.accept()

    assert done.kind is (REFUSED if end == "true" else FAILED), bench.log
    assert "missing protocol" in after.error  # there is no address in the base
    if end == "true":
        assert ".lfsconfig" in done.error


def test_a_todo_may_choose_longer_markers_of_conflicts(bench: Bench):
    done = confined(bench, "echo '*.rst conflict-marker-size=32' > .gitattributes")

    assert done.kind is SUCCEEDED, bench.log


def test_a_todo_may_remove_what_the_base_says(bench: Bench):
    (bench.checkout / ".gitattributes").write_text("*.bin filter=clean\n")
    git(bench.checkout, "config", "-f", ".lfsconfig", "lfs.url", "https://example.org/")
    git(bench.checkout, "add", ".")
    git(bench.checkout, "commit", "-q", "-m", "attributes")

    done = confined(bench, "rm .gitattributes .lfsconfig")

    assert done.kind is SUCCEEDED, bench.log
    assert git(bench.checkout, "ls-tree", "--name-only", done.tip).split() == [".gitignore", "code"]


def test_a_submodule_obeys_no_attributes_of_a_todo(bench: Bench, ran: Path):
    source = bench.make_repository(bench.folder / "lib")
    local = ("-c", "protocol.file.allow=always")
    git(bench.checkout, *local, "submodule", "--quiet", "add", str(source), "lib")
    git(bench.checkout, "commit", "-q", "-m", "lib")
    for kind in ("clean", "smudge"):
        program = f"echo in-lib >> {ran}; cat"
        git(bench.folder, "config", "--file", "home/.gitconfig", f"filter.{kind}.{kind}", program)
        ran.unlink(missing_ok=True)

    confined(bench, "echo '* filter=smudge' > lib/.gitattributes; rm lib/code; false")
    confined(bench, "echo '* filter=clean' > lib/.gitattributes; echo two > lib/code; false")
    after = confined(bench, "echo three > code")

    assert after.kind is SUCCEEDED, bench.log
    assert started(ran) == ""
    assert (bench.state / "worktrees" / RUN / "api" / "lib" / "code").read_text() == "one\n"


@pytest.mark.parametrize("end", ["true", "false"])
def test_in_place_a_todo_leaves_no_driver_for_the_next_git(bench: Bench, ran: Path, end: str):
    inner = bench.checkout / "ignored" / ".gitattributes"
    inner.parent.mkdir()
    inner.write_text("* filter=smudge\n")
    evil = "mkdir sub; echo '* filter=clean' | tee .gitattributes > sub/.gitattributes; echo two > code"

    confined(
        bench, f"{evil}; git config -f .lfsconfig lfs.url http://example.org/; {end}", workspace="in-place"
    )
    status = git(bench.checkout, "status", "--porcelain", "--untracked-files=all").split()

    assert started(ran) == ""
    assert len([name for name in status if name.endswith("-disarmed")]) == 3
    assert inner.read_text() == "* filter=smudge\n"
    assert confined(bench, "echo '* merge=union' > .gitattributes", workspace="in-place").kind is SUCCEEDED
    assert (bench.checkout / ".gitattributes").exists()
