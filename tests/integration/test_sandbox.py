"""Todos in bubblewrap: an honest one works as ever, and a hostile one gets out by none of these ways."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import textwrap
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coordination.settings import Settings
from coordination.trust.identity import WORKER_KEY, worker_identity
from tests.attempts import Bench
from tests.commands import gone
from tests.sandboxes import needs_bubblewrap
from tests.testbed import git
from tests.waiting import until
from workers.outcome import OutcomeKind

pytestmark = needs_bubblewrap

BOUNDED = {"kind": "bubblewrap"}
SECRET = "secret-of-another"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A repository beside another one, a home folder with credentials, and the worker's variables."""
    bench = Bench(tmp_path)
    bench.make_repository()
    bench.make_repository(tmp_path / "other")
    (tmp_path / "other" / "code").write_text(SECRET)
    home = tmp_path / "home"
    for name in (".ssh/id_ed25519", ".config/coord/trust.yaml", ".config/coord/identity", ".aws/credentials"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(SECRET)
    (home / ".gitconfig").write_text("[user]\nname = Ann\nemail = ann@example.org\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DEPLOY_TOKEN", SECRET)
    return bench


def python(text: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(text)]


def test_an_honest_todo_reads_writes_commits_and_hands_on(bench: Bench):
    bench.context = {"predecessors": [{"path": str(bench.folder / "other"), "todo": "P"}]}
    (bench.folder / "other" / "artifact").write_text("made before")

    done = bench.attempt(
        'echo two > code; git commit -qam "by the todo"; echo three > code; echo kept > "$HOME/x"; '
        f'echo "$PWD" > new; {sys.executable} -c "import multiprocessing; multiprocessing.Lock()" && '
        f'cat {bench.folder}/other/artifact && echo "{{\\"ok\\": 1}}" > "$COORD_OUTPUT"',
        sandbox=BOUNDED,
    )

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert json.loads(done.output) == {"ok": 1}
    assert "made before" in bench.log
    assert git(bench.checkout, "show", f"{done.tip}:code").strip() == "three"
    assert git(bench.checkout, "show", f"{done.tip}:new").strip() == str(bench.tree)
    assert git(bench.checkout, "log", "--format=%s by %an", f"main..{done.tip}").splitlines() == [
        "T: Raise the minimum by Ann",
        "by the todo by Ann",
    ]
    assert not (bench.folder / "home" / "x").exists()
    assert list((bench.state / "tmp").iterdir()) == []


REACHED = """
    import json, os, pathlib, socket
    reached = {}
    def attempt(name, act):
        try:
            reached[name] = str(act())
        except BaseException as error:
            pass
    folder, ports = pathlib.Path(%(folder)r), %(ports)r
    read = lambda name: (lambda: pathlib.Path(name).read_text())
    write = lambda name: (lambda: pathlib.Path(name).open("a").close())
    for name in %(files)r:
        attempt("read " + name, read(name))
    for name in %(targets)r:
        attempt("write " + name, write(name))
    for name in %(renamed)r:
        attempt("rename " + name, lambda: os.rename(name, name + "x"))
        attempt("remove " + name, lambda: os.remove(name))
    attempt("tcp", lambda: socket.create_connection(("127.0.0.1", ports), timeout=2))
    attempt("kill", lambda: os.kill(%(pid)d, 0))
    attempt("process", lambda: next(pathlib.Path("/proc").glob("%(pid)d/environ")).read_bytes())
    libc = __import__("ctypes").CDLL(None)
    attempt("mount", lambda: libc.mount(b"/", b"/tmp", None, 0x1000, None) == 0 or 1/0)
    attempt("variable", lambda: os.environ["DEPLOY_TOKEN"])
    (folder / "planted").write_text("")
    print("REACHED", json.dumps(reached))
"""


def test_a_hostile_todo_reads_writes_and_reaches_nothing_outside(bench: Bench):
    home, git_dir = bench.folder / "home", bench.checkout / ".git"
    entry = git_dir / "worktrees" / "api"
    worker_identity(bench.state, "worker")
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        told: dict[str, Any] = {
            "folder": str(bench.folder),
            "ports": server.getsockname()[1],
            "pid": os.getpid(),
            "files": [
                *map(str, home.rglob("*")),
                str(bench.folder / "other" / "code"),
                str(bench.checkout / "code"),
                str(bench.state / "logs"),
                str(bench.state / WORKER_KEY),
                "/etc/shadow",
                "/proc/1/root/etc/hostname" + "x",
            ],
            "targets": [
                str(git_dir / "hooks" / "post-commit"),
                str(git_dir / "refs" / "heads" / "main"),
                str(git_dir / "objects" / "info" / "alternates"),
                str(bench.tree / ".git"),
                "/usr/planted",
                "/planted",
                "/dev/planted",
                "/proc/sys/kernel/core_pattern",
                "/sys/planted",
            ],
            "renamed": list(map(str, (bench.tree / ".git", entry, git_dir / "objects"))),
        }  # fmt: skip
        before = (git_dir / "config").read_text(), git(bench.checkout, "rev-parse", "main")

        done = bench.attempt(python(REACHED % told), sandbox=BOUNDED)

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    reached = json.loads(bench.log.partition("REACHED ")[2].splitlines()[0])
    assert {name: found for name, found in reached.items() if name != f"read {home}/.gitconfig"} == {}
    assert SECRET not in bench.log
    assert ((git_dir / "config").read_text(), git(bench.checkout, "rev-parse", "main")) == before
    assert not list(bench.folder.rglob("planted"))


def test_only_a_todo_with_network_and_an_agent_reach_the_network(bench: Bench):
    bench.ordered = Settings(agent_command=("sh", "-c", "cat >/dev/null; exec $CONNECT"))
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        text = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=60)"
        (bench.folder / "home" / "connect.py").write_text(text)
        settings = Settings(sandbox_readable=(str(bench.folder / "home" / "connect.py"),))
        connect = f"{sys.executable} {bench.folder}/home/connect.py"
        common: dict[str, Any] = {"settings": settings, "env": {"CONNECT": connect}}

        without = bench.attempt(connect, sandbox=BOUNDED, **common)
        said = bench.attempt(connect, sandbox={"network": True}, **common)
        agent = bench.attempt(None, **common)
        refused = bench.attempt(None, sandbox={"network": False}, **common)

    kinds = [outcome.kind for outcome in (without, said, agent, refused)]
    failed, succeeded = OutcomeKind.FAILED, OutcomeKind.SUCCEEDED
    assert kinds == [failed, succeeded, succeeded, failed], bench.log


