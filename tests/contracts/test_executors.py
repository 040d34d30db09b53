"""Executors: the same promises kept by each kind of action, then those of a single kind."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from coordination import rewrites
from coordination.errors import PlanRefused
from coordination.models import Agent, AgentAction, AgentKind, Repo, Todo
from tests.waiting import until
from workers.agents.program import Invocation, Start
from workers.agents.programs import PROGRAMS
from workers.attempt.commands import EXECUTORS, Command, Job, command_for
from workers.attempt.prompt import Task, prompt_of
from workers.process import child

FUNCTIONS = """
import json, os, sys, time

def main(operation, value=None):
    if operation == "succeed":
        os.write(1, b"out \\xff\\xfe\\0 ")
        os.write(2, b"err")
    elif operation == "fail":
        sys.exit(value)
    elif operation == "linger":
        print("lingering", flush=True)
        time.sleep(600)
    elif operation == "hand over":
        with open(os.environ["COORD_CONTEXT"]) as context, open(os.environ["COORD_OUTPUT"], "w") as output:
            json.dump([os.getcwd(), os.environ[value], json.load(context)], output)

if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
"""

Make = Callable[[str, Any], dict[str, Any]]
AST_GREP = shutil.which(rewrites.AST_GREP, path=str(Path(sys.executable).parent))
needs_ast_grep = pytest.mark.skipif(AST_GREP is None, reason="renew the environment: make setup")


def as_shell_text(operation: str, value: Any) -> dict[str, Any]:
    return {"action": {"type": "shell", "run": shlex.join(as_list(operation, value))}}


def as_shell_list(operation: str, value: Any) -> dict[str, Any]:
    return {"action": {"type": "shell", "run": as_list(operation, value)}}


def as_python(operation: str, value: Any) -> dict[str, Any]:
    return {
        "action": {
            "type": "python",
            "call": "operations:main",
            "args": {"operation": operation, "value": value},
        }
    }


def as_agent(operation: str, value: Any) -> dict[str, Any]:
    """An agent that pays no heed to its prompt."""
    return {
        "action": {"type": "agent", "prompt": "x" * 300_000},
        "agent_command": tuple(as_list(operation, value)),
    }


def as_list(operation: str, value: Any) -> list[str]:
    return [sys.executable, "operations.py", operation, json.dumps(value)]


MEMBERS = {"shell text": as_shell_text, "shell list": as_shell_list, "python": as_python, "agent": as_agent}


class Bench:
    """A folder, its files, and the whole way from an action to its exit."""

    def __init__(self, folder: Path) -> None:
        self.cwd = folder / "worktree"
        self.cwd.mkdir()
        (self.cwd / "operations.py").write_text(FUNCTIONS)
        self.context = folder / "context.json"
        self.context.write_text('{"predecessors": []}')
        self.handed_over = folder / "output.json"
        self.output = b""

    def job(self, **todo: Any) -> Job:
        return Job(
            todo=Todo.model_validate({"id": "TODO-001", "task": "Do it", "repo": "widgets", **todo}),
            repo=Repo(name="widgets"),
            cwd=self.cwd,
        )

    def command(self, *, agent_command: Any = None, **todo: Any) -> Command | Invocation:
        job = self.job(**todo)
        if agent_command is None:
            return command_for(job)
        action = job.todo.action or AgentAction(type="agent")
        assert isinstance(action, AgentAction)
        task = Task(
            todo=job.todo, repo=job.repo, action=action, folder=self.cwd, context=self.context,
            output=self.handed_over, question=self.cwd / "question",
        )  # fmt: skip
        agent = Agent(name="a", kind=AgentKind.COMMAND, command=agent_command)
        return PROGRAMS[agent.kind].invocation(agent, Start(prompt=prompt_of(task)))

    def begin(
        self,
        command: Command | Invocation,
        timeout: timedelta = timedelta(seconds=60),
        env: Mapping[str, str] | None = None,
    ) -> child.Child:
        files = {"COORD_CONTEXT": str(self.context), "COORD_OUTPUT": str(self.handed_over)}
        grace = timedelta(seconds=5)
        return child.start(
            command.argv,
            cwd=self.cwd,
            env=os.environ | files | (env or {}),
            stdin=command.stdin,
            timeout=timeout,
            kill_grace=grace,
            on_output=self.take,
        )

    def take(self, data: bytes) -> None:
        self.output += data

    def run(self, *, env: Mapping[str, str] | None = None, **todo: Any) -> child.Exit:
        return self.begin(self.command(**todo), env=env).wait()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(params=MEMBERS.values(), ids=MEMBERS.keys())
def make(request: pytest.FixtureRequest) -> Make:
    member: Make = request.param
    return member


ALONE = {"rewrite", "qa"}
"""Kinds of actions with tests of their own: below, and in tests/acceptance/test_quality_checks.py."""


def test_every_member_is_in_this_suite() -> None:
    actions = [make("succeed", None)["action"]["type"] for make in MEMBERS.values()]
    assert {*actions, *ALONE} == {*EXECUTORS, "agent"}


def test_success_is_exit_code_0_and_both_outputs_arrive_byte_for_byte(bench: Bench, make: Make) -> None:
    ended = bench.run(**make("succeed", None))

    assert ended.ok
    assert bench.output == b"out \xff\xfe\0 err"
    assert not bench.handed_over.exists()


def test_a_job_reads_environment_folder_and_context_and_hands_over(bench: Bench, make: Make) -> None:
    assert bench.run(env={"COORD_TODO_ID": "TODO-001 é"}, **make("hand over", "COORD_TODO_ID")).ok

    handed = json.loads(bench.handed_over.read_text())
    assert handed == [str(bench.cwd), "TODO-001 é", {"predecessors": []}]


def test_a_failure_keeps_its_exit_code(bench: Bench, make: Make) -> None:
    ended = bench.run(**make("fail", 42))

    assert (ended.exit_code, ended.reason, ended.ok) == (42, "exited", False)


def test_a_timeout_ends_it(bench: Bench, make: Make) -> None:
    ended = bench.begin(bench.command(**make("linger", None)), timeout=timedelta(seconds=0.5)).wait()

    assert (ended.signal, ended.reason, ended.ok) == (signal.SIGTERM, "timeout", False)


def test_a_stop_ends_it_while_it_runs(bench: Bench, make: Make) -> None:
    begun = bench.begin(bench.command(**make("linger", None)))
    waiting = threading.Thread(target=begun.wait)
    waiting.start()
    until(lambda: b"lingering" in bench.output)

    begun.stop("cancelled")

    waiting.join(60)
    assert begun.wait().reason == "cancelled"


# A member's own.


def test_shell_text_runs_in_a_shell_and_a_list_without_one(bench: Bench) -> None:
    assert bench.run(action="echo $((1 + 1)) | cat").ok
    assert bench.run(action=["echo", "$HOME | cat"]).ok
    assert bench.output == b"2\n$HOME | cat\n"


def test_python_hands_over_what_the_function_returns(bench: Bench) -> None:
    module = bench.cwd / "pkg"
    module.mkdir()
    (module / "mod.py").write_text(
        "class Steps:\n    @staticmethod\n    def one(n, extra='x'):\n        return {'n': n + 1}\n"
    )

    ended = bench.run(action={"type": "python", "call": "pkg.mod:Steps.one", "args": {"n": 1}})

    assert ended.ok, bench.output
    assert json.loads(bench.handed_over.read_text()) == {"n": 2}


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise ValueError('no good')", "ValueError: no good"),
        ("return {1, 2}", "steps:main returned what is not JSON"),
        ("import nonexistent_package", "ModuleNotFoundError"),
    ],
)
def test_a_python_error_is_a_traceback_and_exit_code_1(bench: Bench, body: str, says: str) -> None:
    (bench.cwd / "steps.py").write_text(f"def main():\n    {body}\n")

    ended = bench.run(action={"type": "python", "call": "steps:main"})

    assert ended.exit_code == 1
    assert says in bench.output.decode()
    assert "Traceback" in bench.output.decode()
    assert not bench.handed_over.exists()


def test_python_finds_the_modules_of_the_folder_and_none_of_coords(bench: Bench) -> None:
    (bench.cwd / "shell.py").write_text("def main():\n    import sys\n    print(sys.path)\n")

    assert bench.run(action={"type": "python", "call": "shell:main"}).ok, bench.output

    assert "executors" not in bench.output.decode()


def test_python_takes_the_worktrees_own_interpreter(bench: Bench) -> None:
    own = bench.cwd / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text(f'#!/bin/sh\necho own\nexec {sys.executable} "$@"\n')
    own.chmod(0o755)

    assert bench.run(**as_python("succeed", None)).ok

    assert bench.output.startswith(b"own\nout ")


@pytest.mark.parametrize(
    ("todo", "parts"),
    [
        ({"action": {"type": "agent", "prompt": "Make it so."}}, ["Make it so.\n\n"]),
        (
            {"description": "To 3.11.", "acceptance_criteria": ["tests pass", "no ☃"]},
            ["TODO-001: Do it", "widgets", "To 3.11.", "- tests pass\n- no ☃"],
        ),
    ],
    ids=["a prompt", "a todo without an action"],
)
def test_an_agent_reads_its_task_and_the_paths(bench: Bench, todo: dict[str, Any], parts: list[str]) -> None:
    assert bench.run(agent_command=("cat",), **todo).ok

    said = bench.output.decode()
    for part in (*parts, str(bench.context), str(bench.handed_over)):
        assert part in said


def test_an_agent_that_works_is_a_small_script(bench: Bench) -> None:
    agent = bench.cwd / "agent"
    agent.write_text(
        textwrap.dedent(
            """\
            #!/bin/sh
            task=$(head -n 1)
            echo "$task" > DONE.txt
            printf '{"did": "%s"}' "$task" > "$COORD_OUTPUT"
            """
        )
    )
    agent.chmod(0o755)

    assert bench.run(agent_command="./agent", action={"type": "agent", "prompt": "write it down"}).ok, (
        bench.output
    )

    assert (bench.cwd / "DONE.txt").read_text() == "write it down\n"
    assert json.loads(bench.handed_over.read_text()) == {"did": "write it down"}


def test_for_a_manual_todo_the_refusal_says_what_to_do(bench: Bench) -> None:
    with pytest.raises(PlanRefused) as manual:
        command_for(bench.job(action={"type": "manual"}))
    assert manual.value.hint.endswith("coord todo complete TODO-001")


@needs_ast_grep
@pytest.mark.parametrize("paths", [(), ("deep",), ("deep/*.py",), ("deep/code.py",)], ids=str)
def test_a_rewrite_changes_its_paths_and_nothing_behind_a_link(bench: Bench, paths: tuple[str, ...]) -> None:
    outside = bench.cwd.parent / "outside.py"
    (bench.cwd / "deep").mkdir()
    for file in (outside, bench.cwd / "code.py", bench.cwd / "deep" / "code.py"):
        file.write_text("old(1)\n")
    (bench.cwd / "deep" / "link.py").symlink_to(outside)
    (bench.cwd / "sgconfig.yml").write_text("customLanguages: {x: {libraryPath: x.so, extensions: [x]}}")

    assert bench.run(action=rewrite("old($X)", "new($X)", paths=paths)).ok, bench.output

    assert (bench.cwd / "deep" / "code.py").read_text() == "new(1)\n"
    assert (bench.cwd / "code.py").read_text() == ("old(1)\n" if paths else "new(1)\n")
    assert outside.read_text() == "old(1)\n"


@needs_ast_grep
def test_a_rewrite_without_a_match_succeeds_and_a_wrong_one_fails(bench: Bench) -> None:
    (bench.cwd / "code.py").write_text("old(1)\n")

    assert bench.run(action=rewrite("absent($X)", "")).ok
    assert not bench.run(action=rewrite("two statements", "")).ok
    assert not bench.run(action=rewrite("old($X)", "", lang="klingon")).ok
    assert not bench.run(action=rewrite("def $A(", "x")).ok, "ast-grep itself only warns of it"
    assert (bench.cwd / "code.py").read_text() == "old(1)\n"


@needs_ast_grep
@pytest.mark.parametrize("text", ["--update-all", "-p", "'; touch pwned; '", "$(touch pwned)", "--lang=go"])
def test_no_text_of_a_rewrite_becomes_an_option_or_a_command(bench: Bench, text: str) -> None:
    (bench.cwd / "code.py").write_text("old(1)\n")

    bench.run(action=rewrite(text, "x"))
    assert bench.run(action=rewrite("old($X)", text)).ok, bench.output

    assert (bench.cwd / "code.py").read_text() == f"{text}\n"
    assert not (bench.cwd / "pwned").exists()


@pytest.mark.parametrize("path", ["../x", "/etc", "~/x", "a/../../b", ".git/config", "!a", "a\nb"])
def test_the_paths_of_a_rewrite_stay_in_the_repository(path: str) -> None:
    with pytest.raises(ValidationError):
        Todo.model_validate({"id": "T", "task": "t", "repo": "r", "action": rewrite("a", "b", paths=[path])})


def test_without_ast_grep_a_rewrite_says_what_to_install(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(PlanRefused) as missing:
        bench.run(action=rewrite("a", "b"))
    assert "[codemods]" in missing.value.hint


def rewrite(pattern: str, text: str, lang: str = "python", paths: Sequence[str] = ()) -> dict[str, Any]:
    return {"type": "rewrite", "pattern": pattern, "rewrite": text, "lang": lang, "paths": list(paths)}
