"""The chapter on the inner workings is true: a real todo passes the modules that it names, in its order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.testbed import Testbed

ROOT = Path(__file__).parents[2]
CHAPTER = (ROOT / "docs" / "how-it-works.md").read_text()
WAY = CHAPTER.partition("\n## One todo's way through the code\n")[2].partition("\n### ")[0]
MODULE = re.compile(r"`((?:coordination|workers)/[\w/]+\.(?:py|lua))`")
PASSED_BY = ("command", "command", "worker", "worker", "worker", "command")
"""The process of each item of the list."""

TRACING = """
import os, sys, threading

ROLE = "worker" if "workers" in sys.orig_argv else "command"
FILE = os.open(os.environ["TRACE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
OURS = (ROOT + "coordination/", ROOT + "workers/")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
seen, known = set(), {}

def note(path):
    if path not in seen:
        seen.add(path)
        os.write(FILE, f"{ROLE} {path}\\n".encode())

def trace(frame, *_):
    # called when a function begins; it returns None, so the lines of the function are not traced
    code = frame.f_code
    if id(code) in known:
        return
    ours = code.co_filename.startswith(OURS)
    if ours and code.co_name == "fcall":
        note(f"coordination/backend/lua/{frame.f_locals['step'].name}.lua")
        return
    known[id(code)] = code
    if ours and code.co_flags & 1:  # no body of a module or class, which says only that it was imported
        note(code.co_filename.removeprefix(ROOT))
    elif code.co_name == "__init__" and code.co_filename == "<string>":  # of a dataclass
        note(type(frame.f_locals.get("self")).__name__)

def audit(event, arguments):
    if event == "subprocess.Popen":
        child = sys.modules.get("workers.process.child")
        if child and child.GUARD in arguments[1]:
            note("workers/process/guard.py")
    elif event == "os.mkdir" or (event == "open" and (arguments[2] or 0) & WRITES):
        path = arguments[0] if isinstance(arguments[0], (str, os.PathLike)) else ""
        _, found, rest = os.fspath(path).partition("/.coord/")
        if found:
            name = rest.split("/")[0]
            note(".coord/" + (name[1:].split(".coord-")[0] if name.endswith(".tmp") else name))

sys.addaudithook(audit)
threading.settrace(trace)
sys.settrace(trace)
"""


class Passed(NamedTuple):
    process: str
    module: str
    """Or the name of a class, or a path in `.coord/` that was written."""


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory, new_testbed: Callable[[], Testbed]) -> list[Passed]:
    """Execute a todo, and one that needs it in another repository; return the modules in the order in which
    a function of theirs was called.
    """
    folder = tmp_path_factory.mktemp("traced")
    (folder / "sitecustomize.py").write_text(f"ROOT = {str(ROOT) + '/'!r}\n{TRACING}")
    testbed = new_testbed()
    testbed.env = {"PYTHONPATH": f"{folder}:{ROOT}", "TRACE": str(folder / "trace")}
    first = {"id": "A", "repo": "api", "action": "echo a > a; echo 1 > $COORD_OUTPUT"}
    testbed.write([first, {"id": "B", "repo": "web", "action": "grep 1 $COORD_CONTEXT", "blocked_by": ["A"]}])

    done = testbed.sweep()

    assert done.code == 0, done.err
    assert done.states == {"A": "succeeded", "B": "succeeded"}
    return [Passed(*line.split()) for line in (folder / "trace").read_text().splitlines()]


def items() -> Iterator[tuple[str, str]]:
    """Yield the process of each item, and its text."""
    yield from zip(PASSED_BY, re.split(r"^\d\. ", WAY, flags=re.MULTILINE)[1:], strict=True)


def rows(heading: str) -> Iterator[list[str]]:
    """Yield the cells of the table below the heading or sentence."""
    table = CHAPTER.partition(heading)[2].lstrip().partition("\n\n")[0]
    yield from ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:])


def test_a_real_todo_passes_every_module_that_the_chapter_names(passed: list[Passed]) -> None:
    named = {Passed(process, module) for process, text in items() for module in MODULE.findall(text)}

    assert len(named) > 20
    assert named - {*passed} == set()


def test_the_steps_of_a_todo_have_the_order_of_the_chapter(passed: list[Passed]) -> None:
    steps = [module for module in MODULE.findall(WAY) if module.endswith(("lua", "writeback.py"))]
    taken = [module for _, module in passed if module in steps]

    assert steps == sorted(steps, key=taken.index)


def test_each_form_of_a_todo_is_where_the_chapter_says_and_is_made(passed: list[Passed]) -> None:
    made = {module for _, module in passed}
    found = [*rows("### Forms of a todo\n"), *rows("### Forms of its run\n")]
    forms = {name.strip("`"): module.strip("`") for name, module, _ in found}

    assert len(forms) > 20
    for name, module in forms.items():
        form = getattr(import_module(module.removesuffix(".py").replace("/", ".")), name)
        assert name in made or not is_dataclass(form), f"{name} is not made"


def test_the_processes_write_only_what_the_map_says(passed: list[Passed]) -> None:
    mapped: dict[str, list[str]] = {}
    for process, names in rows("by the process that writes them:\n"):
        mapped.setdefault(re.split(r"\W", process)[0], []).extend(names.replace("`", "").split())
    written = {(process, path[7:]) for process, path in passed if path.startswith(".coord/")}

    assert {process for process, _ in written} == {"command", "worker"}
    assert not [
        (process, name) for process, name in written if not any(fnmatch(name, it) for it in mapped[process])
    ]


@pytest.mark.parametrize("role", ["submitter", "keeper", "worker", "flower", "gateway"])
def test_the_keys_of_a_role_are_those_that_it_is_granted(testbed: Testbed, role: str) -> None:
    testbed.write(repos=["REPO"])
    printed = testbed.ok("acl", "--role", role, *(("--repo", "REPO") if role == "worker" else ())).out
    granted = set(re.findall(r"(?<=[ (])(%R~|~|&)(\S+?)\)?(?= |$)", printed, re.MULTILINE))
    item = re.sub(r"\s+", " ", CHAPTER.partition(f"* *{role}*: ")[2].partition("\n*")[0].partition("\n\n")[0])
    kinds = {"Keys": "~", "Reads": "%R~", "Channels": "&"}
    mapped = {
        (kinds[kind], name.replace("<ns>", "coord"))
        for kind, names in re.findall(r"(Keys|Reads|Channels): (.*?`)\.(?: |$)", item)
        for name in re.findall(r"`([^`]+)`", names)
    }

    assert granted == mapped
