#!/usr/bin/env python3
"""A program of an agent that does what a script says, in place of `claude`, `codex` and the others.

`install` puts it into a folder under the name of a program. The script is a JSON file with a list of starts;
each start is a list of steps, and the last start repeats. A step is a list of a name and its arguments:

    ["write", PATH, TEXT]      ["append", PATH, TEXT]    ["delete", PATH]       ["commit", MESSAGE]
    ["branch", NAME]           ["git", ARGUMENT, …]      ["shell", COMMAND]     ["print", TEXT]
    ["play", RECORDING]        ["flood", BYTES]          ["ask", QUESTION]      ["wait", PATH]
    ["ignore-term"]            ["exit", CODE]

`flood` prints bytes without a newline, `ask` writes the file that COORD_QUESTION names, `wait` waits until a
file exists. What each start was given stands in `SCRIPT.starts`, one JSON record a line.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

VARIABLE = "FAKE_PROGRAM_SCRIPT"
Step = Sequence[str | int]


def install(folder: Path, name: str, script: Path, *starts: Sequence[Step]) -> Path:
    """Put the program into a folder, under a name, with its script. Return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    script.write_text(json.dumps([[list(step) for step in start] for start in starts]))
    program = folder / name
    program.write_text(f'#!/bin/sh\n{VARIABLE}="{script}" exec "{sys.executable}" "{__file__}" "$@"\n')
    program.chmod(0o755)
    return program


def starts(script: Path) -> list[dict[str, object]]:
    """Return what each start so far was given: `argv`, `stdin`, `cwd`, `env`."""
    told = script.with_suffix(".starts")
    return [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []


def main() -> int:
    script = Path(os.environ[VARIABLE])
    given = {"argv": sys.argv[1:], "stdin": sys.stdin.read(), "cwd": str(Path.cwd()), "env": dict(os.environ)}
    number = len(starts(script))
    with script.with_suffix(".starts").open("a") as told:
        told.write(json.dumps(given) + "\n")
    all_starts = json.loads(script.read_text())
    for name, *arguments in all_starts[min(number, len(all_starts) - 1)]:
        if name == "exit":
            return int(arguments[0])
        STEPS[name](*arguments)
        sys.stdout.flush()
    return 0


def _write(path: str, text: str, mode: str = "w") -> None:
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open(mode) as file:
        file.write(text)


def _delete(path: str) -> None:
    place = Path(path)
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink()


def _git(*arguments: str) -> None:
    person = ("-c", "user.name=agent", "-c", "user.email=agent@example.org")
    subprocess.run(["git", *person, *arguments], check=True, stdout=subprocess.DEVNULL)


def _commit(message: str) -> None:
    _git("add", "--all")
    _git("commit", "--quiet", "--no-verify", "--message", message)


def _play(recording: str) -> None:
    sys.stdout.write((Path(__file__).parent / "recordings" / f"{recording}.jsonl").read_text())


def _flood(size: int) -> None:
    for _ in range(size // 65536):
        sys.stdout.write("x" * 65536)


def _wait(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.02)


STEPS = {
    "write": _write,
    "append": lambda path, text: _write(path, text, "a"),
    "delete": _delete,
    "git": _git,
    "commit": _commit,
    "branch": lambda name: _git("checkout", "--quiet", "-b", name),
    "shell": lambda command: subprocess.run(command, shell=True, check=False),
    "print": print,
    "play": _play,
    "flood": _flood,
    "ask": lambda question: Path(os.environ["COORD_QUESTION"]).write_text(question),
    "wait": _wait,
    "ignore-term": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
}

if __name__ == "__main__":
    sys.exit(main())
