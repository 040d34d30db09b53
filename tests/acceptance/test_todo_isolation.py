"""A todo has the environment that is made for it, and reaches its own context: neither Redis, nor its worker,
nor another todo.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from coordination.backend.embedded import EmbeddedServer
from coordination.files import loose
from coordination.settings import Settings
from tests.ports import free_port
from tests.testbed import COORD, FORKS, Done, Testbed, git

TOKEN = "token-of-the-mcp-server"
LOGIN = "lena:login-of-flower"
GIVEN = {
    *(
        "COORD_RUN_ID",
        "COORD_PLAN_ID",
        "COORD_TODO_ID",
        "COORD_REPO",
        "COORD_REPO_PATH",
        "COORD_ATTEMPT",
        "COORD_FENCE",
    ),
    *("COORD_IDEMPOTENCY_KEY", "COORD_CONNECTION", "COORD_CONTEXT", "COORD_OUTPUT", "COORD_CHECKPOINT"),
}
UNDONE = GIVEN | {"COORD_COMPENSATES", "COORD_TODO_OUTPUT"}
FUNCTIONS = "import os\ndef environ():\n    return dict(os.environ)\n"
INSIDE = """
"$PROGRAM" context set key '"value"'
"$PROGRAM" context get key
for words in "mcp --http 1" "up --detach" "context stats" "context get key --run last" \\
             "--redis redis://127.0.0.1:1 context get key"; do
  "$PROGRAM" $words; echo "exit $?"
done
"$INTERPRETER" -c 'from coordination import Coord, NotAllowed
try: Coord("$FOLDER")
except NotAllowed: print("library refused")'
"$INTERPRETER" -m workers --all; echo "worker $?"
"""
HOSTILE = """
import glob, os, re, socket
def redis(*words):
    with socket.create_connection(("127.0.0.1", int(os.environ["PORT"]))) as line:
        line.sendall("".join(f"{word}\\r\\n" for word in words).encode())
        return line.recv(1000).split()[0]
for file in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
    address = rb"redis://[^ \\0]*127.0.0.1:" + os.environ["PORT"].encode()
    try: found = re.findall(address, open(file, "rb").read())
    except OSError: continue
    if found: print("FOUND", file, found)
print("REDIS", redis("PING"), redis("HGETALL coord:run"))
own = open(os.environ["COORD_CONNECTION"]).read().split('"')[3]
others = {file for file in glob.glob(os.environ["TMPDIR"] + "/coord-*/*.sock")} - {own}
for path in others:
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(1)
        try:
            line.connect(path)
            line.sendall(b'x\\n{"call": "list", "given": {}}\\n')
            if b"done" in line.recv(1000): print("ANSWERED", path)
        except OSError: pass
