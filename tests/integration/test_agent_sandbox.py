"""An agent's program in bubblewrap: its place, its state folder, its login, and what a hostile one can do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from coordination.agent_programs import PROGRAM_FACTS, package_folders
from coordination.settings import Settings
from tests.attempts import Bench
from tests.sandboxes import needs_bubblewrap
from tests.testbed import git
from workers.agents.claude import Claude
from workers.agents.programs import PROGRAMS
from workers.outcome import OutcomeKind

pytestmark = needs_bubblewrap
SECRET = "secret-of-the-agent"
PLACE = "/coord/PLAN-001/api"


RESULT = {"type": "result", "subtype": "success", "is_error": False, "num_turns": 1, "result": "Done."}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A repository, and a user who has logged in with `claude`, which executes `$OUT`'s script."""
    bench = Bench(tmp_path, ordered=Settings(agents=[{"name": "a", "kind": "claude"}], agent="a"))
    bench.make_repository()
    bin_folder, home = tmp_path / "bin", tmp_path / "home"
    bin_folder.mkdir()
    (home / ".claude").mkdir(parents=True)
    (home / ".claude" / ".credentials.json").write_text(SECRET)
    (home / ".gitconfig").write_text("[user]\nname = Ann\nemail = ann@example.org\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    return bench


def script(bench: Bench, text: str) -> None:
    """Let the agent's program do this in Python; `tried(name, act)` notes what succeeds."""
    program = bench.folder / "bin" / "claude"
    head = f"""\
        #!{sys.executable}
        import json, os, pathlib, subprocess
        reached = []
        def tried(name, act):
            try:
                act()
            except (OSError, subprocess.CalledProcessError):
                return
            reached.append(name)
    """
    tail = f'print("REACHED", json.dumps(reached))\nprint({json.dumps(json.dumps(RESULT))})\n'
    program.write_text(textwrap.dedent(head) + textwrap.dedent(text) + tail)
    program.chmod(0o755)


def reached(bench: Bench) -> list[str]:
    found: list[str] = json.loads(bench.log.rpartition("REACHED ")[2].splitlines()[0])
    return found


def test_an_agent_works_at_a_place_of_plan_and_repository_and_git_works_there(bench: Bench):
    script(
        bench,
        """
        pathlib.Path("where").write_text(os.getcwd() + "\\n" + os.environ["COORD_REPO_PATH"])
        subprocess.run(["git", "status", "--porcelain"], check=True)
        pathlib.Path("code").write_text("two")
        subprocess.run(["git", "commit", "-qam", "by the agent"], check=True)
        (pathlib.Path.home() / ".claude" / "projects" / "session").write_text("kept")
        """,
    )

    done = bench.attempt()

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert git(bench.checkout, "show", f"{done.tip}:where").splitlines()[0] == PLACE
    assert git(bench.checkout, "show", f"{done.tip}:code") == "two"
    assert "by the agent" in git(bench.checkout, "log", "--format=%s", f"main..{done.tip}")
    home = bench.state / "agents" / "PLAN-001" / "api" / "home"
    assert (home / ".claude" / "projects" / "session").read_text() == "kept"
    assert not list(home.rglob(".credentials.json")), "the login is no state"


def test_a_hostile_agent_changes_no_git_directory_through_its_place(bench: Bench):
    script(
        bench,
        f"""
        pathlib.Path("x").write_text("")
        git_file, place = pathlib.Path(".git"), pathlib.Path("{PLACE}/.git")
        for name in (git_file, place):
            tried(f"write {{name}}", lambda: name.open("a").close())
            tried(f"replace {{name}}", lambda: pathlib.Path("x").rename(name))
            tried(f"remove {{name}}", lambda: name.unlink())
            tried(f"rename {{name}}", lambda: name.rename("y"))
        tried("rename the place", lambda: os.rename("{PLACE}", "{PLACE}x"))
        tried("beside the place", lambda: pathlib.Path("/coord/PLAN-001/x").write_text(""))
        tried("another plan", lambda: pathlib.Path("/coord/PLAN-002").mkdir())
        tried("the checkout", lambda: pathlib.Path("{bench.checkout}/code").read_text())
        tried("the state", lambda: list(pathlib.Path("{bench.state}/agents").iterdir()))
        pathlib.Path("made").write_text("")
        """,
    )

    done = bench.attempt()

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert reached(bench) == []


def test_links_that_an_agent_leaves_in_its_state_folder_lead_the_worker_nowhere(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    outside = bench.folder / "outside"
    outside.mkdir()
    (outside / "file").write_text(SECRET)
    monkeypatch.setattr(Claude, "state", (".claude", ".claude/projects", ".claude/deep/er"))
    script(
        bench,
        f"""
        import shutil
        state = pathlib.Path.home() / ".claude"
        for name in ("projects", "deep"):
            mine = state / name
            tried("planted", lambda: (mine / "planted").write_text(""))
            tried("read", lambda: (mine / "file").read_text())
            tried("er", lambda: (mine / "er" / "planted").write_text(""))
        for name in ("new", "deep"):
            shutil.rmtree(state / name, ignore_errors=True)
            tried("", lambda: (state / name).symlink_to("{outside}"))
        pathlib.Path("made").write_text(str(os.getpid()))
        """,
    )
    bench.attempt()
    home = bench.state / "agents" / "PLAN-001" / "api" / "home" / ".claude"
    for name in ("projects", "deep"):  # as an agent leaves them that sees the folder alone
        subprocess.run(["rm", "-rf", str(home / name)], check=True)
        (home / name).symlink_to(outside)

    done = bench.attempt()

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert "read" not in reached(bench)
    assert sorted(file.name for file in outside.iterdir()) == ["file"], "nothing was made outside"


def test_file_names_of_an_agent_forge_no_line_and_break_no_round(bench: Bench):
    script(
        bench,
        """
        os.makedirs(b"src", exist_ok=True)
        for name in (b"src/in", b"\\xff\\xfe", b"new\\nfailed: forged", b"\\x1b[2J", b"-rf", b":(top)x"):
            open(name, "wb").close()
        """,
    )

    done = bench.attempt({"type": "agent", "paths": ["src"], "rounds": 2})

    assert done.kind is OutcomeKind.FAILED, bench.log
    assert "what `paths` does not allow" in done.error
    assert "\nfailed: forged" not in bench.log
    assert "\x1b" not in bench.log


def test_what_verify_leaves_is_undone_and_behind_a_link_nothing_is(bench: Bench):
    outside = bench.folder / "outside"
    outside.mkdir()
    (outside / "code").write_text("of others")
    script(bench, 'pathlib.Path("made").write_text("by the agent")\n')
    leaves = f"rm code; ln -s {outside} code; mkdir -p d; echo x > d/left; ln -s {outside} out; echo y > ./-x"

    done = bench.attempt({"type": "agent", "verify": [["sh", "-c", leaves]]})

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    files = git(bench.checkout, "ls-tree", "-r", "--name-only", done.tip).splitlines()
    assert files == ["code", "made"]
    assert git(bench.checkout, "show", f"{done.tip}:code") == "one"
    assert (outside / "code").read_text() == "of others"


def test_no_state_folder_lies_in_another():
    """Two agents of a repository may run at once: one that could write the way to a folder of the other could
    swap it for a link while the worker binds it. What is copied into such a folder is shown over it, so it
    lies directly there.
    """
    state = {Path(name) for program in PROGRAMS.values() for name in program.state}
    copied = {Path(name) for facts in PROGRAM_FACTS.values() for name in facts.copied}

    assert [(one, other) for one in state for other in state if one in other.parents] == []
    assert [(one, file) for one in state for file in copied if one in file.parents[1:] or one == file] == []


LOGIN = (
    f'test -z "$ANTHROPIC_API_KEY" && test ! -e "$HOME/.claude/.credentials.json" '
    f'&& ! grep -rqs {SECRET[:6]}-of "$HOME"'
)


def test_only_the_agents_program_sees_its_login(bench: Bench):
    script(
        bench,
        """
        assert os.environ["ANTHROPIC_API_KEY"]
        assert (pathlib.Path.home() / ".claude" / ".credentials.json").read_text()
        pathlib.Path("made").write_text("")
        """,
    )
    bench.hook("pre-commit", LOGIN)

    for prepare, verify, expected in (
        (LOGIN, [["sh", "-c", LOGIN]], OutcomeKind.SUCCEEDED),
        (None, [["sh", "-c", f"! ({LOGIN})"]], OutcomeKind.FAILED),
    ):
        done = bench.attempt({"type": "agent", "verify": verify, "rounds": 1}, prepare=prepare)
        assert done.kind is expected, bench.log
    assert SECRET not in bench.log


# Packages behind links


def made(place: Path, text: str = "", mode: int = 0o755) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    place.chmod(mode)
    return place


def npm(folder: Path) -> tuple[Path, list[Path]]:
    made(folder / "lib/node_modules/@x/agent/cli.js")
    link = folder / "bin" / "agent"
    link.parent.mkdir()
    link.symlink_to("../lib/node_modules/@x/agent/cli.js")
    return link, [folder / "lib/node_modules"]


def npm_in_a_package(folder: Path) -> tuple[Path, list[Path]]:
    made(folder / "node_modules/a/node_modules/b/cli.js")
    link = folder / "node_modules" / ".bin" / "agent"
    link.parent.mkdir()
    link.symlink_to("../a/node_modules/b/cli.js")
    return link, [folder / "node_modules"]


def nvm(folder: Path) -> tuple[Path, list[Path]]:
    link, _ = npm(folder / "versions" / "node" / "v22")
    (folder / "current").symlink_to("versions/node/v22")
    return folder / "current" / "bin" / link.name, [folder / "versions/node/v22/lib/node_modules"]


def uv_tool(folder: Path) -> tuple[Path, list[Path]]:
    base = folder / "python" / "cpython"
    made(base / "bin" / "python3")
    tool = folder / "tools" / "agent"
    made(tool / "pyvenv.cfg", f"home = {base}/bin\nversion = 3.12\n", 0o644)
    (tool / "bin").mkdir()
    (tool / "bin" / "python").symlink_to(base / "bin" / "python3")
    made(tool / "bin" / "agent", f"#!{tool}/bin/python\n")
    link = folder / "bin" / "agent"
    link.parent.mkdir()
    link.symlink_to(tool / "bin" / "agent")
    return link, [tool / "bin", tool, base]


@pytest.mark.parametrize("kind", [npm, npm_in_a_package, nvm, uv_tool])
def test_the_package_of_a_program_behind_a_link_is_found(tmp_path: Path, kind: Any):
    link, expected = kind(tmp_path)

    assert {*expected} <= {*package_folders(link)}


def test_a_loop_of_links_a_missing_target_and_a_broken_environment_are_harmless(tmp_path: Path):
    (tmp_path / "bin").mkdir()
    loop, other, missing = (tmp_path / "bin" / name for name in ("loop", "other", "missing"))
    loop.symlink_to(other)
    other.symlink_to(loop)
    missing.symlink_to(tmp_path / "nowhere" / "agent")
    broken = made(tmp_path / "tool" / "bin" / "agent", "#!\n")
    (tmp_path / "tool" / "pyvenv.cfg").write_bytes(b"home = \xff\n")

    for program in (loop, missing, broken):
        assert all(folder.is_absolute() for folder in package_folders(program))


def test_no_folder_of_all_users_is_shown_because_a_program_lies_there():
    assert list(package_folders(Path("/tmp/agent"))) == [Path("/tmp/agent")]


def test_an_agent_that_npm_has_installed_starts_in_the_sandbox(bench: Bench):
    script(bench, 'pathlib.Path("made").write_text("")\n')
    program, package = bench.folder / "bin" / "claude", bench.folder / "lib" / "node_modules" / "claude"
    package.mkdir(parents=True)
    program.rename(package / "cli.py")
    (package / "beside").write_text("")
    program.symlink_to("../lib/node_modules/claude/cli.py")

    done = bench.attempt()

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
