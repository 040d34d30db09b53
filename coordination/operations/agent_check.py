"""The agents of the settings on this machine: whether their programs are there, in which version, and whether
they are logged in.

A program is asked for its version only if PATH leads to it under the name of its kind: the file may have come
with a folder, and must not let `coord doctor` execute a program of its choice.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from coordination.agent_programs import PROGRAM_FACTS, ProgramFacts, package_folders
from coordination.models import Agent, Command
from coordination.operations.machine_check import AgentCheck
from coordination.settings import Settings
from coordination.user_program import NotStarted, run

PATIENCE_S = 5.0
AT_ONCE = 8
MOST_BYTES = 4096
"""Bytes of the answer that are read."""
VERSION = re.compile(r"\d+(\.\d+)+")


def look_at_agents(
    settings: Settings, state: Path, environ: Mapping[str, str] = os.environ
) -> tuple[AgentCheck, ...]:
    """Return what this machine has for each agent. `state`: the state folder of the worker."""
    agents = tuple(settings.presets.values())
    if not agents:
        return ()
    named = environ.get("HOME", "")
    home = Path(named) if named.startswith("/") else None
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return tuple(pool.map(lambda agent: _look(agent, home, state, environ), agents))


def _look(agent: Agent, home: Path | None, state: Path, environ: Mapping[str, str]) -> AgentCheck:
    facts = PROGRAM_FACTS.get(agent.kind)
    program = program_of(agent.command) or (facts.name if facts and agent.command is None else "")
    path = shutil.which(program, path=environ.get("PATH", os.defpath)) if program else None
    found = AgentCheck(name=agent.name, kind=agent.kind.value, program=program, path=path or "")
    if facts is None or path is None:
        return found
    files = tuple(file for file in facts.login_files if home is not None and (home / file).is_file())
    login = next((name for name in facts.login if environ.get(name)), "")
    version, why = version_of(path) if program == facts.name else ("", "not asked: it has another name")
    return AgentCheck(
        name=agent.name,
        kind=agent.kind.value,
        program=program,
        path=path,
        version=version,
        why_no_version=why,
        tested=facts.tested,
        is_untested=is_untested(facts, version),
        login=login or (f"~/{files[0]}" if files else ""),
        logins=facts.login,
        personal=f"~/{files[0]}" if files else "",
        hidden=_hidden(Path(path), filter(None, (home, state.absolute()))),
    )


def version_of(path: str) -> tuple[str, str]:
    """Ask a program for its version; return it, else the reason why there is none."""
    answer, enough = bytearray(), threading.Event()

    def keep(chunk: bytes) -> None:
        answer.extend(chunk[: MOST_BYTES - len(answer)])
        if len(answer) == MOST_BYTES:
            enough.set()

    try:
        ended = run((path, "--version"), output=keep, timeout_s=PATIENCE_S, stopping=enough)
    except NotStarted as error:
        return "", str(error)
    if found := VERSION.search(answer.decode(errors="replace")):
        return found.group(), ""
    return "", f"no answer within {PATIENCE_S:g} s" if ended.code is None else "it tells none"


def is_untested(facts: ProgramFacts, version: str) -> bool:
    """Return whether a version is outside of the range that was tested."""
    if not (facts.tested and version):
        return False
    try:
        return Version(version) not in SpecifierSet(facts.tested)
    except InvalidVersion:
        return False


def _hidden(program: Path, kept: Iterable[Path]) -> str:
    """Return the folder of a program behind a link that no sandbox shows, since it has one of these."""
    places = tuple(kept)
    return next(
        (
            str(folder)
            for folder in package_folders(program)
            if any(place.is_relative_to(folder) for place in places)
        ),
        "",
    )


def program_of(command: Command | None) -> str | None:
    """Return the program of a command: its first word that is not a variable assignment."""
    if not isinstance(command, str):
        return command[0] if command else None
    with suppress(ValueError):  # unbalanced quotes, which the shell will report
        return next((word for word in shlex.split(command) if "=" not in word), None)
    return None