FORKS = "b() { if [ $1 -gt 0 ]; then b $(($1 - 1)) | b $(($1 - 1)) & else sleep 30; fi; }; b 9; sleep 30"
"""A fork bomb that ends at 512 processes: one without end can outrun the count on a loaded machine."""
ALLOCATE = """
    import os, time
    for _ in range(%d):
        if os.fork() == 0:
            break
    kept = bytearray(%d << 20)
    kept[::4096] = b"x" * len(kept[::4096])
    time.sleep(30)
"""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (python("kept = bytearray(300 << 20)"), "exit code 1"),
        (python(ALLOCATE % (4, 40)), "memory"),
        (FORKS, "processes"),
    ],
    ids=["one process", "many processes", "fork bomb"],
)
def test_a_todo_that_takes_more_than_its_limits_is_ended(bench: Bench, command: Any, words: str):
    done = bench.attempt(command, sandbox={"memory": "128MiB", "processes": 60})

    assert done.kind is OutcomeKind.FAILED
    assert words in done.error
    assert gone(*_running(bench))


def _running(bench: Bench) -> list[int]:
    own = str(bench.tree).encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if own in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_a_stopped_todo_has_its_grace_and_a_stubborn_one_is_killed_with_all_it_started(bench: Bench):
    polite = bench.attempt(
        "trap 'echo cleaned > done; exit 3' TERM; while :; do sleep 0.05; done", sandbox=BOUNDED, timeout="1s"
    )
    assert polite.error.startswith("timeout")
    assert (bench.tree / "done").read_text() == "cleaned\n"

    bench.brief = bench.brief.model_copy(update={"kill_grace": timedelta(seconds=0.3)})
    stubborn = bench.attempt(
        "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 60' &); sleep 60", sandbox=BOUNDED, timeout="1s"
    )
    assert stubborn.error.startswith("timeout")
    assert _running(bench) == []


def test_the_death_of_a_worker_ends_all_that_its_todo_started(bench: Bench):
    worker = os.fork()
    if worker == 0:
        try:
            bench.attempt("(setsid sleep 60 &); echo started > marker; sleep 60", sandbox=BOUNDED)
        finally:
            os._exit(1)
    until(lambda: (bench.tree / "marker").exists())
    assert _running(bench)

    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)

    until(lambda: not _running(bench))


