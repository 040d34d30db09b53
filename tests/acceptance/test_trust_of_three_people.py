"""Three people follow the chapter of docs/trust.md by its own commands, each with a home folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordination.backend.client import Profile, connect
from coordination.backend.keys import Keys
from tests.documents import ROOT, search_path
from tests.machines import Loopback, Site
from tests.testbed import Testbed, plain
from tests.waiting import until

CHAPTER = (ROOT / "docs" / "trust.md").read_text().partition("## Three people in five minutes")[2]
TYPED = re.compile(r"^(anna|bert|cleo|build)\$ (.+?)(?: +# exit (\d+))?$", re.MULTILINE)
LINE = re.compile(r"ssh-ed25519 AAAA… (\w+)")
TODOS = [{"id": "TODO-001", "repo": "api", "action": 'echo done >> "$LEDGER"', "gate": True}]
OTHER = {"id": "TODO-002", "repo": "api", "plan": "PLAN-002", "action": 'echo other >> "$LEDGER"'}
SET_UP = 12
"""Commands that the chapter counts."""


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[dict[str, Testbed]]:
    """A home folder each, in which they work; `build` has the checkouts, and `scp` copies from it."""
    site, tools = Site(tmp_path, Loopback()), tmp_path / "tools"
    tools.mkdir()
    (tools / "scp").write_text(f'#!/bin/sh\nexec cp "{tmp_path}/build/${{1#build:}}" "$2"\n')
    (tools / "scp").chmod(0o755)
    found: dict[str, Testbed] = {}
    for name in ("anna", "bert", "cleo", "build"):
        found[name] = site.machine(
            name, PATH=f"{tools}{os.pathsep}{search_path()}", HOME=str(tmp_path / name)
        )
    found["build"].write([*TODOS, OTHER], plans=[{"id": "PLAN-002", "title": "another"}])
    for name in ("anna", "bert", "cleo"):
        shutil.copy(found["build"].file, found[name].file)
    yield found
    site.end()


def typed(home: Testbed, command: str) -> subprocess.CompletedProcess[str]:
    ours = {k: v for k, v in plain(dict(home.env)).items() if k != "XDG_CONFIG_HOME"}
    return subprocess.run(
        ["sh", "-c", command],
        cwd=home.folder,
        env=ours,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_three_people_order_approve_and_are_refused_by_the_commands_of_the_chapter(homes: dict[str, Testbed]):
    lines, said = dict[str, str](), dict[str, str]()
    commands = TYPED.findall(CHAPTER)
    for who, command, code in commands:
        home = homes[who]
        command = LINE.sub(lambda found: lines[found[1]], command)
        if "coord worker" in command:
            words = command.split()
            home.begin(
                *words[words.index("worker") :],
                COORD_SIGNATURES="require",
                XDG_CONFIG_HOME=str(home.folder / ".config"),
            )
            continue
        done = typed(home, command)
        assert done.returncode == int(code or 0), (who, command, done.stdout, done.stderr)
        said[f"{who} {command}"] = done.stdout + done.stderr
        if "identity init" in command:
            lines[who] = done.stdout.strip()

    assert (
        len([command for _, command, _ in commands if re.search("identity|trust|scp|worker", command)])
        == SET_UP
    )
    assert "lacks the right approve" in said["bert coord approve TODO-001"]
    assert "lacks the right sweep" in said["cleo coord cancel last"]
    assert "ordered by bert" in said["cleo coord show-run last"]
    assert homes["build"].ledger == ["done"]

    # without a copy of the trust file, it is the worker that refuses
    (homes["cleo"].folder / ".config" / "coord" / "trust.yaml").unlink()
    assert typed(homes["cleo"], "coord todo execute TODO-002 --detach").returncode == 0
    url = homes["cleo"].env["COORD_REDIS_URL"]
    with connect(url, Profile.COMMAND) as redis:
        stream = Keys("coord").events.lasting
        until(lambda: any(fields["kind"] == "trust.refused" for _, fields in redis.xrange(stream)))
    assert homes["build"].ledger == ["done"]