print("TRIED")
"""
ORDINARY = (
    ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    if os.geteuid() == 0 and shutil.which("setpriv")
    else ()
)
"""Root may read everything, unless it gives that up."""
TODOS = [
    {"id": "hostile", "repo": "h", "action": ["python3", "-c", HOSTILE]},
    {"id": "inside", "repo": "i", "action": INSIDE},
    {"id": "shows", "repo": "r", "action": "env", "compensate": "env | sed s/^/undo:/"},
    {"id": "agent", "repo": "a", "action": None, "env": {"PAGER": "less", "CI": "mine"}},
    {"id": "python", "repo": "p", "action": {"type": "python", "call": "operations:environ"}},
    {
        "id": "fails",
        "repo": "a",
        "action": "exit 3",
        "blocked_by": ["shows", "agent", "python", "inside", "hostile"],
    },
]


@dataclass(frozen=True)
class Swept:
    testbed: Testbed
    answer: Done
    password: str
    filtered: Path
    """The environment of a filter of the repository when git executed it for the worker."""
    worker: str
    """The output of the worker."""

    def environment(self, todo: str, head: str = "") -> dict[str, str]:
        lines = self.log(todo).splitlines()
        return dict(line.removeprefix(head).partition("=")[::2] for line in lines if line.startswith(head))

    def log(self, todo: str) -> str:
        return self.testbed.log_of(self.answer.json["run_id"], todo).decode()


@pytest.fixture(scope="module")
def swept(new_testbed: Callable[[], Testbed], tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """A run that is undone in the end, by a worker whose environment has what nobody else should know."""
    server = EmbeddedServer(
        tmp_path_factory.mktemp("server") / ".coord", settings := Settings(server_port=free_port())
    )
    password = urlsplit(server.start()).password or ""
    url = f"redis://:{password}@127.0.0.1:{settings.server_port}"
    testbed = new_testbed()
    testbed.env = {"COORD_REDIS_URL": url, "COORD_MCP_TOKEN": TOKEN, "COORD_FLOWER_AUTH": LOGIN}
    testbed.env |= {"CELERY_BROKER_URL": url, "_MP_FORK_LOGLEVEL_": "1", "PAGER": "more", "OWN": "kept"}
    testbed.env |= {"PORT": str(settings.server_port), "TMPDIR": str(testbed.folder)}
    testbed.env |= {"PROGRAM": str(FORKS.programs / "coord"), "INTERPRETER": str(FORKS.programs / "python")}
    testbed.settings = {"agent_command": ["sh", "-c", "env"], "todo_timeout": "60s"}
    testbed.repo("p", **{"operations.py": FUNCTIONS})
    filtered = testbed.folder / "filtered"
    repo = testbed.repo("r", **{".gitattributes": "README filter=spy\n"})
    git(repo, "config", "filter.spy.smudge", f"env > {filtered}; cat")
    testbed.write(TODOS, repos={"r": {"prepare": "env | sed s/^/prepare:/"}}, plan={"on_failure": "rollback"})
    (testbed.state / "logs").mkdir(parents=True)
    (testbed.state / "logs" / "of-old").touch()
    command = (*ORDINARY, "sh", "-c", 'umask 0; exec "$0" "$@"', COORD)
    worker = testbed.begin("worker", "--all", "--jobs", "2", command=command)
    try:
        answer = testbed.sweep()
    finally:
        worker.terminate()
        said = worker.done().err
        server.stop()
    return Swept(testbed, answer, password, filtered, said)


def test_promise_no_command_of_a_todo_is_told_a_secret_of_its_worker(swept: Swept):
    told = [swept.log(todo) for todo in ("shows", "agent", "python")]
    told += [str(swept.answer.todo("python")["output"]), swept.filtered.read_text()]
    for secret in (swept.password, TOKEN, LOGIN.partition(":")[2]):
        assert [text for text in told if secret in text] == []


@pytest.mark.parametrize(
    ("todo", "head", "given"),
    [
        ("shows", "", GIVEN),
        ("agent", "", GIVEN | {"COORD_QUESTION"}),
        ("shows", "undo:", UNDONE),
        (
            "shows",
            "prepare:",
            GIVEN - {"COORD_CONNECTION", "COORD_CONTEXT", "COORD_OUTPUT", "COORD_CHECKPOINT"},
        ),
    ],
)
def test_a_todo_has_its_own_variables_of_coord_and_no_others(
    swept: Swept, todo: str, head: str, given: set[str]
):
    found = swept.environment(todo, head)

    assert {name for name in found if name.startswith(("COORD_", "CELERY_", "_MP_FORK_"))} == given
    assert found["OWN"] == "kept"


def test_a_python_action_and_the_filter_of_a_repository_have_no_others(swept: Swept):
    in_git = dict(line.partition("=")[::2] for line in swept.filtered.read_text().splitlines())

    assert {name for name in swept.answer.todo("python")["output"] if name.startswith("COORD_")} == GIVEN
    ours = {name for name in in_git if name.startswith(("COORD_", "CELERY_", "_MP_FORK_"))}
    assert ours == {"COORD_IDEMPOTENCY_KEY", "COORD_FENCE"}, "by which what it leaves behind is found"


def test_nothing_of_a_todo_waits_for_a_person_unless_it_says_so_itself(swept: Swept):
    shows, agent = swept.environment("shows"), swept.environment("agent")

    assert [shows[name] for name in ("CI", "GIT_TERMINAL_PROMPT", "GIT_EDITOR", "PAGER")] == [
        "true",
        "0",
        "true",
        "cat",
    ]
    assert (agent["CI"], agent["PAGER"], agent["GIT_EDITOR"]) == ("mine", "less", "true")


def test_within_a_todo_its_context_is_all_of_coord_and_the_rest_starts_nothing(swept: Swept):
    lines = [line for line in swept.log("inside").splitlines() if not line.startswith("[coord]")]
    said = [line for line in lines if line.startswith(("value", "exit", "library", "worker"))]

    assert said == ["value", *["exit 4"] * 5, "library refused", "worker 4"]
    assert not list(swept.testbed.folder.glob("**/server.json"))


def test_promise_what_is_in_the_state_folder_is_its_users_alone_under_any_umask(swept: Swept):
    state = swept.testbed.state

    assert {"logs", "tmp", "worktrees", "workspaces"} & {path.name for path in state.iterdir()} >= {
        "logs",
        "tmp",
    }
    assert list(loose(state)) == []
    assert f"in {state}" in next(line for line in swept.worker.splitlines() if "other users" in line)


def test_the_doctor_tells_of_what_others_may_read(testbed: Testbed, redis_url: str):
    testbed.write()
    testbed.state.mkdir(0o755)
    (testbed.state / "worker.log").touch(0o644)

    found = testbed.coord("doctor", "--json", COORD_REDIS_URL=redis_url).json
    assert set(map(Path, found["machine"]["loose"])) == {testbed.state, testbed.state / "worker.log"}
    assert any(str(testbed.state) in finding["what"] for finding in found["findings"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it looks around in /proc")
def test_promise_a_hostile_todo_finds_no_login_to_redis_and_no_other_todos_socket_answers_it(swept: Swept):
    lines = [line for line in swept.log("hostile").splitlines() if not line.startswith("[coord]")]

    assert lines == ["REDIS b'-NOAUTH' b'-NOAUTH'", "TRIED"]