NESTED = """
    git init -q sub && cd sub && echo one > f && git add f && git commit -qm nested &&
    git config filter.bad.clean "touch {mark}; cat" && git config core.fsmonitor "touch {mark}" &&
    echo "* filter=bad" > .gitattributes && echo two > f && cd .. &&
    printf '[submodule "q"]\\n path = sub\\n url = x\\n ignore = none\\n' > .gitmodules &&
    git -c advice.addEmbeddedRepo=false add sub && echo two > code
"""


def test_the_workers_git_executes_nothing_that_a_todo_left_in_a_nested_repository(bench: Bench):
    mark = bench.folder / "executed"
    text = NESTED.format(mark=mark)

    done = bench.attempt(text, sandbox=BOUNDED)
    failed = bench.attempt(f"{text} && touch sub/f && false", tip=done.tip, sandbox=BOUNDED)
    again = bench.attempt("true", tip=done.tip, sandbox=BOUNDED)

    assert (done.kind, failed.kind, again.kind) == (
        OutcomeKind.SUCCEEDED,
        OutcomeKind.FAILED,
        OutcomeKind.SUCCEEDED,
    ), bench.log
    assert git(bench.checkout, "show", f"{done.tip}:code").strip() == "two"
    assert not mark.exists()
    assert not list(bench.folder.glob("executed*"))


def test_an_output_that_is_a_link_out_of_the_sandbox_is_refused(bench: Bench):
    secret = bench.folder / "home" / "login.json"
    secret.write_text(json.dumps({"token": SECRET}))

    done = bench.attempt(f'ln -sf {secret} "$COORD_OUTPUT"', sandbox=BOUNDED)

    assert done.kind is OutcomeKind.REFUSED
    assert SECRET not in done.output


def test_hooks_and_prepare_run_in_the_sandbox(bench: Bench):
    outside = bench.folder / "outside"
    bench.hook("pre-commit", f"touch {outside} 2>/dev/null; echo hook >> hooked")
    bench.hook("post-commit", "echo after > hooked-after")

    done = bench.attempt(
        "echo two > code", prepare=f"touch {outside} 2>/dev/null; echo ready > made", sandbox=BOUNDED
    )

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert (bench.tree / "hooked").exists()
    assert (bench.tree / "made").exists()
    assert not outside.exists()


def test_in_place_the_folder_is_written_and_git_is_only_read(bench: Bench):
    done = bench.attempt(
        "echo two > code && git log --oneline && ! echo x > .git/commondir && ! echo x >> .git/config",
        workspace="in-place",
        sandbox=BOUNDED,
    )

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert (bench.checkout / "code").read_text() == "two\n"
    assert not (bench.checkout / ".git" / "commondir").exists()


@pytest.mark.parametrize("name", ["repository", "submodule", "state", "home"])
def test_in_place_a_todo_is_refused_where_the_folder_holds_more_than_its_repository(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str
):
    inner = bench.checkout / "inner"
    if name == "repository":
        bench.make_repository(inner)
    elif name == "submodule":
        inner.mkdir()
        (inner / ".git").write_text("gitdir: ../.git/modules/inner\n")
    elif name == "state":
        (inner / ".coord").mkdir(parents=True)
    else:
        monkeypatch.setenv("HOME", str(inner))

    done = bench.attempt("true", workspace="in-place", sandbox=BOUNDED)

    assert done.kind is OutcomeKind.REFUSED
    assert bench.attempt("true", workspace="in-place", sandbox="off").kind is OutcomeKind.SUCCEEDED


def test_in_place_a_repository_that_a_todo_makes_is_disarmed(bench: Bench):
    made = "git init -q inner; ln -s inner linked"
    done = bench.attempt(made, workspace="in-place", sandbox=BOUNDED)
    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert not (bench.checkout / "inner" / ".git").exists()

    worker = os.fork()
    if worker == 0:
        try:
            bench.attempt(f"{made}; touch made; sleep 60", workspace="in-place", sandbox=BOUNDED)
        finally:
            os._exit(1)
    until(lambda: (bench.checkout / "made").exists())
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)

    assert bench.attempt("test ! -e inner/.git", workspace="in-place").kind is OutcomeKind.SUCCEEDED, (
        bench.log
    )


@pytest.mark.parametrize("command", ["{home}/.local/bin/claude", "~/.local/bin/claude", "A=b claude -p"])
def test_an_agent_has_copies_of_its_login_and_cannot_change_its_program(
    bench: Bench, command: str, monkeypatch: pytest.MonkeyPatch
):
    home = bench.folder / "home"
    program = home / ".local" / "share" / "claude" / "versions" / "1"
    shown = {".claude/.credentials.json": "login", ".claude.json": "{}", ".claude/agents/a.md": "one"}
    hidden = {".claude/projects/other.jsonl": SECRET, ".claude/history.jsonl": SECRET}
    for name, text in {**shown, **hidden, str(program.relative_to(home)): AGENT}.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    program.chmod(0o755)
    claude = home / ".local" / "bin" / "claude"
    claude.parent.mkdir(parents=True)
    claude.symlink_to(program)
    monkeypatch.setenv("PATH", f"{claude.parent}:{os.environ['PATH']}")
    bench.ordered = Settings(agent_command=command.format(home=home))

    done = bench.attempt()

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert "read login one" in bench.log
    assert SECRET not in bench.log
    assert {name: (home / name).read_text() for name in shown} == shown
    assert program.read_text() == AGENT
    assert not (home / ".claude" / "settings.json").exists()


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        ("./claude", {}),
        ("tools/../claude", {}),
        ("$PWD/claude", {}),
        ("{checkout}/claude", {}),
        ("{home}/claude", {}),
        ("PATH=. claude", {}),
        ("~/claude", {}),
        ("~/claude", {"env": {"HOME": "."}}),
        ("claude", {"env": {"PATH": ".:/usr/bin:/bin"}}),
    ],
)
def test_a_program_of_the_repository_gets_no_login_by_the_name_of_an_agent(
    bench: Bench, command: str, fields: dict[str, Any]
):
    home, program = bench.folder / "home", bench.checkout / "claude"
    (home / ".claude").mkdir(parents=True)
    (home / ".claude" / ".credentials.json").write_text(SECRET)
    program.write_text("#!/bin/sh\ncat > /dev/null\ncat $HOME/.claude/.credentials.json\ntrue\n")
    program.chmod(0o755)
    (home / "claude").symlink_to(program)
    (bench.checkout / "tools").mkdir()
    (bench.checkout / "tools" / "a").touch()
    git(bench.checkout, "add", ".")
    git(bench.checkout, "commit", "-q", "-m", "a program")
    named = command.format(checkout=bench.checkout, home=home)
    bench.ordered = Settings(agent_command=named)

    bench.attempt(**fields)

    assert SECRET not in bench.log
    assert "gets no login" in bench.log


AGENT = """#!/bin/sh
cat > /dev/null
cd "$HOME"
echo "read $(cat .claude/.credentials.json) $(cat .claude/agents/a.md)"
cat .claude/projects/* .claude/history.jsonl 2>/dev/null
for file in .claude.json .claude/settings.json .claude/.credentials.json .claude/agents/a.md; do
    echo planted > $file
done
! echo planted > .local/share/claude/versions/1 && ! echo planted > .local/share/claude/new
"""


def test_a_worker_that_requires_the_sandbox_ignores_sandbox_off_of_a_todo(bench: Bench):
    outside = bench.folder / "outside"
    free = bench.attempt(f"touch {outside}", sandbox="off", settings=Settings(sandbox="bubblewrap"))
    assert free.kind is OutcomeKind.SUCCEEDED
    assert outside.exists()
    outside.unlink()

    bound = bench.attempt(f"touch {outside}", sandbox="off", settings=Settings(sandbox="require"))

    assert bound.kind is OutcomeKind.SUCCEEDED
    assert not outside.exists()


@pytest.mark.parametrize("imposed", [{"settings": Settings(sandbox="require")}, {"demanded": True}])
def test_an_imposed_sandbox_shows_no_file_that_the_agent_command_names(bench: Bench, imposed: dict[str, Any]):
    key = bench.folder / "id_ed25519"
    key.write_text("the key of the worker")
    bench.ordered = Settings(agent_command=("cat", str(key)))

    assert bench.attempt().kind is OutcomeKind.SUCCEEDED
    assert bench.attempt(**imposed).kind is OutcomeKind.FAILED


def test_the_linker_of_a_program_outside_obeys_no_variable_of_the_todo(bench: Bench):
    variables = {"LD_DEBUG": "libs", "LD_DEBUG_OUTPUT": str(bench.folder / "trace"), "API_KEY": "k"}

    done = bench.attempt('test "$LD_DEBUG$API_KEY" = libsk', env=variables, sandbox=BOUNDED)

    assert done.kind is OutcomeKind.SUCCEEDED, bench.log
    assert list(bench.folder.glob("trace*")) == []
